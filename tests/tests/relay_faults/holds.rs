//! While the relay does not read a connection, or keeps what it sends there, it says nothing bad of who is at its other end. Each endpoint here
//! Pings every 45 s, as it has to (CLI-13), and hears late of that, or the relay does.

use std::time::Duration;

use bytes::Bytes;
use sideband_protocol::wire::{Frame, FrameType};
use sideband_sim_kit::{event::Role, limits::RelayLimitsPatch};

use crate::{Faulty, bench::*};

/// Longer than anything on a line may take.
const LONG: u64 = 230;

fn ping() -> Bytes {
    Frame::Ping(Bytes::from_static(b"45 s")).encode()
}

fn sealed(direction: u32, sequence: u64, payload: usize) -> Bytes {
    data(1, [&direction.to_be_bytes()[..], &sequence.to_be_bytes(), &vec![0xa5; payload]].concat())
}

/// A daemon and a client with an exchange of keys behind them, and one Data each way.
async fn active(faulty: &Faulty) -> (Peer, Peer) {
    let (mut daemon, mut client) = (faulty.bench.daemon().await, faulty.bench.client(1).await);
    client.send(Frame::HandshakeInit { session: id(1), client_ephemeral: [1; 32] }.encode());
    daemon.got().await;
    daemon.send(Frame::HandshakeAccept { session: id(1), payload: vec![2; 128].into() }.encode());
    client.got().await;
    client.send(sealed(1, 0, 30));
    daemon.got().await;
    daemon.send(sealed(2, 0, 30));
    client.got().await;
    (daemon, client)
}

/// For `seconds`, these send a Ping every 45 s.
async fn live(peers: [&Peer; 2], seconds: u64) {
    for second in 1..=seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if second % 45 == 0 {
            peers.iter().for_each(|peer| peer.send(ping()));
        }
    }
}

/// The rules that somebody broke.
fn broken(faulty: &Faulty) -> Vec<String> {
    faulty.bench.relay.events().grades().counts.into_iter().map(|count| count.rule).collect()
}

fn limits(faulty: &Faulty, patch: &str) {
    faulty.bench.relay.set_limits(&RelayLimitsPatch::parse_json(patch.as_bytes()).unwrap()).unwrap();
}

/// A client and a daemon that Ping, while this rule holds one of them back.
async fn held_back_by(rule: &str) {
    let faulty = Faulty::new("");
    let (daemon, client) = active(&faulty).await;
    faulty.set(&format!("[[fault]]\nid = \"one\"\n{rule}"));
    [&client, &daemon].iter().for_each(|peer| peer.send(ping()));
    live([&client, &daemon], LONG + 60).await;
    client.send(sealed(1, 1, 30));
    daemon.send(sealed(2, 1, 30));
    live([&client, &daemon], 60).await;
    assert_eq!(broken(&faulty), [""; 0], "{rule}");
    assert!(faulty.counts().iter().any(|(_, fired)| *fired > 0), "{rule}");
}

#[tokio::test(start_paused = true)]
async fn cli_13_a_pause_is_held_against_nobody() {
    for role in ["client", "daemon"] {
        held_back_by(&format!("on = \"relay.connection\"\nrole = \"{role}\"\ndo = {{ pause = \"{LONG}s\" }}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn cli_13_a_frame_that_is_kept_is_held_against_nobody() {
    for role in ["client", "daemon"] {
        for direction in ["in", "out"] {
            let what = format!("role = \"{role}\"\ndirection = \"{direction}\"\ntimes = 1");
            held_back_by(&format!("on = \"relay.frame\"\n{what}\ndo = {{ delay = \"{LONG}s\" }}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wire_20_a_ping_of_the_relay_that_is_kept_is_held_against_nobody() {
    for role in ["client", "daemon"] {
        let what = format!("role = \"{role}\"\ndirection = \"out\"\nframe = \"ping\"\ntimes = 1");
        for action in [format!("delay = \"{LONG}s\""), "reorder = 64".to_owned()] {
            held_back_by(&format!("on = \"relay.frame\"\n{what}\ndo = {{ {action} }}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cry_11_a_daemon_that_gets_an_init_late_has_its_30_s_from_then_on() {
    for (role, direction) in [("client", "in"), ("daemon", "out")] {
        let what = format!("role = \"{role}\"\ndirection = \"{direction}\"\nframe = \"handshake_init\"");
        let faulty = Faulty::one(&format!("on = \"relay.frame\"\n{what}\ndo = {{ delay = \"240s\" }}"));
        let (mut daemon, client) = (faulty.bench.daemon().await, faulty.bench.client(1).await);
        client.send(Frame::HandshakeInit { session: id(1), client_ephemeral: [1; 32] }.encode());
        live([&client, &daemon], LONG).await;
        let grades = faulty.bench.relay.events().grades().grades;
        assert!(grades.iter().all(|grade| (&*grade.rule, grade.party) == ("CRY-11", Role::Client)), "{grades:?}");
        let init = std::iter::from_fn(|| daemon.try_got()).any(|got| is_init(&got));
        assert!(!init, "{role}: it has not come yet");
        live([&client, &daemon], 11).await;
        assert!(std::iter::from_fn(|| daemon.try_got()).any(|got| is_init(&got)), "{role}");
        live([&client, &daemon], LONG).await;
        let grades = faulty.bench.relay.events().grades().grades;
        let of_daemon = grades.iter().find(|grade| grade.party == Role::Daemon).map(|grade| &*grade.rule);
        assert_eq!(of_daemon, Some("CRY-11"), "{role}: now it has had it for long");
    }
}

fn is_init(got: &Got) -> bool {
    matches!(got, Got::Frame(frame) if frame.first() == Some(&FrameType::HandshakeInit.byte()))
}

#[tokio::test(start_paused = true)]
async fn rel_20_a_rate_that_throttles_is_held_against_nobody() {
    let faulty = Faulty::new("");
    let (mut daemon, client) = active(&faulty).await;
    limits(&faulty, r#"{"rateMode":"throttle","framesPerSecond":1,"burst":1}"#);
    (1..=350).for_each(|n| client.send(sealed(1, n, 30)));
    for _ in 0..6 {
        live([&client, &daemon], 45).await;
    }
    assert_eq!(broken(&faulty), [""; 0]);
    let mut got = 0;
    while daemon.within(Duration::from_millis(1)).await.is_some() {
        got += 1;
    }
    assert!((200..350).contains(&got), "{got} frames came through in 270 s");
}

#[tokio::test(start_paused = true)]
async fn rel_21_a_daemon_that_takes_nothing_is_held_against_no_client() {
    let faulty = Faulty::new("");
    limits(&faulty, r#"{"sessionBacklog":65536,"stall":"10m"}"#);
    let (daemon, client) = active(&faulty).await;
    faulty.set("[[fault]]\nid = \"one\"\non = \"relay.connection\"\nrole = \"daemon\"\ndo = { pause = \"230s\" }");
    (1..=40).for_each(|n| client.send(sealed(1, n, 8_000)));
    live([&client, &daemon], LONG + 60).await;
    assert_eq!(broken(&faulty), [""; 0]);
    assert_eq!(faulty.counts()[0].1, 1);
}

#[tokio::test(start_paused = true)]
async fn cli_13_who_sends_no_ping_is_marked_where_the_relay_reads() {
    let faulty = Faulty::new("");
    let (daemon, client) = active(&faulty).await;
    live([&daemon, &daemon], LONG).await;
    client.send(sealed(1, 1, 30));
    live([&daemon, &daemon], 1).await;
    assert_eq!(broken(&faulty), ["CLI-13"]);
}
