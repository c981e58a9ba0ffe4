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

#[test]
fn relay_empties_is_broken_by_who_stays() {
    let sim = Sim::builder().host("cloud", crate::scenario::Kind::Cloud).own("mine", |host| async move {
        let daemon = sideband::Daemon::new(&host.api_url(), &host.relay_url(), host.api_key())?.env(host.env());
        let server = daemon.listen().await?;
        // It does not listen to the run, which tells it to end.
        server.ended().await;
        Ok(())
    });
    let kinds: Vec<_> = sim.run(0).unwrap().failures.into_iter().map(|failure| failure.kind).collect();
    assert_eq!(kinds, ["host", "invariant/relay-empties"]);
}

#[test]
fn what_does_not_come_about_is_a_failure() {
    let scenario = scenario(
        "duration = \"5s\"
        [[step]]
        after = { event = { host = \"client\", report = \"resumed\" } }
        host = \"client\"
        do = \"close\"
        [[step]]
        at = \"1s\"
        host = \"client\"
        do = { call = { method = \"boom\" } }
        [[step]]
        at = \"2s\"
        host = \"client\"
        do = { check = { state = \"paused\" } }
        [[expect]]
        seen = { event = { kind = \"swept\" } }
        [[always]]
        never = { kind = \"served\" }",
    );
    let kinds = kinds(&scenario, None);
    let wanted = ["always/1", "call/boom", "check/client", "expect/1", "unfinished"];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
}

#[test]
fn a_host_that_panics_fails_the_run() {
    let sim = Sim::builder().host("cloud", crate::scenario::Kind::Cloud).host("daemon", crate::scenario::Kind::Daemon);
    let sim = sim.own("mine", |_| async move { panic!("on purpose") });
    let kinds: Vec<_> = sim.run(0).unwrap().failures.into_iter().map(|failure| failure.kind).collect();
    assert!(kinds.contains(&"panic".to_owned()), "{kinds:?}");
}

/// With one-way loss the other direction stays whole: the daemon hears the client, the client hears nothing.
#[test]
fn one_way_loss_holds_holds_and_loss_by_chance() {
    let scenario = scenario(
        "duration = \"3m\"
        [[step]]
        at = \"3s\"
        do = { partition_one_way = { from = \"cloud\", to = \"client\", for = \"5s\" } }
        [[step]]
        at = \"4s\"
        host = \"client\"
        do = { call = { method = \"ping\", name = \"one-way\" } }
        [[step]]
        at = \"20s\"
        do = { hold = { hosts = [\"daemon\"], for = \"3s\" } }
        [[step]]
        at = \"21s\"
        host = \"client\"
        do = { call = { method = \"ping\", name = \"held\" } }
        [[step]]
        at = \"30s\"
        do = { loss = { from = \"client\", to = \"cloud\", probability = 0.4 } }
        [[step]]
        at = \"31s\"
        host = \"client\"
        times = 10
        every = \"50ms\"
        do = { call = { method = \"ping\", name = \"lossy\" } }
        [[step]]
        at = \"40s\"
        do = { latency = { from = \"client\", to = \"cloud\", least = \"400ms\", most = \"450ms\" } }
        [[step]]
        at = \"41s\"
        host = \"client\"
        do = { call = { method = \"ping\", name = \"far\" } }
        [[expect]]
        follows = { when = { kind = \"call\", name = \"one-way\" }, then = { kind = \"served\" }, within = \"200ms\" }
        [[expect]]
        call = { name = \"one-way\", ends = [\"result\"], not_before = \"4s\", within = \"4200ms\" }
        [[expect]]
        call = { name = \"held\", ends = [\"result\"], not_before = \"2s\", within = \"2200ms\" }
        [[expect]]
        call = { name = \"far\", ends = [\"result\"], not_before = \"800ms\" }",
    );
    assert_eq!(kinds(&scenario, None), BTreeSet::new());
}
