use serde_json::{Value, json};

use crate::{
    SessionId,
    token::{Claims, Grant, GrantRole, KeySet, Limits, Policy, Refusal, Role, Signer, TYP, check, peek},
};

const NOW: u64 = 1_767_225_600;
const ISSUER: &str = "https://api.test";

fn signer() -> Signer {
    Signer::from_seed("k-1", &[7; 32])
}

fn policy() -> Policy {
    Policy { issuer: ISSUER.into(), region: None, now: NOW }
}

fn client_claims() -> Value {
    let session = SessionId::new(5).unwrap();
    serde_json::to_value(Claims::client(ISSUER, "u_1", "d_1", session, "t-1", NOW)).unwrap()
}

fn check_claims(claims: &Value) -> Result<Grant, Refusal> {
    let header = json!({"alg": "EdDSA", "typ": TYP, "kid": "k-1"});
    let token = signer().sign_json(&header, claims);
    check(Some(&token), &KeySet::from_keys([signer().public()]), &policy())
}

fn with(member: &str, value: Value) -> Result<Grant, Refusal> {
    let mut claims = client_claims();
    claims[member] = value;
    check_claims(&claims)
}

fn raw(number: &str) -> Value {
    serde_json::from_str(number).unwrap()
}

#[test]
fn tok_03_a_client_token_of_ours_is_granted() {
    let grant = check_claims(&client_claims()).unwrap();
    let role = GrantRole::Client { sub: "u_1".into(), session: SessionId::new(5).unwrap() };
    assert_eq!(
        grant,
        Grant {
            role,
            daemon_id: "d_1".into(),
            concurrent_sessions: None,
            jti: Some("t-1".into()),
            expires_at: NOW + 120
        }
    );
}

#[test]
fn tok_03_a_presence_token_of_ours_is_granted() {
    let keys = KeySet::from_keys([signer().public()]);
    for resumable in [true, false] {
        let mut claims = Claims::daemon(ISSUER, "d_1", "t-1", NOW, resumable);
        claims.lim = Some(Limits { concurrent_sessions: 3 });
        let grant = check(Some(&signer().sign(&claims)), &keys, &policy()).unwrap();
        assert_eq!(grant.role, GrantRole::Daemon { resumable });
        assert_eq!(grant.concurrent_sessions, Some(3));
        assert_eq!(grant.expires_at, NOW + 3_600);
    }
}

#[test]
fn tok_01_no_token_is_refused_as_missing() {
    let keys = KeySet::default();
    assert_eq!(check(None, &keys, &policy()), Err(Refusal::Missing));
    assert_eq!(check(Some(""), &keys, &policy()), Err(Refusal::Missing));
}

#[test]
fn tok_01_exactly_4096_bytes_are_fine_and_one_more_is_not() {
    let keys = KeySet::from_keys([signer().public()]);
    let mut lengths = std::collections::BTreeSet::new();
    // Base64 has no length of 4n + 1: both parts are padded to meet every length.
    for (padding, more) in (2_650..2_850).flat_map(|padding| (0..3).map(move |more| (padding, more))) {
        let mut claims = client_claims();
        claims["pad"] = json!("x".repeat(padding));
        let header = json!({"alg": "EdDSA", "typ": TYP, "kid": "k-1", "pad": "x".repeat(more)});
        let token = signer().sign_json(&header, &claims);
        let granted = check(Some(&token), &keys, &policy()).is_ok();
        assert_eq!(granted, token.len() <= 4_096, "{} bytes", token.len());
        lengths.insert(token.len());
    }
    assert!(lengths.contains(&4_096) && lengths.contains(&4_097));
}

#[test]
fn tok_01_claims_that_are_no_object_are_malformed() {
    for claims in [json!(null), json!([]), json!("x"), json!(7)] {
        assert_eq!(check_claims(&claims), Err(Refusal::Malformed));
    }
}

#[test]
fn tok_02_kid_and_typ_must_be_text() {
    let keys = KeySet::from_keys([signer().public()]);
    let refused = |header: Value| {
        let token = signer().sign_json(&header, &client_claims());
        check(Some(&token), &keys, &policy()).unwrap_err()
    };
    assert_eq!(refused(json!({"alg": "EdDSA", "typ": 1, "kid": "k-1"})), Refusal::Typ);
    assert_eq!(refused(json!({"alg": "EdDSA", "typ": TYP, "kid": 1})), Refusal::Kid);
    assert_eq!(refused(json!({"alg": "EdDSA", "typ": TYP, "kid": "k-2"})), Refusal::UnknownKid);
    assert_eq!(refused(json!({"typ": TYP, "kid": "k-1"})), Refusal::Alg);
}

