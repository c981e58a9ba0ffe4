//! The observer: it sees what endpoints do at relay and API, and marks each breach of a rule that can be proved from there.
//!
//! It is pure: no clock, no randomness, no I/O. It knows nothing of a relay's decisions and judges endpoints only; what it cannot prove
//! it does not mark, so that an endpoint that keeps the rules never gets a mark, whatever its line does. [`Rule`] has what is judged,
//! [`UNJUDGED`] what is not and why.
//!
//! # How it is driven
//!
//! | who | drives | with |
//! |---|---|---|
//! | a trace, a scenario, conformance | [`Observer`] | every [`Event`] in order; [`Observer::tick`] when time passes |
//! | a relay, for each daemon | [`WireObserver`] | calls with borrowed frames, so that nothing is allocated for one that is in order |
//! | an [`EventSink`](crate::event::EventSink), for its process | [`AccessObserver`] | its own events |
//!
//! After each call `poll_mark` is drained. Each breach is a mark, with how many times the same endpoint broke the rule; of those only the first,
//! second, fourth, eighth and so on are told to people and in events ([`Mark::is_told`]), while the books ([`GradeLog`]) count all.
//!
//! # Bounds
//!
//! What has ended is forgotten: a connection when it has closed, an ended session when [`MOST_ENDED`] of its daemon ended after it, tokens,
//! ids, codes and who waits when they are too old to come again or [`MOST_REMEMBERED`] others came later.

mod access;
mod connection;
mod frame;
mod grades;
mod recent;
mod rules;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sideband_protocol::{SessionId, relay::SessionState, wire::ControlCode};

pub use self::{
    access::{AccessObserver, MOST_REDEEMING, MOST_REMEMBERED, MOST_SHARING},
    frame::{Echo, FrameSeen, Inside, WrongHeader},
    grades::{Grade, GradeCount, GradeLog, Grades, KEPT_GRADES},
    rules::{Alone, Judged, Rule, UNJUDGED},
    wire::{MOST_ENDED, MOST_FOLLOWED, PATIENCE_MS, WireObserver},
};
use crate::event::{Direction, Event, EventKind, Role};

/// Something that an endpoint did and may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Milliseconds on the time line of the events.
    pub at: u64,
    /// The rule.
    pub rule: Rule,
    /// Who broke it.
    pub party: Role,
    /// The relay's number for its connection, if it has one.
    pub connection: Option<u64>,
    /// The session.
    pub session: Option<SessionId>,
    /// What shows it. Holds no token, no key and no payload.
    pub evidence: String,
    /// How many times it broke this rule so far.
    pub times: u32,
}

impl Mark {
    /// Whether people and events are told of it: the first time, the second, the fourth, the eighth, and so on.
    pub const fn is_told(&self) -> bool {
        self.times.is_power_of_two()
    }
}

/// A mark and the daemon that it is about: its own, or that of the client's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkFor {
    /// The daemon, if it is known.
    pub daemon: Option<String>,
    /// The mark.
    pub mark: Mark,
}

/// Judges a whole stream of events: the wire of each daemon, and access.
#[derive(Debug, Default)]
pub struct Observer {
    access: AccessObserver,
    wires: BTreeMap<String, WireObserver>,
}

impl Observer {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something happened; what it shows is returned. Frames are judged if the stream has them.
    pub fn observe(&mut self, event: &Event) -> Vec<MarkFor> {
        self.access.observe(event);
        let mut marks: Vec<MarkFor> = std::iter::from_fn(|| self.access.poll_mark()).collect();
        if let Some(daemon) = &event.daemon {
            let wire = self.wires.entry(daemon.clone()).or_default();
            see(wire, event);
            while let Some(mark) = wire.poll_mark() {
                marks.push(MarkFor { daemon: Some(daemon.clone()), mark });
            }
            if wire.is_idle() {
                self.wires.remove(daemon);
            }
        }
        marks
    }

    /// Time has passed: forgets what is too old to matter.
    pub fn tick(&mut self, at: u64) {
        self.access.tick(at);
    }
}

/// What an event is to a daemon's wire.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other events are of no interest here, new ones too")]
fn see(wire: &mut WireObserver, event: &Event) {
    let at = event.at;
    match &event.kind {
        EventKind::Opened { connection, role, resumable, .. } => {
            wire.opened(at, *connection, *role, event.session, *resumable == Some(true));
        }
        EventKind::Closed { connection, code, by, answered } => wire.closed(at, *connection, *code, *by, *answered),
        EventKind::MessageRefused { connection, code } => wire.refused(at, *connection, *code),
        EventKind::RateLimited { connection, .. } => wire.unseen(at, *connection),
        EventKind::Held { connection, held } => wire.hold(at, *connection, *held),
        EventKind::Control { connection, code } => {
            let code = ControlCode::ALL.iter().copied().find(|known| known.name() == code);
            wire.control(at, *connection, event.session, code);
        }
        EventKind::Session { state } => {
            let states = [SessionState::Gone, SessionState::Paired, SessionState::Paused, SessionState::Pending];
            let state = states.into_iter().find(|known| known.name() == state);
            if let (Some(session), Some(state)) = (event.session, state) {
                wire.session(session, state);
            }
        }
        EventKind::Frame { connection, direction, frame, bytes, detail } => {
            let seen = FrameSeen::from_event(frame, event.session, *bytes, detail);
            match direction {
                Direction::In => wire.received(at, *connection, &seen),
                Direction::Out => wire.sent(at, *connection, &seen),
            }
        }
        _ => {}
    }
}
