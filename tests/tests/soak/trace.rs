//! Whether what a relay tells hangs together: pure, fed one event at a time.

use std::collections::{BTreeMap, BTreeSet};

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Event, EventKind};

/// Most contradictions that are written down; the others are counted.
const MOST_WRONG: usize = 20;

/// A trace as far as it went.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    open: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    sessions: BTreeMap<SessionId, String>,
    ended: BTreeSet<SessionId>,
    /// How many events there were of each kind that is counted.
    pub(crate) counts: BTreeMap<String, u64>,
    wrong: Vec<String>,
    more_wrong: usize,
}

impl Trace {
    /// The next event.
    pub(crate) fn observe(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Opened { connection, .. } => {
                self.count("connections");
                if self.gone.contains(connection) || !self.open.insert(*connection) {
                    self.wrong(event, "opened twice");
                }
            }
            EventKind::Closed { connection, .. } => {
                if !self.open.remove(connection) {
                    self.wrong(event, "closed without being open");
                }
                self.gone.insert(*connection);
            }
            EventKind::Frame { connection, .. } => {
                self.count("frames");
                self.needs_open(*connection, event);
            }
            EventKind::MessageRefused { connection, .. }
            | EventKind::Control { connection, .. }
            | EventKind::RateLimited { connection, .. }
            | EventKind::Swept { connection } => self.needs_open(*connection, event),
            EventKind::Session { state } => self.session(event, state),
            EventKind::UpgradeRefused { status, .. } => self.count(&format!("upgrade refused {status}")),
            EventKind::Grade { rule, evidence, .. } => self.wrong(event, &format!("graded {rule}: {evidence}")),
            EventKind::Restarted => self.count("restarts"),
            // A frame that is dropped may be the last thing that its connection sent; the others have no connection.
            _ => {}
        }
    }

    fn needs_open(&mut self, connection: u64, event: &Event) {
        if !self.open.contains(&connection) {
            self.wrong(event, "of a connection that is not open");
        }
    }

    fn session(&mut self, event: &Event, state: &str) {
        let Some(id) = event.session else { return self.wrong(event, "no session is named") };
        let before = self.sessions.get(&id).cloned();
        let before = before.as_deref();
        let follows = match (before, state) {
            // Its client came while the daemon was not there.
            (None, "ended") => !self.ended.contains(&id),
            (None, "paired") => self.ended.is_empty() || !self.ended.contains(&id),
            (Some("paired"), "paused" | "ended") => true,
            (Some("paused"), "pending" | "ended") => true,
            (Some("pending"), "paired" | "paused" | "ended") => true,
            _ => false,
        };
        if !follows {
            self.wrong(event, &format!("after {}", before.unwrap_or("nothing or an end")));
        }
        if state == "ended" {
            self.sessions.remove(&id);
            self.ended.insert(id);
        } else {
            if before.is_none() {
                self.count("sessions");
            }
            if state == "pending" {
                self.count("resumes begun");
            }
            self.sessions.insert(id, state.to_owned());
        }
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    fn wrong(&mut self, event: &Event, why: &str) {
        if self.wrong.len() < MOST_WRONG {
            self.wrong.push(format!("{why}: {event:?}"));
        } else {
            self.more_wrong += 1;
        }
    }

    /// What contradicts itself, once everybody is gone: a connection or a session that is still there is one more.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        if self.more_wrong > 0 {
            wrong.push(format!("and {} more", self.more_wrong));
        }
        wrong.extend(self.open.iter().map(|connection| format!("connection {connection} is never closed")));
        wrong.extend(self.sessions.iter().map(|(id, state)| format!("session {id} stays {state}")));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use sideband_sim_kit::event::Role;

    use super::*;

    fn told(session: Option<u64>, kind: EventKind) -> Event {
        let session = session.map(|n| SessionId::new(n).unwrap());
        Event { at: 0, host: "relay".to_owned(), daemon: None, session, kind }
    }

    fn opened(connection: u64) -> Event {
        told(None, EventKind::Opened { connection, role: Role::Client, token: None, resumable: None })
    }

    fn closed(connection: u64) -> Event {
        told(None, EventKind::Closed { connection, code: None, by: None, answered: false })
    }

    fn session(id: u64, state: &str) -> Event {
        told(Some(id), EventKind::Session { state: state.to_owned() })
    }

    fn found(events: &[Event]) -> usize {
        let mut trace = Trace::default();
        events.iter().for_each(|event| trace.observe(event));
        trace.contradictions().len()
    }

    #[test]
    fn a_life_that_hangs_together_is_left_alone() {
        let states = ["paired", "paused", "pending", "paused", "pending", "paired", "ended"];
        let mut life = vec![opened(1)];
        life.extend(states.map(|state| session(5, state)));
        life.push(told(None, EventKind::Swept { connection: 1 }));
        life.push(closed(1));
        assert_eq!(found(&life), 0);
    }

    #[test]
    fn each_contradiction_is_found() {
        let swept = told(None, EventKind::Swept { connection: 1 });
        for (events, why) in [
            (vec![opened(1)], "never closed"),
            (vec![closed(1)], "never opened"),
            (vec![opened(1), closed(1), closed(1)], "closed twice"),
            (vec![opened(1), closed(1), opened(1), closed(1)], "opened twice"),
            (vec![swept.clone()], "before it opened"),
            (vec![opened(1), closed(1), swept], "after it closed"),
            (vec![session(1, "paired")], "never ends"),
            (vec![session(1, "paused"), session(1, "ended")], "begins paused"),
            (
                vec![session(1, "paired"), session(1, "pending"), session(1, "ended")],
                "pending while the daemon is there",
            ),
            (vec![session(1, "paired"), session(1, "ended"), session(1, "ended")], "ends twice"),
            (vec![session(1, "ended"), session(1, "paired"), session(1, "ended")], "comes again"),
            (vec![session(1, "floating"), session(1, "ended")], "no state"),
        ] {
            assert!(found(&events) >= 1, "{why}");
        }
    }
}
