//! Members that can be left away, times that can be shorter and rounder, numbers that can be smaller; in steps, faults, hosts and the
//! network, wherever they stand: the scenario is walked as JSON, and whatever can be read back is a candidate.

use std::time::Duration;

use serde_json::{Map, Value};
use sideband_sim_kit::fault::Time;

use super::search::Search;
use crate::{scenario::Scenario, sweep::Runner};

/// The parts of a scenario that are walked. The others decide whether a run is good.
const PARTS: [&str; 5] = ["network", "host", "step", "fault", "linger"];
/// Members that name something or say what kind it is: left as they are.
const NAMES: [&str; 22] = [
    "name",
    "id",
    "kind",
    "on",
    "host",
    "event",
    "method",
    "procedure",
    "frame",
    "role",
    "direction",
    "from",
    "to",
    "hosts",
    "and",
    "status",
    "refuse",
    "close",
    "code",
    "control",
    "errors",
    "do",
];
/// Numbers that can be smaller.
const NUMBERS: [&str; 9] = ["times", "skip", "nth", "reorder", "foreign", "limit", "burst", "ms", "maxRetries"];
/// Round times in milliseconds.
const ROUND_TIMES: [u64; 14] = [0, 10, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000];
/// Round numbers.
const ROUND_NUMBERS: [u64; 9] = [0, 1, 2, 3, 5, 10, 20, 50, 100];
/// Texts longer than this can be shorter, in the params of calls.
const LONG_TEXT: usize = 16;

/// A way to a member.
type Path = Vec<Key>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Member(String),
    Item(usize),
}

/// Tries every leaf once.
pub(super) fn smaller<R: Runner>(search: &mut Search<'_, R>) -> bool {
    let mut any = false;
    let Ok(Value::Object(root)) = serde_json::to_value(search.best()) else { return false };
    let mut paths = Vec::new();
    for part in PARTS {
        if let Some(value) = root.get(part) {
            walk(value, vec![Key::Member(part.to_owned())], &mut paths);
        }
    }
    for path in paths {
        if search.is_exhausted() {
            break;
        }
        any |= shorten(search, &path);
    }
    any
}

/// All members and items, the outer ones before what is in them: what is gone need not be made smaller.
fn walk(value: &Value, path: Path, paths: &mut Vec<Path>) {
    let below = |key: Key| path.iter().cloned().chain([key]).collect::<Path>();
    paths.push(path.clone());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| walk(value, below(Key::Member(name.clone())), paths));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, value)| walk(value, below(Key::Item(place)), paths));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shorten<R: Runner>(search: &mut Search<'_, R>, path: &[Key]) -> bool {
    let Some(Key::Member(name)) = path.last() else { return false };
    let Ok(root) = serde_json::to_value(search.best()) else { return false };
    let Some(value) = get(&root, path) else { return false };
    let in_params = path.iter().any(|key| *key == Key::Member("params".to_owned()));
    let in_rule = path.first() == Some(&Key::Member("fault".to_owned()));
    let is_name = NAMES.contains(&name.as_str()) && !(in_rule && name == "from");
    // A rule that fires so often is smaller than one that fires always.
    let is_bound = in_rule && name == "times";
    // Without an id draws would be others; without its name an item is none.
    if !is_name && !is_bound && !in_params && path.len() > 1 && takes(search, &root, path, None) {
        return true;
    }
    candidates(name, value, is_name, in_params).into_iter().any(|value| takes(search, &root, path, Some(value)))
}

/// Smaller values, the smallest first.
fn candidates(name: &str, value: &Value, is_name: bool, in_params: bool) -> Vec<Value> {
    if is_name {
        return Vec::new();
    }
    match value {
        Value::String(text) if in_params => {
            if text.len() > LONG_TEXT {
                vec![Value::from("x")]
            } else {
                Vec::new()
            }
        }
        Value::String(_) => match serde_json::from_value::<Time>(value.clone()) {
            Ok(time) => shorter(time).into_iter().filter_map(|time| serde_json::to_value(time).ok()).collect(),
            Err(_) => Vec::new(),
        },
        Value::Number(number) if NUMBERS.contains(&name) => {
            let number = number.as_u64().unwrap_or(0);
            ROUND_NUMBERS.into_iter().filter(|&round| round < number).map(Value::from).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Vec::new(),
    }
}

/// Round times that are shorter, then the same with fewer digits.
fn shorter(Time(time): Time) -> Vec<Time> {
    let millis = time.as_millis() as u64;
    let mut all: Vec<u64> = ROUND_TIMES.into_iter().filter(|&round| round < millis).collect();
    for digit in [60_000, 10_000, 1_000, 100] {
        let rounded = millis / digit * digit;
        if rounded > 0 && rounded < millis && !all.contains(&rounded) {
            all.push(rounded);
        }
    }
    all.into_iter().map(|millis| Time(Duration::from_millis(millis))).collect()
}

fn takes<R: Runner>(search: &mut Search<'_, R>, root: &Value, path: &[Key], value: Option<Value>) -> bool {
    let mut changed = root.clone();
    if !set(&mut changed, path, value) {
        return false;
    }
    serde_json::from_value::<Scenario>(changed).is_ok_and(|candidate| search.takes(candidate))
}

fn get<'a>(root: &'a Value, path: &[Key]) -> Option<&'a Value> {
    path.iter().try_fold(root, |value, key| match key {
        Key::Member(name) => value.get(name),
        Key::Item(place) => value.get(place),
    })
}

/// Puts a value in place of another, or takes a member away.
fn set(root: &mut Value, path: &[Key], value: Option<Value>) -> bool {
    let Some((Key::Member(last), before)) = path.split_last() else { return false };
    let parent = before.iter().try_fold(root, |value, key| match key {
        Key::Member(name) => value.get_mut(name),
        Key::Item(place) => value.get_mut(place),
    });
    let Some(members) = parent.and_then(Value::as_object_mut) else { return false };
    let members: &mut Map<String, Value> = members;
    match value {
        Some(value) => members.insert(last.clone(), value).is_some(),
        None => members.remove(last).is_some(),
    }
}
