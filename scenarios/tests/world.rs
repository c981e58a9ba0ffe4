//! The proven world: the same seed gives the same trace in every process, other seeds other orders.

#![expect(clippy::print_stdout, reason = "one process prints its trace for another")]

use std::{collections::BTreeSet, process::Command, sync::OnceLock};

use sideband_scenarios::{trace::Trace, world};
use sideband_sim_kit::{
    event::{Direction, Event, EventKind},
    observer::{Observer, Rule},
};

const SEED: &str = "SIDEBAND_TEST_PRINT_TRACE";
const MARK: &str = "--- trace ---";

/// Not a test of its own: what `same_seed_gives_the_same_trace_in_every_process` runs in another process.
#[test]
fn print_trace() {
    let Ok(seed) = std::env::var(SEED) else { return };
    let trace = world::run(seed.parse().unwrap()).unwrap();
    println!("{MARK}{}{MARK}", trace.to_ndjson());
}

/// The traces of the first fifty seeds.
fn fifty() -> &'static [Trace] {
    static TRACES: OnceLock<Vec<Trace>> = OnceLock::new();
    TRACES.get_or_init(|| (0..50).map(|seed| world::run(seed).unwrap()).collect())
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
    let orders: BTreeSet<Vec<String>> = fifty().iter().map(Trace::order).collect();
    assert!(orders.len() >= 45, "50 seeds gave {} orders of events", orders.len());
}

/// Endpoints that keep the rules get no mark: neither live, while their lines are cut and they come back, nor by their traces.
#[test]
fn fifty_seeds_give_no_grade() {
    for (seed, trace) in fifty().iter().enumerate() {
        let mut observer = Observer::new();
        let mut frames = 0;
        for event in trace.events() {
            assert!(!matches!(event.kind, EventKind::Grade { .. }), "seed {seed}: {event:?}");
            assert_eq!(observer.observe(event), [], "seed {seed}: {event:?}");
            frames += usize::from(matches!(event.kind, EventKind::Frame { .. }));
        }
        assert!(frames > 100, "seed {seed}: {frames} frames");
    }
}

/// The same observer marks the same traces once a Data comes twice.
#[test]
fn traces_with_a_repeated_frame_give_a_mark() {
    for (seed, trace) in fifty().iter().enumerate() {
        let mut observer = Observer::new();
        let is_data = |event: &&Event| matches!(&event.kind, EventKind::Frame { direction: Direction::In, frame, .. } if frame == "data");
        let repeated = trace.events().iter().find(is_data).unwrap();
        let marks: Vec<_> = trace
            .events()
            .iter()
            .flat_map(|event| std::iter::repeat_n(event, if event == repeated { 2 } else { 1 }))
            .flat_map(|event| observer.observe(event))
            .map(|marked| marked.mark.rule)
            .collect();
        assert_eq!(marks, [Rule::Cry04], "seed {seed}");
    }
}

#[test]
fn trace_of_seed_0() {
    let trace = world::run(0).unwrap();
    insta::assert_snapshot!("world_seed_0", format!("{}\nhash {}\n", trace.story(), trace.hash()));
}
