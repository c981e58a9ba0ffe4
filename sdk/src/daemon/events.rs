//! What a server tells: codes, and the events in its life.

use std::{fmt, time::Duration};

use sideband_protocol::{SessionId, failure::Cause};

use crate::told::{Telling, Told};

/// A code that gives one client one session with this daemon.
#[derive(Clone, PartialEq, Eq)]
pub struct QuickConnectCode {
    /// The code, `abcd-efgh-ijkl`: whoever has it may connect once.
    pub code: String,
    /// A link with the code in it.
    pub url: String,
    /// When it expires, ISO 8601 UTC.
    pub expires_at: String,
}

impl fmt::Debug for QuickConnectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuickConnectCode").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What happens to a daemon, in order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The relay socket stands.
    Online,
    /// The relay socket is lost.
    Offline(Cause),
    /// Another attempt follows.
    Retrying {
        /// Which attempt in a row, from 0.
        retry: u32,
        /// How long until then.
        delay: Duration,
        /// Why.
        cause: Cause,
    },
    /// A session stands.
    Opened(SessionId),
    /// A session waits for the relay socket.
    Paused(SessionId),
    /// A session goes on.
    Resumed(SessionId),
    /// A session is over.
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
    /// The relay dropped frames of ours.
    RateLimited,
    /// The daemon has ended for good.
    Ended(Cause),
    /// This many events were missed by a reader that was too slow.
    Missed(u64),
}

/// The events in a daemon's life.
#[derive(Debug)]
pub struct ServerEvents(pub(super) Told<ServerEvent>);

impl ServerEvents {
    /// The next event; `None` once the daemon has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<ServerEvent> {
        self.0.next().await
    }
}

impl Telling for ServerEvent {
    fn is_last(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
    fn missed(number: u64) -> Self {
        Self::Missed(number)
    }
}
