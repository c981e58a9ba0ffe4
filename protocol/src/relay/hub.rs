//! One daemon's socket and its sessions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    ConnId, Counters, DropReason, HubConfig, Output, Refused, RelayQuirk, Report, SessionState, SessionView, Takeover,
    ended::EndedIds,
    pairing::{self, Event, Step},
};
use crate::{
    Instant, SessionId,
    wire::{self, ControlCode, Frame, FrameType, HEADER_LEN, Header, HeaderError, Scope, Signal, close},
};

#[derive(Debug)]
struct Session {
    client: ConnId,
    state: SessionState,
    /// When the grace is over; counted from the daemon's loss and kept through Pending.
    deadline: Option<Instant>,
}

/// One daemon's socket and its sessions. The module says how it is driven.
#[derive(Debug)]
pub struct DaemonHub {
    config: HubConfig,
    daemon: Option<ConnId>,
    /// Most sessions by the token of the daemon that was here last.
    daemon_limit: Option<u64>,
    clients: BTreeMap<ConnId, SessionId>,
    sessions: BTreeMap<SessionId, Session>,
    deadlines: BTreeSet<(Instant, SessionId)>,
    ended: EndedIds,
    outputs: VecDeque<Output>,
    counters: Counters,
    /// A frame that waits for the next one to pass, by [`RelayQuirk::SwapsFrames`].
    overtaken: Option<(ConnId, SessionId, Bytes)>,
}

impl DaemonHub {
    /// A hub without connections.
    pub fn new(config: HubConfig) -> Self {
        Self {
            config,
            daemon: None,
            daemon_limit: None,
            clients: BTreeMap::new(),
            sessions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ended: EndedIds::new(config.ended_ids),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            overtaken: None,
        }
    }

    /// Grace, takeover and the session limit are other ones from now on. A grace that runs keeps its end; sessions over
    /// a lower limit stay. How many ended ids are remembered does not change.
    pub fn set_config(&mut self, config: HubConfig) {
        self.config = HubConfig { ended_ids: self.config.ended_ids, ..config };
    }

    // ---- inputs

    /// The daemon's upgrade is granted; `resumable` says whether its token has `session:resume`, `limit` is the token's
    /// `lim.concurrent_sessions`. A socket that was there is replaced: its sessions take the path "daemon socket closes,
    /// daemon returns" (REL-12).
    ///
    /// # Errors
    /// [`Refused::DaemonConnected`], by configuration.
    pub fn handle_daemon_open(
        &mut self,
        conn: ConnId,
        resumable: bool,
        limit: Option<u64>,
        now: Instant,
    ) -> Result<(), Refused> {
        self.expire(now);
        if let Some(old) = self.daemon {
            match self.takeover() {
                Takeover::Refuse => return Err(Refused::DaemonConnected),
                Takeover::Replace => {
                    let wordless = self.quirk(RelayQuirk::ReplacesWithoutWord);
                    let code = if wordless { close::NORMAL } else { close::REPLACED };
                    self.outputs.push_back(Output::Close { conn: old, code });
                    self.gone(old, now);
                }
            }
        }
        self.daemon = Some(conn);
        self.daemon_limit = limit;
        let resumable = resumable || self.quirk(RelayQuirk::ResumesAnyDaemon);
        let event = if resumable { Event::DaemonReturnsResumable } else { Event::DaemonReturnsAfresh };
        self.apply_to_all(event, now);
        if self.quirk(RelayQuirk::ResumesUnready) {
            self.apply_to_all(Event::SignalReady, now);
        }
        Ok(())
    }

