//! Identity keys and their fingerprints.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64URL_NOPAD, HEXUPPER};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    entropy::{self, Entropy},
    quirks::{Quirk, Quirks},
};

/// A daemon's secret Ed25519 identity. Wiped on drop; never printed.
#[derive(Clone)]
pub struct Identity(SigningKey);

impl Identity {
    /// A new identity.
    pub fn generate(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        let seed = Zeroizing::new(entropy::bytes::<32>(entropy));
        Self::from_seed(&seed)
    }

    /// The identity whose private key is this 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The private key, to be stored with care.
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> IdentityKey {
        IdentityKey(self.0.verifying_key().to_bytes())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public().fingerprint())
    }
}

/// A daemon's public identity key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey([u8; 32]);

impl IdentityKey {
    /// The key with these bytes; whether they are a point on the curve shows when a signature is verified.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint that people compare (CRY-13).
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint_with(Quirks::NONE)
    }

    /// As [`fingerprint`](Self::fingerprint), perhaps wrong on purpose; for tests.
    #[doc(hidden)]
    pub fn fingerprint_with(&self, quirks: Quirks) -> Fingerprint {
        if quirks.has(Quirk::FingerprintOfText) {
            return Fingerprint(Sha256::digest(self.to_base64url()).into());
        }
        Fingerprint(Sha256::digest(self.0).into())
    }

    /// The key as the control plane writes it: base64url without padding.
    pub fn to_base64url(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// Reads what [`Self::to_base64url`] wrote.
    pub fn from_base64url(text: &str) -> Option<Self> {
        Some(Self(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()?))
    }

    /// Strict verification: a key of low order signs nothing.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({})", self.fingerprint())
    }
}

/// `SHA256:` and the upper-case hex bytes of SHA256(identity key), joined by `:` (CRY-13).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SHA256")?;
        self.0.iter().try_for_each(|byte| write!(f, ":{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is `SHA256:` and 32 bytes in upper-case hex joined by `:`")]
pub struct ParseFingerprintError;

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("SHA256:").ok_or(ParseFingerprintError)?;
        let mut out = [0; 32];
        let mut parts = hex.split(':');
        for byte in &mut out {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(ParseFingerprintError)?;
            *byte = HEXUPPER.decode(part.as_bytes()).map_err(|_| ParseFingerprintError)?[0];
        }
        if parts.next().is_some() { Err(ParseFingerprintError) } else { Ok(Self(out)) }
    }
}
