//! Plans with names: each shows one kind of trouble, with numbers that an endpoint with the defaults gets through.
//!
//! The plans stand in `presets/` of the repository, a page for each in `docs/presets/`.

use super::{
    document::{Format, PlanError},
    plan::FaultPlan,
};

/// A plan with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    name: &'static str,
    text: &'static str,
}

macro_rules! presets {
    ($($name:literal)*) => {
        /// Every preset, by name.
        pub static ALL: &[Preset] = &[$(Preset {
            name: $name,
            text: include_str!(concat!("../../../presets/", $name, ".toml")),
        }),*];
    };
}

presets! {
    "api-409"
    "daemon-blip"
    "expired-tokens"
    "flaky-network"
    "ghost-socket"
    "hang"
    "html-200"
    "key-rotation"
    "key-rotation-hard"
    "keyset-down"
    "outage-503"
    "rate-limited"
    "relay-restart"
    "slow-consumer"
    "storm-429"
    "storm-429-retry-after"
}

/// There is no preset of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset `{name}`; the nearest is `{nearest}`")]
pub struct UnknownPreset {
    /// What was asked for, its first 64 characters.
    pub name: String,
    /// The name that is most like it.
    pub nearest: &'static str,
}

/// The preset of a name.
///
/// # Errors
/// There is none; the error names the nearest.
pub fn find(name: &str) -> Result<&'static Preset, UnknownPreset> {
    if let Some(preset) = ALL.iter().find(|preset| preset.name == name) {
        return Ok(preset);
    }
    let name: String = name.chars().take(64).collect();
    let likeness = |preset: &Preset| strsim::jaro_winkler(preset.name, &name);
    let nearest = ALL.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    Err(UnknownPreset { nearest: nearest.map_or("", |preset| preset.name), name })
}

impl Preset {
    /// The name, such as `storm-429`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The plan as it is written.
    pub const fn text(&self) -> &'static str {
        self.text
    }

    /// What it shows: the plan's first line.
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// The plan.
    ///
    /// # Errors
    /// None: every preset holds together, as a test shows.
    pub fn plan(&self) -> Result<FaultPlan, PlanError> {
        FaultPlan::parse(self.text, Format::Toml)
    }
}
