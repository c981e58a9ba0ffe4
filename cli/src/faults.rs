//! `--faults FILE` and `--preset NAME`: the fault plan that a server begins with.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use sideband_scenarios::state::{BeginError, Beginning};
use sideband_sim_kit::fault::{FaultEngine, FaultPlan, Format, MAX_PLAN, Place, PlanError, Position, RuleId};

use crate::{failure::Failure, output::Output, preset::Presets};

/// The flags of every server.
#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// Begin with the fault plan in this TOML or JSON file [default: no faults, or with --state those that it keeps]
    #[arg(long, env = "SIDEBAND_SIM_FAULTS", value_name = "FILE")]
    faults: Option<PathBuf>,
    #[command(flatten)]
    presets: Presets,
}

/// The rules that never fired, as JSON.
#[derive(Serialize)]
struct NeverFired<'a> {
    event: &'static str,
    rules: Vec<Idle<'a>>,
}

#[derive(Serialize)]
struct Idle<'a> {
    id: &'a str,
    on: Place,
}

impl Faults {
    /// The file's rules and then the presets', if there are a file or presets.
    pub(crate) fn read(&self) -> Result<Option<FaultPlan>, Failure> {
        let plan = match &self.faults {
            Some(path) => {
                let text = read(path)?;
                Some(FaultPlan::parse(&text, format(path, &text)).map_err(|error| wrong(path, error))?)
            }
            None => None,
        };
        self.presets.onto(plan).map_err(Failure::misuse)
    }
}

/// Tells what [`begin_faults`](sideband_scenarios::state::begin_faults) put in force, and warns of rules about places that this
/// process does not have. The proof that the server answers comes before it: it is nobody's request.
pub(crate) fn begun(
    beginning: Result<Beginning, BeginError>,
    faults: &FaultEngine,
    places: &[Place],
    state: Option<&Path>,
    out: &Output,
) -> Result<(), Failure> {
    let beginning = beginning.map_err(|error| match error {
        BeginError::Given(_) => Failure::misuse(error),
        BeginError::Kept(_) => Failure::misuse(error).hint("give --faults with another plan, which takes its place"),
        BeginError::Store(_) | BeginError::Keep(_) => Failure::cannot_run(error),
    })?;
    if let Some(file) = state.map(Path::display) {
        match beginning {
            Beginning::Given { replaced: 0 } | Beginning::Kept(0) => {}
            Beginning::Given { replaced } => {
                out.note(format!(
                    "note: the faults that are given take the place of those that {file} kept ({replaced})"
                ));
            }
            Beginning::Kept(count) => {
                out.note(format!(
                    "note: the faults that {file} keeps are in force ({count}); --faults begins with others"
                ));
            }
        }
    }
    let misplaced = faults.misplaced(places);
    if !misplaced.is_empty() {
        let here: Vec<&str> = places.iter().map(|place| place.name()).collect();
        out.note(format!("warning: faults that never fire here: {} (here are {})", list(&misplaced), here.join(", ")));
    }
    Ok(())
}

fn list(rules: &[(RuleId, Place)]) -> String {
    let list: Vec<String> = rules.iter().map(|(id, on)| format!("{id} ({on})")).collect();
    list.join(", ")
}

fn read(path: &Path) -> Result<String, Failure> {
    let cannot = |what: String| {
        Failure::misuse(anyhow!("the fault plan {} {what}", path.display()))
            .hint("--faults takes the path of a TOML or JSON file")
    };
    let file = std::fs::File::open(path).map_err(|error| cannot(format!("cannot be read: {error}")))?;
    let mut text = String::new();
    // One byte more tells a file that is too large from one that just fits.
    file.take(MAX_PLAN as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| cannot(format!("cannot be read: {error}")))?;
    if text.len() > MAX_PLAN {
        return Err(cannot(format!("has more than {MAX_PLAN} bytes")));
    }
    Ok(text)
}

/// The language by the file's extension, or else by how the text begins.
fn format(path: &Path, text: &str) -> Format {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "json" => Format::Json,
        "toml" => Format::Toml,
        _ if text.trim_start().starts_with('{') => Format::Json,
        _ => Format::Toml,
    }
}

fn wrong(path: &Path, error: PlanError) -> Failure {
    let PlanError { position, message } = error;
    let place = position.map(|Position { line, column }| format!(":{line}:{column}")).unwrap_or_default();
    Failure::misuse(anyhow!("{}{place}: {message}", path.display()))
}

/// Lists the rules about a process's places that never fired.
pub(crate) async fn tell_never_fired(faults: &FaultEngine, places: &[Place], out: &Output) {
    let mut idle = faults.never_fired();
    idle.retain(|(_, on)| places.contains(on));
    if idle.is_empty() {
        return;
    }
    if out.is_json() {
        let rules = idle.iter().map(|(id, on)| Idle { id: id.as_str(), on: *on }).collect();
        out.json(&NeverFired { event: "faults_never_fired", rules }).await;
        return;
    }
    out.note(format!("faults that never fired: {}", list(&idle)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_told_by_the_extension_or_the_text() {
        for (path, text, wanted) in [
            ("plan.toml", "{", Format::Toml),
            ("plan.JSON", "seed = 1", Format::Json),
            ("plan", " \n{\"seed\": 1}", Format::Json),
            ("plan", "seed = 1", Format::Toml),
            ("plan.txt", "", Format::Toml),
        ] {
            assert_eq!(format(Path::new(path), text), wanted, "{path}");
        }
    }
}
