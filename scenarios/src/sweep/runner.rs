//! What runs a scenario under a seed, and what a run comes to.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sideband_sim_kit::event::EventKind;

use crate::{
    scenario::Scenario,
    sim::{Failure, Run, RunOptions, run},
    situation::{Situation, Situations},
};

/// Runs scenarios; on several threads at once.
pub trait Runner: Sync {
    /// Runs one. The same outcome for the same scenario and seed, whatever ran before or runs beside it.
    fn run(&self, scenario: &Scenario, seed: u64) -> Outcome;

    /// All situations that a run can reach, by name.
    fn situations(&self) -> BTreeSet<String>;
}

/// What a run comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What failed; empty for a good run.
    pub failures: Vec<Failure>,
    /// The situations that it reached, by name.
    pub situations: BTreeSet<String>,
    /// Virtual time that it took.
    pub simulated: Duration,
    /// Events of its trace.
    pub events: u64,
    /// How often each rule of the fault plan fired, by its id.
    pub fired: BTreeMap<String, u64>,
}

impl Outcome {
    /// Of a run that did not get to an end.
    pub(super) fn failed(failure: Failure) -> Self {
        Self { failures: vec![failure], ..Self::default() }
    }
}

/// Runs scenarios in the simulator.
#[derive(Debug, Clone, Default)]
pub struct Real {
    /// Choices of each run.
    pub options: RunOptions,
}

impl Runner for Real {
    fn run(&self, scenario: &Scenario, seed: u64) -> Outcome {
        match run(scenario, seed, &self.options) {
            Ok(run) => Outcome::from(&run),
            Err(error) => {
                Outcome::failed(Failure { kind: "run".to_owned(), at: 0, what: format!("cannot run: {error}") })
            }
        }
    }

    fn situations(&self) -> BTreeSet<String> {
        Situation::ALL.iter().map(ToString::to_string).collect()
    }
}

impl From<&Run> for Outcome {
    fn from(run: &Run) -> Self {
        let mut fired = BTreeMap::new();
        for event in run.trace.events() {
            if let EventKind::Fault { rule, .. } = &event.kind {
                *fired.entry(rule.clone()).or_default() += 1;
            }
        }
        Self {
            failures: run.failures.clone(),
            situations: Situations::of(run.trace.events()).iter().map(ToString::to_string).collect(),
            simulated: run.elapsed,
            events: run.trace.events().len() as u64,
            fired,
        }
    }
}
