//! Why attempts, connections and sessions end, and what follows: the tables of CLI-05 and DMN-01, each one `match`.

use std::time::Duration;

use crate::{
    crypto::Fingerprint,
    sbp::ErrorCode,
    wire::{ControlCode, UnknownControlCode},
};

/// Why an attempt, a connection or a session ended. Holds no token and no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The caller's token source gave no token.
    #[error("the token source failed: {0}")]
    TokenSource(String),
    /// The caller's token source gave what no API takes as a token.
    #[error("the access token is not usable: {0}")]
    UnusableToken(&'static str),
    /// The API answered with an error.
    #[error("the API answered {status}{}: {message}", code_text(.code))]
    Api {
        /// HTTP status.
        status: u16,
        /// `data.code` of the answer, such as `UNAUTHORIZED`; empty if it had none.
        code: String,
        /// The answer's message.
        message: String,
        /// How long the answer asks to wait.
        retry_after: Option<Duration>,
    },
    /// The API answered with success, but not with what the procedure returns.
    #[error("the API's answer cannot be read: {0}")]
    ApiUnreadable(String),
    /// The API could not be reached, or the connection broke.
    #[error("the API cannot be reached: {0}")]
    ApiUnreachable(String),
    /// The API did not answer in time (CLI-07).
    #[error("the API did not answer in time")]
    ApiTimeout,
    /// The relay refused the upgrade.
    #[error("the relay refused the connection with {status}: {message}")]
    Upgrade {
        /// HTTP status.
        status: u16,
        /// The answer's message, or the stable code.
        message: String,
        /// How long the answer asks to wait.
        retry_after: Option<Duration>,
    },
    /// The relay could not be reached.
    #[error("the relay cannot be reached: {0}")]
    RelayUnreachable(String),
    /// The relay did not answer the dial in time (CLI-07).
    #[error("the relay did not answer in time")]
    DialTimeout,
    /// The relay's URL cannot be dialled.
    #[error("the relay URL is not usable: {0}")]
    RelayUrl(String),
    /// The relay sent a Control code that ends things.
    #[error("the relay says {}", control_name(.0))]
    Control(Result<ControlCode, UnknownControlCode>),
    /// The socket to the relay is gone.
    #[error("the connection to the relay was lost{}", close_text(.code))]
    SocketLost {
        /// The close code, if there was a close.
        code: Option<u16>,
    },
    /// Nothing was heard from the relay for too long (CLI-13).
    #[error("nothing was heard from the relay for too long")]
    Silent,
    /// A frame that must not come (WIRE-02, WIRE-03, WIRE-04, WIRE-21): `malformed_frame`.
    #[error("malformed frame: {0}")]
    MalformedFrame(String),
    /// The key exchange or the trust decision failed: `handshake_failed`.
    #[error("the handshake failed: {0}")]
    HandshakeFailed(String),
    /// The handshake took too long (CRY-11): `handshake_timeout`.
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// Another identity is pinned (TRU-05): `identity_key_changed`.
    #[error("the daemon's identity changed: expected {expected}, received {received}")]
    IdentityChanged {
        /// The pinned one.
        expected: Fingerprint,
        /// The one that the daemon shows.
        received: Fingerprint,
    },
    /// The identity store failed (TRU-03).
    #[error("the identity store failed: {0}")]
    IdentityStore(String),
    /// A message did not open (CRY-09): `decrypt_failed`.
    #[error("a sealed message did not open")]
    DecryptFailed,
    /// The sequences of a session are used up (CRY-05).
    #[error("the session's sequences are used up")]
    Exhausted,
    /// The other side sent an SBP Error that ends the session.
    #[error("the other side reports SBP error {code}: {message}")]
    PeerError {
        /// 1000 or 1001.
        code: u16,
        /// The other side's words.
        message: String,
    },
    /// The other side broke SBP, and was told so.
    #[error("the other side broke the protocol (SBP error {}): {reason}", .code.code())]
    PeerViolation {
        /// What was answered.
        code: ErrorCode,
        /// What was wrong.
        reason: String,
    },
    /// The other side closed the session (SBP-07).
    #[error("the other side closed the session{}", reason_text(.reason))]
    PeerClosed {
        /// The other side's words; empty for none.
        reason: String,
    },
    /// More waits for this session's consumer than may wait (DMN-07), or more was held back than may be (DMN-11).
    #[error("too much waits: {0}")]
    Overflow(&'static str),
    /// This side closed.
    #[error("closed by this side")]
    Closed,
    /// A handler of this side failed (DMN-15).
    #[error("a connection handler failed: {0}")]
    HandlerFailed(String),
    /// The shell that drove the endpoint went away before the endpoint had ended, for this reason.
    #[error("the endpoint was stopped: {0}")]
    Stopped(&'static str),
    /// The shell that drove the endpoint failed in a way that no input explains.
    #[error("the endpoint was stopped by a bug: {0}")]
    Bug(&'static str),
}

fn code_text(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" {code}") }
}

fn control_name(code: &Result<ControlCode, UnknownControlCode>) -> String {
    match code {
        Ok(code) => format!("{code}: {}", code.message()),
        Err(unknown) => unknown.to_string(),
    }
}

fn close_text(code: &Option<u16>) -> String {
    code.map(|code| format!(" (close code {code})")).unwrap_or_default()
}

fn reason_text(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// What follows from a [`Cause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Trying again cannot help.
    Fatal,
    /// Try again after a delay.
    Retry,
    /// Try again once, until a connection stood; then it is fatal.
    RetryOnce,
}

/// How a client gets its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMode {
    /// By the user's access token, a new session on every attempt (CLI-01).
    Account,
    /// By a code that is redeemed once (CLI-02).
    QuickConnect,
}

