//! The relay: every dial waits for the test, and every frame is the test's to send.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sideband_env::{BoxFuture, BoxStream, Listener, Network, Target};
use sideband_protocol::wire::{ControlCode, Frame, UnknownControlCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::soon;

/// Bytes under way in each direction before the sender waits.
const WIRE: usize = 256 << 10;

struct ScriptedNetwork(mpsc::UnboundedSender<Dial>);

pub(super) fn network() -> (Arc<dyn Network>, mpsc::UnboundedReceiver<Dial>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(ScriptedNetwork(sender)), receiver)
}

impl Network for ScriptedNetwork {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let gone = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody answers");
            self.0.send(Dial { target: target.clone(), reply }).map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn bind(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::Error::new(io::ErrorKind::Unsupported, "no endpoint listens")) })
    }
}

/// One dial that waits for its answer. Dropping it refuses the connection.
pub struct Dial {
    /// Where to.
    pub target: Target,
    reply: oneshot::Sender<io::Result<BoxStream>>,
}

impl Dial {
    /// No connection could be had.
    pub fn unreachable(self) {
        drop(self);
    }

    /// Whether the endpoint has given the dial up.
    pub fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    /// Waits until the endpoint gives the dial up.
    pub async fn given_up(&mut self) {
        soon("a dial to be given up", self.reply.closed()).await;
    }

    /// A connection on which nothing is ever answered.
    ///
    /// # Panics
    /// If the endpoint has given the dial up.
    pub fn connect(self) -> DuplexStream {
        self.connect_over(|stream| Box::new(stream))
    }

    /// As [`connect`](Self::connect), with something between the endpoint and the connection.
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    pub fn connect_over(self, between: impl FnOnce(DuplexStream) -> BoxStream) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(WIRE);
        assert!(self.reply.send(Ok(between(theirs))).is_ok(), "the dial was given up");
        ours
    }

    /// Refuses the upgrade with a status, as TOK-13 has it.
    pub async fn refuse(self, status: u16) {
        self.refuse_with(status, &[]).await;
    }

    /// Refuses the upgrade with a status and headers, such as `retry-after`.
    ///
    /// # Panics
    /// If no request comes.
    pub async fn refuse_with(self, status: u16, headers: &[(&str, &str)]) {
        let mut stream = self.connect();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(soon("a request", stream.read_buf(&mut request)).await.expect("a request") > 0, "no request");
        }
        let body = format!(r#"{{"error":{{"code":"refused","message":"refused with {status}"}}}}"#);
        let mut answer = format!(
            "HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            answer += &format!("{name}: {value}\r\n");
        }
        // The endpoint may be gone.
        let _ = stream.write_all(format!("{answer}\r\n{body}").as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    /// Opens the WebSocket.
    ///
    /// # Panics
    /// If no upgrade is asked for.
    pub async fn open(self) -> Socket {
        Socket::accept(self.connect()).await
    }
}

/// What an endpoint sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// A binary message.
    Message(Bytes),
    /// A close, with its code (1005 for none).
    Close(u16),
    /// The end of the stream without a close.
    Lost,
}

/// An open WebSocket of the endpoint under test.
pub struct Socket {
    ws: WebSocketStream<DuplexStream>,
    /// The token that came with the upgrade.
    pub token: Option<String>,
}

