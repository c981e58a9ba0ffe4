//! One connection: a task that reads and writes the unsplit WebSocket.
//!
//! A turn handles all input that is ready, up to a budget, in one visit to the hub; then feeds everything that is queued
//! and flushes once, which is worth 14 to 19 times the throughput of a flush a frame. The task sleeps until the socket
//! has input or room, or its outbox is woken.
//!
//! # How connections end
//!
//! | who ends it | what the hub knows | what goes out | then |
//! |---|---|---|---|
//! | the peer closes | gone at once | the answering close | dropped |
//! | the peer vanishes (end of stream, error) | gone at once | | dropped |
//! | a message that no relay takes: text, over 1 MiB, no WebSocket | gone at once | what is queued, a close | read and discarded, dropped |
//! | it was silent for too long (REL-22) | gone at once | what is queued, a close | read and discarded, dropped |
//! | the hub (a terminal Control, 4001, 1012) | it was its decision | what is queued, the close | read and discarded, dropped |
//! | cut | it was its decision | | dropped as it is |

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, Stream, stream::FusedStream};
use sideband_protocol::{
    Instant,
    relay::{Admit, ConnId, Due, RelayQuirk, RelayQuirks, Taking, Watch, Watched},
    time::earliest,
    wire::{MAX_MESSAGE, close},
};
use sideband_sim_kit::{
    event::Closer,
    fault::{Holds, Limit, RuleKey},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    config::RelayConfig,
    counted::Counted,
    faults::{Command, FaultEnd, Watching},
    hub::Hub,
    lane::Next,
    outbox::{End, Outbox, Stall},
};

/// The code of a close frame that has none (RFC 6455, 7.1.5).
const NO_STATUS: u16 = 1005;

/// Messages that are taken in, and sent, in one turn.
const TURN_MESSAGES: usize = 512;

/// What decides that a connection does not go on.
enum Over {
    /// The peer sent a close frame, with this code.
    ByPeer(u16),
    /// End of stream, or the socket failed.
    Lost,
    /// It sent what no relay takes; this close code answers it.
    Refused(u16),
    /// Nothing was heard from it for too long.
    Swept,
    /// The hub wants it.
    ByHub(End),
}

pub(crate) struct Connection<S> {
    ws: WebSocketStream<Counted<S>>,
    conn: ConnId,
    hub: Arc<Hub>,
    outbox: Arc<Outbox>,
    batch: Vec<Bytes>,
    watch: Watch,
    limits_version: u64,
    /// Of a daemon's socket.
    taking: Taking,
    /// Bytes that the socket had taken at the last turn.
    taken: u64,
    /// Sleeps until `armed` at the latest.
    timer: Pin<Box<Sleep>>,
    armed: Instant,
    quirks: RelayQuirks,
    turn_bytes: usize,
    close_deadline: Duration,
    linger: Duration,
    afterwards: Option<Afterwards>,
    faults: Option<Watching>,
    /// Its own frame rates, by fault: of those whose rules hold the last.
    rates: Vec<(Limit, RuleKey)>,
    /// Until when faults keep what came, and nothing more is read.
    kept: Option<Instant>,
    /// When what waits in the outbox may go.
    later: Option<Instant>,
    /// How it ends when what was sent has gone.
    fate: Option<FaultEnd>,
    /// It is not read, or what is sent waits, as of the last turn; and what the observer was told of that.
    held: bool,
    told_held: bool,
}

/// The first thing that came after the decision to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Message,
    Answer,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The close code that was sent or received; none for a cut or a loss.
    pub(crate) code: Option<u16>,
    pub(crate) by: Option<Closer>,
    /// The peer answered the close before it sent anything else.
    pub(crate) answered: bool,
}

