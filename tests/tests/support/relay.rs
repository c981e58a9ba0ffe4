//! A relay alone on a free port, whose tokens the test signs.

use std::{net::SocketAddr, sync::Arc};

use sideband::SessionId;
use sideband_env::{Env, Timeline};
use sideband_protocol::token::{Claims, KeySet, Signer};
use sideband_relay_sim::{KeySource, Relay, RelayConfig};
use sideband_sim_kit::{
    event::EventSink,
    server::{ServeOptions, serve},
};
use tokio::sync::oneshot;

use super::{Peer, any_port, connect, real};

/// What the test's tokens name as their issuer.
pub(crate) const ISSUER: &str = "https://api.test";
/// The daemon that they are about.
pub(crate) const DAEMON: &str = "d_1";

/// Keys that are always there.
pub(crate) fn keys_of(keys: KeySet) -> KeySource {
    KeySource::InProcess(Arc::new(move || keys.clone()))
}

/// A running relay. Dropping it ends the server.
pub(crate) struct Relaying {
    pub(crate) relay: Relay,
    pub(crate) addr: SocketAddr,
    pub(crate) events: EventSink,
    env: Env,
    signer: Signer,
    _stop: oneshot::Sender<()>,
}

impl Relaying {
    /// A relay with the defaults, whose key the test has.
    pub(crate) async fn start() -> Self {
        Self::in_world(real()).await
    }

    /// The same in a world that is there already; making one takes a while.
    pub(crate) async fn in_world(env: Env) -> Self {
        let keys = KeySet::from_keys([signer().public()]);
        Self::with(env, RelayConfig::new(ISSUER, keys_of(keys))).await
    }

    pub(crate) async fn with(env: Env, config: RelayConfig) -> Self {
        let events = EventSink::new(Timeline::start(), "relay");
        let relay = Relay::new(env.clone(), config, events.clone());
        let listener = env.network.bind(any_port()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(listener, relay.router(), ServeOptions::default(), async { drop(stopped.await) }));
        Self { relay, addr, events, env, signer: signer(), _stop: stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/relay", self.addr)
    }

    pub(crate) async fn client(&self, session: SessionId) -> Peer {
        let claims = Claims::client(ISSUER, "u_1", DAEMON, session, "t-1", self.env.clock.unix_seconds());
        connect(self.addr, &self.signer.sign(&claims)).await.unwrap()
    }

    pub(crate) async fn daemon(&self) -> Peer {
        let claims = Claims::daemon(ISSUER, DAEMON, "t-2", self.env.clock.unix_seconds(), true);
        connect(self.addr, &self.signer.sign(&claims)).await.unwrap()
    }
}

fn signer() -> Signer {
    Signer::from_seed("k-1", &[7; 32])
}
