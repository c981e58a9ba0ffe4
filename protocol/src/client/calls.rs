//! Calls, events and messages of the user, with and without an active session (CLI-09, CLI-10, RPC-05, RPC-09).

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{
    OnDisconnect, Report,
    machine::{Client, Phase},
};
use crate::{
    Instant,
    event::EventName,
    peer::{Answer, CallError, CallId, Delivery},
    quirks::Quirk,
    rpc::Envelope,
    sbp::{FrameId, Subject},
    wire::MAX_PLAINTEXT,
};

/// Bytes of an SBP Message's head on `rpc`: kind, flags, id, subject length, subject.
const RPC_HEAD: usize = 18 + 4 + 3;
/// The same on `event`.
const EVENT_HEAD: usize = 18 + 4 + 5;

/// Something that waits for an active session.
#[derive(Debug)]
pub(super) enum Waiting {
    Call {
        call: CallId,
        method: String,
        params: Option<Bytes>,
        timeout: Duration,
        /// The end of the total time, if one was set.
        total: Option<Instant>,
        size: usize,
    },
    App {
        id: FrameId,
        subject: String,
        data: Bytes,
    },
}

impl Waiting {
    fn size(&self) -> usize {
        match self {
            Self::Call { size, .. } => *size,
            Self::App { subject, data, .. } => subject.len() + data.len(),
        }
    }
}

/// Time limits of one call; what is `None` comes from the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// From when it was sent.
    pub timeout: Option<Duration>,
    /// From when it was made.
    pub total: Option<Duration>,
}

fn encoded_size(envelope: &Envelope) -> usize {
    let mut scratch = BytesMut::new();
    envelope.write(&mut scratch);
    scratch.len()
}

impl Client {
    /// Calls a method; its end is reported as [`Delivery::CallEnded`].
    ///
    /// # Errors
    /// At once: closed, not active under `fail`, the buffer full, or too large for one frame.
    pub fn call(
        &mut self,
        call: CallId,
        method: &str,
        params: Option<Bytes>,
        limits: CallLimits,
        now: Instant,
    ) -> Result<(), CallError> {
        let timeout = limits.timeout.unwrap_or(self.config.rpc.timeout);
        let total = limits.total.or(self.config.rpc.total).filter(|_| !self.config.quirks.has(Quirk::ForgetsTotal));
        let total = total.map(|total| now + total);
        match self.gate()? {
            Gate::Open => {
                let sent = now + timeout;
                let deadline = Some(total.map_or(sent, |total| total.min(sent)));
                let Some(session) = &mut self.session else { return Err(CallError::NotConnected) };
                let called = session.call(call, method.to_owned(), params, deadline, false, &mut *self.entropy);
                // Also after a failure: the session may be over (CRY-05).
                self.pump(now);
                called
            }
            Gate::Wait => {
                let cid = FrameId::from_bytes([0; 16]);
                let envelope = Envelope::Request { method: method.to_owned(), params, cid };
                let size = encoded_size(&envelope);
                check_size(RPC_HEAD + size)?;
                let Envelope::Request { method, params, .. } = envelope else { return Err(CallError::NotConnected) };
                let total = if self.config.quirks.has(Quirk::CountsWaiting) { Some(now + timeout) } else { total };
                self.wait(Waiting::Call { call, method, params, timeout, total, size })
            }
        }
    }

    /// Forgets a call, sent or waiting; a late answer is dropped.
    pub fn cancel(&mut self, call: CallId) {
        if self.session.as_mut().is_some_and(|session| session.cancel(call)) {
            return;
        }
        let is = |item: &Waiting| matches!(item, Waiting::Call { call: waiting, .. } if *waiting == call);
        if let Some(item) = self.waiting.iter().position(is).and_then(|at| self.waiting.remove(at)) {
            self.waiting_bytes -= item.size();
        }
    }

