//! The list of rules against the list of witnesses: id → tests → what breaks it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    path::Path,
};

use sideband_tests::spec::{Level, Party, Rule, read};

use crate::{
    WITNESSES,
    elsewhere::{ELSEWHERE, INTERNAL},
    witness::Flaw,
};

/// The rules of the pages on frames, control plane and relay that bind a relay or a control plane.
fn rules() -> Vec<Rule> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec");
    let mut rules = read(&folder).unwrap_or_else(|error| panic!("{error}"));
    rules.retain(|rule| {
        matches!(&rule.file[..], "1-wire.md" | "3-control-plane.md" | "4-relay.md")
            && (rule.parties.contains(&Party::Relay) || rule.parties.contains(&Party::Api))
    });
    rules
}

/// `REL-04` of `rel_04_sessions_are_independent`.
fn rule_of(name: &str) -> String {
    let mut parts = name.split('_');
    format!("{}-{}", parts.next().unwrap_or_default().to_uppercase(), parts.next().unwrap_or_default())
}

/// Witnesses by rule, with what breaks each.
fn by_rule() -> BTreeMap<String, Vec<(&'static str, &'static [Flaw])>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for witness in WITNESSES.iter().copied().flatten() {
        found.entry(rule_of(witness.name)).or_default().push((witness.name, witness.broken_by));
    }
    found
}

/// The tests of a rule that are no witnesses.
fn elsewhere(id: &str) -> impl Iterator<Item = String> {
    let found = ELSEWHERE.iter().filter(move |one| one.rules.contains(&id));
    found.map(|one| format!("{}::{}", one.file, one.test))
}

#[test]
fn every_rule_has_a_test_and_every_must_is_seen_to_break() {
    let rules = rules();
    assert!(rules.len() > 50, "the pages are read");
    let found = by_rule();
    let mut gaps = Vec::new();
    for rule in rules {
        let witnesses = found.get(&rule.id).map_or(&[][..], Vec::as_slice);
        let broken = witnesses.iter().any(|(_, broken_by)| !broken_by.is_empty());
        if rule.internal {
            if !INTERNAL.iter().any(|(id, why)| *id == rule.id && !why.is_empty()) {
                gaps.push(format!("{rule}: nothing says why nothing breaks it"));
            }
            if witnesses.is_empty() && elsewhere(&rule.id).next().is_none() {
                gaps.push(format!("{rule}: no test"));
            }
        } else if witnesses.is_empty() {
            gaps.push(format!("{rule}: no test"));
        } else if rule.level == Level::Must && !broken {
            gaps.push(format!("{rule}: nothing breaks its tests"));
        }
    }
    assert!(gaps.is_empty(), "{} gaps:\n{}", gaps.len(), gaps.join("\n"));
}

/// The functions with `#[test]` or its like above them; what is said of a test in a comment is none.
fn tests_of(source: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        let code = line.trim_start_matches("#[test]").trim_start();
        marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let function = code.trim_start_matches("async ").strip_prefix("fn ");
        if let (true, Some(rest)) = (marked, function) {
            found.extend(rest.split(['(', '<']).next());
            marked = false;
        }
    }
    found
}

#[test]
fn a_test_in_a_comment_is_none() {
    let source = "#[test]\nfn one() {}\n// #[test] fn two() {}\nfn three() {}\n#[tokio::test]\nasync fn four() {}";
    assert_eq!(tests_of(source), BTreeSet::from(["one", "four"]));
}

#[test]
fn tests_elsewhere_are_there() {
    let ids: BTreeSet<_> = rules().into_iter().map(|rule| rule.id).collect();
    for one in ELSEWHERE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(one.file);
        let source = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", one.file));
        assert!(tests_of(&source).contains(one.test), "{} has no test {}", one.file, one.test);
        assert!(!one.rules.is_empty() && one.rules.iter().all(|rule| ids.contains(*rule)), "{}", one.test);
    }
    for (id, _) in INTERNAL {
        let rule = rules().into_iter().find(|rule| rule.id == *id).unwrap_or_else(|| panic!("there is no {id}"));
        assert!(rule.internal, "{id} can be seen");
    }
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
    let unused: Vec<_> = Flaw::all().filter(|flaw| !used.contains(flaw)).collect();
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
            let quirks: Vec<_> = broken_by.iter().map(ToString::to_string).collect();
            let _ = writeln!(list, "  {name}{}{}", if quirks.is_empty() { "" } else { " ← " }, quirks.join(", "));
        }
        for test in elsewhere(&rule.id) {
            let _ = writeln!(list, "  {test}");
        }
        for (_, why) in INTERNAL.iter().filter(|(id, _)| *id == rule.id) {
            let _ = writeln!(list, "  nothing breaks it: {why}");
        }
    }
    std::io::stdout().write_all(list.as_bytes()).unwrap();
}
