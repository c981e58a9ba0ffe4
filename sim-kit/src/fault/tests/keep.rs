//! Plans that outlive the process: what is kept is what is in force, and a change that cannot be kept is none.

use std::sync::{Arc, Mutex, PoisonError};

use sideband_env::Timeline;
use sideband_protocol::api::Procedure;

use super::*;
use crate::{admin::Resets, event::EventSink};

/// Keeps plans, or fails.
#[derive(Default)]
struct Book(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    plans: Vec<(&'static str, Vec<String>)>,
    fails: bool,
}

impl Book {
    fn take(&self) -> Vec<(&'static str, Vec<String>)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).plans)
    }

    fn fail(&self, fails: bool) {
        self.0.lock().unwrap().fails = fails;
    }

    fn put(&self, what: &'static str, plan: &FaultPlan) -> Result<(), KeepError> {
        let mut kept = self.0.lock().unwrap();
        if kept.fails {
            return Err(KeepError("disk full".to_owned()));
        }
        kept.plans.push((what, ids(plan)));
        Ok(())
    }
}

impl KeepPlan for Book {
    fn keep(&self, plan: &FaultPlan) -> Result<(), KeepError> {
        self.put("keep", plan)
    }

    fn begin(&self, plan: &FaultPlan) -> Result<(), KeepError> {
        self.put("begin", plan)
    }
}

fn ids(plan: &FaultPlan) -> Vec<String> {
    plan.faults.iter().filter_map(|rule| rule.id.as_ref()).map(ToString::to_string).collect()
}

fn rule(id: &str) -> FaultRule {
    FaultRule::parse(&format!("id = \"{id}\"\non = \"api.request\"\ndo = \"cut\""), Format::Toml).unwrap()
}

fn plan(ids: &[&str]) -> FaultPlan {
    FaultPlan { seed: 0, faults: ids.iter().map(|id| rule(id)).collect() }
}

fn kept() -> (FaultEngine, Arc<Book>) {
    let (engine, book) = (FaultEngine::new(Timeline::start()), Arc::new(Book::default()));
    engine.keep_in(book.clone());
    (engine, book)
}

fn entry(what: &'static str, ids: &[&str]) -> (&'static str, Vec<String>) {
    (what, ids.iter().map(ToString::to_string).collect())
}

#[test]
fn every_change_is_kept_and_a_refused_one_is_not() {
    let (engine, book) = kept();
    engine.begin(plan(&["a"])).unwrap();
    engine.add(rule("b")).unwrap();
    assert!(engine.add(rule("b")).is_err());
    assert!(engine.set(plan(&["x", "x"])).is_err());
    assert!(engine.remove("a").unwrap());
    engine.set(plan(&["c", "d"])).unwrap();
    engine.clear().unwrap();
    engine.again().unwrap();
    let expected = [
        entry("begin", &["a"]),
        entry("keep", &["a", "b"]),
        entry("keep", &["b"]),
        entry("keep", &["c", "d"]),
        entry("keep", &[]),
        entry("keep", &["a"]),
    ];
    assert_eq!(book.take(), expected);
}

#[test]
fn what_cannot_be_kept_does_not_happen_and_no_count_is_lost() {
    let (engine, book) = kept();
    engine.begin(plan(&["a"])).unwrap();
    engine.api_request(&ApiPoint { procedure: Procedure::RenewToken, daemon: None, user: None });
    let before = engine.list();
    assert_eq!(before[0].fired, 1);
    book.fail(true);
    assert!(matches!(engine.begin(plan(&["x"])), Err(SetError::Keep(_))));
    assert!(matches!(engine.set(plan(&["x"])), Err(SetError::Keep(_))));
    assert!(matches!(engine.add(rule("b")), Err(AddError::Keep(_))));
    assert!(engine.remove("a").is_err() && engine.clear().is_err());
    assert_eq!(engine.list(), before);
    book.fail(false);
    engine.again().unwrap();
    assert_eq!(ids(&engine.plan()), ["a"], "nor is the plan of the start another");
}

#[tokio::test]
async fn a_reset_keeps_nothing_but_the_plan_of_the_start() {
    let (engine, book) = kept();
    engine.begin(plan(&["a"])).unwrap();
    engine.set(plan(&["b"])).unwrap();
    book.take();
    let resets = |fails: bool| {
        let seen = engine.clone();
        Resets::new(EventSink::new(Timeline::start(), "test")).faults(&engine).part(move || {
            assert_eq!(seen.list(), [], "no rule acts on a reset");
            std::future::ready(if fails { Err(crate::admin::ResetError::Stops("part")) } else { Ok(()) })
        })
    };
    assert!(resets(true).run().await.is_err());
    assert_eq!((ids(&engine.plan()), book.take()), (vec!["b".to_owned()], vec![entry("keep", &["b"])]));
    resets(false).run().await.unwrap();
    assert_eq!((ids(&engine.plan()), book.take()), (vec!["a".to_owned()], vec![entry("keep", &["a"])]));
}
