//! From events to a recording.

use std::collections::{BTreeMap, BTreeSet};

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Closer, Direction, Event, EventKind, Role};

use super::{
    FieldAct, FieldCall, FieldClient, FieldCloser, FieldConnection, FieldDaemon, FieldEnd, FieldFault, FieldRecording,
    FieldRefusal, FieldStep,
};
use crate::trace::Trace;

/// A user's session that opens within so many milliseconds after the last one ended is the same client's. Retries are over by then:
/// five of them take half a minute, and a `Retry-After` counts up to 120 s (CLI-04, CLI-06).
const SAME_CLIENT: u64 = 180_000;

/// The relay's host and number.
type Key = (String, u64);

/// Milliseconds between a client's goodbye and its close.
const GOODBYE: u64 = 1_000;

/// Who a connection belongs to, by place.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Daemon(usize),
    Client(usize),
}

/// A connection that is open.
#[derive(Debug)]
struct Open {
    whose: Whose,
    /// Its place in the connections of its owner.
    place: usize,
    /// Data that came from a client, its introduction included.
    data: u64,
    /// Data that went to it, the daemon's introduction included.
    told: u64,
    /// Calls without an answer, by place.
    unanswered: Vec<usize>,
    /// Sizes of Data that nobody had asked for: events.
    events: BTreeSet<usize>,
    session: Option<SessionId>,
    role: Role,
    opened: u64,
}

#[derive(Default)]
struct Reader {
    recording: FieldRecording,
    first: u64,
    now: u64,
    open: BTreeMap<Key, Open>,
    daemons: BTreeMap<String, usize>,
    /// The user of a session, and whether it was made by a code.
    made: BTreeMap<SessionId, (Option<String>, bool)>,
    /// Who each client is: user and daemon.
    users: Vec<(Option<String>, usize)>,
    /// Requests by procedure, upgrades by role, so far.
    counts: BTreeMap<String, u64>,
    /// Connections so far: their role, when they opened, when they ended.
    lives: BTreeMap<Key, (Role, u64, Option<u64>)>,
    /// The last frame that was told: when, of which session, its type, its way.
    frame: Option<(u64, Option<SessionId>, String, Direction)>,
    /// The fault whose consequence is to come, by place.
    fresh: Option<usize>,
    /// When the relay began to close everybody with 1012.
    closing: Option<u64>,
}

impl FieldRecording {
    /// Reads a trace.
    pub fn read(trace: &Trace) -> Self {
        let mut reader = Reader::default();
        let events = trace.events();
        reader.first = events.first().map_or(0, |event| event.at);
        for event in events {
            reader.take(event);
        }
        let mut recording = reader.recording;
        recording.length = events.last().map_or(0, |event| event.at).saturating_sub(reader.first);
        recording.steps.sort_by_key(|step| step.at);
        recording
    }
}

impl Reader {
    fn take(&mut self, event: &Event) {
        let now = event.at.saturating_sub(self.first);
        if now != self.now {
            (self.now, self.fresh) = (now, None);
        }
        match &event.kind {
            EventKind::Opened { connection, role, resumable, .. } => {
                self.answered("upgrade", 101, Some(*role), None, 0, event);
                self.opened((event.host.clone(), *connection), *role, *resumable, event);
            }
            EventKind::Closed { connection, code, by, .. } => {
                self.closed(&(event.host.clone(), *connection), *code, *by);
            }
            EventKind::Frame { connection, direction, frame, bytes, .. } => {
                self.recording.frames = true;
                self.frame = Some((now, event.session, frame.clone(), *direction));
                if let Some(fault) = self.fresh_fault("relay.frame")
                    && fault.frame.is_none()
                {
                    (fault.frame, fault.direction) = (Some(frame.clone()), Some(*direction));
                }
                if frame == "data" {
                    self.data(&(event.host.clone(), *connection), *direction, *bytes);
                }
            }
            EventKind::Control { code, .. } => {
                if let Some(fault) = self.fresh.and_then(|fault| self.recording.faults.get_mut(fault))
                    && fault.action == "control"
                {
                    fault.control.get_or_insert_with(|| code.clone());
                }
            }
            EventKind::UpgradeRefused { status, role, retry_after_ms, .. } => {
                self.answered("upgrade", *status, *role, *retry_after_ms, 0, event);
            }
            EventKind::Request { procedure, status, caller, code, retry_after_ms, took_ms, token: _, http: _ } => {
                if let Some(session) = event.session {
                    self.made.insert(session, (caller.clone().or_else(|| code.clone()), code.is_some()));
                }
                self.answered(procedure, *status, None, *retry_after_ms, *took_ms, event);
            }
            EventKind::KeysRotated { hard, .. } => {
                // An operator's, unless a fault of this moment did it.
                let fault = self.fresh.and_then(|fault| self.recording.faults.get_mut(fault));
                match fault.filter(|fault| fault.action == "rotate" && fault.hard.is_none()) {
                    Some(fault) => fault.hard = Some(*hard),
                    None => self.step(now, FieldAct::Rotate { hard: *hard }),
                }
            }
            EventKind::Restarted => {
                let began = self.closing.take().unwrap_or(now);
                let restarts = |fault: &&mut FieldFault| fault.action == "restart" && fault.down.is_none();
                match self.recording.faults.iter_mut().rev().find(restarts) {
                    Some(fault) => fault.down = Some(now - fault.at),
                    None => self.step(began, FieldAct::Restart { down: now - began }),
                }
            }
            EventKind::LimitsChanged => self.step(now, FieldAct::Limits),
            EventKind::Reset => self.step(now, FieldAct::Reset),
            EventKind::Fault { rule, number, on, action } => self.fault(rule, *number, on, action, event),
            _ => {}
        }
    }

