//! A cloud with a preset, and endpoints of the SDK with their defaults on it, on virtual time.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use sideband::{
    Account, Cause, Client, Context, Daemon, HandlerError, Lifecycle, LifecycleEvents, QuickConnect, RetryPolicy,
    Server, ServerEvent, ServerEvents, SessionId,
};
use sideband_api_sim::Bootstrap;
use sideband_env::{EntropySource, Env, SeededEntropy};
use sideband_scenarios::{
    cloud::{Cloud, CloudOptions},
    net::{SeamHttp, SimClock, SimNetwork},
};
use sideband_sim_kit::{
    event::EventSink,
    fault::{FaultEngine, preset},
};

const API: &str = "http://cloud";
const RELAY: &str = "ws://cloud/relay";
/// Seconds since 1970 at the beginning: 2026-01-01.
const EPOCH: u64 = 1_767_225_600;
/// How many orders of events each preset is shown under.
const SEEDS: u64 = 3;

/// What a scene plays with.
#[derive(Clone)]
pub(crate) struct Stage {
    seed: u64,
    credentials: Bootstrap,
    cloud: Arc<OnceLock<(FaultEngine, EventSink)>>,
}

fn env(seed: u64, host: &str) -> Env {
    let network = Arc::new(SimNetwork);
    Env {
        clock: Arc::new(SimClock { epoch: EPOCH }),
        entropy: Arc::new(SeededEntropy::new(seed, host)),
        http: Arc::new(SeamHttp::new(network.clone())),
        network,
    }
}

/// Plays a scene on a cloud with this preset, under several seeds. Whatever happens, no endpoint gets a mark, and no rule of
/// the preset is there in vain.
pub(crate) fn play<F: Future<Output = ()> + 'static>(name: &str, scene: impl Fn(Stage) -> F) {
    for seed in 0..SEEDS {
        let credentials = Bootstrap::draw(&mut *SeededEntropy::new(seed, "credentials").entropy());
        let stage = Stage { seed, credentials, cloud: Arc::default() };
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH))
            .tick_duration(Duration::from_millis(5))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(40))
            .simulation_duration(Duration::from_secs(900))
            .tcp_capacity(4_096)
            .build();
        let plan = preset::find(name).unwrap().plan().unwrap();
        let options = CloudOptions {
            seed: Some(seed),
            advertise: Some(API.parse().unwrap()),
            date_header: false,
            trace_frames: true,
            faults: plan,
            ..CloudOptions::default()
        };
        let there = stage.cloud.clone();
        sim.host("cloud", move || {
            let (options, there) = (options.clone(), there.clone());
            async move {
                let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
                let cloud = Cloud::start(env(seed, "cloud"), addr, options).await?;
                assert!(there.set((cloud.faults().clone(), cloud.events().clone())).is_ok(), "it starts once");
                std::future::pending().await
            }
        });
        let run = scene(stage.clone());
        sim.client("endpoints", async move {
            run.await;
            Ok(())
        });
        sim.run().unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
        let (faults, events) = stage.cloud.get().unwrap();
        assert_eq!(events.grades(), Default::default(), "{name}, seed {seed}");
        assert_eq!(faults.never_fired(), [], "{name}, seed {seed}");
    }
}

impl Stage {
    /// A daemon that echoes, and what happens to it from the start.
    pub(crate) fn daemon(&self) -> (Server, ServerLife) {
        let server = Daemon::new(API, RELAY, self.credentials.api_key.expose())
            .unwrap()
            .env(env(self.seed, "daemon"))
            .handle("echo", |params: serde_json::Value, _: Context| async move { Ok::<_, HandlerError>(params) })
            .unwrap()
            .start()
            .unwrap();
        let life = ServerLife(server.events());
        (server, life)
    }

    /// An account's client by a name, and what happens to it from the start.
    pub(crate) fn client(&self, name: &str) -> (Client, Life) {
        let client = self.account().env(env(self.seed, name)).connect().unwrap();
        let life = Life(client.events());
        (client, life)
    }

    /// Clients of one process: they share its environment, and with it its HTTP connections. Each starts a second after the one before.
    pub(crate) async fn sharing_clients(&self, count: usize) -> Vec<(Client, Life)> {
        let env = env(self.seed, "sharing");
        let mut clients = Vec::new();
        for _ in 0..count {
            let client = self.account().env(env.clone()).connect().unwrap();
            let life = Life(client.events());
            clients.push((client, life));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        clients
    }

    /// As [`client`](Self::client), one that never gives up, with all that happens to it.
    pub(crate) fn stubborn_client(&self, name: &str) -> (Client, Arc<Mutex<Vec<Lifecycle>>>) {
        let retry = RetryPolicy { max_retries: 0, ..RetryPolicy::default() };
        let client = self.account().env(env(self.seed, name)).retry(retry).connect().unwrap();
        let (mut events, seen) = (client.events(), Arc::<Mutex<Vec<_>>>::default());
        let told = seen.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                told.lock().unwrap().push(event);
            }
        });
        (client, seen)
    }

    fn account(&self) -> Account {
        let credentials = &self.credentials;
        Account::with_token(API, &credentials.daemon_id, credentials.access_token.expose()).unwrap()
    }

    /// A client by a code.
    pub(crate) fn quick_connect(&self, code: &str) -> (Client, Life) {
        let client = QuickConnect::new(API, code).unwrap().env(env(self.seed, "quick-connect")).connect().unwrap();
        let life = Life(client.events());
        (client, life)
    }

    /// How often each rule has fired.
    pub(crate) fn fired(&self) -> BTreeMap<String, u64> {
        let (faults, _) = self.cloud.get().unwrap();
        faults.list().into_iter().map(|report| (report.id.to_string(), report.fired)).collect()
    }

    /// How often one rule has fired, its preset's name left out.
    pub(crate) fn fires(&self, rule: &str) -> u64 {
        let fired = self.fired();
        let one = fired.iter().find(|(id, _)| id.split_once('.').is_some_and(|(_, id)| id == rule));
        *one.unwrap_or_else(|| panic!("there is no rule {rule}: {fired:?}")).1
    }
}

