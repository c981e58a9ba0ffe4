//! Outcomes taken in the order of their seeds, whatever the order in which they come.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Listed, MOST_TOLD, Met, Outcome, REPORT_VERSION, Report, SeedFailed, SeedRange, Stopped, SweepOptions,
    reproduce_line, scenario_hash,
};
use crate::scenario::Scenario;

/// What came of the runs so far.
#[derive(Debug)]
pub(super) struct Fold {
    keep_going: bool,
    plateau: Option<u64>,
    /// Those that came before their turn.
    early: BTreeMap<u64, (u64, Outcome)>,
    /// The place whose turn it is.
    turn: u64,
    stopped: Option<(u64, Stopped)>,
    simulated_ms: u64,
    events: u64,
    situations: BTreeMap<String, Met>,
    /// Seeds since the last new situation.
    without_news: u64,
    last_news: Option<u64>,
    failed: u64,
    failures: Vec<(u64, Outcome)>,
}

impl Fold {
    pub(super) fn new(keep_going: bool, plateau: Option<u64>) -> Self {
        Self {
            keep_going,
            plateau,
            early: BTreeMap::new(),
            turn: 0,
            stopped: None,
            simulated_ms: 0,
            events: 0,
            situations: BTreeMap::new(),
            without_news: 0,
            last_news: None,
            failed: 0,
            failures: Vec::new(),
        }
    }

    /// An outcome comes; all whose turn it is then count.
    pub(super) fn take(&mut self, place: u64, seed: u64, outcome: Outcome) {
        self.early.insert(place, (seed, outcome));
        while self.stopped.is_none()
            && let Some((seed, outcome)) = self.early.remove(&self.turn)
        {
            self.count(seed, outcome);
            self.turn += 1;
        }
    }

    fn count(&mut self, seed: u64, outcome: Outcome) {
        self.simulated_ms += outcome.simulated.as_millis() as u64;
        self.events += outcome.events;
        self.without_news += 1;
        for name in &outcome.situations {
            let met = self.situations.entry(name.clone()).or_insert_with(|| {
                self.without_news = 0;
                self.last_news = Some(seed);
                Met { seeds: 0, first: seed }
            });
            met.seeds += 1;
        }
        if !outcome.failures.is_empty() {
            self.failed += 1;
            if self.failures.len() < MOST_TOLD {
                self.failures.push((seed, outcome));
            }
            if !self.keep_going {
                self.stopped = Some((self.turn, Stopped::Failure));
            }
        }
        if self.stopped.is_none() && self.plateau.is_some_and(|most| self.without_news >= most) {
            self.stopped = Some((self.turn, Stopped::Plateau));
        }
    }

    /// Situations so far.
    pub(super) fn situations(&self) -> usize {
        self.situations.len()
    }

    /// The place behind which nothing counts.
    pub(super) fn ended(&self) -> Option<u64> {
        self.stopped.map(|(place, _)| place)
    }

    pub(super) fn report(self, scenario: &Scenario, all: &BTreeSet<String>, options: &SweepOptions) -> Report {
        let never_reached = all.iter().filter(|name| !self.situations.contains_key(*name)).cloned().collect();
        let failures = self.failures.into_iter().map(|(seed, outcome)| SeedFailed {
            seed,
            failures: outcome.failures,
            reproduce: reproduce_line(&options.called, seed, options.swarm),
        });
        let mut report = Report {
            version: REPORT_VERSION,
            scenario: scenario.name.clone(),
            hash: scenario_hash(scenario),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            swarm: options.swarm,
            seeds: SeedRange { from: options.seeds.start, to: options.seeds.end },
            shard: options.shard,
            ran: self.turn,
            stopped: self.stopped.map(|(_, why)| why),
            simulated_ms: self.simulated_ms,
            events: self.events,
            wall_ms: None,
            situations: self.situations,
            never_reached,
            last_news: self.last_news,
            listed: scenario
                .sweep
                .as_ref()
                .map(|sweep| Listed { within: sweep.within, situations: sweep.reaches.iter().cloned().collect() }),
            missing: BTreeSet::new(),
            failed: self.failed,
            failures: failures.collect(),
        };
        report.judge();
        report
    }
}
