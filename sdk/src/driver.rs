//! The shell around an endpoint machine: one task that owns the socket, the job under way and the timer.

use std::{
    collections::VecDeque,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use sideband_env::{BoxFuture, Timeline};
use sideband_protocol::{
    Instant,
    endpoint::{Endpoint, Forbidden, Output},
    failure::Cause,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{socket::Socket, telemetry};

/// Messages that are taken from the socket before anything else gets its turn.
const BUDGET: usize = 64;
/// How long a closed socket is read on, so that what was sent last is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that may wait for the socket before senders wait.
pub(crate) const HIGH_WATER: usize = 1 << 20;
/// Bytes that may wait for the socket before nothing more is read: who asks and takes no answers fills no memory.
const BACKLOG: usize = 16 * HIGH_WATER;
/// What a message that waits costs besides its bytes, about.
const MESSAGE_COST: usize = 100;
/// Why a driver ends before its machine: nothing else drops its future.
const SHUT_DOWN: Cause = Cause::Stopped("the runtime was shut down");
/// Why a driver ends before its machine: a bug.
const PANICKED: Cause = Cause::Bug("its task panicked");

/// A machine and what its handles share with its driver.
pub(crate) struct Shared<M> {
    machine: Mutex<M>,
    wake: Notify,
    /// Bytes that wait for the socket.
    unsent: Mutex<usize>,
    drained: Notify,
    timeline: Timeline,
}

impl<M: Endpoint> Shared<M> {
    pub(crate) fn new(machine: M) -> Self {
        Self {
            machine: Mutex::new(machine),
            wake: Notify::new(),
            unsent: Mutex::new(0),
            drained: Notify::new(),
            timeline: Timeline::start(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, M> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the machine and lets the driver act on it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut M, Instant) -> T) -> T {
        let result = act(&mut self.lock(), self.timeline.now());
        self.wake.notify_one();
        result
    }

    /// Looks at the machine without changing it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&self.lock())
    }

    /// Waits while too much waits for the socket.
    pub(crate) async fn writable(&self) {
        // Who sends in a loop and never waits for anything else must let the driver count what that makes.
        tokio::task::consume_budget().await;
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if *self.unsent.lock().unwrap_or_else(PoisonError::into_inner) <= HIGH_WATER {
                return;
            }
            drained.await;
        }
    }

    fn set_unsent(&self, bytes: usize) {
        *self.unsent.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        if bytes <= HIGH_WATER {
            self.drained.notify_waiters();
        }
    }
}

/// A job that is under way; a dial brings its socket.
pub(crate) type JobFuture<M> = BoxFuture<'static, (<M as Endpoint>::Done, Option<Box<Socket>>)>;

/// What an endpoint does for its machine.
pub(crate) trait Host<M: Endpoint>: Send + 'static {
    /// Starts a job.
    fn start(&mut self, job: M::Job) -> JobFuture<M>;
    /// Tells the user.
    fn report(&mut self, report: M::Report);
    /// The driver ends before its machine did: nobody may wait for it any more. What the machine tells of its end follows.
    fn stopped(&mut self, cause: &Cause);
}

/// What woke the driver.
enum Wake<D> {
    Done(D, Option<Box<Socket>>),
    Messages,
    Lost(Option<u16>),
    Forbidden(Forbidden),
    Timer,
    Handle,
}

struct Driver<M: Endpoint, H: Host<M>> {
    shared: Arc<Shared<M>>,
    host: H,
    /// Its machine has closed, and everything is told.
    over: bool,
    job: Option<JobFuture<M>>,
    socket: Option<Box<Socket>>,
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    inbox: Vec<Incoming>,
    closers: JoinSet<()>,
}

enum Incoming {
    Frame(Bytes),
    Life,
}

