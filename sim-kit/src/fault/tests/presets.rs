use std::collections::BTreeSet;

use super::*;

#[test]
fn every_preset_holds_together_and_is_found() {
    for preset in preset::ALL {
        let plan = preset.plan().unwrap_or_else(|error| panic!("{}: {error}", preset.name()));
        assert!(plan.seed > 0, "{}: draws follow from a seed of its own", preset.name());
        assert!(preset.text().starts_with("# ") && preset.summary().ends_with('.'), "{}", preset.name());
        let prefix = format!("{}.", preset.name());
        for rule in &plan.faults {
            let id = rule.id.as_ref().unwrap_or_else(|| panic!("a rule of {} has no name", preset.name()));
            assert!(id.as_str().starts_with(&prefix), "{id} goes together with rules of other presets");
            assert_ne!(rule.place(), Place::Net, "{id} works on a real network, too");
        }
        assert_eq!(preset::find(preset.name()), Ok(preset));
    }
    let names: Vec<_> = preset::ALL.iter().map(preset::Preset::name).collect();
    assert!(names.is_sorted() && names.iter().collect::<BTreeSet<_>>().len() == names.len(), "{names:?}");
}

#[test]
fn a_wrong_name_gets_the_nearest() {
    for (wrong, nearest) in [
        ("strom-429", "storm-429"),
        ("outage", "outage-503"),
        ("key_rotation", "key-rotation"),
        ("ghost", "ghost-socket"),
        ("restart-relay", "relay-restart"),
    ] {
        assert_eq!(preset::find(wrong).unwrap_err().nearest, nearest, "{wrong}");
    }
    assert_eq!(preset::find(&"x".repeat(1_000)).unwrap_err().name.len(), 64);
}

#[test]
fn presets_go_together_in_any_number_but_none_twice() {
    let plan = |name: &str| preset::find(name).unwrap().plan().unwrap();
    let all = preset::ALL.iter().skip(1).map(|preset| preset.plan().unwrap());
    let all = all.fold(plan(preset::ALL[0].name()), |all, one| all.followed_by(one).unwrap());
    assert_eq!(all.seed, plan(preset::ALL[0].name()).seed);
    assert_eq!(all.faults.len(), preset::ALL.iter().map(|preset| preset.plan().unwrap().faults.len()).sum::<usize>());
    let twice = plan("hang").followed_by(plan("hang")).unwrap_err();
    assert_eq!(twice.message, "another rule is called `hang.sessions` already");
}

/// A file of the repository.
fn read(path: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words such as `CLI-05`.
fn rule_ids(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    let is_id = |word: &&str| {
        word.split_once('-').is_some_and(|(family, number)| {
            let capitals = family.len() >= 3 && family.bytes().all(|byte| byte.is_ascii_uppercase());
            capitals && number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    words.filter(is_id).collect()
}

/// What the page of a preset says of where it happens.
fn places_of(preset: &preset::Preset) -> String {
    let rules = preset.plan().unwrap().faults;
    let places = Place::ALL.into_iter().filter(|place| rules.iter().any(|rule| rule.place() == *place));
    let places: Vec<Place> = places.collect();
    let words = |place: &Place| match place {
        Place::ApiRequest => "requests for procedures of the control plane",
        Place::RelayUpgrade => "requests for a WebSocket at the relay",
        Place::RelayFrame => "frames at the relay",
        Place::RelayConnection => "open WebSockets at the relay",
        Place::Keys => "uses of the control plane's signing keys",
        Place::Net => "lines between hosts, in simulation only",
    };
    let list: Vec<String> = places.iter().map(|place| format!("`{place}` ({})", words(place))).collect();
    let within = |all: &[Place]| places.iter().all(|place| all.contains(place));
    let apart = match (within(Place::OF_API), within(Place::OF_RELAY)) {
        (true, _) => "All of it happens at the control plane: apart, this preset is for `api`.",
        (_, true) => "All of it happens at the relay: apart, this preset is for `relay`.",
        _ => "Apart, `api` and `relay` each do their part.",
    };
    format!("\n\nPlaces: {}. {apart}\n\n", list.join(", "))
}

#[test]
fn every_preset_has_a_page_that_says_what_is_so() {
    let pages = ["1-wire", "2-crypto", "3-control-plane", "4-relay", "5-endpoints"];
    let spec: String = pages.iter().map(|page| read(&format!("docs/spec/{page}.md"))).collect();
    let index = read("docs/presets/README.md");
    for preset in preset::ALL {
        let name = preset.name();
        let page = read(&format!("docs/presets/{name}.md"));
        assert!(
            page.starts_with(&format!("# `{name}`\n\n{}\n\n    sideband-sim up --preset {name}\n", preset.summary())),
            "{name}"
        );
        let (text, plan) = page.split_once("\n## The plan\n\n```toml\n").unwrap_or_else(|| panic!("{name}: no plan"));
        assert_eq!(plan.strip_suffix("```\n"), Some(preset.text()), "{name}: the page quotes another plan");
        for rule in preset.plan().unwrap().faults {
            let id = rule.id.unwrap();
            assert!(text.contains(&format!("| `{id}` |")), "{name}: the page does not say what {id} does");
        }
        let places = places_of(preset);
        assert!(text.contains(&places), "{name}: the page does not say `{places}`");
        let cited = rule_ids(text);
        assert!(!cited.is_empty(), "{name}: no rule of the specification is cited");
        for id in cited {
            assert!(spec.contains(&format!("* {id} ")), "{name}: {id} is no rule");
        }
        let (test, file) = text.split_once("Shown by [`").and_then(|(_, rest)| rest.split_once("`](../../")).unwrap();
        let file = file.split(')').next().unwrap();
        let source = read(file);
        let body = source.split_once(&format!("\nfn {test}() {{\n")).and_then(|(_, rest)| rest.split_once("\n}\n"));
        let plays = body.is_some_and(|(body, _)| body.contains(&format!("    play(\"{name}\", ")));
        assert!(plays, "{name}: {test} in {file} does not show it");
        assert!(
            index.contains(&format!("| [`{name}`]({name}.md) | {} |\n", preset.summary())),
            "{name}: not in the index"
        );
    }
    assert_eq!(index.matches("\n| [`").count(), preset::ALL.len());
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (folder, more) in [("presets", 0), ("docs/presets", 1)] {
        let files = std::fs::read_dir(here.join(folder)).unwrap().count();
        assert_eq!(files, preset::ALL.len() + more, "{folder} has files without a preset");
    }
}
