//! What a control plane or a relay starts with: in memory, or from a state file; and what of it is kept while it runs.
//!
//! A state file keeps users, daemons, digests of credentials, signing keys, codes, session ids, and the fault plan. Each change
//! is kept before it is answered, so that the process may be killed at any moment.

use std::{fmt, path::Path, sync::Arc};

use sideband_api_sim::{Bootstrap, MemoryStore, OpenError, SqliteStore, Store, StoreError};
use sideband_env::{EntropySource, Env, SeededEntropy};
use sideband_protocol::{SessionId, relay::TOKEN_LIFE};
use sideband_relay_sim::{KeepSessions, KeepSessionsError, UsedSessions};
use sideband_sim_kit::fault::{FaultEngine, FaultPlan, Format, KeepError, KeepPlan, PlanError, SetError};

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first user and daemon cannot be stored.
    #[error("cannot store the credentials: {0}")]
    Store(#[from] StoreError),
}

/// Why a process does not begin with its faults.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The plan that is given does not hold together.
    #[error("the fault plan does not hold together: {0}")]
    Given(PlanError),
    /// The plan that was kept does not hold together: another release wrote it.
    #[error("the fault plan that the state file keeps does not hold together here: {0}")]
    Kept(PlanError),
    /// The store cannot do its work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The plan cannot be kept.
    #[error(transparent)]
    Keep(KeepError),
}

/// Which faults a process begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Those that are given, in place of so many rules that were kept.
    Given {
        /// How many those were.
        replaced: usize,
    },
    /// Those that were kept: so many rules.
    Kept(usize),
}

/// Opens a store, and puts the first user and daemon into a new one. In memory their credentials are new, or follow from the
/// seed; in a file they follow from its root secret, whatever the seed: a file that is kept must not be one that can be guessed.
///
/// # Errors
/// Every [`StateError`].
pub fn open(env: &Env, seed: Option<u64>, file: Option<&Path>) -> Result<(Arc<dyn Store>, Bootstrap), StateError> {
    let (store, bootstrap): (Arc<dyn Store>, _) = match (file, seed) {
        (Some(path), _) => {
            let store = open_file(env, path)?;
            let bootstrap = Bootstrap::derive(store.root());
            (store, bootstrap)
        }
        (None, Some(seed)) => {
            let mut source = SeededEntropy::new(seed, "credentials").entropy();
            (Arc::new(MemoryStore::default()), Bootstrap::draw(source.as_mut()))
        }
        (None, None) => (Arc::new(MemoryStore::default()), Bootstrap::draw(env.entropy.entropy().as_mut())),
    };
    bootstrap.install(store.as_ref())?;
    Ok((store, bootstrap))
}

/// Opens a state file as it is, for a relay of its own, which has no accounts.
///
/// # Errors
/// Every [`OpenError`].
pub fn open_file(env: &Env, path: &Path) -> Result<Arc<SqliteStore>, OpenError> {
    SqliteStore::open(path, env.entropy.entropy().as_mut()).map(Arc::new)
}

/// Where a relay keeps the session ids that were used (REL-10): in this store, from which come those of earlier processes.
///
/// # Errors
/// The store cannot do its work.
pub fn used_sessions(env: &Env, store: Arc<dyn Store>) -> Result<UsedSessions, StoreError> {
    let now = env.clock.unix_seconds();
    // The sessions of the last process ended with it, at the latest now.
    let before = store.used_sessions(now, now.saturating_add(TOKEN_LIFE.as_secs()))?;
    Ok(UsedSessions::new(Arc::new(Stored(store)), before))
}

/// Puts the faults of the start in force: a plan that is given wins, and takes the place of the one that the store keeps; without
/// one, that holds. From now on the store keeps every change. How often rules fired, and their times, begin anew.
///
/// # Errors
/// Every [`BeginError`].
pub fn begin_faults(
    faults: &FaultEngine,
    store: Arc<dyn Store>,
    given: Option<FaultPlan>,
) -> Result<Beginning, BeginError> {
    let kept = store.fault_plan()?.map(|text| FaultPlan::parse(&text, Format::Json));
    faults.keep_in(Arc::new(Stored(store)));
    let (plan, wrong, beginning): (_, fn(PlanError) -> BeginError, _) = match (given, kept) {
        (Some(given), kept) => {
            let replaced = kept.and_then(Result::ok).map_or(0, |plan| plan.faults.len());
            (given, BeginError::Given, Beginning::Given { replaced })
        }
        (None, kept) => {
            let plan = kept.transpose().map_err(BeginError::Kept)?.unwrap_or_default();
            let beginning = Beginning::Kept(plan.faults.len());
            (plan, BeginError::Kept, beginning)
        }
    };
    faults.begin(plan).map_err(|error| match error {
        SetError::Plan(error) => wrong(error),
        SetError::Keep(error) => BeginError::Keep(error),
    })?;
    Ok(beginning)
}

/// A store as what keeps session ids and fault plans.
struct Stored(Arc<dyn Store>);

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stored(…)")
    }
}

impl KeepSessions for Stored {
    fn used(
        &self,
        session: SessionId,
        token_dies: u64,
        forgotten: &[SessionId],
        now: u64,
    ) -> Result<(), KeepSessionsError> {
        self.0.use_session(session, token_dies, forgotten, now).map_err(|error| KeepSessionsError(error.to_string()))
    }

    fn not_used(&self, session: SessionId) -> Result<(), KeepSessionsError> {
        self.0.unuse_session(session).map_err(|error| KeepSessionsError(error.to_string()))
    }
}

/// A plan as it is stored: as JSON, and none for the plan without anything.
fn text(plan: &FaultPlan) -> Option<String> {
    (*plan != FaultPlan::default()).then(|| plan.to_json())
}

impl KeepPlan for Stored {
    fn keep(&self, plan: &FaultPlan) -> Result<(), KeepError> {
        self.0.set_fault_plan(text(plan).as_deref()).map_err(|error| KeepError(error.to_string()))
    }

    fn begin(&self, plan: &FaultPlan) -> Result<(), KeepError> {
        self.0.begin_fault_plan(text(plan).as_deref()).map_err(|error| KeepError(error.to_string()))
    }
}
