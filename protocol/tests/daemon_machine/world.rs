//! A daemon, a relay that never was, and the far ends of its sessions.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use sideband_protocol::{
    Entropy, SessionId,
    client::CallLimits,
    crypto::{Accept, ClientHandshake},
    daemon::{Daemon, DaemonConfig, Done, Job, Report, SessionHandle, SessionState},
    endpoint::Endpoint as _,
    event::EventName,
    failure::Cause,
    peer::{CallError, CallId, Delivery, Side},
    wire::{ControlCode, Frame, Reason, Signal, UnknownControlCode},
};

use crate::common::{
    Seeded,
    bench::{Bench, Did, Peer, identity},
    id, presence_token,
};

pub(crate) type DaemonDid = Did<Job, Report>;

pub(crate) struct World {
    pub(crate) bench: Bench<Daemon>,
    /// The far end of each session that has keys.
    pub(crate) clients: BTreeMap<SessionId, Peer>,
    calls: u64,
    seed: u64,
}

pub(crate) fn config() -> DaemonConfig {
    DaemonConfig::default()
}

impl World {
    pub(crate) fn new(config: DaemonConfig) -> Self {
        Self::with_entropy(config, Box::new(Seeded(1)))
    }

    pub(crate) fn with_entropy(config: DaemonConfig, entropy: Box<dyn Entropy>) -> Self {
        let bench = Bench::new(Daemon::new(identity(1), config, entropy));
        Self { bench, clients: BTreeMap::new(), calls: 0, seed: 0 }
    }

    /// A daemon that has asked for its first token; the log is empty.
    pub(crate) fn started() -> Self {
        let mut world = Self::new(config());
        world.start();
        world
    }

    /// A daemon whose relay socket stands; the log is empty.
    pub(crate) fn online() -> Self {
        Self::online_with(config())
    }

    pub(crate) fn online_with(config: DaemonConfig) -> Self {
        let mut world = Self::new(config);
        world.start();
        world.go_online(true);
        world.bench.take();
        world
    }

    pub(crate) fn start(&mut self) {
        self.bench.machine.start(self.bench.now);
        self.bench.drain();
        self.bench.take();
    }

    /// The API gives a token.
    pub(crate) fn token(&mut self, resumable: bool) {
        assert_eq!(self.bench.job, Some(Job::RenewToken));
        self.bench.done(Done::Token(Ok(presence_token("d_1", resumable))));
    }

    pub(crate) fn connect(&mut self) {
        assert!(matches!(self.bench.job, Some(Job::Dial(_))));
        self.bench.connected(Done::Dialled(Ok(())));
    }

    /// From the start of an attempt to the open socket.
    pub(crate) fn go_online(&mut self, resumable: bool) {
        self.token(resumable);
        self.connect();
    }

    /// Waits until the next attempt starts, and no longer.
    pub(crate) fn next_attempt(&mut self) {
        let until = self.bench.machine.poll_timeout().expect("a delay");
        self.bench.advance(until - self.bench.now);
        assert_eq!(self.bench.job, Some(Job::RenewToken), "a fresh token for every connection");
    }

    /// The job under way ends with this cause.
    pub(crate) fn fail_job(&mut self, cause: Cause) {
        let done = match self.bench.job.as_ref().expect("a job under way") {
            Job::RenewToken => Done::Token(Err(cause)),
            Job::Dial(_) => Done::Dialled(Err(cause)),
        };
        self.bench.done(done);
    }

    /// A client's HandshakeInit, and what finishes its exchange.
    pub(crate) fn init(&mut self, session: SessionId) -> (ClientHandshake, Frame) {
        self.seed += 1;
        let handshake = ClientHandshake::new(&mut Seeded(0xC11E_0000 + self.seed));
        let client_ephemeral = *handshake.public();
        (handshake, Frame::HandshakeInit { session, client_ephemeral })
    }

    /// A client agrees on keys; its introduction, which is not sent yet.
    pub(crate) fn exchange(&mut self, session: SessionId) -> Frame {
        let (handshake, init) = self.init(session);
        self.bench.receive(&init);
        let sent = self.bench.sent();
        let [Frame::HandshakeAccept { session: accepted, payload }, hello] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(*accepted, session);
        let keys = handshake.finish("d_1", &Accept::parse(payload).unwrap()).unwrap();
        let (mut client, introduction) = Peer::new(session, Side::Client, &keys);
        client.receive([hello]);
        self.clients.insert(session, client);
        introduction
    }

