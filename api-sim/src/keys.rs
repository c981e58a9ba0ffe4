//! Signing keys and their rotation (KEY-02, KEY-04).

use sideband_protocol::{
    Entropy,
    api::{random_base62, utc_text},
    token::{Claims, KeySet, PRESENCE_LIFETIME, PublicKey, SKEW, Signer},
};
use sideband_sim_kit::admin::{KeyInfo, Keys, RotateKeys};

/// How long a rotated key stays published unless configured otherwise, in seconds: until the last presence token that it
/// signed has expired everywhere, and a few minutes more.
pub const DEFAULT_OVERLAP: u64 = PRESENCE_LIFETIME + SKEW + 270;

/// What was asked of a rotation cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// A hard rotation has no overlap.
    #[error("`hard` and `overlapSeconds` exclude each other")]
    HardWithOverlap,
}

/// The key that signs, and those that did and are still published.
pub(crate) struct SigningKeys {
    current: Signer,
    /// Newest first, with the second since 1970 from which on each is no longer published.
    old: Vec<(PublicKey, u64)>,
}

impl SigningKeys {
    pub(crate) fn new(entropy: &mut dyn Entropy) -> Self {
        Self { current: new_key(entropy), old: Vec::new() }
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        self.current.sign(claims)
    }

    pub(crate) fn current_kid(&self) -> &str {
        self.current.kid()
    }

    /// Makes a new key current at once (KEY-04).
    pub(crate) fn rotate(
        &mut self,
        how: RotateKeys,
        default_overlap: u64,
        now: u64,
        entropy: &mut dyn Entropy,
    ) -> Result<(), RotateError> {
        if how.hard && how.overlap_seconds.is_some() {
            return Err(RotateError::HardWithOverlap);
        }
        let previous = std::mem::replace(&mut self.current, new_key(entropy));
        self.old.retain(|(_, until)| *until > now);
        if how.hard {
            self.old.clear();
        } else {
            let until = now.saturating_add(how.overlap_seconds.unwrap_or(default_overlap));
            self.old.insert(0, (previous.public(), until));
        }
        Ok(())
    }

    fn still_published(&self, now: u64) -> impl Iterator<Item = &(PublicKey, u64)> {
        self.old.iter().filter(move |(_, until)| *until > now)
    }

    /// What is published now.
    pub(crate) fn key_set(&self, now: u64) -> KeySet {
        let old = self.still_published(now).map(|(key, _)| key.clone());
        KeySet::from_keys(std::iter::once(self.current.public()).chain(old))
    }

    /// What is published now, for people.
    pub(crate) fn overview(&self, now: u64) -> Keys {
        let current = KeyInfo { kid: self.current_kid().to_owned(), current: true, published_until: None };
        let old = self.still_published(now).map(|(key, until)| KeyInfo {
            kid: key.kid().to_owned(),
            current: false,
            published_until: Some(utc_text(*until)),
        });
        Keys { keys: std::iter::once(current).chain(old).collect() }
    }
}

fn new_key(entropy: &mut dyn Entropy) -> Signer {
    let kid = format!("k-{}", random_base62(entropy, 10));
    Signer::random(kid, entropy)
}
