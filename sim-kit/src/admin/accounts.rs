//! Accounts below `/__sim`: who may use what. Credentials are shown once, when they are made, and are named by an id
//! afterwards: the first 16 hex digits of their SHA-256 digest.
//!
//! | route | takes | answer |
//! |---|---|---|
//! | `GET accounts` | | [`Accounts`] |
//! | `POST accounts/users` | [`NewUser`] | [`UserCreated`]; 409 if the id is taken |
//! | `PATCH accounts/users/{id}` | [`UserChange`] | [`Accounts`] |
//! | `DELETE accounts/users/{id}` | | [`UserRemoved`] |
//! | `POST accounts/users/{id}/tokens` | | [`TokenIssued`] |
//! | `DELETE accounts/tokens/{id}` | | [`Removed`] |
//! | `POST accounts/daemons` | [`NewDaemon`] | [`DaemonCreated`]; 404 without its owner, 409 if the id is taken |
//! | `PATCH accounts/daemons/{id}` | [`DaemonSettings`] | [`Accounts`] |
//! | `DELETE accounts/daemons/{id}` | | [`Removed`] |
//! | `POST accounts/daemons/{id}/keys` | | [`KeyIssued`] |
//! | `DELETE accounts/keys/{id}` | | [`Removed`] |
//! | `PUT accounts/daemons/{id}/grants/{user}` | | [`Granted`] |
//! | `DELETE accounts/daemons/{id}/grants/{user}` | | [`Removed`] |
//!
//! What is not there is 404, a body that is wrong is 400. A user that is removed takes its tokens, grants and daemons along; a
//! daemon its API keys, codes and grants. Tokens for the relay that are out already are good until they expire (TOK-12).

use std::fmt;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{AdminClient, AdminError};

/// Answer of `accounts`: what a control plane knows. No credential is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accounts {
    /// The users' ids.
    pub users: Vec<String>,
    /// The daemons.
    pub daemons: Vec<DaemonAccount>,
    /// The users with what is known of them.
    #[serde(default)]
    pub user_accounts: Vec<UserAccount>,
    /// Regions that users or daemons name and that no relay is known to serve (TOK-08): clients are sent to the control plane's own
    /// relay, which refuses the tokens with 403 unless it is of that region. Absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved_regions: Vec<String>,
}

/// A user as a control plane knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserAccount {
    /// The user.
    pub user_id: String,
    /// The region of its daemons, unless they have their own.
    pub region: Option<String>,
    /// The ids of its access tokens.
    pub access_token_ids: Vec<String>,
}

/// A daemon as a control plane knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonAccount {
    /// The daemon.
    pub daemon_id: String,
    /// The user that it belongs to.
    pub owner: String,
    /// Its name.
    pub name: Option<String>,
    /// Whether it is registered as one whose sessions can be resumed.
    pub resumable: bool,
    /// Its own region.
    #[serde(default)]
    pub region: Option<String>,
    /// Its own limit of sessions at once.
    #[serde(default)]
    pub concurrent_sessions: Option<u64>,
    /// The ids of its API keys.
    #[serde(default)]
    pub api_key_ids: Vec<String>,
    /// The users other than its owner who may use it.
    #[serde(default)]
    pub grants: Vec<String>,
}

/// A user to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUser {
    /// Its id; a new one `u_…` if absent. 1 to 64 letters, digits, `_`, `-` and `.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The region of its daemons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// A user that was made. `Debug` hides the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserCreated {
    /// The user.
    pub user_id: String,
    /// Its access token, shown this once.
    pub access_token: String,
    /// The token's id.
    pub access_token_id: String,
}

/// What is to change of a user: what is absent stays, null takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserChange {
    /// The region of its daemons.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub region: Option<Option<String>>,
}

/// A user that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserRemoved {
    /// True; a user that is not there is an error.
    pub removed: bool,
    /// Its daemons, which are gone with it.
    pub daemon_ids: Vec<String>,
}

/// A further access token. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenIssued {
    /// The token, shown this once.
    pub access_token: String,
    /// Its id.
    pub access_token_id: String,
}

/// A daemon to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDaemon {
    /// The user that it belongs to.
    pub owner: String,
    /// Its id; a new one `d_…` if absent. 1 to 64 letters, digits, `_`, `-` and `.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon_id: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its identity key, base64url without padding of 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_public_key: Option<String>,
    /// Whether its sessions can be resumed whatever it says later.
    #[serde(default)]
    pub resumable: bool,
    /// Its region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Most sessions at once, at least 1 (TOK-11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_sessions: Option<u64>,
}

