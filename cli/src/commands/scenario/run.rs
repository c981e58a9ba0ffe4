//! `scenario run` and `scenario replay`: one scenario, one seed, twice.

use std::{io::Read, path::PathBuf};

use anyhow::anyhow;
use clap::{ArgAction, Args, builder::BoolishValueParser};
use serde::Serialize;
use sideband_env::Timeline;
use sideband_scenarios::{
    builtin,
    diff::{Comparison, Difference},
    scenario::Scenario,
    sim::{Run, RunOptions},
    sweep::reproduce_line,
};

use super::{
    again, apart,
    find::{Found, Seeded, find},
    told::RunLine,
    write_file,
};
use crate::{
    failure::{Details, Failure},
    output::Output,
    values,
};

/// Flags of `scenario run`.
#[derive(Debug, Args)]
#[command(after_help = "\
The run is repeated in a second process, and both must do the same, byte for byte; the first event that differs is named.

Examples:
  sideband-sim scenario run daemon-blip-resume
  sideband-sim scenario run mine.toml --seed 7 --trace run.ndjson
  sideband-sim scenario run daemon-blip-resume --seed 4711 --swarm     as a sweep ran it
  sideband-sim scenario run --all                                      every built-in

Exit code 1: something failed, or the two runs differ.")]
pub(super) struct RunArgs {
    /// A built-in's name, or a file of this path; `-` for stdin
    #[arg(value_name = "NAME_OR_FILE", required_unless_present = "all", conflicts_with = "all")]
    scenario: Option<String>,
    /// Run every built-in
    #[arg(long, env = "SIDEBAND_SIM_ALL", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue, conflicts_with_all = ["trace", "print_trace"])]
    all: bool,
    /// The seed that fixes the run [default: the file's, or else 0]
    #[arg(long, env = "SIDEBAND_SIM_SEED", value_name = "SEED", value_parser = values::seed)]
    seed: Option<u64>,
    #[command(flatten)]
    swarm: super::find::Swarm,
    #[command(flatten)]
    how: How,
    /// Write the trace to stdout and nothing else: what the second process does
    #[arg(long, env = "SIDEBAND_SIM_PRINT_TRACE", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue, hide = true)]
    print_trace: bool,
}

/// Flags of `scenario replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  sideband-sim scenario replay scenarios/regressions/daemon-blip-resume-seed-4711.toml")]
pub(super) struct ReplayArgs {
    /// A scenario file with a seed, as `scenario shrink` writes it
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Do not repeat the run in a second process
    #[arg(long, env = "SIDEBAND_SIM_ONCE", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    once: bool,
    /// Write everything that happens to this file as NDJSON
    #[arg(long, env = "SIDEBAND_SIM_TRACE", value_name = "FILE")]
    trace: Option<PathBuf>,
}

#[derive(Serialize)]
struct DiffersLine<'a> {
    event: &'static str,
    scenario: &'a str,
    seed: u64,
    difference: &'a Difference,
}

pub(super) async fn run(args: RunArgs, out: &Output) -> Result<(), Failure> {
    if args.print_trace {
        return print_trace(&args, out).await;
    }
    let names: Vec<&str> = match &args.scenario {
        Some(name) => vec![name],
        None => builtin::all().iter().map(|one| one.name).collect(),
    };
    let mut bad = Vec::new();
    for name in &names {
        let found = if *name == "-" { from_stdin()? } else { find(name)? };
        let seeded = Seeded { scenario: found.called.clone(), seed: args.seed, swarm: args.swarm };
        let seed = seeded.seed(&found.scenario);
        let reproduce = reproduce_line(&found.called, seed, args.swarm.swarm);
        if !both(&drawn(found, seed, args.swarm.swarm), seed, args.swarm.swarm, &args.how, reproduce, out).await? {
            bad.push((*name).to_owned());
        }
    }
    verdict(&names, &bad)
}

pub(super) async fn replay(args: ReplayArgs, out: &Output) -> Result<(), Failure> {
    let found = find(&args.file)?;
    let Some(seed) = found.scenario.seed else {
        return Err(Failure::misuse(anyhow!("{} has no `seed`", args.file))
            .hint(format!("`sideband-sim scenario run {} --seed N` runs it under any", args.file)));
    };
    let reproduce = format!("sideband-sim scenario replay {}", args.file);
    let good = both(&found, seed, false, &args.how, reproduce, out).await?;
    verdict(&[&args.file], if good { &[] } else { std::slice::from_ref(&args.file) })
}

fn verdict(all: &[&str], bad: &[String]) -> Result<(), Failure> {
    if bad.is_empty() {
        return Ok(());
    }
    let details = Details { code: Some("scenario_failed".to_owned()), ..Details::default() };
    let failure = match all {
        [one] => Failure::failed(anyhow!("{one} failed")),
        [..] => Failure::failed(anyhow!("{} of {} scenarios failed: {}", bad.len(), all.len(), bad.join(", "))),
    };
    Err(failure.details(details))
}

fn from_stdin() -> Result<Found, Failure> {
    let mut text = String::new();
    let cannot = |error| Failure::misuse(anyhow!("cannot read stdin: {error}"));
    std::io::stdin().lock().take(1 << 24).read_to_string(&mut text).map_err(cannot)?;
    let scenario = Scenario::parse("stdin", &text).map_err(|error| Failure::misuse(anyhow!("{error}")))?;
    Ok(Found { called: "-".to_owned(), text, scenario })
}

fn drawn(found: Found, seed: u64, swarm: bool) -> Found {
    if !swarm {
        return found;
    }
    let scenario = sideband_scenarios::swarm::swarm(&found.scenario, seed);
    Found { scenario, ..found }
}

/// Runs a scenario here.
pub(super) fn here(scenario: &Scenario, seed: u64, options: &RunOptions) -> Result<Run, Failure> {
    apart(|| sideband_scenarios::sim::run(scenario, seed, options)).map_err(|error| {
        Failure::misuse(anyhow!("{error}"))
            .details(Details { code: Some("bad_scenario".to_owned()), ..Details::default() })
    })
}

/// Runs it here and in another process; whether it is good.
async fn both(
    found: &Found,
    seed: u64,
    swarm: bool,
    how: &How,
    reproduce: String,
    out: &Output,
) -> Result<bool, Failure> {
    let timeline = Timeline::start();
    let run = here(&found.scenario, seed, &RunOptions::default())?;
    let took = timeline.elapsed();
    if let Some(path) = &how.trace {
        write_file(path, &run.trace.to_ndjson())?;
    }
    let compared = match how.once {
        true => None,
        false => Some(again::compared(&found.scenario.to_toml(), seed, &run.trace)?),
    };
    if let Some(Comparison::Differ(difference)) = &compared {
        let line = DiffersLine { event: "scenario_differs", scenario: &run.scenario, seed, difference };
        out.say(&line, || difference.to_string()).await;
    }
    let line = RunLine::new(&run, swarm, compared.as_ref().map(Comparison::is_same), reproduce);
    out.say(&line, || line.text(took)).await;
    Ok(line.is_good())
}

/// What the second process does.
async fn print_trace(args: &RunArgs, out: &Output) -> Result<(), Failure> {
    let name = args.scenario.as_deref().unwrap_or("-");
    let found = if name == "-" { from_stdin()? } else { find(name)? };
    let seed = args.seed.or(found.scenario.seed).unwrap_or(0);
    let found = drawn(found, seed, args.swarm.swarm);
    let run = here(&found.scenario, seed, &RunOptions::default())?;
    out.raw(run.trace.to_ndjson()).await;
    Ok(())
}
