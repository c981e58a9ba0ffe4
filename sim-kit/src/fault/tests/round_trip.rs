//! Every plan that there can be is read from its own text as it was.

use std::time::Duration;

use proptest::{option::of, prelude::*, sample::select};
use sideband_protocol::{
    SessionId,
    api::Procedure,
    wire::{ControlCode, FrameType},
};

use super::*;
use crate::event::{Direction, Role};

fn time(least: u64) -> impl Strategy<Value = Duration> {
    let most = MAX_TIME.as_nanos() as u64;
    prop_oneof![
        (least..=MAX_TIME.as_secs()).prop_map(Duration::from_secs),
        (least..=604_800_000u64).prop_map(Duration::from_millis),
        (least..=most).prop_map(Duration::from_nanos),
        Just(MAX_TIME),
    ]
}

/// Filter texts and close reasons: quotes, line breaks and all.
fn text(most: usize) -> impl Strategy<Value = String> {
    any::<String>().prop_map(move |text| {
        let mut kept = String::new();
        for letter in text.chars().filter(|letter| *letter != '\u{feff}') {
            if kept.len() + letter.len_utf8() > most {
                break;
            }
            kept.push(letter);
        }
        if kept.is_empty() { "x".to_owned() } else { kept }
    })
}

fn seconds() -> impl Strategy<Value = Option<u64>> {
    of(0..=MAX_TIME.as_secs())
}

fn answer() -> impl Strategy<Value = Answer> {
    let body = select(vec![AnswerBody::Json, AnswerBody::Html, AnswerBody::Empty]);
    (200u16..600, body, of("[A-Z_]{1,64}"), seconds()).prop_map(|(status, body, code, retry_after)| {
        let body = if matches!(status, 204 | 205 | 304) { AnswerBody::Empty } else { body };
        let code = code.filter(|_| body == AnswerBody::Json);
        Answer { status, body, code, retry_after }
    })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let status = (200u16..600).prop_filter("without body", |status| !matches!(status, 204 | 205 | 304));
    (status, of("[a-z_]{1,64}"), seconds()).prop_map(|(status, code, retry_after)| Refusal {
        status,
        code,
        retry_after,
    })
}

