//! The machine: the socket, retries, and what comes from the relay.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::{DaemonConfig, Done, Job, Report, sessions::Slot};
use crate::{
    Entropy, Instant, SessionId,
    backoff::{base_delay, daemon_delay},
    client::RpcPolicy,
    crypto::Identity,
    endpoint::{Endpoint, Forbidden, Keepalive, KeepaliveAction, Output},
    failure::{Cause, Verdict},
    quirks::Quirk,
    time::earliest,
    token,
    wire::{ControlCode, DecodeError, Frame, FrameType, Reason, Signal, UnknownControlCode, close},
};

/// Malformed frames in a row after which the socket is given up (DMN-08).
const MALFORMED_LIMIT: u32 = 10;
/// Within this time of a dial that was given up, a `replaced` close may be our own doing (DMN-01).
const OWN_DIAL: Duration = Duration::from_secs(60);
/// For a quirk that waits for ever: longer than any test.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Debug)]
enum Phase {
    Idle,
    Token { deadline: Instant },
    Dialling { deadline: Instant },
    Online { since: Instant },
    Delay { until: Instant },
    Closed,
}

/// The daemon machine. See [`crate::endpoint`] for how to drive it.
pub struct Daemon {
    pub(super) config: DaemonConfig,
    /// The key that signs each session's exchange; gone when the daemon has ended (CRY-12).
    pub(super) identity: Option<Identity>,
    pub(super) entropy: Box<dyn Entropy>,
    phase: Phase,
    retries: u32,
    was_online: bool,
    pub(super) daemon_id: String,
    /// The last token's scope says that sessions can be resumed (DMN-12).
    resumable: bool,
    /// When a dial was last given up (DMN-01).
    gave_up: Option<Instant>,
    malformed: u32,
    /// The last token, kept only by [`Quirk::ReusesPresenceToken`].
    reused: Option<String>,
    link: Option<Keepalive>,
    pub(super) sessions: BTreeMap<SessionId, Slot>,
    /// Sessions that are over; kept for [`Quirk::KeepsKeysOfEndedSession`] only.
    pub(super) kept: Vec<Slot>,
    /// How many sessions have begun.
    pub(super) begun: u64,
    /// When sessions are next looked at, the earliest first.
    pub(super) deadlines: BTreeSet<(Instant, SessionId)>,
    /// Sessions that ended while the socket was away; the relay is told when it is back.
    owed: BTreeMap<SessionId, Reason>,
    pub(super) out: VecDeque<Output<Job, Report>>,
    /// Messages that no peer may send, since this was asked last.
    pub(super) refused: u64,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon")
            .field("phase", &self.phase)
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl Daemon {
    /// A daemon that does nothing until it is [started](Self::start); `identity` signs each session's exchange.
    pub fn new(identity: Identity, config: DaemonConfig, entropy: Box<dyn Entropy>) -> Self {
        Self {
            config,
            identity: Some(identity),
            entropy,
            phase: Phase::Idle,
            retries: 0,
            was_online: false,
            daemon_id: String::new(),
            resumable: false,
            gave_up: None,
            malformed: 0,
            reused: None,
            link: None,
            sessions: BTreeMap::new(),
            kept: Vec::new(),
            begun: 0,
            deadlines: BTreeSet::new(),
            owed: BTreeMap::new(),
            out: VecDeque::new(),
            refused: 0,
        }
    }

    /// Makes the first attempt. Does nothing the second time.
    pub fn start(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Idle) {
            self.attempt(now);
        }
    }

    /// Time limits of calls.
    pub const fn rpc_policy(&self) -> RpcPolicy {
        self.config.rpc
    }

    /// The daemon's id; empty before the first token.
    pub fn daemon_id(&self) -> &str {
        &self.daemon_id
    }

