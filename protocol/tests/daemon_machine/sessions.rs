//! Limits, timers and ends of sessions: DMN-06, DMN-07, DMN-15, DMN-16, CRY-03, CRY-11, RPC-05.

use std::{collections::BTreeSet, time::Duration};

use sideband_protocol::{
    client::CallLimits,
    daemon::{Report, SessionState},
    endpoint::Endpoint as _,
    event::EventName,
    failure::Cause,
    peer::{Answer, CallError, CallId, Delivery},
    sbp::{FrameId, Introduction},
    wire::{Frame, Reason},
};

use super::world::{World, close, config, ended_calls, frames, over};
use crate::common::{bench::seconds, id};

#[test]
fn dmn_06_init_starts_a_session_that_opens_with_the_introduction() {
    let mut world = World::online();
    let introduction = world.exchange(id(7));
    assert_eq!(world.sessions(), [(id(7), SessionState::Negotiating)]);
    world.bench.receive(&introduction);
    let reports = world.bench.reports();
    let opened = Report::Opened { session: world.of(id(7)), introduction: Introduction::new("peer_test".to_owned()) };
    assert_eq!(reports, [opened]);
    assert_eq!(world.sessions(), [(id(7), SessionState::Active)]);
}

/// CRY-03: a key to which the client contributed nothing.
#[test]
fn cry_03_low_order_key_is_refused_with_an_error() {
    let mut world = World::online();
    world.bench.receive(&Frame::HandshakeInit { session: id(1), client_ephemeral: [0; 32] });
    let log = world.bench.take();
    assert_eq!(frames(&log), [close(id(1), Reason::Error)]);
    assert!(matches!(over(&log, id(1)), Some(Cause::HandshakeFailed(_))), "{log:?}");
    assert_eq!(world.sessions(), []);
}

#[test]
fn more_sessions_than_may_be_are_refused_by_policy() {
    let mut config = config();
    config.max_sessions = 2;
    let mut world = World::online_with(config);
    let (first, _) = (world.meet(1), world.meet(2));
    let (_, init) = world.init(id(3));
    world.bench.receive(&init);
    let log = world.bench.take();
    assert_eq!(frames(&log), [close(id(3), Reason::Policy)]);
    assert_eq!(over(&log, id(3)), Some(Cause::Overflow("sessions")));
    world.bench.machine.close_session(world.of(first));
    world.bench.drain();
    world.bench.take();
    world.meet(4);
    assert_eq!(world.sessions().len(), 2);
}

// ---- DMN-07 ----

#[test]
fn dmn_07_1024_frames_may_wait_and_no_more() {
    let mut world = World::online();
    let (slow, other) = (world.meet(1), world.meet(2));
    for _ in 0..1_024 {
        world.say(slow, b"");
    }
    assert_eq!(world.bench.reports().len(), 1_024);
    world.say(slow, b"");
    let log = world.bench.take();
    assert_eq!(frames(&log), [close(slow, Reason::Error)]);
    assert!(matches!(over(&log, slow), Some(Cause::Overflow(_))), "{log:?}");
    assert_eq!(world.sessions(), [(other, SessionState::Active)]);
}

#[test]
fn dmn_07_consumed_frames_wait_no_longer() {
    let mut world = World::online();
    let session = world.meet(1);
    for _ in 0..3_000 {
        world.say(session, b"x");
        for report in world.bench.reports() {
            let Report::Delivery { delivery: Delivery::App { size, .. }, .. } = report else { panic!("{report:?}") };
            world.bench.machine.release(world.of(session), size);
        }
    }
    assert_eq!(world.sessions().len(), 1);
}

#[test]
fn dmn_07_4_mib_may_wait_and_no_more() {
    let mut world = World::online();
    let (slow, other) = (world.meet(1), world.meet(2));
    // A Message's own 22 bytes and its subject count as well: what waits is what was sealed.
    let data = vec![0; (64 << 10) - 1_024 - 18 - 4 - "app/x".len()];
    let each = 63 << 10;
    let fit = (4 << 20) / each;
    for _ in 0..fit {
        world.say(slow, &data);
    }
    let left = (4 << 20) - fit * each - 18 - 4 - "app/x".len();
    world.say(slow, &vec![0; left]);
    assert_eq!(world.sessions().len(), 2, "exactly 4 MiB");
    world.bench.take();
    world.say(slow, b"");
    assert_eq!(frames(&world.bench.take()), [close(slow, Reason::Error)]);
    assert_eq!(world.sessions(), [(other, SessionState::Active)]);
}

