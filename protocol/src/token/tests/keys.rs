use serde_json::json;

use crate::token::{Claims, KeySet, KeySetError, Policy, Refusal, Signer, check};

fn signer(kid: &str, seed: u8) -> Signer {
    Signer::from_seed(kid, &[seed; 32])
}

fn outcome(signer: &Signer, keys: &KeySet) -> Result<(), Refusal> {
    let token = signer.sign(&Claims::daemon("https://api.test", "d_1", "t-1", 1_000, true));
    check(Some(&token), keys, &Policy { issuer: "https://api.test".into(), region: None, now: 1_000 }).map(|_| ())
}

#[test]
fn key_02_several_keys_at_once_are_fine() {
    let (old, new) = (signer("k-1", 1), signer("k-2", 2));
    let keys = KeySet::from_keys([new.public(), old.public()]);
    assert_eq!(outcome(&old, &keys), Ok(()));
    assert_eq!(outcome(&new, &keys), Ok(()));
    assert_eq!(outcome(&signer("k-3", 3), &keys), Err(Refusal::UnknownKid));
}

#[test]
fn key_02_a_published_set_reads_back() {
    let keys = KeySet::from_keys([signer("k-1", 1).public(), signer("k-2", 2).public()]);
    let text = serde_json::to_vec(&keys).unwrap();
    assert_eq!(KeySet::parse(&text).unwrap(), keys);
    let entry = &serde_json::from_slice::<serde_json::Value>(&text).unwrap()["keys"][0];
    let members: Vec<&String> = entry.as_object().unwrap().keys().collect();
    assert_eq!(members.len(), 6);
    assert_eq!(entry["kty"], "OKP");
    assert_eq!(entry["crv"], "Ed25519");
    assert_eq!(entry["alg"], "EdDSA");
    assert_eq!(entry["use"], "sig");
    assert_eq!(entry["kid"], "k-1");
    assert_eq!(entry["x"].as_str().unwrap().len(), 43);
}

#[test]
fn key_02_foreign_and_broken_entries_do_not_break_the_set() {
    let good = serde_json::to_value(signer("k-good", 1).public()).unwrap();
    let changed = |kid: &str, member: &str, value: serde_json::Value| {
        let mut entry = good.clone();
        entry["kid"] = json!(kid);
        entry[member] = value;
        entry
    };
    let mut no_alg = changed("no-alg", "kid", json!("no-alg"));
    no_alg.as_object_mut().unwrap().remove("alg");
    let mut extra = changed("k-extra", "x5c", json!([]));
    extra.as_object_mut().unwrap().remove("use");
    let text = json!({"keys": [
        {"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB", "alg": "RS256"},
        {"kty": "quantum", "kid": "quantum"},
        null, 7, "text", {}, {"kid": 5},
        changed("x-text", "x", json!("!!")),
        changed("x-short", "x", json!("AAAA")),
        changed("x-weak", "x", json!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        changed("x-none", "x", json!(null)),
        changed("enc", "use", json!("enc")),
        changed("curve", "crv", json!("Ed448")),
        no_alg,
        extra,
        good,
    ], "more": true});
    let keys = KeySet::parse(text.to_string().as_bytes()).unwrap();
    let usable: Vec<&str> = keys.keys().iter().map(|key| key.kid()).collect();
    assert_eq!(usable, ["k-extra", "k-good"]);
    assert_eq!(outcome(&signer("k-good", 1), &keys), Ok(()));
    // Known, so that they cause no refresh, and refused.
    for kid in ["rsa", "quantum", "x-text", "x-short", "x-weak", "x-none", "enc", "curve", "no-alg"] {
        assert_eq!(outcome(&signer(kid, 1), &keys), Err(Refusal::Alg), "{kid}");
    }
}

#[test]
fn key_02_of_two_keys_with_one_id_the_first_counts() {
    let set = KeySet::from_keys([signer("k", 1).public(), signer("k", 2).public()]);
    let keys = KeySet::parse(&serde_json::to_vec(&set).unwrap()).unwrap();
    assert_eq!(keys.keys().len(), 1);
    assert_eq!(outcome(&signer("k", 1), &keys), Ok(()));
    assert_eq!(outcome(&signer("k", 2), &keys), Err(Refusal::Signature));
}

#[test]
fn key_03_what_is_no_key_set_is_an_error() {
    for bad in ["", "<html>", "[]", "[[]]", "null", "{}", r#"{"keys":{}}"#, r#"{"keys":[]"#] {
        assert_eq!(KeySet::parse(bad.as_bytes()), Err(KeySetError), "{bad}");
    }
    assert_eq!(KeySet::parse(br#"{"keys":[]}"#), Ok(KeySet::default()));
}