/// Tells, when it goes, that nothing is left of a driver.
struct Finished(watch::Sender<bool>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Drives a machine until it has closed, and the machine no longer than that: a panic, and a runtime that drops the future, begun or
/// not, end the machine too, so that nobody waits for either. `finished` is true in the end, whichever way.
pub(crate) fn drive<M, H>(
    shared: Arc<Shared<M>>,
    host: H,
    finished: watch::Sender<bool>,
) -> impl Future<Output = ()> + Send + 'static
where
    M: Endpoint + Send + 'static,
    M::Job: Send,
    M::Done: Send,
    M::Report: Send,
    H: Host<M>,
{
    let finished = Finished(finished);
    let mut driver = Driver {
        shared,
        host,
        over: false,
        job: None,
        socket: None,
        unsent: VecDeque::new(),
        unsent_bytes: 0,
        inbox: Vec::new(),
        closers: JoinSet::new(),
    };
    async move {
        if AssertUnwindSafe(driver.run()).catch_unwind().await.is_err() {
            tracing::error!(target: "sideband::driver", "the driver panicked");
            driver.stop(PANICKED);
        }
        let mut closers = std::mem::take(&mut driver.closers);
        // What the host holds, a token or a code perhaps, goes before the goodbyes are said.
        drop(driver);
        while closers.join_next().await.is_some() {}
        drop(finished);
    }
}

impl<M: Endpoint, H: Host<M>> Drop for Driver<M, H> {
    fn drop(&mut self) {
        self.stop(SHUT_DOWN);
    }
}

impl<M: Endpoint, H: Host<M>> Driver<M, H> {
    async fn run(&mut self) {
        let mut busy = false;
        while let Some(deadline) = self.act() {
            if busy {
                // Whoever consumes what was just delivered gets a turn before more is (DMN-07).
                tokio::task::yield_now().await;
            }
            let wake = self.wait(deadline).await;
            busy = self.inbox.len() >= BUDGET;
            self.handle(wake);
        }
        self.over = true;
    }

    /// Ends the machine, if it has not, and tells what is left to tell. Nothing can be sent or awaited any more.
    fn stop(&mut self, cause: Cause) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.job = None;
        self.socket = None;
        let closed = self.shared.lock().is_closed();
        if !closed {
            self.host.stopped(&cause);
            self.shared.lock().abort(cause);
        }
        loop {
            // Looked at apart: the machine is not locked while the user is told.
            let output = self.shared.lock().poll_output();
            match output {
                Some(Output::Report(report)) => self.host.report(report),
                Some(Output::Start(_) | Output::Abandon | Output::Transmit(_) | Output::CloseSocket(_)) => {}
                None => break,
            }
        }
        self.shared.set_unsent(0);
    }

    /// Does what the machine asks for; `None` once it has closed.
    #[expect(clippy::option_option, reason = "closed, or the next deadline, or none")]
    fn act(&mut self) -> Option<Option<Instant>> {
        let next = loop {
            let output = {
                let mut machine = self.shared.lock();
                let Some(output) = machine.poll_output() else {
                    // Asked before anybody else can close the machine: its end would be among outputs that nobody takes.
                    telemetry::refused(machine.take_refused());
                    break if machine.is_closed() { None } else { Some(machine.poll_timeout()) };
                };
                output
            };
            match output {
                Output::Start(job) => self.job = Some(self.host.start(job)),
                Output::Abandon => self.job = None,
                Output::Transmit(message) => {
                    if self.socket.is_some() {
                        telemetry::sent(message.len());
                        self.unsent_bytes += message.len();
                        self.unsent.push_back(message);
                    }
                }
                Output::CloseSocket(code) => self.close_socket(Some(code)),
                Output::Report(report) => self.host.report(report),
            }
        };
        self.shared.set_unsent(self.unsent_bytes);
        next
    }

    /// Lets go of the socket; a task of its own says goodbye and reads on for a moment.
    fn close_socket(&mut self, code: Option<u16>) {
        let unsent = std::mem::take(&mut self.unsent);
        self.unsent_bytes = 0;
        if let Some(socket) = self.socket.take() {
            while self.closers.try_join_next().is_some() {}
            self.closers.spawn(async move {
                // Whatever fails here, the socket is gone in the end.
                let _ = tokio::time::timeout(LINGER, say_goodbye(socket, unsent, code)).await;
            });
        }
    }

    async fn wait(&mut self, deadline: Option<Instant>) -> Wake<M::Done> {
        let shared = self.shared.clone();
        if deadline.is_some_and(|at| at <= shared.timeline.now()) {
            // A relay that always has something to read cannot keep time from passing; nor does a deadline that never moves keep others
            // from their turn.
            tokio::task::consume_budget().await;
            return Wake::Timer;
        }
        let Self { job, socket, unsent, unsent_bytes, inbox, .. } = self;
        let job_done = async {
            match job {
                Some(job) => job.await,
                None => std::future::pending().await,
            }
        };
        let io = std::future::poll_fn(|cx| match socket {
            Some(socket) => poll_socket(socket, unsent, unsent_bytes, inbox, &shared, cx),
            None => Poll::Pending,
        });
        tokio::select! {
            biased;
            () = shared.wake.notified() => Wake::Handle,
            // Before the socket, for the same reason.
            (done, socket) = job_done => Wake::Done(done, socket),
            wake = io => wake,
            () = shared.timeline.sleep_until(deadline) => Wake::Timer,
        }
    }

    fn handle(&mut self, wake: Wake<M::Done>) {
        let now = self.shared.timeline.now();
        // What was read goes first in any case: it was there before whatever else woke us.
        if !self.inbox.is_empty() {
            let mut machine = self.shared.lock();
            for incoming in self.inbox.drain(..) {
                match incoming {
                    Incoming::Frame(message) => {
                        telemetry::received(message.len());
                        machine.handle_message(message, now);
                    }
                    Incoming::Life => machine.handle_life(now),
                }
            }
        }
        match wake {
            Wake::Handle | Wake::Messages => {}
            Wake::Done(done, socket) => {
                self.job = None;
                if socket.is_some() {
                    self.socket = socket;
                    self.unsent.clear();
                    self.unsent_bytes = 0;
                }
                self.shared.lock().handle_done(done, now);
            }
            Wake::Lost(code) => {
                // Our half of a closing handshake still has to go out.
                self.close_socket(None);
                self.shared.lock().handle_socket_lost(code, now);
            }
            Wake::Forbidden(what) => {
                self.shared.lock().handle_forbidden(what, now);
            }
            Wake::Timer => self.shared.lock().handle_timeout(now),
        }
    }
}

