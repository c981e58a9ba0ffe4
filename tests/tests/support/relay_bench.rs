//! A relay in memory, and peers that do to it what a test wants.
//!
//! What a peer gets, and whom the relay refuses, is [`due`]; how a test comes to have peers is not.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sideband_env::{BoxFuture, BoxStream, Env, Listener, Timeline};
use sideband_protocol::{
    SessionId,
    relay::RelayQuirks,
    token::{Claims, KeySet, Signer},
    wire::{ControlCode, Frame, FrameType, Reason, Signal, control_message},
};
use sideband_relay_sim::{KeySource, Relay, RelayConfig};
use sideband_sim_kit::{
    event::EventSink,
    server::{ServeOptions, serve},
};
use sideband_tests::{
    failure::due,
    script::{START, World},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest, http::Response},
};

pub(crate) const ISSUER: &str = "https://api.test";
pub(crate) const DAEMON: &str = "d_1";
/// How long anything is waited for, in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes that a connection holds in each direction.
const WIRE: usize = 16 << 10;
/// The secret of the key `k-1` that signs.
pub(crate) const SEED: [u8; 32] = [7; 32];

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain for {what}", PATIENCE.as_secs()),
    }
}

pub(crate) fn id(n: u64) -> SessionId {
    SessionId::new(n).unwrap()
}

pub(crate) fn data(n: u64, payload: impl Into<Bytes>) -> Bytes {
    Frame::Data { session: id(n), payload: payload.into() }.encode()
}

pub(crate) fn signal(n: u64, signal: Signal) -> Bytes {
    Frame::Signal { session: id(n), signal, reason: Reason::None }.encode()
}

/// A header that says what it likes, and what follows it.
pub(crate) fn raw(kind: u8, declared: usize, session: u64, payload: &[u8]) -> Bytes {
    [&[kind][..], &(declared as u32).to_be_bytes(), &session.to_be_bytes(), payload].concat().into()
}

pub(crate) fn control(code: ControlCode, session: u64) -> Got {
    Got::Frame(control_message(code, session))
}

struct Wires(UnboundedReceiver<BoxStream>);

impl Listener for Wires {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async {
            match self.0.recv().await {
                Some(stream) => Ok((stream, SocketAddr::from(([127, 0, 0, 1], 1)))),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 2)))
    }
}

/// A relay, and all that peers need to reach it.
pub(crate) struct Bench {
    pub(crate) relay: Relay,
    signer: Signer,
    dial: UnboundedSender<BoxStream>,
    timeline: Timeline,
}

impl Bench {
    pub(crate) fn new(quirks: RelayQuirks) -> Self {
        Self::with(quirks, |_| {})
    }

    pub(crate) fn with(quirks: RelayQuirks, change: impl FnOnce(&mut RelayConfig)) -> Self {
        let (_world, env) = World::new(1);
        Self::over(env, quirks, change)
    }

