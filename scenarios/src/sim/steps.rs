//! What a run does: its steps, and hosts that go and come back.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use serde_json::Value;
use sideband_env::{EntropySource, SeededEntropy};
use sideband_sim_kit::fault::{FaultRule, Place, Written};

use super::{
    cell::{Cell, Live, lock},
    control::{Control, Due},
    phases::ENDING,
};
use crate::scenario::{
    Action,
    step::{Between, Down},
};

impl Control<'_> {
    pub(super) fn fire(&mut self, due: Due) {
        match due {
            Due::Start(name) => self.start(&name),
            Due::Appear(name) => {
                self.common.note("net", format!("{name} is back"));
                self.common.wire.appear(&name);
            }
            Due::Unblock(pairs) => {
                self.common.note("net", format!("open again: {}", arrows(&pairs)));
                for (from, to) in pairs {
                    self.common.wire.unblock(&from, &to);
                }
            }
            Due::Step(place, n) => {
                let step = &self.scenario.steps[place];
                self.last_step = self.now();
                if n < step.times.unwrap_or(1) {
                    let every = step.every.map_or(0, |time| time.0.as_millis() as u64);
                    self.due(self.now() + every, Due::Step(place, n + 1));
                }
                match self.drawn(place, n) {
                    None => {}
                    Some(0) => self.fire(Due::Act(place, n)),
                    Some(later) => self.due(self.now() + later, Due::Act(place, n)),
                }
            }
            Due::Act(place, n) => {
                let step = &self.scenario.steps[place];
                self.last_step = self.now();
                let action = numbered(&step.action, n);
                let hosts = match &step.host {
                    Some(host) => self.scenario.hosts_called(host),
                    None => vec![String::new()],
                };
                for host in hosts {
                    self.act(&host, &action);
                }
            }
        }
    }

    /// How many milliseconds later a step is done, if it is. Each draw is its own: it follows from the seed, the step and the number.
    fn drawn(&self, place: usize, n: u32) -> Option<u64> {
        let step = &self.scenario.steps[place];
        if step.probability.is_none() && step.spread.is_none() {
            return Some(0);
        }
        let mut draws = SeededEntropy::new(self.common.seed, &format!("step {place} {n}")).entropy();
        let mut draw = || {
            let mut bytes = [0; 8];
            draws.fill(&mut bytes);
            (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
        };
        let (whether, when) = (draw(), draw());
        if step.probability.is_some_and(|probability| whether >= probability) {
            return None;
        }
        Some(step.spread.map_or(0, |most| (most.0.as_millis() as f64 * when) as u64))
    }

    pub(super) fn start(&mut self, name: &str) {
        if let Some(cell) = self.common.cell(name)
            && !cell.is_up()
        {
            self.common.note(name, "starts");
            cell.start();
        }
    }

    fn act(&mut self, host: &str, action: &Action) {
        let common = self.common.clone();
        let cell = common.cell(host).cloned();
        match action {
            Action::Partition(between) => self.block(between, "nothing passes"),
            Action::Hold(between) => self.block(between, "held"),
            Action::Repair(between) | Action::Release(between) => {
                let pairs = self.pairs(between);
                common.note("net", format!("open again: {}", arrows(&pairs)));
                for (from, to) in pairs {
                    common.wire.open(&from, &to);
                }
            }
            Action::PartitionOneWay(way) => {
                let mut pairs = Vec::new();
                for from in self.scenario.hosts_called(&way.from) {
                    for to in self.scenario.hosts_called(&way.to) {
                        pairs.push((from.clone(), to));
                    }
                }
                common.note("net", format!("nothing passes: {}", arrows(&pairs)));
                pairs.iter().for_each(|(from, to)| common.wire.block(from, to));
                if let Some(lasts) = way.lasts {
                    self.due(self.now() + lasts.0.as_millis() as u64, Due::Unblock(pairs));
                }
            }
            Action::Latency(link) => {
                let most = link.most.unwrap_or(link.least);
                common.note("net", format!("{} – {}: {} to {most}", link.from, link.to, link.least));
                for from in self.scenario.hosts_called(&link.from) {
                    for to in self.scenario.hosts_called(&link.to) {
                        self.sim.set_link_latency(from.as_str(), to.as_str(), link.least.0);
                        let most = most.0.max(link.least.0);
                        self.sim.set_link_max_message_latency(from.as_str(), to.as_str(), most);
                    }
                }
            }
            Action::Loss(link) => {
                common.note("net", format!("{} – {}: loss {}", link.from, link.to, link.probability));
                for from in self.scenario.hosts_called(&link.from) {
                    for to in self.scenario.hosts_called(&link.to) {
                        common.wire.lose(&from, &to, link.probability);
                        common.wire.lose(&to, &from, link.probability);
                    }
                }
            }
            Action::Note(what) => common.note(if host.is_empty() { "run" } else { host }, what.clone()),
            Action::AddFault(rule) if rule.on == Place::Net => {
                let outcome = FaultRule::try_from((**rule).clone()).map_err(|error| error.message);
                if let Err(problem) = outcome.and_then(|rule| common.wire.add_fault(rule)) {
                    self.fail("step", problem);
                }
            }
            Action::AddFault(_) | Action::RemoveFault(_) if host.is_empty() => {
                if let Action::RemoveFault(id) = action {
                    common.wire.remove_fault(id);
                }
                for cell in common.cells.values().filter(|cell| cell.spec.kind.has_api() || cell.spec.kind.has_relay())
                {
                    let here = match action {
                        Action::AddFault(rule) => match rule.on {
                            Place::ApiRequest | Place::Keys => cell.spec.kind.has_api(),
                            Place::RelayUpgrade | Place::RelayFrame | Place::RelayConnection => {
                                cell.spec.kind.has_relay()
                            }
                            Place::Net => false,
                        },
                        _ => true,
                    };
                    if here {
                        cell.tell(Some(action.clone()));
                    }
                }
            }
            Action::Vanish(vanish) => {
                common.note("net", format!("{host} vanishes"));
                common.wire.vanish(host);
                if let Some(lasts) = vanish.lasts {
                    self.due(self.now() + lasts.0.as_millis() as u64, Due::Appear(host.to_owned()));
                }
            }
            Action::Start => self.start(host),
            Action::Redeem(code) => {
                if let Some(cell) = cell {
                    *lock(&cell.code) = Some(code.clone());
                    self.start(host);
                }
            }
            Action::Crash(down) => self.crash(host, down, "crashes"),
            Action::Restart(down) => {
                if let Some(cell) = cell {
                    common.note(host, "restarts");
                    cell.tell(None);
                    let deadline = self.now() + ENDING.as_millis() as u64;
                    self.restarting.push((host.to_owned(), down.clone(), deadline));
                }
            }
            Action::RotateIdentity(down) => {
                if let Some(cell) = cell {
                    lock(&cell.disk).identity += 1;
                    self.crash(host, down, "restarts with another identity");
                }
            }
            Action::Check(is) => {
                let state = cell.map(|cell| cell.state()).unwrap_or_default();
                if state != is.state {
                    self.fail(format!("check/{host}"), format!("{host} is {state} and not {}", is.state));
                }
            }
            Action::Close
            | Action::Rotate(_)
            | Action::Limits(_)
            | Action::Drop(_)
            | Action::AddFault(_)
            | Action::RemoveFault(_)
            | Action::Code(_) => {
                common.note(host, said(action));
                if let Some(cell) = cell {
                    cell.tell(Some(action.clone()));
                }
            }
            Action::Call(_) | Action::Emit(_) | Action::Subscribe(_) | Action::Broadcast(_) | Action::Tick(_) => {
                if let Some(cell) = cell {
                    cell.tell(Some(action.clone()));
                }
            }
        }
    }

    fn pairs(&self, between: &Between) -> Vec<(String, String)> {
        let some: BTreeSet<String> = between.hosts.iter().flat_map(|host| self.scenario.hosts_called(host)).collect();
        let others: BTreeSet<String> = if between.and.is_empty() {
            self.common.cells.keys().filter(|name| !some.contains(*name)).cloned().collect()
        } else {
            between.and.iter().flat_map(|host| self.scenario.hosts_called(host)).collect()
        };
        let mut pairs = Vec::new();
        for from in &some {
            for to in others.iter().filter(|to| *to != from) {
                pairs.push((from.clone(), to.clone()));
                pairs.push((to.clone(), from.clone()));
            }
        }
        pairs
    }

    fn block(&mut self, between: &Between, what: &str) {
        let pairs = self.pairs(between);
        self.common.note("net", format!("{what}: {}", arrows(&pairs)));
        pairs.iter().for_each(|(from, to)| self.common.wire.block(from, to));
        if let Some(lasts) = between.lasts {
            self.due(self.now() + lasts.0.as_millis() as u64, Due::Unblock(pairs));
        }
    }

    /// A host's process is gone at once.
    fn crash(&mut self, host: &str, down: &Down, what: &str) {
        let Some(cell) = self.common.cell(host).cloned() else { return };
        self.common
            .note(host, if down.lose_state { format!("{what}, and has lost its state") } else { what.to_owned() });
        self.take_down(&cell, down.lose_state);
        if !down.stay_down {
            let pause = down.down.map_or(0, |time| time.0.as_millis() as u64);
            self.due(self.now() + pause.max(1), Due::Start(host.to_owned()));
        }
    }

    fn take_down(&mut self, cell: &Arc<Cell>, lose_state: bool) {
        let live = cell.live();
        if let Some(faults) = &live.faults {
            let mut fired = lock(&cell.fired);
            for report in faults.list() {
                let entry = fired.entry(report.id.to_string()).or_default();
                entry.0 += report.seen;
                entry.1 += report.fired;
            }
        }
        drop(live);
        cell.up.store(false, Ordering::SeqCst);
        cell.set_live(Live::default());
        cell.forget_commands();
        cell.incarnation.fetch_add(1, Ordering::SeqCst);
        String::from("down").clone_into(&mut lock(&cell.state));
        if lose_state {
            let mut disk = lock(&cell.disk);
            (disk.store, disk.pins) = (None, None);
            disk.identity += 1;
        }
        self.common.wire.dies(&cell.name);
        self.sim.bounce(cell.name.as_str());
        self.open_calls.retain(|_, host| *host != cell.name);
        self.listen();
        for invariant in &mut self.invariants {
            invariant.gone(&cell.name);
        }
    }

    pub(super) fn restart_those_that_ended(&mut self, now: u64) {
        if self.restarting.is_empty() {
            return;
        }
        let common = self.common.clone();
        let ended = |(host, _, deadline): &(String, Down, u64)| {
            *deadline <= now || common.cell(host).is_some_and(|cell| cell.stopped.load(Ordering::SeqCst))
        };
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.restarting).into_iter().partition(ended);
        self.restarting = rest;
        for (host, down, _) in done {
            self.crash(&host, &down, "has ended");
        }
    }
}

