//! Where the rules in force outlive the process. Driven by the engine: each change is kept before it is in force, and so before
//! whoever asked for it hears of it.
//!
//! What is kept is the plan, not what the rules did: how often a rule saw an event and fired begins anew with the process, and
//! so do its times.

use super::{document::PlanError, plan::FaultPlan};

/// The plan cannot be kept; the rules are as before. The words are for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the fault plan cannot be kept: {0}")]
pub struct KeepError(pub String);

/// Why a plan is not put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// A rule does not hold together, or two have one name.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It cannot be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// What keeps the plan in force. Called with the rules locked, so that the last one kept is the one in force: it takes microseconds,
/// or holds every hook up.
pub trait KeepPlan: Send + Sync {
    /// Keeps a plan in place of the one there is. Once it has returned, the plan survives the process.
    ///
    /// # Errors
    /// What was kept before still is.
    fn keep(&self, plan: &FaultPlan) -> Result<(), KeepError>;

    /// The same, for the plan of the start, to which a reset returns.
    ///
    /// # Errors
    /// What was kept before still is.
    fn begin(&self, plan: &FaultPlan) -> Result<(), KeepError>;
}
