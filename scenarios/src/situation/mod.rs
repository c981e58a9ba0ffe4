//! Situations that a sweep ought to reach: sometimes-assertions.
//!
//! A run that fails nothing proves little if nothing happened in it. Each [`Situation`] is one that this project's rules are about;
//! [`Situations`] watches the events of a run and tells which of them were there. A sweep joins what its runs reached, and what none
//! of them reached is untested.
//!
//! Detectors are pure and see events only, so they work on runs, on files, and on what `up --trace` wrote; what only endpoints tell
//! (calls, states, causes) is not seen where no endpoint speaks.

mod detect;
mod facts;
mod list;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sideband_sim_kit::event::Event;

use self::facts::{Facts, Look, Told};
pub use self::list::Situation;

/// Which situations a stream of events has reached.
#[derive(Debug, Clone, Default)]
pub struct Situations {
    facts: Facts,
    reached: BTreeSet<Situation>,
}

impl Situations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows an event.
    pub fn observe(&mut self, event: &Event) {
        let told = Told::of(event);
        let look = Look { facts: &self.facts, event, told: &told };
        for situation in Situation::ALL {
            if !self.reached.contains(situation) && (situation.detector())(&look) {
                self.reached.insert(*situation);
            }
        }
        self.facts.follow(event, &told);
    }

    /// The situations that were reached so far.
    pub fn reached(&self) -> &BTreeSet<Situation> {
        &self.reached
    }

    /// What a whole trace reaches.
    pub fn of<'e>(events: impl IntoIterator<Item = &'e Event>) -> BTreeSet<Situation> {
        let mut situations = Self::new();
        events.into_iter().for_each(|event| situations.observe(event));
        situations.reached
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// No situation has this id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no situation has the id `{0}`")]
pub struct UnknownSituation(pub String);

impl FromStr for Situation {
    type Err = UnknownSituation;

    fn from_str(id: &str) -> Result<Self, UnknownSituation> {
        Self::ALL.iter().find(|situation| situation.id() == id).copied().ok_or_else(|| UnknownSituation(id.to_owned()))
    }
}

impl Serialize for Situation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Situation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
