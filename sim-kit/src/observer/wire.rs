//! What one daemon's socket and its clients' sockets carry: frames, signals, keepalive, the order after a resume.
//!
//! Driven by one call for each thing that happens; after each, [`WireObserver::poll_mark`] gives what was found. Frames are judged as
//! they came off the wire, before any fault is done to them: a fault that keeps one lets the relay act on it later than those behind it
//! are judged. A frame that is in order allocates nothing.
//!
//! # What is proof
//!
//! When a frame is read says when it was sent only if the relay reads all the time. While it does not (a pause, a frame that a fault keeps, a rate that throttles,
//! REL-21), or while faults keep what it sends, it tells so ([`WireObserver::hold`]), and the clock of that connection stands still.
//!
//! An endpoint is marked for what it sends, not for what is lost on its way. What it must have *known* counts as known once it has answered a
//! Ping that left later, or after [`PATIENCE_MS`]: a frame spends at most 90 s on a line before one of its ends gives up, each way.

use std::collections::{BTreeMap, VecDeque};

use sideband_protocol::{
    SessionId,
    relay::SessionState,
    wire::{ACCEPT_LEN, ControlCode, FrameType, INIT_LEN, NONCE_LEN, Reason, SIGNAL_LEN, Signal, TAG_LEN, close},
};

use super::{
    Mark, Rule,
    connection::{Connection, Found, Line, Told},
    frame::{FrameSeen, Inside, WrongHeader},
};
use crate::event::{Closer, Role};

/// Milliseconds after which something sent has arrived or its line is dead.
pub const PATIENCE_MS: u64 = 180_000;
/// Milliseconds that a handshake may take (CRY-11).
const HANDSHAKE_MS: u64 = 30_000;
/// Milliseconds of silence that are too many (CLI-13, REL-22).
const SILENCE_MS: u64 = 90_000;
/// How often, in milliseconds, a daemon's open handshakes are looked through.
const LOOK_EVERY_MS: u64 = 10_000;
/// Most ended sessions that are remembered for a daemon; the oldest go first, and then nothing is called unknown any more.
pub const MOST_ENDED: usize = 1_024;
/// Most connections, and most sessions, of one daemon that are followed at once; over that those with the lowest numbers go.
pub const MOST_FOLLOWED: usize = 65_536;

/// The last Data of one direction.
#[derive(Debug, Clone, Copy)]
struct Last {
    sequence: u64,
    connection: u64,
}

#[derive(Debug)]
struct Session {
    /// The daemon's connection when it began.
    daemon: Option<u64>,
    state: SessionState,
    /// The client has sent its HandshakeInit.
    init: bool,
    /// When that was sent to the daemon, on the clock of the daemon's connection.
    offered: Option<u64>,
    accept: bool,
    from_client: Option<Last>,
    from_daemon: Option<Last>,
    /// The daemon's connection that sent Signal(ready) for it; the relay may act on that later.
    ready: Option<u64>,
    /// The client was told that it is paused.
    paused: Option<Told>,
    /// The daemon was told that it is over, by a code that breaking has this rule.
    over: Option<(Rule, Told)>,
    /// Its client, or its daemon, was found to keep it open without a handshake.
    client_late: bool,
    daemon_late: bool,
}

#[derive(Debug)]
struct Ended {
    daemon: Option<u64>,
    over: Option<(Rule, Told)>,
}

/// Judges what one daemon and its clients send.
#[derive(Debug, Default)]
pub struct WireObserver {
    connections: BTreeMap<u64, Connection>,
    sessions: BTreeMap<SessionId, Session>,
    ended: BTreeMap<SessionId, Ended>,
    order: VecDeque<SessionId>,
    /// An ended session was forgotten while the daemon could not know yet.
    forgot: bool,
    daemon: Option<u64>,
    looked: u64,
    found: Found,
    marks: VecDeque<Mark>,
}

impl WireObserver {
    /// Nothing is connected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next thing that was found.
    pub fn poll_mark(&mut self) -> Option<Mark> {
        self.marks.pop_front()
    }

