//! The client machine: from a token to an active session and back again (CLI-01..15, CRY-, TRU-).
//!
//! Driven as [`crate::endpoint`] says. Decisions that the specification tables stand in one `match` each:
//! [`Cause::client_verdict`](crate::failure::Cause::client_verdict) for retries, [`crate::crypto::decide`] for trust.

mod calls;
mod config;
mod machine;
mod negotiate;

pub use calls::CallLimits;
pub use config::{Access, ClientConfig, ConnectionPolicy, OnDisconnect, RetryMode, RetryPolicy, RpcPolicy};
pub use machine::Client;

use crate::{
    crypto::{IdentityKey, TrustQuestion},
    failure::Cause,
    peer::Delivery,
};

/// The states of a client, all of them visible to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Made, not started.
    Idle,
    /// Getting a token, a session and a socket.
    Connecting,
    /// On the socket: key exchange, trust, introductions.
    Negotiating,
    /// The session stands.
    Active,
    /// The daemon is away; the socket stays.
    Paused,
    /// Waiting for the next attempt.
    Reconnecting,
    /// Over for good.
    Closed,
}

impl State {
    /// The name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Negotiating => "negotiating",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Reconnecting => "reconnecting",
            Self::Closed => "closed",
        }
    }
}

/// What the API gave for one session.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionGrant {
    /// Where the relay is.
    pub relay_url: String,
    /// The session's token. Never logged.
    pub token: String,
    /// The daemon, where the API says it (Quick Connect).
    pub daemon_id: Option<String>,
}

impl std::fmt::Debug for SessionGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionGrant").field("relay_url", &self.relay_url).finish_non_exhaustive()
    }
}

/// Something that takes time. Jobs hold no secret but [`Job::Dial`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Ask the user's source for an access token, and keep it for [`Job::CreateSession`] (CLI-01).
    FetchToken,
    /// `relay.createSession` with the token that was fetched last.
    CreateSession,
    /// `quickConnect.redeem` with the user's code (CLI-02).
    Redeem,
    /// Connect to the relay.
    Dial(SessionGrant),
    /// Read the pinned identity of a daemon from the user's store.
    LoadPin {
        /// The daemon.
        daemon_id: String,
    },
    /// Ask the user; only under `prompt` (TRU-02).
    AskTrust(TrustQuestion),
    /// Write the pin (TRU-03).
    StorePin {
        /// The daemon.
        daemon_id: String,
        /// Its identity.
        key: IdentityKey,
    },
}

/// What came of a [`Job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Of [`Job::FetchToken`].
    Token(Result<(), Cause>),
    /// Of [`Job::CreateSession`] and [`Job::Redeem`].
    Session(Result<SessionGrant, Cause>),
    /// Of [`Job::Dial`]; on success the socket is the shell's.
    Dialled(Result<(), Cause>),
    /// Of [`Job::LoadPin`].
    Pin(Result<Option<IdentityKey>, Cause>),
    /// Of [`Job::AskTrust`].
    Answered(bool),
    /// Of [`Job::StorePin`].
    PinStored(Result<(), Cause>),
}

/// Why a client closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The user closed it.
    #[error("closed by this side")]
    ByUser,
    /// Something that trying again cannot help.
    #[error("{0}")]
    Fatal(#[source] Cause),
    /// The retries are used up; the last cause.
    #[error("gave up after {retries} retries: {cause}")]
    Exhausted {
        /// Retries that were made.
        retries: u32,
        /// Why the last attempt failed.
        #[source]
        cause: Cause,
    },
    /// A Quick Connect session was lost; its code is used up (CLI-02).
    #[error("the Quick Connect session is over ({0}); get a new code")]
    CodeUsed(#[source] Cause),
}

/// What the user of a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The state changed; every change is told, in order (CLI-12).
    State(State),
    /// A fresh session stands; not told on a resume (CLI-12).
    Connected {
        /// The daemon.
        daemon_id: String,
    },
    /// A session that stood is lost.
    Disconnected(Cause),
    /// Another attempt follows.
    Retrying {
        /// Which retry in a row, from 0.
        retry: u32,
        /// How long until then.
        delay: std::time::Duration,
        /// Why.
        cause: Cause,
    },
    /// The daemon is back, not yet ready (CLI-11).
    Pending,
    /// The session goes on with the same keys.
    Resumed,
    /// The relay dropped frames of ours; the session goes on.
    RateLimited,
    /// Something for the user.
    Delivery(Delivery),
    /// Closed for good.
    Closed(CloseReason),
}
