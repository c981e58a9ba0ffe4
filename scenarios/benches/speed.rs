//! How fast scenarios run: simulated seconds a second on the wall, and seeds a minute, on one core.
//!
//! `cargo bench -p sideband-scenarios`; with a name, `cargo bench -p sideband-scenarios -- daemon-blip-resume`, only of that one.
//! A plain harness: a run takes milliseconds and always does the same, so the mean over some seconds says all.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]

use std::time::Duration;

use sideband_env::Timeline;
use sideband_scenarios::{
    builtin,
    scenario::Scenario,
    sim::{RunOptions, run},
    swarm::swarm,
};

/// How long each is measured.
const MEASURED: Duration = Duration::from_secs(5);
const NAMES: [&str; 2] = ["daemon-blip-resume", "long-haul"];

fn main() {
    // Cargo says --bench.
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("{:<32} {:>8} {:>16} {:>16} {:>12}", "scenario", "runs", "sim. s / s", "seeds / min", "events / s");
    for builtin in builtin::all() {
        let wanted = if asked.is_empty() {
            NAMES.contains(&builtin.name)
        } else {
            asked.iter().any(|name| name == builtin.name)
        };
        if !wanted {
            continue;
        }
        match builtin.scenario() {
            Ok(scenario) => {
                measure(builtin.name, |_| scenario.clone());
                measure(&format!("{} --swarm", builtin.name), |seed| swarm(&scenario, seed));
            }
            Err(error) => println!("{error}"),
        }
    }
}

fn measure(name: &str, scenario: impl Fn(u64) -> Scenario) {
    let timeline = Timeline::start();
    let (mut runs, mut simulated, mut events) = (0, Duration::ZERO, 0);
    while timeline.elapsed() < MEASURED {
        match run(&scenario(runs), runs, &RunOptions::default()) {
            Ok(run) => {
                simulated += run.elapsed;
                events += run.trace.events().len();
            }
            Err(error) => return println!("{name}: {error}"),
        }
        runs += 1;
    }
    let took = timeline.elapsed().as_secs_f64();
    println!(
        "{name:<32} {runs:>8} {:>16.0} {:>16.0} {:>12.0}",
        simulated.as_secs_f64() / took,
        runs as f64 * 60.0 / took,
        events as f64 / took
    );
}
