//! On the socket, before and after the session stands: key exchange, trust, introductions, frames that must not come.

use bytes::Bytes;
use sideband_protocol::{
    client::{ClientConfig, CloseReason, Done, Job, Report, State},
    crypto::{TrustPolicy, TrustQuestion},
    endpoint::Endpoint as _,
    endpoint::Forbidden,
    failure::Cause,
    sbp::{ErrorCode, FrameBody, Introduction},
    wire::{Frame, Reason, Signal, close},
};

use super::world::{ClientDid, Outcome, Stage, World, account, ended_calls, origin_plus, outcome};
use crate::common::{
    at,
    bench::{Did, identity, seconds},
    id,
};

fn under(trust: TrustPolicy) -> ClientConfig {
    ClientConfig { trust, ..account() }
}

fn jobs(log: &[ClientDid]) -> Vec<Job> {
    log.iter().filter_map(|did| if let Did::Start(job) = did { Some(job.clone()) } else { None }).collect()
}

fn fatal(cause: Cause) -> Outcome {
    Outcome::Closed(CloseReason::Fatal(cause))
}

// ---- the trust table ----

#[derive(Debug, Clone, Copy, PartialEq)]
enum Row {
    GoOn,
    Pin,
    Ask,
    Failed,
    Changed,
}

/// TRU-02, TRU-03, TRU-05: every cell of the table in `2-crypto.md`.
#[test]
fn tru_03_trust_table() {
    let (shown, other) = (identity(1).public(), identity(2).public());
    let table = [
        (TrustPolicy::Auto, None, Row::Pin),
        (TrustPolicy::Auto, Some(shown), Row::GoOn),
        (TrustPolicy::Auto, Some(other), Row::Pin),
        (TrustPolicy::Prompt, None, Row::Ask),
        (TrustPolicy::Prompt, Some(shown), Row::GoOn),
        (TrustPolicy::Prompt, Some(other), Row::Ask),
        (TrustPolicy::PinnedOnly, None, Row::Failed),
        (TrustPolicy::PinnedOnly, Some(shown), Row::GoOn),
        (TrustPolicy::PinnedOnly, Some(other), Row::Changed),
    ];
    let store = Job::StorePin { daemon_id: "d_1".to_owned(), key: shown };
    let changed = Cause::IdentityChanged { expected: other.fingerprint(), received: shown.fingerprint() };
    for (policy, pin, row) in table {
        let mut world = World::fresh_at(Stage::Pin, under(policy));
        world.bench.done(Done::Pin(Ok(pin)));
        let log = world.bench.take();
        let case = format!("{policy:?}, {pin:?}");
        match row {
            Row::GoOn => assert!(matches!(log[..], [Did::Sent(Frame::Data { .. })]), "{case}: {log:?}"),
            Row::Pin => assert_eq!(log, [Did::Start(store.clone())], "{case}"),
            Row::Failed => assert!(
                matches!(outcome(&log), Outcome::Closed(CloseReason::Fatal(Cause::HandshakeFailed(_)))),
                "{case}: {log:?}"
            ),
            Row::Changed => assert_eq!(outcome(&log), fatal(changed.clone()), "{case}"),
            Row::Ask => {
                let question = match pin {
                    None => TrustQuestion::FirstConnection { fingerprint: shown.fingerprint() },
                    Some(pin) => TrustQuestion::Mismatch { expected: pin.fingerprint(), received: shown.fingerprint() },
                };
                assert_eq!(log, [Did::Start(Job::AskTrust(question))], "{case}");
                world.bench.done(Done::Answered(true));
                assert_eq!(world.bench.take(), [Did::Start(store.clone())], "{case}, yes");

                let mut world = World::fresh_at(Stage::Pin, under(policy));
                world.bench.done(Done::Pin(Ok(pin)));
                world.bench.take();
                world.bench.done(Done::Answered(false));
                let log = world.bench.take();
                match pin {
                    None => assert!(
                        matches!(outcome(&log), Outcome::Closed(CloseReason::Fatal(Cause::HandshakeFailed(_)))),
                        "{case}, no: {log:?}"
                    ),
                    Some(_) => assert_eq!(outcome(&log), fatal(changed.clone()), "{case}, no"),
                }
                assert_eq!(jobs(&log), [], "{case}, no: nothing is pinned");
            }
        }
    }
}

