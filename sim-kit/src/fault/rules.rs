//! What rules there are and how often each fired: pure, with the time as an argument.
//!
//! Every event of a place is shown to every rule of that place, in their order, and **each rule decides as if it were
//! alone**:
//!
//! 1. Outside its window, or if the filter does not match, the event is none of its business and not counted.
//! 2. The event is counted (`seen`). The first `skip` of them pass.
//! 3. With a `probability` the draw for this number decides whether it wants to fire.
//! 4. After `times` such decisions it never wants to again.
//!
//! Of the rules that want to fire, all do, up to and with the first whose action ends the event
//! ([`Action::ends`]); the others are *overruled*, which is counted and uses up their `times`. So a delay and an answer of
//! two rules go together, the first of two answers wins, and taking a rule away changes no decision of another.

use std::{collections::BTreeSet, time::Duration};

use sideband_protocol::{Instant, time::earliest};

use super::{
    action::{Action, ConnectionAction, NetAction, Place, PlaceAction},
    document::PlanError,
    draw::{Purpose, draw, happens},
    fired::{Fired, RuleKey},
    keep::KeepError,
    plan::{FaultPlan, FaultRule, MAX_RULES},
    point::{ConnectionPoint, Facts, NetPoint},
    text::RuleId,
};

/// The highest number in a rule's own name that derived names go on from; they skip names that are taken anyway.
const MAX_PLACE: u64 = 1_000_000;

/// Why a rule is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// It does not hold together.
    #[error(transparent)]
    Rule(#[from] PlanError),
    /// There is one of its name.
    #[error("another rule is called `{0}` already")]
    Taken(RuleId),
    /// There are as many as can be.
    #[error("a plan has at most {MAX_RULES} rules")]
    Full,
    /// It cannot be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// A rule with what it did.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleReport {
    /// Its name, which stands in the rule, too.
    pub id: RuleId,
    /// The rule.
    pub rule: FaultRule,
    /// How many events were its business.
    pub seen: u64,
    /// How many times it fired.
    pub fired: u64,
    /// How many times it wanted to and a rule before it had ended the event.
    pub overruled: u64,
}

/// Whether a rule of this name and probability wants to fire at the event of this number, from 1, under a plan's seed: what of a draw can be
/// said beforehand.
pub fn draws_to_fire(seed: u64, id: &RuleId, number: u64, probability: f64) -> bool {
    happens(draw(seed, id.as_str(), number, Purpose::Fire), probability)
}

/// A rule that is in force.
#[derive(Debug, Clone)]
struct Armed {
    /// No other rule ever has it, of any plan.
    serial: u64,
    id: RuleId,
    rule: FaultRule,
    since: Instant,
    seen: u64,
    wanted: u64,
    fired: u64,
}

/// Until when a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It is gone or over.
    No,
    /// Until this instant; without end if there is none.
    Until(Option<Instant>),
}

impl Holds {
    /// When something ends that begins now for this time, and ends with its rule.
    pub fn end_of(self, time: Duration, begins: Instant) -> Instant {
        match self {
            Self::No => begins,
            Self::Until(None) => begins + time,
            Self::Until(Some(until)) => (begins + time).min(until.max(begins)),
        }
    }
}

/// The rules that are in force.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    seed: u64,
    rules: Vec<Armed>,
    /// The highest place that a derived name was given for.
    places: u64,
    serials: u64,
}

impl Armed {
    fn window(&self) -> (Instant, Option<Instant>) {
        let from = self.since + self.rule.trigger.from;
        (from, self.rule.trigger.lasts.map(|lasts| from + lasts))
    }

    fn concerns(&self, facts: &Facts<'_>, now: Instant) -> bool {
        let (from, until) = self.window();
        now >= from && until.is_none_or(|until| now < until) && self.rule.filter.matches(facts)
    }

    /// Counts an event that concerns it; whether it wants to fire, as if it were alone.
    fn wants(&mut self, seed: u64) -> bool {
        self.seen += 1;
        let trigger = &self.rule.trigger;
        if self.seen <= trigger.skip || trigger.times.is_some_and(|times| self.wanted >= times) {
            return false;
        }
        if let Some(probability) = trigger.probability
            && !draws_to_fire(seed, &self.id, self.seen, probability)
        {
            return false;
        }
        self.wanted += 1;
        true
    }

    fn fire<A>(&mut self, seed: u64, action: A) -> Fired<A> {
        self.fired += 1;
        Fired {
            rule: self.id.clone(),
            number: self.fired,
            random: draw(seed, self.id.as_str(), self.seen, Purpose::Action),
            serial: self.serial,
            action,
        }
    }

    fn report(&self) -> RuleReport {
        RuleReport {
            id: self.id.clone(),
            rule: FaultRule { id: Some(self.id.clone()), ..self.rule.clone() },
            seen: self.seen,
            fired: self.fired,
            overruled: self.wanted - self.fired,
        }
    }
}

impl Faults {
    /// Puts a plan in place of what there is; times count from now.
    ///
    /// # Errors
    /// A rule does not hold together, or two have one name. Nothing changes then.
    pub fn set(&mut self, plan: FaultPlan, now: Instant) -> Result<(), PlanError> {
        let plan = plan.checked()?;
        let ids = plan.ids().map_err(|(_, message)| PlanError { position: None, message })?;
        self.seed = plan.seed;
        self.places = plan.faults.len() as u64;
        self.rules.clear();
        for (id, rule) in ids.into_iter().zip(plan.faults) {
            self.arm(id, rule, now);
        }
        Ok(())
    }

