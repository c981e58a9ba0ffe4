//! Many daemons and clients of the SDK on one cloud whose API, sockets and relay fail again and again; afterwards all of them have to
//! be active, and then nothing may be left of them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sideband::{
    Account, Client, Context, Daemon, DaemonRetryPolicy, HandlerError, RetryMode, RetryPolicy, RpcPolicy, Server, State,
};
use sideband_env::{EntropySource as _, Env, SeededEntropy, Timeline, real::Roots};
use sideband_protocol::{Entropy, entropy::next_below};
use sideband_scenarios::cloud::{Cloud, CloudOptions};
use sideband_sim_kit::{
    admin::{
        AdminClient, RestartRelay,
        accounts::{NewDaemon, NewUser},
    },
    fault::FaultPlan,
    limits::RelayLimits,
};
use tokio::sync::watch;

use super::trace::Trace;

/// How long anything may take that has to come: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a session waits for its daemon.
const GRACE: Duration = Duration::from_secs(5);
/// How long a call may take, which one does whose frames went down with a socket.
const CALL: Duration = Duration::from_secs(4);
/// Of so many disturbances one is a restart of the relay.
const RESTART_EVERY: usize = 40;
/// Users that own the daemons and share them.
const USERS: usize = 5;
/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) daemons: usize,
    pub(crate) clients: usize,
    /// How long faults go on.
    pub(crate) time: Duration,
    pub(crate) plan: FaultPlan,
    /// Mean time between two cuts or restarts at the relay.
    pub(crate) between: Duration,
    /// The longest pause of a client between two calls.
    pub(crate) pause: Duration,
    /// Bytes that are allocated now.
    pub(crate) allocated: fn() -> usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) took: Duration,
    pub(crate) calls: u64,
    /// Calls that failed while there were faults, by code.
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) cut_daemons: u64,
    pub(crate) cut_clients: u64,
    pub(crate) restarts: u64,
    /// How often each rule of the plan fired.
    pub(crate) faults: BTreeMap<String, u64>,
    /// What the relay told, counted.
    pub(crate) counts: BTreeMap<String, u64>,
    /// How long after the last fault all were active again.
    pub(crate) recovered: Duration,
    /// Tasks of the runtime: with all active, after they have closed beyond the idle cloud's, and after the cloud beyond the start's.
    pub(crate) tasks: [usize; 3],
    /// Bytes allocated beyond the start: with all active, after they have closed, after the cloud.
    pub(crate) bytes: [i64; 3],
    /// Everything that must not be.
    pub(crate) wrong: Vec<String>,
}

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let secs = |time: Duration| time.as_secs_f64();
        let _ = writeln!(text, "{:.1} s, {} calls, failed {:?}", secs(self.took), self.calls, self.failed);
        let Self { cut_daemons, cut_clients, restarts, .. } = self;
        let _ =
            writeln!(text, "cut {cut_daemons} daemons and {cut_clients} clients, restarted the relay {restarts} times");
        let _ = writeln!(text, "faults {:?}", self.faults);
        let _ = writeln!(text, "told {:?}", self.counts);
        let _ = writeln!(text, "all active {:.2} s after the last fault", secs(self.recovered));
        let _ = writeln!(text, "tasks {:?}, KiB {:?}", self.tasks, self.bytes.map(|bytes| bytes / 1_024));
        let _ = writeln!(text, "(with all active, after they have closed, after the cloud; beyond the start)");
        for wrong in &self.wrong {
            let _ = writeln!(text, "wrong: {wrong}");
        }
        text
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn beyond(allocated: usize, start: usize) -> i64 {
    allocated as i64 - start as i64
}

/// Asks again and again until it is so; false if it never is.
async fn becomes(mut is_so: impl FnMut() -> bool) -> bool {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.is_ok()
}

/// Counters that all clients share.
#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    failed: Mutex<BTreeMap<String, u64>>,
    wrong_answers: AtomicU64,
}

