//! `--preset`: faults by the name of a plan.

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser},
};
use sideband_sim_kit::fault::{
    FaultPlan, PlanError,
    preset::{self, Preset},
};

/// The flag of every server.
#[derive(Debug, Clone, Args)]
pub(crate) struct Presets {
    /// Begin with the faults of this preset; several, or a list with commas, go together
    #[arg(long = "preset", env = "SIDEBAND_SIM_PRESET", value_name = "NAME", value_delimiter = ',', value_parser = parser())]
    presets: Vec<&'static Preset>,
}

/// Clap lists the names in help and errors, and suggests the nearest.
fn parser() -> ValueParser {
    let names = preset::ALL.iter().map(|preset| PossibleValue::new(preset.name()).help(preset.summary()));
    PossibleValuesParser::new(names).try_map(|name| preset::find(&name)).into()
}

impl Presets {
    /// A plan with their rules behind its own, if there is one or there are any. Draws follow from the seed of the first that has
    /// rules.
    pub(crate) fn onto(&self, plan: Option<FaultPlan>) -> Result<Option<FaultPlan>, PlanError> {
        self.presets.iter().try_fold(plan, |plan, preset| {
            let more = preset.plan()?;
            match plan {
                Some(plan) if !plan.faults.is_empty() => plan.followed_by(more).map(Some),
                Some(_) | None => Ok(Some(more)),
            }
        })
    }
}