/// A daemon that was made. `Debug` hides the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonCreated {
    /// The daemon.
    pub daemon_id: String,
    /// Its API key, shown this once.
    pub api_key: String,
    /// The key's id.
    pub api_key_id: String,
}

/// What is to change of a daemon: what is absent stays, null takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DaemonSettings {
    /// Its region.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub region: Option<Option<String>>,
    /// Most sessions at once, at least 1 (TOK-11).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub concurrent_sessions: Option<Option<u64>>,
}

/// A member that is there, be it null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// A further API key. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyIssued {
    /// The key, shown this once.
    pub api_key: String,
    /// Its id.
    pub api_key_id: String,
}

/// Something is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// True; what is not there is an error.
    pub removed: bool,
}

/// Answer to a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Granted {
    /// Whether it is new; false if the user could use the daemon before.
    pub granted: bool,
}

macro_rules! debug_hides_credential {
    ($($type:ident { $($shown:ident),* })*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))$(.field(stringify!($shown), &self.$shown))*.finish_non_exhaustive()
            }
        }
    )*};
}

debug_hides_credential! {
    UserCreated { user_id, access_token_id }
    TokenIssued { access_token_id }
    DaemonCreated { daemon_id, api_key_id }
    KeyIssued { api_key_id }
}

impl AdminClient {
    /// What the API knows of users and daemons.
    ///
    /// # Errors
    /// Every [`AdminError`], as for all requests here.
    pub async fn accounts(&self) -> Result<Accounts, AdminError> {
        self.get(&["accounts"]).await
    }

    /// Makes a user with an access token.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn create_user(&self, user: &NewUser) -> Result<UserCreated, AdminError> {
        self.with_body(Method::POST, &["accounts", "users"], user).await
    }

    /// Changes a user.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn change_user(&self, user: &str, change: &UserChange) -> Result<Accounts, AdminError> {
        self.with_body(Method::PATCH, &["accounts", "users", user], change).await
    }

    /// Removes a user, and its daemons.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn remove_user(&self, user: &str) -> Result<UserRemoved, AdminError> {
        self.send(Method::DELETE, &["accounts", "users", user], Bytes::new()).await
    }

    /// Issues a further access token of a user.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn issue_access_token(&self, user: &str) -> Result<TokenIssued, AdminError> {
        self.send(Method::POST, &["accounts", "users", user, "tokens"], Bytes::new()).await
    }

    /// Revokes an access token by its id.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn revoke_access_token(&self, token_id: &str) -> Result<Removed, AdminError> {
        self.send(Method::DELETE, &["accounts", "tokens", token_id], Bytes::new()).await
    }

    /// Makes a daemon with an API key.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn create_daemon(&self, daemon: &NewDaemon) -> Result<DaemonCreated, AdminError> {
        self.with_body(Method::POST, &["accounts", "daemons"], daemon).await
    }

    /// Changes a daemon's region and limits.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn change_daemon(&self, daemon: &str, settings: &DaemonSettings) -> Result<Accounts, AdminError> {
        self.with_body(Method::PATCH, &["accounts", "daemons", daemon], settings).await
    }

    /// Removes a daemon.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn remove_daemon(&self, daemon: &str) -> Result<Removed, AdminError> {
        self.send(Method::DELETE, &["accounts", "daemons", daemon], Bytes::new()).await
    }

    /// Issues a further API key of a daemon.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn issue_api_key(&self, daemon: &str) -> Result<KeyIssued, AdminError> {
        self.send(Method::POST, &["accounts", "daemons", daemon, "keys"], Bytes::new()).await
    }

    /// Revokes an API key by its id.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn revoke_api_key(&self, key_id: &str) -> Result<Removed, AdminError> {
        self.send(Method::DELETE, &["accounts", "keys", key_id], Bytes::new()).await
    }

    /// Lets a user other than the owner use a daemon.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn grant(&self, user: &str, daemon: &str) -> Result<Granted, AdminError> {
        self.send(Method::PUT, &["accounts", "daemons", daemon, "grants", user], Bytes::new()).await
    }

    /// Takes a grant back.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn revoke_grant(&self, user: &str, daemon: &str) -> Result<Removed, AdminError> {
        self.send(Method::DELETE, &["accounts", "daemons", daemon, "grants", user], Bytes::new()).await
    }

    async fn with_body<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let body = serde_json::to_vec(body).map_err(|_| AdminError::Unreadable)?;
        self.send(method, path, body.into()).await
    }
}
