//! The daemon: from a builder to a server that stays connected.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    ops::Deref,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};
use sideband_env::{BoxFuture, Env};
use sideband_protocol::{
    Entropy, SessionId,
    api::{CreateQuickConnect, RenewToken},
    client::{CallLimits, ConnectionPolicy, RpcPolicy},
    crypto::{Fingerprint, Identity},
    daemon::{Daemon as Machine, DaemonConfig, DaemonRetryPolicy, Done, Job, Report, SessionState},
    event::EventName,
    failure::Cause,
    peer::{Answer, CallError, CallId},
    quirks::Quirks,
    sbp::FrameId,
    wire::Reason,
};
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

use crate::{
    Error,
    api::{self, ApiUrl, Credential},
    client::{default_env, fork},
    counters::{self, Role},
    driver::{Host, JobFuture, Shared, boxed, drive},
    error::argument,
    hub::{Handler, Handlers, Hub, MethodInfo, lock, panic_text},
    identity::StoreError,
    peer::{Context, HandlerError, Peer, PeerCore, check_method, erase, taken},
    service::Service,
    socket,
};

/// Events in a daemon's life that a slow reader may be behind by.
const LIFECYCLE: usize = 1_024;

type OnConnection = Arc<dyn Fn(Connection) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// A code that gives one client one session with this daemon.
#[derive(Clone, PartialEq, Eq)]
pub struct QuickConnectCode {
    /// The code, `abcd-efgh-ijkl`: whoever has it may connect once.
    pub code: String,
    /// A link with the code in it.
    pub url: String,
    /// When it expires, ISO 8601 UTC.
    pub expires_at: String,
}

impl fmt::Debug for QuickConnectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuickConnectCode").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What happens to a daemon, in order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The relay socket stands.
    Online,
    /// The relay socket is lost.
    Offline(Cause),
    /// Another attempt follows.
    Retrying {
        /// Which attempt in a row, from 0.
        retry: u32,
        /// How long until then.
        delay: Duration,
        /// Why.
        cause: Cause,
    },
    /// A session stands.
    Opened(SessionId),
    /// A session waits for the relay socket.
    Paused(SessionId),
    /// A session goes on.
    Resumed(SessionId),
    /// A session is over.
    Closed {
        /// Which.
        session: SessionId,
        /// Why.
        cause: Cause,
    },
    /// A key exchange or introduction came to nothing.
    Refused {
        /// Which session.
        session: SessionId,
        /// Why.
        cause: Cause,
    },
    /// The relay dropped frames of ours.
    RateLimited,
    /// The daemon has ended for good.
    Ended(Cause),
    /// This many events were missed by a reader that was too slow.
    Missed(u64),
}

/// The events in a daemon's life.
#[derive(Debug)]
pub struct ServerEvents(broadcast::Receiver<ServerEvent>);

impl ServerEvents {
    /// The next event; `None` once the daemon has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<ServerEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(ServerEvent::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// How a daemon is made.
#[must_use = "a builder does nothing until listen()"]
pub struct Daemon {
    api: ApiUrl,
    relay: String,
    api_key: Zeroizing<String>,
    daemon_id: Option<String>,
    identity: Option<Identity>,
    resume: bool,
    retry: DaemonRetryPolicy,
    connection: ConnectionPolicy,
    rpc: RpcPolicy,
    handlers: Arc<Handlers>,
    handler_timeout: Option<Duration>,
    receipts: bool,
    max_sessions: Option<usize>,
    on_connection: Option<OnConnection>,
    env: Option<Env>,
    quirks: Quirks,
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").field("relay", &self.relay).finish_non_exhaustive()
    }
}

