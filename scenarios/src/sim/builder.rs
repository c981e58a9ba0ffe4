//! Scenarios in Rust: the same hosts, steps, faults, expectations and invariants, and hosts with code of one's own.

use std::future::Future;

use sideband_sim_kit::fault::wire::RuleText;

use super::{
    Run, RunError, RunOptions, control,
    own::{HostContext, OwnHost},
};
use crate::scenario::{Action, Always, Expect, Host, Kind, Pattern, Scenario, Step, step::After};
use sideband_sim_kit::fault::Time;
use std::{sync::Arc, time::Duration};

/// Begins scenarios.
#[derive(Debug)]
pub struct Sim;

impl Sim {
    /// A scenario without hosts.
    pub fn builder() -> Builder {
        Builder::from(Scenario::new("own"))
    }
}

/// A scenario that is being written, with its own code.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until run()"]
pub struct Builder {
    scenario: Scenario,
    own: Vec<OwnHost>,
    options: RunOptions,
}

impl From<Scenario> for Builder {
    fn from(scenario: Scenario) -> Self {
        Self { scenario, own: Vec::new(), options: RunOptions::default() }
    }
}

impl Builder {
    /// The scenario's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.scenario.name = name.into();
        self
    }

    /// Changes anything of the scenario.
    pub fn with(mut self, change: impl FnOnce(&mut Scenario)) -> Self {
        change(&mut self.scenario);
        self
    }

    /// Adds a host with the defaults of its kind.
    pub fn host(self, name: &str, kind: Kind) -> Self {
        self.host_with(Host::new(name, kind))
    }

    /// Adds a host.
    pub fn host_with(mut self, host: Host) -> Self {
        self.scenario.hosts.push(host);
        self
    }

    /// Adds a host on which this code runs, once at each start, until it returns. Its error fails the run.
    pub fn own<F, Fut>(mut self, name: &str, code: F) -> Self
    where
        F: Fn(HostContext) -> Fut + 'static,
        Fut: Future<Output = Result<(), Box<dyn std::error::Error>>> + 'static,
    {
        self.scenario.hosts.push(Host::new(name, Kind::Own));
        self.own.push(OwnHost { name: name.to_owned(), code: Arc::new(move |context| Box::pin(code(context))) });
        self
    }

    /// Does something on a host at a time.
    pub fn at(mut self, at: Duration, host: &str, action: Action) -> Self {
        let host = (!host.is_empty()).then(|| host.to_owned());
        let step = Step {
            at: Some(Time(at)),
            after: None,
            host,
            times: None,
            every: None,
            spread: None,
            probability: None,
            action,
        };
        self.scenario.steps.push(step);
        self
    }

    /// Does something on a host after an event.
    pub fn after(mut self, event: Pattern, plus: Duration, host: &str, action: Action) -> Self {
        let host = (!host.is_empty()).then(|| host.to_owned());
        let after = Some(After { event, nth: None, plus: Some(Time(plus)) });
        self.scenario.steps.push(Step {
            at: None,
            after,
            host,
            times: None,
            every: None,
            spread: None,
            probability: None,
            action,
        });
        self
    }

    /// Adds a rule to the fault plan.
    pub fn fault(mut self, rule: RuleText) -> Self {
        self.scenario.faults.push(rule);
        self
    }

    /// Adds an expectation.
    pub fn expect(mut self, expect: Expect) -> Self {
        self.scenario.expectations.push(expect);
        self
    }

    /// Adds what must always hold.
    pub fn always(mut self, always: Always) -> Self {
        self.scenario.always.push(always);
        self
    }

    /// Choices of the run.
    pub fn options(mut self, options: RunOptions) -> Self {
        self.options = options;
        self
    }

    /// The scenario as it is so far.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Runs it under a seed.
    ///
    /// # Errors
    /// As [`run`](super::run).
    pub fn run(&self, seed: u64) -> Result<Run, RunError> {
        control::run(&self.scenario, seed, &self.options, &self.own)
    }
}
