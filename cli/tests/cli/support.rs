//! A process of the binary, its lines and its end.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use sideband_env::{Env, HttpRequest, real::Roots};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything takes on a busy machine: reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The binary, without what the environment would tell it.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sideband-sim"));
    command
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The lines of `--json`: each must be an object with a member `event`.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(event).collect()
    }
}

fn event(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
    assert!(value["event"].is_string(), "{line}");
    value
}

/// Runs to the end.
pub(crate) async fn run(args: &[&str]) -> Ended {
    finish(command(args)).await
}

/// Runs a prepared command to the end.
pub(crate) async fn finish(mut command: Command) -> Ended {
    let output = timeout(PATIENCE, command.output()).await.expect("it does not end").unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that runs until it is told to end.
pub(crate) struct Sim {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    stderr: JoinHandle<String>,
    /// Whether somebody breaks rules here on purpose.
    excused: AtomicBool,
    /// Its ready line.
    pub(crate) ready: Value,
    /// The ready line's text.
    pub(crate) first: String,
}

impl Sim {
    /// Starts it with `--json` and waits for its ready line.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut all = args.to_vec();
        all.push("--json");
        Self::spawn(command(&all)).await
    }

    /// Starts a prepared command and waits for its ready line.
    pub(crate) async fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = tokio::spawn(async move {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await.unwrap();
            text
        });
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut sim = Self {
            child,
            lines: Some(lines),
            stderr,
            excused: AtomicBool::new(false),
            ready: Value::Null,
            first: String::new(),
        };
        let Some(first) = sim.line().await else { panic!("it ended: {:?}", sim.end().await) };
        sim.ready = event(&first);
        assert_eq!(sim.ready["event"], "ready", "{first}");
        sim.first = first;
        sim
    }

    /// `up` on any free port.
    pub(crate) async fn up(more: &[&str]) -> Self {
        Self::start(&[&["up", "--addr", "127.0.0.1:0"][..], more].concat()).await
    }

    /// `daemon` of this cloud.
    pub(crate) async fn daemon_of(cloud: &Sim, more: &[&str]) -> Self {
        let of = ["daemon", "--api-url", cloud.get("apiUrl"), "--api-key", cloud.get("apiKey")];
        Self::start(&[&of[..], more].concat()).await
    }

    /// A text of the ready line.
    pub(crate) fn get(&self, member: &str) -> &str {
        self.ready[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", self.first))
    }

    /// Its next line; `None` when it has closed its stdout.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let line = self.lines.as_mut().unwrap().next_line();
        timeout(PATIENCE, line).await.expect("no line came").unwrap()
    }

    /// Waits for an event; those before it are passed over.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("it ended before `{name}`"));
            let event = event(&line);
            if event["event"] == name {
                return event;
            }
        }
    }

    /// Reads no more of its stdout, as `head -1` does.
    pub(crate) fn close_stdout(&mut self) {
        self.lines = None;
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it has ended")
    }

    /// Kills it on the spot.
    pub(crate) fn kill(&mut self) {
        self.child.start_kill().unwrap();
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.id().to_string();
        let killed = Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap();
        assert!(killed.success());
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Ended {
        let mut stdout = String::new();
        if let Some(lines) = self.lines.take() {
            timeout(PATIENCE, lines.into_inner().read_to_string(&mut stdout)).await.expect("it does not end").unwrap();
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        Ended { code: status.code(), stdout, stderr: self.stderr.await.unwrap() }
    }

    /// A peer of this test breaks rules; else the test fails when the cloud is stopped and anybody did.
    pub(crate) fn has_wrong_peers(&self) {
        self.excused.store(true, Ordering::Relaxed);
    }

    /// Correct endpoints get no mark.
    async fn judge(&self) {
        let (Some(admin), false) = (self.ready["adminUrl"].as_str(), self.excused.load(Ordering::Relaxed)) else {
            return;
        };
        let url = format!("{admin}/grades");
        if !admin.starts_with("http://") {
            return;
        }
        let authorization = self.ready["adminToken"].as_str().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let (status, grades) = ask(Method::GET, &url, &headers).await;
        if status == 200 {
            assert_eq!(grades["grades"], serde_json::json!([]), "somebody broke a rule, and the test does not say so");
        }
    }

    /// Ends it with SIGTERM.
    pub(crate) async fn stop(self) -> Ended {
        self.judge().await;
        self.signal("TERM").await;
        self.end().await
    }

    /// `call` as the cloud's user.
    pub(crate) async fn call(&self, more: &[&str]) -> Ended {
        let of = ["call", "--api-url", self.get("apiUrl"), "--access-token", self.get("accessToken")];
        run(&[&of[..], &["--daemon-id", self.get("daemonId")], more].concat()).await
    }
}

/// What comes up to and with these words.
pub(crate) async fn until(stdout: &mut ChildStdout, last: &str) -> String {
    let mut text = String::new();
    while !text.contains(last) {
        let mut bytes = [0; 4096];
        let count = timeout(PATIENCE, stdout.read(&mut bytes)).await.expect("no text came").unwrap();
        assert_ne!(count, 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    text
}

/// The status of a request.
pub(crate) async fn ask(method: Method, url: &str, headers: &[(&'static str, &str)]) -> (u16, Value) {
    let env = Env::real(&Roots::System).unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let body = if method == Method::POST { b"null".as_slice().into() } else { Default::default() };
    let request = HttpRequest { method, url: url.parse().unwrap(), headers: map, body, max_answer: 1 << 20 };
    let answer = timeout(PATIENCE, env.http.send(request)).await.expect("no answer").unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// A directory of this test's own, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The text at a URL.
pub(crate) async fn get_text(url: &str) -> String {
    let env = Env::real(&Roots::System).unwrap();
    let request = HttpRequest {
        method: Method::GET,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Default::default(),
        max_answer: 1 << 20,
    };
    let answer = timeout(PATIENCE, env.http.send(request)).await.expect("no answer").unwrap();
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// A port that was free just now, for what must be known before it is listened on.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
