//! The hosts `daemon`, `client` and `quick_connect`: the production SDK, told what to do, with all that it reports recorded.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;
use sideband::{
    Account, CallOptions, ConnectionPolicy, Daemon, DaemonRetryPolicy, Error, Identity, IdentityKey, Lifecycle,
    LifecycleEvents, OnDisconnect, Peer, QuickConnect, RetryMode, RetryPolicy, RpcPolicy, Server, ServerEvent,
    ServerEvents, SessionId, SessionLimits, Subscription,
    identity::{IdentityStore, MemoryStore, StoreError},
};
use sideband_env::{BoxFuture, EntropySource, SeededEntropy};
use sideband_sim_kit::event::{EventKind, EventSink};
use tokio::{task::JoinSet, time::sleep};

use super::{
    cell::{Cell, Common, Live, lock},
    cloud::base,
    methods,
};
use crate::{
    cloud::relay_url,
    scenario::{
        Action, Host, Kind,
        host::{Trust, WithoutSession},
        step::{Call, Emit},
    },
};

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How long after its end an endpoint may still have tasks: handlers are given 5 s to put things in order.
const TASKS_END: Duration = Duration::from_secs(6);

/// The retry policy of a client.
pub(crate) fn client_retry(host: &Host) -> RetryPolicy {
    let (mut policy, Some(asked)) = (RetryPolicy::default(), &host.retry) else { return RetryPolicy::default() };
    if asked.enabled == Some(false) {
        policy.mode = RetryMode::Never;
    }
    policy.max_retries = asked.max_retries.unwrap_or(policy.max_retries);
    policy.initial = asked.initial.map_or(policy.initial, |time| time.0);
    policy.max = asked.max.map_or(policy.max, |time| time.0);
    policy.jitter = asked.jitter.unwrap_or(policy.jitter);
    policy
}

/// The retry policy of a daemon.
pub(crate) fn daemon_retry(host: &Host) -> DaemonRetryPolicy {
    let (mut policy, Some(asked)) = (DaemonRetryPolicy::default(), &host.retry) else {
        return DaemonRetryPolicy::default();
    };
    policy.initial = asked.initial.map_or(policy.initial, |time| time.0);
    policy.max = asked.max.map_or(policy.max, |time| time.0);
    policy.spread = asked.spread.map_or(policy.spread, |time| time.0);
    policy
}

fn connection(host: &Host) -> ConnectionPolicy {
    let (mut policy, Some(asked)) = (ConnectionPolicy::default(), &host.timeouts) else {
        return ConnectionPolicy::default();
    };
    policy.api_timeout = asked.api.map_or(policy.api_timeout, |time| time.0);
    policy.dial_timeout = asked.dial.map_or(policy.dial_timeout, |time| time.0);
    policy.handshake_timeout = asked.handshake.map_or(policy.handshake_timeout, |time| time.0);
    policy.keepalive.ping_every = asked.ping.map_or(policy.keepalive.ping_every, |time| time.0);
    policy.keepalive.silence = asked.silence.map_or(policy.keepalive.silence, |time| time.0);
    policy
}

fn rpc(host: &Host) -> RpcPolicy {
    let (mut policy, Some(asked)) = (RpcPolicy::default(), &host.timeouts) else { return RpcPolicy::default() };
    policy.timeout = asked.call.map_or(policy.timeout, |time| time.0);
    policy.total = asked.call_total.map(|time| time.0);
    policy
}

fn limits(host: &Host) -> SessionLimits {
    let mut limits = SessionLimits::default();
    limits.waiting_frames = host.waiting_frames.unwrap_or(limits.waiting_frames);
    limits
}

/// Pins that outlive the process. What is pinned is told where a policy was chosen.
struct Pins {
    store: Arc<MemoryStore>,
    told: Option<EventSink>,
}

impl Pins {
    fn of(common: &Common, cell: &Cell) -> Self {
        let store = lock(&cell.disk).pins.get_or_insert_default().clone();
        Self { store, told: cell.spec.trust.map(|_| common.sink(cell)) }
    }
}

