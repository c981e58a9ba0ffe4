//! `up`: the whole cloud on one port.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgAction, Args, builder::BoolishValueParser};
use owo_colors::OwoColorize;
use serde::Serialize;
use sideband::{Daemon, QuickConnectCode, Server, env::Env};
use sideband_scenarios::cloud::{Cloud, CloudError, CloudOptions, local_url, relay_url};
use sideband_sim_kit::{admin::ADMIN_PATH, fault::Place};
use tokio::task::JoinHandle;
use url::Url;

use crate::{
    apart::Bound,
    echo, explain,
    exposure::{Exposed, Exposure, cannot_listen, state_failure},
    failure::Failure,
    faults::{self, Faults},
    journal,
    options::{ApiOptions, LimitsOption, Region, RelayOptions},
    output::Output,
    quick_connect::{self, CodeEvent},
    ready::{self, Credentials, ReadyLine},
    relays::FurtherRelays,
    signals::Signals,
    tls::{Security, Tls},
    trace::Trace,
    values, world,
};

/// How long stopping may take (REL-24).
pub(crate) const STOP: Duration = Duration::from_millis(4_600);

const EXAMPLES: &str = "\
Examples:
  sideband-sim up                                  on 127.0.0.1:7600, new credentials
  sideband-sim up --seed 7 --daemon                the same credentials each time, and an echo daemon
  sideband-sim up --preset storm-429               the control plane is overrun at first; see `--help` for all presets
  sideband-sim up --state sim.db                   what is known outlives it: users, daemons, keys, codes, faults
  sideband-sim up --faults plan.toml               with faults on demand
  sideband-sim up --limits limits.toml --limit grace=5s
                                                   limits by file, api_rate too, and flag; `limits show` has their names
  sideband-sim up --api-rate 20/10s                429 to whoever asks the control plane more than that
  sideband-sim up --region eu                      tokens for another region are refused with 403
  sideband-sim up --region eu --relay-url us=ws://127.0.0.1:7602/relay --relay-admin-url http://127.0.0.1:7602
                                                   and a relay for daemons in the region us; also `regions set`
  sideband-sim up --addr 127.0.0.1:0 --json        any free port; the first line says which, and all credentials
  sideband-sim up --addr 0.0.0.0:7600 --allow-remote
                                                   for containers and other machines

The first line with --json is
  {\"event\":\"ready\",\"apiUrl\",\"relayUrl\",\"adminUrl\",\"daemonId\",\"apiKey\",\"accessToken\",\"issuer\",\"seed\"}
printed once everything answers. Lines with \"event\":\"cloud\" follow: sessions, requests, keys.
With --daemon there is one \"daemon\" with its Quick Connect code, and \"daemon_ended\" if another process takes its place.
\"faults_never_fired\" comes last, if there are such rules.
SIGINT and SIGTERM end it within five seconds.";

/// Flags of `up`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "SIDEBAND_SIM_ADDR", value_name = "ADDR", default_value = "127.0.0.1:7600", value_parser = values::address)]
    addr: SocketAddr,
    /// Make the same credentials each time [default: new ones]
    #[arg(long, env = "SIDEBAND_SIM_SEED", value_name = "N", value_parser = values::seed)]
    seed: Option<u64>,
    /// Keep accounts, keys, codes, used session ids and faults in this file, and with them the credentials [default: in memory]
    #[arg(long, env = "SIDEBAND_SIM_STATE", value_name = "FILE")]
    state: Option<PathBuf>,
    /// Also run an echo daemon, and print a Quick Connect code for it
    #[arg(long, env = "SIDEBAND_SIM_DAEMON", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    daemon: bool,
    /// The URL by which others reach it, if they do not reach it as this machine does
    #[arg(long, env = "SIDEBAND_SIM_ADVERTISE_URL", value_name = "URL", value_parser = values::http_url)]
    advertise_url: Option<Url>,
    #[command(flatten)]
    limits: LimitsOption,
    #[command(flatten)]
    relay: RelayOptions,
    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    region: Region,
    #[command(flatten)]
    relays: FurtherRelays,
    #[command(flatten)]
    exposure: Exposure,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    trace: Trace,
    #[command(flatten)]
    faults: Faults,
}

/// The end of the echo daemon of `up --daemon` as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DaemonEndedLine {
    event: &'static str,
    daemon_id: String,
    cause: String,
}

