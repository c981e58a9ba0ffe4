//! From a rule as it is written to one that holds together, and back.

use std::time::Duration;

use sideband_protocol::{
    api::Procedure,
    wire::{ControlCode, FrameType},
};

use super::{
    action::{Action, Answer, AnswerBody, Closing, Control, Forgery, Limit, Place, PlaceAction, Refusal, Rotation},
    document::{Format, PathStep, PlanError},
    plan::{FaultRule, Trigger},
    point::{Filter, KeyUse},
    text::Time,
    wire::{ActionMembers, ActionText, ControlText, Flag, RotateText, RuleText},
};

/// Most entries that a rule can add to a key set.
const MAX_FOREIGN: u32 = 100;
/// Most frames that one can be made to wait for.
const MAX_REORDER: u32 = 64;
/// Most frames that can be made up before one.
const MAX_FORGED: u32 = 64;
/// Most bytes of a close frame's reason (RFC 6455, 5.5).
const MAX_REASON: usize = 123;
/// Largest number that both languages hold.
pub(super) const MAX_NUMBER: u64 = i64::MAX as u64;
/// Most bytes of a filter's text.
const MAX_TEXT: usize = 256;

/// What does not hold together in a rule, and which member is to blame.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) path: Vec<PathStep>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The place does not know the filter.
    Filter {
        member: &'static str,
        place: Place,
    },
    /// The place does not know the action.
    Action {
        member: &'static str,
        place: Place,
    },
    NoAction,
    Several {
        first: &'static str,
        second: &'static str,
    },
    Companion {
        member: &'static str,
        of: &'static [&'static str],
    },
    Text(String),
}

impl Misfit {
    fn at(member: &'static str, text: impl Into<String>) -> Self {
        Self { path: vec![PathStep::Member(member)], what: What::Text(text.into()) }
    }

    /// Of a member of `do`.
    fn of_action(member: &'static str, what: What) -> Self {
        Self { path: vec![PathStep::Member("do"), PathStep::Member(member)], what }
    }

    pub(super) fn text(&self, format: Format) -> String {
        let list = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| format!("`{}`", format.member(name))).collect();
            names.join(", ")
        };
        match &self.what {
            What::Filter { member, place } => {
                let known = list(place.filters());
                format!("`{}` says nothing of `{place}`; filters there are {known}", format.member(member))
            }
            What::Action { member, place } => {
                let all = Action::one_of_each();
                let possible: Vec<_> = all.iter().filter(|one| place.takes(one)).map(Action::member).collect();
                format!("`{}` is not possible at `{place}`; there are {}", format.member(member), list(&possible))
            }
            What::NoAction => "`do` names no action".to_owned(),
            What::Several { first, second } => {
                let (first, second) = (format.member(first), format.member(second));
                format!("`{first}` and `{second}` are two actions; write two rules")
            }
            What::Companion { member, of } => format!("`{}` goes only with {}", format.member(member), list(of)),
            What::Text(text) => text.clone(),
        }
    }

    /// For a rule that was not read from a text.
    fn without_place(&self) -> PlanError {
        PlanError { position: None, message: self.text(Format::Json) }
    }
}

impl TryFrom<RuleText> for FaultRule {
    type Error = PlanError;

    fn try_from(rule: RuleText) -> Result<Self, PlanError> {
        check(rule).map_err(|misfit| misfit.without_place())
    }
}

pub(super) fn check(rule: RuleText) -> Result<FaultRule, Misfit> {
    let trigger = trigger(&rule)?;
    let action = action(&rule.action.0)?;
    let (place, member) = (rule.on, action.member());
    let misfit = Misfit::of_action(member, What::Action { member, place });
    let action = PlaceAction::new(place, action).ok_or(misfit)?;
    let id = rule.id.clone();
    let mut filter = filter(rule)?;
    if let PlaceAction::Keys(action) = &action
        && !Action::from(action.clone()).is_rotation()
    {
        if filter.usage == Some(KeyUse::Sign) {
            return Err(Misfit::at("usage", format!("signing can only `rotate`, not `{member}`")));
        }
        filter.usage = Some(KeyUse::Publish);
    }
    Ok(FaultRule { id, filter, trigger, action })
}

