//! What a control plane starts with: in memory, or from a state file.

use std::{path::Path, sync::Arc};

use sideband_api_sim::{Bootstrap, MemoryStore, OpenError, SqliteStore, Store, StoreError};
use sideband_env::{EntropySource, Env, SeededEntropy};

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

/// Opens a store, and puts the first user and daemon into a new one. In memory their credentials are new, or follow from the
/// seed; in a file they follow from its root secret, whatever the seed: a file that is kept must not be one that can be guessed.
///
/// # Errors
/// Every [`StateError`].
pub fn open(env: &Env, seed: Option<u64>, file: Option<&Path>) -> Result<(Arc<dyn Store>, Bootstrap), StateError> {
    let (store, bootstrap): (Arc<dyn Store>, _) = match (file, seed) {
        (Some(path), _) => {
            let store = SqliteStore::open(path, env.entropy.entropy().as_mut())?;
            let bootstrap = Bootstrap::derive(store.root());
            (Arc::new(store), bootstrap)
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
