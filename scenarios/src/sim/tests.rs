//! Runs of small scenarios: each invariant that events show catches an endpoint that is wrong on purpose.

use std::collections::BTreeSet;

use sideband_protocol::quirks::{Quirk, Quirks};

use super::*;
use crate::builtin;

const CLOUD: &str = "
[[host]]
name = \"cloud\"
kind = \"cloud\"
[[host]]
name = \"daemon\"
kind = \"daemon\"
[[host]]
name = \"client\"
kind = \"client\"
delay = \"500ms\"
retry = { max_retries = 0 }
";

fn scenario(more: &str) -> Scenario {
    Scenario::parse("test.toml", &format!("name = \"test\"\n{more}\n{CLOUD}")).unwrap()
}

/// The kinds of failures of a run.
fn kinds(scenario: &Scenario, quirk: Option<Quirk>) -> BTreeSet<String> {
    let options = RunOptions { danger_quirks: quirk.map_or(Quirks::NONE, Quirks::only), ..RunOptions::default() };
    run(scenario, 3, &options).unwrap().failures.into_iter().map(|failure| failure.kind).collect()
}

fn catches(scenario: &Scenario, quirk: Quirk, kind: &str) {
    let whole = run(scenario, 3, &RunOptions::default()).unwrap();
    assert_eq!(whole.failures, [], "{}", whole.trace.story());
    let kinds = kinds(scenario, Some(quirk));
    assert!(kinds.contains(kind), "{quirk:?}: {kinds:?}");
}

/// The client loses the relay for a while; calls and events that it makes meanwhile wait.
fn away() -> Scenario {
    scenario(
        "duration = \"2m\"
        [[step]]
        at = \"3s\"
        host = \"cloud\"
        do = { drop = \"client\" }
        [[step]]
        after = { event = { host = \"client\", state = \"reconnecting\" }, plus = \"50ms\" }
        host = \"client\"
        times = 3
        every = \"20ms\"
        do = { call = { method = \"echo\", name = \"c{n}\", params = { n = \"{n}\" } } }
        [[step]]
        after = { event = { host = \"client\", state = \"reconnecting\" }, plus = \"50ms\" }
        host = \"client\"
        times = 3
        every = \"20ms\"
        do = { emit = { event = \"note\" } }",
    )
}

/// The daemon answers two calls at once, the second one first.
fn two_calls() -> Scenario {
    scenario(
        "duration = \"1m\"
        [[step]]
        at = \"2s\"
        host = \"client\"
        do = { call = { method = \"sleep\", params = { ms = 500 } } }
        [[step]]
        at = \"2100ms\"
        host = \"client\"
        do = { call = { method = \"ping\" } }",
    )
}

#[test]
fn calls_in_order_is_broken_by_who_sends_the_newest_first() {
    catches(&away(), Quirk::SendsWaitingBackwards, "invariant/calls-in-order");
}

#[test]
fn events_in_order_is_broken_by_who_sends_the_newest_first() {
    catches(&away(), Quirk::SendsKeptEventsBackwards, "invariant/events-in-order");
}

#[test]
fn call_own_answer_is_broken_by_who_takes_any_answer() {
    catches(&two_calls(), Quirk::MatchesAnswersByOrder, "invariant/call-own-answer");
}

#[test]
fn delays_are_broken_by_who_does_not_wait() {
    catches(&away(), Quirk::RetriesAtOnce, "invariant/delays");
}

#[test]
fn keys_gone_is_broken_by_who_keeps_them() {
    catches(&two_calls(), Quirk::KeepsKeysOfEndedSession, "invariant/keys-gone");
}

#[test]
fn recovers_is_broken_by_who_gives_up() {
    let scenario = scenario(
        "duration = \"30s\"
        [[fault]]
        on = \"api.request\"
        procedure = \"relay.createSession\"
        times = 3
        do = { status = 503 }
        [[step]]
        at = \"20s\"
        do = { note = \"now\" }",
    );
    assert_eq!(kinds(&scenario, None), BTreeSet::new());
    // One that never redials is not well in time.
    let mut away = scenario.clone();
    away.finish = Some(crate::scenario::Finish {
        recovery: Some(sideband_sim_kit::fault::Time(Duration::from_secs(1))),
        without: Vec::new(),
    });
    away.steps[0].at = Some(sideband_sim_kit::fault::Time(Duration::from_secs(2)));
    assert!(kinds(&away, None).contains("invariant/recovers"), "{:?}", kinds(&away, None));
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    for one in builtin::all() {
        let scenario = one.scenario().unwrap();
        let hash = |seed| run(&scenario, seed, &RunOptions::default()).unwrap().trace.hash();
        let first = hash(5);
        assert_ne!(hash(6), first, "{}", one.name);
        assert_eq!(hash(5), first, "{}", one.name);
    }
}

#[test]
fn a_vanished_client_leaves_a_socket_that_nobody_notices() {
    let scenario = scenario(
        "duration = \"4m\"
        [[step]]
        at = \"3s\"
        host = \"client\"
        do = { vanish = { for = \"10s\" } }
        [[expect]]
        seen = { event = { kind = \"swept\" }, times = 1, from = \"80s\" }
        [[expect]]
        seen = { event = { host = \"client\", report = \"disconnected\" }, times = 1, from = \"80s\" }",
    );
    assert_eq!(kinds(&scenario, None), BTreeSet::new());
}

#[test]
fn crashes_with_and_without_state() {
    let scenario = scenario(
        "duration = \"4m\"
        [[step]]
        at = \"3s\"
        host = \"daemon\"
        do = { crash = { down = \"2s\" } }
        [[step]]
        at = \"20s\"
        host = \"cloud\"
        do = { restart = { down = \"3s\" } }
        [[step]]
        at = \"40s\"
        host = \"client\"
        do = { crash = { lose_state = true } }
        [[step]]
        at = \"60s\"
        host = \"client\"
        do = { call = { method = \"ping\", result = \"pong\" } }
        [[expect]]
        seen = { event = { host = \"daemon\", report = \"opened\" }, least = 3 }",
    );
    assert_eq!(kinds(&scenario, None), BTreeSet::new());
}

#[test]
fn net_rules_of_the_fault_plan() {
    let scenario = scenario(
        "duration = \"4m\"
        [[fault]]
        id = \"slow\"
        on = \"net\"
        source = \"client\"
        target = \"cloud\"
        from = \"2s\"
        for = \"20s\"
        do = { delay = \"1s\" }
        [[fault]]
        id = \"lossy\"
        on = \"net\"
        source = \"cloud\"
        target = \"client\"
        from = \"2s\"
        probability = 0.3
        do = \"drop\"
        [[step]]
        at = \"3s\"
        host = \"client\"
        times = 5
        every = \"100ms\"
        do = { call = { method = \"echo\", name = \"e{n}\", params = { n = \"{n}\" } } }
        [[expect]]
        call = { name = \"e1\", ends = [\"result\"], not_before = \"1s\" }
        [[expect]]
        seen = { event = { kind = \"fault\", name = \"lossy\" } }",
    );
    assert_eq!(kinds(&scenario, None), BTreeSet::new());
}
