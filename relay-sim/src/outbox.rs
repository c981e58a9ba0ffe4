//! What one connection still has to send, and the signals that its task listens to.
//!
//! Hubs put messages in; the connection's task takes them out. Whatever one client has sent to a daemon and the daemon
//! has not taken is counted at that client as well, so that its reading can pause (REL-21): a message carries a
//! [`Ticket`] for it, which is handed back however the message goes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use sideband_protocol::{Instant, relay::Watched};
use sideband_sim_kit::fault::FaultEngine;

use crate::{
    faults::FaultEnd,
    lane::{Lane, Next, Wait},
    limits::LiveLimits,
};

/// Bytes that count against the client that sent them until this is dropped.
#[derive(Debug)]
struct Ticket {
    of: Arc<Outbox>,
    bytes: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let before = self.of.ahead.fetch_sub(self.bytes, Ordering::AcqRel);
        self.of.taken.fetch_add(self.bytes as u64, Ordering::Relaxed);
        let limit = self.of.limits.session_backlog();
        if before > limit && before - self.bytes <= limit {
            self.of.waker.wake();
        }
    }
}

#[derive(Debug)]
struct Queued {
    message: Bytes,
    own: bool,
    ticket: Option<Ticket>,
    /// The connection ends so in place of a message.
    end: Option<FaultEnd>,
}

/// Where a message goes in the queue.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Behind what is there, after this wait at the earliest.
    Next(Option<Wait>),
    /// The same, for what does not count as one more that passed others.
    Beside(Option<Wait>),
    /// Behind so many that come later.
    Behind(u32),
}

/// How the connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Send what is queued, then close with this code.
    Close(u16),
    /// Drop the socket as it is.
    Cut,
}

/// How a fault keeps the connection from reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stall {
    /// For ever, and nobody here notices (REL-11).
    Ghost,
    /// Until then.
    Until(Instant),
}

#[derive(Debug, Default)]
struct Queue {
    messages: Lane<Queued>,
    bytes: usize,
    /// Those of `bytes` that are the relay's own words.
    own: usize,
    end: Option<End>,
    /// The words of the close, if a fault has given some.
    reason: Option<String>,
    ghost: bool,
    /// At most one of each rule.
    pauses: Vec<Wait>,
}

/// The connection's end is decided or its receiver is too slow: the message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// What one connection still has to send.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    limits: Arc<LiveLimits>,
    whose: Watched,
    /// The user of a client.
    user: Option<Box<str>>,
    /// When the connection was let in.
    opened: OnceLock<Instant>,
    /// Bytes from this connection that a daemon has not taken yet.
    ahead: AtomicUsize,
    /// Bytes from this connection that daemons have taken or lost, ever.
    taken: AtomicU64,
}

impl Outbox {
    pub(crate) fn new(whose: Watched, limits: Arc<LiveLimits>) -> Arc<Self> {
        Self::of(whose, None, limits)
    }

