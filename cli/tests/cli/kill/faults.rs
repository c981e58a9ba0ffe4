//! The fault plan as it should be: one change at a time, so that after a kill it is as before the last one or as after it. The
//! rules are about a daemon that there is not.

use http::Method;
use serde_json::{Value, json};
use sideband_protocol::{Entropy, entropy::next_below};

use super::Target;

/// A rule: its name, and a number that it keeps.
type Rule = (String, u64);

/// A change of the plan.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Set(Vec<Rule>),
    Add(Rule),
    Remove(String),
    Clear,
}

fn text((id, skip): &Rule) -> Value {
    json!({"id": id, "on": "relay.frame", "daemon": "d_nobody", "skip": skip, "do": "drop"})
}

impl Change {
    /// The request below the admin API.
    pub(super) fn request(&self) -> (Method, String, Value) {
        match self {
            Self::Set(rules) => {
                let rules: Vec<_> = rules.iter().map(text).collect();
                (Method::PUT, "faults".into(), json!({"seed": rules.len(), "fault": rules}))
            }
            Self::Add(rule) => (Method::POST, "faults".into(), text(rule)),
            Self::Remove(id) => (Method::DELETE, format!("faults/{id}"), Value::Null),
            Self::Clear => (Method::DELETE, "faults".into(), Value::Null),
        }
    }

    fn apply(&self, rules: &mut Vec<Rule>) {
        match self {
            Self::Set(new) => rules.clone_from(new),
            Self::Add(rule) => rules.push(rule.clone()),
            Self::Remove(id) => rules.retain(|rule| rule.0 != *id),
            Self::Clear => rules.clear(),
        }
    }
}

/// What was acknowledged of the plan.
#[derive(Debug, Default)]
pub(super) struct Book {
    now: Vec<Rule>,
    /// As this life found it.
    begun: Vec<Rule>,
    unknown: Option<Change>,
    under_way: bool,
    names: u64,
    pub(super) changes: u32,
}

impl Book {
    /// A change that makes sense now; none while one is under way.
    pub(super) fn draw(&mut self, source: &mut dyn Entropy) -> Option<Change> {
        if self.under_way {
            return None;
        }
        self.under_way = true;
        let mut rule = || {
            self.names += 1;
            (format!("f{}", self.names), self.names)
        };
        Some(match (next_below(source, 8), self.now.first()) {
            (0..=1, _) => Change::Set((0..next_below(source, 4)).map(|_| rule()).collect()),
            (2..=3, Some((id, _))) => Change::Remove(id.clone()),
            (4, _) => Change::Clear,
            _ => Change::Add(rule()),
        })
    }

    /// A change was answered, or not.
    pub(super) fn note(&mut self, change: Change, answer: Option<(u16, Value)>) {
        self.under_way = false;
        let Some((status, answer)) = answer else {
            self.unknown = Some(change);
            return;
        };
        assert_eq!(status, 200, "{change:?} was answered with {answer}");
        change.apply(&mut self.now);
        self.changes += 1;
    }

    /// The plan of this life's start is in force again.
    pub(super) fn reset(&mut self) {
        self.now = self.begun.clone();
    }

    /// What is in force is what was acknowledged; of a change without an answer, all or nothing. What rules did begins anew.
    pub(super) async fn check(&mut self, target: &Target) {
        let (status, answer) = target.admin(Method::GET, "faults", Value::Null).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let rule = |report: &Value| {
            assert_eq!((&report["seen"], &report["fired"]), (&json!(0), &json!(0)));
            let rule = &report["rule"];
            (rule["id"].as_str().unwrap().to_owned(), rule["skip"].as_u64().unwrap_or_default())
        };
        let seen: Vec<Rule> = answer["faults"].as_array().unwrap().iter().map(rule).collect();
        let mut may_be = vec![self.now.clone()];
        if let Some(change) = self.unknown.take() {
            change.apply(&mut self.now);
            may_be.push(self.now.clone());
        }
        assert!(may_be.contains(&seen), "{seen:?} is none of {may_be:?}");
        (self.now, self.begun) = (seen.clone(), seen);
    }
}
