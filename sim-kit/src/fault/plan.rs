//! A fault plan: a seed and rules, each *where – when – what*.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    action::{Place, PlaceAction},
    check::{MAX_NUMBER, Misfit, check},
    document::{Document, Format, PathStep, PlanError},
    point::Filter,
    text::RuleId,
    wire::{PlanText, RuleText},
};

/// Most rules of a plan.
pub const MAX_RULES: usize = 1_000;

/// A fault plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "PlanText", into = "PlanText")]
pub struct FaultPlan {
    /// What draws follow from.
    pub seed: u64,
    /// The rules, in their order.
    pub faults: Vec<FaultRule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RuleText", into = "RuleText")]
pub struct FaultRule {
    /// Its name; `rule-` and its place in the plan, from 1, if there is none.
    pub id: Option<RuleId>,
    /// Which events it is about.
    pub filter: Filter,
    /// Which of those it answers.
    pub trigger: Trigger,
    /// What it does, and thereby where.
    pub action: PlaceAction,
}

/// Which of its events a rule answers. All of it has to be so at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trigger {
    /// How many pass first.
    pub skip: u64,
    /// How many it answers at most, at least 1; without end if there is none.
    pub times: Option<u64>,
    /// From when on events count, from the moment when the rule was taken in.
    pub from: Duration,
    /// For how long from then on events count, longer than nothing; without end if there is none.
    pub lasts: Option<Duration>,
    /// How probable it is for each, 0 to 1; certain if there is none.
    pub probability: Option<f64>,
}

impl FaultRule {
    /// A rule that does this to every event of its place.
    pub fn new(action: PlaceAction) -> Self {
        Self { id: None, filter: Filter::default(), trigger: Trigger::default(), action }
    }

    /// The place that it is about.
    pub const fn place(&self) -> Place {
        self.action.place()
    }

    /// Reads one rule.
    ///
    /// # Errors
    /// It is none; the error names the line.
    pub fn parse(text: &str, format: Format) -> Result<Self, PlanError> {
        let document = Document::parse(text, format)?;
        let rule: RuleText = document.decode()?;
        check(rule).map_err(|misfit| placed(&document, Vec::new(), &misfit))
    }

    /// The rule again, if it holds together.
    pub(super) fn checked(self) -> Result<Self, PlanError> {
        Self::try_from(RuleText::from(self))
    }
}

impl FaultPlan {
    /// Reads a plan.
    ///
    /// # Errors
    /// It is none; the error names the line.
    pub fn parse(text: &str, format: Format) -> Result<Self, PlanError> {
        let document = Document::parse(text, format)?;
        let plan: PlanText = document.decode()?;
        if plan.seed > MAX_NUMBER {
            let offset = document.offset_of(&[PathStep::Member("seed")]);
            return Err(document.error_at(offset, seed_too_large()));
        }
        let at = |place: usize| vec![PathStep::Member("fault"), PathStep::Item(place)];
        let mut faults = Vec::with_capacity(plan.fault.len().min(MAX_RULES));
        for (place, rule) in plan.fault.into_iter().enumerate() {
            faults.push(check(rule).map_err(|misfit| placed(&document, at(place), &misfit))?);
        }
        let plan = Self { seed: plan.seed, faults };
        plan.ids().map_err(|(place, message)| {
            let mut path = at(place);
            path.push(PathStep::Member("id"));
            document.error_at(document.offset_of(&path), message)
        })?;
        Ok(plan)
    }

    /// This plan with the rules of another behind its own; the seed stays this one's.
    ///
    /// # Errors
    /// Two rules have one name, or there are too many.
    pub fn followed_by(mut self, other: Self) -> Result<Self, PlanError> {
        self.faults.extend(other.faults);
        self.ids().map_err(|(_, message)| PlanError { position: None, message })?;
        Ok(self)
    }

    /// The plan again, if it holds together.
    pub(super) fn checked(self) -> Result<Self, PlanError> {
        Self::try_from(PlanText::from(self))
    }

    /// The plan as TOML.
    pub fn to_toml(&self) -> String {
        let plan = serde_json::to_value(PlanText::from(self.clone())).unwrap_or_default();
        // Texts, numbers and tables only: it always becomes TOML.
        toml::to_string(&snake(plan, &[])).unwrap_or_default()
    }

    /// The plan as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The rules' names, in their order, those that were given none included; or the place of the first rule that cannot
    /// have its name, and why.
    pub(super) fn ids(&self) -> Result<Vec<RuleId>, (usize, String)> {
        if self.faults.len() > MAX_RULES {
            return Err((MAX_RULES, format!("a plan has at most {MAX_RULES} rules")));
        }
        let mut taken = BTreeSet::new();
        let mut ids = Vec::with_capacity(self.faults.len());
        for (place, rule) in self.faults.iter().enumerate() {
            let id = rule.id.clone().unwrap_or_else(|| RuleId::derived(place as u64 + 1));
            if !taken.insert(id.clone()) {
                return Err((place, format!("another rule is called `{id}` already")));
            }
            ids.push(id);
        }
        Ok(ids)
    }
}

impl Document<'_> {
    /// The rule, if it holds together, that stands in this place of the document.
    ///
    /// # Errors
    /// It does not; the error names the line.
    pub fn rule(&self, path: Vec<PathStep>, rule: RuleText) -> Result<FaultRule, PlanError> {
        check(rule).map_err(|misfit| placed(self, path, &misfit))
    }
}

fn placed(document: &Document<'_>, mut path: Vec<PathStep>, misfit: &Misfit) -> PlanError {
    path.extend(misfit.path.iter().cloned());
    document.error_at(document.offset_of(&path), misfit.text(document.format))
}

fn seed_too_large() -> String {
    format!("`seed` is at most {MAX_NUMBER}")
}

/// The same in TOML, with members in snake case, but for what stands in those that are named. TOML has no null: members that are null are
/// left away.
pub fn snake(value: serde_json::Value, verbatim: &[&str]) -> toml::Value {
    written(value, Some(verbatim))
}

fn written(value: serde_json::Value, verbatim: Option<&[&str]>) -> toml::Value {
    match value {
        serde_json::Value::Null => toml::Value::Boolean(false),
        serde_json::Value::Bool(truth) => toml::Value::Boolean(truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => toml::Value::Integer(number),
            None => toml::Value::Float(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => toml::Value::String(text),
        serde_json::Value::Array(items) => {
            toml::Value::Array(items.into_iter().map(|item| written(item, verbatim)).collect())
        }
        serde_json::Value::Object(members) => {
            let members =
                members.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match verbatim {
                    None => (name, written(value, None)),
                    Some(keep) if keep.contains(&name.as_str()) => (name, written(value, None)),
                    Some(_) => (Format::Toml.member(&name), written(value, verbatim)),
                });
            toml::Value::Table(members.collect())
        }
    }
}

impl TryFrom<PlanText> for FaultPlan {
    type Error = PlanError;

    fn try_from(plan: PlanText) -> Result<Self, PlanError> {
        if plan.seed > MAX_NUMBER {
            return Err(PlanError { position: None, message: seed_too_large() });
        }
        let faults = plan.fault.into_iter().map(FaultRule::try_from).collect::<Result<_, _>>()?;
        let plan = Self { seed: plan.seed, faults };
        plan.ids().map_err(|(_, message)| PlanError { position: None, message })?;
        Ok(plan)
    }
}

impl From<FaultPlan> for PlanText {
    fn from(plan: FaultPlan) -> Self {
        Self { seed: plan.seed, fault: plan.faults.into_iter().map(RuleText::from).collect() }
    }
}