    /// The outbox of a user's connection, or of a daemon's.
    pub(crate) fn of(whose: Watched, user: Option<&str>, limits: Arc<LiveLimits>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            waker: AtomicWaker::new(),
            limits,
            whose,
            user: user.map(Into::into),
            opened: OnceLock::new(),
            ahead: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
        })
    }

    pub(crate) fn whose(&self) -> Watched {
        self.whose
    }

    /// The connection is let in.
    pub(crate) fn open(&self, now: Instant) {
        // Once, by the hub that it comes to.
        let _ = self.opened.set(now);
    }

    /// When the connection was let in.
    pub(crate) fn opened(&self) -> Option<Instant> {
        self.opened.get().copied()
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn limits(&self) -> &LiveLimits {
        &self.limits
    }

    /// Most unsent bytes; none for a daemon, whose messages are bounded at the clients that sent them.
    fn limit(&self) -> Option<usize> {
        match self.whose {
            Watched::Client => Some(self.limits.client_backlog()),
            Watched::Daemon => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message. `of` is the client whose frame it is, on its way to a daemon; `own` says that the words are
    /// the relay's. Returns whether the task has to be woken.
    pub(crate) fn push(&self, message: Bytes, of: Option<&Arc<Outbox>>, own: bool) -> Result<bool, Full> {
        self.push_at(message, of, own, Place::Next(None))
    }

    /// The same, at a place.
    pub(crate) fn push_at(
        &self,
        message: Bytes,
        of: Option<&Arc<Outbox>>,
        own: bool,
        place: Place,
    ) -> Result<bool, Full> {
        let bytes = message.len();
        let mut queue = self.lock();
        if queue.end.is_some() || self.limit().is_some_and(|limit| queue.bytes + bytes > limit) {
            return Err(Full);
        }
        let ticket = of.map(|of| {
            of.ahead.fetch_add(bytes, Ordering::AcqRel);
            Ticket { of: of.clone(), bytes }
        });
        queue.bytes += bytes;
        queue.own += if own { bytes } else { 0 };
        let queued = Queued { message, own, ticket, end: None };
        match place {
            Place::Next(wait) => queue.messages.push(queued, wait),
            Place::Beside(wait) => queue.messages.push_beside(queued, wait),
            Place::Behind(frames) => queue.messages.hold(frames, queued),
        }
        Ok(queue.messages.len() == 1)
    }

    /// Queues the connection's end, after this wait at the earliest. Returns whether the task has to be woken.
    pub(crate) fn push_end(&self, end: FaultEnd, wait: Option<Wait>) -> bool {
        let mut queue = self.lock();
        let queued = Queued { message: Bytes::new(), own: false, ticket: None, end: Some(end) };
        queue.messages.push_beside(queued, wait);
        queue.messages.len() == 1
    }

    /// Forgets what is queued.
    pub(crate) fn discard(&self) {
        let mut queue = self.lock();
        let messages = std::mem::take(&mut queue.messages);
        (queue.bytes, queue.own) = (0, 0);
        drop(queue);
        // Outside the lock: tickets wake.
        drop(messages);
    }

    /// Decides how the connection ends; a cut overrides a close, and nothing a cut. What clients sent to it and it has not
    /// taken is theirs no more: they are read again at once, however long the end takes.
    pub(crate) fn end(&self, end: End) {
        let mut queue = self.lock();
        match (queue.end, end) {
            (Some(End::Cut), _) | (Some(End::Close(_)), End::Close(_)) => {}
            (None, _) | (Some(End::Close(_)), End::Cut) => queue.end = Some(end),
        }
        queue.messages.let_all_pass();
        let tickets: Vec<_> = queue.messages.iter_mut().filter_map(|queued| queued.ticket.take()).collect();
        drop(queue);
        // Outside the lock: tickets wake.
        drop(tickets);
    }

    /// Decides how the connection ends, with these words in its close.
    pub(crate) fn end_with(&self, code: u16, reason: String) {
        self.lock().reason = Some(reason);
        self.end(End::Close(code));
    }

    /// The words of the close, if a fault has given some.
    pub(crate) fn reason(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    /// Keeps the connection from reading and writing for ever, and nobody here notices (REL-11).
    pub(crate) fn haunt(&self) {
        self.lock().ghost = true;
    }

    /// Keeps the connection from reading and writing for a time; of two pauses the longer holds.
    pub(crate) fn pause(&self, wait: Wait) {
        self.lock().pauses.push(wait);
    }

    /// What keeps the connection from reading and writing now. A ghost stays one.
    pub(crate) fn stalled(&self, now: Instant, faults: &FaultEngine) -> Option<Stall> {
        let mut queue = self.lock();
        let mut until = None;
        queue.pauses.retain(|pause| {
            let end = pause.until(faults);
            until = until.max(Some(end).filter(|end| *end > now));
            end > now
        });
        if queue.ghost { Some(Stall::Ghost) } else { until.map(Stall::Until) }
    }

    pub(crate) fn is_ghost(&self) -> bool {
        self.lock().ghost
    }

    /// How the connection is to end, if that is decided.
    pub(crate) fn ending(&self) -> Option<End> {
        self.lock().end
    }

    /// Waits until the connection is to be cut. Takes the place of the task's own waker.
    pub(crate) async fn cut(&self) {
        std::future::poll_fn(|cx| {
            self.register(cx.waker());
            if self.ending() == Some(End::Cut) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Takes the next message, or what stands in its place. When the connection's end is decided, nothing waits any more.
    pub(crate) fn pop_due(&self, now: Instant, faults: &FaultEngine) -> Next<Result<Bytes, FaultEnd>> {
        let mut queue = self.lock();
        loop {
            let ends = queue.end.is_some();
            let Queued { message, own, ticket, end } = match queue.messages.pop((!ends).then_some(now), faults) {
                Next::Item(queued) => queued,
                Next::Later(at) => return Next::Later(at),
                Next::Nothing => return Next::Nothing,
            };
            match end {
                Some(_) if ends => continue,
                Some(end) => return Next::Item(Err(end)),
                None => {}
            }
            queue.bytes -= message.len();
            queue.own -= if own { message.len() } else { 0 };
            drop(queue);
            drop(ticket);
            return Next::Item(Ok(message));
        }
    }

    /// Takes the next message, whatever its time.
    #[cfg(test)]
    pub(crate) fn pop(&self) -> Option<Bytes> {
        let faults = FaultEngine::new(sideband_env::Timeline::start());
        match self.pop_due(Instant::from_origin(std::time::Duration::MAX), &faults) {
            Next::Item(Ok(message)) => Some(message),
            Next::Item(Err(_)) | Next::Later(_) | Next::Nothing => None,
        }
    }

    /// Whether the connection may be read: a daemon has taken enough of what it sent, and it takes its own answers.
    pub(crate) fn may_read(&self) -> bool {
        !self.is_held() && self.lock().own <= self.limits.client_backlog()
    }

    fn is_held(&self) -> bool {
        self.ahead.load(Ordering::Acquire) > self.limits.session_backlog()
    }

    /// If the connection is not read because a daemon has not taken its bytes: how many of them daemons have taken.
    pub(crate) fn held(&self) -> Option<u64> {
        self.is_held().then(|| self.taken.load(Ordering::Relaxed))
    }

    /// The task to wake; to be set before looking for work.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use sideband_sim_kit::limits::RelayLimits;

    use super::*;

    fn client() -> Arc<Outbox> {
        Outbox::new(Watched::Client, LiveLimits::bytes(100, 50))
    }

    fn daemon() -> Arc<Outbox> {
        Outbox::new(Watched::Daemon, LiveLimits::bytes(100, 50))
    }

    fn bytes(n: usize) -> Bytes {
        Bytes::from(vec![0; n])
    }

    #[test]
    fn rel_21_a_client_takes_up_to_its_limit() {
        let outbox = client();
        assert_eq!(outbox.push(bytes(60), None, false), Ok(true));
        assert_eq!(outbox.push(bytes(40), None, false), Ok(false));
        assert_eq!(outbox.push(bytes(1), None, false), Err(Full));
        outbox.discard();
        assert_eq!(outbox.push(bytes(100), None, true), Ok(true));
    }

    #[test]
    fn rel_21_a_clients_reading_pauses_until_the_daemon_has_taken_its_bytes() {
        let (client, daemon) = (client(), daemon());
        daemon.push(bytes(50), Some(&client), false).unwrap();
        assert!(client.may_read());
        daemon.push(bytes(10), Some(&client), false).unwrap();
        assert!(!client.may_read());
        assert!(daemon.may_read(), "what clients send does not stop the daemon's own reading");
        daemon.pop().unwrap();
        assert!(client.may_read());
    }

    #[test]
    fn rel_21_a_held_client_shows_how_it_gets_on() {
        let (client, daemon) = (client(), daemon());
        for n in [20, 20, 80] {
            daemon.push(bytes(n), Some(&client), false).unwrap();
        }
        assert_eq!(client.held(), Some(0));
        daemon.pop().unwrap();
        assert_eq!(client.held(), Some(20));
        drop(daemon);
        assert_eq!(client.held(), None);
    }

    #[test]
    fn rel_21_other_limits_hold_at_once() {
        let (client, daemon) = (client(), daemon());
        daemon.push(bytes(60), Some(&client), false).unwrap();
        let change = |limits| {
            let ok = |_| Ok::<_, ()>(limits);
            client.limits.change(ok).unwrap();
        };
        change(RelayLimits { client_backlog: 10, session_backlog: 60, ..RelayLimits::default() });
        assert!(client.may_read());
        assert_eq!(client.push(bytes(11), None, false), Err(Full));
    }

    #[test]
    fn rel_21_a_daemon_that_goes_gives_its_clients_their_bytes_back() {
        let (client, daemon) = (client(), daemon());
        daemon.push(bytes(60), Some(&client), false).unwrap();
        drop(daemon);
        assert!(client.may_read());
    }

    #[test]
    fn rel_12_a_daemon_that_is_replaced_gives_its_clients_their_bytes_back_at_once() {
        let (client, daemon) = (client(), daemon());
        daemon.push(bytes(60), Some(&client), false).unwrap();
        daemon.end(End::Close(4001));
        assert!(client.may_read());
        assert_eq!(daemon.pop().map(|message| message.len()), Some(60), "it still leaves before the close");
    }

    #[test]
    fn rel_25_a_daemon_that_does_not_take_its_pongs_is_not_read() {
        let daemon = daemon();
        daemon.push(bytes(60), None, true).unwrap();
        daemon.push(bytes(60), None, true).unwrap();
        assert!(!daemon.may_read());
        daemon.pop().unwrap();
        assert!(daemon.may_read());
    }

    #[test]
    fn a_cut_overrides_a_close_and_nothing_follows_an_end() {
        let outbox = client();
        outbox.end(End::Close(1000));
        outbox.end(End::Close(1012));
        assert_eq!(outbox.ending(), Some(End::Close(1000)));
        assert_eq!(outbox.push(bytes(1), None, true), Err(Full));
        outbox.end(End::Cut);
        outbox.end(End::Close(1000));
        assert_eq!(outbox.ending(), Some(End::Cut));
    }
}
