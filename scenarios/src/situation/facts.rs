//! What is known from the events so far: just what the detectors ask.

use std::collections::BTreeMap;

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Direction, Event, EventKind, Role};

/// A connection: the relay's host and number.
pub(super) type Key = (String, u64);

/// A connection at a relay.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) role: Role,
    pub(super) daemon: Option<String>,
    pub(super) session: Option<SessionId>,
    pub(super) opened: u64,
    /// When a frame came from it, and when a Data did.
    pub(super) heard: u64,
    pub(super) data: u64,
    /// When it was over its rate last.
    pub(super) limited: Option<u64>,
    /// Sessions that it resumed.
    pub(super) resumed: u32,
}

/// A session at a relay, until it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Session {
    pub(super) state: String,
    pub(super) daemon: Option<String>,
    pub(super) paused: u64,
    pub(super) resumes: u32,
    /// Its client was told that it is over.
    pub(super) expired: bool,
    /// Its client has sent Data.
    pub(super) introduced: bool,
    /// When its daemon sent Signal(close).
    pub(super) closing: Option<u64>,
}

/// A call of an endpoint.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The host's state when it was made.
    pub(super) made_in: String,
    /// Its host was paused since.
    pub(super) paused: bool,
}

/// An endpoint that speaks for itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    pub(super) state: String,
    pub(super) was_active: bool,
    /// Its last attempt found the daemon offline.
    pub(super) found_offline: bool,
    pub(super) calls: BTreeMap<u64, Call>,
}

/// A caller of one procedure.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    /// Answers of 429 in a row, and failures in a row.
    pub(super) storm: u32,
    pub(super) failures: u32,
    pub(super) last: u16,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Frames are told.
    pub(super) frames: bool,
    pub(super) connections: BTreeMap<Key, Connection>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) hosts: BTreeMap<String, Host>,
    pub(super) callers: BTreeMap<(String, String), Caller>,
    /// Answers to redeems of a code: status and time.
    pub(super) codes: BTreeMap<String, Vec<(u16, u64)>>,
    /// Whose credential a session was made for; only of those that are open, or may open.
    pub(super) made_for: BTreeMap<SessionId, String>,
    /// Credentials that had a session open.
    pub(super) had_session: BTreeMap<String, u64>,
    /// Daemons that were online.
    pub(super) was_online: BTreeMap<String, u64>,
    /// The last refusal of an upgrade for a daemon by role: the status.
    pub(super) refused: BTreeMap<(Role, String), u16>,
    pub(super) signal: Option<(Key, SessionId, u64)>,
    pub(super) rotated: Option<u64>,
    pub(super) rotated_hard: Option<u64>,
    pub(super) key_set_read: Option<u64>,
    pub(super) key_set_fails: bool,
    pub(super) clients_since_restart: Option<u32>,
}

/// What an endpoint told, whatever its event looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    State(String),
    Resumed,
    RateLimited,
    /// A cause or a reason of any kind: what was told, and why.
    Cause(String),
    Retrying {
        retry: u32,
        cause: String,
        retry_after: Option<u64>,
    },
    Call {
        call: u64,
    },
    CallEnded {
        call: u64,
        outcome: String,
    },
}

/// An event, and what is known before it.
pub(super) struct Look<'l> {
    pub(super) facts: &'l Facts,
    pub(super) event: &'l Event,
    pub(super) told: &'l Told,
}

impl Told {
    pub(super) fn of(event: &Event) -> Self {
        match &event.kind {
            EventKind::Endpoint { report, detail } => match report.as_str() {
                "state" => Self::State(detail.clone()),
                // A daemon resumes sessions; a client its own.
                "resumed" if event.session.is_none() => Self::Resumed,
                "rate_limited" => Self::RateLimited,
                "retrying" => {
                    let digits: String = detail.chars().take_while(char::is_ascii_digit).collect();
                    Self::Retrying {
                        retry: digits.parse().unwrap_or_default(),
                        cause: detail.clone(),
                        retry_after: None,
                    }
                }
                "disconnected" | "closed" | "offline" | "ended" | "refused" => Self::Cause(detail.clone()),
                _ => Self::Nothing,
            },
            EventKind::Retrying { retry, retry_after_ms, cause, .. } => {
                Self::Retrying { retry: *retry, cause: cause.clone(), retry_after: *retry_after_ms }
            }
            EventKind::Call { call, .. } => Self::Call { call: *call },
            EventKind::CallEnded { call, outcome, .. } => Self::CallEnded { call: *call, outcome: outcome.clone() },
            _ => Self::Nothing,
        }
    }
}

impl Look<'_> {
    pub(super) fn at(&self) -> u64 {
        self.event.at
    }

    pub(super) fn connection(&self, number: u64) -> Option<&Connection> {
        self.facts.connections.get(&(self.event.host.clone(), number))
    }

    /// The session of this event, as it was before it.
    pub(super) fn session(&self) -> Option<&Session> {
        self.facts.sessions.get(&self.event.session?)
    }

    pub(super) fn state(&self) -> &str {
        self.session().map_or("", |session| session.state.as_str())
    }

    pub(super) fn host(&self) -> Option<&Host> {
        self.facts.hosts.get(&self.event.host)
    }

    /// Whether a daemon has a socket.
    pub(super) fn online(&self, daemon: &str) -> bool {
        self.facts
            .connections
            .values()
            .any(|connection| connection.role == Role::Daemon && connection.daemon.as_deref() == Some(daemon))
    }
}

/// Who asks for what: the credential, or the daemon, or nobody that is known.
pub(super) fn caller(event: &Event, procedure: &str, caller: Option<&String>) -> (String, String) {
    let who = caller.or(event.daemon.as_ref()).cloned().unwrap_or_default();
    (procedure.to_owned(), who)
}

