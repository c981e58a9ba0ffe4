//! Wall-clock time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
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

/// Another clock that is off by some milliseconds, which can change.
pub struct ShiftedClock {
    clock: Arc<dyn Clock>,
    millis: AtomicI64,
}

impl ShiftedClock {
    /// A clock that is fast by so many milliseconds; slow, if below zero.
    pub fn new(clock: Arc<dyn Clock>, millis: i64) -> Self {
        Self { clock, millis: AtomicI64::new(millis) }
    }

    /// From now on it is fast by so many milliseconds; slow, if below zero.
    pub fn set(&self, millis: i64) {
        self.millis.store(millis, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for ShiftedClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShiftedClock").field("millis", &self.millis).finish_non_exhaustive()
    }
}

impl Clock for ShiftedClock {
    fn unix_millis(&self) -> u64 {
        self.clock.unix_millis().saturating_add_signed(self.millis.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_clock_is_fast_or_slow_and_never_before_1970() {
        let clock = Arc::new(FixedClock::at_seconds(100));
        let shifted = ShiftedClock::new(clock.clone(), 1_500);
        assert_eq!((shifted.unix_millis(), shifted.unix_seconds()), (101_500, 101));
        shifted.set(-30_000);
        clock.advance(Duration::from_secs(1));
        assert_eq!(shifted.unix_seconds(), 71);
        shifted.set(-200_000);
        assert_eq!(shifted.unix_millis(), 0);
    }
}
