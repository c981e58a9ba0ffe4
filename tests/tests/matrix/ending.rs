//! What must hold wherever an endpoint closes, and what was seen of it.

use std::time::Duration;

use sideband_tests::script::World;

use crate::{LATE, PROMPT, record::Call};

/// How long nothing may follow an end.
const AFTERWARDS: Duration = Duration::from_secs(3_600);

/// What was seen of an endpoint's end.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// The rule on closing.
    pub(crate) rule: &'static str,
    /// How long `close()` took, and once more; nothing where no handle is left.
    pub(crate) closes: Option<[Duration; 2]>,
    /// Calls that were made.
    pub(crate) calls: usize,
    /// Those that still wait.
    pub(crate) waiting: usize,
    /// How much the user had been told by the end, and how much later.
    pub(crate) told: [usize; 2],
    /// API calls and dials after the end.
    pub(crate) tried: usize,
    /// What was recorded, to be shown.
    pub(crate) events: Vec<String>,
}

impl Ending {
    /// # Panics
    /// If something does not hold.
    pub(crate) fn check(&self) {
        let late = || format!("{LATE} ({})", self.rule);
        assert!(!self.events.iter().any(|event| event == LATE), "{}", late());
        if let Some([first, again]) = self.closes {
            assert!(first <= PROMPT, "{}", late());
            assert_eq!(again, Duration::ZERO, "closing twice is fine");
        }
        assert_eq!(self.waiting, 0, "every call has ended, all {}: {:?}", self.calls, self.events);
        assert!(self.told[0] > 0, "the user was told something");
        assert_eq!(self.told[0], self.told[1], "nothing is told after the end");
        assert_eq!(self.tried, 0, "nothing is tried after the end");
    }
}

/// How many of these calls have not ended.
pub(crate) fn waiting(calls: &[Call]) -> usize {
    calls.iter().filter(|call| !call.has_ended()).count()
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
fn whatever_is_wrong_with_an_end_is_seen() {
    let right = Ending {
        rule: "CLI-14",
        closes: Some([PROMPT, Duration::ZERO]),
        calls: 1,
        waiting: 0,
        told: [3, 3],
        tried: 0,
        events: vec!["state closed".to_owned()],
    };
    right.check();
    Ending { closes: None, ..right.clone() }.check();
    let moment = Duration::from_millis(1);
    let wrong = [
        (LATE, Ending { events: vec![LATE.to_owned()], ..right.clone() }),
        (LATE, Ending { closes: Some([PROMPT + moment, Duration::ZERO]), ..right.clone() }),
        ("closing twice", Ending { closes: Some([PROMPT, moment]), ..right.clone() }),
        ("every call has ended", Ending { waiting: 1, ..right.clone() }),
        ("told something", Ending { told: [0, 0], ..right.clone() }),
        ("told after the end", Ending { told: [3, 4], ..right.clone() }),
        ("tried after the end", Ending { tried: 1, ..right }),
    ];
    for (words, ending) in wrong {
        crate::is_refused(words, || ending.check());
    }
}
