//! `demo`: a cloud, a daemon and a client in one process. Every step is seen to happen, or the demo fails.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use owo_colors::OwoColorize;
use serde::Serialize;
use serde_json::{Value, json};
use sideband::{
    Account, Client, Daemon, DaemonRetryPolicy, Lifecycle, Server, SessionId, State,
    env::{Env, Timeline},
};
use sideband_scenarios::cloud::{Cloud, CloudError, CloudOptions};
use sideband_sim_kit::event::EventKind;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    echo,
    exposure::cannot_listen,
    exposure::state_failure,
    failure::Failure,
    journal::{self, Words},
    output::Output,
    ready,
    tls::Security,
    world,
};

/// How long it may take altogether.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long the daemon stays away when its socket is lost.
const AWAY: Duration = Duration::from_millis(500);
/// How long the call takes during which that happens: its answer is there before the daemon is back.
const IN_FLIGHT: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct StepLine<'a> {
    event: &'static str,
    at: u64,
    who: &'a str,
    what: &'a str,
}

#[derive(Serialize)]
struct EndLine {
    event: &'static str,
    ok: bool,
    steps: usize,
    ms: u64,
}

/// Takes lines from everywhere and prints them in the order in which they came.
#[derive(Clone)]
struct Story {
    timeline: Timeline,
    lines: mpsc::UnboundedSender<Line>,
    checks: Arc<Mutex<usize>>,
}

