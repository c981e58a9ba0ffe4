//! The client: from a builder to a handle that stays connected.

mod host;

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    ops::Deref,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use sideband_env::{BoxFuture, Env};
use sideband_protocol::{
    Entropy,
    api::QuickConnectCode,
    client::{
        Access, CallLimits, Client as Machine, ClientConfig, CloseReason, ConnectionPolicy, OnDisconnect, RetryPolicy,
        RpcPolicy, State,
    },
    crypto::{Fingerprint, TrustPolicy, TrustQuestion},
    event::{EventName, EventPattern},
    failure::Cause,
    peer::{Answer, CallError, CallId, SessionLimits},
    quirks::{Quirk, Quirks},
    sbp::FrameId,
};
use tokio::sync::{broadcast, watch};
use tracing::Instrument as _;
use zeroize::Zeroizing;

use self::host::{ClientHost, Source};
use crate::{
    Context, Error,
    api::{ApiUrl, check_credential},
    driver::{Shared, boxed, drive},
    error::{argument, check_runtime},
    hub::{Handler, Handlers, Hub, MethodInfo},
    identity::{IdentityStore, MemoryStore},
    options::{check_endpoint, handler_options},
    peer::{Event, HandlerError, Peer, PeerCore, check_method, erase, introspection, taken},
    service::Service,
    socket,
    telemetry::{self, Role},
    told::{Telling, Told},
};

/// What a token source failed with; its text reaches the user.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

type TokenSource = Arc<dyn Fn() -> BoxFuture<'static, Result<String, TokenError>> + Send + Sync>;

/// Events in a client's life that a slow reader may be behind by.
const LIFECYCLE: usize = 256;

/// What happens to a client, in order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Lifecycle {
    /// The state changed.
    State(State),
    /// A fresh session stands; not told on a resume (CLI-12).
    Connected {
        /// The daemon.
        daemon_id: String,
    },
    /// A session that stood is lost.
    Disconnected(Cause),
    /// Another attempt follows.
    Retrying {
        /// Which retry in a row, from 0.
        retry: u32,
        /// How long until then.
        delay: Duration,
        /// Why.
        cause: Cause,
    },
    /// The daemon is back, not yet ready.
    Pending,
    /// The session goes on with the same keys.
    Resumed,
    /// The relay dropped frames of ours.
    RateLimited,
    /// Closed for good.
    Closed(CloseReason),
    /// This many events were missed by a reader that was too slow.
    Missed(u64),
}

/// The events in a client's life.
#[derive(Debug)]
pub struct LifecycleEvents(Told<Lifecycle>);

impl LifecycleEvents {
    /// The next event; `None` once the client is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Lifecycle> {
        self.0.next().await
    }
}

impl Telling for Lifecycle {
    fn is_last(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
    fn missed(number: u64) -> Self {
        Self::Missed(number)
    }
}

/// How an account's client is made: by the user's access token, with a new session on every attempt.
#[must_use = "a builder does nothing until connect()"]
pub struct Account {
    common: Common,
    daemon_id: String,
    tokens: TokenSource,
}

/// How a Quick Connect client is made: by a code, once.
#[must_use = "a builder does nothing until connect()"]
pub struct QuickConnect {
    common: Common,
    code: QuickConnectCode,
}

struct Common {
    api: ApiUrl,
    relay: Option<String>,
    config: ClientConfig,
    store: Arc<dyn IdentityStore>,
    prompt: Option<Prompt>,
    handlers: Arc<Handlers>,
    subscriptions: Vec<Subscribe>,
    handler_timeout: Option<Duration>,
    env: Option<Env>,
}

/// Subscribes once the peer is there.
type Subscribe = Box<dyn FnOnce(&Peer) -> Result<(), Error> + Send>;

/// Asks the user; only set together with the policy `prompt`.
type Prompt = Arc<dyn Fn(TrustQuestion) -> BoxFuture<'static, bool> + Send + Sync>;

impl Common {
    fn new(api_url: &str, access: Access) -> Result<Self, Error> {
        Ok(Self {
            api: ApiUrl::parse(api_url)?,
            relay: None,
            config: ClientConfig::new(access),
            store: Arc::new(MemoryStore::new()),
            prompt: None,
            handlers: Arc::default(),
            subscriptions: Vec::new(),
            handler_timeout: None,
            env: None,
        })
    }

