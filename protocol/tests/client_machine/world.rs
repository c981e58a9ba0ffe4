//! A client, a daemon behind a relay that never was, and every stage in which a client can be.

use sideband_protocol::{
    Instant, SessionId,
    client::{Access, CallLimits, Client, ClientConfig, CloseReason, Done, Job, Report, SessionGrant, State},
    crypto::{Direction, Identity, Opener, Sealer, accept},
    endpoint::Endpoint as _,
    failure::Cause,
    peer::{CallError, CallId, Delivery, Side},
    sbp,
    wire::{ControlCode, Frame, Scope},
};

use crate::common::{
    Seeded,
    bench::{Bench, Did, Peer, identity},
    client_token, id,
};

pub(crate) type ClientDid = Did<Job, Report>;

/// Where a client can be, in the order in which it gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Idle,
    /// The token source is asked.
    Token,
    /// The API is asked.
    Api,
    /// The relay is dialled.
    Dial,
    /// HandshakeInit is sent.
    Init,
    /// The Accept came, the pin is read.
    Pin,
    /// The pin is written.
    Store,
    /// Our introduction is sent.
    Hello,
    Active,
    Paused,
    /// Between two attempts.
    Delay,
    Closed,
}

impl Stage {
    pub(crate) const ALL: [Self; 12] = [
        Self::Idle,
        Self::Token,
        Self::Api,
        Self::Dial,
        Self::Init,
        Self::Pin,
        Self::Store,
        Self::Hello,
        Self::Active,
        Self::Paused,
        Self::Delay,
        Self::Closed,
    ];

    pub(crate) const NEGOTIATING: [Self; 4] = [Self::Init, Self::Pin, Self::Store, Self::Hello];
}

pub(crate) struct World {
    pub(crate) bench: Bench<Client>,
    pub(crate) identity: Identity,
    pub(crate) daemon: Option<Peer>,
    pub(crate) daemon_hello: Option<Frame>,
    /// Seals and opens at the daemon beside its session, for frames that no session would send.
    ends: Option<(Sealer, Opener)>,
    /// Sessions that the API has given so far.
    pub(crate) grants: u64,
    calls: u64,
}

pub(crate) fn account() -> ClientConfig {
    ClientConfig::new(Access::Account { daemon_id: "d_1".to_owned() })
}

pub(crate) fn quick_connect() -> ClientConfig {
    ClientConfig::new(Access::QuickConnect)
}

