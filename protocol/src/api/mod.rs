//! The control plane's HTTP interface as types: procedures, inputs, answers, errors (`docs/spec/3-control-plane.md`).
//!
//! `POST {api}/api/trpc/{procedure}` with JSON in and out. Both sides use this module: a server decodes an [`Input`] and
//! prints [`success_body`] or [`ErrorBody`], a client encodes a [`Request`] and reads the answer with [`decode_answer`].
//! Nothing here sends or receives. Rules: API-01..09, CLI-06.
//!
//! `Debug` of everything that carries a credential, a token or a code hides it (API-07, TOK-14).

mod answer;
mod code;
mod credential;
mod error;
mod input;
mod quirks;
#[cfg(test)]
mod tests;
mod types;

pub use answer::{AnswerError, ApiError, MAX_RETRY_AFTER, decode_answer, retry_after, success_body};
pub use code::{ParseCodeError, QuickConnectCode};
pub use credential::{API_KEY_PREFIX, ApiKey, ParseApiKeyError, random_base62, secrets_match};
pub use error::{ErrorBody, ErrorCode, ErrorData, ErrorShape};
pub use input::{BodyError, Input, InputError, decode_body};
#[doc(hidden)]
pub use quirks::{ApiQuirk, ApiQuirks};
pub use types::{
    AccessibleDaemon, CreateQuickConnect, CreateSession, DaemonPresence, ListAccessible, PresenceToken, QuickConnect,
    RedeemQuickConnect, Redeemed, RegisterDaemon, Registered, RenewToken, Request, Session, parse_utc, utc_text,
};

/// Where the procedures are, below the API's URL.
pub const PROCEDURE_PATH: &str = "/api/trpc/";
/// Most bytes that a request's body may have (413 beyond).
pub const MAX_BODY: usize = 64 * 1024;
/// Most bytes of an answer that a client reads.
pub const MAX_ANSWER: usize = 1 << 20;
/// The request header by which a daemon says that it can resume sessions (`1`), with `daemon.renewToken`.
pub const RESUME_HEADER: &str = "x-sideband-resume";
/// Life of a Quick Connect code unless asked otherwise, in seconds (API-03).
pub const DEFAULT_TTL: u64 = 300;
/// Shortest life of a Quick Connect code, in seconds (API-03).
pub const MIN_TTL: u64 = 30;
/// Longest life of a Quick Connect code, in seconds (API-03).
pub const MAX_TTL: u64 = 3_600;

/// What a procedure asks for in `Authorization: Bearer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// A user's access token.
    User,
    /// A daemon's API key, `sbnd_dak_…`.
    ApiKey,
    /// Nothing.
    None,
}

/// The procedures of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Procedure {
    /// A new session for a user and a daemon (API-01).
    CreateSession,
    /// A fresh presence token for a daemon (API-02).
    RenewToken,
    /// A new Quick Connect code (API-03).
    CreateQuickConnect,
    /// A session for a Quick Connect code (API-04).
    RedeemQuickConnect,
    /// A new daemon of a user.
    RegisterDaemon,
    /// The daemons that a user may use.
    ListAccessible,
}

impl Procedure {
    /// Every procedure, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::CreateSession,
        Self::RenewToken,
        Self::CreateQuickConnect,
        Self::RedeemQuickConnect,
        Self::RegisterDaemon,
        Self::ListAccessible,
    ];

    /// The name in the path, such as `relay.createSession`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateSession => "relay.createSession",
            Self::RenewToken => "daemon.renewToken",
            Self::CreateQuickConnect => "quickConnect.create",
            Self::RedeemQuickConnect => "quickConnect.redeem",
            Self::RegisterDaemon => "daemon.register",
            Self::ListAccessible => "daemon.listAccessible",
        }
    }

    /// The procedure of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|procedure| procedure.name() == name)
    }

    /// The path below the API's URL.
    pub fn path(self) -> String {
        format!("{PROCEDURE_PATH}{}", self.name())
    }

    /// Whether its result is a list; the others' are objects.
    pub const fn answers_with_list(self) -> bool {
        match self {
            Self::ListAccessible => true,
            Self::CreateSession
            | Self::RenewToken
            | Self::CreateQuickConnect
            | Self::RedeemQuickConnect
            | Self::RegisterDaemon => false,
        }
    }

    /// What it asks for in `Authorization`.
    pub const fn auth(self) -> Auth {
        match self {
            Self::CreateSession | Self::RegisterDaemon | Self::ListAccessible => Auth::User,
            Self::RenewToken | Self::CreateQuickConnect => Auth::ApiKey,
            Self::RedeemQuickConnect => Auth::None,
        }
    }
}

impl std::fmt::Display for Procedure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