    fn step(&mut self, at: u64, what: FieldAct) {
        self.recording.steps.push(FieldStep { at, what });
    }

    /// The daemon of an event, made if it is new.
    fn daemon(&mut self, event: &Event) -> Option<usize> {
        let id = event.daemon.as_ref()?;
        let next = self.recording.daemons.len();
        let place = *self.daemons.entry(id.clone()).or_insert(next);
        if place == next {
            self.recording.daemons.push(FieldDaemon { id: id.clone(), resumable: false, connections: Vec::new() });
        }
        Some(place)
    }

    fn opened(&mut self, key: Key, role: Role, resumable: Option<bool>, event: &Event) {
        let Some(daemon) = self.daemon(event) else { return };
        let connection = FieldConnection { number: key.1, opened: self.now, ended: None };
        let (whose, connections) = match role {
            Role::Daemon => {
                let of = &mut self.recording.daemons[daemon];
                of.resumable = resumable.unwrap_or(of.resumable);
                (Whose::Daemon(daemon), &mut of.connections)
            }
            Role::Client => {
                let client = self.client(daemon, event.session);
                (Whose::Client(client), &mut self.recording.clients[client].connections)
            }
        };
        connections.push(connection);
        let place = connections.len() - 1;
        self.lives.insert(key.clone(), (role, self.now, None));
        let session = event.session.filter(|_| role == Role::Client);
        let opened = self.now;
        self.open.insert(
            key,
            Open {
                whose,
                place,
                data: 0,
                told: 0,
                unanswered: Vec::new(),
                events: BTreeSet::new(),
                session,
                role,
                opened,
            },
        );
    }

    /// The client whose next session this is, or a new one.
    fn client(&mut self, daemon: usize, session: Option<SessionId>) -> usize {
        let (user, quick_connect) = session.and_then(|session| self.made.remove(&session)).unwrap_or_default();
        let now = self.now;
        let goes_on = |client: &FieldClient| {
            let ended = client.connections.last().and_then(|last| last.ended.as_ref());
            // Whoever closed by itself with 1000 meant it.
            ended.is_some_and(|end| {
                now.saturating_sub(end.at) <= SAME_CLIENT && !(end.by == FieldCloser::Peer && end.code == Some(1_000))
            })
        };
        let known = user.is_some() && !quick_connect;
        let same = |(_, (of, to)): &(usize, &(Option<String>, usize))| known && *of == user && *to == daemon;
        let found = self.users.iter().enumerate().filter(same).map(|(place, _)| place);
        let earliest = found.filter(|place| goes_on(&self.recording.clients[*place])).min_by_key(|place| {
            let last = self.recording.clients[*place].connections.last();
            last.and_then(|last| last.ended.as_ref()).map_or(0, |end| end.at)
        });
        earliest.unwrap_or_else(|| {
            self.users.push((user, daemon));
            let (connections, calls) = (Vec::new(), Vec::new());
            self.recording.clients.push(FieldClient { daemon, quick_connect, connections, calls });
            self.recording.clients.len() - 1
        })
    }

    fn closed(&mut self, key: &Key, code: Option<u16>, by: Option<Closer>) {
        let Some(open) = self.open.remove(key) else { return };
        let by = match (by, code) {
            (Some(Closer::Peer), _) => FieldCloser::Peer,
            (Some(Closer::Relay), _) => FieldCloser::Relay,
            (None, _) => FieldCloser::Cut,
        };
        if code == Some(1_012) && by == FieldCloser::Relay {
            self.closing.get_or_insert(self.now);
        }
        let ended = Some(FieldEnd { at: self.now, by, code });
        if let Some(life) = self.lives.get_mut(key) {
            life.2 = Some(self.now);
        }
        let by_fault = ["cut", "close", "control", "ghost"].iter().any(|action| self.by_fault(action));
        if let (Some(fault), Some(code), true) = (self.fresh, code, self.by_fault("close")) {
            self.recording.faults[fault].code.get_or_insert(code);
        }
        let cut = by == FieldCloser::Cut && !by_fault;
        match open.whose {
            Whose::Daemon(daemon) => {
                self.recording.daemons[daemon].connections[open.place].ended = ended;
                if cut {
                    self.step(self.now, FieldAct::DropDaemon { daemon });
                }
            }
            Whose::Client(client) => {
                let of = &mut self.recording.clients[client];
                of.connections[open.place].ended = ended;
                // The last Data before it closes, which nobody answers, is its goodbye (SBP-07).
                let last = of.calls.last().filter(|last| self.now.saturating_sub(last.at) <= GOODBYE);
                if by == FieldCloser::Peer && last.is_some() && open.unanswered.contains(&(of.calls.len() - 1)) {
                    of.calls.pop();
                }
                if cut {
                    self.step(self.now, FieldAct::DropClient { client });
                }
            }
        }
    }