impl World {
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self::with_entropy(config, Box::new(Seeded(1)))
    }

    pub(crate) fn with_entropy(config: ClientConfig, entropy: Box<dyn sideband_protocol::Entropy>) -> Self {
        Self {
            bench: Bench::new(Client::new(config, entropy)),
            identity: identity(1),
            daemon: None,
            daemon_hello: None,
            ends: None,
            grants: 0,
            calls: 0,
        }
    }

    /// A new client that has got this far on its first attempt; what it did until then is in the log.
    pub(crate) fn at(stage: Stage, config: ClientConfig) -> Self {
        let mut world = Self::new(config);
        world.go(stage);
        world
    }

    /// As [`at`](Self::at), with an empty log.
    pub(crate) fn fresh_at(stage: Stage, config: ClientConfig) -> Self {
        let mut world = Self::at(stage, config);
        world.bench.take();
        world
    }

    /// From the start of an attempt (or before the first) to a stage.
    pub(crate) fn go(&mut self, stage: Stage) {
        match stage {
            Stage::Idle => return,
            Stage::Closed => {
                self.bench.machine.close();
                return self.bench.drain();
            }
            Stage::Delay => {
                self.go(Stage::Token);
                return self.fail_job(Cause::ApiTimeout);
            }
            _ => {}
        }
        if self.bench.machine.state() == State::Idle {
            self.bench.machine.start(self.bench.now);
            self.bench.drain();
        }
        if stage == Stage::Token {
            return;
        }
        if self.bench.job == Some(Job::FetchToken) {
            self.bench.done(Done::Token(Ok(())));
        }
        let steps: [(Stage, fn(&mut Self)); 6] = [
            (Stage::Dial, Self::grant),
            (Stage::Init, Self::connect),
            (Stage::Pin, Self::accept),
            (Stage::Store, |world| world.bench.done(Done::Pin(Ok(None)))),
            (Stage::Hello, |world| world.bench.done(Done::PinStored(Ok(())))),
            (Stage::Active, Self::introduce),
        ];
        for (reached, step) in steps {
            if stage >= reached {
                step(self);
            }
        }
        if stage == Stage::Paused {
            self.control(ControlCode::SessionPaused);
        }
    }

    /// Waits until the next attempt starts, and no longer.
    pub(crate) fn next_attempt(&mut self) {
        assert_eq!(self.state(), State::Reconnecting);
        let until = self.bench.machine.poll_timeout().expect("a delay");
        self.bench.advance(until - self.bench.now);
        assert_eq!(self.state(), State::Connecting);
    }

    /// The session of the attempt under way.
    pub(crate) fn session(&self) -> SessionId {
        id(0x5100 + self.grants)
    }

    /// The API gives a session.
    pub(crate) fn grant(&mut self) {
        self.grants += 1;
        let grant = SessionGrant {
            relay_url: "wss://relay.test".to_owned(),
            token: client_token("d_1", self.session()),
            daemon_id: Some("d_1".to_owned()),
        };
        self.bench.done(Done::Session(Ok(grant)));
    }

    pub(crate) fn connect(&mut self) {
        self.bench.connected(Done::Dialled(Ok(())));
    }

    /// The daemon answers the HandshakeInit.
    pub(crate) fn accept(&mut self) {
        let frame = self.make_accept();
        self.bench.receive(&frame);
    }

    /// The daemon's HandshakeAccept; from here on it has the keys. The log is empty afterwards.
    pub(crate) fn make_accept(&mut self) -> Frame {
        self.bench.take();
        let Some(Frame::HandshakeInit { session, client_ephemeral }) = self.bench.init.take() else {
            panic!("no HandshakeInit was sent");
        };
        assert_eq!(session, self.session());
        let (accept, keys) = accept(&self.identity, "d_1", &client_ephemeral, &mut Seeded(self.grants)).unwrap();
        let (daemon, hello) = Peer::new(session, Side::Daemon, &keys);
        let sealer = Sealer::starting_at(&keys.daemon_to_client, Direction::DaemonToClient, 500);
        self.ends = Some((sealer, Opener::new(&keys, Direction::ClientToDaemon)));
        (self.daemon, self.daemon_hello) = (Some(daemon), Some(hello));
        Frame::HandshakeAccept { session, payload: (&accept).into() }
    }

    /// The daemon gets the client's introduction and sends its own.
    pub(crate) fn introduce(&mut self) {
        self.carry();
        let hello = self.daemon_hello.take().expect("the daemon has sent no introduction yet");
        self.bench.receive(&hello);
    }

    /// What the client has sent since the last look reaches the daemon; what the daemon answers reaches the client.
    /// The log is empty afterwards but for what the answers did.
    pub(crate) fn carry(&mut self) {
        let sent = self.bench.sent();
        let answers = self.daemon.as_mut().expect("a daemon").receive(&sent);
        for answer in answers {
            self.bench.receive(&answer);
        }
    }

    /// A frame of the daemon's, sealed, that no session would send.
    pub(crate) fn seal(&mut self, plaintext: &[u8]) -> Frame {
        let session = self.session();
        let (sealer, _) = self.ends.as_mut().expect("keys");
        Frame::Data { session, payload: sealer.seal_payload(plaintext).unwrap() }
    }

    /// The daemon says something that no session would say.
    pub(crate) fn say(&mut self, body: sbp::FrameBody) {
        let frame = sbp::Frame { id: sbp::FrameId::from_bytes([0xAA; 16]), timestamp: None, body };
        let sealed = self.seal(&frame.encode());
        self.bench.receive(&sealed);
    }

    /// What a Data frame of the client's holds.
    pub(crate) fn open(&mut self, frame: &Frame) -> sbp::Frame {
        let Frame::Data { payload, .. } = frame else { panic!("a Data frame, not {frame:?}") };
        let (_, opener) = self.ends.as_mut().expect("keys");
        sbp::Frame::decode(&opener.open(payload.clone()).unwrap()).unwrap()
    }

    /// What the daemon has got from the client.
    pub(crate) fn daemon_got(&mut self) -> Vec<String> {
        self.carry();
        self.daemon.as_mut().expect("a daemon").got()
    }

    /// The job under way ends with this cause.
    pub(crate) fn fail_job(&mut self, cause: Cause) {
        let done = match self.bench.job.as_ref().expect("a job under way") {
            Job::FetchToken => Done::Token(Err(cause)),
            Job::CreateSession | Job::Redeem => Done::Session(Err(cause)),
            Job::Dial(_) => Done::Dialled(Err(cause)),
            Job::LoadPin { .. } => Done::Pin(Err(cause)),
            Job::StorePin { .. } => Done::PinStored(Err(cause)),
            Job::AskTrust(_) => Done::Answered(false),
        };
        self.bench.done(done);
    }

    /// The relay sends a Control code, with the session id where the code's scope has it.
    pub(crate) fn control(&mut self, code: ControlCode) {
        let session = (code.scope() == Scope::Session).then(|| self.session());
        self.bench.receive(&Frame::Control { session, code: Ok(code), message: code.message().to_owned() });
    }

    /// Makes a call with no limits of its own.
    pub(crate) fn call(&mut self, method: &str) -> Result<CallId, CallError> {
        self.call_with(method, CallLimits::default())
    }

    pub(crate) fn call_with(&mut self, method: &str, limits: CallLimits) -> Result<CallId, CallError> {
        self.calls += 1;
        let call = CallId(self.calls);
        let called = self.bench.machine.call(call, method, None, limits, self.bench.now);
        self.bench.drain();
        called.map(|()| call)
    }

    pub(crate) fn state(&self) -> State {
        self.bench.machine.state()
    }
}

