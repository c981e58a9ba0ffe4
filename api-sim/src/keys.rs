//! Signing keys and their rotation (KEY-02, KEY-04).

use sideband_protocol::{
    Entropy,
    api::{random_base62, utc_text},
    token::{Claims, KeySet, PRESENCE_LIFETIME, PublicKey, SKEW, Signer},
};
use sideband_sim_kit::admin::{KeyInfo, Keys, RotateKeys};

use crate::{StoreError, StoredKey};

/// How long a rotated key stays published unless configured otherwise, in seconds: until the last presence token that it
/// signed has expired everywhere, and a few minutes more.
pub const DEFAULT_OVERLAP: u64 = PRESENCE_LIFETIME + SKEW + 270;

/// Why keys are not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A hard rotation has no overlap.
    #[error("`hard` and `overlapSeconds` exclude each other")]
    HardWithOverlap,
    /// The new key cannot be stored; the old one goes on signing.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The key that signs, and those that did and are still published.
pub(crate) struct SigningKeys {
    current: Signer,
    /// Newest first, with the second since 1970 from which on each is no longer published.
    old: Vec<(PublicKey, u64)>,
}

/// A rotation that is decided: what to store before it holds.
pub(crate) struct Rotation {
    pub(crate) new: StoredKey,
    /// Until when the key before is published; none if not at all.
    pub(crate) previous_until: Option<u64>,
}

impl Rotation {
    /// What was asked, with a new key (KEY-04).
    pub(crate) fn decide(
        how: RotateKeys,
        default_overlap: u64,
        now: u64,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, RotateError> {
        if how.hard && how.overlap_seconds.is_some() {
            return Err(RotateError::HardWithOverlap);
        }
        let overlap = how.overlap_seconds.unwrap_or(default_overlap);
        Ok(Self { new: new_key(entropy), previous_until: (!how.hard).then(|| now.saturating_add(overlap)) })
    }
}

impl SigningKeys {
    /// The keys as a store gives them: the one that signs before all.
    pub(crate) fn load(stored: Vec<StoredKey>) -> Result<Self, StoreError> {
        let mut stored = stored.into_iter();
        let current = stored.next().ok_or_else(|| StoreError("there is no signing key".to_owned()))?;
        let old = stored.filter_map(|key| Some((signer(&key).public(), key.published_until?)));
        Ok(Self { current: signer(&current), old: old.collect() })
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        self.current.sign(claims)
    }

    pub(crate) fn current_kid(&self) -> &str {
        self.current.kid()
    }

    /// Makes a new key current at once (KEY-04).
    pub(crate) fn rotate(&mut self, rotation: &Rotation, now: u64) {
        let previous = std::mem::replace(&mut self.current, signer(&rotation.new));
        self.old.retain(|(_, until)| *until > now);
        match rotation.previous_until {
            None => self.old.clear(),
            Some(until) => self.old.insert(0, (previous.public(), until)),
        }
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

fn signer(key: &StoredKey) -> Signer {
    Signer::from_seed(&key.kid, &key.seed)
}

pub(crate) fn new_key(entropy: &mut dyn Entropy) -> StoredKey {
    let kid = format!("k-{}", random_base62(entropy, 10));
    StoredKey::random(kid, entropy)
}
