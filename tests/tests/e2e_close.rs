//! Closing: prompt from every state, final, and known to the other side (CLI-14, CLI-15, DMN-05, DMN-16, SBP-07).

mod support;

use std::{future::pending, time::Duration};

use sideband::{
    Account, Cause, Client, CloseReason, Context, DaemonRetryPolicy, Error, HandlerError, RetryPolicy, Server,
    ServerEvent, State,
};
use sideband_env::BoxFuture;
use sideband_protocol::{
    crypto::IdentityKey,
    wire::{ControlCode, Frame},
};
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinHandle};

use self::support::*;

/// Longer than the goodbye to a relay may take, and much shorter than every time limit of an attempt.
const PROMPT: Duration = Duration::from_secs(5);

async fn prompt<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PROMPT, future).await.expect("it is not prompt")
}

/// A call that waits for its answer or for a connection.
fn waiting(client: &Client, method: &'static str) -> JoinHandle<Result<(), Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.call(method, ()).await })
}

/// Waits for a state, closes there, and checks everything that CLI-14 says of it.
async fn closes_from(client: Client, state: State) {
    reaches(&mut client.state(), state).await;
    let call = waiting(&client, "never");
    let ready = (state != State::Active).then(|| {
        let client = client.clone();
        tokio::spawn(async move { client.when_ready().await })
    });
    // They wait by now.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    assert!(!call.is_finished());
    prompt(client.close()).await;
    assert_eq!(prompt(call).await.unwrap().unwrap_err().code(), Some("peer_closed"));
    if let Some(ready) = ready {
        assert!(matches!(prompt(ready).await.unwrap(), Err(Error::Closed(CloseReason::ByUser))));
    }
    assert_eq!(prompt(client.closed()).await, CloseReason::ByUser);
    assert_eq!(*client.state().borrow(), State::Closed);
    prompt(client.close()).await;
    let late = prompt(client.call::<_, ()>("never", ())).await.unwrap_err();
    assert_eq!(late.code(), Some("peer_closed"));
    assert!(prompt(client.when_ready()).await.is_err());
}

#[tokio::test]
async fn cli_14_closes_from_connecting_while_the_token_source_thinks() {
    let world = World::start().await;
    let client =
        Account::new(world.cloud.api_url(), world.daemon_id(), pending).unwrap().env(world.env.clone()).connect();
    closes_from(client.unwrap(), State::Connecting).await;
}

#[tokio::test]
async fn cli_14_closes_from_connecting_while_the_api_does_not_answer() {
    let silent = TcpListener::bind(any_port()).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let client = Account::with_token(&url, "d_1", "token").unwrap().env(real()).connect().unwrap();
    let (mut asked, _) = soon(silent.accept()).await.unwrap();
    let mut some = [0; 16];
    soon(asked.read_exact(&mut some)).await.unwrap();
    closes_from(client, State::Connecting).await;
    // The request is given up.
    let mut rest = Vec::new();
    drop(soon(asked.read_to_end(&mut rest)).await);
}

#[tokio::test]
async fn cli_14_closes_from_connecting_while_the_relay_is_dialled() {
    let world = World::start().await;
    let _server = world.serve().await;
    let client = world.account().env(before_dial(&world.env, pending)).connect().unwrap();
    closes_from(client, State::Connecting).await;
}

/// A store that never answers.
#[derive(Debug)]
struct Thinking;

impl sideband::identity::IdentityStore for Thinking {
    fn load<'a>(
        &'a self,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<IdentityKey>, Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(pending())
    }

    fn store<'a>(
        &'a self,
        _: &'a str,
        _: IdentityKey,
    ) -> BoxFuture<'a, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(pending())
    }
}

#[tokio::test]
async fn cli_14_closes_from_negotiating_while_the_identity_store_thinks() {
    let world = World::start().await;
    let server = world.serve().await;
    let mut events = server.events_from_now();
    let client = world.account().identity_store(Thinking).connect().unwrap();
    closes_from(client, State::Negotiating).await;
    server_event(&mut events, |event| matches!(event, ServerEvent::Refused { .. })).await;
    assert_eq!(server.connections().len(), 0);
}

