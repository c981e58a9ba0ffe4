//! Calls, messages and events without a session: CLI-09, CLI-10, RPC-05, RPC-09.

use std::time::Duration;

use bytes::Bytes;
use sideband_protocol::{
    client::{CallLimits, ClientConfig, OnDisconnect},
    event::EventName,
    peer::{Answer, CallError, Delivery},
    rpc::Envelope,
    sbp::FrameId,
    wire::{ControlCode, Frame, MAX_PAYLOAD, MAX_PLAINTEXT},
};

use super::world::{Stage, World, account, ended_calls, quick_connect};
use crate::common::bench::seconds;

const WAITING: [Stage; 9] = [
    Stage::Idle,
    Stage::Token,
    Stage::Api,
    Stage::Dial,
    Stage::Init,
    Stage::Pin,
    Stage::Hello,
    Stage::Paused,
    Stage::Delay,
];

fn failing() -> ClientConfig {
    ClientConfig { on_disconnect: OnDisconnect::Fail, ..account() }
}

fn event(name: &str) -> EventName {
    EventName::new(name).unwrap()
}

/// Params of which a request on this method has exactly so many bytes of JSON.
fn params(method: &str, request: usize) -> Bytes {
    let cid = FrameId::from_bytes([0; 16]);
    let without =
        Envelope::Request { method: method.to_owned(), params: Some(Bytes::from_static(b"\"\"")), cid }.encode().len();
    Bytes::from(format!("\"{}\"", "x".repeat(request - without)))
}

/// From a stage to active on the attempt under way, or a new one.
fn activate(world: &mut World, from: Stage) {
    match from {
        Stage::Idle | Stage::Token => world.go(Stage::Active),
        Stage::Delay => {
            world.bench.advance(seconds(2));
            world.go(Stage::Active);
        }
        Stage::Paused => world.control(ControlCode::SessionResumed),
        Stage::Api | Stage::Dial | Stage::Init | Stage::Pin | Stage::Hello => {
            if from <= Stage::Api {
                world.grant();
            }
            if from <= Stage::Dial {
                world.connect();
            }
            if from <= Stage::Init {
                world.accept();
            }
            if from <= Stage::Pin {
                world.bench.done(sideband_protocol::client::Done::Pin(Ok(None)));
                world.bench.done(sideband_protocol::client::Done::PinStored(Ok(())));
            }
            world.introduce();
        }
        Stage::Store | Stage::Active | Stage::Closed => panic!("nothing waits at {from:?}"),
    }
}

/// CLI-09, CLI-10: what is made while not active leaves in order once active: calls and messages, then events.
#[test]
fn cli_09_calls_wait_at_every_stage_and_leave_in_order() {
    for config in [account(), quick_connect()] {
        for stage in WAITING {
            // Quick Connect asks no token source, and does not come back from a delay here.
            if config == quick_connect() && matches!(stage, Stage::Token | Stage::Delay) {
                continue;
            }
            let mut world = World::at(stage, config.clone());
            world.call("a").unwrap();
            let now = world.bench.now;
            world.bench.machine.emit(&event("one"), None, now).unwrap();
            world.bench.machine.send_app("app/x", Bytes::from_static(b"raw"), now).unwrap();
            world.call("b").unwrap();
            world.bench.machine.emit(&event("two"), None, now).unwrap();
            activate(&mut world, stage);
            assert_eq!(
                world.daemon_got(),
                ["request a", "app/x", "request b", "event one", "event two"],
                "from {stage:?}"
            );
            world.call("c").unwrap();
            assert_eq!(world.daemon_got(), ["request c"], "nothing leaves twice");
        }
    }
}

/// CLI-09: the bound is 65,536 bytes of requests; what does not fit fails, what waits stays.
#[test]
fn cli_09_buffer_overflows_at_65536_bytes() {
    let mut world = World::fresh_at(Stage::Api, account());
    let now = world.bench.now;
    let limits = CallLimits::default();
    let call = |world: &mut World, n: u64, size: usize| {
        world.bench.machine.call(sideband_protocol::peer::CallId(n), "m", Some(params("m", size)), limits, now)
    };
    call(&mut world, 1, 40_000).unwrap();
    let overflow = CallError::BufferOverflow { waiting: 40_000, size: 25_537, limit: 65_536 };
    assert_eq!(call(&mut world, 2, 25_537), Err(overflow.clone()));
    assert_eq!(overflow.code(), "buffer_overflow");
    call(&mut world, 3, 25_536).unwrap();
    assert!(world.bench.machine.send_app("app/", Bytes::new(), now).is_err(), "not one byte more");
    // What leaves makes room.
    activate(&mut world, Stage::Api);
    assert_eq!(world.daemon_got(), ["request m", "request m"]);
    world.control(ControlCode::SessionPaused);
    call(&mut world, 4, 65_400).unwrap();
    assert!(matches!(call(&mut world, 5, 200), Err(CallError::BufferOverflow { waiting: 65_400, .. })));
    world.bench.machine.cancel(sideband_protocol::peer::CallId(4));
    call(&mut world, 6, 200).unwrap();
}