/// The echo daemon of `up --daemon` as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DaemonLine<'a> {
    event: &'static str,
    daemon_id: String,
    fingerprint: String,
    quick_connect: CodeEvent<'a>,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: UpArgs, out: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new(out)?;
    let security = args.tls.prepare(args.addr, args.advertise_url.as_ref())?;
    let env = security.world()?;
    let exposed = args.exposure.check(args.addr, &env)?;
    if exposed.remote && args.seed.is_some() {
        out.note("note: with --allow-remote the credentials are random in spite of --seed");
    }
    if args.state.is_some() && args.seed.is_some() {
        out.note("note: with --state the credentials are the file's in spite of --seed");
    }
    let plan = args.faults.read()?;
    let cloud = start(&args, &exposed, &security, env.clone(), out).await?;
    let local = local_url(cloud.addr(), security.is_tls());
    ready::prove(&env, &local, exposed.admin_token.clone(), Some(cloud.relay()), &security).await?;
    // The proof was nobody's request: what is told, counted and judged begins here.
    cloud.events().reset();
    let tracing = args.trace.start(cloud.events())?;
    let beginning = cloud.begin_faults(plan);
    faults::begun(beginning, cloud.faults(), Place::OF_CLOUD, args.state.as_deref(), out)?;
    // Before anybody can know of it, so that no event is missed; the ready line comes first.
    let events = cloud.events().subscribe();
    say_ready(&args, &exposed, &security, &cloud, out).await;
    let daemon = async { if args.daemon { echo_daemon(&cloud, &local, env, out).await.map(Some) } else { Ok(None) } };
    let daemon = tokio::select! {
        biased;
        () = signals.next() => Err(None),
        daemon = daemon => daemon.map_err(Some),
    };
    let journal = journal::follow(events, out);
    let (daemon, ended) = match daemon {
        Ok(daemon) => {
            tokio::select! {
                biased;
                () = signals.next() => {}
                () = tell_end(daemon.as_ref(), out) => {}
            }
            (daemon, Ok(()))
        }
        Err(None) => (None, Ok(())),
        Err(Some(failure)) => (None, Err(failure)),
    };
    let engine = cloud.faults().clone();
    stop(cloud, daemon, journal, &mut signals, out).await;
    faults::tell_never_fired(&engine, Place::OF_CLOUD, out).await;
    ended.and(tracing.finish(out))
}

async fn start(
    args: &UpArgs,
    exposed: &Exposed,
    security: &Security,
    env: Env,
    out: &Output,
) -> Result<Cloud, Failure> {
    let options = CloudOptions {
        seed: seed(args, exposed),
        state: args.state.clone(),
        origins: exposed.origins.clone(),
        advertise: args.advertise_url.clone(),
        tls: security.is_tls(),
        trace_frames: args.trace.is_wanted(),
        admin_token: exposed.admin_token.clone(),
        region_relays: args.relays.regions(out)?,
        region_admins: args.relays.admins()?,
        ..CloudOptions::default()
    };
    let options = args.api.set_up(&args.limits.read()?, &args.relay, &args.region, options)?;
    let bound = Bound::to(args.addr, security, &env).await?;
    Cloud::start_on(env, bound.listener, bound.addr, options).map_err(|error| match error {
        CloudError::Bind { addr, source } => cannot_listen(addr, &source),
        CloudError::State(error) => state_failure(error),
        CloudError::Faults(_) => Failure::misuse(error),
    })
}

/// The seed that the credentials follow from: none where others could guess them, or where a file keeps its own.
fn seed(args: &UpArgs, exposed: &Exposed) -> Option<u64> {
    args.seed.filter(|_| !exposed.remote && args.state.is_none())
}

/// The admin API as others should ask it: who has no token must come by loopback.
fn admin_url(args: &UpArgs, exposed: &Exposed, security: &Security, cloud: &Cloud) -> String {
    match (&args.advertise_url, &exposed.admin_token) {
        (Some(_), None) => format!("{}{ADMIN_PATH}", local_url(cloud.addr(), security.is_tls())),
        (Some(_), Some(_)) | (None, _) => cloud.admin_url(),
    }
}

async fn say_ready(args: &UpArgs, exposed: &Exposed, security: &Security, cloud: &Cloud, out: &Output) {
    let relay_url = cloud.relay_url();
    let admin_url = admin_url(args, exposed, security, cloud);
    let line = ReadyLine {
        event: "ready",
        api_url: Some(cloud.api_url()),
        relay_url: &relay_url,
        admin_url: &admin_url,
        credentials: Some(Credentials::from(cloud.bootstrap())),
        issuer: cloud.issuer(),
        seed: Some(seed(args, exposed)),
        admin_token: exposed.admin_token.as_ref().map(|token| token.expose()),
        ca: security.authority.as_deref(),
    };
    out.say(&line, || describe(&line, args.state.as_deref(), args.daemon)).await;
}

/// The ready line for people: where it is, what to log in with, and what to set.
fn describe(line: &ReadyLine<'_>, state: Option<&Path>, daemon: bool) -> String {
    let api = line.api_url.unwrap_or_default();
    let mut text = format!("\n{} {}\n\n", "●".green(), "Sideband cloud is up".bold());
    let mut put = |name: &str, value: &str, note: &str| {
        let row = format!("  {}{value}  {}", format!("{name:<14}").dimmed(), note.dimmed());
        text.push_str(&format!("{}\n", row.trim_end()));
    };
    put("API", api, "");
    put("relay", line.relay_url, "");
    put("admin", line.admin_url, "");
    if let Some(credentials) = line.credentials {
        put("daemon id", credentials.daemon_id, "");
        put("API key", credentials.api_key, "for the daemon");
        put("access token", credentials.access_token, "for clients");
    }
    if let Some(token) = line.admin_token {
        put("admin token", token, "for the admin API");
    }
    if let Some(ca) = line.ca {
        put("trust", &ca.display().to_string(), "for browsers, and as NODE_EXTRA_CA_CERTS");
    }
    match (line.seed.flatten(), state) {
        (Some(seed), _) => put("seed", &seed.to_string(), "the same credentials each time"),
        (None, Some(file)) => put("state", &file.display().to_string(), "the same credentials with this file"),
        (None, None) => put("seed", "none", "new credentials each time"),
    }
    if let Some(credentials) = line.credentials {
        text.push_str(&snippets(api, line, credentials, daemon));
    }
    text
}

