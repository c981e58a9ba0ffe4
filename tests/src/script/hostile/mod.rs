//! Attacks as values: a name, what a hostile relay sends, and what the specification says must come of it.
//!
//! An attack knows no endpoint: whoever runs it brings one to a [`ClientStage`] or [`DaemonStage`], throws what [`Attack::throws`] gives at its
//! socket, and compares what becomes of it with [`Attack::at_client`] or [`Attack::at_daemon`].
//!
//! | list | thrown at | when |
//! |---|---|---|
//! | [`frames::attacks`] | client, daemon | on an open socket, in every stage |
//! | [`accepts::accepts`] | client | instead of the Accept |
//! | [`accepts::inits`] | daemon | as a HandshakeInit |
//! | [`reuse::endings`] | daemon | before another session under the same id |
//! | [`answers::upgrades`] | client, daemon | instead of the upgrade's answer |
//! | [`answers::grants`], [`answers::renewals`] | client, daemon | instead of the API's answer |

pub mod accepts;
pub mod answers;
pub mod frames;
pub mod reuse;

use std::time::Duration;

use bytes::Bytes;
use sideband_protocol::{Entropy, SessionId, failure::Cause, sbp::FrameBody, wire::Frame};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{
        CloseFrame,
        frame::{
            Frame as WsFrame,
            coding::{Data, OpCode},
        },
    },
};

use super::{Line, Socket};

/// How far a client has come when an attack begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStage {
    /// The socket is open, the client waits for the Accept.
    Opened,
    /// The Accept is sent; the user is being asked whether to trust it.
    Trusting,
    /// Keys are agreed and trusted; the daemon has not introduced itself.
    Keyed,
    /// The session stands.
    Active,
    /// The relay has said `session_paused`.
    Paused,
    /// The relay has said `session_paused` and `session_pending`.
    Pending,
}

impl ClientStage {
    /// Every stage, in the order of a session's life.
    pub const ALL: [Self; 6] = [Self::Opened, Self::Trusting, Self::Keyed, Self::Active, Self::Paused, Self::Pending];

    /// Whether the session stands, paused or not.
    pub const fn stands(self) -> bool {
        matches!(self, Self::Active | Self::Paused | Self::Pending)
    }
}

/// How far a daemon has come with the session of an attack when the attack begins. Another session stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonStage {
    /// There is no such session.
    Online,
    /// The Accept was sent; the client has not introduced itself.
    Keyed,
    /// The session stands.
    Active,
}

impl DaemonStage {
    /// Every stage.
    pub const ALL: [Self; 3] = [Self::Online, Self::Keyed, Self::Active];
}

