//! `fault`: the fault plan of running servers.

use std::{fs, io::Read as _};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use owo_colors::OwoColorize;
use serde::Serialize;
use sideband_sim_kit::fault::{
    FaultPlan, FaultRule, Format, MAX_PLAN, Place, PlanError,
    admin::{FaultList, FaultReport},
};

use super::admin::{Asked, Servers};
use crate::{
    explain,
    failure::{Details, Failure},
    output::Output,
    world,
};

/// Flags of `fault`.
#[derive(Debug, Args)]
#[command(after_help = "\
A rule says where, when and what:
  on         api.request, relay.upgrade, relay.frame, relay.connection or keys
  filters    procedure, path, daemon, session, user, role, direction, frame, usage, age
  triggers   skip, times, from, for, probability
  do         status, delay, hang, cut, refuse, close, control, drop, duplicate, ghost, pause, limit, restart, rotate ...

Examples:
  sideband-sim fault add '{\"on\":\"api.request\",\"times\":3,\"do\":{\"status\":429,\"retryAfter\":\"2s\"}}'
  sideband-sim fault add $'on = \"relay.connection\"\\nrole = \"daemon\"\\nage = \"5s\"\\ndo = \"cut\"'
  sideband-sim fault add storm.toml
  sideband-sim fault set - < plan.toml      in place of all rules there are
  sideband-sim fault list
  sideband-sim fault remove rule-1
  sideband-sim fault clear")]
pub(crate) struct FaultArgs {
    /// What to do with the rules.
    #[command(subcommand)]
    what: FaultCommand,
}

#[derive(Debug, Subcommand)]
enum FaultCommand {
    /// Add a rule behind the others
    Add(TextArgs),
    /// Put a whole plan in place of the rules there are
    Set(TextArgs),
    /// Show the rules, and how often each saw an event, fired, and was overruled
    List(ListArgs),
    /// Take a rule away
    Remove(RemoveArgs),
    /// Take all rules away
    Clear(ListArgs),
}

#[derive(Debug, Args)]
struct TextArgs {
    /// TOML or JSON, as it is, in a file of this path, or `-` for stdin
    #[arg(value_name = "TEXT_OR_FILE", allow_hyphen_values = true)]
    text: String,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    servers: Servers,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// The rule's name; `fault list` shows them
    #[arg(value_name = "NAME")]
    id: String,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FaultsLine<'a> {
    event: &'static str,
    admin_url: &'a str,
    #[serde(flatten)]
    list: &'a FaultList,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AddedLine<'a> {
    event: &'static str,
    admin_url: &'a str,
    #[serde(flatten)]
    report: &'a FaultReport,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RemovedLine<'a> {
    event: &'static str,
    admin_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    removed: usize,
}

/// Shows or changes the fault plan.
pub(crate) async fn fault(args: FaultArgs, out: &Output) -> Result<(), Failure> {
    match args.what {
        FaultCommand::Add(args) => add(args, out).await,
        FaultCommand::Set(args) => set(args, out).await,
        FaultCommand::List(args) => list(args, out).await,
        FaultCommand::Remove(args) => remove(args, out).await,
        FaultCommand::Clear(args) => clear(args, out).await,
    }
}

/// The part that has the hooks of a place.
fn part_of(place: Place) -> Option<&'static str> {
    match place {
        Place::ApiRequest | Place::Keys => Some("api"),
        Place::RelayUpgrade | Place::RelayFrame | Place::RelayConnection => Some("relay"),
        Place::Net => None,
    }
}

async fn add(args: TextArgs, out: &Output) -> Result<(), Failure> {
    let source = Source::read(&args.text)?;
    let rule = FaultRule::parse(&source.text, source.format).map_err(|error| source.wrong(&error, "rule"))?;
    let Some(part) = part_of(rule.place()) else {
        return Err(Failure::misuse(anyhow!("`on = \"net\"` is for simulations; a running cloud has no such hook")));
    };
    for asked in args.servers.serving(part).await? {
        let report = asked.client.add_fault(&rule).await.map_err(|error| explain::admin(error, &asked.url))?;
        let line = AddedLine { event: "fault_added", admin_url: asked.url.as_str(), report: &report };
        out.say(&line, || format!("added {}", name(&report))).await;
        warn(&report.warnings, out);
    }
    Ok(())
}

async fn set(args: TextArgs, out: &Output) -> Result<(), Failure> {
    let source = Source::read(&args.text)?;
    FaultPlan::parse(&source.text, source.format).map_err(|error| source.wrong(&error, "plan"))?;
    for asked in args.servers.clients(&world::real()?)? {
        let list = asked.client.set_faults_text(source.text.clone(), source.format).await;
        say_list(&asked, &list.map_err(|error| explain::admin(error, &asked.url))?, out).await;
    }
    Ok(())
}

async fn list(args: ListArgs, out: &Output) -> Result<(), Failure> {
    for asked in args.servers.clients(&world::real()?)? {
        let list = asked.client.faults().await.map_err(|error| explain::admin(error, &asked.url))?;
        say_list(&asked, &list, out).await;
    }
    Ok(())
}

async fn say_list(asked: &Asked, list: &FaultList, out: &Output) {
    let line = FaultsLine { event: "faults", admin_url: asked.url.as_str(), list };
    out.say(&line, || if list.faults.is_empty() { "no faults".dimmed().to_string() } else { table(&list.faults) })
        .await;
    warn(&list.warnings, out);
}

/// With `--json` they stand in the line.
fn warn(warnings: &[String], out: &Output) {
    if !out.is_json() {
        warnings.iter().for_each(|warning| out.note(format!("warning: {warning}")));
    }
}

async fn remove(args: RemoveArgs, out: &Output) -> Result<(), Failure> {
    let mut found = false;
    for asked in args.servers.clients(&world::real()?)? {
        if asked.client.remove_fault(&args.id).await.map_err(|error| explain::admin(error, &asked.url))? {
            found = true;
            let (admin_url, id) = (asked.url.as_str(), Some(args.id.as_str()));
            let line = RemovedLine { event: "fault_removed", admin_url, id, removed: 1 };
            out.say(&line, || format!("removed {}", args.id)).await;
        }
    }
    if found {
        return Ok(());
    }
    let details = Details { code: Some("not_found".to_owned()), status: Some(404), ..Details::default() };
    Err(Failure::failed(anyhow!("there is no rule {}", args.id))
        .details(details)
        .hint("`sideband-sim fault list` shows what is there"))
}

async fn clear(args: ListArgs, out: &Output) -> Result<(), Failure> {
    for asked in args.servers.clients(&world::real()?)? {
        let removed = asked.client.clear_faults().await.map_err(|error| explain::admin(error, &asked.url))?;
        let line = RemovedLine { event: "faults_cleared", admin_url: asked.url.as_str(), id: None, removed };
        out.say(&line, || format!("removed {removed}")).await;
    }
    Ok(())
}

/// A rule or a plan as it was given.
struct Source {
    text: String,
    format: Format,
    /// What errors call it.
    origin: String,
}

impl Source {
    /// Text that cannot be a path is the rule itself.
    fn read(given: &str) -> Result<Self, Failure> {
        let is_json = |text: &str| text.trim_start().starts_with('{');
        let by_text = |text: &str| if is_json(text) { Format::Json } else { Format::Toml };
        if given == "-" {
            let mut text = String::new();
            let most = MAX_PLAN as u64 + 1;
            let read = std::io::stdin().lock().take(most).read_to_string(&mut text);
            read.map_err(|error| Failure::misuse(anyhow!("cannot read stdin: {error}")))?;
            let format = by_text(&text);
            return Ok(Self { text, format, origin: "stdin".to_owned() });
        }
        if is_json(given) || given.contains('=') {
            return Ok(Self { text: given.to_owned(), format: by_text(given), origin: "the text".to_owned() });
        }
        let text = fs::read_to_string(given).map_err(|error| {
            Failure::misuse(anyhow!("cannot read {given}: {error}"))
                .hint("give TOML or JSON, a file that holds it, or `-` for stdin; see `sideband-sim fault --help`")
        })?;
        let format = match given.rsplit_once('.') {
            Some((_, "json")) => Format::Json,
            Some((_, "toml")) => Format::Toml,
            Some(_) | None => by_text(&text),
        };
        Ok(Self { text, format, origin: given.to_owned() })
    }