fn trigger(rule: &RuleText) -> Result<Trigger, Misfit> {
    if rule.times == Some(0) {
        return Err(Misfit::at("times", "`times` is at least 1"));
    }
    for (member, number) in [("skip", rule.skip), ("times", rule.times)] {
        if number.is_some_and(|number| number > MAX_NUMBER) {
            return Err(Misfit::at(member, format!("`{member}` is at most {MAX_NUMBER}")));
        }
    }
    if rule.lasts == Some(Time(Duration::ZERO)) {
        return Err(Misfit::at("for", "`for` is longer than nothing"));
    }
    if rule.probability.is_some_and(|probability| !(0.0..=1.0).contains(&probability)) {
        return Err(Misfit::at("probability", "`probability` is from 0 to 1"));
    }
    Ok(Trigger {
        skip: rule.skip.unwrap_or(0),
        times: rule.times,
        from: rule.from.map_or(Duration::ZERO, |time| time.0),
        lasts: rule.lasts.map(|time| time.0),
        probability: rule.probability,
    })
}

fn filter(rule: RuleText) -> Result<Filter, Misfit> {
    let place = rule.on;
    let there = [
        ("procedure", rule.procedure.is_some()),
        ("path", rule.path.is_some()),
        ("daemon", rule.daemon.is_some()),
        ("session", rule.session.is_some()),
        ("user", rule.user.is_some()),
        ("role", rule.role.is_some()),
        ("direction", rule.direction.is_some()),
        ("frame", rule.frame.is_some()),
        ("usage", rule.usage.is_some()),
        ("source", rule.source.is_some()),
        ("target", rule.target.is_some()),
        ("age", rule.age.is_some()),
    ];
    let known = place.filters();
    if let Some((member, _)) = there.into_iter().find(|(member, there)| *there && !known.contains(member)) {
        return Err(Misfit { path: vec![PathStep::Member(member)], what: What::Filter { member, place } });
    }
    let texts = [
        ("path", &rule.path),
        ("daemon", &rule.daemon),
        ("user", &rule.user),
        ("source", &rule.source),
        ("target", &rule.target),
    ];
    for (member, text) in texts {
        if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > MAX_TEXT) {
            return Err(Misfit::at(member, format!("`{member}` has 1 to {MAX_TEXT} bytes")));
        }
    }
    let procedure = rule.procedure.as_deref().map(|name| {
        let names = Procedure::ALL.map(Procedure::name);
        Procedure::from_name(name).ok_or_else(|| Misfit::at("procedure", no_such("procedure", name, &names)))
    });
    let frame = rule.frame.as_deref().map(|name| {
        let names = FrameType::ALL.map(FrameType::name);
        let found = FrameType::ALL.into_iter().find(|frame| frame.name() == name);
        found.ok_or_else(|| Misfit::at("frame", no_such("frame type", name, &names)))
    });
    Ok(Filter {
        procedure: procedure.transpose()?,
        path: rule.path,
        daemon: rule.daemon,
        session: rule.session,
        user: rule.user,
        role: rule.role,
        direction: rule.direction,
        frame: frame.transpose()?,
        usage: rule.usage,
        source: rule.source,
        target: rule.target,
        age: rule.age.map(|time| time.0),
    })
}

fn no_such(what: &str, name: &str, known: &[&str]) -> String {
    let short: String = name.chars().take(40).collect();
    let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("there is no {what} `{short}`; there are {}", known.join(", "))
}