    fn check(&self) -> Result<(), Error> {
        let config = &self.config;
        if config.buffered_bytes == 0 {
            return Err(argument(
                "the buffer for calls",
                "zero bytes: for calls that never wait set `OnDisconnect::Fail`",
            ));
        }
        config.retry.check().map_err(|invalid| argument("the retry policy", invalid))?;
        check_endpoint(&config.connection, &config.rpc, &config.limits, self.handler_timeout)
    }

    fn connect(self, source: Source) -> Result<Client, Error> {
        self.check()?;
        check_runtime()?;
        let env = match self.env {
            Some(env) => env,
            None => default_env()?,
        };
        let quirks = self.config.quirks;
        telemetry::started(Role::Client, quirks);
        let shared = Arc::new(Shared::new(Machine::new(self.config, env.entropy.entropy())));
        let hub = Arc::new(Hub::new(Some(self.handlers), self.handler_timeout, quirks));
        let peer = Peer::new(shared.clone(), hub.clone());
        for subscribe in self.subscriptions {
            subscribe(&peer)?;
        }
        let (state, _) = watch::channel(State::Idle);
        let (lifecycle, from_the_start) = broadcast::channel(LIFECYCLE);
        let (ended, _) = watch::channel(None);
        let host = ClientHost {
            entropy: env.entropy.entropy(),
            env,
            api: self.api,
            relay: self.relay,
            store: self.store,
            prompt: self.prompt,
            source,
            token: None,
            hub,
            peer: peer.clone(),
            state: state.clone(),
            lifecycle: lifecycle.clone(),
            ended: ended.clone(),
            paused: None,
            paused_left: Duration::ZERO,
        };
        let (finished, _) = watch::channel(false);
        shared.with(|machine, now| machine.start(now));
        let daemon_id = shared.look(|machine| machine.daemon_id().to_owned());
        let span = tracing::info_span!(target: "sideband::client", "client", daemon_id);
        tokio::spawn(drive(shared.clone(), host, finished.clone()).instrument(span));
        Ok(Client {
            peer,
            owner: Arc::new(Owner {
                shared,
                state,
                lifecycle,
                first: Mutex::new(Some(from_the_start)),
                ended,
                finished,
            }),
        })
    }
}

#[cfg(feature = "real")]
pub(crate) fn default_env() -> Result<Env, Error> {
    Env::real(&sideband_env::real::Roots::System).map_err(|e| Error::Setup(e.to_string()))
}

#[cfg(not(feature = "real"))]
pub(crate) fn default_env() -> Result<Env, Error> {
    Err(argument("the environment", "without the feature `real` it must be given with `.env(…)`"))
}

macro_rules! common_options {
    () => {
        /// Dials this relay instead of the one that the API names.
        ///
        /// # Errors
        /// Not a `ws` or `wss` URL with a host, or one with a user, a password or a fragment.
        pub fn relay_url(mut self, url: &str) -> Result<Self, Error> {
            socket::check_relay_url(url)?;
            self.common.relay = Some(url.to_owned());
            Ok(self)
        }

        /// Keeps pinned identities here instead of in memory.
        pub fn identity_store(mut self, store: impl IdentityStore + 'static) -> Self {
            self.common.store = Arc::new(store);
            self
        }

        /// Accepts only identities that are pinned already. Default: pin the first one and every later one.
        pub fn pinned_only(mut self) -> Self {
            self.common.config.trust = TrustPolicy::PinnedOnly;
            self
        }

        /// Asks before an identity is pinned: `first` with the fingerprint at the first connection, `mismatch` with the
        /// pinned and the shown one when it changed. No answer within the handshake time is a no (TRU-02, TRU-04).
        ///
        /// Neither question can be left without somebody to ask (TRU-01):
        ///
        /// ```compile_fail,E0061
        /// # fn half(client: sideband::QuickConnect) {
        /// client.prompt(|_fingerprint| async { true });
        /// # }
        /// ```
        pub fn prompt<A, FutA, B, FutB>(mut self, first: A, mismatch: B) -> Self
        where
            A: Fn(Fingerprint) -> FutA + Send + Sync + 'static,
            FutA: Future<Output = bool> + Send + 'static,
            B: Fn(Fingerprint, Fingerprint) -> FutB + Send + Sync + 'static,
            FutB: Future<Output = bool> + Send + 'static,
        {
            self.common.config.trust = TrustPolicy::Prompt;
            self.common.prompt = Some(Arc::new(move |question| match question {
                TrustQuestion::FirstConnection { fingerprint } => boxed(first(fingerprint)),
                TrustQuestion::Mismatch { expected, received } => boxed(mismatch(expected, received)),
            }));
            self
        }

        /// Retries (CLI-04).
        pub fn retry(mut self, policy: RetryPolicy) -> Self {
            self.common.config.retry = policy;
            self
        }

        /// Time limits of attempts, and keepalive (CLI-07, CLI-13, CRY-11).
        pub fn connection(mut self, policy: ConnectionPolicy) -> Self {
            self.common.config.connection = policy;
            self
        }

        /// Time limits of calls (RPC-05).
        pub fn rpc(mut self, policy: RpcPolicy) -> Self {
            self.common.config.rpc = policy;
            self
        }

        /// Confirms each message of the daemon, for who asks with [`Peer::send_confirmed`]. Default no (SBP-05).
        pub fn receipts(mut self, yes: bool) -> Self {
            self.common.config.receipts = yes;
            self
        }

        handler_options!(common.handlers, common.config.quirks);

        /// Runs a handler for each matching event of the daemon, one after the other, in the order sent, in every session from the first
        /// on. [`Peer::on`] and [`Peer::subscribe`] do so from the moment when they are called.
        ///
        /// A handler that holds the client keeps it open, as [`Peer::handle`] says.
        ///
        /// # Errors
        /// A bad pattern (`invalid_pattern`).
        pub fn on<F, Fut>(mut self, pattern: &str, handler: F) -> Result<Self, Error>
        where
            F: Fn(Event) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = ()> + Send + 'static,
        {
            EventPattern::new(pattern).map_err(CallError::InvalidPattern)?;
            let pattern = pattern.to_owned();
            self.common.subscriptions.push(Box::new(move |peer| peer.on(&pattern, handler)));
            Ok(self)
        }

        /// How long a handler of this client may take before its call is answered E 1103. Default: any time (RPC-02).
        pub fn handler_timeout(mut self, limit: Duration) -> Self {
            self.common.handler_timeout = Some(limit);
            self
        }

        /// What happens to calls without a session (CLI-09).
        pub fn on_disconnect(mut self, choice: OnDisconnect) -> Self {
            self.common.config.on_disconnect = choice;
            self
        }

        /// Most bytes of calls and raw messages that wait for a session; the next one fails with `buffer_overflow` (CLI-09). Default 65,536; a
        /// large buffer sends old calls in a burst.
        pub fn buffered_bytes(mut self, most: usize) -> Self {
            self.common.config.buffered_bytes = most;
            self
        }

        /// Most events that wait for a session; the oldest go (CLI-10). Default 128; 0 sends none of those that were made without one.
        pub fn buffered_events(mut self, most: usize) -> Self {
            self.common.config.buffered_events = most;
            self
        }

        /// Bounds of a session: what may wait for its consumers, what is held back, and calls under way (DMN-07).
        pub fn session_limits(mut self, limits: SessionLimits) -> Self {
            self.common.config.limits = limits;
            self
        }

        /// Another world than the real one: a clock, randomness, a network.
        pub fn env(mut self, env: Env) -> Self {
            self.common.env = Some(env);
            self
        }

        /// Is wrong on purpose, so that a test can be shown to fail. Never in production.
        #[doc(hidden)]
        pub fn danger_quirks(mut self, quirks: Quirks) -> Self {
            self.common.config.quirks = quirks;
            self
        }
    };
}

impl Account {
    /// A client for one daemon; `tokens` is asked for the user's access token on each attempt (CLI-01). Its failure is retried; a token
    /// that cannot be one, empty or with a line break, is a mistake and closes the client.
    ///
    /// # Errors
    /// A bad API URL, such as one with a password or a query, or an empty daemon id.
    pub fn new<F, Fut>(api_url: &str, daemon_id: impl Into<String>, tokens: F) -> Result<Self, Error>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        let daemon_id = daemon_id.into();
        if daemon_id.is_empty() {
            return Err(argument("the daemon id", "it is empty"));
        }
        let common = Common::new(api_url, Access::Account { daemon_id: daemon_id.clone() })?;
        Ok(Self { common, daemon_id, tokens: Arc::new(move || Box::pin(tokens())) })
    }

