//! Tokens and delays: `tokens.json`, `backoff.json`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use sideband_protocol::{
    SessionId,
    backoff::base_delay,
    token::{GrantRole, KeySet, Policy, check},
};

use super::{FileReport, Wrong, read, same};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    issuer: String,
    region: String,
    now: u64,
    jwks: Value,
    session_ids: Vec<SessionIdCase>,
    cases: Vec<TokenCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionIdCase {
    sid: String,
    session_id: SessionId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenCase {
    name: String,
    token: String,
    expect: Expect,
}

/// Either the claims used, or the check that fails.
#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: u16,
    reason: Option<String>,
    role: Option<String>,
    session_id: Option<SessionId>,
    did: Option<String>,
    resumable: Option<bool>,
}

/// Every check that the README names.
const REASONS: [&str; 20] = [
    "missing",
    "malformed",
    "typ",
    "kid",
    "alg",
    "signature",
    "aud",
    "iss",
    "iat",
    "exp",
    "expired",
    "ver",
    "role",
    "did",
    "sub",
    "sid",
    "region",
    "ttl",
    "scp",
    "lim",
];

pub(super) fn tokens(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Tokens = read(text)?;
    let keys = KeySet::parse(file.jwks.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let policy = Policy { issuer: file.issuer, region: Some(file.region), now: file.now };
    report.each("cases", &file.cases, |case| case.name.clone(), |case| token(case, &keys, &policy));
    report.each(
        "session_ids",
        &file.session_ids,
        |case| case.sid.clone(),
        |case| {
            same("the claim", case.session_id.to_claim(), case.sid.clone())?;
            same("the session", SessionId::from_claim(&case.sid), Some(case.session_id))
        },
    );
    Ok(())
}

fn token(case: &TokenCase, keys: &KeySet, policy: &Policy) -> Result<(), Wrong> {
    let known = case.expect.reason.as_deref().is_none_or(|reason| REASONS.contains(&reason));
    if !known || !matches!(case.expect.status, 101 | 401 | 403) {
        return Err(format!("nobody knows expect {:?}", case.expect));
    }
    let nothing = Expect { status: 101, reason: None, role: None, session_id: None, did: None, resumable: None };
    let got = match check(Some(&case.token), keys, policy) {
        Err(refusal) => Expect { status: refusal.status(), reason: Some(refusal.reason().to_owned()), ..nothing },
        Ok(grant) => {
            let (role, session_id, resumable) = match grant.role {
                GrantRole::Client { session, .. } => ("client", Some(session), false),
                GrantRole::Daemon { resumable } => ("daemon", None, resumable),
            };
            let (role, did) = (Some(role.to_owned()), Some(grant.daemon_id));
            Expect { role, session_id, did, resumable: Some(resumable), ..nothing }
        }
    };
    same("the outcome", &got, &case.expect)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Backoff {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<Delay>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delay {
    attempt: u32,
    initial_ms: u64,
    max_ms: u64,
    base_ms: u64,
}

pub(super) fn backoff(text: &[u8], report: &mut FileReport) -> Result<(), Wrong> {
    let file: Backoff = read(text)?;
    let delay = |case: &&Delay| {
        let millis = Duration::from_millis;
        let got = base_delay(millis(case.initial_ms), millis(case.max_ms), case.attempt);
        same("the delay", got, millis(case.base_ms))
    };
    report.each("cases", &file.cases, |case| format!("attempt {} from {} ms", case.attempt, case.initial_ms), delay);
    Ok(())
}