/// Requests wait until they are answered.
#[test]
fn dmn_07_requests_wait_until_they_are_answered() {
    let mut config = config();
    config.limits.waiting_frames = 2;
    let mut world = World::online_with(config);
    let session = world.meet(1);
    for _ in 0..5 {
        world.request(session, "m");
        let reports = world.bench.reports();
        let [Report::Delivery { delivery: Delivery::Request { cid, .. }, .. }] = &reports[..] else {
            panic!("{reports:?}")
        };
        world.bench.machine.respond(world.of(session), *cid, Answer::Result(None));
        world.bench.drain();
        world.bench.take();
    }
    for _ in 0..3 {
        world.request(session, "m");
    }
    assert_eq!(world.sessions(), []);
}

// ---- timers ----

/// CRY-11 for many sessions that started one after the other: each on its own time, no other with it.
#[test]
fn cry_11_every_session_has_its_own_handshake_time() {
    const COUNT: u64 = 200;
    let mut world = World::online();
    for n in 1..=COUNT {
        let introduction = world.exchange(id(n));
        if n % 3 == 0 {
            world.bench.receive(&introduction);
        }
        world.bench.advance(Duration::from_millis(10));
    }
    world.bench.take();
    let start = world.bench.now;
    assert_eq!(start, sideband_protocol::Instant::ORIGIN + Duration::from_millis(10 * COUNT));
    for n in 1..=COUNT {
        // Session n started 10 (n − 1) ms after the origin.
        let due = sideband_protocol::Instant::ORIGIN + seconds(30) + Duration::from_millis(10 * (n - 1));
        world.bench.machine.handle_life(world.bench.now);
        world.bench.advance(due - world.bench.now);
        let log = world.bench.take();
        if n % 3 == 0 {
            assert_eq!(log, [], "{n}");
        } else {
            assert_eq!(frames(&log), [close(id(n), Reason::Error)], "{n}");
            assert_eq!(over(&log, id(n)), Some(Cause::HandshakeTimeout), "{n}");
        }
    }
    assert_eq!(world.sessions().len() as u64, COUNT / 3);
}

/// RPC-05 for calls in many sessions: the ends come in the order of their times, and a session that is over has none left.
#[test]
fn rpc_05_calls_of_many_sessions_end_on_their_own_time() {
    let mut world = World::online();
    let sessions: Vec<_> = (1..=50).map(|n| world.meet(n)).collect();
    let mut due = Vec::new();
    for session in sessions.iter().rev() {
        due.push((world.bench.now + seconds(10), *session, world.call(*session).unwrap()));
        world.bench.advance(Duration::from_millis(7));
    }
    let gone: BTreeSet<_> = sessions.iter().copied().step_by(4).collect();
    for session in &gone {
        world.bench.machine.close_session(world.of(*session));
    }
    world.bench.drain();
    world.bench.take();
    for (at, session, call) in due {
        world.bench.advance(at - world.bench.now);
        let ended = ended_calls(&world.bench.take());
        if gone.contains(&session) {
            assert_eq!(ended, []);
        } else {
            assert_eq!(ended, [(call, Err(CallError::Timeout))]);
        }
    }
    assert_eq!(world.bench.machine.poll_timeout().map(|at| at - world.bench.now > seconds(20)), Some(true));
}

// ---- DMN-15, DMN-16 ----

#[test]
fn dmn_15_an_end_by_itself_is_an_error_and_has_no_sbp_close() {
    let mut world = World::online();
    let (failing, other) = (world.meet(1), world.meet(2));
    let call = world.call(failing).unwrap();
    world.bench.take();
    let cause = Cause::HandlerFailed("a panic".to_owned());
    world.bench.machine.end_session(world.of(failing), cause.clone(), Reason::Error);
    world.bench.drain();
    let log = world.bench.take();
    assert_eq!(frames(&log), [close(failing, Reason::Error)]);
    assert_eq!(ended_calls(&log), [(call, Err(CallError::NotConnected))]);
    assert_eq!(over(&log, failing), Some(cause.clone()));
    assert_eq!(world.sessions(), [(other, SessionState::Active)]);
    world.bench.machine.end_session(world.of(failing), cause, Reason::Error);
    world.bench.drain();
    assert_eq!(world.bench.take(), [], "it is over");
}