    /// As [`new`](Self::new), with a token that does not change.
    ///
    /// # Errors
    /// As [`new`](Self::new), and a token that is empty or has a space, a line break or what is not ASCII.
    pub fn with_token(api_url: &str, daemon_id: impl Into<String>, token: impl Into<String>) -> Result<Self, Error> {
        let token = Zeroizing::new(token.into());
        check_credential(&token).map_err(|reason| argument("the access token", reason))?;
        Self::new(api_url, daemon_id, move || {
            let token = token.to_string();
            async move { Ok(token) }
        })
    }

    common_options!();

    /// Starts connecting, in a task of its own, and goes on until the client is closed or dropped.
    ///
    /// # Errors
    /// A policy or limit that cannot work. No Tokio runtime here. The world cannot be set up. Everything else shows in [`Client::when_ready`] and the events.
    pub fn connect(self) -> Result<Client, Error> {
        self.common.connect(Source::Account { daemon_id: self.daemon_id, tokens: self.tokens })
    }
}

impl QuickConnect {
    /// A client for the daemon that made this code, `abcd-efgh-ijkl`; a link with `#qc=` in it is taken too.
    ///
    /// # Errors
    /// A bad API URL, or text that is no code.
    pub fn new(api_url: &str, code: &str) -> Result<Self, Error> {
        let text = code.rsplit_once("#qc=").map_or(code, |(_, code)| code).trim();
        let code = text.parse().map_err(|e| argument("the Quick Connect code", e))?;
        Ok(Self { common: Common::new(api_url, Access::QuickConnect)?, code })
    }

