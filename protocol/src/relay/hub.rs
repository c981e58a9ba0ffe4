//! One daemon's socket and its sessions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    ConnId, Counters, DropReason, HubConfig, Output, Refused, Report, SessionState, SessionView, Takeover,
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
    clients: BTreeMap<ConnId, SessionId>,
    sessions: BTreeMap<SessionId, Session>,
    deadlines: BTreeSet<(Instant, SessionId)>,
    ended: EndedIds,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl DaemonHub {
    /// A hub without connections.
    pub fn new(config: HubConfig) -> Self {
        Self {
            config,
            daemon: None,
            clients: BTreeMap::new(),
            sessions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ended: EndedIds::new(config.ended_ids),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    // ---- inputs

    /// The daemon's upgrade is granted; `resumable` says whether its token has `session:resume`. A socket that was there
    /// is replaced: its sessions take the path "daemon socket closes, daemon returns" (REL-12).
    ///
    /// # Errors
    /// [`Refused::DaemonConnected`], by configuration.
    pub fn handle_daemon_open(&mut self, conn: ConnId, resumable: bool, now: Instant) -> Result<(), Refused> {
        self.expire(now);
        if let Some(old) = self.daemon {
            match self.config.takeover {
                Takeover::Refuse => return Err(Refused::DaemonConnected),
                Takeover::Replace => {
                    self.outputs.push_back(Output::Close { conn: old, code: close::REPLACED });
                    self.gone(old, now);
                }
            }
        }
        self.daemon = Some(conn);
        let event = if resumable { Event::DaemonReturnsResumable } else { Event::DaemonReturnsAfresh };
        self.apply_to_all(event, now);
        Ok(())
    }

    /// A client's upgrade is granted, for the session of its token. With the daemon away it is told so and closed.
    ///
    /// # Errors
    /// [`Refused::SessionOpen`]; a [`Registry`](super::Registry) above finds that out earlier.
    pub fn handle_client_open(&mut self, conn: ConnId, session: SessionId, now: Instant) -> Result<(), Refused> {
        self.expire(now);
        if self.sessions.contains_key(&session) {
            return Err(Refused::SessionOpen);
        }
        let event = if self.daemon.is_some() { Event::ClientOpensOnline } else { Event::ClientOpensOffline };
        let step = pairing::step(SessionState::Gone, event);
        if step.next == SessionState::Gone {
            // The daemon never had this session, so its id does not count as ended.
            if let Some(code) = step.to_client {
                self.control(conn, code, session.get());
                self.outputs.push_back(Output::Close { conn, code: code.close_code() });
            }
            return Ok(());
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

    /// The receiver is too slow (REL-21): it gets `backpressure` and is closed. What was queued here for it is discarded,
    /// and the driver discards what it still holds: nothing may follow a gap but the Control.
    pub fn handle_backpressure(&mut self, conn: ConnId, now: Instant) {
        self.expire(now);
        if self.daemon == Some(conn) || self.clients.contains_key(&conn) {
            self.outputs.retain(|output| !matches!(output, Output::Send { to, .. } if *to == conn));
            self.refuse(conn, ControlCode::Backpressure, 0, now);
        }
    }

    /// The relay stops: every connection is closed with 1012, all sessions end (REL-24).
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.expire(now);
        for (session, ended) in std::mem::take(&mut self.sessions) {
            self.outputs.push_back(Output::Close { conn: ended.client, code: close::RESTART });
            self.report(Report::Session { session, state: SessionState::Gone });
            self.ended.insert(session);
        }
        self.clients.clear();
        self.deadlines.clear();
        if let Some(conn) = self.daemon.take() {
            self.outputs.push_back(Output::Close { conn, code: close::RESTART });
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

    fn client_message(&mut self, conn: ConnId, own: SessionId, message: Bytes, now: Instant) {
        let header = match Header::parse(&message) {
            Ok(header) => header,
            Err(error) => return self.refuse(conn, refusal(error), 0, now),
        };
        match header.frame_type {
            // WIRE-15
            FrameType::HandshakeAccept | FrameType::Signal | FrameType::Control => {
                self.refuse(conn, ControlCode::DisallowedSender, header.session, now);
            }
            FrameType::Ping => self.pong(conn, &message),
            // A Pong proves life, which the driver has seen already.
            FrameType::Pong => {}
            FrameType::HandshakeInit | FrameType::Data => {
                // WIRE-16
                if header.session != own.get() {
                    return self.refuse(conn, ControlCode::SessionNotFound, header.session, now);
                }
                match (self.sessions.get(&own).map_or(SessionState::Gone, |s| s.state), self.daemon) {
                    (SessionState::Paired, Some(daemon)) => self.forward(daemon, own, message),
                    // REL-03. A paired session has a daemon, and a client on the books has a session.
                    (SessionState::Paused | SessionState::Paired | SessionState::Gone, _) => {
                        self.dropped(conn, own, header.frame_type, DropReason::Paused);
                    }
                    (SessionState::Pending, _) => self.dropped(conn, own, header.frame_type, DropReason::Pending),
                }
            }
        }
    }

    fn daemon_message(&mut self, conn: ConnId, message: Bytes, now: Instant) {
        let header = match Header::parse(&message) {
            Ok(header) => header,
            Err(error) => return self.refuse(conn, refusal(error), 0, now),
        };
        match (header.frame_type, SessionId::new(header.session)) {
            // WIRE-15
            (FrameType::HandshakeInit | FrameType::Control, _) => {
                self.refuse(conn, ControlCode::DisallowedSender, header.session, now);
            }
            (FrameType::Ping, _) => self.pong(conn, &message),
            (FrameType::Pong, _) => {}
            (FrameType::HandshakeAccept | FrameType::Data, Some(session)) => {
                self.daemon_frame(conn, session, header.frame_type, message, now);
            }
            (FrameType::Signal, Some(session)) => match wire::decode_signal(header.session, &message[HEADER_LEN..]) {
                // WIRE-08: whatever the reason is, it changes nothing here.
                Ok((signal, _)) => self.signal(conn, session, signal, now),
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
            Some((SessionState::Pending, _)) => self.dropped(conn, session, frame_type, DropReason::Pending),
            // Not while its daemon is here to send.
            Some((SessionState::Paused, _)) => self.dropped(conn, session, frame_type, DropReason::Paused),
            Some((SessionState::Gone, _)) | None if self.ended.contains(session) => {
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
            return self.control(conn, ControlCode::SessionEnded, session.get());
        }
        let event = match signal {
            Signal::Ready => Event::SignalReady,
            Signal::Close => Event::SignalClose,
        };
        self.apply(session, event, now);
    }

    /// WIRE-18
    fn forward(&mut self, to: ConnId, session: SessionId, message: Bytes) {
        self.counters.count_forward(message.len());
        self.outputs.push_back(Output::Send { to, message, forwards: Some(session) });
    }

    /// WIRE-19
    fn pong(&mut self, to: ConnId, ping: &Bytes) {
        let message = Frame::Pong(ping.slice(HEADER_LEN..)).encode();
        self.outputs.push_back(Output::Send { to, message, forwards: None });
    }

    fn dropped(&mut self, from: ConnId, session: SessionId, frame_type: FrameType, reason: DropReason) {
        self.counters.count_drop(reason);
        self.report(Report::Dropped { from, session, frame_type, reason });
    }

    // ---- pairing

    /// A terminal Control about a connection's own frame, then the close; the pairing follows at once (REL-01).
    /// `session` is the header's id for the codes that carry it.
    fn refuse(&mut self, conn: ConnId, code: ControlCode, session: u64, now: Instant) {
        self.control(conn, code, session);
        self.outputs.push_back(Output::Close { conn, code: code.close_code() });
        self.gone(conn, now);
    }

    /// A connection counts as closed from here on.
    fn gone(&mut self, conn: ConnId, now: Instant) {
        if self.daemon == Some(conn) {
            self.daemon = None;
            self.apply_to_all(Event::DaemonCloses, now);
        } else if let Some(session) = self.clients.remove(&conn) {
            self.apply(session, Event::ClientCloses, now);
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
        let Step { to_client, to_daemon, next } = pairing::step(entry.state, event);
        let changed = entry.state != next;
        let client = entry.client;

        let before = entry.deadline;
        let deadline = if next.grace_runs() { before.or(Some(now + self.config.grace)) } else { None };
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
                self.outputs.push_back(Output::Close { conn: client, code: code.close_code() });
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
        let message = wire::control_message(code, session);
        self.outputs.push_back(Output::Send { to, message, forwards: None });
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