#[test]
fn tok_03_an_unknown_key_differs_from_no_key_but_reads_the_same_outside() {
    assert_eq!(Refusal::Kid.reason(), Refusal::UnknownKid.reason());
    assert_eq!(Refusal::UnknownKid.status(), 401);
}

#[test]
fn tok_03_a_cut_signature_is_refused() {
    let keys = KeySet::from_keys([signer().public()]);
    let token = signer().sign(&Claims::daemon(ISSUER, "d_1", "t-1", NOW, false));
    for cut in 1..=86 {
        assert_eq!(check(Some(&token[..token.len() - cut]), &keys, &policy()), Err(Refusal::Signature), "{cut}");
    }
}

#[test]
fn tok_04_the_issuer_is_compared_whole() {
    assert_eq!(with("iss", json!("https://api.test/")), Err(Refusal::Iss));
    assert_eq!(with("iss", json!(["https://api.test"])), Err(Refusal::Iss));
}

#[test]
fn tok_04_an_audience_list_may_hold_anything_beside_ours() {
    assert!(with("aud", json!([1, null, "sideband-relay"])).is_ok());
    assert_eq!(with("aud", json!([1, "other"])), Err(Refusal::Aud));
    assert_eq!(with("aud", json!({"sideband-relay": 1})), Err(Refusal::Aud));
}

#[test]
fn tok_05_expired_30_s_ago_is_granted() {
    assert!(with("exp", json!(NOW - 30)).is_ok());
    assert!(with("exp", raw("1767225570.0")).is_ok());
}

#[test]
fn tok_05_expired_31_s_ago_is_refused() {
    assert_eq!(with("exp", json!(NOW - 31)), Err(Refusal::Expired));
    assert_eq!(with("exp", raw("1767225569.5")), Err(Refusal::Expired));
    assert_eq!(with("exp", raw("-1")), Err(Refusal::Expired));
    assert_eq!(with("exp", raw("-1e300")), Err(Refusal::Expired));
}

#[test]
fn tok_05_the_first_seconds_of_1970_do_not_underflow() {
    let keys = KeySet::from_keys([signer().public()]);
    let token = signer().sign(&Claims::daemon(ISSUER, "d_1", "t-1", 0, false));
    let policy = Policy { now: 5, ..policy() };
    assert!(check(Some(&token), &keys, &policy).is_ok());
}

#[test]
fn tok_05_numbers_must_be_numbers() {
    for bad in [json!("1767225600"), json!(null), json!(true), json!([1])] {
        assert_eq!(with("iat", bad.clone()), Err(Refusal::Iat));
        assert_eq!(with("exp", bad), Err(Refusal::Exp));
    }
}

#[test]
fn tok_06_the_version_is_1_or_absent() {
    assert!(with("ver", raw("1.0")).is_ok());
    for bad in [json!(0), json!(2), json!("1"), json!(null), raw("1.5")] {
        assert_eq!(with("ver", bad), Err(Refusal::Ver));
    }
}

#[test]
fn tok_07_a_users_name_is_text() {
    for bad in [json!(""), json!(1), json!(null)] {
        assert_eq!(with("sub", bad), Err(Refusal::Sub));
    }
}

#[test]
fn tok_08_a_relay_without_a_region_refuses_every_region() {
    for region in [json!("eu-1"), json!(1), json!(null)] {
        let refusal = with("region", region).unwrap_err();
        assert_eq!((refusal, refusal.status(), refusal.code()), (Refusal::Region, 403, "forbidden"));
    }
}

#[test]
fn tok_09_lifetimes_are_compared_without_overflow() {
    let lifetime = |iat: &str, exp: &str| {
        let mut claims = client_claims();
        claims["iat"] = raw(iat);
        claims["exp"] = raw(exp);
        check_claims(&claims).map(|grant| grant.expires_at)
    };
    assert_eq!(lifetime("1767225600", "1767225900"), Ok(1_767_225_900));
    assert_eq!(lifetime("1767225600.5", "1767225900.5"), Ok(1_767_225_900));
    assert_eq!(lifetime("1767225600", "1767225901"), Err(Refusal::Ttl));
    assert_eq!(lifetime("1767225600", "1767225900.5"), Err(Refusal::Ttl));
    assert_eq!(lifetime("18446744073709551315", "18446744073709551615"), Ok(u64::MAX));
    assert_eq!(lifetime("18446744073709551314", "18446744073709551615"), Err(Refusal::Ttl));
    assert_eq!(lifetime("-9223372036854775808", "18446744073709551615"), Err(Refusal::Ttl));
    assert_eq!(lifetime("-1.7e308", "1.7e308"), Err(Refusal::Ttl));
    assert_eq!(lifetime("1.7e308", "1.7e308"), Ok(u64::MAX));
    // Issued in the future: no rule forbids it.
    assert_eq!(lifetime("1767999999", "1767225700"), Ok(1_767_225_700));
}

