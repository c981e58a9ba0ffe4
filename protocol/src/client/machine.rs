//! The machine: phases, retries, and what comes from the relay.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    Access, ClientConfig, CloseReason, Done, Job, Report, RetryMode, RpcPolicy, SessionGrant, State, calls::Waiting,
    negotiate::Negotiation,
};
use crate::{
    Entropy, Instant,
    backoff::{base_delay, client_delay},
    endpoint::{Endpoint, Forbidden, Keepalive, KeepaliveAction, Output},
    event::EventName,
    failure::{Cause, Verdict},
    peer::{CallError, Session, SessionOutput, Untaken},
    quirks::Quirk,
    time::earliest,
    token,
    wire::{ControlCode, Frame, UnknownControlCode, close},
};

/// Longer than anybody waits; only quirks wait so long.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What an attempt or a session is doing.
#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    /// Waiting for the token source.
    Token {
        deadline: Instant,
    },
    /// Waiting for the API.
    Api {
        deadline: Instant,
    },
    Dialling {
        deadline: Instant,
        daemon_id: String,
        session: crate::SessionId,
    },
    Negotiating(Box<Negotiation>),
    Active,
    Paused,
    /// Waiting for the next attempt.
    Delay {
        until: Instant,
    },
    Closed,
}

/// The client machine. See [`crate::endpoint`] for how to drive it.
pub struct Client {
    pub(super) config: ClientConfig,
    pub(super) entropy: Box<dyn Entropy>,
    pub(super) phase: Phase,
    state: State,
    /// Retries in a row; restarts once active (CLI-04).
    retries: u32,
    /// An upgrade was refused with 401 since the last active session (CLI-05).
    unauthorized_before: bool,
    /// A redeem gave a session: no further attempt is made (CLI-02).
    redeemed: bool,
    /// Why it is closed, once it is.
    close_reason: Option<CloseReason>,
    /// A redeem ended without a readable answer: the code may be used up (CLI-02).
    redeem_unclear: bool,
    /// What the API gave last; kept for [`Quirk::ReusesSession`] only.
    kept_grant: Option<SessionGrant>,
    link: Option<Keepalive>,
    pub(super) session: Option<Session>,
    /// The last session, which is over; kept for [`Quirk::KeepsKeysOfEndedSession`] only.
    kept_session: Option<Session>,
    /// What earlier sessions delivered and nobody has taken yet, while there is no session that counts it.
    pub(super) untaken: Untaken,
    pub(super) daemon_id: String,
    /// Calls and messages that wait for an active session (CLI-09).
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) waiting_bytes: usize,
    /// Events that wait for an active session (CLI-10).
    pub(super) events: VecDeque<(EventName, Option<Bytes>)>,
    pub(super) out: VecDeque<Output<Job, Report>>,
    /// Messages that no peer may send, since this was asked last.
    pub(super) refused: u64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("state", &self.state).field("retries", &self.retries).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that does nothing until it is [started](Self::start).
    pub fn new(config: ClientConfig, entropy: Box<dyn Entropy>) -> Self {
        Self {
            config,
            entropy,
            phase: Phase::Idle,
            state: State::Idle,
            retries: 0,
            unauthorized_before: false,
            redeemed: false,
            close_reason: None,
            redeem_unclear: false,
            kept_grant: None,
            link: None,
            session: None,
            kept_session: None,
            untaken: Untaken::default(),
            daemon_id: String::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            events: VecDeque::new(),
            out: VecDeque::new(),
            refused: 0,
        }
    }

    /// Why the client is closed; `None` while it is not.
    pub const fn close_reason(&self) -> Option<&CloseReason> {
        self.close_reason.as_ref()
    }

    /// Where the client is.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The daemon that the client talks to; empty before a Quick Connect code is redeemed.
    pub fn daemon_id(&self) -> &str {
        match &self.config.access {
            Access::Account { daemon_id } => daemon_id,
            Access::QuickConnect => &self.daemon_id,
        }
    }

    /// Time limits of calls.
    pub const fn rpc_policy(&self) -> RpcPolicy {
        self.config.rpc
    }

    /// Makes the first attempt. Does nothing the second time.
    pub fn start(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Idle) {
            self.attempt(now);
        }
    }

    /// Ends everything, at once and for good (CLI-14). Says goodbye where that can still be heard (SBP-07).
    pub fn close(&mut self) {
        if self.is_closed() && !self.has(Quirk::ClosesTwice) || self.puts_off_closing() {
            return;
        }
        // A daemon that was introduced to us has a session that stands, even before we know.
        if matches!(self.phase, Phase::Active | Phase::Negotiating(_))
            && let Some(session) = &mut self.session
        {
            session.close("", &mut *self.entropy);
            self.pump_frames();
        }
        self.shut(CloseReason::ByUser, close::NORMAL);
    }

    /// Whether keys, what keys come from, or a token are held; for tests. Names each field, so that a new one has to take a side.
    #[doc(hidden)]
    pub fn holds_secrets(&self) -> bool {
        let Self {
            phase,
            kept_grant,
            session,
            kept_session,
            out,
            config: _,
            entropy: _,
            state: _,
            retries: _,
            unauthorized_before: _,
            redeemed: _,
            close_reason: _,
            redeem_unclear: _,
            link: _,
            untaken: _,
            daemon_id: _,
            waiting: _,
            waiting_bytes: _,
            events: _,
            refused: _,
        } = self;
        let exchange = matches!(phase, Phase::Negotiating(_));
        let keys = session.is_some() || kept_session.is_some();
        exchange || keys || kept_grant.is_some() || out.iter().any(is_dial)
    }

    /// What only quirks do: wait with closing.
    fn puts_off_closing(&self) -> bool {
        let stands = matches!(self.phase, Phase::Active | Phase::Paused);
        let calls = !self.waiting.is_empty() || self.session.as_ref().is_some_and(|s| s.poll_timeout().is_some());
        self.has(Quirk::ClosesOnlyFromSession) && !stands || self.has(Quirk::FinishesCallsBeforeClosing) && calls
    }

    /// Whether the client is wrong in this way, on purpose.
    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.config.quirks.has(quirk)
    }

    pub(super) fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            if state == State::Negotiating && self.has(Quirk::HidesNegotiating) {
                return;
            }
            self.out.push_back(Output::Report(Report::State(state)));
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        self.out.push_back(Output::Report(report));
    }

    pub(super) fn start_job(&mut self, job: Job) {
        self.out.push_back(Output::Start(job));
    }

    /// CLI-01, CLI-02: a new session on every attempt, a redeem only while none has succeeded.
    fn attempt(&mut self, now: Instant) {
        self.set_state(State::Connecting);
        if let Some(grant) = self.kept_grant.take() {
            return self.dial(grant, now);
        }
        match self.config.access {
            Access::Account { .. } if self.retries > 0 && self.has(Quirk::KeepsAccessToken) => {
                self.ask_api(Job::CreateSession, now);
            }
            Access::Account { .. } => {
                self.phase = Phase::Token { deadline: now + self.config.connection.api_timeout };
                self.start_job(Job::FetchToken);
            }
            Access::QuickConnect => self.ask_api(Job::Redeem, now),
        }
    }

    /// CLI-07.
    fn ask_api(&mut self, job: Job, now: Instant) {
        let limit = if self.has(Quirk::WaitsForApiForEver) { NEVER } else { self.config.connection.api_timeout };
        self.phase = Phase::Api { deadline: now + limit };
        self.start_job(job);
    }

    fn dial(&mut self, grant: SessionGrant, now: Instant) {
        if self.has(Quirk::ReusesSession) {
            self.kept_grant = Some(grant.clone());
        }
        let Some(session) = token::peek(&grant.token).and_then(|peek| peek.session) else {
            return self.fail(Cause::ApiUnreadable("the session's token names no session".to_owned()), now);
        };
        if let Access::QuickConnect = self.config.access {
            self.redeemed = true;
            self.daemon_id = grant.daemon_id.clone().unwrap_or_default();
        }
        let daemon_id = self.daemon_id().to_owned();
        // CLI-07
        let limit = if self.has(Quirk::WaitsForRelayForEver) { NEVER } else { self.config.connection.dial_timeout };
        self.phase = Phase::Dialling { deadline: now + limit, daemon_id, session };
        self.start_job(Job::Dial(grant));
    }

    /// An attempt failed or a session is lost: retry or close (CLI-02, CLI-04, CLI-05).
    pub(super) fn fail(&mut self, cause: Cause, now: Instant) {
        if self.is_closed() {
            return;
        }
        let stood = matches!(self.phase, Phase::Active | Phase::Paused);
        self.leave(close_code(&cause));
        if stood {
            self.report(Report::Disconnected(cause.clone()));
        }
        let cause = self.note_redeem(cause);
        let fatal = self.is_fatal(&cause);
        if self.redeemed && !fatal && !self.has(Quirk::RedeemsAgain) {
            return self.shut(CloseReason::CodeUsed(cause), close::NORMAL);
        }
        match (fatal, self.config.retry.mode) {
            (true, _) => {
                // CLI-08: as it is.
                let hidden = matches!(cause, Cause::Api { .. }) && self.has(Quirk::HidesApiError);
                let reason = if hidden { self.exhausted(cause) } else { CloseReason::Fatal(cause) };
                return self.shut(reason, close::NORMAL);
            }
            (false, RetryMode::Never) if !self.has(Quirk::RetriesInModeNever) => {
                let reason = self.exhausted(cause);
                return self.shut(reason, close::NORMAL);
            }
            (false, RetryMode::Never | RetryMode::OnError) => {}
        }
        if self.is_exhausted() {
            let reason = self.exhausted(cause);
            return self.shut(reason, close::NORMAL);
        }
        let delay = self.delay(&cause);
        let retry = self.retries;
        self.retries = self.retries.saturating_add(1);
        self.phase = Phase::Delay { until: now + delay };
        self.set_state(State::Reconnecting);
        self.report(Report::Retrying { retry, delay, cause });
    }

    /// CLI-05, with the one retry of an upgrade's 401.
    fn is_fatal(&mut self, cause: &Cause) -> bool {
        let mode = self.config.access.mode();
        match cause.client_verdict(mode) {
            Verdict::Fatal if matches!(cause, Cause::Api { status: 409, .. }) => {
                !self.has(Quirk::RetriesFatal) && !self.has(Quirk::RetriesConflictOfCode)
            }
            Verdict::Fatal => !self.has(Quirk::RetriesFatal),
            Verdict::Retry => self.has(Quirk::GivesUpOnRetried),
            Verdict::RetryOnce => {
                std::mem::replace(&mut self.unauthorized_before, true) && !self.has(Quirk::RetriesUnauthorizedForEver)
                    || self.has(Quirk::GivesUpOnRetried)
            }
        }
    }

    /// CLI-04: whether no further retry in a row is allowed.
    fn is_exhausted(&self) -> bool {
        match self.config.retry.max_retries {
            0 => self.has(Quirk::TakesNoLimitForNone),
            most => self.retries >= most && !self.has(Quirk::NeverGivesUp),
        }
    }

    /// CLI-08: with the last cause.
    fn exhausted(&self, cause: Cause) -> CloseReason {
        let cause = if self.has(Quirk::LosesLastCause) { Cause::Closed } else { cause };
        CloseReason::Exhausted { retries: self.retries, cause }
    }

    /// How long until the next attempt (CLI-04).
    fn delay(&mut self, cause: &Cause) -> Duration {
        let policy = &self.config.retry;
        let max = if self.has(Quirk::DelaysWithoutLimit) { NEVER } else { policy.max };
        let jitter = if self.has(Quirk::HasNoJitter) { 0.0 } else { policy.jitter };
        let base = base_delay(policy.initial, max, self.retries);
        let own = if self.has(Quirk::RetriesAtOnce) {
            Duration::ZERO
        } else {
            client_delay(base, jitter, &mut *self.entropy)
        };
        match cause.retry_after() {
            // CLI-06: at least as long as was asked for; the answer's reader has capped it.
            Some(asked) if self.has(Quirk::RetryAfterReplacesDelay) => asked,
            Some(asked) if self.has(Quirk::CapsRetryAfterEarly) => own.max(asked.min(max)),
            Some(asked) if !self.has(Quirk::IgnoresRetryAfter) => own.max(asked),
            Some(_) | None => own,
        }
    }

    /// CLI-02: after a redeem without a readable answer the code may be burned, and a 404 says so.
    fn note_redeem(&mut self, cause: Cause) -> Cause {
        let Access::QuickConnect = self.config.access else { return cause };
        if let Cause::Api { status: 404, code, message, retry_after } = cause {
            let hint = if self.redeem_unclear && !self.has(Quirk::HidesBurnedCode) {
                " (an earlier attempt whose outcome is unknown may have used the code up; get a new one)"
            } else {
                ""
            };
            return Cause::Api { status: 404, code, message: format!("{message}{hint}"), retry_after };
        }
        self.redeem_unclear |= matches!(
            cause,
            Cause::ApiTimeout
                | Cause::ApiUnreadable(_)
                | Cause::ApiUnreachable(_)
                | Cause::Api { status: 100..=299 | 500..=599, .. }
        );
        cause
    }

    /// Leaves the attempt or session: calls in flight fail at once with `not_connected` (CLI-09).
    fn leave(&mut self, code: u16) {
        self.pump_frames();
        if !self.has(Quirk::CallsOutliveSocket) {
            self.end_calls(&CallError::NotConnected);
        }
        if let Some(session) = self.session.take() {
            self.untaken = session.untaken();
            self.kept_session = Some(session).filter(|_| self.has(Quirk::KeepsKeysOfEndedSession));
        }
        if self.link.take().is_some() {
            self.out.push_back(Output::CloseSocket(code));
        }
        self.out.push_back(Output::Abandon);
    }

    fn shut(&mut self, reason: CloseReason, code: u16) {
        self.close_reason = Some(reason.clone());
        self.phase = Phase::Closed;
        // CLI-14
        let over = if self.has(Quirk::ClosesAsDisconnected) { CallError::NotConnected } else { CallError::PeerClosed };
        self.end_calls(&over);
        self.end_waiting(&over);
        self.session = None;
        self.kept_grant = None;
        // A job that has not begun never will, and a dial holds a token.
        self.out.retain(|output| !matches!(output, Output::Start(_)));
        if self.link.take().is_some() {
            self.out.push_back(Output::CloseSocket(code));
        }
        self.out.push_back(Output::Abandon);
        self.set_state(State::Closed);
        self.report(Report::Closed(reason));
    }

    /// Sends what the session has to send, and nothing else of it.
    fn pump_frames(&mut self) {
        while let Some(output) = self.session.as_mut().and_then(Session::poll_output) {
            match output {
                SessionOutput::Frame(frame) => self.out.push_back(Output::Transmit(frame)),
                SessionOutput::Deliver(delivery) => self.report(Report::Delivery(delivery)),
                SessionOutput::Introduced(_) | SessionOutput::Ended(_) => {}
            }
        }
    }

    /// Does what the session asks for.
    pub(super) fn pump(&mut self, now: Instant) {
        while let Some(output) = self.session.as_mut().and_then(Session::poll_output) {
            match output {
                SessionOutput::Frame(frame) => self.out.push_back(Output::Transmit(frame)),
                SessionOutput::Deliver(delivery) => self.report(Report::Delivery(delivery)),
                SessionOutput::Introduced(_) => self.activate(now),
                SessionOutput::Ended(cause) => self.fail(cause, now),
            }
        }
    }

    fn activate(&mut self, now: Instant) {
        if !self.has(Quirk::CountsRetriesForEver) {
            self.retries = 0;
        }
        if !self.has(Quirk::RemembersUnauthorized) {
            self.unauthorized_before = false;
        }
        self.phase = Phase::Active;
        self.set_state(State::Active);
        let daemon_id = self.daemon_id().to_owned();
        self.report(Report::Connected { daemon_id });
        self.flush_waiting(now);
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) {
        let own = match &self.phase {
            Phase::Negotiating(negotiation) => Some(negotiation.session),
            Phase::Active | Phase::Paused => self.session.as_ref().map(Session::id),
            Phase::Idle
            | Phase::Token { .. }
            | Phase::Api { .. }
            | Phase::Dialling { .. }
            | Phase::Delay { .. }
            | Phase::Closed => None,
        };
        let Some(own) = own else { return };
        // WIRE-21: another session's id
        if frame.session() != 0 && frame.session() != own.get() {
            return self.malformed("a frame for another session", now);
        }
        match frame {
            // WIRE-20
            Frame::Ping(bytes) => self.out.push_back(Output::Transmit(Frame::Pong(bytes).encode())),
            Frame::Pong(_) => {}
            Frame::Control { code, .. } => self.handle_control(code, now),
            Frame::HandshakeAccept { payload, .. } => self.handle_accept(&payload, now),
            Frame::Data { payload, .. } => self.handle_data(payload, now),
            Frame::HandshakeInit { .. } => self.malformed("a HandshakeInit, which no client receives", now),
            Frame::Signal { .. } => self.malformed("a Signal, which no client receives", now),
        }
    }

    pub(super) fn malformed(&mut self, what: &str, now: Instant) {
        self.refused += 1;
        self.fail(Cause::MalformedFrame(what.to_owned()), now);
    }

    /// CLI-11, and the Control codes of CLI-05.
    fn handle_control(&mut self, code: Result<ControlCode, UnknownControlCode>, now: Instant) {
        let stands = matches!(self.phase, Phase::Active | Phase::Paused);
        match code {
            Ok(code) if self.mistakes(code, stands) => self.fail(Cause::Control(Ok(code)), now),
            Ok(code) if self.overlooks(code, stands) => {}
            // ◇ CLI-05 lists it among what is retried, WIRE-09 and REL-20 keep the connection: it is told, and the session goes on.
            Ok(ControlCode::RateLimited) => self.report(Report::RateLimited),
            Ok(ControlCode::SessionPaused) if stands => self.pause(),
            Ok(ControlCode::SessionPending) if stands => self.report(Report::Pending),
            Ok(ControlCode::SessionResumed) if stands => {
                if let Phase::Paused = self.phase {
                    self.phase = Phase::Active;
                    self.set_state(State::Active);
                    if self.has(Quirk::ConnectedOnResume) {
                        let daemon_id = self.daemon_id().to_owned();
                        self.report(Report::Connected { daemon_id });
                    }
                    self.report(Report::Resumed);
                    if let Some(session) = &mut self.session {
                        if self.config.quirks.has(Quirk::ResumesFromZero) {
                            session.continue_at(0);
                        }
                        session.resume();
                    }
                    self.pump(now);
                    self.flush_waiting(now);
                }
            }
            Ok(
                ControlCode::SessionPaused
                | ControlCode::SessionPending
                | ControlCode::SessionResumed
                | ControlCode::SessionEnded
                | ControlCode::Unauthorized
                | ControlCode::Forbidden
                | ControlCode::DaemonNotFound
                | ControlCode::DaemonOffline
                | ControlCode::SessionNotFound
                | ControlCode::SessionExpired
                | ControlCode::MalformedFrame
                | ControlCode::PayloadTooLarge
                | ControlCode::InvalidFrameType
                | ControlCode::InvalidSessionId
                | ControlCode::DisallowedSender
                | ControlCode::InternalError
                | ControlCode::Backpressure,
            )
            // WIRE-05
            | Err(_) => self.fail(Cause::Control(code), now),
        }
    }

    /// The daemon is away: nothing is sent until it is back, calls in flight go on waiting (CLI-11).
    fn pause(&mut self) {
        self.set_state(State::Paused);
        if self.has(Quirk::SendsWhilePaused) {
            return;
        }
        self.phase = Phase::Paused;
        if self.has(Quirk::FailsCallsOnPause) {
            self.end_calls(&CallError::SessionPaused);
        }
        if let Some(session) = &mut self.session {
            session.hold();
            if self.config.quirks.has(Quirk::StopsClockOnPause) {
                session.stop_clocks();
            }
        }
    }

    /// What only quirks do: take a code for the end of the session.
    fn mistakes(&self, code: ControlCode, stands: bool) -> bool {
        let wrong = |quirk, on| self.has(quirk) && code == on;
        wrong(Quirk::EndsOnRateLimit, ControlCode::RateLimited)
            || stands
                && (wrong(Quirk::LeavesSocketOnPause, ControlCode::SessionPaused)
                    || wrong(Quirk::ReconnectsOnPending, ControlCode::SessionPending)
                    || wrong(Quirk::StartsOverOnResume, ControlCode::SessionResumed))
    }

    /// What only quirks do: take no notice of a code.
    fn overlooks(&self, code: ControlCode, stands: bool) -> bool {
        use ControlCode::{SessionEnded, SessionExpired, SessionPaused, SessionPending, SessionResumed};
        if !stands {
            return self.has(Quirk::BearsControlBeforeActive)
                && [SessionPaused, SessionPending, SessionResumed, SessionExpired, SessionEnded].contains(&code);
        }
        self.has(Quirk::KeepsExpiredSession) && code == SessionExpired
            || self.has(Quirk::KeepsEndedSession) && code == SessionEnded
    }

    /// CLI-13.
    fn keepalive(&self, now: Instant) -> Keepalive {
        let mut policy = self.config.connection.keepalive;
        if self.has(Quirk::NeverPings) {
            policy.ping_every = NEVER;
        }
        if self.has(Quirk::BearsSilence) {
            policy.silence = NEVER;
        }
        Keepalive::new(policy, now)
    }
}

