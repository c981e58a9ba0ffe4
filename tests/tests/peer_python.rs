//! The SDK against an independent implementation: the Python peer in `tests/peer`, both ways round, through a cloud.
//!
//! `SIDEBAND_PYTHON` names the interpreter, by name or absolute path (default `python3`); it needs the packages of `tests/peer/requirements.txt`.
//! Without them these tests are skipped, loudly; with `SIDEBAND_REQUIRE_PYTHON=1` that is a failure.

mod support;

use std::{
    env,
    io::Write,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use sideband::{Client, Connection, Context, HandlerError, Lifecycle, Server, ServerEvent, State};
use sideband_protocol::{crypto::Identity, peer::CallError, wire::MAX_PLAINTEXT};
use sideband_sim_kit::event::EventKind;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use self::support::*;

fn interpreter() -> String {
    env::var("SIDEBAND_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// The peer's command, which dies with its handle.
fn python(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(interpreter());
    command
        .args(["-u", "-m", "sideband_peer"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/peer"))
        // Nothing of whoever runs the tests.
        .env_remove("SIDEBAND_QUICK_CONNECT")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SIDEBAND_API_URL", world.cloud.api_url())
        .env("SIDEBAND_RELAY_URL", world.cloud.relay_url())
        .env("SIDEBAND_ACCESS_TOKEN", world.cloud.bootstrap().access_token.expose())
        .env("SIDEBAND_API_KEY", world.cloud.bootstrap().api_key.expose())
        .env("SIDEBAND_DAEMON_ID", world.daemon_id())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Why the peer cannot run here, if it cannot.
async fn missing() -> Option<String> {
    let name = interpreter();
    let probe = Command::new(&name)
        .args([
            "-c",
            "import sys, cryptography, websockets; assert sys.version_info >= (3, 11), 'Python 3.11 is needed'",
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match soon(probe).await {
        Ok(Output { status, .. }) if status.success() => None,
        Ok(Output { stderr, .. }) => {
            let text = String::from_utf8_lossy(&stderr);
            Some(format!("`{name}`: {}", text.lines().last().unwrap_or("it fails without a word")))
        }
        Err(error) => Some(format!("`{name}`: {error}")),
    }
}

/// Whether the test can run; says so if not, and fails where it must.
async fn runs(test: &str) -> bool {
    let Some(reason) = missing().await else { return true };
    assert!(
        env::var("SIDEBAND_REQUIRE_PYTHON").as_deref() != Ok("1"),
        "SIDEBAND_REQUIRE_PYTHON=1, but the Python peer cannot run: {reason}"
    );
    // Past the capture of a test's output, or nobody would see it.
    let text = format!("SKIPPED 1: {test}: the Python peer cannot run ({reason}); see tests/peer/requirements.txt\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    false
}

/// A running peer that prints a line of JSON for everything that happens.
struct Python {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// What was read so far, for messages.
    seen: Vec<Value>,
}

impl Python {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take(), child, lines, seen: Vec::new() }
    }

    async fn daemon(world: &World, arguments: &[&str]) -> Self {
        let mut peer = Self::start(python(world, &[&["daemon"], arguments].concat()));
        let ready = peer.event("ready").await;
        assert_eq!(ready["daemonId"], world.daemon_id());
        assert_eq!(ready["resumable"], !arguments.contains(&"--no-resume"));
        peer
    }

    fn script(world: &World) -> Self {
        Self::start(python(world, &["client", "script"]))
    }

    /// One command of `script`.
    async fn say(&mut self, command: Value) {
        let input = self.input.as_mut().unwrap();
        soon(input.write_all(format!("{command}\n").as_bytes())).await.unwrap();
    }

    /// The next line that fits; others are passed over.
    async fn line(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        soon(async {
            loop {
                let Some(line) = self.lines.next_line().await.unwrap() else {
                    panic!("the peer ended without {what}: {:?}", self.seen)
                };
                let line: Value = serde_json::from_str(&line).unwrap();
                assert!(line.get("unsupported").is_none(), "{line}");
                self.seen.push(line.clone());
                if wanted(&line) {
                    return line;
                }
            }
        })
        .await
    }

    async fn event(&mut self, name: &str) -> Value {
        self.line(name, |line| line["event"] == name).await
    }

    /// The states that it reports from now on, up to this one.
    async fn states_to(&mut self, last: &str) -> Vec<String> {
        let from = self.seen.len();
        self.line(last, |line| line["event"] == "state" && line["state"] == last).await;
        let states = self.seen[from..].iter().filter(|line| line["event"] == "state");
        states.map(|line| line["state"].as_str().unwrap().to_owned()).collect()
    }

    /// The answer of a call with this id.
    async fn result(&mut self, id: &str) -> Result<Value, Value> {
        let line =
            self.line(id, |line| line["id"] == id && (line["event"] == "result" || line["event"] == "error")).await;
        if line["event"] == "result" { Ok(line["result"].clone()) } else { Err(line) }
    }

    /// Calls and waits for the answer.
    async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = format!("call {}", self.seen.len());
        self.say(json!({ "cmd": "call", "id": id, "method": method, "params": params })).await;
        self.result(&id).await
    }

    /// Ends the input; the peer closes in order and exits.
    async fn finish(mut self) {
        drop(self.input.take());
        assert!(soon(self.child.wait()).await.unwrap().success(), "{:?}", self.seen);
    }

    /// Ends a daemon at once.
    async fn kill(mut self) {
        soon(self.child.kill()).await.unwrap();
    }
}

// ---- a client of the SDK, a daemon in Python

async fn call(client: &Client, method: &str, params: Value) -> Value {
    soon(client.call(method, params)).await.unwrap()
}

#[tokio::test]
async fn rust_client_python_daemon_calls_and_events() {
    if !runs("rust_client_python_daemon_calls_and_events").await {
        return;
    }
    let world = World::start().await;
    let mut daemon = Python::daemon(&world, &[]).await;
    let client = world.client().await;
    let session = daemon.event("session_started").await;
    call(&client, "ping", Value::Null).await;
    let value = json!({ "text": "grüße \u{1f44b}", "list": [1, 2.5, null, true], "deep": { "a": { "b": [] } } });
    assert_eq!(call(&client, "echo", value.clone()).await, value);
    assert_eq!(call(&client, "add", json!({ "a": 19, "b": 23 })).await, 42);

    let error = soon(client.call::<_, Value>("boom", ())).await.unwrap_err();
    assert!(error.rpc_code() == Some(2_000), "{error:?}");
    let error = soon(client.call::<_, Value>("no such method", ())).await.unwrap_err();
    assert!(error.rpc_code() == Some(1_101), "{error:?}");

    // Out of order (RPC-01, RPC-06).
    let slow = client.call::<_, Value>("sleep", json!({ "ms": 200 }));
    let quick = async {
        assert_eq!(call(&client, "add", json!({ "a": 1, "b": 2 })).await, 3);
        "quick"
    };
    let (slow, quick) = (std::pin::pin!(slow), std::pin::pin!(quick));
    let first = soon(futures_util::future::select(slow, quick)).await;
    let futures_util::future::Either::Right((_, slow)) = first else { panic!("the slow one was first") };
    soon(slow).await.unwrap();

    // The largest request that fits.
    let error = soon(client.call::<_, Value>("echo", "x".repeat(70_000))).await.unwrap_err();
    let Some(CallError::MessageTooLarge { size }) = error.call_error() else { panic!("{error:?}") };
    let over = size - 70_000;
    let text = "x".repeat(MAX_PLAINTEXT - over);
    assert_eq!(call(&client, "echo", json!(text)).await, text);

    let mut ticks = client.subscribe("tick").unwrap();
    call(&client, "tick", json!({ "on": true })).await;
    let first = soon(ticks.next()).await.unwrap().data::<Value>().unwrap()["n"].as_i64().unwrap();
    let second = soon(ticks.next()).await.unwrap().data::<Value>().unwrap()["n"].as_i64().unwrap();
    assert_eq!(second, first + 1);

    soon(client.close()).await;
    let ended = daemon.event("session_ended").await;
    assert_eq!(ended["session"], session["session"]);
    daemon.kill().await;
}

#[tokio::test]
async fn rust_client_python_daemon_resume_after_a_lost_socket() {
    if !runs("rust_client_python_daemon_resume_after_a_lost_socket").await {
        return;
    }
    let world = World::start().await;
    let mut daemon = Python::daemon(&world, &[]).await;
    let client = world.client().await;
    call(&client, "ping", Value::Null).await;
    daemon.event("session_started").await;
    for _ in 0..2 {
        let mut life = client.events_from_now();
        let in_flight = {
            let client = client.clone();
            // Longer than the way there, much shorter than the daemon's way back: the answer waits there (DMN-11).
            tokio::spawn(async move { client.call::<_, Value>("sleep", json!({ "ms": 300 })).await })
        };
        call(&client, "ping", Value::Null).await;
        assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
        lifecycle(&mut life, |event| matches!(event, Lifecycle::State(State::Paused))).await;
        let mut after = Vec::new();
        while !after.contains(&"resumed") {
            after.push(match soon(life.next()).await.unwrap() {
                Lifecycle::Pending => "pending",
                Lifecycle::Resumed => "resumed",
                Lifecycle::State(state) => state.name(),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(after, ["pending", "active", "resumed"]);
        soon(in_flight).await.unwrap().unwrap();
        assert_eq!(call(&client, "echo", json!("same keys")).await, "same keys");
        let signal = daemon.event("signal").await;
        assert_eq!(signal["signal"].as_str().map(str::to_ascii_lowercase).as_deref(), Some("ready"), "{signal}");
        daemon.event("reconnected").await;
    }
    soon(client.close()).await;
    daemon.event("session_ended").await;
    daemon.kill().await;
}

#[tokio::test]
async fn rust_client_python_daemon_that_cannot_resume_gives_a_new_session() {
    if !runs("rust_client_python_daemon_that_cannot_resume_gives_a_new_session").await {
        return;
    }
    let world = World::start().await;
    let mut daemon = Python::daemon(&world, &["--no-resume"]).await;
    let client = world.client().await;
    call(&client, "ping", Value::Null).await;
    let first = daemon.event("session_started").await;
    let mut life = client.events_from_now();
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    lifecycle(&mut life, |event| matches!(event, Lifecycle::Connected { .. })).await;
    assert_eq!(call(&client, "echo", json!(1)).await, 1);
    let second = daemon.event("session_started").await;
    assert_ne!(first["session"], second["session"]);
    daemon.kill().await;
}

#[tokio::test]
async fn rust_client_python_daemon_by_quick_connect() {
    if !runs("rust_client_python_daemon_by_quick_connect").await {
        return;
    }
    let world = World::start().await;
    let _daemon = Python::daemon(&world, &[]).await;
    let key = format!("Bearer {}", world.cloud.bootstrap().api_key.expose());
    let (status, answer) = world.post("quickConnect.create", &[("authorization", &key)], Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    let code = answer["result"]["data"]["code"].as_str().unwrap();
    let client = world.quick_connect(code).connect().unwrap();
    assert_eq!(call(&client, "add", json!({ "a": 2, "b": 3 })).await, 5);
    assert_eq!(client.daemon_id(), world.daemon_id());
}

// ---- a client in Python, a daemon of the SDK

/// A daemon for the Python client, and its session once it stands.
async fn rust_daemon(world: &World) -> Server {
    let daemon = with_echo(world.daemon())
        .identity(Identity::from_seed(&[5; 32]))
        .handle("add", |params: Value, _: Context| async move {
            Ok::<_, HandlerError>(params["a"].as_i64().unwrap_or(0) + params["b"].as_i64().unwrap_or(0))
        })
        .unwrap()
        .handle("boom", |_: Value, _: Context| async { Err::<(), _>(HandlerError::new(4_321, "boom it is")) })
        .unwrap();
    soon(daemon.listen()).await.unwrap()
}

async fn connected(script: &mut Python, server: &Server) -> Connection {
    script.say(json!({ "cmd": "connect" })).await;
    assert_eq!(script.states_to("active").await, ["connecting", "negotiating", "active"]);
    assert!(script.call("echo", Value::Null).await.is_ok());
    server.connections().remove(0)
}

#[tokio::test]
async fn python_client_rust_daemon_calls_and_events() {
    if !runs("python_client_rust_daemon_calls_and_events").await {
        return;
    }
    let world = World::start().await;
    let server = rust_daemon(&world).await;
    let mut events = server.events_from_now();
    let mut script = Python::script(&world);
    let connection = connected(&mut script, &server).await;
    let value = json!({ "text": "grüße \u{1f44b}", "list": [1, 2.5, null, true] });
    assert_eq!(script.call("echo", value.clone()).await, Ok(value));
    assert_eq!(script.call("add", json!({ "a": 19, "b": 23 })).await, Ok(json!(42)));
    let error = script.call("boom", Value::Null).await.unwrap_err();
    assert_eq!((&error["code"], &error["rpcCode"]), (&json!("rpc_error"), &json!(4_321)), "{error}");
    assert_eq!(error["message"], "boom it is");
    let error = script.call("no such method", Value::Null).await.unwrap_err();
    assert_eq!(error["rpcCode"], 1_101, "{error}");

    // Events both ways.
    script.say(json!({ "cmd": "subscribe", "pattern": "news.*" })).await;
    assert!(script.call("echo", Value::Null).await.is_ok());
    server.broadcast("news.today", json!({ "n": 1 })).await.unwrap();
    let event = script.event("event").await;
    assert_eq!((&event["name"], &event["data"]), (&json!("news.today"), &json!({ "n": 1 })), "{event}");
    let mut upward = connection.subscribe(">").unwrap();
    script.say(json!({ "cmd": "emit", "name": "up.there", "data": [1] })).await;
    let event = soon(upward.next()).await.unwrap();
    assert_eq!((event.name(), event.data::<Value>().unwrap()), ("up.there", json!([1])));

    // The daemon calls the client.
    script.say(json!({ "cmd": "handle", "method": "mirror" })).await;
    assert!(script.call("echo", Value::Null).await.is_ok());
    assert_eq!(soon(connection.call::<_, Value>("mirror", json!({ "a": 1 }))).await.unwrap(), json!({ "a": 1 }));
    let error = soon(connection.call::<_, Value>("nobody", ())).await.unwrap_err();
    assert!(error.rpc_code() == Some(1_101), "{error:?}");

    script.finish().await;
    let closed = server_event(&mut events, |event| matches!(event, ServerEvent::Closed { .. })).await;
    assert!(
        matches!(closed, ServerEvent::Closed { cause: sideband::Cause::PeerClosed { .. }, .. }),
        "it said goodbye: {closed:?}"
    );
}

#[tokio::test]
async fn python_client_rust_daemon_sees_paused_then_active() {
    if !runs("python_client_rust_daemon_sees_paused_then_active").await {
        return;
    }
    let world = World::start().await;
    let server = rust_daemon(&world).await;
    let mut script = Python::script(&world);
    let session = connected(&mut script, &server).await.session();
    script.say(json!({ "cmd": "subscribe", "pattern": ">" })).await;
    assert!(script.call("echo", Value::Null).await.is_ok());
    for n in 0..3 {
        let mut events = server.events_from_now();
        assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
        server_event(&mut events, |event| matches!(event, ServerEvent::Paused(_))).await;
        server.broadcast("while.away", n).await.unwrap();
        assert_eq!(script.states_to("paused").await, ["paused"]);
        assert_eq!(script.states_to("active").await, ["active"]);
        assert_eq!(script.event("event").await["data"], n);
        assert_eq!(script.call("echo", json!(n)).await, Ok(json!(n)));
    }
    let connected = script.seen.iter().filter(|line| line["event"] == "connected").count();
    assert_eq!(connected, 1, "CLI-12: {:?}", script.seen);
    let sessions: Vec<_> = server.connections().iter().map(|connection| connection.session()).collect();
    assert_eq!(sessions, [session]);
    script.finish().await;
}

#[tokio::test]
async fn python_client_rust_daemon_gets_a_new_session_after_a_cut() {
    if !runs("python_client_rust_daemon_gets_a_new_session_after_a_cut").await {
        return;
    }
    let world = World::start().await;
    let server = rust_daemon(&world).await;
    let mut script = Python::script(&world);
    let first = connected(&mut script, &server).await.session();
    let mut events = server.events_from_now();
    assert!(world.cloud.relay().drop_session(first));
    server_event(&mut events, |event| matches!(event, ServerEvent::Closed { .. })).await;
    script.states_to("active").await;
    assert_eq!(script.call("echo", json!(1)).await, Ok(json!(1)));
    assert_ne!(server.connections()[0].session(), first);
    script.finish().await;
}

#[tokio::test]
async fn python_client_rust_daemon_by_quick_connect_once() {
    if !runs("python_client_rust_daemon_by_quick_connect_once").await {
        return;
    }
    let world = World::start().await;
    let server = rust_daemon(&world).await;
    let made = soon(server.create_quick_connect(Some(Duration::from_secs(60)))).await.unwrap();
    let run = |code: String| {
        let mut command = python(&world, &["client", "--code"]);
        command.arg(code).args(["call", "add", r#"{"a":2,"b":3}"#]).stdout(Stdio::piped()).stderr(Stdio::piped());
        async move { soon(command.output()).await.unwrap() }
    };
    let answer = run(made.code.clone()).await;
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&answer.stdout).unwrap(), 5);
    let again = run(made.code).await;
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("404"), "{}", String::from_utf8_lossy(&again.stderr));
}

#[tokio::test]
async fn a_peer_that_is_dropped_leaves_no_process() {
    if !runs("a_peer_that_is_dropped_leaves_no_process").await {
        return;
    }
    let mut world = World::start().await;
    let daemon = Python::daemon(&world, &[]).await;
    drop(daemon);
    // Its socket is gone, so the process is.
    world.event(|event| matches!(event.kind, EventKind::Closed { .. })).await;
    soon(async {
        while world.cloud.relay().daemon(world.daemon_id()).is_some_and(|daemon| daemon.online) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn python_agrees_with_the_known_answers() {
    if !runs("python_agrees_with_the_known_answers").await {
        return;
    }
    let mut command = Command::new(interpreter());
    command
        .args(["-m", "sideband_peer", "vectors", "../vectors"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/peer"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let answer = soon(command.output()).await.unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stdout));
}
