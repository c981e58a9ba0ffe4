//! The control plane through its router, without sockets.

mod accounts;
mod admin;
mod fault_wires;
mod faults;
mod file;
mod grants;
mod order;
mod procedures;
mod quick_connect;
mod rate;
mod store;

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
};
use serde_json::{Value, json};
use sideband_env::{
    BoxFuture, BoxStream, EntropySource, Env, FixedClock, HttpClient, HttpError, HttpRequest, HttpResponse, Listener,
    Network, SeededEntropy, Target, Timeline,
};
use sideband_protocol::token::{Grant, Policy, Refusal, check};
use sideband_sim_kit::{
    event::{EventKind, EventSink},
    presence::{Presence, PresenceError},
};
use tower::ServiceExt;

use crate::{Added, Api, ApiConfig, Bootstrap, Daemon, Digest, MemoryStore, Store, User};

const NOW: u64 = 1_767_225_600;
const ISSUER: &str = "http://api.test:7600";

/// No network and no HTTP: nothing here may use them.
struct Nowhere;

impl Network for Nowhere {
    fn connect<'a>(&'a self, _target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn bind(&self, _addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

impl HttpClient for Nowhere {
    fn send(&self, _request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(std::future::ready(Err(HttpError::Connect("nowhere".into()))))
    }
}

/// Who is online, as the test says.
#[derive(Default)]
struct Scripted {
    online: Mutex<BTreeSet<String>>,
    broken: Mutex<bool>,
    asked: Mutex<u32>,
}

impl Presence for Scripted {
    fn is_online<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        *self.asked.lock().unwrap() += 1;
        let answer = if *self.broken.lock().unwrap() {
            Err(PresenceError::Unconfigured)
        } else {
            Ok(self.online.lock().unwrap().contains(daemon_id))
        };
        Box::pin(async {
            // Let others in between, as a relay would.
            tokio::task::yield_now().await;
            answer
        })
    }
}

struct World {
    api: Api,
    router: Router,
    store: Arc<dyn Store>,
    presence: Arc<Scripted>,
    clock: Arc<FixedClock>,
    events: EventSink,
    boot: Bootstrap,
}

fn config() -> ApiConfig {
    ApiConfig::new(ISSUER)
}

fn world(config: ApiConfig) -> World {
    seeded(config, 1)
}

fn seeded(config: ApiConfig, seed: u64) -> World {
    on(config, seed, Arc::new(MemoryStore::default()))
}

/// A world on a file; both, since the folder of the file must outlive it.
fn on_file(config: ApiConfig) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(file::open(&folder.path().join("state")).unwrap());
    (on(config, 1, store), folder)
}

fn on(config: ApiConfig, seed: u64, store: Arc<dyn Store>) -> World {
    let clock = Arc::new(FixedClock::at_seconds(NOW));
    let env = Env {
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(seed, "api")),
        network: Arc::new(Nowhere),
        http: Arc::new(Nowhere),
    };
    let boot = Bootstrap::draw(env.entropy.entropy().as_mut());
    boot.install(store.as_ref()).unwrap();
    let presence = Arc::new(Scripted::default());
    let events = EventSink::new(Timeline::start(), "api");
    let api = Api::new(env, config, store.clone(), presence.clone(), events.clone()).unwrap();
    World { router: api.router(), api, store, presence, clock, events, boot }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    /// The data of a success.
    fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        &self.body["result"]["data"]
    }

    fn text(&self, member: &str) -> String {
        self.data()[member].as_str().unwrap().to_owned()
    }

    /// Status and code of a failure, whose shape is checked (API-06).
    fn failure(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/json");
        let data = &self.body["error"]["data"];
        assert_eq!(data["httpStatus"], self.status, "{}", self.body);
        assert!(self.body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(self.body["error"]["code"].as_i64().is_some_and(|code| code < -32_000));
        assert!(data["path"].is_string());
        (self.status, data["code"].as_str().unwrap().to_owned())
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

fn request(procedure: &str, credential: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request =
        Request::builder().method("POST").uri(format!("/api/trpc/{procedure}")).header("host", "sim.test:7600");
    if !credential.is_empty() {
        request = request.header("authorization", format!("Bearer {credential}"));
    }
    request.body(body.into()).unwrap()
}

impl World {
    async fn call(&self, procedure: &str, credential: &str, input: Value) -> Answer {
        send(&self.router, request(procedure, credential, input.to_string())).await
    }

    fn user(&self) -> &str {
        self.boot.access_token.expose()
    }

    fn key(&self) -> &str {
        self.boot.api_key.expose()
    }

    async fn create_session(&self, daemon: &str) -> Answer {
        self.call("relay.createSession", self.user(), json!({"daemonId": daemon})).await
    }

    /// The check that a relay makes of a token.
    fn check(&self, token: &str) -> Result<Grant, Refusal> {
        let now = sideband_env::Clock::unix_seconds(self.clock.as_ref());
        check(Some(token), &self.api.key_set(), &Policy { issuer: ISSUER.into(), region: None, now })
    }

    /// A daemon of another user.
    fn add_strange_daemon(&self) -> &'static str {
        assert_eq!(self.store.add_user(&User::new("u_other"), Digest::of("other-token")).unwrap(), Added::Yes);
        let daemon = Daemon { resumable: true, ..Daemon::new("d_other", "u_other") };
        assert_eq!(self.store.add_daemon(&daemon, Digest::of("sbnd_dak_other")).unwrap(), Added::Yes);
        "d_other"
    }

    fn set_online(&self, daemon: &str) {
        self.presence.online.lock().unwrap().insert(daemon.to_owned());
    }

    /// Procedure and status of every request so far.
    fn requests(&self) -> Vec<(String, u16)> {
        let kinds = self.events.recent().into_iter().map(|event| event.kind);
        kinds
            .filter_map(|kind| {
                if let EventKind::Request { procedure, status, .. } = kind { Some((procedure, status)) } else { None }
            })
            .collect()
    }
}

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}
