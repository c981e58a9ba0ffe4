//! One session after the key exchange.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Answer, CallError, CallId, Delivery, SessionLimits, SessionOutput, Side, Untaken};
use crate::{
    Entropy, Instant, SessionId,
    crypto::{Direction, OpenError, Opener, SealError, Sealer, SessionKeys},
    event::EventName,
    failure::Cause,
    quirks::{Quirk, Quirks},
    rpc::{self, Envelope, OnEvent, OnRpc},
    sbp::{BrokenFrame, ErrorCode, Frame, FrameBody, FrameId, Introduction, Subject, SubjectError, write_message},
    wire::MAX_PLAINTEXT,
};

/// A call of this side that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingCall {
    /// The caller's number for it.
    pub call: CallId,
    /// Whether it waited for a connection before it was sent.
    pub waited: bool,
    deadline: Option<Instant>,
}

/// One session: keys, counters, window, calls and what is held back. See the [module](super) for how to drive it.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    sealer: Sealer,
    opener: Opener,
    buffer: BytesMut,
    limits: SessionLimits,
    /// Whether Messages are answered with an Ack (SBP-05).
    receipts: bool,
    quirks: Quirks,
    introduced: bool,
    /// The introduction, as long as a quirk holds it back.
    unsaid: Option<SessionOutput>,
    ended: bool,
    calls: BTreeMap<FrameId, PendingCall>,
    deadlines: BTreeSet<(Instant, FrameId)>,
    /// Sizes of requests that no handler has answered yet.
    requests: BTreeMap<FrameId, usize>,
    waiting_frames: usize,
    waiting_bytes: usize,
    /// Sealed frames that leave when the session goes on; `None` while it is not paused.
    held: Option<VecDeque<Bytes>>,
    held_bytes: usize,
    refused: u64,
    out: VecDeque<SessionOutput>,
}

impl Session {
    /// A session under fresh keys; the introduction is sent at once and unasked (SBP-03).
    pub fn new(
        id: SessionId,
        side: Side,
        keys: &SessionKeys,
        introduction: &Introduction,
        limits: SessionLimits,
        entropy: &mut (impl Entropy + ?Sized),
    ) -> Self {
        let (ours, theirs) = match side {
            Side::Client => (Direction::ClientToDaemon, Direction::DaemonToClient),
            Side::Daemon => (Direction::DaemonToClient, Direction::ClientToDaemon),
        };
        let mut session = Self {
            id,
            sealer: Sealer::new(keys, ours),
            opener: Opener::new(keys, theirs),
            buffer: BytesMut::new(),
            limits,
            receipts: false,
            quirks: Quirks::NONE,
            introduced: false,
            unsaid: None,
            ended: false,
            calls: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            requests: BTreeMap::new(),
            waiting_frames: 0,
            waiting_bytes: 0,
            held: None,
            held_bytes: 0,
            refused: 0,
            out: VecDeque::new(),
        };
        let hello = FrameBody::Handshake(introduction.to_json().into());
        session.send_control(&Frame::new(hello, entropy));
        session
    }

    /// The session's id.
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// From now on is wrong on purpose; for tests.
    pub fn set_quirks(&mut self, quirks: Quirks) {
        self.quirks = quirks;
        self.sealer.set_quirks(quirks);
        self.opener.set_quirks(quirks);
        if quirks.has(Quirk::IntroducesItselfSecond) {
            self.unsaid = self.out.pop_front();
        }
    }

    /// From here on counts sequences on from this one; for tests at the edge.
    #[doc(hidden)]
    pub fn continue_at(&mut self, sequence: u64) {
        self.sealer.continue_at(sequence);
    }

    /// From now on answers each Message with an Ack; off by default (SBP-05).
    pub fn send_receipts(&mut self) {
        self.receipts = true;
    }

