//! The daemon machine: one socket to the relay, many sessions on it (DMN-01..16).
//!
//! Driven as [`crate::endpoint`] says. What is fatal and what is retried stands in
//! [`Cause::daemon_verdict`](crate::failure::Cause::daemon_verdict).

mod config;
mod machine;
mod sessions;

pub use config::{DaemonConfig, DaemonRetryPolicy};
pub use machine::Daemon;

use crate::{SessionId, failure::Cause, peer::Delivery, sbp::Introduction};

/// Something that takes time.
#[derive(Clone, PartialEq, Eq)]
pub enum Job {
    /// `daemon.renewToken` (DMN-03).
    RenewToken,
    /// Connect to the relay with this presence token. Never logged.
    Dial(String),
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RenewToken => "RenewToken",
            Self::Dial(_) => "Dial(..)",
        })
    }
}

/// What came of a [`Job`].
#[derive(Clone, PartialEq, Eq)]
pub enum Done {
    /// The presence token.
    Token(Result<String, Cause>),
    /// On success the socket is the shell's.
    Dialled(Result<(), Cause>),
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(result) => f.debug_tuple("Token").field(&result.as_ref().map(|_| "..")).finish(),
            Self::Dialled(result) => f.debug_tuple("Dialled").field(result).finish(),
        }
    }
}

/// Where one session is, as its daemon sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Keys are agreed, the introductions not yet.
    Negotiating,
    /// It stands.
    Active,
    /// It stands, but the relay's socket is away.
    Paused,
}

/// One session of a daemon, told from a later one that the relay starts under the same id: what is asked of a session that is over
/// reaches no other (DMN-06).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionHandle {
    /// The session's id.
    pub id: SessionId,
    /// Counts the daemon's sessions, from 1.
    pub number: u64,
}

/// What the user of a daemon is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The relay socket stands.
    Online {
        /// The daemon's id, from the token (DMN-02).
        daemon_id: String,
        /// Whether it stands for the first time.
        first: bool,
    },
    /// The relay socket is lost.
    Offline(Cause),
    /// Another attempt follows.
    Retrying {
        /// Which attempt in a row, from 0.
        retry: u32,
        /// How long until then.
        delay: std::time::Duration,
        /// Why.
        cause: Cause,
    },
    /// A session stands.
    Opened {
        /// Which; what is asked of it goes by this.
        session: SessionHandle,
        /// What the client says of itself.
        introduction: Introduction,
    },
    /// A session waits for the relay socket.
    Paused(SessionId),
    /// A session goes on.
    Resumed(SessionId),
    /// A session is over; its keys are wiped (DMN-10).
    Closed {
        /// Which.
        session: SessionId,
        /// Why.
        cause: Cause,
    },
    /// A key exchange or introduction came to nothing.
    Refused {
        /// Which session.
        session: SessionId,
        /// Why.
        cause: Cause,
    },
    /// Something for the user of a session.
    Delivery {
        /// Which session.
        session: SessionId,
        /// What.
        delivery: Delivery,
    },
    /// The relay dropped frames of ours.
    RateLimited,
    /// The daemon has ended for good; [`Cause::Closed`] if by its user.
    Ended(Cause),
}