    /// Adds a rule behind the others; its times count from now. Returns its name.
    ///
    /// # Errors
    /// It does not hold together, its name is taken, or there are too many.
    pub fn add(&mut self, rule: FaultRule, now: Instant) -> Result<RuleId, AddError> {
        let rule = rule.checked()?;
        if self.rules.len() >= MAX_RULES {
            return Err(AddError::Full);
        }
        let id = match rule.id.clone() {
            Some(id) => id,
            None => self.next_free(),
        };
        if self.rules.iter().any(|armed| armed.id == id) {
            return Err(AddError::Taken(id));
        }
        self.arm(id.clone(), rule, now);
        Ok(id)
    }

    /// A name for a rule without one, that no rule has, and none had in this plan unless by its own choice.
    fn next_free(&mut self) -> RuleId {
        loop {
            self.places += 1;
            let id = RuleId::derived(self.places);
            if self.rules.iter().all(|armed| armed.id != id) {
                return id;
            }
        }
    }

    fn arm(&mut self, id: RuleId, rule: FaultRule, now: Instant) {
        // Whoever names a rule after a number beyond all others means no place.
        let place = id.place().filter(|place| *place <= MAX_PLACE);
        self.places = self.places.max(place.unwrap_or(0));
        self.serials += 1;
        self.rules.push(Armed { serial: self.serials, id, rule, since: now, seen: 0, wanted: 0, fired: 0 });
    }

    /// Takes a rule away; whether it was there. The others keep their names and counts.
    pub fn remove(&mut self, id: &str) -> bool {
        let before = self.rules.len();
        self.rules.retain(|armed| armed.id.as_str() != id);
        self.rules.len() < before
    }

    /// Takes all rules away; how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.rules.len();
        self.rules.clear();
        count
    }

    /// The plan that would put these rules there again, with all names.
    pub fn plan(&self) -> FaultPlan {
        let named = |armed: &Armed| FaultRule { id: Some(armed.id.clone()), ..armed.rule.clone() };
        FaultPlan { seed: self.seed, faults: self.rules.iter().map(named).collect() }
    }

    /// The rules with what they did, in their order.
    pub fn list(&self) -> Vec<RuleReport> {
        self.rules.iter().map(Armed::report).collect()
    }

    /// Whether any rule is about a place.
    pub fn any_at(&self, place: Place) -> bool {
        self.rules.iter().any(|armed| armed.rule.place() == place)
    }

    /// Until when a rule holds.
    pub fn holds(&self, key: RuleKey, now: Instant) -> Holds {
        match self.rules.iter().find(|armed| armed.serial == key.0).map(Armed::window) {
            None => Holds::No,
            Some((_, Some(until))) if until <= now => Holds::No,
            Some((_, until)) => Holds::Until(until),
        }
    }

    /// Shows a connection or packet between two hosts to the rules at `net`; what they do to it, in their order.
    pub fn net(&mut self, point: &NetPoint<'_>, now: Instant) -> Vec<Fired<NetAction>> {
        self.decide(&Facts::from(point), now, NetAction::of)
    }

    /// Shows an event to the rules of a place; what they do to it, in their order.
    pub(super) fn decide<A: Clone + Into<Action>>(
        &mut self,
        facts: &Facts<'_>,
        now: Instant,
        pick: fn(&PlaceAction) -> Option<&A>,
    ) -> Vec<Fired<A>> {
        let mut outcome = Outcome::default();
        for armed in &mut self.rules {
            let Some(action) = pick(&armed.rule.action).cloned() else { continue };
            if armed.concerns(facts, now) {
                outcome.show(armed, self.seed, action);
            }
        }
        outcome.fired
    }

    /// Shows a connection to the rules that it was not shown to yet and whose time has come; what they do to it, and when to
    /// ask again.
    pub(super) fn connection(
        &mut self,
        point: &ConnectionPoint<'_>,
        shown: &mut BTreeSet<u64>,
        now: Instant,
    ) -> (Vec<Fired<ConnectionAction>>, Option<Instant>) {
        shown.retain(|serial| self.rules.iter().any(|armed| armed.serial == *serial));
        let facts = Facts::of_connection(point, now - point.opened);
        let (mut outcome, mut next) = (Outcome::default(), None);
        for armed in &mut self.rules {
            let Some(action) = ConnectionAction::of(&armed.rule.action).cloned() else { continue };
            if shown.contains(&armed.serial) {
                continue;
            }
            let due = armed.window().0.max(point.opened + armed.rule.filter.age.unwrap_or(Duration::ZERO));
            if now < due {
                next = earliest(next, Some(due));
                continue;
            }
            shown.insert(armed.serial);
            if armed.concerns(&facts, now) {
                outcome.show(armed, self.seed, action);
            }
        }
        (outcome.fired, next)
    }
}

/// What rules do to one event.
struct Outcome<A> {
    fired: Vec<Fired<A>>,
    ended: bool,
}

impl<A> Default for Outcome<A> {
    fn default() -> Self {
        Self { fired: Vec::new(), ended: false }
    }
}

impl<A: Clone + Into<Action>> Outcome<A> {
    fn show(&mut self, armed: &mut Armed, seed: u64, action: A) {
        if !armed.wants(seed) || self.ended {
            return;
        }
        self.ended = action.clone().into().ends();
        self.fired.push(armed.fire(seed, action));
    }
}
