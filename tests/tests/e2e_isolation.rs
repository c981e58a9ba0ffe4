//! Two clients of one daemon: one client's fault is its own (REL-04, DMN-06, DMN-15).

mod support;

use bytes::Bytes;
use sideband::{Client, Server, ServerEvent, SessionId, State};
use sideband_protocol::{
    crypto::{Accept, ClientHandshake, Direction, Opener, Sealer},
    failure::Cause,
    wire::{
        ControlCode::{self, SessionExpired},
        Frame, HEADER_LEN, MAX_PAYLOAD,
    },
};
use sideband_sim_kit::event::EventKind;
use tokio_tungstenite::tungstenite::Message;

use self::support::*;

/// A daemon, a client of the SDK whose session stands and must go on standing, and what both report.
struct Bench {
    world: World,
    server: Server,
    client: Client,
    session: SessionId,
}

impl Bench {
    async fn start() -> Self {
        let world = World::start().await;
        let server = world.serve().await;
        let client = world.client().await;
        // A client is active before its introduction has reached the daemon; an answer has come after that.
        echoes(&client).await;
        let session = server.connections()[0].session();
        Self { world, server, client, session }
    }

    /// The session of before still answers, and nothing ever happened to it.
    async fn is_untouched(&self) {
        echoes(&self.client).await;
        assert_eq!(*self.client.state().borrow(), State::Active);
        assert!(self.server.connections().iter().any(|connection| connection.session() == self.session));
        let events = self.world.cloud.events().recent();
        let own = events.iter().find_map(|event| match event.kind {
            EventKind::Opened { connection, .. } if event.session == Some(self.session) => Some(connection),
            _ => None,
        });
        let something = events.iter().find(|event| match &event.kind {
            EventKind::Session { state } => event.session == Some(self.session) && state != "paired",
            EventKind::Control { connection, .. } => Some(*connection) == own,
            _ => false,
        });
        assert_eq!(something, None);
        assert!(own.is_some());
    }
}

/// A raw client that has agreed on keys with a daemon of the SDK.
struct Keyed {
    peer: Peer,
    session: SessionId,
    seal: Sealer,
    open: Opener,
}

impl Keyed {
    async fn new(world: &World) -> Self {
        let (session, mut peer) = world.raw_client().await;
        let handshake = ClientHandshake::new(&mut *world.env.entropy.entropy());
        peer.send(Frame::HandshakeInit { session, client_ephemeral: *handshake.public() }.encode()).await;
        let Frame::HandshakeAccept { payload, .. } = peer.frame().await else { panic!("no HandshakeAccept") };
        let keys = handshake.finish(world.daemon_id(), &Accept::parse(&payload).unwrap()).unwrap();
        Self {
            peer,
            session,
            seal: Sealer::new(&keys, Direction::ClientToDaemon),
            open: Opener::new(&keys, Direction::DaemonToClient),
        }
    }

    /// The payload of the next Data frame, opened.
    async fn opened(&mut self) -> Bytes {
        let Frame::Data { payload, .. } = self.peer.frame().await else { panic!("no Data") };
        self.open.open(payload).unwrap()
    }

    async fn send(&mut self, plaintext: &[u8]) {
        let payload = self.seal.seal_payload(plaintext).unwrap();
        self.peer.send(data(self.session, payload)).await;
    }
}

