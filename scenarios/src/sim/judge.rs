//! Expectations, judged by the events of a run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sideband_sim_kit::event::{Event, EventKind};

use super::endpoint::is_error;
use crate::scenario::{
    Always, Expect, Pattern, Scenario,
    expect::{AtMost, CallEnds, Follows, Seen, States},
};

/// A pattern with the hosts that it stands for.
pub(super) struct Matcher<'s> {
    pattern: &'s Pattern,
    hosts: Option<BTreeSet<String>>,
}

impl<'s> Matcher<'s> {
    pub(super) fn new(pattern: &'s Pattern, scenario: &Scenario) -> Self {
        let hosts = pattern.host.as_deref().map(|host| {
            let mut names: BTreeSet<String> = scenario.hosts_called(host).into_iter().collect();
            // The runner's own, such as `net`.
            if names.is_empty() {
                names.insert(host.to_owned());
            }
            names
        });
        Self { pattern, hosts }
    }

    pub(super) fn matches(&self, event: &Event) -> bool {
        let Pattern { host: _, kind, report, state, detail, name, members } = self.pattern;
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(&event.host))
            && kind.as_deref().is_none_or(|kind| kind == event.kind.name())
            && report.as_deref().is_none_or(|report| reports(&event.kind, report))
            && state.as_deref().is_none_or(|state| is_state(&event.kind, state))
            && detail.as_deref().is_none_or(|detail| told(&event.kind).is_some_and(|told| told.contains(detail)))
            && name.as_deref().is_none_or(|name| named(&event.kind) == Some(name))
            && members.as_ref().is_none_or(|members| holds(event, &members.0))
    }
}

fn reports(kind: &EventKind, asked: &str) -> bool {
    match kind {
        EventKind::Endpoint { report, .. } => report == asked,
        EventKind::Retrying { .. } => asked == "retrying",
        _ => false,
    }
}

fn is_state(kind: &EventKind, asked: &str) -> bool {
    match kind {
        EventKind::Endpoint { report, detail } => {
            (report == "state" && detail == asked)
                || (report == asked && matches!(asked, "online" | "offline" | "ended"))
        }
        EventKind::Session { state } => state == asked,
        _ => false,
    }
}

fn told(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::Endpoint { detail, .. } => Some(detail),
        EventKind::Retrying { cause, .. } => Some(cause),
        EventKind::Step { what } => Some(what),
        _ => None,
    }
}

fn named(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::Call { name, .. } | EventKind::CallEnded { name, .. } => Some(name),
        EventKind::Emitted { event, .. } | EventKind::Delivered { event, .. } => Some(event),
        EventKind::Fault { rule, .. } => Some(rule),
        _ => None,
    }
}

fn holds(event: &Event, members: &Value) -> bool {
    let (Some(wanted), Ok(written)) = (members.as_object(), serde_json::to_value(event)) else { return false };
    wanted.iter().all(|(name, value)| written.get(name) == Some(value))
}

/// How an event is told in a failure.
fn shown(pattern: &Pattern) -> String {
    serde_json::to_string(pattern).unwrap_or_default()
}

/// What is wrong with each expectation and each `always`, by the failure's kind; empty if all hold.
pub(super) fn judge(scenario: &Scenario, events: &[Event]) -> Vec<(String, u64, String)> {
    let mut wrong = Vec::new();
    for (place, expect) in (1..).zip(&scenario.expectations) {
        if let Err((at, what)) = one(scenario, expect, events) {
            wrong.push((format!("expect/{place}"), at, what));
        }
    }
    for (place, always) in (1..).zip(&scenario.always) {
        let outcome = match always {
            Always::Never(pattern) => {
                let matcher = Matcher::new(pattern, scenario);
                match events.iter().find(|event| matcher.matches(event)) {
                    Some(event) => Err((event.at, format!("there was {}", shown(pattern)))),
                    None => Ok(()),
                }
            }
            Always::Follows(follows) => follow(scenario, follows, events),
            Always::AtMost(most) => at_most(scenario, most, events),
        };
        if let Err((at, what)) = outcome {
            wrong.push((format!("always/{place}"), at, what));
        }
    }
    wrong
}

type Judged = Result<(), (u64, String)>;

fn end(events: &[Event]) -> u64 {
    events.last().map_or(0, |event| event.at)
}

fn one(scenario: &Scenario, expect: &Expect, events: &[Event]) -> Judged {
    match expect {
        Expect::States(states) => each(scenario, &states.host, |host| in_order(states, host, events)),
        Expect::Seen(seen) => count(scenario, seen, events),
        Expect::Order(patterns) => {
            let matchers: Vec<_> = patterns.iter().map(|pattern| Matcher::new(pattern, scenario)).collect();
            let mut next = 0;
            for event in events {
                if matchers.get(next).is_some_and(|matcher| matcher.matches(event)) {
                    next += 1;
                }
            }
            match patterns.get(next) {
                None => Ok(()),
                Some(missing) => {
                    Err((end(events), format!("number {} of the order is missing: {}", next + 1, shown(missing))))
                }
            }
        }
        Expect::Follows(follows) => follow(scenario, follows, events),
        Expect::Call(call) => ends(scenario, call, events),
        Expect::Final(last) => each(scenario, &last.host, |host| {
            let state = states_of(host, events).pop();
            if state.as_deref() == Some(&last.state) {
                return Ok(());
            }
            Err((end(events), format!("{host} is {} and not {}", state.as_deref().unwrap_or("nowhere"), last.state)))
        }),
    }
}

