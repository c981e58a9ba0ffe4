//! Everything that happens has one event type: a time, a host, perhaps a session, and a kind.
//!
//! The same events are written as NDJSON, hashed, compared, snapshotted and streamed to the admin API.
//! Frames appear with type, size and direction; payloads, tokens and keys never do.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    /// A rule of the fault plan fired.
    Fault {
        /// The rule's name.
        rule: String,
        /// How many times it has fired, this one included.
        number: u64,
        /// The place, such as `api.request`.
        on: String,
        /// The action's name, such as `status`.
        action: String,
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

/// Whoever has to hear every event, in its order.
type Tap = Box<dyn FnMut(&Event) + Send>;

/// What happened so far.
#[derive(Default)]
struct Past {
    recent: VecDeque<Event>,
    /// How many there were, those that are forgotten included.
    count: u64,
    taps: Vec<Tap>,
}

struct Shared {
    now: Now,
    past: Mutex<Past>,
    stream: broadcast::Sender<Event>,
    keep: usize,
}

/// Events from a number on: those that are kept, and those to come. Numbers count from 1 and have no gaps.
#[derive(Debug)]
pub struct Following {
    /// The number of the first of `kept`, or else of the first to come.
    pub first: u64,
    /// Those that are kept, oldest first.
    pub kept: Vec<Event>,
    /// Those to come.
    pub next: broadcast::Receiver<Event>,
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
        let shared = Shared { now: Arc::new(now), past: Mutex::default(), stream, keep };
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
        let mut past = self.past();
        past.count += 1;
        for tap in &mut past.taps {
            tap(&event);
        }
        if past.recent.len() >= self.shared.keep {
            past.recent.pop_front();
        }
        if self.shared.keep > 0 {
            past.recent.push_back(event.clone());
        }
        // Under the lock, so that whoever follows misses none and hears none twice. Nobody listening is fine.
        let _ = self.shared.stream.send(event);
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.shared.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a function with every event from now on, in their order, before anybody else hears of it. Whatever happens waits
    /// for it, so it must be short.
    pub fn tap(&self, tap: impl FnMut(&Event) + Send + 'static) {
        self.past().taps.push(Box::new(tap));
    }

    /// The newest `newest` of the events that are kept, and those to come.
    pub fn follow(&self, newest: usize) -> Following {
        self.follow_from(|count| count.saturating_sub(newest as u64))
    }

    /// The events behind the one with this number, as far as they are kept, and those to come.
    pub fn follow_after(&self, number: u64) -> Following {
        self.follow_from(|count| number.min(count))
    }

    fn follow_from(&self, heard: impl FnOnce(u64) -> u64) -> Following {
        let past = self.past();
        let forgotten = past.count - past.recent.len() as u64;
        let heard = heard(past.count).max(forgotten);
        let kept = past.recent.iter().skip((heard - forgotten) as usize).cloned().collect();
        Following { first: heard + 1, kept, next: self.shared.stream.subscribe() }
    }

    /// The newest events, oldest first.
    pub fn recent(&self) -> Vec<Event> {
        self.past().recent.iter().cloned().collect()
    }

    /// All events from now on; a listener that is too slow misses the oldest and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.stream.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(keep: usize) -> EventSink {
        EventSink::with_time(|| 0, "test", keep)
    }

    fn step(sink: &EventSink, n: u64) {
        sink.emit(None, None, EventKind::Step { what: n.to_string() });
    }

    fn number(event: &Event) -> u64 {
        let EventKind::Step { what } = &event.kind else { panic!("{event:?}") };
        what.parse().unwrap()
    }

    #[test]
    fn who_follows_hears_each_event_once_and_in_its_order() {
        let sink = sink(3);
        (1..=5).for_each(|n| step(&sink, n));
        for (mut following, first) in [
            (sink.follow(0), 6),
            (sink.follow(2), 4),
            (sink.follow(100), 3),
            (sink.follow_after(4), 5),
            (sink.follow_after(5), 6),
            (sink.follow_after(1), 3),
            (sink.follow_after(100), 6),
        ] {
            step(&sink, 6);
            let mut heard: Vec<u64> = following.kept.iter().map(number).collect();
            heard.push(number(&following.next.try_recv().unwrap()));
            assert_eq!(following.first, first);
            assert_eq!(heard, (first..=6).collect::<Vec<_>>());
            // As it was.
            let mut past = sink.past();
            past.count = 5;
            past.recent = (3..=5)
                .map(|n: u64| Event {
                    at: 0,
                    host: "test".to_owned(),
                    daemon: None,
                    session: None,
                    kind: EventKind::Step { what: n.to_string() },
                })
                .collect();
        }
    }

    #[test]
    fn a_tap_hears_every_event_however_many_there_are() {
        let sink = sink(0);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let tapped = heard.clone();
        sink.tap(move |event| tapped.lock().unwrap().push(number(event)));
        (1..=5_000).for_each(|n| step(&sink, n));
        assert_eq!(*heard.lock().unwrap(), (1..=5_000).collect::<Vec<_>>());
        assert_eq!(sink.recent(), []);
    }
}
