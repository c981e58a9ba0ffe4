//! The procedures but for Quick Connect: results, tokens, and the failures of each.

use std::time::Duration;

use serde_json::json;
use sideband_protocol::token::GrantRole;

use super::*;
use crate::Advertised;

#[tokio::test]
async fn api_01_create_session_gives_a_token_that_a_relay_takes() {
    let world = world(config());
    let answer = world.create_session(&world.boot.daemon_id).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.text("relayUrl"), "ws://sim.test:7600/relay");
    let grant = world.check(&answer.text("token")).unwrap();
    assert_eq!(grant.daemon_id, world.boot.daemon_id);
    let GrantRole::Client { sub, .. } = grant.role else { panic!() };
    assert_eq!(sub, world.boot.user_id);
}

#[tokio::test]
async fn api_01_the_claims_of_a_client_token() {
    let world = world(config());
    let token = world.create_session(&world.boot.daemon_id).await.text("token");
    let mut claims = claims(&token);
    let members = claims.as_object_mut().unwrap();
    assert_eq!(members.remove("sid").unwrap().as_str().unwrap().len(), 11);
    assert!(!members.remove("jti").unwrap().as_str().unwrap().is_empty());
    let expected = json!({"iss": ISSUER, "aud": "sideband-relay", "iat": NOW, "exp": NOW + 120, "ver": 1,
        "role": "client", "sub": world.boot.user_id, "did": world.boot.daemon_id, "scp": ["session:create"]});
    assert_eq!(claims, expected);
}

#[tokio::test]
async fn api_01_every_session_id_and_jti_is_new() {
    let world = world(config());
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let claims = claims(&world.create_session(&world.boot.daemon_id).await.text("token"));
        assert!(seen.insert(claims["sid"].to_string()), "a session id came twice");
        assert!(seen.insert(claims["jti"].to_string()), "a jti came twice");
    }
}

#[tokio::test]
async fn api_01_a_session_id_that_was_used_is_drawn_anew() {
    let session = async |world: &World| {
        let token = world.create_session(&world.boot.daemon_id).await.text("token");
        claims(&token)["sid"].as_str().unwrap().to_owned()
    };
    // The same seed draws the same id, but in the second world it is taken.
    let drawn = session(&seeded(config(), 7)).await;
    let second = seeded(config(), 7);
    let used = sideband_protocol::SessionId::from_claim(&drawn).unwrap();
    assert!(second.store.insert_session_id_if_new(used).unwrap());
    assert_ne!(session(&second).await, drawn);
}

#[tokio::test]
async fn api_01_claims_of_the_configuration_stand_in_all_tokens() {
    let world = world(ApiConfig { region: Some("eu-1".into()), concurrent_sessions: Some(7), ..config() });
    let session = world.create_session(&world.boot.daemon_id).await.text("token");
    let presence = world.call("daemon.renewToken", world.key(), json!(null)).await.text("presenceToken");
    for token in [session, presence] {
        let claims = claims(&token);
        assert_eq!((&claims["region"], &claims["lim"]), (&json!("eu-1"), &json!({"concurrent_sessions": 7})));
    }
}

#[tokio::test]
async fn api_08_create_session_for_an_offline_daemon_succeeds() {
    let world = world(config());
    world.create_session(&world.boot.daemon_id).await.data();
    assert_eq!(*world.presence.asked.lock().unwrap(), 0, "it does not even ask");
}

#[tokio::test]
async fn api_01_create_session_failures() {
    let world = world(config());
    let other = world.add_strange_daemon();
    assert_eq!(world.create_session("d_nobody").await.failure(), (404, "NOT_FOUND".into()));
    assert_eq!(world.create_session(other).await.failure(), (403, "FORBIDDEN".into()));
    let call = |credential, input| world.call("relay.createSession", credential, input);
    for credential in ["", "wrong", world.key()] {
        let answer = call(credential, json!({"daemonId": world.boot.daemon_id})).await;
        assert_eq!(answer.failure(), (401, "UNAUTHORIZED".into()), "{credential}");
    }
    let answer = call(world.user(), json!({"daemonId": 5})).await;
    assert_eq!(answer.failure(), (400, "BAD_REQUEST".into()));
    assert_eq!(answer.body["error"]["message"], "`daemonId` must be text");
    assert_eq!(answer.body["error"]["data"]["path"], "relay.createSession");
    // The other user may.
    call("other-token", json!({"daemonId": other})).await.data();
}

#[tokio::test]
async fn api_01_a_revoked_access_token_is_401() {
    let world = world(config());
    world.create_session(&world.boot.daemon_id).await.data();
    assert!(world.store.revoke_access_token(Digest::of(world.user()).id()).unwrap());
    assert_eq!(world.create_session(&world.boot.daemon_id).await.status, 401);
}

#[tokio::test]
async fn api_02_renew_token_is_about_the_daemon_of_the_key() {
    let world = world(config());
    let other = world.add_strange_daemon();
    for (key, daemon) in [(world.key(), world.boot.daemon_id.as_str()), ("sbnd_dak_other", other)] {
        let token = world.call("daemon.renewToken", key, json!({"daemonId": "d_wish"})).await.text("presenceToken");
        assert_eq!(world.check(&token).unwrap().daemon_id, daemon);
        let claims = claims(&token);
        assert_eq!((&claims["sub"], &claims["role"]), (&json!(daemon), &json!("daemon")));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3_600);
        assert!(claims.get("sid").is_none());
    }
}

