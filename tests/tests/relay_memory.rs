//! What connections cost the relay: little when idle or paused, and no more for what a client sends (REL-25).
//!
//! A binary of its own: the allocator that counts is the whole process's.

#[expect(dead_code, reason = "the rules use more of it")]
#[path = "support/relay_bench.rs"]
mod bench;

use std::{alloc::System, io::Write as _, time::Duration};

use bench::{Bench, DAEMON, control, data};
use cap::Cap;
use sideband_protocol::{relay::RelayQuirks, wire::ControlCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::Mutex,
};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What is allocated is everybody's: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

const CLIENTS: u64 = 1_000;

/// What one idle or paused connection may cost, the test's end of the wire included.
const MOST_PER_CONNECTION: usize = 24 << 10;

/// What the WebSocket library keeps of the largest frame that came, on top: it does not shrink its read buffer.
const MOST_FOR_LARGEST_FRAME: usize = 2 * 65_536;

/// A message as a client sends it, masked with nothing.
fn masked(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, 0xff];
    frame.extend((message.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(message);
    frame
}

/// Lets everybody do what there is to do.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Opens clients whose own end costs next to nothing.
async fn open(bench: &Bench, ids: std::ops::Range<u64>) -> Vec<DuplexStream> {
    let mut wires = Vec::new();
    for n in ids {
        wires.push(bench.raw_client(n).await.0.into_inner());
    }
    settle().await;
    wires
}

async fn discard(wire: &mut DuplexStream) {
    let mut buf = [0; 1_024];
    while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_millis(1), wire.read(&mut buf)).await {}
}

fn tell(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[tokio::test(start_paused = true)]
async fn rel_25_idle_connections_and_paused_sessions_are_small_and_cannot_be_made_to_grow() {
    let _alone = ALONE.lock().await;
    let bench = Bench::with(RelayQuirks::NONE, |config| {
        config.limits.sessions = 10_000;
        config.limits.grace = Duration::from_secs(24 * 60 * 60);
    });
    let daemon = bench.daemon().await;
    let mut wires = open(&bench, 1..10).await;
    let before = ALLOCATOR.allocated();
    wires.extend(open(&bench, 10..10 + CLIENTS).await);
    let per = |bytes: usize| (bytes.saturating_sub(before)) / CLIENTS as usize;
    let idle = per(ALLOCATOR.allocated());

    bench.relay.drop_daemon(DAEMON);
    drop(daemon);
    settle().await;
    for wire in &mut wires {
        discard(wire).await;
    }
    let paused = per(ALLOCATOR.allocated());

    // Each sends the largest frame to the daemon that is away, again and again: after the first it costs no more.
    let frames: Vec<Vec<u8>> = (1..10 + CLIENTS).map(|n| masked(&data(n, vec![7; 65_536]))).collect();
    let theirs = frames.iter().map(Vec::capacity).sum::<usize>();
    let mut rounds = Vec::new();
    for _ in 0..20 {
        for (wire, frame) in wires.iter_mut().zip(&frames) {
            wire.write_all(frame).await.unwrap();
        }
        settle().await;
        rounds.push(per(ALLOCATOR.allocated() - theirs));
    }
    drop(frames);
    let (once, often) = (rounds[0], rounds[19]);
    tell(&format!(
        "bytes a connection: {idle} idle, {paused} paused, {once} after a frame of 64 KiB, {often} after 20"
    ));
    let dropped = bench.relay.status().counters["dropped_session_paused"];
    assert_eq!(dropped, 20 * (9 + CLIENTS));
    assert!(idle < MOST_PER_CONNECTION && paused < MOST_PER_CONNECTION, "{idle}, {paused}");
    assert!(once < MOST_PER_CONNECTION + MOST_FOR_LARGEST_FRAME, "{once}");
    assert!(often < once + 4_096, "{rounds:?}");

    // All of it is given back with the connections.
    drop(wires);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.relay.open_connections(), 0);
    let left = ALLOCATOR.allocated().saturating_sub(before) / CLIENTS as usize;
    tell(&format!("bytes left of each: {left}"));
    // Its id, twice (used, and ended), the newest events, and what the observer remembers of its token.
    assert!(left < 2_500, "{left}");
}

