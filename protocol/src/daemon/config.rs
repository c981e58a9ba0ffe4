//! What can be chosen, and the defaults.

use std::time::Duration;

use crate::{
    client::{ConnectionPolicy, RpcPolicy},
    peer::SessionLimits,
    quirks::Quirks,
};

/// Retries of a daemon, which go on for ever (DMN-04).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonRetryPolicy {
    /// Delay before the first retry. Default 1 s; each further one is twice as long.
    pub initial: Duration,
    /// Longest delay before the spread. Default 30 s.
    pub max: Duration,
    /// Up to this much is added at random. Default 500 ms; 0 makes herds.
    pub spread: Duration,
    /// A connection that lasted this long starts the count anew. Default 5 s.
    pub settled: Duration,
    /// The whole delay after a clean close of such a connection is random in 0 to this. Default 2 s.
    pub clean: Duration,
}

impl Default for DaemonRetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            spread: Duration::from_millis(500),
            settled: Duration::from_secs(5),
            clean: Duration::from_secs(2),
        }
    }
}

/// Everything that a daemon can be told, but for its identity, which it holds no longer than it runs.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// The id that the daemon must have; a token for another one is an error (DMN-02). Default any.
    pub daemon_id: Option<String>,
    /// Retries.
    pub retry: DaemonRetryPolicy,
    /// Time limits of attempts, handshakes and the socket.
    pub connection: ConnectionPolicy,
    /// Time limits of calls that the daemon makes.
    pub rpc: RpcPolicy,
    /// Most sessions at a time; further ones are refused with Signal(close, policy). Default 4,096.
    pub max_sessions: usize,
    /// Whether each Message of a client is confirmed with an Ack (SBP-05). Default no.
    pub receipts: bool,
    /// What is wrong on purpose; set by tests only.
    pub quirks: Quirks,
    /// Bounds of each session.
    pub limits: SessionLimits,
}

impl Default for DaemonConfig {
    /// The defaults of `listen`.
    fn default() -> Self {
        Self {
            daemon_id: None,
            retry: DaemonRetryPolicy::default(),
            connection: ConnectionPolicy::default(),
            rpc: RpcPolicy::default(),
            max_sessions: 4_096,
            receipts: false,
            quirks: Quirks::NONE,
            limits: SessionLimits::default(),
        }
    }
}
