//! What each rule of a fault plan does at a relay: the real one and peers in memory, on virtual time. Every test also says how many times
//! its rule fired.

#[path = "../support/relay_bench.rs"]
#[expect(dead_code, reason = "it is made for other tests, too")]
mod bench;
mod connections;
mod frames;
mod holds;
mod upgrades;

use sideband_env::Timeline;
use sideband_protocol::relay::RelayQuirks;
use sideband_sim_kit::{
    event::EventKind,
    fault::{FaultEngine, FaultPlan, Format},
};

use bench::Bench;

/// A relay with this plan.
pub(crate) struct Faulty {
    pub(crate) bench: Bench,
    pub(crate) faults: FaultEngine,
}

impl Faulty {
    pub(crate) fn new(plan: &str) -> Self {
        let faults = FaultEngine::new(Timeline::start());
        let bench = Bench::with(RelayQuirks::NONE, |config| config.faults = Some(faults.clone()));
        let faulty = Self { bench, faults };
        faulty.set(plan);
        faulty
    }

    /// A relay with one rule: its lines but for `[[fault]]`.
    pub(crate) fn one(rule: &str) -> Self {
        Self::new(&format!("[[fault]]\nid = \"one\"\n{rule}"))
    }

    pub(crate) fn set(&self, plan: &str) {
        let plan = FaultPlan::parse(plan, Format::Toml).unwrap_or_else(|error| panic!("{error}"));
        self.faults.set(plan).unwrap();
    }

    /// How many events each rule saw, and how many times it fired; and that all of that was told as events.
    pub(crate) fn counts(&self) -> Vec<(u64, u64)> {
        let list = self.faults.list();
        let events = self.bench.relay.events().recent();
        for report in &list {
            let told: Vec<u64> = events
                .iter()
                .filter_map(|event| match &event.kind {
                    EventKind::Fault { rule, number, on, action } => {
                        let name = report.rule.action.action().member();
                        (*rule == report.id.to_string()).then(|| {
                            assert_eq!((on.as_str(), action.as_str()), (report.rule.place().name(), name));
                            *number
                        })
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(told, (1..=report.fired).collect::<Vec<_>>(), "{}", report.id);
        }
        list.iter().map(|report| (report.seen, report.fired)).collect()
    }
}
