use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;
use crate::{scenario::SweepText, sim::Failure};

/// A runner whose outcomes follow from the seed by a function.
struct Fake<F>(F, BTreeSet<String>);

impl<F: Fn(u64) -> Outcome + Sync> Runner for Fake<F> {
    fn run(&self, _: &Scenario, seed: u64) -> Outcome {
        (self.0)(seed)
    }

    fn situations(&self) -> BTreeSet<String> {
        self.1.clone()
    }
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|&name| name.to_owned()).collect()
}

fn fake<F: Fn(u64) -> Outcome + Sync>(outcome: F) -> Fake<F> {
    Fake(outcome, names(&["always", "rare", "never"]))
}

fn good(situations: &[&str]) -> Outcome {
    Outcome { situations: names(situations), simulated: Duration::from_secs(2), events: 3, ..Outcome::default() }
}

fn bad(what: &str) -> Outcome {
    let failure = Failure { kind: "invariant/x".to_owned(), at: 5, what: what.to_owned() };
    Outcome { failures: vec![failure], ..good(&[]) }
}

fn options(seeds: Range<u64>) -> SweepOptions {
    SweepOptions {
        called: "some".to_owned(),
        seeds,
        shard: Shard::ALL,
        jobs: NonZeroUsize::new(4).unwrap(),
        swarm: false,
        keep_going: false,
        plateau: None,
    }
}

fn swept(runner: &impl Runner, options: &SweepOptions) -> Report {
    sweep(&Scenario::new("some"), runner, options, &mut |_| {})
}

#[test]
fn every_seed_is_run_once_and_counts() {
    let seen = Mutex::new(Vec::new());
    let runner = fake(|seed| {
        seen.lock().unwrap().push(seed);
        good(if seed % 10 == 3 { &["always", "rare"] } else { &["always"] })
    });
    let mut told = Vec::new();
    let report = sweep(&Scenario::new("some"), &runner, &options(5..45), &mut |progress| told.push(*progress));
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (5..45).collect::<Vec<_>>());
    assert_eq!((report.ran, report.simulated_ms, report.events, report.failed), (40, 80_000, 120, 0));
    assert_eq!(report.situations["rare"], Met { seeds: 4, first: 13 });
    assert_eq!(report.never_reached, names(&["never"]));
    assert_eq!((report.last_news, report.stopped), (Some(13), None));
    assert!(report.is_good());
    assert_eq!(told.len(), 40);
    assert_eq!((told[39].done, told[39].total, told[39].situations), (40, 40, 2));
}

/// The lowest seed that fails is the one that is told, however many threads found others meanwhile; and the report is the same for all.
#[test]
fn the_first_failure_is_that_of_the_lowest_seed_and_ends_the_sweep() {
    let of = |jobs: usize| {
        let met_both = AtomicBool::new(false);
        let runner = fake(|seed| match seed {
            // With several threads, the higher seed fails first.
            20 => {
                while jobs > 1 && !met_both.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                bad("low")
            }
            21 => {
                met_both.store(true, Ordering::Release);
                bad("high")
            }
            _ => good(&["always"]),
        });
        swept(&runner, &SweepOptions { jobs: NonZeroUsize::new(jobs).unwrap(), ..options(0..1_000) })
    };
    let alone = of(1);
    assert_eq!((alone.ran, alone.failed, alone.stopped), (21, 1, Some(Stopped::Failure)));
    assert_eq!(alone.failures[0].seed, 20);
    assert_eq!(alone.failures[0].reproduce, "sideband-sim scenario run some --seed 20");
    assert_eq!((of(2), of(8)), (alone.clone(), alone));
}

#[test]
fn with_keep_going_all_failures_are_told() {
    let runner = fake(|seed| if seed % 7 == 0 { bad("x") } else { good(&[]) });
    let report = swept(&runner, &SweepOptions { keep_going: true, swarm: true, ..options(1..30) });
    assert_eq!((report.ran, report.failed, report.stopped), (29, 4, None));
    assert_eq!(report.failures.iter().map(|one| one.seed).collect::<Vec<_>>(), [7, 14, 21, 28]);
    assert_eq!(report.failures[1].reproduce, "sideband-sim scenario run some --seed 14 --swarm");
    assert!(!report.is_good());
}

#[test]
fn a_plateau_ends_the_sweep_at_the_same_seed_for_any_number_of_threads() {
    let runner = fake(|seed| good(if seed == 30 { &["always", "rare"] } else { &["always"] }));
    let of = |jobs| {
        let jobs = NonZeroUsize::new(jobs).unwrap();
        swept(&runner, &SweepOptions { jobs, plateau: Some(50), ..options(0..10_000) })
    };
    let report = of(1);
    assert_eq!((report.ran, report.stopped, report.last_news), (81, Some(Stopped::Plateau), Some(30)));
    assert_eq!(of(7), report);
}

#[test]
fn a_panic_is_a_failure_of_its_seed_with_its_message_and_place() {
    let runner = fake(|seed| if seed == 3 { panic!("no such state: {seed}") } else { good(&[]) });
    let report = swept(&runner, &options(0..10));
    let failure = &report.failures[0].failures[0];
    assert_eq!((report.ran, report.failures[0].seed), (4, 3));
    assert!(failure.kind.starts_with("panic/scenarios/src/sweep/tests.rs:"), "{failure:?}");
    assert!(failure.what.ends_with("no such state: 3"), "{failure:?}");
}

#[test]
fn a_sweep_that_misses_what_its_scenario_lists_fails_once_enough_seeds_were_run() {
    let mut scenario = Scenario::new("some");
    scenario.sweep = Some(SweepText { within: 20, reaches: vec!["always".to_owned(), "rare".to_owned()] });
    let runner = fake(|_| good(&["always"]));
    let of = |seeds, shard| sweep(&scenario, &runner, &SweepOptions { shard, ..options(seeds) }, &mut |_| {});
    let report = of(0..20, Shard::ALL);
    assert_eq!((report.missing.clone(), report.is_good()), (names(&["rare"]), false));
    assert!(of(0..19, Shard::ALL).is_good(), "too few seeds say nothing");
    assert!(of(0..100, Shard { index: 1, of: 2 }).is_good(), "a shard alone says nothing");
}

#[test]
fn a_report_is_read_as_it_is_written() {
    let runner = fake(|seed| if seed == 7 { bad("x") } else { good(&["always"]) });
    let report = Report { wall_ms: Some(12), ..swept(&runner, &options(0..10)) };
    assert_eq!(serde_json::from_str::<Report>(&report.to_json()).unwrap(), report);
    insta::assert_snapshot!("report", Report { program: "0.0.0".to_owned(), ..report }.to_json());
}

#[test]
fn a_line_that_reproduces_is_safe_in_a_shell() {
    assert_eq!(reproduce_line("a b/c'd.toml", 1, false), r"sideband-sim scenario run 'a b/c'\''d.toml' --seed 1");
}
