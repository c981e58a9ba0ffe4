//! Session ids: 64 bits, big-endian on the wire, base64url in tokens.

use std::{fmt, num::NonZeroU64, str::FromStr};

use data_encoding::BASE64URL_NOPAD;

use crate::entropy::{self, Entropy};

/// The id of one session, never zero. Shown as 16 lower-case hex digits, as the header's bytes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(NonZeroU64);

impl SessionId {
    /// A session id, or `None` for zero, which no session has.
    pub const fn new(id: u64) -> Option<Self> {
        match NonZeroU64::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// A random session id.
    pub fn random(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        loop {
            if let Some(id) = Self::new(entropy::next_u64(entropy)) {
                return id;
            }
        }
    }

    /// The number that stands in a frame's header.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The text of a token's `sid` claim: base64url of the 8 big-endian bytes, without padding.
    pub fn to_claim(self) -> String {
        BASE64URL_NOPAD.encode(&self.get().to_be_bytes())
    }

    /// Reads a token's `sid` claim; `None` unless it is exactly 8 bytes that are not all zero (TOK-07).
    pub fn from_claim(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        Self::new(u64::from_be_bytes(bytes.try_into().ok()?))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not a session id: 16 hex digits, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 16 hex digits that are not all zero")]
pub struct ParseSessionIdError;

impl FromStr for SessionId {
    type Err = ParseSessionIdError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.len() != 16 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseSessionIdError);
        }
        u64::from_str_radix(s, 16).ok().and_then(Self::new).ok_or(ParseSessionIdError)
    }
}

impl serde::Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