/// Runs it all.
pub(crate) async fn run(settings: &Settings) -> Report {
    let timeline = Timeline::start();
    let (tasks_at_start, bytes_at_start) = (tasks(), (settings.allocated)());
    let mut report = Report::default();
    let trace = Arc::new(Mutex::new(Trace::default()));
    let cloud = start_cloud(&trace).await;
    let tasks_of_cloud = tasks();

    let crowd = Crowd::start(settings, &cloud).await;
    crowd.all_active(&mut report.wrong).await;
    crowd.disturb(settings, &cloud, &mut report).await;
    let calm = timeline.elapsed();
    crowd.all_active(&mut report.wrong).await;
    report.recovered = timeline.elapsed() - calm;
    report.tasks[0] = tasks() - tasks_at_start;
    report.bytes[0] = beyond((settings.allocated)(), bytes_at_start);

    crowd.close(&mut report).await;
    let seen = cloud.relay().clone();
    let no_connection = becomes(|| seen.open_connections() == 0 && seen.status().daemons.is_empty()).await;
    drop(seen);
    let no_task = becomes(|| tasks() <= tasks_of_cloud).await;
    report.tasks[1] = tasks().saturating_sub(tasks_of_cloud);
    if !no_connection || !no_task {
        report.wrong.push(format!("after all have closed: {} tasks, {:?}", report.tasks[1], cloud.relay().status()));
    }
    judge(&cloud, &trace, &mut report);
    report.bytes[1] = beyond((settings.allocated)(), bytes_at_start);

    cloud.shutdown().await;
    drop(trace);
    if !becomes(|| tasks() <= tasks_at_start).await {
        report.wrong.push("tasks are left of the cloud".to_owned());
    }
    report.tasks[2] = tasks().saturating_sub(tasks_at_start);
    report.bytes[2] = beyond((settings.allocated)(), bytes_at_start);
    report.took = timeline.elapsed();
    report
}

async fn start_cloud(trace: &Arc<Mutex<Trace>>) -> Cloud {
    let options = CloudOptions {
        limits: RelayLimits { grace: GRACE, ..RelayLimits::default() },
        trace_frames: true,
        ..CloudOptions::default()
    };
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let env = Env::real(&Roots::System).unwrap();
    let cloud = Cloud::start(env, anywhere, options).await.unwrap();
    let heard = trace.clone();
    cloud.events().tap(move |event| heard.lock().unwrap_or_else(PoisonError::into_inner).observe(event));
    cloud
}

fn judge(cloud: &Cloud, trace: &Mutex<Trace>, report: &mut Report) {
    let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
    report.wrong.extend(trace.contradictions());
    report.counts = std::mem::take(&mut *trace).counts;
    for grade in cloud.events().grades().counts {
        report.wrong.push(format!("graded: {grade:?}"));
    }
}

/// The endpoints, and what they are reached by.
struct Crowd {
    admin: AdminClient,
    servers: Vec<Server>,
    clients: Vec<Client>,
    counts: Arc<Counts>,
}

/// Retries without end, and without long delays.
fn retry() -> RetryPolicy {
    RetryPolicy {
        mode: RetryMode::OnError,
        initial: Duration::from_millis(100),
        max: Duration::from_secs(2),
        jitter: 0.2,
        max_retries: 0,
    }
}

fn daemon_retry() -> DaemonRetryPolicy {
    DaemonRetryPolicy {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(2),
        spread: Duration::from_millis(100),
        clean: Duration::from_millis(100),
        ..DaemonRetryPolicy::default()
    }
}

