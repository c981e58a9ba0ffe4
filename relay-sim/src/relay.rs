//! The relay: its hubs, its connections, and what can be asked of it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sideband_env::{BoxFuture, Env, Timeline};
use sideband_protocol::{
    SessionId,
    relay::{ConnId, Counters, DaemonHub, DropReason, Registry, RelayQuirk, SessionConflict, SessionView},
};
use sideband_sim_kit::{
    admin::{AdminRoutes, DaemonStatus, RelayStatus, SessionStatus},
    event::{EventKind, EventSink},
    fault::FaultEngine,
    limits::{LimitsError, RelayLimits, RelayLimitsPatch},
    presence::{Presence, PresenceError},
};
use tokio::sync::{Notify, watch};

use crate::{
    admin,
    config::RelayConfig,
    connection::{Connection, Ended},
    faults::Watching,
    hub::{Common, Hub, HubView},
    keys::Keys,
    limits::LiveLimits,
    outbox::{End, Outbox},
    upgrade::{self, Refused},
};

/// How long the HTTP server may take to hand over a connection that was let in.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);

/// How long connections may take to answer the close of a reset.
const RESET_DEADLINE: Duration = Duration::from_secs(1);

/// How long connections that were cut at the end of a shutdown may take to be gone.
const CUT_DEADLINE: Duration = Duration::from_millis(250);

/// Whether connections are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Serving {
    #[default]
    Yes,
    /// Not until the restart is over.
    Restarts,
    /// Not until the reset is over.
    Resets,
    /// Never again.
    Stopped,
}

#[derive(Default)]
struct Hubs {
    by_daemon: BTreeMap<String, Arc<Hub>>,
    serving: Serving,
    /// What hubs counted that are forgotten.
    past: Counters,
}

impl Hubs {
    /// Forgets a hub, but not what it counted.
    fn forget(&mut self, daemon_id: &str) {
        if let Some(hub) = self.by_daemon.remove(daemon_id) {
            self.past = self.past.plus(hub.view().counters);
        }
    }
}

/// The connections whose tasks run.
#[derive(Default)]
struct Live {
    outboxes: Mutex<BTreeMap<ConnId, Arc<Outbox>>>,
    one_gone: Notify,
}

struct Inner {
    env: Env,
    config: RelayConfig,
    common: Arc<Common>,
    keys: Arc<Keys>,
    limits: Arc<LiveLimits>,
    /// Taken for upgrades and questions, never for frames; before a hub's own lock.
    hubs: Mutex<Hubs>,
    live: Live,
    connections: AtomicU64,
    /// How many of the connections there were before the last reset: their numbers go on.
    connections_before: AtomicU64,
    /// Changes with each reset, which ends a restart that is under way.
    resets: watch::Sender<()>,
    /// Held during a reset, so that there is one at a time.
    resetting: tokio::sync::Mutex<()>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Inner {
    /// Lets every connection look around.
    fn wake_all(&self) {
        let open: Vec<Arc<Outbox>> = lock(&self.live.outboxes).values().cloned().collect();
        for outbox in open {
            outbox.wake();
        }
    }
}

/// Tells connections that the faults in force have changed, for as long as there are a relay and an engine.
async fn wake_at_changes(relay: Weak<Inner>, mut changes: watch::Receiver<()>) {
    while changes.changed().await.is_ok() {
        match relay.upgrade() {
            Some(relay) => relay.wake_all(),
            None => return,
        }
    }
}

/// A relay. Cheap to clone; all clones are the same relay. Everything here wants the tokio runtime that the relay was made
/// in.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// A relay without connections. `env` gives the wall clock for tokens and HTTP for the key set; what happens is told
    /// to `events`.
    pub fn new(env: Env, config: RelayConfig, events: EventSink) -> Self {
        let faults = config.faults.clone().unwrap_or_else(|| FaultEngine::new(Timeline::start()));
        let timeline = faults.timeline();
        let keys = Keys::new(&config, env.clone(), timeline, events.clone());
        let registry = Registry::new().danger_quirks(config.danger_quirks);
        let registry = config.used_sessions.restore(registry, timeline.now(), env.clock.unix_seconds());
        let registry = Mutex::new(registry);
        let changes = faults.changes();
        let common = Arc::new(Common { timeline, events, registry, trace_frames: config.trace_frames, faults });
        let limits = LiveLimits::new(config.limits, config.danger_quirks);
        let relay = Self(Arc::new(Inner {
            env,
            config,
            common,
            keys,
            limits,
            hubs: Mutex::default(),
            live: Live::default(),
            connections: AtomicU64::new(0),
            connections_before: AtomicU64::new(0),
            resets: watch::Sender::new(()),
            resetting: tokio::sync::Mutex::new(()),
            refused: Mutex::default(),
        }));
        tokio::spawn(wake_at_changes(Arc::downgrade(&relay.0), changes));
        relay
    }

