//! The endpoints of a run: daemons of several users, clients that call them again and again, and who cuts their lines meanwhile.

use std::{
    collections::BTreeMap,
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
use sideband_env::{EntropySource as _, Env, SeededEntropy, real::Roots};
use sideband_protocol::{Entropy, entropy::next_below};
use sideband_sim_kit::admin::{
    AdminClient, RestartRelay,
    accounts::{NewDaemon, NewUser},
};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    place::Place,
    run::{PATIENCE, Report, Settings},
};

/// How long a call may take, which one does whose frames went down with a socket.
const CALL: Duration = Duration::from_secs(4);

/// Counters that all clients share.
#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    failed: Mutex<BTreeMap<String, u64>>,
    wrong_answers: AtomicU64,
}

/// The endpoints, and what they are reached by.
pub(crate) struct Crowd {
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
    /// Daemons, and clients of their owners and of whom they are shared with. No two clients have one access token: whoever shares one
    /// is seldom judged, since nobody can tell which of them was told to wait (CLI-06).
    pub(crate) async fn start(settings: &Settings, place: &Place) -> Self {
        let env = Env::real(&Roots::System).unwrap();
        let admin = place.admin();
        let mut owners = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..settings.daemons {
            let owner = admin.create_user(&NewUser::default()).await.unwrap();
            let daemon = NewDaemon { owner: owner.user_id.clone(), ..NewDaemon::default() };
            let made = admin.create_daemon(&daemon).await.unwrap();
            owners.push(owner);
            let daemon = Daemon::new(&place.api_url, &place.relay_url, made.api_key).unwrap();
            let echo = |params: Value, _: Context| async move { Ok::<_, HandlerError>(params) };
            let daemon = daemon.daemon_id(made.daemon_id).env(env.clone()).retry(daemon_retry());
            servers.push(daemon.handle("echo", echo).unwrap().start().unwrap());
        }
        let online = join_all(servers.iter().map(Server::when_online));
        tokio::time::timeout(PATIENCE, online).await.unwrap().into_iter().for_each(Result::unwrap);
        let mut clients = Vec::new();
        for n in 0..settings.clients {
            let daemon_id = servers[n % settings.daemons].daemon_id();
            let user = match owners.get(n) {
                Some(owner) => owner.clone(),
                None => {
                    let user = admin.create_user(&NewUser::default()).await.unwrap();
                    admin.grant(&user.user_id, &daemon_id).await.unwrap();
                    user
                }
            };
            let account = Account::with_token(&place.api_url, daemon_id, user.access_token);
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
    pub(crate) async fn all_active(&self, wrong: &mut Vec<String>) {
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

    /// Calls and faults, for as long as it was asked for; calls go on after the last fault.
    pub(crate) async fn disturb(&self, settings: &Settings, place: &Place, report: &mut Report) -> Calls {
        let seeds = SeededEntropy::new(settings.seed, "soak");
        let calls = self.call(settings, &seeds);
        if let Some(plan) = &settings.plan {
            self.admin.set_faults(plan).await.unwrap();
        }
        let cuts = self.cut_and_restart(settings, place, seeds.entropy(), report);
        // It ends with the time.
        let _ = tokio::time::timeout(settings.time, cuts).await;
        let listed = self.admin.faults().await.unwrap();
        self.admin.clear_faults().await.unwrap();
        for fault in listed.faults {
            let name = fault.rule.id.as_ref().map(ToString::to_string);
            report.faults.insert(name.unwrap_or_default(), fault.fired);
        }
        calls
    }

    /// Ends the calls, and counts what came of them.
    pub(crate) async fn end_calls(&self, calls: Calls, report: &mut Report) {
        calls.end(report).await;
        report.calls = self.counts.calls.load(Ordering::Relaxed);
        report.failed = self.counts.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.counts.wrong_answers.load(Ordering::Relaxed) {
            0 => {}
            n => report.wrong.push(format!("{n} calls had another call's answer")),
        }
    }

    /// Calls for as long as a future takes, and lets go of those that are under way then.
    pub(crate) async fn call_during(&self, settings: &Settings, until: impl Future<Output = ()>) {
        let calls = self.call(settings, &SeededEntropy::new(settings.seed, "soak"));
        until.await;
        calls.callers.iter().for_each(JoinHandle::abort);
    }

    /// Every client calls again and again from now on.
    fn call(&self, settings: &Settings, seeds: &SeededEntropy) -> Calls {
        let (stop, stopped) = watch::channel(false);
        let mut callers = Vec::new();
        for client in &self.clients {
            let caller = Caller { client: client.clone(), counts: self.counts.clone(), pause: settings.pause };
            callers.push(tokio::spawn(caller.call_on(seeds.entropy(), stopped.clone())));
        }
        Calls { stop, callers }
    }

    /// Cuts sockets and restarts the relay by the admin API, without end.
    async fn cut_and_restart(
        &self,
        settings: &Settings,
        place: &Place,
        mut entropy: Box<dyn Entropy>,
        report: &mut Report,
    ) {
        let mut below = move |bound: usize| next_below(entropy.as_mut(), bound as u64) as usize;
        for number in 0.. {
            tokio::time::sleep(settings.between * below(2_000) as u32 / 1_000).await;
            place.look();
            if number % settings.restart_every == settings.restart_every / 2 {
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
    pub(crate) async fn close(self, report: &mut Report) {
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

/// Calls that go on until they are told to end.
pub(crate) struct Calls {
    stop: watch::Sender<bool>,
    callers: Vec<JoinHandle<()>>,
}

impl Calls {
    async fn end(self, report: &mut Report) {
        self.stop.send_replace(true);
        for caller in self.callers {
            if !matches!(tokio::time::timeout(PATIENCE, caller).await, Ok(Ok(()))) {
                report.wrong.push("a call does not end".to_owned());
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