impl IdentityStore for Pins {
    fn load<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        self.store.load(daemon_id)
    }
    fn store<'a>(&'a self, daemon_id: &'a str, key: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        if let Some(sink) = &self.told {
            sink.emit(None, None, report("pinned", String::new()));
        }
        self.store.store(daemon_id, key)
    }
}

/// What is said to a first identity and to a changed one, if anybody is asked; `None` for no answer at all.
fn says(trust: Trust) -> Option<(Option<bool>, Option<bool>)> {
    match trust {
        Trust::Auto | Trust::PinnedOnly => None,
        Trust::PromptYes => Some((Some(true), Some(true))),
        Trust::PromptNo => Some((Some(false), Some(false))),
        Trust::PromptFirst => Some((Some(true), Some(false))),
        Trust::PromptSilent => Some((None, None)),
    }
}

/// Hears the question, and answers.
async fn asked(sink: EventSink, question: &'static str, says: Option<bool>) -> bool {
    sink.emit(None, None, report(question, String::new()));
    match says {
        Some(says) => says,
        None => std::future::pending().await,
    }
}

/// The identity of a daemon that has had so many others before.
fn identity_of(common: &Common, daemon: &str, before: u64) -> Identity {
    Identity::generate(&mut *SeededEntropy::new(common.seed, &format!("identity {daemon} {before}")).entropy())
}

macro_rules! configured {
    ($builder:expr, $common:expr, $cell:expr) => {{
        let host = &$cell.spec;
        let mut builder = $builder
            .env($common.env($cell))
            .identity_store(Pins::of($common, $cell))
            .retry(client_retry(host))
            .connection(connection(host))
            .rpc(rpc(host))
            .session_limits(limits(host))
            .danger_quirks($common.options.danger_quirks);
        let trust = host.trust.unwrap_or_default();
        builder = match says(trust) {
            None if trust == Trust::PinnedOnly => builder.pinned_only(),
            None => builder,
            Some((first, changed)) => {
                let (one, other) = ($common.sink($cell), $common.sink($cell));
                builder.prompt(
                    move |_| asked(one.clone(), "asked_first", first),
                    move |_, _| asked(other.clone(), "asked_changed", changed),
                )
            }
        };
        if let Some(WithoutSession::Fail) = host.on_disconnect {
            builder = builder.on_disconnect(OnDisconnect::Fail);
        }
        if let Some(most) = host.buffered_bytes {
            builder = builder.buffered_bytes(most);
        }
        if let Some(most) = host.buffered_events {
            builder = builder.buffered_events(most);
        }
        builder
    }};
}

