//! What an endpoint did, as a list of events that does not depend on jitter, ids or the order in which tasks run.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sideband::{Peer, env::Timeline};
use sideband_protocol::{
    SessionId,
    rpc::Envelope,
    sbp::{self, FrameBody},
    wire::{self, Reason, Signal},
};
use sideband_tests::script::{Got, Line, Link, Socket, envelope_of};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

/// Who did something; what happens at the same time stands in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// States and the endpoint's lifecycle events.
    Life,
    /// Calls, subscriptions and other promises to the user.
    User,
    /// Frames that the endpoint sent, and the end of its socket.
    Wire,
    /// API calls, dials and questions that it gave up or makes.
    World,
}

type Entries = Vec<(Duration, Source, String)>;

/// The events of one cell, in order of time, and of [`Source`] where the time is the same.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    entries: Arc<Mutex<Entries>>,
    since: Timeline,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { entries: Arc::default(), since: Timeline::start() }
    }

    pub(crate) fn add(&self, source: Source, text: impl Into<String>) {
        self.entries.lock().unwrap().push((self.since.elapsed(), source, text.into()));
    }

    /// Forgets what was recorded: the way to the state is not part of the cell.
    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap().clear();
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let mut entries = self.entries.lock().unwrap().clone();
        entries.sort_by_key(|(at, source, _)| (*at, *source));
        entries.into_iter().map(|(_, _, text)| text).collect()
    }
}

/// `~2 s` for a delay in the range around its nominal one; exact otherwise, as a `Retry-After` is.
pub(crate) fn nominal(retry: u32, initial: f64, delay: Duration, range: impl Fn(f64) -> RangeInclusive<f64>) -> String {
    let base = (initial * 2_f64.powi(retry.try_into().unwrap_or(i32::MAX))).min(30.0);
    let delay = delay.as_secs_f64();
    if range(base).contains(&delay) { format!("~{base} s") } else { format!("{delay} s") }
}

/// A call whose end is recorded.
pub(crate) struct Call {
    name: &'static str,
    ended: Arc<AtomicBool>,
}

impl Call {
    /// Makes a call; it has reached the machine when this returns.
    pub(crate) async fn make(name: &'static str, peer: &Peer, log: &Log) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (peer, log, done) = (peer.clone(), log.clone(), ended.clone());
        tokio::spawn(async move {
            let outcome = peer.call::<_, ()>("work", ()).await;
            let fate =
                outcome.map_or_else(|error| error.code().unwrap_or("no peer error").to_owned(), |()| "ok".into());
            done.store(true, Ordering::SeqCst);
            log.add(Source::User, format!("{name}: {fate}"));
        });
        // No timer is due so soon.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Self { name, ended }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Records that it still waits.
    pub(crate) fn note(&self, log: &Log) {
        if !self.has_ended() {
            log.add(Source::User, format!("{}: waits", self.name));
        }
    }
}

/// A subscription whose events and end are recorded.
pub(crate) fn subscribe(peer: &Peer, log: &Log) {
    let (mut events, log) = (peer.subscribe("news.>").unwrap(), log.clone());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            log.add(Source::User, format!("subscription: {}", event.name()));
        }
        log.add(Source::User, "subscription: ended");
    });
}

/// What the relay does on the socket.
enum Order {
    Send(Message),
    Cut,
}

/// The relay's end of the socket: does what the test says, and records what the endpoint does.
pub(crate) struct Wire(mpsc::UnboundedSender<Order>);

impl Wire {
    pub(crate) fn of_link(link: Link, log: &Log) -> Self {
        let (socket, lines) = link.into_parts();
        Self::new(socket, lines, log)
    }

    pub(crate) fn new(socket: Socket, lines: Vec<Line>, log: &Log) -> Self {
        let (sender, orders) = mpsc::unbounded_channel();
        let lines = lines.into_iter().map(|line| (line.session(), line)).collect();
        tokio::spawn(pump(socket, lines, orders, log.clone()));
        Self(sender)
    }

    fn order(&self, order: Order) {
        // The socket may have ended.
        let _ = self.0.send(order);
    }

    pub(crate) fn send(&self, frame: &wire::Frame) {
        self.order(Order::Send(Message::Binary(frame.encode())));
    }

    pub(crate) fn close(&self, code: u16) {
        self.order(Order::Send(Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() }))));
    }

    pub(crate) fn cut(&self) {
        self.order(Order::Cut);
    }
}

async fn pump(
    mut socket: Socket,
    mut lines: BTreeMap<SessionId, Line>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    log: Log,
) {
    let (mut closing, mut closed) = (false, false);
    loop {
        let got = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Send(message)) => {
                    closing |= message.is_close();
                    socket.send_message(message).await;
                    continue;
                }
                Some(Order::Cut) | None => return,
            },
            got = socket.got() => got,
        };
        match got {
            Got::Message(message) => {
                let frame = wire::Frame::decode(&message).expect("an endpoint sends whole frames");
                log.add(Source::Wire, format!("sent {}", frame_text(&frame, &mut lines)));
            }
            Got::Close(_) if closing => closed = true,
            Got::Close(code) => {
                closed = true;
                log.add(Source::Wire, format!("closed the socket with {code}"));
            }
            Got::Lost => {
                if !closed {
                    log.add(Source::Wire, "let go of the socket without a close");
                }
                return;
            }
        }
    }
}

fn frame_text(frame: &wire::Frame, lines: &mut BTreeMap<SessionId, Line>) -> String {
    match frame {
        wire::Frame::HandshakeInit { .. } => "handshake init".to_owned(),
        wire::Frame::HandshakeAccept { .. } => "handshake accept".to_owned(),
        wire::Frame::Ping(_) => "ping".to_owned(),
        wire::Frame::Pong(_) => "pong".to_owned(),
        wire::Frame::Control { .. } => "control".to_owned(),
        wire::Frame::Signal { signal, reason, .. } => signal_text(*signal, *reason),
        wire::Frame::Data { session, .. } => {
            let line = lines.get_mut(session).expect("Data of a session that is there");
            data_text(&line.open(frame))
        }
    }
}

fn signal_text(signal: Signal, reason: Reason) -> String {
    let signal = match signal {
        Signal::Ready => "ready",
        Signal::Close => "close",
    };
    let reason = match reason {
        Reason::None => "none",
        Reason::StateLost => "state_lost",
        Reason::Shutdown => "shutdown",
        Reason::Policy => "policy",
        Reason::Error => "error",
    };
    format!("signal {signal} {reason}")
}

fn data_text(frame: &sbp::Frame) -> String {
    match (&frame.body, envelope_of(frame)) {
        (_, Some(Envelope::Request { .. })) => "data (call)".to_owned(),
        (_, Some(Envelope::Result { .. } | Envelope::Error { .. })) => "data (answer)".to_owned(),
        (_, Some(Envelope::Event { .. })) => "data (event)".to_owned(),
        (FrameBody::Handshake(_), None) => "data (introduction)".to_owned(),
        (FrameBody::Close { reason }, None) if reason.is_empty() => "data (SBP Close)".to_owned(),
        (FrameBody::Close { reason }, None) => format!("data (SBP Close, {reason})"),
        (FrameBody::Error { code, .. }, None) => format!("data (SBP Error {code})"),
        (FrameBody::Ping, None) => "data (SBP Ping)".to_owned(),
        (FrameBody::Pong, None) => "data (SBP Pong)".to_owned(),
        (FrameBody::Ack(_), None) => "data (Ack)".to_owned(),
        (FrameBody::Message { subject, .. }, None) => format!("data (message on {subject})"),
    }
}
