//! What a lost daemon socket costs: nothing, if the daemon can resume; the session, if it cannot (CLI-09 to CLI-12, DMN-11, DMN-12).

mod support;

use std::{sync::Arc, time::Duration};

use sideband::{
    CallOptions, Cause, Client, Context, HandlerError, Lifecycle, LifecycleEvents, OnDisconnect, Server, ServerEvent,
    SessionState, State,
};
use sideband_protocol::{crypto::Identity, wire::ControlCode};
use sideband_scenarios::cloud::CloudOptions;
use sideband_sim_kit::limits::RelayLimits;
use tokio::sync::{Semaphore, mpsc};

use self::support::*;

/// A method that tells when it runs and answers when it is let.
#[derive(Clone)]
struct Held {
    runs: mpsc::UnboundedSender<i64>,
    gate: Arc<Semaphore>,
}

impl Held {
    fn new() -> (Self, mpsc::UnboundedReceiver<i64>) {
        let (runs, seen) = mpsc::unbounded_channel();
        (Self { runs, gate: Arc::new(Semaphore::new(0)) }, seen)
    }

    fn handler(&self) -> impl Fn(i64, Context) -> sideband_env::BoxFuture<'static, Result<i64, HandlerError>> + use<> {
        let held = self.clone();
        move |n, _| {
            let held = held.clone();
            Box::pin(async move {
                held.runs.send(n).unwrap();
                held.gate.acquire().await.unwrap().forget();
                Ok(n * 10)
            })
        }
    }
}

/// A daemon whose return waits until it is let, and a client.
struct Bench {
    world: World,
    server: Server,
    client: Client,
    held: Held,
    runs: mpsc::UnboundedReceiver<i64>,
    /// Each permit is one dial of the daemon.
    returns: Arc<Semaphore>,
}

impl Bench {
    async fn start() -> Self {
        Self::with(CloudOptions::default(), |account| account).await
    }

    async fn with(options: CloudOptions, change: impl FnOnce(sideband::Account) -> sideband::Account) -> Self {
        let world = World::with(options).await;
        let returns = Arc::new(Semaphore::new(1));
        let permits = returns.clone();
        let env = before_dial(&world.env, move || {
            let permits = permits.clone();
            async move { permits.acquire().await.unwrap().forget() }
        });
        let (held, runs) = Held::new();
        let daemon = with_echo(world.daemon()).handle("held", held.handler()).unwrap().env(env);
        let server = soon(daemon.listen()).await.unwrap();
        let client = change(world.account()).connect().unwrap();
        soon(client.when_ready()).await.unwrap();
        echoes(&client).await;
        Self { world, server, client, held, runs, returns }
    }

    /// Cuts the daemon's socket and waits until both sides know.
    async fn pause(&self) {
        let (mut state, mut events) = (self.client.state(), self.server.events_from_now());
        assert!(self.world.cloud.relay().drop_daemon(self.world.daemon_id()));
        reaches(&mut state, State::Paused).await;
        server_event(&mut events, |event| matches!(event, ServerEvent::Paused(_))).await;
    }

    fn let_return(&self) {
        self.returns.add_permits(1);
    }

    async fn resumed(&self, events: &mut LifecycleEvents) {
        lifecycle(events, |event| matches!(event, Lifecycle::Resumed)).await;
    }
}

#[tokio::test]
async fn dmn_11_a_call_in_flight_is_answered_after_the_resume() {
    let mut bench = Bench::start().await;
    let session = bench.server.connections()[0].session();
    let mut events = bench.client.events_from_now();
    let client = bench.client.clone();
    let call = tokio::spawn(async move { client.call::<_, i64>("held", 4).await });
    assert_eq!(soon(bench.runs.recv()).await, Some(4));

    bench.pause().await;
    assert_eq!(bench.server.connections()[0].state(), Some(SessionState::Paused));
    // The handler ends while the socket is away; its answer waits.
    bench.held.gate.add_permits(1);
    bench.let_return();
    assert_eq!(soon(call).await.unwrap().unwrap(), 40);

    let mut seen = Vec::new();
    while seen.len() < 4 {
        match soon(events.next()).await.unwrap() {
            Lifecycle::State(state) => seen.push(state.name()),
            Lifecycle::Pending => seen.push("(pending)"),
            Lifecycle::Resumed => seen.push("(resumed)"),
            other => panic!("{other:?}"),
        }
    }
    // CLI-12: no `connected` on a resume.
    assert_eq!(seen, ["paused", "(pending)", "active", "(resumed)"]);
    echoes(&bench.client).await;
    let connections = bench.server.connections();
    assert_eq!((connections.len(), connections[0].session()), (1, session));
    assert_eq!(connections[0].state(), Some(SessionState::Active));
}

