//! What a client tells its user, as text, and what holds for all of it.

use std::sync::{Arc, Mutex};

use sideband::{Client, CloseReason, Lifecycle, State};

use crate::record::{Log, Source, nominal};

/// What holds for every life of a client, however it went.
pub(super) fn check_story(told: &[Lifecycle], sessions: usize) {
    let connected = told.iter().filter(|event| matches!(event, Lifecycle::Connected { .. })).count();
    assert_eq!(connected, sessions, "connected is told once for each fresh session (CLI-12): {told:?}");
    assert!(matches!(told.last(), Some(Lifecycle::Closed(_))), "the last thing told is the end: {told:?}");
    let closed = |event: &&Lifecycle| matches!(event, Lifecycle::Closed(_) | Lifecycle::State(State::Closed));
    assert_eq!(told.iter().filter(closed).count(), 2, "closed is final: {told:?}");
    let states: Vec<_> = told.iter().filter_map(state_of).collect();
    let mut before = State::Idle;
    for state in states {
        assert!(follows(before, state), "a state that cannot follow: {before:?} → {state:?} in {told:?}");
        before = state;
    }
}

fn state_of(event: &Lifecycle) -> Option<State> {
    match event {
        Lifecycle::State(state) => Some(*state),
        _ => None,
    }
}

/// The client's states: `docs/spec/5-endpoints.md`.
fn follows(before: State, after: State) -> bool {
    match after {
        State::Idle => false,
        State::Connecting => matches!(before, State::Idle | State::Reconnecting),
        State::Negotiating => before == State::Connecting,
        State::Active => matches!(before, State::Negotiating | State::Paused),
        State::Paused => before == State::Active,
        State::Reconnecting => !matches!(before, State::Idle | State::Reconnecting | State::Closed),
        State::Closed => before != State::Closed,
    }
}

pub(super) fn record(client: &Client, log: &Log, told: &Arc<Mutex<Vec<Lifecycle>>>) {
    let (mut events, log, told) = (client.events(), log.clone(), told.clone());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            log.add(Source::Life, event_text(&event));
            told.lock().unwrap().push(event);
        }
    });
}

fn event_text(event: &Lifecycle) -> String {
    match event {
        Lifecycle::State(state) => format!("state {}", state.name()),
        Lifecycle::Connected { .. } => "connected".to_owned(),
        Lifecycle::Disconnected(cause) => format!("disconnected: {cause}"),
        Lifecycle::Retrying { retry, delay, cause } => {
            format!("retry {retry} after {}: {cause}", nominal(*retry, 1.0, *delay, |base| 0.8 * base..=1.2 * base))
        }
        Lifecycle::Pending => "pending".to_owned(),
        Lifecycle::Resumed => "resumed".to_owned(),
        Lifecycle::RateLimited => "rate limited".to_owned(),
        Lifecycle::Closed(reason) => match reason {
            CloseReason::ByUser => "closed by the user".to_owned(),
            CloseReason::Fatal(cause) => format!("closed, fatal: {cause}"),
            CloseReason::Exhausted { .. } => format!("closed, {reason}"),
            CloseReason::CodeUsed(cause) => format!("closed, the code is used up: {cause}"),
        },
        other => format!("{other:?}"),
    }
}

#[test]
fn whatever_is_wrong_with_a_story_is_seen() {
    use State::{Active, Closed, Connecting, Negotiating, Paused, Reconnecting};
    let story = |states: &[State], ends: usize| {
        let mut told = Vec::new();
        for state in states {
            told.push(Lifecycle::State(*state));
            if *state == Active {
                told.push(Lifecycle::Connected { daemon_id: "d_far".to_owned() });
            }
        }
        told.extend(vec![Lifecycle::Closed(CloseReason::ByUser); ends]);
        told
    };
    let right = [Connecting, Negotiating, Active, Reconnecting, Connecting, Negotiating, Active, Closed];
    check_story(&story(&right, 1), 2);
    let refused = |words: &str, told: &[Lifecycle], sessions| crate::is_refused(words, || check_story(told, sessions));
    refused("connected is told once", &story(&right, 1), 1);
    refused("connected is told once", &story(&right, 1), 3);
    refused("the last thing told is the end", &story(&right, 0), 2);
    refused("the last thing told is the end", &[], 0);
    refused("closed is final", &story(&right, 2), 2);
    refused("closed is final", &story(&right[..7], 1), 2);
    for (before, after) in [
        (&[][..], Active),
        (&[], Paused),
        (&[Connecting], Active),
        (&[Connecting], Connecting),
        (&[Connecting, Negotiating], Paused),
        (&[Connecting, Reconnecting], Negotiating),
        (&[Connecting, Reconnecting], Reconnecting),
        (&[Connecting, Negotiating], State::Idle),
    ] {
        let told = story(&[before, &[after, Closed][..]].concat(), 1);
        refused("a state that cannot follow", &told, usize::from(after == Active));
    }
}
