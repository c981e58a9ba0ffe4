//! A whole Sideband cloud on one address: relay, control plane and admin API, over whatever world it is given.

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::header,
    middleware::{self, Next},
    response::Response,
};
use sideband_api_sim::{Advertised, Api, ApiConfig, Bootstrap, DEFAULT_OVERLAP, Store};
use sideband_env::{BoxFuture, Env, Listener, Timeline};
use sideband_relay_sim::{KeySource, Relay, RelayConfig};
use sideband_sim_kit::{
    admin::{ADMIN_PATH, AdminRoutes, ResetError, Resets, described, grades_routes, ready_routes, reset_routes},
    event::EventSink,
    fault::{self, FaultEngine, FaultPlan, Place, SetError},
    guard::{AdminToken, OriginPolicy, guard_admin},
    limits::{RateLimit, RelayLimits},
    metrics::Metrics,
    presence::{AnyPresence, HttpPresence, Presence},
    server::{ServeOptions, serve},
    stream::events_routes,
};
use tokio::{sync::watch, task::JoinHandle};
use tower::ServiceExt;
use url::Url;

use crate::state::{self, BeginError, Beginning, StateError};

/// How a cloud is set up. The default listens to loopback pages only and draws new credentials.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// Credentials follow from this seed instead of being new; never where others than this machine can connect.
    pub seed: Option<u64>,
    /// The file in which accounts, keys, codes, used session ids and the fault plan outlive the process; in memory by default. Its
    /// credentials derive from its own root secret, whatever the seed.
    pub state: Option<PathBuf>,
    /// The web pages that may use it (API-06).
    pub origins: OriginPolicy,
    /// The base URL that others reach it by, `http://…` or `https://…`. Default: `relayUrl` follows each request's Host.
    pub advertise: Option<Url>,
    /// Whether the listener speaks TLS, so that URLs in answers say `https` and `wss`.
    pub tls: bool,
    /// What the admin API asks for; without it only loopback gets in.
    pub admin_token: Option<AdminToken>,
    /// Whether answers carry a `Date`; off in simulation.
    pub date_header: bool,
    /// Whether each frame is an event.
    pub trace_frames: bool,
    /// The faults to begin with, until [`Cloud::begin_faults`] is called. They are not kept.
    pub faults: FaultPlan,
    /// The relay's limits; a reset comes back to them.
    pub limits: RelayLimits,
    /// The control plane's limit of requests; none by default. A reset comes back to it.
    pub api_rate: Option<RateLimit>,
    /// The region of the relay, and that tokens name unless a daemon or its owner has another; none by default (TOK-08).
    pub region: Option<String>,
    /// The relays of other regions, by URL: clients of daemons there are sent to them (TOK-08).
    pub region_relays: BTreeMap<String, String>,
    /// The admin APIs of those relays, which know who is online there, with what they ask for; without one it is not known.
    pub region_admins: Vec<(Url, Option<AdminToken>)>,
    /// Most sessions at once that tokens allow a daemon without a limit of its own; none by default (TOK-11).
    pub concurrent_sessions: Option<u64>,
    /// How long a rotated key stays published, in seconds (KEY-04); [`DEFAULT_OVERLAP`] by default.
    pub key_overlap: u64,
}

impl Default for CloudOptions {
    fn default() -> Self {
        Self {
            seed: None,
            state: None,
            origins: OriginPolicy::default(),
            advertise: None,
            tls: false,
            admin_token: None,
            date_header: true,
            trace_frames: false,
            faults: FaultPlan::default(),
            limits: RelayLimits::default(),
            api_rate: None,
            region: None,
            region_relays: BTreeMap::new(),
            region_admins: Vec::new(),
            concurrent_sessions: None,
            key_overlap: DEFAULT_OVERLAP,
        }
    }
}

