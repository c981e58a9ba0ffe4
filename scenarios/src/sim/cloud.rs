//! The hosts `api`, `relay` and `cloud`: the production routers over the network seam.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::Router;
use sideband_api_sim::{Advertised, Api, ApiConfig, Daemon, Digest, MemoryStore, Store};
use sideband_env::{BoxFuture, Env, Timeline};
use sideband_relay_sim::{KeySource, Relay, RelayConfig};
use sideband_sim_kit::{
    admin::{ADMIN_PATH, RotateKeys},
    event::EventSink,
    fault::{FaultEngine, FaultPlan, FaultRule},
    guard::guard_admin,
    presence::{HttpPresence, Presence},
    server::{ServeOptions, serve},
};

use super::cell::{Cell, Common, Live, lock};
use crate::{
    cloud::{LatePresence, relay_url, upgrades_to},
    scenario::Action,
};

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The URL of a host's control plane.
pub(super) fn base(host: &str) -> String {
    format!("http://{host}")
}

/// Runs the host until it is told to end.
pub(super) async fn host(common: Arc<Common>, cell: Arc<Cell>) -> Fallible {
    let env = common.env(&cell);
    let sink = common.sink(&cell);
    let kind = cell.spec.kind;
    let faults = FaultEngine::new(Timeline::start());
    faults.begin(rest_of_plan(&common, &cell))?;

    let issuer = if kind.has_api() {
        base(&cell.name)
    } else {
        let api = common.host_for(cell.spec.api.as_deref(), |host| host.kind.has_api());
        base(&api.ok_or("there is no control plane")?)
    };
    let late = Arc::new(LatePresence::default());
    let api = if kind.has_api() { Some(api(&common, &cell, &env, &sink, &faults, &late)?) } else { None };
    let relay = if kind.has_relay() {
        let keys = match &api {
            None => KeySource::Http { issuer: issuer.clone() },
            Some(api) => asked(api.clone()),
        };
        let mut config = RelayConfig::new(&issuer, keys);
        config.trace_frames = true;
        config.region = if kind.has_api() { None } else { cell.spec.region.clone() };
        config.faults = Some(faults.clone());
        if let Some(patch) = &cell.spec.limits {
            config.limits = config.limits.patched(patch)?;
        }
        config.danger_quirks = common.options.danger_relay_quirks;
        let relay = Relay::new(env.clone(), config, sink.clone());
        if kind.has_api() {
            late.fill(relay.clone());
        }
        Some(relay)
    } else {
        None
    };

    let app = match (&api, &relay) {
        (Some(api), Some(relay)) => upgrades_to(relay, api.router()),
        (Some(api), None) => api.router(),
        (None, Some(relay)) => {
            let admin = guard_admin(relay.admin_router(), Some(common.admin.clone()));
            Router::new().nest(ADMIN_PATH, admin).fallback_service(relay.router())
        }
        (None, None) => return Err("neither relay nor control plane".into()),
    };
    cell.set_live(Live { relay: relay.clone(), faults: Some(faults.clone()), ..Live::default() });
    let listener = env.network.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80))).await?;
    let options = ServeOptions { date_header: false, ..ServeOptions::default() };
    let server = tokio::spawn(serve(listener, app, options, std::future::pending()));
    while let Some(action) = cell.command().await {
        act(&common, &cell, &action, api.as_ref(), relay.as_ref(), &faults).await;
    }
    if let Some(relay) = &relay {
        relay.shutdown().await;
    }
    late.empty();
    server.abort();
    cell.stopped.store(true, Ordering::SeqCst);
    std::future::pending().await
}

fn asked(api: Api) -> KeySource {
    let ask = move || -> BoxFuture<'static, _> {
        let api = api.clone();
        Box::pin(async move { api.fetch_key_set().await.map_err(|error| error.to_string()) })
    };
    KeySource::Asked(Arc::new(ask))
}