#[tokio::test]
async fn api_02_a_presence_token_promises_resumption_only_if_the_daemon_can() {
    let world = world(config());
    world.add_strange_daemon(); // registered as resumable
    let cases = [
        (world.key(), None, false),
        (world.key(), Some("1"), true),
        (world.key(), Some("0"), false),
        (world.key(), Some("true"), false),
        ("sbnd_dak_other", None, true),
        ("sbnd_dak_other", Some("0"), true),
    ];
    for (key, header, resumable) in cases {
        let mut request = request("daemon.renewToken", key, "");
        if let Some(value) = header {
            request.headers_mut().insert("x-sideband-resume", value.parse().unwrap());
        }
        let token = send(&world.router, request).await.text("presenceToken");
        assert_eq!(world.check(&token).unwrap().role, GrantRole::Daemon { resumable }, "{header:?}");
        let scopes = if resumable { json!(["session:resume"]) } else { json!([]) };
        assert_eq!(claims(&token)["scp"], scopes);
    }
}

#[tokio::test]
async fn api_02_renew_token_failures() {
    let world = world(config());
    for credential in ["", "sbnd_dak_unknown", world.user()] {
        let answer = world.call("daemon.renewToken", credential, json!(null)).await;
        assert_eq!(answer.failure(), (401, "UNAUTHORIZED".into()), "{credential}");
    }
    assert_eq!(world.call("daemon.renewToken", world.key(), json!([1])).await.failure(), (400, "BAD_REQUEST".into()));
    assert!(world.store.revoke_api_key(Digest::of(world.key()).id()).unwrap());
    assert_eq!(world.call("daemon.renewToken", world.key(), json!(null)).await.status, 401);
}

#[tokio::test]
async fn api_01_register_makes_a_daemon_that_works() {
    let world = world(config());
    let identity = "A".repeat(43);
    let input = json!({"name": "kitchen", "identityPublicKey": identity, "resumable": true});
    let answer = world.call("daemon.register", world.user(), input).await;
    let (daemon, key) = (answer.text("daemonId"), answer.text("apiKey"));
    assert!(daemon.starts_with("d_") && daemon.len() == 12, "{daemon}");
    assert!(key.strip_prefix("sbnd_dak_").is_some_and(|random| random.len() >= 32));
    let grant = world.check(&answer.text("presenceToken")).unwrap();
    assert_eq!((grant.daemon_id, grant.role), (daemon.clone(), GrantRole::Daemon { resumable: true }));
    let renewed = world.call("daemon.renewToken", &key, json!(null)).await.text("presenceToken");
    assert_eq!(world.check(&renewed).unwrap().daemon_id, daemon);
    world.create_session(&daemon).await.data();
    let list = world.call("daemon.listAccessible", world.user(), json!(null)).await;
    let entry = json!({"id": daemon, "name": "kitchen", "identityPublicKey": identity, "status": "offline"});
    assert!(list.data().as_array().unwrap().contains(&entry), "{}", list.body);
}

#[tokio::test]
async fn api_01_register_without_input_is_not_resumable() {
    let world = world(config());
    let answer = send(&world.router, request("daemon.register", world.user(), "")).await;
    let grant = world.check(&answer.text("presenceToken")).unwrap();
    assert_eq!(grant.role, GrantRole::Daemon { resumable: false });
}

#[tokio::test]
async fn api_01_register_failures() {
    let world = world(config());
    for credential in ["", "wrong", world.key()] {
        let answer = world.call("daemon.register", credential, json!({})).await;
        assert_eq!(answer.failure(), (401, "UNAUTHORIZED".into()));
    }
    let answer = world.call("daemon.register", world.user(), json!({"identityPublicKey": "short"})).await;
    assert_eq!(answer.failure(), (400, "BAD_REQUEST".into()));
    assert!(answer.body["error"]["message"].as_str().unwrap().starts_with("`identityPublicKey`"));
}

#[tokio::test]
async fn api_01_list_accessible_shows_ones_own_daemons() {
    let world = world(config());
    world.add_strange_daemon();
    let list = |credential: &'static str| world.call("daemon.listAccessible", credential, json!(null));
    let own = world.call("daemon.listAccessible", world.user(), json!(null)).await;
    let name = "Sideband simulator";
    let entry =
        |status| json!([{"id": world.boot.daemon_id, "name": name, "identityPublicKey": null, "status": status}]);
    assert_eq!(own.data(), &entry("offline"));
    world.set_online(&world.boot.daemon_id);
    assert_eq!(world.call("daemon.listAccessible", world.user(), json!(null)).await.data(), &entry("online"));
    assert_eq!(list("other-token").await.data()[0]["id"], "d_other");
    assert_eq!(list("").await.failure(), (401, "UNAUTHORIZED".into()));
    let wrong = world.call("daemon.listAccessible", world.user(), json!("x")).await;
    assert_eq!(wrong.failure(), (400, "BAD_REQUEST".into()));
}

