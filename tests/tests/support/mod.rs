//! What the end-to-end tests share: a cloud on a free port, endpoints of the SDK on it, and raw peers.
//!
//! Nothing here waits for time: everything waits for messages and events, and [`soon`] fails what hangs.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod raw;
mod relay;
mod seam;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sideband::{
    Account, Client, Context, Daemon, DaemonRetryPolicy, HandlerError, Lifecycle, LifecycleEvents, QuickConnect,
    RetryMode, RetryPolicy, Server, ServerEvent, ServerEvents, SessionId, State,
};
use sideband_env::{Env, HttpRequest, real::Roots};
use sideband_protocol::token::peek;
use sideband_scenarios::cloud::{Cloud, CloudOptions};
use sideband_sim_kit::event::{Event, EventKind, EventSink};
use tokio::sync::{broadcast, watch};

pub(crate) use self::{
    raw::{Answer, Got, Peer, ask, ask_upgrade, connect, control, data, signal},
    relay::{DAEMON, ISSUER, Relaying, keys_of},
    seam::before_dial,
};

/// No test takes that long unless it hangs.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// Fails the test instead of hanging for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("it hangs")
}

/// Any free port of loopback.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn real() -> Env {
    Env::real(&Roots::System).unwrap()
}

/// A client's retries without long delays, and without a bound on their number.
pub(crate) fn quick_retry() -> RetryPolicy {
    RetryPolicy {
        mode: RetryMode::OnError,
        initial: Duration::from_millis(10),
        max: Duration::from_millis(100),
        jitter: 0.2,
        max_retries: 0,
    }
}

/// A daemon's retries without long delays.
pub(crate) fn quick_daemon_retry() -> DaemonRetryPolicy {
    DaemonRetryPolicy {
        initial: Duration::from_millis(10),
        max: Duration::from_millis(100),
        spread: Duration::from_millis(10),
        clean: Duration::from_millis(10),
        ..DaemonRetryPolicy::default()
    }
}

/// One session as the control plane grants it.
pub(crate) struct Grant {
    pub(crate) id: SessionId,
    pub(crate) token: String,
}

/// At the end of a cloud: correct endpoints get no mark.
struct Judge {
    events: EventSink,
    excused: AtomicBool,
}

impl Drop for Judge {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.excused.load(Ordering::Relaxed) {
            assert_eq!(self.events.grades().grades, [], "somebody broke a rule, and the test does not say so");
        }
    }
}