    common_options!();

    /// Redeems the code and connects, in a task of its own. A connection that is lost later closes the client (CLI-02).
    ///
    /// # Errors
    /// A policy or limit that cannot work. No Tokio runtime here. The world cannot be set up. Everything else shows in [`Client::when_ready`] and the events.
    pub fn connect(self) -> Result<Client, Error> {
        self.common.connect(Source::Code(self.code))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("daemon_id", &self.daemon_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for QuickConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuickConnect")
    }
}

/// The client's end of a session that is made again whenever it is lost. Cheap to clone; when the last clone is dropped it closes.
///
/// It is a [`Peer`]: calls, events and handlers stand there.
#[derive(Clone)]
pub struct Client {
    peer: Peer,
    owner: Arc<Owner>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &*self.owner.state.borrow()).finish_non_exhaustive()
    }
}

impl Deref for Client {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.peer
    }
}

struct Owner {
    shared: Arc<Shared<Machine>>,
    state: watch::Sender<State>,
    lifecycle: broadcast::Sender<Lifecycle>,
    /// What the first who asks is given: it has heard everything from the start.
    first: Mutex<Option<broadcast::Receiver<Lifecycle>>>,
    ended: watch::Sender<Option<CloseReason>>,
    finished: watch::Sender<bool>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.with(|machine, _| machine.close());
    }
}

impl Client {
    /// Waits until the session stands; stays pending while it is paused (CLI-15). Cancel-safe.
    ///
    /// # Errors
    /// The client closed, and why.
    pub async fn when_ready(&self) -> Result<(), Error> {
        let mut state = self.owner.state.subscribe();
        let quirks = self.peer.hub().quirks;
        loop {
            let now = *state.borrow_and_update();
            match now {
                State::Active => return Ok(()),
                State::Paused if quirks.has(Quirk::ReadyWhilePaused) => return Ok(()),
                State::Closed if quirks.has(Quirk::WaitsForClosed) => std::future::pending().await,
                State::Closed => break,
                State::Idle | State::Connecting | State::Negotiating | State::Paused | State::Reconnecting => {}
            }
            if state.changed().await.is_err() {
                break;
            }
        }
        Err(Error::Closed(self.closed().await))
    }

