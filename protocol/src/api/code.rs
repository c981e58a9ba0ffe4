//! Quick Connect codes (API-03).

use std::{fmt, str::FromStr};

use crate::entropy::{self, Entropy};

/// A Quick Connect code: 12 lower-case letters, shown as `abcd-efgh-ijkl`. It lets whoever has it in, so `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct QuickConnectCode([u8; 12]);

impl QuickConnectCode {
    /// A random code, 56 bits.
    pub fn random(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self(std::array::from_fn(|_| b'a' + entropy::next_below(entropy, 26) as u8))
    }
}

impl fmt::Display for QuickConnectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, letter) in self.0.iter().enumerate() {
            if at == 4 || at == 8 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for QuickConnectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuickConnectCode(…)")
    }
}

/// The text is not a Quick Connect code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a Quick Connect code is 12 lower-case letters, written abcd-efgh-ijkl")]
pub struct ParseCodeError;

impl FromStr for QuickConnectCode {
    type Err = ParseCodeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 14 {
            return Err(ParseCodeError);
        }
        let mut letters = [0; 12];
        let mut next = letters.iter_mut();
        for (at, byte) in text.bytes().enumerate() {
            match (at, byte) {
                (4 | 9, b'-') => {}
                (4 | 9, _) => return Err(ParseCodeError),
                (_, b'a'..=b'z') => *next.next().ok_or(ParseCodeError)? = byte,
                _ => return Err(ParseCodeError),
            }
        }
        Ok(Self(letters))
    }
}

impl serde::Serialize for QuickConnectCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for QuickConnectCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
