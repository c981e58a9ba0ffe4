//! `tests/vectors/tokens.json`: every member and every `expect` must be known, or the test fails.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    SessionId,
    token::{GrantRole, KeySet, Policy, check},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    issuer: String,
    region: String,
    now: u64,
    jwks: Value,
    session_ids: Vec<SessionIds>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionIds {
    sid: String,
    session_id: SessionId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    token: String,
    expect: Expect,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: u16,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    session_id: Option<SessionId>,
    #[serde(default)]
    did: Option<String>,
    #[serde(default)]
    resumable: Option<bool>,
}

fn read() -> Vectors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/tokens.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn tok_01_to_11_every_vector() {
    let vectors = read();
    let keys = KeySet::parse(vectors.jwks.to_string().as_bytes()).unwrap();
    let policy = Policy { issuer: vectors.issuer, region: Some(vectors.region), now: vectors.now };
    assert!(vectors.cases.len() > 40);
    for case in vectors.cases {
        let outcome = match check(Some(&case.token), &keys, &policy) {
            Ok(grant) => {
                let (role, session_id, resumable) = match grant.role {
                    GrantRole::Client { sub, session } => {
                        assert_eq!(sub, "u_1", "{}", case.name);
                        ("client", Some(session), false)
                    }
                    GrantRole::Daemon { resumable } => ("daemon", None, resumable),
                };
                Expect {
                    status: 101,
                    reason: None,
                    role: Some(role.to_owned()),
                    session_id,
                    did: Some(grant.daemon_id),
                    resumable: Some(resumable),
                }
            }
            Err(refusal) => Expect {
                status: refusal.status(),
                reason: Some(refusal.reason().to_owned()),
                role: None,
                session_id: None,
                did: None,
                resumable: None,
            },
        };
        assert_eq!(outcome, case.expect, "{}", case.name);
    }
}

#[test]
fn tok_07_session_ids_of_the_vectors_both_ways() {
    for SessionIds { sid, session_id } in read().session_ids {
        assert_eq!(SessionId::from_claim(&sid), Some(session_id));
        assert_eq!(session_id.to_claim(), sid);
    }
}
