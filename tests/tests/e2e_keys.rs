//! Signing keys: rotation with and without an overlap (KEY-02, KEY-04), in one process and over HTTP (KEY-01, KEY-03).

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::IntoResponse,
};
use sideband::{Account, Cause, CloseReason, Daemon, Error, Lifecycle, Server, ServerEvent, State};
use sideband_api_sim::{Advertised, Api, ApiConfig, Bootstrap, MemoryStore};
use sideband_env::{Env, Timeline};
use sideband_protocol::token::Signer;
use sideband_relay_sim::{KeySource, RelayConfig};
use sideband_scenarios::cloud::LatePresence;
use sideband_sim_kit::{
    event::{Event, EventKind, EventSink},
    server::{ServeOptions, serve},
};
use tokio::{
    sync::{broadcast, oneshot},
    task::JoinHandle,
};

use self::support::*;

// ---- API and relay in one process

#[tokio::test]
async fn key_02_a_rotation_with_an_overlap_disturbs_nobody() {
    let world = World::start().await;
    let server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let session = server.connections()[0].session();
    let mut life = client.events_from_now();
    let before = world.grant().await;
    world.cloud.api().rotate(false).unwrap();
    assert_eq!(world.cloud.api().key_set().keys().len(), 2);

    // The session that stands goes on, and so does the daemon's socket.
    echoes(&client).await;
    // A token of the old key is still good, one of the new key already.
    let mut old = world.connect(&before.token).await.unwrap();
    old.is_undisturbed().await;
    let other = world.client().await;
    echoes(&other).await;
    // The daemon comes back, and its sessions with it.
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Resumed)).await;
    echoes(&client).await;
    assert!(server.connections().iter().any(|connection| connection.session() == session));
}

#[tokio::test]
async fn key_04_after_a_hard_rotation_old_tokens_get_401_and_connections_stay() {
    let mut world = World::start().await;
    let server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let (old, presence) = (world.grant().await, world.presence_token(true).await);
    world.cloud.api().rotate(true).unwrap();
    let rotated = world.event(|event| matches!(event.kind, EventKind::KeysRotated { .. })).await;
    assert!(matches!(rotated.kind, EventKind::KeysRotated { hard: true, .. }));
    let bearer = format!("Bearer {}", old.token);
    let refused = ask_upgrade(world.cloud.addr(), "/relay", &[("authorization", &bearer)]).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "unauthorized"));
    assert_eq!(world.connect(&presence).await.err(), Some(401));
    // TOK-12: who is connected stays so.
    assert_eq!(*client.state().borrow(), State::Active);
    echoes(&client).await;
    // New tokens are good.
    echoes(&world.client().await).await;
    assert!(server.is_online());
}

/// A world in which the first `hard` dials come after a hard rotation that their token has not seen.
fn races(world: &World, hard: usize) -> Env {
    let (api, dials) = (world.cloud.api().clone(), Arc::new(AtomicUsize::new(0)));
    before_dial(&world.env, move || {
        let (api, dials) = (api.clone(), dials.clone());
        async move {
            if dials.fetch_add(1, Ordering::SeqCst) < hard {
                api.rotate(true).unwrap();
            }
        }
    })
}

#[tokio::test]
async fn cli_05_a_client_whose_token_raced_a_hard_rotation_recovers_with_a_fresh_one() {
    let world = World::start().await;
    let _server = world.serve().await;
    let client = world.account().env(races(&world, 1)).connect().unwrap();
    let mut life = client.events_from_now();
    let retrying = lifecycle(&mut life, |event| matches!(event, Lifecycle::Retrying { .. })).await;
    assert!(matches!(retrying, Lifecycle::Retrying { cause: Cause::Upgrade { status: 401, .. }, .. }), "{retrying:?}");
    soon(client.when_ready()).await.unwrap();
    echoes(&client).await;
}

#[tokio::test]
async fn cli_05_a_second_401_in_a_row_is_fatal() {
    let world = World::start().await;
    let _server = world.serve().await;
    let client = world.account().env(races(&world, 2)).connect().unwrap();
    let error = soon(client.when_ready()).await.unwrap_err();
    assert!(matches!(error, Error::Closed(CloseReason::Fatal(Cause::Upgrade { status: 401, .. }))), "{error:?}");
}

#[tokio::test]
async fn dmn_01_a_daemon_whose_token_raced_hard_rotations_recovers() {
    let world = World::start().await;
    let server = soon(with_echo(world.daemon().env(races(&world, 3))).listen()).await.unwrap();
    assert!(server.is_online());
    echoes(&world.client().await).await;
}

