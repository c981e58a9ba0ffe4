//! `scenario show`: a scenario as a story, or as the file that it is.

use clap::{ArgAction, Args, builder::BoolishValueParser};
use serde::Serialize;

use super::find::Seeded;
use crate::{failure::Failure, output::Output};

/// Flags of `scenario show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim scenario show daemon-blip-resume
  sideband-sim scenario show daemon-blip-resume --toml > mine.toml     a start for one of your own
  sideband-sim scenario show daemon-blip-resume --swarm --seed 4711    what this seed draws")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    seeded: Seeded,
    /// Show the file
    #[arg(long, env = "SIDEBAND_SIM_TOML", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    toml: bool,
}

#[derive(Serialize)]
struct ShowLine<'a> {
    event: &'static str,
    name: &'a str,
    about: &'a str,
    hash: String,
    story: String,
    toml: &'a str,
}

pub(super) async fn run(args: ShowArgs, out: &Output) -> Result<(), Failure> {
    let (mut found, _) = args.seeded.find()?;
    if args.seeded.swarm.swarm {
        found.text = found.scenario.to_toml();
    }
    let line = ShowLine {
        event: "scenario",
        name: &found.scenario.name,
        about: &found.scenario.about,
        hash: sideband_scenarios::sweep::scenario_hash(&found.scenario),
        story: found.scenario.story(),
        toml: &found.text,
    };
    out.say(&line, || if args.toml { line.toml.to_owned() } else { line.story.clone() }).await;
    Ok(())
}
