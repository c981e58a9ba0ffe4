//! A relay on a free port, and peers that talk to it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sideband_env::{Env, Timeline, real::Roots};
use sideband_protocol::{
    SessionId,
    token::{Claims, KeySet, Signer},
    wire::{ControlCode, Frame, Reason, Signal},
};
use sideband_relay_sim::{KeySource, Relay, RelayConfig};
use sideband_sim_kit::{
    event::{Event, EventKind, EventSink},
    server::{ServeOptions, serve},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{broadcast, oneshot},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

pub(crate) const ISSUER: &str = "https://api.test";
pub(crate) const DAEMON: &str = "d_1";

/// No test takes that long unless it hangs.
const HANG: Duration = Duration::from_secs(20);

/// Fails the test instead of hanging for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("it hangs")
}

pub(crate) fn id(n: u64) -> SessionId {
    SessionId::new(n).unwrap()
}

pub(crate) fn data(session: SessionId, payload: impl Into<Bytes>) -> Bytes {
    Frame::Data { session, payload: payload.into() }.encode()
}

pub(crate) fn ready(session: SessionId) -> Bytes {
    Frame::Signal { session, signal: Signal::Ready, reason: Reason::None }.encode()
}

pub(crate) struct Server {
    pub(crate) relay: Relay,
    pub(crate) addr: SocketAddr,
    pub(crate) env: Env,
    pub(crate) signer: Arc<Signer>,
    seen: broadcast::Receiver<Event>,
    _stop: oneshot::Sender<()>,
}

/// A relay with the defaults and its keys at hand.
pub(crate) async fn start() -> Server {
    start_with(|_| {}).await
}

/// A relay whose configuration is changed.
pub(crate) async fn start_with(change: impl FnOnce(&mut RelayConfig)) -> Server {
    start_in(Env::real(&Roots::System).unwrap(), change).await
}

pub(crate) async fn start_in(env: Env, change: impl FnOnce(&mut RelayConfig)) -> Server {
    let signer = Arc::new(Signer::from_seed("k-1", &[7; 32]));
    let public = signer.public();
    let keys = KeySource::InProcess(Arc::new(move || KeySet::from_keys([public.clone()])));
    let mut config = RelayConfig::new(ISSUER, keys);
    change(&mut config);
    let events = EventSink::new(Timeline::start(), "relay");
    let seen = events.subscribe();
    let relay = Relay::new(env.clone(), config, events);
    let listener = env.network.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, relay.router(), ServeOptions::default(), async { drop(stopped.await) }));
    Server { relay, addr, env, signer, seen, _stop: stop }
}

impl Server {
    fn now(&self) -> u64 {
        self.env.clock.unix_seconds()
    }

    pub(crate) fn client_claims(&self, session: SessionId) -> Claims {
        Claims::client(ISSUER, "u_1", DAEMON, session, "t-1", self.now())
    }

    pub(crate) fn client_token(&self, session: SessionId) -> String {
        self.signer.sign(&self.client_claims(session))
    }

    pub(crate) fn daemon_token(&self, resumable: bool) -> String {
        self.signer.sign(&Claims::daemon(ISSUER, DAEMON, "t-2", self.now(), resumable))
    }

    /// Connects, or gives the status that refused it.
    pub(crate) async fn connect(&self, token: &str) -> Result<Peer, u16> {
        let mut request = format!("ws://{}/relay", self.addr).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let stream = TcpStream::connect(self.addr).await.unwrap();
        match soon(tokio_tungstenite::client_async(request, stream)).await {
            Ok((ws, _)) => Ok(Peer(ws)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn client(&self, session: SessionId) -> Peer {
        self.connect(&self.client_token(session)).await.unwrap()
    }

    pub(crate) async fn daemon(&self) -> Peer {
        self.connect(&self.daemon_token(true)).await.unwrap()
    }

    /// Waits for an event, from the last one waited for on.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let seen = &mut self.seen;
        soon(async move {
            loop {
                let event = seen.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
    }

    /// Waits until a session has this state.
    pub(crate) async fn session(&mut self, session: SessionId, wanted: &str) {
        self.event(|event| {
            event.session == Some(session)
                && matches!(&event.kind, EventKind::Session { state } if state.as_str() == wanted)
        })
        .await;
    }

    /// Waits until a connection's socket is gone, and gives its close code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        match self.event(|event| matches!(event.kind, EventKind::Closed { .. })).await.kind {
            EventKind::Closed { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a raw request and reads its answer.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        soon(async {
            loop {
                if let Some(answer) = Answer::parse(&text) {
                    return answer;
                }
                assert!(stream.read_buf(&mut text).await.unwrap() > 0, "{}", String::from_utf8_lossy(&text));
            }
        })
        .await
    }

    /// A request for a WebSocket with these headers besides the usual ones.
    pub(crate) async fn ask_upgrade(&self, uri: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = format!(
            "GET {uri} HTTP/1.1\r\nhost: relay.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        self.ask(&(request + "\r\n")).await
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &[u8]) -> Option<Self> {
        // Behind a 101 come frames.
        let text = String::from_utf8_lossy(text);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let head = head.to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        (body.len() >= length).then(|| Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: body.to_owned(),
            head: head.clone(),
        })
    }

    /// The stable code of a refusal (TOK-13).
    pub(crate) fn code(&self) -> String {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let error = body["error"].as_object().unwrap();
        assert_eq!(error.len(), 2);
        assert!(!error["message"].as_str().unwrap().is_empty());
        error["code"].as_str().unwrap().to_owned()
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

pub(crate) fn control(code: ControlCode, session: u64) -> Got {
    Got::Frame(sideband_protocol::wire::control_message(code, session))
}

/// One WebSocket to the relay.
pub(crate) struct Peer(pub(crate) WebSocketStream<TcpStream>);

impl Peer {
    pub(crate) async fn send(&mut self, frame: Bytes) {
        soon(self.0.send(Message::Binary(frame))).await.unwrap();
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        soon(self.0.send(message)).await.unwrap();
    }

    pub(crate) async fn got(&mut self) -> Got {
        match soon(self.0.next()).await {
            Some(Ok(Message::Binary(frame))) => Got::Frame(frame),
            Some(Ok(Message::Pong(payload))) => Got::Pong(payload),
            Some(Ok(Message::Close(frame))) => Got::Close(frame.map_or(1005, |frame| frame.code.into())),
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => Got::Lost,
        }
    }

    /// Closes and waits for the answer.
    pub(crate) async fn close(mut self) {
        soon(self.0.close(None)).await.unwrap();
        while soon(self.0.next()).await.is_some_and(|got| got.is_ok()) {}
    }

    /// Proves that the relay still serves this peer, and that nothing else came.
    pub(crate) async fn is_undisturbed(&mut self) {
        self.send(Frame::Ping(Bytes::from_static(b"alive?")).encode()).await;
        assert_eq!(self.got().await, Got::Frame(Frame::Pong(Bytes::from_static(b"alive?")).encode()));
    }
}
