//! One proven world: the production axum servers and the production SDK over the network seam.
//!
//! Five hosts: `api`, `relay` (apart, so that keys and presence go over the network), `daemon`, `client-a`, `client-b`. The daemon's
//! socket is cut while a slow call of client-a is in flight; the daemon comes back, resumes, and the call ends well. Client-b
//! vanishes behind a partition for longer than it bears silence, and comes back with a new session while the relay still counts the
//! old one: a ghost.

use std::{
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::Router;
use sideband::{
    Account, Client, Context, Daemon, HandlerError, Lifecycle, LifecycleEvents, ServerEvent, ServerEvents, State,
};
use sideband_api_sim::{Advertised, Api, ApiConfig, Bootstrap, MemoryStore};
use sideband_env::{EntropySource, Env, SeededEntropy};
use sideband_relay_sim::{KeySource, Relay, RelayConfig};
use sideband_sim_kit::{
    admin::ADMIN_PATH,
    event::{EventKind, EventSink},
    guard::{AdminToken, guard_admin},
    presence::HttpPresence,
    server::{ServeOptions, serve},
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    net::{SeamHttp, SimClock, SimNetwork},
    trace::Trace,
};

type Fallible<T = ()> = Result<T, Box<dyn Error>>;

/// Seconds since 1970 at the beginning of every simulation: 2026-01-01.
pub const EPOCH: u64 = 1_767_225_600;
/// Events that a run may have; more mean that it runs away.
const MOST_EVENTS: usize = 1_000_000;
const TICK: Duration = Duration::from_millis(5);
const ISSUER: &str = "http://api";

/// When the daemon's socket is cut, a second after the slow call was made.
const CUT: Duration = Duration::from_secs(5);
/// How long the slow call takes: longer than the daemon is away.
const SLOW: Duration = Duration::from_secs(4);
/// When client-b vanishes.
const VANISH: Duration = Duration::from_secs(12);
/// When its network is whole again: after it has given up its silent socket.
const RETURN: Duration = Duration::from_secs(112);

/// The seams of one host.
fn env(seed: u64, host: &str) -> Env {
    let network = Arc::new(SimNetwork);
    Env {
        clock: Arc::new(SimClock { epoch: EPOCH }),
        entropy: Arc::new(SeededEntropy::new(seed, host)),
        http: Arc::new(SeamHttp::new(network.clone())),
        network,
    }
}

/// What every host knows.
#[derive(Clone)]
struct Common {
    seed: u64,
    sink: EventSink,
    credentials: Bootstrap,
    admin: AdminToken,
    /// Checks that failed; empty at the end of a good run.
    failures: Arc<Mutex<Vec<String>>>,
}

impl Common {
    fn env(&self, host: &str) -> Env {
        env(self.seed, host)
    }

    fn expect(&self, holds: bool, what: &str) {
        if !holds {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(what.to_owned());
        }
    }
}

/// Runs the world under a seed.
///
/// # Errors
/// A host failed, a check did not hold, or the run did not end.
pub fn run(seed: u64) -> Fallible<Trace> {
    // Outside of every host turmoil tells no time; the loop below does.
    let outside = Arc::new(AtomicU64::new(0));
    let told = outside.clone();
    let time = move || turmoil::sim_elapsed().map_or_else(|| told.load(Ordering::SeqCst), |at| at.as_millis() as u64);
    let sink = EventSink::with_time(time, "world", MOST_EVENTS);
    let credentials = Bootstrap::draw(&mut *SeededEntropy::new(seed, "credentials").entropy());
    let admin = AdminToken::new("between-hosts").ok_or("an empty admin token")?;
    let common = Common { seed, sink: sink.clone(), credentials, admin, failures: Arc::default() };

    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH))
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(60))
        .simulation_duration(Duration::from_secs(300))
        .tcp_capacity(1_024)
        .build();
    let host = common.clone();
    sim.host("api", move || api(host.clone()));
    let host = common.clone();
    sim.host("relay", move || relay(host.clone()));
    let host = common.clone();
    sim.host("daemon", move || daemon(host.clone()));
    sim.client("client-a", client_a(common.clone()));
    sim.client("client-b", client_b(common.clone()));

    let (mut vanished, mut returned) = (false, false);
    while !sim.step()? {
        outside.store(sim.elapsed().as_millis() as u64, Ordering::SeqCst);
        if !vanished && sim.elapsed() >= VANISH {
            vanished = true;
            step(&sink, "client-b vanishes");
            sim.partition("client-b", "relay");
        }
        if !returned && sim.elapsed() >= RETURN {
            returned = true;
            step(&sink, "client-b's network is whole again");
            sim.repair("client-b", "relay");
        }
    }
    let failures = std::mem::take(&mut *common.failures.lock().unwrap_or_else(PoisonError::into_inner));
    if !failures.is_empty() {
        return Err(format!("seed {seed}: {}", failures.join("; ")).into());
    }
    Ok(Trace::new(sink.recent()))
}

