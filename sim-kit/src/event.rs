//! Everything that happens has one event type: a time, a host, perhaps a session, and a kind.
//!
//! The same events are written as NDJSON, hashed, compared, snapshotted and streamed to the admin API.
//! Frames appear with type, size and direction; payloads, tokens and keys never do.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, header::RETRY_AFTER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sideband_env::Timeline;
use sideband_protocol::{SessionId, api::retry_after};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::{
    observer::{AccessObserver, Grade, GradeLog, Grades, Mark, MarkFor},
    server::HttpConnection,
};

/// Which way a frame goes, seen from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From an endpoint to the relay.
    In,
    /// From the relay to an endpoint.
    Out,
}

/// The two kinds of endpoint that a relay serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Starts sessions.
    Client,
    /// Serves them.
    Daemon,
}

/// Who closed a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Closer {
    /// The endpoint, with a close frame of its own.
    Peer,
    /// The relay.
    Relay,
}

/// What is told of a frame besides its type and size: what is wrong with its header, what is meant for the relay itself, and a Data's
/// number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrameDetail {
    /// What is wrong with the header, in snake case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
    /// What a Signal says: `ready`, `close`, or another byte as `0x07`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Why, in snake case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The bytes of a Ping or Pong, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<String>,
    /// A Control's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Whom a Data is for by its nonce: 1 the daemon, 2 the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction_of_nonce: Option<u32>,
    /// A Data's number by its nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum EventKind {
    /// A WebSocket opened at the relay.
    Opened {
        /// The relay's number for the connection.
        connection: u64,
        /// Who it is.
        role: Role,
        /// What its token's `jti` becomes: the same for the same token, and nothing of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// Whether a daemon's token can resume.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumable: Option<bool>,
    },
    /// A WebSocket at the relay is gone.
    Closed {
        /// The relay's number for the connection.
        connection: u64,
        /// The close code that was sent or received; none for a cut.
        code: Option<u16>,
        /// Who closed it; none for a cut.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Closer>,
        /// Whether the peer answered the relay's close, and said nothing else before that answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        answered: bool,
    },
    /// A message came that no relay takes: text, or more than 1 MiB.
    MessageRefused {
        /// The relay's number for the connection.
        connection: u64,
        /// The close code that answers it.
        code: u16,
    },
    /// An upgrade was refused before a WebSocket opened.
    UpgradeRefused {
        /// The HTTP status.
        status: u16,
        /// The stable code of the answer.
        code: String,
        /// Which check refused it (never a claim's value).
        reason: String,
        /// Who it is, once its token is good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        /// As in `opened`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// Milliseconds that the answer asks to wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
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
        /// What else is told of it.
        #[serde(flatten)]
        detail: FrameDetail,
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
    /// A connection was over its rate (REL-20); told at most once a second, or each time if frames are told, before those of
    /// the same turn.
    RateLimited {
        /// The relay's number for the connection.
        connection: u64,
        /// Frames that were dropped in this turn.
        frames: u64,
    },
    /// The relay does not read a connection, or what it sends there waits by a fault; or that is over. Told if frames are told.
    Held {
        /// The relay's number for the connection.
        connection: u64,
        /// Whether it begins.
        held: bool,
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
    /// Everything is as after the start: what was counted, marked and kept before is forgotten.
    Reset,
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
        /// What its credential becomes: the same for the same one as long as the process lives, and nothing of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<String>,
        /// What the code that it redeems becomes, likewise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// The presence token that it got, as `opened` calls it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// The number of the HTTP connection that it came on, where that is one program's. None for a web page's, whose browser
        /// shares its connections among pages, and for what a proxy passed on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        http: Option<u64>,
        /// Milliseconds that the answer asks to wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// Milliseconds from the request to its answer.
        #[serde(default, skip_serializing_if = "is_zero")]
        took_ms: u64,
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
    /// An endpoint broke a rule; told the first time, the second, the fourth, the eighth, and so on. The books count each time.
    Grade {
        /// The rule's id in `docs/spec`.
        rule: String,
        /// Who broke it.
        party: Role,
        /// The relay's number for its connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<u64>,
        /// What shows it, for people.
        evidence: String,
        /// How many times it broke this rule so far.
        times: u32,
    },
    /// What an endpoint reports of itself.
    Endpoint {
        /// What it reports, in snake case.
        report: String,
        /// A detail, empty for none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// An endpoint failed to connect, or lost its connection, and tries again.
    Retrying {
        /// Which retry in a row, from 0.
        retry: u32,
        /// Milliseconds until then.
        delay_ms: u64,
        /// Milliseconds that the other side asked to wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// Why.
        cause: String,
    },
    /// An endpoint calls a method.
    Call {
        /// The call's number in its run.
        call: u64,
        /// What the scenario calls it.
        name: String,
        /// The method.
        method: String,
    },
    /// A call is over.
    CallEnded {
        /// Its number.
        call: u64,
        /// What the scenario calls it.
        name: String,
        /// `result`, or the error's code, such as `rpc_timeout` or `rpc_error:2000`.
        outcome: String,
        /// Whether the answer is the one to its own request, where that can be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        own: Option<bool>,
    },
    /// A call has arrived at who answers it.
    Served {
        /// Its number.
        call: u64,
        /// The method.
        method: String,
    },
    /// An endpoint sends an event.
    Emitted {
        /// The event's name.
        event: String,
        /// Its number among those of this name from this host, from 1.
        number: u64,
    },
    /// An event has arrived.
    Delivered {
        /// The event's name.
        event: String,
        /// Its number at who sent it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
    },
    /// A step or a fault of a scenario.
    Step {
        /// What was done.
        what: String,
    },
}

impl EventKind {
    /// The kind's name, as `kind` of the event has it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Closed { .. } => "closed",
            Self::MessageRefused { .. } => "message_refused",
            Self::UpgradeRefused { .. } => "upgrade_refused",
            Self::Frame { .. } => "frame",
            Self::Control { .. } => "control",
            Self::Session { .. } => "session",
            Self::Dropped { .. } => "dropped",
            Self::RateLimited { .. } => "rate_limited",
            Self::Held { .. } => "held",
            Self::Swept { .. } => "swept",
            Self::Restarted => "restarted",
            Self::LimitsChanged => "limits_changed",
            Self::Reset => "reset",
            Self::KeySet { .. } => "key_set",
            Self::Request { .. } => "request",
            Self::KeysRotated { .. } => "keys_rotated",
            Self::Fault { .. } => "fault",
            Self::Grade { .. } => "grade",
            Self::Endpoint { .. } => "endpoint",
            Self::Retrying { .. } => "retrying",
            Self::Call { .. } => "call",
            Self::CallEnded { .. } => "call_ended",
            Self::Served { .. } => "served",
            Self::Emitted { .. } => "emitted",
            Self::Delivered { .. } => "delivered",
            Self::Step { .. } => "step",
        }
    }

    /// Every kind's name.
    pub const NAMES: [&'static str; 27] = [
        "opened",
        "closed",
        "message_refused",
        "upgrade_refused",
        "frame",
        "control",
        "session",
        "dropped",
        "rate_limited",
        "held",
        "swept",
        "restarted",
        "limits_changed",
        "reset",
        "key_set",
        "request",
        "keys_rotated",
        "fault",
        "grade",
        "endpoint",
        "retrying",
        "call",
        "call_ended",
        "served",
        "emitted",
        "delivered",
        "step",
    ];
}