#[test]
fn tok_09_binds_client_tokens_only() {
    let mut claims = serde_json::to_value(Claims::daemon(ISSUER, "d_1", "t-1", NOW, false)).unwrap();
    claims["exp"] = raw("1e300");
    assert_eq!(check_claims(&claims).unwrap().expires_at, u64::MAX);
}

#[test]
fn tok_10_scopes_are_a_list_of_text() {
    assert!(with("scp", json!([])).is_ok());
    for bad in [json!(null), json!("x"), json!({}), json!(["a", null])] {
        assert_eq!(with("scp", bad), Err(Refusal::Scp));
    }
}

#[test]
fn tok_11_a_limit_is_an_integer_of_at_least_1() {
    let limit = |n: &str| with("lim", json!({"concurrent_sessions": raw(n)})).map(|grant| grant.concurrent_sessions);
    assert_eq!(limit("1"), Ok(Some(1)));
    assert_eq!(limit("2.0"), Ok(Some(2)));
    assert_eq!(limit("1e30"), Ok(Some(u64::MAX)));
    for bad in ["0", "-1", "0.5", "1.5", "null", "\"3\"", "-9223372036854775808"] {
        assert_eq!(limit(bad), Err(Refusal::Lim), "{bad}");
    }
    assert_eq!(with("lim", json!({})).map(|grant| grant.concurrent_sessions), Ok(None));
}

#[test]
fn tok_11_the_first_failure_decides() {
    // Everything wrong at once; each repair uncovers the next rule.
    let mut claims = json!({"aud": "x", "iss": "x", "iat": "x", "exp": "x", "ver": 2, "role": "x", "did": "", "sub": "",
        "sid": "", "region": "x", "scp": "x", "lim": {"concurrent_sessions": 0}});
    let good = client_claims();
    let mut seen = Vec::new();
    for member in ["aud", "iss", "iat", "exp", "ver", "role", "did", "sub", "sid", "region", "", "scp", "lim"] {
        seen.push(check_claims(&claims).unwrap_err().reason());
        match member {
            "exp" => {
                claims["exp"] = json!(NOW - 31);
                seen.push(check_claims(&claims).unwrap_err().reason());
                claims["exp"] = json!(NOW + 301);
            }
            "" => claims["exp"] = good["exp"].clone(),
            "region" | "lim" => drop(claims.as_object_mut().unwrap().remove(member)),
            _ => claims[member] = good[member].clone(),
        }
    }
    let order =
        ["aud", "iss", "iat", "exp", "expired", "ver", "role", "did", "sub", "sid", "region", "ttl", "scp", "lim"];
    assert_eq!(seen, order);
    assert!(check_claims(&claims).is_ok());
}

#[test]
fn tok_13_refusals_say_nothing_of_the_token() {
    for refusal in Refusal::ALL {
        assert!(matches!((refusal.status(), refusal.code()), (401, "unauthorized") | (403, "forbidden")));
        assert!(!refusal.to_string().is_empty() && !refusal.to_string().contains('{'));
    }
}

#[test]
fn tok_14_debug_shows_no_claim() {
    let claims = Claims::client(ISSUER, "u_secret", "d_secret", SessionId::new(5).unwrap(), "t-secret", NOW);
    let token = signer().sign(&claims);
    let shown = format!("{claims:?} {:?} {:?} {:?}", signer(), signer().public(), peek(&token).unwrap());
    assert!(!shown.contains("secret") && !shown.contains(&token), "{shown}");
}

#[test]
fn dmn_02_a_daemon_reads_its_own_token() {
    let peeked = peek(&signer().sign(&Claims::daemon(ISSUER, "d_1", "t-1", NOW, true))).unwrap();
    assert_eq!((peeked.daemon_id.as_str(), peeked.role, peeked.session), ("d_1", Some(Role::Daemon), None));
    assert!(peeked.is_resumable());
    assert_eq!(peeked.expires_at, Some(NOW + 3_600));
    assert!(!peek(&signer().sign(&Claims::daemon(ISSUER, "d_1", "t-1", NOW, false))).unwrap().is_resumable());
}

#[test]
fn dmn_02_what_is_no_token_is_not_read() {
    let no_did = signer().sign_json(&json!({}), &json!({"did": ""}));
    for bad in
        ["", "a.b", "a.b.c", "..", &no_did, &format!("{}.x", signer().sign_json(&json!({}), &json!({"did": "d"})))]
    {
        assert_eq!(peek(bad), None, "{bad}");
    }
    // Its own header, role and scopes are not judged.
    let odd = signer().sign_json(&json!({}), &json!({"did": "d", "role": 1, "scp": "x", "exp": "x"}));
    let odd = peek(&odd).unwrap();
    assert_eq!((odd.role, odd.scopes.len(), odd.expires_at), (None, 0, None));
}
