//! The far end of a session: keys, sealed frames and envelopes, each sent when the test says so.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use sideband_protocol::{
    Entropy, SessionId,
    crypto::{Accept, ClientHandshake, Direction, Identity, Opener, Sealer, SessionKeys, accept},
    entropy,
    peer::Side,
    rpc::Envelope,
    sbp::{self, FrameBody, FrameId},
    wire::Frame,
};

use super::relay::{Got, Socket};

/// A daemon that a client under test meets.
pub struct FarDaemon {
    /// Its id, as it enters the hashes.
    pub daemon_id: String,
    /// The key that it shows.
    pub identity: Identity,
}

impl FarDaemon {
    /// A daemon with a new identity.
    pub fn new(daemon_id: &str, entropy: &mut dyn Entropy) -> Self {
        Self { daemon_id: daemon_id.to_owned(), identity: Identity::generate(entropy) }
    }

    /// Answers a HandshakeInit.
    ///
    /// # Panics
    /// If the frame is another one, or its key contributes nothing.
    pub fn accept(&self, init: &Frame, entropy: &mut dyn Entropy) -> (Frame, Line) {
        let (payload, line) = self.accept_parts(init, entropy);
        (Frame::HandshakeAccept { session: line.session, payload: (&payload).into() }, line)
    }

    /// As [`accept`](Self::accept), with the Accept still to be spoilt.
    ///
    /// # Panics
    /// As [`accept`](Self::accept).
    pub fn accept_parts(&self, init: &Frame, entropy: &mut dyn Entropy) -> (Accept, Line) {
        let Frame::HandshakeInit { session, client_ephemeral } = init else {
            panic!("a HandshakeInit was due, not {init:?}")
        };
        let (payload, keys) = accept(&self.identity, &self.daemon_id, client_ephemeral, entropy).expect("a good key");
        (payload, Line::new(*session, Side::Daemon, keys, entropy))
    }
}

/// A client that a daemon under test meets.
pub struct FarClient {
    session: SessionId,
    daemon_id: String,
    handshake: ClientHandshake,
    seed: [u8; 8],
}

impl FarClient {
    /// A client with a fresh key, and its HandshakeInit.
    pub fn new(session: SessionId, daemon_id: &str, entropy: &mut dyn Entropy) -> (Self, Frame) {
        let handshake = ClientHandshake::new(entropy);
        let init = Frame::HandshakeInit { session, client_ephemeral: *handshake.public() };
        (Self { session, daemon_id: daemon_id.to_owned(), handshake, seed: entropy::bytes(entropy) }, init)
    }

    /// Reads the daemon's Accept.
    ///
    /// # Panics
    /// If the frame is another one, of another session, or wrong.
    pub fn finish(self, frame: &Frame) -> Line {
        let Frame::HandshakeAccept { session, payload } = frame else {
            panic!("a HandshakeAccept was due, not {frame:?}")
        };
        assert_eq!(*session, self.session);
        let accept = Accept::parse(payload).expect("an Accept");
        let keys = self.handshake.finish(&self.daemon_id, &accept).expect("a good Accept");
        Line::with_ids(self.session, Side::Client, keys, u64::from_be_bytes(self.seed))
    }
}

/// The far end of one session's sealed traffic. Counts and opens as the specification says unless the test says otherwise.
pub struct Line {
    session: SessionId,
    keys: SessionKeys,
    side: Side,
    sealer: Sealer,
    opener: Opener,
    next_id: u64,
}

impl Line {
    /// The far end of a session that no endpoint knows, under keys of its own.
    pub fn stranger(session: SessionId, side: Side, entropy: &mut dyn Entropy) -> Self {
        let keys = SessionKeys { client_to_daemon: entropy::bytes(entropy), daemon_to_client: entropy::bytes(entropy) };
        Self::new(session, side, keys, entropy)
    }

    fn new(session: SessionId, side: Side, keys: SessionKeys, entropy: &mut dyn Entropy) -> Self {
        Self::with_ids(session, side, keys, entropy::next_u64(entropy))
    }

