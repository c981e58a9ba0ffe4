//! `scenario list`: the built-ins, or the situations that sweeps may reach.

use clap::{ArgAction, Args, builder::BoolishValueParser};
use owo_colors::OwoColorize;
use serde::Serialize;
use sideband_scenarios::{builtin, situation::Situation};

use crate::{failure::Failure, output::Output};

/// Flags of `scenario list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim scenario list
  sideband-sim scenario list --situations      what sweeps look out for")]
pub(super) struct ListArgs {
    /// Show the situations that a sweep may reach instead
    #[arg(long, env = "SIDEBAND_SIM_SITUATIONS", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    situations: bool,
}

#[derive(Serialize)]
struct ScenarioLine {
    event: &'static str,
    name: &'static str,
    about: &'static str,
}

#[derive(Serialize)]
struct SituationLine {
    event: &'static str,
    name: &'static str,
    about: &'static str,
    rules: &'static [&'static str],
}

pub(super) async fn run(args: ListArgs, out: &Output) -> Result<(), Failure> {
    if args.situations {
        let width = Situation::ALL.iter().map(|one| one.id().len()).max().unwrap_or(0);
        for one in Situation::ALL {
            let line = SituationLine { event: "situation", name: one.id(), about: one.means(), rules: one.rules() };
            out.say(&line, || format!("{:width$}  {}", line.name.bold(), line.about)).await;
        }
        return Ok(());
    }
    let width = builtin::all().iter().map(|one| one.name.len()).max().unwrap_or(0);
    for one in builtin::all() {
        let line = ScenarioLine { event: "scenario", name: one.name, about: one.about };
        out.say(&line, || format!("{:width$}  {}", line.name.bold(), line.about)).await;
    }
    Ok(())
}