#[tokio::test]
async fn dmn_11_again_and_again_with_the_same_keys() {
    let bench = Bench::start().await;
    let session = bench.server.connections()[0].session();
    for _ in 0..5 {
        let mut events = bench.client.events_from_now();
        bench.pause().await;
        bench.let_return();
        bench.resumed(&mut events).await;
        echoes(&bench.client).await;
    }
    assert_eq!(bench.server.connections()[0].session(), session);
}

#[tokio::test]
async fn dmn_11_events_and_answers_sent_while_away_arrive_in_order() {
    let bench = Bench::start().await;
    let mut ticks = bench.client.subscribe("tick").unwrap();
    bench.pause().await;
    for n in 0..50 {
        assert_eq!(bench.server.broadcast("tick", n).await.unwrap(), 1);
    }
    bench.let_return();
    for n in 0..50 {
        assert_eq!(soon(ticks.next()).await.unwrap().data::<i64>().unwrap(), n);
    }
}

#[tokio::test]
async fn dmn_11_more_than_64_kib_while_away_close_the_session() {
    let bench = Bench::start().await;
    let mut events = bench.server.events_from_now();
    let mut life = bench.client.events_from_now();
    bench.pause().await;
    let first = bench.server.connections()[0].session();
    for _ in 0..3 {
        bench.server.broadcast("blob", "x".repeat(30_000)).await.unwrap();
    }
    let closed = server_event(&mut events, |event| matches!(event, ServerEvent::Closed { .. })).await;
    assert!(matches!(closed, ServerEvent::Closed { session, cause: Cause::Overflow(_) } if session == first));
    bench.let_return();
    let lost = lifecycle(&mut life, |event| matches!(event, Lifecycle::Disconnected(_))).await;
    assert!(
        matches!(lost, Lifecycle::Disconnected(Cause::Control(Ok(ControlCode::SessionExpired)))),
        "Signal(close, error): {lost:?}"
    );
    echoes(&bench.client).await;
    assert_ne!(bench.server.connections()[0].session(), first);
}

#[tokio::test]
async fn dmn_11_the_daemons_own_calls_wait_and_new_ones_fail_with_session_paused() {
    let bench = Bench::start().await;
    let (held, mut runs) = Held::new();
    bench.client.handle("mine", held.handler()).unwrap();
    let connection = bench.server.connections().remove(0);
    let calling = connection.clone();
    let call = tokio::spawn(async move { calling.call::<_, i64>("mine", 5).await });
    assert_eq!(soon(runs.recv()).await, Some(5));
    bench.pause().await;
    let refused = soon(connection.call::<_, i64>("mine", 6)).await.unwrap_err();
    assert_eq!(refused.code(), Some("session_paused"));
    held.gate.add_permits(1);
    bench.let_return();
    assert_eq!(soon(call).await.unwrap().unwrap(), 50, "the client's answer waited too");
    assert!(runs.try_recv().is_err());
}

#[tokio::test]
async fn cli_09_and_10_what_the_client_sends_while_paused_waits_and_goes_out_in_order() {
    let mut bench = Bench::start().await;
    let connection = bench.server.connections().remove(0);
    let mut news = connection.subscribe("news").unwrap();
    bench.pause().await;
    let calls: Vec<_> = (1..=5)
        .map(|n| {
            let client = bench.client.clone();
            tokio::spawn(async move { client.call_with_info::<_, i64>("held", n, CallOptions::new()).await })
        })
        .collect();
    for n in 0..10 {
        soon(bench.client.emit("news", n)).await.unwrap();
    }
    bench.held.gate.add_permits(5);
    assert!(bench.runs.try_recv().is_err());
    bench.let_return();
    for n in 1..=5 {
        assert_eq!(soon(bench.runs.recv()).await, Some(n));
    }
    for (n, call) in calls.into_iter().enumerate() {
        let (result, info) = soon(call).await.unwrap().unwrap();
        assert_eq!((result, info.waited), (10 * (n as i64 + 1), true));
    }
    for n in 0..10 {
        assert_eq!(soon(news.next()).await.unwrap().data::<i64>().unwrap(), n);
    }
}

#[tokio::test]
async fn cli_09_the_buffer_overflows_and_the_rest_still_goes_out() {
    let bench = Bench::start().await;
    bench.pause().await;
    let client = bench.client.clone();
    let fits = tokio::spawn(async move { client.call::<_, String>("echo", "x".repeat(40_000)).await });
    tokio::task::yield_now().await;
    let over = soon(bench.client.call::<_, String>("echo", "x".repeat(40_000))).await.unwrap_err();
    assert_eq!(over.code(), Some("buffer_overflow"));
    bench.let_return();
    assert_eq!(soon(fits).await.unwrap().unwrap().len(), 40_000);
}