#[tokio::test]
async fn cli_14_closes_from_reconnecting_during_the_delay() {
    let world = World::start().await;
    let hour = Duration::from_secs(3_600);
    // The daemon is offline, so the relay ends the attempt.
    let retry = RetryPolicy { initial: hour, max: hour, ..quick_retry() };
    let client = world.account().retry(retry).connect().unwrap();
    closes_from(client, State::Reconnecting).await;
}

/// A daemon whose `never` does not answer, and that stays away once it is gone.
async fn stays_away(world: &World) -> Server {
    let hour = Duration::from_secs(3_600);
    let retry = DaemonRetryPolicy { initial: hour, max: hour, ..quick_daemon_retry() };
    let daemon = with_echo(world.daemon().retry(retry))
        .handle("never", |(): (), _: Context| pending::<Result<(), HandlerError>>())
        .unwrap();
    soon(daemon.listen()).await.unwrap()
}

#[tokio::test]
async fn cli_14_closes_from_active_and_the_daemon_sees_it() {
    let world = World::start().await;
    let server = stays_away(&world).await;
    let mut events = server.events_from_now();
    let client = world.client().await;
    echoes(&client).await;
    let connection = server.connections().remove(0);
    closes_from(client, State::Active).await;
    let closed = server_event(&mut events, |event| matches!(event, ServerEvent::Closed { .. })).await;
    let ServerEvent::Closed { session, cause } = closed else { panic!() };
    assert_eq!(session, connection.session());
    assert!(matches!(cause, Cause::PeerClosed { .. }), "SBP-07: it said goodbye: {cause:?}");
    prompt(connection.closed()).await;
    assert_eq!(connection.state(), None);
    assert!(prompt(connection.call::<_, ()>("echo", ())).await.is_err());
}

#[tokio::test]
async fn cli_14_closes_from_paused() {
    let mut world = World::start().await;
    let server = stays_away(&world).await;
    let client = world.client().await;
    echoes(&client).await;
    let session = server.connections()[0].session();
    let in_flight = waiting(&client, "never");
    echoes(&client).await;
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    reaches(&mut client.state(), State::Paused).await;
    assert!(!in_flight.is_finished(), "CLI-11: calls in flight go on waiting");
    closes_from(client, State::Paused).await;
    assert_eq!(prompt(in_flight).await.unwrap().unwrap_err().code(), Some("peer_closed"));
    world.session(session, "ended").await;
}

#[tokio::test]
async fn cli_15_waiting_until_ready_stays_pending_while_paused() {
    let world = World::start().await;
    let _server = stays_away(&world).await;
    let client = world.client().await;
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    reaches(&mut client.state(), State::Paused).await;
    let ready = {
        let client = client.clone();
        tokio::spawn(async move { client.when_ready().await })
    };
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!ready.is_finished());
    prompt(client.close()).await;
    assert!(matches!(prompt(ready).await.unwrap(), Err(Error::Closed(CloseReason::ByUser))));
}

#[tokio::test]
async fn cli_14_dropping_the_last_handle_closes() {
    let world = World::start().await;
    let server = world.serve().await;
    let mut events = server.events_from_now();
    let client = world.client().await;
    client.handle("mine", |(): (), _| async { Ok::<_, HandlerError>(()) }).unwrap();
    let mut ticks = client.subscribe("tick").unwrap();
    echoes(&client).await;
    let clone = client.clone();
    drop(client);
    echoes(&clone).await;
    let mut life = clone.events_from_now();
    drop(clone);
    let closed = server_event(&mut events, |event| matches!(event, ServerEvent::Closed { .. })).await;
    assert!(matches!(closed, ServerEvent::Closed { cause: Cause::PeerClosed { .. }, .. }), "{closed:?}");
    assert_eq!(server.connections().len(), 0);
    assert!(prompt(ticks.next()).await.is_none());
    prompt(async { while life.next().await.is_some() {} }).await;
}

