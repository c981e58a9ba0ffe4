//! The picture before it has a language: hosts as columns, what happened as rows, states as bars.

use std::collections::BTreeMap;

use sideband_protocol::SessionId;
use sideband_sim_kit::event::Event;

use super::{
    build::Builder,
    fold::fold,
    who::{Key, Who},
    words,
};
use crate::trace::Trace;

/// Most columns; clients beyond share the last one of theirs.
pub const MAX_COLUMNS: usize = 60;
/// Most rows. Of a longer run the first are drawn, and the picture says that there were more.
pub const MAX_ROWS: usize = 5_000;

/// What is drawn of a trace.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The picture's title; none leaves it to the picture.
    pub title: Option<String>,
    /// The first millisecond that is drawn; the beginning if there is none.
    pub from: Option<u64>,
    /// The last millisecond that is drawn; the end if there is none.
    pub to: Option<u64>,
    /// Draws every frame for itself. Off by default: equal frames in a row are drawn as one. The worst of it is a picture that is
    /// cut at [`MAX_ROWS`].
    pub every_frame: bool,
    /// Which host a connection belongs to, by relay host and number, where it is known. The rest is derived.
    pub hosts: BTreeMap<Key, String>,
}

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnKind {
    /// A client, or a client's connection if no client speaks for itself.
    Client,
    /// A relay.
    Relay,
    /// A daemon.
    Daemon,
    /// A control plane.
    Api,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What it is.
    pub kind: ColumnKind,
    /// Its name.
    pub name: String,
    /// What else is known of it, such as a daemon's id; empty for nothing.
    pub about: String,
}

/// What a message is; it decides the arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Style {
    /// HandshakeInit or HandshakeAccept.
    Handshake,
    /// Data.
    Data,
    /// Ping or Pong.
    Ping,
    /// Signal.
    Signal,
    /// Control.
    Control,
    /// A request to the API, or for keys.
    Http,
    /// A WebSocket opens or closes.
    Socket,
}

impl Style {
    /// Its name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Data => "data",
            Self::Ping => "ping",
            Self::Signal => "signal",
            Self::Control => "control",
            Self::Http => "http",
            Self::Socket => "socket",
        }
    }
}

/// A message from one host to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrow {
    /// The column that it comes from.
    pub from: usize,
    /// The column where it ends.
    pub to: usize,
    /// Both ways: frames in a row that are drawn as one.
    pub both: bool,
    /// What it is.
    pub style: Style,
    /// It was refused, or did not arrive.
    pub bad: bool,
    /// What stands at it.
    pub label: String,
}

/// What a note is about; it decides the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// An endpoint says something of itself.
    Report,
    /// An endpoint calls, and how that ended.
    Call,
    /// A server says something of itself.
    Info,
    /// Something was refused, dropped, or ended badly.
    Bad,
    /// A step of the scenario, or of its operator.
    Step,
    /// A fault fired.
    Fault,
    /// An endpoint broke a rule.
    Grade,
}

impl Tone {
    /// Its name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Call => "call",
            Self::Info => "info",
            Self::Bad => "bad",
            Self::Step => "step",
            Self::Fault => "fault",
            Self::Grade => "grade",
        }
    }
}

/// What a row draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A message.
    Arrow(Arrow),
    /// Something at one host.
    Note {
        /// The column.
        column: usize,
        /// What it is about.
        tone: Tone,
        /// The text.
        label: String,
    },
    /// Something that concerns all.
    Band {
        /// What it is about.
        tone: Tone,
        /// The text.
        label: String,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When, in milliseconds.
    pub at: u64,
    /// When the last of it happened, if it stands for several.
    pub until: u64,
    /// The events of the trace that it stands for, by their place, in order.
    pub events: Vec<usize>,
    /// The session's short name, as in the story.
    pub session: Option<String>,
    /// What is drawn.
    pub shape: Shape,
}

/// The state of a host, and its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BarState {
    /// A client gets a session and a socket.
    Connecting,
    /// A client agrees on keys.
    Negotiating,
    /// A client's session stands.
    Active,
    /// The daemon is away.
    Paused,
    /// The daemon is back, not yet ready.
    Pending,
    /// A client waits for its next attempt.
    Reconnecting,
    /// A daemon has its socket.
    Online,
    /// A daemon has lost it.
    Offline,
}

