//! Quick Connect: API-03, API-04, API-05.

use std::time::Duration;

use serde_json::json;
use sideband_protocol::{api::QuickConnectCode, token::GrantRole};

use super::*;
use crate::Advertised;

impl World {
    async fn code(&self) -> String {
        self.call("quickConnect.create", self.key(), json!({})).await.text("code")
    }

    async fn redeem(&self, code: &str) -> Answer {
        self.call("quickConnect.redeem", "", json!({"code": code})).await
    }
}

#[tokio::test]
async fn api_03_create_gives_code_url_and_expiry() {
    let world = world(config());
    let answer = send(&world.router, request("quickConnect.create", world.key(), "")).await;
    let code = answer.text("code");
    assert!(code.parse::<QuickConnectCode>().is_ok(), "{code}");
    assert_eq!(answer.text("url"), format!("http://sim.test:7600/connect#qc={code}"));
    assert_eq!(answer.text("expiresAt"), "2026-01-01T00:05:00Z");
    let answer = world.call("quickConnect.create", world.key(), json!({"ttlSeconds": 3_600})).await;
    assert_eq!(answer.text("expiresAt"), "2026-01-01T01:00:00Z");
    let fixed = super::world(ApiConfig { connect_base: Advertised::Fixed("https://c.test".into()), ..config() });
    let answer = fixed.call("quickConnect.create", fixed.key(), json!({})).await;
    assert_eq!(answer.text("url"), format!("https://c.test#qc={}", answer.text("code")));
}

#[tokio::test]
async fn api_03_create_failures() {
    let world = world(config());
    for credential in ["", "sbnd_dak_unknown", world.user()] {
        let answer = world.call("quickConnect.create", credential, json!({})).await;
        assert_eq!(answer.failure(), (401, "UNAUTHORIZED".into()), "{credential}");
    }
    for ttl in [json!(29), json!(3_601), json!("60"), json!(60.5)] {
        let answer = world.call("quickConnect.create", world.key(), json!({"ttlSeconds": ttl})).await;
        assert_eq!(answer.failure(), (400, "BAD_REQUEST".into()));
        assert!(answer.body["error"]["message"].as_str().unwrap().starts_with("`ttlSeconds`"));
    }
}

#[tokio::test]
async fn api_04_redeem_gives_a_session_for_the_daemon() {
    let world = world(config());
    world.set_online(&world.boot.daemon_id);
    let answer = world.redeem(&world.code().await).await;
    assert_eq!(answer.text("relayUrl"), "ws://sim.test:7600/relay");
    assert_eq!(answer.text("daemonId"), world.boot.daemon_id);
    let grant = world.check(&answer.text("token")).unwrap();
    assert_eq!(grant.daemon_id, world.boot.daemon_id);
    assert!(matches!(grant.role, GrantRole::Client { sub, .. } if sub != world.boot.user_id));
    let claims = claims(&answer.text("token"));
    assert_eq!((claims["exp"].as_u64().unwrap() - NOW, &claims["scp"]), (120, &json!(["session:create"])));
}

#[tokio::test]
async fn api_04_an_offline_daemon_is_409_and_the_code_is_gone() {
    let world = world(config());
    let code = world.code().await;
    assert_eq!(world.redeem(&code).await.failure(), (409, "CONFLICT".into()));
    world.set_online(&world.boot.daemon_id);
    assert_eq!(world.redeem(&code).await.failure(), (404, "NOT_FOUND".into()));
}

#[tokio::test]
async fn api_04_unknown_used_and_expired_codes_look_alike() {
    let world = world(config());
    world.set_online(&world.boot.daemon_id);
    let (used, expired) = (world.code().await, world.code().await);
    world.redeem(&used).await.data();
    let mut answers = vec![world.redeem(&used).await];
    world.clock.advance(Duration::from_secs(300));
    answers.push(world.redeem(&expired).await);
    for unknown in ["aaaa-aaaa-aaaa", "AAAA-aaaa-aaaa", "not a code", ""] {
        answers.push(world.redeem(unknown).await);
    }
    for answer in &answers {
        assert_eq!(answer.failure(), (404, "NOT_FOUND".into()));
        assert_eq!((&answer.body, &answer.headers), (&answers[0].body, &answers[0].headers));
    }
}

#[tokio::test]
async fn api_03_a_code_is_good_to_its_last_second() {
    let world = world(config());
    world.set_online(&world.boot.daemon_id);
    let code = world.code().await;
    world.clock.advance(Duration::from_secs(299));
    world.redeem(&code).await.data();
}

#[tokio::test]
async fn api_04_redeem_with_a_wrong_input_burns_nothing() {
    let world = world(config());
    world.set_online(&world.boot.daemon_id);
    let code = world.code().await;
    for input in [json!(null), json!({}), json!({"code": 5}), json!({"code": [code]})] {
        let answer = world.call("quickConnect.redeem", "", input).await;
        assert_eq!(answer.failure(), (400, "BAD_REQUEST".into()));
    }
    let mut no_host = request("quickConnect.redeem", "", json!({"code": code}).to_string());
    no_host.headers_mut().remove("host");
    assert_eq!(send(&world.router, no_host).await.status, 400);
    world.redeem(&code).await.data();
}

#[tokio::test]
async fn api_04_redeem_needs_no_credential_and_looks_at_none() {
    let world = world(config());
    world.set_online(&world.boot.daemon_id);
    let code = world.code().await;
    world.call("quickConnect.redeem", "wrong", json!({"code": code})).await.data();
}

#[tokio::test]
async fn api_04_a_relay_that_does_not_tell_is_no_conflict() {
    let world = world(config());
    *world.presence.broken.lock().unwrap() = true;
    world.redeem(&world.code().await).await.data();
}

/// 100 at once, ten codes; the transactions run on both threads.
async fn redeem_at_once(world: Arc<World>) {
    world.set_online(&world.boot.daemon_id);
    for _ in 0..10 {
        let code = world.code().await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (world, code) = (world.clone(), code.clone());
            tasks.spawn(async move { world.redeem(&code).await.status });
        }
        let mut statuses = tasks.join_all().await;
        statuses.sort_unstable();
        assert_eq!((statuses.len(), statuses[0]), (100, 200));
        assert!(statuses[1..].iter().all(|status| *status == 404), "{statuses:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_05_of_many_redeems_at_once_exactly_one_succeeds() {
    redeem_at_once(Arc::new(world(config()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_05_of_many_redeems_at_once_exactly_one_succeeds_on_a_file() {
    let (world, _folder) = on_file(config());
    redeem_at_once(Arc::new(world)).await;
}