/// A cloud with real sockets and one set of credentials.
pub(crate) struct World {
    pub(crate) cloud: Cloud,
    pub(crate) env: Env,
    seen: broadcast::Receiver<Event>,
    judge: Judge,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(CloudOptions::default()).await
    }

    pub(crate) async fn with_grace(grace: Duration) -> Self {
        Self::with(CloudOptions { grace, ..CloudOptions::default() }).await
    }

    pub(crate) async fn with(options: CloudOptions) -> Self {
        Self::at(any_port(), options).await
    }

    pub(crate) async fn at(addr: SocketAddr, options: CloudOptions) -> Self {
        let env = real();
        let cloud = Cloud::start(env.clone(), addr, options).await.unwrap();
        let seen = cloud.events().subscribe();
        let judge = Judge { events: cloud.events().clone(), excused: AtomicBool::new(false) };
        Self { cloud, env, seen, judge }
    }

    /// A peer of this test breaks rules; else the test fails at its end if anybody did.
    pub(crate) fn has_wrong_peers(&self) {
        self.judge.excused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn daemon_id(&self) -> &str {
        &self.cloud.bootstrap().daemon_id
    }

    /// A daemon without handlers, not started.
    pub(crate) fn daemon(&self) -> Daemon {
        let key = self.cloud.bootstrap().api_key.expose();
        Daemon::new(self.cloud.api_url(), &self.cloud.relay_url(), key)
            .unwrap()
            .env(self.env.clone())
            .retry(quick_daemon_retry())
    }

    /// A daemon that answers `echo` with the params.
    pub(crate) async fn serve(&self) -> Server {
        soon(with_echo(self.daemon()).listen()).await.unwrap()
    }

    /// An account's client, not started.
    pub(crate) fn account(&self) -> Account {
        let token = self.cloud.bootstrap().access_token.expose();
        Account::with_token(self.cloud.api_url(), self.daemon_id(), token)
            .unwrap()
            .env(self.env.clone())
            .retry(quick_retry())
    }

    /// An account's client whose session stands.
    pub(crate) async fn client(&self) -> Client {
        let client = self.account().connect().unwrap();
        soon(client.when_ready()).await.unwrap();
        client
    }

    /// A client by a code, not started.
    pub(crate) fn quick_connect(&self, code: &str) -> QuickConnect {
        QuickConnect::new(self.cloud.api_url(), code).unwrap().env(self.env.clone()).retry(quick_retry())
    }

    // ---- the control plane by hand

    /// Calls a procedure; the status and the JSON of the answer.
    pub(crate) async fn post(
        &self,
        procedure: &str,
        headers: &[(&'static str, &str)],
        input: serde_json::Value,
    ) -> (u16, serde_json::Value) {
        post(&self.env, self.cloud.api_url(), procedure, headers, input).await
    }

    /// A presence token of the daemon.
    pub(crate) async fn presence_token(&self, resumable: bool) -> String {
        let authorization = format!("Bearer {}", self.cloud.bootstrap().api_key.expose());
        let mut headers = vec![("authorization", &*authorization)];
        if resumable {
            headers.push(("x-sideband-resume", "1"));
        }
        let (status, answer) = self.post("daemon.renewToken", &headers, serde_json::Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        answer["result"]["data"]["presenceToken"].as_str().unwrap().to_owned()
    }

    /// A new session with the daemon.
    pub(crate) async fn grant(&self) -> Grant {
        let authorization = format!("Bearer {}", self.cloud.bootstrap().access_token.expose());
        let input = serde_json::json!({ "daemonId": self.daemon_id() });
        let (status, answer) = self.post("relay.createSession", &[("authorization", &authorization)], input).await;
        assert_eq!(status, 200, "{answer}");
        let token = answer["result"]["data"]["token"].as_str().unwrap().to_owned();
        let id = peek(&token).unwrap().session.unwrap();
        Grant { id, token }
    }

    /// Redeems a code; the status and the JSON of the answer.
    pub(crate) async fn redeem(&self, code: &str) -> (u16, serde_json::Value) {
        self.post("quickConnect.redeem", &[], serde_json::json!({ "code": code })).await
    }

    // ---- raw peers

    /// Connects with a token, or gives the status that refused it.
    pub(crate) async fn connect(&self, token: &str) -> Result<Peer, u16> {
        connect(self.cloud.addr(), token).await
    }

    pub(crate) async fn raw_daemon(&self, resumable: bool) -> Peer {
        let token = self.presence_token(resumable).await;
        self.connect(&token).await.unwrap()
    }

    /// A raw client of a new session.
    pub(crate) async fn raw_client(&self) -> (SessionId, Peer) {
        let grant = self.grant().await;
        (grant.id, self.connect(&grant.token).await.unwrap())
    }

    // ---- events of the cloud

    /// Waits for an event, from the last one waited for on.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let seen = &mut self.seen;
        soon(async move {
            loop {
                let event = seen.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
    }

    /// Waits until the relay has a session in this state.
    pub(crate) async fn session(&mut self, session: SessionId, wanted: &str) {
        self.event(|event| {
            event.session == Some(session)
                && matches!(&event.kind, EventKind::Session { state } if state.as_str() == wanted)
        })
        .await;
    }
}

/// Adds `echo`.
pub(crate) fn with_echo(daemon: Daemon) -> Daemon {
    daemon.handle("echo", |params: serde_json::Value, _: Context| async move { Ok::<_, HandlerError>(params) }).unwrap()
}

/// Calls a procedure of a control plane; the status and the JSON of the answer.
pub(crate) async fn post(
    env: &Env,
    api_url: &str,
    procedure: &str,
    headers: &[(&'static str, &str)],
    input: serde_json::Value,
) -> (u16, serde_json::Value) {
    let mut map = http::HeaderMap::new();
    map.insert("content-type", http::HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    let request = HttpRequest {
        method: http::Method::POST,
        url: format!("{api_url}/api/trpc/{procedure}").parse().unwrap(),
        headers: map,
        body: input.to_string().into(),
        max_answer: 1 << 20,
    };
    let answer = soon(env.http.send(request)).await.unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
}

/// Waits until a client has this state; a state that it passed through meanwhile does not count.
pub(crate) async fn reaches(state: &mut watch::Receiver<State>, wanted: State) {
    soon(state.wait_for(|state| *state == wanted)).await.unwrap();
}

/// Waits for something in a client's life.
pub(crate) async fn lifecycle(events: &mut LifecycleEvents, wanted: impl Fn(&Lifecycle) -> bool) -> Lifecycle {
    soon(async {
        loop {
            let event = events.next().await.expect("the client has ended");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

/// Waits for something in a daemon's life.
pub(crate) async fn server_event(events: &mut ServerEvents, wanted: impl Fn(&ServerEvent) -> bool) -> ServerEvent {
    soon(async {
        loop {
            let event = events.next().await.expect("the daemon has ended");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

/// Proves that a session goes on: a call there and back.
pub(crate) async fn echoes(client: &Client) {
    let sent = serde_json::json!({ "still": "there" });
    assert_eq!(soon(client.call::<_, serde_json::Value>("echo", sent.clone())).await.unwrap(), sent);
}

/// What happens from now on only: the first who asks for events is told everything from the start.
pub(crate) trait FromNow {
    type Events;
    fn events_from_now(&self) -> Self::Events;
}

impl FromNow for Client {
    type Events = LifecycleEvents;
    fn events_from_now(&self) -> LifecycleEvents {
        drop(self.events());
        self.events()
    }
}

impl FromNow for Server {
    type Events = ServerEvents;
    fn events_from_now(&self) -> ServerEvents {
        drop(self.events());
        self.events()
    }
}
