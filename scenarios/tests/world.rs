//! The proven world: the same seed gives the same trace in every process, other seeds other orders.

#![expect(clippy::print_stdout, reason = "one process prints its trace for another")]

use std::{collections::BTreeSet, process::Command};

use sideband_scenarios::world;

const SEED: &str = "SIDEBAND_TEST_PRINT_TRACE";
const MARK: &str = "--- trace ---";

/// Not a test of its own: what `same_seed_gives_the_same_trace_in_every_process` runs in another process.
#[test]
fn print_trace() {
    let Ok(seed) = std::env::var(SEED) else { return };
    let trace = world::run(seed.parse().unwrap()).unwrap();
    println!("{MARK}{}{MARK}", trace.to_ndjson());
}

fn trace_of_another_process(seed: u64) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "print_trace", "--nocapture"])
        .env(SEED, seed.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(MARK).nth(1).expect("the other process printed a trace").to_owned()
}

#[test]
fn same_seed_gives_the_same_trace_in_every_process() {
    let (first, second) = (trace_of_another_process(7), trace_of_another_process(7));
    assert!(first.lines().count() > 100, "a trace that says something: {} lines", first.lines().count());
    assert!(first == second, "two processes gave different traces for one seed");
    // And in this one, after other runs.
    world::run(8).unwrap();
    assert!(world::run(7).unwrap().to_ndjson() == first, "the same process gave another trace after another run");
}

#[test]
fn fifty_seeds_give_at_least_forty_five_orders() {
    let orders: BTreeSet<Vec<String>> = (0..50).map(|seed| world::run(seed).unwrap().order()).collect();
    assert!(orders.len() >= 45, "50 seeds gave {} orders of events", orders.len());
}

#[test]
fn trace_of_seed_0() {
    let trace = world::run(0).unwrap();
    insta::assert_snapshot!("world_seed_0", format!("{}\nhash {}\n", trace.story(), trace.hash()));
}