/// A message that never ends is no sign of life, and holds no more than a message may.
#[tokio::test(start_paused = true)]
async fn rel_25_a_message_without_end_is_bounded_and_swept() {
    let _alone = ALONE.lock().await;
    let bench = Bench::new(RelayQuirks::NONE);
    let mut daemon = bench.daemon().await;
    let mut wires = open(&bench, 1..11).await;
    let before = ALLOCATOR.allocated();
    let endless = masked(&vec![7; 1 << 20]);
    for wire in &mut wires {
        wire.write_all(&endless[..endless.len() - 1]).await.unwrap();
    }
    drop(endless);
    settle().await;
    let each = ALLOCATOR.allocated().saturating_sub(before) / wires.len();
    tell(&format!("bytes of a message without end: {each}"));
    assert!(each < (2 << 20) + MOST_PER_CONNECTION, "{each}");
    for n in 1..11 {
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, n));
    }
    assert_eq!(bench.seconds(), 90);
}

/// Sessions whose daemon does not come back cost little, and nothing once their grace is over, whatever their clients do.
#[tokio::test(start_paused = true)]
async fn rel_01_thousands_of_paused_sessions_are_gone_after_their_grace() {
    const PAUSED: u64 = 4_000;
    let _alone = ALONE.lock().await;
    let bench = Bench::with(RelayQuirks::NONE, |config| config.limits.sessions = 10_000);
    let daemon = bench.daemon().await;
    let warm = open(&bench, 1..10).await;
    let before = ALLOCATOR.allocated();
    let mut wires = open(&bench, 10..10 + PAUSED).await;
    bench.relay.drop_daemon(DAEMON);
    drop(daemon);
    settle().await;
    for wire in &mut wires {
        discard(wire).await;
    }
    let paused = bench.relay.daemon(DAEMON).unwrap().sessions;
    assert!(paused.len() as u64 == PAUSED + 9 && paused.iter().all(|session| session.state == "paused"));
    drop(paused);
    let each = ALLOCATOR.allocated().saturating_sub(before) / PAUSED as usize;
    assert!(each < MOST_PER_CONNECTION, "{each}");

    // The grace, and the time that a closing connection may take whose client does not read.
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!((bench.relay.open_connections(), bench.relay.status().daemons), (0, Vec::new()));
    drop((wires, warm));
    settle().await;
    let left = ALLOCATOR.allocated().saturating_sub(before) / PAUSED as usize;
    tell(&format!("{PAUSED} paused sessions: {each} bytes each, {left} after the grace"));
    assert!(left < 1_000, "{left}");
}

/// However much is sent to clients that never read, each costs its backlog at most, and then nothing: it is closed.
#[tokio::test(start_paused = true)]
async fn rel_21_clients_that_never_read_cost_their_backlog_and_no_more() {
    const DEAF: u64 = 50;
    let _alone = ALONE.lock().await;
    let bench = Bench::new(RelayQuirks::NONE);
    let daemon = bench.daemon().await;
    let mut other = bench.client(1).await;
    let wires = open(&bench, 2..2 + DEAF).await;
    let before = ALLOCATOR.allocated();
    let mut most = 0;
    for round in 0..40u8 {
        for n in 2..2 + DEAF {
            daemon.send(data(n, vec![7; 60_000]));
        }
        settle().await;
        most = most.max(ALLOCATOR.allocated().saturating_sub(before) / DEAF as usize);
        // Beside them somebody is served.
        daemon.send(data(1, vec![round; 100]));
        assert_eq!(other.got().await, bench::Got::Frame(data(1, vec![round; 100])));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.relay.open_connections(), 2, "the daemon and the one who reads");
    drop(wires);
    settle().await;
    let left = ALLOCATOR.allocated().saturating_sub(before) / DEAF as usize;
    tell(&format!("{DEAF} clients that never read: {most} bytes each at most, {left} when they are closed"));
    let backlog = 1 << 20;
    assert!(most > backlog / 2 && most < backlog + MOST_FOR_LARGEST_FRAME + MOST_PER_CONNECTION, "{most}");
    assert!(left < 16 << 10, "{left}");
}
