//! What can be chosen, and the defaults.

use std::time::Duration;

use crate::{crypto::TrustPolicy, endpoint::KeepalivePolicy, failure::ClientMode, peer::SessionLimits, quirks::Quirks};

/// How the client gets its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// By the user's access token.
    Account {
        /// The daemon to talk to.
        daemon_id: String,
    },
    /// By a code, once.
    QuickConnect,
}

impl Access {
    pub(super) const fn mode(&self) -> ClientMode {
        match self {
            Self::Account { .. } => ClientMode::Account,
            Self::QuickConnect => ClientMode::QuickConnect,
        }
    }
}

/// Whether attempts are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryMode {
    /// The first failure closes.
    Never,
    /// Failures that may pass are tried again. The default.
    #[default]
    OnError,
}

/// Retries (CLI-04).
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Whether to retry. Default on-error.
    pub mode: RetryMode,
    /// Delay before the first retry. Default 1 s; each further one is twice as long.
    pub initial: Duration,
    /// Longest delay before jitter. Default 30 s.
    pub max: Duration,
    /// Jitter: the delay is multiplied by a random number in `[1 − jitter, 1 + jitter]`. Default 0.2; 0 makes herds.
    pub jitter: f64,
    /// Most retries in a row. Default 5; 0 is no limit.
    pub max_retries: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            mode: RetryMode::OnError,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            jitter: 0.2,
            max_retries: 5,
        }
    }
}

/// Time limits of one attempt and of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// For the token source, and for each API call (CLI-07). Default 15 s.
    pub api_timeout: Duration,
    /// For the relay dial, up to the upgrade's answer (CLI-07). Default 15 s.
    pub dial_timeout: Duration,
    /// For key exchange, trust and introductions, from the socket's opening (CRY-11). Default 30 s.
    pub handshake_timeout: Duration,
    /// Pings and silence (CLI-13).
    pub keepalive: KeepalivePolicy,
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        Self {
            api_timeout: Duration::from_secs(15),
            dial_timeout: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(30),
            keepalive: KeepalivePolicy::default(),
        }
    }
}

/// Time limits of calls (RPC-05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcPolicy {
    /// From when the call was sent; waiting in the buffer does not count, being paused does. Default 10 s.
    pub timeout: Duration,
    /// From when the call was made, waiting included. Default none.
    pub total: Option<Duration>,
}

impl Default for RpcPolicy {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), total: None }
    }
}

/// What happens to calls made while there is no active session (CLI-09).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDisconnect {
    /// They wait, up to the buffer's size. The default.
    #[default]
    Pause,
    /// They fail at once.
    Fail,
}

/// Everything that a client can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientConfig {
    /// How it gets its session.
    pub access: Access,
    /// Whom it trusts. Default `auto`.
    pub trust: TrustPolicy,
    /// Retries.
    pub retry: RetryPolicy,
    /// Time limits of attempts.
    pub connection: ConnectionPolicy,
    /// Time limits of calls.
    pub rpc: RpcPolicy,
    /// Calls without a session.
    pub on_disconnect: OnDisconnect,
    /// Most bytes of calls that wait (CLI-09). Default 65,536.
    pub buffered_bytes: usize,
    /// Most events that wait; the oldest go (CLI-10). Default 128.
    pub buffered_events: usize,
    /// Whether each Message of the daemon is confirmed with an Ack (SBP-05). Default no.
    pub receipts: bool,
    /// What is wrong on purpose; set by tests only.
    pub quirks: Quirks,
    /// Bounds of a session.
    pub limits: SessionLimits,
}

impl ClientConfig {
    /// The defaults of `connect`.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            trust: TrustPolicy::default(),
            retry: RetryPolicy::default(),
            connection: ConnectionPolicy::default(),
            rpc: RpcPolicy::default(),
            on_disconnect: OnDisconnect::default(),
            buffered_bytes: 65_536,
            buffered_events: 128,
            receipts: false,
            quirks: Quirks::NONE,
            limits: SessionLimits::default(),
        }
    }
}