#[tokio::test]
async fn key_04_after_a_hard_rotation_a_connected_daemon_comes_back_with_its_sessions() {
    let world = World::start().await;
    let server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let mut life = client.events_from_now();
    let mut events = server.events_from_now();
    world.cloud.api().rotate(true).unwrap();
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    server_event(&mut events, |event| matches!(event, ServerEvent::Online)).await;
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Resumed)).await;
    echoes(&client).await;
}

// ---- the relay is a server of its own and reads the keys over HTTP

struct Apart {
    api: Api,
    api_url: String,
    bootstrap: Bootstrap,
    relay: Relaying,
    seen: broadcast::Receiver<Event>,
    env: Env,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Apart {
    async fn start() -> Self {
        let env = real();
        let listener = env.network.bind(any_port()).await.unwrap();
        let api_url = format!("http://{}", listener.local_addr().unwrap());
        let source = KeySource::Http { issuer: api_url.clone() };
        let relay = Relaying::with(env.clone(), RelayConfig::new(&api_url, source)).await;
        let bootstrap = Bootstrap::draw(&mut *env.entropy.entropy());
        let store = MemoryStore::default();
        bootstrap.install(&store).unwrap();
        let mut config = ApiConfig::new(&api_url);
        config.relay_url = Advertised::Fixed(relay.url());
        let presence = LatePresence::default();
        presence.fill(relay.relay.clone());
        let events = EventSink::new(Timeline::start(), "api");
        let api = Api::new(env.clone(), config, Arc::new(store), Arc::new(presence), events).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, api.router(), ServeOptions::default(), async {
            drop(stopped.await);
        }));
        let seen = relay.events.subscribe();
        Self { api, api_url, bootstrap, relay, seen, env, stop: Some(stop), serving: Some(serving) }
    }

    /// Takes the control plane away.
    async fn stop_api(&mut self) {
        drop(self.stop.take());
        soon(self.serving.take().unwrap()).await.unwrap();
    }

    async fn serve(&self) -> Server {
        let daemon = Daemon::new(&self.api_url, &self.relay.url(), self.bootstrap.api_key.expose()).unwrap();
        soon(with_echo(daemon.env(self.env.clone()).retry(quick_daemon_retry())).listen()).await.unwrap()
    }

    fn account(&self) -> Account {
        Account::with_token(&self.api_url, &self.bootstrap.daemon_id, self.bootstrap.access_token.expose())
            .unwrap()
            .env(self.env.clone())
            .retry(quick_retry())
    }

    async fn token(&self) -> String {
        let bearer = format!("Bearer {}", self.bootstrap.access_token.expose());
        let input = serde_json::json!({ "daemonId": self.bootstrap.daemon_id });
        let headers = [("authorization", &*bearer)];
        let (status, answer) = post(&self.env, &self.api_url, "relay.createSession", &headers, input).await;
        assert_eq!(status, 200);
        answer["result"]["data"]["token"].as_str().unwrap().to_owned()
    }

    async fn upgrade(&self, token: &str) -> Answer {
        ask_upgrade(self.relay.addr, "/relay", &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// The outcomes of the relay's requests for the key set since the last time.
    fn fetches(&mut self) -> Vec<String> {
        let mut outcomes = Vec::new();
        while let Ok(event) = self.seen.try_recv() {
            if let EventKind::KeySet { result } = event.kind {
                outcomes.push(result);
            }
        }
        outcomes
    }
}

#[tokio::test]
async fn key_01_a_relay_apart_reads_the_set_once_and_keeps_it() {
    let mut apart = Apart::start().await;
    let _server = apart.serve().await;
    for _ in 0..3 {
        let client = apart.account().connect().unwrap();
        echoes(&client).await;
    }
    assert_eq!(apart.fetches(), ["ok"]);
}

#[tokio::test]
async fn key_01_an_unknown_key_is_looked_up_at_once() {
    let mut apart = Apart::start().await;
    let server = apart.serve().await;
    let client = apart.account().connect().unwrap();
    echoes(&client).await;
    let mut life = client.events_from_now();
    assert_eq!(apart.fetches(), ["ok"]);
    let old = apart.token().await;
    apart.api.rotate(false).unwrap();

    // KEY-02: the old key is known, the new one becomes so, and nobody is disturbed.
    assert_eq!(apart.upgrade(&old).await.status, 101);
    assert_eq!(apart.fetches(), Vec::<String>::new());
    let other = apart.account().connect().unwrap();
    echoes(&other).await;
    assert_eq!(apart.fetches(), ["ok"]);
    echoes(&client).await;
    assert!(apart.relay.relay.drop_daemon(&server.daemon_id()));
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Resumed)).await;
    echoes(&client).await;
    assert_eq!(apart.fetches(), Vec::<String>::new());
}

