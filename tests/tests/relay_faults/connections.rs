//! `relay.connection`.

use std::time::Duration;

use sideband_protocol::wire::{ControlCode, Signal};
use sideband_sim_kit::fault::{FaultRule, Format};

use crate::{Faulty, bench::*};

fn one(filter: &str, action: &str) -> Faulty {
    Faulty::one(&format!("on = \"relay.connection\"\n{filter}\ndo = {action}"))
}

#[tokio::test(start_paused = true)]
async fn rel_11_a_ghost_is_connected_until_the_sweep_and_neither_reads_nor_writes() {
    let faulty = one("role = \"daemon\"\nage = \"10s\"\ntimes = 1", "\"ghost\"");
    let mut daemon = faulty.bench.raw_daemon().await.pumped();
    let mut client = faulty.bench.client(1).await;
    daemon.is_undisturbed().await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    client.send(data(1, vec![1; 40]));
    daemon.send(data(1, vec![2; 40]));
    assert_eq!(daemon.within(Duration::from_secs(60)).await, None);
    assert!(faulty.bench.relay.daemon(DAEMON).unwrap().online);
    // 90 s after its last frame, at the first second.
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    assert_eq!((faulty.bench.seconds(), faulty.counts()), (90, vec![(1, 1)]));
    assert_eq!(daemon.got().await, Got::Lost, "no close frame reaches it");
}

