//! Inputs and results of the procedures.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Procedure;

/// A request of a client: its procedure and what that returns. The body is the input as JSON.
pub trait Request: Serialize {
    /// The procedure.
    const PROCEDURE: Procedure;
    /// What it returns.
    type Answer: DeserializeOwned;

    /// The body to send.
    fn body(&self) -> Vec<u8> {
        // Inputs have text, numbers and booleans only: they always become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// `Debug` that names the type and the members that are no secret.
macro_rules! debug_hides_secrets {
    ($type:ident { $($shown:ident),* }) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))$(.field(stringify!($shown), &self.$shown))*.finish_non_exhaustive()
            }
        }
    };
}

/// Input of `relay.createSession`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSession {
    /// The daemon to have a session with.
    pub daemon_id: String,
}

impl Request for CreateSession {
    const PROCEDURE: Procedure = Procedure::CreateSession;
    type Answer = Session;
}

/// Result of `relay.createSession`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The relay's URL, `ws:` or `wss:`.
    pub relay_url: String,
    /// The client token, for one connection.
    pub token: String,
}
debug_hides_secrets!(Session { relay_url });

/// Input of `daemon.renewToken`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RenewToken;

impl Request for RenewToken {
    const PROCEDURE: Procedure = Procedure::RenewToken;
    type Answer = PresenceToken;
}

/// Result of `daemon.renewToken`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceToken {
    /// The presence token.
    pub presence_token: String,
}
debug_hides_secrets!(PresenceToken {});

/// Input of `quickConnect.create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateQuickConnect {
    /// How long the code lives, in seconds, 30 to 3,600; 300 if absent (API-03).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

impl Request for CreateQuickConnect {
    const PROCEDURE: Procedure = Procedure::CreateQuickConnect;
    type Answer = QuickConnect;
}

/// Result of `quickConnect.create`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuickConnect {
    /// The code, `abcd-efgh-ijkl`.
    pub code: String,
    /// The page that redeems it, `{connect base}#qc={code}`.
    pub url: String,
    /// When it expires, ISO 8601 UTC.
    pub expires_at: String,
}
debug_hides_secrets!(QuickConnect { expires_at });

/// Input of `quickConnect.redeem`.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedeemQuickConnect {
    /// The code, as it was given.
    pub code: String,
}
debug_hides_secrets!(RedeemQuickConnect {});

impl Request for RedeemQuickConnect {
    const PROCEDURE: Procedure = Procedure::RedeemQuickConnect;
    type Answer = Redeemed;
}

/// Result of `quickConnect.redeem`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redeemed {
    /// The relay's URL, `ws:` or `wss:`.
    pub relay_url: String,
    /// The client token, for one connection.
    pub token: String,
    /// The daemon whose code it was.
    pub daemon_id: String,
}
debug_hides_secrets!(Redeemed { relay_url, daemon_id });

/// Input of `daemon.register`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterDaemon {
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The daemon's Ed25519 identity key, base64url without padding of 32 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_public_key: Option<String>,
    /// Whether its sessions can be resumed whatever it says later; false if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumable: Option<bool>,
}

impl Request for RegisterDaemon {
    const PROCEDURE: Procedure = Procedure::RegisterDaemon;
    type Answer = Registered;
}

/// Result of `daemon.register`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// The new daemon.
    pub daemon_id: String,
    /// Its API key; shown this once.
    pub api_key: String,
    /// Its first presence token.
    pub presence_token: String,
}
debug_hides_secrets!(Registered { daemon_id });

/// Input of `daemon.listAccessible`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ListAccessible;

impl Request for ListAccessible {
    const PROCEDURE: Procedure = Procedure::ListAccessible;
    type Answer = Vec<AccessibleDaemon>;
}

/// One daemon in the result of `daemon.listAccessible`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessibleDaemon {
    /// The daemon.
    pub id: String,
    /// Its name; null if it was registered without.
    pub name: Option<String>,
    /// Its identity key, base64url without padding; null if it was registered without.
    pub identity_public_key: Option<String>,
    /// Whether it is connected to the relay.
    pub status: DaemonPresence,
}

/// Whether a daemon is connected to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonPresence {
    /// It is.
    Online,
    /// It is not.
    Offline,
}

/// ISO 8601 UTC, to the second, of seconds since 1970, such as `2026-01-01T00:05:00Z`; times beyond the year 9999
/// become its end.
pub fn utc_text(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Seconds since 1970 of an ISO 8601 time with a zone; `None` if it is none, or before 1970.
pub fn parse_utc(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_second()).ok()
}
