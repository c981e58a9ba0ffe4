//! The list of rules: what the pages of `docs/spec` hold, and that the sources cite no rule that is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use sideband_tests::spec::{Level, Party, Rule, citations, parse_page, read};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rules() -> Vec<Rule> {
    read(&repository().join("docs/spec")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_page_has_its_number_of_rules() {
    let mut counts = BTreeMap::new();
    for rule in rules() {
        let (prefix, _) = rule.id.split_once('-').unwrap();
        *counts.entry((rule.file.clone(), prefix.to_owned())).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts.iter().map(|((file, prefix), count)| (&file[..], &prefix[..], *count)).collect();
    let expected = [
        ("1-wire.md", "WIRE", 21),
        ("2-crypto.md", "CRY", 13),
        ("2-crypto.md", "TRU", 7),
        ("3-control-plane.md", "API", 9),
        ("3-control-plane.md", "KEY", 4),
        ("3-control-plane.md", "TOK", 14),
        ("4-relay.md", "REL", 15),
        ("5-endpoints.md", "CLI", 15),
        ("5-endpoints.md", "DMN", 16),
        ("5-endpoints.md", "EVT", 2),
        ("5-endpoints.md", "RPC", 9),
        ("5-endpoints.md", "SBP", 7),
    ];
    assert_eq!(counts, expected);
    assert_eq!(rules().len(), 132);
}

/// Level, parties and whether it is internal, of every rule: a change of the pages must be meant.
#[test]
fn every_rule_is_as_it_was() {
    let list: Vec<_> = rules().iter().map(Rule::to_string).collect();
    insta::assert_snapshot!("rules", list.join("\n"));
}

/// Nothing on the pages that looks like a rule is left out: every id in bold position of an item was read.
#[test]
fn every_item_that_starts_with_an_id_is_a_rule() {
    let ids: BTreeSet<_> = rules().into_iter().map(|rule| rule.id).collect();
    let mut items = 0;
    for entry in fs::read_dir(repository().join("docs/spec")).unwrap() {
        let page = fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in page.lines().filter(|line| line.trim_start().starts_with("* ")) {
            for (_, id) in citations(&line.chars().take(10).collect::<String>(), &BTreeSet::new()) {
                items += 1;
                assert!(ids.contains(&id), "{line}");
            }
        }
    }
    assert_eq!(items, ids.len());
}

#[test]
fn rule_ids_of_a_prefix_leave_no_number_out_but_the_known_gaps() {
    let ids: BTreeSet<_> = rules().into_iter().map(|rule| rule.id).collect();
    let mut gaps = BTreeSet::new();
    for id in &ids {
        let (prefix, number) = id.split_once('-').unwrap();
        let number: u32 = number.parse().unwrap();
        gaps.extend((1..number).map(|n| format!("{prefix}-{n:02}")).filter(|id| !ids.contains(id)));
    }
    // The relay's rules are numbered by section.
    let relay = (7..10).chain(13..20).map(|n| format!("{}-{n:02}", "REL")).collect();
    assert_eq!(gaps, relay);
}

/// The pages in the repository are a copy; the CI warns when it is not the newest.
#[test]
fn pages_are_those_of_the_shared_folder() {
    let (ours, shared) = (repository().join("docs/spec"), repository().join("../shared/spec"));
    if !shared.is_dir() {
        return;
    }
    let pages = |folder: &Path| -> BTreeMap<_, _> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
    };
    let (ours, shared) = (pages(&ours), pages(&shared));
    for name in ours.keys().chain(shared.keys()).collect::<BTreeSet<_>>() {
        if ours.get(name) != shared.get(name) {
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "\nwarning: docs/spec/{} differs from ../shared/spec", name.display());
        }
    }
}

