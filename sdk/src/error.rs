//! One error type; its kind says who is at fault.

mod call;

use sideband_protocol::{
    client::CloseReason,
    failure::{Cause, ClientMode, Verdict},
    peer::CallError,
    wire::{ControlCode, UnknownControlCode, close},
};

pub use self::call::CallFailure;
pub(crate) use self::call::Limit;

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller: a bad argument, or a call that does not fit the state.
    Misuse,
    /// The program at the other end answered with an error or broke the protocol.
    Peer,
    /// The API or the relay refused.
    Refused,
    /// The network, or a server that did not answer: may pass.
    Network,
    /// Trust: an identity that is not accepted.
    Trust,
    /// It was closed by this side, or its runtime was shut down.
    Closed,
    /// This library: a bug.
    Bug,
}

/// What went wrong. No variant holds a token, a key or a code.
///
/// `Display` says everything in one line; [`source`](std::error::Error::source) gives the cause again as a value: the [`Cause`] of a
/// client that closed, of a daemon that ended or of an API call that failed. [`kind`](Self::kind) says who is at fault,
/// [`is_retryable`](Self::is_retryable) whether the same thing may succeed later, [`code`](Self::code), [`status`](Self::status) and
/// [`control_code`](Self::control_code) what the protocol calls it. What a handler of the other side answered is
/// [`rpc_code`](Self::rpc_code), [`rpc_message`](Self::rpc_message) and [`rpc_data`](Self::rpc_data).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is wrong; nothing was done.
    #[error("{what} is not usable: {reason}")]
    Argument {
        /// Which argument.
        what: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// There is no Tokio runtime here to run a task on; nothing was done.
    #[error("there is no Tokio runtime here: do this in an async function that one runs, or within `Runtime::enter`")]
    NoRuntime,
    /// The world could not be set up (TLS roots).
    #[error("cannot set up the network: {0}")]
    Setup(String),
    /// A call, event or message failed: a peer error with a code.
    #[error(transparent)]
    Call(Box<CallFailure>),
    /// What the caller gave cannot become JSON; nothing was sent.
    #[error("{what} cannot become JSON: {reason}")]
    Encode {
        /// What was given, such as ``the params of `add` ``.
        what: String,
        /// What cannot.
        reason: String,
    },
    /// What the other side sent does not fit the type that the caller asked for.
    #[error("{what} does not fit its type: {reason}")]
    Decode {
        /// What came, such as ``the result of `add` ``.
        what: String,
        /// What does not fit, and where.
        reason: String,
    },
    /// The client closed, and why.
    #[error("the client is closed: {0}")]
    Closed(#[from] CloseReason),
    /// The daemon or its session ended, or an API call failed, and why.
    #[error("{0}")]
    Failed(#[source] Cause),
}

impl Error {
    /// Who is at fault.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Argument { .. } | Self::NoRuntime | Self::Setup(_) | Self::Encode { .. } => ErrorKind::Misuse,
            Self::Decode { .. } => ErrorKind::Peer,
            Self::Call(failure) => match failure.error() {
                CallError::PeerClosed => failure.why().map_or(ErrorKind::Closed, Self::kind),
                CallError::Cancelled => ErrorKind::Closed,
                CallError::NotConnected | CallError::SessionPaused | CallError::Timeout => ErrorKind::Network,
                CallError::InvalidState(_)
                | CallError::MethodTaken(_)
                | CallError::BufferOverflow { .. }
                | CallError::InvalidPattern(_)
                | CallError::MessageTooLarge { .. } => ErrorKind::Misuse,
                CallError::Rpc { .. } => ErrorKind::Peer,
            },
            Self::Closed(CloseReason::ByUser) => ErrorKind::Closed,
            Self::Closed(
                CloseReason::Fatal(cause) | CloseReason::Exhausted { cause, .. } | CloseReason::CodeUsed(cause),
            )
            | Self::Failed(cause) => cause_kind(cause),
        }
    }

    /// The peer error code of `docs/spec/5-endpoints.md`, where there is one; an API failure that is fatal is no peer error and has its
    /// [`status`](Self::status) instead (CLI-08).
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Call(failure) => Some(failure.error().code()),
            Self::Closed(CloseReason::CodeUsed(_)) => Some("invalid_state"),
            // CLI-08: the API's own error, with its status and message.
            Self::Closed(CloseReason::Fatal(Cause::Api { .. })) => None,
            Self::Closed(CloseReason::ByUser | CloseReason::Fatal(_) | CloseReason::Exhausted { .. }) => {
                Some("peer_closed")
            }
            // What it drove is over; a user's calls meet it besides who waits for its end.
            Self::Failed(Cause::Stopped(_) | Cause::Bug(_)) => Some("peer_closed"),
            Self::Argument { .. }
            | Self::NoRuntime
            | Self::Setup(_)
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Failed(_) => None,
        }
    }

    /// How a call ended, for those who count calls.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Encode { .. } => "encode",
            Self::Decode { .. } => "decode",
            Self::Call(_)
            | Self::Argument { .. }
            | Self::NoRuntime
            | Self::Setup(_)
            | Self::Closed(_)
            | Self::Failed(_) => self.code().unwrap_or("failed"),
        }
    }

    /// The HTTP status, if an API or a relay refused with one (CLI-08).
    pub fn status(&self) -> Option<u16> {
        if let Cause::Api { status, .. } | Cause::Upgrade { status, .. } = self.cause()? { Some(*status) } else { None }
    }

    /// The relay's Control code, if one is the reason; unknown codes are kept as their number.
    pub fn control_code(&self) -> Option<Result<ControlCode, UnknownControlCode>> {
        if let Cause::Control(code) = self.cause()? { Some(*code) } else { None }
    }

    /// How long the other side asked to wait, at most 120 s (CLI-06).
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        self.cause()?.retry_after()
    }

    /// How a call, event or message failed, if that is what did.
    pub fn call_error(&self) -> Option<&CallError> {
        if let Self::Call(failure) = self { Some(failure.error()) } else { None }
    }

    /// The code that the other side's handler answered a call with (RPC-02).
    pub fn rpc_code(&self) -> Option<i64> {
        if let CallError::Rpc { code, .. } = self.call_error()? { Some(*code) } else { None }
    }

    /// The other side's words to [`rpc_code`](Self::rpc_code).
    pub fn rpc_message(&self) -> Option<&str> {
        if let CallError::Rpc { message, .. } = self.call_error()? { Some(message) } else { None }
    }

    /// The data to [`rpc_code`](Self::rpc_code), if there are any.
    pub fn rpc_data(&self) -> Option<serde_json::Value> {
        if let CallError::Rpc { data, .. } = self.call_error()? {
            serde_json::from_slice(data.as_ref()?).ok()
        } else {
            None
        }
    }

    /// Why the connection or attempt failed, where that is the reason.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Closed(
                CloseReason::Fatal(cause) | CloseReason::Exhausted { cause, .. } | CloseReason::CodeUsed(cause),
            )
            | Self::Failed(cause) => Some(cause),
            Self::Call(failure) => failure.why()?.cause(),
            Self::Closed(CloseReason::ByUser)
            | Self::Argument { .. }
            | Self::NoRuntime
            | Self::Setup(_)
            | Self::Encode { .. }
            | Self::Decode { .. } => None,
        }
    }

    /// Whether the same thing may succeed later without any change: what a client retries by itself (CLI-05), and calls that found no
    /// connection or no answer. A Quick Connect client needs a new code whatever happened.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Call(failure) => match failure.error() {
                CallError::NotConnected
                | CallError::SessionPaused
                | CallError::Timeout
                | CallError::BufferOverflow { .. } => true,
                CallError::PeerClosed
                | CallError::Cancelled
                | CallError::InvalidState(_)
                | CallError::MethodTaken(_)
                | CallError::InvalidPattern(_)
                | CallError::MessageTooLarge { .. }
                | CallError::Rpc { .. } => false,
            },
            // DMN-01: another process has taken this daemon's place; whoever starts again would duel.
            Self::Failed(Cause::SocketLost { code: Some(close::REPLACED) }) => false,
            Self::Closed(CloseReason::Fatal(cause) | CloseReason::Exhausted { cause, .. }) | Self::Failed(cause) => {
                match cause.client_verdict(ClientMode::Account) {
                    Verdict::Retry | Verdict::RetryOnce => true,
                    Verdict::Fatal => false,
                }
            }
            Self::Closed(CloseReason::CodeUsed(_) | CloseReason::ByUser)
            | Self::Argument { .. }
            | Self::NoRuntime
            | Self::Setup(_)
            | Self::Encode { .. }
            | Self::Decode { .. } => false,
        }
    }
}

