//! A world in which an endpoint is alone with its test: every API call and every dial waits until the test answers it.
//!
//! Built on `protocol` and `env` alone, so that it can be wrong in every way: the relay and the far end are whatever the test says. Nothing here
//! decides anything by itself; the journeys ([`World::join`], [`World::go_online`]) are shorthand for what the specification makes of an ordinary day.
//!
//! | the endpoint under test does | the test gets | and answers |
//! |---|---|---|
//! | an API call | [`World::api`] → [`ApiCall`] | with data, a status, anything, or never |
//! | a dial | [`World::dial`] → [`Dial`] | with a refusal, or [`Dial::open`] → [`Socket`] |
//! | sends and receives frames | [`Socket`], [`Link`] | with frames, bytes, Control codes, closes and cuts |
//!
//! Time is tokio's and meant to be paused: whoever waits longer than [`PATIENCE`] fails.

mod api;
mod far;
pub mod hostile;
mod relay;

use std::{future::Future, sync::Arc, time::Duration};

use serde_json::json;
use sideband_env::{Env, FixedClock, SeededEntropy};
use sideband_protocol::{
    Entropy, SessionId,
    crypto::Accept,
    token::{Claims, Signer},
    wire::Frame,
};
use tokio::sync::mpsc;

pub use self::{
    api::ApiCall,
    far::{FarClient, FarDaemon, Line, Link, envelope_of, event, hello, introduction, message},
    relay::{Dial, Got, Socket},
};

/// How long anything is waited for, in virtual time.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// The wall clock's time at the start, in seconds since 1970.
pub const START: u64 = 1_800_000_000;
/// The daemon of the journeys.
pub const DAEMON: &str = "d_far";
/// The control plane of the journeys.
pub const API_URL: &str = "http://api.test";
/// The relay of the journeys.
pub const RELAY_URL: &str = "ws://relay.test/relay";

/// Waits, and fails when [`PATIENCE`] is over.
///
/// # Panics
/// When nothing came in time.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain for {what}", PATIENCE.as_secs()),
    }
}

/// Everything that the endpoint under test asks of its surroundings, in the order asked.
pub struct World {
    calls: mpsc::UnboundedReceiver<ApiCall>,
    dials: mpsc::UnboundedReceiver<Dial>,
    clock: Arc<FixedClock>,
    entropy: Box<dyn Entropy>,
    sessions: u64,
    /// The daemon that a client under test is to meet.
    pub daemon: FarDaemon,
}

impl World {
    /// A world, and the environment to give to the endpoint. All randomness follows from the seed.
    pub fn new(seed: u64) -> (Self, Env) {
        use sideband_env::EntropySource as _;
        let source = SeededEntropy::new(seed, "endpoint");
        let mut entropy = SeededEntropy::new(seed, "world").entropy();
        let clock = Arc::new(FixedClock::at_seconds(START));
        let (http, calls) = api::http();
        let (network, dials) = relay::network();
        let env = Env { clock: clock.clone(), entropy: Arc::new(source), network, http };
        let daemon = FarDaemon::new(DAEMON, &mut *entropy);
        (Self { calls, dials, clock, entropy, sessions: 0, daemon }, env)
    }

    /// The wall clock of the endpoint.
    pub fn clock(&self) -> &FixedClock {
        &self.clock
    }

    /// Randomness for whatever the test makes.
    pub fn entropy(&mut self) -> &mut dyn Entropy {
        &mut *self.entropy
    }

    /// The next API call.
    ///
    /// # Panics
    /// If none comes.
    pub async fn api(&mut self) -> ApiCall {
        soon("an API call", self.calls.recv()).await.expect("the endpoint's environment is gone")
    }

    /// The next API call, if one comes within this time.
    pub async fn api_within(&mut self, limit: Duration) -> Option<ApiCall> {
        tokio::time::timeout(limit, self.calls.recv()).await.ok().flatten()
    }

    /// The next dial.
    ///
    /// # Panics
    /// If none comes.
    pub async fn dial(&mut self) -> Dial {
        soon("a dial", self.dials.recv()).await.expect("the endpoint's environment is gone")
    }

