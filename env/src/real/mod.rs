//! The real world: the operating system's clock, randomness, TCP, TLS, and reqwest.

mod http;
mod net;
mod tls;
mod tls_listener;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sideband_protocol::Entropy;

pub use self::{
    http::ReqwestClient,
    net::TokioNetwork,
    tls::{Roots, TlsError},
    tls_listener::{ServerIdentity, TlsListener},
};
use crate::{Clock, EntropySource, Env};

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one real implementation of the clock seam")]
    fn unix_millis(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one real implementation of the entropy seam")]
    fn fill(&mut self, out: &mut [u8]) {
        // A machine without randomness cannot make keys; there is nothing sensible to go on with.
        getrandom::fill(out).expect("the operating system gives no random bytes");
    }
}

impl EntropySource for OsEntropy {
    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Self)
    }
}

impl Env {
    /// The real world. `roots` says which certificate authorities are trusted for `wss` and `https`.
    ///
    /// # Errors
    /// A certificate file that cannot be read or holds no certificate.
    pub fn real(roots: &Roots) -> Result<Self, TlsError> {
        let tls = Arc::new(tls::client_config(roots)?);
        Ok(Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            network: Arc::new(TokioNetwork::new(tls.clone())),
            http: Arc::new(ReqwestClient::new(&tls)?),
        })
    }
}
