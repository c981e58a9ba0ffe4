//! The one check of a token, in the order of TOK-01 to TOK-11; the first failure decides.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Number, Value};

use super::{
    ALG, AUDIENCE, KeySet, MAX_CLIENT_LIFETIME, MAX_TOKEN, SCOPE_RESUME, TYP, claims::decode_object, keys::Found,
    number,
};
use crate::SessionId;

/// What a relay expects of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The issuer's URL, compared byte for byte (TOK-04).
    pub issuer: String,
    /// The relay's region. A token that names a region is refused by every other one, and by a relay without (TOK-08).
    pub region: Option<String>,
    /// Seconds since 1970.
    pub now: u64,
}

/// Whom a good token lets in. `Debug` shows the role, never the user.
#[derive(Clone, PartialEq, Eq)]
pub enum GrantRole {
    /// A client, for one session.
    Client {
        /// The user.
        sub: String,
        /// The session.
        session: SessionId,
    },
    /// A daemon.
    Daemon {
        /// Whether its sessions wait for it when it is gone (`scp` has `session:resume`).
        resumable: bool,
    },
}

impl fmt::Debug for GrantRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { sub: _, session } => {
                f.debug_struct("Client").field("session", session).finish_non_exhaustive()
            }
            Self::Daemon { resumable } => f.debug_struct("Daemon").field("resumable", resumable).finish(),
        }
    }
}

/// What a good token grants. Holds for the whole connection, however long it lasts (TOK-12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whom it lets in.
    pub role: GrantRole,
    /// The daemon that it is about.
    pub daemon_id: String,
    /// Most sessions that the daemon may have at once, if the token says so (REL-23).
    pub concurrent_sessions: Option<u64>,
    /// The token's unique id, if it has one; for logs only.
    pub jti: Option<String>,
    /// Seconds since 1970 when the token expires; with the skew this bounds how long its session id must be remembered
    /// (REL-10).
    pub expires_at: u64,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $reason:literal, $rule:literal, $text:literal;)*) => {
        /// Why a token is refused. Never holds anything of the token (TOK-13).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
        pub enum Refusal { $($(#[$doc])* #[error($text)] $variant,)* }

        impl Refusal {
            /// Every refusal, in the order of the checks.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The check that failed, as the vectors name it.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$variant => $reason,)* }
            }

            /// The rule that decided.
            pub const fn rule(self) -> &'static str {
                match self { $(Self::$variant => $rule,)* }
            }
        }
    };
}

refusals! {
    /// No token, or an empty one.
    Missing = "missing", "TOK-01", "no token";
    /// Over 4,096 bytes, not three parts, or a header or claims that are no JSON object.
    Malformed = "malformed", "TOK-01", "the token is malformed";
    /// `typ` is not `sbrp-relay+jwt`.
    Typ = "typ", "TOK-02", "the token is of another type";
    /// No `kid`.
    Kid = "kid", "TOK-02", "the token names no key";
    /// The key set has no such key; a relay reads the set again before it refuses (KEY-01).
    UnknownKid = "kid", "TOK-03", "the token names an unknown key";
    /// The key's or the header's `alg` is not EdDSA.
    Alg = "alg", "TOK-03", "the token uses another algorithm";
    /// The signature does not verify.
    Signature = "signature", "TOK-03", "the token's signature is wrong";
    /// `aud` does not contain `sideband-relay`.
    Aud = "aud", "TOK-04", "the token is for another audience";
    /// `iss` is not the configured issuer.
    Iss = "iss", "TOK-04", "the token is from another issuer";
    /// `iat` is not a number.
    Iat = "iat", "TOK-05", "the token says not when it was issued";
    /// `exp` is not a number.
    Exp = "exp", "TOK-05", "the token says not when it expires";
    /// `exp` is more than 30 s ago.
    Expired = "expired", "TOK-05", "the token has expired";
    /// `ver` is there and not 1.
    Ver = "ver", "TOK-06", "the token has another version";
    /// `role` is neither `client` nor `daemon`.
    Role = "role", "TOK-06", "the token has an unknown role";
    /// `did` is not a non-empty text.
    Did = "did", "TOK-06", "the token names no daemon";
    /// A client's `sub` is not a non-empty text.
    Sub = "sub", "TOK-07", "the token names no user";
    /// A client's `sid` is not 8 bytes, or zero.
    Sid = "sid", "TOK-07", "the token names no session";
    /// `region` is there and not the relay's own.
    Region = "region", "TOK-08", "the token is for another region";
    /// A client token that lives over 300 s.
    Ttl = "ttl", "TOK-09", "the token lives too long";
    /// `scp` is there and not a list of text.
    Scp = "scp", "TOK-10", "the token's scopes are malformed";
    /// `lim.concurrent_sessions` is there and not an integer of at least 1.
    Lim = "lim", "TOK-11", "the token's session limit is malformed";
}

