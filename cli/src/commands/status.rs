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
    observer::{Grade, GradeCount, Grades},
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
  sideband-sim status --json | jq .newestGrades         which rules were broken, by whom, and what shows it
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

/// How many of the newest grades are shown to people.
const SHOWN_GRADES: usize = 10;

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
    /// All that the server has kept, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    newest_grades: Vec<Grade>,
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
    let Grades { grades: newest_grades, counts: grades } = asked.client.grades().await.map_err(wrong)?;
    let faults = match asked.client.faults().await {
        Ok(list) => list.faults,
        // Not every server does faults.
        Err(AdminError::Refused { status: 404, .. }) => Vec::new(),
        Err(error) => return Err(wrong(error)),
    };
    let (admin_url, serves) = (asked.url.to_string(), ready.serves);
    Ok(StatusLine {
        event: "status",
        admin_url,
        serves,
        relay,
        limits_changed,
        accounts,
        grades,
        newest_grades,
        faults,
    })
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
            put(&mut text, &format!("{rule:<10} {:<8} {count}", party_name(*party)));
        }
        describe_grades(&mut text, &line.newest_grades);
    }
    if !line.faults.is_empty() {
        head(&mut text, "faults");
        for row in fault::table(&line.faults).lines() {
            put(&mut text, row);
        }
    }
    text
}

/// The newest grades, a row each, the newest last.
fn describe_grades(text: &mut String, grades: &[Grade]) {
    let older = grades.len().saturating_sub(SHOWN_GRADES);
    let shown = &grades[older..];
    if shown.is_empty() {
        return;
    }
    head(text, "how they were broken");
    let title = format!("{:>12}  {:<8} {:<7} {:>10} {:>6}  evidence", "at", "rule", "party", "connection", "times");
    put(text, &title.dimmed().to_string());
    for grade in shown {
        let Grade { at, host: _, rule, party, connection, daemon, session, evidence, times } = grade;
        let connection = connection.map_or_else(|| "-".to_owned(), |connection| connection.to_string());
        let about = match (session, daemon) {
            (Some(session), _) => format!("  session {session}"),
            (None, Some(daemon)) => format!("  {daemon}"),
            (None, None) => String::new(),
        };
        let (at, party) = (seconds(*at), party_name(*party));
        let row = format!("{at:>12}  {rule:<8} {party:<7} {connection:>10} {times:>6}  {evidence}{}", about.dimmed());
        put(text, &row);
    }
    if older > 0 {
        put(text, &format!("and {older} before them: see --json").dimmed().to_string());
    }
}

/// Milliseconds since the start of the server, for people.
fn seconds(millis: u64) -> String {
    format!("{}.{:03} s", millis / 1_000, millis % 1_000)
}

fn party_name(party: Role) -> &'static str {
    match party {
        Role::Client => "client",
        Role::Daemon => "daemon",
    }
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

#[cfg(test)]
mod tests {
    use sideband::SessionId;

    use super::*;

    fn grade(at: u64, rule: &str, party: Role, connection: Option<u64>, evidence: &str, times: u32) -> Grade {
        let (host, daemon) = ("relay".to_owned(), Some("d_1".to_owned()));
        let session = (party == Role::Client).then(|| SessionId::new(7).unwrap());
        Grade {
            at,
            host,
            rule: rule.to_owned(),
            party,
            connection,
            daemon,
            session,
            evidence: evidence.to_owned(),
            times,
        }
    }

    fn status(newest_grades: Vec<Grade>) -> StatusLine {
        let count = |rule: &str, party, count| GradeCount { rule: rule.to_owned(), party, count };
        StatusLine {
            event: "status",
            admin_url: "http://127.0.0.1:7600/__sim".to_owned(),
            serves: vec!["relay".to_owned()],
            relay: None,
            limits_changed: None,
            accounts: None,
            grades: vec![count("CRY-04", Role::Client, 13), count("DMN-16", Role::Daemon, 1)],
            newest_grades,
            faults: Vec::new(),
        }
    }

    fn plain(line: &StatusLine) -> String {
        anstream::adapter::strip_str(&describe(line)).to_string()
    }

    #[test]
    fn the_newest_grades_are_shown_with_their_evidence() {
        let mut grades: Vec<_> = (0..12)
            .map(|n| {
                let evidence = format!("sequence {n} where {} comes next", n + 1);
                grade(n * 1_000, "CRY-04", Role::Client, Some(n), &evidence, 1)
            })
            .collect();
        grades.push(grade(
            4_000_000,
            "DMN-16",
            Role::Daemon,
            None,
            "closed with 1001 after its Signals of shutdown",
            2,
        ));
        insta::assert_snapshot!("the_newest_grades_are_shown_with_their_evidence", plain(&status(grades)));
    }

    #[test]
    fn json_has_all_of_them_in_one_line() {
        let grades = vec![grade(5, "CLI-06", Role::Client, None, "too early", 1); 30];
        let line = serde_json::to_value(status(grades)).unwrap();
        assert_eq!(line["newestGrades"].as_array().unwrap().len(), 30);
        assert_eq!(line["grades"][0], serde_json::json!({"rule": "CRY-04", "party": "client", "count": 13}));
    }
}