#[tokio::test]
async fn key_01_a_key_that_stays_unknown_gets_401_and_another_refresh_so_soon_503() {
    let mut apart = Apart::start().await;
    assert_eq!(apart.upgrade(&apart.token().await).await.status, 101);
    assert_eq!(apart.fetches(), ["ok"]);
    let forged = |kid: &str| {
        let session = sideband::SessionId::new(77).unwrap();
        let claims = sideband_protocol::token::Claims::client(
            &apart.api_url,
            &apart.bootstrap.user_id,
            &apart.bootstrap.daemon_id,
            session,
            "t",
            apart.env.clock.unix_seconds(),
        );
        Signer::from_seed(kid, &[1; 32]).sign(&claims)
    };
    let (first, second) = (forged("k-nobody"), forged("k-nobody-else"));
    let refused = apart.upgrade(&first).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "unauthorized"));
    assert_eq!(apart.fetches(), ["ok"], "it was looked up");
    let refused = apart.upgrade(&second).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"));
    assert_eq!(apart.fetches(), Vec::<String>::new());
    // Known keys go on being good.
    assert_eq!(apart.upgrade(&apart.token().await).await.status, 101);
}

#[tokio::test]
async fn key_04_a_hard_rotation_holds_once_the_relay_has_read_the_set_again() {
    let mut apart = Apart::start().await;
    let _server = apart.serve().await;
    let client = apart.account().connect().unwrap();
    echoes(&client).await;
    let (first, second) = (apart.token().await, apart.token().await);
    apart.api.rotate(true).unwrap();
    assert_eq!(apart.upgrade(&first).await.status, 101, "the relay cannot know yet");
    // A new token makes it read the set.
    assert_eq!(apart.upgrade(&apart.token().await).await.status, 101);
    assert_eq!(apart.fetches(), ["ok", "ok"]);
    // The old key is an unknown one now, and it is too soon to look again.
    assert_ne!(apart.upgrade(&second).await.status, 101);
    echoes(&client).await;
}

#[tokio::test]
async fn key_03_a_set_that_cannot_be_had_is_503_unless_one_is_cached() {
    let mut apart = Apart::start().await;
    let (first, second, third) = (apart.token().await, apart.token().await, apart.token().await);
    let mut other = Apart::start().await;
    let foreign = other.token().await;

    // One that never read a set.
    other.stop_api().await;
    let refused = other.upgrade(&foreign).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"));
    let fetches = other.fetches();
    assert!(fetches.len() == 1 && fetches[0] != "ok", "{fetches:?}");

    // One that did.
    assert_eq!(apart.upgrade(&first).await.status, 101);
    apart.stop_api().await;
    assert_eq!(apart.upgrade(&second).await.status, 101);
    let unknown = apart.upgrade(&foreign).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (503, "unavailable"), "no answer to the question");
    assert_eq!(apart.upgrade(&third).await.status, 101);
    let fetches = apart.fetches();
    assert!(fetches.len() == 2 && fetches[0] == "ok" && fetches[1] != "ok", "{fetches:?}");
}

#[tokio::test]
async fn key_03_an_sdk_client_gets_through_once_the_set_can_be_had() {
    // A relay whose issuer has no keys to give yet: 503 is retried (CLI-05, DMN-01).
    let apart = Apart::start().await;
    let env = apart.env.clone();
    let listener = env.network.bind(any_port()).await.unwrap();
    let late_url = format!("http://{}", listener.local_addr().unwrap());
    let open = Arc::new(AtomicBool::new(false));
    let is_open = open.clone();
    let gated = apart.api.router().layer(middleware::from_fn(move |request: Request, next: Next| {
        let is_open = is_open.load(Ordering::SeqCst);
        async move { if is_open { next.run(request).await } else { StatusCode::BAD_GATEWAY.into_response() } }
    }));
    tokio::spawn(serve(listener, gated, ServeOptions::default(), std::future::pending()));
    let config = RelayConfig::new(&apart.api_url, KeySource::Http { issuer: late_url });
    let relay = Relaying::with(env.clone(), config).await;

    let daemon = Daemon::new(&apart.api_url, &relay.url(), apart.bootstrap.api_key.expose()).unwrap();
    let listening = tokio::spawn(with_echo(daemon.env(env.clone()).retry(quick_daemon_retry())).listen());
    let mut seen = relay.events.subscribe();
    soon(async {
        loop {
            if let EventKind::UpgradeRefused { status, .. } = seen.recv().await.unwrap().kind {
                assert_eq!(status, 503);
                return;
            }
        }
    })
    .await;
    assert!(!listening.is_finished());
    open.store(true, Ordering::SeqCst);
    let server = soon(listening).await.unwrap().unwrap();
    let client = apart.account().relay_url(&relay.url()).unwrap().connect().unwrap();
    echoes(&client).await;
    assert_eq!(server.connections().len(), 1);
}
