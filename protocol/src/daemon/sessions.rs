//! The sessions of a daemon: they share nothing but the socket (DMN-06, DMN-07, DMN-10, DMN-11, DMN-15, DMN-16).

use bytes::Bytes;

use super::{Report, SessionHandle, SessionState, machine::Daemon};
use crate::{
    Entropy, Instant, SessionId,
    client::CallLimits,
    crypto, entropy,
    event::EventName,
    failure::Cause,
    peer::{Answer, CallError, CallId, Delivery, PendingCall, Session, SessionOutput, Side},
    quirks::Quirk,
    sbp::{FrameId, Introduction},
    time::earliest,
    wire::{Frame, INIT_LEN, Reason, Signal},
};

/// One session of a daemon.
#[derive(Debug)]
pub(super) struct Slot {
    session: Session,
    /// The number of its [`SessionHandle`].
    number: u64,
    /// CRY-11: until the client has introduced itself.
    deadline: Option<Instant>,
    /// When this session is next looked at; the same as in [`Daemon::deadlines`].
    armed: Option<Instant>,
}

impl Slot {
    const fn state(&self) -> SessionState {
        if self.deadline.is_some() {
            SessionState::Negotiating
        } else if self.session.is_held() {
            SessionState::Paused
        } else {
            SessionState::Active
        }
    }

    fn due(&self) -> Option<Instant> {
        earliest(self.deadline, self.session.poll_timeout())
    }
}

