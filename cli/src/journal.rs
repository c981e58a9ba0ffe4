//! What happens, one line each: time, who, what.

use std::collections::BTreeMap;

use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use sideband::{Cause, ServerEvent, SessionId};
use sideband_sim_kit::event::{Event, EventKind, Role};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinHandle,
};

use crate::output::Output;

/// A line for people: seconds, who, what.
pub(crate) fn row(millis: u64, who: &str, what: &str) -> String {
    let style = match who {
        "client" => Style::new().cyan(),
        "daemon" => Style::new().green(),
        "relay" => Style::new().magenta(),
        "api" => Style::new().yellow(),
        _ => Style::new().bold(),
    };
    let time = format!("{:>4}.{:03} s", millis / 1000, millis % 1000);
    format!("  {}  {:<6}  {what}", time.dimmed(), who.style(style))
}

/// An event of the cloud as JSON: the vocabulary of traces, marked as `cloud`.
#[derive(Serialize)]
struct CloudEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    what: &'a Event,
}

#[derive(Serialize)]
struct Missed {
    event: &'static str,
    count: u64,
}

/// Says what happens in a cloud until it is aborted. A reader of stdout who is too slow misses lines, nothing else waits.
pub(crate) fn follow(mut events: Receiver<Event>, out: &Output) -> JoinHandle<()> {
    let out = out.clone();
    tokio::spawn(async move {
        let mut words = Words::default();
        loop {
            match events.recv().await {
                Ok(event) => {
                    out.json(&CloudEvent { event: "cloud", what: &event }).await;
                    if !out.is_json()
                        && !out.is_quiet()
                        && let Some(what) = words.of(&event)
                    {
                        out.text(&row(event.at, &event.host, &what)).await;
                    }
                }
                Err(RecvError::Lagged(count)) => out.json(&Missed { event: "missed", count }).await,
                Err(RecvError::Closed) => return,
            }
        }
    })
}

/// Events of a cloud in words.
#[derive(Default)]
pub(crate) struct Words {
    roles: BTreeMap<u64, Role>,
}

impl Words {
    /// What happened; `None` for what is too small to tell.
    pub(crate) fn of(&mut self, event: &Event) -> Option<String> {
        let about = || match (event.session, &event.daemon) {
            (Some(session), _) => format!("session {session}"),
            (None, Some(daemon)) => daemon.clone(),
            (None, None) => String::new(),
        };
        let text = match &event.kind {
            EventKind::Opened { connection, role, .. } => {
                self.roles.insert(*connection, *role);
                format!("{} connected  {}", role_name(*role), about())
            }
            EventKind::Closed { connection, code, .. } => {
                let who = self.roles.remove(connection).map_or("connection", role_name);
                let how = code.map_or_else(|| "cut".to_owned(), |code| format!("closed {code}"));
                format!("{who} gone  {}  {how}", about())
            }
            EventKind::UpgradeRefused { status, code, reason, .. } => format!("refused {status} {code}  ({reason})"),
            EventKind::Session { state } => format!("{}  {state}", about()),
            EventKind::Request { procedure, status, .. } => format!("{procedure}  {status}  {}", about()),
            EventKind::KeysRotated { current, hard } => {
                format!("keys rotated{}, {current} signs", if *hard { " hard" } else { "" })
            }
            EventKind::KeySet { result } => format!("key set: {result}"),
            EventKind::LimitsChanged => "limits changed".to_owned(),
            EventKind::Restarted => "restarted: no sessions any more".to_owned(),
            EventKind::Reset => "reset: everything is as after the start".to_owned(),
            EventKind::Fault { rule, number, on, action } => {
                format!("fault {rule}#{number}  {action} at {on}  {}", about())
            }
            EventKind::Grade { rule, party, evidence, times, .. } => {
                let again = if *times > 1 { format!("  ({times} times)") } else { String::new() };
                format!("{} breaks {rule}  {}  {evidence}{again}", role_name(*party), about())
            }
            // Sessions tell the same, frames are too many.
            _ => return None,
        };
        Some(text.trim_end().to_owned())
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Daemon => "daemon",
    }
}

/// An event in a daemon's life as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DaemonEvent {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl DaemonEvent {
    fn new(event: &'static str) -> Self {
        Self { event, session: None, retry: None, delay_ms: None, cause: None, count: None }
    }

    fn of(self, session: SessionId) -> Self {
        Self { session: Some(session), ..self }
    }

    fn by(self, cause: &Cause) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }
}

/// An event in a daemon's life: as JSON, and in words.
pub(crate) fn daemon(event: &ServerEvent) -> (DaemonEvent, String) {
    let json = DaemonEvent::new;
    match event {
        ServerEvent::Online => (json("online"), "online".to_owned()),
        ServerEvent::Offline(cause) => (json("offline").by(cause), format!("offline: {cause}")),
        ServerEvent::Retrying { retry, delay, cause } => {
            let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let line = DaemonEvent { retry: Some(*retry), delay_ms: Some(millis), ..json("retrying").by(cause) };
            (line, format!("{cause}; trying again in {:.1} s", delay.as_secs_f64()))
        }
        ServerEvent::Opened(session) => (json("session_opened").of(*session), format!("session {session}  opened")),
        ServerEvent::Paused(session) => (json("session_paused").of(*session), format!("session {session}  paused")),
        ServerEvent::Resumed(session) => (json("session_resumed").of(*session), format!("session {session}  resumed")),
        ServerEvent::Closed { session, cause } => {
            (json("session_closed").of(*session).by(cause), format!("session {session}  over: {cause}"))
        }
        ServerEvent::Refused { session, cause } => {
            (json("session_refused").of(*session).by(cause), format!("session {session}  refused: {cause}"))
        }
        ServerEvent::RateLimited => (json("rate_limited"), "the relay dropped frames: too many".to_owned()),
        ServerEvent::Ended(cause) => (json("ended").by(cause), format!("ended: {cause}")),
        ServerEvent::Missed(count) => {
            (DaemonEvent { count: Some(*count), ..json("missed") }, format!("{count} events missed"))
        }
        _ => (json("other"), "something new happened".to_owned()),
    }
}
