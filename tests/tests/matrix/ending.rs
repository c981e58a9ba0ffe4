//! What must hold wherever an endpoint closes, and what was seen of it.

use std::time::Duration;

use sideband_tests::script::World;

use crate::{LATE, PROMPT, record::Call};

/// How long nothing may follow an end.
const AFTERWARDS: Duration = Duration::from_secs(3_600);

/// What was seen of `close()`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closing {
    /// The rule on closing.
    pub(crate) rule: &'static str,
    /// How long it took, and once more.
    pub(crate) took: [Duration; 2],
    /// Whether the endpoint says that it is closed.
    pub(crate) closed: bool,
}

impl Closing {
    /// # Panics
    /// If something does not hold.
    pub(crate) fn check(self) {
        let [first, again] = self.took;
        assert!(first <= PROMPT, "{LATE} ({})", self.rule);
        assert_eq!(again, Duration::ZERO, "closing twice is fine");
        assert!(self.closed, "it is closed");
    }
}

/// What was seen of an endpoint's end.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// Calls that still wait, and all that were made.
    pub(crate) waiting: [usize; 2],
    /// How much the user had been told by the end, and how much later.
    pub(crate) told: [usize; 2],
    /// API calls and dials after the end.
    pub(crate) tried: usize,
    /// What was recorded.
    pub(crate) events: Vec<String>,
}

impl Ending {
    /// # Panics
    /// If something does not hold.
    pub(crate) fn check(&self) {
        assert!(!self.events.iter().any(|event| event == LATE), "{LATE}");
        let [waiting, all] = self.waiting;
        assert_eq!(waiting, 0, "every call has ended, of {all}: {:?}", self.events);
        let [by_the_end, later] = self.told;
        assert!(by_the_end > 0, "the user was told something");
        assert_eq!(by_the_end, later, "nothing is told after the end");
        assert_eq!(self.tried, 0, "nothing is tried after the end");
    }
}

/// How many of these calls have not ended, and how many there are.
pub(crate) fn waiting(calls: &[Call]) -> [usize; 2] {
    [calls.iter().filter(|call| !call.has_ended()).count(), calls.len()]
}

/// Waits: how many API calls and dials come after the end.
pub(crate) async fn tried_afterwards(world: &mut World) -> usize {
    tokio::time::sleep(AFTERWARDS).await;
    let mut tried = 0;
    while world.api_within(Duration::ZERO).await.is_some() {
        tried += 1;
    }
    while world.dial_within(Duration::ZERO).await.is_some() {
        tried += 1;
    }
    tried
}

#[test]
fn whatever_is_wrong_with_closing_is_seen() {
    let right = Closing { rule: "CLI-14", took: [PROMPT, Duration::ZERO], closed: true };
    right.check();
    let moment = Duration::from_millis(1);
    for (words, closing) in [
        (LATE, Closing { took: [PROMPT + moment, Duration::ZERO], ..right }),
        ("closing twice", Closing { took: [PROMPT, moment], ..right }),
        ("it is closed", Closing { closed: false, ..right }),
    ] {
        crate::is_refused(words, || closing.check());
    }
}

#[test]
fn whatever_is_wrong_with_an_end_is_seen() {
    let right = Ending { waiting: [0, 1], told: [3, 3], tried: 0, events: vec!["state closed".to_owned()] };
    right.check();
    for (words, ending) in [
        (LATE, Ending { events: vec![LATE.to_owned()], ..right.clone() }),
        ("every call has ended", Ending { waiting: [1, 1], ..right.clone() }),
        ("told something", Ending { told: [0, 0], ..right.clone() }),
        ("told after the end", Ending { told: [3, 4], ..right.clone() }),
        ("tried after the end", Ending { tried: 1, ..right }),
    ] {
        crate::is_refused(words, || ending.check());
    }
}