impl Daemon {
    /// A daemon on this control plane and relay, by its API key `sbnd_dak_…`.
    ///
    /// # Errors
    /// A bad URL, or a key that cannot be one.
    pub fn new(api_url: &str, relay_url: &str, api_key: impl Into<String>) -> Result<Self, Error> {
        let api_key = Zeroizing::new(api_key.into());
        if api_key.is_empty() || !api_key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(argument("the API key", "it is empty or has characters that no key has"));
        }
        socket::relay_url(relay_url).map_err(|reason| argument("the relay URL", reason))?;
        Ok(Self {
            api: ApiUrl::parse(api_url)?,
            relay: relay_url.to_owned(),
            api_key,
            daemon_id: None,
            identity: None,
            resume: true,
            retry: DaemonRetryPolicy::default(),
            connection: ConnectionPolicy::default(),
            rpc: RpcPolicy::default(),
            handlers: Arc::default(),
            handler_timeout: None,
            receipts: false,
            max_sessions: None,
            on_connection: None,
            env: None,
            quirks: Quirks::NONE,
        })
    }

    /// Requires that the key belongs to this daemon (DMN-02).
    pub fn daemon_id(mut self, id: impl Into<String>) -> Self {
        self.daemon_id = Some(id.into());
        self
    }

    /// The identity key, by which clients know the daemon again. Default: a new one, which no client has pinned.
    /// See [`load_or_create`](crate::identity::load_or_create).
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Asks that sessions survive the loss of the relay socket (DMN-11). Default yes.
    pub fn resumable(mut self, yes: bool) -> Self {
        self.resume = yes;
        self
    }

    /// Retries (DMN-04).
    pub fn retry(mut self, policy: DaemonRetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Time limits of attempts and handshakes, and keepalive (CLI-07, CRY-11, DMN-13).
    pub fn connection(mut self, policy: ConnectionPolicy) -> Self {
        self.connection = policy;
        self
    }

    /// Time limits of calls that the daemon makes (RPC-05).
    pub fn rpc(mut self, policy: RpcPolicy) -> Self {
        self.rpc = policy;
        self
    }

    /// How long a handler may take before its call is answered E 1103. Default: any time (RPC-02).
    pub fn handler_timeout(mut self, limit: Duration) -> Self {
        self.handler_timeout = Some(limit);
        self
    }

    /// Confirms each message of a client, for who asks with [`Peer::send_confirmed`]. Default no (SBP-05).
    pub fn receipts(mut self, yes: bool) -> Self {
        self.receipts = yes;
        self
    }

    /// Most sessions at a time; further ones are refused with Signal(close, policy). Default 4,096.
    pub fn max_sessions(mut self, most: usize) -> Self {
        self.max_sessions = Some(most);
        self
    }

    /// Another world than the real one: a clock, randomness, a network.
    pub fn env(mut self, env: Env) -> Self {
        self.env = Some(env);
        self
    }

    /// Is wrong on purpose, so that a test can be shown to fail. Never in production.
    #[doc(hidden)]
    pub fn danger_quirks(mut self, quirks: Quirks) -> Self {
        self.quirks = quirks;
        self
    }

    /// What a method says of itself to who asks `$sideband/rpc.describe`, once [`introspection`](Self::introspection) is on (RPC-08).
    pub fn describe(self, method: &str, info: MethodInfo) -> Self {
        self.handlers.describe(method.to_owned(), info);
        self
    }

    /// Answers every method of a typed service; see [`service!`](macro@crate::service).
    ///
    /// # Errors
    /// One of its methods has a handler already (RPC-07).
    pub fn serve(self, service: impl Service) -> Result<Self, Error> {
        for (method, handler) in service.into_handlers() {
            check_method(method)?;
            if !self.handlers.add(method.to_owned(), handler.0) {
                return Err(taken(method));
            }
        }
        Ok(self)
    }

    /// Answers a method for every connection. Each call runs in a task of its own.
    ///
    /// # Errors
    /// The method has a handler already (RPC-07), or its name is reserved (RPC-08).
    pub fn handle<P, R, E, F, Fut>(self, method: &str, handler: F) -> Result<Self, Error>
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        E: Into<HandlerError>,
        F: Fn(P, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        check_method(method)?;
        self.add(method, erase(handler))
    }

    /// Answers the platform's methods: `$sideband/rpc.list` with the names of all methods, `$sideband/rpc.describe` with what
    /// each says of itself (RPC-08).
    ///
    /// # Errors
    /// They are answered already.
    pub fn introspection(self) -> Result<Self, Error> {
        let (list, describe) = (Arc::downgrade(&self.handlers), Arc::downgrade(&self.handlers));
        self.platform("rpc.list", move |_: serde::de::IgnoredAny, _| {
            let methods = list.upgrade().map(|handlers| handlers.names()).unwrap_or_default();
            async move { Ok::<_, HandlerError>(serde_json::json!({ "methods": methods })) }
        })?
        .platform("rpc.describe", move |_: serde::de::IgnoredAny, _| {
            let methods = describe.upgrade().map(|handlers| handlers.described()).unwrap_or_default();
            async move { Ok::<_, HandlerError>(methods) }
        })
    }

    /// Answers a method of the platform, `$sideband/NAME`; for those who build platforms (RPC-08).
    ///
    /// # Errors
    /// It is answered already.
    pub fn platform<P, R, E, F, Fut>(self, name: &str, handler: F) -> Result<Self, Error>
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        E: Into<HandlerError>,
        F: Fn(P, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.add(&format!("$sideband/{name}"), erase(handler))
    }

    fn add(self, method: &str, handler: Handler) -> Result<Self, Error> {
        if self.handlers.add(method.to_owned(), handler) { Ok(self) } else { Err(taken(method)) }
    }

    /// Runs for each session once it stands; its failure or panic ends that session only (DMN-15). It is stopped when the session is over.
    pub fn on_connection<F, Fut, E>(mut self, handler: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<StoreError>,
    {
        self.on_connection = Some(Arc::new(move |connection| {
            let run = handler(connection);
            Box::pin(async move { run.await.map_err(Into::into) })
        }));
        self
    }

    /// Connects, and resolves once the relay socket stands for the first time (DMN-01). Dropping the future before that cancels (DMN-05).
    ///
    /// # Errors
    /// What trying again cannot help: a refused key, another daemon's key, a server that is no Sideband API.
    pub async fn listen(self) -> Result<Server, Error> {
        let server = self.start()?;
        server.when_online().await?;
        Ok(server)
    }

    /// Starts connecting in a task of its own and returns at once, so that [`Server::events`] shows attempts that fail before
    /// the relay socket stands for the first time; [`Server::when_online`] waits for that.
    ///
    /// # Errors
    /// The world cannot be set up.
    pub fn start(self) -> Result<Server, Error> {
        let env = match self.env {
            Some(env) => env,
            None => default_env()?,
        };
        let mut entropy = env.entropy.entropy();
        let identity = self.identity.unwrap_or_else(|| Identity::generate(&mut *entropy));
        let fingerprint = identity.public().fingerprint();
        let mut config = DaemonConfig::new(identity);
        config.daemon_id = self.daemon_id;
        config.retry = self.retry;
        config.connection = self.connection;
        config.rpc = self.rpc;
        config.receipts = self.receipts;
        config.quirks = self.quirks;
        if let Some(most) = self.max_sessions {
            config.max_sessions = most;
        }
        let shared = Arc::new(Shared::new(Machine::new(config, env.entropy.entropy())));
        let (lifecycle, _) = broadcast::channel(LIFECYCLE);
        let (status, _) = watch::channel(Status::Starting);
        let (finished, _) = watch::channel(false);
        let connections = Arc::new(Mutex::new(BTreeMap::new()));
        let access =
            Arc::new(Access { env, api: self.api, relay: self.relay, api_key: self.api_key, resume: self.resume });
        let host = DaemonHost {
            access: access.clone(),
            entropy,
            shared: shared.clone(),
            handlers: self.handlers,
            handler_timeout: self.handler_timeout,
            quirks: self.quirks,
            on_connection: self.on_connection,
            connections: connections.clone(),
            lifecycle: lifecycle.clone(),
            status: status.clone(),
        };
        shared.with(|machine, now| machine.start(now));
        let (driven, task) = (shared.clone(), finished.clone());
        tokio::spawn(async move {
            drive(driven, host).await;
            task.send_replace(true);
        });
        // Dropping it from here on closes the machine.
        Ok(Server(Arc::new(Owner { shared, access, fingerprint, connections, lifecycle, status, finished })))
    }
}

/// What it takes to reach the control plane and the relay.
struct Access {
    env: Env,
    api: ApiUrl,
    relay: String,
    api_key: Zeroizing<String>,
    resume: bool,
}

impl Access {
    fn credential(&self) -> Credential<'_> {
        Credential { bearer: Some(&self.api_key), resume: self.resume }
    }
}

