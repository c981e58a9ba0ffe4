//! Time limits of attempts, pings and silence: CLI-07, CLI-13.

use std::time::Duration;

use bytes::Bytes;
use sideband_protocol::{client::Done, failure::Cause, wire::Frame};

use super::world::{Outcome, Stage, World, account, outcome};
use crate::common::bench::{Did, seconds};

const MOMENT: Duration = Duration::from_nanos(1);

#[test]
fn cli_07_token_api_and_dial_end_after_15_s() {
    for stage in [Stage::Token, Stage::Api, Stage::Dial] {
        let mut world = World::fresh_at(stage, account());
        world.bench.advance(seconds(15) - MOMENT);
        assert_eq!(world.bench.take(), [], "{stage:?}");
        world.bench.advance(MOMENT);
        let log = world.bench.take();
        let Outcome::Retry(cause) = outcome(&log) else { panic!("{stage:?}: {log:?}") };
        match stage {
            Stage::Token => assert!(matches!(cause, Cause::TokenSource(_))),
            Stage::Api => assert_eq!(cause, Cause::ApiTimeout),
            _ => assert_eq!(cause, Cause::DialTimeout),
        }
        assert_eq!(log[0], Did::Abandon, "the job is given up");
    }
}

/// CLI-07: each has its own 15 s.
#[test]
fn cli_07_each_step_has_its_own_time() {
    let mut world = World::fresh_at(Stage::Token, account());
    world.bench.advance(seconds(14));
    world.bench.done(Done::Token(Ok(())));
    world.bench.advance(seconds(14));
    world.grant();
    world.bench.advance(seconds(14));
    world.connect();
    assert_eq!(outcome(&world.bench.take()), Outcome::Nothing);
}

/// CLI-13: a Ping every 45 s while the relay is heard, active or paused or negotiating.
#[test]
fn cli_13_ping_every_45_s() {
    for stage in [Stage::Active, Stage::Paused] {
        let mut world = World::fresh_at(stage, account());
        let mut pings = Vec::new();
        for second in 1..=200 {
            world.bench.advance(seconds(1));
            for frame in world.bench.sent() {
                assert_eq!(frame, Frame::Ping(Bytes::new()));
                pings.push(second);
                world.bench.receive(&Frame::Pong(Bytes::new()));
            }
        }
        assert_eq!(pings, [45, 90, 135, 180], "{stage:?}");
    }
}

/// CLI-13: no life for 90 s counts as a dropped socket.
#[test]
fn cli_13_silence_of_90_s_is_a_dropped_socket() {
    for stage in [Stage::Active, Stage::Paused] {
        let mut world = World::fresh_at(stage, account());
        world.bench.advance(seconds(90) - MOMENT);
        assert_eq!(outcome(&world.bench.take()), Outcome::Nothing);
        world.bench.advance(MOMENT);
        assert_eq!(outcome(&world.bench.take()), Outcome::Retry(Cause::Silent), "{stage:?}");
        assert!(!world.bench.has_socket);
    }
}

/// CLI-13: any message and any WebSocket ping or pong is life.
#[test]
fn cli_13_any_message_or_websocket_ping_is_life() {
    use sideband_protocol::endpoint::Endpoint as _;
    for by_message in [false, true] {
        let mut world = World::fresh_at(Stage::Active, account());
        for _ in 0..4 {
            world.bench.advance(seconds(80));
            if by_message {
                world.bench.receive(&Frame::Pong(Bytes::new()));
            } else {
                world.bench.machine.handle_life(world.bench.now);
            }
        }
        world.bench.advance(seconds(89));
        assert_eq!(outcome(&world.bench.take()), Outcome::Nothing);
        world.bench.advance(seconds(1));
        assert_eq!(outcome(&world.bench.take()), Outcome::Retry(Cause::Silent));
    }
}

/// The policy's numbers are what is kept to.
#[test]
fn cli_13_policy_is_adjustable() {
    let mut config = account();
    config.connection.keepalive.ping_every = seconds(1);
    config.connection.keepalive.silence = seconds(3);
    let mut world = World::fresh_at(Stage::Active, config);
    world.bench.advance(seconds(3) - MOMENT);
    assert_eq!(world.bench.sent().len(), 2);
    world.bench.advance(MOMENT);
    assert_eq!(outcome(&world.bench.take()), Outcome::Retry(Cause::Silent));
}