    fn data(&mut self, key: &Key, direction: Direction, bytes: usize) {
        let Some(open) = self.open.get_mut(key) else { return };
        let Whose::Client(client) = open.whose else { return };
        let calls = &mut self.recording.clients[client].calls;
        match direction {
            Direction::In => {
                open.data += 1;
                // The first is its introduction.
                if open.data > 1 {
                    open.unanswered.push(calls.len());
                    calls.push(FieldCall { at: self.now, bytes, answered_after: None });
                }
            }
            Direction::Out => {
                open.told += 1;
                if open.told == 1 || open.events.contains(&bytes) {
                    // The daemon's introduction, or one more of its events.
                } else if open.unanswered.is_empty() {
                    open.events.insert(bytes);
                } else {
                    let call = &mut calls[open.unanswered.remove(0)];
                    call.answered_after = Some(self.now.saturating_sub(call.at));
                }
            }
        }
    }

    /// Whether a fault with this action has just fired.
    fn by_fault(&self, action: &str) -> bool {
        self.fresh.is_some_and(|fault| self.recording.faults[fault].action == action)
    }

    /// The fault of this moment, if it is at this place.
    fn fresh_fault(&mut self, on: &str) -> Option<&mut FieldFault> {
        self.fresh.and_then(|fault| self.recording.faults.get_mut(fault)).filter(|fault| fault.on == on)
    }

    fn fault(&mut self, rule: &str, number: u64, on: &str, action: &str, event: &Event) {
        let daemon = event.daemon.as_ref().and_then(|id| self.daemons.get(id)).copied();
        let mut fault = FieldFault {
            at: self.now,
            rule: rule.to_owned(),
            number,
            on: on.to_owned(),
            action: action.to_owned(),
            count: None,
            age: None,
            role: None,
            frame: None,
            direction: None,
            daemon,
            procedure: None,
            status: None,
            took: None,
            retry_after: None,
            code: None,
            control: None,
            hard: None,
            down: None,
        };
        match on {
            "relay.connection" => {
                // A client's by its session, or else the newest of its daemon.
                let of = |open: &&Open| match event.session {
                    Some(session) => open.session == Some(session),
                    None => matches!(open.whose, Whose::Daemon(of) if Some(of) == daemon),
                };
                if let Some(open) = self.open.values().filter(of).max_by_key(|open| open.opened) {
                    let age = self.now - open.opened;
                    let as_old = |(role, opened, ended): &&(Role, u64, Option<u64>)| {
                        *role == open.role && *opened < open.opened && ended.is_none_or(|ended| ended - opened > age)
                    };
                    fault.age = Some(age);
                    fault.role = Some(open.role);
                    fault.count = Some(self.lives.values().filter(as_old).count() as u64);
                }
            }
            // Some frames are told before their faults, others after.
            "relay.frame" => {
                if let Some((at, session, frame, direction)) = &self.frame
                    && *at == self.now
                    && *session == event.session
                {
                    (fault.frame, fault.direction) = (Some(frame.clone()), Some(*direction));
                }
            }
            _ => {}
        }
        self.fresh = Some(self.recording.faults.len());
        self.recording.faults.push(fault);
    }

    /// What was answered, and whether a fault did it that has no answer yet.
    fn answered(&mut self, what: &str, status: u16, role: Option<Role>, after: Option<u64>, took: u64, event: &Event) {
        let sort = match role {
            Some(role) => format!("{what} {role:?}"),
            None => what.to_owned(),
        };
        let count = self.counts.entry(sort).or_default();
        let before = *count;
        *count += 1;
        let place = if what == "upgrade" { "relay.upgrade" } else { "api.request" };
        // An answer that a fault held back comes later than the fault.
        let began = self.now.saturating_sub(took).saturating_sub(1);
        let daemon = event.daemon.as_ref().and_then(|id| self.daemons.get(id)).copied();
        let of = |fault: &&mut FieldFault| {
            fault.on == place
                && fault.status.is_none()
                && fault.at >= began
                && (fault.daemon.is_none() || daemon.is_none() || fault.daemon == daemon)
        };
        let by = self.recording.faults.iter_mut().find(of);
        let by_fault = by.is_some();
        if let Some(fault) = by {
            (fault.status, fault.retry_after, fault.count) = (Some(status), after, Some(before));
            fault.took = (took > 0).then_some(took);
            fault.role = role.or(fault.role);
            fault.procedure = (what != "upgrade").then(|| what.to_owned());
        }
        if status >= 400 {
            self.recording.refusals.push(FieldRefusal { at: self.now, what: what.to_owned(), status, by_fault });
        }
    }
}