fn rotation() -> impl Strategy<Value = Rotation> {
    prop_oneof![
        Just(Rotation { hard: true, overlap_seconds: None }),
        seconds().prop_map(|overlap_seconds| Rotation { hard: false, overlap_seconds }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let close_code = prop_oneof![1000u16..=1003, 1007u16..=1014, 3000u16..=4999];
    let known = select(ControlCode::ALL.iter().map(|code| code.code()).collect::<Vec<_>>());
    let reason = prop_oneof![Just(String::new()), text(123)];
    let week = 604_800_000i64;
    let shift = (-week..=week).prop_filter("a shift", |millis| *millis != 0);
    let limit = (1..=u32::MAX, of(1..=u32::MAX));
    prop_oneof![
        answer().prop_map(Action::Status),
        time(1).prop_map(Action::Delay),
        select(vec![
            Action::Hang,
            Action::Cut,
            Action::Drop,
            Action::Duplicate,
            Action::Corrupt,
            Action::Ghost,
            Action::Hold
        ]),
        shift.prop_map(|millis| Action::ClockShift(Shift { millis })),
        rotation().prop_map(Action::Rotate),
        (1u32..=100).prop_map(Action::Foreign),
        refusal().prop_map(Action::Refuse),
        (close_code, reason).prop_map(|(code, reason)| Action::Close(Closing { code, reason })),
        prop_oneof![known, any::<u16>()].prop_map(|code| Action::Control(Control { code })),
        (1u32..=64).prop_map(Action::Reorder),
        (select(vec![Forged::Data, Forged::Malformed]), of(1u32..=64))
            .prop_map(|(what, frames)| Action::Forge(Forgery { what, frames })),
        time(1).prop_map(Action::Pause),
        time(0).prop_map(Action::Restart),
        limit.prop_map(|(frames_per_second, burst)| Action::Limit(Limit { frames_per_second, burst })),
    ]
}

/// An action at any of the places that take it.
fn placed() -> impl Strategy<Value = PlaceAction> {
    (action(), any::<prop::sample::Index>()).prop_map(|(action, at)| {
        let places: Vec<_> = Place::ALL.into_iter().filter(|place| place.takes(&action)).collect();
        PlaceAction::new(places[at.index(places.len())], action).unwrap()
    })
}

/// A filter with everything; what a place does not know is taken away.
fn filter() -> impl Strategy<Value = Filter> {
    let session = of((1..=u64::MAX).prop_map(|id| SessionId::new(id).unwrap()));
    let names = (of(text(256)), of(text(256)), of(text(256)), of(text(256)), of(text(256)));
    let rest = (
        of(select(Procedure::ALL.to_vec())),
        session,
        of(select(vec![Role::Client, Role::Daemon])),
        of(select(vec![Direction::In, Direction::Out])),
        of(select(FrameType::ALL.to_vec())),
        of(select(vec![KeyUse::Sign, KeyUse::Publish])),
        of(time(0)),
    );
    (names, rest).prop_map(|((path, daemon, user, source, target), rest)| {
        let (procedure, session, role, direction, frame, usage, age) = rest;
        Filter { procedure, path, daemon, session, user, role, direction, frame, usage, source, target, age }
    })
}

fn fitting(place: Place, action: &Action, filter: Filter) -> Filter {
    let knows = |name: &str| place.filters().contains(&name);
    // What the parser fills in.
    let usage = if matches!(action, Action::Rotate(_)) { filter.usage } else { Some(KeyUse::Publish) };
    Filter {
        procedure: filter.procedure.filter(|_| knows("procedure")),
        path: filter.path.filter(|_| knows("path")),
        daemon: filter.daemon.filter(|_| knows("daemon")),
        session: filter.session.filter(|_| knows("session")),
        user: filter.user.filter(|_| knows("user")),
        role: filter.role.filter(|_| knows("role")),
        direction: filter.direction.filter(|_| knows("direction")),
        frame: filter.frame.filter(|_| knows("frame")),
        usage: usage.filter(|_| knows("usage")),
        source: filter.source.filter(|_| knows("source")),
        target: filter.target.filter(|_| knows("target")),
        age: filter.age.filter(|_| knows("age")),
    }
}

fn trigger() -> impl Strategy<Value = Trigger> {
    let number = 1..=i64::MAX as u64;
    let probability = of(prop_oneof![0.0..=1.0, Just(0.0), Just(1.0), Just(f64::MIN_POSITIVE)]);
    let skip = prop_oneof![Just(0), number.clone()];
    (skip, of(number), time(0), of(time(1)), probability).prop_map(|(skip, times, from, lasts, probability)| Trigger {
        skip,
        times,
        from,
        lasts,
        probability,
    })
}

fn rule() -> impl Strategy<Value = FaultRule> {
    (placed(), filter(), trigger()).prop_map(|(action, filter, trigger)| {
        let filter = fitting(action.place(), &action.action(), filter);
        FaultRule { id: None, filter, trigger, action }
    })
}

fn plan() -> impl Strategy<Value = FaultPlan> {
    let named = (rule(), of("[A-Za-z0-9_-]{1,50}"));
    (0..=i64::MAX as u64, proptest::collection::vec(named, 0..6)).prop_map(|(seed, rules)| {
        let faults = rules.into_iter().enumerate();
        let faults = faults.map(|(place, (rule, name))| {
            // The place makes each name the only one.
            let id = name.map(|name| RuleId::new(&format!("{name}.{place}")).unwrap());
            FaultRule { id, ..rule }
        });
        FaultPlan { seed, faults: faults.collect() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_plan_is_read_from_its_text_in_both_languages(plan in plan()) {
        prop_assert_eq!(FaultPlan::parse(&plan.to_toml(), Format::Toml), Ok(plan.clone()));
        prop_assert_eq!(FaultPlan::parse(&plan.to_json(), Format::Json), Ok(plan.clone()));
        let value = serde_json::to_value(&plan).unwrap();
        prop_assert_eq!(serde_json::from_value::<FaultPlan>(value).unwrap(), plan);
    }
}

/// The strategies are of use only if they reach every action at every place.
#[test]
fn the_strategies_reach_every_action_at_every_place() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..5_000 {
        let action = placed().new_tree(&mut runner).unwrap().current();
        reached.insert((action.place(), action.action().member()));
    }
    let all = Place::ALL.into_iter().flat_map(|place| {
        let actions = Action::one_of_each().into_iter().filter(move |action| place.takes(action));
        actions.map(move |action| (place, action.member()))
    });
    assert_eq!(reached, all.collect());
}
