//! Rules that are drawn become rules that count: the firing that matters by `skip` and `times`, so that the scenario says when, not how
//! often.

use sideband_sim_kit::fault::{RuleId, rules::draws_to_fire, wire::RuleText};

use super::search::Search;
use crate::sweep::Runner;

/// Most firings of a rule that are tried each on its own.
const MOST_FIRINGS: usize = 40;
/// Most events whose draws are looked at.
const MOST_EVENTS: u64 = 200_000;

/// Tries, for each rule with a probability, each of its firings alone; then fewer of them.
pub(super) fn count<R: Runner>(search: &mut Search<'_, R>) -> bool {
    let mut any = false;
    for place in 0..search.best().faults.len() {
        let rule = search.best().faults[place].clone();
        let (Some(probability), Some(id)) = (rule.probability, rule.id.clone()) else { continue };
        let fired = search.fired(&id);
        let numbers = numbers(search.seed(), &id, &rule, probability, fired);
        let alone = numbers.into_iter().map(|number| RuleText {
            probability: None,
            skip: (number > 1).then_some(number - 1),
            times: Some(1),
            ..rule.clone()
        });
        let few = [1, 2, 3, 5, 10].into_iter().filter(|&times| times < rule.times.unwrap_or(fired));
        let few = few.map(|times| RuleText { times: Some(times), ..rule.clone() });
        let always = [1, 2, 3, 5].map(|times| RuleText { probability: None, times: Some(times), ..rule.clone() });
        any |= alone.chain(always).chain(few).any(|rule| {
            let mut candidate = search.best().clone();
            candidate.faults[place] = rule;
            search.takes(candidate)
        });
    }
    any
}

/// The numbers of the events at which the rule wanted to fire, as far as it did.
fn numbers(seed: u64, id: &RuleId, rule: &RuleText, probability: f64, fired: u64) -> Vec<u64> {
    // Some of those that it wanted may have been overruled.
    let most = MOST_FIRINGS.min(fired as usize * 2);
    let events = rule.skip.unwrap_or(0) + 1..=MOST_EVENTS;
    events.filter(|&number| draws_to_fire(seed, id, number, probability)).take(most).collect()
}
