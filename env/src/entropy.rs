//! Random bytes.

use std::sync::Mutex;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use sideband_protocol::Entropy;

/// Hands out independent sources of randomness, one for each component that needs its own.
pub trait EntropySource: Send + Sync {
    /// A new source. Seeded sources follow from the seed and the number of calls so far.
    fn entropy(&self) -> Box<dyn Entropy>;
}

/// Seeded randomness: the same seed gives the same bytes everywhere.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<ChaCha12Rng>);

impl SeededEntropy {
    /// The source that follows from a seed and a label, so that components of one seed differ.
    pub fn new(seed: u64, label: &str) -> Self {
        // FNV-1a spreads the label over the second half of the key; it need not be more than distinct.
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for byte in label.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_be_bytes());
        key[8..16].copy_from_slice(&hash.to_be_bytes());
        Self(Mutex::new(ChaCha12Rng::from_seed(key)))
    }
}

impl EntropySource for SeededEntropy {
    fn entropy(&self) -> Box<dyn Entropy> {
        let mut parent = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut key = [0; 32];
        parent.fill_bytes(&mut key);
        Box::new(Seeded(ChaCha12Rng::from_seed(key)))
    }
}

struct Seeded(ChaCha12Rng);

impl Entropy for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}
