use std::{num::NonZeroUsize, time::Duration};

use super::*;
use crate::{
    scenario::{Scenario, SweepText},
    sim::Failure,
    sweep::{Outcome, Runner, SweepOptions, sweep},
};

struct Fake;

impl Runner for Fake {
    fn run(&self, _: &Scenario, seed: u64) -> Outcome {
        let names = [(true, "always"), (seed % 9 == 4, "rare")];
        let failure = Failure { kind: "invariant/x".to_owned(), at: 1, what: format!("seed {seed}") };
        Outcome {
            failures: if seed % 20 == 11 { vec![failure] } else { Vec::new() },
            situations: names.iter().filter(|(there, _)| *there).map(|(_, name)| (*name).to_owned()).collect(),
            simulated: Duration::from_millis(seed),
            events: seed,
            ..Outcome::default()
        }
    }

    fn situations(&self) -> BTreeSet<String> {
        ["always", "rare", "never"].map(str::to_owned).into()
    }
}

fn scenario(reaches: &[&str]) -> Scenario {
    let mut scenario = Scenario::new("some");
    let reaches = reaches.iter().map(|&name| name.to_owned()).collect();
    scenario.sweep = Some(SweepText { within: 50, reaches });
    scenario
}

fn swept(scenario: &Scenario, shard: Shard) -> Report {
    let options = SweepOptions {
        called: "some".to_owned(),
        seeds: 3..103,
        shard,
        jobs: NonZeroUsize::MIN,
        swarm: true,
        keep_going: true,
        plateau: None,
    };
    sweep(scenario, &Fake, &options, &mut |_| {})
}

fn shards(of: u64) -> Vec<(String, Report)> {
    let scenario = scenario(&["always", "never"]);
    (1..=of).map(|index| (format!("{index}.json"), swept(&scenario, Shard { index, of }))).collect()
}

#[test]
fn the_shards_of_a_sweep_are_the_sweep() {
    let whole = swept(&scenario(&["always", "never"]), Shard::ALL);
    assert_eq!(whole.missing.len(), 1, "what is never reached is missing");
    for of in [1, 2, 3, 7] {
        let mut reports = shards(of);
        assert_eq!(merge(&reports).unwrap(), whole, "{of} shards");
        reports.reverse();
        assert_eq!(merge(&reports).unwrap(), whole, "in any order");
    }
}

#[test]
fn a_merged_report_says_how_long_all_took() {
    let mut reports = shards(2);
    reports[0].1.wall_ms = Some(5);
    reports[1].1.wall_ms = Some(7);
    assert_eq!(merge(&reports).unwrap().wall_ms, Some(12));
}

#[test]
fn reports_that_do_not_belong_together_are_refused() {
    assert_eq!(merge(&[]), Err(MergeError::None));

    let mut reports = shards(3);
    let lost = reports.remove(1);
    assert_eq!(merge(&reports), Err(MergeError::Missing { of: 3, missing: vec![2] }));

    let twice = [reports[0].clone(), ("again.json".to_owned(), reports[0].1.clone()), lost, reports[1].clone()];
    let error = merge(&twice).unwrap_err().to_string();
    assert_eq!(error, "again.json and 1.json are both shard 1/3");

    let change: [(fn(&mut Report), &str); 7] = [
        (|report| report.version = 9, "2.json: the report has version 9; this program merges version 1"),
        (
            |report| report.scenario = "b".to_owned(),
            "2.json is of another sweep than 1.json: its scenario is b, not some",
        ),
        (|report| report.hash = "b".to_owned(), "its scenario's hash is b"),
        (|report| report.swarm = false, "its swarm mode is off, not on"),
        (|report| report.seeds.to = 9, "its range of seeds is 3..9, not 3..103"),
        (|report| report.shard.of = 5, "its number of shards is 5, not 3"),
        (|report| report.program = "0".to_owned(), "its program version is 0"),
    ];
    for (change, expected) in change {
        let mut reports = shards(3);
        change(&mut reports[1].1);
        let error = merge(&reports).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n{expected}");
    }

    let mut reports = shards(2);
    reports[0].1.shard.index = 9;
    assert_eq!(merge(&reports).unwrap_err().to_string(), "1.json: there is no shard 9/2");
}