    /// A client's upgrade is granted, for the session of its token; `limit` is the token's `lim.concurrent_sessions`. With
    /// the daemon away it is told so and closed.
    ///
    /// All live sessions of the daemon count against the limit, whichever user's, paused or ghosts. The least of what the
    /// client's and the daemon's token say holds, and the default only where neither says anything (REL-23). ◇
    ///
    /// # Errors
    /// [`Refused::TooManySessions`]; [`Refused::SessionOpen`], which a [`Registry`](super::Registry) above finds out earlier.
    pub fn handle_client_open(
        &mut self,
        conn: ConnId,
        session: SessionId,
        limit: Option<u64>,
        now: Instant,
    ) -> Result<(), Refused> {
        self.expire(now);
        if self.sessions.contains_key(&session) {
            if self.quirk(RelayQuirk::TellsConflictsLate) {
                self.outputs.push_back(Output::Close { conn, code: close::POLICY });
                return Ok(());
            }
            return Err(Refused::SessionOpen);
        }
        if self.quirk(RelayQuirk::RefusesBesideGhosts) && !self.sessions.is_empty() {
            return Err(Refused::SessionOpen);
        }
        let event = if self.daemon.is_some() { Event::ClientOpensOnline } else { Event::ClientOpensOffline };
        let step = pairing::step(SessionState::Gone, event);
        if step.next == SessionState::Gone {
            // The daemon never had this session, so its id does not count as ended.
            if let Some(code) = step.to_client {
                self.control(conn, code, session.get());
                self.outputs.push_back(Output::Close { conn, code: self.close_code(code) });
            }
            return Ok(());
        }
        if self.sessions.len() as u64 >= self.session_limit(limit) {
            return Err(Refused::TooManySessions);
        }
        self.clients.insert(conn, session);
        self.sessions.insert(session, Session { client: conn, state: step.next, deadline: None });
        self.report(Report::Session { session, state: step.next });
        Ok(())
    }

    /// A whole binary message came. The first rule of WIRE-11 to WIRE-17 that applies decides.
    pub fn handle_message(&mut self, conn: ConnId, message: Bytes, now: Instant) {
        self.expire(now);
        if self.daemon == Some(conn) {
            self.daemon_message(conn, message, now);
        } else if let Some(&session) = self.clients.get(&conn) {
            self.client_message(conn, session, message, now);
        }
        // Anything else was closed by the relay and is read only to be discarded (WIRE-09).
    }

    /// The socket is gone, or the driver closes it for a reason of its own.
    pub fn handle_closed(&mut self, conn: ConnId, now: Instant) {
        self.expire(now);
        self.gone(conn, now);
    }

    /// The socket is closed by the driver because it was silent for too long: a ghost goes (REL-11, REL-22).
    pub fn handle_swept(&mut self, conn: ConnId, now: Instant) {
        self.expire(now);
        if self.quirk(RelayQuirk::SweepsSilently) && self.clients.contains_key(&conn) {
            let daemon = self.daemon.take();
            self.gone(conn, now);
            self.daemon = daemon;
        }
        self.gone(conn, now);
    }

    /// The receiver is too slow, or a sender does not get on (REL-21): it gets `backpressure` and is closed. What was
    /// queued here for it is discarded, and the driver discards what it still holds: nothing may follow a gap but the
    /// Control.
    pub fn handle_backpressure(&mut self, conn: ConnId, now: Instant) {
        self.expire(now);
        if self.is_open(conn) && !self.quirk(RelayQuirk::ServesGaps) {
            self.outputs.retain(|output| !matches!(output, Output::Send { to, .. } if *to == conn));
            self.refuse(conn, ControlCode::Backpressure, 0, now);
        }
    }

    /// So many frames of the connection were over its rate and dropped; it is told if `tell` (REL-20).
    pub fn handle_over_rate(&mut self, conn: ConnId, frames: u64, tell: bool, now: Instant) {
        self.expire(now);
        if !self.is_open(conn) {
            return;
        }
        self.counters.count_drop(DropReason::RateLimited, frames);
        if self.quirk(RelayQuirk::ClosesOverRate) {
            self.refuse(conn, ControlCode::RateLimited, 0, now);
        } else if tell {
            self.control(conn, ControlCode::RateLimited, 0);
        }
    }