    /// A session that stands; the log is empty.
    pub(crate) fn meet(&mut self, n: u64) -> SessionId {
        let session = id(n);
        let introduction = self.exchange(session);
        self.bench.receive(&introduction);
        self.bench.take();
        session
    }

    /// What clients would send arrives: `act` makes one do something.
    pub(crate) fn client(&mut self, session: SessionId, act: impl FnOnce(&mut Peer)) {
        let client = self.clients.get_mut(&session).expect("a client");
        act(client);
        for frame in client.drain() {
            self.bench.receive(&frame);
        }
    }

    /// A client sends a raw message.
    pub(crate) fn say(&mut self, session: SessionId, data: &[u8]) {
        self.client(session, |client| {
            let frame = sideband_protocol::sbp::FrameId::random(&mut client.entropy);
            client.session.send_app(frame, "app/x", data).unwrap();
        });
    }

    /// A client calls a method.
    pub(crate) fn request(&mut self, session: SessionId, method: &str) {
        self.client(session, |client| {
            let Peer { session, entropy, .. } = client;
            session.call(CallId(0xC0), method.to_owned(), None, None, false, entropy).unwrap();
        });
    }

    /// The daemon calls a method of a client.
    pub(crate) fn call(&mut self, session: SessionId) -> Result<CallId, CallError> {
        self.calls += 1;
        let call = CallId(self.calls);
        let limits = CallLimits::default();
        let called = self.bench.machine.call(self.of(session), call, "ask", None, limits, self.bench.now);
        self.bench.drain();
        called.map(|()| call)
    }

    /// The daemon sends an event with this much data.
    pub(crate) fn emit(&mut self, session: SessionId, name: &str, size: usize) -> Result<(), CallError> {
        let data = Bytes::from(format!("\"{}\"", "x".repeat(size)));
        let sent = self.bench.machine.emit(self.of(session), &EventName::new(name).unwrap(), Some(data));
        self.bench.drain();
        sent
    }

    pub(crate) fn control(&mut self, code: Result<ControlCode, UnknownControlCode>, session: Option<SessionId>) {
        self.bench.receive(&Frame::Control { session, code, message: "words".to_owned() });
    }

    /// The session that has this id now, or none that ever was.
    pub(crate) fn of(&self, id: SessionId) -> SessionHandle {
        self.bench.machine.session(id).unwrap_or(SessionHandle { id, number: 0 })
    }

    /// The sessions and where they are.
    pub(crate) fn sessions(&self) -> Vec<(SessionId, SessionState)> {
        self.bench.machine.sessions().collect()
    }

    /// How long the next attempt is away, and which in a row it is.
    pub(crate) fn retrying(&mut self) -> (u32, Duration) {
        let delay = |report| {
            if let Report::Retrying { retry, delay, .. } = report { Some((retry, delay)) } else { None }
        };
        self.bench.reports().into_iter().find_map(delay).expect("a retry")
    }
}

pub(crate) fn close(session: SessionId, reason: Reason) -> Frame {
    Frame::Signal { session, signal: Signal::Close, reason }
}

pub(crate) fn ready(session: SessionId) -> Frame {
    Frame::Signal { session, signal: Signal::Ready, reason: Reason::None }
}

/// An API answer that refuses.
pub(crate) fn api(status: u16) -> Cause {
    Cause::Api { status, code: "X".to_owned(), message: "no".to_owned(), retry_after: None }
}

/// An upgrade that was refused.
pub(crate) fn upgrade(status: u16) -> Cause {
    Cause::Upgrade { status, message: "no".to_owned(), retry_after: None }
}

/// The calls that ended, in order.
pub(crate) fn ended_calls(log: &[DaemonDid]) -> Vec<(CallId, Result<(), CallError>)> {
    log.iter()
        .filter_map(|did| match did {
            Did::Report(Report::Delivery { delivery: Delivery::CallEnded { call, outcome, .. }, .. }) => {
                Some((*call, outcome.clone().map(drop)))
            }
            _ => None,
        })
        .collect()
}

/// The frames in a log, in order.
pub(crate) fn frames(log: &[DaemonDid]) -> Vec<Frame> {
    log.iter().filter_map(|did| if let Did::Sent(frame) = did { Some(frame.clone()) } else { None }).collect()
}

/// Why a session is over, as told.
pub(crate) fn over(log: &[DaemonDid], id: SessionId) -> Option<Cause> {
    log.iter().find_map(|did| match did {
        Did::Report(Report::Closed { session, cause } | Report::Refused { session, cause }) if *session == id => {
            Some(cause.clone())
        }
        _ => None,
    })
}