    /// Sends an event, or keeps it until the session is active: the newest 128 (CLI-10).
    ///
    /// # Errors
    /// Closed, or too large for one frame.
    pub fn emit(&mut self, name: &EventName, data: Option<Bytes>, now: Instant) -> Result<(), CallError> {
        if let Phase::Closed = self.phase {
            return Err(CallError::PeerClosed);
        }
        if let (Phase::Active, Some(session)) = (&self.phase, &mut self.session) {
            let sent = session.emit(name, data, &mut *self.entropy);
            self.pump(now);
            return sent;
        }
        let envelope = Envelope::Event { name: name.as_str().to_owned(), data };
        check_size(EVENT_HEAD + encoded_size(&envelope))?;
        let Envelope::Event { data, .. } = envelope else { return Err(CallError::NotConnected) };
        if self.has(Quirk::DropsEventsWhileAway) {
            return Ok(());
        }
        self.events.push_back((name.clone(), data));
        if self.events.len() > self.config.buffered_events {
            if self.has(Quirk::KeepsOldestEvents) {
                self.events.pop_back();
            } else {
                self.events.pop_front();
            }
        }
        Ok(())
    }

    /// Sends an application's own message on `app/…`; without an active session it waits or fails as calls do. The frame's id,
    /// by which a receipt names it ([`Delivery::Ack`]).
    ///
    /// # Errors
    /// As [`call`](Self::call); a subject that is not `app/…`.
    pub fn send_app(&mut self, subject: &str, data: Bytes, now: Instant) -> Result<FrameId, CallError> {
        if !matches!(Subject::parse(subject), Ok(Subject::App(_))) {
            return Err(CallError::InvalidState("a raw message's subject is `app/…`, at most 256 bytes, without NUL"));
        }
        let gate = self.gate()?;
        let id = FrameId::random(&mut *self.entropy);
        match gate {
            Gate::Open => {
                let Some(session) = &mut self.session else { return Err(CallError::NotConnected) };
                let sent = session.send_app(id, subject, &data);
                self.pump(now);
                sent?;
            }
            Gate::Wait => {
                check_size(18 + 4 + subject.len() + data.len())?;
                self.wait(Waiting::App { id, subject: subject.to_owned(), data })?;
            }
        }
        Ok(id)
    }