/// What must become of a client. Causes are named as [`cause_name`] names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFate {
    /// What came is taken, refused or ignored; the attempt or session goes on.
    GoesOn,
    /// The attempt or session is over; the retry policy applies.
    Retried(&'static str),
    /// The client closes for good.
    Closed(&'static str),
}

/// What must become of a daemon and of the session attacked. The session beside it lives on in every case but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonFate {
    /// What came is taken, refused or ignored; the session goes on.
    GoesOn,
    /// The daemon ends the session by itself and tells the relay: Signal(close, error).
    SessionEnds(&'static str),
    /// The relay says that the session is over; it is freed.
    SessionFreed(&'static str),
    /// The socket is given up; another follows with backoff, and sessions that stood go on.
    Reconnects(&'static str),
    /// The daemon ends for good.
    Ends(&'static str),
}

/// One thing that a hostile relay does.
#[derive(Debug, Clone)]
pub enum Throw {
    /// Sends a binary message.
    Message(Bytes),
    /// Sends a binary message in fragments.
    Fragments(Vec<Bytes>),
    /// Sends a text message.
    Text(String),
    /// Sends a WebSocket ping.
    WsPing,
    /// Lets time pass.
    Wait(Duration),
    /// Closes with a code; `None` sends a close without one.
    Close(Option<u16>),
    /// Cuts the connection.
    Cut,
}

impl From<Frame> for Throw {
    fn from(frame: Frame) -> Self {
        Self::Message(frame.encode())
    }
}

/// What an attack can use: everything that a relay sees, and the far end's keys for what only a far end can seal.
pub struct Aim<'a> {
    /// The session that is attacked.
    pub session: SessionId,
    /// The far end of that session. Before keys are agreed: of one that the endpoint does not know.
    pub line: &'a mut Line,
    /// The far end of another session under other keys, with the same session id.
    pub stranger: &'a mut Line,
    /// Data of the far end that were delivered already.
    pub delivered: &'a [Frame],
    /// Data that the endpoint itself sent.
    pub echo: Option<&'a Frame>,
    /// An Accept for this session, genuine and used.
    pub accept: Option<&'a Frame>,
    /// Randomness.
    pub entropy: &'a mut dyn Entropy,
}

type Throws = Box<dyn Fn(&mut Aim<'_>) -> Vec<Throw> + Send + Sync>;
type AtClient = Box<dyn Fn(ClientStage) -> Option<ClientFate> + Send + Sync>;
type AtDaemon = Box<dyn Fn(DaemonStage) -> Option<DaemonFate> + Send + Sync>;

/// An attack on an open socket.
pub struct Attack {
    /// What it is, for people.
    pub name: String,
    /// The rules that say what must come of it.
    pub rules: &'static str,
    /// The close code with which the endpoint must leave the socket, where the specification names one.
    pub close_code: Option<u16>,
    /// Events named [`EVENT`] that must be delivered where the session stands.
    pub delivers: usize,
    throws: Throws,
    at_client: AtClient,
    at_daemon: AtDaemon,
}

/// The name of the events in attacks, and of the one that was delivered before.
pub const EVENT: &str = "far.event";

impl Attack {
    fn new(
        name: impl Into<String>,
        rules: &'static str,
        throws: impl Fn(&mut Aim<'_>) -> Vec<Throw> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            rules,
            close_code: None,
            delivers: 0,
            throws: Box::new(throws),
            at_client: Box::new(|_| None),
            at_daemon: Box::new(|_| None),
        }
    }

    fn client(mut self, fate: impl Fn(ClientStage) -> Option<ClientFate> + Send + Sync + 'static) -> Self {
        self.at_client = Box::new(fate);
        self
    }

    fn daemon(mut self, fate: impl Fn(DaemonStage) -> Option<DaemonFate> + Send + Sync + 'static) -> Self {
        self.at_daemon = Box::new(fate);
        self
    }

    fn delivers(mut self, events: usize) -> Self {
        self.delivers = events;
        self
    }

    fn closes_with(mut self, code: u16) -> Self {
        self.close_code = Some(code);
        self
    }

    /// What is sent.
    pub fn throws(&self, aim: &mut Aim<'_>) -> Vec<Throw> {
        (self.throws)(aim)
    }

    /// What must become of a client at a stage; `None` where the attack makes no sense.
    pub fn at_client(&self, stage: ClientStage) -> Option<ClientFate> {
        (self.at_client)(stage)
    }

    /// What must become of a daemon at a stage; `None` where the attack makes no sense.
    pub fn at_daemon(&self, stage: DaemonStage) -> Option<DaemonFate> {
        (self.at_daemon)(stage)
    }
}

impl std::fmt::Debug for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.rules)
    }
}

/// An event as a sealed SBP frame holds it.
pub fn event(data: &str) -> FrameBody {
    let data = Some(serde_json::Value::from(data).to_string().into());
    let envelope = sideband_protocol::rpc::Envelope::Event { name: EVENT.to_owned(), data };
    FrameBody::Message { subject: "event".to_owned(), data: envelope.encode() }
}

/// Throws something at an endpoint; `None` once that has ended the socket.
pub async fn throw(socket: Socket, what: Throw) -> Option<Socket> {
    let mut socket = socket;
    match what {
        Throw::Message(message) => socket.send_bytes(message).await,
        Throw::Fragments(fragments) => {
            let last = fragments.len().saturating_sub(1);
            for (at, fragment) in fragments.into_iter().enumerate() {
                let code = OpCode::Data(if at == 0 { Data::Binary } else { Data::Continue });
                socket.send_message(Message::Frame(WsFrame::message(fragment, code, at == last))).await;
            }
        }
        Throw::Text(text) => socket.send_message(Message::Text(text.into())).await,
        Throw::WsPing => socket.send_message(Message::Ping(Bytes::from_static(b"there?"))).await,
        Throw::Wait(time) => tokio::time::sleep(time).await,
        Throw::Close(code) => {
            let frame = code.map(|code| CloseFrame { code: code.into(), reason: "words".into() });
            socket.send_message(Message::Close(frame)).await;
            return None;
        }
        Throw::Cut => {
            socket.cut();
            return None;
        }
    }
    Some(socket)
}

/// The name of a cause in the words of the specification: a Control code, an endpoint's own code, or what was lost.
pub fn cause_name(cause: &Cause) -> String {
    match cause {
        Cause::Control(Ok(code)) => code.to_string(),
        Cause::Control(Err(_)) => "unknown_code".to_owned(),
        Cause::Api { status, .. } => format!("api_{status}"),
        Cause::Upgrade { status, .. } => format!("upgrade_{status}"),
        other => match other {
            Cause::TokenSource(_) => "token_source",
            Cause::UnusableToken(_) => "unusable_token",
            Cause::ApiUnreadable(_) => "api_unreadable",
            Cause::ApiUnreachable(_) => "api_unreachable",
            Cause::ApiTimeout => "api_timeout",
            Cause::RelayUnreachable(_) => "relay_unreachable",
            Cause::DialTimeout => "dial_timeout",
            Cause::RelayUrl(_) => "relay_url",
            Cause::SocketLost { .. } => "socket_lost",
            Cause::Silent => "silent",
            Cause::MalformedFrame(_) => "malformed_frame",
            Cause::HandshakeFailed(_) => "handshake_failed",
            Cause::HandshakeTimeout => "handshake_timeout",
            Cause::IdentityChanged { .. } => "identity_key_changed",
            Cause::IdentityStore(_) => "identity_store",
            Cause::DecryptFailed => "decrypt_failed",
            Cause::Exhausted => "exhausted",
            Cause::PeerError { .. } => "peer_error",
            Cause::PeerViolation { .. } => "peer_violation",
            Cause::PeerClosed { .. } => "peer_closed",
            Cause::Overflow(_) => "overflow",
            Cause::Closed => "closed",
            Cause::HandlerFailed(_) => "handler_failed",
            Cause::Stopped(_) => "stopped",
            Cause::Bug(_) => "bug",
            Cause::Control(_) | Cause::Api { .. } | Cause::Upgrade { .. } => "named above",
        }
        .to_owned(),
    }
}