/// The one action of `do`.
fn action(members: &ActionMembers) -> Result<Action, Misfit> {
    let mut found: Option<Action> = None;
    for one in Action::one_of_each() {
        let Some(next) = read(&one, members)? else { continue };
        if let Some(first) = &found {
            let (first, second) = (first.member(), next.member());
            return Err(Misfit::of_action(second, What::Several { first, second }));
        }
        found = Some(next);
    }
    let action = found.ok_or(Misfit { path: vec![PathStep::Member("do")], what: What::NoAction })?;
    companions(members, action.member())?;
    Ok(action)
}

/// The action of this kind, if `do` names it.
fn read(kind: &Action, members: &ActionMembers) -> Result<Option<Action>, Misfit> {
    let flag = |flag: Option<Flag>, action: Action| flag.map(|Flag| action);
    Ok(match kind {
        Action::Status(_) => match members.status {
            Some(status) => Some(Action::Status(answer(status, members)?)),
            None => None,
        },
        Action::Refuse(_) => match members.refuse {
            Some(status) => Some(Action::Refuse(refusal(status, members)?)),
            None => None,
        },
        Action::Delay(_) => long("delay", members.delay)?.map(Action::Delay),
        Action::Pause(_) => long("pause", members.pause)?.map(Action::Pause),
        Action::Restart(_) => members.restart.map(|down| Action::Restart(down.0)),
        Action::Hang => flag(members.hang, Action::Hang),
        Action::Cut => flag(members.cut, Action::Cut),
        Action::Drop => flag(members.drop, Action::Drop),
        Action::Duplicate => flag(members.duplicate, Action::Duplicate),
        Action::Corrupt => flag(members.corrupt, Action::Corrupt),
        Action::Ghost => flag(members.ghost, Action::Ghost),
        Action::Hold => flag(members.hold, Action::Hold),
        Action::ClockShift(_) => members.clock_shift.map(Action::ClockShift),
        Action::Rotate(_) => match members.rotate {
            Some(how) => Some(Action::Rotate(rotation(how, members)?)),
            None => None,
        },
        Action::Foreign(_) => within("foreign", members.foreign, MAX_FOREIGN)?.map(Action::Foreign),
        Action::Reorder(_) => within("reorder", members.reorder, MAX_REORDER)?.map(Action::Reorder),
        Action::Forge(_) => {
            let frames = within("frames", members.frames, MAX_FORGED)?;
            members.forge.map(|what| Action::Forge(Forgery { what, frames }))
        }
        Action::Limit(_) => {
            let burst = within("burst", members.burst, u32::MAX)?;
            let limit = within("limit", members.limit, u32::MAX)?;
            limit.map(|frames_per_second| Action::Limit(Limit { frames_per_second, burst }))
        }
        Action::Close(_) => match members.close {
            Some(code) => Some(Action::Close(closing(code, members)?)),
            None => None,
        },
        Action::Control(_) => match &members.control {
            Some(ControlText::Number(code)) => Some(Action::Control(Control { code: *code })),
            Some(ControlText::Name(name)) => Some(Action::Control(control(name)?)),
            None => None,
        },
    })
}