    /// Serves WebSocket upgrades on any path, and refuses all other requests.
    pub fn router(&self) -> Router {
        Router::new().fallback(upgrade::handle).with_state(self.clone())
    }

    /// The relay's part of the admin API, to be nested under [`ADMIN_PATH`](sideband_sim_kit::admin::ADMIN_PATH) and
    /// guarded there.
    ///
    /// | route | answer |
    /// |---|---|
    /// | `GET status` | [`RelayStatus`] |
    /// | `GET daemons` | a list of [`DaemonStatus`] |
    /// | `GET daemons/{id}` | [`DaemonStatus`]; 404 for one that the relay does not know |
    /// | `POST daemons/{id}/drop` | cuts the daemon's socket: `{"dropped":true}`; 404 if there is none |
    /// | `POST sessions/{id}/drop` | cuts the socket of the session's client: the same |
    /// | `GET limits` | [`RelayLimits`] |
    /// | `PATCH limits` | takes a [`RelayLimitsPatch`], answers [`RelayLimits`]; 400 if they make no sense |
    /// | `POST restart` | takes [`RestartRelay`](sideband_sim_kit::admin::RestartRelay), answers at once; 409 while the relay restarts or stops |
    pub fn admin_router(&self) -> Router {
        self.admin_routes().into()
    }

    /// [`admin_router`](Self::admin_router), with its description.
    pub fn admin_routes(&self) -> AdminRoutes {
        admin::routes(self.clone())
    }

    /// What the relay sees.
    pub fn status(&self) -> RelayStatus {
        let (hubs, mut counted): (Vec<_>, _) = {
            let hubs = lock(&self.0.hubs);
            (hubs.by_daemon.values().cloned().collect(), hubs.past)
        };
        let mut daemons = Vec::new();
        for hub in hubs {
            let view = hub.view();
            counted = counted.plus(view.counters);
            if view.online || !view.sessions.is_empty() {
                daemons.push(daemon_status(&hub.daemon_id, &view));
            }
        }
        let mut counters = BTreeMap::from([
            ("forwarded_frames".to_owned(), counted.forwarded_frames),
            ("forwarded_bytes".to_owned(), counted.forwarded_bytes),
        ]);
        for reason in DropReason::ALL {
            counters.insert(format!("dropped_{}", reason.name()), counted.dropped(reason));
        }
        for (code, n) in lock(&self.0.refused).iter() {
            counters.insert(format!("refused_{code}"), *n);
        }
        let before = self.0.connections_before.load(Ordering::Relaxed);
        counters.insert("connections".to_owned(), self.0.connections.load(Ordering::Relaxed).saturating_sub(before));
        RelayStatus { daemons, counters, grades: self.0.common.events.grades().counts }
    }

    /// Counts refused upgrades from zero on: for who has tried out whether this relay answers.
    pub fn forget_refusals(&self) {
        lock(&self.0.refused).clear();
    }

    /// What the relay sees of one daemon; `None` if it does not know it.
    pub fn daemon(&self, daemon_id: &str) -> Option<DaemonStatus> {
        self.hub(daemon_id).map(|hub| daemon_status(daemon_id, &hub.view()))
    }

    /// Connections whose sockets are there, those that are being closed included.
    pub fn open_connections(&self) -> usize {
        lock(&self.0.live.outboxes).len()
    }

    /// Cuts a daemon's socket as it is, without a close frame, as if its line broke: its sessions are paused when this
    /// returns. Whether there was one.
    pub fn drop_daemon(&self, daemon_id: &str) -> bool {
        self.hub(daemon_id).is_some_and(|hub| hub.cut_daemon())
    }

