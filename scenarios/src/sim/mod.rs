//! Running scenarios: from a [`Scenario`] and a seed to what happened.
//!
//! | module | what |
//! |---|---|
//! | `control` | the run: turmoil's clock, timers, who looks at what happens |
//! | `steps`, `phases` | what a run does, and how it ends |
//! | `cell` | a host as the runner sees it |
//! | `cloud`, `endpoint`, `own` | what runs on hosts |
//! | `methods` | what daemons answer, canaries, right answers |
//! | `wire`, `stream`, `tap` | the network, its streams, and who reads along |
//! | `judge` | expectations |
//! | [`builder`] | scenarios in Rust |
//!
//! # How a run goes
//!
//! *Play*: steps and faults, until all steps are done, all calls have ended and all expectations hold, or
//! [`Scenario::duration`] is over. *Heal*: faults stop, hosts that are down start; everybody gets well in time. *Leave*:
//! clients close, then daemons; the relay forgets them, and no key or task is left. Invariants look at all of it,
//! expectations at the play.

pub mod builder;
mod cell;
mod cloud;
mod control;
mod endpoint;
mod judge;
mod methods;
mod own;
mod phases;
mod steps;
mod stream;
mod tap;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

use sideband_protocol::{api::ApiQuirks, quirks::Quirks, relay::RelayQuirks};

pub(crate) use self::endpoint::{client_retry, daemon_retry};
pub use self::{
    builder::{Builder, Sim},
    own::{HostContext, OwnHost},
};
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
    /// What kind of failure, the same over seeds: `invariant/events-in-order`, `expect/3`, `always/1`, `call/add`, `step`,
    /// `unfinished`, `host`, `panic`.
    pub kind: String,
    /// When, in milliseconds of virtual time.
    pub at: u64,
    /// What happened, for people.
    pub what: String,
}

/// Choices of a run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// How many times as long the run is as its file says, by [`Scenario::times_as_long`]; 0 and 1: as it says.
    pub times_as_long: u32,
    /// Wrong on purpose, every endpoint of the run; for tests.
    #[doc(hidden)]
    pub danger_quirks: Quirks,
    /// Wrong on purpose, every relay; for tests.
    #[doc(hidden)]
    pub danger_relay_quirks: RelayQuirks,
    /// Wrong on purpose, every control plane; for tests.
    #[doc(hidden)]
    pub danger_api_quirks: ApiQuirks,
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
pub fn run(scenario: &Scenario, seed: u64, options: &RunOptions) -> Result<Run, RunError> {
    control::run(scenario, seed, options, &[])
}