// ---- citations ----

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_cited_rule_exists() {
    let ids: BTreeSet<_> = rules().into_iter().map(|rule| rule.id).collect();
    let prefixes = ids.iter().filter_map(|id| id.split_once('-')).map(|(prefix, _)| prefix.to_owned()).collect();
    let mut paths = Vec::new();
    sources(&repository(), &mut paths);
    let (mut cited, mut unknown) = (BTreeSet::new(), Vec::new());
    for path in &paths {
        // A file may go away while others work in the tree.
        let Ok(text) = fs::read_to_string(path) else { continue };
        for (line, id) in citations(&text, &prefixes) {
            if !ids.contains(&id) {
                unknown.push(format!("{}:{line}: {id}", path.display()));
            }
            cited.insert(id);
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
    assert!(cited.len() > 80, "the scan found only {cited:?}");
}

// ---- the reader itself ----

/// Joined here, so that the scan over this file does not take it for a citation.
fn made_up(number: u32) -> String {
    format!("{}-{number:02}", "WIRE")
}

#[test]
fn citations_are_ids_range_ends_and_function_names() {
    let prefixes = BTreeSet::from(["WIRE".to_owned()]);
    let (one, nine, twelve) = (made_up(1), made_up(9), made_up(12));
    let text =
        format!("// {one}, {nine}..12: and A{one} {one}x {nine}9\n    fn wire_12_case() {{ http_10() }}\n(`{nine}`)");
    let expected = [(1, &one), (1, &nine), (1, &twelve), (2, &twelve), (3, &nine)];
    assert_eq!(citations(&text, &prefixes), expected.map(|(line, id)| (line, id.clone())));
}

#[test]
fn rule_forms_are_read() {
    let [one, two, three, four] = [1, 2, 3, 4].map(made_up);
    let page = format!(
        "# Page\nWords ({one} to {two}: each MUST relay):\n\n* {one} first\n* {two} second *(internal)*\n\n* {three} SHOULD both, api: goes\n  on. *(internal)*\n* {four} MAY client: last\nNot of it.\n* no rule\n"
    );
    let rules = parse_page("page.md", &page).unwrap();
    let seen: Vec<_> = rules.iter().map(|rule| (rule.to_string(), &rule.text[..], rule.line)).collect();
    let expected = [
        (format!("{one} MUST relay"), "first", 4),
        (format!("{two} MUST relay (internal)"), "second", 5),
        (format!("{three} SHOULD client+daemon+api (internal)"), "goes on.", 7),
        (format!("{four} MAY client"), "last", 9),
    ];
    assert_eq!(seen, expected);
    assert_eq!(rules[2].parties, BTreeSet::from([Party::Client, Party::Daemon, Party::Api]));
    assert!(Level::Must < Level::Should && Level::Should < Level::May);
}

#[test]
fn rule_that_cannot_be_understood_is_an_error() {
    let one = made_up(1);
    for item in ["no level", "MUST nobody: words", "SHALL client: words", "MUST client:"] {
        assert!(parse_page("page.md", &format!("* {one} {item}\n")).is_err(), "{item}");
    }
    let folder = std::env::temp_dir().join(format!("sideband-spec-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.md"), format!("* {one} MUST client: once\n* {one} MUST client: twice\n")).unwrap();
    let twice = read(&folder);
    fs::remove_dir_all(&folder).unwrap();
    assert!(twice.unwrap_err().to_string().contains("stands twice"));
}

/// Every MUST for endpoints is judged by the observer, or is on its list of those that cannot be, with a reason.
#[test]
fn every_rule_for_endpoints_is_judged_or_has_a_reason_why_not() {
    use sideband_sim_kit::observer;
    let judged: BTreeSet<_> = observer::Rule::ALL.iter().map(|rule| rule.id()).collect();
    let unjudged: BTreeSet<_> = observer::UNJUDGED.iter().map(|(id, _)| *id).collect();
    assert_eq!(unjudged.len(), observer::UNJUDGED.len());
    let rules = rules();
    let known: BTreeSet<_> = rules.iter().map(|rule| rule.id.as_str()).collect();
    assert!(judged.is_subset(&known) && unjudged.is_subset(&known));
    let binding = |rule: &&Rule| {
        let endpoint = rule.parties.contains(&Party::Client) || rule.parties.contains(&Party::Daemon);
        rule.level == Level::Must && endpoint
    };
    let binding: BTreeSet<_> = rules.iter().filter(binding).map(|rule| rule.id.as_str()).collect();
    assert!(unjudged.is_subset(&binding), "{:?}", unjudged.difference(&binding));
    let missing: Vec<_> = binding.iter().filter(|id| !judged.contains(*id) && !unjudged.contains(*id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