    /// The next dial, if one comes within this time.
    pub async fn dial_within(&mut self, limit: Duration) -> Option<Dial> {
        tokio::time::timeout(limit, self.dials.recv()).await.ok().flatten()
    }

    /// A session id that was not used before.
    pub fn new_session(&mut self) -> SessionId {
        self.sessions += 1;
        session(0x5e55_0000 + self.sessions)
    }

    // ---- journeys of a client ----

    /// Answers `relay.createSession` or `quickConnect.redeem` with a new session.
    pub async fn grant(&mut self) -> SessionId {
        let id = self.new_session();
        self.api().await.ok(grant(&self.daemon.daemon_id, id));
        id
    }

    /// A client's attempt up to the open socket.
    pub async fn client_socket(&mut self) -> (SessionId, Socket) {
        let id = self.grant().await;
        (id, self.dial().await.open().await)
    }

    /// A client's attempt up to the keys: the Accept is sent, introductions are not.
    pub async fn client_keys(&mut self) -> Link {
        let (id, socket) = self.client_socket().await;
        let link = self.agree(socket).await;
        assert_eq!(link.session(), id);
        link
    }

    /// Answers the HandshakeInit on an open socket of a client.
    pub async fn agree(&mut self, mut socket: Socket) -> Link {
        let init = socket.frame().await;
        let (accept, line) = self.daemon.accept(&init, &mut *self.entropy);
        socket.send(&accept).await;
        Link::new(socket, line)
    }

    /// The daemon's answer to a HandshakeInit, still to be spoilt, and its end of the session.
    ///
    /// # Panics
    /// If the frame is another one.
    pub fn accept_parts(&mut self, init: &Frame) -> (Accept, Line) {
        self.daemon.accept_parts(init, &mut *self.entropy)
    }

    /// The daemon's answer to a client's HandshakeInit.
    pub fn accept(&mut self, init: &Frame) -> (Frame, Line) {
        self.daemon.accept(init, &mut *self.entropy)
    }

    /// A client's attempt up to the active session.
    pub async fn join(&mut self) -> Link {
        let mut link = self.client_keys().await;
        link.introduce().await;
        link
    }

    // ---- journeys of a daemon ----

    /// Answers `daemon.renewToken`.
    pub async fn renew(&mut self, resumable: bool) {
        self.api().await.ok(json!({ "presenceToken": presence_token(&self.daemon.daemon_id, resumable) }));
    }

    /// A daemon's attempt up to the open socket.
    pub async fn go_online(&mut self, resumable: bool) -> Link {
        self.renew(resumable).await;
        Link::alone(self.dial().await.open().await)
    }

    /// A client starts a session with the daemon under test: keys and introductions.
    pub async fn meet(&mut self, link: &mut Link) -> SessionId {
        let id = self.new_session();
        self.exchange(link, id).await;
        link.introduce_on(id).await;
        id
    }

    /// A client agrees on keys with the daemon under test; it introduces itself later.
    pub async fn exchange(&mut self, link: &mut Link, id: SessionId) {
        let (far, init) = FarClient::new(id, &self.daemon.daemon_id, &mut *self.entropy);
        link.socket.send(&init).await;
        let accept = link.socket.frame().await;
        link.add(far.finish(&accept));
    }
}

/// The session with this number.
///
/// # Panics
/// If the number is zero.
pub fn session(number: u64) -> SessionId {
    SessionId::new(number).expect("a session id is not zero")
}

fn signer() -> Signer {
    Signer::from_seed("k-far", &[7; 32])
}

/// A client's token; endpoints read it without verifying it.
pub fn client_token(daemon: &str, session: SessionId) -> String {
    signer().sign(&Claims::client(API_URL, "u_far", daemon, session, "t-far", START))
}

/// A daemon's presence token.
pub fn presence_token(daemon: &str, resumable: bool) -> String {
    signer().sign(&Claims::daemon(API_URL, daemon, "t-far", START, resumable))
}

/// What `relay.createSession` and `quickConnect.redeem` answer.
pub fn grant(daemon: &str, session: SessionId) -> serde_json::Value {
    json!({ "relayUrl": RELAY_URL, "token": client_token(daemon, session), "daemonId": daemon })
}