    /// Cuts the socket of a session's client as it is, without a close frame: its session has ended when this returns.
    /// Whether there was one.
    pub fn drop_session(&self, session: SessionId) -> bool {
        self.hubs().iter().any(|hub| hub.cut_client(session))
    }

    /// Closes every WebSocket with 1012, refuses new ones with 503, and returns when all are gone, at the latest after
    /// [`RelayConfig::shutdown_deadline`], when the rest is cut (REL-24). A second call waits as well.
    pub async fn shutdown(&self) {
        lock(&self.0.hubs).serving = Serving::Stopped;
        self.close_all(self.0.config.shutdown_deadline).await;
    }

    /// Brings the relay to the state after its start: every WebSocket is closed with 1012, those that do not answer within a
    /// second are cut, and then daemons, sessions, counters, cached keys and changed limits are forgotten. A restart that is under
    /// way ends. The session ids that were used stay so, so that no token is good twice (REL-10). ◇
    ///
    /// `finish` is called last, before anybody is let in again. Returns whether it was reset: not once it shuts down. To drop the
    /// future leaves the relay serving, with its limits and counters as they were.
    pub async fn reset(&self, finish: impl FnOnce()) -> bool {
        let _one = self.0.resetting.lock().await;
        {
            let mut hubs = lock(&self.0.hubs);
            if hubs.serving == Serving::Stopped {
                return false;
            }
            hubs.serving = Serving::Resets;
        }
        let away = Away { relay: self, why: Serving::Resets };
        self.0.resets.send_replace(());
        self.close_all(RESET_DEADLINE.min(self.0.config.shutdown_deadline)).await;
        {
            let mut hubs = lock(&self.0.hubs);
            hubs.by_daemon.clear();
            hubs.past = Counters::default();
        }
        lock(&self.0.refused).clear();
        self.0.connections_before.store(self.0.connections.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.keys.forget();
        let first = self.0.config.limits;
        let back: Result<_, Infallible> = self.0.limits.change(|_| Ok(first));
        let Ok(_) = back;
        finish();
        drop(away);
        true
    }

    /// Restarts the relay as if its process had ended and come back after `down`: every WebSocket is closed with 1012 as
    /// by [`shutdown`](Self::shutdown), new ones are refused with 503, and then it serves again. It has forgotten its
    /// daemons and sessions, paused ones too, and which ended (WIRE-17). It keeps its limits, its counters and its cached keys, and
    /// the session ids that were used, so that no token is good twice (REL-10). ◇
    ///
    /// Returns whether it was restarted: not while another restart or a shutdown is under way. To drop the future ends the
    /// restart early.
    pub async fn restart(&self, down: Duration) -> bool {
        let mut reset = self.0.resets.subscribe();
        {
            let mut hubs = lock(&self.0.hubs);
            if hubs.serving != Serving::Yes {
                return false;
            }
            hubs.serving = Serving::Restarts;
        }
        let restart = Away { relay: self, why: Serving::Restarts };
        let begin = self.0.common.timeline.now();
        let away = async {
            self.close_all(self.0.config.shutdown_deadline).await;
            self.0.common.timeline.sleep_until(Some(begin + down)).await;
        };
        tokio::select! {
            biased;
            // An error would mean that the relay is gone, which this borrows.
            _ = reset.changed() => {}
            () = away => {}
        }
        drop(restart);
        true
    }

    async fn close_all(&self, deadline: Duration) {
        for hub in self.hubs() {
            hub.shutdown();
        }
        if tokio::time::timeout(deadline, self.all_gone()).await.is_err() {
            let rest: Vec<Arc<Outbox>> = lock(&self.0.live.outboxes).values().cloned().collect();
            tracing::debug!(connections = rest.len(), "cutting connections that do not close");
            for outbox in rest {
                outbox.end(End::Cut);
                outbox.wake();
            }
            // They have nothing to wait for any more.
            let _ = tokio::time::timeout(CUT_DEADLINE, self.all_gone()).await;
        }
    }

    /// The limits that hold now.
    pub fn limits(&self) -> RelayLimits {
        self.0.limits.get()
    }

    /// Changes limits; every connection sees the new ones at once. Sessions over a lower limit stay, a grace that runs keeps its
    /// end, and a client that has more unsent bytes than it may have now is closed when the next frame comes for it.
    ///
    /// # Errors
    /// The result would make no sense; nothing is changed.
    pub fn set_limits(&self, patch: &RelayLimitsPatch) -> Result<RelayLimits, LimitsError> {
        let limits = self.0.limits.change(|limits| limits.patched(patch))?;
        // A hub that opens meanwhile has them already.
        for hub in self.hubs() {
            hub.set_config(self.0.limits.hub(self.0.config.ended_ids));
        }
        self.0.wake_all();
        self.events().emit(None, None, EventKind::LimitsChanged);
        Ok(limits)
    }

    async fn all_gone(&self) {
        loop {
            let gone = self.0.live.one_gone.notified();
            let mut gone = std::pin::pin!(gone);
            // Before looking, so that one that goes meanwhile is not missed.
            gone.as_mut().enable();
            if self.open_connections() == 0 {
                return;
            }
            gone.await;
        }
    }

    // ---- for upgrades

    pub(crate) fn config(&self) -> &RelayConfig {
        &self.0.config
    }

    /// What happens.
    pub fn events(&self) -> &EventSink {
        &self.0.common.events
    }

    /// The faults in force.
    pub fn faults(&self) -> &FaultEngine {
        &self.0.common.faults
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.0.keys
    }

    pub(crate) fn unix_seconds(&self) -> u64 {
        self.0.env.clock.unix_seconds()
    }

    /// Whether it neither restarts nor stops.
    pub(crate) fn is_serving(&self) -> bool {
        lock(&self.0.hubs).serving == Serving::Yes
    }

    pub(crate) fn shuts_down(&self) -> bool {
        !self.is_serving() && !self.opens_during_shutdown()
    }

    fn opens_during_shutdown(&self) -> bool {
        self.0.config.danger_quirks.has(RelayQuirk::OpensDuringShutdown)
    }

    pub(crate) fn live_limits(&self) -> &Arc<LiveLimits> {
        &self.0.limits
    }

    pub(crate) fn count_refused(&self, code: &'static str) {
        *lock(&self.0.refused).entry(code).or_insert(0) += 1;
    }

    /// A number that no connection had before.
    pub(crate) fn next_connection(&self) -> ConnId {
        ConnId(self.0.connections.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes a session id whose token is good for `life` (REL-10), and keeps it where ids outlive the process: before the upgrade
    /// is answered, so that nobody has seen an answer to it that the next process does not know of.
    pub(crate) fn claim(&self, session: SessionId, life: Duration) -> Result<(), Refused> {
        let now = self.0.common.timeline.now();
        let forgotten = {
            let mut registry = lock(&self.0.common.registry);
            registry.claim(session, now + life, now).map_err(|SessionConflict| Refused::SessionUsed)?;
            registry.take_forgotten()
        };
        let unix = self.unix_seconds();
        let token_dies = unix.saturating_add(life.as_secs());
        self.0.config.used_sessions.used(session, token_dies, &forgotten, unix).map_err(|error| {
            // Those that were to be crossed out are so by the next process.
            lock(&self.0.common.registry).unclaim(session);
            tracing::error!(%error, "a client is not let in");
            Refused::NotKept
        })
    }

    /// Gives an id back whose client is not let in. First where it is kept: whoever claims it next writes it down again.
    pub(crate) fn unclaim(&self, session: SessionId) {
        self.0.config.used_sessions.not_used(session);
        lock(&self.0.common.registry).unclaim(session);
    }

    /// Lets a connection in: `open` takes its place in the daemon's hub, and its task waits for the socket.
    pub(crate) fn admit(
        &self,
        daemon_id: &str,
        conn: ConnId,
        session: Option<SessionId>,
        outbox: Arc<Outbox>,
        on_upgrade: OnUpgrade,
        open: impl FnOnce(&Arc<Hub>, &Arc<Outbox>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut hubs = lock(&self.0.hubs);
        // Under the lock that a shutdown takes first: it sees this connection, or this sees it.
        if hubs.serving != Serving::Yes && !self.opens_during_shutdown() {
            return Err(Refused::ShutsDown);
        }
        let hub = match hubs.by_daemon.get(daemon_id) {
            Some(hub) => hub.clone(),
            None => {
                let hub = Hub::new(
                    daemon_id,
                    DaemonHub::new(self.0.limits.hub(self.0.config.ended_ids)),
                    self.0.common.clone(),
                );
                hubs.by_daemon.insert(daemon_id.to_owned(), hub.clone());
                hub
            }
        };
        open(&hub, &outbox)?;
        lock(&self.0.live.outboxes).insert(conn, outbox.clone());
        drop(hubs);
        tokio::spawn(run(self.clone(), conn, session, hub, outbox, on_upgrade));
        Ok(())
    }

    // ---- hubs

    fn hubs(&self) -> Vec<Arc<Hub>> {
        lock(&self.0.hubs).by_daemon.values().cloned().collect()
    }

    fn hub(&self, daemon_id: &str) -> Option<Arc<Hub>> {
        lock(&self.0.hubs).by_daemon.get(daemon_id).cloned()
    }

    /// Throws a hub away that has nothing to remember, unless somebody is about to use it.
    fn forget_idle(&self, daemon_id: &str) {
        let mut hubs = lock(&self.0.hubs);
        let idle = |hub: &Arc<Hub>| Arc::strong_count(hub) == 1 && hub.is_idle();
        if hubs.by_daemon.get(daemon_id).is_some_and(idle) {
            hubs.forget(daemon_id);
        }
    }
}

impl Presence for Relay {
    fn is_online<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        let online = self.hub(daemon_id).is_some_and(|hub| hub.is_online());
        Box::pin(std::future::ready(Ok(online)))
    }
}

fn daemon_status(daemon_id: &str, view: &HubView) -> DaemonStatus {
    let session = |view: &SessionView| SessionStatus { session_id: view.session, state: view.state.name().to_owned() };
    DaemonStatus {
        daemon_id: daemon_id.to_owned(),
        online: view.online,
        sessions: view.sessions.iter().map(session).collect(),
    }
}

/// A restart or a reset under way; over when dropped.
struct Away<'a> {
    relay: &'a Relay,
    why: Serving,
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let mut hubs = lock(&self.relay.0.hubs);
        let forgotten: Vec<String> = hubs.by_daemon.keys().cloned().collect();
        for daemon_id in forgotten {
            hubs.forget(&daemon_id);
        }
        if hubs.serving == self.why {
            hubs.serving = Serving::Yes;
        }
        drop(hubs);
        if self.why == Serving::Restarts {
            self.relay.events().emit(None, None, EventKind::Restarted);
        }
    }
}

/// A connection's place in the books, given back when its task ends, however it ends.
struct Place {
    relay: Relay,
    conn: ConnId,
    hub: Arc<Hub>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Our own fault; the sessions must not hang on it.
            self.hub.closed(self.conn);
        }
        lock(&self.relay.0.live.outboxes).remove(&self.conn);
        self.relay.0.live.one_gone.notify_waiters();
    }
}

/// A connection's task.
async fn run(
    relay: Relay,
    conn: ConnId,
    session: Option<SessionId>,
    hub: Arc<Hub>,
    outbox: Arc<Outbox>,
    on_upgrade: OnUpgrade,
) {
    let place = Place { relay: relay.clone(), conn, hub: hub.clone() };
    let upgraded = tokio::select! {
        biased;
        () = outbox.cut() => None,
        upgraded = tokio::time::timeout(UPGRADE_DEADLINE, on_upgrade) => upgraded.ok().and_then(Result::ok),
    };
    let ended = match upgraded {
        Some(upgraded) => {
            let stream = TokioIo::new(upgraded);
            let connection = Connection::new(stream, conn, hub.clone(), outbox.clone(), relay.config()).await;
            connection.with_faults(Watching::new(&relay, &hub, &outbox, session)).run().await
        }
        None => {
            hub.closed(conn);
            Ended::CUT
        }
    };
    hub.ended(conn, session, ended);
    drop(place);
    let daemon_id = hub.daemon_id.clone();
    drop(hub);
    relay.forget_idle(&daemon_id);
}
