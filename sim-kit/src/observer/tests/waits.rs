//! CLI-06: endpoints that wait as they were told are never marked, however many share a connection; one that does not wait is.

use super::{super::*, bench::*};

const ASK: &str = "relay.createSession";

/// Clients that share an HTTP connection, each told to wait again and again; each comes when its wait is over, `late` ms later than that.
/// They start one after the other, `apart` ms apart.
fn share(clients: u64, apart: u64, wait: u64, late: u64) -> Vec<(Rule, Role)> {
    let mut bench = Bench::default();
    let mut next: Vec<u64> = (0..clients).map(|n| n * apart).collect();
    for at in 0..400 {
        let at = at * 500;
        for next in &mut next {
            if *next <= at {
                bench.asks(ASK, 429, "u", Some(wait));
                *next = at + wait + late;
            }
        }
        bench.after(500);
    }
    bench.rules()
}

#[test]
fn cli_06_clients_that_share_a_connection_and_wait_get_no_mark() {
    for clients in [1, 2, 3, MOST_SHARING as u64] {
        for (apart, wait, late) in
            [(3_000, 5_000, 0), (3_000, 7_000, 1_500), (0, 5_000, 0), (500, 60_000, 500), (1_000, 1_000, 0)]
        {
            assert_eq!(
                share(clients, apart, wait, late),
                [],
                "{clients} clients, {apart} ms apart, {wait} ms to wait, {late} ms late"
            );
        }
    }
}

#[test]
fn cli_06_who_asks_every_three_seconds_is_marked_however_long_it_goes_on() {
    let mut bench = Bench::default();
    for _ in 0..20 {
        bench.asks(ASK, 429, "u", Some(60_000)).after(3_000);
    }
    let first = bench.rules().len();
    assert!(first > 0);
    for _ in 0..200 {
        bench.asks(ASK, 429, "u", Some(60_000)).after(3_000);
    }
    assert!(bench.rules().len() > first);
}

/// A slow answer is told after one that was asked for later.
#[test]
fn cli_06_answers_out_of_order_are_nobody_s_fault() {
    let mut bench = Bench::default();
    for _ in 0..MOST_SHARING - 1 {
        bench.asks(ASK, 429, "u", Some(1_000));
    }
    bench.after(1_500);
    // All of them come again; the answer to one that began before the waits were over is told last.
    for _ in 0..MOST_SHARING - 1 {
        bench.asks(ASK, 429, "u", Some(60_000));
    }
    bench.asks_for(ASK, 429, "u", Some(60_000), 1_400);
    assert_eq!(bench.rules(), []);
    bench.asks(ASK, 429, "u", Some(60_000));
    assert_eq!(bench.rules(), [(Rule::Cli06, Role::Client)]);
}
