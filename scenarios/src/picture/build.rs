//! From events to rows and bars.

mod bars;
mod columns;

use std::collections::BTreeMap;

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Closer, Direction, Event, EventKind};

use super::{
    fold::Drawn,
    model::{Arrow, Bar, Column, ColumnKind, Line, Row, Shape, Style, Tone},
    who::{Key, Who},
    words,
};

/// What [`Builder`] gives.
pub(super) struct Built {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Drawn>,
    pub(super) bars: Vec<Bar>,
    pub(super) lines: Vec<Line>,
}

/// How long a call takes at most, in milliseconds, to be one note.
const SHORT_CALL: u64 = 1_000;

/// A frame that came and has not been seen to go on.
type Passing = (String, SessionId, String, usize);

/// Takes events one after the other.
pub(super) struct Builder<'t> {
    who: &'t Who,
    names: &'t BTreeMap<SessionId, String>,
    columns: Vec<Column>,
    of_host: BTreeMap<String, usize>,
    of_connection: BTreeMap<Key, usize>,
    of_daemon: BTreeMap<String, usize>,
    /// No client speaks for itself: what the relay sees is all there is.
    frames: bool,
    rows: Vec<Drawn>,
    bars: BTreeMap<usize, Bar>,
    ended: Vec<Bar>,
    lines: Vec<Line>,
    passing: BTreeMap<Passing, Vec<usize>>,
    /// When the frames in `passing` came.
    now: u64,
    /// The last row that each column's host reported.
    reported: BTreeMap<usize, usize>,
    /// The rows of calls that have not ended.
    calls: BTreeMap<u64, usize>,
    /// Sockets that each daemon without a voice has.
    sockets: BTreeMap<usize, usize>,
}

impl<'t> Builder<'t> {
    pub(super) fn new(who: &'t Who, names: &'t BTreeMap<SessionId, String>, events: &[Event]) -> Self {
        let mut builder = Self {
            who,
            names,
            columns: Vec::new(),
            of_host: BTreeMap::new(),
            of_connection: BTreeMap::new(),
            of_daemon: BTreeMap::new(),
            frames: events.iter().any(|event| matches!(event.kind, EventKind::Frame { .. })),
            rows: Vec::new(),
            bars: BTreeMap::new(),
            ended: Vec::new(),
            lines: Vec::new(),
            passing: BTreeMap::new(),
            now: 0,
            reported: BTreeMap::new(),
            calls: BTreeMap::new(),
            sockets: BTreeMap::new(),
        };
        builder.lay_columns();
        builder
    }

    pub(super) fn finish(self) -> Built {
        let mut bars = self.ended;
        bars.extend(self.bars.into_values());
        bars.sort_by_key(|bar| (bar.column, bar.from));
        Built { columns: self.columns, rows: self.rows, bars, lines: self.lines }
    }

    /// Follows an event; draws it if it is within the picture.
    pub(super) fn take(&mut self, event: &Event, drawn: bool) {
        if event.at != self.now {
            self.now = event.at;
            self.passing.clear();
        }
        if drawn {
            let host =
                self.concerns(event).map_or_else(|| event.host.clone(), |column| self.columns[column].name.clone());
            self.lines.push(Line {
                at: event.at,
                host: words::shorten(&host, 60),
                session: self.session(event),
                kind: event.kind.name().to_owned(),
                text: match &event.kind {
                    EventKind::Frame { direction: Direction::In, .. } => {
                        format!("to {}: {}", event.host, words::label(event))
                    }
                    EventKind::Frame { direction: Direction::Out, .. } => {
                        format!("from {}: {}", event.host, words::label(event))
                    }
                    _ => words::label(event),
                },
            });
        }
        self.follow(event);
        if drawn {
            self.draw(event);
        }
    }

    /// The place of the event that is being taken, or of the first that is drawn.
    fn here(&self) -> usize {
        self.lines.len().saturating_sub(1)
    }

    fn session(&self, event: &Event) -> Option<String> {
        event.session.and_then(|session| self.names.get(&session)).cloned()
    }

    fn push(&mut self, event: &Event, bytes: usize, shape: Shape) -> usize {
        let session = self.session(event);
        let row = Row { at: event.at, until: event.at, events: vec![self.here()], session, shape };
        self.rows.push(Drawn { row, bytes: bytes as u64 });
        self.rows.len() - 1
    }

