//! Running scenarios: from a [`Scenario`] and a seed to what happened.

use std::time::Duration;

use crate::{
    scenario::{Scenario, ScenarioError},
    trace::Trace,
};

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// All that happened.
    pub trace: Trace,
    /// What should not have happened; empty for a good run.
    pub failures: Vec<Failure>,
    /// The rules of the fault plan that never fired.
    pub never_fired: Vec<String>,
    /// Virtual time that the run took.
    pub elapsed: Duration,
}

impl Run {
    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Something that should not have happened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// What kind of failure, the same over seeds and smaller scenarios: `invariant/events-in-order`, `expect/3`, `always/1`, `step/2`.
    pub kind: String,
    /// When, in milliseconds of virtual time.
    pub at: u64,
    /// What happened, for people.
    pub what: String,
}

/// Choices of a run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Whether frames at the relay stay out of the trace; invariants see them anyway.
    pub without_frames: bool,
}

/// Why a scenario could not be run at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It does not hold together.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A host could not be set up.
    #[error("{host}: {reason}")]
    Host {
        /// Which.
        host: String,
        /// Why.
        reason: String,
    },
}

/// Runs a scenario under a seed.
///
/// # Errors
/// It does not hold together, or a host cannot be set up. What goes wrong in the run is in [`Run::failures`].
pub fn run(scenario: &Scenario, seed: u64, _options: &RunOptions) -> Result<Run, RunError> {
    scenario.check()?;
    Ok(Run {
        scenario: scenario.name.clone(),
        seed,
        trace: Trace::new(Vec::new()),
        failures: Vec::new(),
        never_fired: Vec::new(),
        elapsed: Duration::ZERO,
    })
}
