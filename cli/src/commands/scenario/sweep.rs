//! `scenario sweep`: a scenario under many seeds.

use std::{
    collections::BTreeSet, fmt::Write, io::IsTerminal, num::NonZeroUsize, ops::Range, path::PathBuf, thread,
    time::Duration,
};

use anyhow::anyhow;
use clap::{ArgAction, Args, builder::BoolishValueParser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::OwoColorize;
use serde::Serialize;
use sideband_env::Timeline;
use sideband_scenarios::sweep::{PLATEAU, Progress, Real, Report, SeedFailed, Shard, Stopped, SweepOptions, sweep};

use super::{
    apart,
    find::{Swarm, find},
    told::seconds,
    write_file,
};
use crate::{
    failure::{Details, Failure},
    output::Output,
};

/// How often the bar is drawn anew, a second at most.
const DRAWS: u8 = 8;

/// Flags of `scenario sweep`.
#[derive(Debug, Args)]
#[command(after_help = "\
The report is the same whatever --jobs is: the lowest seed that fails is told, and seeds behind it do not count.
Each failure comes with the one line that reproduces it.

Examples:
  sideband-sim scenario sweep daemon-blip-resume --seeds 0..10000
  sideband-sim scenario sweep daemon-blip-resume --swarm --seeds 0..10000 --jobs 8 --keep-going
  sideband-sim scenario sweep long-haul --swarm --until-plateau
  sideband-sim scenario sweep long-haul --swarm --seeds 0..1000 --shard 2/8 --report 2.json     one of eight machines
  sideband-sim scenario merge *.json

Exit code 1: a seed failed, or a situation that the scenario lists was not reached.")]
pub(super) struct SweepArgs {
    /// A built-in's name, or a file of this path
    #[arg(value_name = "NAME_OR_FILE")]
    scenario: String,
    /// The seeds, from the first up to, and without, the last
    #[arg(long, env = "SIDEBAND_SIM_SEEDS", value_name = "FROM..TO", default_value = "0..1000", value_parser = seeds)]
    seeds: Range<u64>,
    /// Threads [default: as many as the machine has cores]
    #[arg(long, env = "SIDEBAND_SIM_JOBS", value_name = "N")]
    jobs: Option<NonZeroUsize>,
    #[command(flatten)]
    swarm: Swarm,
    /// Collect all failures instead of ending at the first
    #[arg(long, env = "SIDEBAND_SIM_KEEP_GOING", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    keep_going: bool,
    /// End when so many seeds in a row have reached no new situation
    #[arg(long, env = "SIDEBAND_SIM_UNTIL_PLATEAU", value_name = "SEEDS", num_args = 0..=1, require_equals = true, default_missing_value = PLATEAU_TEXT, value_parser = clap::value_parser!(u64).range(1..))]
    until_plateau: Option<u64>,
    /// Run the i-th of n parts; `scenario merge` joins the reports
    #[arg(long, env = "SIDEBAND_SIM_SHARD", value_name = "I/N", default_value = "1/1")]
    shard: Shard,
    /// Write the report to this file as JSON
    #[arg(long, env = "SIDEBAND_SIM_REPORT", value_name = "FILE")]
    report: Option<PathBuf>,
}

const PLATEAU_TEXT: &str = "500";
const _: () = assert!(PLATEAU == 500, "the help says otherwise");

/// `0..10000`.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || "write seeds as `from..to`, such as `0..10000`; the last one is not run".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.trim().parse().map_err(|_| wrong())?, to.trim().parse().map_err(|_| wrong())?);
    if from < to { Ok(from..to) } else { Err(format!("{from}..{to} holds no seed")) }
}

#[derive(Serialize)]
struct ReportLine<'a> {
    event: &'static str,
    good: bool,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) async fn run(args: SweepArgs, out: &Output) -> Result<(), Failure> {
    let found = find(&args.scenario)?;
    check_situations(&found.scenario.sweep.iter().flat_map(|sweep| sweep.reaches.iter().cloned()).collect())?;
    found.scenario.check().map_err(|error| Failure::misuse(anyhow!("{error}")))?;
    let options = SweepOptions {
        called: found.called,
        seeds: args.seeds,
        shard: args.shard,
        jobs: args.jobs.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN),
        swarm: args.swarm.swarm,
        keep_going: args.keep_going,
        plateau: args.until_plateau,
    };
    let bar = Bar::new(out);
    let timeline = Timeline::start();
    let mut report = apart(|| sweep(&found.scenario, &Real::default(), &options, &mut |progress| bar.show(progress)));
    bar.finish();
    report.wall_ms = Some(timeline.elapsed().as_millis() as u64);
    told(&report, args.report.as_deref(), out).await
}

