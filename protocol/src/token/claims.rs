//! Claims: typed for signing, and a look at one's own token without verifying it.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{AUDIENCE, CLIENT_LIFETIME, MAX_TOKEN, PRESENCE_LIFETIME, SCOPE_CREATE, SCOPE_RESUME, number};
use crate::SessionId;

/// Whom a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// One session with one daemon.
    Client,
    /// A daemon's presence at the relay.
    Daemon,
}

/// Limits that a token sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Most sessions that the daemon may have at once (TOK-11, REL-23).
    pub concurrent_sessions: u64,
}

/// What a token of ours says. `Debug` shows the role only.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The issuer's URL.
    pub iss: String,
    /// The audience, `sideband-relay`.
    pub aud: String,
    /// Seconds since 1970 when it was issued.
    pub iat: u64,
    /// Seconds since 1970 when it expires.
    pub exp: u64,
    /// A unique id, for logs only.
    pub jti: String,
    /// The version, 1.
    pub ver: u32,
    /// Whom it is for.
    pub role: Role,
    /// The user of a client token, the daemon of a presence token.
    pub sub: String,
    /// The daemon.
    pub did: String,
    /// The session of a client token; absent in a presence token.
    #[serde(serialize_with = "as_claim", skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// The scopes.
    pub scp: Vec<String>,
    /// The only region whose relays may take it (TOK-08).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Limits of this token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lim: Option<Limits>,
}

impl Claims {
    /// A client token: one user, one daemon, one session, [`CLIENT_LIFETIME`] seconds from `now` (API-01).
    pub fn client(issuer: &str, user: &str, daemon: &str, session: SessionId, jti: &str, now: u64) -> Self {
        Self {
            iss: issuer.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now,
            exp: now.saturating_add(CLIENT_LIFETIME),
            jti: jti.to_owned(),
            ver: 1,
            role: Role::Client,
            sub: user.to_owned(),
            did: daemon.to_owned(),
            sid: Some(session),
            scp: vec![SCOPE_CREATE.to_owned()],
            region: None,
            lim: None,
        }
    }

    /// A presence token of a daemon, [`PRESENCE_LIFETIME`] seconds from `now`.
    pub fn daemon(issuer: &str, daemon: &str, jti: &str, now: u64, resumable: bool) -> Self {
        Self {
            iss: issuer.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now,
            exp: now.saturating_add(PRESENCE_LIFETIME),
            jti: jti.to_owned(),
            ver: 1,
            role: Role::Daemon,
            sub: daemon.to_owned(),
            did: daemon.to_owned(),
            sid: None,
            scp: if resumable { vec![SCOPE_RESUME.to_owned()] } else { Vec::new() },
            region: None,
            lim: None,
        }
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("role", &self.role).finish_non_exhaustive()
    }
}

fn as_claim<S: Serializer>(sid: &Option<SessionId>, serializer: S) -> Result<S::Ok, S::Error> {
    match sid {
        Some(sid) => serializer.serialize_str(&sid.to_claim()),
        None => serializer.serialize_none(),
    }
}

/// What an endpoint reads in its own token. Nothing of it is verified: only the relay does that.
#[derive(Clone, PartialEq, Eq)]
pub struct Peek {
    /// The daemon that the token is about (DMN-02); never empty.
    pub daemon_id: String,
    /// Whom it is for; none if it says neither `client` nor `daemon`.
    pub role: Option<Role>,
    /// The user of a client token.
    pub user: Option<String>,
    /// The session of a client token.
    pub session: Option<SessionId>,
    /// The scopes; empty if there are none or they cannot be read.
    pub scopes: Vec<String>,
    /// Seconds since 1970 when it expires.
    pub expires_at: Option<u64>,
}

impl Peek {
    /// Whether the relay will keep this daemon's sessions while it is away (DMN-12).
    pub fn is_resumable(&self) -> bool {
        self.scopes.iter().any(|scope| scope == SCOPE_RESUME)
    }
}

impl fmt::Debug for Peek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peek").field("role", &self.role).finish_non_exhaustive()
    }
}

/// Reads one's own token without verifying it: `None` if it is no JWT or names no daemon.
pub fn peek(token: &str) -> Option<Peek> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = decode_object(claims)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let scopes = claims.get("scp").and_then(Value::as_array);
    Some(Peek {
        daemon_id: text("did").filter(|did| !did.is_empty())?.to_owned(),
        role: match text("role") {
            Some("client") => Some(Role::Client),
            Some("daemon") => Some(Role::Daemon),
            _ => None,
        },
        user: text("sub").map(str::to_owned),
        session: text("sid").and_then(SessionId::from_claim),
        scopes: scopes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        expires_at: claims.get("exp").and_then(Value::as_number).map(number::saturating_seconds),
    })
}

/// The JSON object in a part of a token.
pub(super) fn decode_object(part: &str) -> Option<Map<String, Value>> {
    let text = BASE64URL_NOPAD.decode(part.as_bytes()).ok()?;
    serde_json::from_slice(&text).ok()
}
