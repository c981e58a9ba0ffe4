//! The load of swarm mode: more clients, and calls and events of several patterns, by the new clients and by those of the scenario.

use std::time::Duration;

use serde_json::json;
use sideband_sim_kit::fault::{Time, Written};

use super::{ANY_END, Stage};
use crate::scenario::{
    Action, Host, Kind, Scenario, Step,
    host::Retry,
    step::{Call, Tick},
};

/// Most clients that are added.
const MOST_CLIENTS: u64 = 4;
/// Most calls of one pattern by one client.
const MOST_CALLS: u64 = 60;
/// Most bytes of text in the params of a large call; far below what a frame takes.
const MOST_TEXT: u64 = 8_192;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Adds clients and load to the scenario.
pub(super) fn add(stage: &Stage<'_>, drawn: &mut Scenario) {
    if stage.daemons.is_empty() || stage.servers.is_empty() {
        return;
    }
    let mut callers: Vec<String> = stage.clients.iter().map(|&name| name.to_owned()).collect();
    let more = stage.dice.number("load/clients", 0, MOST_CLIENTS);
    if more > 0 {
        let name = free_name(drawn);
        let mut host = Host::new(name.clone(), Kind::Client);
        host.count = Some(more as u32);
        host.stagger = Some(stage.dice.time("load/stagger", ms(10), ms(3_000)));
        // No limit of attempts: whoever gives up cannot be asked to come back.
        host.retry = Some(Retry { max_retries: Some(0), ..Retry::default() });
        drawn.hosts.push(host);
        callers.push(name);
    }
    for caller in &callers {
        calls(stage, caller, drawn);
    }
    events(stage, &callers, drawn);
}

/// A name that no host has.
fn free_name(scenario: &Scenario) -> String {
    let mut name = "swarm".to_owned();
    while scenario.hosts.iter().any(|host| host.name == name) {
        name.push('x');
    }
    name
}

fn step(host: &str, at: Duration, times: u64, every: Time, action: Action) -> Step {
    let many = times > 1;
    Step {
        at: Some(Time(at)),
        after: None,
        host: Some(host.to_owned()),
        times: many.then_some(times as u32),
        every: many.then_some(every),
        spread: None,
        probability: None,
        action,
    }
}

/// How often something of this distance fits between a moment and the end of the span.
fn fitting(stage: &Stage<'_>, at: Duration, every: Time, most: u64) -> u64 {
    let left = stage.span.saturating_sub(at).as_millis() as u64;
    (left / (every.0.as_millis() as u64).max(1)).clamp(1, most)
}

fn calls(stage: &Stage<'_>, caller: &str, drawn: &mut Scenario) {
    let dice = &stage.dice;
    for pattern in ["steady", "burst", "slow", "large"] {
        let name = format!("load/{caller}/{pattern}");
        if !dice.happens(&format!("{name}/on"), 0.35) {
            continue;
        }
        let at = dice.moment(&format!("{name}/at"), stage.span / 2);
        let (method, params, every, most) = match pattern {
            "steady" => {
                let every = dice.time(&format!("{name}/every"), ms(200), ms(5_000));
                ("add", Some(json!({ "a": "{n}", "b": 23 })), every, MOST_CALLS)
            }
            "burst" => {
                let most = dice.number(&format!("{name}/times"), 2, 40);
                ("echo", Some(json!({ "from": caller, "n": "{n}" })), Time(ms(10)), most)
            }
            "slow" => {
                let takes = dice.time(&format!("{name}/takes"), ms(100), ms(20_000));
                let every = dice.time(&format!("{name}/every"), ms(500), ms(10_000));
                ("sleep", Some(json!({ "ms": takes.0.as_millis() as u64 })), every, 12)
            }
            _ => {
                let bytes = dice.number(&format!("{name}/bytes"), 256, MOST_TEXT) as usize;
                let every = dice.time(&format!("{name}/every"), ms(200), ms(5_000));
                ("echo", Some(json!({ "n": "{n}", "text": "x".repeat(bytes) })), every, 20)
            }
        };
        let call = Call {
            method: method.to_owned(),
            name: Some(format!("{caller}.{pattern}")),
            params: params.map(Written),
            timeout: None,
            total: None,
            result: None,
            errors: vec![ANY_END.to_owned()],
        };
        let times = fitting(stage, at, every, most);
        drawn.steps.push(step(caller, at, times, every, Action::Call(call)));
    }
}

fn events(stage: &Stage<'_>, callers: &[String], drawn: &mut Scenario) {
    let dice = &stage.dice;
    if !dice.happens("load/events/on", 0.5) {
        return;
    }
    let event = "swarm.tick";
    for caller in callers {
        let subscribe = Action::Subscribe(event.to_owned());
        drawn.steps.push(step(caller, ms(10), 1, Time(ms(10)), subscribe));
    }
    for daemon in &stage.daemons {
        let name = format!("load/events/{daemon}");
        let every = dice.time(&format!("{name}/every"), ms(100), ms(5_000));
        let at = dice.moment(&format!("{name}/at"), stage.span / 2);
        let times = fitting(stage, at, every, MOST_CALLS) as u32;
        let tick = Action::Tick(Tick { event: Some(event.to_owned()), every, times });
        drawn.steps.push(step(daemon, at, 1, every, tick));
    }
}