#[tokio::test]
async fn cli_14_dropping_the_last_handle_ends_an_attempt() {
    let silent = TcpListener::bind(any_port()).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let client = Account::with_token(&url, "d_1", "token").unwrap().env(real()).connect().unwrap();
    let (mut asked, _) = soon(silent.accept()).await.unwrap();
    drop(client);
    // The end of the stream: the request was given up, well before its time limit.
    let mut rest = Vec::new();
    drop(prompt(asked.read_to_end(&mut rest)).await);
}

#[tokio::test]
async fn dmn_05_dropping_listen_before_the_first_connection_cancels() {
    let silent = TcpListener::bind(any_port()).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let daemon = sideband::Daemon::new(&url, &url.replace("http", "ws"), "sbnd_dak_x").unwrap().env(real());
    let listening = tokio::spawn(daemon.listen());
    let (mut asked, _) = soon(silent.accept()).await.unwrap();
    listening.abort();
    let mut rest = Vec::new();
    drop(prompt(asked.read_to_end(&mut rest)).await);
    assert!(soon(listening).await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn dmn_16_close_says_goodbye_to_each_session_and_closes_with_1000() {
    let mut world = World::start().await;
    let server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let mut life = client.events_from_now();
    // One that only shook hands: it is told by the relay alone.
    let (session, mut peer) = world.raw_client().await;
    let handshake = sideband_protocol::crypto::ClientHandshake::new(&mut *world.env.entropy.entropy());
    peer.send(Frame::HandshakeInit { session, client_ephemeral: *handshake.public() }.encode()).await;
    assert!(matches!(peer.frame().await, Frame::HandshakeAccept { .. }));
    assert!(matches!(peer.frame().await, Frame::Data { .. }), "the introduction");

    prompt(server.close()).await;
    assert!(matches!(peer.frame().await, Frame::Data { .. }), "SBP Close");
    assert_eq!(peer.got().await, control(ControlCode::SessionExpired, session.get()));
    peer.is_closed(1000).await;
    let lost = lifecycle(&mut life, |event| matches!(event, sideband::Lifecycle::Disconnected(_))).await;
    assert!(matches!(lost, sideband::Lifecycle::Disconnected(Cause::PeerClosed { .. })), "{lost:?}");
    assert_eq!(soon(server.ended()).await, Cause::Closed);
    assert_eq!(server.connections().len(), 0);
    use sideband_sim_kit::event::{EventKind, Role};
    let opened = world.cloud.events().recent().into_iter().find_map(|event| match event.kind {
        EventKind::Opened { connection, role: Role::Daemon, .. } => Some(connection),
        _ => None,
    });
    let closed = world
        .event(|event| matches!(event.kind, EventKind::Closed { connection, .. } if Some(connection) == opened))
        .await;
    assert!(matches!(closed.kind, EventKind::Closed { code: Some(1000), .. }), "{closed:?}");
}

#[tokio::test]
async fn dmn_16_dropping_the_last_handle_closes_the_daemon() {
    let world = World::start().await;
    let server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let mut life = client.events_from_now();
    drop(server);
    lifecycle(&mut life, |event| matches!(event, sideband::Lifecycle::Disconnected(Cause::PeerClosed { .. }))).await;
}

#[tokio::test]
async fn sbp_07_a_daemon_that_closes_one_session_keeps_the_others() {
    let world = World::start().await;
    let server = world.serve().await;
    let first = world.client().await;
    echoes(&first).await;
    let connection = server.connections().remove(0);
    let second = world.client().await;
    echoes(&second).await;
    let mut life = first.events_from_now();
    let mut undisturbed = second.events_from_now();
    connection.close();
    prompt(connection.closed()).await;
    lifecycle(&mut life, |event| matches!(event, sideband::Lifecycle::Disconnected(Cause::PeerClosed { .. }))).await;
    // Its retry policy gives it a new session.
    lifecycle(&mut life, |event| matches!(event, sideband::Lifecycle::Connected { .. })).await;
    echoes(&first).await;
    echoes(&second).await;
    prompt(second.close()).await;
    let next = soon(undisturbed.next()).await;
    assert!(matches!(next, Some(sideband::Lifecycle::State(State::Closed))), "{next:?}");
}
