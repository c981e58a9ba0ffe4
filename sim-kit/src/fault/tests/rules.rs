//! Counting and deciding, against a model that is as plain as can be.

use std::time::Duration;

use proptest::prelude::*;
use sideband_protocol::{Instant, api::Procedure};

use super::*;
use crate::fault::{
    draw::{Purpose, draw, happens},
    point::Facts,
};

fn at(millis: u64) -> Instant {
    Instant::from_origin(Duration::from_millis(millis))
}

fn rule(id: &str, action: ApiAction) -> FaultRule {
    let id = (!id.is_empty()).then(|| RuleId::new(id).unwrap());
    FaultRule { id, ..FaultRule::new(PlaceAction::ApiRequest(action)) }
}

fn faults(seed: u64, rules: Vec<FaultRule>) -> Faults {
    let mut faults = Faults::default();
    faults.set(FaultPlan { seed, faults: rules }, at(0)).unwrap();
    faults
}

fn decide(faults: &mut Faults, procedure: Procedure, now: u64) -> Vec<String> {
    let point = ApiPoint { procedure, daemon: Some("d_1"), user: None };
    faults.decide(&Facts::from(&point), at(now), ApiAction::of).iter().map(Fired::label).collect()
}

const CREATE: Procedure = Procedure::CreateSession;

#[test]
fn skip_and_times_count_exactly() {
    let mut only = rule("a", ApiAction::Cut);
    (only.trigger.skip, only.trigger.times) = (1, Some(3));
    let mut faults = faults(0, vec![only]);
    let fired: Vec<_> = (0..6).map(|_| decide(&mut faults, CREATE, 0)).collect();
    let expected: [&[&str]; 6] = [&[], &["a#1"], &["a#2"], &["a#3"], &[], &[]];
    assert_eq!(fired, expected);
    assert_eq!((faults.list()[0].seen, faults.list()[0].fired), (6, 3));
}

#[test]
fn rules_go_together_up_to_one_that_ends_the_event() {
    let delay = ApiAction::Delay(Duration::from_secs(1));
    let mut cut = rule("cut", ApiAction::Cut);
    cut.trigger.times = Some(1);
    let rules = vec![rule("slow", delay.clone()), cut, rule("hang", ApiAction::Hang), rule("late", delay)];
    let mut faults = faults(0, rules);
    assert_eq!(decide(&mut faults, CREATE, 0), ["slow#1", "cut#1"]);
    assert_eq!(decide(&mut faults, CREATE, 0), ["slow#2", "hang#1"]);
    let counts: Vec<_> = faults.list().iter().map(|r| (r.seen, r.fired, r.overruled)).collect();
    assert_eq!(counts, [(2, 2, 0), (2, 1, 0), (2, 1, 1), (2, 0, 2)]);
}

#[test]
fn names_stay_when_others_go() {
    let mut faults = faults(0, vec![rule("", ApiAction::Cut), rule("", ApiAction::Cut)]);
    assert!(faults.remove("rule-1") && !faults.remove("rule-1"));
    assert_eq!(faults.add(rule("", ApiAction::Cut), at(0)).unwrap().as_str(), "rule-3");
    assert_eq!(faults.add(rule("rule-2", ApiAction::Cut), at(0)), Err(AddError::Taken(RuleId::new("rule-2").unwrap())));
}

#[test]
fn a_rule_with_a_large_number_in_its_name_ends_no_derived_names() {
    let mut faults = faults(0, vec![]);
    for name in ["rule-18446744073709551615", "rule-1", "rule-1000000", "rule-1000001"] {
        faults.add(rule(name, ApiAction::Cut), at(0)).unwrap();
    }
    let mut add = || faults.add(rule("", ApiAction::Cut), at(0)).unwrap().to_string();
    assert_eq!([add(), add()], ["rule-1000002", "rule-1000003"]);
}

#[test]
fn each_action_is_possible_where_the_table_says() {
    for place in Place::ALL {
        for action in Action::one_of_each() {
            let made = PlaceAction::new(place, action.clone());
            assert_eq!(made.is_some(), place.takes(&action), "{action:?} at {place}");
            let Some(made) = made else { continue };
            assert_eq!((made.place(), made.action()), (place, action.clone()));
            let mut rule = FaultRule::new(made);
            // What the parser fills in.
            if place == Place::Keys && !matches!(action, Action::Rotate(_)) {
                rule.filter.usage = Some(KeyUse::Publish);
            }
            let plan = FaultPlan { seed: 7, faults: vec![rule] };
            assert_eq!(FaultPlan::parse(&plan.to_toml(), Format::Toml).as_ref(), Ok(&plan));
            assert_eq!(FaultPlan::parse(&plan.to_json(), Format::Json).as_ref(), Ok(&plan));
        }
    }
}

