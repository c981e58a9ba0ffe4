//! The relay: its hubs, its connections, and what can be asked of it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
    relay::{ConnId, DaemonHub, DropReason, SessionConflict, SessionView},
};
use sideband_sim_kit::{
    admin::{DaemonStatus, RelayStatus, SessionStatus},
    event::EventSink,
    presence::{Presence, PresenceError},
};
use tokio::sync::Notify;

use crate::{
    admin,
    config::RelayConfig,
    connection::{Connection, Ended},
    hub::{Common, Hub, HubView},
    keys::Keys,
    outbox::{End, Outbox},
    upgrade::{self, Refused},
};

/// How long the HTTP server may take to hand over a connection that was let in.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);

/// How long connections that were cut at the end of a shutdown may take to be gone.
const CUT_DEADLINE: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Hubs {
    by_daemon: BTreeMap<String, Arc<Hub>>,
    shuts_down: bool,
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
    /// Taken for upgrades and questions, never for frames; before a hub's own lock.
    hubs: Mutex<Hubs>,
    live: Live,
    connections: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
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
        let timeline = Timeline::start();
        let keys = Keys::new(&config, env.clone(), timeline, events.clone());
        let common =
            Arc::new(Common { timeline, events, registry: Mutex::default(), trace_frames: config.trace_frames });
        Self(Arc::new(Inner {
            env,
            config,
            common,
            keys,
            hubs: Mutex::default(),
            live: Live::default(),
            connections: AtomicU64::new(0),
            refused: Mutex::default(),
        }))
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
    pub fn admin_router(&self) -> Router {
        admin::router(self.clone())
    }

    /// What the relay sees.
    pub fn status(&self) -> RelayStatus {
        let hubs: Vec<Arc<Hub>> = self.hubs();
        let mut counters = BTreeMap::new();
        let mut daemons = Vec::new();
        for hub in hubs {
            let view = hub.view();
            let mut add = |name: &str, n: u64| *counters.entry(name.to_owned()).or_insert(0) += n;
            add("forwarded_frames", view.counters.forwarded_frames);
            add("forwarded_bytes", view.counters.forwarded_bytes);
            for reason in DropReason::ALL {
                add(&format!("dropped_{}", reason.name()), view.counters.dropped(reason));
            }
            if view.online || !view.sessions.is_empty() {
                daemons.push(daemon_status(&hub.daemon_id, &view));
            }
        }
        for (code, n) in lock(&self.0.refused).iter() {
            counters.insert(format!("refused_{code}"), *n);
        }
        counters.insert("connections".to_owned(), self.0.connections.load(Ordering::Relaxed));
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
        let hubs: Vec<Arc<Hub>> = {
            let mut hubs = lock(&self.0.hubs);
            hubs.shuts_down = true;
            hubs.by_daemon.values().cloned().collect()
        };
        for hub in hubs {
            hub.shutdown();
        }
        if tokio::time::timeout(self.0.config.shutdown_deadline, self.all_gone()).await.is_err() {
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

    pub(crate) fn events(&self) -> &EventSink {
        &self.0.common.events
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.0.keys
    }

    pub(crate) fn unix_seconds(&self) -> u64 {
        self.0.env.clock.unix_seconds()
    }

    pub(crate) fn shuts_down(&self) -> bool {
        lock(&self.0.hubs).shuts_down
    }

    pub(crate) fn count_refused(&self, code: &'static str) {
        *lock(&self.0.refused).entry(code).or_insert(0) += 1;
    }

    /// A number that no connection had before.
    pub(crate) fn next_connection(&self) -> ConnId {
        ConnId(self.0.connections.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes a session id whose token is good for `life` (REL-10).
    pub(crate) fn claim(&self, session: SessionId, life: Duration) -> Result<(), SessionConflict> {
        let now = self.0.common.timeline.now();
        lock(&self.0.common.registry).claim(session, now + life, now)
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
        if hubs.shuts_down {
            return Err(Refused::ShutsDown);
        }
        let hub = match hubs.by_daemon.get(daemon_id) {
            Some(hub) => hub.clone(),
            None => {
                let hub = Hub::new(daemon_id, DaemonHub::new(self.0.config.hub), self.0.common.clone());
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
            hubs.by_daemon.remove(daemon_id);
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
            Connection::new(stream, conn, hub.clone(), outbox, relay.config()).await.run().await
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