enum Line {
    Told { at: u64, who: &'static str, what: String, check: bool },
    Flush(oneshot::Sender<()>),
}

impl Story {
    fn new(out: &Output) -> Self {
        let (lines, mut told) = mpsc::unbounded_channel();
        let out = out.clone();
        tokio::spawn(async move {
            while let Some(line) = told.recv().await {
                match line {
                    // Only the end counts then.
                    Line::Told { .. } if out.is_quiet() && !out.is_json() => {}
                    Line::Told { at, who, what, check } => {
                        let text = || {
                            let what = if check { format!("{} {what}", "✓".green().bold()) } else { what.clone() };
                            journal::row(at, who, &what)
                        };
                        out.say(&StepLine { event: if check { "check" } else { "step" }, at, who, what: &what }, text)
                            .await;
                    }
                    // Nobody waiting is fine.
                    Line::Flush(done) => drop(done.send(())),
                }
            }
        });
        Self { timeline: Timeline::start(), lines, checks: Arc::default() }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.timeline.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn line(&self, who: &'static str, what: String, check: bool) {
        // An error would mean that the runtime ends.
        let _ = self.lines.send(Line::Told { at: self.millis(), who, what, check });
    }

    /// Something happened.
    fn tell(&self, who: &'static str, what: impl Into<String>) {
        self.line(who, what.into(), false);
    }

    /// A step was seen to have happened as it should.
    fn check(&self, what: impl Into<String>) {
        *self.checks.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.line("demo", what.into(), true);
    }

    fn checks(&self) -> usize {
        *self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything is printed.
    async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.lines.send(Line::Flush(done)).is_ok() {
            // An error would mean that the runtime ends.
            let _ = flushed.await;
        }
    }
}

/// Runs the demo; a failure if any step was not seen.
pub(crate) async fn run(out: &Output) -> Result<(), Failure> {
    let env = world::real()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let cloud = Cloud::start(env.clone(), any, CloudOptions::default()).await.map_err(|error| match error {
        CloudError::Bind { addr, source } => cannot_listen(addr, &source),
        CloudError::State(error) => state_failure(error),
        CloudError::Faults(_) => Failure::misuse(error),
    })?;
    ready::prove(&env, cloud.api_url(), None, Some(cloud.relay()), &Security::default()).await?;
    if !out.is_quiet() {
        out.text(&format!("\n{}\n", "A cloud, a daemon and a client in one process".bold())).await;
    }
    let story = Story::new(out);
    let played = tokio::time::timeout(DEADLINE, Box::pin(play(env, &cloud, &story))).await;
    let played = played.unwrap_or_else(|_| Err(anyhow!("it took more than {} s", DEADLINE.as_secs())));
    // What still comes on the way down is told as well.
    let down = tokio::time::timeout(DEADLINE, cloud.shutdown()).await;
    story.flush().await;
    let end = EndLine { event: "demo", ok: played.is_ok(), steps: story.checks(), ms: story.millis() };
    let failed = |error: anyhow::Error| {
        Failure::failed(error.context("the demo did not go as it should"))
            .hint("run it again with -vv, which logs every step")
    };
    out.say(&end, || {
        let seconds = end.ms as f64 / 1000.0;
        if end.ok { format!("\n{} {} steps seen, {seconds:.1} s\n", "●".green(), end.steps) } else { String::new() }
    })
    .await;
    played.map_err(failed)?;
    down.map_err(|_| failed(anyhow!("the cloud did not end in time")))
}

async fn play(env: Env, cloud: &Cloud, story: &Story) -> anyhow::Result<()> {
    tell_cloud(cloud, story);
    story.tell("cloud", format!("listens on {}", cloud.api_url()));

    let credentials = cloud.bootstrap();
    let retry = DaemonRetryPolicy { initial: AWAY, max: AWAY, spread: Duration::ZERO, ..DaemonRetryPolicy::default() };
    let daemon = Daemon::new(cloud.api_url(), &cloud.relay_url(), credentials.api_key.expose())?;
    let server = echo::start(daemon.env(env.clone()).retry(retry))?;
    tell_daemon(&server, story);
    server.when_online().await.context("the daemon did not get online")?;
    ensure!(server.daemon_id() == credentials.daemon_id, "the daemon has another id than its key");
    story.check(format!("daemon {} is online", server.daemon_id()));

    let client = Account::with_token(cloud.api_url(), server.daemon_id(), credentials.access_token.expose())?;
    let client = client.env(env).connect()?;
    let mut states = tell_client(&client, story);
    client.when_ready().await.context("the client got no session")?;
    let pong: String = client.call("ping", ()).await.context("ping")?;
    ensure!(pong == "pong", "ping was answered with {pong}");
    // Answered: the daemon has the session as well.
    let session = only_session(&server)?;
    story.check(format!("session {session} stands, end-to-end encrypted"));

    let sum: i64 = client.call("add", json!({ "a": 19, "b": 23 })).await.context("add {a:19,b:23}")?;
    ensure!(sum == 42, "19 + 23 came out as {sum}");
    story.check("call  add {a:19,b:23} → 42");

    event(&client).await?;
    story.check("event  tick {n:1} arrived");

    blip(cloud, &server, &client, session, &mut states, story).await?;

    client.close().await;
    server.close().await;
    states.wait_for(|seen| seen.last() == Some(&State::Closed)).await.context("the client did not close")?;
    story.check("client and daemon closed");
    Ok(())
}

/// The daemon sends the event `tick` until it is told to stop.
async fn event(client: &Client) -> anyhow::Result<()> {
    let mut ticks = client.subscribe("tick")?;
    client.call::<_, Value>("tick", json!({ "on": true })).await.context("tick {on:true}")?;
    let tick = ticks.next().await.context("the client closed before an event came")?;
    client.call::<_, Value>("tick", json!({ "on": false })).await.context("tick {on:false}")?;
    let data: Value = tick.data()?;
    ensure!(data == json!({ "n": 1 }), "the event was {data}");
    Ok(())
}

/// The daemon loses its socket while a call is under way, comes back, and goes on with the same session.
async fn blip(
    cloud: &Cloud,
    server: &Server,
    client: &Client,
    session: SessionId,
    states: &mut watch::Receiver<Vec<State>>,
    story: &Story,
) -> anyhow::Result<()> {
    let before = states.wait_for(|seen| seen.last() == Some(&State::Active)).await.context("the client closed")?.len();
    let millis = u64::try_from(IN_FLIGHT.as_millis())?;
    let mut slow = Box::pin(client.call_with_info::<_, u64>("sleep", json!({ "ms": millis }), Default::default()));
    story.tell("client", format!("call sleep {{ms:{millis}}}, and while it is under way …"));
    // Frames keep their order: once this is answered, the daemon has the slow call.
    let pong: String = tokio::select! {
        biased;
        ended = &mut slow => anyhow::bail!("the slow call ended too early: {:?}", ended.map(|(ms, _)| ms)),
        pong = client.call("ping", ()) => pong.context("ping")?,
    };
    ensure!(pong == "pong", "ping was answered with {pong}");
    story.tell("demo", "cuts the daemon's line");
    ensure!(cloud.relay().drop_daemon(&server.daemon_id()), "the daemon had no socket to cut");
    let (slept, info) = slow.await.context("the call under way did not survive")?;
    ensure!(slept == millis && !info.waited, "the call under way was answered with {slept}, waited: {}", info.waited);
    story.check("the call under way got its answer");
    let wanted = [State::Paused, State::Active];
    states.wait_for(|seen| seen.len() >= before + wanted.len()).await.context("the client closed")?;
    let seen = states.borrow().get(before..).unwrap_or_default().to_vec();
    ensure!(seen == wanted, "the client's states were {seen:?} instead of {wanted:?}");
    story.check("client: active → paused → active");
    let after = only_session(server)?;
    ensure!(after == session, "the session was {session} and is {after}");
    let sessions = cloud.relay().daemon(&server.daemon_id()).map(|daemon| daemon.sessions).unwrap_or_default();
    ensure!(
        sessions.iter().any(|at_relay| at_relay.session_id == session),
        "the relay does not know session {session}"
    );
    story.check(format!("session {session} is the same, with the same keys"));
    Ok(())
}

fn only_session(server: &Server) -> anyhow::Result<SessionId> {
    match server.connections().as_slice() {
        [one] => Ok(one.session()),
        others => Err(anyhow!("the daemon has {} sessions instead of one", others.len())),
    }
}

fn tell_cloud(cloud: &Cloud, story: &Story) {
    let (mut events, story) = (cloud.events().subscribe(), story.clone());
    tokio::spawn(async move {
        let mut words = Words::default();
        while let Ok(event) = events.recv().await {
            // Endpoints tell of their requests and sessions themselves.
            let who = if event.host == "api" { "api" } else { "relay" };
            if let (EventKind::Session { .. } | EventKind::Request { .. } | EventKind::Closed { .. }, Some(what)) =
                (&event.kind, words.of(&event))
            {
                story.tell(who, what);
            }
        }
    });
}

fn tell_daemon(server: &Server, story: &Story) {
    let (mut events, story) = (server.events(), story.clone());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            story.tell("daemon", journal::daemon(&event).1);
        }
    });
}

/// Tells of the client, and keeps its states from now on.
fn tell_client(client: &Client, story: &Story) -> watch::Receiver<Vec<State>> {
    let (mut events, story) = (client.events(), story.clone());
    let (states, seen) = watch::channel(Vec::new());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Lifecycle::State(state) => {
                    story.tell("client", state.name());
                    states.send_modify(|states| states.push(state));
                }
                Lifecycle::Disconnected(cause) => story.tell("client", format!("disconnected: {cause}")),
                Lifecycle::Retrying { cause, .. } => story.tell("client", format!("{cause}; trying again")),
                Lifecycle::Resumed => story.tell("client", "resumed"),
                _ => {}
            }
        }
    });
    seen
}
