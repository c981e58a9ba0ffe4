//! `scenario from-trace`: a scenario out of what `up --trace` recorded.

use std::{
    fs::{self, File},
    io::BufReader,
    path::PathBuf,
};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use sideband_scenarios::{
    from_trace::{FieldRecording, Replay},
    trace::Trace,
};
use sideband_sim_kit::fault::{FaultPlan, Format};

use super::write_file;
use crate::{failure::Failure, output::Output};

/// Flags of `scenario from-trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  sideband-sim up --trace field.ndjson                       reproduce the trouble with your own client
  sideband-sim scenario from-trace field.ndjson -o field.toml
  sideband-sim scenario run field.toml                       the same faults and timing against the SDK

A trace names the faults that fired, not their values: --plan tells these. What the trace does not tell is guessed, and said.")]
pub(super) struct FromTraceArgs {
    /// A trace that `up --trace` recorded
    #[arg(value_name = "TRACE")]
    trace: PathBuf,
    /// The fault plan that ran, as `up --faults` took it
    #[arg(long, env = "SIDEBAND_SIM_PLAN", value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Where to write the scenario [default: stdout]
    #[arg(short, long, env = "SIDEBAND_SIM_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct ScenarioLine<'a> {
    event: &'static str,
    name: &'a str,
    hosts: usize,
    steps: usize,
    faults: usize,
    guesses: &'a [String],
    toml: &'a str,
}

pub(super) async fn run(args: FromTraceArgs, out: &Output) -> Result<(), Failure> {
    let called = args.trace.display().to_string();
    let cannot = |error| Failure::misuse(anyhow!("cannot read {called}: {error}"));
    let file = File::open(&args.trace).map_err(cannot)?;
    let trace = Trace::parse_ndjson(BufReader::new(file)).map_err(|error| {
        Failure::misuse(anyhow!("{called}: {error}")).hint("`sideband-sim up --trace FILE` writes traces")
    })?;
    let name = args.trace.file_stem().map(|stem| named(&stem.to_string_lossy())).unwrap_or_default();
    let replay = FieldRecording::read(&trace).to_scenario(&name, args.plan()?.as_ref());
    let Replay { scenario, guesses } = replay.map_err(|error| Failure::misuse(anyhow!("{called}: {error}")))?;
    for guess in &guesses {
        out.note(guess);
    }
    let text = scenario.to_toml();
    if let Some(path) = &args.output {
        write_file(path, &text)?;
    }
    let line = ScenarioLine {
        event: "scenario",
        name: &scenario.name,
        hosts: scenario.hosts.len(),
        steps: scenario.steps.len(),
        faults: scenario.faults.len(),
        guesses: &guesses,
        toml: &text,
    };
    match &args.output {
        Some(path) if !out.is_json() => out.note(format!(
            "{} hosts, {} steps and {} faults in {}",
            line.hosts,
            line.steps,
            line.faults,
            path.display()
        )),
        Some(_) | None => out.say(&line, || text.clone()).await,
    }
    Ok(())
}

impl FromTraceArgs {
    fn plan(&self) -> Result<Option<FaultPlan>, Failure> {
        let Some(path) = &self.plan else { return Ok(None) };
        let called = path.display();
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| Failure::misuse(anyhow!("cannot read {called}: {error}")))?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let plan = FaultPlan::parse(&text, if is_json { Format::Json } else { Format::Toml });
        plan.map(Some).map_err(|error| Failure::misuse(anyhow!("{called} is no plan: {error}")))
    }
}

/// A scenario's name out of a file's: lower-case letters, digits and `-`.
fn named(stem: &str) -> String {
    let fits = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = stem.chars().map(fits).take(60).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "field".to_owned() } else { name.to_owned() }
}
