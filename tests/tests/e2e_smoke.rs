//! The whole way once, over real loopback sockets: token, upgrade, key exchange, call, event, resume.

use std::net::SocketAddr;

use sideband::{Account, Context, Daemon, HandlerError, State};
use sideband_env::{Env, real::Roots};
use sideband_scenarios::cloud::{Cloud, CloudOptions};

#[tokio::test]
async fn a_call_goes_through_and_survives_a_lost_daemon_socket() {
    let env = Env::real(&Roots::System).unwrap();
    let cloud = Cloud::start(env, SocketAddr::from(([127, 0, 0, 1], 0)), CloudOptions::default()).await.unwrap();
    let credentials = cloud.bootstrap();
    let server = Daemon::new(cloud.api_url(), &cloud.relay_url(), credentials.api_key.expose())
        .unwrap()
        .handle("add", |(a, b): (i64, i64), _: Context| async move { Ok::<_, HandlerError>(a + b) })
        .unwrap()
        .listen()
        .await
        .unwrap();
    let client = Account::with_token(cloud.api_url(), server.daemon_id(), credentials.access_token.expose())
        .unwrap()
        .connect()
        .unwrap();
    client.when_ready().await.unwrap();
    assert_eq!(client.call::<_, i64>("add", (1, 2)).await.unwrap(), 3);
    let mut events = client.subscribe("tick").unwrap();
    server.broadcast("tick", 7).await.unwrap();
    assert_eq!(events.next().await.unwrap().data::<i64>().unwrap(), 7);

    let mut state = client.state();
    assert!(cloud.relay().drop_daemon(&server.daemon_id()));
    state.wait_for(|state| *state == State::Paused).await.unwrap();
    assert_eq!(client.call::<_, i64>("add", (3, 4)).await.unwrap(), 7);
    client.close().await;
    server.close().await;
    cloud.shutdown().await;
}