impl Crowd {
    /// Daemons of several users, and clients of their owners and of whom they are shared with.
    async fn start(settings: &Settings, cloud: &Cloud) -> Self {
        let env = Env::real(&Roots::System).unwrap();
        let admin = AdminClient::new(env.clone(), cloud.admin_url().parse().unwrap(), None);
        let mut users = Vec::new();
        for _ in 0..USERS {
            users.push(admin.create_user(&NewUser::default()).await.unwrap());
        }
        let mut servers = Vec::new();
        for n in 0..settings.daemons {
            let (owner, other) = (&users[n % USERS], &users[(n + 1) % USERS]);
            let daemon = NewDaemon { owner: owner.user_id.clone(), ..NewDaemon::default() };
            let made = admin.create_daemon(&daemon).await.unwrap();
            admin.grant(&other.user_id, &made.daemon_id).await.unwrap();
            let daemon = Daemon::new(cloud.api_url(), &cloud.relay_url(), made.api_key).unwrap();
            let echo = |params: Value, _: Context| async move { Ok::<_, HandlerError>(params) };
            let daemon = daemon.daemon_id(made.daemon_id).env(env.clone()).retry(daemon_retry());
            servers.push(daemon.handle("echo", echo).unwrap().start().unwrap());
        }
        let online = join_all(servers.iter().map(Server::when_online));
        tokio::time::timeout(PATIENCE, online).await.unwrap().into_iter().for_each(Result::unwrap);
        let mut clients = Vec::new();
        for n in 0..settings.clients {
            let at = n % settings.daemons;
            let user = &users[(at + n / settings.daemons % 2) % USERS];
            let account = Account::with_token(cloud.api_url(), servers[at].daemon_id(), user.access_token.clone());
            clients.push(
                account
                    .unwrap()
                    .env(env.clone())
                    .retry(retry())
                    .rpc(RpcPolicy { timeout: CALL, total: None })
                    .connect()
                    .unwrap(),
            );
        }
        Self { admin, servers, clients, counts: Arc::default() }
    }

