//! Relay and control plane as processes of their own: each with its admin API, on an address of its own.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::Router;
use sideband::env::{Env, Listener, Timeline};
use sideband_api_sim::{Api, ApiConfig, Bootstrap, MemoryStore, Store};
use sideband_relay_sim::{KeySource, Relay, RelayConfig};
use sideband_scenarios::{
    cloud::{local_url, resets, upgrades_to, with_admin},
    state::{self, BeginError, Beginning},
};
use sideband_sim_kit::{
    admin::{ready_routes, reset_routes},
    event::EventSink,
    fault::{self, FaultEngine, FaultPlan, Place},
    limits::RelayLimits,
    metrics::Metrics,
    presence::Presence,
    server::{ServeOptions, serve},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    exposure::{Exposed, cannot_listen, state_failure},
    failure::Failure,
    tls::Security,
};

/// An address that is listened on, and nothing serves yet.
pub(crate) struct Bound {
    pub(crate) listener: Box<dyn Listener>,
    /// The URL by which this machine reaches it.
    pub(crate) local: String,
    /// The address.
    pub(crate) addr: SocketAddr,
}

impl Bound {
    /// Listens.
    pub(crate) async fn to(addr: SocketAddr, security: &Security, env: &Env) -> Result<Self, Failure> {
        let listener = env.network.bind(addr).await.map_err(|error| cannot_listen(addr, &error))?;
        let bound = listener.local_addr().map_err(|error| cannot_listen(addr, &error))?;
        Ok(Self { listener: security.guard(listener), local: local_url(bound, security.is_tls()), addr: bound })
    }
}

/// A server that runs.
pub(crate) struct Served {
    /// What happens.
    pub(crate) events: EventSink,
    /// The relay, if it is one.
    pub(crate) relay: Option<Relay>,
    /// The faults in force.
    pub(crate) faults: FaultEngine,
    store: Arc<dyn Store>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Served {
    fn start(
        bound: Bound,
        app: Router,
        events: EventSink,
        relay: Option<Relay>,
        faults: FaultEngine,
        store: Arc<dyn Store>,
    ) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let server = tokio::spawn(serve(bound.listener, app, ServeOptions::default(), async move {
            // An error would mean that the server is gone.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Self { events, relay, faults, store, stop, server }
    }

    /// As [`Cloud::begin_faults`](sideband_scenarios::cloud::Cloud::begin_faults).
    pub(crate) fn begin_faults(&self, given: Option<FaultPlan>) -> Result<Beginning, BeginError> {
        state::begin_faults(&self.faults, self.store.clone(), given)
    }

    /// Says goodbye to who is connected (REL-24), and ends.
    pub(crate) async fn shutdown(mut self) {
        if let Some(relay) = &self.relay {
            relay.shutdown().await;
        }
        self.stop.send_replace(true);
        // An error would mean that it was cut or panicked; it is gone either way.
        let _ = (&mut self.server).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// How a relay is set up.
pub(crate) struct RelaySetup {
    /// The issuer of the tokens that let in; its keys are fetched over HTTP.
    pub(crate) issuer: String,
    /// Its region (TOK-08).
    pub(crate) region: Option<String>,
    /// Its limits, to which a reset comes back.
    pub(crate) limits: RelayLimits,
    /// Where used session ids and faults outlive the process; in memory without.
    pub(crate) state: Option<PathBuf>,
    /// Whether each frame is an event.
    pub(crate) trace_frames: bool,
}

/// Serves a relay.
pub(crate) fn relay(env: Env, bound: Bound, setup: RelaySetup, exposed: &Exposed) -> Result<Served, Failure> {
    let RelaySetup { issuer, region, limits, state, trace_frames } = setup;
    let events = EventSink::new(Timeline::start(), "relay");
    let mut config = RelayConfig::new(&issuer, KeySource::Http { issuer: issuer.clone() });
    config.origins = exposed.origins.clone();
    config.region = region;
    config.limits = limits;
    config.trace_frames = trace_frames;
    let faults = FaultEngine::new(Timeline::start());
    config.faults = Some(faults.clone());
    let store: Arc<dyn Store> = match &state {
        Some(file) => state::open_file(&env, file).map_err(|error| state_failure(error.into()))?,
        None => Arc::new(MemoryStore::default()),
    };
    if state.is_some() {
        config.used_sessions = state::used_sessions(&env, store.clone()).map_err(Failure::cannot_run)?;
    }
    let relay = Relay::new(env, config, events.clone());
    let seen = relay.clone();
    let metrics = Metrics::new(&events, Some(Arc::new(move || seen.status())));
    let admin = ready_routes(&["relay"]).merge(relay.admin_routes());
    let admin = admin.merge(fault::admin::routes(faults.clone(), Place::OF_RELAY));
    let admin = admin.merge(reset_routes(resets(&events, None, Some(&relay), Some(&faults))));
    let app = with_admin(relay.router(), admin, &events, &metrics, exposed.admin_token.as_ref());
    let app = upgrades_to(&relay, app);
    Ok(Served::start(bound, app, events, Some(relay), faults, store))
}

/// How a control plane is set up.
pub(crate) struct ApiSetup {
    /// Issuer, relays, region and limits; who may ask is filled in.
    pub(crate) config: ApiConfig,
    /// Credentials follow from it; none where others than this machine can connect.
    pub(crate) seed: Option<u64>,
    /// The file in which accounts, keys and codes outlive the process.
    pub(crate) state: Option<PathBuf>,
    /// Who knows whether a daemon is online.
    pub(crate) presence: Arc<dyn Presence>,
}

/// Serves a control plane with one user and one daemon.
pub(crate) fn api(env: Env, bound: Bound, setup: ApiSetup, exposed: &Exposed) -> Result<(Served, Bootstrap), Failure> {
    let events = EventSink::new(Timeline::start(), "api");
    let (store, bootstrap) = state::open(&env, setup.seed, setup.state.as_deref()).map_err(state_failure)?;
    let mut config = setup.config;
    config.origins = exposed.origins.clone();
    let api = Api::new(env, config, store.clone(), setup.presence, events.clone()).map_err(Failure::cannot_run)?;
    let faults = FaultEngine::new(Timeline::start());
    let api = api.with_faults(faults.clone());
    let metrics = Metrics::new(&events, None);
    let admin = ready_routes(&["api"]).merge(api.admin_routes());
    let admin = admin.merge(fault::admin::routes(faults.clone(), Place::OF_API));
    let admin = admin.merge(reset_routes(resets(&events, Some(&api), None, Some(&faults))));
    let app = with_admin(api.router(), admin, &events, &metrics, exposed.admin_token.as_ref());
    Ok((Served::start(bound, app, events, None, faults, store), bootstrap))
}