    fn with_ids(session: SessionId, side: Side, keys: SessionKeys, next_id: u64) -> Self {
        let (ours, theirs) = directions(side);
        let (sealer, opener) = (Sealer::new(&keys, ours), Opener::new(&keys, theirs));
        Self { session, keys, side, sealer, opener, next_id }
    }

    /// The session's id.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The session's keys.
    pub fn keys(&self) -> &SessionKeys {
        &self.keys
    }

    /// A frame id that was not used before.
    pub fn new_id(&mut self) -> FrameId {
        self.next_id = self.next_id.wrapping_add(1);
        let mut id = [0xfa; 16];
        id[8..].copy_from_slice(&self.next_id.to_be_bytes());
        FrameId::from_bytes(id)
    }

    /// From here on sequences are counted from this one.
    pub fn continue_at(&mut self, sequence: u64) {
        let (ours, _) = directions(self.side);
        let key = match ours {
            Direction::ClientToDaemon => &self.keys.client_to_daemon,
            Direction::DaemonToClient => &self.keys.daemon_to_client,
        };
        self.sealer = Sealer::starting_at(key, ours, sequence);
    }

    /// The sequence of the next message.
    pub fn next_sequence(&self) -> u64 {
        self.sealer.next_sequence()
    }

    /// Seals any plaintext.
    ///
    /// # Panics
    /// If it does not fit into one frame.
    pub fn seal_plain(&mut self, plaintext: &[u8]) -> Frame {
        Frame::Data { session: self.session, payload: self.sealer.seal_payload(plaintext).expect("room in a frame") }
    }

    /// Seals an SBP frame.
    pub fn seal(&mut self, frame: &sbp::Frame) -> Frame {
        self.seal_plain(&frame.encode())
    }

    /// Seals an SBP frame under a new id.
    pub fn seal_body(&mut self, body: FrameBody) -> Frame {
        let frame = sbp::Frame { id: self.new_id(), timestamp: None, body };
        self.seal(&frame)
    }

    /// The plaintext of a Data frame.
    ///
    /// # Panics
    /// If it is another frame, or does not open.
    pub fn open_plain(&mut self, frame: &Frame) -> Bytes {
        let Frame::Data { session, payload } = frame else { panic!("Data was due, not {frame:?}") };
        assert_eq!(*session, self.session, "Data of another session");
        self.opener.open(payload.clone()).expect("what an endpoint seals opens")
    }

    /// The SBP frame in a Data frame.
    ///
    /// # Panics
    /// If it is another frame, does not open, or breaks the layout.
    pub fn open(&mut self, frame: &Frame) -> sbp::Frame {
        sbp::Frame::decode(&self.open_plain(frame)).expect("an endpoint sends whole SBP frames")
    }
}

fn directions(side: Side) -> (Direction, Direction) {
    match side {
        Side::Client => (Direction::ClientToDaemon, Direction::DaemonToClient),
        Side::Daemon => (Direction::DaemonToClient, Direction::ClientToDaemon),
    }
}

/// An introduction as any peer sends it.
pub fn introduction(peer_id: &str) -> Value {
    json!({ "protocol": "sideband", "version": "1", "peerId": peer_id })
}

/// The introduction of the journeys.
pub fn hello() -> FrameBody {
    FrameBody::Handshake(introduction("peer_far").to_string().into())
}

/// A Message.
pub fn message(subject: &str, data: &[u8]) -> FrameBody {
    FrameBody::Message { subject: subject.to_owned(), data: Bytes::copy_from_slice(data) }
}

/// An event.
pub fn event(name: &str, data: &Value) -> FrameBody {
    let envelope = Envelope::Event { name: name.to_owned(), data: Some(data.to_string().into()) };
    message("event", &envelope.encode())
}

/// A socket of the endpoint under test and the far ends of the sessions on it.
pub struct Link {
    /// The socket.
    pub socket: Socket,
    lines: BTreeMap<SessionId, Line>,
}

impl Link {
    /// A socket with one session: what a client has.
    pub fn new(socket: Socket, line: Line) -> Self {
        Self { socket, lines: BTreeMap::from([(line.session, line)]) }
    }

