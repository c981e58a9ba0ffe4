//! What a control plane knows, behind a trait. Each method is one small transaction: it happens whole or not at all, also
//! when others run at the same time.

use std::fmt;

use sha2::{Digest as _, Sha256};
use sideband_protocol::SessionId;
use subtle::{Choice, ConstantTimeEq};

/// The SHA-256 digest of a credential or a code: all that is stored of it (API-07). Compared in constant time.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a secret text.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// The digest that was stored as these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl ConstantTimeEq for Digest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// A daemon as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Its id, `d_…`.
    pub id: String,
    /// The user that it belongs to, the only one who may use it.
    pub owner: String,
    /// Its name for people.
    pub name: Option<String>,
    /// Its identity key, base64url without padding.
    pub identity_public_key: Option<String>,
    /// Whether its presence tokens always say that its sessions can be resumed.
    pub resumable: bool,
}

/// A Quick Connect code that waits to be redeemed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The daemon that it leads to.
    pub daemon_id: String,
    /// Seconds since 1970 from which on it is no longer good.
    pub expires_at: u64,
}

/// The store cannot do its work; the request is answered with 500.
#[derive(Debug, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreError(pub String);

/// What a control plane knows.
pub trait Store: Send + Sync {
    /// Adds a user; nothing happens if it is there.
    ///
    /// # Errors
    /// As for all methods here: the store cannot do its work.
    fn add_user(&self, user: &str) -> Result<(), StoreError>;

    /// Adds an access token of a user; nothing happens if it is there.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_access_token(&self, token: Digest, user: &str) -> Result<(), StoreError>;

    /// The user of an access token that is not revoked.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn user_of_access_token(&self, token: Digest) -> Result<Option<String>, StoreError>;

    /// Makes an access token unknown; says whether it was known.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn revoke_access_token(&self, token: Digest) -> Result<bool, StoreError>;

    /// Adds a daemon with its API key; false, and nothing happens, if its id is taken.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_daemon(&self, daemon: &Daemon, api_key: Digest) -> Result<bool, StoreError>;

    /// A daemon.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn daemon(&self, id: &str) -> Result<Option<Daemon>, StoreError>;

    /// The daemon of an API key that is not revoked.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn daemon_of_api_key(&self, key: Digest) -> Result<Option<Daemon>, StoreError>;

    /// Makes an API key unknown; says whether it was known.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn revoke_api_key(&self, key: Digest) -> Result<bool, StoreError>;

    /// The daemons of a user, or all, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn daemons(&self, owner: Option<&str>) -> Result<Vec<Daemon>, StoreError>;

    /// The users, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn users(&self) -> Result<Vec<String>, StoreError>;

    /// Adds a Quick Connect code; false, and nothing happens, if there is one like it. Forgets codes that have expired at
    /// `now`, in seconds since 1970.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_code(&self, code: Digest, entry: Code, now: u64) -> Result<bool, StoreError>;

    /// Takes a Quick Connect code out: of any number of calls at the same time one gets it (API-05). `None` if it is unknown,
    /// used, or expired at `now`, in seconds since 1970 (API-04).
    ///
    /// # Errors
    /// The store cannot do its work.
    fn consume_code(&self, code: Digest, now: u64) -> Result<Option<Code>, StoreError>;

    /// Notes that a session id is used; false if it was before (API-01).
    ///
    /// # Errors
    /// The store cannot do its work.
    fn insert_session_id_if_new(&self, session: SessionId) -> Result<bool, StoreError>;
}
