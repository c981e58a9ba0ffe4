//! `scenario shrink`: the smallest scenario that still fails in the same way.

use std::{io::IsTerminal, path::PathBuf};

use anyhow::anyhow;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::OwoColorize;
use serde::Serialize;
use sideband_scenarios::{
    shrink::{DEFAULT_RUNS, ShrinkOptions, Shrunk, Size, shrink},
    sweep::Real,
};

use super::{apart, find::Seeded, write_file};
use crate::{
    failure::{Details, Failure},
    output::Output,
};

/// Flags of `scenario shrink`.
#[derive(Debug, Args)]
#[command(after_help = "\
Takes away faults, steps, hosts and time as long as the same kind of failure stays. The result is a scenario file with the seed in it, ready to
be committed as a regression: `scenario replay` runs it.

Examples:
  sideband-sim scenario shrink daemon-blip-resume --swarm --seed 4711 -o regression.toml
  sideband-sim scenario shrink mine.toml --seed 3 --kind invariant/events-in-order

Exit code 2: nothing fails under this seed.")]
pub(super) struct ShrinkArgs {
    #[command(flatten)]
    seeded: Seeded,
    /// The kind of failure that must stay [default: that of the first failure]
    #[arg(long, env = "SIDEBAND_SIM_KIND", value_name = "KIND")]
    kind: Option<String>,
    /// Most runs that the search takes
    #[arg(long, env = "SIDEBAND_SIM_RUNS", value_name = "N", default_value_t = DEFAULT_RUNS, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Where to write the smallest scenario [default: stdout]
    #[arg(short, long, env = "SIDEBAND_SIM_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShrunkLine<'a> {
    event: &'static str,
    scenario: &'a str,
    seed: u64,
    kind: &'a str,
    what: &'a str,
    runs: u64,
    finished: bool,
    before: Size,
    after: Size,
    toml: String,
}

pub(super) async fn run(args: ShrinkArgs, out: &Output) -> Result<(), Failure> {
    let (found, seed) = args.seeded.find()?;
    found.scenario.check().map_err(|error| Failure::misuse(anyhow!("{error}")))?;
    let options = ShrinkOptions { kind: args.kind, runs: args.runs };
    let bar = bar(out, args.runs);
    let shrunk = apart(|| {
        shrink(&found.scenario, seed, &Real::default(), &options, &mut |progress| {
            bar.set_position(progress.runs);
            bar.set_message(format!("{} faults, {} steps", progress.size.faults, progress.size.steps));
        })
    });
    bar.finish_and_clear();
    let shrunk = shrunk.map_err(|error| {
        let details = Details { code: Some("nothing_to_shrink".to_owned()), ..Details::default() };
        Failure::misuse(error).details(details).hint("`sideband-sim scenario sweep` finds seeds that fail")
    })?;
    let text = shrunk.to_regression();
    if let Some(path) = &args.output {
        write_file(path, &text)?;
    }
    let line = ShrunkLine {
        event: "scenario_shrunk",
        scenario: &found.scenario.name,
        seed,
        kind: &shrunk.failure.kind,
        what: &shrunk.failure.what,
        runs: shrunk.runs,
        finished: shrunk.finished,
        before: shrunk.before,
        after: shrunk.after,
        toml: text,
    };
    if !out.is_json() {
        out.note(summary(&shrunk));
    }
    if out.is_json() || args.output.is_none() {
        out.say(&line, || line.toml.clone()).await;
    }
    Ok(())
}

fn summary(shrunk: &Shrunk) -> String {
    let Shrunk { failure, before, after, runs, finished, .. } = shrunk;
    format!(
        "{} with {} faults, {} steps and {} hosts; there were {}, {} and {}. {runs} runs{}",
        failure.kind.bold(),
        after.faults,
        after.steps,
        after.hosts,
        before.faults,
        before.steps,
        before.hosts,
        if *finished { "." } else { ": no more were allowed, --runs allows more." },
    )
}

fn bar(out: &Output, runs: u64) -> ProgressBar {
    let wanted = !out.is_json() && !out.is_quiet() && std::io::stderr().is_terminal();
    let target = if wanted { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(runs), target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} runs of {len} at most  {per_sec}  {msg}") {
        bar.set_style(style);
    }
    bar
}
