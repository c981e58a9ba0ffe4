//! A shell in miniature: it drives one endpoint machine on made-up time, keeps a log, and checks the driving contract.

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use sideband_protocol::{
    Instant, SessionId,
    crypto::{ClientHandshake, Identity, SessionKeys},
    endpoint::{Endpoint, Output},
    peer::{Delivery, Session, SessionLimits, SessionOutput, Side},
    sbp::Introduction,
    wire::Frame,
};

use super::Seeded;

/// What a machine asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Did<J, R> {
    /// A job was started.
    Start(J),
    /// The job under way was given up.
    Abandon,
    /// A frame was sent.
    Sent(Frame),
    /// The socket was closed with this code.
    Close(u16),
    /// The user was told.
    Report(R),
}

pub(crate) struct Bench<M: Endpoint> {
    pub(crate) machine: M,
    pub(crate) now: Instant,
    /// Everything since the last [`take`](Self::take).
    log: Vec<Did<M::Job, M::Report>>,
    /// The job under way.
    pub(crate) job: Option<M::Job>,
    pub(crate) has_socket: bool,
    /// The HandshakeInit that was sent last.
    pub(crate) init: Option<Frame>,
}

impl<M> Bench<M>
where
    M: Endpoint<Job: Debug + Clone + PartialEq, Report: Debug + Clone + PartialEq>,
{
    pub(crate) fn new(machine: M) -> Self {
        Self { machine, now: Instant::ORIGIN, log: Vec::new(), job: None, has_socket: false, init: None }
    }

    /// Does what the machine asks for.
    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.log.push(match output {
                Output::Start(job) => {
                    self.job = Some(job.clone());
                    Did::Start(job)
                }
                Output::Abandon => {
                    self.job = None;
                    Did::Abandon
                }
                Output::Transmit(message) => {
                    assert!(self.has_socket, "sent without a socket: {message:?}");
                    let frame = Frame::decode(&message).expect("machines send whole frames");
                    if let Frame::HandshakeInit { .. } = frame {
                        self.init = Some(frame.clone());
                    }
                    Did::Sent(frame)
                }
                Output::CloseSocket(code) => {
                    assert!(std::mem::take(&mut self.has_socket), "closed without a socket");
                    Did::Close(code)
                }
                Output::Report(report) => Did::Report(report),
            });
        }
    }

    /// Everything since the last look, in order.
    pub(crate) fn take(&mut self) -> Vec<Did<M::Job, M::Report>> {
        std::mem::take(&mut self.log)
    }

    /// The frames sent since the last look.
    pub(crate) fn sent(&mut self) -> Vec<Frame> {
        let frame = |did| if let Did::Sent(frame) = did { Some(frame) } else { None };
        self.take().into_iter().filter_map(frame).collect()
    }

    /// What the user was told since the last look.
    pub(crate) fn reports(&mut self) -> Vec<M::Report> {
        let report = |did| if let Did::Report(report) = did { Some(report) } else { None };
        self.take().into_iter().filter_map(report).collect()
    }

    /// The job under way has ended.
    pub(crate) fn done(&mut self, done: M::Done) {
        assert!(self.job.take().is_some(), "no job is under way");
        self.machine.handle_done(done, self.now);
        self.drain();
    }

    /// The dial has ended with a socket.
    pub(crate) fn connected(&mut self, done: M::Done) {
        self.has_socket = true;
        self.done(done);
    }

    /// A frame arrives.
    pub(crate) fn receive(&mut self, frame: &Frame) {
        self.receive_bytes(frame.encode());
    }

    /// A message arrives.
    pub(crate) fn receive_bytes(&mut self, message: Bytes) {
        assert!(self.has_socket, "nothing is heard without a socket");
        self.machine.handle_message(message, self.now);
        self.drain();
    }

    /// The socket is gone.
    pub(crate) fn lose(&mut self, code: Option<u16>) {
        assert!(std::mem::take(&mut self.has_socket), "no socket to lose");
        self.machine.handle_socket_lost(code, self.now);
        self.drain();
    }

    /// Time goes on; every timer fires at its own time.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        let mut fired = 0;
        while let Some(next) = self.machine.poll_timeout().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.machine.handle_timeout(self.now);
            self.drain();
            fired += 1;
            assert!(fired < 10_000, "the timer at {next:?} fires for ever");
        }
        self.now = until;
    }

    /// As [`advance`](Self::advance), while the relay is heard often enough.
    pub(crate) fn advance_alive(&mut self, by: Duration) {
        let until = self.now + by;
        while self.now < until {
            self.machine.handle_life(self.now);
            self.advance((until - self.now).min(Duration::from_secs(10)));
        }
    }
}

/// The other end of one session.
pub(crate) struct Peer {
    pub(crate) session: Session,
    pub(crate) entropy: Seeded,
    /// What it has got.
    pub(crate) delivered: Vec<Delivery>,
}

impl Peer {
    /// The session's other end, and the frame with its introduction.
    pub(crate) fn new(id: SessionId, side: Side, keys: &SessionKeys) -> (Self, Frame) {
        let mut entropy = Seeded(0xFEED);
        let hello = Introduction::new("peer_test".to_owned());
        let session = Session::new(id, side, keys, &hello, SessionLimits::default(), &mut entropy);
        let mut peer = Self { session, entropy, delivered: Vec::new() };
        let [hello] = &peer.drain()[..] else { panic!("one introduction") };
        let hello = hello.clone();
        (peer, hello)
    }

    /// The frames that it sends now.
    pub(crate) fn drain(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                SessionOutput::Frame(frame) => frames.push(Frame::decode(&frame).unwrap()),
                SessionOutput::Deliver(delivery) => self.delivered.push(delivery),
                SessionOutput::Introduced(_) | SessionOutput::Ended(_) => {}
            }
        }
        frames
    }

    /// It gets these frames; what it answers.
    pub(crate) fn receive<'a>(&mut self, frames: impl IntoIterator<Item = &'a Frame>) -> Vec<Frame> {
        for frame in frames {
            if let Frame::Data { payload, .. } = frame {
                self.session.handle_payload(payload.clone(), &mut self.entropy);
            }
        }
        self.drain()
    }

    /// What it has got since the last look: `request m`, `event e`, and so on.
    pub(crate) fn got(&mut self) -> Vec<String> {
        let name = |delivery| match delivery {
            Delivery::Request { method, .. } => format!("request {method}"),
            Delivery::Event { name, .. } => format!("event {name}"),
            Delivery::App { subject, .. } => subject,
            Delivery::CallEnded { call, .. } => format!("end of {}", call.0),
            Delivery::Ack(id) => format!("ack {id}"),
        };
        std::mem::take(&mut self.delivered).into_iter().map(name).collect()
    }
}

/// A client's key exchange, for tests of daemons.
pub(crate) fn client_handshake() -> ClientHandshake {
    ClientHandshake::new(&mut Seeded(0xC11E))
}

/// A daemon's identity with this number.
pub(crate) fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n; 32])
}

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