    /// A relay in this world.
    pub(crate) fn over(env: Env, quirks: RelayQuirks, change: impl FnOnce(&mut RelayConfig)) -> Self {
        let signer = Signer::from_seed("k-1", &SEED);
        let keys = KeySet::from_keys([signer.public()]);
        let mut config = RelayConfig::new(ISSUER, KeySource::InProcess(Arc::new(move || keys.clone())));
        config.danger_quirks = quirks;
        change(&mut config);
        let timeline = Timeline::start();
        let relay = Relay::new(env, config, EventSink::new(timeline, "relay"));
        let (dial, wires) = unbounded_channel();
        let options = ServeOptions { date_header: false, ..ServeOptions::default() };
        tokio::spawn(serve(Box::new(Wires(wires)), relay.router(), options, std::future::pending()));
        Self { relay, signer, dial, timeline }
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> u64 {
        self.timeline.elapsed().as_secs()
    }

    pub(crate) fn client_claims(n: u64) -> Claims {
        Claims::client(ISSUER, "u_1", DAEMON, id(n), "t-1", START)
    }

    pub(crate) fn daemon_claims(resumable: bool) -> Claims {
        Claims::daemon(ISSUER, DAEMON, "t-2", START, resumable)
    }

    /// Connects, or gives the status that refused it.
    pub(crate) async fn connect(&self, claims: &Claims) -> Result<Raw, u16> {
        self.connect_with(&self.signer.sign(claims)).await
    }

    /// Connects with a token, or gives the status that refused it.
    pub(crate) async fn connect_with(&self, token: &str) -> Result<Raw, u16> {
        match self.ask_with(token).await {
            Ok(answer) => answer.map_err(|refusal| refusal.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Connects, or gives the answer that refused it, or why there was none.
    #[allow(dead_code, reason = "not every test looks at the answer")]
    pub(crate) async fn dial_as(&self, claims: &Claims) -> Result<Result<Raw, Response<Option<Vec<u8>>>>, Error> {
        self.ask_with(&self.signer.sign(claims)).await
    }

    async fn ask_with(&self, token: &str) -> Result<Result<Raw, Response<Option<Vec<u8>>>>, Error> {
        let (ours, theirs) = tokio::io::duplex(WIRE);
        self.dial.send(Box::new(theirs)).unwrap();
        let mut request = "ws://relay.test/relay".into_client_request().unwrap();
        let bearer = format!("Bearer {token}");
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        match soon("an upgrade", tokio_tungstenite::client_async(request, ours)).await {
            Ok((ws, _)) => Ok(Ok(Raw(ws))),
            Err(Error::Http(response)) => Ok(Err(*response)),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn client(&self, n: u64) -> Peer {
        self.raw_client(n).await.pumped()
    }

    pub(crate) async fn daemon(&self) -> Peer {
        self.raw_daemon().await.pumped()
    }

    pub(crate) async fn raw_client(&self, n: u64) -> Raw {
        self.connect(&Self::client_claims(n)).await.unwrap()
    }

    pub(crate) async fn raw_daemon(&self) -> Raw {
        self.connect(&Self::daemon_claims(true)).await.unwrap()
    }

    /// The status that refuses these claims.
    pub(crate) async fn refusal(&self, claims: &Claims) -> u16 {
        due(async {
            match self.connect(claims).await {
                Err(status) => status,
                Ok(_) => panic!("it is let in"),
            }
        })
        .await
    }

    /// The status that a token gets, 101 if it is let in.
    pub(crate) async fn status(&self, token: &str) -> u16 {
        match self.connect_with(token).await {
            Ok(_) => 101,
            Err(status) => status,
        }
    }

    /// Asks for a WebSocket; status and body of the answer.
    pub(crate) async fn ask(&self, path: &str, bearer: Option<&str>) -> (u16, String) {
        let (mut ours, theirs) = tokio::io::duplex(WIRE);
        self.dial.send(Box::new(theirs)).unwrap();
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nhost: relay.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        if let Some(token) = bearer {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        ours.write_all((request + "\r\n").as_bytes()).await.unwrap();
        let mut text = Vec::new();
        soon("an answer", async {
            loop {
                let so_far = String::from_utf8_lossy(&text);
                if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                        return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
                    }
                }
                assert!(ours.read_buf(&mut text).await.unwrap() > 0, "{}", String::from_utf8_lossy(&text));
            }
        })
        .await
    }
}

/// What a peer receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Frame(Bytes),
    Pong(Bytes),
    Close(u16),
    /// End of stream, or an error: no close frame before it.
    Lost,
}

/// A connection that does nothing by itself: it neither reads nor answers unless it is asked for what it got.
pub(crate) struct Raw(pub(crate) WebSocketStream<DuplexStream>);

impl Raw {
    /// What comes next, the relay's Pings included.
    pub(crate) async fn got(&mut self) -> Got {
        due(async {
            match soon("a message", self.0.next()).await {
                Some(Ok(Message::Binary(frame))) => Got::Frame(frame),
                Some(Ok(Message::Pong(payload))) => Got::Pong(payload),
                Some(Ok(Message::Close(frame))) => Got::Close(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => Got::Lost,
            }
        })
        .await
    }

    /// Sends until nothing moves any more. Returns how many messages the peer got rid of, at most `most`.
    pub(crate) async fn fill(&mut self, message: &Bytes, most: usize) -> usize {
        for n in 0..most {
            let send = self.0.send(Message::Binary(message.clone()));
            if tokio::time::timeout(Duration::from_millis(10), send).await.is_err() {
                return n;
            }
        }
        most
    }

    /// A peer that reads all the time, and answers the relay's Pings.
    pub(crate) fn pumped(self) -> Peer {
        let (send, orders) = unbounded_channel();
        let (tell, got) = unbounded_channel();
        tokio::spawn(pump(self.0, orders, tell));
        Peer { send, got }
    }
}

async fn pump(
    mut ws: WebSocketStream<DuplexStream>,
    mut orders: UnboundedReceiver<Message>,
    tell: UnboundedSender<Got>,
) {
    let pong = Message::Binary(Frame::Pong(Bytes::new()).encode());
    loop {
        let got = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(message) => {
                    // A connection that is over shows when it is read.
                    let _ = ws.send(message).await;
                    continue;
                }
                None => return,
            },
            got = ws.next() => got,
        };
        let got = match got {
            Some(Ok(Message::Binary(frame))) if frame.first() == Some(&FrameType::Ping.byte()) => {
                let _ = ws.send(pong.clone()).await;
                continue;
            }
            Some(Ok(Message::Binary(frame))) => Got::Frame(frame),
            Some(Ok(Message::Pong(payload))) => Got::Pong(payload),
            Some(Ok(Message::Close(frame))) => Got::Close(frame.map_or(1005, |frame| frame.code.into())),
            Some(Ok(_)) => continue,
            Some(Err(_)) | None => Got::Lost,
        };
        let lost = got == Got::Lost;
        if tell.send(got).is_err() || lost {
            return;
        }
    }
}

/// A peer that reads all the time, and answers the relay's Pings. Dropping it cuts the connection.
pub(crate) struct Peer {
    send: UnboundedSender<Message>,
    got: UnboundedReceiver<Got>,
}

impl Peer {
    pub(crate) fn send(&self, frame: Bytes) {
        self.message(Message::Binary(frame));
    }

    pub(crate) fn message(&self, message: Message) {
        // A connection that is over shows when it is read.
        let _ = self.send.send(message);
    }

    pub(crate) async fn got(&mut self) -> Got {
        due(soon("a message", self.got.recv())).await.unwrap_or(Got::Lost)
    }

    /// What comes within this time.
    pub(crate) async fn within(&mut self, time: Duration) -> Option<Got> {
        tokio::time::timeout(time, self.got.recv()).await.ok().flatten()
    }

    /// What has come already.
    #[allow(dead_code, reason = "not every test looks at what is there")]
    pub(crate) fn try_got(&mut self) -> Option<Got> {
        self.got.try_recv().ok()
    }

    /// Proves that the relay still serves this peer, and that nothing else came.
    pub(crate) async fn is_undisturbed(&mut self) {
        self.send(Frame::Ping(Bytes::from_static(b"alive?")).encode());
        let pong = Got::Frame(Frame::Pong(Bytes::from_static(b"alive?")).encode());
        due(async { assert_eq!(self.got().await, pong) }).await;
    }

    /// It is told this and then closed.
    pub(crate) async fn is_refused(&mut self, code: ControlCode, session: u64, close: u16) {
        due(async {
            assert_eq!(self.got().await, control(code, session));
            assert_eq!(self.got().await, Got::Close(close));
        })
        .await;
    }
}
