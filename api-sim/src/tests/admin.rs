//! `/__sim`: keys and accounts.

use sideband_sim_kit::{
    admin::{Accounts, Keys},
    guard::{AdminToken, guard_admin},
};

use super::*;

async fn ask(world: &World, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    send(&world.api.admin_router(), request).await
}

fn keys(answer: &Answer) -> Keys {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_value(answer.body.clone()).unwrap()
}

#[tokio::test]
async fn key_04_keys_are_listed_and_rotated() {
    let world = world(config());
    let before = keys(&ask(&world, "GET", "/keys", "").await);
    assert_eq!((before.keys.len(), before.keys[0].current), (1, true));
    let after = keys(&ask(&world, "POST", "/keys/rotate", r#"{"overlapSeconds":60}"#).await);
    assert_eq!(after.keys.len(), 2);
    assert!(after.keys[0].current && after.keys[0].kid.starts_with("k-") && after.keys[0].published_until.is_none());
    assert_eq!((after.keys[1].current, &after.keys[1].kid), (false, &before.keys[0].kid));
    assert_eq!(after.keys[1].published_until.as_deref(), Some("2026-01-01T00:01:00Z"));
    assert_eq!(world.api.key_set().keys().len(), 2);
    world.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(world.api.key_set().keys().len(), 1);
    assert_eq!(keys(&ask(&world, "POST", "/keys/rotate", "").await).keys.len(), 2);
    assert_eq!(keys(&ask(&world, "POST", "/keys/rotate", r#"{"hard":true}"#).await).keys.len(), 1);
    let rotations = world
        .events
        .recent()
        .into_iter()
        .filter_map(|event| if let EventKind::KeysRotated { hard, .. } = event.kind { Some(hard) } else { None });
    assert_eq!(rotations.collect::<Vec<_>>(), [false, false, true]);
}

#[tokio::test]
async fn key_04_a_rotation_that_makes_no_sense_changes_nothing() {
    let world = world(config());
    let before = world.api.key_set();
    for body in [
        "{",
        "[]",
        r#"{"hrad":true}"#,
        r#"{"hard":1}"#,
        r#"{"hard":true,"overlapSeconds":5}"#,
        r#"{"overlapSeconds":-1}"#,
    ] {
        let answer = ask(&world, "POST", "/keys/rotate", body).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!("bad_request")), "{body}");
    }
    assert_eq!(world.api.key_set(), before);
}

#[tokio::test]
async fn accounts_are_listed_without_credentials() {
    let world = world(config());
    let answer = ask(&world, "GET", "/accounts", "").await;
    let text = answer.body.to_string();
    assert!(!text.contains(world.key()) && !text.contains(world.user()));
    let accounts: Accounts = serde_json::from_value(answer.body).unwrap();
    assert_eq!(accounts.users, std::slice::from_ref(&world.boot.user_id));
    assert_eq!(accounts.daemons.len(), 1);
    assert_eq!(accounts.daemons[0].daemon_id, world.boot.daemon_id);
    assert_eq!(accounts.daemons[0].owner, world.boot.user_id);
}

#[tokio::test]
async fn a_wrong_method_is_told_in_json() {
    let world = world(config());
    let guarded = guard_admin(world.api.admin_router(), AdminToken::new("t"));
    for (method, path) in [("POST", "/keys"), ("GET", "/keys/rotate"), ("DELETE", "/accounts")] {
        let request = Request::builder().method(method).uri(path).header("authorization", "Bearer t");
        let answer = send(&guarded, request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (405, &json!("method_not_allowed")));
    }
}

#[tokio::test]
async fn the_routers_go_together() {
    let world = world(config());
    let ready = sideband_sim_kit::admin::ready_router(&["api"]);
    let app = Router::new().nest("/__sim", world.api.admin_router().merge(ready)).merge(world.api.router());
    let ask = async |path: &str| {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        send(&app, request).await.status
    };
    assert_eq!(ask("/__sim/ready").await, 200);
    assert_eq!(ask("/__sim/keys").await, 200);
    assert_eq!(ask("/__sim/nothing").await, 404);
    assert_eq!(ask("/.well-known/jwks.json").await, 200);
    assert_eq!(ask("/api/trpc/daemon.renewToken").await, 405);
}
