//! The hosts of a scenario: who is there, and how each is set up. The members are those of the SDK's builders and of the sims.

use serde::{Deserialize, Serialize};
use sideband_sim_kit::{
    fault::{Shift, Time},
    limits::RelayLimitsPatch,
};
use utoipa::ToSchema;

/// Most copies of one host.
pub const MAX_COPIES: u32 = 1_000;

/// What runs on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A control plane.
    Api,
    /// A relay.
    Relay,
    /// Both on one address.
    Cloud,
    /// A daemon that answers `ping`, `echo`, `add`, `boom`, `sleep` and `tick`.
    Daemon,
    /// A client by the account's access token.
    Client,
    /// A client by a Quick Connect code; it starts with the step `redeem`.
    QuickConnect,
    /// Code of a Rust user, given to [`Sim::builder`](crate::sim::Sim::builder) under this host's name.
    Own,
}

impl Kind {
    /// Whether a relay runs there.
    pub const fn has_relay(self) -> bool {
        matches!(self, Self::Relay | Self::Cloud)
    }

    /// Whether a control plane runs there.
    pub const fn has_api(self) -> bool {
        matches!(self, Self::Api | Self::Cloud)
    }

    /// Whether it is a client, of either sort.
    pub const fn is_client(self) -> bool {
        matches!(self, Self::Client | Self::QuickConnect)
    }

    /// Its text in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Relay => "relay",
            Self::Cloud => "cloud",
            Self::Daemon => "daemon",
            Self::Client => "client",
            Self::QuickConnect => "quick_connect",
            Self::Own => "own",
        }
    }
}

/// Which identities a client takes (TRU-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The first one and every later one.
    #[default]
    Auto,
    /// Asks, and hears yes to both questions.
    PromptYes,
    /// Asks, and hears no to both questions.
    PromptNo,
    /// Asks, and hears yes to the first identity, no to a changed one.
    PromptFirst,
    /// Asks, and nobody ever answers (TRU-04).
    PromptSilent,
    /// Only what is pinned already.
    PinnedOnly,
}

/// What happens to calls without a session (CLI-09).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithoutSession {
    /// They wait.
    Pause,
    /// They fail.
    Fail,
}

/// How attempts follow each other (CLI-04, DMN-04). What is absent is the SDK's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Clients: `false` for no retry at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Clients: most retries in a row; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// The first delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub initial: Option<Time>,
    /// The longest delay, before it is spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub max: Option<Time>,
    /// Clients: the part by which a delay is shorter or longer, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    /// Daemons: what is added at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub spread: Option<Time>,
}

/// Time limits of attempts, keepalive and calls. What is absent is the SDK's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// A request to the control plane (CLI-07).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub api: Option<Time>,
    /// Dialling the relay (CLI-07).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub dial: Option<Time>,
    /// The key exchange and introduction (CRY-11).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub handshake: Option<Time>,
    /// A call, from when it was sent (RPC-05).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub call: Option<Time>,
    /// A call, from when it was made (RPC-05).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub call_total: Option<Time>,
    /// Between two pings (CLI-13).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ping: Option<Time>,
    /// Silence after which the relay counts as gone (CLI-13).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub silence: Option<Time>,
    /// A handler (RPC-02); any time if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub handler: Option<Time>,
}

/// When a host begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the run.
    Now,
    /// With its first step `start` or `redeem`.
    Manual,
}

/// A host. Which members go with which kind is checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// Its name: letters, digits and `-`. Copies are called `name-1`, `name-2` and so on.
    pub name: String,
    /// What runs there.
    pub kind: Kind,
    /// How many there are; one if absent, which is called just `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The control plane that it uses; the first one of the file if absent. Of a relay: its issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The relay that a daemon dials and an API names; the first one of the file if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The daemon that a client connects to; the first one of the file if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<String>,
    /// When it begins; `now` if absent, but `manual` for a `quick_connect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// How much later than the run it begins; nothing if absent. Copies begin together unless `stagger` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub delay: Option<Time>,
    /// How much later each copy begins than the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stagger: Option<Time>,
    /// How far its wall clock is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub clock_shift: Option<Shift>,
    /// The region that a relay serves, or that an API's tokens name (TOK-08).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Clients and daemons: retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Clients and daemons: time limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Clients: which identities are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// Account's clients: whether a new store of pins holds the daemon's first identity already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// Clients: what happens to calls without a session; `pause` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disconnect: Option<WithoutSession>,
    /// Clients: most bytes of calls that wait (CLI-09).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffered_bytes: Option<usize>,
    /// Clients: most events that wait (CLI-10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffered_events: Option<usize>,
    /// Clients and daemons: most frames that wait for a session's consumer (DMN-07).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_frames: Option<usize>,
    /// Daemons: whether sessions survive the loss of the relay socket; yes if absent (DMN-12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<bool>,
    /// Daemons: most sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<usize>,
    /// Relays: limits (REL-01, REL-12, REL-20 to REL-23).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RelayLimitsPatch>,
    /// APIs: how long a rotated key stays published (KEY-02), whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub key_overlap: Option<Time>,
    /// APIs: most sessions that tokens allow a daemon (TOK-11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_sessions: Option<u64>,
}

impl Host {
    /// A host with nothing chosen.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            count: None,
            api: None,
            relay: None,
            daemon: None,
            start: None,
            delay: None,
            stagger: None,
            clock_shift: None,
            region: None,
            retry: None,
            timeouts: None,
            trust: None,
            pinned: None,
            on_disconnect: None,
            buffered_bytes: None,
            buffered_events: None,
            waiting_frames: None,
            resumable: None,
            max_sessions: None,
            limits: None,
            key_overlap: None,
            concurrent_sessions: None,
        }
    }

    /// The names of the host and its copies.
    pub fn names(&self) -> Vec<String> {
        match self.count {
            None => vec![self.name.clone()],
            Some(count) => (1..=count).map(|n| format!("{}-{n}", self.name)).collect(),
        }
    }
}
