//! Sessions over a lost socket: DMN-11, DMN-12.

use sideband_protocol::{
    SessionId,
    daemon::{Report, SessionState},
    endpoint::Endpoint as _,
    failure::Cause,
    peer::{Answer, CallError, Delivery},
    wire::{ControlCode, Frame, Reason},
};

use super::world::{World, close, config, ended_calls, frames, over, ready};
use crate::common::{
    bench::{Did, seconds},
    id,
};

/// The socket is lost and another stands; what the daemon did with it.
fn reconnect(world: &mut World, resumable: bool) -> Vec<super::world::DaemonDid> {
    world.bench.lose(None);
    back(world, resumable)
}

fn back(world: &mut World, resumable: bool) -> Vec<super::world::DaemonDid> {
    world.next_attempt();
    world.token(resumable);
    world.bench.take();
    world.connect();
    world.bench.take()
}

/// What a session's client got of these frames.
fn got(world: &mut World, session: SessionId, sent: &[Frame]) -> Vec<String> {
    let client = world.clients.get_mut(&session).unwrap();
    let of_it: Vec<_> = sent.iter().filter(|frame| frame.session() == session.get()).cloned().collect();
    client.receive(&of_it);
    client.got()
}

/// Signals come before everything: close for what ended or is not whole, ready for what is; then what was held back, session by session, in order.
#[test]
fn dmn_11_order_of_frames_after_a_reconnect() {
    let mut world = World::online();
    let (a, b, left, idle) = (world.meet(1), world.meet(2), world.meet(3), world.meet(5));
    let half = id(4);
    world.exchange(half);
    world.bench.take();
    world.bench.lose(None);
    for (session, event) in [(b, "b.one"), (a, "a.one"), (b, "b.two"), (a, "a.two")] {
        world.emit(session, event, 10).unwrap();
    }
    world.bench.machine.close_session(world.of(left));
    world.bench.drain();
    let log = back(&mut world, true);
    let sent = frames(&log);
    let (signals, data) = sent.split_at(5);
    assert_eq!(signals, [close(left, Reason::None), close(half, Reason::StateLost), ready(a), ready(b), ready(idle)]);
    assert!(data.iter().all(|frame| matches!(frame, Frame::Data { .. })), "{data:?}");
    assert_eq!(data.len(), 4);
    assert_eq!(got(&mut world, a, data), ["event a.one", "event a.two"]);
    assert_eq!(got(&mut world, b, data), ["event b.one", "event b.two"]);
    let resumed: Vec<_> = log.iter().filter(|did| matches!(did, Did::Report(Report::Resumed(_)))).collect();
    assert_eq!(resumed.len(), 3);
    assert!(matches!(log.last(), Some(Did::Report(Report::Online { first: false, .. }))));
    // Told once.
    let again = reconnect(&mut world, true);
    assert_eq!(frames(&again), [ready(a), ready(b), ready(idle)]);
}

#[test]
fn dmn_11_sessions_are_paused_and_resumed() {
    let mut world = World::online();
    let session = world.meet(1);
    world.exchange(id(2));
    world.bench.take();
    world.bench.lose(Some(1012));
    let log = world.bench.take();
    assert!(log.contains(&Did::Report(Report::Paused(session))), "{log:?}");
    assert_eq!(over(&log, id(2)), Some(Cause::SocketLost { code: Some(1012) }), "it cannot be finished");
    assert_eq!(world.sessions(), [(session, SessionState::Paused)]);
    back(&mut world, true);
    assert_eq!(world.sessions(), [(session, SessionState::Active)]);
    world.say(session, b"under the same keys");
    assert!(matches!(&world.bench.reports()[..], [Report::Delivery { delivery: Delivery::App { .. }, .. }]));
}

