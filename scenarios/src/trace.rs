//! What happened in a run: as NDJSON, as a story for people, as an order without times and ids, as a hash.

use std::{collections::BTreeMap, fmt::Write};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Direction, Event, EventKind, Role};

/// The events of one run, in the order in which they happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    events: Vec<Event>,
}

impl Trace {
    /// A trace of these events.
    pub fn new(events: Vec<Event>) -> Self {
        Self { events }
    }

    /// The events.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// One JSON object a line: the same bytes for the same seed on every machine.
    pub fn to_ndjson(&self) -> String {
        let mut out = String::new();
        for event in &self.events {
            // Texts, numbers and enums of them always serialise.
            out.push_str(&serde_json::to_string(event).unwrap_or_default());
            out.push('\n');
        }
        out
    }

    /// SHA-256 of the NDJSON, in hex.
    pub fn hash(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.to_ndjson()))
    }

    /// What happened where, in order, with everything taken out that differs between seeds by itself: times, session ids, key
    /// ids, measured delays. Two runs with different orders did different things.
    pub fn order(&self) -> Vec<String> {
        let mut sessions = Sessions::default();
        self.events.iter().map(|event| format!("{} {}", event.host, describe(event, &mut sessions))).collect()
    }

    /// A line an event, for people: milliseconds, host, what.
    pub fn story(&self) -> String {
        let mut out = String::new();
        let mut sessions = Sessions::default();
        for event in &self.events {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{:>7} {:<8} {}", event.at, event.host, describe(event, &mut sessions));
        }
        out
    }
}

/// Sessions by the order in which they appear: `s1`, `s2`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions(BTreeMap<SessionId, usize>);

impl Sessions {
    pub(crate) fn name(&mut self, session: SessionId) -> String {
        let next = self.0.len() + 1;
        format!("s{}", self.0.entry(session).or_insert(next))
    }
}

/// What happened, in a few words, with the session's short name in front.
pub(crate) fn describe(event: &Event, sessions: &mut Sessions) -> String {
    let what = match &event.kind {
        EventKind::Opened { connection, role, .. } => {
            let role = match role {
                Role::Client => "client",
                Role::Daemon => "daemon",
            };
            format!("#{connection} opened ({role})")
        }
        EventKind::Closed { connection, code, .. } => match code {
            Some(code) => format!("#{connection} closed {code}"),
            None => format!("#{connection} cut"),
        },
        EventKind::UpgradeRefused { status, code, reason, .. } => format!("refused {status} {code} ({reason})"),
        EventKind::Frame { connection, direction, frame, bytes, detail } => {
            let arrow = match direction {
                Direction::In => "<-",
                Direction::Out => "->",
            };
            let signal = detail.signal.as_ref().map(|signal| format!(" {signal}")).unwrap_or_default();
            format!("#{connection} {arrow} {frame}{signal} {bytes}")
        }
        EventKind::MessageRefused { connection, code } => format!("#{connection} <- a message refused with {code}"),
        EventKind::Grade { rule, party, connection, evidence, .. } => {
            let who = connection.map_or_else(String::new, |connection| format!("#{connection} "));
            format!("{who}{party:?} breaks {rule}: {evidence}")
        }
        EventKind::Control { connection, code } => format!("#{connection} control {code}"),
        EventKind::Session { state } => state.clone(),
        EventKind::Dropped { connection, reason } => format!("#{connection} dropped: {reason}"),
        EventKind::Held { connection, held: true } => format!("#{connection} held back"),
        EventKind::Held { connection, held: false } => format!("#{connection} held back no more"),
        EventKind::KeySet { result } => format!("key set: {result}"),
        EventKind::Request { procedure, status, .. } => format!("{procedure} {status}"),
        EventKind::KeysRotated { hard, .. } => format!("keys rotated (hard: {hard})"),
        EventKind::Endpoint { report, detail } if detail.is_empty() => report.clone(),
        EventKind::Endpoint { report, detail } => format!("{report}: {detail}"),
        EventKind::Swept { connection } => format!("#{connection} swept"),
        EventKind::RateLimited { connection, frames } => format!("#{connection} over its rate by {frames} frames"),
        EventKind::Restarted => "restarted".to_owned(),
        EventKind::LimitsChanged => "limits changed".to_owned(),
        EventKind::Retrying { retry, cause, .. } => format!("retrying {retry}: {cause}"),
        EventKind::Call { name, method, .. } if name == method => format!("calls {name}"),
        EventKind::Call { name, method, .. } => format!("calls {name} ({method})"),
        EventKind::CallEnded { name, outcome, own, .. } => match own {
            Some(false) => format!("{name} ends: {outcome}, the answer of another call"),
            Some(true) | None => format!("{name} ends: {outcome}"),
        },
        EventKind::Served { method, .. } => format!("serves {method}"),
        EventKind::Emitted { event, number } => format!("emits {event} {number}"),
        EventKind::Delivered { event, number } => match number {
            Some(number) => format!("hears {event} {number}"),
            None => format!("hears {event}"),
        },
        EventKind::Fault { rule, number, on, action } => format!("!! {rule}#{number} {action} at {on}"),
        EventKind::Step { what } => format!("== {what}"),
        other => format!("{other:?}"),
    };
    match event.session {
        Some(session) => format!("{} {what}", sessions.name(session)),
        None => what,
    }
}
