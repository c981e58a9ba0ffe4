//! Peers that speak WebSocket and nothing else: what they send is theirs to say.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sideband_protocol::{
    SessionId,
    wire::{ControlCode, Frame, Reason, Signal, control_message},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::soon;

/// A Data frame, sealed or not.
pub(crate) fn data(session: SessionId, payload: impl Into<Bytes>) -> Bytes {
    Frame::Data { session, payload: payload.into() }.encode()
}

pub(crate) fn signal(session: SessionId, signal: Signal, reason: Reason) -> Bytes {
    Frame::Signal { session, signal, reason }.encode()
}

/// What a peer receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Frame(Bytes),
    Close(u16),
    /// The end of the stream, without a close frame before it.
    Lost,
}

/// The whole Control frame that this project's relay sends; `session` is the id in its header.
pub(crate) fn control(code: ControlCode, session: u64) -> Got {
    Got::Frame(control_message(code, session))
}

/// One WebSocket to the relay.
pub(crate) struct Peer(pub(crate) WebSocketStream<TcpStream>);

/// Connects with a token in the header, or gives the status that refused it.
pub(crate) async fn connect(addr: SocketAddr, token: &str) -> Result<Peer, u16> {
    let mut request = format!("ws://{addr}/relay").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let stream = TcpStream::connect(addr).await.unwrap();
    match soon(tokio_tungstenite::client_async(request, stream)).await {
        Ok((ws, _)) => Ok(Peer(ws)),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

impl Peer {
    pub(crate) async fn send(&mut self, frame: Bytes) {
        self.send_message(Message::Binary(frame)).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        soon(self.0.send(message)).await.unwrap();
    }

    pub(crate) async fn got(&mut self) -> Got {
        loop {
            return match soon(self.0.next()).await {
                Some(Ok(Message::Binary(frame))) => Got::Frame(frame),
                Some(Ok(Message::Close(frame))) => Got::Close(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => Got::Lost,
            };
        }
    }

    /// The next frame, read.
    pub(crate) async fn frame(&mut self) -> Frame {
        match self.got().await {
            Got::Frame(message) => Frame::decode(&message).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Closes and waits for the answer.
    pub(crate) async fn close(mut self) {
        soon(self.0.close(None)).await.unwrap();
        while soon(self.0.next()).await.is_some_and(|got| got.is_ok()) {}
    }

    /// The relay's last word: this close, then the end.
    pub(crate) async fn is_closed(&mut self, code: u16) {
        assert_eq!(self.got().await, Got::Close(code));
        assert_eq!(self.got().await, Got::Lost);
    }

    /// Proves that the relay still serves this peer, and that nothing else came before.
    pub(crate) async fn is_undisturbed(&mut self) {
        self.send(Frame::Ping(Bytes::from_static(b"alive?")).encode()).await;
        assert_eq!(self.got().await, Got::Frame(Frame::Pong(Bytes::from_static(b"alive?")).encode()));
    }

    /// Proves that frames of a session pass to the other peer byte for byte, and that nothing else came before.
    pub(crate) async fn reaches(&mut self, other: &mut Self, session: SessionId) {
        let frame = data(session, vec![0x5a; 40]);
        self.send(frame.clone()).await;
        assert_eq!(other.got().await, Got::Frame(frame));
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers, in lower case.
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

    /// The body's JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// The stable code of a refusal, whose body has exactly the members of TOK-13.
    pub(crate) fn code(&self) -> String {
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{self:?}");
        let error = body["error"].as_object().unwrap();
        assert_eq!(error.len(), 2, "{self:?}");
        assert!(!error["message"].as_str().unwrap().is_empty());
        error["code"].as_str().unwrap().to_owned()
    }
}

/// Sends a raw request and reads its answer.
pub(crate) async fn ask(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
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

/// Asks for a WebSocket with these headers besides the usual ones.
pub(crate) async fn ask_upgrade(addr: SocketAddr, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = format!(
        "GET {uri} HTTP/1.1\r\nhost: {addr}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    ask(addr, &(request + "\r\n")).await
}
