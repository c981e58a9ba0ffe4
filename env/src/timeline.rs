//! From tokio's clock to the instants that machines take.

use std::time::Duration;

use sideband_protocol::Instant;

/// As good as never.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A time line whose origin is the moment when it was made. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Timeline {
    origin: tokio::time::Instant,
}

impl Timeline {
    /// A time line that starts now. Needs a tokio runtime where time is virtual.
    #[expect(clippy::disallowed_methods, reason = "the one place where shells read tokio's clock")]
    pub fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Instant {
        Instant::from_origin(self.origin.elapsed())
    }

    /// Sleeps until an instant of this time line; for ever if there is none, or if it lies more than a century on.
    pub async fn sleep_until(&self, at: Option<Instant>) {
        match at {
            Some(at) if at.since_origin() < NEVER => tokio::time::sleep_until(self.to_tokio(at)).await,
            Some(_) | None => std::future::pending().await,
        }
    }

    /// Tokio's instant for one of this time line; one that lies beyond what clocks count is as good as never, a century on.
    pub fn to_tokio(&self, at: Instant) -> tokio::time::Instant {
        self.origin + at.since_origin().min(NEVER)
    }

    /// Time since the origin.
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }
}
