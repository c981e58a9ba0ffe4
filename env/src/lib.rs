//! The seams of Sideband: clock, entropy, network and HTTP.
//!
//! Everything else receives an [`Env`] and asks it. The real implementations stand in [`real`] (feature
//! `real`, on by default); the simulated ones in `sideband-scenarios`. One contract test suite runs over both.
//!
//! Timers are not a seam: shells use `tokio::time`, which is virtual inside a simulation. [`Timeline`]
//! turns it into the [`Instant`](sideband_protocol::Instant) that machines take.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod clock;
pub mod entropy;
pub mod http;
pub mod net;
#[cfg(feature = "real")]
pub mod real;
pub mod timeline;

use std::{future::Future, pin::Pin, sync::Arc};

pub use clock::{Clock, FixedClock, ShiftedClock};
pub use entropy::{EntropySource, SeededEntropy};
pub use http::{HttpClient, HttpError, HttpRequest, HttpResponse};
pub use net::{BoxStream, Listener, Network, Stream, Target};
pub use timeline::Timeline;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything that a shell asks of the world. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Wall-clock time, for tokens and expiry.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from.
    pub entropy: Arc<dyn EntropySource>,
    /// Dialling and listening.
    pub network: Arc<dyn Network>,
    /// The HTTP client for the control plane and key sets.
    pub http: Arc<dyn HttpClient>,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}
