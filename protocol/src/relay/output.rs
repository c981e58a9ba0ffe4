//! What a hub wants done, and what it reports.

use bytes::Bytes;

use super::SessionState;
use crate::{
    SessionId,
    wire::{ControlCode, FrameType},
};

/// The driver's number for a connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One thing for the driver to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send one binary message.
    Send {
        /// To whom.
        to: ConnId,
        /// The message. A forwarded one shares the memory of the one that came in (WIRE-18).
        message: Bytes,
        /// The session whose frame is forwarded; `None` for the relay's own words (Control, Pong).
        forwards: Option<SessionId>,
    },
    /// Close the WebSocket after everything that was sent to it, as WIRE-09 says.
    Close {
        /// Which.
        conn: ConnId,
        /// The WebSocket close code.
        code: u16,
    },
    /// Something happened that an observer wants to know; nothing to do.
    Report(Report),
}

/// What an observer may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A session's state changed.
    Session {
        /// Which.
        session: SessionId,
        /// The new state.
        state: SessionState,
    },
    /// A Control frame goes out.
    Control {
        /// To whom.
        to: ConnId,
        /// The session that its header names.
        session: Option<SessionId>,
        /// What it says.
        code: ControlCode,
    },
    /// A frame was dropped; it is counted in [`Counters`] too.
    Dropped {
        /// The connection that it came from.
        from: ConnId,
        /// The session that its header names.
        session: SessionId,
        /// Its type.
        frame_type: FrameType,
        /// Why.
        reason: DropReason,
    },
}

/// Why a well-formed frame is not forwarded although nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The session is paused (REL-03).
    Paused,
    /// The session is pending (REL-03).
    Pending,
    /// The session has ended; the daemon was or will be told (WIRE-17).
    Ended,
    /// The sender is over its rate (REL-20).
    RateLimited,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Paused, Self::Pending, Self::Ended, Self::RateLimited];

    /// The name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paused => "session_paused",
            Self::Pending => "session_pending",
            Self::Ended => "session_ended",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// One session, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub session: SessionId,
    /// The client's connection.
    pub client: ConnId,
    /// Paired, paused or pending.
    pub state: SessionState,
}

/// What a hub has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames forwarded, both directions.
    pub forwarded_frames: u64,
    /// Their bytes, headers included.
    pub forwarded_bytes: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Frames dropped for this reason.
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// What both have counted.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.forwarded_frames += other.forwarded_frames;
        self.forwarded_bytes += other.forwarded_bytes;
        for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
            *mine += theirs;
        }
        self
    }

    pub(super) fn count_drop(&mut self, reason: DropReason, frames: u64) {
        self.dropped[reason as usize] += frames;
    }

    pub(super) fn count_forward(&mut self, bytes: usize) {
        self.forwarded_frames += 1;
        self.forwarded_bytes += bytes as u64;
    }
}