    /// Whether the other side has introduced itself.
    pub const fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// How many payloads have been refused since this was asked last: replayed, forged, or too short (CRY-06, CRY-09, WIRE-02).
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        self.out.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.clock_stands() {
            return None;
        }
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Ends the calls whose time is over (RPC-05).
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.clock_stands() {
            return;
        }
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            if let Some(call) = self.calls.remove(&id) {
                self.deliver_end(call, Err(CallError::Timeout));
            }
        }
    }

    /// RPC-05: being paused counts.
    fn clock_stands(&self) -> bool {
        self.is_held() && self.quirks.has(Quirk::StopsClockWhilePaused)
    }

    /// Opens a Data payload and acts on what it holds.
    pub fn handle_payload(&mut self, payload: Bytes, entropy: &mut (impl Entropy + ?Sized)) {
        if self.ended {
            return;
        }
        let opened = self.opener.open(payload);
        self.refused += u64::from(opened.is_err());
        let plaintext = match opened {
            Ok(plaintext) => plaintext,
            // CRY-06: that message is refused, the session goes on.
            Err(OpenError::Replayed(_)) if self.quirks.has(Quirk::EndsOnReplay) => {
                return self.end(Cause::DecryptFailed);
            }
            Err(OpenError::Replayed(_)) => return,
            Err(OpenError::Short(length)) => {
                return self.end(Cause::MalformedFrame(format!("a Data payload of {length} bytes")));
            }
            // CRY-09
            Err(OpenError::Forged) if self.quirks.has(Quirk::GoesOnAfterForgery) => return,
            Err(OpenError::Forged) => return self.end(Cause::DecryptFailed),
        };
        match Frame::decode(&plaintext) {
            Ok(frame) if self.introduced || self.acts_early(&frame) => {
                self.handle_frame(frame, plaintext.len(), entropy)
            }
            Ok(frame) => self.handle_first_frame(frame, entropy),
            Err(broken) => self.handle_broken(broken, entropy),
        }
    }

    fn acts_early(&self, frame: &Frame) -> bool {
        self.quirks.has(Quirk::TalksBeforeIntroduction) && !matches!(frame.body, FrameBody::Handshake(_))
    }

    /// SBP-02.
    fn handle_broken(&mut self, broken: BrokenFrame, entropy: &mut (impl Entropy + ?Sized)) {
        let BrokenFrame { id, answered, fatal, reason } = broken;
        let answered = (answered || self.quirks.has(Quirk::AnswersBrokenReceipts))
            && !self.quirks.has(Quirk::SkipsBrokenFrameSilently);
        if answered {
            let id = id.unwrap_or_else(|| self.new_id(entropy));
            self.send_error(id, ErrorCode::InvalidFrame, reason, entropy);
        }
        let fatal =
            (fatal || self.quirks.has(Quirk::ClosesOnBrokenFrame)) && !self.quirks.has(Quirk::GoesOnAfterReservedFlags);
        if fatal || !self.introduced {
            self.end(Cause::PeerViolation { code: ErrorCode::InvalidFrame, reason: reason.to_owned() });
        }
    }

    /// SBP-03: the first frame is the introduction.
    fn handle_first_frame(&mut self, frame: Frame, entropy: &mut (impl Entropy + ?Sized)) {
        let (code, reason) = match frame.body {
            FrameBody::Handshake(json) => match Introduction::parse(&json) {
                Ok(said) => {
                    self.introduced = true;
                    self.out.extend(self.unsaid.take());
                    return self.out.push_back(SessionOutput::Introduced(said));
                }
                Err(error) if self.quirks.has(Quirk::RefusesAllAsMalformed) => {
                    (ErrorCode::InvalidFrame, error.to_string())
                }
                Err(error) => (error.code(), error.to_string()),
            },
            // Frames of kind 2 and 3 are never answered (SBP-02); an Error says why the other side ends it.
            FrameBody::Error { code, message, .. } => return self.end(Cause::PeerError { code, message }),
            FrameBody::Ack(_) => {
                let reason = "an Ack before the handshake".to_owned();
                return self.end(Cause::PeerViolation { code: ErrorCode::ProtocolViolation, reason });
            }
            // ◇ SBP-03 would answer Error 1000, SBP-07 lets Close end the session from either side: nobody is left to be told.
            FrameBody::Close { reason } => return self.end(Cause::PeerClosed { reason }),
            FrameBody::Ping | FrameBody::Pong | FrameBody::Message { .. } => {
                (ErrorCode::ProtocolViolation, "the first frame is not the handshake".to_owned())
            }
        };
        if !self.quirks.has(Quirk::RefusesIntroductionSilently) {
            self.send_error(frame.id, code, &reason, entropy);
        }
        self.end(Cause::PeerViolation { code, reason });
    }

    fn handle_frame(&mut self, frame: Frame, size: usize, entropy: &mut (impl Entropy + ?Sized)) {
        let id = frame.id;
        if matches!(frame.body, FrameBody::Error { .. }) && self.quirks.has(Quirk::AnswersErrors) {
            self.send_error(id, ErrorCode::InvalidFrame, "an error", entropy);
        }
        match frame.body {
            // ◇ A second introduction is a frame out of place: told, and skipped.
            FrameBody::Handshake(_) => self.send_error(id, ErrorCode::InvalidFrame, "a second handshake", entropy),
            // SBP-05
            FrameBody::Ping if self.quirks.has(Quirk::IgnoresPing) => {}
            FrameBody::Ping => self.send_new(FrameBody::Pong, entropy),
            FrameBody::Pong => {}
            // SBP-07
            FrameBody::Close { .. } if self.quirks.has(Quirk::IgnoresClose) => {}
            FrameBody::Close { reason } => self.end(Cause::PeerClosed { reason }),
            FrameBody::Ack(id) => self.deliver(Delivery::Ack(id)),
            // SBP-05, SBP-06
            FrameBody::Error { code, message, .. } => match ErrorCode::from_u16(code) {
                _ if self.quirks.has(Quirk::GoesOnAfterViolation) => {}
                Some(ErrorCode::ProtocolViolation | ErrorCode::UnsupportedVersion) => {
                    self.end(Cause::PeerError { code, message });
                }
                Some(ErrorCode::InvalidFrame | ErrorCode::UnsupportedFeature) | None => {}
            },
            FrameBody::Message { subject, data } => match self.accept_subject(id, &subject, entropy) {
                Ok(subject @ (Subject::Rpc | Subject::Event)) if self.quirks.has(Quirk::MixesSubjects) => {
                    if let (Subject::Rpc, OnEvent::Deliver { .. }) = (&subject, rpc::on_event(&data)) {
                        self.handle_event(id, &data, size, entropy);
                    } else {
                        self.handle_rpc(id, &data, size, entropy);
                    }
                }
                Ok(Subject::Rpc) => self.handle_rpc(id, &data, size, entropy),
                Ok(Subject::Event) => self.handle_event(id, &data, size, entropy),
                Ok(Subject::App(subject)) => {
                    if self.admit(size) {
                        self.deliver(Delivery::App { subject, data, size });
                    }
                }
                // SBP-04
                Err(error) => {
                    let wrong = self.quirks.has(Quirk::StreamsAreInvalid);
                    let code = if wrong { ErrorCode::InvalidFrame } else { error.code() };
                    if !self.quirks.has(Quirk::SkipsUnknownSubjectSilently) {
                        self.send_error(id, code, &error.to_string(), entropy);
                    }
                    if self.quirks.has(Quirk::ClosesOnUnknownSubject) {
                        self.end(Cause::PeerViolation { code, reason: error.to_string() });
                    }
                }
            },
        }
    }

    /// A Message on a subject that this side knows is confirmed, if receipts are switched on (SBP-05).
    fn accept_subject(
        &mut self,
        id: FrameId,
        subject: &str,
        entropy: &mut (impl Entropy + ?Sized),
    ) -> Result<Subject, SubjectError> {
        let subject = Subject::parse(subject)?;
        if self.receipts || self.quirks.has(Quirk::ConfirmsUnasked) {
            self.send_new(FrameBody::Ack(id), entropy);
        }
        Ok(subject)
    }

    fn handle_event(&mut self, id: FrameId, data: &Bytes, size: usize, entropy: &mut (impl Entropy + ?Sized)) {
        match rpc::on_event(data) {
            OnEvent::Deliver { name, data } => {
                if self.admit(size) {
                    self.deliver(Delivery::Event { name, data, size });
                }
            }
            // RPC-03, RPC-04
            OnEvent::Drop if self.quirks.has(Quirk::AnswersBrokenEvents) => {
                self.send_error(id, ErrorCode::InvalidFrame, "no event", entropy);
            }
            OnEvent::Drop => {}
        }
    }

    fn handle_rpc(&mut self, id: FrameId, data: &Bytes, size: usize, entropy: &mut (impl Entropy + ?Sized)) {
        match rpc::on_rpc(data) {
            OnRpc::Request { method, params, cid } => {
                if self.requests.contains_key(&cid) {
                    // The id of a call that is still being answered cannot name a second one.
                    return self.send_envelope(
                        &Envelope::Error {
                            cid,
                            code: rpc::code::INVALID_ENVELOPE,
                            message: "a call with this cid is being answered".to_owned(),
                            data: None,
                        },
                        entropy,
                    );
                }
                if self.admit(size) {
                    self.requests.insert(cid, size);
                    self.deliver(Delivery::Request { cid, method, params });
                }
            }
            // RPC-01
            OnRpc::Answer { cid, outcome } => {
                let cid = match self.calls.first_key_value() {
                    Some((first, _)) if self.quirks.has(Quirk::MatchesAnswersByOrder) => *first,
                    Some(_) | None => cid,
                };
                if self.quirks.has(Quirk::EndsOnUnknownAnswer) && !self.calls.contains_key(&cid) {
                    let reason = "an answer to no call".to_owned();
                    return self.end(Cause::PeerViolation { code: ErrorCode::ProtocolViolation, reason });
                }
                if let Some(call) = self.take_call(&cid) {
                    let outcome = outcome.map_err(|(code, message, data)| CallError::Rpc { code, message, data });
                    self.deliver_end(call, outcome);
                }
            }
            // RPC-03
            OnRpc::Refuse { .. } | OnRpc::RefuseFrame { .. } if self.quirks.has(Quirk::SkipsBrokenEnvelope) => {}
            OnRpc::Refuse { reason, .. } | OnRpc::RefuseFrame { reason }
                if self.quirks.has(Quirk::ClosesOnBrokenEnvelope) =>
            {
                let reason = reason.to_owned();
                self.end(Cause::PeerViolation { code: ErrorCode::InvalidFrame, reason });
            }
            OnRpc::Refuse { cid, reason } => {
                let error =
                    Envelope::Error { cid, code: rpc::code::INVALID_ENVELOPE, message: reason.to_owned(), data: None };
                self.send_envelope(&error, entropy);
            }
            OnRpc::RefuseFrame { reason } => self.send_error(id, ErrorCode::InvalidFrame, reason, entropy),
            OnRpc::Drop => {}
        }
    }

    /// Counts something that waits for its consumer; false, and the session over, if too much waits (DMN-07).
    fn admit(&mut self, size: usize) -> bool {
        self.waiting_frames += 1;
        self.waiting_bytes += size;
        let bytes = if self.quirks.has(Quirk::CountsNoWaitingBytes) { 0 } else { self.waiting_bytes };
        let over = self.waiting_frames > self.limits.waiting_frames || bytes > self.limits.waiting_bytes;
        if over && !self.quirks.has(Quirk::WaitsForConsumerWithoutBound) {
            // It is not delivered, so nobody will ever release it.
            self.release(size);
            self.end(Cause::Overflow("messages that nobody consumes"));
            return false;
        }
        true
    }

    /// What was delivered and not consumed yet, apart from requests, whose answers this session alone can take.
    pub fn untaken(&self) -> Untaken {
        let requests: usize = self.requests.values().sum();
        Untaken {
            frames: self.waiting_frames.saturating_sub(self.requests.len()),
            bytes: self.waiting_bytes.saturating_sub(requests),
        }
    }

    /// Counts what an earlier session delivered to the same consumer, who has not taken it yet.
    pub fn inherit(&mut self, untaken: Untaken) {
        self.waiting_frames += untaken.frames;
        self.waiting_bytes += untaken.bytes;
    }

    /// A delivered event or message of this size was consumed.
    pub fn release(&mut self, size: usize) {
        self.waiting_frames = self.waiting_frames.saturating_sub(1);
        self.waiting_bytes = self.waiting_bytes.saturating_sub(size);
    }

    /// Calls a method; `deadline` is when it ends with `rpc_timeout`.
    ///
    /// # Errors
    /// A request that does not fit into one frame (RPC-09), or too many calls under way.
    pub fn call(
        &mut self,
        call: CallId,
        method: String,
        params: Option<Bytes>,
        deadline: Option<Instant>,
        waited: bool,
        entropy: &mut (impl Entropy + ?Sized),
    ) -> Result<(), CallError> {
        if self.calls.len() >= self.limits.calls {
            return Err(CallError::BufferOverflow { waiting: self.calls.len(), size: 1, limit: self.limits.calls });
        }
        let deadline = deadline.filter(|_| !self.quirks.has(Quirk::WaitsForAnswerForEver));
        let id = self.new_id(entropy);
        let request = Envelope::Request { method, params, cid: id };
        self.seal_message(&id, "rpc", |out| request.write(out))?;
        self.calls.insert(id, PendingCall { call, waited, deadline });
        if let Some(at) = deadline {
            self.deadlines.insert((at, id));
        }
        Ok(())
    }

    /// Forgets a call: a late answer is dropped (RPC-01). Whether there was one.
    pub fn cancel(&mut self, call: CallId) -> bool {
        let id = self.calls.iter().find(|(_, pending)| pending.call == call).map(|(id, _)| *id);
        id.and_then(|id| self.take_call(&id)).is_some()
    }

    fn take_call(&mut self, id: &FrameId) -> Option<PendingCall> {
        let call = self.calls.remove(id)?;
        if let Some(at) = call.deadline {
            self.deadlines.remove(&(at, *id));
        }
        Some(call)
    }

    /// All calls that wait for answers, which get none any more.
    pub fn take_calls(&mut self) -> impl Iterator<Item = PendingCall> + use<> {
        self.deadlines.clear();
        std::mem::take(&mut self.calls).into_values()
    }

    /// Answers a request; an answer that does not fit goes out as E 2000 saying so (RPC-09).
    pub fn respond(&mut self, cid: FrameId, answer: Answer, entropy: &mut (impl Entropy + ?Sized)) {
        let Some(size) = self.requests.remove(&cid) else { return };
        self.release(size);
        let envelope = match answer {
            Answer::Result(result) => Envelope::Result { cid, result },
            Answer::Error { code, message, data } => Envelope::Error { cid, code, message, data },
        };
        self.send_envelope(&envelope, entropy);
    }

    fn send_envelope(&mut self, envelope: &Envelope, entropy: &mut (impl Entropy + ?Sized)) {
        if self.ended {
            return;
        }
        let id = self.new_id(entropy);
        let Err(error) = self.seal_message(&id, "rpc", |out| envelope.write(out)) else { return };
        if let (CallError::MessageTooLarge { size }, Envelope::Result { cid, .. } | Envelope::Error { cid, .. }) =
            (error, envelope)
            && !self.quirks.has(Quirk::DropsTooLargeAnswer)
        {
            let message = format!("the answer has {size} bytes; one frame takes {MAX_PLAINTEXT}");
            let error = Envelope::Error { cid: *cid, code: rpc::code::APPLICATION, message, data: None };
            // A short error always fits; a session that cannot seal any more has ended.
            let _ = self.seal_message(&self.new_id(entropy), "rpc", |out| error.write(out));
        }
    }

    /// Sends an event.
    ///
    /// # Errors
    /// It does not fit into one frame (RPC-09).
    pub fn emit(
        &mut self,
        name: &EventName,
        data: Option<Bytes>,
        entropy: &mut (impl Entropy + ?Sized),
    ) -> Result<(), CallError> {
        let event = Envelope::Event { name: name.as_str().to_owned(), data };
        self.seal_message(&self.new_id(entropy), "event", |out| event.write(out))
    }

    /// Sends an application's own message on `app/…` under a frame id, by which a receipt names it.
    ///
    /// # Errors
    /// It does not fit into one frame (RPC-09), or the subject is not `app/…`.
    pub fn send_app(&mut self, id: FrameId, subject: &str, data: &[u8]) -> Result<(), CallError> {
        let Ok(Subject::App(_)) = Subject::parse(subject) else {
            return Err(CallError::InvalidState("a raw message's subject is `app/…`, at most 256 bytes, without NUL"));
        };
        self.seal_message(&id, subject, |out| out.put_slice(data))
    }

    /// Sends SBP Close (SBP-07) and ends the session.
    pub fn close(&mut self, reason: &str, entropy: &mut (impl Entropy + ?Sized)) {
        if !self.ended {
            if !self.quirks.has(Quirk::LeavesSilently) {
                self.send_new(FrameBody::Close { reason: reason.to_owned() }, entropy);
            }
            self.ended = true;
        }
    }

    /// From now on frames are held back instead of sent (DMN-11, CLI-11).
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Sends what was held back, in order, and goes on.
    pub fn resume(&mut self) {
        let mut held = self.held.take().unwrap_or_default();
        if self.quirks.has(Quirk::LosesHeldFrames) {
            held.clear();
        }
        if self.quirks.has(Quirk::SendsHeldNewestFirst) {
            held.make_contiguous().reverse();
        }
        self.out.extend(held.into_iter().map(SessionOutput::Frame));
        self.held_bytes = 0;
    }

    /// From now on no call of this side ends for want of time; what only a quirk does.
    pub(crate) fn stop_clocks(&mut self) {
        self.deadlines.clear();
    }

    /// Whether frames are held back.
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// SBP-01: new for every frame.
    fn new_id(&self, entropy: &mut (impl Entropy + ?Sized)) -> FrameId {
        if self.quirks.has(Quirk::ReusesFrameIds) { FrameId::from_bytes([1; 16]) } else { FrameId::random(entropy) }
    }

    fn send_new(&mut self, body: FrameBody, entropy: &mut (impl Entropy + ?Sized)) {
        let id = self.new_id(entropy);
        self.send_control(&Frame { id, timestamp: None, body });
    }

    /// SBP-01: under the id of the frame that it is about.
    fn send_error(&mut self, id: FrameId, code: ErrorCode, message: &str, entropy: &mut (impl Entropy + ?Sized)) {
        let id = if self.quirks.has(Quirk::ErrorsUnderNewId) { self.new_id(entropy) } else { id };
        let body = FrameBody::Error { code: code.code(), message: message.to_owned(), details: Bytes::new() };
        self.send_control(&Frame { id, timestamp: None, body });
    }

    fn send_control(&mut self, frame: &Frame) {
        let sealed = self.sealer.seal_frame(self.id, &mut self.buffer, |out| frame.write(out));
        // Control frames are far smaller than a frame; what is left is sequences used up, which ends the session.
        let _ = self.push_sealed(sealed);
    }

    fn seal_message(
        &mut self,
        id: &FrameId,
        subject: &str,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), CallError> {
        if self.ended {
            return Err(CallError::NotConnected);
        }
        let sealed = self.sealer.seal_frame(self.id, &mut self.buffer, |out| write_message(out, id, subject, write));
        self.push_sealed(sealed)
    }

    fn push_sealed(&mut self, sealed: Result<Bytes, SealError>) -> Result<(), CallError> {
        let frame = match sealed {
            Ok(frame) => frame,
            Err(SealError::TooLarge(_)) if self.quirks.has(Quirk::DropsTooLarge) => return Ok(()),
            Err(SealError::TooLarge(size)) => return Err(CallError::MessageTooLarge { size }),
            // CRY-05
            Err(SealError::Exhausted) => {
                self.end(Cause::Exhausted);
                return Err(CallError::NotConnected);
            }
        };
        let Some(held) = &mut self.held else {
            self.out.push_back(SessionOutput::Frame(frame));
            return Ok(());
        };
        self.held_bytes += frame.len();
        if self.held_bytes > self.limits.held_bytes && !self.quirks.has(Quirk::HoldsWithoutBound) {
            self.end(Cause::Overflow("messages held back while the session is paused"));
            return Err(CallError::SessionPaused);
        }
        held.push_back(frame);
        Ok(())
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.out.push_back(SessionOutput::Deliver(delivery));
    }

    fn deliver_end(&mut self, call: PendingCall, outcome: Result<Option<Bytes>, CallError>) {
        self.deliver(Delivery::CallEnded { call: call.call, outcome, waited: call.waited });
    }

    fn end(&mut self, cause: Cause) {
        if !self.ended {
            self.ended = true;
            self.out.push_back(SessionOutput::Ended(cause));
        }
    }
}
