use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sideband_sim_kit::fault::{Time, rules::draws_to_fire};

use super::*;
use crate::{swarm::swarm, sweep::Outcome};

/// A runner that fails where a function of the scenario says so.
struct Fake<F>(F);

impl<F: Fn(&Scenario, u64) -> Vec<&'static str> + Sync> Runner for Fake<F> {
    fn run(&self, scenario: &Scenario, seed: u64) -> Outcome {
        let failure = |kind: &str| Failure { kind: kind.to_owned(), at: 7, what: "as planned".to_owned() };
        let fired = scenario.faults.iter().filter_map(|rule| Some((rule.id.as_ref()?.to_string(), 5)));
        Outcome {
            failures: (self.0)(scenario, seed).into_iter().map(failure).collect(),
            fired: fired.collect::<BTreeMap<_, _>>(),
            ..Outcome::default()
        }
    }

    fn situations(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
}

const BASE: &str = r#"
name = "base"
[[host]]
name = "cloud"
kind = "cloud"
[[host]]
name = "daemon"
kind = "daemon"
[[host]]
name = "client"
kind = "client"
[[step]]
at = "2s"
host = "client"
do = { call = { method = "add", params = { a = 1, b = 2 } } }
[[step]]
at = "3s"
host = "cloud"
do = { drop = "daemon" }
[[expect]]
final = { host = "client", state = "active" }
[[expect]]
call = { name = "add", ends = ["result"] }
"#;

fn base() -> Scenario {
    Scenario::parse("base.toml", BASE).unwrap()
}

fn found(scenario: &Scenario, seed: u64, fails: impl Fn(&Scenario, u64) -> Vec<&'static str> + Sync) -> Shrunk {
    shrink(scenario, seed, &Fake(fails), &ShrinkOptions::default(), &mut |_| {}).unwrap()
}

/// Drawn by some seed with at least one rule of each of two kinds.
fn with_two_kinds() -> (Scenario, u64) {
    let has = |scenario: &Scenario, kind: &str| {
        scenario.faults.iter().any(|rule| rule.id.as_ref().unwrap().as_str().contains(kind))
    };
    (0..1_000)
        .map(|seed| (swarm(&base(), seed), seed))
        .find(|(drawn, _)| has(drawn, "api-sick") && has(drawn, "line-cut") && drawn.faults.len() > 8)
        .unwrap()
}

#[test]
fn what_does_not_matter_goes_and_what_matters_stays() {
    let (drawn, seed) = with_two_kinds();
    let has = |scenario: &Scenario, kind: &str| {
        scenario.faults.iter().any(|rule| rule.id.as_ref().unwrap().as_str().contains(kind))
    };
    let shrunk = found(&drawn, seed, |scenario, _| {
        if has(scenario, "api-sick") && has(scenario, "line-cut") { vec!["invariant/x"] } else { Vec::new() }
    });
    assert!(shrunk.finished && shrunk.before.faults > 8);
    assert_eq!(shrunk.after, Size { faults: 2, steps: 0, hosts: 1 });
    assert_eq!(shrunk.scenario.seed, Some(seed));
    for rule in &shrunk.scenario.faults {
        assert_eq!((rule.from, rule.lasts, rule.age), (None, None, None), "{rule:?}");
    }
}

#[test]
fn the_same_failure_stays_not_just_any() {
    let shrunk = found(&base(), 1, |scenario, _| {
        if scenario.steps.len() == 2 { vec!["invariant/a", "invariant/b"] } else { vec!["invariant/b"] }
    });
    assert_eq!((shrunk.failure.kind.as_str(), shrunk.after.steps), ("invariant/a", 2));
    let options = ShrinkOptions { kind: Some("invariant/b".to_owned()), ..ShrinkOptions::default() };
    let all_fail = Fake(|_: &Scenario, _| vec!["invariant/a", "invariant/b"]);
    let shrunk = shrink(&base(), 1, &all_fail, &options, &mut |_| {}).unwrap();
    assert_eq!((shrunk.failure.kind.as_str(), shrunk.after.steps), ("invariant/b", 0));
}

#[test]
fn times_and_numbers_become_small_and_round() {
    let mut scenario = base();
    scenario.steps[0].at = Some(Time(Duration::from_millis(47_310)));
    scenario.steps[0].times = Some(37);
    scenario.steps[0].every = Some(Time(Duration::from_millis(30)));
    let shrunk = found(&scenario, 1, |scenario, _| {
        let fails = scenario.steps.iter().any(|step| {
            step.at.is_some_and(|at| at.0 >= Duration::from_secs(12)) && step.times.is_some_and(|times| times >= 4)
        });
        if fails { vec!["invariant/x"] } else { Vec::new() }
    });
    let step = &shrunk.scenario.steps[0];
    assert_eq!((step.at.unwrap().to_string(), step.times), ("20s".to_owned(), Some(5)));
}