/// Why a cloud does not start.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The state file cannot be used, or the first user and daemon cannot be stored.
    #[error(transparent)]
    State(#[from] StateError),
    /// The faults do not hold together.
    #[error("the fault plan does not hold together: {0}")]
    Faults(#[from] SetError),
}

/// A running cloud. Dropping it stops it at once; [`Cloud::shutdown`] says goodbye.
pub struct Cloud {
    addr: SocketAddr,
    base: String,
    issuer: String,
    relay: Relay,
    api: Api,
    store: Arc<dyn Store>,
    bootstrap: Bootstrap,
    faults: FaultEngine,
    events: EventSink,
    presence: Arc<LatePresence>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Cloud {
    /// Starts a cloud on an address; port 0 takes any free one.
    ///
    /// # Errors
    /// The address is taken or not this machine's; or the state file cannot be used.
    pub async fn start(env: Env, addr: SocketAddr, options: CloudOptions) -> Result<Self, CloudError> {
        let bind = |source| CloudError::Bind { addr, source };
        let listener = env.network.bind(addr).await.map_err(bind)?;
        let bound = listener.local_addr().map_err(bind)?;
        Self::start_on(env, listener, bound, options)
    }

    /// Starts a cloud on a listener that is bound already.
    ///
    /// # Errors
    /// The state file cannot be used.
    pub fn start_on(
        env: Env,
        listener: Box<dyn Listener>,
        addr: SocketAddr,
        options: CloudOptions,
    ) -> Result<Self, CloudError> {
        let events = EventSink::new(Timeline::start(), "cloud");
        let faults = FaultEngine::new(Timeline::start());
        faults.begin(options.faults)?;
        let base = match &options.advertise {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => local_url(addr, options.tls),
        };
        let issuer = base.clone();
        let (store, bootstrap) = state::open(&env, options.seed, options.state.as_deref())?;

        let mut api_config = ApiConfig::new(&issuer);
        api_config.origins = options.origins.clone();
        api_config.region = options.region.clone();
        api_config.region_relays = options.region_relays;
        api_config.presence_knows_regions = !options.region_admins.is_empty();
        api_config.concurrent_sessions = options.concurrent_sessions;
        api_config.key_overlap = options.key_overlap;
        api_config.rate_limit = options.api_rate;
        if options.tls {
            api_config.relay_url = Advertised::FollowHost { tls: true };
            api_config.connect_base = Advertised::FollowHost { tls: true };
        }
        if options.advertise.is_some() {
            api_config.relay_url = Advertised::Fixed(relay_url(&base));
            api_config.connect_base = Advertised::Fixed(format!("{base}/connect"));
        }
        // The relay asks the API for keys, the API asks the relay who is online: the API is made first, with a
        // presence that is filled in once the relay is there.
        let presence = Arc::new(LatePresence::default());
        let ask = everywhere(presence.clone(), &env, options.region_admins);
        let api = Api::new(env.clone(), api_config, store.clone(), ask, events.for_host("api"));
        let api = api.map_err(StateError::from)?.with_faults(faults.clone());
        let keys = api.clone();
        let ask = move || -> BoxFuture<'static, _> {
            let keys = keys.clone();
            Box::pin(async move { keys.fetch_key_set().await.map_err(|error| error.to_string()) })
        };
        let mut relay_config = RelayConfig::new(&issuer, KeySource::Asked(Arc::new(ask)));
        relay_config.origins = options.origins;
        relay_config.trace_frames = options.trace_frames;
        relay_config.faults = Some(faults.clone());
        relay_config.limits = options.limits;
        relay_config.region = options.region;
        if options.state.is_some() {
            relay_config.used_sessions = state::used_sessions(&env, store.clone()).map_err(StateError::from)?;
        }
        let relay = Relay::new(env, relay_config, events.for_host("relay"));
        presence.fill(relay.clone());

        let seen = relay.clone();
        let metrics = Metrics::new(&events, Some(Arc::new(move || seen.status())));
        let admin = ready_routes(&["api", "relay"]).merge(api.admin_routes()).merge(relay.admin_routes());
        let admin = admin.merge(fault::admin::routes(faults.clone(), Place::OF_CLOUD));
        let admin = admin.merge(reset_routes(resets(&events, Some(&api), Some(&relay), Some(&faults))));
        let app = with_admin(api.router(), admin, &events, &metrics, options.admin_token.as_ref());
        let app = upgrades_to(&relay, app);
        let (stop, stopped) = watch::channel(false);
        let serve_options = ServeOptions { date_header: options.date_header, ..ServeOptions::default() };
        let server = tokio::spawn(serve(listener, app, serve_options, async move {
            let mut stopped = stopped;
            // An error would mean that the cloud is gone.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Ok(Self { addr, base, issuer, relay, api, store, bootstrap, faults, events, presence, stop, server })
    }

    /// The address that is bound.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The control plane's URL.
    pub fn api_url(&self) -> &str {
        &self.base
    }

    /// The relay's URL.
    pub fn relay_url(&self) -> String {
        relay_url(&self.base)
    }

    /// The admin API's URL.
    pub fn admin_url(&self) -> String {
        format!("{}{ADMIN_PATH}", self.base)
    }

    /// What tokens name as their issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The first user and daemon, with their credentials.
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }

    /// The relay.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The control plane.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The faults in force.
    pub fn faults(&self) -> &FaultEngine {
        &self.faults
    }

    /// Puts the faults of the start in force: a plan that is given wins, and takes the place of the one that the state file keeps;
    /// without one, that holds. From now on every change is kept there before it is answered, and a reset comes back to this plan.
    ///
    /// # Errors
    /// Every [`BeginError`].
    pub fn begin_faults(&self, given: Option<FaultPlan>) -> Result<Beginning, BeginError> {
        state::begin_faults(&self.faults, self.store.clone(), given)
    }

    /// What happens.
    pub fn events(&self) -> &EventSink {
        &self.events
    }

    /// Closes every WebSocket with 1012, refuses new ones with 503, and ends within 5 s (REL-24).
    pub async fn shutdown(mut self) {
        self.relay.shutdown().await;
        self.stop.send_replace(true);
        // An error would mean that it was cut or panicked; it is gone either way.
        let _ = (&mut self.server).await;
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.server.abort();
        self.presence.empty();
    }
}

/// Asks the cloud's own relay, and then those of other regions.
fn everywhere(own: Arc<LatePresence>, env: &Env, others: Vec<(Url, Option<AdminToken>)>) -> Arc<dyn Presence> {
    if others.is_empty() {
        return own;
    }
    let other = |(url, token)| -> Box<dyn Presence> { Box::new(HttpPresence::new(env.clone(), url, token)) };
    let own: Box<dyn Presence> = Box::new(own);
    Arc::new(AnyPresence::new(std::iter::once(own).chain(others.into_iter().map(other)).collect()))
}

/// The URL by which this machine reaches what listens on an address, with TLS or without: loopback, if it listens on every
/// one.
pub fn local_url(addr: SocketAddr, tls: bool) -> String {
    let local = match addr.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => SocketAddr::from(([127, 0, 0, 1], addr.port())),
        ip if ip.is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, addr.port())),
        _ => addr,
    };
    format!("{}://{local}", if tls { "https" } else { "http" })
}