/// Runs a client until it is told to end.
pub(super) async fn client(common: Arc<Common>, cell: Arc<Cell>) -> Fallible {
    let api = common.host_for(cell.spec.api.as_deref(), |host| host.kind.has_api());
    let api = base(&api.ok_or("there is no control plane")?);
    let client = if cell.spec.kind == Kind::QuickConnect {
        let name = lock(&cell.code).clone().unwrap_or_default();
        let code = lock(&common.codes).get(&name).cloned().ok_or("there is no such code")?;
        configured!(QuickConnect::new(&api, &code)?, &common, &cell).connect()?
    } else {
        let daemon = common.host_for(cell.spec.daemon.as_deref(), |host| host.kind == Kind::Daemon);
        let daemon = daemon.ok_or("there is no daemon")?;
        let credentials = common.credentials.get(&daemon).ok_or("no such daemon")?;
        if cell.spec.pinned == Some(true) && lock(&cell.disk).pins.is_none() {
            let pins = Arc::new(MemoryStore::new());
            let key = identity_of(&common, &daemon, 0).public();
            pins.store(&credentials.daemon_id, key).await.map_err(|error| error.to_string())?;
            lock(&cell.disk).pins = Some(pins);
        }
        let (token, _) = common.tokens.get(&cell.name).ok_or("it has no token")?;
        let account = Account::with_token(&api, &credentials.daemon_id, token.expose())?;
        configured!(account, &common, &cell).connect()?
    };
    cell.set_live(Live { client: Some(client.clone()), ..Live::default() });
    let sink = common.sink(&cell);
    tokio::spawn(record_client(client.events(), sink.clone(), cell.clone()));
    let subscription = client.subscribe(">")?;
    tokio::spawn(record_events(subscription, sink.clone(), None));
    loop {
        match cell.command().await {
            Some(Action::Call(call)) => make_call(&common, &cell, &client, call, None),
            Some(Action::Emit(emit)) => {
                let number = cell.number(&emit.event);
                let data = methods::payload(emit.data.as_ref().map(|data| &data.0), number, emit.bytes.unwrap_or(0));
                sink.emit(None, None, EventKind::Emitted { event: emit.event.clone(), number });
                if let Err(error) = client.emit(&emit.event, data).await {
                    let what = format!("{} is not sent: {error}", emit.event);
                    sink.emit(None, None, EventKind::Endpoint { report: "emit_failed".to_owned(), detail: what });
                }
            }
            Some(Action::Subscribe(pattern)) => {
                let subscription = client.subscribe(&pattern)?;
                let mark = sink.for_host(&cell.name);
                tokio::spawn(record_events(subscription, mark, Some(pattern)));
            }
            Some(Action::Close) => {
                cell.closed.store(true, Ordering::SeqCst);
                let client = client.clone();
                tokio::spawn(async move { client.close().await });
            }
            Some(_) => common.fail("step", format!("{}: a client cannot do that", cell.name)),
            None => break,
        }
    }
    client.close().await;
    end(&cell).await
}

/// Looks for tasks that are left over, and is no more.
async fn end(cell: &Cell) -> Fallible {
    cell.stopped.store(true, Ordering::SeqCst);
    sleep(TASKS_END).await;
    let left = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    cell.tasks_left.store(left as u64, Ordering::SeqCst);
    std::future::pending().await
}

/// Makes a call in a task of its own; its number is given now.
fn make_call(common: &Arc<Common>, cell: &Arc<Cell>, peer: &Peer, call: Call, session: Option<SessionId>) {
    let number = common.calls.fetch_add(1, Ordering::SeqCst) + 1;
    let sink = common.sink(cell);
    let name = call.name.clone().unwrap_or_else(|| call.method.clone());
    let begun = EventKind::Call { call: number, name: name.clone(), method: call.method.clone() };
    sink.emit(None, session, begun);
    let (peer, common, host) = (peer.clone(), common.clone(), cell.name.clone());
    let mut options = CallOptions::new();
    if let Some(timeout) = call.timeout {
        options = options.timeout(timeout.0);
    }
    if let Some(total) = call.total {
        options = options.total(total.0);
    }
    let params = methods::params(call.params.as_ref().map(|params| &params.0), number);
    tokio::spawn(async move {
        let ended = peer.call_with::<_, Value>(&call.method, &params, options).await;
        let outcome = match &ended {
            Ok(_) => "result".to_owned(),
            Err(error) => error_name(error),
        };
        let own = methods::is_own(&call.method, &params, &ended);
        sink.emit(
            None,
            session,
            EventKind::CallEnded { call: number, name: name.clone(), outcome: outcome.clone(), own },
        );
        let allowed = match &ended {
            Ok(value) => match &call.result {
                Some(wanted) => methods::without_canary(value.clone()) == wanted.0,
                None => call.errors.is_empty() || call.errors.iter().any(|one| one == "any"),
            },
            Err(_) => call.errors.iter().any(|one| one == "any" || is_error(one, &outcome)),
        };
        if !allowed {
            let got = ended.map_or_else(|error| format!("{outcome} ({error})"), |value| value.to_string());
            common.fail(format!("call/{name}"), format!("{host}: the call {name} ended with {got}"));
        }
    });
}

/// Whether an outcome is this error: its code, or with `rpc_error:` the wire's too.
pub(crate) fn is_error(asked: &str, outcome: &str) -> bool {
    asked == outcome || outcome.strip_prefix(asked).is_some_and(|rest| rest.starts_with(':'))
}