    /// Whether nothing is connected and no session lives.
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.sessions.is_empty() && self.marks.is_empty()
    }

    /// A WebSocket opened; a client's with its session, a daemon's with whether its token can resume.
    pub fn opened(&mut self, at: u64, id: u64, role: Role, session: Option<SessionId>, resumable: bool) {
        if self.connections.len() >= MOST_FOLLOWED {
            self.connections.pop_first();
        }
        if role == Role::Daemon {
            // REL-12: nothing that an older one sends counts any more.
            if let Some(old) = self.daemon.and_then(|old| self.connections.get_mut(&old)) {
                old.over = true;
            }
            self.daemon = Some(id);
            // Whatever it still holds it names first (DMN-11).
            self.forgot = false;
        }
        self.connections.insert(id, Connection::new(at, role, session, resumable));
    }

    /// A WebSocket is gone: with its close code, by whom, and whether the peer answered the relay's close before saying anything else.
    pub fn closed(&mut self, at: u64, id: u64, code: Option<u16>, by: Option<Closer>, answered: bool) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        if self.daemon == Some(id) {
            self.daemon = None;
        }
        let quiet = connection.clock(at).saturating_sub(connection.last_in);
        if by == Some(Closer::Relay) && answered && quiet >= SILENCE_MS {
            let rule = connection.keepalive_rule();
            self.found.add(rule, None, || format!("sent nothing for {} s and then answered the close", quiet / 1_000));
        }
        if let (true, false, Some(Closer::Peer), Some(code)) = (connection.shutdown, connection.lossy, by, code) {
            self.left(code);
        }
        connection.tell(at, id, &mut self.found, &mut self.marks);
    }

    /// A daemon closed its socket after Signals of shutdown (DMN-16).
    fn left(&mut self, code: u16) {
        let live = |s: &&Session| s.accept && s.from_client.is_some() && s.from_daemon.is_some();
        let live = self.sessions.values().filter(live).count();
        if live > 0 {
            self.found.add(Rule::Dmn16, None, || format!("closed without a word about {live} live sessions"));
        }
        if code != close::NORMAL {
            self.found.add(Rule::Dmn16, None, || format!("closed with {code} after its Signals of shutdown"));
        }
    }

    /// Frames came over the connection's rate, and are dropped unseen (REL-20). Told before those that came in between.
    pub fn unseen(&mut self, at: u64, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.unseen(at);
        }
    }

    /// From now on, or no more, the relay does not read the connection, or what it sends there waits.
    pub fn hold(&mut self, at: u64, id: u64, held: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.hold(at, held);
        }
    }

    /// A frame that was to go out lets others pass first. Which is not known: it is not told as sent.
    pub fn put_behind(&mut self, id: u64, frame: &FrameSeen) {
        if let Some(connection) = self.connections.get_mut(&id).filter(|_| frame.frame_type == Some(FrameType::Ping)) {
            connection.unordered();
        }
    }

    /// A message came that no relay takes, and is answered by this close code (WIRE-03, WIRE-04).
    pub fn refused(&mut self, at: u64, id: u64, code: u16) {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.over) else { return };
        connection.over = true;
        connection.last_in = connection.clock(at);
        match code {
            close::UNSUPPORTED => self.found.add(Rule::Wire03, None, || "a text message".to_owned()),
            close::TOO_LARGE => self.found.add(Rule::Wire04, None, || "a message of more than 1 MiB".to_owned()),
            _ => {}
        }
        connection.tell(at, id, &mut self.found, &mut self.marks);
    }

    /// A session has another state at the relay.
    pub fn session(&mut self, session: SessionId, state: SessionState) {
        if state == SessionState::Gone {
            if let Some(Session { daemon, over, .. }) = self.sessions.remove(&session) {
                self.remember(session, Ended { daemon, over });
            }
            return;
        }
        if self.sessions.len() >= MOST_FOLLOWED && !self.sessions.contains_key(&session) {
            self.sessions.pop_first();
            self.forgot = true;
        }
        let daemon = self.daemon;
        let entry = self.sessions.entry(session).or_insert(Session {
            daemon,
            state,
            init: false,
            offered: None,
            accept: false,
            from_client: None,
            from_daemon: None,
            ready: None,
            paused: None,
            over: None,
            client_late: false,
            daemon_late: false,
        });
        entry.state = state;
    }

    fn remember(&mut self, session: SessionId, ended: Ended) {
        if self.ended.insert(session, ended).is_none() {
            self.order.push_back(session);
        }
        if self.order.len() > MOST_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
            self.forgot = true;
        }
    }

    /// The relay sent a Control; `None` for a code that the table does not have.
    pub fn control(&mut self, at: u64, id: u64, session: Option<SessionId>, code: Option<ControlCode>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let told = connection.told(at, id);
        let ends = code.is_some_and(ControlCode::is_terminal);
        match (connection.role, session, code) {
            (Role::Client, _, None) | (Role::Daemon, None, None) => connection.unknown = Some(told),
            (Role::Client, Some(session), Some(code)) => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    if code == ControlCode::SessionPaused {
                        known.paused = known.paused.or(Some(told));
                    } else if code == ControlCode::SessionResumed {
                        known.paused = None;
                    }
                }
            }
            (Role::Daemon, Some(session), code) if ends || matches!(code, None | Some(ControlCode::SessionEnded)) => {
                let rule = if code.is_none() { Rule::Wire05 } else { Rule::Dmn10 };
                match (self.sessions.get_mut(&session), self.ended.get_mut(&session)) {
                    (Some(Session { over, .. }), _) | (None, Some(Ended { over, .. })) => *over = Some((rule, told)),
                    // WIRE-17: from now on it counts as ended.
                    (None, None) => self.remember(session, Ended { daemon: None, over: Some((rule, told)) }),
                }
            }
            (Role::Client | Role::Daemon, _, _) => {}
        }
        if ends && let Some(connection) = self.connections.get_mut(&id) {
            // WIRE-09: what still comes is discarded.
            connection.over = true;
        }
    }

    /// A binary message goes out.
    pub fn sent(&mut self, at: u64, id: u64, frame: &FrameSeen) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.sent(at, frame);
        if frame.frame_type == Some(FrameType::HandshakeInit)
            && let Some(session) = frame.session.and_then(|session| self.sessions.get_mut(&session))
            && session.daemon == Some(id)
        {
            session.offered.get_or_insert(connection.clock(at));
        }
    }

    /// A binary message came.
    pub fn received(&mut self, at: u64, id: u64, frame: &FrameSeen) {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.over) else { return };
        let clock = connection.clock(at);
        connection.heard(clock, frame, &mut self.found);
        let signals = connection.role == Role::Daemon && frame.frame_type == Some(FrameType::Signal);
        let mut view = View {
            at: clock,
            id,
            connection,
            sessions: &mut self.sessions,
            ended: &self.ended,
            forgot: self.forgot,
            found: &mut self.found,
        };
        match (frame.wrong, frame.frame_type, view.connection.role) {
            (Some(wrong), _, _) => view.wrong_header(wrong, frame),
            (None, Some(frame_type), Role::Client) => view.client_says(frame_type, frame),
            (None, Some(frame_type), Role::Daemon) => {
                view.daemon_says(frame_type, frame);
                if frame_type == FrameType::Ping && at.saturating_sub(self.looked) >= LOOK_EVERY_MS {
                    self.looked = at;
                    view.daemon_handshakes();
                }
            }
            (None, None, _) => {}
        }
        let goes_on = !connection.over;
        connection.tell(at, id, &mut self.found, &mut self.marks);
        if let Some(named) = frame.session.filter(|_| signals && goes_on) {
            self.named(named);
        }
    }

    /// A daemon's Signal named a session. WIRE-17: one that is unknown counts as ended from now on, whenever the relay gets to saying so.
    fn named(&mut self, session: SessionId) {
        if !self.sessions.contains_key(&session) && !self.ended.contains_key(&session) {
            self.remember(session, Ended { daemon: None, over: None });
        }
    }
}

