//! How a daemon is made.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use sideband_env::{BoxFuture, Env};
use sideband_protocol::{
    client::{ConnectionPolicy, RpcPolicy},
    crypto::Identity,
    daemon::{Daemon as Machine, DaemonConfig, DaemonRetryPolicy},
    peer::{CallError, SessionLimits},
    quirks::{Quirk, Quirks},
};
use tokio::sync::{Semaphore, broadcast, watch};
use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::{
    Connection, Server, WeakServer,
    host::{DaemonHost, MOST_AFTERWARDS},
    server::{Access, Owner, Status},
};
use crate::{
    Context, Error, HandlerError,
    api::{ApiUrl, check_credential},
    client::default_env,
    driver::{Shared, drive},
    error::{argument, check_runtime},
    hub::{Handler, Handlers, MethodInfo},
    identity::StoreError,
    options::{check_endpoint, handler_options},
    peer::{check_method, erase, introspection, taken},
    service::Service,
    socket,
    telemetry::{self, Role},
};

/// Events in a daemon's life that a slow reader may be behind by.
const LIFECYCLE: usize = 1_024;

pub(super) type OnConnection = Arc<dyn Fn(Connection) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

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
    limits: SessionLimits,
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
    /// A bad URL, such as one with a password, or a key that cannot be one.
    pub fn new(api_url: &str, relay_url: &str, api_key: impl Into<String>) -> Result<Self, Error> {
        let api_key = Zeroizing::new(api_key.into());
        check_credential(&api_key).map_err(|reason| argument("the API key", reason))?;
        socket::check_relay_url(relay_url)?;
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
            limits: SessionLimits::default(),
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

    /// Confirms each message of a client, for who asks with [`Peer::send_confirmed`](crate::Peer::send_confirmed). Default no (SBP-05).
    pub fn receipts(mut self, yes: bool) -> Self {
        self.receipts = yes;
        self
    }

    /// Most sessions at a time; further ones are refused with Signal(close, policy). Default 4,096.
    pub fn max_sessions(mut self, most: usize) -> Self {
        self.max_sessions = Some(most);
        self
    }

    /// Bounds of each session: what may wait for its consumers, what is held back while the socket is away, and calls under way
    /// (DMN-07, DMN-11).
    pub fn session_limits(mut self, limits: SessionLimits) -> Self {
        self.limits = limits;
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

    handler_options!(handlers, quirks);

    /// Runs for each session once it stands; its failure or panic ends that session only (DMN-15).
    ///
    /// When the session is over, [`Connection::closed`] is ready and subscriptions end, so that the handler can put things in order.
    /// It has 5 s for that, waiting included, and is stopped then; where more than 1,024 sessions have just ended, the further ones'
    /// handlers come no further than the next `await` that waits. [`Server::close`] does not wait for them: what must be done before
    /// the program ends, it must wait for itself.
    ///
    /// What the client sends first waits until the handler has come to its first `await` that waits: what it registers until then
    /// misses nothing.
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
    /// A policy, limit or id that cannot work, before anything is dialled. What trying again cannot help: a refused key, another
    /// daemon's key, a server that is no Sideband API.
    pub async fn listen(self) -> Result<Server, Error> {
        let quirks = self.quirks;
        let server = self.start()?;
        if !quirks.has(Quirk::ListenReturnsEarly) {
            server.when_online().await?;
        }
        Ok(server)
    }

    /// As [`listen`](Self::listen), unless `cancel` is ready before the relay socket stands for the first time: then it fails at once.
    /// Later `cancel` has no effect (DMN-05).
    ///
    /// # Errors
    /// As [`listen`](Self::listen), and `cancelled`.
    pub async fn listen_unless(self, cancel: impl Future<Output = ()>) -> Result<Server, Error> {
        tokio::select! {
            biased;
            () = cancel => Err(CallError::Cancelled.into()),
            server = self.listen() => server,
        }
    }

    /// Starts connecting in a task of its own and returns at once, so that [`Server::events`] shows attempts that fail before
    /// the relay socket stands for the first time; [`Server::when_online`] waits for that.
    ///
    /// # Errors
    /// A policy, limit or id that cannot work. No Tokio runtime here. The world cannot be set up.
    pub fn start(self) -> Result<Server, Error> {
        self.check()?;
        check_runtime()?;
        let env = match self.env {
            Some(env) => env,
            None => default_env()?,
        };
        let mut entropy = env.entropy.entropy();
        let identity = self.identity.unwrap_or_else(|| Identity::generate(&mut *entropy));
        let fingerprint = identity.public().fingerprint_with(self.quirks);
        let mut config = DaemonConfig {
            daemon_id: self.daemon_id,
            retry: self.retry,
            connection: self.connection,
            rpc: self.rpc,
            receipts: self.receipts,
            limits: self.limits,
            quirks: self.quirks,
            ..DaemonConfig::default()
        };
        if let Some(most) = self.max_sessions {
            config.max_sessions = most;
        }
        let shared = Arc::new(Shared::new(Machine::new(identity, config, env.entropy.entropy())));
        let (lifecycle, from_the_start) = broadcast::channel(LIFECYCLE);
        let (status, _) = watch::channel(Status::Starting);
        let (finished, _) = watch::channel(false);
        let connections = Arc::new(Mutex::new(BTreeMap::new()));
        let access = Arc::new(Access {
            env,
            api: self.api,
            relay: self.relay,
            api_key: self.api_key,
            resume: self.resume,
            api_timeout: self.connection.api_timeout,
        });
        telemetry::started(Role::Daemon, self.quirks);
        shared.with(|machine, now| machine.start(now));
        let owner = |server: &Weak<Owner>| {
            let host = DaemonHost {
                server: WeakServer(server.clone()),
                access: access.clone(),
                entropy,
                shared: shared.clone(),
                handlers: self.handlers,
                handler_timeout: self.handler_timeout,
                quirks: self.quirks,
                on_connection: self.on_connection,
                afterwards: Arc::new(Semaphore::new(MOST_AFTERWARDS)),
                connections: connections.clone(),
                lifecycle: lifecycle.clone(),
                status: status.clone(),
            };
            let run = drive(shared.clone(), host, finished.clone());
            tokio::spawn(run.instrument(tracing::info_span!(target: "sideband::daemon", "daemon")));
            // Dropping it from here on closes the machine.
            let first = Mutex::new(Some(from_the_start));
            Owner { shared, access, fingerprint, connections, lifecycle, first, status, finished }
        };
        Ok(Server(Arc::new_cyclic(owner)))
    }

    fn check(&self) -> Result<(), Error> {
        if self.daemon_id.as_deref() == Some("") {
            return Err(argument("the daemon id", "it is empty"));
        }
        if self.max_sessions == Some(0) {
            return Err(argument("the bound of sessions", "zero: no client could come"));
        }
        self.retry.check().map_err(|invalid| argument("the retry policy", invalid))?;
        check_endpoint(&self.connection, &self.rpc, &self.limits, self.handler_timeout)
    }
}
