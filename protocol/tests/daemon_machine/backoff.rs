//! Delays, pings and silence on the nanosecond: DMN-04, DMN-13.

use std::time::Duration;

use sideband_protocol::{
    daemon::{DaemonConfig, Report},
    endpoint::Endpoint as _,
    failure::Cause,
    wire::Frame,
};

use super::world::{World, api, config};
use crate::common::{
    Fixed,
    bench::{Did, seconds},
};

/// Half a second, less what is below the last bit of randomness.
const SPREAD: Duration = Duration::from_millis(500);
const LEAST: u8 = 0x00;
const MOST: u8 = 0xFF;

fn world(byte: u8, config: DaemonConfig) -> World {
    let mut world = World::with_entropy(config, Box::new(Fixed(byte)));
    world.start();
    world
}

/// The delays after this many failures in a row; each is waited for to the last nanosecond.
fn delays(config: DaemonConfig, byte: u8, count: usize) -> Vec<Duration> {
    let mut world = world(byte, config);
    let mut delays = Vec::new();
    for retry in 0..count {
        world.fail_job(Cause::ApiTimeout);
        let (counted, delay) = world.retrying();
        assert_eq!(counted as usize, retry);
        world.bench.advance(delay - Duration::from_nanos(1));
        assert_eq!(world.bench.take(), []);
        world.next_attempt();
        delays.push(delay);
    }
    delays
}

/// Whether a delay is the base with the most that is added; randomness is below one.
fn is_most(delay: Duration, base: Duration, spread: Duration) -> bool {
    delay <= base + spread && delay > base + spread - Duration::from_micros(1)
}

#[test]
fn dmn_04_lowest_delays() {
    let base = [1, 2, 4, 8, 16, 30, 30, 30].map(seconds);
    assert_eq!(delays(config(), LEAST, base.len()), base);
}

#[test]
fn dmn_04_highest_delays() {
    let base = [1, 2, 4, 8, 16, 30, 30, 30].map(seconds);
    for (delay, base) in delays(config(), MOST, base.len()).into_iter().zip(base) {
        assert!(is_most(delay, base, SPREAD), "{delay:?} on {base:?}");
    }
}

#[test]
fn dmn_04_goes_on_for_ever_at_30_s() {
    assert_eq!(delays(config(), LEAST, 500).last(), Some(&seconds(30)));
}

#[test]
fn dmn_04_policy_is_adjustable() {
    let mut config = config();
    config.retry.initial = Duration::from_millis(10);
    config.retry.max = Duration::from_millis(35);
    config.retry.spread = Duration::from_millis(4);
    assert_eq!(delays(config.clone(), LEAST, 4), [10, 20, 35, 35].map(Duration::from_millis));
    let most = delays(config, MOST, 4);
    assert!(is_most(most[2], Duration::from_millis(35), Duration::from_millis(4)), "{most:?}");
}

/// A connection after three failures, lost after so long with this code: the count and the delay that follow.
fn after(byte: u8, lasted: Duration, code: Option<u16>) -> (u32, Duration) {
    let mut world = world(byte, config());
    for _ in 0..3 {
        world.fail_job(api(503));
        world.next_attempt();
    }
    world.go_online(true);
    world.bench.advance_alive(lasted);
    world.bench.take();
    world.bench.lose(code);
    world.retrying()
}

#[test]
fn dmn_04_count_restarts_after_5_s_and_not_before() {
    for code in [None, Some(1002), Some(1005), Some(1011), Some(1013)] {
        assert_eq!(after(LEAST, seconds(5) - Duration::from_nanos(1), code), (3, seconds(8)), "{code:?}");
        assert_eq!(after(LEAST, seconds(5), code), (0, seconds(1)), "{code:?}");
        assert_eq!(after(LEAST, seconds(500), code), (0, seconds(1)), "{code:?}");
        let (_, most) = after(MOST, seconds(5), code);
        assert!(is_most(most, seconds(1), SPREAD), "{most:?}");
    }
}

