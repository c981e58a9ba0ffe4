//! What the tests of built-in scenarios have in common: runs that must be good, and what is told of them in snapshots.

use sideband_scenarios::{
    builtin,
    sim::{self, Run, RunOptions},
};
use sideband_sim_kit::event::EventKind;

/// Runs a built-in scenario, which must be good, and all its faults must fire.
pub(crate) fn run(name: &str, seed: u64) -> Run {
    let scenario = builtin::find(name).unwrap().scenario().unwrap();
    let run = sim::run(&scenario, seed, &RunOptions::default()).unwrap();
    assert_eq!(run.failures, [], "{name}, seed {seed}:\n{}", run.trace.story());
    assert_eq!(run.never_fired, [""; 0], "{name}, seed {seed}");
    run
}

/// What happens, without frames, requests for tokens and numbers that drift.
pub(crate) fn told(run: &Run) -> String {
    let whole = run.trace.order();
    let events = run.trace.events();
    let lines = whole.iter().zip(events).filter(|(_, event)| !matches!(event.kind, EventKind::Frame { .. }));
    lines.map(|(line, _)| format!("{line}\n")).collect()
}