/// A failed attempt: when, the number of the retry that follows, after how long, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) at: Duration,
    pub(crate) retry: u32,
    pub(crate) delay: Duration,
    pub(crate) cause: Cause,
}

/// What happens to a client.
pub(crate) struct Life(LifecycleEvents);

/// What happens to a daemon.
pub(crate) struct ServerLife(ServerEvents);

impl Life {
    /// All that happens up to what is waited for, and with it.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Lifecycle) -> bool) -> Vec<Lifecycle> {
        let mut all = Vec::new();
        loop {
            let event = self.0.next().await.unwrap_or_else(|| panic!("the client has ended: {all:?}"));
            assert!(!matches!(event, Lifecycle::Missed(_)), "{event:?}");
            all.push(event);
            if all.last().is_some_and(&wanted) {
                return all;
            }
        }
    }

    /// The attempts that fail before a session stands.
    pub(crate) async fn connects(&mut self) -> Vec<Failed> {
        let mut failed = Vec::new();
        loop {
            match self.0.next().await {
                Some(Lifecycle::Connected { .. }) => return failed,
                Some(Lifecycle::Retrying { retry, delay, cause }) => {
                    failed.push(Failed { at: turmoil::elapsed(), retry, delay, cause });
                }
                Some(Lifecycle::Closed(reason)) => panic!("closed: {reason}; before: {failed:?}"),
                Some(_) => {}
                None => panic!("the client has ended; before: {failed:?}"),
            }
        }
    }
}

impl ServerLife {
    /// All that happens up to what is waited for, and with it.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&ServerEvent) -> bool) -> Vec<ServerEvent> {
        let mut all = Vec::new();
        loop {
            let event = self.0.next().await.unwrap_or_else(|| panic!("the daemon has ended: {all:?}"));
            assert!(!matches!(event, ServerEvent::Missed(_)), "{event:?}");
            all.push(event);
            if all.last().is_some_and(&wanted) {
                return all;
            }
        }
    }

    /// The session that opens next.
    pub(crate) async fn opened(&mut self) -> SessionId {
        match self.until(|event| matches!(event, ServerEvent::Opened(_))).await.pop() {
            Some(ServerEvent::Opened(session)) => session,
            other => panic!("{other:?}"),
        }
    }

    /// The attempts that fail before the daemon is online.
    pub(crate) async fn connects(&mut self) -> Vec<Failed> {
        let mut failed = Vec::new();
        loop {
            match self.0.next().await {
                Some(ServerEvent::Online) => return failed,
                Some(ServerEvent::Retrying { retry, delay, cause }) => {
                    failed.push(Failed { at: turmoil::elapsed(), retry, delay, cause });
                }
                Some(ServerEvent::Ended(cause)) => panic!("ended: {cause}; before: {failed:?}"),
                Some(_) => {}
                None => panic!("the daemon has ended; before: {failed:?}"),
            }
        }
    }
}

/// Checks the delays of failed attempts in a row: as CLI-04 has them for a client, and each at least as long as it was
/// told to be (CLI-06). The next attempt does not fail before its delay is over.
pub(crate) fn client_backs_off(failed: &[Failed]) {
    for (n, one) in (0..).zip(failed) {
        assert_eq!(one.retry, n, "{failed:?}");
        let told = one.cause.retry_after().unwrap_or_default();
        let plain = Duration::from_secs(1 << n);
        let range = plain.mul_f64(0.8).max(told)..=plain.mul_f64(1.2).max(told.mul_f64(1.2));
        assert!(range.contains(&one.delay), "{one:?} is not in {range:?}");
    }
    attempts_wait(failed);
}

/// As [`client_backs_off`], with the delays of a daemon (DMN-04).
pub(crate) fn daemon_backs_off(failed: &[Failed]) {
    for (n, one) in (0..).zip(failed) {
        assert_eq!(one.retry, n, "{failed:?}");
        let told = one.cause.retry_after().unwrap_or_default();
        let plain = Duration::from_secs(1 << n);
        let spread = Duration::from_millis(500);
        let range = plain.max(told)..=plain.max(told) + spread;
        assert!(range.contains(&one.delay), "{one:?} is not in {range:?}");
    }
    attempts_wait(failed);
}

fn attempts_wait(failed: &[Failed]) {
    for pair in failed.windows(2) {
        let passed = pair[1].at - pair[0].at;
        assert!(passed + Duration::from_millis(10) >= pair[0].delay, "{pair:?}");
    }
}

/// Proves that a session stands: a call there and back.
pub(crate) async fn echoes(client: &Client) {
    let sent = serde_json::json!({ "still": "there" });
    assert_eq!(client.call::<_, serde_json::Value>("echo", sent.clone()).await.unwrap(), sent);
}

/// Everybody says goodbye, and the cloud hears it.
pub(crate) async fn goodbye(server: Server, clients: impl IntoIterator<Item = Client>) {
    for client in clients {
        client.close().await;
    }
    server.close().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}
