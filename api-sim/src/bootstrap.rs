//! The first user and daemon, with plain credentials for whoever sets things up.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use sideband_protocol::{
    Entropy,
    api::{ApiKey, random_base62},
    entropy,
};
use zeroize::Zeroizing;

use crate::{Daemon, Digest, FirstAccounts, Store, StoreError, User};

/// A user's access token. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// A new random token, 238 bits.
    pub fn random(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self(format!("sim_at_{}", random_base62(entropy, 40)))
    }

    /// The token's text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// The secret of a state file, from which the built-in credentials derive, so that only it need be kept. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct RootSecret(Zeroizing<[u8; 32]>);

impl RootSecret {
    /// A new one.
    pub fn draw(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self::from_bytes(entropy::bytes(entropy))
    }

    /// The secret that was stored as these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Bytes without end that follow from the secret and a label.
    fn stream(&self, label: &'static str) -> Derived {
        Derived { hkdf: Hkdf::new(Some(label.as_bytes()), self.0.as_slice()), block: 0 }
    }
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSecret(…)")
    }
}

/// HKDF-SHA256, one expansion after the other.
struct Derived {
    hkdf: Hkdf<Sha256>,
    block: u64,
}

impl Entropy for Derived {
    fn fill(&mut self, out: &mut [u8]) {
        for part in out.chunks_mut(32) {
            // 32 bytes at a time are far from the most that one expansion gives, the only way in which it fails.
            let _ = self.hkdf.expand(&self.block.to_be_bytes(), part);
            self.block += 1;
        }
    }
}

/// One user with an access token, and one daemon of that user with an API key. `Debug` hides the credentials.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The user's id, `u_…`.
    pub user_id: String,
    /// The daemon's id, `d_…`.
    pub daemon_id: String,
    /// The daemon's API key.
    pub api_key: ApiKey,
    /// The user's access token.
    pub access_token: AccessToken,
}

impl Bootstrap {
    /// Draws ids and credentials: new ones from the operating system's randomness, the same again from a seed.
    pub fn draw(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self {
            user_id: format!("u_{}", random_base62(entropy, 10)),
            daemon_id: format!("d_{}", random_base62(entropy, 10)),
            api_key: ApiKey::random(entropy),
            access_token: AccessToken::random(entropy),
        }
    }

    /// Derives ids and credentials: always the same from one root secret.
    pub fn derive(root: &RootSecret) -> Self {
        Self::draw(&mut root.stream("sideband-sim built-in credentials"))
    }

    /// Puts user and daemon into a new store; a store that was in use keeps what it has, revoked credentials too. The daemon has
    /// no identity key on record and is not registered as resumable, which its header `x-sideband-resume` may still make it.
    ///
    /// # Errors
    /// The store fails.
    pub fn install(&self, store: &dyn Store) -> Result<(), StoreError> {
        let mut daemon = Daemon::new(&self.daemon_id, &self.user_id);
        daemon.name = Some("Sideband simulator".to_owned());
        store.install(&FirstAccounts {
            user: User::new(&self.user_id),
            access_token: Digest::of(self.access_token.expose()),
            daemon,
            api_key: Digest::of(self.api_key.expose()),
        })
    }
}
