//! The host `own`: code of a Rust user, built on the SDK or on anything else that takes the seams.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use sideband::env::Env;
use sideband_sim_kit::event::EventKind;

use super::{
    cell::{Cell, Common},
    cloud::base,
};
use crate::{
    cloud::relay_url,
    scenario::{Action, Kind},
};

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

pub(super) type Code = Arc<dyn Fn(HostContext) -> Pin<Box<dyn Future<Output = Fallible>>>>;

/// A host with code of its own.
#[derive(Clone)]
pub struct OwnHost {
    pub(super) name: String,
    pub(super) code: Code,
}

impl fmt::Debug for OwnHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnHost").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What code on a host of its own is given.
#[derive(Clone)]
pub struct HostContext {
    pub(super) common: Arc<Common>,
    pub(super) cell: Arc<Cell>,
}

impl fmt::Debug for HostContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostContext").field("host", &self.cell.name).finish_non_exhaustive()
    }
}

impl HostContext {
    /// The host's name.
    pub fn name(&self) -> &str {
        &self.cell.name
    }

    /// The seams: virtual time, randomness that follows from seed and host, the simulated network.
    pub fn env(&self) -> Env {
        self.common.env(&self.cell)
    }

    fn first(&self, named: Option<&str>, fits: impl Fn(Kind) -> bool) -> Option<String> {
        self.common.host_for(named, |host| fits(host.kind))
    }

    /// The control plane's URL; empty if the scenario has none.
    pub fn api_url(&self) -> String {
        self.first(self.cell.spec.api.as_deref(), Kind::has_api).map(|host| base(&host)).unwrap_or_default()
    }

    /// The relay's URL; empty if the scenario has none.
    pub fn relay_url(&self) -> String {
        let relay = self.first(self.cell.spec.relay.as_deref(), Kind::has_relay);
        relay.map(|host| relay_url(&base(&host))).unwrap_or_default()
    }

    fn credentials(&self) -> Option<&sideband_api_sim::Bootstrap> {
        let daemon = self.first(self.cell.spec.daemon.as_deref(), |kind| kind == Kind::Daemon);
        self.common.credentials.get(&daemon.unwrap_or_else(|| self.cell.name.clone()))
    }

    /// The id of the daemon that it connects to, or, if the scenario has no daemon, of the one that it is.
    pub fn daemon_id(&self) -> String {
        self.credentials().map(|credentials| credentials.daemon_id.clone()).unwrap_or_default()
    }

    /// An access token of that daemon's user.
    pub fn access_token(&self) -> String {
        self.common.tokens.get(&self.cell.name).map(|(token, _)| token.expose().to_owned()).unwrap_or_default()
    }

    /// That daemon's API key.
    pub fn api_key(&self) -> String {
        self.credentials().map(|credentials| credentials.api_key.expose().to_owned()).unwrap_or_default()
    }

    /// A Quick Connect code that a step has made, by its name.
    pub fn code(&self, name: &str) -> Option<String> {
        super::cell::lock(&self.common.codes).get(name).cloned()
    }

    /// Records something that expectations and steps can wait for as `report`.
    pub fn report(&self, report: &str, detail: impl Into<String>) {
        let kind = EventKind::Endpoint { report: report.to_owned(), detail: detail.into() };
        self.common.sink(&self.cell).emit(None, None, kind);
    }

    /// Fails the run unless this holds.
    pub fn expect(&self, holds: bool, what: &str) {
        if !holds {
            self.common.fail(format!("own/{}", self.cell.name), what);
        }
    }

    /// The next step of the scenario for this host; `None` once it is to end.
    pub async fn step(&self) -> Option<Action> {
        self.cell.command().await
    }
}

pub(super) async fn host(common: Arc<Common>, cell: Arc<Cell>, code: Code) -> Fallible {
    code(HostContext { common, cell: cell.clone() }).await?;
    cell.closed.store(true, Ordering::SeqCst);
    cell.stopped.store(true, Ordering::SeqCst);
    std::future::pending().await
}