    /// Whether the relay socket stands.
    pub fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online { .. })
    }

    /// Ends everything, at once and for good; says goodbye to each session and to the relay (DMN-16, SBP-07).
    pub fn close(&mut self) {
        if self.config.quirks.has(Quirk::ClosesOnlyWhenOnline) && !self.is_online() {
            return;
        }
        self.end(Cause::Closed);
    }

    /// Whether keys, what keys come from, or a token are held; for tests. Names each field, so that a new one has to take a side.
    #[doc(hidden)]
    pub fn holds_secrets(&self) -> bool {
        let Self {
            identity,
            reused,
            sessions,
            kept,
            out,
            config: _,
            entropy: _,
            phase: _,
            retries: _,
            was_online: _,
            daemon_id: _,
            resumable: _,
            gave_up: _,
            malformed: _,
            link: _,
            begun: _,
            deadlines: _,
            owed: _,
            refused: _,
        } = self;
        let keys = !sessions.is_empty() || !kept.is_empty();
        identity.is_some() || reused.is_some() || keys || out.iter().any(is_dial)
    }

    /// Whether keys of any session are held; for tests.
    #[doc(hidden)]
    pub fn holds_session_keys(&self) -> bool {
        !self.sessions.is_empty() || !self.kept.is_empty()
    }

    pub(super) fn report(&mut self, report: Report) {
        self.out.push_back(Output::Report(report));
    }

    pub(super) fn transmit(&mut self, frame: &Frame) {
        self.out.push_back(Output::Transmit(frame.encode()));
    }

    /// Tells the relay about a session, now or when the socket is back.
    pub(super) fn signal(&mut self, session: SessionId, signal: Signal, reason: Reason) {
        if self.is_online() {
            self.transmit(&Frame::Signal { session, signal, reason });
        } else if signal == Signal::Close && !self.config.quirks.has(Quirk::ForgetsWhatEndedAway) {
            self.owed.insert(session, reason);
        }
    }

    /// DMN-03: a fresh token for every relay connection.
    fn attempt(&mut self, now: Instant) {
        if let Some(token) = self.reused.clone() {
            return self.dial(token, now);
        }
        let limit = self.config.connection.api_timeout;
        let limit = if self.config.quirks.has(Quirk::DaemonWaitsForApi) { FOR_EVER } else { limit };
        self.phase = Phase::Token { deadline: now + limit };
        self.out.push_back(Output::Start(Job::RenewToken));
    }

    /// DMN-02, DMN-12.
    fn handle_token(&mut self, token: String, now: Instant) {
        let Some(peek) = token::peek(&token) else {
            return self.fail(Cause::ApiUnreadable("the presence token cannot be read".to_owned()), false, now);
        };
        let wanted = match &self.config.daemon_id {
            Some(wanted) => Some(wanted.clone()),
            None if self.daemon_id.is_empty() => None,
            None => Some(self.daemon_id.clone()),
        };
        if let Some(wanted) = wanted
            && wanted != peek.daemon_id
            && !self.config.quirks.has(Quirk::ServesAnyDaemonId)
        {
            return self.end(Cause::Api {
                status: 400,
                code: "BAD_REQUEST".to_owned(),
                message: format!("the API key belongs to daemon {}, not to {wanted}", peek.daemon_id),
                retry_after: None,
            });
        }
        let quirks = self.config.quirks;
        self.resumable =
            (peek.is_resumable() || quirks.has(Quirk::ResumesWithoutScope)) && !quirks.has(Quirk::NeverResumes);
        self.daemon_id = peek.daemon_id;
        if quirks.has(Quirk::ReusesPresenceToken) {
            self.reused = Some(token.clone());
        }
        self.dial(token, now);
    }

    fn dial(&mut self, token: String, now: Instant) {
        let limit = self.config.connection.dial_timeout;
        let limit = if self.config.quirks.has(Quirk::DaemonWaitsForDial) { FOR_EVER } else { limit };
        self.phase = Phase::Dialling { deadline: now + limit };
        self.out.push_back(Output::Start(Job::Dial(token)));
    }

    fn handle_online(&mut self, now: Instant) {
        self.phase = Phase::Online { since: now };
        self.link = Some(Keepalive::new(self.config.connection.keepalive, now));
        self.malformed = 0;
        let first = !std::mem::replace(&mut self.was_online, true);
        // DMN-11: before anything else
        for (session, reason) in std::mem::take(&mut self.owed) {
            self.transmit(&Frame::Signal { session, signal: Signal::Close, reason });
        }
        self.resume_sessions(self.resumable);
        let daemon_id = self.daemon_id.clone();
        self.report(Report::Online { daemon_id, first });
    }

    /// DMN-01, or what a quirk makes of it.
    fn verdict(&self, cause: &Cause) -> Verdict {
        let quirks = self.config.quirks;
        let status = if let Cause::Api { status, .. } = cause { *status } else { 0 };
        if quirks.has(Quirk::DaemonRetriesRefusals) && matches!(status, 400 | 401 | 403 | 404) {
            return Verdict::Retry;
        }
        let ends = quirks.has(Quirk::DaemonEndsOnServerErrors) && matches!(status, 429 | 500..=599)
            || quirks.has(Quirk::DaemonEndsOnRefusedUpgrade) && matches!(cause, Cause::Upgrade { .. })
            || quirks.has(Quirk::DaemonGivesUp) && self.retries >= 5;
        if ends { Verdict::Fatal } else { cause.daemon_verdict() }
    }

    /// How long until the next attempt: DMN-04, and CLI-06 by DMN-13.
    fn delay(&mut self, settled: bool, clean: bool, cause: &Cause) -> Duration {
        let (policy, quirks) = (&self.config.retry, self.config.quirks);
        let delay = if settled && clean && !quirks.has(Quirk::TakesCleanCloseForFault) {
            daemon_delay(Duration::ZERO, policy.clean, &mut *self.entropy)
        } else {
            let at_once = quirks.has(Quirk::DaemonRetriesAtOnce)
                || quirks.has(Quirk::ReconnectsAtOnceAfterControl) && matches!(cause, Cause::Control(_));
            let base = if at_once { Duration::ZERO } else { base_delay(policy.initial, policy.max, self.retries) };
            let spread = if quirks.has(Quirk::DaemonsRetryInStep) { Duration::ZERO } else { policy.spread };
            daemon_delay(base, spread, &mut *self.entropy)
        };
        let asked = if quirks.has(Quirk::DaemonIgnoresRetryAfter) { None } else { cause.retry_after() };
        delay.max(asked.unwrap_or_default())
    }

    /// The attempt failed or the socket is lost: retry for ever, or end (DMN-01, DMN-04).
    pub(super) fn fail(&mut self, cause: Cause, clean: bool, now: Instant) {
        let lasted = match self.phase {
            Phase::Online { since } => Some(now - since),
            Phase::Closed => return,
            Phase::Idle | Phase::Token { .. } | Phase::Dialling { .. } | Phase::Delay { .. } => None,
        };
        if let Verdict::Fatal = self.verdict(&cause) {
            return self.end(cause);
        }
        if self.link.take().is_some() {
            self.out.push_back(Output::CloseSocket(if matches!(cause, Cause::MalformedFrame(_)) {
                close::PROTOCOL
            } else {
                close::NORMAL
            }));
        }
        self.out.push_back(Output::Abandon);
        let settled = lasted.is_some_and(|lasted| lasted >= self.config.retry.settled);
        if settled && !self.config.quirks.has(Quirk::DaemonNeverRestartsCount) {
            self.retries = 0;
        }
        let delay = self.delay(settled, clean, &cause);
        let retry = self.retries;
        self.retries = self.retries.saturating_add(1);
        self.phase = Phase::Delay { until: now + delay };
        if lasted.is_some() {
            self.report(Report::Offline(cause.clone()));
            self.pause_sessions(self.resumable, &cause);
        }
        self.report(Report::Retrying { retry, delay, cause });
    }

    /// Ends for good.
    fn end(&mut self, cause: Cause) {
        if self.is_closed() {
            return;
        }
        let by_user = cause == Cause::Closed;
        self.end_sessions(&cause, by_user);
        self.owed.clear();
        self.phase = Phase::Closed;
        self.identity = None;
        self.reused = None;
        // A job that has not begun never will, and a dial holds a token.
        self.out.retain(|output| !matches!(output, Output::Start(_)));
        if self.link.take().is_some() {
            let code = if self.config.quirks.has(Quirk::LeavesAsGoingAway) { 1001 } else { close::NORMAL };
            self.out.push_back(Output::CloseSocket(code));
        }
        self.out.push_back(Output::Abandon);
        self.report(Report::Ended(cause));
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) {
        match frame {
            // WIRE-20
            Frame::Ping(bytes) => self.transmit(&Frame::Pong(bytes)),
            Frame::Pong(_) => {}
            Frame::HandshakeInit { session, client_ephemeral } => self.handle_init(session, &client_ephemeral, now),
            Frame::Data { session, payload } => self.handle_data(session, payload, now),
            Frame::Control { session, code, .. } => self.handle_control(session, code, now),
            // WIRE-21
            Frame::HandshakeAccept { session, .. } | Frame::Signal { session, .. } => {
                self.refused += 1;
                self.session_malformed(session, "a frame that no daemon receives");
            }
        }
    }

    /// DMN-09, DMN-10.
    fn handle_control(
        &mut self,
        session: Option<SessionId>,
        code: Result<ControlCode, UnknownControlCode>,
        now: Instant,
    ) {
        let quirks = self.config.quirks;
        let Some(session) = session else {
            if code == Ok(ControlCode::RateLimited) && !quirks.has(Quirk::ReconnectsWhenRateLimited) {
                self.report(Report::RateLimited);
            } else if !quirks.has(Quirk::IgnoresConnectionControl) {
                self.fail(Cause::Control(code), false, now);
            }
            return;
        };
        let frees = match code {
            Ok(ControlCode::SessionEnded) => !quirks.has(Quirk::KeepsEndedSessions),
            Ok(code) => code.is_terminal() && !quirks.has(Quirk::KeepsRefusedSessions),
            // WIRE-05
            Err(_) => true,
        };
        if frees {
            self.free(session, Cause::Control(code));
        }
    }

    /// WIRE-02, DMN-08. ◇ A HandshakeInit or Data of a wrong size is its client's doing, which the relay passes on unread (WIRE-18): it
    /// ends that client's session and counts for nothing else. Everything else that is malformed is the relay's.
    fn handle_malformed(&mut self, error: DecodeError, now: Instant) {
        self.refused += 1;
        match error {
            DecodeError::Size { frame_type: FrameType::HandshakeInit, session, .. } => {
                if let Some(session) = SessionId::new(session) {
                    self.refuse_init(session, &error.to_string());
                }
                return;
            }
            DecodeError::Size { frame_type: FrameType::Data, session, .. } => {
                if let Some(session) = SessionId::new(session) {
                    self.session_malformed(session, &error.to_string());
                }
                return;
            }
            DecodeError::Size {
                frame_type:
                    FrameType::HandshakeAccept | FrameType::Signal | FrameType::Ping | FrameType::Pong | FrameType::Control,
                session,
                ..
            }
            | DecodeError::UnknownSignal { session, .. } => {
                if let Some(session) = SessionId::new(session) {
                    self.session_malformed(session, &error.to_string());
                }
            }
            DecodeError::Header(_) => {}
        }
        self.malformed += 1;
        if self.malformed >= MALFORMED_LIMIT && !self.config.quirks.has(Quirk::BearsMalformedFrames) {
            self.fail(Cause::MalformedFrame(format!("{MALFORMED_LIMIT} in a row, the last: {error}")), false, now);
        }
    }
}

