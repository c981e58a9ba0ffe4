//! `limits`: the limits of running servers.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;
use sideband_sim_kit::limits::{ApiLimits, ApiLimitsPatch, LimitsFile, RelayLimits, RelayLimitsPatch};

use super::admin::{Asked, Servers};
use crate::{explain, failure::Failure, options, output::Output, world};

/// What takes the control plane's limit away.
const OFF: &str = "off";

/// Flags of `limits`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim limits show
  sideband-sim limits set framesPerSecond=50 burst=100 rateMode=throttle
  sideband-sim limits set grace=5s takeover=refuse
  sideband-sim limits set apiRate=20/10s             the control plane's: 429 to more; apiRate=off takes it away
  sideband-sim limits show > limits.toml && sideband-sim up --limits limits.toml

They hold at once, and for every connection, until the server ends or `sideband-sim reset`, which comes back to those of the start.")]
pub(crate) struct LimitsArgs {
    /// What to do with them.
    #[command(subcommand)]
    what: LimitsCommand,
}

#[derive(Debug, Subcommand)]
enum LimitsCommand {
    /// Show them
    Show(ShowArgs),
    /// Change some
    Set(SetArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    servers: Servers,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// Which, and to what; `limits show` shows the names
    #[arg(value_name = "NAME=VALUE", required = true)]
    changes: Vec<String>,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitsLine<'a> {
    event: &'static str,
    admin_url: &'a str,
    limits: &'a RelayLimits,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiLimitsLine<'a> {
    event: &'static str,
    admin_url: &'a str,
    api_limits: &'a ApiLimits,
}

/// Shows or changes the limits of servers.
pub(crate) async fn limits(args: LimitsArgs, out: &Output) -> Result<(), Failure> {
    match args.what {
        LimitsCommand::Show(args) => show(&args.servers, out).await,
        LimitsCommand::Set(args) => set(&args, out).await,
    }
}

async fn show(servers: &Servers, out: &Output) -> Result<(), Failure> {
    for asked in servers.clients(&world::real()?)? {
        let serves = asked.ready().await?.serves;
        let serves = |part: &str| serves.iter().any(|served| served == part);
        if serves("relay") {
            let limits = asked.client.limits().await.map_err(|error| explain::admin(error, &asked.url))?;
            say_relay(&asked, &limits, out).await;
        }
        if serves("api") {
            let limits = asked.client.api_limits().await.map_err(|error| explain::admin(error, &asked.url))?;
            say_api(&asked, &limits, out).await;
        }
    }
    Ok(())
}

async fn set(args: &SetArgs, out: &Output) -> Result<(), Failure> {
    let Changes { relay, api } = Changes::read(&args.changes)?;
    // Before anything is changed: both are there.
    let relays = if relay.is_some() { args.servers.serving("relay").await? } else { Vec::new() };
    let apis = if api.is_some() { args.servers.serving("api").await? } else { Vec::new() };
    if let Some(patch) = &relay {
        for asked in &relays {
            let limits = asked.client.set_limits(patch).await.map_err(|error| explain::admin(error, &asked.url))?;
            say_relay(asked, &limits, out).await;
        }
    }
    if let Some(patch) = &api {
        for asked in &apis {
            let limits = asked.client.set_api_limits(patch).await.map_err(|error| explain::admin(error, &asked.url))?;
            say_api(asked, &limits, out).await;
        }
    }
    Ok(())
}

async fn say_relay(asked: &Asked, limits: &RelayLimits, out: &Output) {
    let line = LimitsLine { event: "limits", admin_url: asked.url.as_str(), limits };
    out.say(&line, || limits.to_toml()).await;
}

/// For people a line of a file for `--limits`, as the relay's are.
async fn say_api(asked: &Asked, limits: &ApiLimits, out: &Output) {
    let line = ApiLimitsLine { event: "api_limits", admin_url: asked.url.as_str(), api_limits: limits };
    out.say(&line, || LimitsFile::rate_to_toml(limits.rate)).await;
}

/// What is to change at relays, and at control planes.
struct Changes {
    relay: Option<RelayLimitsPatch>,
    api: Option<ApiLimitsPatch>,
}

impl Changes {
    fn read(changes: &[String]) -> Result<Self, Failure> {
        let (mut relay, mut api) = (None, None);
        for change in changes {
            match change.split_once('=') {
                Some(("apiRate" | "api_rate" | "api-rate", rate)) => {
                    let rate = if rate == OFF {
                        None
                    } else {
                        Some(options::rate(rate).map_err(|problem| {
                            Failure::misuse(anyhow!("`{change}`: {problem}")).hint("apiRate=off takes the limit away")
                        })?)
                    };
                    api = Some(ApiLimitsPatch { rate: Some(rate) });
                }
                _ => relay.get_or_insert_with(RelayLimitsPatch::default).set_text(change).map_err(|error| {
                    Failure::misuse(error).hint("`sideband-sim limits show` shows names and values")
                })?,
            }
        }
        Ok(Self { relay, api })
    }
}
