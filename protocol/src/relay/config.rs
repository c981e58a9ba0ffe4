//! How a hub behaves, and why it does not let a connection in.

use std::time::Duration;

/// What a second socket of the same daemon does (REL-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
}

impl Default for HubConfig {
    fn default() -> Self {
        Self { grace: Duration::from_secs(30), takeover: Takeover::Replace, ended_ids: 65_536 }
    }
}

/// Why a connection is not let in. Both answer the upgrade with 409 `session_conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session lives already (REL-10).
    #[error("the session is open already")]
    SessionOpen,
    /// The daemon is connected and [`Takeover::Refuse`] is set (REL-12).
    #[error("the daemon is connected already")]
    DaemonConnected,
}
