//! The list of rules against the list of witnesses: id → tests → what breaks it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    path::Path,
};

use sideband_protocol::relay::RelayQuirk;
use sideband_tests::spec::{Level, Party, Rule, read};

use crate::WITNESSES;

/// The rules of the pages on frames and the relay that bind a relay.
fn rules() -> Vec<Rule> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec");
    let mut rules = read(&folder).unwrap_or_else(|error| panic!("{error}"));
    rules.retain(|rule| matches!(&rule.file[..], "1-wire.md" | "4-relay.md") && rule.parties.contains(&Party::Relay));
    rules
}

/// `REL-04` of `rel_04_sessions_are_independent`.
fn rule_of(name: &str) -> String {
    let mut parts = name.split('_');
    format!("{}-{}", parts.next().unwrap_or_default().to_uppercase(), parts.next().unwrap_or_default())
}

/// Witnesses by rule, with what breaks each.
fn by_rule() -> BTreeMap<String, Vec<(&'static str, &'static [RelayQuirk])>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for witness in WITNESSES.iter().copied().flatten() {
        found.entry(rule_of(witness.name)).or_default().push((witness.name, witness.broken_by));
    }
    found
}

#[test]
fn every_rule_of_the_relay_has_a_witness_and_every_must_is_seen_to_break() {
    let rules = rules();
    assert!(rules.len() > 25, "the pages are read");
    let found = by_rule();
    let mut gaps = Vec::new();
    // What is internal cannot be seen from outside; it has tests elsewhere.
    for rule in rules.into_iter().filter(|rule| !rule.internal) {
        let witnesses = found.get(&rule.id).map_or(&[][..], Vec::as_slice);
        let broken = witnesses.iter().any(|(_, broken_by)| !broken_by.is_empty());
        if witnesses.is_empty() {
            gaps.push(format!("{rule}: no test"));
        } else if rule.level == Level::Must && !broken {
            gaps.push(format!("{rule}: nothing breaks its tests"));
        }
    }
    assert!(gaps.is_empty(), "{} gaps:\n{}", gaps.len(), gaps.join("\n"));
}

#[test]
fn witnesses_and_quirks_are_of_rules_that_are_there() {
    let ids: BTreeSet<_> = rules().into_iter().map(|rule| rule.id).collect();
    let mut used = BTreeSet::new();
    let mut names = BTreeSet::new();
    for witness in WITNESSES.iter().copied().flatten() {
        let id = rule_of(witness.name);
        assert!(ids.contains(&id), "{}: no rule {id}", witness.name);
        assert!(names.insert(witness.name), "{} stands twice", witness.name);
        for quirk in witness.broken_by {
            assert_eq!(quirk.rule(), id, "{}: {quirk:?} breaks another rule", witness.name);
            used.insert(*quirk);
        }
    }
    let unused: Vec<_> = RelayQuirk::ALL.iter().filter(|quirk| !used.contains(quirk)).collect();
    assert!(unused.is_empty(), "no witness shows {unused:?}");
}

/// The whole list, to be read: `cargo test -p sideband-tests --test relay_rules list_of_rules -- --nocapture`.
#[test]
fn list_of_rules_tests_and_quirks() {
    let found = by_rule();
    let mut list = String::new();
    for rule in rules() {
        let _ = writeln!(list, "{rule}");
        for (name, broken_by) in found.get(&rule.id).map_or(&[][..], Vec::as_slice) {
            let quirks: Vec<_> = broken_by.iter().map(|quirk| format!("{quirk:?}")).collect();
            let _ = writeln!(list, "  {name}{}{}", if quirks.is_empty() { "" } else { " ← " }, quirks.join(", "));
        }
    }
    std::io::stdout().write_all(list.as_bytes()).unwrap();
}
