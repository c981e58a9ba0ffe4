//! The key exchange: CRY-01 to CRY-03.

use std::fmt;

use bytes::Bytes;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Identity, IdentityKey};
use crate::{
    entropy::{self, Entropy},
    quirks::{Quirk, Quirks},
    wire::{ACCEPT_LEN, INIT_LEN},
};

/// The payload of a HandshakeAccept.
pub type Payload = [u8; ACCEPT_LEN];

/// Why a key exchange fails (`handshake_failed`, but for the size: `malformed_frame`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The Accept has not 128 bytes (WIRE-02).
    #[error("the HandshakeAccept has {0} bytes instead of 128")]
    Size(usize),
    /// The signature does not fit the key that the Accept shows (CRY-02).
    #[error("the daemon's signature is not valid")]
    Signature,
    /// The other side contributed nothing to the shared secret (CRY-03).
    #[error("the other side sent a low-order key")]
    LowOrder,
}

/// The keys of one session, wiped on drop (CRY-12).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SessionKeys {
    /// Seals what the client sends.
    pub client_to_daemon: [u8; 32],
    /// Seals what the daemon sends.
    pub daemon_to_client: [u8; 32],
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys(..)")
    }
}

/// What a daemon shows: its identity, its ephemeral key, and the signature that binds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The identity that signed.
    pub identity: IdentityKey,
    /// The daemon's X25519 key for this session.
    pub daemon_ephemeral: [u8; 32],
    /// Ed25519 over the exchange.
    pub signature: [u8; 64],
}

impl Accept {
    /// Reads the payload of a HandshakeAccept; nothing is verified yet.
    ///
    /// # Errors
    /// Another size than 128 bytes.
    pub fn parse(payload: &[u8]) -> Result<Self, HandshakeError> {
        let payload: &Payload = payload.try_into().map_err(|_| HandshakeError::Size(payload.len()))?;
        let mut accept =
            Self { identity: IdentityKey::from_bytes([0; 32]), daemon_ephemeral: [0; 32], signature: [0; 64] };
        let mut identity = [0; 32];
        identity.copy_from_slice(&payload[..32]);
        accept.identity = IdentityKey::from_bytes(identity);
        accept.daemon_ephemeral.copy_from_slice(&payload[32..64]);
        accept.signature.copy_from_slice(&payload[64..]);
        Ok(accept)
    }

    /// The payload's bytes.
    pub fn to_payload(&self) -> Payload {
        let mut out = [0; ACCEPT_LEN];
        out[..32].copy_from_slice(self.identity.as_bytes());
        out[32..64].copy_from_slice(&self.daemon_ephemeral);
        out[64..].copy_from_slice(&self.signature);
        out
    }
}

/// Strings and keys enter the hashes one after the other, with no length and no separator.
fn digest(label: &str, daemon_id: &str, client: &[u8; 32], daemon: &[u8; 32], signature: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(label);
    hash.update(daemon_id);
    hash.update(client);
    hash.update(daemon);
    hash.update(signature);
    hash.finalize().into()
}

fn signed(daemon_id: &str, client: &[u8; 32], daemon: &[u8; 32]) -> [u8; 32] {
    digest("sbrp-v1-handshake", daemon_id, client, daemon, &[])
}

fn derive(
    own: &StaticSecret,
    other: &[u8; 32],
    daemon_id: &str,
    client: &[u8; 32],
    accept: &Accept,
    quirks: Quirks,
) -> Result<SessionKeys, HandshakeError> {
    let shared = own.diffie_hellman(&PublicKey::from(*other));
    if !shared.was_contributory() && !quirks.has(Quirk::TakesLowOrderKeys) {
        // CRY-03
        return Err(HandshakeError::LowOrder);
    }
    let transcript = digest("sbrp-v1-transcript", daemon_id, client, &accept.daemon_ephemeral, &accept.signature);
    let mut okm = Zeroizing::new([0u8; 64]);
    Hkdf::<Sha256>::new(Some(&transcript), shared.as_bytes())
        .expand(b"sbrp-session-keys", okm.as_mut_slice())
        // 64 bytes are two blocks; HKDF gives up to 255.
        .map_err(|_| HandshakeError::LowOrder)?;
    let mut keys = SessionKeys { client_to_daemon: [0; 32], daemon_to_client: [0; 32] };
    keys.client_to_daemon.copy_from_slice(&okm[..32]);
    keys.daemon_to_client.copy_from_slice(&okm[32..]);
    Ok(keys)
}