const fn is_dial(output: &Output<Job, Report>) -> bool {
    matches!(output, Output::Start(Job::Dial(_)))
}

/// The close code with which a client leaves a socket.
fn close_code(cause: &Cause) -> u16 {
    if let Cause::MalformedFrame(_) = cause { close::PROTOCOL } else { close::NORMAL }
}

impl Endpoint for Client {
    type Job = Job;
    type Done = Done;
    type Report = Report;

    fn handle_done(&mut self, done: Done, now: Instant) {
        let expected = match (&self.phase, &done) {
            (Phase::Token { .. }, Done::Token(_))
            | (Phase::Api { .. }, Done::Session(_))
            | (Phase::Dialling { .. }, Done::Dialled(_)) => true,
            (Phase::Negotiating(_), Done::Pin(_) | Done::Answered(_) | Done::PinStored(_)) => true,
            (
                Phase::Idle
                | Phase::Token { .. }
                | Phase::Api { .. }
                | Phase::Dialling { .. }
                | Phase::Negotiating(_)
                | Phase::Active
                | Phase::Paused
                | Phase::Delay { .. }
                | Phase::Closed,
                _,
            ) => false,
        };
        if !expected {
            // A socket that came too late belongs to no attempt.
            if let Done::Dialled(Ok(())) = done {
                self.out.push_back(Output::CloseSocket(close::NORMAL));
            }
            return;
        }
        match done {
            Done::Token(Ok(())) => self.ask_api(Job::CreateSession, now),
            Done::Session(Ok(grant)) => self.dial(grant, now),
            Done::Dialled(Ok(())) => {
                self.link = Some(self.keepalive(now));
                self.negotiate(now);
            }
            Done::Pin(Ok(pin)) => self.handle_pin(pin.as_ref(), now),
            Done::Answered(yes) => self.handle_answer(yes, now),
            Done::PinStored(Ok(())) => self.handle_trusted(now),
            Done::PinStored(Err(_)) if self.has(Quirk::IgnoresFailingStore) => self.handle_trusted(now),
            Done::Token(Err(cause))
            | Done::Session(Err(cause))
            | Done::Dialled(Err(cause))
            | Done::Pin(Err(cause))
            | Done::PinStored(Err(cause)) => self.fail(cause, now),
        }
    }

