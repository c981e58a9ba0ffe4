//! A relay that goes and comes back on its port: daemon and account client come back with new sessions (REL-24, CLI-05, DMN-01).

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sideband::{Cause, Client, Lifecycle, ServerEvent, State};
use sideband_env::Env;
use sideband_scenarios::cloud::{Cloud, CloudError, CloudOptions};

use self::support::*;

/// The same credentials each time.
fn options() -> CloudOptions {
    CloudOptions { seed: Some(11), ..CloudOptions::default() }
}

/// Starts a cloud where one was; its port may be taken for a moment yet.
async fn start_again(env: &Env, addr: SocketAddr) -> Cloud {
    soon(async {
        loop {
            match Cloud::start(env.clone(), addr, options()).await {
                Ok(cloud) => return cloud,
                Err(CloudError::Bind { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

/// A call that waits for the next session if need be.
async fn comes_back(client: &Client) {
    let mut state = client.state();
    reaches(&mut state, State::Active).await;
    echoes(client).await;
}

#[tokio::test]
async fn rel_24_after_a_restart_daemon_and_client_come_back_with_a_new_session() {
    let world = World::with(options()).await;
    let server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let first = server.connections()[0].session();
    let (mut life, mut events) = (client.events_from_now(), server.events_from_now());
    let daemon_id = world.daemon_id().to_owned();
    let World { cloud, env, .. } = world;
    let addr = cloud.addr();

    soon(cloud.shutdown()).await;
    let lost = lifecycle(&mut life, |event| matches!(event, Lifecycle::Disconnected(_))).await;
    // Whoever is closed first: the daemon's close pauses nobody, for the relay ends all sessions at once.
    assert!(matches!(lost, Lifecycle::Disconnected(Cause::SocketLost { code: Some(1012) })), "{lost:?}");
    let offline = server_event(&mut events, |event| matches!(event, ServerEvent::Offline(_))).await;
    assert!(matches!(offline, ServerEvent::Offline(Cause::SocketLost { code: Some(1012) })), "{offline:?}");
    // Both have tried in vain before it is back.
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Retrying { cause: Cause::ApiUnreachable(_), .. })).await;
    let in_vain = |event: &ServerEvent| matches!(event, ServerEvent::Retrying { cause: Cause::ApiUnreachable(_), .. });
    server_event(&mut events, in_vain).await;

    let cloud = start_again(&env, addr).await;
    assert_eq!(cloud.bootstrap().daemon_id, daemon_id);
    server_event(&mut events, |event| matches!(event, ServerEvent::Online)).await;
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Connected { .. })).await;
    comes_back(&client).await;
    // The daemon named its old session to the new relay and was told that it is over (WIRE-17).
    let sessions: Vec<_> = server.connections().iter().map(|connection| connection.session()).collect();
    assert!(sessions.len() == 1 && sessions[0] != first, "{sessions:?}");
    soon(client.close()).await;
    soon(server.close()).await;
    soon(cloud.shutdown()).await;
}

#[tokio::test]
async fn rel_24_after_a_crash_too() {
    let world = World::with(options()).await;
    let server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let mut life = client.events_from_now();
    let mut events = server.events_from_now();
    let World { cloud, env, .. } = world;
    let addr = cloud.addr();
    // The sockets are cut as they are; then the listener is gone.
    let session = server.connections()[0].session();
    assert!(cloud.relay().drop_session(session));
    assert!(cloud.relay().drop_daemon(&server.daemon_id()));
    drop(cloud);
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Disconnected(_))).await;
    server_event(&mut events, |event| matches!(event, ServerEvent::Offline(_))).await;
    let _cloud = start_again(&env, addr).await;
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Connected { .. })).await;
    comes_back(&client).await;
}

#[tokio::test]
async fn rel_24_again_and_again() {
    let world = World::with(options()).await;
    let server = world.serve().await;
    let client = world.client().await;
    let World { mut cloud, env, .. } = world;
    let addr = cloud.addr();
    for _ in 0..3 {
        comes_back(&client).await;
        let mut life = client.events_from_now();
        soon(cloud.shutdown()).await;
        lifecycle(&mut life, |event| matches!(event, Lifecycle::Disconnected(_))).await;
        cloud = start_again(&env, addr).await;
        lifecycle(&mut life, |event| matches!(event, Lifecycle::Connected { .. })).await;
    }
    comes_back(&client).await;
    assert_eq!(server.connections().len(), 1);
}

#[tokio::test]
async fn dmn_01_listen_waits_for_a_control_plane_that_is_not_there_yet() {
    let world = World::with(options()).await;
    let daemon = with_echo(world.daemon());
    let account = world.account();
    let World { cloud, env, .. } = world;
    let addr = cloud.addr();
    soon(cloud.shutdown()).await;
    let listening = tokio::spawn(daemon.listen());
    let client = account.connect().unwrap();
    let mut life = client.events_from_now();
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Retrying { .. })).await;
    assert!(!listening.is_finished());
    let _cloud = start_again(&env, addr).await;
    let _server = soon(listening).await.unwrap().unwrap();
    comes_back(&client).await;
}

/// The relay asks the API for keys, and the API asks the relay who is online: neither keeps the other.
#[tokio::test]
async fn a_cloud_that_is_gone_holds_nothing() {
    for says_goodbye in [true, false] {
        let world = World::start().await;
        let (server, client) = (world.serve().await, world.client().await);
        echoes(&client).await;
        soon(client.close()).await;
        soon(server.close()).await;
        drop((client, server));
        let World { cloud, env, .. } = world;
        if says_goodbye {
            soon(cloud.shutdown()).await;
        } else {
            drop(cloud);
        }
        soon(async {
            while Arc::strong_count(&env.clock) > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}
