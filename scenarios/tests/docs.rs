//! The worked example of `docs/scenarios.md` runs.

use sideband_scenarios::{
    scenario::Scenario,
    sim::{self, RunOptions},
};

#[test]
fn the_worked_example_is_good() {
    let text = include_str!("../../docs/scenarios.md");
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let scenario = Scenario::parse("docs/scenarios.md", example).unwrap();
    for seed in 0..5 {
        let run = sim::run(&scenario, seed, &RunOptions::default()).unwrap();
        assert_eq!(run.failures, [], "seed {seed}:\n{}", run.trace.story());
        assert_eq!(run.never_fired, [""; 0], "seed {seed}");
    }
}
