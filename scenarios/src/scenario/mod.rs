//! Scenario files: hosts, steps, faults, expectations, and what must always hold.
//!
//! A file is TOML with members in snake case. `docs/scenarios.md` is the reference, `scenarios/schema/scenario.schema.json` the schema for
//! editors; both come from the types here. [`Scenario::parse`] reads a file and names line and column of what is wrong with it,
//! [`Scenario::to_toml`] writes one, [`Scenario::story`] tells it to people.

mod check;
pub mod expect;
pub mod host;
mod longer;
mod parse;
pub mod schema;
pub mod step;
mod story;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sideband_sim_kit::fault::{Time, wire::RuleText};
use utoipa::ToSchema;

pub use self::{
    expect::{Always, Expect, Pattern},
    host::{Host, Kind},
    parse::ScenarioError,
    step::{Action, Step},
};

/// Virtual time that a run may take, if the file does not say: ten minutes.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(600);
/// The tick, if the file does not say.
pub const DEFAULT_TICK: Duration = Duration::from_millis(10);
/// How soon everybody is active again once faults have stopped, if the file does not say. The longest delay is 120 s (CLI-06), and a
/// silent socket is noticed after 90 s.
pub const DEFAULT_RECOVERY: Duration = Duration::from_secs(300);

/// A scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Its name: lower-case letters, digits and `-`.
    pub name: String,
    /// What it shows, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The longest virtual time that the steps and expectations may take; `10m` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub duration: Option<Time>,
    /// How long the run goes on after its last step at least; nothing if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub linger: Option<Time>,
    /// How finely virtual time passes, from `1ms` to `100ms`; `10ms` if absent. Longer ticks are faster, and coarser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tick: Option<Time>,
    /// How the network is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkText>,
    /// How the run ends, and which invariants do not hold for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// The hosts; `[[host]]`.
    #[serde(default, rename = "host")]
    pub hosts: Vec<Host>,
    /// What is done; `[[step]]`.
    #[serde(default, rename = "step", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The fault plan; `[[fault]]`. Draws follow from the run's seed.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<RuleText>,
    /// What must be true at the end; `[[expect]]`.
    #[serde(default, rename = "expect", skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<Expect>,
    /// What must be true at every event; `[[always]]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always: Vec<Always>,
}

/// The network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkText {
    /// The least that a segment takes; `1ms` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub least: Option<Time>,
    /// The most that a segment takes; `40ms` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub most: Option<Time>,
    /// Links that are otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<step::LinkLatency>,
}

/// How a run ends. After its steps and expectations, faults stop, everybody gets well, and everybody leaves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Finish {
    /// How soon everybody is active again; `5m` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub recovery: Option<Time>,
    /// Invariants that are not looked at, by name, since the scenario breaks them on purpose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

impl Scenario {
    /// A scenario with a name and nothing else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            about: String::new(),
            duration: None,
            linger: None,
            tick: None,
            network: None,
            finish: None,
            hosts: Vec::new(),
            steps: Vec::new(),
            faults: Vec::new(),
            expectations: Vec::new(),
            always: Vec::new(),
        }
    }

    /// The longest virtual time for steps and expectations.
    pub fn duration(&self) -> Duration {
        self.duration.map_or(DEFAULT_DURATION, |time| time.0)
    }

    /// The tick.
    pub fn tick(&self) -> Duration {
        self.tick.map_or(DEFAULT_TICK, |time| time.0)
    }

    /// How soon everybody must be active again.
    pub fn recovery(&self) -> Duration {
        let asked = self.finish.as_ref().and_then(|finish| finish.recovery);
        asked.map_or(DEFAULT_RECOVERY, |time| time.0)
    }

    /// The names of all hosts, copies included, with the host that each is one of.
    pub fn all_hosts(&self) -> Vec<(String, &Host)> {
        self.hosts.iter().flat_map(|host| host.names().into_iter().map(move |name| (name, host))).collect()
    }

    /// The names of the hosts that a name in a step or a pattern stands for: itself, or all copies.
    pub fn hosts_called(&self, name: &str) -> Vec<String> {
        match self.hosts.iter().find(|host| host.name == name) {
            Some(host) => host.names(),
            None => self.all_hosts().into_iter().map(|(one, _)| one).filter(|one| one == name).collect(),
        }
    }
}
