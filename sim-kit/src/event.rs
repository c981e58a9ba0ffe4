//! Everything that happens has one event type: a time, a host, perhaps a session, and a kind.
//!
//! The same events are written as NDJSON, hashed, compared, snapshotted and streamed to the admin API.
//! Frames appear with type, size and direction; payloads, tokens and keys never do.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use sideband_env::Timeline;
use sideband_protocol::SessionId;
use tokio::sync::broadcast;

/// Which way a frame goes, seen from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From an endpoint to the relay.
    In,
    /// From the relay to an endpoint.
    Out,
}

/// The two kinds of endpoint that a relay serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Starts sessions.
    Client,
    /// Serves them.
    Daemon,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum EventKind {
    /// A WebSocket opened at the relay.
    Opened {
        /// The relay's number for the connection.
        connection: u64,
        /// Who it is.
        role: Role,
    },
    /// A WebSocket at the relay is gone.
    Closed {
        /// The relay's number for the connection.
        connection: u64,
        /// The close code that was sent or received; none for a cut.
        code: Option<u16>,
    },
    /// An upgrade was refused before a WebSocket opened.
    UpgradeRefused {
        /// The HTTP status.
        status: u16,
        /// The stable code of the answer.
        code: String,
        /// Which check refused it (never a claim's value).
        reason: String,
    },
    /// A frame passed the relay's door.
    Frame {
        /// The relay's number for the connection.
        connection: u64,
        /// Which way.
        direction: Direction,
        /// The frame type's name.
        frame: String,
        /// Bytes of the whole frame.
        bytes: usize,
    },
    /// The relay sent a Control code.
    Control {
        /// The relay's number for the connection.
        connection: u64,
        /// The code's name.
        code: String,
    },
    /// A session's state at the relay: `paired`, `paused`, `pending`, `ended`.
    Session {
        /// The new state.
        state: String,
    },
    /// A frame was dropped by the relay, and why.
    Dropped {
        /// The relay's number for the connection that it came from.
        connection: u64,
        /// Why, in snake case.
        reason: String,
    },
    /// A connection was over its rate; told at most once a second (REL-20).
    RateLimited {
        /// The relay's number for the connection.
        connection: u64,
        /// Frames that were dropped in this turn.
        frames: u64,
    },
    /// A connection was silent for too long and is closed (REL-22).
    Swept {
        /// The relay's number for the connection.
        connection: u64,
    },
    /// The relay was restarted: it has forgotten its sessions.
    Restarted,
    /// The relay's limits changed.
    LimitsChanged,
    /// The relay asked for the key set.
    KeySet {
        /// `ok`, or why not.
        result: String,
    },
    /// The control plane answered a request.
    Request {
        /// The procedure, or the path for others.
        procedure: String,
        /// The HTTP status.
        status: u16,
    },
    /// The control plane's signing keys changed.
    KeysRotated {
        /// The key id that signs from now on.
        current: String,
        /// Whether the old keys are gone at once.
        hard: bool,
    },
    /// What an endpoint reports of itself.
    Endpoint {
        /// What it reports, in snake case.
        report: String,
        /// A detail, empty for none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A step or a fault of a scenario.
    Step {
        /// What was done.
        what: String,
    },
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the start of the time line, virtual or real.
    pub at: u64,
    /// Which host saw it: `relay`, `api`, or a scenario's name for it.
    pub host: String,
    /// The daemon that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<String>,
    /// The session that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// How many of the newest events are kept for those who ask later.
pub const RECENT_EVENTS: usize = 4_096;

/// Milliseconds since the start of the time line.
type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

struct Shared {
    now: Now,
    recent: Mutex<VecDeque<Event>>,
    stream: broadcast::Sender<Event>,
    keep: usize,
}

/// Takes events from every part of one process and gives them to whoever listens. Cheap to clone.
#[derive(Clone)]
pub struct EventSink {
    shared: Arc<Shared>,
    host: Arc<str>,
}

impl std::fmt::Debug for EventSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSink").field("host", &self.host).finish_non_exhaustive()
    }
}

impl EventSink {
    /// A sink that keeps the newest [`RECENT_EVENTS`], with times counted from `timeline`'s origin.
    pub fn new(timeline: Timeline, host: &str) -> Self {
        Self::keeping(timeline, host, RECENT_EVENTS)
    }

    /// A sink that keeps the newest `keep` events.
    pub fn keeping(timeline: Timeline, host: &str, keep: usize) -> Self {
        Self::with_time(move || timeline.elapsed().as_millis() as u64, host, keep)
    }

    /// A sink whose times, in milliseconds, come from a function; for worlds with a time line of their own.
    pub fn with_time(now: impl Fn() -> u64 + Send + Sync + 'static, host: &str, keep: usize) -> Self {
        let (stream, _) = broadcast::channel(1_024);
        let shared = Shared { now: Arc::new(now), recent: Mutex::default(), stream, keep };
        Self { shared: Arc::new(shared), host: host.into() }
    }

    /// The same sink, speaking for another host.
    pub fn for_host(&self, host: &str) -> Self {
        Self { shared: self.shared.clone(), host: host.into() }
    }

    /// Records that something happened now.
    pub fn emit(&self, daemon: Option<&str>, session: Option<SessionId>, kind: EventKind) {
        let event = Event {
            at: (self.shared.now)(),
            host: self.host.to_string(),
            daemon: daemon.map(str::to_owned),
            session,
            kind,
        };
        {
            let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.len() >= self.shared.keep {
                recent.pop_front();
            }
            recent.push_back(event.clone());
        }
        // Nobody listening is fine.
        let _ = self.shared.stream.send(event);
    }

    /// The newest events, oldest first.
    pub fn recent(&self) -> Vec<Event> {
        self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// All events from now on; a listener that is too slow misses the oldest and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.stream.subscribe()
    }
}