    /// The state now, and every later one; a reader that is slow sees the newest.
    pub fn state(&self) -> watch::Receiver<State> {
        self.owner.state.subscribe()
    }

    /// Everything that happens, in order: for the first who asks from the very start, for everybody later from now on. A reader that is
    /// more than 256 events behind is told how many it missed.
    pub fn events(&self) -> LifecycleEvents {
        let first = crate::hub::lock(&self.owner.first).take();
        let receiver = first.unwrap_or_else(|| self.owner.lifecycle.subscribe());
        // Looked at after subscribing: the last event is told before the end is.
        let over = self.owner.ended.borrow().is_some();
        LifecycleEvents(Told::new(receiver, over))
    }

    /// The daemon's id; empty before a Quick Connect code is redeemed.
    pub fn daemon_id(&self) -> String {
        self.owner.shared.look(|machine| machine.daemon_id().to_owned())
    }

    /// Waits until the client has closed, and says why. Cancel-safe.
    pub async fn closed(&self) -> CloseReason {
        let mut ended = self.owner.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(CloseReason::ByUser),
            Err(_) => CloseReason::ByUser,
        }
    }

    /// Whether keys, what keys come from, or a token are held; for tests.
    #[doc(hidden)]
    pub fn holds_secrets(&self) -> bool {
        self.owner.shared.look(Machine::holds_secrets)
    }

    /// Closes for good, promptly from every state: waiting calls end with `peer_closed` (CLI-14). Closing twice is fine.
    ///
    /// Cancel-safe: from the first poll on the client closes, waited for or not.
    pub async fn close(&self) {
        self.owner.shared.with(|machine, _| machine.close());
        // There is no error: the sender is ours.
        let _ = self.owner.finished.subscribe().wait_for(|finished| *finished).await;
    }
}

impl PeerCore for Shared<Machine> {
    fn call(&self, call: CallId, method: &str, params: Option<Bytes>, limits: CallLimits) -> Result<(), CallError> {
        self.with(|machine, now| machine.call(call, method, params, limits, now))
    }
    fn cancel(&self, call: CallId) {
        self.with(|machine, _| machine.cancel(call));
    }
    fn emit(&self, name: &EventName, data: Option<Bytes>) -> Result<(), CallError> {
        self.with(|machine, now| machine.emit(name, data, now))
    }
    fn send_app(&self, subject: &str, data: Bytes) -> Result<FrameId, CallError> {
        self.with(|machine, now| machine.send_app(subject, data, now))
    }
    fn unsent(&self) -> BTreeSet<FrameId> {
        self.look(|machine| machine.unsent().collect())
    }
    fn respond(&self, cid: FrameId, answer: Answer) {
        self.with(|machine, now| machine.respond(cid, answer, now));
    }
    fn release(&self, size: usize) {
        self.with(|machine, _| machine.release(size));
    }
    fn policy(&self) -> RpcPolicy {
        self.look(Machine::rpc_policy)
    }
    fn why_over(&self) -> Option<Error> {
        self.look(|machine| machine.close_reason().cloned()).map(Error::Closed)
    }
    fn writable(&self) -> BoxFuture<'_, ()> {
        Box::pin(Shared::writable(self))
    }
}

/// A source of randomness of its own for a future.
pub(crate) fn fork(parent: &mut dyn Entropy) -> Box<dyn Entropy> {
    struct Once(Zeroizing<[u8; 64]>, usize);
    impl Entropy for Once {
        fn fill(&mut self, out: &mut [u8]) {
            for byte in out {
                *byte = self.0[self.1 % 64];
                self.1 += 1;
            }
        }
    }
    Box::new(Once(Zeroizing::new(sideband_protocol::entropy::bytes(parent)), 0))
}