/// Members that say more of an action stand only beside it.
fn companions(members: &ActionMembers, action: &'static str) -> Result<(), Misfit> {
    let companions: [(&'static str, bool, &'static [&'static str]); 7] = [
        ("body", members.body.is_some(), &["status"]),
        ("code", members.code.is_some(), &["status", "refuse"]),
        ("retryAfter", members.retry_after.is_some(), &["status", "refuse"]),
        ("overlap", members.overlap.is_some(), &["rotate"]),
        ("reason", members.reason.is_some(), &["close"]),
        ("burst", members.burst.is_some(), &["limit"]),
        ("frames", members.frames.is_some(), &["forge"]),
    ];
    match companions.into_iter().find(|(_, there, of)| *there && !of.contains(&action)) {
        Some((member, _, of)) => Err(Misfit::of_action(member, What::Companion { member, of })),
        None => Ok(()),
    }
}

fn wrong(member: &'static str, text: impl Into<String>) -> Misfit {
    Misfit::of_action(member, What::Text(text.into()))
}

fn long(member: &'static str, time: Option<Time>) -> Result<Option<Duration>, Misfit> {
    match time {
        Some(Time(Duration::ZERO)) => Err(wrong(member, format!("`{member}` is longer than nothing"))),
        Some(Time(time)) => Ok(Some(time)),
        None => Ok(None),
    }
}

fn within(member: &'static str, number: Option<u32>, most: u32) -> Result<Option<u32>, Misfit> {
    match number {
        Some(number) if !(1..=most).contains(&number) => Err(wrong(member, format!("`{member}` is from 1 to {most}"))),
        number => Ok(number),
    }
}

/// An HTTP status that ends a request.
fn status(member: &'static str, status: u16) -> Result<u16, Misfit> {
    if (200..=599).contains(&status) {
        return Ok(status);
    }
    Err(wrong(member, format!("`{member}` is an HTTP status from 200 to 599")))
}

fn retry_after(members: &ActionMembers) -> Result<Option<u64>, Misfit> {
    whole_seconds("retryAfter", members.retry_after, "`Retry-After` is of whole seconds")
}

fn whole_seconds(member: &'static str, time: Option<Time>, words: &str) -> Result<Option<u64>, Misfit> {
    match time {
        Some(Time(time)) if time.subsec_nanos() != 0 => Err(wrong(member, words)),
        time => Ok(time.map(|Time(time)| time.as_secs())),
    }
}

fn answer(code: u16, members: &ActionMembers) -> Result<Answer, Misfit> {
    let status = status("status", code)?;
    let body = members.body.unwrap_or_default();
    if matches!(status, 204 | 205 | 304) && body != AnswerBody::Empty {
        return Err(wrong("status", format!("an answer {status} has no body; write body = \"empty\" beside it")));
    }
    if members.code.is_some() && body != AnswerBody::Json {
        return Err(wrong("code", "`code` goes only with a JSON body"));
    }
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    let code = code_text(members, fits, "`code` is like CONFLICT: 1 to 64 capitals and `_`")?;
    Ok(Answer { status, body, code, retry_after: retry_after(members)? })
}

fn refusal(code: u16, members: &ActionMembers) -> Result<Refusal, Misfit> {
    let status = status("refuse", code)?;
    if matches!(status, 204 | 205 | 304) {
        return Err(wrong("refuse", format!("a refusal has a body, which an answer {status} has not")));
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let code = code_text(members, fits, "`code` is like session_conflict: 1 to 64 small letters and `_`")?;
    Ok(Refusal { status, code, retry_after: retry_after(members)? })
}

fn code_text(members: &ActionMembers, fits: fn(u8) -> bool, words: &str) -> Result<Option<String>, Misfit> {
    match &members.code {
        Some(code) if !(1..=64).contains(&code.len()) || !code.bytes().all(fits) => Err(wrong("code", words)),
        code => Ok(code.clone()),
    }
}

fn rotation(how: RotateText, members: &ActionMembers) -> Result<Rotation, Misfit> {
    let overlap_seconds = whole_seconds("overlap", members.overlap, "`overlap` is of whole seconds")?;
    let hard = how == RotateText::Hard;
    if hard && overlap_seconds.is_some() {
        return Err(wrong("overlap", "a hard rotation has no overlap"));
    }
    Ok(Rotation { hard, overlap_seconds })
}

fn closing(code: u16, members: &ActionMembers) -> Result<Closing, Misfit> {
    // RFC 6455, 7.4: the others never stand in a close frame.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        let words = "`close` is a code that a close frame can hold: 1000 to 1003, 1007 to 1014, 3000 to 4999";
        return Err(wrong("close", words));
    }
    let reason = members.reason.clone().unwrap_or_default();
    if reason.len() > MAX_REASON {
        return Err(wrong("reason", format!("`reason` has at most {MAX_REASON} bytes")));
    }
    Ok(Closing { code, reason })
}

fn control(name: &str) -> Result<Control, Misfit> {
    let found = ControlCode::ALL.iter().find(|code| code.name() == name);
    let names: Vec<_> = ControlCode::ALL.iter().map(|code| code.name()).collect();
    let found = found.ok_or_else(|| wrong("control", no_such("Control code", name, &names)))?;
    Ok(Control { code: found.code() })
}

impl Action {
    const fn is_rotation(&self) -> bool {
        matches!(self, Self::Rotate(_))
    }
}

impl From<FaultRule> for RuleText {
    fn from(rule: FaultRule) -> Self {
        let FaultRule { id, filter, trigger, action } = rule;
        Self {
            id,
            on: action.place(),
            procedure: filter.procedure.map(|procedure| procedure.name().to_owned()),
            path: filter.path,
            daemon: filter.daemon,
            session: filter.session,
            user: filter.user,
            role: filter.role,
            direction: filter.direction,
            frame: filter.frame.map(|frame| frame.name().to_owned()),
            usage: filter.usage,
            source: filter.source,
            target: filter.target,
            age: filter.age.map(Time),
            skip: (trigger.skip != 0).then_some(trigger.skip),
            times: trigger.times,
            from: (trigger.from != Duration::ZERO).then_some(Time(trigger.from)),
            lasts: trigger.lasts.map(Time),
            probability: trigger.probability,
            action: ActionText(written(action.action())),
        }
    }
}

fn written(action: Action) -> ActionMembers {
    let seconds = |seconds: u64| Time(Duration::from_secs(seconds));
    let empty = ActionMembers::default();
    match action {
        Action::Status(Answer { status, body, code, retry_after }) => ActionMembers {
            status: Some(status),
            body: (body != AnswerBody::Json).then_some(body),
            code,
            retry_after: retry_after.map(seconds),
            ..empty
        },
        Action::Refuse(Refusal { status, code, retry_after }) => {
            ActionMembers { refuse: Some(status), code, retry_after: retry_after.map(seconds), ..empty }
        }
        Action::Delay(time) => ActionMembers { delay: Some(Time(time)), ..empty },
        Action::Pause(time) => ActionMembers { pause: Some(Time(time)), ..empty },
        Action::Restart(down) => ActionMembers { restart: Some(Time(down)), ..empty },
        Action::Hang => ActionMembers { hang: Some(Flag), ..empty },
        Action::Cut => ActionMembers { cut: Some(Flag), ..empty },
        Action::Drop => ActionMembers { drop: Some(Flag), ..empty },
        Action::Duplicate => ActionMembers { duplicate: Some(Flag), ..empty },
        Action::Corrupt => ActionMembers { corrupt: Some(Flag), ..empty },
        Action::Ghost => ActionMembers { ghost: Some(Flag), ..empty },
        Action::Hold => ActionMembers { hold: Some(Flag), ..empty },
        Action::ClockShift(shift) => ActionMembers { clock_shift: Some(shift), ..empty },
        Action::Rotate(Rotation { hard, overlap_seconds }) => ActionMembers {
            rotate: Some(if hard { RotateText::Hard } else { RotateText::Overlap }),
            overlap: overlap_seconds.map(seconds),
            ..empty
        },
        Action::Foreign(entries) => ActionMembers { foreign: Some(entries), ..empty },
        Action::Reorder(frames) => ActionMembers { reorder: Some(frames), ..empty },
        Action::Forge(Forgery { what, frames }) => ActionMembers { forge: Some(what), frames, ..empty },
        Action::Limit(Limit { frames_per_second, burst }) => {
            ActionMembers { limit: Some(frames_per_second), burst, ..empty }
        }
        Action::Close(Closing { code, reason }) => {
            let reason = (!reason.is_empty()).then_some(reason);
            ActionMembers { close: Some(code), reason, ..empty }
        }
        Action::Control(Control { code }) => {
            let name = ControlCode::from_u16(code).map(|code| ControlText::Name(code.name().to_owned()));
            ActionMembers { control: Some(name.unwrap_or(ControlText::Number(code))), ..empty }
        }
    }
}