impl Socket {
    /// Opens the WebSocket on a connection that an endpoint has dialled.
    ///
    /// # Panics
    /// If no upgrade is asked for.
    // The callback's type is tungstenite's.
    #[expect(clippy::result_large_err)]
    pub async fn accept(stream: DuplexStream) -> Self {
        let mut token = None;
        let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            let bearer = request.headers().get("authorization").and_then(|value| value.to_str().ok());
            token = bearer.and_then(|text| text.strip_prefix("Bearer ")).map(str::to_owned);
            Ok(response)
        };
        // A hostile relay sends more than an endpoint takes.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, look, Some(config));
        let ws = soon("an upgrade", accepted).await.expect("an upgrade");
        Self { ws, token }
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: &Frame) {
        self.send_bytes(frame.encode()).await;
    }

    /// Sends any bytes as one binary message. Does nothing once the endpoint has gone.
    pub async fn send_bytes(&mut self, message: impl Into<Bytes>) {
        self.send_message(Message::Binary(message.into())).await;
    }

    /// Sends any WebSocket message. Does nothing once the endpoint has gone.
    pub async fn send_message(&mut self, message: Message) {
        // Who sends to a peer that has gone is not told on a real network either.
        let _ = soon("room to send", self.ws.send(message)).await;
    }

    /// Sends a Control frame with any text.
    pub async fn control(&mut self, code: ControlCode, session: Option<sideband_protocol::SessionId>) {
        self.control_raw(Ok(code), session).await;
    }

    /// Sends a Control frame with any code.
    pub async fn control_raw(
        &mut self,
        code: Result<ControlCode, UnknownControlCode>,
        session: Option<sideband_protocol::SessionId>,
    ) {
        self.send(&Frame::Control { session, code, message: "words".to_owned() }).await;
    }

    /// Closes with a code and does not wait for the answer.
    pub async fn close(mut self, code: u16) {
        let _ = self.ws.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await;
        // Reads on, as a relay does, until the endpoint has gone.
        while soon("the end", self.ws.next()).await.is_some_and(|got| got.is_ok()) {}
    }

    /// Cuts the connection: nothing is said.
    pub fn cut(self) {
        drop(self);
    }

    /// What the endpoint sends next, WebSocket pings and pongs left out.
    ///
    /// # Panics
    /// If nothing comes, or a text message.
    pub async fn got(&mut self) -> Got {
        loop {
            return match soon("a message from the endpoint", self.ws.next()).await {
                Some(Ok(Message::Binary(message))) => Got::Message(message),
                Some(Ok(Message::Close(frame))) => Got::Close(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Text(text))) => panic!("an endpoint sent text: {text}"),
                Some(Err(_)) | None => Got::Lost,
            };
        }
    }

    /// What the endpoint sends next, if anything comes within this time.
    pub async fn got_within(&mut self, limit: std::time::Duration) -> Option<Got> {
        tokio::time::timeout(limit, self.got()).await.ok()
    }

    /// The next frame; SBRP Pings are answered and left out.
    ///
    /// # Panics
    /// If the socket ends instead, or what comes is no frame.
    pub async fn frame(&mut self) -> Frame {
        // Pings are no reason to wait longer.
        soon("a frame from the endpoint", self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Frame {
        match self.frame_or_end().await {
            Ok(frame) => frame,
            Err(end) => panic!("a frame was due, not {end:?}"),
        }
    }

    /// The next frame, or how the socket ended; SBRP Pings are answered and left out.
    ///
    /// # Errors
    /// The socket ended, and how.
    ///
    /// # Panics
    /// If what comes is no frame.
    pub async fn frame_or_end(&mut self) -> Result<Frame, Got> {
        loop {
            let message = match self.got().await {
                Got::Message(message) => message,
                end @ (Got::Close(_) | Got::Lost) => return Err(end),
            };
            match Frame::decode(&message).expect("an endpoint sends whole frames") {
                Frame::Ping(bytes) => self.send(&Frame::Pong(bytes)).await,
                frame => return Ok(frame),
            }
        }
    }

    /// The next frame, if one comes within this time; SBRP Pings are answered and left out.
    pub async fn frame_within(&mut self, limit: std::time::Duration) -> Option<Frame> {
        tokio::time::timeout(limit, self.next_frame()).await.ok()
    }

    /// Reads until the endpoint ends the socket: what came before, and how it ended.
    pub async fn end(&mut self) -> (Vec<Frame>, Got) {
        let mut frames = Vec::new();
        loop {
            match self.frame_or_end().await {
                Ok(frame) => frames.push(frame),
                Err(end) => return (frames, end),
            }
        }
    }
}