impl Daemon {
    /// DMN-06: a new id starts a session.
    pub(super) fn handle_init(&mut self, id: SessionId, client_ephemeral: &[u8; INIT_LEN], now: Instant) {
        if self.sessions.contains_key(&id) {
            // WIRE-21
            self.refused += 1;
            return self.session_malformed(id, "a second HandshakeInit");
        }
        if self.sessions.len() >= self.config.max_sessions {
            self.report(Report::Refused { session: id, cause: Cause::Overflow("sessions") });
            return self.signal(id, Signal::Close, Reason::Policy);
        }
        let quirks = self.config.quirks;
        // A daemon that has ended takes no session.
        let Some(identity) = &self.identity else { return };
        let accepted = crypto::accept_with(identity, &self.daemon_id, client_ephemeral, &mut *self.entropy, quirks);
        let (accept, keys) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // CRY-03
                let cause = Cause::HandshakeFailed(error.to_string());
                self.report(Report::Refused { session: id, cause });
                return self.signal(id, Signal::Close, Reason::Error);
            }
        };
        self.transmit(&Frame::HandshakeAccept { session: id, payload: (&accept).into() });
        let peer_id = format!("peer_{:016x}", entropy::next_u64(&mut *self.entropy));
        let hello = Introduction::new(peer_id);
        let mut session = Session::new(id, Side::Daemon, &keys, &hello, self.config.limits, &mut *self.entropy);
        session.set_quirks(quirks);
        if self.config.receipts {
            session.send_receipts();
        }
        let deadline = if quirks.has(Quirk::WaitsForHandshakeForEver) {
            None
        } else {
            Some(now + self.config.connection.handshake_timeout)
        };
        self.begun += 1;
        self.sessions.insert(id, Slot { session, number: self.begun, deadline, armed: None });
        self.pump(id);
    }

    pub(super) fn handle_data(&mut self, id: SessionId, payload: Bytes, now: Instant) {
        let Some(slot) = self.sessions.get_mut(&id) else {
            // CRY-10, DMN-06: frames of unknown sessions are ignored.
            if self.config.quirks.has(Quirk::AnswersDataOfNoSession) {
                self.signal(id, Signal::Close, Reason::StateLost);
            }
            if self.config.quirks.has(Quirk::ReconnectsOnUnknownSession) {
                self.fail(Cause::MalformedFrame("a frame of an unknown session".to_owned()), false, now);
            }
            return;
        };
        slot.session.handle_payload(payload, &mut *self.entropy);
        self.refused += slot.session.take_refused();
        self.pump(id);
    }

    /// A HandshakeInit of a wrong size (WIRE-02): ends the session, or never begins it; the relay tells the client.
    pub(super) fn refuse_init(&mut self, id: SessionId, what: &str) {
        if self.sessions.contains_key(&id) {
            return self.session_malformed(id, what);
        }
        self.report(Report::Refused { session: id, cause: Cause::MalformedFrame(what.to_owned()) });
        self.signal(id, Signal::Close, Reason::Error);
    }

    /// WIRE-02, WIRE-21: ends that session.
    pub(super) fn session_malformed(&mut self, id: SessionId, what: &str) {
        if self.sessions.contains_key(&id) {
            self.end_by_id(id, Cause::MalformedFrame(what.to_owned()), Reason::Error);
        }
    }

    /// Does what a session asks for.
    fn pump(&mut self, id: SessionId) {
        let quirks = self.config.quirks;
        while let Some(slot) = self.sessions.get_mut(&id)
            && let Some(output) = slot.session.poll_output()
        {
            match output {
                SessionOutput::Frame(frame) => self.out.push_back(crate::endpoint::Output::Transmit(frame)),
                SessionOutput::Introduced(introduction) => {
                    slot.deadline = None;
                    let session = SessionHandle { id, number: slot.number };
                    self.report(Report::Opened { session, introduction });
                }
                SessionOutput::Deliver(delivery) => self.report(Report::Delivery { session: id, delivery }),
                SessionOutput::Ended(cause) => {
                    // DMN-15: after an SBP Close there is no error.
                    let closed = matches!(cause, Cause::PeerClosed { .. });
                    let reason =
                        if closed && !quirks.has(Quirk::SignalsErrorAfterClose) { Reason::None } else { Reason::Error };
                    self.end_by_id(id, cause, reason);
                }
            }
        }
        self.arm(id);
    }

    /// Keeps the deadlines of all sessions in one order, so that none but those that are due are looked at.
    fn arm(&mut self, id: SessionId) {
        let Some(slot) = self.sessions.get_mut(&id) else { return };
        let due = slot.due();
        if slot.armed != due {
            if let Some(at) = slot.armed {
                self.deadlines.remove(&(at, id));
            }
            if let Some(at) = due {
                self.deadlines.insert((at, id));
            }
            slot.armed = due;
        }
    }

    /// Ends a session from this side and tells the relay (DMN-15). Other sessions go on.
    pub fn end_session(&mut self, session: SessionHandle, cause: Cause, reason: Reason) {
        if self.slot(session).is_some() {
            self.end_by_id(session.id, cause, reason);
        }
    }

    /// Ends the session that has this id now.
    fn end_by_id(&mut self, id: SessionId, cause: Cause, reason: Reason) {
        if !self.sessions.contains_key(&id) {
            return;
        }
        let quirks = self.config.quirks;
        let together = quirks.has(Quirk::EndsSessionsTogether)
            || quirks.has(Quirk::SlowConsumerEndsAll) && matches!(cause, Cause::Overflow(_));
        let ended = if together { self.sessions.keys().copied().collect() } else { vec![id] };
        for id in ended {
            if !quirks.has(Quirk::EndsSessionSilently) {
                self.signal(id, Signal::Close, reason);
            }
            self.free(id, cause.clone());
        }
    }

    /// Closes one session as its user asks: SBP Close, then Signal(close, none) (SBP-07, DMN-15).
    pub fn close_session(&mut self, session: SessionHandle) {
        if let Some((slot, entropy)) = self.slot(session) {
            // While the socket is away no SBP Close can go out.
            if !slot.session.is_held() {
                slot.session.close("", entropy);
            }
            let id = session.id;
            self.pump(id);
            let wrong = self.config.quirks.has(Quirk::SignalsErrorAfterClose);
            self.end_by_id(id, Cause::Closed, if wrong { Reason::Error } else { Reason::None });
        }
    }

    /// Frees keys, window and counters (DMN-10); calls of this side end with `not_connected`.
    pub(super) fn free(&mut self, id: SessionId, cause: Cause) {
        let Some(mut slot) = self.sessions.remove(&id) else { return };
        if let Some(at) = slot.armed {
            self.deadlines.remove(&(at, id));
        }
        let error = if cause == Cause::Closed { CallError::PeerClosed } else { CallError::NotConnected };
        let opened = slot.session.is_introduced();
        self.end_calls(id, slot.session.take_calls(), &error);
        if self.config.quirks.has(Quirk::KeepsKeysOfEndedSession) {
            self.kept.push(slot);
        }
        self.report(if opened {
            Report::Closed { session: id, cause }
        } else {
            Report::Refused { session: id, cause }
        });
    }

    fn end_calls(&mut self, session: SessionId, calls: impl Iterator<Item = PendingCall>, error: &CallError) {
        for PendingCall { call, waited, .. } in calls {
            let delivery = Delivery::CallEnded { call, outcome: Err(error.clone()), waited };
            self.report(Report::Delivery { session, delivery });
        }
    }

    /// The socket is lost: sessions wait for it (DMN-11), or end with it (DMN-12).
    pub(super) fn pause_sessions(&mut self, resumable: bool, cause: &Cause) {
        let quirks = self.config.quirks;
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let Some(slot) = self.sessions.get_mut(&id) else { continue };
            if resumable && (slot.session.is_introduced() || quirks.has(Quirk::ResumesHalfMadeSessions)) {
                slot.session.hold();
                let broken = if quirks.has(Quirk::EndsCallsOnPause) { Some(slot.session.take_calls()) } else { None };
                self.report(Report::Paused(id));
                self.end_calls(id, broken.into_iter().flatten(), &CallError::NotConnected);
            } else {
                // DMN-11: a session whose introduction was cut short is not whole.
                if resumable {
                    self.signal(id, Signal::Close, Reason::StateLost);
                }
                self.free(id, cause.clone());
            }
        }
    }

    /// The socket is back: Signal(ready) for each whole session, then what was held back (DMN-11).
    pub(super) fn resume_sessions(&mut self, resumable: bool) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        if !resumable {
            for id in ids {
                self.free(id, Cause::SocketLost { code: None });
            }
            return;
        }
        let quirks = self.config.quirks;
        if !quirks.has(Quirk::SendsBeforeReady) && !quirks.has(Quirk::ForgetsReady) {
            self.signal_ready(&ids);
        }
        for id in &ids {
            if let Some(slot) = self.sessions.get_mut(id) {
                slot.session.resume();
                self.report(Report::Resumed(*id));
                self.pump(*id);
            }
        }
        if quirks.has(Quirk::SendsBeforeReady) {
            self.signal_ready(&ids);
        }
    }

    fn signal_ready(&mut self, ids: &[SessionId]) {
        for id in ids {
            self.signal(*id, Signal::Ready, Reason::None);
        }
    }

    /// The daemon ends: SBP Close and Signal(close, shutdown) for each session (DMN-16).
    pub(super) fn end_sessions(&mut self, cause: &Cause, goodbye: bool) {
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            if goodbye && self.is_online() {
                if let Some(slot) = self.sessions.get_mut(&id) {
                    slot.session.close("shutdown", &mut *self.entropy);
                }
                self.pump(id);
                if !self.config.quirks.has(Quirk::LeavesWithoutSignal) {
                    self.signal(id, Signal::Close, Reason::Shutdown);
                }
            }
            self.free(id, cause.clone());
        }
    }

    pub(super) fn session_timeouts(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            let Some(slot) = self.sessions.get_mut(&id) else { continue };
            slot.armed = None;
            if slot.deadline.is_some_and(|at| at <= now) {
                // CRY-11
                self.end_by_id(id, Cause::HandshakeTimeout, Reason::Error);
                continue;
            }
            slot.session.handle_timeout(now);
            self.pump(id);
        }
    }

    pub(super) fn session_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The sessions and where they are, in the order of their ids.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, SessionState)> + '_ {
        self.sessions.iter().map(|(id, slot)| (*id, slot.state()))
    }

    /// The session that has this id now.
    pub fn session(&self, id: SessionId) -> Option<SessionHandle> {
        self.sessions.get(&id).map(|slot| SessionHandle { id, number: slot.number })
    }

    /// Where a session is; `None` once it is over.
    pub fn session_state(&self, session: SessionHandle) -> Option<SessionState> {
        self.sessions.get(&session.id).filter(|slot| self.is_same(slot, session)).map(Slot::state)
    }

    /// DMN-06: the relay may start another session under an id that is free again.
    fn is_same(&self, slot: &Slot, session: SessionHandle) -> bool {
        slot.number == session.number || self.config.quirks.has(Quirk::TakesOldSessionForNew)
    }

    /// A session and what it draws on, if it is not over.
    fn slot(&mut self, session: SessionHandle) -> Option<(&mut Slot, &mut dyn Entropy)> {
        if !self.is_same(self.sessions.get(&session.id)?, session) {
            return None;
        }
        Some((self.sessions.get_mut(&session.id)?, &mut *self.entropy))
    }

    /// The session if it takes calls now: peers on a daemon fail at once (CLI-09, DMN-11).
    fn active(&mut self, session: SessionHandle) -> Result<(&mut Session, &mut dyn Entropy), CallError> {
        let holds_calls = self.config.quirks.has(Quirk::HoldsNewCalls);
        match self.slot(session) {
            Some((slot, _)) if slot.session.is_held() && !holds_calls => Err(CallError::SessionPaused),
            Some((slot, entropy)) if slot.session.is_introduced() => Ok((&mut slot.session, entropy)),
            Some(_) | None => Err(CallError::NotConnected),
        }
    }

    /// Calls a method of a session's client; its end is reported as [`Delivery::CallEnded`].
    ///
    /// # Errors
    /// The session is over or paused, or the call too large for one frame.
    pub fn call(
        &mut self,
        session: SessionHandle,
        call: CallId,
        method: &str,
        params: Option<Bytes>,
        limits: CallLimits,
        now: Instant,
    ) -> Result<(), CallError> {
        let sent = now + limits.timeout.unwrap_or(self.config.rpc.timeout);
        let total = limits.total.or(self.config.rpc.total).filter(|_| !self.config.quirks.has(Quirk::ForgetsTotal));
        let total = total.map(|total| now + total);
        let deadline = Some(total.map_or(sent, |total| total.min(sent)));
        let (active, entropy) = self.active(session)?;
        let called = active.call(call, method.to_owned(), params, deadline, false, entropy);
        // Also after a failure: the session may be over (CRY-05).
        self.pump(session.id);
        called
    }

    /// Forgets a call; a late answer is dropped.
    pub fn cancel(&mut self, session: SessionHandle, call: CallId) {
        if let Some((slot, _)) = self.slot(session) {
            slot.session.cancel(call);
        }
    }

    /// Sends an event to one session's client; while the session is paused it waits (DMN-11).
    ///
    /// # Errors
    /// The session is over, or the event too large for one frame.
    pub fn emit(&mut self, session: SessionHandle, name: &EventName, data: Option<Bytes>) -> Result<(), CallError> {
        let Some((slot, entropy)) = self.slot(session).filter(|(slot, _)| slot.session.is_introduced()) else {
            return Err(CallError::NotConnected);
        };
        let sent = slot.session.emit(name, data, entropy);
        self.pump(session.id);
        sent
    }

    /// Sends an application's own message on `app/…`.
    ///
    /// # Errors
    /// As [`call`](Self::call); a subject that is not `app/…`.
    pub fn send_app(&mut self, session: SessionHandle, subject: &str, data: &[u8]) -> Result<FrameId, CallError> {
        let (active, entropy) = self.active(session)?;
        let frame = FrameId::random(entropy);
        let sent = active.send_app(frame, subject, data);
        // Also after a failure: the session may be over (CRY-05).
        self.pump(session.id);
        sent.map(|()| frame)
    }

    /// Answers a request; while the session is paused the answer waits (DMN-11), one of a session that is over is dropped.
    pub fn respond(&mut self, session: SessionHandle, cid: FrameId, answer: Answer) {
        if let Some((slot, entropy)) = self.slot(session) {
            slot.session.respond(cid, answer, entropy);
            self.pump(session.id);
        }
    }

    /// A delivered event or message of this size was consumed.
    pub fn release(&mut self, session: SessionHandle, size: usize) {
        if let Some((slot, _)) = self.slot(session) {
            slot.session.release(size);
        }
    }
}
