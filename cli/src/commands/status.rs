//! `status`: what the servers see, once or again and again.

use std::{fmt::Write as _, io::IsTerminal as _, time::Duration};

use clap::{ArgAction, Args, builder::BoolishValueParser};
use owo_colors::OwoColorize;
use serde::Serialize;
use serde_json::{Map, Value};
use sideband_sim_kit::{
    admin::{Accounts, AdminError, RelayStatus},
    event::Role,
    fault::admin::FaultReport,
    limits::RelayLimits,
    observer::GradeCount,
};

use super::{
    admin::{Asked, Servers},
    fault,
};
use crate::{explain, failure::Failure, output::Output, signals::Signals, values, world};

/// Flags of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim status
  sideband-sim status --watch                           again and again, until Ctrl-C
  sideband-sim status --json | jq .relay.daemons
  sideband-sim status --watch --json | jq -c .grades    a line at each change")]
pub(crate) struct StatusArgs {
    /// Go on until Ctrl-C: a terminal shows what is there now, and otherwise each change is printed
    #[arg(long, env = "SIDEBAND_SIM_WATCH", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    watch: bool,
    /// How often to look, with --watch
    #[arg(long, env = "SIDEBAND_SIM_EVERY", value_name = "TIME", default_value = "1s", value_parser = values::duration)]
    every: Duration,
    #[command(flatten)]
    servers: Servers,
}

/// What one server sees.
#[derive(Debug, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct StatusLine {
    event: &'static str,
    admin_url: String,
    serves: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<RelayStatus>,
    /// The limits that are not the specification's.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits_changed: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<Accounts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grades: Vec<GradeCount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<FaultReport>,
}

/// A server that does not answer, while others are watched.
#[derive(Debug, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct UnreachableLine {
    event: &'static str,
    admin_url: String,
    message: String,
}

#[derive(Debug, Serialize, PartialEq)]
#[serde(untagged)]
enum Line {
    Status(Box<StatusLine>),
    Unreachable(UnreachableLine),
}

/// Prints what the servers see.
pub(crate) async fn status(args: StatusArgs, out: &Output) -> Result<(), Failure> {
    let servers = args.servers.clients(&world::real()?)?;
    if !args.watch {
        for asked in servers {
            let line = look(&asked).await?;
            out.say(&line, || describe(&line)).await;
        }
        return Ok(());
    }
    let mut signals = Signals::new(out)?;
    tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        never = watch(&servers, args.every, out) => never,
    }
}

/// Looks again and again. Only the first look can fail: a server that goes away may come back.
async fn watch(servers: &[Asked], every: Duration, out: &Output) -> Result<(), Failure> {
    let redraws = !out.is_json() && out.is_colored() && std::io::stdout().is_terminal();
    let mut shown: Vec<Line> = Vec::new();
    loop {
        let mut lines = Vec::with_capacity(servers.len());
        for asked in servers {
            lines.push(match look(asked).await {
                Ok(line) => Line::Status(Box::new(line)),
                Err(failure) if shown.is_empty() => return Err(failure),
                Err(failure) => Line::Unreachable(UnreachableLine {
                    event: "unreachable",
                    admin_url: asked.url.to_string(),
                    message: failure.message(),
                }),
            });
        }
        if redraws {
            // Home, then what is left of the last look away.
            let text: String = lines.iter().map(describe_line).collect();
            out.text(&format!("\x1b[H\x1b[2J{text}")).await;
        } else {
            for (at, line) in lines.iter().enumerate().filter(|(at, line)| shown.get(*at) != Some(line)) {
                debug_assert!(at < servers.len());
                out.say(line, || describe_line(line)).await;
            }
        }
        shown = lines;
        tokio::time::sleep(every).await;
    }
}

