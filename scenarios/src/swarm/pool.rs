//! The faults of the plan that swarm mode draws from. None has a fatal outcome for a client by account with unlimited attempts, nor for a
//! daemon: every status and close code here is one that CLI-05 and DMN-01 retry.

use std::time::Duration;

use sideband_sim_kit::{
    event::Role,
    fault::{
        AnswerBody, Place, RuleId, Time,
        wire::{ActionMembers, ActionText, Flag, RuleText},
    },
};

use super::Dice;

/// How probable it is for each kind of fault to be on.
const ON: f64 = 0.2;
/// Most rules of one kind.
const MOST_OF_A_KIND: u64 = 2;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A kind of fault.
#[derive(Clone, Copy)]
pub struct FaultKind {
    /// Its name: of the draws, and before the number in the rule's id.
    pub name: &'static str,
    place: Place,
    /// How probable it is each time, at least and at most.
    probability: (f64, f64),
    /// Filters and action, drawn under this name.
    make: fn(&Dice, &str, &mut RuleText),
}

impl std::fmt::Debug for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn act(rule: &mut RuleText, members: ActionMembers) {
    rule.action = ActionText(members);
}

fn cut(_: &Dice, _: &str, rule: &mut RuleText) {
    act(rule, ActionMembers { cut: Some(Flag), ..ActionMembers::default() });
}

fn hang(_: &Dice, _: &str, rule: &mut RuleText) {
    act(rule, ActionMembers { hang: Some(Flag), ..ActionMembers::default() });
}

/// Longer than the 15 s of CLI-07, too.
fn slow(dice: &Dice, name: &str, rule: &mut RuleText) {
    let delay = dice.time(&format!("{name}/delay"), ms(50), ms(20_000));
    act(rule, ActionMembers { delay: Some(delay), ..ActionMembers::default() });
}

fn slow_frame(dice: &Dice, name: &str, rule: &mut RuleText) {
    let delay = dice.time(&format!("{name}/delay"), ms(20), ms(5_000));
    act(rule, ActionMembers { delay: Some(delay), ..ActionMembers::default() });
}

fn api_status(dice: &Dice, name: &str, rule: &mut RuleText, statuses: &[u16]) {
    let status = dice.one_of(&format!("{name}/status"), statuses).copied();
    let asks = dice.happens(&format!("{name}/asks"), 0.5);
    let retry_after = dice.number(&format!("{name}/retry-after"), 1, 40);
    let retry_after = asks.then(|| Time(Duration::from_secs(retry_after)));
    act(rule, ActionMembers { status, retry_after, ..ActionMembers::default() });
}

fn api_sick(dice: &Dice, name: &str, rule: &mut RuleText) {
    api_status(dice, name, rule, &[500, 502, 503, 504]);
}

fn api_busy(dice: &Dice, name: &str, rule: &mut RuleText) {
    api_status(dice, name, rule, &[429]);
}

/// 409 is retried in account mode and by daemons only; a redeemed code would be lost.
fn api_conflict(_: &Dice, _: &str, rule: &mut RuleText) {
    rule.procedure = Some("relay.createSession".to_owned());
    act(rule, ActionMembers { status: Some(409), ..ActionMembers::default() });
}

fn api_page(_: &Dice, _: &str, rule: &mut RuleText) {
    act(rule, ActionMembers { status: Some(200), body: Some(AnswerBody::Html), ..ActionMembers::default() });
}

fn upgrade_refused(dice: &Dice, name: &str, rule: &mut RuleText) {
    let refuse = dice.one_of(&format!("{name}/status"), &[409, 429, 500, 502, 503]).copied();
    let asks = dice.happens(&format!("{name}/asks"), 0.3);
    let retry_after = dice.number(&format!("{name}/retry-after"), 1, 40);
    let retry_after = asks.then(|| Time(Duration::from_secs(retry_after)));
    act(rule, ActionMembers { refuse, retry_after, ..ActionMembers::default() });
}

/// Only sealed messages: a handshake frame that is lost or doubled may be fatal, a Signal or Control that is lost leaves ghosts.
fn lost_data(_: &Dice, _: &str, rule: &mut RuleText) {
    rule.frame = Some("data".to_owned());
    act(rule, ActionMembers { drop: Some(Flag), ..ActionMembers::default() });
}

fn doubled_data(_: &Dice, _: &str, rule: &mut RuleText) {
    rule.frame = Some("data".to_owned());
    act(rule, ActionMembers { duplicate: Some(Flag), ..ActionMembers::default() });
}

fn role(dice: &Dice, name: &str, rule: &mut RuleText) {
    let role = dice.one_of(&format!("{name}/role"), &[None, Some(Role::Client), Some(Role::Daemon)]);
    rule.role = role.copied().flatten();
}

