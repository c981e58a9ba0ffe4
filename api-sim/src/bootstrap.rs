//! The first user and daemon, with plain credentials for whoever sets things up.

use std::fmt;

use sideband_protocol::{
    Entropy,
    api::{ApiKey, random_base62},
};

use crate::{Daemon, Digest, Store, StoreError};

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

    /// Puts user and daemon into a store; what is there already stays as it is. The daemon has no identity key on record and
    /// is not registered as resumable, which its header `x-sideband-resume` may still make it.
    ///
    /// # Errors
    /// The store fails.
    pub fn install(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.add_user(&self.user_id)?;
        store.add_access_token(Digest::of(self.access_token.expose()), &self.user_id)?;
        let daemon = Daemon {
            id: self.daemon_id.clone(),
            owner: self.user_id.clone(),
            name: Some("Sideband simulator".to_owned()),
            identity_public_key: None,
            resumable: false,
        };
        store.add_daemon(&daemon, Digest::of(self.api_key.expose())).map(drop)
    }
}
