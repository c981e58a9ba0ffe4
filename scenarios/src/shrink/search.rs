//! The smallest scenario so far, and whether a candidate takes its place: it holds together, and fails in the same way.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use sideband_sim_kit::fault::RuleId;

use super::{ShrinkProgress, Shrunk, Size};
use crate::{
    scenario::Scenario,
    sim::Failure,
    sweep::{Outcome, Runner, one},
};

/// A list of the scenario whose items failures are called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Expectations,
    Always,
}

impl List {
    const fn kind(self) -> &'static str {
        match self {
            Self::Expectations => "expect",
            Self::Always => "always",
        }
    }
}

/// A search.
pub(super) struct Search<'a, R> {
    best: Scenario,
    /// Of the best one.
    outcome: Outcome,
    seed: u64,
    /// The kind that must stay, as the best one has it: its number changes when items before it go.
    kind: String,
    runner: &'a R,
    runs: u64,
    most: u64,
    /// Candidates that were tried, by hash.
    tried: BTreeMap<[u8; 32], bool>,
    told: &'a mut dyn FnMut(&ShrinkProgress),
}

impl<'a, R: Runner> Search<'a, R> {
    pub(super) fn new(
        best: Scenario,
        outcome: Outcome,
        seed: u64,
        kind: String,
        runner: &'a R,
        most: u64,
        told: &'a mut dyn FnMut(&ShrinkProgress),
    ) -> Self {
        Self { best, outcome, seed, kind, runner, runs: 1, most, tried: BTreeMap::new(), told }
    }

    pub(super) fn best(&self) -> &Scenario {
        &self.best
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// How often a rule fired in the best one's run.
    pub(super) fn fired(&self, rule: &RuleId) -> u64 {
        self.outcome.fired.get(rule.as_str()).copied().unwrap_or(0)
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.runs >= self.most
    }

    /// Whether the failure is of what the scenario itself asks.
    pub(super) fn is_of_the_scenario(&self) -> bool {
        let own =
            |kind: &str| self.kind == kind || self.kind.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/'));
        ["expect", "always", "call", "check", "step", "unfinished"].into_iter().any(own)
    }

    /// The place, from 0, of the item that the failure is about.
    pub(super) fn number(&self, list: List) -> Option<usize> {
        let number: usize = self.kind.strip_prefix(list.kind())?.strip_prefix('/')?.parse().ok()?;
        number.checked_sub(1)
    }

    /// Gives every rule the name that it has by its place, so that draws stay when others go.
    pub(super) fn name_rules(&mut self) {
        for (place, rule) in self.best.faults.iter_mut().enumerate() {
            if rule.id.is_none() {
                rule.id = RuleId::new(&format!("rule-{}", place + 1)).ok();
            }
        }
    }

    /// Tries a candidate; whether it is the best one now.
    pub(super) fn takes(&mut self, candidate: Scenario) -> bool {
        let kind = self.kind.clone();
        self.takes_as(candidate, kind)
    }

    /// The same, for one from which the items of a list in these places were taken.
    pub(super) fn takes_without(&mut self, candidate: Scenario, list: List, gone: &[usize]) -> bool {
        let kind = match self.number(list) {
            Some(number) if gone.contains(&number) => return false,
            Some(number) => {
                let before = gone.iter().filter(|&&place| place < number).count();
                format!("{}/{}", list.kind(), number - before + 1)
            }
            None => self.kind.clone(),
        };
        self.takes_as(candidate, kind)
    }

    fn takes_as(&mut self, candidate: Scenario, kind: String) -> bool {
        if candidate == self.best || candidate.check().is_err() {
            return false;
        }
        let hash: [u8; 32] = Sha256::digest(candidate.to_toml()).into();
        if self.is_exhausted() || self.tried.contains_key(&hash) {
            return false;
        }
        self.runs += 1;
        let outcome = one(&candidate, self.seed, false, self.runner);
        let fails = outcome.failures.iter().any(|failure| failure.kind == kind);
        self.tried.insert(hash, fails);
        if fails {
            (self.best, self.outcome, self.kind) = (candidate, outcome, kind);
        }
        (self.told)(&ShrinkProgress { runs: self.runs, size: Size::of(&self.best) });
        fails
    }

    pub(super) fn into_shrunk(self, before: Size, finished: bool) -> Shrunk {
        let found = self.outcome.failures.into_iter().find(|failure| failure.kind == self.kind);
        // The best one failed so.
        let failure = found.unwrap_or_else(|| Failure { kind: self.kind, at: 0, what: String::new() });
        let after = Size::of(&self.best);
        let mut scenario = self.best;
        scenario.seed = Some(self.seed);
        Shrunk { scenario, seed: self.seed, failure, runs: self.runs, finished, before, after }
    }
}
