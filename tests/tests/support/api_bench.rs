//! A control plane in memory, asked through its router, and a relay that has its keys from there.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
};
use serde_json::{Value, json};
use sideband_api_sim::{Added, Api, ApiConfig, Bootstrap, Daemon, Digest, MemoryStore, Store, User};
use sideband_env::{BoxFuture, Clock, Env, FixedClock, HttpClient, HttpError, HttpRequest, HttpResponse, Timeline};
use sideband_protocol::{api::ApiQuirks, relay::RelayQuirks};
use sideband_relay_sim::KeySource;
use sideband_sim_kit::{
    event::EventSink,
    fault::{FaultEngine, FaultPlan, Format},
    presence::{Presence, PresenceError},
    server::CutConnection,
};
use sideband_tests::script::{START, World};
use tower::ServiceExt;

use crate::bench::{Bench, ISSUER};

/// Who is online, as the test says.
#[derive(Default)]
pub(crate) struct Online(Mutex<BTreeSet<String>>);

impl Presence for Online {
    fn is_online<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        Box::pin(async {
            // Let others in between, as a relay would.
            tokio::task::yield_now().await;
            Ok(self.0.lock().unwrap().contains(daemon_id))
        })
    }
}

/// A control plane with one user and one daemon.
pub(crate) struct ApiBench {
    pub(crate) api: Api,
    pub(crate) router: Router,
    pub(crate) boot: Bootstrap,
    pub(crate) store: Arc<dyn Store>,
    clock: Arc<FixedClock>,
    online: Arc<Online>,
    faults: FaultEngine,
    env: Env,
    /// How often the key set was asked for over HTTP.
    asked: Arc<AtomicUsize>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// A text of a success's data; empty if there is none.
    pub(crate) fn text(&self, member: &str) -> String {
        self.body["result"]["data"][member].as_str().unwrap_or_default().to_owned()
    }

    /// Status, `data.code` and `code` of a failure.
    pub(crate) fn failure(&self) -> (u16, &str, i64) {
        let error = &self.body["error"];
        (self.status, error["data"]["code"].as_str().unwrap_or_default(), error["code"].as_i64().unwrap_or_default())
    }
}

/// A request for a procedure, with `origin` and `authorization` if they are not empty.
pub(crate) fn request(procedure: &str, credential: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request =
        Request::builder().method("POST").uri(format!("/api/trpc/{procedure}")).header("host", "sim.test:7600");
    if !credential.is_empty() {
        request = request.header("authorization", format!("Bearer {credential}"));
    }
    request.body(body.into()).unwrap()
}

impl ApiBench {
    pub(crate) fn new(quirks: ApiQuirks) -> Self {
        let (_world, env) = World::new(1);
        let clock = Arc::new(FixedClock::at_seconds(START));
        let env = Env { clock: clock.clone(), ..env };
        let boot = Bootstrap::draw(env.entropy.entropy().as_mut());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        boot.install(store.as_ref()).unwrap();
        let online = Arc::new(Online::default());
        let timeline = Timeline::start();
        let mut config = ApiConfig::new(ISSUER);
        config.danger_quirks = quirks;
        let faults = FaultEngine::new(timeline);
        let api = Api::new(env.clone(), config, store.clone(), online.clone(), EventSink::new(timeline, "api"));
        let api = api.unwrap().with_faults(faults.clone());
        let (router, asked) = (api.router(), Arc::default());
        Self { api, router, boot, store, clock, online, faults, env, asked }
    }

    /// A relay that reads this control plane's key set over HTTP.
    pub(crate) fn relay(&self, quirks: RelayQuirks) -> Bench {
        let http = Arc::new(Direct { router: self.router.clone(), asked: self.asked.clone() });
        Bench::over(Env { http, ..self.env.clone() }, quirks, |config| {
            config.keys = KeySource::Http { issuer: ISSUER.to_owned() };
        })
    }

    /// How often relays have asked for the key set.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Puts these faults in place of those that there are: none if the text is empty.
    pub(crate) fn faults(&self, plan: &str) {
        self.faults.set(FaultPlan::parse(plan, Format::Toml).unwrap()).unwrap();
    }

    /// One rule about asks for the key set.
    pub(crate) fn keys_fault(&self, action: &str) {
        self.faults(&format!("[[fault]]\non = \"keys\"\nusage = \"publish\"\ndo = {action}"));
    }

    /// Lets the wall clock go on.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Seconds of the wall clock since the start.
    pub(crate) fn elapsed(&self) -> u64 {
        self.clock.unix_seconds() - START
    }

    pub(crate) fn set_online(&self, daemon: &str) {
        self.online.0.lock().unwrap().insert(daemon.to_owned());
    }

    /// A daemon of another user, whose name comes after the first one's or before it.
    pub(crate) fn add_daemon(&self, id: &str, api_key: &str) {
        // The user may be there already.
        let _ = self.store.add_user(&User::new("u_other"), Digest::of("other-token")).unwrap();
        let daemon = Daemon::new(id, "u_other");
        assert_eq!(self.store.add_daemon(&daemon, Digest::of(api_key)).unwrap(), Added::Yes);
    }

    pub(crate) fn user(&self) -> &str {
        self.boot.access_token.expose()
    }

    pub(crate) fn key(&self) -> &str {
        self.boot.api_key.expose()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        // What is not JSON is told apart by its content type.
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn call(&self, procedure: &str, credential: &str, input: Value) -> Answer {
        self.send(request(procedure, credential, input.to_string())).await
    }

    pub(crate) async fn create_session(&self) -> Answer {
        self.call("relay.createSession", self.user(), json!({"daemonId": self.boot.daemon_id})).await
    }

    pub(crate) async fn client_token(&self) -> String {
        self.create_session().await.text("token")
    }

    pub(crate) async fn presence_token(&self) -> String {
        self.call("daemon.renewToken", self.key(), json!(null)).await.text("presenceToken")
    }
}

/// Asks a router as if it were elsewhere.
struct Direct {
    router: Router,
    asked: Arc<AtomicUsize>,
}

impl HttpClient for Direct {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let mut inner = Request::builder().method(request.method).uri(request.url.path());
            inner.headers_mut().unwrap().extend(request.headers);
            let response = self.router.clone().oneshot(inner.body(Body::from(request.body)).unwrap()).await.unwrap();
            if response.extensions().get::<CutConnection>().is_some() {
                return Err(HttpError::Transport("cut".to_owned()));
            }
            let (parts, body) = response.into_parts();
            let body = axum::body::to_bytes(body, request.max_answer).await.unwrap();
            Ok(HttpResponse { status: parts.status, headers: parts.headers, body })
        })
    }
}