/// A drawn rule becomes the one firing that matters.
#[test]
fn a_probability_becomes_a_count() {
    let (drawn, seed) = with_two_kinds();
    let mut drawn = drawn;
    drawn.faults.retain(|rule| rule.id.as_ref().unwrap().as_str() == "swarm.api-sick-1");
    let rule = &drawn.faults[0];
    let probability = rule.probability.unwrap();
    let id = rule.id.clone().unwrap();
    let third = (1..).filter(|&number| draws_to_fire(seed, &id, number, probability)).nth(2).unwrap();
    let shrunk = found(&drawn, seed, |scenario, seed| {
        let fires = scenario.faults.iter().any(|rule| {
            let skip = rule.skip.unwrap_or(0);
            match (rule.probability, rule.times) {
                (Some(p), None) => draws_to_fire(seed, rule.id.as_ref().unwrap(), third, p),
                (Some(_), Some(_)) => false,
                (None, Some(times)) => (skip + 1..=skip + times).contains(&third),
                (None, None) => third > skip,
            }
        });
        if fires { vec!["invariant/x"] } else { Vec::new() }
    });
    let rule = &shrunk.scenario.faults[0];
    assert_eq!(rule.probability, None);
    assert_eq!((rule.skip, rule.times), ((third > 1).then_some(third - 1), Some(1)));
}

/// Expectations before the one that fails go, and it keeps its meaning though its number changes; what it is about stays.
#[test]
fn an_expectation_that_fails_keeps_what_it_is_about() {
    let (mut drawn, seed) = with_two_kinds();
    drawn.expectations = base().expectations;
    let shrunk = found(&drawn, seed, |scenario, _| match scenario.expectations.len() {
        2 => vec!["expect/2"],
        1 => vec!["expect/1"],
        _ => Vec::new(),
    });
    assert_eq!((shrunk.failure.kind.as_str(), shrunk.scenario.expectations.len()), ("expect/1", 1));
    assert_eq!(shrunk.scenario.expectations[0], base().expectations[1]);
    assert_eq!(shrunk.after.faults, 0);
    assert_eq!(shrunk.after.hosts, Size::of(&drawn).hosts.min(shrunk.after.hosts));
    assert!(shrunk.scenario.steps.iter().any(|step| matches!(step.action, Action::Call(_))), "the call stays");
}

#[test]
fn hosts_go_with_what_names_them() {
    let shrunk = found(&base(), 1, |scenario, _| {
        if scenario.hosts.iter().any(|host| host.name == "daemon") { vec!["invariant/x"] } else { Vec::new() }
    });
    assert_eq!(shrunk.scenario.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["cloud", "daemon"]);
    assert!(shrunk.scenario.steps.is_empty());
}

#[test]
fn a_search_is_bounded_and_says_so() {
    let (drawn, seed) = with_two_kinds();
    let mut runs = 0;
    let runner = Fake(|_: &Scenario, _| vec!["invariant/x"]);
    let options = ShrinkOptions { runs: 3, ..ShrinkOptions::default() };
    let shrunk = shrink(&drawn, seed, &runner, &options, &mut |progress| runs = progress.runs).unwrap();
    assert_eq!((shrunk.runs, runs, shrunk.finished), (3, 3, false));
}

#[test]
fn the_same_search_finds_the_same() {
    let (drawn, seed) = with_two_kinds();
    let fails = |scenario: &Scenario, _: u64| {
        if Size::of(scenario).faults >= 3 { vec!["invariant/x"] } else { Vec::new() }
    };
    let shrunk = found(&drawn, seed, fails);
    assert_eq!(shrunk.after.faults, 3);
    assert_eq!(found(&drawn, seed, fails), shrunk);
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    let good = Fake(|_: &Scenario, _| Vec::new());
    let error = shrink(&base(), 9, &good, &ShrinkOptions::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "nothing fails under seed 9");
    let bad = Fake(|_: &Scenario, _| vec!["invariant/a", "invariant/b"]);
    let options = ShrinkOptions { kind: Some("invariant/c".to_owned()), ..ShrinkOptions::default() };
    let error = shrink(&base(), 9, &bad, &options, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "under seed 9 nothing fails as invariant/c; what fails is invariant/a, invariant/b");
}

#[test]
fn the_regression_can_be_read_and_says_how_to_see_it() {
    let shrunk =
        found(
            &base(),
            4,
            |scenario, _| {
                if scenario.steps.iter().any(is_trouble) { vec!["invariant/x"] } else { Vec::new() }
            },
        );
    let text = shrunk.to_regression();
    let read = Scenario::parse("regression.toml", &text).unwrap();
    assert_eq!((read.seed, read.name.as_str()), (Some(4), "base-seed-4"));
    insta::assert_snapshot!("regression", text);
}