/// Whatever ends the socket, the sessions wait.
#[test]
fn dmn_11_every_loss_pauses() {
    let losses: [fn(&mut World); 5] = [
        |world| world.bench.lose(None),
        |world| world.bench.lose(Some(1000)),
        |world| world.control(Ok(ControlCode::Backpressure), None),
        |world| world.bench.advance(seconds(90)),
        |world| (0..10).for_each(|_| world.bench.receive_bytes(bytes::Bytes::from_static(b"bad"))),
    ];
    for (n, lose) in losses.into_iter().enumerate() {
        let mut world = World::online();
        let session = world.meet(1);
        lose(&mut world);
        assert_eq!(world.sessions(), [(session, SessionState::Paused)], "loss {n}");
        assert_eq!(frames(&back(&mut world, true)), [ready(session)], "loss {n}");
    }
}

/// Attempts that fail in between change nothing.
#[test]
fn dmn_11_sessions_wait_through_failed_attempts() {
    let mut world = World::online();
    let session = world.meet(1);
    world.bench.lose(None);
    for _ in 0..20 {
        world.next_attempt();
        world.token(true);
        world.fail_job(super::world::upgrade(503));
    }
    world.emit(session, "e", 1).unwrap();
    let sent = frames(&back(&mut world, true));
    assert_eq!(sent.first(), Some(&ready(session)));
    assert_eq!(got(&mut world, session, &sent[1..]), ["event e"]);
}

#[test]
fn dmn_11_answers_wait_and_leave_after_ready() {
    let mut world = World::online();
    let session = world.meet(1);
    world.request(session, "slow");
    let reports = world.bench.reports();
    let [Report::Delivery { delivery: Delivery::Request { cid, .. }, .. }] = &reports[..] else {
        panic!("{reports:?}")
    };
    world.bench.lose(None);
    world.bench.machine.respond(world.of(session), *cid, Answer::Result(None));
    world.bench.drain();
    assert_eq!(frames(&world.bench.take()), []);
    let sent = frames(&back(&mut world, true));
    assert_eq!(sent.first(), Some(&ready(session)));
    assert_eq!(got(&mut world, session, &sent[1..]), ["end of 192"]);
}

#[test]
fn dmn_11_calls_go_on_and_their_clock_does_not_stop() {
    let mut world = World::online();
    let session = world.meet(1);
    let early = world.call(session).unwrap();
    world.bench.advance(seconds(8));
    let late = world.call(session).unwrap();
    let sent = world.bench.sent();
    let answered = world.clients.get_mut(&session).unwrap();
    answered.receive(&sent);
    world.bench.lose(None);
    assert_eq!(ended_calls(&world.bench.take()), [], "they go on");
    assert_eq!(world.call(session), Err(CallError::SessionPaused));
    world.bench.advance(seconds(3));
    assert_eq!(ended_calls(&world.bench.take()), [(early, Err(CallError::Timeout))]);
    assert_eq!(world.bench.job, Some(sideband_protocol::daemon::Job::RenewToken));
    world.token(true);
    world.connect();
    world.bench.take();
    let Delivery::Request { cid, .. } = world.clients[&session].delivered[1].clone() else { panic!("a request") };
    world.client(session, |client| client.session.respond(cid, Answer::Result(None), &mut client.entropy));
    assert_eq!(ended_calls(&world.bench.take()), [(late, Ok(()))]);
}

#[test]
fn dmn_11_only_answers_and_events_wait() {
    let mut world = World::online();
    let session = world.meet(1);
    world.bench.lose(None);
    assert_eq!(world.call(session), Err(CallError::SessionPaused));
    assert_eq!(world.bench.machine.send_app(world.of(session), "app/x", b"x"), Err(CallError::SessionPaused));
    assert_eq!(frames(&back(&mut world, true)), [ready(session)]);
}

