//! How a shell drives an endpoint machine, client or daemon.
//!
//! The driving contract, for both:
//!
//! * The shell calls `handle_…` with what happened and the time; a user's handle calls the machine's own methods (`call`, `emit`,
//!   `close` …). Nothing else changes a machine.
//! * After each of these it drains [`Endpoint::poll_output`] and does what it says, in order, then arms one timer for
//!   [`Endpoint::poll_timeout`].
//! * There is at most one job at a time: [`Output::Start`] replaces the one before, [`Output::Abandon`] ends it; a job that was replaced
//!   or abandoned reports nothing.
//! * There is at most one socket: it comes with a dial job that succeeded, and goes with [`Output::CloseSocket`] or when the shell
//!   reports [`Endpoint::handle_socket_lost`].
//! * A shell that goes away before the machine has ended calls [`Endpoint::abort`] and tells the reports that follow; nothing else of
//!   what follows can be done any more.

use std::time::Duration;

use bytes::Bytes;

use crate::{Instant, failure::Cause, time::earliest, wire::Frame};

/// What a shell must do.
#[derive(Debug)]
pub enum Output<Job, Report> {
    /// Start this job in place of any other, and hand its result to [`Endpoint::handle_done`].
    Start(Job),
    /// Drop the job that is under way.
    Abandon,
    /// Send one binary message.
    Transmit(Bytes),
    /// Send what is queued, close the socket with this code, and forget it: nothing more is heard of it.
    CloseSocket(u16),
    /// Tell the user.
    Report(Report),
}

/// An endpoint machine, as its shell sees it.
pub trait Endpoint {
    /// Something that takes time: a token, an API call, a dial, a question.
    type Job;
    /// What came of it.
    type Done;
    /// What the user is told.
    type Report;

    /// The job that was started last has ended.
    fn handle_done(&mut self, done: Self::Done, now: Instant);
    /// A binary message arrived.
    fn handle_message(&mut self, message: Bytes, now: Instant);
    /// A message arrived that no peer may send: text (WIRE-03) or more than 1 MiB (WIRE-04).
    fn handle_forbidden(&mut self, what: Forbidden, now: Instant);
    /// A WebSocket ping or pong arrived: the other side lives.
    fn handle_life(&mut self, now: Instant);
    /// The socket is gone; with its close code, if it was closed and not cut.
    fn handle_socket_lost(&mut self, code: Option<u16>, now: Instant);
    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    fn handle_timeout(&mut self, now: Instant);
    /// The shell goes away: everything ends at once and for good, and calls under way end.
    fn abort(&mut self, cause: Cause);
    /// When to call [`handle_timeout`](Self::handle_timeout).
    fn poll_timeout(&self) -> Option<Instant>;
    /// The next thing to do.
    fn poll_output(&mut self) -> Option<Output<Self::Job, Self::Report>>;
    /// Whether the machine has ended for good.
    fn is_closed(&self) -> bool;
    /// How many messages that no peer may send have come since this was asked last.
    fn take_refused(&mut self) -> u64;
}

/// A message that no peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// A text message (WIRE-03).
    Text,
    /// A message of more than 1 MiB (WIRE-04).
    TooLarge,
}

impl Forbidden {
    /// The close code that answers it.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Text => crate::wire::close::UNSUPPORTED,
            Self::TooLarge => crate::wire::close::TOO_LARGE,
        }
    }

    /// What it was, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Text => "a text message",
            Self::TooLarge => "a message of more than 1 MiB",
        }
    }
}

/// Pings, and the silence that counts as a dropped socket: CLI-13, DMN-13. One per socket.
#[derive(Debug, Clone)]
pub struct Keepalive {
    policy: KeepalivePolicy,
    next_ping: Instant,
    heard: Instant,
}

/// Shortest time between two SBRP Pings.
pub const MIN_PING: Duration = Duration::from_millis(10);

/// How often to ping, and how much silence to bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepalivePolicy {
    /// Time between two SBRP Pings. Default 45 s; a longer one risks the relay's sweep at 90 s.
    pub ping_every: Duration,
    /// Silence from the relay after which the socket counts as dropped. Default 90 s; a shorter one than the ping's drops good sockets.
    pub silence: Duration,
}

impl Default for KeepalivePolicy {
    fn default() -> Self {
        Self { ping_every: Duration::from_secs(45), silence: Duration::from_secs(90) }
    }
}

/// What a [`Keepalive`] asks for when its time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepaliveAction {
    /// Nothing yet.
    Wait,
    /// Send this Ping.
    Ping(Bytes),
    /// The socket counts as dropped.
    Silent,
}

impl Keepalive {
    /// For a socket that opened now.
    ///
    /// Pings are at least 10 ms apart, whatever the policy says: none would leave time for anything else.
    pub fn new(mut policy: KeepalivePolicy, now: Instant) -> Self {
        policy.ping_every = policy.ping_every.max(MIN_PING);
        Self { policy, next_ping: now + policy.ping_every, heard: now }
    }

    /// Something was heard.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When to ask [`poll`](Self::poll).
    pub fn poll_timeout(&self) -> Option<Instant> {
        earliest(Some(self.next_ping), Some(self.heard + self.policy.silence))
    }

    /// What to do now.
    pub fn poll(&mut self, now: Instant) -> KeepaliveAction {
        if now >= self.heard + self.policy.silence {
            KeepaliveAction::Silent
        } else if now >= self.next_ping {
            self.next_ping = now + self.policy.ping_every;
            KeepaliveAction::Ping(Frame::Ping(Bytes::new()).encode())
        } else {
            KeepaliveAction::Wait
        }
    }
}