fn aged(dice: &Dice, name: &str, rule: &mut RuleText) {
    role(dice, name, rule);
    rule.age = Some(dice.time(&format!("{name}/age"), ms(10), ms(60_000)));
}

fn line_cut(dice: &Dice, name: &str, rule: &mut RuleText) {
    aged(dice, name, rule);
    cut(dice, name, rule);
}

fn frame_cut(dice: &Dice, name: &str, rule: &mut RuleText) {
    role(dice, name, rule);
    cut(dice, name, rule);
}

fn line_closed(dice: &Dice, name: &str, rule: &mut RuleText) {
    aged(dice, name, rule);
    let close = dice.one_of(&format!("{name}/code"), &[1001, 1011, 1012, 1013]).copied();
    act(rule, ActionMembers { close, ..ActionMembers::default() });
}

fn line_stuck(dice: &Dice, name: &str, rule: &mut RuleText) {
    aged(dice, name, rule);
    let pause = dice.time(&format!("{name}/pause"), ms(100), ms(100_000));
    act(rule, ActionMembers { pause: Some(pause), ..ActionMembers::default() });
}

fn line_ghost(dice: &Dice, name: &str, rule: &mut RuleText) {
    aged(dice, name, rule);
    rule.times = Some(1);
    act(rule, ActionMembers { ghost: Some(Flag), ..ActionMembers::default() });
}

const fn kind(
    name: &'static str,
    place: Place,
    probability: (f64, f64),
    make: fn(&Dice, &str, &mut RuleText),
) -> FaultKind {
    FaultKind { name, place, probability, make }
}

/// The pool.
pub const POOL: &[FaultKind] = &[
    kind("api-slow", Place::ApiRequest, (0.05, 1.0), slow),
    kind("api-sick", Place::ApiRequest, (0.05, 1.0), api_sick),
    kind("api-busy", Place::ApiRequest, (0.05, 1.0), api_busy),
    kind("api-conflict", Place::ApiRequest, (0.05, 1.0), api_conflict),
    kind("api-page", Place::ApiRequest, (0.05, 0.5), api_page),
    kind("api-cut", Place::ApiRequest, (0.05, 0.5), cut),
    kind("api-hang", Place::ApiRequest, (0.05, 0.5), hang),
    kind("upgrade-slow", Place::RelayUpgrade, (0.05, 1.0), slow),
    kind("upgrade-refused", Place::RelayUpgrade, (0.05, 1.0), upgrade_refused),
    kind("upgrade-cut", Place::RelayUpgrade, (0.05, 0.5), cut),
    kind("upgrade-hang", Place::RelayUpgrade, (0.05, 0.5), hang),
    kind("frame-slow", Place::RelayFrame, (0.005, 0.3), slow_frame),
    kind("frame-cut", Place::RelayFrame, (0.001, 0.05), frame_cut),
    kind("data-lost", Place::RelayFrame, (0.005, 0.3), lost_data),
    kind("data-doubled", Place::RelayFrame, (0.005, 0.5), doubled_data),
    kind("line-cut", Place::RelayConnection, (0.2, 1.0), line_cut),
    kind("line-closed", Place::RelayConnection, (0.2, 1.0), line_closed),
    kind("line-stuck", Place::RelayConnection, (0.2, 1.0), line_stuck),
    kind("line-ghost", Place::RelayConnection, (0.2, 1.0), line_ghost),
];

/// The faults of these dice in a span.
pub(super) fn faults(dice: &Dice, span: Duration) -> Vec<RuleText> {
    let mut rules = Vec::new();
    for kind in POOL {
        if !dice.happens(&format!("{}/on", kind.name), ON) {
            continue;
        }
        for n in 1..=dice.number(&format!("{}/number", kind.name), 1, MOST_OF_A_KIND) {
            rules.push(rule(dice, kind, n, span));
        }
    }
    rules
}

fn rule(dice: &Dice, kind: &FaultKind, n: u64, span: Duration) -> RuleText {
    let name = format!("swarm.{}-{n}", kind.name);
    let from = dice.moment(&format!("{name}/from"), span);
    let mut rule = RuleText {
        // Letters, digits, `-` and `.`, and short.
        id: RuleId::new(&name).ok(),
        on: kind.place,
        procedure: None,
        path: None,
        daemon: None,
        session: None,
        user: None,
        role: None,
        direction: None,
        frame: None,
        usage: None,
        source: None,
        target: None,
        age: None,
        skip: None,
        times: None,
        from: (!from.is_zero()).then_some(Time(from)),
        lasts: Some(dice.time(&format!("{name}/for"), ms(500), span / 2)),
        probability: Some(dice.probability(&format!("{name}/probability"), kind.probability.0, kind.probability.1)),
        action: ActionText::default(),
    };
    (kind.make)(dice, &name, &mut rule);
    rule
}