fn arrows(pairs: &[(String, String)]) -> String {
    const MOST: usize = 6;
    let both = |pair: &&(String, String)| !pairs.contains(&(pair.1.clone(), pair.0.clone())) || pair.0 < pair.1;
    let mut told: Vec<String> = Vec::new();
    for pair in pairs.iter().filter(both) {
        let arrow = if pairs.contains(&(pair.1.clone(), pair.0.clone())) { "–" } else { "→" };
        told.push(format!("{} {arrow} {}", pair.0, pair.1));
    }
    let more = told.len().saturating_sub(MOST);
    told.truncate(MOST);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told.join(", ")
}

fn said(action: &Action) -> String {
    match action {
        Action::Close => "closes".to_owned(),
        Action::Rotate(rotate) => if rotate.hard { "rotates its keys, hard" } else { "rotates its keys" }.to_owned(),
        Action::Limits(_) => "has other limits".to_owned(),
        Action::Drop(host) => format!("drops the socket of {host}"),
        Action::AddFault(rule) => {
            format!("gets the fault {}", rule.id.as_ref().map_or_else(|| rule.on.to_string(), ToString::to_string))
        }
        Action::RemoveFault(id) => format!("loses the fault {id}"),
        Action::Code(code) => format!("makes the code {}", code.name),
        other => format!("{other:?}"),
    }
}

/// The action with `{n}` filled in.
fn numbered(action: &Action, n: u32) -> Action {
    let text = |text: &str| text.replace("{n}", &n.to_string());
    fn fill(value: &Value, n: u32) -> Value {
        match value {
            Value::String(text) if text == "{n}" => n.into(),
            Value::String(text) => text.replace("{n}", &n.to_string()).into(),
            Value::Array(items) => items.iter().map(|item| fill(item, n)).collect(),
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), fill(value, n))).collect(),
            other => other.clone(),
        }
    }
    let written = |value: &Option<Written>| value.as_ref().map(|value| Written(fill(&value.0, n)));
    match action {
        Action::Call(call) => {
            let mut call = call.clone();
            call.name = call.name.as_deref().map(text);
            call.params = written(&call.params);
            call.result = written(&call.result);
            Action::Call(call)
        }
        Action::Emit(emit) | Action::Broadcast(emit) => {
            let mut filled = emit.clone();
            filled.event = text(&emit.event);
            filled.data = written(&emit.data);
            if matches!(action, Action::Emit(_)) { Action::Emit(filled) } else { Action::Broadcast(filled) }
        }
        other => other.clone(),
    }
}
