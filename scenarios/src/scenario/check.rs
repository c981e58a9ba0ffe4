//! What holds together in a scenario: names that are known, members that go together. Each error names its member.

use std::{collections::BTreeSet, time::Duration};

use sideband_sim_kit::{
    event::EventKind,
    fault::{
        PathStep,
        PathStep::{Item, Member},
    },
};

use super::{Action, Always, Expect, Host, Kind, Pattern, Scenario, Step, host::MAX_COPIES, parse::Misfit};
use crate::check::NAMES;

/// Most times that a step is repeated.
const MAX_TIMES: u32 = 100_000;
/// Hosts of the runner itself, which events name: the network, and the run.
const RUNNER: [&str; 2] = ["net", "run"];

type Checked = Result<(), Misfit>;

fn wrong<const N: usize>(path: [PathStep; N], message: impl Into<String>) -> Misfit {
    Misfit { path: path.into(), message: message.into() }
}

fn below(outer: &[PathStep], misfit: Misfit) -> Misfit {
    Misfit { path: outer.iter().cloned().chain(misfit.path).collect(), message: misfit.message }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

const NAME: &str = "a name has 1 to 64 lower-case letters, digits and `-`, which is not at an end";

pub(super) fn check(scenario: &Scenario) -> Checked {
    if !is_name(&scenario.name) {
        return Err(wrong([Member("name")], NAME));
    }
    let tick = scenario.tick();
    if !(Duration::from_millis(1)..=Duration::from_millis(100)).contains(&tick)
        || !tick.subsec_nanos().is_multiple_of(1_000_000)
    {
        return Err(wrong([Member("tick")], "a tick is of whole milliseconds, from 1ms to 100ms"));
    }
    hosts(scenario)?;
    if let Some(network) = &scenario.network {
        if let (Some(least), Some(most)) = (network.least, network.most)
            && least > most
        {
            return Err(wrong([Member("network"), Member("most")], "`most` is not less than `least`"));
        }
        for (place, link) in network.link.iter().enumerate() {
            let outer = [Member("network"), Member("link"), Item(place)];
            for (member, host) in [("from", &link.from), ("to", &link.to)] {
                known(scenario, host).map_err(|text| below(&outer, wrong([Member(member)], text)))?;
            }
        }
    }
    if let Some(finish) = &scenario.finish {
        for (place, name) in finish.without.iter().enumerate() {
            if !NAMES.contains(&name.as_str()) {
                let text = format!("there is no invariant `{name}`; there are {}", NAMES.join(", "));
                return Err(wrong([Member("finish"), Member("without"), Item(place)], text));
            }
        }
    }
    for (place, step) in scenario.steps.iter().enumerate() {
        self::step(scenario, step).map_err(|misfit| below(&[Member("step"), Item(place)], misfit))?;
    }
    for (place, expect) in scenario.expectations.iter().enumerate() {
        expectation(scenario, expect).map_err(|misfit| below(&[Member("expect"), Item(place)], misfit))?;
    }
    for (place, always) in scenario.always.iter().enumerate() {
        let outer = [Member("always"), Item(place)];
        let outcome = match always {
            Always::Never(one) => pattern(scenario, one).map_err(|misfit| below(&[Member("never")], misfit)),
            Always::Follows(follows) => self::follows(scenario, follows),
            Always::AtMost(most) => {
                pattern(scenario, &most.event).map_err(|misfit| below(&[Member("atMost"), Member("event")], misfit))
            }
        };
        outcome.map_err(|misfit| below(&outer, misfit))?;
    }
    Ok(())
}

fn known(scenario: &Scenario, host: &str) -> Result<(), String> {
    if !scenario.hosts_called(host).is_empty() {
        return Ok(());
    }
    let names: Vec<_> = scenario.hosts.iter().map(|host| host.name.as_str()).collect();
    Err(format!("there is no host `{host}`; there are {}", names.join(", ")))
}

fn hosts(scenario: &Scenario) -> Checked {
    if scenario.hosts.is_empty() {
        return Err(wrong([Member("host")], "a scenario has at least one `[[host]]`"));
    }
    let mut taken = BTreeSet::new();
    for (place, host) in scenario.hosts.iter().enumerate() {
        let outer = [Member("host"), Item(place)];
        let misfit = |member, text: String| below(&outer, wrong([Member(member)], text));
        if !is_name(&host.name) {
            return Err(misfit("name", NAME.to_owned()));
        }
        if RUNNER.contains(&host.name.as_str()) {
            return Err(misfit("name", format!("`{}` is the runner's own", host.name)));
        }
        if host.count.is_some_and(|count| !(1..=MAX_COPIES).contains(&count)) {
            return Err(misfit("count", format!("a host has 1 to {MAX_COPIES} copies")));
        }
        for name in host.names() {
            if !taken.insert(name.clone()) {
                return Err(misfit("name", format!("another host is called `{name}` already")));
            }
        }
        if let Some(member) = members(host).into_iter().find(|member| !goes_with(host.kind, member)) {
            let kind = host.kind.name();
            return Err(misfit(member, format!("this says nothing of a host of the kind `{kind}`")));
        }
        if let Some(patch) = &host.limits {
            let limits = sideband_sim_kit::limits::RelayLimits::default().patched(patch);
            limits.map_err(|error| misfit("limits", error.to_string()))?;
        }
        let refers: [(&'static str, &Option<String>, fn(Kind) -> bool, &str); 3] = [
            ("api", &host.api, Kind::has_api, "an `api` or `cloud`"),
            ("relay", &host.relay, Kind::has_relay, "a `relay` or `cloud`"),
            ("daemon", &host.daemon, |kind| kind == Kind::Daemon, "a `daemon`"),
        ];
        for (member, named, fits, what) in refers {
            let Some(named) = named else { continue };
            let other = scenario.hosts.iter().find(|other| other.names().contains(named));
            if !other.is_some_and(|other| fits(other.kind)) {
                return Err(misfit(member, format!("`{named}` is no host here that is {what}")));
            }
        }
        let needs = |fits: fn(Kind) -> bool| scenario.hosts.iter().any(|other| fits(other.kind));
        let (api, relay) = (needs(Kind::has_api), needs(Kind::has_relay));
        match host.kind {
            Kind::Api if !relay => {
                return Err(misfit("kind", "an `api` needs a relay, of which there is none".to_owned()));
            }
            Kind::Relay | Kind::Daemon | Kind::Client | Kind::QuickConnect if !api => {
                return Err(misfit("kind", "it needs a control plane: a host of the kind `api` or `cloud`".to_owned()));
            }
            Kind::Daemon if !relay => return Err(misfit("kind", "a daemon needs a relay".to_owned())),
            Kind::Client if !needs(|kind| matches!(kind, Kind::Daemon | Kind::Own)) => {
                return Err(misfit("kind", "a client needs a daemon".to_owned()));
            }
            Kind::Api | Kind::Relay | Kind::Cloud | Kind::Daemon | Kind::Client | Kind::QuickConnect | Kind::Own => {}
        }
    }
    Ok(())
}

/// The members of a host that are there, and not for every kind.
fn members(host: &Host) -> Vec<&'static str> {
    let Host {
        name: _,
        kind: _,
        count: _,
        start: _,
        delay: _,
        stagger: _,
        clock_shift: _,
        api,
        relay,
        daemon,
        region,
        retry,
        timeouts,
        trust,
        pinned,
        on_disconnect,
        buffered_bytes,
        buffered_events,
        waiting_frames,
        resumable,
        max_sessions,
        limits,
        key_overlap,
        concurrent_sessions,
    } = host;
    let there = [
        ("api", api.is_some()),
        ("relay", relay.is_some()),
        ("daemon", daemon.is_some()),
        ("region", region.is_some()),
        ("retry", retry.is_some()),
        ("timeouts", timeouts.is_some()),
        ("trust", trust.is_some()),
        ("pinned", pinned.is_some()),
        ("onDisconnect", on_disconnect.is_some()),
        ("bufferedBytes", buffered_bytes.is_some()),
        ("bufferedEvents", buffered_events.is_some()),
        ("waitingFrames", waiting_frames.is_some()),
        ("resumable", resumable.is_some()),
        ("maxSessions", max_sessions.is_some()),
        ("limits", limits.is_some()),
        ("keyOverlap", key_overlap.is_some()),
        ("concurrentSessions", concurrent_sessions.is_some()),
    ];
    there.into_iter().filter(|(_, there)| *there).map(|(member, _)| member).collect()
}

fn goes_with(kind: Kind, member: &str) -> bool {
    let endpoint = kind.is_client() || kind == Kind::Daemon;
    match member {
        "api" => !kind.has_api(),
        "relay" => matches!(kind, Kind::Api | Kind::Daemon | Kind::Own),
        "daemon" => matches!(kind, Kind::Client | Kind::Own),
        "region" => kind.has_api() || kind.has_relay(),
        "retry" | "timeouts" | "waitingFrames" => endpoint,
        "pinned" => kind == Kind::Client,
        "trust" | "onDisconnect" | "bufferedBytes" | "bufferedEvents" => kind.is_client(),
        "resumable" | "maxSessions" => kind == Kind::Daemon,
        "limits" => kind.has_relay(),
        "keyOverlap" | "concurrentSessions" => kind.has_api(),
        _ => true,
    }
}

fn step(scenario: &Scenario, step: &Step) -> Checked {
    match (&step.at, &step.after) {
        (Some(_), Some(_)) => return Err(wrong([Member("after")], "a step has either `at` or `after`")),
        (None, None) => return Err(wrong([], "a step has `at` or `after`")),
        (Some(_), None) => {}
        (None, Some(after)) => {
            pattern(scenario, &after.event).map_err(|misfit| below(&[Member("after"), Member("event")], misfit))?;
            if after.nth == Some(0) {
                return Err(wrong([Member("after"), Member("nth")], "`nth` counts from 1"));
            }
        }
    }
    if step.times.is_some_and(|times| !(1..=MAX_TIMES).contains(&times)) {
        return Err(wrong([Member("times")], format!("`times` is from 1 to {MAX_TIMES}")));
    }
    if step.every.is_some() != step.times.is_some() {
        let member = if step.every.is_some() { "every" } else { "times" };
        return Err(wrong([Member(member)], "`times` and `every` go together"));
    }
    if step.probability.is_some_and(|probability| !(0.0..=1.0).contains(&probability)) {
        return Err(wrong([Member("probability")], "a probability is from 0 to 1"));
    }
    let kinds = match &step.host {
        None => None,
        Some(host) => {
            known(scenario, host).map_err(|text| wrong([Member("host")], text))?;
            let of = |name: &String| {
                scenario.all_hosts().into_iter().find(|(one, _)| one == name).map(|(_, host)| host.kind)
            };
            scenario.hosts_called(host).first().and_then(of)
        }
    };
    let (what, fits) = who(&step.action);
    match (kinds, fits) {
        (None, Who::Host(..)) => return Err(wrong([], format!("`{what}` is for a host: say which by `host`"))),
        (Some(_), Who::Network) => {
            return Err(wrong([Member("host")], format!("`{what}` is the network's and has no `host`")));
        }
        (Some(kind), Who::Host(fits)) if !fits(kind) => {
            let text = format!("a host of the kind `{}` cannot `{what}`", kind.name());
            return Err(wrong([Member("do")], text));
        }
        (Some(_) | None, Who::Host(_) | Who::Network | Who::Either) => {}
    }
    action(scenario, &step.action).map_err(|misfit| below(&[Member("do")], misfit))
}

enum Who {
    Host(fn(Kind) -> bool),
    Network,
    Either,
}

/// An action's name, and who does it.
fn who(action: &Action) -> (&'static str, Who) {
    let endpoint: fn(Kind) -> bool = |kind| kind.is_client() || matches!(kind, Kind::Daemon | Kind::Own);
    let daemon: fn(Kind) -> bool = |kind| matches!(kind, Kind::Daemon | Kind::Own);
    match action {
        Action::Call(_) => ("call", Who::Host(endpoint)),
        Action::Emit(_) => ("emit", Who::Host(endpoint)),
        Action::Subscribe(_) => ("subscribe", Who::Host(|kind| kind.is_client() || kind == Kind::Own)),
        Action::Broadcast(_) => ("broadcast", Who::Host(daemon)),
        Action::Tick(_) => ("tick", Who::Host(daemon)),
        Action::Close => ("close", Who::Host(|kind| kind != Kind::Api)),
        Action::Start => ("start", Who::Host(|_| true)),
        Action::Restart(_) => ("restart", Who::Host(|_| true)),
        Action::Crash(_) => ("crash", Who::Host(|_| true)),
        Action::Rotate(_) => ("rotate", Who::Host(Kind::has_api)),
        Action::RotateIdentity(_) => ("rotate_identity", Who::Host(|kind| kind == Kind::Daemon)),
        Action::Code(_) => ("code", Who::Host(|kind| kind == Kind::Daemon)),
        Action::Redeem(_) => ("redeem", Who::Host(|kind| kind == Kind::QuickConnect)),
        Action::Drop(_) => ("drop", Who::Host(Kind::has_relay)),
        Action::Limits(_) => ("limits", Who::Host(Kind::has_relay)),
        Action::AddFault(_) => ("add_fault", Who::Either),
        Action::RemoveFault(_) => ("remove_fault", Who::Either),
        Action::Partition(_) => ("partition", Who::Network),
        Action::PartitionOneWay(_) => ("partition_one_way", Who::Network),
        Action::Repair(_) => ("repair", Who::Network),
        Action::Hold(_) => ("hold", Who::Network),
        Action::Release(_) => ("release", Who::Network),
        Action::Latency(_) => ("latency", Who::Network),
        Action::Loss(_) => ("loss", Who::Network),
        Action::Vanish(_) => ("vanish", Who::Host(|_| true)),
        Action::Check(_) => ("check", Who::Host(endpoint)),
        Action::Note(_) => ("note", Who::Either),
    }
}

fn action(scenario: &Scenario, action: &Action) -> Checked {
    let host = |outer: &'static str, member: &'static str, name: &str| {
        known(scenario, name).map_err(|text| wrong([Member(outer), Member(member)], text))
    };
    match action {
        Action::Redeem(code) => {
            let made =
                scenario.steps.iter().any(|step| matches!(&step.action, Action::Code(made) if made.name == *code));
            if made { Ok(()) } else { Err(wrong([Member("redeem")], format!("no step makes the code `{code}`"))) }
        }
        Action::Code(code) if code.name.is_empty() => Err(wrong([Member("code"), Member("name")], "a code has a name")),
        Action::Drop(name) => known(scenario, name).map_err(|text| wrong([Member("drop")], text)),
        Action::Partition(between) => hosts_of("partition", scenario, between),
        Action::Repair(between) => hosts_of("repair", scenario, between),
        Action::Hold(between) => hosts_of("hold", scenario, between),
        Action::Release(between) => hosts_of("release", scenario, between),
        Action::PartitionOneWay(way) => {
            host("partitionOneWay", "from", &way.from)?;
            host("partitionOneWay", "to", &way.to)
        }
        Action::Latency(link) => {
            host("latency", "from", &link.from)?;
            host("latency", "to", &link.to)
        }
        Action::Loss(link) => {
            host("loss", "from", &link.from)?;
            host("loss", "to", &link.to)?;
            if (0.0..1.0).contains(&link.probability) {
                return Ok(());
            }
            let text = "a probability of loss is from 0 to less than 1; for all use `partition`";
            Err(wrong([Member("loss"), Member("probability")], text))
        }
        Action::AddFault(rule) => sideband_sim_kit::fault::FaultRule::try_from((**rule).clone())
            .map(drop)
            .map_err(|error| wrong([Member("addFault")], error.message)),
        _ => Ok(()),
    }
}

fn hosts_of(outer: &'static str, scenario: &Scenario, between: &super::step::Between) -> Checked {
    if between.hosts.is_empty() {
        return Err(wrong([Member(outer), Member("hosts")], "at least one host belongs here"));
    }
    for (member, names) in [("hosts", &between.hosts), ("and", &between.and)] {
        for (place, name) in names.iter().enumerate() {
            known(scenario, name).map_err(|text| wrong([Member(outer), Member(member), Item(place)], text))?;
        }
    }
    Ok(())
}

fn pattern(scenario: &Scenario, pattern: &Pattern) -> Checked {
    if let Some(host) = &pattern.host
        && !RUNNER.contains(&host.as_str())
    {
        known(scenario, host).map_err(|text| wrong([Member("host")], text))?;
    }
    if let Some(kind) = &pattern.kind
        && !EventKind::NAMES.contains(&kind.as_str())
    {
        let text = format!("there is no kind `{kind}`; there are {}", EventKind::NAMES.join(", "));
        return Err(wrong([Member("kind")], text));
    }
    if let Some(members) = &pattern.members
        && !members.0.is_object()
    {
        return Err(wrong([Member("with")], "a table of members belongs here"));
    }
    if *pattern == Pattern::default() {
        return Err(wrong([], "it asks nothing of an event"));
    }
    Ok(())
}

fn follows(scenario: &Scenario, follows: &super::expect::Follows) -> Checked {
    for (member, one) in [("when", &follows.when), ("then", &follows.then)] {
        pattern(scenario, one).map_err(|misfit| below(&[Member("follows"), Member(member)], misfit))?;
    }
    Ok(())
}

fn expectation(scenario: &Scenario, expect: &Expect) -> Checked {
    let host = |outer: &'static str, name: &str| {
        known(scenario, name).map_err(|text| wrong([Member(outer), Member("host")], text))
    };
    match expect {
        Expect::States(states) => host("states", &states.host),
        Expect::Final(last) => host("final", &last.host),
        Expect::Seen(seen) => {
            if seen.times.is_some() && (seen.least.is_some() || seen.most.is_some()) {
                return Err(wrong([Member("seen"), Member("times")], "`times` goes with neither `least` nor `most`"));
            }
            pattern(scenario, &seen.event).map_err(|misfit| below(&[Member("seen"), Member("event")], misfit))
        }
        Expect::Order(patterns) => patterns.iter().enumerate().try_for_each(|(place, one)| {
            pattern(scenario, one).map_err(|misfit| below(&[Member("order"), Item(place)], misfit))
        }),
        Expect::Follows(one) => follows(scenario, one),
        Expect::Call(call) => {
            if let Some(name) = &call.host {
                host("call", name)?;
            }
            if call.ends.is_empty() {
                return Err(wrong(
                    [Member("call"), Member("ends")],
                    "how it may end belongs here: `result`, or errors",
                ));
            }
            if scenario.steps.iter().any(|step| makes(step, &call.name)) {
                return Ok(());
            }
            Err(wrong([Member("call"), Member("name")], format!("no step makes a call `{}`", call.name)))
        }
    }
}

/// Whether a step makes a call of this name.
fn makes(step: &Step, name: &str) -> bool {
    let Action::Call(call) = &step.action else { return false };
    let pattern = call.name.as_ref().unwrap_or(&call.method);
    match pattern.split_once("{n}") {
        None => pattern == name,
        Some((before, after)) => {
            let number = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            number
                .and_then(|number| number.parse().ok())
                .is_some_and(|n: u32| (1..=step.times.unwrap_or(1)).contains(&n))
        }
    }
}
