//! What a cloud begins with, over real sockets: the API's own rate, the relay's limits, regions.

mod support;

use std::time::Duration;

use sideband::Cause;
use sideband_scenarios::cloud::CloudOptions;
use sideband_sim_kit::{
    admin::{AdminClient, accounts::DaemonSettings},
    event::EventKind,
    limits::{ApiLimitsPatch, RelayLimits},
};

use self::support::*;

fn admin(world: &World) -> AdminClient {
    AdminClient::new(world.env.clone(), world.cloud.admin_url().parse().unwrap(), None)
}

/// Who asks too often is told when to come back, waits so long, and gets in (CLI-05, CLI-06).
#[tokio::test]
async fn api_09_clients_ride_out_the_rate_of_the_api() {
    let api_rate = Some("2/2s".parse().unwrap());
    let mut world = World::with(CloudOptions { api_rate, ..CloudOptions::default() }).await;
    let _server = world.serve().await;
    // One user, hence one bucket: two get in at once, the third when the bucket has one more.
    let (one, two, three) = tokio::join!(world.client(), world.client(), world.client());
    let refused = world.event(|event| matches!(event.kind, EventKind::Request { status: 429, .. })).await;
    let EventKind::Request { procedure, retry_after_ms, .. } = refused.kind else { panic!() };
    assert_eq!((procedure.as_str(), retry_after_ms), ("relay.createSession", Some(1_000)));
    for client in [&one, &two, &three] {
        echoes(client).await;
    }
    // Without the limit nobody waits.
    assert_eq!(admin(&world).set_api_limits(&ApiLimitsPatch { rate: Some(None) }).await.unwrap().rate, None);
    for _ in 0..10 {
        world.grant().await;
    }
}

/// A reset comes back to what the cloud began with, not to the specification's.
#[tokio::test]
async fn reset_comes_back_to_the_limits_of_the_start() {
    let limits = RelayLimits { burst: 7, grace: Duration::from_secs(3), ..RelayLimits::default() };
    let api_rate = Some("500/1s".parse().unwrap());
    let world = World::with(CloudOptions { limits, api_rate, ..CloudOptions::default() }).await;
    let admin = admin(&world);
    assert_eq!(admin.limits().await.unwrap(), limits);
    let patch = serde_json::from_str(r#"{"burst":9,"grace":"1s","sessions":2}"#).unwrap();
    assert_ne!(admin.set_limits(&patch).await.unwrap(), limits);
    admin.set_api_limits(&ApiLimitsPatch { rate: Some(None) }).await.unwrap();
    admin.reset().await.unwrap();
    assert_eq!(admin.limits().await.unwrap(), limits);
    assert_eq!(admin.api_limits().await.unwrap().rate, api_rate);
}

#[tokio::test]
async fn tok_08_a_relay_takes_tokens_for_its_own_region_only() {
    let world = World::with(CloudOptions { region: Some("eu".to_owned()), ..CloudOptions::default() }).await;
    let _server = world.serve().await;
    echoes(&world.client().await).await;
    let set = async |region: Option<&str>| {
        let settings = DaemonSettings { region: Some(region.map(str::to_owned)), ..DaemonSettings::default() };
        admin(&world).change_daemon(world.daemon_id(), &settings).await.unwrap();
    };
    set(Some("us")).await;
    assert_eq!(world.connect(&world.grant().await.token).await.err(), Some(403));
    assert_eq!(world.connect(&world.presence_token(false).await).await.err(), Some(403));
    // For a client that is final, and the reason is told (CLI-05, CLI-08).
    let client = world.account().connect().unwrap();
    let error = soon(client.when_ready()).await.unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Upgrade { status: 403, .. })), "{error}");
    set(None).await;
    echoes(&world.client().await).await;
}