#[tokio::test(start_paused = true)]
async fn rel_12_a_ghost_daemon_is_replaced_by_its_fresh_socket() {
    let faulty = one("role = \"daemon\"\ntimes = 1", "\"ghost\"");
    let mut ghost = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    let mut daemon = faulty.bench.daemon().await;
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
    daemon.send(signal(1, Signal::Ready));
    assert_eq!(client.got().await, control(ControlCode::SessionResumed, 1));
    assert_eq!(ghost.got().await, Got::Lost);
    daemon.is_undisturbed().await;
    assert_eq!(faulty.counts(), [(2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn rel_11_a_ghost_client_goes_at_the_sweep() {
    let faulty = one("role = \"client\"\nsession = \"0000000000000001\"", "\"ghost\"");
    let mut daemon = faulty.bench.daemon().await;
    let _ghost = faulty.bench.client(1).await;
    let mut other = faulty.bench.client(2).await;
    other.is_undisturbed().await;
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    assert_eq!((faulty.bench.seconds(), faulty.counts()), (90, vec![(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_pause_delays_everything_and_loses_nothing() {
    let faulty = one("role = \"daemon\"", "{ pause = \"200s\" }");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    for n in 0..5 {
        client.send(data(1, vec![n; 40]));
        daemon.send(data(1, vec![n; 40]));
    }
    assert_eq!(client.within(Duration::from_secs(199)).await, None);
    assert_eq!(daemon.within(Duration::ZERO).await, None);
    for n in 0..5 {
        assert_eq!(client.got().await, Got::Frame(data(1, vec![n; 40])));
        assert_eq!(daemon.got().await, Got::Frame(data(1, vec![n; 40])));
    }
    assert_eq!((faulty.bench.seconds(), faulty.counts()), (200, vec![(1, 1)]));
    daemon.is_undisturbed().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_cut_at_its_age() {
    let faulty = one("role = \"daemon\"\nage = \"30s\"\ntimes = 1", "\"cut\"");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    assert_eq!((faulty.bench.seconds(), daemon.got().await), (30, Got::Lost));
    let mut back = faulty.bench.daemon().await;
    assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
    tokio::time::sleep(Duration::from_secs(25)).await;
    back.is_undisturbed().await;
    assert_eq!(faulty.counts(), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_with_a_code() {
    let faulty = one("role = \"client\"", "{ close = 4321, reason = \"as asked\" }");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    assert_eq!(client.got().await, Got::Close(4321));
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    assert_eq!(faulty.counts(), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn wire_09_a_terminal_control_is_followed_by_its_close_and_another_is_not() {
    let faulty = one("role = \"client\"", "{ control = \"internal_error\" }");
    let mut daemon = faulty.bench.daemon().await;
    faulty.bench.client(1).await.is_refused(ControlCode::InternalError, 0, 1011).await;
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    for (code, name) in
        [(ControlCode::SessionPaused, "\"session_paused\""), (ControlCode::RateLimited, "\"rate_limited\"")]
    {
        let faulty = one("role = \"client\"", &format!("{{ control = {name} }}"));
        let mut daemon = faulty.bench.daemon().await;
        let mut client = faulty.bench.client(1).await;
        let session = if code == ControlCode::RateLimited { 0 } else { 1 };
        assert_eq!(client.got().await, control(code, session));
        client.is_undisturbed().await;
        daemon.is_undisturbed().await;
        assert_eq!(faulty.counts(), [(1, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn wire_05_after_a_control_that_no_table_has_it_is_for_the_endpoint_to_go() {
    let faulty = one("role = \"client\"", "{ control = 30583 }");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    let Got::Frame(frame) = client.got().await else { panic!("no frame") };
    assert_eq!(frame[13..15], [0x77, 0x77], "{frame:?}");
    client.is_undisturbed().await;
    daemon.is_undisturbed().await;
    assert_eq!(faulty.counts(), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn rel_20_a_connection_has_a_rate_of_its_own() {
    let faulty = one("session = \"0000000000000001\"", "{ limit = 2, burst = 3 }");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    let mut other = faulty.bench.client(2).await;
    for _ in 0..5 {
        client.send(data(1, vec![1; 40]));
        other.send(data(2, vec![2; 40]));
    }
    assert_eq!(client.got().await, control(ControlCode::RateLimited, 0));
    other.is_undisturbed().await;
    let mut got = [0, 0];
    while let Some(Got::Frame(frame)) = daemon.within(Duration::from_secs(1)).await {
        got[usize::from(frame[13]) - 1] += 1;
    }
    assert_eq!((got, faulty.counts()), ([3, 5], vec![(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_pause_and_a_rate_end_with_their_rule() {
    for window in [None, Some("for = \"7s\"")] {
        let faulty = one(&format!("role = \"daemon\"\n{}", window.unwrap_or_default()), "{ pause = \"1h\" }");
        let mut daemon = faulty.bench.daemon().await;
        let client = faulty.bench.client(1).await;
        client.send(data(1, vec![1; 40]));
        assert_eq!(daemon.within(Duration::from_secs(5)).await, None);
        if window.is_none() {
            faulty.faults.clear().unwrap();
        }
        assert_eq!(daemon.got().await, Got::Frame(data(1, vec![1; 40])));
        assert_eq!(faulty.bench.seconds(), if window.is_none() { 5 } else { 7 });

        let rule = "role = \"client\"";
        let faulty = one(&format!("{rule}\n{}", window.unwrap_or_default()), "{ limit = 1 }");
        let mut daemon = faulty.bench.daemon().await;
        let mut client = faulty.bench.client(1).await;
        (0..3).for_each(|_| client.send(data(1, vec![1; 40])));
        assert_eq!(client.got().await, control(ControlCode::RateLimited, 0));
        assert_eq!(daemon.got().await, Got::Frame(data(1, vec![1; 40])));
        if window.is_none() {
            faulty.faults.clear().unwrap();
        }
        tokio::time::sleep(Duration::from_secs(8)).await;
        (0..9).for_each(|_| client.send(data(1, vec![2; 40])));
        for _ in 0..9 {
            assert_eq!(daemon.got().await, Got::Frame(data(1, vec![2; 40])), "{window:?}");
        }
        client.is_undisturbed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn rel_24_the_relay_restarts() {
    let faulty = one("role = \"daemon\"\nage = \"5s\"\ntimes = 1", "{ restart = \"20s\" }");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    assert_eq!(client.got().await, Got::Close(1012));
    assert_eq!(daemon.got().await, Got::Close(1012));
    assert_eq!(faulty.bench.seconds(), 5);
    assert_eq!(faulty.bench.refusal(&Bench::client_claims(2)).await, 503);
    tokio::time::sleep(Duration::from_secs(21)).await;
    faulty.bench.daemon().await.is_undisturbed().await;
    assert_eq!(faulty.counts(), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_comes_later_finds_those_who_are_connected() {
    let faulty = Faulty::new("");
    let mut daemon = faulty.bench.daemon().await;
    let mut client = faulty.bench.client(1).await;
    client.is_undisturbed().await;
    let rule = "on = \"relay.connection\"\nrole = \"client\"\nfrom = \"2s\"\nfor = \"1s\"\ndo = \"cut\"";
    faulty.faults.add(FaultRule::parse(rule, Format::Toml).unwrap()).unwrap();
    assert_eq!(client.got().await, Got::Lost);
    assert_eq!(faulty.bench.seconds(), 2);
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    // Its window is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    faulty.bench.client(2).await.is_undisturbed().await;
    assert_eq!(faulty.counts(), [(1, 1)]);
}
