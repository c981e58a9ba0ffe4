//! Quick Connect: once and only once (API-03 to API-05, CLI-02).

mod support;

use sideband::{Account, Cause, CloseReason, Error, Lifecycle, QuickConnect, State};

use self::support::*;

#[tokio::test]
async fn cli_02_a_code_gives_one_session() {
    let world = World::start().await;
    let server = world.serve().await;
    let made = soon(server.create_quick_connect(None)).await.unwrap();
    assert!(made.url.ends_with(&format!("#qc={}", made.code)), "{}", made.url);
    assert_eq!(made.code.len(), 14);
    let client = world.quick_connect(&made.code).connect().unwrap();
    assert_eq!(client.daemon_id(), "");
    soon(client.when_ready()).await.unwrap();
    assert_eq!(client.daemon_id(), server.daemon_id());
    echoes(&client).await;

    let (status, answer) = world.redeem(&made.code).await;
    assert_eq!((status, answer["error"]["data"]["code"].as_str()), (404, Some("NOT_FOUND")));
    echoes(&client).await;
}

#[tokio::test]
async fn cli_02_a_link_is_taken_too() {
    let world = World::start().await;
    let server = world.serve().await;
    let made = soon(server.create_quick_connect(Some(std::time::Duration::from_secs(60)))).await.unwrap();
    let client = world.quick_connect(&made.url).connect().unwrap();
    soon(client.when_ready()).await.unwrap();
    echoes(&client).await;
}

#[tokio::test]
async fn api_04_the_second_redeem_is_404_and_fatal_for_a_client() {
    let world = World::start().await;
    let server = world.serve().await;
    let made = soon(server.create_quick_connect(None)).await.unwrap();
    assert_eq!(world.redeem(&made.code).await.0, 200);
    let client = world.quick_connect(&made.code).connect().unwrap();
    let error = soon(client.when_ready()).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(matches!(error, Error::Closed(CloseReason::Fatal(Cause::Api { status: 404, .. }))), "{error:?}");
}

#[tokio::test]
async fn api_04_used_and_unknown_codes_look_alike() {
    let world = World::start().await;
    let server = world.serve().await;
    let made = soon(server.create_quick_connect(None)).await.unwrap();
    assert_eq!(world.redeem(&made.code).await.0, 200);
    let used = world.redeem(&made.code).await;
    let unknown = world.redeem("aaaa-bbbb-cccc").await;
    assert_eq!(used, unknown);
}

#[tokio::test]
async fn api_04_with_the_daemon_offline_the_redeem_is_409_and_the_code_is_burned() {
    let world = World::start().await;
    let server = world.serve().await;
    let for_hand = soon(server.create_quick_connect(None)).await.unwrap().code;
    let for_client = soon(server.create_quick_connect(None)).await.unwrap().code;
    soon(server.close()).await;
    // The relay has seen the daemon go when nobody is there any more.
    soon(async {
        while world.cloud.relay().open_connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let (status, answer) = world.redeem(&for_hand).await;
    assert_eq!((status, answer["error"]["data"]["code"].as_str()), (409, Some("CONFLICT")));
    assert_eq!(world.redeem(&for_hand).await.0, 404);

    let client = world.quick_connect(&for_client).connect().unwrap();
    let error = soon(client.when_ready()).await.unwrap_err();
    assert!(matches!(error, Error::Closed(CloseReason::Fatal(Cause::Api { status: 409, .. }))), "{error:?}");
    let _server = world.serve().await;
    assert_eq!(world.redeem(&for_client).await.0, 404, "it does not come back with the daemon");
}

#[tokio::test]
async fn api_05_of_many_redeems_at_once_exactly_one_succeeds() {
    let world = World::start().await;
    let server = world.serve().await;
    let made = soon(server.create_quick_connect(None)).await.unwrap();
    let redeems = (0..32).map(|_| world.redeem(&made.code));
    let mut statuses: Vec<u16> =
        soon(futures_util::future::join_all(redeems)).await.into_iter().map(|(status, _)| status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert!(statuses[1..].iter().all(|&status| status == 404), "{statuses:?}");
}

#[tokio::test]
async fn cli_02_a_lost_connection_closes_the_peer_for_good() {
    let world = World::start().await;
    let server = world.serve().await;
    let made = soon(server.create_quick_connect(None)).await.unwrap();
    let client = world.quick_connect(&made.code).connect().unwrap();
    let mut events = client.events_from_now();
    soon(client.when_ready()).await.unwrap();
    echoes(&client).await;
    assert!(world.cloud.relay().drop_session(server.connections()[0].session()));
    let reason = soon(client.closed()).await;
    assert!(matches!(reason, CloseReason::CodeUsed(Cause::SocketLost { .. })), "{reason:?}");
    assert_eq!(Error::Closed(reason).code(), Some("invalid_state"));
    let error = soon(client.call::<_, ()>("echo", ())).await.unwrap_err();
    assert_eq!(error.code(), Some("peer_closed"));
    let mut states = Vec::new();
    soon(async {
        while let Some(event) = events.next().await {
            match event {
                Lifecycle::State(state) => states.push(state),
                Lifecycle::Retrying { .. } => panic!("it tried again"),
                Lifecycle::Closed(_) => break,
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(states, [State::Connecting, State::Negotiating, State::Active, State::Closed]);
}

#[tokio::test]
async fn cli_11_a_quick_connect_session_survives_the_daemons_reconnect() {
    let world = World::start().await;
    let server = world.serve().await;
    let made = soon(server.create_quick_connect(None)).await.unwrap();
    let client = world.quick_connect(&made.code).connect().unwrap();
    soon(client.when_ready()).await.unwrap();
    echoes(&client).await;
    let mut events = client.events_from_now();
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    lifecycle(&mut events, |event| matches!(event, Lifecycle::Resumed)).await;
    echoes(&client).await;
}

#[tokio::test]
async fn cli_08_a_refused_account_is_told_the_apis_own_error() {
    let world = World::start().await;
    let _server = world.serve().await;
    let api = world.cloud.api_url();
    let good = world.cloud.bootstrap().access_token.expose();
    let cases = [(world.daemon_id(), "no-such-token", 401), ("d_nobody", good, 404)];
    for (daemon, token, status) in cases {
        let client = Account::with_token(api, daemon, token).unwrap().env(world.env.clone()).connect().unwrap();
        let error = soon(client.when_ready()).await.unwrap_err();
        assert_eq!(error.status(), Some(status), "{error:?}");
    }
    assert!(QuickConnect::new(api, "not-a-code").is_err(), "refused before anything is sent");
}
