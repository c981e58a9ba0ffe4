//! Relay and control plane as processes of their own: each with its admin API, on an address of its own.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use sideband::env::{EntropySource, Env, Listener, SeededEntropy, Timeline};
use sideband_api_sim::{Advertised, Api, ApiConfig, Bootstrap, MemoryStore};
use sideband_relay_sim::{KeySource, Relay, RelayConfig};
use sideband_scenarios::cloud::{local_url, upgrades_to};
use sideband_sim_kit::{
    admin::{ADMIN_PATH, grades_router, ready_router},
    event::EventSink,
    guard::guard_admin,
    presence::Presence,
    server::{ServeOptions, serve},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    exposure::{Exposed, cannot_listen},
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
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Served {
    fn start(bound: Bound, app: Router, events: EventSink, relay: Option<Relay>) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let server = tokio::spawn(serve(bound.listener, app, ServeOptions::default(), async move {
            // An error would mean that the server is gone.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Self { events, relay, stop, server }
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

/// Serves a relay for tokens of this issuer, whose keys are fetched over HTTP.
pub(crate) fn relay(env: Env, bound: Bound, issuer: &str, exposed: &Exposed) -> Served {
    let events = EventSink::new(Timeline::start(), "relay");
    let mut config = RelayConfig::new(issuer, KeySource::Http { issuer: issuer.to_owned() });
    config.origins = exposed.origins.clone();
    let relay = Relay::new(env, config, events.clone());
    let shared = ready_router(&["relay"]).merge(grades_router(events.clone()));
    let admin = guard_admin(shared.merge(relay.admin_router()), exposed.admin_token.clone());
    let app = upgrades_to(&relay, relay.router().nest(ADMIN_PATH, admin));
    Served::start(bound, app, events, Some(relay))
}

/// How a control plane is set up.
pub(crate) struct ApiSetup {
    /// The issuer in tokens.
    pub(crate) issuer: String,
    /// The relay that clients are sent to.
    pub(crate) relay_url: String,
    /// Credentials follow from it; none where others than this machine can connect.
    pub(crate) seed: Option<u64>,
    /// Who knows whether a daemon is online.
    pub(crate) presence: Arc<dyn Presence>,
}

/// Serves a control plane with one user and one daemon.
pub(crate) fn api(env: Env, bound: Bound, setup: ApiSetup, exposed: &Exposed) -> Result<(Served, Bootstrap), Failure> {
    let events = EventSink::new(Timeline::start(), "api");
    let mut credentials = match setup.seed {
        Some(seed) => SeededEntropy::new(seed, "credentials").entropy(),
        None => env.entropy.entropy(),
    };
    let bootstrap = Bootstrap::draw(&mut *credentials);
    let store = MemoryStore::default();
    bootstrap.install(&store).map_err(Failure::cannot_run)?;
    let mut config = ApiConfig::new(setup.issuer);
    config.relay_url = Advertised::Fixed(setup.relay_url);
    config.origins = exposed.origins.clone();
    let api = Api::new(env, config, Arc::new(store), setup.presence, events.clone());
    let shared = ready_router(&["api"]).merge(grades_router(events.clone()));
    let admin = guard_admin(shared.merge(api.admin_router()), exposed.admin_token.clone());
    Ok((Served::start(bound, api.router().nest(ADMIN_PATH, admin), events, None), bootstrap))
}
