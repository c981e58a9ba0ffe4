//! Daemon API keys, and the random text that credentials are made of.

use std::{fmt, str::FromStr};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::entropy::{self, Entropy};

/// How every API key begins.
pub const API_KEY_PREFIX: &str = "sbnd_dak_";

/// Random characters behind the prefix of an API key of ours: 238 bits.
const API_KEY_RANDOM: usize = 40;

/// A daemon's API key, `sbnd_dak_…`. `Debug` hides it; [`ApiKey::expose`] is the only way to its text.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ApiKey(String);

impl ApiKey {
    /// A new random key.
    pub fn random(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self(format!("{API_KEY_PREFIX}{}", random_base62(entropy, API_KEY_RANDOM)))
    }

    /// The key's text, for the `Authorization` header and for the one who owns it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The text is not an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API key is `sbnd_dak_` followed by letters, digits, `_` or `-`")]
pub struct ParseApiKeyError;

impl FromStr for ApiKey {
    type Err = ParseApiKeyError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(API_KEY_PREFIX).ok_or(ParseApiKeyError)?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if rest.is_empty() || !rest.bytes().all(fits) { Err(ParseApiKeyError) } else { Ok(Self(text.to_owned())) }
    }
}

/// Random letters and digits, 5.95 bits each.
pub fn random_base62(entropy: &mut (impl Entropy + ?Sized), length: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..length).map(|_| char::from(DIGITS[entropy::next_below(entropy, 62) as usize])).collect()
}

/// Whether two secrets are the same, in time that tells nothing but their lengths (API-07).
pub fn secrets_match(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    a.ct_eq(b).into()
}