/// Asks one server for everything.
async fn look(asked: &Asked) -> Result<StatusLine, Failure> {
    let wrong = |error| explain::admin(error, &asked.url);
    let ready = asked.ready().await?;
    let serves = |part: &str| ready.serves.iter().any(|served| served == part);
    let (relay, limits_changed) = if serves("relay") {
        let limits = asked.client.limits().await.map_err(wrong)?;
        (Some(asked.client.status().await.map_err(wrong)?), Some(changed(&limits)))
    } else {
        (None, None)
    };
    let accounts = if serves("api") { Some(asked.client.accounts().await.map_err(wrong)?) } else { None };
    let grades = asked.client.grades().await.map_err(wrong)?.counts;
    let faults = match asked.client.faults().await {
        Ok(list) => list.faults,
        // Not every server does faults.
        Err(AdminError::Refused { status: 404, .. }) => Vec::new(),
        Err(error) => return Err(wrong(error)),
    };
    let (admin_url, serves) = (asked.url.to_string(), ready.serves);
    Ok(StatusLine { event: "status", admin_url, serves, relay, limits_changed, accounts, grades, faults })
}

/// The limits that are not the specification's.
fn changed(limits: &RelayLimits) -> Map<String, Value> {
    let members = |limits: &RelayLimits| match serde_json::to_value(limits) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => Map::new(),
    };
    let usual = members(&RelayLimits::default());
    members(limits).into_iter().filter(|(name, value)| usual.get(name) != Some(value)).collect()
}

fn describe_line(line: &Line) -> String {
    match line {
        Line::Status(status) => describe(status),
        Line::Unreachable(line) => format!("{} {}\n", line.admin_url.bold(), line.message.red()),
    }
}

fn describe(line: &StatusLine) -> String {
    let mut text = format!("{} {}\n", line.admin_url.bold(), line.serves.join(", ").dimmed());
    if let Some(relay) = &line.relay {
        describe_relay(&mut text, relay);
    }
    if let Some(limits) = line.limits_changed.as_ref().filter(|limits| !limits.is_empty()) {
        head(&mut text, "limits that are not the usual ones");
        for (name, value) in limits {
            put(&mut text, &format!("{} {}", format!("{name:<24}").dimmed(), value.to_string().trim_matches('"')));
        }
    }
    if let Some(accounts) = &line.accounts {
        put_head(&mut text, &"api".yellow().to_string());
        for user in &accounts.users {
            put(&mut text, &format!("user {user}"));
            for daemon in accounts.daemons.iter().filter(|daemon| daemon.owner == *user) {
                let name = daemon.name.as_deref().unwrap_or_default();
                put(&mut text, &format!("  daemon {}  {}", daemon.daemon_id, name.dimmed()));
            }
        }
    }
    if !line.grades.is_empty() {
        put_head(&mut text, &"rules that endpoints broke".red().to_string());
        for GradeCount { rule, party, count } in &line.grades {
            let party = match party {
                Role::Client => "client",
                Role::Daemon => "daemon",
            };
            put(&mut text, &format!("{rule:<10} {party:<8} {count}"));
        }
    }
    if !line.faults.is_empty() {
        head(&mut text, "faults");
        for row in fault::table(&line.faults).lines() {
            put(&mut text, row);
        }
    }
    text
}

fn describe_relay(text: &mut String, relay: &RelayStatus) {
    put_head(text, &"relay".magenta().to_string());
    if relay.daemons.is_empty() {
        put(text, &"no daemon is connected".dimmed().to_string());
    }
    for daemon in &relay.daemons {
        let state = if daemon.online { "online".green().to_string() } else { "offline".red().to_string() };
        put(text, &format!("{}  {state}", daemon.daemon_id));
        for session in &daemon.sessions {
            put(text, &format!("  session {}  {}", session.session_id, session.state));
        }
    }
    for (name, count) in relay.counters.iter().filter(|(_, count)| **count > 0) {
        put(text, &format!("{} {count}", format!("{name:<24}").dimmed()));
    }
}

fn head(text: &mut String, what: &str) {
    put_head(text, &what.cyan().to_string());
}

fn put_head(text: &mut String, what: &str) {
    // A String takes everything.
    let _ = writeln!(text, "  {what}");
}

fn put(text: &mut String, row: &str) {
    let _ = writeln!(text, "    {row}");
}