    /// A socket without a session: what a daemon starts with.
    pub fn alone(socket: Socket) -> Self {
        Self { socket, lines: BTreeMap::new() }
    }

    /// Adds a session.
    pub fn add(&mut self, line: Line) {
        self.lines.insert(line.session, line);
    }

    /// The same sessions on another socket of the endpoint.
    #[must_use]
    pub fn moved_to(self, socket: Socket) -> Self {
        Self { socket, lines: self.lines }
    }

    /// Lets go of the socket and keeps the sessions.
    pub fn into_parts(self) -> (Socket, Vec<Line>) {
        (self.socket, self.lines.into_values().collect())
    }

    /// The one session.
    ///
    /// # Panics
    /// If there are none, or several.
    pub fn session(&self) -> SessionId {
        assert_eq!(self.lines.len(), 1, "one session was meant");
        *self.lines.keys().next().expect("one session")
    }

    /// The far end of the one session.
    pub fn line(&mut self) -> &mut Line {
        let id = self.session();
        self.line_of(id)
    }

    /// The far end of a session.
    ///
    /// # Panics
    /// If there is no such session.
    pub fn line_of(&mut self, id: SessionId) -> &mut Line {
        self.lines.get_mut(&id).expect("a session of this link")
    }

    /// Introductions, both ways, of the one session.
    pub async fn introduce(&mut self) {
        let id = self.session();
        self.introduce_on(id).await;
    }

    /// Introductions, both ways.
    ///
    /// # Panics
    /// If the endpoint's first frame is not its introduction.
    pub async fn introduce_on(&mut self, id: SessionId) {
        let theirs = self.heard_on(id).await;
        assert!(matches!(theirs.body, FrameBody::Handshake(_)), "an introduction was due, not {theirs:?}");
        self.say_on(id, hello()).await;
    }

    /// Says something in the one session.
    pub async fn say(&mut self, body: FrameBody) {
        let id = self.session();
        self.say_on(id, body).await;
    }

    /// Says something in a session.
    pub async fn say_on(&mut self, id: SessionId, body: FrameBody) {
        let frame = self.line_of(id).seal_body(body);
        self.socket.send(&frame).await;
    }

    /// Says any plaintext in the one session.
    pub async fn say_plain(&mut self, plaintext: &[u8]) {
        let frame = self.line().seal_plain(plaintext);
        self.socket.send(&frame).await;
    }

    /// What the endpoint says next in the one session.
    pub async fn heard(&mut self) -> sbp::Frame {
        let id = self.session();
        self.heard_on(id).await
    }

    /// What the endpoint says next, which must be in this session.
    pub async fn heard_on(&mut self, id: SessionId) -> sbp::Frame {
        let frame = self.socket.frame().await;
        self.line_of(id).open(&frame)
    }

    /// What the endpoint says next in any session.
    ///
    /// # Panics
    /// If it is not Data of a session of this link.
    pub async fn heard_any(&mut self) -> (SessionId, sbp::Frame) {
        let frame = self.socket.frame().await;
        let Frame::Data { session, .. } = &frame else { panic!("Data was due, not {frame:?}") };
        let id = *session;
        (id, self.line_of(id).open(&frame))
    }

    /// What the endpoint says next in the one session, if anything comes within this time.
    pub async fn heard_within(&mut self, limit: std::time::Duration) -> Option<sbp::Frame> {
        tokio::time::timeout(limit, self.heard()).await.ok()
    }

    /// The envelope that the endpoint sends next in the one session.
    ///
    /// # Panics
    /// If it says something else.
    pub async fn envelope(&mut self) -> Envelope {
        let id = self.session();
        self.envelope_on(id).await
    }

    /// The envelope that the endpoint sends next in a session.
    ///
    /// # Panics
    /// If it says something else.
    pub async fn envelope_on(&mut self, id: SessionId) -> Envelope {
        let frame = self.heard_on(id).await;
        envelope_of(&frame).unwrap_or_else(|| panic!("an envelope was due, not {frame:?}"))
    }

    /// Sends an envelope in the one session, on the subject where it belongs.
    pub async fn send_envelope(&mut self, envelope: &Envelope) {
        let id = self.session();
        self.send_envelope_on(id, envelope).await;
    }