    fn note(&mut self, event: &Event, column: Option<usize>, tone: Tone) -> usize {
        let session = self.session(event).map(|session| format!("{session} ")).unwrap_or_default();
        let label = format!("{session}{}", words::label(event));
        self.push(
            event,
            0,
            match column {
                Some(column) => Shape::Note { column, tone, label },
                None => Shape::Band { tone, label },
            },
        )
    }

    /// An arrow, or a note at the end that is known.
    fn arrow(&mut self, event: &Event, ends: (Option<usize>, Option<usize>), style: Style, bad: bool) -> usize {
        let (Some(from), Some(to)) = ends else {
            let tone = if bad { Tone::Bad } else { Tone::Info };
            return self.note(event, ends.0.or(ends.1), tone);
        };
        let session = self.session(event).map(|session| format!("{session} ")).unwrap_or_default();
        let label = format!("{session}{}", words::label(event));
        let bytes = if let EventKind::Frame { bytes, .. } = &event.kind { *bytes } else { 0 };
        self.push(event, bytes, Shape::Arrow(Arrow { from, to, both: false, style, bad, label }))
    }

    fn draw(&mut self, event: &Event) {
        let own = self.own(event);
        let other = self.concerns(event);
        match &event.kind {
            EventKind::Opened { .. } => _ = self.arrow(event, (other, own), Style::Socket, false),
            EventKind::UpgradeRefused { .. } => {
                let from = other.filter(|other| Some(*other) != own);
                _ = self.arrow(event, (from, own), Style::Socket, true);
            }
            EventKind::MessageRefused { .. } => _ = self.arrow(event, (other, own), Style::Data, true),
            EventKind::Closed { by, .. } => {
                let ends = if *by == Some(Closer::Relay) { (own, other) } else { (other, own) };
                _ = self.arrow(event, ends, Style::Socket, by.is_none());
            }
            EventKind::Frame { direction, frame, bytes, detail, .. } => {
                let frame = (frame.as_str(), *bytes, *direction, detail.wrong.is_some());
                self.frame(event, frame, own, other);
            }
            EventKind::Control { code, .. } => self.control(event, code, own, other),
            // The arrows around it and the bars tell it.
            EventKind::Session { .. } => {}
            EventKind::Dropped { reason, .. } => {
                let last = self.rows.last_mut().filter(|last| last.row.at == event.at);
                match last.map(|last| &mut last.row) {
                    Some(Row { events, shape: Shape::Arrow(arrow), .. }) if Some(arrow.from) == other && !arrow.bad => {
                        arrow.bad = true;
                        arrow.label = words::shorten(&format!("{}, dropped: {reason}", arrow.label), 200);
                        events.push(self.lines.len().saturating_sub(1));
                    }
                    _ => _ = self.note(event, own, Tone::Bad),
                }
            }
            EventKind::Request { status, .. } => {
                let from = other.filter(|other| Some(*other) != own);
                _ = self.arrow(event, (from, own), Style::Http, *status >= 400);
            }
            EventKind::RateLimited { .. } | EventKind::Swept { .. } => _ = self.note(event, own, Tone::Bad),
            EventKind::KeySet { result } => {
                let tone = if result == "ok" { Tone::Info } else { Tone::Bad };
                _ = self.note(event, own, tone);
            }
            EventKind::Restarted | EventKind::LimitsChanged | EventKind::KeysRotated { .. } => {
                _ = self.note(event, own, Tone::Step);
            }
            EventKind::Fault { on, .. } => {
                let column = own.filter(|_| on != "net");
                _ = self.note(event, column, Tone::Fault);
            }
            EventKind::Grade { .. } => _ = self.note(event, other.or(own), Tone::Grade),
            EventKind::Endpoint { report, detail } => self.report(event, report, detail, own),
            // At the host that does it; the network has none.
            EventKind::Step { .. } => _ = self.note(event, own, Tone::Step),
            EventKind::Reset => _ = self.note(event, None, Tone::Step),
            EventKind::Retrying { cause, .. } => self.report(event, "retrying", &format!("({cause})"), own),
            EventKind::Call { call, .. } => {
                let row = self.note(event, own, Tone::Call);
                self.calls.insert(*call, row);
            }
            EventKind::CallEnded { call, outcome, own: whose, .. } => {
                self.call_ended(event, *call, outcome == "result" && *whose != Some(false), own);
            }
            // The Data that carry it tell it.
            EventKind::Served { .. } | EventKind::Emitted { .. } | EventKind::Delivered { .. } => {}
            _ => _ = self.note(event, own, Tone::Report),
        }
    }

