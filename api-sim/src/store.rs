//! What a control plane knows, behind a trait. Each method is one small transaction: it happens whole or not at all, also
//! when others run at the same time, and whatever has answered is kept.
//!
//! The methods are plain functions: in memory they take under a microsecond, in SQLite some tens (no commit waits for the
//! disk), which is less than a hand-over to another thread and back; and they work in simulation, where threads are banned.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use sideband_protocol::{Entropy, SessionId, entropy};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

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

    /// What it is looked up by: public, and no help in finding the secret.
    pub fn id(&self) -> CredentialId {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        CredentialId(u64::from_be_bytes(first))
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

/// How a credential is named where it must not be shown: the first eight bytes of its digest, as 16 hex digits. Lookups go by
/// it, and compare the whole digest in constant time afterwards (API-07).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId(u64);

impl CredentialId {
    /// The id as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The id that was stored as this number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0.to_be_bytes()))
    }
}

/// The text is not the id of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a credential is 16 lower-case hex digits, the first of its SHA-256 digest")]
pub struct ParseCredentialIdError;

impl FromStr for CredentialId {
    type Err = ParseCredentialIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| ParseCredentialIdError)?;
        Ok(Self(u64::from_be_bytes(bytes.try_into().map_err(|_| ParseCredentialIdError)?)))
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id, `u_…`.
    pub id: String,
    /// The region that tokens for its daemons name unless the daemon has its own; none leaves it to the configuration (TOK-08).
    pub region: Option<String>,
}

impl User {
    /// A user without a region.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), region: None }
    }
}

/// A daemon as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Its id, `d_…`.
    pub id: String,
    /// The user that it belongs to. Others may use it by a grant.
    pub owner: String,
    /// Its name for people.
    pub name: Option<String>,
    /// Its identity key, base64url without padding.
    pub identity_public_key: Option<String>,
    /// Whether its presence tokens always say that its sessions can be resumed.
    pub resumable: bool,
    /// The region that tokens for it name; none leaves it to its owner (TOK-08).
    pub region: Option<String>,
    /// Most sessions at once that tokens for it allow; none leaves it to the configuration (TOK-11).
    pub concurrent_sessions: Option<u64>,
}

impl Daemon {
    /// A daemon of a user, without anything that need not be.
    pub fn new(id: impl Into<String>, owner: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            owner: owner.into(),
            name: None,
            identity_public_key: None,
            resumable: false,
            region: None,
            concurrent_sessions: None,
        }
    }
}

/// What is to change of a daemon; `None` leaves a thing as it is, `Some(None)` takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonChange {
    /// Its region.
    pub region: Option<Option<String>>,
    /// Its limit of sessions.
    pub concurrent_sessions: Option<Option<u64>>,
}

impl DaemonChange {
    pub(crate) fn apply(self, daemon: &mut Daemon) {
        if let Some(region) = self.region {
            daemon.region = region;
        }
        if let Some(limit) = self.concurrent_sessions {
            daemon.concurrent_sessions = limit;
        }
    }
}

/// A Quick Connect code that waits to be redeemed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The daemon that it leads to.
    pub daemon_id: String,
    /// Seconds since 1970 from which on it is no longer good.
    pub expires_at: u64,
}

/// What became of something to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    Yes,
    /// Nothing happened: its id or its digest is taken.
    Taken,
    /// Nothing happened: whom it would belong to is not there.
    NoHolder,
}

/// A daemon from a user's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The daemon.
    pub daemon: Daemon,
    /// Whether the user in question owns it or has a grant.
    pub allowed: bool,
}

/// All accounts at one moment, each list in the order of its ids. No credential is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// The users.
    pub users: Vec<User>,
    /// The daemons.
    pub daemons: Vec<Daemon>,
    /// Access tokens with their users.
    pub access_tokens: Vec<(CredentialId, String)>,
    /// API keys with their daemons.
    pub api_keys: Vec<(CredentialId, String)>,
    /// Grants: user, daemon.
    pub grants: Vec<(String, String)>,
}

