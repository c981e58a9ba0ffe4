//! Each invariant catches a doctored stream of events, and is silent over the whole one.

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Direction, Event, EventKind, FrameDetail, Role};

use super::*;
use crate::builtin;

fn event(host: &str, kind: EventKind) -> Event {
    Event { at: 1_000, host: host.to_owned(), daemon: None, session: None, kind }
}

fn at(at: u64, event: Event) -> Event {
    Event { at, ..event }
}

fn in_session(session: &str, event: Event) -> Event {
    let session: SessionId = serde_json::from_value(session.into()).unwrap();
    Event { session: Some(session), ..event }
}

/// Which invariants a stream breaks.
fn broken(events: &[Event]) -> Vec<&'static str> {
    let scenario = builtin::find("daemon-blip-resume").unwrap().scenario().unwrap();
    let mut names = Vec::new();
    for mut invariant in all(&scenario) {
        let mut out = Vec::new();
        events.iter().for_each(|event| invariant.see(event, &mut out));
        invariant.finish(&mut out);
        if !out.is_empty() {
            names.push(invariant.name());
        }
    }
    names
}

fn call(call: u64) -> Event {
    event("client", EventKind::Call { call, name: "x".to_owned(), method: "x".to_owned() })
}

fn ended(call: u64, outcome: &str, own: Option<bool>) -> Event {
    event("client", EventKind::CallEnded { call, name: "x".to_owned(), outcome: outcome.to_owned(), own })
}

fn served(call: u64) -> Event {
    in_session("00000000000000aa", event("daemon", EventKind::Served { call, method: "x".to_owned() }))
}

fn report(report: &str, detail: &str) -> Event {
    event("client", EventKind::Endpoint { report: report.to_owned(), detail: detail.to_owned() })
}

fn heard(number: u64) -> Event {
    event("client", EventKind::Delivered { event: "tick".to_owned(), number: Some(number) })
}

fn retrying(host: &str, retry: u32, delay_ms: u64, retry_after_ms: Option<u64>) -> Event {
    event(host, EventKind::Retrying { retry, delay_ms, retry_after_ms, cause: "x".to_owned() })
}

fn data(sequence: u64) -> Event {
    let detail = FrameDetail { direction_of_nonce: Some(1), sequence: Some(sequence), ..FrameDetail::default() };
    let kind =
        EventKind::Frame { connection: 1, direction: Direction::In, frame: "data".to_owned(), bytes: 60, detail };
    in_session("00000000000000aa", event("relay", kind))
}

fn opened() -> Event {
    let kind = EventKind::Opened { connection: 1, role: Role::Client, token: None, resumable: None };
    in_session("00000000000000aa", event("relay", kind))
}

#[test]
fn whole_streams_break_nothing() {
    assert_eq!(
        broken(&[call(1), call(2), served(1), served(2), ended(2, "result", Some(true)), ended(1, "x", None)]),
        [""; 0]
    );
    assert_eq!(broken(&[heard(1), heard(2), heard(9), report("closed", "")]), [""; 0]);
    assert_eq!(broken(&[data(0), data(1), opened()]), [""; 0]);
    let waits = [retrying("client", 0, 1_100, None), at(2_101, report("state", "connecting"))];
    assert_eq!(broken(&waits), [""; 0]);
}

#[test]
fn call_ends_once() {
    assert_eq!(broken(&[call(1)]), ["call-ends-once"]);
    assert_eq!(broken(&[call(1), ended(1, "x", None), ended(1, "result", None)]), ["call-ends-once"]);
}

#[test]
fn call_own_answer() {
    assert_eq!(broken(&[call(1), ended(1, "result", Some(false))]), ["call-own-answer"]);
}

#[test]
fn calls_in_order() {
    assert_eq!(broken(&[served(2), served(1)]), ["calls-in-order"]);
    assert_eq!(broken(&[served(2), served(2)]), ["calls-in-order"]);
}

#[test]
fn events_in_order() {
    assert_eq!(broken(&[heard(2), heard(1)]), ["events-in-order"]);
    assert_eq!(broken(&[heard(2), heard(2)]), ["events-in-order"]);
}

#[test]
fn nonce_once() {
    assert_eq!(broken(&[data(0), data(1), data(0)]), ["nonce-once"]);
}

#[test]
fn session_once() {
    assert_eq!(broken(&[opened(), opened()]), ["session-once"]);
}

#[test]
fn delays() {
    for wrong in [
        retrying("client", 0, 700, None),
        retrying("client", 0, 1_300, None),
        retrying("client", 1, 2_000, None),
        retrying("client", 0, 1_000, Some(5_000)),
        retrying("daemon", 3, 7_900, None),
        retrying("daemon", 3, 8_600, None),
    ] {
        assert_eq!(broken(std::slice::from_ref(&wrong)), ["delays"], "{wrong:?}");
    }
    for kept in [1_500, 2_200] {
        let early_or_late = [retrying("client", 0, 1_000, None), at(kept, report("state", "connecting"))];
        assert_eq!(broken(&early_or_late), ["delays"], "{kept}");
    }
}

#[test]
fn nothing_after_close() {
    let close = || report("closed", "");
    assert_eq!(broken(&[close(), heard(1)]), ["nothing-after-close"]);
    assert_eq!(broken(&[call(1), close(), ended(1, "result", None)]), ["nothing-after-close"]);
    assert_eq!(broken(&[close(), report("state", "connecting")]), ["nothing-after-close"]);
}

#[test]
fn no_grade() {
    let kind = EventKind::Grade {
        rule: "WIRE-01".to_owned(),
        party: Role::Client,
        connection: None,
        evidence: String::new(),
        times: 1,
    };
    assert_eq!(broken(&[event("relay", kind)]), ["no-grade"]);
}

#[test]
fn names_are_all_there() {
    let scenario = builtin::find("daemon-blip-resume").unwrap().scenario().unwrap();
    for invariant in all(&scenario) {
        assert!(NAMES.contains(&invariant.name()));
    }
}