impl Refusal {
    /// The HTTP status that answers the upgrade: 403 for the region, else 401.
    pub const fn status(self) -> u16 {
        match self {
            Self::Region => 403,
            Self::Missing
            | Self::Malformed
            | Self::Typ
            | Self::Kid
            | Self::UnknownKid
            | Self::Alg
            | Self::Signature
            | Self::Aud
            | Self::Iss
            | Self::Iat
            | Self::Exp
            | Self::Expired
            | Self::Ver
            | Self::Role
            | Self::Did
            | Self::Sub
            | Self::Sid
            | Self::Ttl
            | Self::Scp
            | Self::Lim => 401,
        }
    }

    /// The stable code in the answer's body (TOK-13).
    pub const fn code(self) -> &'static str {
        if self.status() == 403 { "forbidden" } else { "unauthorized" }
    }
}

/// Checks a token, in the order of TOK-01 to TOK-11.
///
/// # Errors
/// The first check that fails. [`Refusal::UnknownKid`] is for the key cache to look at before it is final (KEY-01).
pub fn check(token: Option<&str>, keys: &KeySet, policy: &Policy) -> Result<Grant, Refusal> {
    danger_check(token, keys, policy, &[])
}

/// A check that is wrong on purpose, for tests: it passes over these refusals, where something is left to go on with.
///
/// # Errors
/// As [`check`].
#[doc(hidden)]
pub fn danger_check(
    token: Option<&str>,
    keys: &KeySet,
    policy: &Policy,
    forgiven: &[Refusal],
) -> Result<Grant, Refusal> {
    let token = token.filter(|token| !token.is_empty()).ok_or(Refusal::Missing)?;
    let forgiven = Forgiven(forgiven);
    let claims = verify(token, keys, forgiven)?;
    check_claims(&claims, policy, forgiven)
}

/// Refusals that are passed over: none but in tests.
#[derive(Clone, Copy)]
struct Forgiven<'a>(&'a [Refusal]);

impl Forgiven<'_> {
    fn refuse(self, refusal: Refusal) -> Result<(), Refusal> {
        if self.0.contains(&refusal) { Ok(()) } else { Err(refusal) }
    }

    /// What was found, or nothing if that is forgiven.
    fn found<T>(self, found: Option<T>, refusal: Refusal) -> Result<Option<T>, Refusal> {
        if found.is_none() {
            self.refuse(refusal)?;
        }
        Ok(found)
    }
}