/// A signing key as it is stored: with its secret, for tokens must verify after a restart.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The id that tokens name.
    pub kid: String,
    /// The secret seed.
    pub seed: Zeroizing<[u8; 32]>,
    /// Seconds since 1970 from which on it is no longer published; none for the one that signs.
    pub published_until: Option<u64>,
}

impl StoredKey {
    /// A new key that signs.
    pub fn random(kid: impl Into<String>, source: &mut (impl Entropy + ?Sized)) -> Self {
        Self { kid: kid.into(), seed: Zeroizing::new(entropy::bytes(source)), published_until: None }
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, seed: _, published_until } = self;
        f.debug_struct("StoredKey").field("kid", kid).field("published_until", published_until).finish_non_exhaustive()
    }
}

/// The accounts of a new store, and those after a reset: one user with a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstAccounts {
    /// The user.
    pub user: User,
    /// Its access token.
    pub access_token: Digest,
    /// Its daemon.
    pub daemon: Daemon,
    /// The daemon's API key.
    pub api_key: Digest,
}

/// The store cannot do its work; the request is answered with 500.
#[derive(Debug, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreError(pub String);

/// What a control plane knows.
pub trait Store: Send + Sync {
    /// Puts the first accounts into a new store; a store that was ever given some keeps what it has. Either way the accounts and
    /// codes that there are then are what [`reset`](Self::reset) returns to, in this process; the first call counts.
    ///
    /// # Errors
    /// As for all methods here: the store cannot do its work.
    fn install(&self, first: &FirstAccounts) -> Result<(), StoreError>;

    /// Returns to what there was when this process began: the accounts and the codes after [`install`](Self::install), the
    /// [signing keys](Self::signing_keys), with what was revoked and rotated before, and the
    /// [first fault plan](Self::begin_fault_plan). Everything else is gone. Session ids and redeemed codes stay used (API-01,
    /// API-05, REL-10).
    ///
    /// # Errors
    /// The store cannot do its work.
    fn reset(&self) -> Result<(), StoreError>;

    /// Adds a user with an access token.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_user(&self, user: &User, access_token: Digest) -> Result<Added, StoreError>;

    /// A user.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn user(&self, id: &str) -> Result<Option<User>, StoreError>;

    /// Gives a user a region, or none; false if there is no such user.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn set_user_region(&self, id: &str, region: Option<&str>) -> Result<bool, StoreError>;

    /// Removes a user with its access tokens, grants and daemons, and all that belongs to those. The ids of the daemons; `None`
    /// if there is no such user.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn remove_user(&self, id: &str) -> Result<Option<Vec<String>>, StoreError>;

    /// Adds an access token of a user.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_access_token(&self, token: Digest, user: &str) -> Result<Added, StoreError>;

    /// The user of an access token that is not revoked.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn user_of_access_token(&self, token: Digest) -> Result<Option<String>, StoreError>;

    /// Makes an access token unknown; says whether it was known.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn revoke_access_token(&self, token: CredentialId) -> Result<bool, StoreError>;

    /// Adds a daemon with an API key.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_daemon(&self, daemon: &Daemon, api_key: Digest) -> Result<Added, StoreError>;

    /// A daemon.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn daemon(&self, id: &str) -> Result<Option<Daemon>, StoreError>;

    /// Changes a daemon, and returns it as it is then; `None` if there is no such daemon.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn change_daemon(&self, id: &str, change: DaemonChange) -> Result<Option<Daemon>, StoreError>;

    /// Removes a daemon with its API keys, codes and grants; says whether there was one.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn remove_daemon(&self, id: &str) -> Result<bool, StoreError>;

    /// Adds an API key of a daemon, beside those that it has.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_api_key(&self, key: Digest, daemon: &str) -> Result<Added, StoreError>;