impl Ended {
    pub(crate) const CUT: Self = Self { code: None, by: None, answered: false };
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection on a stream that has become a WebSocket.
    pub(crate) async fn new(stream: S, conn: ConnId, hub: Arc<Hub>, outbox: Arc<Outbox>, config: &RelayConfig) -> Self {
        let quirks = config.danger_quirks;
        let largest = if quirks.has(RelayQuirk::TakesLargeMessages) { 2 * MAX_MESSAGE } else { MAX_MESSAGE };
        let ws = WebSocketConfig::default()
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest))
            .read_buffer_size(config.read_buffer)
            .write_buffer_size(config.write_buffer);
        let now = hub.timeline().now();
        // Before the limits themselves, so that a change in between is seen again.
        let limits_version = outbox.limits().version();
        let watch = Watch::new(outbox.limits().get().watch(), quirks, outbox.whose(), now);
        Self {
            ws: WebSocketStream::from_raw_socket(Counted::new(stream), Role::Server, Some(ws)).await,
            conn,
            timer: Box::pin(tokio::time::sleep_until(hub.timeline().to_tokio(now))),
            armed: now,
            hub,
            outbox,
            batch: Vec::new(),
            watch,
            limits_version,
            taking: Taking::default(),
            taken: 0,
            quirks,
            turn_bytes: config.turn_bytes,
            close_deadline: config.close_deadline,
            linger: config.linger,
            afterwards: None,
            faults: None,
            rates: Vec::new(),
            kept: None,
            later: None,
            fate: None,
            held: false,
            told_held: false,
        }
    }

    /// The same with what the fault plan does to it.
    pub(crate) fn with_faults(mut self, faults: Watching) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self) -> Ended {
        let turns = std::future::poll_fn(|cx| {
            let over = self.poll_turn(cx);
            self.tell_held();
            over
        });
        match turns.await {
            Over::ByPeer(code) => {
                self.hub.closed(self.conn);
                // Reading on answers the close.
                self.until_cut(self.linger, Self::poll_discard).await;
                self.hang_up().await;
                Ended { code: Some(code), by: Some(Closer::Peer), answered: false }
            }
            Over::Lost => {
                self.hub.closed(self.conn);
                Ended::CUT
            }
            Over::Refused(code) => {
                self.hub.refused(self.conn, code);
                self.hub.closed(self.conn);
                self.outbox.end(End::Close(code));
                self.close(code).await
            }
            Over::Swept => {
                self.hub.swept(self.conn);
                self.outbox.end(End::Close(close::AWAY));
                self.close(close::AWAY).await
            }
            Over::ByHub(End::Close(code)) => self.close(code).await,
            Over::ByHub(End::Cut) => Ended::CUT,
        }
    }

    /// WIRE-09: what is queued, the close, then a time of reading so that a TCP reset does not eat the last words.
    async fn close(&mut self, code: u16) -> Ended {
        // Nothing reaches the peer of a ghost.
        if self.outbox.is_ghost() {
            return Ended::CUT;
        }
        let mut sent = Progress::Messages;
        let finished = self.until_cut(self.close_deadline, |this, cx| this.poll_close(cx, code, &mut sent)).await;
        if !finished {
            return Ended::CUT;
        }
        if self.ws.is_terminated() {
            // The input cannot be read as WebSocket any more, so the answer to the close will not be seen: the end of
            // our stream asks the peer to end its own.
            self.hang_up().await;
        }
        self.until_cut(self.linger, Self::poll_discard).await;
        self.hang_up().await;
        let answered = self.afterwards == Some(Afterwards::Answer);
        Ended { code: Some(code), by: Some(Closer::Relay), answered }
    }

    /// Ends our side of the stream in an orderly way, if the peer lets us.
    async fn hang_up(&mut self) {
        // If that fails the peer is gone already, which is what we want.
        self.until_cut(self.linger, |this, cx| Pin::new(this.ws.get_mut()).poll_shutdown(cx).map(drop)).await;
    }

    /// Polls until it is done or the time is over or the connection is cut; whether it was done.
    async fn until_cut(
        &mut self,
        limit: Duration,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<()>,
    ) -> bool {
        let work = std::future::poll_fn(|cx| {
            self.outbox.register(cx.waker());
            if self.outbox.ending() == Some(End::Cut) {
                return Poll::Ready(false);
            }
            poll(self, cx).map(|()| true)
        });
        tokio::time::timeout(limit, work).await.unwrap_or(false)
    }

    /// One turn of an open connection.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        // Before looking, so that nothing that comes later is missed.
        self.outbox.register(cx.waker());
        let now = self.hub.timeline().now();
        self.see_limits(now);
        self.see_faults(now);
        if let Some(stall) = self.outbox.stalled(now, self.hub.faults()) {
            return self.poll_stalled(cx, stall, now);
        }
        if let Some(end) = self.outbox.ending() {
            return Poll::Ready(Over::ByHub(end));
        }
        self.see_kept(now);
        let could_read = self.may_read(now);
        let mut again = false;
        if could_read {
            let input = self.poll_input(cx, now);
            let ending = self.outbox.ending();
            match (input, ending) {
                // The peer is not there to be told anything else.
                (Input::Over(over @ (Over::ByPeer(_) | Over::Lost)), _) => return Poll::Ready(over),
                // What the hub decided on what came first stands.
                (Input::All | Input::Some | Input::Over(_), Some(end)) => return Poll::Ready(Over::ByHub(end)),
                (Input::Over(over), None) => return Poll::Ready(over),
                (Input::All, None) => {}
                (Input::Some, None) => again = self.may_read(now),
            }
        }
        if self.hub.has_frame_faults()
            && let Some(stall) = self.outbox.stalled(now, self.hub.faults())
        {
            return self.poll_stalled(cx, stall, now);
        }
        let blocked = match self.poll_output(cx) {
            Ok(Output::All) => false,
            Ok(Output::Blocked) => true,
            Ok(Output::Some) => {
                again = true;
                false
            }
            Err(error) => return Poll::Ready(over(&error)),
        };
        // Its own answers held the reading back, and now they have gone.
        let may_read = self.may_read(now);
        again |= !could_read && may_read;
        self.held = !may_read || self.later.is_some();
        if let Some(over) = self.poll_watch(cx, blocked, now) {
            return Poll::Ready(over);
        }
        let due = earliest(self.kept, self.later);
        if let Some(at) = earliest(due, self.faults.as_ref().and_then(Watching::poll_timeout)) {
            self.arm(cx, at, now);
        }
        if again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// What is read later than it could have been says nothing of when it was sent: the observer has to know.
    fn tell_held(&mut self) {
        if self.held != self.told_held {
            self.told_held = self.held;
            self.hub.hold(self.conn, self.held);
        }
    }

    fn may_read(&self, now: Instant) -> bool {
        self.kept.is_none() && self.outbox.may_read() && self.watch.may_read(now)
    }

    /// Other limits may hold since the last turn.
    fn see_limits(&mut self, now: Instant) {
        let version = self.outbox.limits().version();
        if version != self.limits_version {
            self.limits_version = version;
            self.set_limits(now);
        }
    }

    fn set_limits(&mut self, now: Instant) {
        let mut limits = self.outbox.limits().get().watch();
        if let Some((Limit { frames_per_second, burst }, _)) = self.rates.last().copied() {
            limits.frames_per_second = frames_per_second;
            limits.burst = burst.unwrap_or(frames_per_second);
        }
        self.watch.set_limits(limits, now);
    }

    /// Lets the faults of the connection happen whose time has come.
    fn see_faults(&mut self, now: Instant) {
        let Some(faults) = &mut self.faults else { return };
        for command in faults.poll(self.conn, &self.hub, now) {
            match command {
                Command::Pause(wait) => self.outbox.pause(wait),
                Command::Limit(limit, rule) => {
                    self.rates.push((limit, rule));
                    self.set_limits(now);
                }
            }
        }
        let before = self.rates.len();
        self.rates.retain(|(_, rule)| self.hub.faults().holds(*rule) != Holds::No);
        if self.rates.len() < before {
            self.set_limits(now);
        }
    }

    /// Lets go on what faults have kept for long enough, or keep no more. Its peer is not silent meanwhile.
    fn see_kept(&mut self, now: Instant) {
        if self.kept.is_none() {
            return;
        }
        self.kept = self.hub.release(self.conn, &self.outbox);
        self.watch.handle_heard(false, now);
    }

    /// One turn of a connection that a fault keeps from reading and writing. A ghost goes at the sweep (REL-11); of a pause
    /// nobody can say that the peer was silent.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, stall: Stall, now: Instant) -> Poll<Over> {
        self.held = true;
        let mut next = self.faults.as_ref().and_then(Watching::poll_timeout);
        match (stall, self.outbox.ending()) {
            (_, Some(End::Cut)) => return Poll::Ready(Over::ByHub(End::Cut)),
            (Stall::Ghost, Some(end @ End::Close(_))) => return Poll::Ready(Over::ByHub(end)),
            (Stall::Ghost, None) => {
                if let Some(over) = self.poll_watch(cx, false, now) {
                    return Poll::Ready(over);
                }
            }
            (Stall::Until(until), Some(End::Close(_)) | None) => {
                self.watch.handle_heard(false, now);
                next = earliest(next, Some(until));
            }
        }
        if let Some(at) = next {
            self.arm(cx, at, now);
        }
        Poll::Pending
    }

    /// Tells the watch how the connection gets on, does what is due, and arms the timer for what will be.
    fn poll_watch(&mut self, cx: &mut Context<'_>, blocked: bool, now: Instant) -> Option<Over> {
        let taken = self.ws.get_ref().taken();
        let took = std::mem::replace(&mut self.taken, taken) != taken;
        match self.outbox.whose() {
            Watched::Daemon if took => self.hub.add_taking(self.taking.handle_taken(now)),
            Watched::Daemon | Watched::Client => {}
        }
        let daemon = self.hub.taking();
        self.watch.handle_held(self.outbox.held(), daemon, now);
        self.watch.handle_sent(blocked, took, now);
        while let Some(due) = self.watch.poll_due(daemon, now) {
            match due {
                Due::Ping => self.hub.ping(self.conn),
                Due::Sweep => return Some(Over::Swept),
                Due::Stalled => {
                    self.hub.stalled(self.conn);
                    return Some(Over::ByHub(self.outbox.ending().unwrap_or(End::Cut)));
                }
            }
        }
        if let Some(at) = self.watch.poll_timeout(daemon, now) {
            self.arm(cx, at, now);
        }
        None
    }

    /// Sees to it that there is a turn at this time. A timer that rings earlier is left alone: to move it with each frame
    /// would cost more than a turn now and then.
    fn arm(&mut self, cx: &mut Context<'_>, at: Instant, now: Instant) {
        if self.armed <= now || at < self.armed {
            self.armed = at;
            self.timer.as_mut().reset(self.hub.timeline().to_tokio(at));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Takes in what is ready, up to the budget, and hands it to the hub.
    fn poll_input(&mut self, cx: &mut Context<'_>, now: Instant) -> Input {
        let mut seen = Seen::default();
        let result = loop {
            let full = seen.messages + seen.signs >= TURN_MESSAGES || seen.bytes >= self.turn_bytes;
            if full || !self.watch.may_read(now) {
                break Input::Some;
            }
            match Pin::new(&mut self.ws).poll_next(cx) {
                Poll::Pending => break Input::All,
                Poll::Ready(Some(Ok(Message::Binary(message)))) => self.take_in(message, &mut seen, now),
                // The library answers a ping by itself; a pong needs nothing.
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => seen.signs += 1,
                Poll::Ready(Some(Ok(Message::Text(_)))) if self.quirks.has(RelayQuirk::SkipsText) => {}
                // WIRE-03
                Poll::Ready(Some(Ok(Message::Text(_)))) => break Input::Over(Over::Refused(close::UNSUPPORTED)),
                Poll::Ready(Some(Ok(Message::Close(frame)))) => {
                    break Input::Over(Over::ByPeer(frame.map_or(NO_STATUS, |frame| frame.code.into())));
                }
                Poll::Ready(Some(Err(error))) => break Input::Over(over(&error)),
                Poll::Ready(None) => break Input::Over(Over::Lost),
            }
        };
        if seen.messages + seen.signs > 0 {
            self.watch.handle_heard(seen.messages > 0, now);
        }
        if seen.over_rate > 0 {
            self.hub.over_rate(self.conn, seen.over_rate, seen.tell);
        }
        if !self.batch.is_empty() {
            // What came before the end counts, in its order.
            self.kept = self.hub.messages(self.conn, &self.outbox, self.batch.drain(..));
            // A burst leaves no memory behind.
            if self.batch.capacity() > 64 {
                self.batch = Vec::new();
            }
        }
        result
    }

    /// A frame came: it is for the hub, unless it is over the rate (REL-20).
    fn take_in(&mut self, message: Bytes, seen: &mut Seen, now: Instant) {
        seen.messages += 1;
        seen.bytes += message.len();
        match self.watch.handle_frame(now) {
            Admit::Pass => self.batch.push(message),
            Admit::Drop { tell } => {
                seen.over_rate += 1;
                seen.tell |= tell;
            }
        }
    }

    /// Feeds what is queued, up to the budget, and flushes once.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<Output, Error> {
        let mut budget = TURN_MESSAGES;
        let now = self.hub.timeline().now();
        let mut ws = Pin::new(&mut self.ws);
        self.later = None;
        while self.fate.is_none() {
            if budget == 0 {
                // The flush can wait for the rest; what is gathered is written when it is large enough.
                return Ok(Output::Some);
            }
            match ws.as_mut().poll_ready(cx) {
                Poll::Pending => return Ok(Output::Blocked),
                Poll::Ready(ready) => ready?,
            }
            match self.outbox.pop_due(now, self.hub.faults()) {
                Next::Item(Ok(message)) => ws.as_mut().start_send(Message::Binary(message))?,
                Next::Item(Err(end)) => self.fate = Some(end),
                Next::Later(at) => {
                    self.later = Some(at);
                    break;
                }
                Next::Nothing => break,
            }
            budget -= 1;
        }
        match ws.poll_flush(cx) {
            Poll::Pending => Ok(Output::Blocked),
            Poll::Ready(flushed) => {
                flushed?;
                if let Some(end) = self.fate.take() {
                    // It wakes this task.
                    self.hub.with(|turn| turn.end_by_fault(self.conn, end));
                }
                Ok(Output::All)
            }
        }
    }

    /// Sends what is queued and the close; discards input meanwhile, so that a peer that writes first can get to reading.
    fn poll_close(&mut self, cx: &mut Context<'_>, code: u16, sent: &mut Progress) -> Poll<()> {
        // When the input is over the output may still go.
        let _ = self.poll_discard(cx);
        if matches!(sent, Progress::Messages) {
            match self.poll_output(cx) {
                Ok(Output::All) => {}
                Ok(Output::Blocked) => return Poll::Pending,
                Ok(Output::Some) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(_) => return Poll::Ready(()),
            }
            let words = self.outbox.reason().unwrap_or_else(|| reason(code).to_owned());
            let frame = CloseFrame { code: CloseCode::from(code), reason: words.into() };
            if Pin::new(&mut self.ws).start_send(Message::Close(Some(frame))).is_err() {
                // The peer has closed by now, or is gone.
                return Poll::Ready(());
            }
            *sent = Progress::Close;
        }
        // An error means that there is nobody to send to.
        let _ = ready!(Pin::new(&mut self.ws).poll_flush(cx));
        Poll::Ready(())
    }

    /// Reads and forgets; ready when the peer has ended its side, or answered the close.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURN_MESSAGES {
            if self.ws.is_terminated() {
                return self.poll_discard_raw(cx);
            }
            match ready!(Pin::new(&mut self.ws).poll_next(cx)) {
                Some(Ok(Message::Close(_))) => {
                    self.afterwards.get_or_insert(Afterwards::Answer);
                }
                Some(Ok(_)) => {
                    self.afterwards.get_or_insert(Afterwards::Message);
                }
                Some(Err(error)) => match over(&error) {
                    Over::Lost | Over::ByPeer(_) | Over::ByHub(_) | Over::Swept => return Poll::Ready(()),
                    // From here on the bytes are read raw.
                    Over::Refused(_) => {}
                },
                None => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_discard_raw(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4_096];
        for _ in 0..TURN_MESSAGES {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(self.ws.get_mut()).poll_read(cx, &mut buf)) {
                Ok(()) if buf.filled().is_empty() => return Poll::Ready(()),
                Ok(()) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What one turn took in.
#[derive(Default)]
struct Seen {
    messages: usize,
    bytes: usize,
    /// Pings and pongs of WebSocket.
    signs: usize,
    over_rate: u64,
    /// Whether the sender is to be told of that.
    tell: bool,
}

enum Input {
    /// Everything that was ready.
    All,
    /// The budget is used up; there may be more.
    Some,
    Over(Over),
}

enum Output {
    /// Everything is sent.
    All,
    /// The budget is used up; there is more.
    Some,
    /// The socket takes no more now.
    Blocked,
}

enum Progress {
    Messages,
    Close,
}

/// What an error of the WebSocket means.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors, of which all others mean the same here")]
fn over(error: &Error) -> Over {
    match error {
        // WIRE-04
        Error::Capacity(_) => Over::Refused(close::TOO_LARGE),
        // Only texts are checked for it (WIRE-03).
        Error::Utf8(_) => Over::Refused(close::UNSUPPORTED),
        Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Over::Lost,
        _ => Over::Refused(close::PROTOCOL),
    }
}

/// Words for people in a close frame.
fn reason(code: u16) -> &'static str {
    match code {
        close::REPLACED => "replaced",
        close::RESTART => "the relay shuts down",
        close::AWAY => "nothing was heard for too long",
        close::UNSUPPORTED => "binary messages only",
        close::TOO_LARGE => "the message is too large",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use sideband_env::Timeline;
    use sideband_protocol::{
        relay::{DaemonHub, HubConfig},
        token::KeySet,
        wire::Frame,
    };
    use sideband_sim_kit::{event::EventSink, fault::FaultEngine};

    use super::*;
    use crate::{config::KeySource, hub::Common, limits::LiveLimits};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_its_answers_late_is_read_again() {
        let timeline = Timeline::start();
        let events = EventSink::new(timeline, "relay");
        let faults = FaultEngine::new(timeline);
        let common = Common { timeline, events, registry: Default::default(), trace_frames: false, faults };
        let hub = Hub::new("d_1", DaemonHub::new(HubConfig::default()), Arc::new(common));
        let (conn, outbox) = (ConnId(1), Outbox::new(Watched::Daemon, LiveLimits::bytes(100, 100)));
        hub.open_daemon(conn, true, None, None, &outbox).unwrap();
        let mut config = RelayConfig::new("https://api.test", KeySource::InProcess(Arc::new(KeySet::default)));
        (config.turn_bytes, config.read_buffer, config.write_buffer) = (160, 64, 0);
        let (ours, theirs) = tokio::io::duplex(1_024);
        tokio::spawn(Connection::new(ours, conn, hub, outbox, &config).await.run());

        // The peer writes until nothing moves any more, without reading.
        let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let ping = Message::Binary(Frame::Ping(Bytes::from_static(b"12345678")).encode());
        let pong = Message::Binary(Frame::Pong(Bytes::from_static(b"12345678")).encode());
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_secs(1), peer.send(ping.clone())).await.is_ok() {
            sent += 1;
            assert!(sent < 1_000, "the relay takes everything");
        }
        // Then it reads, without writing: all that it got rid of is answered.
        for n in 0..sent {
            let got = tokio::time::timeout(Duration::from_secs(1), peer.next()).await;
            assert_eq!(got.unwrap_or_else(|_| panic!("pong {n} of {sent} is missing")).unwrap().unwrap(), pong);
        }
    }
}