/// TRU-03: a store that fails, reading or writing, fails the connection for good; no sealed word was said before.
#[test]
fn tru_03_store_that_fails_fails_the_connection() {
    for stage in [Stage::Pin, Stage::Store] {
        let mut world = World::fresh_at(stage, account());
        let cause = Cause::IdentityStore("disk full".to_owned());
        world.fail_job(cause.clone());
        let log = world.bench.take();
        assert_eq!(outcome(&log), fatal(cause), "{stage:?}");
        assert!(!log.iter().any(|did| matches!(did, Did::Sent(_))), "{stage:?}");
    }
}

/// TRU-04: nobody answers until the handshake's time is over: a no, for good, and the question is withdrawn.
#[test]
fn tru_04_unanswered_question_counts_as_a_no() {
    let (shown, other) = (identity(1).public(), identity(2).public());
    for pin in [None, Some(other)] {
        let mut world = World::fresh_at(Stage::Pin, under(TrustPolicy::Prompt));
        world.bench.done(Done::Pin(Ok(pin)));
        world.bench.advance_alive(seconds(29));
        assert!(world.bench.job.is_some());
        world.bench.take();
        world.bench.advance_alive(seconds(1));
        let log = world.bench.take();
        match outcome(&log) {
            Outcome::Closed(CloseReason::Fatal(Cause::HandshakeFailed(_))) => assert_eq!(pin, None),
            closed => {
                let (expected, received) = (other.fingerprint(), shown.fingerprint());
                assert_eq!(closed, fatal(Cause::IdentityChanged { expected, received }));
                assert_eq!(pin, Some(other));
            }
        }
        assert_eq!(world.bench.job, None);
        world.bench.advance(seconds(1_000));
        assert_eq!(world.bench.take(), [], "nobody is asked again");
    }
}

// ---- the key exchange ----

/// CRY-02: before any trust decision: no pin is read or written, nobody is asked.
#[test]
fn cry_02_bad_signature_is_fatal_and_asks_nothing() {
    for trust in [TrustPolicy::Auto, TrustPolicy::Prompt, TrustPolicy::PinnedOnly] {
        for at in [0, 31, 32, 63, 64, 127] {
            let mut world = World::at(Stage::Init, under(trust));
            let Frame::HandshakeAccept { session, payload } = world.make_accept() else { panic!("an Accept") };
            let mut payload = payload.to_vec();
            payload[at] ^= 1;
            world.bench.receive(&Frame::HandshakeAccept { session, payload: payload.into() });
            let log = world.bench.take();
            assert!(
                matches!(outcome(&log), Outcome::Closed(CloseReason::Fatal(Cause::HandshakeFailed(_)))),
                "byte {at}: {log:?}"
            );
            assert_eq!(jobs(&log), [], "byte {at}");
        }
    }
}

/// CRY-02: an Accept for another daemon's id does not verify.
#[test]
fn cry_02_accept_of_another_daemon_is_fatal() {
    let config = ClientConfig::new(sideband_protocol::client::Access::Account { daemon_id: "d_2".to_owned() });
    let mut world = World::at(Stage::Init, config);
    world.accept();
    let log = world.bench.take();
    assert!(matches!(outcome(&log), Outcome::Closed(CloseReason::Fatal(Cause::HandshakeFailed(_)))), "{log:?}");
}

