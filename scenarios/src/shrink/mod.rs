//! Shrinking: from a scenario that fails under a seed to a small one that fails in the same way.
//!
//! | module | what |
//! |---|---|
//! | `search` | the smallest so far, and whether a candidate takes its place |
//! | `lists` | fewer faults, steps, hosts and expectations, by delta debugging |
//! | `exact` | rules that are drawn become rules that count |
//! | `leaves` | members left away, shorter and rounder times, smaller numbers |
//! | `regression` | the result as a file to be committed |
//!
//! "The same way" is a failure of the same [`kind`](crate::sim::Failure::kind). The passes are repeated until none finds anything more, or the
//! runs are used up. Nothing is random: the same scenario, seed and runner give the same result.
//!
//! What decides whether a scenario is good stays: `finish`, `duration`, `tick`. Failures of invariants hold for any steps, so everything may
//! go; for what a scenario itself asks (`expect/3`, `always/1`, `call/add`) only trouble may go, since an expectation about a call fails
//! trivially once nobody calls.

mod exact;
mod leaves;
mod lists;
mod regression;
mod search;
#[cfg(test)]
mod tests;

use crate::{
    scenario::{Action, Scenario, Step},
    sim::Failure,
    sweep::{Runner, one},
};
use search::Search;

/// How many runs a search takes if nobody says.
pub const DEFAULT_RUNS: u64 = 2_000;

/// How to shrink.
#[derive(Debug, Clone)]
pub struct ShrinkOptions {
    /// The kind of failure that must stay; that of the first failure if there is none.
    pub kind: Option<String>,
    /// Most runs.
    pub runs: u64,
}

impl Default for ShrinkOptions {
    fn default() -> Self {
        Self { kind: None, runs: DEFAULT_RUNS }
    }
}

/// How large a scenario is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// Rules of the fault plan, and steps that make trouble.
    pub faults: usize,
    /// All steps.
    pub steps: usize,
    /// Hosts, copies included.
    pub hosts: usize,
}

impl Size {
    /// Of this scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let trouble = scenario.steps.iter().filter(|step| is_trouble(step)).count();
        Self {
            faults: scenario.faults.len() + trouble,
            steps: scenario.steps.len(),
            hosts: scenario.hosts.iter().map(|host| host.count.unwrap_or(1) as usize).sum(),
        }
    }
}

/// What came of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// The smallest scenario, with the seed in it.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// What fails in it.
    pub failure: Failure,
    /// Runs that the search took.
    pub runs: u64,
    /// Whether nothing more was found, and the runs were enough to know.
    pub finished: bool,
    /// How large the scenario was.
    pub before: Size,
    /// How large it is.
    pub after: Size,
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShrinkProgress {
    /// Runs so far.
    pub runs: u64,
    /// The smallest scenario's size.
    pub size: Size,
}

/// Why there is nothing to shrink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShrinkError {
    /// It does not fail.
    #[error("nothing fails under seed {seed}")]
    Good {
        /// The seed.
        seed: u64,
    },
    /// It fails, but not so.
    #[error("under seed {seed} nothing fails as {kind}; what fails is {}", .there.join(", "))]
    OtherKind {
        /// The seed.
        seed: u64,
        /// The kind that was asked for.
        kind: String,
        /// The kinds that there are.
        there: Vec<String>,
    },
}

/// Shrinks a scenario that fails under a seed. `told` hears of every run.
///
/// # Errors
/// It does not fail, or not in the way that was asked for.
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    runner: &impl Runner,
    options: &ShrinkOptions,
    told: &mut dyn FnMut(&ShrinkProgress),
) -> Result<Shrunk, ShrinkError> {
    let outcome = one(scenario, seed, false, runner);
    let Some(first) = outcome.failures.first() else { return Err(ShrinkError::Good { seed }) };
    let kind = options.kind.clone().unwrap_or_else(|| first.kind.clone());
    if !outcome.failures.iter().any(|failure| failure.kind == kind) {
        let there = outcome.failures.into_iter().map(|failure| failure.kind).collect();
        return Err(ShrinkError::OtherKind { seed, kind, there });
    }
    let before = Size::of(scenario);
    let mut search = Search::new(scenario.clone(), outcome, seed, kind, runner, options.runs, told);
    search.name_rules();
    let finished = loop {
        let found = [
            lists::fewer_faults(&mut search),
            lists::less_trouble(&mut search),
            lists::fewer_steps(&mut search),
            lists::fewer_hosts(&mut search),
            lists::fewer_copies(&mut search),
            lists::fewer_expectations(&mut search),
            exact::count(&mut search),
            leaves::smaller(&mut search),
        ];
        if search.is_exhausted() {
            break false;
        }
        if !found.contains(&true) {
            break true;
        }
    };
    Ok(search.into_shrunk(before, finished))
}

/// Whether a step disturbs: the network, a host, the fault plan. The others are what the scenario is about.
pub(crate) fn is_trouble(step: &Step) -> bool {
    match &step.action {
        Action::Restart(_)
        | Action::Crash(_)
        | Action::Drop(_)
        | Action::Limits(_)
        | Action::AddFault(_)
        | Action::Partition(_)
        | Action::PartitionOneWay(_)
        | Action::Hold(_)
        | Action::Latency(_)
        | Action::Loss(_)
        | Action::Vanish(_) => true,
        Action::Call(_)
        | Action::Emit(_)
        | Action::Subscribe(_)
        | Action::Broadcast(_)
        | Action::Tick(_)
        | Action::Close
        | Action::Start
        | Action::Rotate(_)
        | Action::RotateIdentity(_)
        | Action::Code(_)
        | Action::Redeem(_)
        | Action::RemoveFault(_)
        | Action::Repair(_)
        | Action::Release(_)
        | Action::Check(_)
        | Action::Note(_) => false,
    }
}
