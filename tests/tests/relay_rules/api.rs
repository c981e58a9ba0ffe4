//! Sessions, presence tokens, keys and origins of the control plane.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sideband_protocol::{
    SessionId,
    relay::RelayQuirks,
    token::{Grant, GrantRole, Policy, Refusal, check},
};
use sideband_tests::script::START;

use crate::{
    api_bench::{ApiBench, request},
    bench::ISSUER,
    witness::witnesses,
};

/// What a relay makes of a token with the keys that are published now.
fn judged(api: &ApiBench, token: &str) -> Result<Grant, Refusal> {
    check(Some(token), &api.api.key_set(), &Policy { issuer: ISSUER.to_owned(), region: None, now: START })
}

fn session(grant: &Grant) -> Option<SessionId> {
    if let GrantRole::Client { session, .. } = grant.role { Some(session) } else { None }
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

fn key_of(token: &str) -> String {
    let part = token.split('.').next().unwrap_or_default();
    let header: Value =
        serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

witnesses! {
    for api;

    async fn api_01_every_session_has_a_new_id(quirks) breaks_with [RepeatsSessionIds] {
        let api = ApiBench::new(quirks);
        api.set_online(&api.boot.daemon_id);
        let mut ids = BTreeSet::new();
        for n in 1..=200 {
            let grant = judged(&api, &api.client_token().await);
            ids.extend(grant.ok().as_ref().and_then(session));
            assert_eq!(ids.len(), n);
        }
        let code = api.call("quickConnect.create", api.key(), json!(null)).await.text("code");
        let redeemed = api.call("quickConnect.redeem", "", json!({"code": code})).await.text("token");
        ids.extend(judged(&api, &redeemed).ok().as_ref().and_then(session));
        assert_eq!(ids.len(), 201);
    }

    async fn api_01_ids_stay_used_over_a_reset(quirks) breaks_with [RepeatsSessionIds] {
        let api = ApiBench::new(quirks);
        let before = judged(&api, &api.client_token().await).ok().as_ref().and_then(session);
        api.api.reset().unwrap();
        let after = judged(&api, &api.client_token().await).ok().as_ref().and_then(session);
        assert!(before.is_some() && after.is_some() && before != after);
        assert!(!api.store.insert_session_id_if_new(before.unwrap()).unwrap());
    }

    async fn api_01_its_token_lives_120_s_at_most(quirks) breaks_with [GivesLongLives] {
        let api = ApiBench::new(quirks);
        let claims = claims(&api.client_token().await);
        let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert!((1..=120).contains(&life), "{life}");
        assert_eq!(claims["iat"], START);
    }

    async fn api_02_a_presence_token_is_about_the_daemon_of_the_key(quirks) breaks_with [RenewsForFirst] {
        let api = ApiBench::new(quirks);
        api.add_daemon("a_first", "sbnd_dak_first");
        api.add_daemon("z_last", "sbnd_dak_last");
        let own = api.boot.daemon_id.clone();
        for (key, daemon) in [("sbnd_dak_first", "a_first"), (api.key(), &own), ("sbnd_dak_last", "z_last")] {
            let token = api.call("daemon.renewToken", key, json!({"daemonId": "other"})).await.text("presenceToken");
            let grant = judged(&api, &token).ok();
            assert_eq!(grant.map(|grant| grant.daemon_id).as_deref(), Some(daemon));
            assert_eq!(claims(&token)["sub"], daemon);
        }
    }

    async fn api_06_answers_are_json_errors_too(quirks) breaks_with [ErrorsWithoutType] {
        let api = ApiBench::new(quirks);
        let answers = [
            api.create_session().await,
            api.call("relay.createSession", "wrong", json!({})).await,
            api.call("relay.createSession", api.user(), json!({})).await,
            api.call("no.such", "", json!({})).await,
            api.send(request("quickConnect.redeem", "", "{")).await,
            api.send(request("quickConnect.redeem", "", "x".repeat(65_537))).await,
        ];
        let mut statuses = Vec::new();
        for answer in answers {
            assert_eq!(answer.headers.get("content-type").unwrap_or(&"none".parse().unwrap()), "application/json");
            assert!(answer.body.is_object(), "{answer:?}");
            statuses.push(answer.status);
        }
        assert_eq!(statuses, [200, 401, 400, 404, 400, 413]);
    }

    async fn api_06_only_loopback_pages_and_those_without_origin_may_ask(quirks) breaks_with [TakesAnyOrigin] {
        let api = ApiBench::new(quirks);
        let ask = async |origin: &str| {
            let body = json!({"daemonId": api.boot.daemon_id}).to_string();
            let mut request = request("relay.createSession", api.user(), body);
            request.headers_mut().insert("origin", origin.parse().unwrap());
            let answer = api.send(request).await;
            let cors = answer.headers.get("access-control-allow-origin").is_some_and(|allowed| allowed == origin);
            (answer.status, cors)
        };
        assert_eq!(api.create_session().await.status, 200);
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:1"] {
            assert_eq!(ask(origin).await, (200, true), "{origin}");
        }
        for origin in ["https://evil.test", "http://localhost.evil.test", "null"] {
            assert_eq!(ask(origin).await, (403, false), "{origin}");
        }
    }

    async fn api_08_a_session_with_a_daemon_that_is_offline_is_given(quirks) breaks_with [RefusesOfflineDaemons] {
        let api = ApiBench::new(quirks);
        let answer = api.create_session().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(judged(&api, &answer.text("token")).is_ok());
        // The relay says so then, as the client connects.
        let relay = api.relay(RelayQuirks::NONE);
        assert_eq!(relay.status(&answer.text("token")).await, 101);
    }

    async fn key_04_a_rotation_makes_a_new_key_current_at_once(quirks) breaks_with [SignsWithOldKey] {
        let api = ApiBench::new(quirks);
        for hard in [false, true] {
            let before = key_of(&api.client_token().await);
            api.api.rotate(hard).unwrap();
            assert_ne!(key_of(&api.client_token().await), before);
            assert_ne!(key_of(&api.presence_token().await), before);
        }
    }

    async fn key_04_the_old_key_stays_for_the_overlap(quirks) breaks_with [RotatesHardAlways] {
        let api = ApiBench::new(quirks);
        let old = api.client_token().await;
        api.api.rotate(false).unwrap();
        assert!(judged(&api, &old).is_ok());
        api.advance(3_600);
        assert!(judged(&api, &old).is_ok(), "as long as a presence token can live");
        api.advance(3_600);
        assert_eq!(judged(&api, &old), Err(Refusal::UnknownKid));
    }

    async fn key_04_a_hard_rotation_stops_publishing_it_at_once(quirks) breaks_with [RotatesSoftAlways] {
        let api = ApiBench::new(quirks);
        let old = api.client_token().await;
        api.api.rotate(true).unwrap();
        assert_eq!(judged(&api, &old), Err(Refusal::UnknownKid));
        assert!(judged(&api, &api.client_token().await).is_ok());
    }
}
