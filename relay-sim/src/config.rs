//! How a relay is set up.

use std::{fmt, sync::Arc, time::Duration};

use sideband_env::BoxFuture;
use sideband_protocol::{
    relay::{HubConfig, RelayQuirks},
    token::KeySet,
};
use sideband_sim_kit::{fault::FaultEngine, guard::OriginPolicy, limits::RelayLimits};

use crate::used::UsedSessions;

/// Where the keys come from that verify tokens.
#[derive(Clone)]
pub enum KeySource {
    /// Over HTTP, from `{issuer}/.well-known/jwks.json`, cached as KEY-01 to KEY-03 say.
    Http {
        /// The URL below which the set stands; usually the issuer itself.
        issuer: String,
    },
    /// From the control plane in the same process: asked anew for every upgrade, so that a rotation holds at once
    /// (KEY-04).
    InProcess(Arc<dyn Fn() -> KeySet + Send + Sync>),
    /// The same, from a control plane that may take its time or have no keys to give, as a fault plan has it. The last set that
    /// it gave goes on being used then (KEY-03).
    Asked(Arc<dyn Fn() -> BoxFuture<'static, Result<KeySet, String>> + Send + Sync>),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { issuer } => f.debug_struct("Http").field("issuer", issuer).finish(),
            Self::InProcess(_) => f.write_str("InProcess"),
            Self::Asked(_) => f.write_str("Asked"),
        }
    }
}

/// How a relay behaves. [`RelayConfig::new`] gives the defaults of the specification.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// What a token's `iss` must be, byte for byte (TOK-04).
    pub issuer: String,
    /// Where the keys come from.
    pub keys: KeySource,
    /// The relay's region; a token that names another is refused with 403 (TOK-08). Default none.
    pub region: Option<String>,
    /// Which web pages may connect (API-06, API-09). Default: loopback origins and requests without an origin.
    pub origins: OriginPolicy,
    /// The limits to begin with; [`Relay::set_limits`](crate::Relay::set_limits) changes them.
    pub limits: RelayLimits,
    /// How many ended session ids of a daemon are remembered; default 65,536 (WIRE-17). With fewer, a daemon that still
    /// sends for a forgotten one loses its socket.
    pub ended_ids: usize,
    /// Bytes that a connection reads in one turn before others get theirs; default 256 KiB.
    pub turn_bytes: usize,
    /// Bytes of each connection's read buffer, which is always there; default 8 KiB. Small ones cost throughput with
    /// small frames, large ones memory for each idle connection.
    pub read_buffer: usize,
    /// Bytes that are gathered before a write when many frames wait; default 32 KiB.
    pub write_buffer: usize,
    /// How long a closing connection may take to send what is queued and the close; default 5 s.
    pub close_deadline: Duration,
    /// How long it is then read, so that a TCP reset does not eat the last words; default 2 s (WIRE-09).
    pub linger: Duration,
    /// How long a shutdown may take altogether; default 4.5 s, the specification allows 5 s (REL-24).
    pub shutdown_deadline: Duration,
    /// How long one request for the key set may take; default 10 s.
    pub keys_deadline: Duration,
    /// Whether every frame is an event; default no, which keeps the frames' path short.
    pub trace_frames: bool,
    /// Where session ids that were used outlive the process (REL-10); default nowhere: who stops and starts such a relay within a
    /// token's life lets each token in once more.
    pub used_sessions: UsedSessions,
    /// The faults in force, shared with other parts of the process; default an engine of its own, without rules.
    pub faults: Option<FaultEngine>,
    /// Wrong on purpose, for tests.
    #[doc(hidden)]
    pub danger_quirks: RelayQuirks,
}

impl RelayConfig {
    /// The defaults, for tokens of this issuer.
    pub fn new(issuer: impl Into<String>, keys: KeySource) -> Self {
        Self {
            issuer: issuer.into(),
            keys,
            region: None,
            origins: OriginPolicy::default(),
            limits: RelayLimits::default(),
            ended_ids: HubConfig::default().ended_ids,
            turn_bytes: 256 << 10,
            read_buffer: 8 << 10,
            write_buffer: 32 << 10,
            close_deadline: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            shutdown_deadline: Duration::from_millis(4_500),
            keys_deadline: Duration::from_secs(10),
            trace_frames: false,
            used_sessions: UsedSessions::default(),
            faults: None,
            danger_quirks: RelayQuirks::NONE,
        }
    }
}
