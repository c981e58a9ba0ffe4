//! `limits`: the limits of running relays.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use owo_colors::OwoColorize;
use serde::Serialize;
use serde_json::{Map, Value};
use sideband_sim_kit::limits::{RelayLimits, RelayLimitsPatch};

use super::admin::Servers;
use crate::{explain, failure::Failure, output::Output};

/// Flags of `limits`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim limits show
  sideband-sim limits set framesPerSecond=50 burst=100 rateMode=throttle
  sideband-sim limits set grace=5s takeover=refuse

They hold at once, and for every connection, until the relay ends or `sideband-sim reset`.")]
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

/// Shows or changes the limits of a relay.
pub(crate) async fn limits(args: LimitsArgs, out: &Output) -> Result<(), Failure> {
    let (servers, patch) = match args.what {
        LimitsCommand::Show(show) => (show.servers, None),
        LimitsCommand::Set(set) => (set.servers, Some(patch(&set.changes)?)),
    };
    for asked in servers.serving("relay").await? {
        let answer = match &patch {
            Some(patch) => asked.client.set_limits(patch).await,
            None => asked.client.limits().await,
        };
        let limits = answer.map_err(|error| explain::admin(error, &asked.url))?;
        let line = LimitsLine { event: "limits", admin_url: asked.url.as_str(), limits: &limits };
        out.say(&line, || describe(&limits)).await;
    }
    Ok(())
}

/// `name=value` each; a value that is a number is one, everything else is text.
fn patch(changes: &[String]) -> Result<RelayLimitsPatch, Failure> {
    let mut members = Map::new();
    for change in changes {
        let Some((name, value)) = change.split_once('=') else {
            return Err(Failure::misuse(anyhow!("`{change}` is no NAME=VALUE")).hint("write it as burst=100"));
        };
        let value = value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from);
        members.insert(name.to_owned(), value);
    }
    let text = Value::Object(members).to_string();
    let wrong = |error| Failure::misuse(anyhow!("{error}")).hint("`sideband-sim limits show` shows names and values");
    let patch = RelayLimitsPatch::parse_json(text.as_bytes()).map_err(wrong)?;
    // What makes no sense whatever the others are.
    RelayLimits::default().patched(&patch).map_err(wrong)?;
    Ok(patch)
}

fn describe(limits: &RelayLimits) -> String {
    let Ok(Value::Object(members)) = serde_json::to_value(limits) else { return String::new() };
    let row = |(name, value): (&String, &Value)| {
        format!("{} {}\n", format!("{name:<16}").dimmed(), value.to_string().trim_matches('"'))
    };
    members.iter().map(row).collect()
}
