//! Keys and key sets (JWKS).

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::{Map, Value, json};

use super::{ALG, Claims, TYP};
use crate::entropy::{self, Entropy};

/// A key that signs tokens. `Debug` shows its id only.
pub struct Signer {
    kid: String,
    key: SigningKey,
}

impl Signer {
    /// The key that follows from 32 secret bytes.
    pub fn from_seed(kid: impl Into<String>, seed: &[u8; 32]) -> Self {
        Self { kid: kid.into(), key: SigningKey::from_bytes(seed) }
    }

    /// A new random key.
    pub fn random(kid: impl Into<String>, entropy: &mut (impl Entropy + ?Sized)) -> Self {
        let seed = zeroize::Zeroizing::new(entropy::bytes::<32>(entropy));
        Self::from_seed(kid, &seed)
    }

    /// The id that tokens name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The part that is published.
    pub fn public(&self) -> PublicKey {
        PublicKey { kid: self.kid.clone(), key: self.key.verifying_key() }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Claims) -> String {
        // Claims have text, numbers and lists only: they always become JSON.
        let claims = serde_json::to_value(claims).unwrap_or(Value::Null);
        self.sign_json(&json!({"alg": ALG, "typ": TYP, "kid": self.kid}), &claims)
    }

    /// A token with any header and any claims, for tests and faults: nothing is checked.
    pub fn sign_json(&self, header: &Value, claims: &Value) -> String {
        let mut token = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
        token.push('.');
        token.push_str(&BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
        let signature = self.key.sign(token.as_bytes());
        token.push('.');
        token.push_str(&BASE64URL_NOPAD.encode(&signature.to_bytes()));
        token
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// A key that verifies tokens. Serialises as its entry in a key set.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kid: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// The id that tokens name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Whether `signature` (64 bytes) of this key stands for `message` (TOK-03). Small-order keys and signatures that
    /// are not in canonical form fail.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entry = serializer.serialize_struct("PublicKey", 6)?;
        entry.serialize_field("kty", "OKP")?;
        entry.serialize_field("crv", "Ed25519")?;
        entry.serialize_field("alg", ALG)?;
        entry.serialize_field("use", "sig")?;
        entry.serialize_field("kid", &self.kid)?;
        entry.serialize_field("x", &BASE64URL_NOPAD.encode(self.key.as_bytes()))?;
        entry.end()
    }
}

/// The set is not `{"keys":[…]}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key set is not a JSON object with a list `keys`")]
pub struct KeySetError;

/// What a key set says about a key id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A key that verifies relay tokens.
    Usable(&'a PublicKey),
    /// An entry that does not: another algorithm, curve or use, or a broken key.
    Foreign,
    /// No entry.
    Nothing,
}

/// The keys that an issuer publishes. Serialises as JWKS, with the usable keys only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<PublicKey>,
    /// Ids of entries that cannot verify relay tokens; known nevertheless, so that they cause no refresh.
    foreign: Vec<String>,
}

impl KeySet {
    /// A set of our own keys, in this order.
    pub fn from_keys(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().collect(), foreign: Vec::new() }
    }

    /// Reads JWKS. Entries of other kinds, broken entries and unknown members do not break the set (KEY-02): an entry
    /// that has a `kid` and is no Ed25519 key for EdDSA signatures is known, and refuses the tokens that name it.
    ///
    /// # Errors
    /// Not a JSON object with a list `keys`.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let set: Map<String, Value> = serde_json::from_slice(text).map_err(|_| KeySetError)?;
        let entries = set.get("keys").and_then(Value::as_array).ok_or(KeySetError)?;
        let mut set = Self::default();
        for entry in entries {
            let Some(kid) = entry.get("kid").and_then(Value::as_str) else { continue };
            match parse_key(entry) {
                Some(key) if !set.keys.iter().any(|known| known.kid == kid) => {
                    set.keys.push(PublicKey { kid: kid.to_owned(), key });
                }
                Some(_) => {}
                None => set.foreign.push(kid.to_owned()),
            }
        }
        Ok(set)
    }

    /// The usable keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    pub(super) fn find(&self, kid: &str) -> Found<'_> {
        match self.keys.iter().find(|key| key.kid == kid) {
            Some(key) => Found::Usable(key),
            None if self.foreign.iter().any(|foreign| foreign == kid) => Found::Foreign,
            None => Found::Nothing,
        }
    }
}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut set = serializer.serialize_struct("KeySet", 1)?;
        set.serialize_field("keys", &self.keys)?;
        set.end()
    }
}

/// The key of an entry that says it is for EdDSA over Ed25519; TOK-03 asks for `alg`, so an entry without it is none.
fn parse_key(entry: &Value) -> Option<VerifyingKey> {
    let text = |member: &str| entry.get(member).and_then(Value::as_str);
    if text("kty") != Some("OKP") || text("crv") != Some("Ed25519") || text("alg") != Some(ALG) {
        return None;
    }
    if entry.get("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(text("x")?.as_bytes()).ok()?;
    let key = VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok()?;
    (!key.is_weak()).then_some(key)
}
