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