fn each(scenario: &Scenario, host: &str, look: impl Fn(&str) -> Judged) -> Judged {
    scenario.hosts_called(host).iter().try_for_each(|host| look(host))
}

fn states_of(host: &str, events: &[Event]) -> Vec<String> {
    let state = |event: &Event| match &event.kind {
        EventKind::Endpoint { report, detail } if report == "state" => Some(detail.clone()),
        EventKind::Endpoint { report, .. } if matches!(report.as_str(), "online" | "offline" | "ended") => {
            Some(report.clone())
        }
        _ => None,
    };
    events.iter().filter(|event| event.host == host && event.session.is_none()).filter_map(state).collect()
}

fn in_order(states: &States, host: &str, events: &[Event]) -> Judged {
    let went = states_of(host, events);
    let good = if states.exactly {
        went == states.are
    } else {
        let mut rest = went.iter();
        states.are.iter().all(|wanted| rest.any(|state| state == wanted))
    };
    if good {
        return Ok(());
    }
    Err((end(events), format!("{host} went through {} and not {}", went.join(", "), states.are.join(", "))))
}

fn count(scenario: &Scenario, seen: &Seen, events: &[Event]) -> Judged {
    let matcher = Matcher::new(&seen.event, scenario);
    let at: Vec<u64> = events.iter().filter(|event| matcher.matches(event)).map(|event| event.at).collect();
    let number = at.len() as u64;
    let wrong = |what: String| {
        Err((at.last().copied().unwrap_or_else(|| end(events)), format!("{}: {what}", shown(&seen.event))))
    };
    let least = seen.times.or(seen.least).unwrap_or(if seen.most.is_some() { 0 } else { 1 });
    if number < least {
        return wrong(format!("seen {number} times, at least {least} belong there"));
    }
    if let Some(most) = seen.times.or(seen.most)
        && number > most
    {
        return wrong(format!("seen {number} times, at most {most} belong there"));
    }
    if let (Some(from), Some(first)) = (seen.from, at.first())
        && u128::from(*first) < from.0.as_millis()
    {
        return wrong(format!("seen at {first} ms already, before {from}"));
    }
    if let (Some(by), Some(last)) = (seen.by, at.get((least.max(1) - 1) as usize))
        && u128::from(*last) > by.0.as_millis()
    {
        return wrong(format!("seen at {last} ms only, after {by}"));
    }
    Ok(())
}

fn follow(scenario: &Scenario, follows: &Follows, events: &[Event]) -> Judged {
    let (when, then) = (Matcher::new(&follows.when, scenario), Matcher::new(&follows.then, scenario));
    for (place, event) in events.iter().enumerate().filter(|(_, event)| when.matches(event)) {
        let next = events[place + 1..].iter().find(|later| then.matches(later));
        let what = format!("after {} at {} ms", shown(&follows.when), event.at);
        let Some(next) = next else {
            return Err((event.at, format!("{what} there is no {}", shown(&follows.then))));
        };
        let passed = u128::from(next.at - event.at);
        if follows.within.is_some_and(|within| passed > within.0.as_millis()) {
            return Err((next.at, format!("{what} {} comes after {passed} ms only", shown(&follows.then))));
        }
        if follows.not_before.is_some_and(|least| passed < least.0.as_millis()) {
            return Err((next.at, format!("{what} {} comes after {passed} ms already", shown(&follows.then))));
        }
    }
    Ok(())
}

fn at_most(scenario: &Scenario, most: &AtMost, events: &[Event]) -> Judged {
    let matcher = Matcher::new(&most.event, scenario);
    let at: Vec<u64> = events.iter().filter(|event| matcher.matches(event)).map(|event| event.at).collect();
    let size = usize::try_from(most.times).unwrap_or(usize::MAX).saturating_add(1);
    let near = |window: &&[u64]| {
        most.within.is_none_or(|within| u128::from(window[window.len() - 1] - window[0]) < within.0.as_millis())
    };
    match at.windows(size).find(near) {
        None => Ok(()),
        Some(window) => {
            Err((window[window.len() - 1], format!("{} came more than {} times", shown(&most.event), most.times)))
        }
    }
}

fn ends(scenario: &Scenario, call: &CallEnds, events: &[Event]) -> Judged {
    let hosts = call.host.as_deref().map(|host| scenario.hosts_called(host));
    let ours = |event: &Event| hosts.as_ref().is_none_or(|hosts| hosts.contains(&event.host));
    let mut begun: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ended = 0;
    for event in events.iter().filter(|event| ours(event)) {
        match &event.kind {
            EventKind::Call { call: number, name, .. } if *name == call.name => {
                begun.insert(*number, event.at);
            }
            EventKind::CallEnded { call: number, name, outcome, .. } if *name == call.name => {
                ended += 1;
                let took = u128::from(event.at - begun.get(number).copied().unwrap_or(event.at));
                if !call.ends.iter().any(|one| is_error(one, outcome)) {
                    return Err((
                        event.at,
                        format!("{} ended with {outcome} and not {}", call.name, call.ends.join(" or ")),
                    ));
                }
                if call.within.is_some_and(|within| took > within.0.as_millis()) {
                    return Err((event.at, format!("{} took {took} ms", call.name)));
                }
                if call.not_before.is_some_and(|least| took < least.0.as_millis()) {
                    return Err((event.at, format!("{} took {took} ms only", call.name)));
                }
            }
            _ => {}
        }
    }
    if ended == 0 { Err((end(events), format!("the call {} did not end", call.name))) } else { Ok(()) }
}
