//! The traces of all built-in scenarios for seeds 0 to 2 are those that are committed, by their hashes: a machine, a toolchain or a change that
//! makes a run differ is seen. `SIDEBAND_TEST_UPDATE_HASHES=1 cargo test -p sideband-scenarios --test hashes` writes `scenarios/hashes.txt`
//! anew; `scenario run --trace` of before and after, compared, shows what changed.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use sideband_scenarios::{
    builtin,
    sim::{RunOptions, run},
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hashes.txt");
const UPDATE: &str = "SIDEBAND_TEST_UPDATE_HASHES";
const SEEDS: std::ops::Range<u64> = 0..3;
const HEAD: &str = "# SHA-256 of the traces of the built-in scenarios: name, seed, hash. Written by tests/hashes.rs.\n";

/// By scenario and seed.
type Hashes = BTreeMap<(String, u64), String>;

fn now() -> Hashes {
    let mut hashes = Hashes::new();
    for builtin in builtin::all() {
        let scenario = builtin.scenario().unwrap();
        for seed in SEEDS {
            let run = run(&scenario, seed, &RunOptions::default()).unwrap();
            assert_eq!(run.failures, [], "{} under seed {seed}", builtin.name);
            hashes.insert((builtin.name.to_owned(), seed), run.trace.hash());
        }
    }
    hashes
}

fn committed() -> Hashes {
    let text = fs::read_to_string(Path::new(FILE)).unwrap_or_default();
    let mut hashes = Hashes::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [name, seed, hash] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        assert_eq!(hash.len(), 64, "{line:?}");
        hashes.insert((name.to_owned(), seed.parse().unwrap()), hash.to_owned());
    }
    hashes
}

#[test]
fn traces_are_those_that_are_committed() {
    let (now, committed) = (now(), committed());
    if std::env::var_os(UPDATE).is_some() {
        let mut text = HEAD.to_owned();
        for ((name, seed), hash) in &now {
            writeln!(text, "{name} {seed} {hash}").unwrap();
        }
        fs::write(FILE, text).unwrap();
        return;
    }
    let differs: Vec<String> = now
        .iter()
        .filter(|(key, hash)| committed.get(*key) != Some(hash))
        .map(|((name, seed), hash)| format!("{name} {seed}: {hash}"))
        .collect();
    let gone: Vec<_> = committed.keys().filter(|key| !now.contains_key(*key)).collect();
    assert!(
        differs.is_empty() && gone.is_empty(),
        "{UPDATE}=1 writes hashes.txt anew, if this is meant\nother traces: {differs:#?}\nno such scenarios: {gone:?}"
    );
}

/// The hashes tell runs apart.
#[test]
fn no_two_hashes_are_the_same() {
    let committed = committed();
    let different: std::collections::BTreeSet<_> = committed.values().collect();
    assert_eq!(different.len(), committed.len());
    assert_eq!(committed.len(), builtin::all().len() * SEEDS.count());
}