/// CRY-01, SBP-03: key and peer id are new for each attempt; the introduction is the first sealed frame, sent at once.
#[test]
fn cry_01_each_attempt_has_a_fresh_key_and_peer_id() {
    let mut config = account();
    config.retry.max_retries = 0;
    let mut world = World::new(config);
    let mut seen = std::collections::BTreeSet::new();
    for attempt in 1..4 {
        world.go(Stage::Init);
        let Some(Did::Sent(Frame::HandshakeInit { client_ephemeral, .. })) = world.bench.take().pop() else {
            panic!("a HandshakeInit");
        };
        assert!(seen.insert(client_ephemeral.to_vec()), "attempt {attempt}");
        // Once more, with the frame in the log.
        world.bench.lose(None);
        world.next_attempt();
        world.go(Stage::Store);
        world.bench.take();
        world.bench.done(Done::PinStored(Ok(())));
        let [hello] = &world.bench.sent()[..] else { panic!("one frame") };
        let FrameBody::Handshake(json) = world.open(hello).body else { panic!("an introduction") };
        let said = Introduction::parse(&json).unwrap();
        assert!(seen.insert(said.peer_id.into_bytes()), "attempt {attempt}");
        world.bench.lose(None);
        world.next_attempt();
    }
}

/// CRY-10: Data before the Accept ends the session.
#[test]
fn cry_10_data_before_the_accept_is_malformed() {
    let mut world = World::fresh_at(Stage::Init, account());
    let data = Frame::Data { session: world.session(), payload: Bytes::from_static(&[0; 28]) };
    world.bench.receive(&data);
    let log = world.bench.take();
    assert!(matches!(outcome(&log), Outcome::Closed(CloseReason::Fatal(Cause::MalformedFrame(_)))), "{log:?}");
    assert_eq!(log[0], Did::Close(close::PROTOCOL));
}

/// CRY-10: nothing sealed is sent before the identity is trusted; the daemon's introduction that came meanwhile counts.
#[test]
fn cry_10_introduction_that_came_before_the_trust_decision_is_opened_after_it() {
    for stage in [Stage::Pin, Stage::Store] {
        let mut world = World::fresh_at(stage, account());
        let hello = world.daemon_hello.take().unwrap();
        world.bench.receive(&hello);
        assert_eq!(world.bench.take(), [], "{stage:?}");
        if stage == Stage::Pin {
            world.bench.done(Done::Pin(Ok(Some(identity(1).public()))));
        } else {
            world.bench.done(Done::PinStored(Ok(())));
        }
        assert_eq!(world.state(), State::Active, "{stage:?}");
        let log = world.bench.take();
        assert!(matches!(log[0], Did::Sent(Frame::Data { .. })), "our introduction goes first: {log:?}");
    }
}

#[test]
fn early_messages_are_bounded() {
    let mut config = account();
    config.limits.waiting_frames = 3;
    let mut world = World::fresh_at(Stage::Pin, config);
    for _ in 0..4 {
        let data = world.seal(b"x");
        assert!(world.bench.has_socket);
        world.bench.receive(&data);
    }
    assert!(matches!(outcome(&world.bench.take()), Outcome::Retry(Cause::Overflow(_))));
}

/// CRY-11: 30 s from the WebSocket's opening, introductions included, at whatever step; retried (CLI-05).
#[test]
fn cry_11_handshake_ends_within_30_s() {
    for stage in Stage::NEGOTIATING {
        let mut world = World::fresh_at(stage, account());
        world.bench.advance_alive(seconds(30) - std::time::Duration::from_nanos(1));
        assert_eq!(outcome(&world.bench.take()), Outcome::Nothing, "{stage:?}");
        world.bench.advance_alive(std::time::Duration::from_nanos(1));
        let log = world.bench.take();
        assert_eq!(outcome(&log), Outcome::Retry(Cause::HandshakeTimeout), "{stage:?}");
        assert_eq!(log[0], Did::Close(close::NORMAL));
        assert!(!world.bench.has_socket && world.bench.job.is_none());
    }
}

/// CRY-11: the time runs from the opening, not from the last step.
#[test]
fn cry_11_steps_do_not_restart_the_time() {
    let mut world = World::fresh_at(Stage::Pin, account());
    world.bench.advance_alive(seconds(20));
    world.bench.done(Done::Pin(Ok(None)));
    world.bench.done(Done::PinStored(Ok(())));
    world.bench.advance_alive(seconds(10));
    assert_eq!(outcome(&world.bench.take()), Outcome::Retry(Cause::HandshakeTimeout));
    assert!(world.bench.now >= at(30) && world.bench.now == origin_plus(seconds(30)));
}

// ---- sealed traffic ----

