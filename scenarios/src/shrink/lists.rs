//! Fewer faults, steps, hosts and expectations: delta debugging, from halves down to single items.

use serde_json::Value;

use super::{
    is_trouble,
    search::{List, Search},
};
use crate::{scenario::Scenario, sweep::Runner};

/// Takes chunks of items away, large ones first, as long as `without` says that what is left is as good. `len` tells how many there are.
fn fewer<S>(search: &mut S, len: fn(&S) -> usize, mut without: impl FnMut(&mut S, &[usize]) -> bool) -> bool {
    let mut any = false;
    let mut chunk = len(search);
    while chunk > 0 {
        let mut from = 0;
        let mut found = false;
        while from < len(search) {
            let places: Vec<usize> = (from..(from + chunk).min(len(search))).collect();
            if without(search, &places) {
                (any, found) = (true, true);
            } else {
                from += chunk;
            }
        }
        // Single items are tried again as long as any goes.
        if chunk > 1 || !found {
            chunk /= 2;
        }
    }
    any
}

/// The items that are not in these places.
fn rest<T: Clone>(items: &[T], gone: &[usize]) -> Vec<T> {
    items.iter().enumerate().filter(|(place, _)| !gone.contains(place)).map(|(_, item)| item.clone()).collect()
}

pub(super) fn fewer_faults<R: Runner>(search: &mut Search<'_, R>) -> bool {
    fewer(
        search,
        |search| search.best().faults.len(),
        |search, gone| {
            let faults = rest(&search.best().faults, gone);
            let candidate = Scenario { faults, ..search.best().clone() };
            search.takes(candidate)
        },
    )
}

/// Places of the steps that may go.
fn removable<R: Runner>(search: &Search<'_, R>, trouble: bool) -> Vec<usize> {
    let steps = search.best().steps.iter().enumerate();
    steps.filter(|(_, step)| is_trouble(step) == trouble).map(|(place, _)| place).collect()
}

fn without_steps<R: Runner>(search: &mut Search<'_, R>, trouble: bool, gone: &[usize]) -> bool {
    let all = removable(search, trouble);
    let gone: Vec<usize> = gone.iter().filter_map(|&place| all.get(place).copied()).collect();
    let steps = rest(&search.best().steps, &gone);
    let candidate = Scenario { steps, ..search.best().clone() };
    search.takes(candidate)
}

pub(super) fn less_trouble<R: Runner>(search: &mut Search<'_, R>) -> bool {
    fewer(search, |search| removable(search, true).len(), |search, gone| without_steps(search, true, gone))
}

pub(super) fn fewer_steps<R: Runner>(search: &mut Search<'_, R>) -> bool {
    if search.is_of_the_scenario() {
        return false;
    }
    fewer(search, |search| removable(search, false).len(), |search, gone| without_steps(search, false, gone))
}

/// Hosts go with every step, fault and expectation that names them.
pub(super) fn fewer_hosts<R: Runner>(search: &mut Search<'_, R>) -> bool {
    if search.is_of_the_scenario() {
        return false;
    }
    fewer(
        search,
        |search| search.best().hosts.len(),
        |search, gone| {
            let best = search.best();
            let names: Vec<String> = gone
                .iter()
                .filter_map(|&place| best.hosts.get(place))
                .flat_map(|host| host.names().into_iter().chain([host.name.clone()]))
                .collect();
            let mut candidate = Scenario { hosts: rest(&best.hosts, gone), ..best.clone() };
            candidate.steps.retain(|step| !mentions(step, &names));
            candidate.faults.retain(|rule| !mentions(rule, &names));
            candidate.expectations.retain(|expect| !mentions(expect, &names));
            candidate.always.retain(|always| !mentions(always, &names));
            search.takes(candidate)
        },
    )
}

/// Whether one of these names stands in it.
fn mentions(part: &impl serde::Serialize, names: &[String]) -> bool {
    fn walk(value: &Value, names: &[String]) -> bool {
        match value {
            Value::String(text) => names.contains(text),
            Value::Array(items) => items.iter().any(|item| walk(item, names)),
            // Roles are called as hosts may be.
            Value::Object(members) => members.iter().any(|(name, value)| name != "role" && walk(value, names)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    serde_json::to_value(part).is_ok_and(|value| walk(&value, names))
}

/// Copies go from the end, so that the others keep their names.
pub(super) fn fewer_copies<R: Runner>(search: &mut Search<'_, R>) -> bool {
    let mut any = false;
    for place in 0..search.best().hosts.len() {
        let count = search.best().hosts[place].count.unwrap_or(1);
        let fewer = [1, 2, 3, 5, 10, 20, 50, count / 2, count.saturating_sub(1)];
        let mut fewer: Vec<u32> = fewer.into_iter().filter(|&fewer| fewer >= 1 && fewer < count).collect();
        fewer.sort_unstable();
        fewer.dedup();
        any |= fewer.into_iter().any(|fewer| {
            let mut candidate = search.best().clone();
            candidate.hosts[place].count = Some(fewer);
            search.takes(candidate)
        });
    }
    any
}

pub(super) fn fewer_expectations<R: Runner>(search: &mut Search<'_, R>) -> bool {
    let expectations = fewer(
        search,
        |search| search.best().expectations.len(),
        |search, gone| {
            let expectations = rest(&search.best().expectations, gone);
            let candidate = Scenario { expectations, ..search.best().clone() };
            search.takes_without(candidate, List::Expectations, gone)
        },
    );
    let always = fewer(
        search,
        |search| search.best().always.len(),
        |search, gone| {
            let always = rest(&search.best().always, gone);
            let candidate = Scenario { always, ..search.best().clone() };
            search.takes_without(candidate, List::Always, gone)
        },
    );
    expectations || always
}