impl Facts {
    pub(super) fn follow(&mut self, event: &Event, told: &Told) {
        match &event.kind {
            EventKind::Opened { connection, role, .. } => {
                self.opened((event.host.clone(), *connection), *role, event);
            }
            EventKind::Closed { connection, .. } => {
                let gone = self.connections.remove(&(event.host.clone(), *connection));
                if let Some(session) = gone.and_then(|gone| gone.session) {
                    self.made_for.remove(&session);
                }
            }
            EventKind::Frame { connection, direction: Direction::In, frame, detail, .. } => {
                self.frames = true;
                let key = (event.host.clone(), *connection);
                let data = frame == "data";
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.heard = event.at;
                    if data {
                        connection.data = event.at;
                    }
                    if let Some(session) = event.session.and_then(|session| self.sessions.get_mut(&session)) {
                        session.introduced |= data && connection.role == Role::Client;
                        if detail.signal.as_deref() == Some("close") {
                            session.closing = Some(event.at);
                        }
                    }
                }
                if let Some(session) = event.session.filter(|_| frame == "signal") {
                    self.signal = Some((key, session, event.at));
                }
            }
            EventKind::Frame { .. } => self.frames = true,
            EventKind::Control { code, .. } => {
                if let Some(session) = event.session.and_then(|session| self.sessions.get_mut(&session)) {
                    session.expired |= code == "session_expired";
                }
            }
            EventKind::Session { state } => self.session(event, state),
            EventKind::RateLimited { connection, .. } => {
                if let Some(connection) = self.connections.get_mut(&(event.host.clone(), *connection)) {
                    connection.limited = Some(event.at);
                }
            }
            EventKind::UpgradeRefused { status, role: Some(role), .. } => {
                if let Some(daemon) = &event.daemon {
                    self.refused.insert((*role, daemon.clone()), *status);
                }
            }
            EventKind::KeySet { result } => {
                self.key_set_fails = result != "ok";
                if !self.key_set_fails {
                    self.key_set_read = Some(event.at);
                }
            }
            EventKind::KeysRotated { hard, .. } => {
                self.rotated = Some(event.at);
                self.rotated_hard = hard.then_some(event.at).or(self.rotated_hard);
            }
            EventKind::Restarted => {
                self.clients_since_restart = Some(0);
                self.sessions.clear();
            }
            EventKind::Reset => *self = Self::default(),
            EventKind::Request { procedure, status, caller: by, code, .. } => {
                let caller = self.callers.entry(caller(event, procedure, by.as_ref())).or_default();
                caller.storm = if *status == 429 { caller.storm + 1 } else { 0 };
                caller.failures = if *status >= 400 { caller.failures + 1 } else { 0 };
                caller.last = *status;
                if let Some(code) = code {
                    self.codes.entry(code.clone()).or_default().push((*status, event.at));
                }
                if let (Some(by), Some(session)) = (by, event.session) {
                    self.made_for.insert(session, by.clone());
                }
            }
            _ => {}
        }
        self.hear(event, told);
    }

    fn opened(&mut self, key: Key, role: Role, event: &Event) {
        let (at, daemon) = (event.at, event.daemon.clone());
        if let Some(daemon) = &daemon {
            self.refused.remove(&(role, daemon.clone()));
            if role == Role::Daemon {
                self.was_online.insert(daemon.clone(), at);
            }
        }
        let session = event.session.filter(|_| role == Role::Client);
        if let Some(by) = session.and_then(|session| self.made_for.get(&session)) {
            self.had_session.insert(by.clone(), at);
        }
        if role == Role::Client
            && let Some(count) = &mut self.clients_since_restart
        {
            *count += 1;
        }
        let connection =
            Connection { role, daemon, session, opened: at, heard: at, data: at, limited: None, resumed: 0 };
        self.connections.insert(key, connection);
    }

    fn session(&mut self, event: &Event, state: &str) {
        let Some(id) = event.session else { return };
        if state == "ended" {
            self.sessions.remove(&id);
            return;
        }
        let session = self.sessions.entry(id).or_default();
        session.daemon.clone_from(&event.daemon);
        if state == "paused" && session.state != "pending" {
            session.paused = event.at;
        }
        if state == "paired" && session.state == "pending" {
            session.resumes += 1;
            let daemon = session.daemon.clone();
            let newest = self
                .connections
                .values_mut()
                .filter(|connection| connection.role == Role::Daemon && connection.daemon == daemon)
                .max_by_key(|connection| connection.opened);
            if let Some(connection) = newest {
                connection.resumed += 1;
            }
        }
        state.clone_into(&mut session.state);
    }

    fn hear(&mut self, event: &Event, told: &Told) {
        if *told == Told::Nothing {
            return;
        }
        let host = self.hosts.entry(event.host.clone()).or_default();
        match told {
            Told::State(state) => {
                host.state.clone_from(state);
                host.was_active |= state == "active";
                if state == "active" {
                    host.found_offline = false;
                }
                if state == "paused" {
                    host.calls.values_mut().for_each(|call| call.paused = true);
                }
            }
            Told::Cause(cause) | Told::Retrying { cause, .. } => {
                host.found_offline |= cause.contains("daemon_offline");
            }
            Told::Call { call } => {
                let paused = host.state == "paused";
                host.calls.insert(*call, Call { made_in: host.state.clone(), paused });
            }
            Told::CallEnded { call, .. } => {
                host.calls.remove(call);
            }
            Told::Nothing | Told::Resumed | Told::RateLimited => {}
        }
    }
}