#[tokio::test]
async fn cli_09_on_disconnect_fail_fails_at_once_while_paused() {
    let bench = Bench::with(CloudOptions::default(), |account| account.on_disconnect(OnDisconnect::Fail)).await;
    let mut events = bench.client.events_from_now();
    bench.pause().await;
    let refused = soon(bench.client.call::<_, ()>("echo", ())).await.unwrap_err();
    assert_eq!(refused.code(), Some("session_paused"));
    bench.let_return();
    bench.resumed(&mut events).await;
    echoes(&bench.client).await;
}

#[tokio::test]
async fn cli_09_calls_in_flight_fail_at_once_when_the_clients_socket_drops() {
    let mut bench = Bench::start().await;
    let mut events = bench.server.events_from_now();
    let client = bench.client.clone();
    let call = tokio::spawn(async move { client.call::<_, i64>("held", 1).await });
    assert_eq!(soon(bench.runs.recv()).await, Some(1));
    let first = bench.server.connections()[0].session();
    assert!(bench.world.cloud.relay().drop_session(first));
    assert_eq!(soon(call).await.unwrap().unwrap_err().code(), Some("not_connected"));
    server_event(&mut events, |event| matches!(event, ServerEvent::Closed { session, .. } if *session == first)).await;
    echoes(&bench.client).await;
    assert_ne!(bench.server.connections()[0].session(), first, "CLI-01: a new session");
}

#[tokio::test]
async fn cli_11_grace_over_gives_a_new_session() {
    let limits = RelayLimits { grace: Duration::from_millis(200), ..RelayLimits::default() };
    let options = CloudOptions { limits, ..CloudOptions::default() };
    let bench = Bench::with(options, |account| account).await;
    let first = bench.server.connections()[0].session();
    let mut events = bench.client.events_from_now();
    bench.pause().await;
    let lost = lifecycle(&mut events, |event| matches!(event, Lifecycle::Disconnected(_))).await;
    assert!(matches!(lost, Lifecycle::Disconnected(Cause::Control(Ok(ControlCode::SessionExpired)))), "{lost:?}");
    bench.let_return();
    lifecycle(&mut events, |event| matches!(event, Lifecycle::Connected { .. })).await;
    echoes(&bench.client).await;
    // The daemon was told that the old one is over (WIRE-17).
    let sessions: Vec<_> = bench.server.connections().iter().map(|connection| connection.session()).collect();
    assert!(sessions.len() == 1 && sessions[0] != first, "{sessions:?}");
}

#[tokio::test]
async fn dmn_12_a_daemon_that_cannot_resume_ends_its_sessions_and_clients_get_new_ones() {
    let world = World::start().await;
    let server = soon(with_echo(world.daemon().resumable(false)).listen()).await.unwrap();
    let client = world.client().await;
    echoes(&client).await;
    let first = server.connections()[0].session();
    let (mut life, mut events) = (client.events_from_now(), server.events());
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    server_event(&mut events, |event| matches!(event, ServerEvent::Closed { session, .. } if *session == first)).await;
    let lost = lifecycle(&mut life, |event| matches!(event, Lifecycle::Disconnected(_))).await;
    assert!(matches!(lost, Lifecycle::Disconnected(Cause::Control(Ok(ControlCode::SessionExpired)))), "{lost:?}");
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Connected { .. })).await;
    echoes(&client).await;
    assert_ne!(server.connections()[0].session(), first);
}

#[tokio::test]
async fn dmn_16_a_daemon_that_was_closed_and_made_again_gets_a_new_session() {
    let world = World::start().await;
    let identity = || Identity::from_seed(&[3; 32]);
    let daemon = || with_echo(world.daemon().identity(identity()));
    let server = soon(daemon().listen()).await.unwrap();
    let client = world.client().await;
    echoes(&client).await;
    let mut life = client.events_from_now();
    let fingerprint = server.fingerprint();
    soon(server.close()).await;
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Disconnected(_))).await;
    let again = soon(daemon().listen()).await.unwrap();
    assert_eq!(again.fingerprint(), fingerprint);
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Connected { .. })).await;
    echoes(&client).await;
}

#[tokio::test]
async fn dmn_01_another_process_that_takes_the_daemons_place_ends_it() {
    let world = World::start().await;
    let first = world.serve().await;
    let second = world.serve().await;
    assert_eq!(soon(first.ended()).await, Cause::SocketLost { code: Some(4001) });
    assert!(!first.is_online() && second.is_online());
    let client = world.client().await;
    echoes(&client).await;
    assert_eq!(second.connections().len(), 1);
}