// ---- looking at a log ----

/// The states that a log tells of, in order.
pub(crate) fn states(log: &[ClientDid]) -> Vec<State> {
    let state = |did: &ClientDid| if let Did::Report(Report::State(state)) = did { Some(*state) } else { None };
    log.iter().filter_map(state).collect()
}

/// The calls that ended, in order.
pub(crate) fn ended_calls(log: &[ClientDid]) -> Vec<(CallId, Result<(), CallError>)> {
    log.iter()
        .filter_map(|did| match did {
            Did::Report(Report::Delivery(Delivery::CallEnded { call, outcome, .. })) => {
                Some((*call, outcome.clone().map(drop)))
            }
            _ => None,
        })
        .collect()
}

/// What a failure came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Another attempt follows.
    Retry(Cause),
    /// Closed.
    Closed(CloseReason),
    /// Nothing: it goes on.
    Nothing,
}

pub(crate) fn outcome(log: &[ClientDid]) -> Outcome {
    let outcome = |did: &ClientDid| match did {
        Did::Report(Report::Retrying { cause, .. }) => Some(Outcome::Retry(cause.clone())),
        Did::Report(Report::Closed(reason)) => Some(Outcome::Closed(reason.clone())),
        _ => None,
    };
    log.iter().find_map(outcome).unwrap_or(Outcome::Nothing)
}

/// How long the next attempt is away, as reported.
pub(crate) fn delay(log: &[ClientDid]) -> (u32, std::time::Duration) {
    let delay = |did: &ClientDid| {
        if let Did::Report(Report::Retrying { retry, delay, .. }) = did { Some((*retry, *delay)) } else { None }
    };
    log.iter().find_map(delay).expect("a retry")
}

/// An API answer that refuses.
pub(crate) fn api(status: u16) -> Cause {
    Cause::Api { status, code: "X".to_owned(), message: "no".to_owned(), retry_after: None }
}

/// An upgrade that was refused.
pub(crate) fn upgrade(status: u16) -> Cause {
    Cause::Upgrade { status, message: "no".to_owned(), retry_after: None }
}

pub(crate) fn lost() -> Cause {
    Cause::SocketLost { code: None }
}

/// That long after the origin.
pub(crate) fn origin_plus(after: std::time::Duration) -> Instant {
    Instant::ORIGIN + after
}