/// How long an answer asks to wait, in milliseconds, by its `Retry-After`; of a date, which has whole seconds only, what is certain.
/// `now` is in seconds since 1970.
pub fn retry_after_ms(headers: &HeaderMap, now: u64) -> Option<u64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let wait = retry_after(value, now)?.as_millis() as u64;
    let in_seconds = value.trim().bytes().all(|byte| byte.is_ascii_digit());
    Some(if in_seconds { wait } else { wait.saturating_sub(1_000) })
}

/// What events call a token by: it follows from the token's id, and the id does not follow from it.
pub fn token_name(jti: &str) -> String {
    Sha256::digest(jti).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// How many of the newest events are kept for those who ask later.
pub const RECENT_EVENTS: usize = 4_096;

/// Milliseconds since the start of the time line.
type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Who judges what is emitted, and the books over it.
#[derive(Default)]
struct Grading {
    access: AccessObserver,
    log: GradeLog,
}

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
    grading: Mutex<Grading>,
    past: Mutex<Past>,
    stream: broadcast::Sender<Event>,
    keep: usize,
    /// How many HTTP connections have a number.
    numbered: AtomicU64,
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
        let (grading, past) = (Mutex::default(), Mutex::default());
        let shared = Shared { now: Arc::new(now), grading, past, stream, keep, numbered: AtomicU64::new(0) };
        Self { shared: Arc::new(shared), host: host.into() }
    }

    /// The same sink, speaking for another host.
    pub fn for_host(&self, host: &str) -> Self {
        Self { shared: self.shared.clone(), host: host.into() }
    }

    /// Milliseconds since the start of the time line.
    pub fn now(&self) -> u64 {
        (self.shared.now)()
    }

    /// The number that events call this HTTP connection by. No other has it, whichever server took it.
    pub fn number_of(&self, connection: &HttpConnection) -> u64 {
        *connection.0.get_or_init(|| self.shared.numbered.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Records that something happened now, and what it shows of the endpoint that did it.
    pub fn emit(&self, daemon: Option<&str>, session: Option<SessionId>, kind: EventKind) {
        let event = self.event(self.now(), daemon, session, kind);
        let marks: Vec<MarkFor> = {
            let mut grading = self.grading();
            grading.access.observe(&event);
            std::iter::from_fn(|| grading.access.poll_mark()).collect()
        };
        self.record(event);
        for mark in marks {
            self.write_down(mark);
        }
    }

    /// Counts that an endpoint broke a rule, as somebody else than this sink found, and records it if it is told.
    pub fn grade(&self, daemon: Option<&str>, mark: Mark) {
        self.write_down(MarkFor { daemon: daemon.map(str::to_owned), mark });
    }

    fn write_down(&self, mark: MarkFor) {
        let grade = self.grading().log.add(&self.host, mark);
        let Some(grade) = grade else { return };
        let Grade { at, host: _, rule, party, connection, daemon, session, evidence, times } = grade;
        tracing::warn!(rule, party = ?party, connection, daemon, session = ?session, times, evidence, "an endpoint broke a rule");
        let kind = EventKind::Grade { rule, party, connection, evidence, times };
        self.record(self.event(at, daemon.as_deref(), session, kind));
    }

    /// The grades since the start or the last [`clear_grades`](Self::clear_grades).
    pub fn grades(&self) -> Grades {
        self.grading().log.grades()
    }

    /// Begins the books over grades anew. What endpoints did before is still known: a token that comes again afterwards comes again.
    pub fn clear_grades(&self) {
        self.grading().log.clear();
    }

    /// Says that everything is as after the start, and forgets what happened: grades, what they follow from, and the events that
    /// were kept. Numbers of events go on, and so do those who follow.
    pub fn reset(&self) {
        *self.grading() = Grading::default();
        self.emit(None, None, EventKind::Reset);
        self.past().recent.clear();
    }

    fn grading(&self) -> MutexGuard<'_, Grading> {
        self.shared.grading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, at: u64, daemon: Option<&str>, session: Option<SessionId>, kind: EventKind) -> Event {
        Event { at, host: self.host.to_string(), daemon: daemon.map(str::to_owned), session, kind }
    }

    fn record(&self, event: Event) {
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
