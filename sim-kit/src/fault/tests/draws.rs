//! Draws that stay what they are for ever, and counts that are exact whoever asks.

use std::{collections::BTreeSet, sync::Barrier, thread};

use sideband_env::Timeline;
use sideband_protocol::api::Procedure;

use super::*;
use crate::fault::draw::{Purpose, draw};

const POINT: ApiPoint<'_> = ApiPoint { procedure: Procedure::RenewToken, daemon: None, user: None };

fn engine(text: &str) -> FaultEngine {
    let engine = FaultEngine::new(Timeline::start());
    engine.set(FaultPlan::parse(text, Format::Toml).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    engine
}

/// A plan with a seed means the same in every release: these numbers never change.
#[test]
fn draws_are_pinned() {
    let drawn = [(7, "storm", 1), (7, "storm", 2), (7, "other", 1), (8, "storm", 1)]
        .map(|(seed, rule, number)| draw(seed, rule, number, Purpose::Fire));
    assert_eq!(drawn, PINNED_DRAWS);
    assert_ne!(draw(7, "storm", 1, Purpose::Action), drawn[0], "what an action needs is drawn apart");
}

#[tokio::test(start_paused = true)]
async fn decisions_are_pinned() {
    let engine = engine(
        "seed = 7\n[[fault]]\nid = \"some\"\non = \"api.request\"\nprobability = 0.3\ndo = { delay = \"1s\" }\n\
         [[fault]]\nid = \"half\"\non = \"api.request\"\nprobability = 0.5\ndo = \"cut\"\n",
    );
    let decisions: String = (0..32)
        .map(|_| match engine.api_request(&POINT).iter().map(|fired| fired.rule.as_str()).collect::<Vec<_>>()[..] {
            [] => '.',
            ["some"] => 's',
            ["half"] => 'h',
            _ => 'b',
        })
        .collect();
    assert_eq!(decisions, PINNED_DECISIONS);
}

#[tokio::test(start_paused = true)]
async fn counts_are_exact_under_8_threads() {
    const THREADS: usize = 8;
    const EACH: usize = 2_000;
    let engine = engine(
        "[[fault]]\nid = \"few\"\non = \"api.request\"\nskip = 100\ntimes = 777\ndo = { delay = \"1s\" }\n\
         [[fault]]\nid = \"all\"\non = \"api.request\"\ndo = { clock_shift = \"1s\" }\n",
    );
    let start = Barrier::new(THREADS);
    let work = || {
        start.wait();
        let fired = (0..EACH).flat_map(|_| engine.api_request(&POINT));
        fired.map(|fired| fired.label()).collect::<Vec<_>>()
    };
    let labels: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let counts: Vec<_> = engine.list().iter().map(|report| (report.seen, report.fired, report.overruled)).collect();
    let events = (THREADS * EACH) as u64;
    assert_eq!(counts, [(events, 777, 0), (events, events, 0)]);
    let expected: BTreeSet<_> =
        (1..=777).map(|n| format!("few#{n}")).chain((1..=events).map(|n| format!("all#{n}"))).collect();
    assert_eq!(labels.len(), expected.len(), "no number twice");
    assert_eq!(labels.into_iter().collect::<BTreeSet<_>>(), expected);
}

const PINNED_DRAWS: [u64; 4] = [0xcb424e85ed64f621, 0x7eac0ac3b276abec, 0x983beaf84176010c, 0xeb8a55f4826bd96d];
const PINNED_DECISIONS: &str = "bhhhbh..hsh..hbhsbhhshbhhss.h.hb";
