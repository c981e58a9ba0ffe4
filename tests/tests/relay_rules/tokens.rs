//! Tokens that the relay takes, and those that it does not.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sideband_protocol::token::MAX_TOKEN;
use sideband_tests::script::START;

use crate::{bench::*, witness::witnesses};

/// What a change makes of a JSON object; `null` takes a member away.
fn changed(mut object: Value, change: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    for (name, value) in change.as_object().unwrap().clone() {
        match value {
            Value::Null => drop(members.remove(&name)),
            value => drop(members.insert(name, value)),
        }
    }
    object
}

/// A token of a good client for session `n`, but for these changes; signed by the relay's key or by another.
fn signed(seed: [u8; 32], n: u64, header: Value, claims: Value) -> String {
    let whole_header = json!({"alg": "EdDSA", "typ": "sbrp-relay+jwt", "kid": "k-1"});
    let whole_claims = json!({
        "iss": ISSUER, "aud": "sideband-relay", "iat": START, "exp": START + 120, "jti": "t-secret", "ver": 1, "role": "client",
        "sub": "u_secret", "did": DAEMON, "sid": id(n).to_claim(), "scp": ["session:create"],
    });
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let text = format!("{}.{}", part(changed(whole_header, header)), part(changed(whole_claims, claims)));
    let signature = SigningKey::from_bytes(&seed).sign(text.as_bytes());
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature.to_bytes()))
}

fn with_header(header: Value) -> String {
    signed(SEED, 1, header, json!({}))
}

fn with(claims: Value) -> String {
    signed(SEED, 1, json!({}), claims)
}

/// A client whose id no other has.
fn good(n: u64) -> String {
    signed(SEED, n, json!({}), json!({}))
}

/// What a presence token has that is otherwise in a client's.
fn daemon(claims: Value) -> String {
    let base = json!({"role": "daemon", "sub": DAEMON, "sid": null, "scp": [], "exp": START + 3_600});
    with(changed(base, claims))
}

impl Bench {
    /// Each of these is refused so; a good one is let in before and after.
    async fn refuses(&self, status: u16, tokens: &[String]) {
        assert_eq!(self.status(&good(1_000)).await, 101);
        for token in tokens {
            assert_eq!(self.status(token).await, status, "{token}");
        }
        assert_eq!(self.status(&good(1_001)).await, 101);
    }

    async fn takes(&self, tokens: &[String]) {
        for token in tokens {
            assert_eq!(self.status(token).await, 101, "{token}");
        }
    }
}