const fn is_dial(output: &Output<Job, Report>) -> bool {
    matches!(output, Output::Start(Job::Dial(_)))
}

impl Endpoint for Daemon {
    type Job = Job;
    type Done = Done;
    type Report = Report;

    fn handle_done(&mut self, done: Done, now: Instant) {
        match (&self.phase, done) {
            (Phase::Token { .. }, Done::Token(Ok(token))) => self.handle_token(token, now),
            (Phase::Dialling { .. }, Done::Dialled(Ok(()))) => self.handle_online(now),
            (Phase::Token { .. }, Done::Token(Err(cause))) | (Phase::Dialling { .. }, Done::Dialled(Err(cause))) => {
                self.fail(cause, false, now);
            }
            // A socket that came too late belongs to no attempt.
            (_, Done::Dialled(Ok(()))) => self.out.push_back(Output::CloseSocket(close::NORMAL)),
            (_, Done::Token(_) | Done::Dialled(Err(_))) => {}
        }
    }

    fn handle_message(&mut self, message: Bytes, now: Instant) {
        self.handle_life(now);
        if !self.is_online() {
            return;
        }
        let decoded = Frame::decode(&message);
        // The payload then owns its memory alone and is opened in place.
        drop(message);
        match decoded {
            Ok(frame) => {
                if !self.config.quirks.has(Quirk::CountsMalformedForEver) {
                    self.malformed = 0;
                }
                self.handle_frame(frame, now);
            }
            Err(error) => self.handle_malformed(error, now),
        }
    }

