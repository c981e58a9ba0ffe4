//! The scenarios that come with the crate: all are good, and each tells its story for seed 0.

use sideband_scenarios::{
    builtin,
    sim::{self, Run, RunOptions},
};
use sideband_sim_kit::event::EventKind;

fn run(name: &str, seed: u64) -> Run {
    let scenario = builtin::find(name).unwrap().scenario().unwrap();
    let run = sim::run(&scenario, seed, &RunOptions::default()).unwrap();
    assert_eq!(run.failures, [], "{name}, seed {seed}:\n{}", run.trace.story());
    assert_eq!(run.never_fired, [""; 0], "{name}, seed {seed}");
    run
}

/// What happens, without frames, requests for tokens and numbers that drift.
fn told(run: &Run) -> String {
    let whole = run.trace.order();
    let events = run.trace.events();
    let lines = whole.iter().zip(events).filter(|(_, event)| !matches!(event.kind, EventKind::Frame { .. }));
    lines.map(|(line, _)| format!("{line}\n")).collect()
}

macro_rules! stories {
    ($($name:ident: $text:literal;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!($text, told(&run($text, 0)));
            (1..5).for_each(|seed| drop(run($text, seed)));
        })*

        #[test]
        fn every_builtin_has_a_story() {
            let names: Vec<_> = builtin::all().iter().map(|one| one.name).collect();
            assert_eq!(names, [$($text),*]);
        }
    };
}

stories! {
    daemon_blip_resume: "daemon-blip-resume";
    ghost_socket_409: "ghost-socket-409";
    partition_client: "partition-client";
    quick_connect_race: "quick-connect-race";
}