#[tokio::test]
async fn api_01_list_accessible_asks_a_silent_relay_once() {
    let world = world(config());
    for _ in 0..3 {
        world.call("daemon.register", world.user(), json!({})).await.data();
    }
    *world.presence.broken.lock().unwrap() = true;
    let list = world.call("daemon.listAccessible", world.user(), json!(null)).await;
    let statuses: Vec<_> = list.data().as_array().unwrap().iter().map(|daemon| daemon["status"].clone()).collect();
    assert_eq!(statuses, ["offline"; 4]);
    assert_eq!(*world.presence.asked.lock().unwrap(), 1);
}

#[tokio::test]
async fn key_04_the_key_set_verifies_the_tokens() {
    let world = world(config());
    let token = world.create_session(&world.boot.daemon_id).await.text("token");
    let get = Request::builder().uri("/.well-known/jwks.json").body(Body::empty()).unwrap();
    let answer = send(&world.router, get).await;
    assert_eq!((answer.status, &answer.headers["content-type"]), (200, &"application/json".parse().unwrap()));
    let keys = sideband_protocol::token::KeySet::parse(answer.body.to_string().as_bytes()).unwrap();
    assert_eq!(keys, world.api.key_set());
    assert!(check(Some(&token), &keys, &Policy { issuer: ISSUER.into(), region: None, now: NOW }).is_ok());
    let post = Request::builder().method("POST").uri("/.well-known/jwks.json").body(Body::empty()).unwrap();
    assert_eq!(send(&world.router, post).await.failure(), (405, "METHOD_NOT_SUPPORTED".into()));
}

#[tokio::test]
async fn key_04_rotation_keeps_old_tokens_good_for_the_overlap() {
    let world = world(config());
    let old = world.call("daemon.renewToken", world.key(), json!(null)).await.text("presenceToken");
    world.api.rotate(false).unwrap();
    let new = world.call("daemon.renewToken", world.key(), json!(null)).await.text("presenceToken");
    assert_ne!(old.split('.').next(), new.split('.').next(), "the new key signs at once");
    assert!(world.check(&old).is_ok() && world.check(&new).is_ok());
    world.clock.advance(Duration::from_secs(3_630));
    assert!(world.check(&old).is_ok(), "to the last second of its life and skew");
    assert_eq!(world.api.key_set().keys().len(), 2);
    world.clock.advance(Duration::from_secs(270));
    assert_eq!(world.api.key_set().keys().len(), 1, "and no longer than the overlap");
}

#[tokio::test]
async fn key_04_hard_rotation_refuses_old_tokens_at_once() {
    let world = world(config());
    let older = world.create_session(&world.boot.daemon_id).await.text("token");
    world.api.rotate(false).unwrap();
    let old = world.create_session(&world.boot.daemon_id).await.text("token");
    world.api.rotate(true).unwrap();
    let new = world.create_session(&world.boot.daemon_id).await.text("token");
    assert_eq!(world.check(&older), Err(Refusal::UnknownKid));
    assert_eq!(world.check(&old), Err(Refusal::UnknownKid));
    assert!(world.check(&new).is_ok());
}

#[tokio::test]
async fn api_01_the_relay_url_follows_the_host_or_is_fixed() {
    let relay_url = async |world: &World, host: &str| {
        let mut request =
            request("relay.createSession", world.user(), json!({"daemonId": world.boot.daemon_id}).to_string());
        request.headers_mut().remove("host");
        if !host.is_empty() {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        send(&world.router, request).await
    };
    let plain = world(config());
    assert_eq!(relay_url(&plain, "localhost:8080").await.text("relayUrl"), "ws://localhost:8080/relay");
    assert_eq!(relay_url(&plain, "[::1]:8080").await.text("relayUrl"), "ws://[::1]:8080/relay");
    for bad in ["", "a b", "user@evil.test", "evil.test/path"] {
        assert_eq!(relay_url(&plain, bad).await.failure(), (400, "BAD_REQUEST".into()), "{bad}");
    }
    let secure = world(ApiConfig { relay_url: Advertised::FollowHost { tls: true }, ..config() });
    assert_eq!(relay_url(&secure, "sim.test").await.text("relayUrl"), "wss://sim.test/relay");
    let fixed = world(ApiConfig { relay_url: Advertised::Fixed("wss://relay.test/x".into()), ..config() });
    assert_eq!(relay_url(&fixed, "").await.text("relayUrl"), "wss://relay.test/x");
}

#[tokio::test]
async fn api_01_one_seed_gives_one_world() {
    let (first, second, third) = (seeded(config(), 7), seeded(config(), 7), seeded(config(), 8));
    assert_eq!(first.boot.daemon_id, second.boot.daemon_id);
    assert_eq!(first.key(), second.key());
    assert_eq!(first.user(), second.user());
    assert_ne!(first.key(), third.key());
    let token = async |world: &World| world.create_session(&world.boot.daemon_id).await.text("token");
    assert_eq!(token(&first).await, token(&second).await);
}