    fn handle_forbidden(&mut self, what: Forbidden, now: Instant) {
        if self.link.take().is_some() {
            self.refused += 1;
            self.out.push_back(Output::CloseSocket(what.close_code()));
            self.fail(Cause::MalformedFrame(what.describe().to_owned()), false, now);
        }
    }

    fn handle_life(&mut self, now: Instant) {
        if let Some(link) = &mut self.link {
            link.heard(now);
        }
    }

    fn handle_socket_lost(&mut self, code: Option<u16>, now: Instant) {
        if self.link.take().is_none() {
            return;
        }
        let cause = Cause::SocketLost { code };
        let quirks = self.config.quirks;
        let own = self.gave_up.is_some_and(|at| now - at <= OWN_DIAL) && !quirks.has(Quirk::TakesOwnDialForRival);
        if code == Some(close::REPLACED) && !own && !quirks.has(Quirk::DuelsForItsPlace) {
            // DMN-01: another process has taken this daemon's place; do not duel.
            return self.end(cause);
        }
        let clean = matches!(code, Some(close::NORMAL | 1001 | close::RESTART));
        self.fail(cause, clean, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.session_timeouts(now);
        match self.phase {
            Phase::Token { deadline } if deadline <= now => self.fail(Cause::ApiTimeout, false, now),
            Phase::Dialling { deadline } if deadline <= now => {
                self.gave_up = Some(now);
                self.fail(Cause::DialTimeout, false, now);
            }
            Phase::Delay { until } if until <= now => self.attempt(now),
            Phase::Idle
            | Phase::Token { .. }
            | Phase::Dialling { .. }
            | Phase::Online { .. }
            | Phase::Delay { .. }
            | Phase::Closed => {}
        }
        let quirks = self.config.quirks;
        match self.link.as_mut().map(|link| link.poll(now)) {
            Some(KeepaliveAction::Ping(_)) if quirks.has(Quirk::DaemonNeverPings) => {}
            Some(KeepaliveAction::Ping(ping)) => self.out.push_back(Output::Transmit(ping)),
            Some(KeepaliveAction::Silent) if quirks.has(Quirk::DaemonBearsSilence) => self.handle_life(now),
            Some(KeepaliveAction::Silent) => self.fail(Cause::Silent, false, now),
            Some(KeepaliveAction::Wait) | None => {}
        }
    }

    fn abort(&mut self, cause: Cause) {
        self.end(cause);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Token { deadline } | Phase::Dialling { deadline } => Some(deadline),
            Phase::Delay { until } => Some(until),
            Phase::Idle | Phase::Online { .. } | Phase::Closed => None,
        };
        let link = self.link.as_ref().and_then(Keepalive::poll_timeout);
        earliest(earliest(phase, link), self.session_deadline())
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
