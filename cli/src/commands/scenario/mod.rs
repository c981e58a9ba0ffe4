//! `scenario`: deterministic scenarios from the command line.
//!
//! | module | what |
//! |---|---|
//! | `find` | a built-in by its name, or a file by its path |
//! | `list`, `show` | what there is, and one of them as a story |
//! | `run`, `again` | one seed, twice, in two processes; `replay` takes the file's seed |
//! | `sweep`, `merge` | many seeds, and the reports of shards joined |
//! | `shrink` | the smallest scenario that still fails |
//! | `diagram`, `from_trace` | pictures of runs, and scenarios out of recordings |
//! | `told` | a run as people read it |
//!
//! A run is a world of its own on one thread: it never sees the runtime of the command line.

mod again;
mod diagram;
mod find;
mod from_trace;
mod list;
mod merge;
mod run;
mod show;
mod shrink;
mod sweep;
mod told;

use std::{fs, io::Write, path::Path, thread};

use anyhow::anyhow;
use clap::{Args, Subcommand};

use crate::{failure::Failure, output::Output};

/// Flags of `scenario`.
#[derive(Debug, Args)]
#[command(after_help = "\
A scenario is a built-in's name or the path of a file: hosts, steps, faults, and what must come of them. One seed fixes everything.

Examples:
  sideband-sim scenario list
  sideband-sim scenario show daemon-blip-resume
  sideband-sim scenario run daemon-blip-resume --seed 7
  sideband-sim scenario diagram daemon-blip-resume --seed 7 -o blip.svg
  sideband-sim scenario sweep daemon-blip-resume --swarm --seeds 0..10000
  sideband-sim scenario shrink daemon-blip-resume --swarm --seed 4711 -o regression.toml
  sideband-sim scenario replay regression.toml")]
pub(crate) struct ScenarioArgs {
    /// What to do with scenarios.
    #[command(subcommand)]
    what: ScenarioCommand,
}

#[derive(Debug, Subcommand)]
enum ScenarioCommand {
    /// Show the built-in scenarios
    List(list::ListArgs),
    /// Tell a scenario as a story
    Show(show::ShowArgs),
    /// Run a scenario under a seed, twice in two processes, and compare
    Run(run::RunArgs),
    /// Run a scenario under many seeds
    Sweep(sweep::SweepArgs),
    /// Join the reports of all shards of a sweep
    Merge(merge::MergeArgs),
    /// Find the smallest scenario that still fails in the same way
    Shrink(shrink::ShrinkArgs),
    /// Run a scenario under the seed in its file, as `shrink` writes it
    Replay(run::ReplayArgs),
    /// Turn a trace that `up --trace` recorded into a scenario
    FromTrace(from_trace::FromTraceArgs),
    /// Draw a run as a sequence diagram: SVG, Mermaid, or a page with filter and zoom
    Diagram(diagram::DiagramArgs),
}

/// Does what is asked.
pub(crate) async fn run(args: ScenarioArgs, out: &Output) -> Result<(), Failure> {
    match args.what {
        ScenarioCommand::List(args) => list::run(args, out).await,
        ScenarioCommand::Show(args) => show::run(args, out).await,
        ScenarioCommand::Run(args) => run::run(args, out).await,
        ScenarioCommand::Sweep(args) => sweep::run(args, out).await,
        ScenarioCommand::Merge(args) => merge::run(args, out).await,
        ScenarioCommand::Shrink(args) => shrink::run(args, out).await,
        ScenarioCommand::Replay(args) => run::replay(args, out).await,
        ScenarioCommand::FromTrace(args) => from_trace::run(args, out).await,
        ScenarioCommand::Diagram(args) => diagram::run(args, out).await,
    }
}

/// Does something on a thread of its own, where no runtime is entered, and waits for it.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let ended = thread::scope(|scope| scope.spawn(work).join());
    // It goes on here as if it had happened here.
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Writes a file that the user asked for.
fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let written = fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::misuse(anyhow!("cannot write {}: {error}", path.display())))
}