/// Reads what is there, writes what waits, and flushes once.
fn poll_socket<D, M: Endpoint>(
    socket: &mut Socket,
    unsent: &mut VecDeque<Bytes>,
    unsent_bytes: &mut usize,
    inbox: &mut Vec<Incoming>,
    shared: &Shared<M>,
    cx: &mut Context<'_>,
) -> Poll<Wake<D>> {
    let written = poll_write(socket, unsent, unsent_bytes, cx);
    shared.set_unsent(*unsent_bytes);
    let broken = matches!(written, Poll::Ready(Err(_)));
    while inbox.len() < BUDGET && *unsent_bytes + unsent.len() * MESSAGE_COST <= BACKLOG {
        match Pin::new(&mut *socket).poll_next(cx) {
            Poll::Pending => break,
            Poll::Ready(Some(Ok(Message::Binary(message)))) => inbox.push(Incoming::Frame(message)),
            Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {
                inbox.push(Incoming::Life)
            }
            Poll::Ready(Some(Ok(Message::Text(_)))) => return Poll::Ready(Wake::Forbidden(Forbidden::Text)),
            Poll::Ready(Some(Ok(Message::Close(frame)))) => {
                return Poll::Ready(Wake::Lost(Some(frame.map_or(1005, |frame| frame.code.into()))));
            }
            Poll::Ready(Some(Err(WsError::Capacity(_)))) => {
                return Poll::Ready(Wake::Forbidden(Forbidden::TooLarge));
            }
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Wake::Lost(None)),
        }
    }
    match (inbox.is_empty(), broken) {
        (false, _) => Poll::Ready(Wake::Messages),
        // What the other side said before it left was read first: it may say why, and decides what follows.
        (true, true) => Poll::Ready(Wake::Lost(None)),
        (true, false) => Poll::Pending,
    }
}

fn poll_write(
    socket: &mut Socket,
    unsent: &mut VecDeque<Bytes>,
    unsent_bytes: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<(), WsError>> {
    let mut socket = Pin::new(socket);
    while !unsent.is_empty() {
        ready!(socket.as_mut().poll_ready(cx))?;
        if let Some(message) = unsent.pop_front() {
            *unsent_bytes -= message.len();
            socket.as_mut().start_send(Message::Binary(message))?;
        }
    }
    socket.poll_flush(cx)
}

async fn say_goodbye(mut socket: Box<Socket>, unsent: VecDeque<Bytes>, code: Option<u16>) -> Result<(), WsError> {
    if let Some(code) = code {
        for message in unsent {
            socket.feed(Message::Binary(message)).await?;
        }
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        socket.send(Message::Close(Some(frame))).await?;
    } else {
        socket.flush().await?;
    }
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}

/// Polls a future once in a while of nothing else: used where a job must not hold the machine.
pub(crate) fn boxed<F, T>(future: F) -> BoxFuture<'static, T>
where
    F: Future<Output = T> + Send + 'static,
{
    Box::pin(future)
}

#[cfg(test)]
mod tests;