/// Records what is done to the network.
fn step(sink: &EventSink, what: &str) {
    sink.for_host("net").emit(None, None, EventKind::Step { what: what.to_owned() });
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

/// HTTP answers carry no date: it would be the machine's.
fn options() -> ServeOptions {
    ServeOptions { date_header: false, ..ServeOptions::default() }
}

async fn api(common: Common) -> Fallible {
    let env = common.env("api");
    let store = MemoryStore::default();
    common.credentials.install(&store)?;
    let mut config = ApiConfig::new(ISSUER);
    config.relay_url = Advertised::Fixed("ws://relay/relay".to_owned());
    let presence =
        HttpPresence::new(env.clone(), format!("http://relay{ADMIN_PATH}").parse()?, Some(common.admin.clone()));
    let api = Api::new(env.clone(), config, Arc::new(store), Arc::new(presence), common.sink.for_host("api"))?;
    let listener = env.network.bind(any(80)).await?;
    serve(listener, api.router(), options(), std::future::pending()).await;
    Ok(())
}

async fn relay(common: Common) -> Fallible {
    let env = common.env("relay");
    let sink = common.sink.for_host("relay");
    let mut config = RelayConfig::new(ISSUER, KeySource::Http { issuer: ISSUER.to_owned() });
    config.trace_frames = true;
    let relay = Relay::new(env.clone(), config, sink.clone());
    let admin = guard_admin(relay.admin_router(), Some(common.admin.clone()));
    let app = Router::new().nest(ADMIN_PATH, admin).fallback_service(relay.router());
    let daemon = common.credentials.daemon_id.clone();
    let cut_at = now() + CUT;
    tokio::spawn(async move {
        sleep_until(cut_at).await;
        sink.emit(None, None, EventKind::Step { what: "the daemon's socket is cut".to_owned() });
        relay.drop_daemon(&daemon);
    });
    let listener = env.network.bind(any(80)).await?;
    serve(listener, app, options(), std::future::pending()).await;
    Ok(())
}

async fn daemon(common: Common) -> Fallible {
    let sink = common.sink.for_host("daemon");
    let server = Daemon::new(ISSUER, "ws://relay/relay", common.credentials.api_key.expose())?
        .env(common.env("daemon"))
        .handle("add", |(a, b): (i64, i64), _: Context| async move { Ok::<_, HandlerError>(a + b) })?
        .handle("slow", |(): (), _: Context| async move {
            sleep(SLOW).await;
            Ok::<_, HandlerError>("done")
        })?
        .listen()
        .await?;
    tokio::spawn(record_server(server.events(), sink));
    for tick in 0..20 {
        sleep(Duration::from_millis(750)).await;
        server.broadcast("tick", tick).await?;
    }
    server.ended().await;
    Ok(())
}

fn connect(common: &Common, host: &str) -> Fallible<(Client, LifecycleEvents)> {
    let credentials = &common.credentials;
    let client = Account::with_token(ISSUER, &credentials.daemon_id, credentials.access_token.expose())?
        .env(common.env(host))
        .connect()?;
    let events = client.events();
    Ok((client, events))
}

async fn client_a(common: Common) -> Fallible {
    let (client, events) = connect(&common, "client-a")?;
    let recorder = tokio::spawn(record_client(events, common.sink.for_host("client-a")));
    let start = now();
    let mut ticks = client.subscribe("tick")?;
    client.when_ready().await?;
    for n in 0..5 {
        let sum: i64 = client.call("add", (n, n)).await?;
        common.expect(sum == 2 * n, "client-a: add gives the sum");
    }
    sleep_until(start + CUT - Duration::from_secs(1)).await;
    let session = common.sink.recent().len();
    let slow: String = client.call("slow", ()).await?;
    common.expect(slow == "done", "client-a: the call in flight ends well");
    let resumed = common.sink.recent()[session..].iter().any(|event| {
        event.host == "client-a" && matches!(&event.kind, EventKind::Endpoint { report, .. } if report == "resumed")
    });
    common.expect(resumed, "client-a: the session was resumed while the call was in flight");
    common.expect(*client.state().borrow() == State::Active, "client-a: active after the resume");
    let sum: i64 = client.call("add", (20, 22)).await?;
    common.expect(sum == 42, "client-a: calls go on after the resume");
    common.expect(ticks.next().await.is_some(), "client-a: events arrived");
    client.close().await;
    recorder.await?;
    Ok(())
}

async fn client_b(common: Common) -> Fallible {
    // Not at the very same moment as the other.
    sleep(Duration::from_millis(20)).await;
    let (client, events) = connect(&common, "client-b")?;
    let recorder = tokio::spawn(record_client(events, common.sink.for_host("client-b")));
    client.when_ready().await?;
    for n in 0..5 {
        let sum: i64 = client.call("add", (n, 1)).await?;
        common.expect(sum == n + 1, "client-b: add gives the sum");
    }
    let mut state = client.state();
    // Away behind the partition, and back with a new session.
    state.wait_for(|state| *state == State::Reconnecting).await?;
    client.when_ready().await?;
    let sum: i64 = client.call("add", (40, 2)).await?;
    common.expect(sum == 42, "client-b: calls go on with the new session");
    client.close().await;
    recorder.await?;
    Ok(())
}

async fn record_client(mut events: LifecycleEvents, sink: EventSink) {
    while let Some(event) = events.next().await {
        let (report, detail) = match event {
            Lifecycle::State(state) => ("state", state.name().to_owned()),
            Lifecycle::Connected { .. } => ("connected", String::new()),
            Lifecycle::Disconnected(cause) => ("disconnected", cause.to_string()),
            Lifecycle::Retrying { retry, cause, .. } => ("retrying", format!("{retry} ({cause})")),
            Lifecycle::Pending => ("pending", String::new()),
            Lifecycle::Resumed => ("resumed", String::new()),
            Lifecycle::RateLimited => ("rate_limited", String::new()),
            Lifecycle::Closed(reason) => {
                emit(&sink, "closed", reason.to_string());
                return;
            }
            other => ("other", format!("{other:?}")),
        };
        emit(&sink, report, detail);
    }
}

async fn record_server(mut events: ServerEvents, sink: EventSink) {
    while let Some(event) = events.next().await {
        let (session, report, detail) = match event {
            ServerEvent::Online => (None, "online", String::new()),
            ServerEvent::Offline(cause) => (None, "offline", cause.to_string()),
            ServerEvent::Retrying { retry, cause, .. } => (None, "retrying", format!("{retry} ({cause})")),
            ServerEvent::Opened(session) => (Some(session), "opened", String::new()),
            ServerEvent::Paused(session) => (Some(session), "paused", String::new()),
            ServerEvent::Resumed(session) => (Some(session), "resumed", String::new()),
            ServerEvent::Closed { session, cause } => (Some(session), "closed", cause.to_string()),
            ServerEvent::Refused { session, cause } => (Some(session), "refused", cause.to_string()),
            ServerEvent::RateLimited => (None, "rate_limited", String::new()),
            ServerEvent::Ended(cause) => (None, "ended", cause.to_string()),
            other => (None, "other", format!("{other:?}")),
        };
        sink.emit(None, session, EventKind::Endpoint { report: report.to_owned(), detail });
    }
}

fn emit(sink: &EventSink, report: &str, detail: String) {
    sink.emit(None, None, EventKind::Endpoint { report: report.to_owned(), detail });
}

/// The host's virtual time.
#[expect(clippy::disallowed_methods, reason = "tokio's clock is virtual inside the simulation")]
fn now() -> Instant {
    Instant::now()
}
