//! Scenarios that once failed, shrunk: each is good now, under its own seed.

use std::{fs, path::Path};

use sideband_scenarios::{
    scenario::Scenario,
    sim::{RunOptions, run},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");

#[test]
fn what_once_failed_is_good() {
    let mut files: Vec<_> = fs::read_dir(Path::new(FOLDER)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    for path in files {
        let called = path.file_name().unwrap().to_string_lossy().into_owned();
        let scenario = Scenario::parse(&called, &fs::read_to_string(&path).unwrap()).unwrap();
        let seed = scenario.seed.unwrap_or_else(|| panic!("{called} has no seed"));
        let run = run(&scenario, seed, &RunOptions::default()).unwrap();
        assert_eq!(run.failures, [], "{called}");
    }
}