#[test]
fn dmn_04_clean_close_after_5_s_is_0_to_2_s() {
    for code in [1000, 1001, 1012] {
        assert_eq!(after(LEAST, seconds(5) - Duration::from_nanos(1), Some(code)), (3, seconds(8)), "{code}");
        assert_eq!(after(LEAST, seconds(5), Some(code)), (0, Duration::ZERO), "{code}");
        let (_, most) = after(MOST, seconds(5), Some(code));
        assert!(is_most(most, Duration::ZERO, seconds(2)), "{most:?}");
    }
}

/// CLI-06 for the daemon: at least as long as was asked for, never shorter than its own delay.
#[test]
fn dmn_13_retry_after_lengthens_the_delay() {
    for (asked, waits) in
        [(None, 1_000), (Some(0), 1_000), (Some(999), 1_000), (Some(7_000), 7_000), (Some(120_000), 120_000)]
    {
        let retry_after = asked.map(Duration::from_millis);
        let refused = Cause::Api { status: 429, code: "X".to_owned(), message: "storm".to_owned(), retry_after };
        let mut at_api = world(LEAST, config());
        at_api.fail_job(refused);
        assert_eq!(at_api.retrying(), (0, Duration::from_millis(waits)), "{asked:?}");
        let mut at_dial = world(LEAST, config());
        at_dial.token(true);
        at_dial.fail_job(Cause::Upgrade { status: 503, message: "down".to_owned(), retry_after });
        assert_eq!(at_dial.retrying(), (0, Duration::from_millis(waits)), "{asked:?}");
    }
}

#[test]
fn dmn_13_pings_every_45_s_while_the_relay_lives() {
    let mut world = World::online();
    let mut pings = Vec::new();
    for _ in 0..40 {
        world.bench.machine.handle_life(world.bench.now);
        world.bench.advance(seconds(5));
        pings.extend(world.bench.sent().into_iter().map(|frame| (world.bench.now, frame)));
    }
    let at: Vec<_> = pings.iter().map(|(at, _)| at.since_origin().as_secs()).collect();
    assert_eq!(at, [45, 90, 135, 180]);
    assert!(pings.iter().all(|(_, frame)| matches!(frame, Frame::Ping(_))));
}

#[test]
fn dmn_13_silence_of_90_s_is_a_lost_socket() {
    let mut world = World::online();
    world.bench.advance(seconds(90) - Duration::from_nanos(1));
    let log = world.bench.take();
    assert!(matches!(&log[..], [Did::Sent(Frame::Ping(_))]), "{log:?}");
    world.bench.advance(Duration::from_nanos(1));
    let log = world.bench.take();
    assert!(log.contains(&Did::Report(Report::Offline(Cause::Silent))), "{log:?}");
    assert!(!world.bench.has_socket);
    world.next_attempt();
}

/// Every message is life, also one that breaks the rules, and so are WebSocket pings.
#[test]
fn dmn_13_any_message_is_life() {
    let lives: [fn(&mut World); 4] = [
        |world| world.bench.receive(&Frame::Pong(bytes::Bytes::new())),
        |world| world.bench.receive(&Frame::Ping(bytes::Bytes::from_static(b"12345678"))),
        |world| world.bench.receive_bytes(bytes::Bytes::from_static(b"no frame")),
        |world| world.bench.machine.handle_life(world.bench.now),
    ];
    for live in lives {
        let mut world = World::online();
        for _ in 0..5 {
            world.bench.advance(seconds(89));
            live(&mut world);
        }
        assert!(world.bench.machine.is_online());
    }
}

#[test]
fn dmn_13_the_relays_ping_is_answered() {
    let mut world = World::online();
    let bytes = bytes::Bytes::from_static(b"hi");
    world.bench.receive(&Frame::Ping(bytes.clone()));
    assert_eq!(world.bench.sent(), [Frame::Pong(bytes)]);
}