#[test]
fn dmn_15_an_sbp_close_of_its_own_comes_first_and_the_reason_is_none() {
    let mut world = World::online();
    let session = world.meet(1);
    let call = world.call(session).unwrap();
    world.bench.take();
    world.bench.machine.close_session(world.of(session));
    world.bench.drain();
    let log = world.bench.take();
    let sent = frames(&log);
    assert!(matches!(&sent[..], [Frame::Data { .. }, signal] if *signal == close(session, Reason::None)), "{sent:?}");
    assert_eq!(ended_calls(&log), [(call, Err(CallError::PeerClosed))]);
    assert_eq!(over(&log, session), Some(Cause::Closed));
}

#[test]
fn dmn_15_after_an_sbp_close_of_the_clients_the_reason_is_none() {
    let mut world = World::online();
    let session = world.meet(1);
    world.client(session, |client| client.session.close("done", &mut client.entropy));
    let log = world.bench.take();
    assert_eq!(frames(&log), [close(session, Reason::None)]);
    assert_eq!(over(&log, session), Some(Cause::PeerClosed { reason: "done".to_owned() }));
}

/// Every session, also one without introductions, in the order of their ids; then the socket.
#[test]
fn dmn_16_close_says_goodbye_to_every_session_and_then_closes() {
    let mut world = World::online();
    for n in 1..=3 {
        world.meet(n);
    }
    world.exchange(id(4));
    world.bench.take();
    world.bench.machine.close();
    world.bench.drain();
    let log = world.bench.take();
    let sent = frames(&log);
    let signals: Vec<_> = sent.iter().filter(|frame| matches!(frame, Frame::Signal { .. })).cloned().collect();
    assert_eq!(signals, [1, 2, 3, 4].map(|n| close(id(n), Reason::Shutdown)));
    for pair in sent.chunks(2) {
        assert!(matches!(&pair[0], Frame::Data { session, .. } if pair[1].session() == session.get()), "{sent:?}");
    }
    use crate::common::bench::Did;
    let at = |wanted: &dyn Fn(&super::world::DaemonDid) -> bool| log.iter().position(wanted).unwrap();
    let last_frame = log.iter().rposition(|did| matches!(did, Did::Sent(_))).unwrap();
    assert!(at(&|did| *did == Did::Close(1000)) > last_frame);
    assert_eq!(log.last(), Some(&Did::Report(Report::Ended(Cause::Closed))));
    assert_eq!((world.sessions(), world.bench.machine.poll_timeout()), (vec![], None));
}

/// Nothing is done for a session that is over, and nothing is sent, not even if the relay starts another one under its id.
#[test]
fn dmn_06_nothing_is_done_for_a_session_that_is_over() {
    for again in [false, true] {
        let mut world = World::online();
        let session = world.meet(1);
        let old = world.of(session);
        let machine = &mut world.bench.machine;
        machine.close_session(old);
        world.bench.drain();
        world.bench.take();
        if again {
            assert_eq!(world.meet(1), session);
            world.request(session, "m");
            world.bench.take();
        }
        let (now, machine) = (world.bench.now, &mut world.bench.machine);
        let not_connected = Err(CallError::NotConnected);
        assert_eq!(machine.session_state(old), None);
        assert_eq!(machine.call(old, CallId(1), "m", None, CallLimits::default(), now), not_connected);
        assert_eq!(machine.emit(old, &EventName::new("e").unwrap(), None), not_connected);
        assert_eq!(machine.send_app(old, "app/x", b"x").map(drop), not_connected);
        machine.respond(old, FrameId::from_bytes([1; 16]), Answer::Result(None));
        machine.release(old, 1);
        machine.cancel(old, CallId(1));
        machine.end_session(old, Cause::HandlerFailed("x".to_owned()), Reason::Error);
        machine.close_session(old);
        world.bench.drain();
        assert_eq!(world.bench.take(), [], "again: {again}");
        assert_eq!(world.sessions().len(), usize::from(again));
    }
}
