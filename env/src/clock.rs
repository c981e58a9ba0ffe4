//! Wall-clock time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Wall-clock time. Only tokens, expiry dates and `Retry-After` dates need it; timers use `tokio::time`.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01 00:00 UTC.
    fn unix_millis(&self) -> u64;

    /// Whole seconds since 1970-01-01 00:00 UTC.
    fn unix_seconds(&self) -> u64 {
        self.unix_millis() / 1000
    }
}

/// A clock that stands still until it is told otherwise; for tests.
#[derive(Debug, Default)]
pub struct FixedClock(AtomicU64);

impl FixedClock {
    /// A clock that shows this many seconds since 1970.
    pub fn at_seconds(seconds: u64) -> Self {
        Self(AtomicU64::new(seconds * 1000))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Sets the clock to this many seconds since 1970.
    pub fn set_seconds(&self, seconds: u64) {
        self.0.store(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn unix_millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
