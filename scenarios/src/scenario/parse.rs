//! Reading and writing scenario files. Errors name file, line, column and what was expected.

use std::fmt;

use sideband_sim_kit::fault::{Document, Format, PathStep, PlanError, Position, Written, snake};

use super::{Scenario, check::check};

/// A file that is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioError {
    /// The file, as the caller calls it.
    pub file: String,
    /// Where it is wrong; none for a scenario that was not read from a text.
    pub position: Option<Position>,
    /// What is wrong and what belongs there, for people.
    pub message: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What does not hold together, and where.
pub(super) struct Misfit {
    pub(super) path: Vec<PathStep>,
    pub(super) message: String,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// It is none; the error names `file` and the place in the text.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        Self::read(text).map_err(|PlanError { position, message }| ScenarioError {
            file: file.to_owned(),
            position,
            message,
        })
    }

    fn read(text: &str) -> Result<Self, PlanError> {
        let document = Document::parse(text, Format::Toml)?;
        let scenario: Self = document.decode()?;
        for (place, rule) in scenario.faults.iter().enumerate() {
            document.rule(vec![PathStep::Member("fault"), PathStep::Item(place)], rule.clone())?;
        }
        check(&scenario).map_err(|misfit| document.error_at(document.offset_of(&misfit.path), misfit.message))?;
        Ok(scenario)
    }

    /// Whether it holds together, for one that was not read from a file.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let error = |message| ScenarioError { file: self.name.clone(), position: None, message };
        for rule in &self.faults {
            sideband_sim_kit::fault::FaultRule::try_from(rule.clone()).map_err(|wrong| error(wrong.message))?;
        }
        check(self).map_err(|misfit| error(misfit.message))
    }

    /// The scenario as a file.
    pub fn to_toml(&self) -> String {
        // Texts, numbers and tables only: it always becomes TOML.
        let value = serde_json::to_value(self).unwrap_or_default();
        toml::to_string(&snake(value, Written::MEMBERS)).unwrap_or_default()
    }
}
