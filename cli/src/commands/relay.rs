//! `relay`: the relay alone.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use owo_colors::OwoColorize;
use sideband_scenarios::cloud::relay_url;
use sideband_sim_kit::{admin::ADMIN_PATH, fault::Place};
use url::Url;

use crate::{
    apart::{self, Bound, RelaySetup, Served},
    commands::up::STOP,
    exposure::Exposure,
    failure::Failure,
    faults::{self, Faults},
    journal,
    options::{LimitsOption, Region, RelayOptions},
    output::Output,
    ready::{self, ReadyLine},
    signals::Signals,
    tls::Tls,
    trace::Trace,
    values,
};

const EXAMPLES: &str = "\
Examples:
  sideband-sim relay --issuer http://127.0.0.1:7600
  sideband-sim relay --issuer http://127.0.0.1:7600 --limits limits.toml --limit takeover=refuse
  sideband-sim relay --issuer http://127.0.0.1:7600 --addr 127.0.0.1:7602 --region us
  sideband-sim relay --issuer http://127.0.0.1:7600 --preset daemon-blip
  sideband-sim api --relay-url ws://127.0.0.1:7601/relay --relay-admin-url http://127.0.0.1:7601

The key set is fetched from {issuer}/.well-known/jwks.json and kept for five minutes.";

/// Flags of `relay`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RelayArgs {
    /// The control plane whose tokens let in, exactly as it names itself in them
    #[arg(long, env = "SIDEBAND_SIM_ISSUER", value_name = "URL", value_parser = issuer)]
    issuer: String,
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "SIDEBAND_SIM_ADDR", value_name = "ADDR", default_value = "127.0.0.1:7601", value_parser = values::address)]
    addr: SocketAddr,
    /// Keep used session ids and faults in this file, which is not the control plane's [default: in memory]
    #[arg(long, env = "SIDEBAND_SIM_STATE", value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitsOption,
    #[command(flatten)]
    options: RelayOptions,
    #[command(flatten)]
    region: Region,
    #[command(flatten)]
    exposure: Exposure,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    trace: Trace,
    #[command(flatten)]
    faults: Faults,
}

/// An issuer: a URL, kept letter by letter, since tokens are compared so (TOK-04).
pub(crate) fn issuer(text: &str) -> Result<String, String> {
    values::http_url(text).map(|_: Url| text.to_owned())
}

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: RelayArgs, out: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new(out)?;
    let security = args.tls.prepare(args.addr, None)?;
    let env = security.world()?;
    let exposed = args.exposure.check(args.addr, &env)?;
    let plan = args.faults.read()?;
    let setup = RelaySetup {
        issuer: args.issuer.clone(),
        region: args.region.region.clone(),
        limits: args.options.limits(&args.limits.read()?)?,
        state: args.state.clone(),
        trace_frames: args.trace.is_wanted(),
    };
    let bound = Bound::to(args.addr, &security, &env).await?;
    let local = bound.local.clone();
    let served = apart::relay(env.clone(), bound, setup, &exposed)?;
    ready::prove(&env, &local, exposed.admin_token.clone(), served.relay.as_ref(), &security).await?;
    // The proof was nobody's request: what is told, counted and judged begins here.
    served.events.reset();
    let tracing = args.trace.start(&served.events)?;
    let beginning = served.begin_faults(plan);
    faults::begun(beginning, &served.faults, Place::OF_RELAY, args.state.as_deref(), out)?;
    let events = served.events.subscribe();
    let line = ReadyLine {
        event: "ready",
        api_url: None,
        relay_url: &relay_url(&local),
        admin_url: &format!("{local}{ADMIN_PATH}"),
        credentials: None,
        issuer: &args.issuer,
        seed: None,
        admin_token: exposed.admin_token.as_ref().map(|token| token.expose()),
        ca: security.authority.as_deref(),
    };
    out.say(&line, || describe(&line)).await;
    let journal = journal::follow(events, out);
    signals.next().await;
    let engine = served.faults.clone();
    stop(served, &mut signals, out).await;
    journal.abort();
    faults::tell_never_fired(&engine, Place::OF_RELAY, out).await;
    tracing.finish(out)
}

fn describe(line: &ReadyLine<'_>) -> String {
    let mut text = format!(
        "\n{} {}\n\n  {} {}\n  {} {}\n  {} {}\n",
        "●".green(),
        "Sideband relay is up".bold(),
        "relay      ".dimmed(),
        line.relay_url,
        "admin      ".dimmed(),
        line.admin_url,
        "issuer     ".dimmed(),
        line.issuer,
    );
    if let Some(token) = line.admin_token {
        text.push_str(&format!("  {} {token}\n", "admin token".dimmed()));
    }
    if let Some(ca) = line.ca {
        text.push_str(&format!("  {} {}\n", "trust      ".dimmed(), ca.display()));
    }
    text
}

/// Ends a server in time (REL-24); a second signal ends it at once.
pub(crate) async fn stop(served: Served, signals: &mut Signals, out: &Output) {
    if !out.is_json() {
        out.note("stopping");
    }
    tokio::select! {
        biased;
        () = signals.next() => {}
        done = tokio::time::timeout(STOP, served.shutdown()) => {
            if done.is_err() {
                tracing::warn!("some connections did not end in time");
            }
        }
    }
}
