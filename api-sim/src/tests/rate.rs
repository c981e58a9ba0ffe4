//! The limit of requests: 429 as the table says, for the one who asks too much alone.

use std::time::Duration;

use serde_json::json;
use sideband_sim_kit::{limits::ApiLimitsPatch, server::PeerAddr};

use super::*;

fn limited() -> World {
    world(ApiConfig { rate_limit: Some("3/7500ms".parse().unwrap()), ..config() })
}

async fn from(world: &World, peer: &str, credential: &str) -> Answer {
    let mut request = request("daemon.renewToken", credential, "");
    request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
    send(&world.router, request).await
}

#[tokio::test(start_paused = true)]
async fn api_09_over_the_rate_is_429_with_retry_after() {
    let world = limited();
    let renew = || world.call("daemon.renewToken", world.key(), json!(null));
    for _ in 0..3 {
        renew().await.data();
    }
    let answer = renew().await;
    assert_eq!(answer.failure(), (429, "TOO_MANY_REQUESTS".into()));
    assert_eq!(answer.body["error"]["code"], json!(-32_029));
    assert_eq!(answer.headers["retry-after"], "3", "2.5 s, rounded up");
    // Others go on: the user of the same daemon, and whoever looks for keys.
    world.create_session(&world.boot.daemon_id).await.data();
    let keys = Request::builder().uri("/.well-known/jwks.json").body(Body::empty()).unwrap();
    assert_eq!(send(&world.router, keys).await.status, 200);
    tokio::time::advance(Duration::from_millis(2_499)).await;
    assert_eq!(renew().await.headers["retry-after"], "1");
    tokio::time::advance(Duration::from_millis(1)).await;
    renew().await.data();
    tokio::time::advance(Duration::from_secs(60)).await;
    for status in [200, 200, 200, 429] {
        assert_eq!(renew().await.status, status, "a long rest gives no more than the burst");
    }
    world.api.reset().unwrap();
    renew().await.data();
}

#[tokio::test(start_paused = true)]
async fn api_09_who_has_no_credential_is_counted_by_peer() {
    let world = limited();
    for n in 0..3 {
        // New guesses, new ports: the same peer.
        let guess = format!("sbnd_dak_guess{n}");
        assert_eq!(from(&world, &format!("10.0.0.1:{n}"), &guess).await.status, 401);
    }
    assert_eq!(from(&world, "10.0.0.1:9", "sbnd_dak_guess").await.status, 429);
    assert_eq!(from(&world, "10.0.0.1:9", "").await.status, 429);
    from(&world, "10.0.0.1:9", world.key()).await.data();
    assert_eq!(from(&world, "10.0.0.2:9", "").await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn api_09_there_is_no_rate_unless_configured() {
    let world = world(config());
    for _ in 0..2_000 {
        assert_eq!(world.call("daemon.renewToken", "", json!(null)).await.status, 401);
    }
}

#[tokio::test(start_paused = true)]
async fn api_09_the_rate_is_shown_and_changed_while_it_runs_and_comes_back_at_a_reset() {
    let world = limited();
    let admin = accounts::client(&world);
    let renew = || world.call("daemon.renewToken", world.key(), json!(null));
    assert_eq!(admin.api_limits().await.unwrap().rate, Some("3/7500ms".parse().unwrap()));
    let one = ApiLimitsPatch { rate: Some(Some("1/1h".parse().unwrap())) };
    assert_eq!(admin.set_api_limits(&one).await.unwrap().rate, one.rate.unwrap());
    renew().await.data();
    assert_eq!(renew().await.headers["retry-after"], "3600");
    assert_eq!(admin.set_api_limits(&ApiLimitsPatch::default()).await.unwrap().rate, one.rate.unwrap());
    assert_eq!(renew().await.status, 429, "nothing was changed");
    admin.set_api_limits(&ApiLimitsPatch { rate: Some(None) }).await.unwrap();
    for _ in 0..100 {
        renew().await.data();
    }
    world.api.reset().unwrap();
    assert_eq!(admin.api_limits().await.unwrap().rate, Some("3/7500ms".parse().unwrap()));
}
