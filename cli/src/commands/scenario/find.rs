//! Which scenario is meant: a built-in by its name, or a file by its path.

use std::fs;

use anyhow::anyhow;
use clap::Args;
use sideband_scenarios::{
    builtin,
    scenario::{Scenario, ScenarioError},
    swarm::swarm,
};

use crate::{
    failure::{Details, Failure},
    values,
};

/// Most bytes of a scenario file.
const MAX_FILE: u64 = 1 << 20;
/// How like a name must be to be suggested.
const LIKE: f64 = 0.75;

/// Which scenario, under which seed.
#[derive(Debug, Args)]
pub(super) struct Seeded {
    /// A built-in's name, or a file of this path
    #[arg(value_name = "NAME_OR_FILE")]
    pub(super) scenario: String,
    /// The seed that fixes the run
    #[arg(long, env = "SIDEBAND_SIM_SEED", value_name = "SEED", value_parser = values::seed)]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) swarm: Swarm,
}

/// Whether the seed draws more.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Swarm {
    /// Let each seed also draw which faults there are, their sizes and latencies, and more clients and calls
    #[arg(long, env = "SIDEBAND_SIM_SWARM", value_parser = clap::builder::BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub(super) swarm: bool,
}

/// A scenario that was found.
pub(super) struct Found {
    /// As the user called it.
    pub(super) called: String,
    /// The file.
    pub(super) text: String,
    pub(super) scenario: Scenario,
}

impl Seeded {
    /// The seed: the flag's, else the file's, else 0.
    pub(super) fn seed(&self, scenario: &Scenario) -> u64 {
        self.seed.or(scenario.seed).unwrap_or(0)
    }

    /// The scenario as it runs, and its seed.
    pub(super) fn find(&self) -> Result<(Found, u64), Failure> {
        let mut found = find(&self.scenario)?;
        let seed = self.seed(&found.scenario);
        if self.swarm.swarm {
            found.scenario = swarm(&found.scenario, seed);
        }
        Ok((found, seed))
    }
}

/// Finds a scenario. What has a `/`, a `\` or ends with `.toml` is a path; so is what is no built-in's name but a file.
pub(super) fn find(called: &str) -> Result<Found, Failure> {
    let is_path = called.contains(['/', '\\']) || called.ends_with(".toml");
    if !is_path && let Some(builtin) = builtin::find(called) {
        let scenario = builtin.scenario().map_err(|error| wrong(&error))?;
        return Ok(Found { called: called.to_owned(), text: builtin.text.to_owned(), scenario });
    }
    if !is_path && !fs::exists(called).unwrap_or(false) {
        return Err(unknown(called));
    }
    let text = read(called)?;
    let scenario = Scenario::parse(called, &text).map_err(|error| wrong(&error))?;
    Ok(Found { called: called.to_owned(), text, scenario })
}

fn read(path: &str) -> Result<String, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::misuse(anyhow!("cannot read {path}: {error}"))
            .hint("give a built-in's name or a file; `sideband-sim scenario list` shows the built-ins")
    };
    if fs::metadata(path).map_err(cannot)?.len() > MAX_FILE {
        return Err(Failure::misuse(anyhow!("{path} is longer than {MAX_FILE} bytes: that is no scenario")));
    }
    fs::read_to_string(path).map_err(cannot)
}

fn wrong(error: &ScenarioError) -> Failure {
    Failure::misuse(anyhow!("{error}")).details(code("bad_scenario")).hint("docs/scenarios.md describes scenario files")
}

fn code(code: &str) -> Details {
    Details { code: Some(code.to_owned()), ..Details::default() }
}

fn unknown(called: &str) -> Failure {
    let failure =
        Failure::misuse(anyhow!("there is no scenario called {called}, and no such file")).details(code("not_found"));
    let like = |name: &str| strsim::jaro_winkler(name, called);
    let nearest = builtin::all().iter().map(|one| one.name).max_by(|one, two| like(one).total_cmp(&like(two)));
    let failure = match nearest.filter(|name| like(name) >= LIKE) {
        Some(name) => failure.hint(format!("did you mean {name}?")),
        None => failure,
    };
    failure.hint("`sideband-sim scenario list` shows the built-ins")
}