/// A situation that no run can reach would never be found missing for what it is: a typing error.
fn check_situations(listed: &BTreeSet<String>) -> Result<(), Failure> {
    use sideband_scenarios::situation::Situation;
    match listed.iter().find(|id| id.parse::<Situation>().is_err()) {
        None => Ok(()),
        Some(id) => Err(Failure::misuse(anyhow!("the scenario lists a situation `{id}`, which there is not"))
            .hint("`sideband-sim scenario list --situations` shows all")),
    }
}

/// Says and writes what came of a sweep.
pub(super) async fn told(report: &Report, file: Option<&std::path::Path>, out: &Output) -> Result<(), Failure> {
    if let Some(file) = file {
        write_file(file, &report.to_json())?;
    }
    let line = ReportLine { event: "scenario_sweep", good: report.is_good(), report };
    out.say(&line, || text(report)).await;
    if report.is_good() {
        return Ok(());
    }
    let mut what = Vec::new();
    if report.failed > 0 {
        what.push(format!("{} of {} seeds failed", report.failed, report.ran));
    }
    if !report.missing.is_empty() {
        let missing: Vec<&str> = report.missing.iter().map(String::as_str).collect();
        what.push(format!("not reached although the scenario lists it: {}", missing.join(", ")));
    }
    let code = if report.failed > 0 { "seeds_failed" } else { "situations_missing" };
    let details = Details { code: Some(code.to_owned()), ..Details::default() };
    let failure = Failure::failed(anyhow!("{}: {}", report.scenario, what.join("; "))).details(details);
    Err(match report.failures.first() {
        Some(SeedFailed { reproduce, .. }) => {
            failure.hint(reproduce.clone()).hint(reproduce.replace("scenario run", "scenario shrink"))
        }
        None => failure,
    })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for failed in &report.failures {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} seed {}", "✗".red(), failed.seed.bold());
        for failure in &failed.failures {
            let _ = writeln!(text, "    {}: {}", failure.kind.bold(), failure.what.replace('\n', "\n      "));
        }
        let _ = writeln!(text, "    {}", failed.reproduce.cyan());
    }
    let verdict = if report.is_good() { "good".green().to_string() } else { "failed".red().bold().to_string() };
    let of = if report.shard == Shard::ALL { String::new() } else { format!(", shard {}", report.shard) };
    let swarm = if report.swarm { ", swarm" } else { "" };
    let _ = writeln!(
        text,
        "{}, seeds {}..{}{of}{swarm}: {verdict}",
        report.scenario.bold(),
        report.seeds.from,
        report.seeds.to
    );
    let why = match report.stopped {
        None => "",
        Some(Stopped::Failure) => ", ended by a failure",
        Some(Stopped::Plateau) => ", ended on a plateau",
    };
    let _ = writeln!(text, "  {} runs, {} failed{why}", report.ran, report.failed);
    let simulated = Duration::from_millis(report.simulated_ms);
    match report.wall_ms.filter(|wall| *wall > 0) {
        Some(wall) => {
            let _ = writeln!(
                text,
                "  {} simulated in {}: {:.0} simulated seconds a second, {:.0} seeds a minute",
                seconds(simulated),
                seconds(Duration::from_millis(wall)),
                report.simulated_ms as f64 / wall as f64,
                report.ran as f64 * 60_000.0 / wall as f64,
            );
        }
        None => {
            let _ = writeln!(text, "  {} simulated", seconds(simulated));
        }
    }
    let all = report.situations.len() + report.never_reached.len();
    let _ = writeln!(text, "  {} of {all} situations reached", report.situations.len());
    let rare: Vec<String> = report
        .situations
        .iter()
        .filter(|(_, met)| met.seeds * 100 <= report.ran)
        .map(|(name, met)| format!("{name} ({})", met.seeds))
        .collect();
    for (title, names) in [
        ("rare", rare),
        ("never", report.never_reached.iter().cloned().collect()),
        ("missing", report.missing.iter().cloned().collect()),
    ] {
        if !names.is_empty() {
            let _ = writeln!(text, "  {title}: {}", names.join(", ").dimmed());
        }
    }
    text
}

/// The bar on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(out: &Output) -> Self {
        let wanted = !out.is_json() && !out.is_quiet() && std::io::stderr().is_terminal();
        let target = if wanted { ProgressDrawTarget::stderr_with_hz(DRAWS) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{bar:30} {pos}/{len} {percent}%  {per_sec}  {eta} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, progress: &Progress) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
        let failed = if progress.failed > 0 { format!(", {} failed", progress.failed) } else { String::new() };
        self.0.set_message(format!("{} situations{failed}", progress.situations));
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