/// 64 KiB of whole frames, to the byte; then that session alone is closed with an error, when the socket is back.
#[test]
fn dmn_11_64_kib_may_be_held_back_and_no_more() {
    let mut world = World::online();
    let (talks, other) = (world.meet(1), world.meet(2));
    // An event's frame beside its data, measured.
    world.emit(talks, "e", 0).unwrap();
    let overhead = world.bench.sent()[0].encode().len();
    world.bench.lose(None);
    let half = (32 << 10) - overhead;
    world.emit(talks, "e", half).unwrap();
    world.emit(talks, "e", half).unwrap();
    assert_eq!(world.sessions().len(), 2, "exactly 64 KiB");
    world.bench.take();
    assert_eq!(world.emit(talks, "e", 0), Err(CallError::SessionPaused));
    let log = world.bench.take();
    assert!(matches!(over(&log, talks), Some(Cause::Overflow(_))), "{log:?}");
    assert_eq!(world.sessions(), [(other, SessionState::Paused)]);
    assert_eq!(frames(&back(&mut world, true)), [close(talks, Reason::Error), ready(other)]);
}

/// The bound is of one absence.
#[test]
fn dmn_11_every_absence_has_its_own_64_kib() {
    let mut world = World::online();
    let session = world.meet(1);
    for _ in 0..4 {
        world.bench.lose(None);
        world.emit(session, "e", 60_000).unwrap();
        let sent = frames(&back(&mut world, true));
        assert_eq!(got(&mut world, session, &sent), ["event e"]);
    }
}

/// ◇ No SBP Close can go out while the socket is away; the Signal follows when it is back.
#[test]
fn dmn_15_closed_while_away_is_signalled_later() {
    let mut world = World::online();
    let session = world.meet(1);
    world.bench.lose(None);
    world.emit(session, "e", 65_000).unwrap();
    world.bench.take();
    world.bench.machine.close_session(world.of(session));
    world.bench.drain();
    let log = world.bench.take();
    assert_eq!((frames(&log), over(&log, session)), (vec![], Some(Cause::Closed)));
    assert_eq!(frames(&back(&mut world, true)), [close(session, Reason::None)]);
}

#[test]
fn dmn_12_without_the_scope_a_lost_socket_ends_all() {
    let mut world = World::new(config());
    world.start();
    world.go_online(false);
    world.bench.take();
    let (a, b) = (world.meet(1), world.meet(2));
    let call = world.call(a).unwrap();
    world.bench.take();
    world.bench.lose(None);
    let log = world.bench.take();
    let cause = Some(Cause::SocketLost { code: None });
    assert_eq!((over(&log, a), over(&log, b)), (cause.clone(), cause));
    assert_eq!(ended_calls(&log), [(call, Err(CallError::NotConnected))]);
    assert_eq!(world.sessions(), []);
    assert_eq!(frames(&back(&mut world, true)), [], "there is nothing to say");
}

/// The last token decides: one that comes without the scope ends what waited for it.
#[test]
fn dmn_12_the_last_token_decides() {
    let mut world = World::online();
    let session = world.meet(1);
    world.bench.lose(None);
    assert_eq!(world.sessions(), [(session, SessionState::Paused)]);
    let log = back(&mut world, false);
    assert_eq!(frames(&log), []);
    assert!(over(&log, session).is_some());
    let session = world.meet(2);
    world.bench.lose(None);
    assert_eq!(world.sessions(), []);
    assert!(over(&world.bench.take(), session).is_some());
}

/// A daemon that ends for good while sessions wait ends them.
#[test]
fn dmn_01_an_end_while_away_ends_the_sessions() {
    let mut world = World::online();
    let session = world.meet(1);
    let call = world.call(session).unwrap();
    world.bench.lose(None);
    world.next_attempt();
    world.bench.take();
    world.fail_job(super::world::api(401));
    let log = world.bench.take();
    assert_eq!(over(&log, session), Some(super::world::api(401)));
    assert_eq!(ended_calls(&log), [(call, Err(CallError::NotConnected))]);
    assert_eq!(log.last(), Some(&Did::Report(Report::Ended(super::world::api(401)))));
    assert_eq!((world.sessions(), world.bench.machine.poll_timeout()), (vec![], None));
}