/// CLI-09, `fail`: `session_paused` while paused, else `not_connected`.
#[test]
fn cli_09_fail_mode_refuses_at_once() {
    for stage in WAITING {
        let mut world = World::fresh_at(stage, failing());
        let expected = if stage == Stage::Paused { CallError::SessionPaused } else { CallError::NotConnected };
        assert_eq!(world.call("m").err(), Some(expected.clone()), "{stage:?}");
        let now = world.bench.now;
        assert_eq!(world.bench.machine.send_app("app/x", Bytes::new(), now).err(), Some(expected), "{stage:?}");
    }
    let mut world = World::fresh_at(Stage::Active, failing());
    world.call("m").unwrap();
    assert_eq!(world.daemon_got(), ["request m"]);
}

/// CLI-09: waiting calls outlive a lost socket; those that were sent do not, in both modes.
#[test]
fn cli_09_waiting_calls_outlive_attempts() {
    for config in [account(), failing()] {
        let waits = config.on_disconnect == OnDisconnect::Pause;
        let mut world = World::fresh_at(Stage::Active, config);
        let sent = world.call("sent").unwrap();
        world.control(ControlCode::SessionPaused);
        let waiting = world.call("waiting").ok();
        assert_eq!(waiting.is_some(), waits);
        world.bench.take();
        world.bench.lose(None);
        assert_eq!(ended_calls(&world.bench.take()), [(sent, Err(CallError::NotConnected))]);
        world.bench.advance(seconds(2));
        world.go(Stage::Active);
        let expected: &[&str] = if waits { &["request waiting"] } else { &[] };
        assert_eq!(world.daemon_got(), expected);
    }
}

// ---- CLI-10 ----

#[test]
fn cli_10_newest_128_events_are_kept_in_order_in_both_modes() {
    for config in [account(), failing()] {
        for stage in [Stage::Idle, Stage::Api, Stage::Hello, Stage::Paused] {
            let mut world = World::at(stage, config.clone());
            for n in 0..200 {
                let now = world.bench.now;
                world.bench.machine.emit(&event(&format!("n{n}")), None, now).unwrap();
            }
            activate(&mut world, stage);
            let expected: Vec<_> = (72..200).map(|n| format!("event n{n}")).collect();
            assert_eq!(world.daemon_got(), expected, "{stage:?}");
        }
    }
}

#[test]
fn cli_10_no_event_is_kept_when_none_may_be() {
    let mut world = World::at(Stage::Paused, ClientConfig { buffered_events: 0, ..account() });
    let now = world.bench.now;
    world.bench.machine.emit(&event("x"), None, now).unwrap();
    world.control(ControlCode::SessionResumed);
    assert_eq!(world.daemon_got(), Vec::<String>::new());
}

// ---- RPC-05 ----

/// RPC-05: 10 s from when it was sent; waiting does not count.
#[test]
fn rpc_05_call_ends_10_s_after_it_was_sent() {
    for waits in [false, true] {
        let mut world = World::fresh_at(if waits { Stage::Delay } else { Stage::Active }, account());
        let call = world.call("m").unwrap();
        if waits {
            world.bench.advance(seconds(2));
            world.bench.advance(seconds(14));
            world.go(Stage::Active);
        }
        world.bench.take();
        world.bench.advance(seconds(10) - Duration::from_nanos(1));
        assert_eq!(ended_calls(&world.bench.take()), []);
        world.bench.advance(Duration::from_nanos(1));
        assert_eq!(ended_calls(&world.bench.take()), [(call, Err(CallError::Timeout))], "waited: {waits}");
    }
}

#[test]
fn rpc_05_time_limit_of_one_call() {
    let mut world = World::fresh_at(Stage::Active, account());
    let limits = CallLimits { timeout: Some(seconds(3)), total: None };
    let short = world.call_with("short", limits).unwrap();
    let long = world.call_with("long", CallLimits { timeout: Some(seconds(60)), total: None }).unwrap();
    world.bench.advance(seconds(3));
    assert_eq!(ended_calls(&world.bench.take()), [(short, Err(CallError::Timeout))]);
    world.bench.advance_alive(seconds(57));
    assert_eq!(ended_calls(&world.bench.take()), [(long, Err(CallError::Timeout))]);
}

/// RPC-05: a total deadline counts the waiting, and takes the call out of the buffer.
#[test]
fn rpc_05_total_time_counts_waiting() {
    let total = |n| CallLimits { timeout: None, total: Some(seconds(n)) };
    let mut world = World::fresh_at(Stage::Api, account());
    let first = world.call_with("first", total(5)).unwrap();
    let second = world.call_with("second", total(8)).unwrap();
    world.bench.advance(seconds(5));
    assert_eq!(ended_calls(&world.bench.take()), [(first, Err(CallError::Timeout))]);
    activate(&mut world, Stage::Api);
    assert_eq!(world.daemon_got(), ["request second"]);
    world.bench.advance(seconds(3));
    assert_eq!(ended_calls(&world.bench.take()), [(second, Err(CallError::Timeout))], "of the total, not of the 10 s");
    let mut config = account();
    config.rpc.total = Some(seconds(4));
    let mut world = World::fresh_at(Stage::Active, config);
    let call = world.call("m").unwrap();
    world.bench.advance(seconds(4));
    assert_eq!(ended_calls(&world.bench.take()), [(call, Err(CallError::Timeout))]);
}

