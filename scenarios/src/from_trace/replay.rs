//! From a recording to a scenario.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use sideband_sim_kit::fault::{
    FaultPlan, FaultRule, Place, RuleId, Time, Written,
    wire::{ActionMembers, ActionText, ControlText, Flag, RotateText, RuleText},
};

use super::{FieldAct, FieldCloser, FieldConnection, FieldFault, FieldRecording};
use crate::scenario::{
    Action, Host, Kind, Scenario, ScenarioError, Step,
    step::{Call, Code, Down, Rotate},
};

/// Most calls that a scenario gets; the first ones are taken.
pub const MAX_CALLS: usize = 2_000;
/// Most faults that a scenario gets, once those in a row are one rule.
pub const MAX_FAULTS: usize = 500;
/// Most daemons and clients.
pub const MAX_HOSTS: usize = 200;

/// How long before its WebSocket opened a host begins, in milliseconds: a token has to be fetched first.
const LEAD: u64 = 100;
/// How long the run goes on behind the recording, in milliseconds.
const TAIL: u64 = 60_000;
/// How much later than in the field endpoints close, in milliseconds: latencies are others, and the last answers are to arrive.
const LAST_ANSWERS: u64 = 500;
/// Calls that took longer than this, in milliseconds, wait at the daemon.
const SLOW: u64 = 500;
/// Bytes of a frame that are no params: headers, nonce, tag, envelope.
const AROUND: usize = 130;
/// What an action took whose value the trace does not tell, in milliseconds.
const UNKNOWN_TIME: u64 = 30_000;

/// A recording of which no scenario can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// Nobody connected.
    #[error("nobody connected in this trace: there is nothing to replay")]
    Empty,
    /// More hosts than [`MAX_HOSTS`].
    #[error("{0} daemons and clients are more than {MAX_HOSTS}; cut out a part of the trace")]
    TooManyHosts(usize),
    /// What was made does not hold together.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// A scenario that replays a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The scenario.
    pub scenario: Scenario,
    /// What the trace does not tell and was guessed or left out, for people; each once.
    pub guesses: Vec<String>,
}

impl FieldRecording {
    /// Makes a scenario of it: the same faults at the same events, the same times, and the SDK in everybody's place.
    ///
    /// A trace names rules and what they did, not their values. With the plan that ran, a rule does what the plan says; without
    /// it, what its consequences show.
    ///
    /// # Errors
    /// There is nothing to replay, or too much.
    pub fn to_scenario(&self, name: &str, plan: Option<&FaultPlan>) -> Result<Replay, FieldError> {
        let hosts = self.daemons.len() + self.clients.len();
        match hosts {
            0 => return Err(FieldError::Empty),
            1..=MAX_HOSTS => {}
            _ => return Err(FieldError::TooManyHosts(hosts)),
        }
        let mut maker = Maker { recording: self, plan, scenario: Scenario::new(name), guesses: Vec::new() };
        maker.scenario.about = "Replays a trace from the field.".to_owned();
        maker.scenario.duration = Some(time(self.length + TAIL));
        maker.scenario.hosts.push(Host::new(CLOUD, Kind::Cloud));
        maker.daemons();
        maker.clients();
        maker.steps();
        maker.faults();
        let Maker { mut scenario, guesses, .. } = maker;
        scenario.steps.sort_by_key(|step| step.at.map(|at| at.0));
        scenario.check()?;
        Ok(Replay { scenario, guesses })
    }
}

const CLOUD: &str = "cloud";

fn time(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn daemon_name(place: usize) -> String {
    format!("daemon-{}", place + 1)
}

fn client_name(place: usize) -> String {
    format!("client-{}", place + 1)
}

struct Maker<'r> {
    recording: &'r FieldRecording,
    plan: Option<&'r FaultPlan>,
    scenario: Scenario,
    guesses: Vec<String>,
}