fn small_rule() -> impl Strategy<Value = FaultRule> {
    let action = proptest::sample::select(vec![
        ApiAction::Cut,
        ApiAction::Delay(Duration::from_secs(1)),
        ApiAction::ClockShift(Shift { millis: 5 }),
    ]);
    let procedure = proptest::option::of(proptest::sample::select(Procedure::ALL.to_vec()));
    let times = (0u64..3_000, proptest::option::of(1u64..6_000));
    let counts = (0u64..4, proptest::option::of(1u64..5), proptest::option::of(0.0..=1.0));
    (action, procedure, times, counts).prop_map(|(action, procedure, (from, lasts), (skip, times, probability))| {
        let (from, lasts) = (Duration::from_millis(from), lasts.map(Duration::from_millis));
        let mut rule = rule("", action);
        rule.filter.procedure = procedure;
        rule.trigger = Trigger { skip, times, from, lasts, probability };
        rule
    })
}

fn rules_of(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<FaultRule>> {
    proptest::collection::vec(small_rule(), count).prop_map(|rules| {
        let name = |(place, rule)| FaultRule { id: Some(RuleId::new(&format!("r{place}")).unwrap()), ..rule };
        rules.into_iter().enumerate().map(name).collect()
    })
}

fn history() -> impl Strategy<Value = Vec<(Procedure, u64)>> {
    proptest::collection::vec((proptest::sample::select(Procedure::ALL.to_vec()), 0u64..500), 0..60).prop_map(|steps| {
        let mut now = 0;
        let mut happened = |(procedure, wait)| {
            now += wait;
            (procedure, now)
        };
        steps.into_iter().map(&mut happened).collect()
    })
}

/// On which events of the history a rule that is alone fires: by its definition, event for event.
fn model(seed: u64, rule: &FaultRule, history: &[(Procedure, u64)]) -> Vec<bool> {
    let id = rule.id.as_ref().unwrap().as_str();
    let from = rule.trigger.from.as_millis() as u64;
    let until = rule.trigger.lasts.map_or(u64::MAX, |lasts| from + lasts.as_millis() as u64);
    let (mut left, mut number) = (rule.trigger.times.unwrap_or(u64::MAX), 0);
    let mut fires = |(procedure, now): &(Procedure, u64)| {
        if !(from..until).contains(now) || rule.filter.procedure.is_some_and(|asked| asked != *procedure) {
            return false;
        }
        number += 1;
        let drawn = |probability| happens(draw(seed, id, number, Purpose::Fire), probability);
        let fires = number > rule.trigger.skip && left > 0 && rule.trigger.probability.is_none_or(drawn);
        left -= u64::from(fires);
        fires
    };
    history.iter().map(&mut fires).collect()
}

fn run(seed: u64, rules: &[FaultRule], history: &[(Procedure, u64)]) -> (Vec<Vec<String>>, Vec<RuleReport>) {
    let mut faults = faults(seed, rules.to_vec());
    let fired = history.iter().map(|(procedure, now)| decide(&mut faults, *procedure, *now)).collect();
    (fired, faults.list())
}

proptest! {
    #[test]
    fn every_rule_counts_as_the_model_does(seed in 0..=i64::MAX as u64, rules in rules_of(0..5), history in history()) {
        let wants: Vec<_> = rules.iter().map(|rule| model(seed, rule, &history)).collect();
        let (fired, reports) = run(seed, &rules, &history);
        let mut counts = vec![(0, 0); rules.len()];
        for at in 0..history.len() {
            let (mut expected, mut ended) = (Vec::new(), false);
            for (place, rule) in rules.iter().enumerate().filter(|(place, _)| wants[*place][at]) {
                if ended {
                    counts[place].1 += 1;
                    continue;
                }
                counts[place].0 += 1;
                ended = rule.action.action().ends();
                expected.push(format!("r{place}#{}", counts[place].0));
            }
            prop_assert_eq!(&fired[at], &expected, "event {}", at);
        }
        let reported: Vec<_> = reports.iter().map(|report| (report.fired, report.overruled)).collect();
        prop_assert_eq!(reported, counts);
        prop_assert_eq!(run(seed, &rules, &history), (fired, reports), "the same again");
    }

    #[test]
    fn taking_a_rule_away_changes_no_other(
        seed in 0..=i64::MAX as u64, rules in rules_of(1..5), gone in any::<prop::sample::Index>(), history in history(),
    ) {
        let gone = gone.index(rules.len());
        let mut fewer = rules.clone();
        let _ = fewer.remove(gone);
        let wanted = |rules: &[FaultRule]| -> Vec<_> {
            run(seed, rules, &history).1.iter().map(|r| (r.id.clone(), r.seen, r.fired + r.overruled)).collect()
        };
        let mut expected = wanted(&rules);
        let _ = expected.remove(gone);
        prop_assert_eq!(wanted(&fewer), expected);
    }

    #[test]
    fn a_plan_survives_both_languages(seed in 0..=i64::MAX as u64, faults in rules_of(0..5)) {
        let plan = FaultPlan { seed, faults };
        prop_assert_eq!(FaultPlan::parse(&plan.to_toml(), Format::Toml), Ok(plan.clone()));
        prop_assert_eq!(FaultPlan::parse(&plan.to_json(), Format::Json), Ok(plan.clone()));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        for format in [Format::Toml, Format::Json] {
            let _ = FaultPlan::parse(&text, format);
            let _ = FaultRule::parse(&text, format);
        }
    }
}