fn api(
    common: &Common,
    cell: &Cell,
    env: &Env,
    sink: &EventSink,
    faults: &FaultEngine,
    late: &Arc<LatePresence>,
) -> Fallible<Api> {
    let mut disk = lock(&cell.disk);
    let store: Arc<dyn Store> = match &disk.store {
        Some(store) => store.clone(),
        None => {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
            for (place, credentials) in common.credentials.values().enumerate() {
                if place == 0 {
                    credentials.install(&*store)?;
                } else {
                    let user = sideband_api_sim::User::new(&credentials.user_id);
                    store.add_user(&user, Digest::of(credentials.access_token.expose()))?;
                    let daemon = Daemon::new(&credentials.daemon_id, &credentials.user_id);
                    store.add_daemon(&daemon, Digest::of(credentials.api_key.expose()))?;
                }
            }
            for (token, user) in common.tokens.values() {
                store.add_access_token(Digest::of(token.expose()), user)?;
            }
            disk.store = Some(store.clone());
            store
        }
    };
    drop(disk);
    let issuer = base(&cell.name);
    let mut config = ApiConfig::new(&issuer);
    config.region.clone_from(&cell.spec.region);
    config.concurrent_sessions = cell.spec.concurrent_sessions;
    if let Some(overlap) = cell.spec.key_overlap {
        config.key_overlap = overlap.0.as_secs();
    }
    config.danger_quirks = common.options.danger_api_quirks;
    let presence: Arc<dyn Presence> = if cell.spec.kind.has_relay() {
        config.relay_url = Advertised::Fixed(relay_url(&issuer));
        late.clone()
    } else {
        let relay = common.host_for(cell.spec.relay.as_deref(), |host| host.kind.has_relay());
        let relay = relay.ok_or("there is no relay")?;
        config.relay_url = Advertised::Fixed(relay_url(&base(&relay)));
        let url = format!("{}{ADMIN_PATH}", base(&relay)).parse()?;
        Arc::new(HttpPresence::new(env.clone(), url, Some(common.admin.clone())))
    };
    config.connect_base = Advertised::Fixed(format!("{issuer}/connect"));
    Ok(Api::new(env.clone(), config, store, presence, sink.clone())?.with_faults(faults.clone()))
}

/// The rules for this host, without what they did in its earlier lives.
fn rest_of_plan(common: &Common, cell: &Cell) -> FaultPlan {
    let fired = lock(&cell.fired);
    let past = Duration::from_millis(if fired.is_empty() { 0 } else { common.sink.now() });
    let mut plan = FaultPlan { seed: common.plan.seed, faults: Vec::new() };
    for rule in &common.plan.faults {
        let mut rule = rule.clone();
        let place = rule.place();
        let api = matches!(place.name(), "api.request" | "keys");
        let here = (api && cell.spec.kind.has_api()) || (!api && place.name() != "net" && cell.spec.kind.has_relay());
        if !here {
            continue;
        }
        let id = rule.id.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some((seen, times)) = fired.get(&id) {
            rule.trigger.skip = rule.trigger.skip.saturating_sub(*seen);
            if let Some(most) = rule.trigger.times {
                match most.saturating_sub(*times) {
                    0 => continue,
                    left => rule.trigger.times = Some(left),
                }
            }
            if let Some(lasts) = rule.trigger.lasts {
                let left = (rule.trigger.from + lasts).saturating_sub(past);
                if left.is_zero() {
                    continue;
                }
                rule.trigger.lasts = Some(left.min(lasts));
            }
            rule.trigger.from = rule.trigger.from.saturating_sub(past);
        }
        plan.faults.push(rule);
    }
    plan
}

async fn act(
    common: &Common,
    cell: &Cell,
    action: &Action,
    api: Option<&Api>,
    relay: Option<&Relay>,
    faults: &FaultEngine,
) {
    let outcome: Result<(), String> = match (action, api, relay) {
        (Action::Rotate(rotate), Some(api), _) => {
            let how = RotateKeys { hard: rotate.hard, overlap_seconds: rotate.overlap.map(|time| time.0.as_secs()) };
            api.rotate_with(how).map(drop).map_err(|error| error.to_string())
        }
        (Action::Limits(patch), _, Some(relay)) => relay.set_limits(patch).map(drop).map_err(|error| error.to_string()),
        (Action::Drop(host), _, Some(relay)) => {
            match common.credentials.get(host) {
                Some(daemon) => {
                    relay.drop_daemon(&daemon.daemon_id);
                }
                None => common.wire.cut(host, &cell.name),
            }
            Ok(())
        }
        (Action::AddFault(rule), _, _) => match FaultRule::try_from((**rule).clone()) {
            Ok(rule) => faults.add(rule).map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.message),
        },
        (Action::RemoveFault(id), _, _) => faults.remove(id).map(drop).map_err(|error| error.to_string()),
        (Action::Close, _, Some(relay)) => {
            relay.shutdown().await;
            Ok(())
        }
        _ => Err("this host cannot do that".to_owned()),
    };
    if let Err(problem) = outcome {
        common.fail("step", format!("{}: {problem}", cell.name));
    }
}