    /// The daemon of an API key that is not revoked.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn daemon_of_api_key(&self, key: Digest) -> Result<Option<Daemon>, StoreError>;

    /// Makes an API key unknown; says whether it was known.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn revoke_api_key(&self, key: CredentialId) -> Result<bool, StoreError>;

    /// Lets a user other than the owner use a daemon. [`Added::Taken`] if it may already.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_grant(&self, user: &str, daemon: &str) -> Result<Added, StoreError>;

    /// Takes a grant back; says whether there was one.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn remove_grant(&self, user: &str, daemon: &str) -> Result<bool, StoreError>;

    /// A daemon, and whether a user may use it; `None` if there is no such daemon.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn access(&self, user: &str, daemon: &str) -> Result<Option<Access>, StoreError>;

    /// The daemons that a user may use, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn accessible(&self, user: &str) -> Result<Vec<Daemon>, StoreError>;

    /// All accounts.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn directory(&self) -> Result<Directory, StoreError>;

    /// Adds a Quick Connect code. Forgets codes that have expired at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn add_code(&self, code: Digest, entry: &Code, now: u64) -> Result<Added, StoreError>;

    /// Takes a Quick Connect code out: of any number of calls at the same time one gets it (API-05), in all lives of the
    /// store. `None` if it is unknown, used, or expired at `now`, in seconds since 1970 (API-04).
    ///
    /// # Errors
    /// The store cannot do its work.
    fn consume_code(&self, code: Digest, now: u64) -> Result<Option<Code>, StoreError>;

    /// The daemon of a code that was not taken out, for who only looks; the code may have expired.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn daemon_of_code(&self, code: Digest) -> Result<Option<String>, StoreError>;

    /// Notes that a session id is used; false if it was before (API-01). Every one is kept, at some 20 bytes each.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn insert_session_id_if_new(&self, session: SessionId) -> Result<bool, StoreError>;

    /// The signing keys, newest first, the one that signs before all. A store that has none is given `first`, which is then what
    /// [`reset`](Self::reset) returns to.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn signing_keys(&self, first: &StoredKey) -> Result<Vec<StoredKey>, StoreError>;

    /// Makes a key the one that signs. The one before is published until `previous_until`; without that neither it nor any
    /// other is published any longer (KEY-04). Forgets keys whose time is over at `now`. All in seconds since 1970.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn rotate_keys(&self, new: &StoredKey, previous_until: Option<u64>, now: u64) -> Result<(), StoreError>;

    /// The text of the fault plan.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn fault_plan(&self) -> Result<Option<String>, StoreError>;

    /// Keeps the text of a fault plan, or none.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn set_fault_plan(&self, plan: Option<&str>) -> Result<(), StoreError>;

    /// The same, for the plan of this process's start: the one that [`reset`](Self::reset) returns to.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn begin_fault_plan(&self, plan: Option<&str>) -> Result<(), StoreError>;

    /// Notes that a client was let in with this session id (REL-10), by a token that is accepted until `token_dies`, and lets go
    /// of ids that the relay has forgotten. Of those, one that was used again meanwhile, with a token that lives at `now`, stays.
    /// Both in seconds since 1970.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn use_session(
        &self,
        session: SessionId,
        token_dies: u64,
        forgotten: &[SessionId],
        now: u64,
    ) -> Result<(), StoreError>;

    /// Takes that back: the client was not let in after all.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn unuse_session(&self, session: SessionId) -> Result<(), StoreError>;

    /// The session ids that earlier processes let in, in their order, and until when they are to be remembered: those that the
    /// last process did not forget until its end, until their token has run out and at least until `until`; those from before it
    /// until it was said of them then. What is over at `now` is forgotten. All in seconds since 1970.
    ///
    /// # Errors
    /// The store cannot do its work.
    fn used_sessions(&self, now: u64, until: u64) -> Result<Vec<(SessionId, u64)>, StoreError>;
}
