//! Failures, as tRPC writes them: the HTTP status with `{"error":{"message","code","data":{"code","httpStatus","path"}}}`.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $json_rpc:literal;)*) => {
        /// The kinds of failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// `data.code`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// `code`, as JSON-RPC numbers it.
            pub const fn json_rpc(self) -> i32 {
                match self { $(Self::$variant => $json_rpc,)* }
            }
        }
    };
}

error_codes! {
    /// The input is wrong.
    BadRequest = "BAD_REQUEST", 400, -32600;
    /// The body is not JSON.
    ParseError = "PARSE_ERROR", 400, -32700;
    /// The credential is missing, unknown or revoked.
    Unauthorized = "UNAUTHORIZED", 401, -32001;
    /// This user may not use this daemon, or this origin may not ask.
    Forbidden = "FORBIDDEN", 403, -32003;
    /// No such daemon, code or procedure.
    NotFound = "NOT_FOUND", 404, -32004;
    /// Neither POST nor OPTIONS.
    MethodNotSupported = "METHOD_NOT_SUPPORTED", 405, -32005;
    /// A ghost socket, by fault only (API-08); or the daemon is offline on redeem (API-04).
    Conflict = "CONFLICT", 409, -32009;
    /// The body is over 64 KiB.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413, -32013;
    /// Too many requests.
    TooManyRequests = "TOO_MANY_REQUESTS", 429, -32029;
    /// A fault.
    InternalServerError = "INTERNAL_SERVER_ERROR", 500, -32603;
}

impl ErrorCode {
    /// The code of a `data.code`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The body of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The failure.
    pub error: ErrorShape,
}

/// `error` of a failure's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorShape {
    /// What is wrong, for people.
    pub message: String,
    /// The JSON-RPC code.
    pub code: i32,
    /// The rest.
    pub data: ErrorData,
}

/// `error.data` of a failure's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// The kind of failure, such as `BAD_REQUEST`.
    pub code: String,
    /// The HTTP status.
    pub http_status: u16,
    /// The procedure, or the path if there is no such procedure.
    pub path: String,
}

impl ErrorBody {
    /// The body for a code.
    pub fn new(code: ErrorCode, message: impl Into<String>, path: impl Into<String>) -> Self {
        let data = ErrorData { code: code.name().to_owned(), http_status: code.status(), path: path.into() };
        Self { error: ErrorShape { message: message.into(), code: code.json_rpc(), data } }
    }
}