/// CRY-09: a forged message ends the session for good; calls end.
#[test]
fn cry_09_forged_message_ends_the_session() {
    for stage in [Stage::Hello, Stage::Active, Stage::Paused] {
        let mut world = World::fresh_at(stage, account());
        let call = if stage == Stage::Active { Some(world.call("m").unwrap()) } else { None };
        world.bench.take();
        let Frame::Data { session, payload } = world.seal(b"x") else { panic!("Data") };
        let mut payload = payload.to_vec();
        *payload.last_mut().unwrap() ^= 1;
        world.bench.receive(&Frame::Data { session, payload: payload.into() });
        let log = world.bench.take();
        assert_eq!(outcome(&log), fatal(Cause::DecryptFailed), "{stage:?}");
        if let Some(call) = call {
            assert_eq!(ended_calls(&log).iter().map(|(ended, _)| *ended).collect::<Vec<_>>(), [call]);
        }
    }
}

/// CRY-06: a message that came before is refused, and the session goes on.
#[test]
fn cry_06_replayed_message_is_refused_and_the_session_goes_on() {
    let mut world = World::fresh_at(Stage::Active, account());
    let event = sideband_protocol::sbp::Frame {
        id: sideband_protocol::sbp::FrameId::from_bytes([1; 16]),
        timestamp: None,
        body: FrameBody::Message { subject: "event".to_owned(), data: Bytes::from_static(br#"{"t":"N","e":"x"}"#) },
    };
    let frame = world.seal(&event.encode());
    for _ in 0..3 {
        world.bench.receive(&frame);
    }
    assert_eq!(world.bench.take().len(), 1, "one event");
    assert_eq!(world.state(), State::Active);
}

/// SBP-03, CLI-05: what comes first must be an introduction in our version.
#[test]
fn sbp_03_first_frame_of_the_daemon() {
    let said = |text: &'static str| FrameBody::Handshake(Bytes::from_static(text.as_bytes()));
    let table = [
        (said(r#"{"protocol":"other","version":"1","peerId":"p"}"#), ErrorCode::UnsupportedVersion),
        (said(r#"{"protocol":"sideband","version":"2","peerId":"p"}"#), ErrorCode::UnsupportedVersion),
        (said("{"), ErrorCode::InvalidFrame),
        (said(r#"{"protocol":"sideband","version":"1"}"#), ErrorCode::InvalidFrame),
        (FrameBody::Ping, ErrorCode::ProtocolViolation),
        (
            FrameBody::Message { subject: "event".to_owned(), data: Bytes::from_static(br#"{"t":"N","e":"x"}"#) },
            ErrorCode::ProtocolViolation,
        ),
    ];
    for (body, code) in table {
        let mut world = World::at(Stage::Hello, account());
        let hello = world.bench.sent();
        world.open(&hello[0]);
        world.say(body.clone());
        let log = world.bench.take();
        let Did::Sent(answer) = &log[0] else { panic!("{body:?}: {log:?}") };
        let FrameBody::Error { code: answered, .. } = world.open(answer).body else { panic!("an Error") };
        assert_eq!(answered, code.code(), "{body:?}");
        match outcome(&log) {
            Outcome::Closed(CloseReason::Fatal(Cause::PeerViolation { code: ended, .. })) => {
                assert_eq!((ended, code), (ErrorCode::UnsupportedVersion, ErrorCode::UnsupportedVersion));
            }
            Outcome::Retry(Cause::PeerViolation { code: ended, .. }) => {
                assert!(ended == code && code != ErrorCode::UnsupportedVersion);
            }
            other => panic!("{body:?}: {other:?}"),
        }
    }
}

// ---- frames that must not come ----

/// WIRE-02: frames of a wrong size, and everything that is no frame, at every stage with a socket.
#[test]
fn wire_02_malformed_message_is_fatal() {
    let session = id(0x5101);
    let mut short_data = Frame::Data { session, payload: Bytes::from_static(&[0; 28]) }.encode().to_vec();
    short_data.truncate(13 + 27);
    short_data[4] = 27;
    let mut long_accept = Frame::HandshakeAccept { session, payload: Bytes::from_static(&[0; 129]) }.encode();
    let messages = [
        Bytes::new(),
        Bytes::from_static(b"hello"),
        Bytes::from(short_data),
        long_accept.split_off(0),
        Bytes::from_static(&[0x20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9]),
        Bytes::from_static(&[0x7F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Bytes::from_static(&[0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    for stage in [Stage::Init, Stage::Pin, Stage::Store, Stage::Hello, Stage::Active, Stage::Paused] {
        for message in &messages {
            let mut world = World::fresh_at(stage, account());
            world.bench.receive_bytes(message.clone());
            let log = world.bench.take();
            let ended = outcome(&log);
            assert!(
                matches!(ended, Outcome::Closed(CloseReason::Fatal(Cause::MalformedFrame(_)))),
                "{message:?} at {stage:?}: {ended:?}"
            );
            assert!(log.contains(&Did::Close(close::PROTOCOL)));
        }
    }
}

#[test]
fn wire_03_text_closes_with_1003_and_wire_04_large_message_with_1009() {
    for stage in [Stage::Init, Stage::Active, Stage::Paused] {
        for (what, code) in [(Forbidden::Text, close::UNSUPPORTED), (Forbidden::TooLarge, close::TOO_LARGE)] {
            let mut world = World::fresh_at(stage, account());
            world.bench.machine.handle_forbidden(what, world.bench.now);
            world.bench.drain();
            let log = world.bench.take();
            assert_eq!(log[0], Did::Close(code));
            assert!(matches!(outcome(&log), Outcome::Closed(CloseReason::Fatal(Cause::MalformedFrame(_)))));
        }
    }
}

/// WIRE-20: at every stage with a socket, with whatever bytes.
#[test]
fn wire_20_ping_is_answered_with_the_same_bytes() {
    for stage in [Stage::Init, Stage::Pin, Stage::Store, Stage::Hello, Stage::Active, Stage::Paused] {
        for bytes in [&b""[..], b"12345678"] {
            let mut world = World::fresh_at(stage, account());
            world.bench.receive(&Frame::Ping(Bytes::from_static(bytes)));
            assert_eq!(world.bench.take(), [Did::Sent(Frame::Pong(Bytes::from_static(bytes)))], "{stage:?}");
            world.bench.receive(&Frame::Pong(Bytes::from_static(bytes)));
            assert_eq!(world.bench.take(), [], "a Pong is not answered");
        }
    }
}

/// WIRE-21: types that no client receives, a second Accept, and another session's id.
#[test]
fn wire_21_frames_that_no_client_receives_are_malformed() {
    for stage in [Stage::Init, Stage::Pin, Stage::Store, Stage::Hello, Stage::Active, Stage::Paused] {
        let (own, other) = (id(0x5101), id(0x9999));
        let accept = Bytes::from_static(&[0; 128]);
        let mut frames = vec![
            Frame::HandshakeInit { session: own, client_ephemeral: [1; 32] },
            Frame::Signal { session: own, signal: Signal::Ready, reason: Reason::None },
            Frame::Data { session: other, payload: Bytes::from_static(&[0; 28]) },
            Frame::HandshakeAccept { session: other, payload: accept.clone() },
            Frame::Control {
                session: Some(other),
                code: Ok(sideband_protocol::wire::ControlCode::SessionPaused),
                message: String::new(),
            },
        ];
        if stage != Stage::Init {
            frames.push(Frame::HandshakeAccept { session: own, payload: accept });
        }
        for frame in frames {
            let mut world = World::fresh_at(stage, account());
            world.bench.receive(&frame);
            let log = world.bench.take();
            assert!(
                matches!(outcome(&log), Outcome::Closed(CloseReason::Fatal(Cause::MalformedFrame(_)))),
                "{frame:?} at {stage:?}: {log:?}"
            );
        }
    }
}

/// The relay's rate limit is told, and everything goes on.
#[test]
fn rate_limited_is_told_and_nothing_ends() {
    let mut world = World::fresh_at(Stage::Active, account());
    world.control(sideband_protocol::wire::ControlCode::RateLimited);
    assert_eq!(world.bench.take(), [Did::Report(Report::RateLimited)]);
}
