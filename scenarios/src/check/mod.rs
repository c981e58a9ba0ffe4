//! Invariants: what must be so in every run, whatever happens. Each reads the events of the run and says what broke it.
//!
//! | name | what | file |
//! |---|---|---|
//! | `call-ends-once` | a call ends exactly once | `calls` |
//! | `call-own-answer` | with the answer of its own request (RPC-01) | `calls` |
//! | `calls-in-order` | calls arrive in the order made (CLI-09) | `calls` |
//! | `events-in-order` | at most once, in the order sent (EVT-02, CLI-10) | `events` |
//! | `nonce-once` | no nonce twice under a key (CRY-04) | `nonces` |
//! | `session-once` | no session id is accepted twice (REL-10, CLI-01) | `sessions` |
//! | `delays` | delays are as the policies say (CLI-04, CLI-06, DMN-04) | `delays` |
//! | `nothing-after-close` | nothing is delivered after close (CLI-14) | `closed` |
//! | `no-grade` | no correct endpoint is told that it broke a rule | `grades` |
//!
//! The runner adds what events do not show: `no-plaintext`, `keys-gone`, `tasks-gone`, `recovers`, `relay-empties`, and `steps-come`: each step
//! that waits for an event has its turn.

mod calls;
mod closed;
mod delays;
mod events;
mod grades;
mod nonces;
mod sessions;
#[cfg(test)]
mod tests;

use sideband_sim_kit::event::Event;

use crate::scenario::Scenario;

/// Something that must always be so.
pub trait Invariant {
    /// Its name, as `finish.without` has it.
    fn name(&self) -> &'static str;

    /// Looks at the next event; what it shows to be broken goes to `broken`.
    fn see(&mut self, event: &Event, broken: &mut Vec<String>);

    /// The host's process is gone at once, with all that it had under way.
    fn gone(&mut self, _host: &str) {}

    /// The run is over.
    fn finish(&mut self, _broken: &mut Vec<String>) {}
}

/// All that events show, for a scenario.
pub fn all(scenario: &Scenario) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(calls::EndsOnce::default()),
        Box::new(calls::OwnAnswer),
        Box::new(calls::InOrder::default()),
        Box::new(events::InOrder::default()),
        Box::new(nonces::Once::default()),
        Box::new(sessions::Once::default()),
        Box::new(delays::Delays::new(scenario)),
        Box::new(closed::NothingAfter::default()),
        Box::new(grades::NoGrade),
    ]
}

/// The names of all invariants, those that the runner looks at included.
pub const NAMES: [&str; 15] = [
    "call-ends-once",
    "call-own-answer",
    "calls-in-order",
    "events-in-order",
    "nonce-once",
    "session-once",
    "delays",
    "nothing-after-close",
    "no-grade",
    "no-plaintext",
    "keys-gone",
    "tasks-gone",
    "recovers",
    "relay-empties",
    "steps-come",
];