/// CRY-01: the private key of one session.
fn fresh(entropy: &mut (impl Entropy + ?Sized), quirks: Quirks) -> Zeroizing<[u8; 32]> {
    if quirks.has(Quirk::ReusesEphemeralKey) {
        return Zeroizing::new([7; 32]);
    }
    Zeroizing::new(entropy::bytes::<32>(entropy))
}

/// A client's side of one key exchange; the private key is wiped on drop (CRY-12).
pub struct ClientHandshake {
    secret: StaticSecret,
    public: [u8; 32],
}

impl ClientHandshake {
    /// A fresh key pair (CRY-01).
    pub fn new(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self::new_with(entropy, Quirks::NONE)
    }

    pub(crate) fn new_with(entropy: &mut (impl Entropy + ?Sized), quirks: Quirks) -> Self {
        Self::from_private(*fresh(entropy, quirks))
    }

    /// The exchange with a given private key; for known answers.
    pub fn from_private(private: [u8; 32]) -> Self {
        let secret = StaticSecret::from(private);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// The payload of the HandshakeInit.
    pub const fn public(&self) -> &[u8; INIT_LEN] {
        &self.public
    }

    /// Verifies the Accept with the key that it shows (CRY-02), then derives the session's keys (CRY-03).
    /// Whether the identity is trusted is decided after this.
    ///
    /// # Errors
    /// A signature that does not fit, or a low-order key.
    pub fn finish(&self, daemon_id: &str, accept: &Accept) -> Result<SessionKeys, HandshakeError> {
        self.finish_with(daemon_id, accept, Quirks::NONE)
    }

    pub(crate) fn finish_with(
        &self,
        daemon_id: &str,
        accept: &Accept,
        quirks: Quirks,
    ) -> Result<SessionKeys, HandshakeError> {
        let message = signed(daemon_id, &self.public, &accept.daemon_ephemeral);
        if !quirks.has(Quirk::SkipsSignature) && !accept.identity.verifies(&message, &accept.signature) {
            return Err(HandshakeError::Signature);
        }
        derive(&self.secret, &accept.daemon_ephemeral, daemon_id, &self.public, accept, quirks)
    }
}

impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientHandshake(..)")
    }
}

/// A daemon's whole side: a fresh key pair (CRY-01), the signed answer and the session's keys.
///
/// # Errors
/// A low-order client key (CRY-03).
pub fn accept(
    identity: &Identity,
    daemon_id: &str,
    client_ephemeral: &[u8; INIT_LEN],
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<(Accept, SessionKeys), HandshakeError> {
    accept_with(identity, daemon_id, client_ephemeral, entropy, Quirks::NONE)
}

pub(crate) fn accept_with(
    identity: &Identity,
    daemon_id: &str,
    client_ephemeral: &[u8; INIT_LEN],
    entropy: &mut (impl Entropy + ?Sized),
    quirks: Quirks,
) -> Result<(Accept, SessionKeys), HandshakeError> {
    accept_under(identity, daemon_id, client_ephemeral, *fresh(entropy, quirks), quirks)
}

/// As [`accept`], with a given private ephemeral key; for known answers.
///
/// # Errors
/// A low-order client key (CRY-03).
pub fn accept_with_ephemeral(
    identity: &Identity,
    daemon_id: &str,
    client_ephemeral: &[u8; INIT_LEN],
    private: [u8; 32],
) -> Result<(Accept, SessionKeys), HandshakeError> {
    accept_under(identity, daemon_id, client_ephemeral, private, Quirks::NONE)
}

fn accept_under(
    identity: &Identity,
    daemon_id: &str,
    client_ephemeral: &[u8; INIT_LEN],
    private: [u8; 32],
    quirks: Quirks,
) -> Result<(Accept, SessionKeys), HandshakeError> {
    let secret = StaticSecret::from(private);
    let daemon_ephemeral = PublicKey::from(&secret).to_bytes();
    let signature = identity.sign(&signed(daemon_id, client_ephemeral, &daemon_ephemeral));
    let accept = Accept { identity: identity.public(), daemon_ephemeral, signature };
    let keys = derive(&secret, client_ephemeral, daemon_id, client_ephemeral, &accept, quirks)?;
    Ok((accept, keys))
}

impl From<&Accept> for Bytes {
    fn from(accept: &Accept) -> Self {
        Self::copy_from_slice(&accept.to_payload())
    }
}
