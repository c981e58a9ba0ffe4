//! Two traces compared: they are the same, or here is the first event that differs, what comes before it, and which members differ.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use sideband_sim_kit::event::Event;

use crate::trace::{Sessions, Trace, describe};

/// Events that are shown before the first that differs.
pub const BEFORE: usize = 3;
/// Events of either trace that are shown behind it.
pub const AFTER: usize = 3;
/// Most characters of a member's value as people read it.
const MAX_VALUE: usize = 100;

/// What came of comparing two traces.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Comparison {
    /// They are the same, byte for byte.
    Same {
        /// Their hash.
        hash: String,
        /// How many events each has.
        events: usize,
    },
    /// They are not.
    Differ(Box<Difference>),
}

/// Where two traces part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The number of the first event that differs, from 1: its line in the NDJSON.
    pub event: usize,
    /// The hashes of the first and of the second trace.
    pub hashes: [String; 2],
    /// How many events they have.
    pub events: [usize; 2],
    /// The events before it, which both have: at most [`BEFORE`].
    pub before: Vec<Event>,
    /// The first trace's event, and at most [`AFTER`] behind it; empty if that trace ends here.
    pub first: Vec<Event>,
    /// The second trace's.
    pub second: Vec<Event>,
    /// The members in which the two events differ; empty if one trace ends here.
    pub members: Vec<Member>,
    #[serde(skip)]
    lines: Lines,
}

/// The events as people read them; sessions are named as in the whole trace.
#[derive(Debug, Clone, PartialEq, Default)]
struct Lines {
    before: Vec<String>,
    first: Vec<String>,
    second: Vec<String>,
}

/// A member that differs. A member that one event has not is null there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    /// Its name, as in the NDJSON.
    pub name: String,
    /// Its value in the first trace.
    pub first: Value,
    /// Its value in the second.
    pub second: Value,
}

/// Compares two traces.
pub fn compare(first: &Trace, second: &Trace) -> Comparison {
    let (one, two) = (first.events(), second.events());
    let same = one.iter().zip(two).take_while(|(one, two)| one == two).count();
    if same == one.len() && same == two.len() {
        return Comparison::Same { hash: first.hash(), events: same };
    }
    let from = same.saturating_sub(BEFORE);
    let rest = |events: &[Event]| events[same..events.len().min(same + 1 + AFTER)].to_vec();
    let mut sessions = Sessions::default();
    one[..from].iter().filter_map(|event| event.session).for_each(|session| {
        sessions.name(session);
    });
    let before = lines(&one[from..same], &mut sessions);
    let (first_rest, second_rest) = (rest(one), rest(two));
    // Each goes on from what both share.
    let mut other = sessions.clone();
    let lines = Lines { before, first: lines(&first_rest, &mut sessions), second: lines(&second_rest, &mut other) };
    Comparison::Differ(Box::new(Difference {
        event: same + 1,
        hashes: [first.hash(), second.hash()],
        events: [one.len(), two.len()],
        before: one[from..same].to_vec(),
        members: match (first_rest.first(), second_rest.first()) {
            (Some(one), Some(two)) => members(one, two),
            (None, _) | (_, None) => Vec::new(),
        },
        first: first_rest,
        second: second_rest,
        lines,
    }))
}

fn lines(events: &[Event], sessions: &mut Sessions) -> Vec<String> {
    events.iter().map(|event| format!("{:>7} {:<8} {}", event.at, event.host, describe(event, sessions))).collect()
}

/// The members that differ, in the order of the first event, then those that only the second has.
fn members(one: &Event, two: &Event) -> Vec<Member> {
    let (Ok(Value::Object(one)), Ok(Value::Object(mut two))) = (serde_json::to_value(one), serde_json::to_value(two))
    else {
        return Vec::new();
    };
    let mut members = Vec::new();
    for (name, first) in one {
        let second = two.remove(&name).unwrap_or(Value::Null);
        if first != second {
            members.push(Member { name, first, second });
        }
    }
    members.extend(two.into_iter().map(|(name, second)| Member { name, first: Value::Null, second }));
    members
}

