//! A relay and an API in words: what is told to a whole observer as events, through their JSON, and to a daemon's own as a relay tells it.

use bytes::Bytes;
use sideband_protocol::{
    SessionId,
    relay::SessionState,
    wire::{ControlCode, Frame, Reason, Signal, control_message},
};

use super::super::*;
use crate::event::Closer;

pub(super) const DAEMON: u64 = 1;
pub(super) const CLIENT: u64 = 2;

pub(super) fn session() -> SessionId {
    SessionId::new(0xfeed_0000_0000_0007).unwrap()
}

/// A process that sees one side only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Api,
    Relay,
}

pub(super) struct Bench {
    at: u64,
    /// Whose events the whole observer sees, if not both sides'.
    only: Option<Side>,
    daemon: &'static str,
    /// The HTTP connection that requests come on.
    http: Option<u64>,
    whole: Observer,
    wire: WireObserver,
    marks: Vec<Mark>,
    live: Vec<Mark>,
}

impl Default for Bench {
    fn default() -> Self {
        let (whole, wire) = (Observer::new(), WireObserver::new());
        Self { at: 0, only: None, daemon: "d_1", http: Some(1), whole, wire, marks: Vec::new(), live: Vec::new() }
    }
}

impl Bench {
    pub(super) fn after(&mut self, ms: u64) -> &mut Self {
        self.at += ms;
        self
    }

    /// A process that sees this side only.
    pub(super) fn alone(side: Side) -> Self {
        Self { only: Some(side), ..Self::default() }
    }

    /// What the whole observer found.
    pub(super) fn found(&self) -> impl Iterator<Item = Rule> {
        self.marks.iter().map(|mark| mark.rule)
    }

    pub(super) fn event(&mut self, session: Option<SessionId>, kind: EventKind) -> &mut Self {
        let side = if matches!(kind, EventKind::Request { .. }) { Side::Api } else { Side::Relay };
        if self.only.is_some_and(|only| only != side) {
            return self;
        }
        let event =
            Event { at: self.at, host: "relay".to_owned(), daemon: Some(self.daemon.to_owned()), session, kind };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
        let marks = self.whole.observe(&serde_json::from_str(&text).unwrap());
        self.marks.extend(marks.into_iter().map(|marked| marked.mark));
        self
    }

    fn live(&mut self, call: impl FnOnce(&mut WireObserver, u64)) -> &mut Self {
        call(&mut self.wire, self.at);
        self.live.extend(std::iter::from_fn(|| self.wire.poll_mark()));
        self
    }

    /// What both observers found; of access only the whole one knows.
    pub(super) fn rules(&self) -> Vec<(Rule, Role)> {
        let of_access = [Rule::Cli01, Rule::Cli02, Rule::Cli06, Rule::Dmn03];
        let on_the_wire: Vec<_> = self.marks.iter().filter(|mark| !of_access.contains(&mark.rule)).cloned().collect();
        assert_eq!(on_the_wire, self.live, "a relay finds the same as a trace");
        self.marks.iter().map(|mark| (mark.rule, mark.party)).collect()
    }

    // ---- the relay

    pub(super) fn opens(
        &mut self,
        id: u64,
        role: Role,
        session: Option<SessionId>,
        token: &str,
        resumes: bool,
    ) -> &mut Self {
        let (resumable, token) = ((role == Role::Daemon).then_some(resumes), Some(token.to_owned()));
        self.event(session, EventKind::Opened { connection: id, role, token, resumable });
        self.live(|wire, at| wire.opened(at, id, role, session, resumes))
    }

    pub(super) fn daemon_opens(&mut self, id: u64, resumes: bool) -> &mut Self {
        self.opens(id, Role::Daemon, None, &format!("t{id}"), resumes)
    }

    pub(super) fn state(&mut self, state: SessionState) -> &mut Self {
        self.event(Some(session()), EventKind::Session { state: state.name().to_owned() });
        self.live(|wire, _| wire.session(session(), state))
    }

    pub(super) fn closes(&mut self, id: u64, code: Option<u16>, by: Option<Closer>, answered: bool) -> &mut Self {
        self.event(None, EventKind::Closed { connection: id, code, by, answered });
        self.live(|wire, at| wire.closed(at, id, code, by, answered))
    }

    pub(super) fn refuses(&mut self, id: u64, code: u16) -> &mut Self {
        self.event(None, EventKind::MessageRefused { connection: id, code });
        self.live(|wire, at| wire.refused(at, id, code))
    }