    fn wrong(&self, error: &PlanError, what: &str) -> Failure {
        let failure = Failure::misuse(anyhow!("{} is no {what}: {error}", self.origin));
        let failure = failure.details(Details { code: Some("bad_plan".to_owned()), ..Details::default() });
        let plan = FaultPlan::parse(&self.text, self.format).ok();
        let is_plan = what == "rule" && plan.as_ref().is_some_and(|plan| !plan.faults.is_empty());
        if is_plan {
            failure.hint("this is a whole plan: `sideband-sim fault set` takes it")
        } else if what == "rule" && plan.is_some() {
            failure.hint("a rule says at least where and what: on = \"relay.connection\" and do = \"cut\"")
        } else {
            failure.hint("`sideband-sim fault --help` shows examples")
        }
    }
}

fn name(report: &FaultReport) -> &str {
    report.rule.id.as_ref().map_or("", |id| id.as_str())
}

/// What a rule does, in short, as JSON has it.
fn action(report: &FaultReport) -> String {
    let rule = serde_json::to_value(&report.rule).unwrap_or_default();
    match &rule["do"] {
        serde_json::Value::String(name) => name.clone(),
        other => other.to_string(),
    }
}

/// The rules as a table, a row each under a row of titles.
pub(super) fn table(faults: &[FaultReport]) -> String {
    let width = |titles: &str, cells: &mut dyn Iterator<Item = usize>| cells.chain([titles.len()]).max().unwrap_or(0);
    let names = width("name", &mut faults.iter().map(|fault| name(fault).chars().count()));
    let places = width("on", &mut faults.iter().map(|fault| fault.rule.place().name().len()));
    let title = format!("{:<names$}  {:<places$}  {:>8} {:>8} {:>9}  do", "name", "on", "seen", "fired", "overruled");
    let mut text = format!("{}\n", title.dimmed());
    for fault in faults {
        let (name, on, action) = (name(fault), fault.rule.place().name(), action(fault));
        let FaultReport { rule: _, seen, fired, overruled, warnings: _ } = fault;
        text.push_str(&format!("{name:<names$}  {on:<places$}  {seen:>8} {fired:>8} {overruled:>9}  {action}\n"));
    }
    text
}
