//! How a hub behaves, and why it does not let a connection in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RelayQuirks;

/// What a second socket of the same daemon does (REL-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// It replaces the first, which is closed with 4001.
    #[default]
    Replace,
    /// It is refused until the first is gone. A daemon whose socket became a ghost then stays away until the sweep.
    Refuse,
}

/// How a hub behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubConfig {
    /// How long a session waits for its daemon, from the daemon's loss; default 30 s (REL-01). Zero ends sessions at once.
    pub grace: Duration,
    /// What a second socket of the daemon does; default replace (REL-12).
    pub takeover: Takeover,
    /// How many ended session ids are remembered; default 65,536 (WIRE-17). With fewer, a daemon that still sends for a
    /// forgotten one loses its socket.
    pub ended_ids: usize,
    /// Most sessions of the daemon at once, unless tokens say otherwise; default 256 (REL-23).
    pub sessions: u64,
    /// Wrong on purpose, for tests.
    #[doc(hidden)]
    pub danger_quirks: RelayQuirks,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            takeover: Takeover::Replace,
            ended_ids: 65_536,
            sessions: 256,
            danger_quirks: RelayQuirks::NONE,
        }
    }
}

/// Why a connection is not let in: 409 `session_conflict`, but for the limit, which is 429 `rate_limited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session lives already (REL-10).
    #[error("the session is open already")]
    SessionOpen,
    /// The daemon is connected and [`Takeover::Refuse`] is set (REL-12).
    #[error("the daemon is connected already")]
    DaemonConnected,
    /// The daemon has as many sessions as it may (REL-23).
    #[error("the daemon has as many sessions as it may have")]
    TooManySessions,
}