    /// Sends an envelope in a session, on the subject where it belongs.
    pub async fn send_envelope_on(&mut self, id: SessionId, envelope: &Envelope) {
        let subject = match envelope {
            Envelope::Event { .. } => "event",
            Envelope::Request { .. } | Envelope::Result { .. } | Envelope::Error { .. } => "rpc",
        };
        let data = envelope.encode();
        match envelope {
            // The cid is the request's frame id.
            Envelope::Request { cid, .. } => {
                let body = FrameBody::Message { subject: subject.to_owned(), data };
                let frame = sbp::Frame { id: *cid, timestamp: None, body };
                let frame = self.line_of(id).seal(&frame);
                self.socket.send(&frame).await;
            }
            Envelope::Result { .. } | Envelope::Error { .. } | Envelope::Event { .. } => {
                self.say_on(id, FrameBody::Message { subject: subject.to_owned(), data }).await;
            }
        }
    }

    /// Calls a method of the endpoint in the one session.
    pub async fn request(&mut self, method: &str, params: Value) -> FrameId {
        let id = self.session();
        self.request_on(id, method, params).await
    }

    /// Calls a method of the endpoint in a session.
    pub async fn request_on(&mut self, id: SessionId, method: &str, params: Value) -> FrameId {
        let cid = self.line_of(id).new_id();
        let params = Some(params.to_string().into());
        self.send_envelope_on(id, &Envelope::Request { method: method.to_owned(), params, cid }).await;
        cid
    }

    /// Sends an event in the one session.
    pub async fn event(&mut self, name: &str, data: Value) {
        let data = Some(data.to_string().into());
        self.send_envelope(&Envelope::Event { name: name.to_owned(), data }).await;
    }

    /// The endpoint's next call in the one session: method, params and cid.
    ///
    /// # Panics
    /// If it says something else.
    pub async fn called(&mut self) -> (String, Value, FrameId) {
        let id = self.session();
        self.called_on(id).await
    }

    /// The endpoint's next call in a session: method, params and cid.
    ///
    /// # Panics
    /// If it says something else.
    pub async fn called_on(&mut self, id: SessionId) -> (String, Value, FrameId) {
        match self.envelope_on(id).await {
            Envelope::Request { method, params, cid } => {
                let params = params.map(|json| serde_json::from_slice(&json).expect("params are JSON"));
                (method, params.unwrap_or_default(), cid)
            }
            other => panic!("a call was due, not {other:?}"),
        }
    }

    /// Answers a call of the endpoint in the one session.
    pub async fn answer(&mut self, cid: FrameId, result: Value) {
        self.send_envelope(&Envelope::Result { cid, result: Some(result.to_string().into()) }).await;
    }

    /// Proves that the one session still works both ways, and that nothing else came before: an SBP Ping is answered.
    ///
    /// # Panics
    /// If it is not.
    pub async fn is_alive(&mut self) {
        let id = self.session();
        self.is_alive_on(id).await;
    }

    /// As [`is_alive`](Self::is_alive), for a session.
    ///
    /// # Panics
    /// If it is not.
    pub async fn is_alive_on(&mut self, id: SessionId) {
        self.say_on(id, FrameBody::Ping).await;
        let answer = self.heard_on(id).await;
        assert_eq!(answer.body, FrameBody::Pong, "the session is alive");
    }

    /// Reads until the endpoint ends the socket: what was said, with other frames left out, and how it ended.
    pub async fn said_before_end(&mut self) -> (Vec<sbp::Frame>, Got) {
        let (frames, end) = self.socket.end().await;
        let mut said = Vec::new();
        for frame in frames {
            if let Frame::Data { session, .. } = &frame {
                said.push(self.line_of(*session).open(&frame));
            }
        }
        (said, end)
    }
}

/// The envelope in a Message on `rpc` or `event`.
pub fn envelope_of(frame: &sbp::Frame) -> Option<Envelope> {
    match &frame.body {
        FrameBody::Message { subject, data } if subject == "rpc" || subject == "event" => Envelope::parse(data).ok(),
        _ => None,
    }
}