    pub(super) fn drops(&mut self, id: u64) -> &mut Self {
        self.event(None, EventKind::RateLimited { connection: id, frames: 3 });
        self.live(|wire, at| wire.unseen(at, id))
    }

    pub(super) fn holds(&mut self, id: u64, held: bool) -> &mut Self {
        self.event(None, EventKind::Held { connection: id, held });
        self.live(|wire, at| wire.hold(at, id, held))
    }

    fn frame(&mut self, id: u64, direction: Direction, message: &[u8]) -> &mut Self {
        let seen = FrameSeen::read(message);
        let (frame, detail) = (seen.name().to_owned(), seen.detail());
        self.event(seen.session, EventKind::Frame { connection: id, direction, frame, bytes: message.len(), detail });
        self.live(|wire, at| match direction {
            Direction::In => wire.received(at, id, &seen),
            Direction::Out => wire.sent(at, id, &seen),
        })
    }

    /// An endpoint's message arrives.
    pub(super) fn says(&mut self, id: u64, message: impl AsRef<[u8]>) -> &mut Self {
        self.frame(id, Direction::In, message.as_ref())
    }

    pub(super) fn relay_says(&mut self, id: u64, message: impl AsRef<[u8]>) -> &mut Self {
        self.frame(id, Direction::Out, message.as_ref())
    }

    pub(super) fn controls(&mut self, id: u64, about: Option<SessionId>, code: ControlCode) -> &mut Self {
        self.relay_says(id, control_message(code, about.map_or(0, SessionId::get)));
        self.event(about, EventKind::Control { connection: id, code: code.name().to_owned() });
        self.live(|wire, at| wire.control(at, id, about, Some(code)))
    }

    pub(super) fn unknown_control(&mut self, id: u64, about: Option<SessionId>) -> &mut Self {
        self.event(about, EventKind::Control { connection: id, code: "0x0999".to_owned() });
        self.live(|wire, at| wire.control(at, id, about, None))
    }

    /// The endpoint proves that it has heard everything before.
    pub(super) fn pings(&mut self, id: u64) -> &mut Self {
        self.relay_says(id, ping(b"sure")).says(id, pong(b"sure"))
    }

    // ---- a session

    /// A daemon and a client.
    pub(super) fn paired(&mut self) -> &mut Self {
        self.daemon_opens(DAEMON, true);
        self.opens(CLIENT, Role::Client, Some(session()), "c1", false);
        self.state(SessionState::Paired)
    }

    /// A session with keys, and one Data each way.
    pub(super) fn active(&mut self) -> &mut Self {
        self.paired().says(CLIENT, init()).says(DAEMON, accept()).says(CLIENT, data(1, 0)).says(DAEMON, data(2, 0))
    }

    /// The daemon is away; the client is told.
    pub(super) fn paused(&mut self) -> &mut Self {
        self.active().closes(DAEMON, None, None, false).state(SessionState::Paused);
        self.controls(CLIENT, Some(session()), ControlCode::SessionPaused)
    }

    /// The daemon is back, and nothing has been said.
    pub(super) fn pending(&mut self, resumes: bool) -> &mut Self {
        self.paused().daemon_opens(3, resumes).state(SessionState::Pending);
        self.controls(CLIENT, Some(session()), ControlCode::SessionPending)
    }

    /// The daemon is back and ready.
    pub(super) fn resumed(&mut self) -> &mut Self {
        self.pending(true).says(3, signal(Signal::Ready, Reason::None)).state(SessionState::Paired);
        self.controls(CLIENT, Some(session()), ControlCode::SessionResumed)
    }

    /// Time passes, with a Ping and its Pong every 45 s.
    pub(super) fn lives(&mut self, id: u64, seconds: u64) -> &mut Self {
        for _ in 0..seconds / 45 {
            self.after(45_000).says(id, ping(b"")).relay_says(id, pong(b""));
        }
        self
    }

    // ---- the API

    pub(super) fn asks(&mut self, procedure: &str, status: u16, who: &str, retry_after_ms: Option<u64>) -> &mut Self {
        let about = (status == 200 && procedure != "daemon.renewToken").then(session);
        self.asks_about(about, procedure, status, who, retry_after_ms)
    }

