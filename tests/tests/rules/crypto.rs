//! Keys and sealing: CRY-01 to CRY-13.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use sideband::identity::{IdentityStore, StoreError};
use sideband_env::{BoxFuture, Timeline};
use sideband_protocol::{
    SessionId,
    client::CloseReason,
    crypto::{
        Accept, DEFAULT_WINDOW, Identity, IdentityKey, OpenError, Opener, ReplayWindow, SealError, Sealer, SessionKeys,
    },
    failure::Cause,
    peer::{CallId, Session, SessionLimits, SessionOutput},
    sbp::{self, FrameBody, FrameId, Introduction},
    wire::{ControlCode, Frame, NONCE_LEN, Reason, Signal, close},
};
use sideband_tests::script::{DAEMON, FarDaemon, Got, Line, World, session};

use crate::{
    both::{Arm, Endpoint, both, greet},
    endpoints::{account, connect, listen},
    witness::{due, witnesses},
};

/// The points of X25519 that contribute nothing, each with the highest bit clear; the bit is not read.
const LOW_ORDER: [&str; 7] = [
    // 0 and 1
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    // the two of order 8
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    // p − 1, p and p + 1
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Every encoding of a point that contributes nothing.
fn low_order_points() -> impl Iterator<Item = [u8; 32]> {
    LOW_ORDER.into_iter().flat_map(|hex| {
        let clear: [u8; 32] = HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap();
        let mut set = clear;
        set[31] |= 0x80;
        [clear, set]
    })
}

/// A store that shows its pin.
#[derive(Clone, Default)]
struct OnePin(Arc<Mutex<Option<IdentityKey>>>);

impl OnePin {
    fn pin(&self) -> Option<IdentityKey> {
        *self.0.lock().unwrap()
    }
}

impl IdentityStore for OnePin {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        let pin = self.pin();
        Box::pin(async move { Ok(pin) })
    }
    fn store<'a>(&'a self, _: &'a str, key: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        *self.0.lock().unwrap() = Some(key);
        Box::pin(async { Ok(()) })
    }
}

/// The signature of an Accept, by the rule's own words.
fn sign(identity: &Identity, daemon_id: &str, client: &[u8; 32], daemon: &[u8; 32]) -> [u8; 64] {
    let hash = Sha256::new_with_prefix("sbrp-v1-handshake").chain_update(daemon_id).chain_update(client);
    SigningKey::from_bytes(&identity.to_seed()).sign(&hash.chain_update(daemon).finalize()).to_bytes()
}

fn init_key(init: &Frame) -> [u8; 32] {
    match init {
        Frame::HandshakeInit { client_ephemeral, .. } => *client_ephemeral,
        other => panic!("a HandshakeInit was due, not {other:?}"),
    }
}

/// Direction and sequence of a Data frame.
fn nonce(frame: &Frame) -> (u32, u64) {
    let Frame::Data { payload, .. } = frame else { panic!("Data was due, not {frame:?}") };
    let (direction, sequence) = payload[..NONCE_LEN].split_at(4);
    (u32::from_be_bytes(direction.try_into().unwrap()), u64::from_be_bytes(sequence.try_into().unwrap()))
}

fn keys() -> SessionKeys {
    SessionKeys { client_to_daemon: [1; 32], daemon_to_client: [2; 32] }
}

/// The payload of a Data frame, with one change.
fn spoilt(frame: &Frame, spoil: impl FnOnce(&mut Vec<u8>)) -> Frame {
    let Frame::Data { session, payload } = frame else { panic!("Data was due, not {frame:?}") };
    let mut payload = payload.to_vec();
    spoil(&mut payload);
    Frame::Data { session: *session, payload: payload.into() }
}

fn ping(line: &mut Line) -> Frame {
    line.seal_body(FrameBody::Ping)
}