/// One message that came, with all that is known.
struct View<'a> {
    /// On the clock of the connection.
    at: u64,
    id: u64,
    connection: &'a mut Connection,
    sessions: &'a mut BTreeMap<SessionId, Session>,
    ended: &'a BTreeMap<SessionId, Ended>,
    forgot: bool,
    found: &'a mut Found,
}

impl View<'_> {
    /// Something for which the relay closes.
    fn fatal(&mut self, rule: Rule, session: Option<SessionId>, evidence: impl FnOnce() -> String) {
        self.connection.over = true;
        self.found.add(rule, session, evidence);
    }

    fn wrong_header(&mut self, wrong: WrongHeader, frame: &FrameSeen) {
        let rule = match wrong {
            WrongHeader::Malformed => Rule::Wire11,
            WrongHeader::TooLarge => Rule::Wire01,
            WrongHeader::LongPing => Rule::Wire12,
            WrongHeader::UnknownType => Rule::Wire13,
            WrongHeader::SessionId => Rule::Wire14,
        };
        self.fatal(rule, None, || format!("a message of {} bytes, {}: {}", frame.bytes, frame.name(), wrong.name()));
    }

    fn disallowed(&mut self, frame: &FrameSeen) {
        if let Inside::Control(code @ 0xe000..=0xe0ff) = frame.inside {
            // The closer rule of the two.
            return self.fatal(Rule::Wire10, frame.session, || format!("a Control with 0x{code:04x}"));
        }
        self.fatal(Rule::Wire15, frame.session, || format!("a {}", frame.name()));
    }

    /// WIRE-02, also for what is forwarded whatever its size.
    fn size(&mut self, frame_type: FrameType, frame: &FrameSeen) {
        let length = frame.payload();
        let right = match frame_type {
            FrameType::HandshakeInit => length == INIT_LEN,
            FrameType::HandshakeAccept => length == ACCEPT_LEN,
            FrameType::Data => length >= NONCE_LEN + TAG_LEN,
            FrameType::Signal => length == SIGNAL_LEN,
            FrameType::Ping | FrameType::Pong | FrameType::Control => true,
        };
        if !right {
            self.found.add(Rule::Wire02, frame.session, || format!("a {} with {length} payload bytes", frame.name()));
        }
    }

    // ---- clients

    fn client_says(&mut self, frame_type: FrameType, frame: &FrameSeen) {
        match frame_type {
            FrameType::HandshakeAccept | FrameType::Signal | FrameType::Control => return self.disallowed(frame),
            FrameType::Ping | FrameType::Pong => {}
            FrameType::HandshakeInit | FrameType::Data if frame.session != self.connection.session => {
                return self.fatal(Rule::Wire16, frame.session, || format!("a {}", frame.name()));
            }
            FrameType::HandshakeInit | FrameType::Data => {
                self.size(frame_type, frame);
                self.client_session(frame_type, frame);
            }
        }
        self.client_handshake();
    }

    fn client_session(&mut self, frame_type: FrameType, frame: &FrameSeen) {
        let Some(id) = frame.session else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.paused.is_some_and(|told| self.connection.knows(self.at, &told)) {
            self.found.add(Rule::Cli11, frame.session, || format!("a {} while paused", frame.name()));
        }
        if frame_type == FrameType::HandshakeInit {
            if session.init {
                self.found.add(Rule::Wire21, frame.session, || "a second handshake_init".to_owned());
            }
            session.init = true;
            return;
        }
        if !session.accept && !self.connection.lossy {
            self.found.add(Rule::Cry10, frame.session, || "Data before the handshake_accept".to_owned());
        }
        // A client's session lives and dies with its line.
        number(frame, 1, &mut session.from_client, self.connection.line(self.id), true, self.found);
    }

    fn client_handshake(&mut self) {
        let open = self.at.saturating_sub(self.connection.opened);
        if open < HANDSHAKE_MS + PATIENCE_MS {
            return;
        }
        let Some(id) = self.connection.session else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.client_late && (!session.accept || session.from_daemon.is_none()) {
            session.client_late = true;
            self.found.add(Rule::Cry11, Some(id), || {
                format!("still there {} s after the WebSocket opened, without a handshake", open / 1_000)
            });
        }
    }

    // ---- daemons

    fn daemon_says(&mut self, frame_type: FrameType, frame: &FrameSeen) {
        match frame_type {
            FrameType::HandshakeInit | FrameType::Control => self.disallowed(frame),
            FrameType::Pong => {}
            FrameType::Ping => self.connection.spoke = true,
            FrameType::Signal => self.signal(frame),
            FrameType::HandshakeAccept | FrameType::Data => {
                self.size(frame_type, frame);
                self.daemon_frame(frame_type, frame);
                self.connection.spoke = true;
            }
        }
    }

    fn signal(&mut self, frame: &FrameSeen) {
        self.size(FrameType::Signal, frame);
        if frame.payload() != SIGNAL_LEN {
            self.connection.over = true;
            return;
        }
        let Inside::Signal { signal: byte, reason } = frame.inside else { return };
        let Some(signal) = Signal::from_byte(byte) else {
            return self.fatal(Rule::Wire08, frame.session, || format!("a Signal of 0x{byte:02x}"));
        };
        let reason = Reason::from_byte(reason);
        let Some(id) = frame.session else { return };
        if signal == Signal::Close && reason == Reason::Shutdown {
            self.connection.shutdown = true;
        }
        if signal == Signal::Ready {
            self.earlier(id, frame);
        }
        let known = self.sessions.get_mut(&id);
        let pending = known.as_ref().is_some_and(|session| session.state == SessionState::Pending);
        if let (Signal::Ready, Some(session)) = (signal, known) {
            session.ready = Some(self.id);
        }
        let resumes = signal == Signal::Ready || reason == Reason::StateLost;
        if pending && resumes && self.connection.spoke {
            self.found.add(Rule::Dmn11, Some(id), || {
                format!("Signal({}) only after other frames of this connection", signal.name())
            });
        }
    }

    /// DMN-12: something about a session that ended with an earlier connection.
    fn earlier(&mut self, id: SessionId, frame: &FrameSeen) {
        let began = match (self.sessions.get(&id), self.ended.get(&id)) {
            (Some(session), _) => session.daemon,
            (None, Some(ended)) => ended.daemon,
            (None, None) => None,
        };
        if !self.connection.resumable && began.is_some_and(|began| began != self.id) {
            self.found.add(Rule::Dmn12, Some(id), || format!("a {} of an earlier connection's session", frame.name()));
        }
    }

    fn daemon_frame(&mut self, frame_type: FrameType, frame: &FrameSeen) {
        let Some(id) = frame.session else { return };
        self.earlier(id, frame);
        let over = match (self.sessions.get(&id), self.ended.get(&id)) {
            (Some(session), _) => session.over,
            (None, Some(ended)) => ended.over,
            (None, None) => {
                if !self.forgot {
                    self.fatal(Rule::Wire17, Some(id), || format!("a {} of a session never had", frame.name()));
                }
                return;
            }
        };
        if let Some((rule, told)) = over
            && told.connection == self.id
            && self.connection.knows(self.at, &told)
        {
            self.found.add(rule, Some(id), || format!("a {} of a session known to be over", frame.name()));
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let ready = session.ready == Some(self.id) || self.connection.lossy;
        if session.state == SessionState::Pending && !ready {
            self.found.add(Rule::Dmn11, Some(id), || format!("a {} before Signal(ready)", frame.name()));
        }
        if frame_type == FrameType::HandshakeAccept {
            if session.accept || !session.init {
                let which = if session.accept { "a second handshake_accept" } else { "no handshake_init before it" };
                self.found.add(Rule::Wire21, Some(id), || which.to_owned());
            }
            session.accept = true;
            return;
        }
        if !session.accept && !self.connection.lossy {
            self.found.add(Rule::Cry10, Some(id), || "Data before the handshake_accept".to_owned());
        }
        // What was under way on an earlier line may be lost.
        let whole = session.daemon == Some(self.id);
        number(frame, 2, &mut session.from_daemon, self.connection.line(self.id), whole, self.found);
    }

    fn daemon_handshakes(&mut self) {
        for (&id, session) in self.sessions.iter_mut() {
            let since = session.offered.map_or(0, |offered| self.at.saturating_sub(offered));
            let here = session.daemon == Some(self.id) && session.state == SessionState::Paired;
            let whole = session.accept && session.from_client.is_some();
            if here && !whole && !session.daemon_late && since >= HANDSHAKE_MS + PATIENCE_MS {
                session.daemon_late = true;
                self.found.add(Rule::Cry11, Some(id), || {
                    format!("kept a session {} s after it got its handshake_init, without a handshake", since / 1_000)
                });
            }
        }
    }
}

/// CRY-04, CRY-09: the nonce of one Data. `whole` says that it comes on the session's first line.
fn number(frame: &FrameSeen, wanted: u32, last: &mut Option<Last>, line: Line, whole: bool, found: &mut Found) {
    let Line { connection, lossy } = line;
    let Inside::Nonce { direction, sequence } = frame.inside else { return };
    if direction != wanted {
        return found.add(Rule::Cry09, frame.session, || format!("a nonce of direction {direction}"));
    }
    let (expected, whole) = match last {
        Some(last) => (last.sequence.saturating_add(1), last.connection == connection),
        None => (0, whole),
    };
    if sequence < expected {
        found.add(Rule::Cry04, frame.session, || format!("sequence {sequence} where {expected} comes next"));
        return;
    }
    if sequence > expected && whole && !lossy {
        found.add(Rule::Cry04, frame.session, || format!("sequence {sequence} where {expected} comes next"));
    }
    *last = Some(Last { sequence, connection });
}