fn error_name(error: &Error) -> String {
    let code = error.code().unwrap_or("failed");
    match error.rpc_code() {
        Some(number) => format!("{code}:{number}"),
        None => code.to_owned(),
    }
}

/// Runs a daemon until it is told to end.
pub(super) async fn daemon(common: Arc<Common>, cell: Arc<Cell>) -> Fallible {
    let host = &cell.spec;
    let api = common.host_for(host.api.as_deref(), |host| host.kind.has_api());
    let relay = common.host_for(host.relay.as_deref(), |host| host.kind.has_relay());
    let (api, relay) = (api.ok_or("there is no control plane")?, relay.ok_or("there is no relay")?);
    let credentials = common.credentials.get(&cell.name).ok_or("it has no credentials")?;
    let sink = common.sink(&cell);
    let identity = identity_of(&common, &cell.name, lock(&cell.disk).identity);
    let mut builder = Daemon::new(&base(&api), &relay_url(&base(&relay)), credentials.api_key.expose())?
        .env(common.env(&cell))
        .identity(identity)
        .resumable(host.resumable.unwrap_or(true))
        .retry(daemon_retry(host))
        .connection(connection(host))
        .rpc(rpc(host))
        .session_limits(limits(host))
        .danger_quirks(common.options.danger_quirks);
    if let Some(most) = host.max_sessions {
        builder = builder.max_sessions(most);
    }
    if let Some(limit) = host.timeouts.as_ref().and_then(|timeouts| timeouts.handler) {
        builder = builder.handler_timeout(limit.0);
    }
    let heard = sink.clone();
    let builder = methods::serve(builder, &sink)?.on_connection(move |connection| {
        let heard = heard.clone();
        async move {
            let subscription = connection.subscribe(">")?;
            let session = connection.session();
            record(subscription, heard, Some(session), None).await;
            Ok::<_, Error>(())
        }
    });
    let server = builder.start()?;
    cell.set_live(Live { server: Some(server.clone()), ..Live::default() });
    tokio::spawn(record_server(server.events(), sink.clone(), cell.clone()));
    // What the scenario goes on doing ends with the host; only the SDK's own tasks count as left over.
    let mut ours = JoinSet::new();
    loop {
        match cell.command().await {
            Some(Action::Call(call)) => {
                for connection in server.connections() {
                    make_call(&common, &cell, &connection, call.clone(), Some(connection.session()));
                }
            }
            Some(Action::Emit(emit) | Action::Broadcast(emit)) => {
                broadcast(&cell, &server, &sink, &emit).await;
            }
            Some(Action::Tick(tick)) => {
                let (cell, server, sink) = (cell.clone(), server.downgrade(), sink.clone());
                let emit = Emit { event: tick.event.unwrap_or_else(|| "tick".to_owned()), data: None, bytes: None };
                ours.spawn(async move {
                    for _ in 0..tick.times {
                        let Some(server) = server.upgrade() else { return };
                        broadcast(&cell, &server, &sink, &emit).await;
                        drop(server);
                        sleep(tick.every.0).await;
                    }
                });
            }
            Some(Action::Code(code)) => {
                let (server, common, sink) = (server.clone(), common.clone(), sink.clone());
                ours.spawn(async move {
                    let (report, detail) = match server.create_quick_connect(code.ttl.map(|time| time.0)).await {
                        Ok(made) => {
                            lock(&common.codes).insert(code.name.clone(), made.code);
                            ("code", code.name)
                        }
                        Err(error) => ("code_failed", error.to_string()),
                    };
                    sink.emit(None, None, EventKind::Endpoint { report: report.to_owned(), detail });
                });
            }
            Some(Action::Close) => {
                cell.closed.store(true, Ordering::SeqCst);
                let server = server.clone();
                tokio::spawn(async move { server.close().await });
            }
            Some(_) => common.fail("step", format!("{}: a daemon cannot do that", cell.name)),
            None => break,
        }
    }
    ours.abort_all();
    server.close().await;
    end(&cell).await
}