witnesses! {
    async fn tok_01_a_token_has_at_most_4096_bytes(quirks) breaks_with [TakesLongTokens] {
        let bench = Bench::new(quirks);
        let of_length = |pad: usize| with(json!({"pad": "x".repeat(pad)}));
        let first = (2_000..4_096).find(|pad| of_length(*pad).len() > MAX_TOKEN).unwrap();
        assert_eq!(bench.status(&of_length(first - 1)).await, 101);
        bench.refuses(401, &[of_length(first)]).await;
    }

    async fn tok_01_a_token_is_there_and_has_three_parts(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        assert_eq!(bench.ask("/relay", None).await.0, 401);
        assert_eq!(bench.ask("/relay?token=", None).await.0, 401);
        let token = good(1);
        let two = token.rsplit_once('.').unwrap().0.to_owned();
        bench.refuses(401, &["x".to_owned(), two, format!("{token}.x"), "..".to_owned(), format!(" {token}.")]).await;
    }

    async fn tok_01_the_query_may_have_it_and_the_header_wins(quirks) breaks_with [HeedsHeaderOnly] {
        let bench = Bench::new(quirks);
        assert_eq!(bench.ask(&format!("/any/path?token={}", good(1)), None).await.0, 101);
        assert_eq!(bench.ask("/relay?token=bad", Some(&good(2))).await.0, 101);
        assert_eq!(bench.ask(&format!("/relay?token={}", good(3)), Some("bad")).await.0, 401);
    }

    async fn tok_02_the_header_names_the_type_and_a_key(quirks) breaks_with [TakesAnyType] {
        let bench = Bench::new(quirks);
        let headers = [json!({"typ": "JWT"}), json!({"typ": null}), json!({"typ": 1}), json!({"kid": null}), json!({"kid": 1})];
        bench.refuses(401, &headers.map(with_header)).await;
    }

    async fn tok_03_the_named_key_has_signed(quirks) breaks_with [TakesAnySignature] {
        let bench = Bench::new(quirks);
        let forged = signed([8; 32], 1, json!({}), json!({}));
        let (text, _) = good(1).rsplit_once('.').map(|(text, signature)| (text.to_owned(), signature.to_owned())).unwrap();
        let (_, other) = good(2).rsplit_once('.').map(|(text, signature)| (text.to_owned(), signature.to_owned())).unwrap();
        bench.refuses(401, &[forged, format!("{text}.{other}")]).await;
    }

    async fn tok_03_only_eddsa_and_known_keys(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let headers = [json!({"alg": "none"}), json!({"alg": "HS256"}), json!({"alg": null}), json!({"kid": "k-2"})];
        bench.refuses(401, &headers.map(with_header)).await;
    }

    async fn tok_04_it_is_for_a_relay(quirks) breaks_with [TakesAnyAudience] {
        let bench = Bench::new(quirks);
        let wrong = [json!({"aud": null}), json!({"aud": "sideband"}), json!({"aud": []}), json!({"aud": ["a", "b"]}), json!({"aud": 1})];
        bench.refuses(401, &wrong.map(with)).await;
        bench.takes(&[with(json!({"aud": ["other", "sideband-relay"]}))]).await;
    }

    async fn tok_04_it_is_of_the_issuer(quirks) breaks_with [TakesAnyIssuer] {
        let bench = Bench::new(quirks);
        let wrong = [json!({"iss": null}), json!({"iss": "https://api.test/"}), json!({"iss": "https://evil.test"}), json!({"iss": [ISSUER]})];
        bench.refuses(401, &wrong.map(with)).await;
    }

    async fn tok_05_it_has_not_expired_30_s_ago(quirks) breaks_with [TakesExpired] {
        let bench = Bench::new(quirks);
        let life = |exp: Value| with(json!({"iat": START - 200, "exp": exp}));
        bench.refuses(401, &[life(json!(START - 31)), life(json!(0))]).await;
        bench.takes(&[life(json!(START - 30))]).await;
    }

    async fn tok_05_its_times_are_numbers(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let wrong = [json!({"iat": null}), json!({"iat": "1"}), json!({"exp": null}), json!({"exp": (START + 100).to_string()})];
        bench.refuses(401, &wrong.map(with)).await;
    }

    async fn tok_06_its_version_is_1_or_absent(quirks) breaks_with [TakesAnyVersion] {
        let bench = Bench::new(quirks);
        let wrong = [json!({"ver": 2}), json!({"ver": 0}), json!({"ver": "1"}), json!({"ver": [1]})];
        bench.refuses(401, &wrong.map(with)).await;
        bench.takes(&[with(json!({"ver": null}))]).await;
    }

    async fn tok_06_it_has_a_role_and_a_daemon(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let wrong = [json!({"role": "admin"}), json!({"role": null}), json!({"role": "Client"}), json!({"did": null}), json!({"did": ""}), json!({"did": 1})];
        bench.refuses(401, &wrong.map(with)).await;
    }

    async fn tok_07_a_client_has_a_user(quirks) breaks_with [TakesNobody] {
        let bench = Bench::new(quirks);
        bench.refuses(401, &[json!({"sub": null}), json!({"sub": ""}), json!({"sub": 7})].map(with)).await;
    }

    async fn tok_07_a_client_has_a_session_of_8_bytes(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let wrong = ["", "AAAAAAAAAAA", "AAAAAAAAAQ", "AAAAAAAAAAEA", "AAAAAAAAAAE=", "AAAAAAAAAA+"];
        bench.refuses(401, &wrong.map(|sid| with(json!({"sid": sid})))).await;
        bench.refuses_nobody_else().await;
    }

    async fn tok_08_another_region_is_403(quirks) breaks_with [TakesAnyRegion] {
        let bench = Bench::with(quirks, |config| config.region = Some("eu-1".to_owned()));
        bench.refuses(403, &[json!({"region": "us-1"}), json!({"region": ""}), json!({"region": 1})].map(with)).await;
        bench.takes(&[with(json!({"region": "eu-1"}))]).await;
        // What comes before it decides, and what comes behind does not.
        assert_eq!(bench.status(&with(json!({"region": "us-1", "sub": ""}))).await, 401);
        assert_eq!(bench.status(&with(json!({"region": "us-1", "exp": START + 301}))).await, 403);
    }

    async fn tok_09_a_clients_token_lives_300_s_at_most(quirks) breaks_with [TakesLongLives] {
        let bench = Bench::new(quirks);
        bench.refuses(401, &[with(json!({"exp": START + 301})), with(json!({"iat": START - 200, "exp": START + 101}))]).await;
        bench.takes(&[with(json!({"exp": START + 300})), daemon(json!({"exp": START + 100_000}))]).await;
    }

    async fn tok_10_scopes_are_a_list_of_text(quirks) breaks_with [TakesAnyScopes] {
        let bench = Bench::new(quirks);
        bench.refuses(401, &[json!({"scp": "session:create"}), json!({"scp": [1]}), json!({"scp": {}})].map(with)).await;
        bench.takes(&[with(json!({"scp": ["what:ever"]})), signed(SEED, 2, json!({}), json!({"scp": null}))]).await;
    }

    async fn tok_11_a_limit_is_an_integer_of_at_least_1(quirks) breaks_with [TakesAnyLimit] {
        let bench = Bench::new(quirks);
        let limit = |n: Value| with(json!({"lim": {"concurrent_sessions": n}}));
        bench.refuses(401, &[json!(0), json!(-1), json!(1.5), json!("1")].map(limit)).await;
        bench.takes(&[limit(json!(1)), signed(SEED, 2, json!({}), json!({"lim": {}}))]).await;
    }

    async fn tok_12_a_connection_outlives_its_token(quirks) breaks_with [EndsWithToken] {
        let bench = Bench::new(quirks);
        let mut connected = bench.connect_with(&daemon(json!({"exp": START + 60}))).await.unwrap().pumped();
        let mut client = bench.client(5).await;
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        connected.is_undisturbed().await;
        client.is_undisturbed().await;
    }

    async fn tok_13_a_refusal_has_a_code_and_nothing_of_the_token(quirks) breaks_with [RepeatsToken, RefusesWithoutCode] {
        let bench = Bench::with(quirks, |config| config.region = Some("eu-1".to_owned()));
        let cases = [
            (with(json!({"exp": START - 100, "iat": START - 200})), 401, "unauthorized"),
            (with(json!({"region": "us-secret"})), 403, "forbidden"),
            (with_header(json!({"kid": "k-secret"})), 401, "unauthorized"),
        ];
        for (token, status, code) in cases {
            let (got, body) = bench.ask("/relay", Some(&token)).await;
            let error: Value = serde_json::from_str(&body).unwrap_or_default();
            assert_eq!((got, error["error"]["code"].as_str()), (status, Some(code)), "{body}");
            assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
            assert!(!body.contains("secret") && !body.contains(DAEMON) && !body.contains(&token), "{body}");
        }
    }

    async fn tok_13_conflicts_and_limits_have_their_codes(quirks) breaks_with [RefusesWithoutCode] {
        let bench = Bench::with(quirks, |config| config.limits.sessions = 1);
        let _daemon = bench.daemon().await;
        let _client = bench.client(5).await;
        for (n, status, code) in [(5, 409, "session_conflict"), (6, 429, "rate_limited")] {
            let (got, body) = bench.ask("/relay", Some(&good(n))).await;
            let error: Value = serde_json::from_str(&body).unwrap_or_default();
            assert_eq!((got, error["error"]["code"].as_str()), (status, Some(code)), "{body}");
        }
    }
}

impl Bench {
    /// Sessions with all bits of their id are let in.
    async fn refuses_nobody_else(&self) {
        self.takes(&[1, u64::MAX, 1 << 63].map(good)).await;
    }
}