    fn handle_message(&mut self, message: Bytes, now: Instant) {
        if self.link.is_none() {
            // It came behind what ended its socket, and decides nothing any more.
            return;
        }
        self.handle_life(now);
        let decoded = Frame::decode(&message);
        // The payload then owns its memory alone and is opened in place.
        drop(message);
        match decoded {
            Ok(frame) => self.handle_frame(frame, now),
            Err(error) => self.malformed(&error.to_string(), now),
        }
    }

    fn handle_forbidden(&mut self, what: Forbidden, now: Instant) {
        if self.link.take().is_some() {
            self.out.push_back(Output::CloseSocket(what.close_code()));
            self.malformed(what.describe(), now);
        }
    }

    fn handle_life(&mut self, now: Instant) {
        if let Some(link) = &mut self.link
            && !self.config.quirks.has(Quirk::HearsNoLife)
        {
            link.heard(now);
        }
    }

    fn handle_socket_lost(&mut self, code: Option<u16>, now: Instant) {
        if self.link.take().is_some() {
            self.fail(Cause::SocketLost { code }, now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.end_overdue(now);
        if let Some(session) = &mut self.session {
            session.handle_timeout(now);
            self.pump(now);
        }
        match &self.phase {
            Phase::Token { deadline } if *deadline <= now => {
                self.fail(Cause::TokenSource("no token in time".to_owned()), now);
            }
            Phase::Api { deadline } if *deadline <= now => self.fail(Cause::ApiTimeout, now),
            Phase::Dialling { deadline, .. } if *deadline <= now => self.fail(Cause::DialTimeout, now),
            Phase::Negotiating(negotiation)
                if negotiation.deadline <= now && !self.config.quirks.has(Quirk::WaitsForHandshakeForEver) =>
            {
                let cause = negotiation.overdue(self.config.quirks);
                self.fail(cause, now);
            }
            Phase::Delay { until } if *until <= now => self.attempt(now),
            Phase::Idle
            | Phase::Token { .. }
            | Phase::Api { .. }
            | Phase::Dialling { .. }
            | Phase::Negotiating(_)
            | Phase::Active
            | Phase::Paused
            | Phase::Delay { .. }
            | Phase::Closed => {}
        }
        match self.link.as_mut().map(|link| link.poll(now)) {
            Some(KeepaliveAction::Ping(ping)) => self.out.push_back(Output::Transmit(ping)),
            Some(KeepaliveAction::Silent) => self.fail(Cause::Silent, now),
            Some(KeepaliveAction::Wait) | None => {}
        }
    }

    fn abort(&mut self, cause: Cause) {
        if self.is_closed() {
            return;
        }
        if matches!(self.phase, Phase::Active | Phase::Paused) {
            self.report(Report::Disconnected(cause.clone()));
        }
        self.shut(CloseReason::Fatal(cause), close::NORMAL);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Token { deadline } | Phase::Api { deadline } | Phase::Dialling { deadline, .. } => Some(*deadline),
            Phase::Negotiating(_) if self.config.quirks.has(Quirk::WaitsForHandshakeForEver) => None,
            Phase::Negotiating(negotiation) => Some(negotiation.deadline),
            Phase::Delay { until } => Some(*until),
            Phase::Idle | Phase::Active | Phase::Paused | Phase::Closed => None,
        };
        let calls = earliest(self.session.as_ref().and_then(Session::poll_timeout), self.waiting_deadline());
        earliest(earliest(phase, calls), self.link.as_ref().and_then(Keepalive::poll_timeout))
    }

    fn poll_output(&mut self) -> Option<Output<Job, Report>> {
        self.out.pop_front()
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}