witnesses! {
    /// The key of one session says nothing about another's.
    async fn cry_01_each_session_has_fresh_keys(quirks) breaks_with [ReusesEphemeralKey] {
        both(quirks, async |setup| {
            let (mut world, _endpoint) = setup.start();
            let mut seen = Vec::new();
            match setup.arm {
                Arm::Client => for _ in 0..3 {
                    let (_, mut socket) = world.client_socket().await;
                    seen.push(init_key(&socket.frame().await));
                    socket.cut();
                },
                Arm::Daemon => {
                    let mut link = world.go_online(true).await;
                    for _ in 0..3 {
                        greet(&mut world, &mut link).await;
                        let Frame::HandshakeAccept { payload, .. } = link.socket.frame().await else { panic!("no Accept") };
                        seen.push(Accept::parse(&payload).unwrap().daemon_ephemeral);
                        assert!(matches!(link.socket.frame().await, Frame::Data { .. }), "an introduction was due");
                    }
                }
            }
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 3, "{:?} has used a key twice", setup.arm);
        })
        .await;
    }

    /// Whatever in the Accept does not fit its signature ends the attempt before anybody is asked and anything pinned.
    async fn cry_02_bad_signature_ends_before_trust(quirks) breaks_with [SkipsSignature] {
        let spoils: [fn(&FarDaemon, &[u8; 32], &mut Accept); 7] = [
            |_, _, accept| accept.signature[0] ^= 1,
            |_, _, accept| accept.signature[63] ^= 1,
            |_, _, accept| accept.signature = [0; 64],
            |_, _, accept| accept.identity = Identity::from_seed(&[9; 32]).public(),
            |_, _, accept| accept.daemon_ephemeral = *b"some key that nobody has signed!",
            |far, client, accept| accept.signature = sign(&far.identity, "d_other", client, &accept.daemon_ephemeral),
            |far, _, accept| accept.signature = sign(&far.identity, DAEMON, &[5; 32], &accept.daemon_ephemeral),
        ];
        for (row, spoil) in spoils.into_iter().enumerate() {
            let (mut world, env) = World::new(2);
            let (store, asked) = (OnePin::default(), Arc::new(AtomicU32::new(0)));
            let (first, again) = (asked.clone(), asked.clone());
            let client = account(&env, quirks)
                .identity_store(store.clone())
                .prompt(
                    move |_| { first.fetch_add(1, Ordering::SeqCst); async { true } },
                    move |_, _| { again.fetch_add(1, Ordering::SeqCst); async { true } },
                )
                .connect()
                .unwrap();
            let (_, mut socket) = world.client_socket().await;
            let init = socket.frame().await;
            let far = FarDaemon { daemon_id: DAEMON.to_owned(), identity: Identity::from_seed(&[3; 32]) };
            let (mut accept, line) = far.accept_parts(&init, world.entropy());
            spoil(&far, &init_key(&init), &mut accept);
            socket.send(&Frame::HandshakeAccept { session: line.session(), payload: (&accept).into() }).await;
            let (said, end) = socket.end().await;
            assert_eq!((said, end), (vec![], Got::Close(close::NORMAL)), "row {row}");
            let reason = client.closed().await;
            assert!(matches!(reason, CloseReason::Fatal(Cause::HandshakeFailed(_))), "row {row}: {reason:?}");
            assert_eq!((asked.load(Ordering::SeqCst), store.pin()), (0, None), "row {row}: asked or pinned");
        }
    }

    /// A key that contributes nothing is refused in each of its forms.
    async fn cry_03_low_order_keys_fail_the_handshake(quirks) breaks_with [TakesLowOrderKeys] {
        both(quirks, async |setup| {
            for point in low_order_points() {
                let (mut world, mut endpoint) = setup.start();
                match setup.arm {
                    Arm::Client => {
                        let (id, mut socket) = world.client_socket().await;
                        let init = socket.frame().await;
                        let identity = &world.daemon.identity;
                        let signature = sign(identity, DAEMON, &init_key(&init), &point);
                        let accept = Accept { identity: identity.public(), daemon_ephemeral: point, signature };
                        socket.send(&Frame::HandshakeAccept { session: id, payload: (&accept).into() }).await;
                        let (said, end) = socket.end().await;
                        assert_eq!((said, end), (vec![], Got::Close(close::NORMAL)), "client, {point:?}");
                    }
                    Arm::Daemon => {
                        let mut link = world.go_online(true).await;
                        let id = world.new_session();
                        link.socket.send(&Frame::HandshakeInit { session: id, client_ephemeral: point }).await;
                        let close = Frame::Signal { session: id, signal: Signal::Close, reason: Reason::Error };
                        assert_eq!(link.socket.frame().await, close, "daemon, {point:?}");
                    }
                }
                let cause = endpoint.cause().await;
                assert!(matches!(cause, Cause::HandshakeFailed(_)), "{:?}: {cause:?}", setup.arm);
            }
        })
        .await;
    }

    /// Nothing is pinned for a daemon whose key contributes nothing.
    async fn cry_03_low_order_key_pins_nothing(quirks) breaks_with [TakesLowOrderKeys] {
        let (mut world, env) = World::new(3);
        let store = OnePin::default();
        let client = account(&env, quirks).identity_store(store.clone()).connect().unwrap();
        let (id, mut socket) = world.client_socket().await;
        let init = socket.frame().await;
        let identity = &world.daemon.identity;
        let signature = sign(identity, DAEMON, &init_key(&init), &[0; 32]);
        let accept = Accept { identity: identity.public(), daemon_ephemeral: [0; 32], signature };
        socket.send(&Frame::HandshakeAccept { session: id, payload: (&accept).into() }).await;
        let _ = tokio::time::timeout(Duration::from_secs(60), client.closed()).await;
        assert_eq!(store.pin(), None);
    }

    /// 0, 1, 2, …, in the endpoint's direction; what was not sent is not counted.
    async fn cry_04_sequences_count_from_zero_by_one(quirks) breaks_with [SkipsSequences] {
        both(quirks, async |setup| {
            let mut meeting = setup.keys().await;
            let hello = meeting.link.socket.frame().await;
            assert_eq!(nonce(&hello), (setup.arm.ours() as u32, 0));
            meeting.link.line().open(&hello);
            meeting.link.say(FrameBody::Handshake(Introduction::new("p".to_owned()).to_json().into())).await;
            meeting.stands().await;
            meeting.peer().emit("too.large", "x".repeat(70_000)).await.expect_err("it does not fit");
            for sequence in 1..40 {
                meeting.link.say(FrameBody::Ping).await;
                let pong = meeting.link.socket.frame().await;
                assert_eq!(nonce(&pong), (setup.arm.ours() as u32, sequence), "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// The last sequence is never used: the session ends instead.
    async fn cry_05_session_ends_before_its_sequences_wrap(quirks) breaks_with [WrapsSequences] {
        both(quirks, async |setup| {
            let mut entropy = World::new(5).0;
            let (id, hello) = (session(5), Introduction::new("peer".to_owned()));
            let side = setup.arm.side();
            let mut under_test = Session::new(id, side, &keys(), &hello, SessionLimits::default(), entropy.entropy());
            under_test.set_quirks(quirks);
            let mut far = Sealer::new(&keys(), setup.arm.theirs());
            let mut say = |under_test: &mut Session, body| {
                let frame = sbp::Frame { id: FrameId::from_bytes([7; 16]), timestamp: None, body };
                under_test.handle_payload(far.seal_payload(&frame.encode()).unwrap(), entropy.entropy());
                std::iter::from_fn(|| under_test.poll_output()).collect::<Vec<_>>()
            };
            say(&mut under_test, FrameBody::Handshake(hello.to_json().into()));
            under_test.continue_at(u64::MAX - 1);
            let last = say(&mut under_test, FrameBody::Ping);
            let [SessionOutput::Frame(pong)] = &last[..] else { panic!("{side:?}: {last:?}") };
            assert_eq!(nonce(&Frame::decode(pong).unwrap()).1, u64::MAX - 1);
            let over = say(&mut under_test, FrameBody::Ping);
            assert_eq!(over, [SessionOutput::Ended(Cause::Exhausted)], "{side:?}");
            let mut world = World::new(6).0;
            let call = under_test.call(CallId(1), "m".to_owned(), None, None, false, world.entropy());
            assert!(call.is_err() && under_test.poll_output().is_none(), "{side:?} stops sending");
        })
        .await;
    }

    /// The same of the sealer alone: it counts no further.
    async fn cry_05_sealer_never_wraps(quirks) breaks_with [WrapsSequences] {
        both(quirks, async |setup| {
            let mut sealer = Sealer::starting_at(&[1; 32], setup.arm.ours(), u64::MAX - 1);
            sealer.set_quirks(quirks);
            assert!(sealer.seal_payload(b"the last").is_ok());
            for _ in 0..3 {
                assert_eq!(sealer.seal_payload(b"one more"), Err(SealError::Exhausted), "{:?}", setup.arm);
            }
        })
        .await;
    }

    /// A message that was seen before is refused without a word, and the session goes on.
    async fn cry_06_replay_is_refused_and_the_session_goes_on(quirks) breaks_with [ForgetsWindow, EndsOnReplay] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let frame = ping(meeting.link.line());
            meeting.link.socket.send(&frame).await;
            assert_eq!(meeting.link.heard().await.body, FrameBody::Pong);
            for _ in 0..3 {
                meeting.link.socket.send(&frame).await;
            }
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// The window is 1,024 wide: what lies in it comes in any order, what lies below is refused.
    async fn cry_06_window_takes_the_newest_1024(quirks) breaks_with [RefusesOutOfOrder, ForgetsWindow] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let highest = 5_000;
            for sequence in [highest, 4_999, highest - 1_023, 4_500, 4_501, highest - 1_022] {
                meeting.link.line().continue_at(sequence);
                meeting.link.say(FrameBody::Ping).await;
                assert_eq!(due(meeting.link.heard()).await.body, FrameBody::Pong, "{:?}: {sequence}", setup.arm);
            }
            for sequence in [highest - 1_024, highest - 1_025, 2_000, 1, 4_999, highest - 1_023, highest] {
                meeting.link.line().continue_at(sequence);
                meeting.link.say(FrameBody::Ping).await;
            }
            meeting.link.line().continue_at(highest + 1);
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// The window is asked before the message is opened: an old sequence is refused even if the message would not open.
    async fn cry_06_window_is_asked_before_opening(quirks) breaks_with [OpensBeforeWindow] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let frame = ping(meeting.link.line());
            meeting.link.socket.send(&frame).await;
            assert_eq!(meeting.link.heard().await.body, FrameBody::Pong);
            let forged = spoilt(&frame, |payload| *payload.last_mut().unwrap() ^= 1);
            meeting.link.socket.send(&forged).await;
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// The direction is looked at before the window: an old sequence does not save a message of the other direction.
    async fn cry_06_direction_is_checked_before_the_window(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let frame = ping(meeting.link.line());
            meeting.link.socket.send(&frame).await;
            assert_eq!(meeting.link.heard().await.body, FrameBody::Pong);
            let turned = spoilt(&frame, |payload| payload[3] ^= 3);
            meeting.link.socket.send(&turned).await;
            assert_eq!(meeting.ended_silently().await, Cause::DecryptFailed, "{:?}", setup.arm);
        })
        .await;
    }

    /// A jump over all numbers there are is done at once; after it the window is where it belongs.
    async fn cry_07_any_jump_costs_the_same(_quirks) breaks_with [] {
        for (from, to) in [(0, u64::MAX), (1, 1 << 63), (63, u64::MAX - 64), (u64::MAX - 2_000, u64::MAX)] {
            let mut window = ReplayWindow::new(DEFAULT_WINDOW);
            window.mark(from);
            window.mark(to);
            assert!(window.check(from).is_err() && window.check(to).is_err() && window.check(to - 1_024).is_err());
            for sequence in to - 1_023..to {
                assert_eq!(window.check(sequence), Ok(()), "from {from} to {to}");
            }
        }
    }

    /// A forged frame with a huge sequence pushes no genuine message out.
    async fn cry_08_forgery_does_not_move_the_window(quirks) breaks_with [MovesWindowFirst, MovesWindowForForgery] {
        both(quirks, async |setup| {
            let mut sealer = Sealer::new(&keys(), setup.arm.theirs());
            let mut opener = Opener::new(&keys(), setup.arm.theirs());
            opener.set_quirks(quirks);
            let first = sealer.seal_payload(b"first").unwrap();
            for huge in [1_024, 1 << 40, u64::MAX] {
                let mut forged = first.to_vec();
                forged[4..NONCE_LEN].copy_from_slice(&u64::to_be_bytes(huge));
                assert_eq!(opener.open(forged.into()), Err(OpenError::Forged), "{:?}", setup.arm);
            }
            assert_eq!(opener.open(first).as_deref(), Ok(&b"first"[..]), "{:?}", setup.arm);
            assert_eq!(opener.open(sealer.seal_payload(b"second").unwrap()).as_deref(), Ok(&b"second"[..]));
        })
        .await;
    }

    /// A message that does not open ends the session, whatever is wrong with it, and nothing of it is delivered.
    async fn cry_09_message_that_does_not_open_ends_the_session(quirks) breaks_with [GoesOnAfterForgery] {
        both(quirks, async |setup| {
            let spoils: [fn(&mut Vec<u8>); 6] = [
                |payload| payload[NONCE_LEN] ^= 1,
                |payload| *payload.last_mut().unwrap() ^= 0x80,
                |payload| payload[NONCE_LEN - 2] ^= 1,
                |payload| payload.truncate(28),
                |payload| payload.push(0),
                |payload| payload[NONCE_LEN..].fill(0),
            ];
            for (row, spoil) in spoils.into_iter().enumerate() {
                let mut meeting = setup.active().await;
                let mut messages = meeting.peer().messages();
                let said = FrameBody::Message { subject: "app/x".to_owned(), data: Bytes::from_static(b"genuine") };
                let frame = meeting.link.line().seal_body(said);
                meeting.link.socket.send(&spoilt(&frame, spoil)).await;
                assert_eq!(meeting.ended_silently().await, Cause::DecryptFailed, "{:?}, row {row}", setup.arm);
                meeting.link.socket.send(&frame).await;
                assert_eq!(messages.next().await, None, "{:?}: nothing is delivered after the end", setup.arm);
            }
        })
        .await;
    }

    /// A message whose nonce names the other direction ends the session, even if it would open.
    async fn cry_09_other_direction_ends_the_session(quirks) breaks_with [TakesOtherDirection] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let keys = meeting.link.line().keys().clone();
            let key = match setup.arm {
                Arm::Client => keys.daemon_to_client,
                Arm::Daemon => keys.client_to_daemon,
            };
            let mut sealer = Sealer::starting_at(&key, setup.arm.ours(), 77);
            let ping = sbp::Frame { id: FrameId::from_bytes([1; 16]), timestamp: None, body: FrameBody::Ping };
            let payload = sealer.seal_payload(&ping.encode()).unwrap();
            let id = meeting.link.session();
            meeting.link.socket.send(&Frame::Data { session: id, payload }).await;
            assert_eq!(meeting.ended_silently().await, Cause::DecryptFailed, "{:?}", setup.arm);
        })
        .await;
    }

    /// What the endpoint itself sealed does not come back to it as the other side's.
    async fn cry_09_reflected_message_ends_the_session(quirks) breaks_with [GoesOnAfterForgery] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            meeting.peer().emit("mine", 1).await.unwrap();
            let own = meeting.link.socket.frame().await;
            meeting.link.socket.send(&own).await;
            assert_eq!(meeting.ended_silently().await, Cause::DecryptFailed, "{:?}", setup.arm);
        })
        .await;
    }

    /// After the end the keys are gone, and nothing is sealed or opened with them any more.
    async fn cry_09_ended_session_has_no_keys(quirks) breaks_with [GoesOnAfterForgery, KeepsKeysOfEndedSession] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            let peer = meeting.peer();
            let forged = spoilt(&ping(meeting.link.line()), |payload| *payload.last_mut().unwrap() ^= 1);
            meeting.link.socket.send(&forged).await;
            // That it ends is another witness's to see.
            let _ = tokio::time::timeout(Duration::from_secs(1), meeting.ended()).await;
            assert!(peer.emit("late", 1).await.is_err(), "{:?}: an event went out after the end", setup.arm);
            match &meeting.endpoint {
                Endpoint::Client(client, _) => {
                    let reason = client.closed().await;
                    assert!(matches!(reason, CloseReason::Fatal(Cause::DecryptFailed)), "client: {reason:?}");
                    assert!(!client.holds_secrets(), "client: the keys are still there");
                }
                Endpoint::Daemon(server, _) => {
                    assert!(server.connections().is_empty(), "daemon: the session is still there");
                    assert!(!server.holds_session_keys(), "daemon: the session's keys are still there");
                    meeting.link.say(FrameBody::Ping).await;
                    let silence = meeting.link.socket.frame_within(Duration::from_secs(30)).await;
                    assert_eq!(silence, None, "daemon: a session that is over answered");
                }
            }
        })
        .await;
    }

    /// Data before the Accept ends a client's session as a malformed frame.
    async fn cry_10_data_before_the_accept_ends_a_clients_session(quirks) breaks_with [SkipsEarlyData] {
        let (mut world, env) = World::new(10);
        let client = connect(&env, quirks);
        let (id, mut socket) = world.client_socket().await;
        socket.frame().await;
        let payload = Sealer::new(&keys(), Arm::Client.theirs()).seal_payload(b"early").unwrap();
        socket.send(&Frame::Data { session: id, payload }).await;
        assert_eq!(socket.end().await, (vec![], Got::Close(close::PROTOCOL)));
        let reason = client.closed().await;
        assert!(matches!(reason, CloseReason::Fatal(Cause::MalformedFrame(_))), "{reason:?}");
    }

    /// Nothing sealed leaves a client before the Accept, and nothing but its introduction before the daemon's.
    async fn cry_10_client_seals_nothing_before_the_handshake_is_done(quirks) breaks_with [] {
        let (mut world, env) = World::new(10);
        let client = connect(&env, quirks);
        let waiting = client.clone();
        tokio::spawn(async move { waiting.call::<_, ()>("early", ()).await });
        client.emit("early", 1).await.unwrap();
        let (_, mut socket) = world.client_socket().await;
        let init = socket.frame().await;
        assert_eq!(socket.frame_within(Duration::from_secs(20)).await, None, "before the Accept");
        let (accept, mut line) = world.daemon.accept(&init, &mut *sideband_env::EntropySource::entropy(&*env.entropy));
        socket.send(&accept).await;
        let hello = socket.frame().await;
        assert!(matches!(line.open(&hello).body, FrameBody::Handshake(_)));
        assert_eq!(socket.frame_within(Duration::from_secs(5)).await, None, "before the daemon's introduction");
    }

    /// A daemon ignores Data of a session that it does not have: before its Init, and after its end.
    async fn cry_10_daemon_ignores_data_of_no_session(quirks) breaks_with [AnswersDataOfNoSession] {
        let (mut world, env) = World::new(10);
        let _server = listen(&env, quirks);
        let mut link = world.go_online(true).await;
        let (early, payload) = (session(99), Sealer::new(&keys(), Arm::Daemon.theirs()).seal_payload(b"early").unwrap());
        link.socket.send(&Frame::Data { session: early, payload }).await;
        assert_eq!(link.socket.frame_within(Duration::from_secs(1)).await, None);
        let id = world.meet(&mut link).await;
        link.is_alive_on(id).await;
        link.socket.control(ControlCode::SessionEnded, Some(id)).await;
        link.say_on(id, FrameBody::Ping).await;
        assert_eq!(link.socket.frame_within(Duration::from_secs(30)).await, None);
        let other = world.meet(&mut link).await;
        link.is_alive_on(other).await;
    }

    /// A daemon's Accept is the first thing that it sends in a session.
    async fn cry_10_daemon_sends_the_accept_first(quirks) breaks_with [] {
        let (mut world, env) = World::new(10);
        let _server = listen(&env, quirks);
        let mut link = world.go_online(true).await;
        let (id, far) = greet(&mut world, &mut link).await;
        let accept = link.socket.frame().await;
        assert!(matches!(accept, Frame::HandshakeAccept { session, .. } if session == id), "{accept:?}");
        link.add(far.finish(&accept));
        assert!(matches!(link.heard().await.body, FrameBody::Handshake(_)));
    }

    /// 30 s for everything, the introductions included.
    async fn cry_11_introduction_ends_within_30_s(quirks) breaks_with [WaitsForHandshakeForEver] {
        both(quirks, async |setup| {
            let mut meeting = setup.keys().await;
            let since = Timeline::start();
            let ending = meeting.ended().await;
            let waited = since.elapsed().as_secs_f64();
            assert!((29.9..30.2).contains(&waited), "{:?}: {waited} s", setup.arm);
            assert_eq!(ending.cause, Cause::HandshakeTimeout, "{:?}", setup.arm);
        })
        .await;
    }

    /// A client's time runs from the WebSocket's opening: a late Accept buys none.
    async fn cry_11_clients_time_runs_from_the_open_socket(quirks) breaks_with [WaitsForHandshakeForEver] {
        for accept_after in [None, Some(Duration::from_secs(25))] {
            let (mut world, env) = World::new(11);
            let client = connect(&env, quirks);
            let mut events = client.events();
            let (_, mut socket) = world.client_socket().await;
            let since = Timeline::start();
            let init = socket.frame().await;
            if let Some(delay) = accept_after {
                assert_eq!(socket.frame_within(delay).await, None);
                let far = FarDaemon { daemon_id: DAEMON.to_owned(), identity: Identity::from_seed(&[1; 32]) };
                socket.send(&far.accept(&init, world.entropy()).0).await;
            }
            let ended = tokio::time::timeout(Duration::from_secs(60), socket.end()).await;
            assert_eq!(ended.expect("an end").1, Got::Close(close::NORMAL));
            let waited = since.elapsed().as_secs_f64();
            assert!((29.9..30.2).contains(&waited), "{waited} s");
            let cause = loop {
                if let sideband::Lifecycle::Retrying { cause, .. } = events.next().await.unwrap() {
                    break cause;
                }
            };
            assert_eq!(cause, Cause::HandshakeTimeout);
        }
    }

    /// A session that stands has no such limit.
    async fn cry_11_session_that_stands_is_left_alone(quirks) breaks_with [] {
        both(quirks, async |setup| {
            let mut meeting = setup.active().await;
            assert_eq!(meeting.link.heard_within(Duration::from_secs(40)).await, None);
            meeting.goes_on_silently().await;
        })
        .await;
    }

    /// What holds a secret wipes it on drop, and shows it to no log.
    async fn cry_12_secrets_are_wiped_and_never_shown(_quirks) breaks_with [] {
        const fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
        is_wiped::<SessionKeys>();
        is_wiped::<x25519_dalek::StaticSecret>();
        is_wiped::<SigningKey>();
        let mut secret = keys();
        let mut world = World::new(12).0;
        let id = SessionId::new(12).unwrap();
        let hello = Introduction::new("peer".to_owned());
        let limits = SessionLimits::default();
        let session = Session::new(id, Arm::Client.side(), &secret, &hello, limits, world.entropy());
        for shown in [format!("{secret:?}"), format!("{session:?}")] {
            assert!(!shown.contains("1, 1, 1") && !shown.contains("2, 2, 2"), "{shown}");
        }
        zeroize::Zeroize::zeroize(&mut secret);
        assert_eq!((secret.client_to_daemon, secret.daemon_to_client), ([0; 32], [0; 32]));
    }

    /// The fingerprint that users see is that of the identity key's bytes, in the one notation.
    async fn cry_13_fingerprint_is_of_the_keys_bytes(quirks) breaks_with [FingerprintOfText] {
        fn expected(key: &IdentityKey) -> String {
            let hex: Vec<_> = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02X}")).collect();
            format!("SHA256:{}", hex.join(":"))
        }
        both(quirks, async |setup| match setup.arm {
            Arm::Client => {
                let (mut world, env) = World::new(13);
                let (shown, mut asked) = tokio::sync::mpsc::unbounded_channel();
                let _client = account(&env, quirks)
                    .prompt(
                        move |fingerprint| { shown.send(fingerprint.to_string()).unwrap(); async { true } },
                        |_, _| async { false },
                    )
                    .connect()
                    .unwrap();
                let _link = world.client_keys().await;
                assert_eq!(asked.recv().await, Some(expected(&world.daemon.identity.public())), "client");
            }
            Arm::Daemon => {
                let (_world, env) = World::new(13);
                let identity = Identity::from_seed(&[13; 32]);
                let key = identity.public();
                let server = crate::endpoints::daemon(&env, quirks).identity(identity).start().unwrap();
                assert_eq!(server.fingerprint().to_string(), expected(&key), "daemon");
            }
        })
        .await;
    }

    /// A known answer, and back.
    async fn cry_13_fingerprint_reads_as_it_is_written(_quirks) breaks_with [] {
        let shown = IdentityKey::from_bytes([0; 32]).fingerprint().to_string();
        let known = "SHA256:66:68:7A:AD:F8:62:BD:77:6C:8F:C1:8B:8E:9F:8E:20:08:97:14:85:6E:E2:33:B3:90:2A:59:1D:0D:5F:29:25";
        assert_eq!(shown, known);
        assert_eq!(shown.parse(), Ok(IdentityKey::from_bytes([0; 32]).fingerprint()));
        let lower = shown.replace("AD", "ad");
        for bad in ["", "SHA256:", &known[7..], &known[..known.len() - 3], &lower[..]] {
            assert!(bad.parse::<sideband::Fingerprint>().is_err(), "{bad}");
        }
    }
}