impl Cause {
    /// How long the other side asked to wait (CLI-06), already at most 120 s.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api { retry_after, .. } | Self::Upgrade { retry_after, .. } => *retry_after,
            Self::TokenSource(_)
            | Self::UnusableToken(_)
            | Self::ApiUnreadable(_)
            | Self::ApiUnreachable(_)
            | Self::ApiTimeout
            | Self::RelayUnreachable(_)
            | Self::DialTimeout
            | Self::RelayUrl(_)
            | Self::Control(_)
            | Self::SocketLost { .. }
            | Self::Silent
            | Self::MalformedFrame(_)
            | Self::HandshakeFailed(_)
            | Self::HandshakeTimeout
            | Self::IdentityChanged { .. }
            | Self::IdentityStore(_)
            | Self::DecryptFailed
            | Self::Exhausted
            | Self::PeerError { .. }
            | Self::PeerViolation { .. }
            | Self::PeerClosed { .. }
            | Self::Overflow(_)
            | Self::Closed
            | Self::HandlerFailed(_)
            | Self::Stopped(_)
            | Self::Bug(_) => None,
        }
    }

    /// CLI-05: fatal or retried, at a client.
    pub const fn client_verdict(&self, mode: ClientMode) -> Verdict {
        use Verdict::{Fatal, Retry, RetryOnce};
        match self {
            Self::Api { status, .. } => match (*status, mode) {
                // ◇ A success that is none says as little as a 200 that cannot be read.
                (409, ClientMode::Account) | (100..=299 | 429 | 500..=599, _) => Retry,
                (409, ClientMode::QuickConnect) | (_, _) => Fatal,
            },
            Self::ApiUnreadable(_) | Self::ApiUnreachable(_) | Self::ApiTimeout | Self::TokenSource(_) => Retry,
            Self::Upgrade { status, .. } => match *status {
                401 => RetryOnce,
                // ◇ Whatever answers an upgrade with success is no relay, but something that is in the way for now.
                100..=299 | 409 | 429 | 500..=599 => Retry,
                _ => Fatal,
            },
            Self::RelayUnreachable(_) | Self::DialTimeout | Self::SocketLost { .. } | Self::Silent => Retry,
            Self::RelayUrl(_) | Self::UnusableToken(_) => Fatal,
            Self::Control(Ok(code)) => match code {
                ControlCode::Unauthorized
                | ControlCode::Forbidden
                | ControlCode::DaemonNotFound
                | ControlCode::SessionNotFound
                | ControlCode::MalformedFrame
                | ControlCode::PayloadTooLarge
                | ControlCode::InvalidFrameType
                | ControlCode::InvalidSessionId
                | ControlCode::DisallowedSender => Fatal,
                ControlCode::DaemonOffline
                | ControlCode::SessionExpired
                | ControlCode::InternalError
                | ControlCode::RateLimited
                | ControlCode::Backpressure
                | ControlCode::SessionPaused
                | ControlCode::SessionResumed
                | ControlCode::SessionEnded
                | ControlCode::SessionPending => Retry,
            },
            Self::Control(Err(_)) => Retry,
            Self::MalformedFrame(_)
            | Self::HandshakeFailed(_)
            | Self::IdentityChanged { .. }
            | Self::IdentityStore(_)
            | Self::DecryptFailed => Fatal,
            Self::HandshakeTimeout | Self::Exhausted | Self::PeerClosed { .. } | Self::Overflow(_) => Retry,
            Self::PeerError { code, .. } => {
                if *code == ErrorCode::UnsupportedVersion.code() {
                    Fatal
                } else {
                    Retry
                }
            }
            Self::PeerViolation { code, .. } => match code {
                ErrorCode::UnsupportedVersion => Fatal,
                ErrorCode::ProtocolViolation | ErrorCode::InvalidFrame | ErrorCode::UnsupportedFeature => Retry,
            },
            Self::Closed | Self::HandlerFailed(_) | Self::Stopped(_) | Self::Bug(_) => Fatal,
        }
    }

    /// DMN-01: fatal or retried, at a daemon. Nothing is retried only once there.
    pub const fn daemon_verdict(&self) -> Verdict {
        use Verdict::{Fatal, Retry};
        match self {
            Self::Api { status, .. } => match *status {
                100..=299 | 409 | 429 | 500..=599 => Retry,
                _ => Fatal,
            },
            Self::Upgrade { status, .. } => match *status {
                100..=299 | 401 | 409 | 429 | 500..=599 => Retry,
                _ => Fatal,
            },
            Self::ApiUnreadable(_)
            | Self::ApiUnreachable(_)
            | Self::ApiTimeout
            | Self::TokenSource(_)
            | Self::RelayUnreachable(_)
            | Self::DialTimeout
            | Self::Control(_)
            | Self::SocketLost { .. }
            | Self::Silent
            | Self::MalformedFrame(_)
            | Self::HandshakeFailed(_)
            | Self::HandshakeTimeout
            | Self::IdentityChanged { .. }
            | Self::IdentityStore(_)
            | Self::DecryptFailed
            | Self::Exhausted
            | Self::PeerError { .. }
            | Self::PeerViolation { .. }
            | Self::PeerClosed { .. }
            | Self::Overflow(_)
            | Self::HandlerFailed(_) => Retry,
            Self::UnusableToken(_) | Self::RelayUrl(_) | Self::Closed | Self::Stopped(_) | Self::Bug(_) => Fatal,
        }
    }
}