impl BarState {
    /// All of them, in the order of the legend.
    pub const ALL: [Self; 8] = [
        Self::Connecting,
        Self::Negotiating,
        Self::Active,
        Self::Paused,
        Self::Pending,
        Self::Reconnecting,
        Self::Online,
        Self::Offline,
    ];

    /// Its name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Negotiating => "negotiating",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Pending => "pending",
            Self::Reconnecting => "reconnecting",
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }

    /// The state of this name; none for one without a colour, such as `idle` and `closed`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A host was in a state from one event to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// The host's column.
    pub column: usize,
    /// The state.
    pub state: BarState,
    /// The place of the event with which it begins.
    pub from: usize,
    /// The place of the event with which it ends; the end of the picture if there is none.
    pub to: Option<usize>,
}

/// An event as the table of the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in milliseconds.
    pub at: u64,
    /// The host that it concerns, or the one that saw it.
    pub host: String,
    /// The session's short name.
    pub session: Option<String>,
    /// The kind, as the NDJSON has it.
    pub kind: String,
    /// What happened.
    pub text: String,
}

/// A run, ready to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The title.
    pub title: String,
    /// The hosts, from left to right.
    pub columns: Vec<Column>,
    /// What happened, in order.
    pub rows: Vec<Row>,
    /// The states of hosts.
    pub bars: Vec<Bar>,
    /// Every event that is drawn or could be, in order; what `events` of a row counts.
    pub lines: Vec<Line>,
    /// Rows that are not drawn, since there are too many.
    pub left_out: usize,
}

impl Model {
    /// The picture of a trace.
    pub fn new(trace: &Trace, options: &Options) -> Self {
        let all = trace.events();
        let mut who = Who::default();
        for (connection, host) in &options.hosts {
            who.tell(connection.clone(), host);
        }
        who.learn(all);
        let names = names(all);
        let mut builder = Builder::new(&who, &names, all);
        let (from, to) = (options.from.unwrap_or(0), options.to.unwrap_or(u64::MAX));
        for event in all {
            // What comes before is followed, so that states are known when the picture begins.
            builder.take(event, (from..=to).contains(&event.at));
        }
        let built = builder.finish();
        let mut rows = if options.every_frame {
            built.rows.into_iter().map(|drawn| drawn.row).collect()
        } else {
            fold(built.rows)
        };
        let left_out = rows.len().saturating_sub(MAX_ROWS);
        rows.truncate(MAX_ROWS);
        let title = options.title.as_deref().unwrap_or("A Sideband run");
        let title = words::shorten(title, 120);
        Self { title, columns: built.columns, rows, bars: built.bars, lines: built.lines, left_out }
    }

    /// What the picture shows, in a sentence, for those who cannot see it.
    pub fn description(&self) -> String {
        let hosts: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let count = |wanted: Tone| {
            let tone = |row: &&Row| matches!(&row.shape, Shape::Note { tone, .. } | Shape::Band { tone, .. } if *tone == wanted);
            self.rows.iter().filter(tone).count()
        };
        let arrows = self.rows.iter().filter(|row| matches!(row.shape, Shape::Arrow(_))).count();
        let over =
            self.lines.last().map_or(0, |line| line.at).saturating_sub(self.lines.first().map_or(0, |line| line.at));
        let mut text = format!(
            "Sequence diagram of {} hosts ({}) over {}: {} events as {arrows} arrows, {} steps, {} faults, {} broken rules.",
            hosts.len(),
            hosts.join(", "),
            words::span(over),
            self.lines.len(),
            count(Tone::Step),
            count(Tone::Fault),
            count(Tone::Grade),
        );
        if self.left_out > 0 {
            text.push_str(&format!(" {} further rows are not drawn; draw a part of the time.", self.left_out));
        }
        text
    }
}

/// Sessions by the order in which they appear: `s1`, `s2`; the names of the story.
fn names(events: &[Event]) -> BTreeMap<SessionId, String> {
    let mut names = BTreeMap::new();
    for session in events.iter().filter_map(|event| event.session) {
        let next = names.len() + 1;
        names.entry(session).or_insert_with(|| format!("s{next}"));
    }
    names
}