#[derive(Debug, Clone)]
enum Status {
    Starting,
    /// It was online once.
    Online,
    Ended(Cause),
}

type Connections = Arc<Mutex<BTreeMap<SessionId, Connection>>>;

struct Owner {
    shared: Arc<Shared<Machine>>,
    access: Arc<Access>,
    fingerprint: Fingerprint,
    connections: Connections,
    lifecycle: broadcast::Sender<ServerEvent>,
    status: watch::Sender<Status>,
    finished: watch::Sender<bool>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.with(|machine, _| machine.close());
    }
}

/// A daemon that listens. Cheap to clone; when the last clone is dropped it closes.
#[derive(Clone)]
pub struct Server(Arc<Owner>);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("daemon_id", &self.daemon_id()).finish_non_exhaustive()
    }
}

impl Server {
    /// The daemon's id (DMN-02, DMN-14).
    pub fn daemon_id(&self) -> String {
        self.0.shared.look(|machine| machine.daemon_id().to_owned())
    }

    /// The relay's URL (DMN-14).
    pub fn relay_url(&self) -> &str {
        &self.0.access.relay
    }

    /// The fingerprint that clients see.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Waits until the relay socket stands for the first time (DMN-01); returns at once later.
    ///
    /// # Errors
    /// The daemon has ended, and why.
    pub async fn when_online(&self) -> Result<(), Error> {
        let mut status = self.0.status.subscribe();
        let first = status.wait_for(|status| !matches!(status, Status::Starting)).await.map(|status| status.clone());
        match first {
            Ok(Status::Ended(cause)) => Err(Error::Failed(cause)),
            Ok(Status::Starting | Status::Online) => Ok(()),
            Err(_) => Err(Error::Failed(Cause::Closed)),
        }
    }

