//! The limits that hold now, where the frames' path can see them without a lock.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use sideband_protocol::relay::{HubConfig, RelayQuirk, RelayQuirks};
use sideband_sim_kit::limits::RelayLimits;

/// The limits that hold now.
#[derive(Debug)]
pub(crate) struct LiveLimits {
    all: Mutex<RelayLimits>,
    /// Counts changes, so that a connection sees that there was one.
    version: AtomicU64,
    client_backlog: AtomicUsize,
    session_backlog: AtomicUsize,
    quirks: RelayQuirks,
}

impl LiveLimits {
    pub(crate) fn new(limits: RelayLimits, quirks: RelayQuirks) -> Arc<Self> {
        let live = Self {
            all: Mutex::new(limits),
            version: AtomicU64::new(0),
            client_backlog: AtomicUsize::new(0),
            session_backlog: AtomicUsize::new(0),
            quirks,
        };
        live.publish(limits);
        Arc::new(live)
    }

    fn publish(&self, limits: RelayLimits) {
        let reads_on = self.quirks.has(RelayQuirk::ReadsOnAndOn);
        let session_backlog = if reads_on { usize::MAX } else { limits.session_backlog as usize };
        self.client_backlog.store(limits.client_backlog as usize, Ordering::Relaxed);
        self.session_backlog.store(session_backlog, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, RelayLimits> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> RelayLimits {
        *self.lock()
    }

    /// Changes them, unless the change gives an error. Whoever is to see it at once has to be woken.
    pub(crate) fn change<E>(
        &self,
        change: impl FnOnce(RelayLimits) -> Result<RelayLimits, E>,
    ) -> Result<RelayLimits, E> {
        let mut all = self.lock();
        *all = change(*all)?;
        self.publish(*all);
        Ok(*all)
    }

    /// Changes whenever the limits do.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Most unsent bytes towards a client, and of the relay's own words towards anyone.
    pub(crate) fn client_backlog(&self) -> usize {
        self.client_backlog.load(Ordering::Relaxed)
    }

    /// Most bytes of a client that its daemon has not taken, before its reading stops.
    pub(crate) fn session_backlog(&self) -> usize {
        self.session_backlog.load(Ordering::Relaxed)
    }

    pub(crate) fn hub(&self, ended_ids: usize) -> HubConfig {
        let RelayLimits { grace, takeover, sessions, .. } = self.get();
        HubConfig { grace, takeover, ended_ids, sessions, danger_quirks: self.quirks }
    }
}

#[cfg(test)]
impl LiveLimits {
    /// Just these bytes.
    pub(crate) fn bytes(client_backlog: u32, session_backlog: u32) -> Arc<Self> {
        let limits = RelayLimits { client_backlog, session_backlog, ..RelayLimits::default() };
        Self::new(limits, RelayQuirks::NONE)
    }
}
