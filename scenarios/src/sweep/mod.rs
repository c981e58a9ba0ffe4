//! Sweeps: a scenario under many seeds, on several threads, with one report.
//!
//! | module | what |
//! |---|---|
//! | `runner` | what a run comes to; the real one, or any other in tests |
//! | `seeds` | which seeds: a range, a shard of it |
//! | `fold` | outcomes in the order of their seeds, and when to stop |
//! | `report` | the report, as JSON |
//! | `panics` | a panic in a run is a failure of its seed |
//!
//! The report is the same for the same scenario and options, however many threads there were and whichever was faster: outcomes are taken in
//! the order of their seeds, and those behind the seed that ends the sweep are forgotten.
//!
//! Every run lives on one thread: turmoil keeps the world that is being stepped in a thread-local, tokio's runtimes in it are
//! single-threaded and seeded, and nothing of ours is global. So runs on several threads do not see each other.

mod fold;
mod panics;
mod report;
mod runner;
mod seeds;
#[cfg(test)]
mod tests;

use std::{
    num::NonZeroUsize,
    ops::Range,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use self::fold::Fold;
pub use self::{
    report::{Listed, Met, REPORT_VERSION, Report, SeedFailed, SeedRange, Stopped, reproduce_line, scenario_hash},
    runner::{Outcome, Real, Runner},
    seeds::{Shard, ShardError},
};
use crate::{scenario::Scenario, swarm::swarm};

/// How many seeds in a row bring no new situation before `--until-plateau` stops: a situation that one seed in a hundred reaches is missed by
/// so many with a probability below 1 %.
pub const PLATEAU: u64 = 500;
/// Most failed seeds of which a report tells more than their number.
pub const MOST_TOLD: usize = 200;

/// What is swept, and when to stop.
#[derive(Debug, Clone)]
pub struct SweepOptions {
    /// How the user calls the scenario: a built-in's name, or a path. It stands in the lines that reproduce failures.
    pub called: String,
    /// The seeds.
    pub seeds: Range<u64>,
    /// The part of them that is run here.
    pub shard: Shard,
    /// Threads.
    pub jobs: NonZeroUsize,
    /// Whether each seed draws trouble and load: see [`swarm`](mod@crate::swarm).
    pub swarm: bool,
    /// Whether failures end nothing.
    pub keep_going: bool,
    /// After how many seeds in a row without a new situation the sweep ends; never if there is none.
    pub plateau: Option<u64>,
}

/// How far a sweep is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Runs that have ended.
    pub done: u64,
    /// Runs that there are at most.
    pub total: u64,
    /// Seeds that failed so far.
    pub failed: u64,
    /// Situations reached so far.
    pub situations: usize,
    /// Virtual time of all runs so far.
    pub simulated: Duration,
}

/// Sweeps a scenario. `told` hears of every run that ended, in the order in which they end.
pub fn sweep(
    scenario: &Scenario,
    runner: &impl Runner,
    options: &SweepOptions,
    told: &mut dyn FnMut(&Progress),
) -> Report {
    let total = options.shard.count(&options.seeds);
    let next = AtomicU64::new(0);
    // Runs behind this place matter to nobody any more.
    let last = AtomicU64::new(u64::MAX);
    let mut fold = Fold::new(options.keep_going, options.plateau);
    let mut progress = Progress { done: 0, total, failed: 0, situations: 0, simulated: Duration::ZERO };
    thread::scope(|scope| {
        let (done, outcomes) = mpsc::channel();
        for _ in 0..options.jobs.get() {
            let done = done.clone();
            scope.spawn(|| {
                let done = done;
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= total || place > last.load(Ordering::Relaxed) {
                        break;
                    }
                    let seed = options.shard.seed(&options.seeds, place);
                    let outcome = one(scenario, seed, options.swarm, runner);
                    if !outcome.failures.is_empty() && !options.keep_going {
                        last.fetch_min(place, Ordering::Relaxed);
                    }
                    if done.send((place, seed, outcome)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        for (place, seed, outcome) in outcomes {
            progress.done += 1;
            progress.failed += u64::from(!outcome.failures.is_empty());
            progress.simulated += outcome.simulated;
            fold.take(place, seed, outcome);
            progress.situations = fold.situations();
            if let Some(end) = fold.ended() {
                last.fetch_min(end, Ordering::Relaxed);
            }
            told(&progress);
        }
    });
    fold.report(scenario, &runner.situations(), options)
}

/// One run, in which a panic is a failure.
pub(crate) fn one(scenario: &Scenario, seed: u64, drawn: bool, runner: &impl Runner) -> Outcome {
    let run = || if drawn { runner.run(&swarm(scenario, seed), seed) } else { runner.run(scenario, seed) };
    panics::caught(run).unwrap_or_else(Outcome::failed)
}
