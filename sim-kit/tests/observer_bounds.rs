//! What the observer costs: memory for 100,000 sessions, and nothing but time for a frame that is in order.

#![expect(clippy::print_stdout, reason = "figures for whoever reads the test's output")]

use std::{
    alloc::System,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use cap::Cap;
use sideband_protocol::{SessionId, relay::SessionState, wire::Frame};
use sideband_sim_kit::{
    event::{Closer, Event, EventKind, Role},
    observer::{AccessObserver, FrameSeen, GradeLog, KEPT_GRADES, MOST_REMEMBERED, Mark, MarkFor, Rule, WireObserver},
};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The allocator counts for all: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const DAEMON: u64 = 1;

fn session(n: u64) -> SessionId {
    SessionId::new(n).unwrap()
}

fn data(n: u64, direction: u32, sequence: u64) -> Bytes {
    let mut payload = direction.to_be_bytes().to_vec();
    payload.extend(sequence.to_be_bytes());
    payload.extend([0; 100]);
    Frame::Data { session: session(n), payload: payload.into() }.encode()
}

fn event(at: u64, n: u64, kind: EventKind) -> Event {
    Event { at, host: "relay".to_owned(), daemon: Some("d_1".to_owned()), session: Some(session(n)), kind }
}

fn handshake(wire: &mut WireObserver, at: u64, client: u64, n: u64) {
    wire.opened(at, client, Role::Client, Some(session(n)), false);
    wire.session(session(n), SessionState::Paired);
    let init = Frame::HandshakeInit { session: session(n), client_ephemeral: [0; 32] }.encode();
    let accept = Frame::HandshakeAccept { session: session(n), payload: vec![0; 128].into() }.encode();
    wire.received(at, client, &FrameSeen::read(&init));
    wire.received(at, DAEMON, &FrameSeen::read(&accept));
}

/// One session from its request to its end.
fn one_session(wire: &mut WireObserver, access: &mut AccessObserver, at: u64, n: u64) {
    let (procedure, caller) = ("relay.createSession".to_owned(), Some(format!("u{}", n % 100)));
    let (status, code, token, http, retry_after_ms, took_ms) = (200, None, None, Some(n % 1_000), None, 0);
    let request = EventKind::Request { procedure, status, caller, code, token, http, retry_after_ms, took_ms };
    access.observe(&event(at, n, request));
    let id = n + 10;
    let token = Some(format!("{n:016x}"));
    access.observe(&event(at, n, EventKind::Opened { connection: id, role: Role::Client, token, resumable: None }));
    handshake(wire, at, id, n);
    wire.received(at, id, &FrameSeen::read(&data(n, 1, 0)));
    wire.received(at, DAEMON, &FrameSeen::read(&data(n, 2, 0)));
    wire.session(session(n), SessionState::Gone);
    let (code, by) = (Some(1000), Some(Closer::Peer));
    wire.closed(at, id, code, by, false);
    access.observe(&event(at, n, EventKind::Closed { connection: id, code, by, answered: false }));
    assert_eq!((wire.poll_mark(), access.poll_mark()), (None, None));
}

#[test]
fn a_hundred_thousand_sessions_leave_little_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATOR.allocated();
    let held = || ALLOCATOR.allocated().saturating_sub(before);
    let (mut wire, mut access) = (WireObserver::new(), AccessObserver::new());
    wire.opened(0, DAEMON, Role::Daemon, None, true);
    let mut highest = [0; 10];
    // One each millisecond: faster than anything is forgotten by age.
    for n in 1..=100_000 {
        if n % 45_000 == 0 {
            wire.received(n, DAEMON, &FrameSeen::read(&Frame::Ping(Bytes::new()).encode()));
        }
        one_session(&mut wire, &mut access, n, n);
        let tenth = &mut highest[(n as usize - 1) / 10_000];
        *tenth = held().max(*tenth);
    }
    println!("bytes held at most, by ten thousand sessions: {highest:?}");
    println!("remembered at the end: {} ({} bytes)", access.remembered(), held());
    // What is remembered is bounded, so the last fifth adds nothing.
    assert!(highest[9] <= highest[7] + (1 << 20), "{highest:?}");
    assert!(highest[9] < 32 << 20, "{highest:?}");
    assert!(access.remembered() <= MOST_REMEMBERED + 1_200);
    access.tick(4_000_000);
    wire.closed(100_000, DAEMON, None, None, false);
    assert_eq!(access.remembered(), 0);
    assert!(wire.is_idle());
}

#[test]
fn a_frame_in_order_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wire = WireObserver::new();
    wire.opened(0, DAEMON, Role::Daemon, None, true);
    for n in 1_001..=1_200 {
        handshake(&mut wire, 0, n, n);
    }
    let mut allocated = Vec::new();
    for round in 0..10 {
        let messages: Vec<_> =
            (0..20_000).map(|n| (1_001 + n % 200, data(1_001 + n % 200, 1, round * 100 + n / 200))).collect();
        let before = ALLOCATOR.total_allocated();
        let start = instant();
        for (client, message) in &messages {
            let seen = FrameSeen::read(message);
            wire.received(1, *client, &seen);
            wire.sent(1, DAEMON, &seen);
        }
        let took = start.elapsed();
        allocated.push(ALLOCATOR.total_allocated() - before);
        println!("{} ns a forwarded frame, in and out, with 200 sessions", took.as_nanos() / 20_000);
    }
    // The tests' harness may allocate beside it, but not all the time.
    assert!(allocated.contains(&0), "bytes allocated by rounds of 20,000 frames: {allocated:?}");
    assert_eq!(wire.poll_mark(), None);
}

#[expect(clippy::disallowed_methods, reason = "a figure for people: how long something took on this machine")]
fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

#[test]
fn what_is_broken_again_and_again_is_told_seldom_and_counted() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wire = WireObserver::new();
    wire.opened(0, DAEMON, Role::Daemon, None, true);
    wire.sent(0, DAEMON, &FrameSeen::read(&Frame::Ping(Bytes::from_static(b"right")).encode()));
    let mut log = GradeLog::default();
    let wrong = FrameSeen::read(&Frame::Pong(Bytes::from_static(b"wrong")).encode());
    let mut told = Vec::new();
    for _ in 0..10_000 {
        wire.received(1, DAEMON, &wrong);
        while let Some(mark) = wire.poll_mark() {
            assert_eq!(mark.rule, Rule::Wire20);
            told.extend(log.add("relay", MarkFor { daemon: None, mark }).map(|grade| grade.times));
        }
    }
    assert_eq!(told, (0..14).map(|n| 1 << n).collect::<Vec<u32>>());
    assert_eq!(log.grades().counts[0].count, 10_000);
    for _ in 0..2 * KEPT_GRADES {
        let evidence = String::new();
        let (rule, party) = (Rule::Cli01, Role::Client);
        let mark = Mark { at: 0, rule, party, connection: None, session: None, evidence, times: 1 };
        log.add("relay", MarkFor { daemon: None, mark });
    }
    let grades = log.grades();
    assert_eq!(grades.grades.len(), KEPT_GRADES);
    let counts: Vec<_> = grades.counts.iter().map(|count| (&*count.rule, count.count)).collect();
    assert_eq!(counts, [("WIRE-20", 10_000), ("CLI-01", 2 * KEPT_GRADES as u64)]);
    log.clear();
    assert_eq!(log.grades(), Default::default());
}