/// What `reset` brings to the state after the start.
pub fn resets(events: &EventSink, api: Option<&Api>, relay: Option<&Relay>, faults: Option<&FaultEngine>) -> Resets {
    let mut resets = Resets::new(events.clone());
    if let Some(faults) = faults {
        resets = resets.faults(faults);
    }
    if let Some(api) = api.cloned() {
        resets = resets.part(move || {
            let api = api.clone();
            async move { api.reset().map_err(|error| ResetError::Store(error.to_string())) }
        });
    }
    if let Some(relay) = relay.cloned() {
        resets = resets.door(move |finish| {
            let relay = relay.clone();
            async move { if relay.reset(finish).await { Ok(()) } else { Err(ResetError::Stops("relay")) } }
        });
    }
    resets
}

/// An app with its admin API, which gets what every sim has: `events`, `grades`, `metrics` and `openapi.json` there, and
/// `/metrics` beside it.
pub fn with_admin(
    app: Router,
    admin: AdminRoutes,
    events: &EventSink,
    metrics: &Metrics,
    token: Option<&AdminToken>,
) -> Router {
    let admin = admin.merge(events_routes(events.clone())).merge(grades_routes(events.clone())).merge(metrics.routes());
    app.nest(ADMIN_PATH, guard_admin(described(admin), token.cloned()))
        .nest("/metrics", guard_admin(metrics.router(), token.cloned()))
}

/// Every request for a WebSocket upgrade is the relay's, the rest the app's.
pub fn upgrades_to(relay: &Relay, app: Router) -> Router {
    app.layer(middleware::from_fn_with_state(relay.router(), upgrades_to_relay))
}

/// `ws://…/relay` for `http://…`.
pub fn relay_url(base: &str) -> String {
    match base.strip_prefix("http") {
        Some(rest) => format!("ws{rest}/relay"),
        None => format!("{base}/relay"),
    }
}

async fn upgrades_to_relay(State(relay): State<Router>, request: Request, next: Next) -> Response {
    let wants =
        request.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if wants { relay.oneshot(request).await.unwrap_or_else(|never| match never {}) } else { next.run(request).await }
}

pub use late::LatePresence;

mod late {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use sideband_env::BoxFuture;
    use sideband_relay_sim::Relay;
    use sideband_sim_kit::presence::{Presence, PresenceError};

    /// Presence by a relay in the same process that is made after the API.
    #[derive(Debug, Default)]
    pub struct LatePresence(Mutex<Option<Relay>>);

    impl LatePresence {
        /// Names the relay.
        pub fn fill(&self, relay: Relay) {
            *self.relay() = Some(relay);
        }

        /// Lets go of the relay, after which nobody is online. A relay that asks the API for keys, while the API asks this,
        /// would hold both for ever.
        pub fn empty(&self) {
            // Dropped when the lock is free: it may be the last one.
            let relay = self.relay().take();
            drop(relay);
        }

        fn relay(&self) -> MutexGuard<'_, Option<Relay>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Presence for LatePresence {
        fn is_online<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
            Box::pin(async move {
                let relay = self.relay().clone();
                match relay {
                    Some(relay) => relay.is_online(daemon_id).await,
                    None => Ok(false),
                }
            })
        }
    }
}