    pub(super) fn asks_about(
        &mut self,
        about: Option<SessionId>,
        procedure: &str,
        status: u16,
        who: &str,
        retry_after_ms: Option<u64>,
    ) -> &mut Self {
        let code = (procedure == "quickConnect.redeem").then(|| who.to_owned());
        let caller = code.is_none().then(|| who.to_owned());
        let (procedure, http) = (procedure.to_owned(), self.http);
        let (token, took_ms) = (None, 0);
        self.event(about, EventKind::Request { procedure, status, caller, code, token, http, retry_after_ms, took_ms })
    }

    /// The same, by a request that took so long to be answered.
    pub(super) fn asks_for(
        &mut self,
        procedure: &str,
        status: u16,
        who: &str,
        retry_after_ms: Option<u64>,
        took_ms: u64,
    ) -> &mut Self {
        let (procedure, caller, http) = (procedure.to_owned(), Some(who.to_owned()), self.http);
        let (token, code) = (None, None);
        self.event(None, EventKind::Request { procedure, status, caller, code, token, http, retry_after_ms, took_ms })
    }

    /// From now on requests come on this HTTP connection; on none that is one program's.
    pub(super) fn on(&mut self, http: impl Into<Option<u64>>) -> &mut Self {
        self.http = http.into();
        self
    }

    /// From now on requests are about this daemon.
    pub(super) fn of(&mut self, daemon: &'static str) -> &mut Self {
        self.daemon = daemon;
        self
    }

    /// A client asks for a session on an HTTP connection and comes to the relay with it.
    pub(super) fn comes_with(&mut self, session: SessionId, id: u64, http: u64) -> &mut Self {
        self.on(http).asks_about(Some(session), "relay.createSession", 200, "u", None);
        self.opens(id, Role::Client, Some(session), &format!("c{id}"), false)
    }

    /// A daemon gets the token with which `daemon_opens` comes.
    pub(super) fn renews(&mut self, key: &str, id: u64) -> &mut Self {
        let (procedure, caller, token) = ("daemon.renewToken".to_owned(), Some(key.to_owned()), Some(format!("t{id}")));
        let (status, http, code, retry_after_ms, took_ms) = (200, self.http, None, None, 0);
        self.event(None, EventKind::Request { procedure, status, caller, code, token, http, retry_after_ms, took_ms })
    }

    pub(super) fn upgrade_refused(&mut self, role: Role, token: &str, retry_after_ms: Option<u64>) -> &mut Self {
        self.upgrade_of_refused((role == Role::Client).then(session), role, token, retry_after_ms)
    }

    pub(super) fn upgrade_of_refused(
        &mut self,
        about: Option<SessionId>,
        role: Role,
        token: &str,
        retry_after_ms: Option<u64>,
    ) -> &mut Self {
        let kind = EventKind::UpgradeRefused {
            status: 503,
            code: "unavailable".to_owned(),
            reason: "shutdown".to_owned(),
            role: Some(role),
            token: Some(token.to_owned()),
            retry_after_ms,
        };
        self.event(about, kind)
    }
}

pub(super) fn init() -> Bytes {
    Frame::HandshakeInit { session: session(), client_ephemeral: [1; 32] }.encode()
}

pub(super) fn accept() -> Bytes {
    Frame::HandshakeAccept { session: session(), payload: vec![2; 128].into() }.encode()
}

pub(super) fn data_of(session: SessionId, direction: u32, sequence: u64) -> Bytes {
    let mut payload = direction.to_be_bytes().to_vec();
    payload.extend(sequence.to_be_bytes());
    payload.extend([0xa5; 20]);
    Frame::Data { session, payload: payload.into() }.encode()
}

pub(super) fn data(direction: u32, sequence: u64) -> Bytes {
    data_of(session(), direction, sequence)
}

pub(super) fn signal(signal: Signal, reason: Reason) -> Bytes {
    Frame::Signal { session: session(), signal, reason }.encode()
}

pub(super) fn ping(bytes: &'static [u8]) -> Bytes {
    Frame::Ping(Bytes::from_static(bytes)).encode()
}

pub(super) fn pong(bytes: &'static [u8]) -> Bytes {
    Frame::Pong(Bytes::from_static(bytes)).encode()
}

/// A message with any header, and zeros.
pub(super) fn raw(kind: u8, declared: u32, session: u64, payload: usize) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(declared.to_be_bytes());
    message.extend(session.to_be_bytes());
    message.extend(vec![0; payload]);
    message
}

/// Bytes put over others.
pub(super) trait Tap {
    fn tap(self, at: usize, bytes: &[u8]) -> Self;
}

impl Tap for Vec<u8> {
    fn tap(mut self, at: usize, bytes: &[u8]) -> Self {
        self[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}