    /// Whether the relay socket stands now.
    pub fn is_online(&self) -> bool {
        self.0.shared.look(Machine::is_online)
    }

    /// The sessions that stand or are paused, in the order of their ids (DMN-14).
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.0.connections).values().cloned().collect()
    }

    /// Everything that happens from now on, in order.
    pub fn events(&self) -> ServerEvents {
        ServerEvents(self.0.lifecycle.subscribe())
    }

    /// Sends an event to every session; how many took it. Paused ones get it when they go on.
    ///
    /// # Errors
    /// A bad name, data that do not become JSON, or too large for one frame.
    pub async fn broadcast<D: Serialize>(&self, name: &str, data: D) -> Result<usize, Error> {
        let name = EventName::new(name).map_err(CallError::InvalidPattern)?;
        let data = serde_json::to_vec(&data).map_err(|e| Error::Json { what: "params", reason: e.to_string() })?;
        let data = Bytes::from(data);
        self.0.shared.writable().await;
        let mut taken = 0;
        for connection in self.connections() {
            match self.0.shared.with(|machine, _| machine.emit(connection.session, &name, Some(data.clone()))) {
                Ok(()) => taken += 1,
                Err(error @ CallError::MessageTooLarge { .. }) => return Err(error.into()),
                // It ended just now.
                Err(_) => {}
            }
        }
        Ok(taken)
    }

    /// Makes a Quick Connect code; `ttl` is 30 s to an hour, 5 minutes if none is given (DMN-14).
    ///
    /// # Errors
    /// The API refused or could not be reached.
    pub async fn create_quick_connect(&self, ttl: Option<Duration>) -> Result<QuickConnectCode, Error> {
        let access = &self.0.access;
        let request = CreateQuickConnect { ttl_seconds: ttl.map(|ttl| ttl.as_secs()) };
        let call = api::call(&access.env, &access.api, &request, access.credential());
        // CLI-07
        let answer = tokio::time::timeout(ConnectionPolicy::default().api_timeout, call).await;
        let made = answer.map_err(|_| Error::Failed(Cause::ApiTimeout))?.map_err(Error::Failed)?;
        Ok(QuickConnectCode { code: made.code, url: made.url, expires_at: made.expires_at })
    }

    /// Waits until the daemon has ended, and says why: [`Cause::Closed`] if by [`close`](Self::close).
    pub async fn ended(&self) -> Cause {
        let mut status = self.0.status.subscribe();
        match status.wait_for(|status| matches!(status, Status::Ended(_))).await.as_deref() {
            Ok(Status::Ended(cause)) => cause.clone(),
            Ok(Status::Starting | Status::Online) | Err(_) => Cause::Closed,
        }
    }

    /// Says goodbye to every session and to the relay, and ends (DMN-16). Closing twice is fine.
    pub async fn close(&self) {
        self.0.shared.with(|machine, _| machine.close());
        // An error would mean that the driver is gone.
        let _ = self.0.finished.subscribe().wait_for(|finished| *finished).await;
    }
}