async fn broadcast(cell: &Cell, server: &Server, sink: &EventSink, emit: &Emit) {
    let Emit { event, data, bytes } = emit;
    let number = cell.number(event);
    sink.emit(None, None, EventKind::Emitted { event: event.clone(), number });
    let data = methods::payload(data.as_ref().map(|data| &data.0), number, bytes.unwrap_or(0));
    if let Err(error) = server.broadcast(event, data).await {
        let detail = format!("{event} is not sent: {error}");
        sink.emit(None, None, EventKind::Endpoint { report: "emit_failed".to_owned(), detail });
    }
}

async fn record_events(subscription: Subscription, sink: EventSink, pattern: Option<String>) {
    record(subscription, sink, None, pattern).await;
}

async fn record(mut subscription: Subscription, sink: EventSink, session: Option<SessionId>, pattern: Option<String>) {
    while let Some(event) = subscription.next().await {
        // What a further subscription hears is told apart: every one hears each event once.
        let name = match &pattern {
            None => event.name().to_owned(),
            Some(pattern) => format!("{} ({pattern})", event.name()),
        };
        let number = event.data::<Value>().ok().as_ref().and_then(methods::number);
        sink.emit(None, session, EventKind::Delivered { event: name, number });
    }
}

fn retrying(retry: u32, delay: Duration, cause: &sideband::Cause) -> EventKind {
    EventKind::Retrying {
        retry,
        delay_ms: delay.as_millis() as u64,
        retry_after_ms: cause.retry_after().map(|time| time.as_millis() as u64),
        cause: cause.to_string(),
    }
}

fn report(report: &str, detail: String) -> EventKind {
    EventKind::Endpoint { report: report.to_owned(), detail }
}

async fn record_client(mut events: LifecycleEvents, sink: EventSink, cell: Arc<Cell>) {
    while let Some(event) = events.next().await {
        let kind = match event {
            Lifecycle::State(state) => {
                state.name().clone_into(&mut lock(&cell.state));
                report("state", state.name().to_owned())
            }
            Lifecycle::Connected { .. } => report("connected", String::new()),
            Lifecycle::Disconnected(cause) => report("disconnected", cause.to_string()),
            Lifecycle::Retrying { retry, delay, cause } => retrying(retry, delay, &cause),
            Lifecycle::Pending => report("pending", String::new()),
            Lifecycle::Resumed => report("resumed", String::new()),
            Lifecycle::RateLimited => report("rate_limited", String::new()),
            Lifecycle::Closed(reason) => report("closed", reason.to_string()),
            other => report("other", format!("{other:?}")),
        };
        sink.emit(None, None, kind);
    }
}

async fn record_server(mut events: ServerEvents, sink: EventSink, cell: Arc<Cell>) {
    while let Some(event) = events.next().await {
        let state = match &event {
            ServerEvent::Online => Some("online"),
            ServerEvent::Offline(_) => Some("offline"),
            ServerEvent::Ended(_) => Some("ended"),
            _ => None,
        };
        if let Some(state) = state {
            state.clone_into(&mut lock(&cell.state));
        }
        let (session, kind) = match event {
            ServerEvent::Online => (None, report("online", String::new())),
            ServerEvent::Offline(cause) => (None, report("offline", cause.to_string())),
            ServerEvent::Retrying { retry, delay, cause } => (None, retrying(retry, delay, &cause)),
            ServerEvent::Opened(session) => (Some(session), report("opened", String::new())),
            ServerEvent::Paused(session) => (Some(session), report("paused", String::new())),
            ServerEvent::Resumed(session) => (Some(session), report("resumed", String::new())),
            ServerEvent::Closed { session, cause } => (Some(session), report("closed", cause.to_string())),
            ServerEvent::Refused { session, cause } => (Some(session), report("refused", cause.to_string())),
            ServerEvent::RateLimited => (None, report("rate_limited", String::new())),
            ServerEvent::Ended(cause) => (None, report("ended", cause.to_string())),
            other => (None, report("other", format!("{other:?}"))),
        };
        sink.emit(None, session, kind);
    }
}