/// What to set, by copy and paste. A daemon that runs already would be replaced by another with its key.
fn snippets(api: &str, line: &ReadyLine<'_>, credentials: Credentials<'_>, daemon: bool) -> String {
    let Credentials { daemon_id, api_key, access_token } = credentials;
    let (relay, trust) = (line.relay_url, world::trust_flag(line.ca));
    let cacert = trust.replace(" --ca ", " --cacert ");
    let in_rust = if line.ca.is_some() { ".env(Env::real(&Roots::SystemAnd(ca.into()))?)" } else { "" };
    let rust = "Rust, crate sideband".bold();
    let typescript = "@sideband/cloud".bold();
    let curl = "curl".bold();
    let here = "This tool".bold();
    let program = world::program();
    let replaces = if daemon { "  // takes the place of the echo daemon" } else { "" };
    let start_daemon = if daemon {
        String::new()
    } else {
        format!("    SIDEBAND_API_KEY={api_key} {program} daemon --api-url {api}{trust}\n")
    };
    format!(
        r#"
  {rust}
    let (api, relay) = ("{api}", "{relay}");
    let server = Daemon::new(api, relay, "{api_key}")?{in_rust}.listen().await?;{replaces}
    let client = Account::with_token(api, "{daemon_id}", "{access_token}")?{in_rust}.connect()?;

  {typescript}
    const both = {{ apiUrl: "{api}", relayUrl: "{relay}" }};
    const daemon = {{ ...both, apiKey: "{api_key}" }};{replaces}
    const client = {{ ...both, daemonId: "{daemon_id}", accessToken: "{access_token}" }};

  {curl}
    curl -sS{cacert} {api}/api/trpc/relay.createSession \
      -H 'authorization: Bearer {access_token}' \
      -H 'content-type: application/json' -d '{{"daemonId":"{daemon_id}"}}'

  {here}
{start_daemon}    SIDEBAND_ACCESS_TOKEN={access_token} {program} call \
      --api-url {api}{trust} --daemon-id {daemon_id} ping

"#
    )
}

/// Tells when the echo daemon ends by itself, and stays pending: the cloud goes on.
async fn tell_end(daemon: Option<&Server>, out: &Output) {
    if let Some(daemon) = daemon {
        let cause = daemon.ended().await;
        let line = DaemonEndedLine { event: "daemon_ended", daemon_id: daemon.daemon_id(), cause: cause.to_string() };
        out.json(&line).await;
        out.note(format!("note: the echo daemon has ended: {cause}"));
        for hint in explain::cause(&cause, explain::Who::Daemon).hints() {
            out.note(format!("  {hint}"));
        }
    }
    std::future::pending().await
}

async fn echo_daemon(cloud: &Cloud, local: &str, env: Env, out: &Output) -> Result<Server, Failure> {
    let wrong = |error: &sideband::Error| explain::sdk(error, explain::Who::Daemon);
    let api_key = cloud.bootstrap().api_key.expose();
    let daemon = Daemon::new(local, &relay_url(local), api_key).map_err(|error| wrong(&error))?;
    let server = echo::start(daemon.env(env)).map_err(|error| wrong(&error))?;
    server.when_online().await.map_err(|error| wrong(&error))?;
    let code: QuickConnectCode = quick_connect::create(&server, None).await.map_err(|error| wrong(&error))?;
    let line = DaemonLine {
        event: "daemon",
        daemon_id: server.daemon_id(),
        fingerprint: server.fingerprint().to_string(),
        quick_connect: CodeEvent::from(&code),
    };
    out.say(&line, || {
        let head = format!("  {} {}\n", "echo daemon".bold(), format!("fingerprint {}", line.fingerprint).dimmed());
        format!("{head}{}", quick_connect::describe(&code, out.is_colored()))
    })
    .await;
    Ok(server)
}

async fn stop(cloud: Cloud, daemon: Option<Server>, journal: JoinHandle<()>, signals: &mut Signals, out: &Output) {
    if !out.is_json() {
        out.note("stopping");
    }
    let ended = async {
        if let Some(daemon) = daemon {
            daemon.close().await;
        }
        cloud.shutdown().await;
    };
    tokio::select! {
        biased;
        // Whoever asks twice does not want to wait.
        () = signals.next() => {}
        done = tokio::time::timeout(STOP, ended) => {
            if done.is_err() {
                tracing::warn!("some connections did not end in time");
            }
        }
    }
    journal.abort();
}
