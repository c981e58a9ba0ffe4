use std::collections::BTreeSet;

use sideband_protocol::failure::{Cause, ClientMode, Verdict};
use sideband_sim_kit::fault::FaultRule;

use super::*;

const BASE: &str = r#"
name = "base"
[[host]]
name = "cloud"
kind = "cloud"
[[host]]
name = "daemon"
kind = "daemon"
[[host]]
name = "client"
kind = "client"
[[step]]
at = "2s"
host = "client"
do = { call = { method = "add", params = { a = 1, b = 2 }, result = 3 } }
[[expect]]
final = { host = "client", state = "active" }
[[always]]
never = { kind = "grade" }
"#;

fn base() -> Scenario {
    Scenario::parse("base.toml", BASE).unwrap()
}

#[test]
fn the_same_seed_draws_the_same_and_others_draw_others() {
    let base = base();
    let drawn: Vec<String> = (0..50).map(|seed| swarm(&base, seed).to_toml()).collect();
    assert_eq!(drawn, (0..50).map(|seed| swarm(&base, seed).to_toml()).collect::<Vec<_>>());
    assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 50);
}

#[test]
fn what_is_drawn_holds_together_and_can_be_written_and_read() {
    let base = base();
    for seed in 0..300 {
        let drawn = swarm(&base, seed);
        let text = drawn.to_toml();
        let read = Scenario::parse("drawn.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(read, drawn, "seed {seed}");
        for rule in &drawn.faults {
            FaultRule::try_from(rule.clone()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

#[test]
fn what_the_scenario_says_of_the_undisturbed_story_is_dropped_and_the_rest_stays() {
    let drawn = swarm(&base(), 3);
    assert!(drawn.expectations.is_empty());
    assert_eq!(drawn.always.len(), 1);
    let Action::Call(call) = &drawn.steps[0].action else { panic!("{:?}", drawn.steps[0]) };
    assert_eq!((call.method.as_str(), &call.result), ("add", &None));
}

#[test]
fn every_kind_is_drawn_by_some_seed_and_left_by_some() {
    let base = base();
    let on = |seed: u64| -> BTreeSet<String> {
        let ids = swarm(&base, seed).faults.into_iter().filter_map(|rule| rule.id);
        ids.filter_map(|id| Some(id.as_str().strip_prefix("swarm.")?.rsplit_once('-')?.0.to_owned())).collect()
    };
    let all: Vec<BTreeSet<String>> = (0..200).map(on).collect();
    for kind in pool::POOL {
        let often = all.iter().filter(|on| on.contains(kind.name)).count();
        assert!((10..100).contains(&often), "{kind:?} in {often} of 200 seeds");
    }
}

/// Taking one kind away changes no other: a rule is the same whatever else there is.
#[test]
fn a_rule_follows_from_seed_and_name_alone() {
    let span = Duration::from_secs(60);
    let with = pool::faults(&Dice::new(5), span);
    let mut again = pool::faults(&Dice::new(5), span);
    again.remove(0);
    assert_eq!(with[1..], again[..]);
    // And other hosts, steps and faults of the base change no drawn fault.
    let mut more = base();
    more.hosts.push(crate::scenario::Host::new("other", Kind::Client));
    assert_eq!(swarm(&base(), 5).faults, swarm(&more, 5).faults);
}

/// Every status in the pool is one that clients and daemons retry: CLI-05, DMN-01.
#[test]
fn cli_05_dmn_01_no_fault_of_the_pool_is_fatal() {
    let base = base();
    for rule in (0..500).flat_map(|seed| swarm(&base, seed).faults) {
        let api = rule.action.0.status.filter(|status| *status != 200).map(|status| Cause::Api {
            status,
            code: String::new(),
            message: String::new(),
            retry_after: None,
        });
        let upgrade =
            rule.action.0.refuse.map(|status| Cause::Upgrade { status, message: String::new(), retry_after: None });
        let close = rule.action.0.close.map(|code| Cause::SocketLost { code: Some(code) });
        for cause in [api, upgrade, close].into_iter().flatten() {
            assert_eq!(cause.client_verdict(ClientMode::Account), Verdict::Retry, "{cause}");
            assert_eq!(cause.daemon_verdict(), Verdict::Retry, "{cause}");
        }
        assert_ne!(rule.action.0.close, Some(4001), "the daemon ends at it");
        assert!(rule.action.0.corrupt.is_none() && rule.action.0.reorder.is_none(), "{rule:?}");
    }
}

#[test]
fn a_scenario_without_daemon_or_client_is_only_disturbed() {
    let mut lonely = Scenario::new("lonely");
    lonely.hosts.push(crate::scenario::Host::new("cloud", Kind::Cloud));
    for seed in 0..100 {
        let drawn = swarm(&lonely, seed);
        assert_eq!(drawn.hosts.len(), 1);
        assert!(drawn.steps.iter().all(|step| matches!(step.action, Action::Crash(_) | Action::Restart(_))));
    }
}