/// One session of a daemon. It is a [`Peer`]: calls, events and handlers stand there. Cheap to clone; holding one keeps nothing open.
#[derive(Clone)]
pub struct Connection {
    peer: Peer,
    session: SessionId,
    peer_id: Arc<str>,
    shared: Arc<Shared<Machine>>,
    over: watch::Receiver<bool>,
    end: Arc<watch::Sender<bool>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Deref for Connection {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Connection {
    /// The session's id.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What the client calls itself; new for each of its attempts, and not proven.
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Where the session is; `None` once it is over.
    pub fn state(&self) -> Option<SessionState> {
        let find = |machine: &Machine| machine.sessions().find(|(id, _)| *id == self.session);
        self.shared.look(find).map(|(_, state)| state)
    }

    /// Waits until the session is over.
    pub async fn closed(&self) {
        // An error would mean that it is over.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }

    /// Ends the session: SBP Close, then Signal(close) (SBP-07, DMN-15). Others go on.
    pub fn close(&self) {
        self.shared.with(|machine, _| machine.close_session(self.session));
    }
}

/// One session's way to the machine.
struct SessionCore {
    shared: Arc<Shared<Machine>>,
    session: SessionId,
}

impl PeerCore for SessionCore {
    fn call(&self, call: CallId, method: &str, params: Option<Bytes>, limits: CallLimits) -> Result<(), CallError> {
        self.shared.with(|machine, now| machine.call(self.session, call, method, params, limits, now))
    }
    fn cancel(&self, call: CallId) {
        self.shared.with(|machine, _| machine.cancel(self.session, call));
    }
    fn emit(&self, name: &EventName, data: Option<Bytes>) -> Result<(), CallError> {
        self.shared.with(|machine, _| machine.emit(self.session, name, data))
    }
    fn send_app(&self, subject: &str, data: Bytes) -> Result<FrameId, CallError> {
        self.shared.with(|machine, _| machine.send_app(self.session, subject, &data))
    }
    fn respond(&self, cid: FrameId, answer: Answer) {
        self.shared.with(|machine, _| machine.respond(self.session, cid, answer));
    }
    fn release(&self, size: usize) {
        self.shared.with(|machine, _| machine.release(self.session, size));
    }
    fn writable(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.writable())
    }
}

struct DaemonHost {
    access: Arc<Access>,
    entropy: Box<dyn Entropy>,
    shared: Arc<Shared<Machine>>,
    handlers: Arc<Handlers>,
    handler_timeout: Option<Duration>,
    quirks: Quirks,
    on_connection: Option<OnConnection>,
    connections: Connections,
    lifecycle: broadcast::Sender<ServerEvent>,
    status: watch::Sender<Status>,
}

impl DaemonHost {
    fn tell(&self, event: ServerEvent) {
        // Nobody listening is fine.
        let _ = self.lifecycle.send(event);
    }

    fn opened(&self, session: SessionId, peer_id: &str) {
        let core = Arc::new(SessionCore { shared: self.shared.clone(), session });
        let hub = Arc::new(Hub::new(Some(self.handlers.clone()), self.handler_timeout, self.quirks));
        let (end, over) = watch::channel(false);
        let connection = Connection {
            peer: Peer::new(core, hub.clone()),
            session,
            peer_id: peer_id.into(),
            shared: self.shared.clone(),
            over,
            end: Arc::new(end),
        };
        lock(&self.connections).insert(session, connection.clone());
        if let Some(handler) = &self.on_connection {
            let (handler, shared) = (handler.clone(), self.shared.clone());
            hub.spawn(async move {
                let run = AssertUnwindSafe(async { handler(connection).await });
                let failed = match run.catch_unwind().await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
                };
                // DMN-15
                tracing::error!(target: "sideband::daemon", %session, error = %failed, "a connection handler failed");
                shared.with(|machine, _| machine.end_session(session, Cause::HandlerFailed(failed), Reason::Error));
            });
        }
        self.tell(ServerEvent::Opened(session));
    }

    fn closed(&self, session: SessionId) {
        let connection = lock(&self.connections).remove(&session);
        if let Some(connection) = connection {
            connection.end.send_replace(true);
            connection.peer.hub().end();
        }
    }
}

impl Host<Machine> for DaemonHost {
    fn start(&mut self, job: Job) -> JobFuture<Machine> {
        let access = self.access.clone();
        match job {
            Job::RenewToken => {
                counters::attempt(Role::Daemon);
                boxed(async move {
                    let result = api::call(&access.env, &access.api, &RenewToken, access.credential()).await;
                    (Done::Token(result.map(|answer| answer.presence_token)), None)
                })
            }
            Job::Dial(token) => {
                let token = Zeroizing::new(token);
                let mut entropy = fork(&mut *self.entropy);
                boxed(async move {
                    match socket::dial(&access.env, &access.relay, &token, &mut *entropy).await {
                        Ok(socket) => (Done::Dialled(Ok(())), Some(Box::new(socket))),
                        Err(cause) => (Done::Dialled(Err(cause)), None),
                    }
                })
            }
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Online { daemon_id, first } => {
                tracing::info!(target: "sideband::daemon", %daemon_id, first, "online");
                self.status.send_replace(Status::Online);
                self.tell(ServerEvent::Online);
            }
            Report::Offline(cause) => {
                tracing::info!(target: "sideband::daemon", %cause, "offline");
                self.tell(ServerEvent::Offline(cause));
            }
            Report::Retrying { retry, delay, cause } => {
                counters::reconnect(Role::Daemon);
                tracing::info!(target: "sideband::daemon", retry, ?delay, %cause, "retrying");
                self.tell(ServerEvent::Retrying { retry, delay, cause });
            }
            Report::Opened { session, introduction } => {
                counters::session(Role::Daemon);
                tracing::info!(target: "sideband::daemon", %session, "session opened");
                self.opened(session, &introduction.peer_id);
            }
            Report::Paused(session) => self.tell(ServerEvent::Paused(session)),
            Report::Resumed(session) => {
                counters::resumed(Role::Daemon);
                self.tell(ServerEvent::Resumed(session));
            }
            Report::Closed { session, cause } => {
                tracing::info!(target: "sideband::daemon", %session, %cause, "session closed");
                self.closed(session);
                self.tell(ServerEvent::Closed { session, cause });
            }
            Report::Refused { session, cause } => {
                tracing::info!(target: "sideband::daemon", %session, %cause, "session refused");
                self.tell(ServerEvent::Refused { session, cause });
            }
            Report::Delivery { session, delivery } => {
                counters::delivery(&delivery);
                let peer = lock(&self.connections).get(&session).map(|connection| connection.peer.clone());
                if let Some(peer) = peer {
                    peer.hub().deliver(delivery, &peer);
                }
            }
            Report::RateLimited => self.tell(ServerEvent::RateLimited),
            Report::Ended(cause) => {
                tracing::info!(target: "sideband::daemon", %cause, "ended");
                for session in lock(&self.connections).keys().copied().collect::<Vec<_>>() {
                    self.closed(session);
                }
                self.tell(ServerEvent::Ended(cause.clone()));
                self.status.send_replace(Status::Ended(cause));
            }
        }
    }
}