impl Maker<'_> {
    fn guess(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.guesses.contains(&text) {
            self.guesses.push(text);
        }
    }

    fn step(&mut self, at: u64, host: &str, action: Action) {
        let host = Some(host.to_owned());
        let step = Step {
            at: Some(time(at)),
            after: None,
            host,
            times: None,
            every: None,
            spread: None,
            probability: None,
            action,
        };
        self.scenario.steps.push(step);
    }

    fn begin(host: &mut Host, connections: &[FieldConnection]) {
        let opened = connections.first().map_or(0, |first| first.opened).saturating_sub(LEAD);
        host.delay = (opened > 0).then(|| time(opened));
    }

    /// Whoever closed by itself and did not come back, closes.
    fn end(&mut self, host: &str, connections: &[FieldConnection]) {
        let end = connections.last().and_then(|last| last.ended.as_ref());
        if let Some(end) = end.filter(|end| end.by == FieldCloser::Peer) {
            self.step(end.at + LAST_ANSWERS, host, Action::Close);
        }
    }

    fn daemons(&mut self) {
        for (place, daemon) in self.recording.daemons.iter().enumerate() {
            let mut host = Host::new(daemon_name(place), Kind::Daemon);
            host.resumable = (!daemon.resumable && !daemon.connections.is_empty()).then_some(false);
            Self::begin(&mut host, &daemon.connections);
            self.end(&host.name, &daemon.connections);
            self.scenario.hosts.push(host);
        }
    }

    fn clients(&mut self) {
        let mut calls = 0;
        for (place, client) in self.recording.clients.iter().enumerate() {
            let name = client_name(place);
            let kind = if client.quick_connect { Kind::QuickConnect } else { Kind::Client };
            let mut host = Host::new(&name, kind);
            host.daemon = Some(daemon_name(client.daemon));
            let opened = client.connections.first().map_or(0, |first| first.opened);
            if client.quick_connect {
                let (code, at) = (format!("code-{}", place + 1), opened.saturating_sub(LEAD));
                let made = Code { name: code.clone(), ttl: None };
                self.step(at.saturating_sub(2 * LEAD), &daemon_name(client.daemon), Action::Code(made));
                self.step(at, &name, Action::Redeem(code));
            } else {
                Self::begin(&mut host, &client.connections);
            }
            for call in &client.calls {
                calls += 1;
                if calls > MAX_CALLS {
                    self.guess(format!("calls behind the first {MAX_CALLS} are left out"));
                    break;
                }
                let slow = call.answered_after.filter(|after| *after >= SLOW);
                let (method, params) = match slow {
                    Some(after) => ("sleep", json!({ "ms": after })),
                    None => ("echo", json!({ "text": "x".repeat(call.bytes.saturating_sub(AROUND)) })),
                };
                let call_step = Call {
                    method: method.to_owned(),
                    name: None,
                    params: Some(Written(params)),
                    timeout: None,
                    total: None,
                    result: None,
                    // The field's calls ended as they did; the trace does not say how.
                    errors: vec!["any".to_owned()],
                };
                self.step(call.at, &name, Action::Call(call_step));
            }
            self.end(&name, &client.connections);
            self.scenario.hosts.push(host);
        }
        if self.recording.frames {
            self.guess("every Data from a client but its introduction is taken for a call: `echo`, or `sleep` if its answer was slow");
        } else {
            self.guess("frames are not in this trace, so there are no calls");
        }
    }

    fn steps(&mut self) {
        for step in &self.recording.steps {
            let action = match &step.what {
                FieldAct::DropDaemon { daemon } => Action::Drop(daemon_name(*daemon)),
                FieldAct::DropClient { client } => Action::Drop(client_name(*client)),
                FieldAct::Rotate { hard } => Action::Rotate(Rotate { hard: *hard, overlap: None }),
                FieldAct::Restart { down } => {
                    Action::Restart(Down { down: (*down > 0).then(|| time(*down)), ..Down::default() })
                }
                FieldAct::Limits => {
                    self.guess("the limits were changed; the trace does not say how, so they stay");
                    continue;
                }
                FieldAct::Reset => {
                    self.guess("a reset is replayed as a restart of the cloud");
                    Action::Restart(Down::default())
                }
            };
            self.step(step.at, CLOUD, action);
        }
    }

    /// A rule for each firing; those of one rule that hit events in a row are one.
    fn faults(&mut self) {
        let mut rules: Vec<RuleText> = Vec::new();
        // The rule to which the next firing in a row would belong.
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for fault in &self.recording.faults {
            let Some(mut rule) = self.rule(fault) else { continue };
            if let Some(before) = last.get(fault.rule.as_str()).and_then(|place| rules.get_mut(*place))
                && goes_on(before, &rule)
            {
                before.times = before.times.map(|times| times + 1);
                continue;
            }
            if rules.len() == MAX_FAULTS {
                self.guess(format!("faults behind the first {MAX_FAULTS} are left out"));
                break;
            }
            rule.id = RuleId::new(&format!("{}-{}", fault.rule, fault.number)).ok();
            last.insert(&fault.rule, rules.len());
            rules.push(rule);
        }
        self.scenario.faults = rules;
    }

    fn rule(&mut self, fault: &FieldFault) -> Option<RuleText> {
        let place = Place::ALL.into_iter().find(|place| place.name() == fault.on);
        let Some(place) = place.filter(|place| *place != Place::Net) else {
            self.guess(format!("a fault at `{}` cannot be replayed", fault.on));
            return None;
        };
        let known = self.plan.and_then(|plan| planned(plan, &fault.rule));
        let action = match known {
            Some(rule) => RuleText::from(rule.clone()).action,
            None => ActionText(self.action(fault)?),
        };
        let written = json!({ "on": place.name(), "times": 1, "do": action });
        let mut rule: RuleText = serde_json::from_value(written).ok()?;
        let filters = place.filters();
        rule.procedure = fault.procedure.clone().filter(|_| filters.contains(&"procedure"));
        rule.role = fault.role.filter(|_| filters.contains(&"role"));
        rule.frame = fault.frame.clone().filter(|_| filters.contains(&"frame"));
        rule.direction = fault.direction.filter(|_| filters.contains(&"direction"));
        rule.age = fault.age.filter(|age| *age > 0 && filters.contains(&"age")).map(time);
        match fault.count {
            Some(count) => rule.skip = (count > 0).then_some(count),
            None => rule.from = (fault.at > 0).then(|| time(fault.at)),
        }
        if FaultRule::try_from(rule.clone()).is_err() {
            self.guess(format!(
                "rule `{}` does `{}`, which is nothing at `{}`: left out",
                fault.rule, fault.action, fault.on
            ));
            return None;
        }
        Some(rule)
    }

    /// The action with its value, by its consequences.
    fn action(&mut self, fault: &FieldFault) -> Option<ActionMembers> {
        let mut members = ActionMembers::default();
        let waited = fault.retry_after.map(|after| Time(Duration::from_secs(after.div_ceil(1_000))));
        let unknown = |maker: &mut Self, what: &str| {
            maker.guess(format!("the trace does not tell {what} of rule `{}`; give the plan that ran", fault.rule));
        };
        match fault.action.as_str() {
            "status" => (members.status, members.retry_after) = (Some(fault.status.unwrap_or(503)), waited),
            "refuse" => (members.refuse, members.retry_after) = (Some(fault.status.unwrap_or(503)), waited),
            "delay" => {
                if fault.took.is_none() {
                    unknown(self, "the delay");
                }
                members.delay = Some(time(fault.took.unwrap_or(1_000)));
            }
            "hang" => members.hang = Some(Flag),
            "cut" => members.cut = Some(Flag),
            "drop" => members.drop = Some(Flag),
            "duplicate" => members.duplicate = Some(Flag),
            "corrupt" => members.corrupt = Some(Flag),
            "ghost" => members.ghost = Some(Flag),
            "rotate" => {
                let hard = fault.hard == Some(true);
                members.rotate = Some(if hard { RotateText::Hard } else { RotateText::Overlap });
            }
            "close" => {
                if fault.code.is_none() {
                    unknown(self, "the close code");
                }
                members.close = Some(fault.code.unwrap_or(1_001));
            }
            "control" => {
                let Some(code) = &fault.control else {
                    unknown(self, "the Control");
                    return None;
                };
                let number = code.strip_prefix("0x").and_then(|hex| u16::from_str_radix(hex, 16).ok());
                members.control = Some(number.map_or_else(|| ControlText::Name(code.clone()), ControlText::Number));
            }
            "restart" => members.restart = Some(time(fault.down.unwrap_or(1_000))),
            "reorder" => {
                unknown(self, "how many frames pass first");
                members.reorder = Some(1);
            }
            "pause" => {
                unknown(self, "the pause");
                members.pause = Some(time(UNKNOWN_TIME));
            }
            other => {
                self.guess(format!(
                    "rule `{}` did `{other}`, whose value the trace does not tell: left out",
                    fault.rule
                ));
                return None;
            }
        }
        Some(members)
    }
}

/// The rule of a plan by its name; a rule without one is called after its place, from 1.
fn planned<'p>(plan: &'p FaultPlan, name: &str) -> Option<&'p FaultRule> {
    plan.faults.iter().enumerate().find_map(|(place, rule)| {
        let named = match &rule.id {
            Some(id) => id.to_string() == name,
            None => format!("rule-{}", place + 1) == name,
        };
        named.then_some(rule)
    })
}

/// Whether a firing hits the event right behind those of a rule, and does the same.
fn goes_on(before: &RuleText, next: &RuleText) -> bool {
    let counted = before.from.is_none() && next.from.is_none();
    let behind = before.skip.unwrap_or(0) + before.times.unwrap_or(1) == next.skip.unwrap_or(0);
    let mut same = next.clone();
    (same.id, same.skip, same.times) = (before.id.clone(), before.skip, before.times);
    counted && behind && same == *before
}