    /// The connection has been silent for a while (REL-22).
    pub fn handle_ping_due(&mut self, conn: ConnId, now: Instant) {
        self.expire(now);
        if self.is_open(conn) {
            let message = Frame::Ping(Bytes::new()).encode();
            self.outputs.push_back(Output::Send { to: conn, message, forwards: None });
        }
    }

    /// The relay stops: every connection is closed with 1012, all sessions end (REL-24).
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.expire(now);
        let code = if self.quirk(RelayQuirk::ShutsDownAsDone) { close::NORMAL } else { close::RESTART };
        for (session, ended) in std::mem::take(&mut self.sessions) {
            self.outputs.push_back(Output::Close { conn: ended.client, code });
            self.report(Report::Session { session, state: SessionState::Gone });
            self.ended.insert(session);
        }
        self.clients.clear();
        self.deadlines.clear();
        if let Some(conn) = self.daemon.take() {
            self.outputs.push_back(Output::Close { conn, code });
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
    }

    // ---- outputs

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    // ---- views

    /// The daemon's connection, if it has one.
    pub fn daemon(&self) -> Option<ConnId> {
        self.daemon
    }

    /// The live sessions, in the order of their ids.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> + '_ {
        self.sessions.iter().map(|(&session, s)| SessionView { session, client: s.client, state: s.state })
    }

    /// One live session.
    pub fn session(&self, session: SessionId) -> Option<SessionView> {
        self.sessions.get(&session).map(|s| SessionView { session, client: s.client, state: s.state })
    }

    /// What was counted since the hub was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether the hub may be thrown away: no connection, and no ended id that it would have to know again (WIRE-17).
    pub fn is_idle(&self) -> bool {
        self.daemon.is_none() && self.sessions.is_empty() && self.ended.is_empty() && self.outputs.is_empty()
    }

    // ---- frames

    /// WIRE-11 to WIRE-14: a frame's header, or its sender is refused.
    fn header(&mut self, conn: ConnId, message: &Bytes, now: Instant) -> Option<Header> {
        let error = match Header::parse(message) {
            Ok(header) => return Some(header),
            Err(error) => error,
        };
        let code = match error {
            HeaderError::Short(_) if self.quirk(RelayQuirk::SkipsShortFrames) => return None,
            HeaderError::UnknownType(_) if self.quirk(RelayQuirk::SkipsUnknownTypes) => return None,
            HeaderError::SessionId { .. } if self.quirk(RelayQuirk::SkipsZeroSessions) => return None,
            HeaderError::TooLarge(declared) if declared as usize == message.len() - HEADER_LEN => {
                if self.quirk(RelayQuirk::TakesLargePayloads) {
                    let own = self.clients.get(&conn).map_or(0, |own| own.get());
                    return Some(Header { frame_type: FrameType::Data, length: declared as usize, session: own });
                }
                ControlCode::PayloadTooLarge
            }
            HeaderError::TooLarge(_) if self.quirk(RelayQuirk::MindsLengthFirst) => ControlCode::MalformedFrame,
            HeaderError::Short(_)
            | HeaderError::LengthMismatch { .. }
            | HeaderError::TooLarge(_)
            | HeaderError::UnknownType(_)
            | HeaderError::SessionId { .. } => refusal(error),
        };
        self.refuse(conn, code, 0, now);
        None
    }

    fn client_message(&mut self, conn: ConnId, own: SessionId, message: Bytes, now: Instant) {
        let Some(header) = self.header(conn, &message, now) else { return };
        match header.frame_type {
            // WIRE-15
            FrameType::HandshakeAccept | FrameType::Signal | FrameType::Control => {
                self.disallowed(conn, header.session, now);
            }
            FrameType::Ping => self.pong(conn, &message),
            // A Pong proves life, which the driver has seen already.
            FrameType::Pong => {}
            FrameType::HandshakeInit | FrameType::Data => {
                // WIRE-16
                if header.session != own.get() && !self.quirk(RelayQuirk::TakesForeignSessions) {
                    return self.refuse(conn, ControlCode::SessionNotFound, header.session, now);
                }
                match (self.sessions.get(&own).map_or(SessionState::Gone, |s| s.state), self.daemon) {
                    (SessionState::Paired, Some(daemon)) => self.forward(daemon, own, message),
                    // REL-03. A paired session has a daemon, and a client on the books has a session.
                    (SessionState::Paused | SessionState::Paired | SessionState::Gone, _) => {
                        self.dropped(conn, own, header.frame_type, DropReason::Paused);
                    }
                    (SessionState::Pending, Some(daemon)) if self.quirk(RelayQuirk::ForwardsWhilePending) => {
                        self.forward(daemon, own, message);
                    }
                    (SessionState::Pending, _) => self.dropped(conn, own, header.frame_type, DropReason::Pending),
                }
            }
        }
    }

    fn daemon_message(&mut self, conn: ConnId, message: Bytes, now: Instant) {
        let Some(header) = self.header(conn, &message, now) else { return };
        match (header.frame_type, SessionId::new(header.session)) {
            // WIRE-15
            (FrameType::HandshakeInit | FrameType::Control, _) => {
                self.disallowed(conn, header.session, now);
            }
            (FrameType::Ping, _) => self.pong(conn, &message),
            (FrameType::Pong, _) => {}
            (FrameType::HandshakeAccept | FrameType::Data, Some(session)) => {
                self.daemon_frame(conn, session, header.frame_type, message, now);
            }
            (FrameType::Signal, Some(session)) => match wire::decode_signal(header.session, &message[HEADER_LEN..]) {
                Ok(_) if self.quirk(RelayQuirk::RefusesUnknownReasons) && message[HEADER_LEN + 1] > 4 => {
                    self.refuse(conn, ControlCode::MalformedFrame, 0, now);
                }
                // WIRE-08: whatever the reason is, it changes nothing here.
                Ok((signal, _)) => self.signal(conn, session, signal, now),
                Err(_) if self.quirk(RelayQuirk::TakesAnySignal) => self.signal(conn, session, Signal::Close, now),
                Err(_) => self.refuse(conn, ControlCode::MalformedFrame, 0, now),
            },
            // WIRE-14; the header's check has seen to it.
            (FrameType::HandshakeAccept | FrameType::Data | FrameType::Signal, None) => {
                self.refuse(conn, ControlCode::InvalidSessionId, 0, now);
            }
        }
    }

    /// A daemon's Accept or Data (WIRE-17, REL-03).
    fn daemon_frame(&mut self, conn: ConnId, session: SessionId, frame_type: FrameType, message: Bytes, now: Instant) {
        match self.sessions.get(&session).map(|s| (s.state, s.client)) {
            Some((SessionState::Paired, client)) => self.forward(client, session, message),
            Some((SessionState::Pending, client)) if self.quirk(RelayQuirk::TakesDaemonWhilePending) => {
                self.forward(client, session, message);
            }
            Some((SessionState::Pending, _)) => self.dropped(conn, session, frame_type, DropReason::Pending),
            // Not while its daemon is here to send.
            Some((SessionState::Paused, _)) => self.dropped(conn, session, frame_type, DropReason::Paused),
            Some((SessionState::Gone, _)) | None if self.had(session) => {
                self.dropped(conn, session, frame_type, DropReason::Ended);
            }
            Some((SessionState::Gone, _)) | None => {
                self.refuse(conn, ControlCode::SessionNotFound, session.get(), now);
            }
        }
    }

    fn signal(&mut self, conn: ConnId, session: SessionId, signal: Signal, now: Instant) {
        if !self.sessions.contains_key(&session) {
            // WIRE-17: ended or unknown; either way the daemon learns that it is over, and the id counts as ended.
            self.ended.insert(session);
            if !self.quirk(RelayQuirk::SilentOnLateSignals) {
                self.control(conn, ControlCode::SessionEnded, session.get());
            }
            return;
        }
        let event = match signal {
            Signal::Ready => {
                if let Some(&Session { client, state: SessionState::Paired, .. }) = self.sessions.get(&session)
                    && self.quirk(RelayQuirk::ResumesPaired)
                {
                    self.control(client, ControlCode::SessionResumed, session.get());
                }
                Event::SignalReady
            }
            Signal::Close => Event::SignalClose,
        };
        self.apply(session, event, now);
    }

    /// Whether the daemon had this session, which has ended.
    fn had(&self, session: SessionId) -> bool {
        (self.ended.contains(session) || self.quirk(RelayQuirk::BearsUnknownSessions))
            && !self.quirk(RelayQuirk::ForgetsEnded)
    }

    /// WIRE-15
    fn disallowed(&mut self, conn: ConnId, session: u64, now: Instant) {
        if !self.quirk(RelayQuirk::SkipsDisallowed) {
            self.refuse(conn, ControlCode::DisallowedSender, session, now);
        }
    }

    /// WIRE-18
    fn forward(&mut self, to: ConnId, session: SessionId, mut message: Bytes) {
        if self.quirk(RelayQuirk::ChangesBytes) {
            let mut changed = message.to_vec();
            if let Some(last) = changed.last_mut() {
                *last ^= 1;
            }
            message = changed.into();
        }
        if self.quirk(RelayQuirk::SwapsFrames) {
            match self.overtaken.take() {
                None => self.overtaken = Some((to, session, message)),
                Some((first_to, first_session, first)) => {
                    self.outputs.push_back(Output::Send { to, message, forwards: Some(session) });
                    let forwards = Some(first_session);
                    self.outputs.push_back(Output::Send { to: first_to, message: first, forwards });
                }
            }
            return;
        }
        self.counters.count_forward(message.len());
        self.outputs.push_back(Output::Send { to, message, forwards: Some(session) });
    }

    /// WIRE-19
    fn pong(&mut self, to: ConnId, ping: &Bytes) {
        if self.quirk(RelayQuirk::IgnoresPings) {
            return;
        }
        let payload = if self.quirk(RelayQuirk::PongsEmpty) { Bytes::new() } else { ping.slice(HEADER_LEN..) };
        let message = Frame::Pong(payload).encode();
        self.outputs.push_back(Output::Send { to, message, forwards: None });
    }

    fn dropped(&mut self, from: ConnId, session: SessionId, frame_type: FrameType, reason: DropReason) {
        self.counters.count_drop(reason, 1);
        self.report(Report::Dropped { from, session, frame_type, reason });
    }

    // ---- pairing

    /// A terminal Control about a connection's own frame, then the close; the pairing follows at once (REL-01).
    /// `session` is the header's id for the codes that carry it.
    fn refuse(&mut self, conn: ConnId, code: ControlCode, session: u64, now: Instant) {
        self.control(conn, code, session);
        self.outputs.push_back(Output::Close { conn, code: self.close_code(code) });
        self.gone(conn, now);
    }

    fn close_code(&self, code: ControlCode) -> u16 {
        if self.quirk(RelayQuirk::ClosesAlikeAfterControl) { close::NORMAL } else { code.close_code() }
    }

    fn is_open(&self, conn: ConnId) -> bool {
        self.daemon == Some(conn) || self.clients.contains_key(&conn)
    }

    fn takeover(&self) -> Takeover {
        if self.quirk(RelayQuirk::NeverReplaces) {
            Takeover::Refuse
        } else if self.quirk(RelayQuirk::AlwaysReplaces) {
            Takeover::Replace
        } else {
            self.config.takeover
        }
    }

    fn session_limit(&self, token: Option<u64>) -> u64 {
        let tokens = if self.quirk(RelayQuirk::IgnoresTokenLimit) { [None, None] } else { [token, self.daemon_limit] };
        let default = if self.quirk(RelayQuirk::HasNoSessionLimit) { u64::MAX } else { self.config.sessions };
        tokens.into_iter().flatten().min().unwrap_or(default)
    }

    fn quirk(&self, quirk: RelayQuirk) -> bool {
        self.config.danger_quirks.has(quirk)
    }

    /// A connection counts as closed from here on.
    fn gone(&mut self, conn: ConnId, now: Instant) {
        if self.daemon == Some(conn) {
            self.daemon = None;
            self.apply_to_all(Event::DaemonCloses, now);
        } else if let Some(session) = self.clients.remove(&conn) {
            self.apply(session, Event::ClientCloses, now);
            if self.quirk(RelayQuirk::EndsSessionsTogether) {
                self.apply_to_all(Event::SignalClose, now);
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(at, session)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            self.apply(session, Event::GraceOver, now);
        }
    }

    fn apply_to_all(&mut self, event: Event, now: Instant) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in ids {
            self.apply(session, event, now);
        }
        self.expire(now);
    }

    /// Takes one step of the table.
    fn apply(&mut self, session: SessionId, event: Event, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        let Step { to_client, mut to_daemon, next } = pairing::step(entry.state, event);
        let quirks = self.config.danger_quirks;
        if event == Event::ClientCloses && quirks.has(RelayQuirk::SilentOnClientsEnd) {
            to_daemon = None;
        }
        let changed = entry.state != next;
        let client = entry.client;

        let before = entry.deadline;
        let kept = if quirks.has(RelayQuirk::GraceStartsAnew) && event == Event::DaemonCloses { None } else { before };
        let grace_runs = next.grace_runs() && !quirks.has(RelayQuirk::GraceNeverEnds);
        let deadline = if grace_runs { kept.or(Some(now + self.config.grace)) } else { None };
        entry.state = next;
        entry.deadline = deadline;
        if before != deadline {
            if let Some(at) = before {
                self.deadlines.remove(&(at, session));
            }
            if let Some(at) = deadline {
                self.deadlines.insert((at, session));
            }
        }

        if let Some(code) = to_client {
            self.control(client, code, session.get());
            if code.is_terminal() {
                self.outputs.push_back(Output::Close { conn: client, code: self.close_code(code) });
            }
        }
        if let (Some(code), Some(daemon)) = (to_daemon, self.daemon) {
            self.control(daemon, code, session.get());
        }
        if next == SessionState::Gone {
            self.sessions.remove(&session);
            self.clients.remove(&client);
            self.ended.insert(session);
        }
        if changed {
            self.report(Report::Session { session, state: next });
        }
    }

    fn control(&mut self, to: ConnId, code: ControlCode, session: u64) {
        let session = match code.scope() {
            Scope::Session => session,
            Scope::Connection => 0,
        };
        let message = if self.quirk(RelayQuirk::NamesSessionInText) {
            let message = format!("session {session:016x}");
            Frame::Control { session: SessionId::new(session), code: Ok(code), message }.encode()
        } else {
            wire::control_message(code, session)
        };
        self.outputs.push_back(Output::Send { to, message, forwards: None });
        if !code.is_terminal() && self.quirk(RelayQuirk::ClosesAfterEveryControl) {
            self.outputs.push_back(Output::Close { conn: to, code: close::NORMAL });
        }
        self.report(Report::Control { to, session: SessionId::new(session), code });
    }

    fn report(&mut self, report: Report) {
        self.outputs.push_back(Output::Report(report));
    }
}

/// The code for a header that is refused (WIRE-11 to WIRE-14).
fn refusal(error: HeaderError) -> ControlCode {
    match error {
        HeaderError::Short(_) | HeaderError::LengthMismatch { .. } => ControlCode::MalformedFrame,
        HeaderError::TooLarge(_) => ControlCode::PayloadTooLarge,
        HeaderError::UnknownType(_) => ControlCode::InvalidFrameType,
        HeaderError::SessionId { .. } => ControlCode::InvalidSessionId,
    }
}