    /// Waits until every daemon is online and every client active with a call that is answered.
    async fn all_active(&self, wrong: &mut Vec<String>) {
        let answered = |client: &Client| {
            let client = client.clone();
            async move {
                loop {
                    let _ = client.state().wait_for(|state| matches!(state, State::Active | State::Closed)).await;
                    let answer: Result<Value, _> = client.call("echo", json!("all well?")).await;
                    // Over for good, or the call went down with a session whose end nobody knew yet.
                    let is_closed = *client.state().borrow() == State::Closed;
                    match answer {
                        Ok(answer) => return assert_eq!(answer, "all well?"),
                        Err(_) if is_closed => return std::future::pending().await,
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
        };
        let online = join_all(self.servers.iter().map(|server| tokio::time::timeout(PATIENCE, server.when_online())));
        let active = join_all(self.clients.iter().map(|client| tokio::time::timeout(PATIENCE, answered(client))));
        let (online, active) = tokio::join!(online, active);
        for (n, _) in online.iter().enumerate().filter(|(_, outcome)| !matches!(outcome, Ok(Ok(())))) {
            wrong.push(format!("daemon {n} does not come online: {:?}", online[n]));
        }
        for (n, _) in active.iter().enumerate().filter(|(_, outcome)| outcome.is_err()) {
            let state = *self.clients[n].state().borrow();
            let why = self.clients[n].when_ready();
            let why = tokio::time::timeout(Duration::ZERO, why).await;
            wrong.push(format!("client {n} does not get active: {state:?}, {why:?}"));
        }
    }

    /// Calls and faults, for as long as it was asked for.
    async fn disturb(&self, settings: &Settings, cloud: &Cloud, report: &mut Report) {
        let seeds = SeededEntropy::new(settings.seed, "soak");
        let (stop, stopped) = watch::channel(false);
        let mut callers = Vec::new();
        for client in &self.clients {
            let caller = Caller { client: client.clone(), counts: self.counts.clone(), pause: settings.pause };
            callers.push(tokio::spawn(caller.call_on(seeds.entropy(), stopped.clone())));
        }
        cloud.faults().set(settings.plan.clone()).unwrap();
        let cuts = self.cut_and_restart(settings, seeds.entropy(), report);
        // It ends with the time.
        let _ = tokio::time::timeout(settings.time, cuts).await;
        for rule in cloud.faults().list() {
            report.faults.insert(rule.id.to_string(), rule.fired);
        }
        cloud.faults().clear().unwrap();
        stop.send_replace(true);
        for caller in callers {
            if !matches!(tokio::time::timeout(PATIENCE, caller).await, Ok(Ok(()))) {
                report.wrong.push("a call does not end".to_owned());
            }
        }
        report.calls = self.counts.calls.load(Ordering::Relaxed);
        report.failed = self.counts.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.counts.wrong_answers.load(Ordering::Relaxed) {
            0 => {}
            n => report.wrong.push(format!("{n} calls had another call's answer")),
        }
    }

    /// Cuts sockets and restarts the relay by the admin API, without end.
    async fn cut_and_restart(&self, settings: &Settings, mut entropy: Box<dyn Entropy>, report: &mut Report) {
        let mut below = move |bound: usize| next_below(entropy.as_mut(), bound as u64) as usize;
        for number in 0.. {
            tokio::time::sleep(settings.between * below(2_000) as u32 / 1_000).await;
            if number % RESTART_EVERY == RESTART_EVERY / 2 {
                let down = Duration::from_millis(below(1_500) as u64);
                // Refused while it restarts.
                report.restarts += u64::from(self.admin.restart_relay(RestartRelay { down }).await.is_ok());
            } else if below(2) == 0 {
                let daemon = self.servers[below(self.servers.len())].daemon_id();
                report.cut_daemons += u64::from(self.admin.drop_daemon(&daemon).await.unwrap_or(false));
            } else {
                let Ok(status) = self.admin.status().await else { continue };
                let sessions: Vec<_> = status.daemons.iter().flat_map(|daemon| &daemon.sessions).collect();
                if sessions.is_empty() {
                    continue;
                }
                let session = sessions[below(sessions.len())].session_id;
                report.cut_clients += u64::from(self.admin.drop_session(session).await.unwrap_or(false));
            }
        }
    }

    /// Says goodbye with everybody, and lets go of them.
    async fn close(self, report: &mut Report) {
        let clients = async { drop(join_all(self.clients.iter().map(Client::close)).await) };
        let servers = async { drop(join_all(self.servers.iter().map(Server::close)).await) };
        for (who, closed) in [
            ("the clients", tokio::time::timeout(PATIENCE, clients).await),
            ("the daemons", tokio::time::timeout(PATIENCE, servers).await),
        ] {
            if closed.is_err() {
                report.wrong.push(format!("{who} do not close"));
            }
        }
    }
}

/// Who calls a daemon again and again.
struct Caller {
    client: Client,
    counts: Arc<Counts>,
    pause: Duration,
}

impl Caller {
    async fn call_on(self, mut entropy: Box<dyn Entropy>, stopped: watch::Receiver<bool>) {
        let mut below = move |bound: u64| next_below(entropy.as_mut(), bound);
        for number in 0u64.. {
            if *stopped.borrow() {
                return;
            }
            // Most are small; some come near to the largest that a frame can carry.
            let length = if below(20) == 0 { below(40_000) } else { below(200) };
            let sent = json!({ "number": number, "text": "x".repeat(length as usize) });
            match self.client.call::<_, Value>("echo", sent.clone()).await {
                Ok(answer) => {
                    self.counts.calls.fetch_add(1, Ordering::Relaxed);
                    self.counts.wrong_answers.fetch_add(u64::from(answer != sent), Ordering::Relaxed);
                }
                Err(error) => {
                    let mut failed = self.counts.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    *failed.entry(error.code().unwrap_or("no code").to_owned()).or_default() += 1;
                }
            }
            tokio::time::sleep(self.pause * below(1_000) as u32 / 1_000).await;
        }
    }
}