    /// A short call that ends well is one note, where it began.
    fn call_ended(&mut self, event: &Event, call: u64, well: bool, own: Option<usize>) {
        let here = self.here();
        let began = self.calls.remove(&call).and_then(|row| self.rows.get_mut(row)).map(|drawn| &mut drawn.row);
        match began {
            Some(Row { at, events, shape: Shape::Note { label, .. }, .. }) if well && event.at - *at <= SHORT_CALL => {
                *label = words::label(event);
                events.push(here);
            }
            _ => _ = self.note(event, own, if well { Tone::Call } else { Tone::Bad }),
        }
    }

    fn frame(
        &mut self,
        event: &Event,
        (frame, bytes, direction, wrong): (&str, usize, Direction, bool),
        own: Option<usize>,
        other: Option<usize>,
    ) {
        let style = match frame {
            "data" => Style::Data,
            "ping" | "pong" => Style::Ping,
            "signal" => Style::Signal,
            "control" => Style::Control,
            _ => Style::Handshake,
        };
        let passing = event.session.map(|session| (event.host.clone(), session, frame.to_owned(), bytes));
        let passes = matches!(style, Style::Data | Style::Handshake);
        match direction {
            Direction::In => {
                let row = self.arrow(event, (other, own), style, wrong);
                if let Some(passing) = passing.filter(|_| passes) {
                    self.passing.entry(passing).or_default().push(row);
                }
            }
            Direction::Out => {
                let here = self.here();
                // The oldest of its kind that came in this moment goes on: its arrow reaches the other side.
                let came = passing.filter(|_| passes).and_then(|passing| {
                    let waiting = self.passing.get_mut(&passing)?;
                    (!waiting.is_empty()).then(|| waiting.remove(0))
                });
                let arrow = came.and_then(|row| self.rows.get_mut(row)).map(|drawn| &mut drawn.row);
                match (arrow, other) {
                    (Some(Row { events, shape: Shape::Arrow(arrow), .. }), Some(other)) if arrow.from != other => {
                        arrow.to = other;
                        events.push(here);
                    }
                    _ => _ = self.arrow(event, (own, other), style, wrong),
                }
            }
        }
    }

    /// The frame that carries it was drawn just before, if frames are told.
    fn control(&mut self, event: &Event, code: &str, own: Option<usize>, other: Option<usize>) {
        let here = self.here();
        let session = self.session(event).map(|session| format!("{session} ")).unwrap_or_default();
        let last = self.rows.last_mut().map(|last| &mut last.row).filter(|last| last.at == event.at);
        match last {
            Some(Row { events, shape: Shape::Arrow(arrow), .. })
                if arrow.style == Style::Control && Some(arrow.to) == other && events.len() == 1 =>
            {
                arrow.label = words::shorten(&format!("{session}{code}"), 200);
                events.push(here);
            }
            _ => _ = self.arrow(event, (own, other), Style::Control, false),
        }
    }

    /// What one host says in one moment is one note.
    fn report(&mut self, event: &Event, report: &str, detail: &str, own: Option<usize>) {
        // Says nothing that the state does not say.
        let text = match (report, own.map(|column| self.columns[column].kind)) {
            ("connected" | "resumed", Some(ColumnKind::Client)) => String::new(),
            _ => words::label(event),
        };
        let here = self.here();
        let earlier = own.and_then(|column| self.reported.get(&column)).and_then(|row| self.rows.get_mut(*row));
        let session = event.session.and_then(|session| self.names.get(&session));
        let text = match session {
            Some(session) if !text.is_empty() => format!("{session} {text}"),
            _ => text,
        };
        match earlier.map(|earlier| &mut earlier.row) {
            Some(Row { at, events, shape: Shape::Note { label, .. }, .. }) if *at == event.at => {
                events.push(here);
                // A retry whose cause stands there already.
                let cause = detail.split_once('(').map(|(_, cause)| cause.trim_end_matches(')'));
                let known = cause.is_some_and(|cause| label.contains(cause));
                let text = if known { text.split(" (").next().unwrap_or_default().to_owned() } else { text };
                if text.starts_with(label.as_str()) {
                    *label = text;
                } else if !text.is_empty() && !label.contains(&text) {
                    *label = words::shorten(&format!("{label} · {text}"), 200);
                }
            }
            _ if text.is_empty() => {}
            _ => {
                let row = self.note(event, own, Tone::Report);
                if let Some(column) = own {
                    self.reported.insert(column, row);
                }
            }
        }
    }
}
