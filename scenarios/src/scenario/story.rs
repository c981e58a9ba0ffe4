//! A scenario as a story: who is there, what happens when, what must come of it.

use std::fmt::Write;

use sideband_sim_kit::fault::{Format, snake, wire::RuleText};

use super::{
    Action, Always, Expect, Host, Kind, Pattern, Scenario, Step,
    host::Start,
    step::{Between, Emit},
};

impl Scenario {
    /// The scenario as people read it.
    pub fn story(&self) -> String {
        let mut out = format!("{}\n", self.name);
        if !self.about.is_empty() {
            out.push_str(&format!("  {}\n", self.about));
        }
        section(&mut out, "Who is there", self.hosts.iter().map(host));
        section(&mut out, "What happens", self.steps.iter().map(step));
        section(&mut out, "What goes wrong", self.faults.iter().enumerate().map(|(place, rule)| fault(place, rule)));
        section(&mut out, "What must come of it", self.expectations.iter().map(expect));
        section(&mut out, "What must always be so", self.always.iter().map(always));
        let without = self.finish.as_ref().map(|finish| finish.without.clone()).unwrap_or_default();
        section(&mut out, "What is not looked at", without.into_iter());
        out
    }
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n{title}");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

fn filler(emit: &Emit) -> String {
    emit.bytes.map_or_else(String::new, |bytes| format!(" with {bytes} bytes"))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn host(host: &Host) -> String {
    let what = match host.kind {
        Kind::Api => "a control plane",
        Kind::Relay => "a relay",
        Kind::Cloud => "a relay and control plane",
        Kind::Daemon => "a daemon",
        Kind::Client => "an account's client",
        Kind::QuickConnect => "a client by a Quick Connect code",
        Kind::Own => "code of its own",
    };
    let mut line = match host.count {
        None => format!("{}: {what}", host.name),
        Some(count) => format!("{}-1 to {0}-{count}: {what} each", host.name),
    };
    if let Some(delay) = host.delay {
        line.push_str(&format!(", from {delay} on"));
    }
    if let Some(stagger) = host.stagger {
        line.push_str(&format!(", {stagger} after each other"));
    }
    if host.start == Some(Start::Manual) {
        line.push_str(", once it is started");
    }
    // What else is chosen, as it is written.
    let mut rest = serde_json::to_value(host).unwrap_or_default();
    if let Some(members) = rest.as_object_mut() {
        for told in ["name", "kind", "count", "delay", "stagger", "start"] {
            members.remove(told);
        }
        told(&mut line, std::mem::take(members));
    }
    line
}

/// Members as a file has them.
fn told(line: &mut String, members: serde_json::Map<String, serde_json::Value>) {
    for (name, value) in members {
        let name = Format::Toml.member(&name);
        match value {
            serde_json::Value::String(text) => line.push_str(&format!(", {name} {text}")),
            other => line.push_str(&format!(", {name} {}", snake(other, &[]))),
        }
    }
}

fn times(times: u64) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

fn step(step: &Step) -> String {
    let when = match (&step.at, &step.after) {
        (Some(at), _) => format!("at {at}"),
        (None, Some(after)) => {
            let nth = match after.nth {
                None | Some(1) => String::new(),
                Some(n) => format!(" for the {n}. time"),
            };
            let plus = after.plus.map(|plus| format!("{plus} ")).unwrap_or_default();
            format!("{plus}after {}{nth}", pattern(&after.event))
        }
        (None, None) => "at once".to_owned(),
    };
    let who = step.host.as_ref().map(|host| format!("{host} ")).unwrap_or_default();
    let often = match (step.times, step.every) {
        (Some(times), Some(every)) => format!(", {times} times, every {every}"),
        _ => String::new(),
    };
    let spread = step.spread.map(|most| format!(", up to {most} later")).unwrap_or_default();
    let perhaps = step.probability.map(|one| format!(", with probability {one}")).unwrap_or_default();
    format!("{when}: {who}{}{often}{spread}{perhaps}", action(&step.action))
}

fn action(action: &Action) -> String {
    let lasting =
        |lasts: Option<sideband_sim_kit::fault::Time>| lasts.map(|time| format!(" for {time}")).unwrap_or_default();
    match action {
        Action::Call(call) => {
            let params = call.params.as_ref().map(|params| format!(" with {}", params.0)).unwrap_or_default();
            let name = call.name.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
            let mut ends: Vec<String> = call.result.iter().map(|result| result.0.to_string()).collect();
            ends.extend(call.errors.iter().cloned());
            let ends = if ends.is_empty() { String::new() } else { format!(", which gives {}", ends.join(" or ")) };
            format!("calls {}{params}{name}{ends}", call.method)
        }
        Action::Emit(emit) => format!("sends the event {}{}", emit.event, filler(emit)),
        Action::Subscribe(pattern) => format!("subscribes to {pattern}"),
        Action::Broadcast(emit) => format!("sends the event {} to all{}", emit.event, filler(emit)),
        Action::Tick(tick) => {
            format!("sends {} {} times, every {}", tick.event.as_deref().unwrap_or("tick"), tick.times, tick.every)
        }
        Action::Close => "closes".to_owned(),
        Action::Start => "starts".to_owned(),
        Action::Restart(down) => format!("restarts{}", gone(down)),
        Action::Crash(down) => format!("crashes{}", gone(down)),
        Action::Rotate(rotate) if rotate.hard => "rotates its keys, and the old ones are gone".to_owned(),
        Action::Rotate(_) => "rotates its keys".to_owned(),
        Action::RotateIdentity(down) => format!("begins anew with another identity{}", gone(down)),
        Action::Code(code) => format!("makes the Quick Connect code {}", code.name),
        Action::Redeem(code) => format!("redeems the code {code}"),
        Action::Drop(host) => format!("cuts the socket of {host}"),
        Action::Limits(patch) => format!("has the limits {}", json(patch)),
        Action::AddFault(rule) => format!("gets the fault: {}", fault(0, rule)),
        Action::RemoveFault(id) => format!("loses the fault {id}"),
        Action::Partition(between) => format!("nothing passes between {}", links(between)),
        Action::PartitionOneWay(way) => format!("nothing passes from {} to {}{}", way.from, way.to, lasting(way.lasts)),
        Action::Repair(between) => format!("all passes again between {}", links(between)),
        Action::Hold(between) => format!("all waits between {}", links(between)),
        Action::Release(between) => format!("what waited is delivered between {}", links(between)),
        Action::Latency(link) => {
            format!("{} – {} takes {} to {}", link.from, link.to, link.least, link.most.unwrap_or(link.least))
        }
        Action::Loss(link) => format!("{} – {} loses {} of all segments", link.from, link.to, link.probability),
        Action::Vanish(vanish) => format!("vanishes{}, and nobody is told", lasting(vanish.lasts)),
        Action::Check(is) => format!("is {}", is.state),
        Action::Note(what) => format!("“{what}”"),
    }
}

fn gone(down: &super::step::Down) -> String {
    let mut text = match (down.stay_down, down.down) {
        (true, _) => ", and stays away".to_owned(),
        (false, Some(time)) => format!(", and is away for {time}"),
        (false, None) => String::new(),
    };
    if down.lose_state {
        text.push_str(", with its state lost");
    }
    text
}

fn links(between: &Between) -> String {
    let others = if between.and.is_empty() { "all others".to_owned() } else { between.and.join(", ") };
    let lasting = between.lasts.map(|time| format!(" for {time}")).unwrap_or_default();
    format!("{} and {others}{lasting}", between.hosts.join(", "))
}

fn fault(place: usize, rule: &RuleText) -> String {
    let mut members = serde_json::to_value(rule).unwrap_or_default();
    let id = rule.id.as_ref().map_or_else(|| format!("rule-{}", place + 1), ToString::to_string);
    let done = match members.get("do").cloned().unwrap_or_default() {
        serde_json::Value::String(text) => text,
        other => snake(other, &[]).to_string(),
    };
    let mut line = format!("{id}: {done} at {}", rule.on);
    if let Some(members) = members.as_object_mut() {
        for told in ["id", "on", "do"] {
            members.remove(told);
        }
        told(&mut line, std::mem::take(members));
    }
    line
}

fn pattern(pattern: &Pattern) -> String {
    let Pattern { host, kind, report, state, detail, name, members } = pattern;
    let mut words: Vec<String> = host.iter().cloned().collect();
    words.extend(state.iter().map(|state| format!("is {state}")));
    words.extend(report.iter().map(|report| format!("reports {report}")));
    words.extend(kind.iter().cloned());
    words.extend(name.iter().cloned());
    words.extend(detail.iter().map(|detail| format!("“{detail}”")));
    words.extend(members.iter().map(|members| members.0.to_string()));
    words.join(" ")
}

fn expect(expect: &Expect) -> String {
    match expect {
        Expect::States(states) => {
            let exactly = if states.exactly { "exactly" } else { "among others" };
            format!("{} goes through {} ({exactly})", states.host, states.are.join(" → "))
        }
        Expect::Seen(seen) => {
            let mut line = pattern(&seen.event);
            line.push_str(&match (seen.times, seen.least, seen.most) {
                (Some(0), ..) | (None, None, Some(0)) => ": never".to_owned(),
                (Some(n), ..) => format!(": {}", times(n)),
                (None, Some(least), Some(most)) => format!(": {least} to {most} times"),
                (None, Some(least), None) => format!(": at least {}", times(least)),
                (None, None, Some(most)) => format!(": at most {}", times(most)),
                (None, None, None) => ": at least once".to_owned(),
            });
            line.extend(seen.from.map(|from| format!(", not before {from}")));
            line.extend(seen.by.map(|by| format!(", by {by}")));
            line
        }
        Expect::Order(patterns) => {
            let order: Vec<_> = patterns.iter().map(pattern).collect();
            format!("in this order: {}", order.join(" → "))
        }
        Expect::Follows(follows) => following(follows),
        Expect::Call(call) => {
            let mut line = format!("the call {} ends with {}", call.name, call.ends.join(" or "));
            line.extend(call.within.map(|within| format!(", within {within}")));
            line.extend(call.not_before.map(|least| format!(", not before {least}")));
            line
        }
        Expect::Final(last) => format!("{} is {} in the end", last.host, last.state),
    }
}

fn following(follows: &super::expect::Follows) -> String {
    let mut line = format!("each {} is followed by {}", pattern(&follows.when), pattern(&follows.then));
    line.extend(follows.within.map(|within| format!(" within {within}")));
    line.extend(follows.not_before.map(|least| format!(", not before {least}")));
    line
}

fn always(always: &Always) -> String {
    match always {
        Always::Never(one) => format!("never {}", pattern(one)),
        Always::Follows(follows) => following(follows),
        Always::AtMost(most) => {
            let within = most.within.map(|within| format!(" in any {within}")).unwrap_or_default();
            format!("at most {}{within}: {}", times(most.times), pattern(&most.event))
        }
    }
}