    /// The raw messages that wait for a session.
    pub fn unsent(&self) -> impl Iterator<Item = FrameId> + '_ {
        self.waiting.iter().filter_map(|item| match item {
            Waiting::App { id, .. } => Some(*id),
            Waiting::Call { .. } => None,
        })
    }

    /// Answers a request of the daemon; one of a session that is over is dropped.
    pub fn respond(&mut self, cid: FrameId, answer: Answer, now: Instant) {
        if let Some(session) = &mut self.session {
            session.respond(cid, answer, &mut *self.entropy);
            self.pump(now);
        }
    }

    /// A delivered event or message of this size was consumed.
    pub fn release(&mut self, size: usize) {
        match &mut self.session {
            Some(session) => session.release(size),
            None => self.untaken.release(size),
        }
    }

    /// CLI-09.
    fn gate(&self) -> Result<Gate, CallError> {
        let choice = if self.has(Quirk::BuffersUnderFail) { OnDisconnect::Pause } else { self.config.on_disconnect };
        match (&self.phase, choice) {
            (Phase::Active, OnDisconnect::Pause | OnDisconnect::Fail) => Ok(Gate::Open),
            (Phase::Closed, OnDisconnect::Pause | OnDisconnect::Fail) => Err(CallError::PeerClosed),
            (Phase::Paused, OnDisconnect::Fail) if self.has(Quirk::ConfusesPausedWithLost) => {
                Err(CallError::NotConnected)
            }
            (Phase::Paused, OnDisconnect::Fail) => Err(CallError::SessionPaused),
            (
                Phase::Idle
                | Phase::Token { .. }
                | Phase::Api { .. }
                | Phase::Dialling { .. }
                | Phase::Negotiating(_)
                | Phase::Delay { .. },
                OnDisconnect::Fail,
            ) => Err(CallError::NotConnected),
            (
                Phase::Idle
                | Phase::Token { .. }
                | Phase::Api { .. }
                | Phase::Dialling { .. }
                | Phase::Negotiating(_)
                | Phase::Delay { .. }
                | Phase::Paused,
                OnDisconnect::Pause,
            ) => Ok(Gate::Wait),
        }
    }

    fn wait(&mut self, item: Waiting) -> Result<(), CallError> {
        let (size, waiting, limit) = (item.size(), self.waiting_bytes, self.config.buffered_bytes);
        if waiting + size > limit && !self.has(Quirk::BuffersWithoutLimit) {
            return Err(CallError::BufferOverflow { waiting, size, limit });
        }
        self.waiting_bytes += size;
        self.waiting.push_back(item);
        Ok(())
    }

    /// Sends what waited, in order, now that the session is active.
    pub(super) fn flush_waiting(&mut self, now: Instant) {
        let mut lost = self.config.quirks.has(Quirk::LosesWaitingCall);
        while let (Phase::Active, Some(session)) = (&self.phase, &mut self.session) {
            let backwards = self.config.quirks.has(Quirk::SendsWaitingBackwards);
            let item = if backwards { self.waiting.pop_back() } else { self.waiting.pop_front() };
            let Some(item) = item else { break };
            self.waiting_bytes -= item.size();
            match item {
                Waiting::Call { .. } if std::mem::take(&mut lost) => {}
                Waiting::Call { call, method, params, timeout, total, .. } => {
                    let sent = now + timeout;
                    let deadline = Some(total.map_or(sent, |total| total.min(sent)));
                    if let Err(error) = session.call(call, method, params, deadline, true, &mut *self.entropy) {
                        self.report_end(call, error, true);
                    }
                }
                Waiting::App { id, subject, data } => {
                    // Checked when it was queued; a session that just ended takes nothing.
                    let _ = session.send_app(id, &subject, &data);
                }
            }
            self.pump(now);
        }
        while let (Phase::Active, Some(session)) = (&self.phase, &mut self.session) {
            let backwards = self.config.quirks.has(Quirk::SendsKeptEventsBackwards);
            let event = if backwards { self.events.pop_back() } else { self.events.pop_front() };
            let Some((name, data)) = event else { break };
            let _ = session.emit(&name, data, &mut *self.entropy);
            self.pump(now);
        }
    }

    fn report_end(&mut self, call: CallId, error: CallError, waited: bool) {
        self.report(Report::Delivery(Delivery::CallEnded { call, outcome: Err(error), waited }));
    }

    /// Fails the calls in flight.
    pub(super) fn end_calls(&mut self, error: &CallError) {
        for pending in self.session.as_mut().map(|session| session.take_calls()).into_iter().flatten() {
            self.report_end(pending.call, error.clone(), pending.waited);
        }
    }

    /// Fails everything that waits: the peer is closed (CLI-14).
    pub(super) fn end_waiting(&mut self, error: &CallError) {
        self.events.clear();
        self.waiting_bytes = 0;
        for item in std::mem::take(&mut self.waiting) {
            if let Waiting::Call { call, .. } = item {
                self.report_end(call, error.clone(), true);
            }
        }
    }

    /// Ends waiting calls whose total time is over.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        if self.waiting_deadline().is_none_or(|at| at > now) {
            return;
        }
        for item in std::mem::take(&mut self.waiting) {
            match item {
                Waiting::Call { call, total: Some(at), size, .. } if at <= now => {
                    self.waiting_bytes -= size;
                    self.report_end(call, CallError::Timeout, true);
                }
                item @ (Waiting::Call { .. } | Waiting::App { .. }) => self.waiting.push_back(item),
            }
        }
    }

    /// The earliest end of a waiting call's total time.
    pub(super) fn waiting_deadline(&self) -> Option<Instant> {
        let total = |item: &Waiting| match item {
            Waiting::Call { total, .. } => *total,
            Waiting::App { .. } => None,
        };
        self.waiting.iter().filter_map(total).min()
    }
}

enum Gate {
    Open,
    Wait,
}

fn check_size(size: usize) -> Result<(), CallError> {
    if size > MAX_PLAINTEXT { Err(CallError::MessageTooLarge { size }) } else { Ok(()) }
}