/// RPC-01: a late answer, an answer to a cancelled call and one to nobody are dropped.
#[test]
fn rpc_01_late_answer_is_dropped() {
    for cancelled in [false, true] {
        let mut world = World::fresh_at(Stage::Active, account());
        let call = world.call("m").unwrap();
        world.carry();
        if cancelled {
            world.bench.machine.cancel(call);
        } else {
            world.bench.advance(seconds(10));
        }
        world.bench.take();
        let daemon = world.daemon.as_mut().unwrap();
        let Some(Delivery::Request { cid, .. }) = daemon.delivered.pop() else { panic!("a request") };
        daemon.session.respond(cid, Answer::Result(None), &mut daemon.entropy);
        for answer in daemon.drain() {
            world.bench.receive(&answer);
        }
        assert_eq!(world.bench.take(), []);
    }
}

/// Whether a call waited before it was sent is told with its end.
#[test]
fn call_end_says_whether_it_waited() {
    use super::world::ClientDid;
    use sideband_protocol::client::Report;
    for (stage, expected) in [(Stage::Active, false), (Stage::Paused, true)] {
        let mut world = World::fresh_at(stage, account());
        world.call("m").unwrap();
        if stage == Stage::Paused {
            world.control(ControlCode::SessionResumed);
        }
        world.bench.take();
        world.bench.lose(None);
        let log = world.bench.take();
        let waited = log.iter().find_map(|did| match did {
            ClientDid::Report(Report::Delivery(Delivery::CallEnded { waited, .. })) => Some(*waited),
            _ => None,
        });
        assert_eq!(waited, Some(expected));
    }
}

// ---- RPC-09 ----

/// RPC-09: the bound is the same whether the call waits or is sent at once, and exact.
#[test]
fn rpc_09_message_too_large_at_the_call() {
    // kind, flags, id; subject length; subject
    let (rpc, on_event) = (18 + 4 + 3, 18 + 4 + 5);
    let limits = CallLimits::default();
    for stage in [Stage::Active, Stage::Api] {
        let config = ClientConfig { buffered_bytes: 1 << 20, ..account() };
        let mut world = World::fresh_at(stage, config);
        let now = world.bench.now;
        let machine = &mut world.bench.machine;
        let mut call =
            |n, size| machine.call(sideband_protocol::peer::CallId(n), "m", Some(params("m", size)), limits, now);
        let too_large = CallError::MessageTooLarge { size: MAX_PLAINTEXT + 1 };
        assert_eq!(call(1, MAX_PLAINTEXT - rpc + 1), Err(too_large.clone()), "{stage:?}");
        assert_eq!(call(2, MAX_PLAINTEXT - rpc), Ok(()), "{stage:?}");
        let name = event("e");
        let without = Envelope::Event { name: "e".to_owned(), data: Some(Bytes::new()) }.encode().len();
        let data = |size: usize| Some(Bytes::from(format!("\"{}\"", "x".repeat(size - without - on_event - 2))));
        assert_eq!(machine.emit(&name, data(MAX_PLAINTEXT + 1), now), Err(too_large.clone()), "{stage:?}");
        assert_eq!(machine.emit(&name, data(MAX_PLAINTEXT), now), Ok(()), "{stage:?}");
        let head = 18 + 4 + 5;
        let raw = |size: usize| Bytes::from(vec![0; size - head]);
        assert_eq!(machine.send_app("app/x", raw(MAX_PLAINTEXT + 1), now).err(), Some(too_large), "{stage:?}");
        assert_eq!(machine.send_app("app/x", raw(MAX_PLAINTEXT), now).map(drop), Ok(()), "{stage:?}");
        world.bench.drain();
        if stage == Stage::Api {
            activate(&mut world, stage);
        }
        // WIRE-01: the largest of them fill a frame to the last byte.
        let sent = world.bench.sent();
        let full =
            sent.iter().filter(|frame| matches!(frame, Frame::Data { payload, .. } if payload.len() == MAX_PAYLOAD));
        assert_eq!(full.count(), 3, "{stage:?}");
    }
}

#[test]
fn app_subjects_only() {
    for stage in [Stage::Active, Stage::Api] {
        let mut world = World::fresh_at(stage, account());
        let now = world.bench.now;
        for subject in ["rpc", "event", "stream/x", "app", "", "app/\0"] {
            let sent = world.bench.machine.send_app(subject, Bytes::new(), now);
            assert!(matches!(sent, Err(CallError::InvalidState(_))), "{subject:?} at {stage:?}");
        }
    }
}