async fn ends_as(server: &mut sideband::ServerEvents, session: SessionId) -> Cause {
    let wanted = |event: &ServerEvent| matches!(event, ServerEvent::Refused { session: s, .. } | ServerEvent::Closed { session: s, .. } if *s == session);
    match server_event(server, wanted).await {
        ServerEvent::Refused { cause, .. } | ServerEvent::Closed { cause, .. } => cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn dmn_06_two_clients_of_one_daemon_share_nothing_but_the_socket() {
    let bench = Bench::start().await;
    let other = bench.world.client().await;
    echoes(&other).await;
    let sessions = bench.server.connections();
    assert_eq!(sessions.len(), 2);
    assert_ne!(sessions[0].peer_id(), sessions[1].peer_id());
    let calls = (0..50).map(|n| {
        let client = if n % 2 == 0 { &bench.client } else { &other };
        async move { assert_eq!(client.call::<_, i64>("echo", n).await.unwrap(), n) }
    });
    soon(futures_util::future::join_all(calls)).await;
    // An event for one is not for the other.
    let mut mine = bench.client.subscribe(">").unwrap();
    let mut theirs = other.subscribe(">").unwrap();
    let connection = sessions.iter().find(|connection| connection.session() == bench.session).unwrap();
    connection.emit("mine", 1).await.unwrap();
    assert_eq!(bench.server.broadcast("all", 2).await.unwrap(), 2);
    assert_eq!(soon(mine.next()).await.unwrap().name(), "mine");
    assert_eq!(soon(mine.next()).await.unwrap().name(), "all");
    assert_eq!(soon(theirs.next()).await.unwrap().name(), "all");
}

#[tokio::test]
async fn rel_04_garbage_of_one_client_leaves_the_other_alone() {
    let bench = Bench::start().await;
    bench.world.has_wrong_peers();
    let garbage: [(&[u8], ControlCode, u16); 4] = [
        (b"", ControlCode::MalformedFrame, 1002),
        (b"garbage that is no frame at all", ControlCode::PayloadTooLarge, 1002),
        (&[0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], ControlCode::InvalidFrameType, 1002),
        (&[0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], ControlCode::InvalidSessionId, 1002),
    ];
    for (bytes, code, close) in garbage {
        let (_, mut peer) = bench.world.raw_client().await;
        peer.send(Bytes::copy_from_slice(bytes)).await;
        assert_eq!(peer.got().await, control(code, 0));
        peer.is_closed(close).await;
    }
    for (message, close) in [(Message::text("text"), 1003), (Message::binary(vec![0; (1 << 20) + 1]), 1009)] {
        let (_, mut peer) = bench.world.raw_client().await;
        peer.send_message(message).await;
        peer.is_closed(close).await;
    }
    bench.is_untouched().await;
}

#[tokio::test]
async fn rel_04_a_client_cannot_speak_for_anothers_session() {
    let bench = Bench::start().await;
    bench.world.has_wrong_peers();
    let (_, mut peer) = bench.world.raw_client().await;
    peer.send(data(bench.session, vec![0; 40])).await;
    assert_eq!(peer.got().await, control(ControlCode::SessionNotFound, bench.session.get()));
    peer.is_closed(1000).await;
    bench.is_untouched().await;
}

#[tokio::test]
async fn cry_09_tampered_data_ends_that_session_only() {
    let bench = Bench::start().await;
    let mut events = bench.server.events_from_now();
    let mut keyed = Keyed::new(&bench.world).await;
    keyed.opened().await;
    let sealed = keyed.seal.seal_payload(b"whatever").unwrap();
    let mut tampered = sealed.to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    keyed.peer.send(data(keyed.session, tampered)).await;
    assert_eq!(ends_as(&mut events, keyed.session).await, Cause::DecryptFailed);
    assert_eq!(keyed.peer.got().await, control(SessionExpired, keyed.session.get()), "DMN-15: Signal(close, error)");
    keyed.peer.is_closed(1000).await;
    bench.is_untouched().await;
}

#[tokio::test]
async fn dmn_15_a_clients_fault_ends_its_session_only() {
    let bench = Bench::start().await;
    bench.world.has_wrong_peers();
    let world = &bench.world;
    let mut events = bench.server.events_from_now();

    // SBP: something before the introduction (SBP-03).
    let mut keyed = Keyed::new(world).await;
    keyed.opened().await;
    let mut message = vec![1, 0];
    message.extend([7; 16]);
    message.extend(3u32.to_le_bytes());
    message.extend(b"rpc{}");
    keyed.send(&message).await;
    assert!(matches!(ends_as(&mut events, keyed.session).await, Cause::PeerViolation { .. }));

    // SBRP: a second HandshakeInit (WIRE-21).
    let mut keyed = Keyed::new(world).await;
    keyed.opened().await;
    let again = Frame::HandshakeInit { session: keyed.session, client_ephemeral: [9; 32] };
    keyed.peer.send(again.encode()).await;
    assert!(matches!(ends_as(&mut events, keyed.session).await, Cause::MalformedFrame(_)));
    assert_eq!(keyed.peer.got().await, control(SessionExpired, keyed.session.get()));

    // A low-order key (CRY-03).
    let (session, mut peer) = world.raw_client().await;
    peer.send(Frame::HandshakeInit { session, client_ephemeral: [0; 32] }.encode()).await;
    assert!(matches!(ends_as(&mut events, session).await, Cause::HandshakeFailed(_)));
    assert_eq!(peer.got().await, control(SessionExpired, session.get()));

    // A HandshakeInit of another size, which the relay forwards and the daemon refuses (WIRE-02).
    let (session, mut peer) = world.raw_client().await;
    let mut short = vec![0x01, 0, 0, 0, 31];
    short.extend(session.get().to_be_bytes());
    short.extend([1; 31]);
    peer.send(short.into()).await;
    assert!(matches!(ends_as(&mut events, session).await, Cause::MalformedFrame(_)));
    assert_eq!(peer.got().await, control(SessionExpired, session.get()));

    bench.is_untouched().await;
}

#[tokio::test]
async fn dmn_10_a_client_that_vanishes_ends_its_session_only() {
    let bench = Bench::start().await;
    let mut events = bench.server.events_from_now();
    // Before its handshake, during it, and after it.
    let (_, peer) = bench.world.raw_client().await;
    drop(peer);
    let keyed = Keyed::new(&bench.world).await;
    let session = keyed.session;
    drop(keyed);
    ends_as(&mut events, session).await;
    let other = bench.world.client().await;
    echoes(&other).await;
    let session = bench.server.connections().iter().map(|c| c.session()).find(|s| *s != bench.session).unwrap();
    assert!(bench.world.cloud.relay().drop_session(session));
    let cause = ends_as(&mut events, session).await;
    assert_eq!(cause, Cause::Control(Ok(ControlCode::SessionEnded)));
    // The SDK's client comes back with another session.
    echoes(&other).await;
    bench.is_untouched().await;
}

#[tokio::test]
async fn rel_04_a_burst_of_one_client_costs_the_other_nothing() {
    let bench = Bench::start().await;
    bench.world.has_wrong_peers();
    let (session, mut peer) = bench.world.raw_client().await;
    // Data of a session that never shook hands: the relay forwards it, the daemon ignores it (DMN-06).
    let frame = data(session, vec![0; MAX_PAYLOAD]);
    assert_eq!(frame.len(), HEADER_LEN + MAX_PAYLOAD);
    let burst = async {
        for _ in 0..200 {
            peer.send(frame.clone()).await;
        }
        peer.is_undisturbed().await;
    };
    let calls = async {
        for _ in 0..20 {
            echoes(&bench.client).await;
        }
    };
    futures_util::future::join(burst, calls).await;
    bench.is_untouched().await;
}