impl From<CallFailure> for Error {
    fn from(failure: CallFailure) -> Self {
        Self::Call(Box::new(failure))
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        CallFailure::from(error).into()
    }
}

fn cause_kind(cause: &Cause) -> ErrorKind {
    match cause {
        Cause::Api { status, .. } | Cause::Upgrade { status, .. } => match status {
            100..=299 | 429 | 500..=599 => ErrorKind::Network,
            _ => ErrorKind::Refused,
        },
        Cause::Control(_) => ErrorKind::Refused,
        Cause::TokenSource(_)
        | Cause::UnusableToken(_)
        | Cause::RelayUrl(_)
        | Cause::IdentityStore(_)
        | Cause::HandlerFailed(_) => ErrorKind::Misuse,
        Cause::ApiUnreadable(_)
        | Cause::ApiUnreachable(_)
        | Cause::ApiTimeout
        | Cause::RelayUnreachable(_)
        | Cause::DialTimeout
        | Cause::SocketLost { .. }
        | Cause::Silent
        | Cause::HandshakeTimeout => ErrorKind::Network,
        Cause::MalformedFrame(_)
        | Cause::DecryptFailed
        | Cause::Exhausted
        | Cause::PeerError { .. }
        | Cause::PeerViolation { .. }
        | Cause::PeerClosed { .. }
        | Cause::Overflow(_) => ErrorKind::Peer,
        Cause::HandshakeFailed(_) | Cause::IdentityChanged { .. } => ErrorKind::Trust,
        Cause::Closed | Cause::Stopped(_) => ErrorKind::Closed,
        Cause::Bug(_) => ErrorKind::Bug,
    }
}

/// An error and its causes in one line. A cause whose words stand in the line already is not said twice.
pub(crate) fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

/// Whether a task can be run here.
pub(crate) fn check_runtime() -> Result<(), Error> {
    tokio::runtime::Handle::try_current().map(drop).map_err(|_| Error::NoRuntime)
}

pub(crate) fn argument(what: &'static str, reason: impl std::fmt::Display) -> Error {
    Error::Argument { what, reason: reason.to_string() }
}