/// TOK-01 to TOK-03: the claims of a token that a key of the set has signed.
fn verify(token: &str, keys: &KeySet, forgiven: Forgiven<'_>) -> Result<Map<String, Value>, Refusal> {
    if token.len() > MAX_TOKEN {
        forgiven.refuse(Refusal::Malformed)?;
    }
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let header = decode_object(head).ok_or(Refusal::Malformed)?;
    let text = |member: &str| header.get(member).and_then(Value::as_str);
    if text("typ") != Some(TYP) {
        forgiven.refuse(Refusal::Typ)?;
    }
    let kid = text("kid").ok_or(Refusal::Kid)?;
    let key = match keys.find(kid) {
        Found::Usable(key) => key,
        Found::Foreign => return Err(Refusal::Alg),
        Found::Nothing => return Err(Refusal::UnknownKid),
    };
    if text("alg") != Some(ALG) {
        return Err(Refusal::Alg);
    }
    // The signature covers the two parts as they were sent, not what they decode to.
    let signed = &token[..head.len() + 1 + body.len()];
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| Refusal::Signature)?;
    if !key.verifies(signed.as_bytes(), &signature) {
        forgiven.refuse(Refusal::Signature)?;
    }
    decode_object(body).ok_or(Refusal::Malformed)
}

/// TOK-04 to TOK-11.
fn check_claims(claims: &Map<String, Value>, policy: &Policy, forgiven: Forgiven<'_>) -> Result<Grant, Refusal> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let non_empty = |name: &str| text(name).filter(|text| !text.is_empty());
    let number = |name: &str| -> Option<&Number> { claims.get(name)?.as_number() };

    // TOK-04
    let for_us = match claims.get("aud") {
        Some(Value::String(aud)) => aud == AUDIENCE,
        Some(Value::Array(list)) => list.iter().any(|aud| aud == AUDIENCE),
        _ => false,
    };
    if !for_us {
        forgiven.refuse(Refusal::Aud)?;
    }
    if text("iss") != Some(policy.issuer.as_str()) {
        forgiven.refuse(Refusal::Iss)?;
    }
    // TOK-05
    let iat = number("iat").ok_or(Refusal::Iat)?;
    let exp = number("exp").ok_or(Refusal::Exp)?;
    if !number::not_expired(exp, policy.now) {
        forgiven.refuse(Refusal::Expired)?;
    }
    // TOK-06
    if claims.get("ver").is_some_and(|ver| number::positive_integer(ver) != Some(1)) {
        forgiven.refuse(Refusal::Ver)?;
    }
    let is_client = match text("role") {
        Some("client") => true,
        Some("daemon") => false,
        _ => return Err(Refusal::Role),
    };
    let daemon_id = non_empty("did").ok_or(Refusal::Did)?.to_owned();
    // TOK-07
    let client = if is_client {
        let sub = forgiven.found(non_empty("sub"), Refusal::Sub)?.unwrap_or_default().to_owned();
        let session = text("sid").and_then(SessionId::from_claim).ok_or(Refusal::Sid)?;
        Some((sub, session))
    } else {
        None
    };
    // TOK-08
    if claims
        .get("region")
        .is_some_and(|region| region.as_str().is_none() || region.as_str() != policy.region.as_deref())
    {
        forgiven.refuse(Refusal::Region)?;
    }
    // TOK-09
    if is_client && !number::lifetime_within(iat, exp, MAX_CLIENT_LIFETIME) {
        forgiven.refuse(Refusal::Ttl)?;
    }
    // TOK-10
    let resumable = match claims.get("scp") {
        None => false,
        Some(Value::Array(scopes)) if scopes.iter().all(Value::is_string) => {
            scopes.iter().any(|scope| scope == SCOPE_RESUME)
        }
        Some(_) => {
            forgiven.refuse(Refusal::Scp)?;
            false
        }
    };
    // TOK-11
    let concurrent_sessions = match claims.get("lim").and_then(|lim| lim.get("concurrent_sessions")) {
        None => None,
        Some(limit) => forgiven.found(number::positive_integer(limit), Refusal::Lim)?,
    };

    let role = match client {
        Some((sub, session)) => GrantRole::Client { sub, session },
        None => GrantRole::Daemon { resumable },
    };
    let jti = non_empty("jti").map(str::to_owned);
    Ok(Grant { role, daemon_id, concurrent_sessions, jti, expires_at: number::saturating_seconds(exp) })
}