impl Comparison {
    /// Whether the traces are the same.
    pub fn is_same(&self) -> bool {
        matches!(self, Self::Same { .. })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same { hash, events } => writeln!(f, "the traces are the same: {events} events, hash {hash}"),
            Self::Differ(difference) => difference.fmt(f),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the traces differ at event {}", self.event)?;
        match (self.first.is_empty(), self.second.is_empty()) {
            (true, _) => {
                writeln!(f, ": the first ends after {} events, the second has {}", self.events[0], self.events[1])?
            }
            (_, true) => {
                writeln!(f, ": the second ends after {} events, the first has {}", self.events[1], self.events[0])?
            }
            (false, false) => {
                let names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
                writeln!(f, " in {}", names.join(", "))?;
            }
        }
        for (mark, lines) in [(' ', &self.lines.before), ('-', &self.lines.first), ('+', &self.lines.second)] {
            for line in lines {
                writeln!(f, "{mark} {}", plain(line, usize::MAX))?;
            }
        }
        for Member { name, first, second } in &self.members {
            let (first, second) = (plain(&first.to_string(), MAX_VALUE), plain(&second.to_string(), MAX_VALUE));
            writeln!(f, "  {name}: {first} | {second}")?;
        }
        writeln!(f, "- hash {}\n+ hash {}", self.hashes[0], self.hashes[1])
    }
}

/// A text that does nothing to a terminal, at most so many characters long.
fn plain(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use sideband_sim_kit::event::EventKind;

    use super::*;
    use crate::world;

    fn steps(what: &[&str]) -> Trace {
        let event = |(at, what): (usize, &&str)| Event {
            at: at as u64 * 10,
            host: "net".to_owned(),
            daemon: None,
            session: None,
            kind: EventKind::Step { what: (*what).to_owned() },
        };
        Trace::new(what.iter().enumerate().map(event).collect())
    }

    fn differ(first: &Trace, second: &Trace) -> Difference {
        match compare(first, second) {
            Comparison::Differ(difference) => *difference,
            same @ Comparison::Same { .. } => panic!("{same}"),
        }
    }

    #[test]
    fn the_same_trace_is_the_same() {
        let trace = world::run(0).unwrap();
        let comparison = compare(&trace, &trace.clone());
        assert!(comparison.is_same());
        assert!(comparison.to_string().contains(&trace.hash()));
        assert!(compare(&steps(&[]), &steps(&[])).is_same());
    }

    #[test]
    fn the_first_event_that_differs_is_named_with_what_stands_around_it() {
        let difference = differ(&steps(&["a", "b", "c", "d", "e", "f"]), &steps(&["a", "b", "c", "d", "E", "f"]));
        assert_eq!(difference.event, 5);
        insta::assert_snapshot!("first_difference", difference);
        let json = serde_json::to_value(Comparison::Differ(Box::new(difference))).unwrap();
        assert_eq!(json["result"], "differ");
        assert_eq!(json["members"], serde_json::json!([{ "name": "what", "first": "e", "second": "E" }]));
        assert_eq!(json["before"].as_array().unwrap().len(), BEFORE);
    }

    #[test]
    fn a_trace_that_ends_early_differs_there() {
        let (long, short) = (steps(&["a", "b", "c"]), steps(&["a"]));
        let difference = differ(&long, &short);
        assert_eq!((difference.event, difference.first.len(), difference.second.len()), (2, 2, 0));
        assert!(difference.to_string().starts_with("the traces differ at event 2: the second ends after 1 events"));
        assert!(differ(&short, &long).to_string().contains("the first ends after 1 events, the second has 3"));
    }

    #[test]
    fn members_of_which_one_event_has_none_are_null_there() {
        let one = steps(&["a"]);
        let mut events = one.events().to_vec();
        events[0].daemon = Some("d".to_owned());
        let difference = differ(&one, &Trace::new(events));
        assert_eq!(difference.members, [Member { name: "daemon".to_owned(), first: Value::Null, second: "d".into() }]);
    }

    #[test]
    fn other_seeds_differ_and_sessions_keep_their_names() {
        let difference = differ(&world::run(0).unwrap(), &world::run(1).unwrap());
        assert!(!difference.members.is_empty());
        let text = difference.to_string();
        assert!(text.lines().count() < 30, "{text}");
    }

    #[test]
    fn a_hostile_text_does_nothing_to_a_terminal() {
        let text = differ(&steps(&["\u{1b}[2J"]), &steps(&[&"x".repeat(10_000)])).to_string();
        assert!(!text.contains('\u{1b}'));
        assert!(text.contains('…'));
    }
}
