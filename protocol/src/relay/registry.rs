//! Session ids that were used (REL-10).

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use super::{RelayQuirk, RelayQuirks};
use crate::{Instant, SessionId};

/// The longest life of a client token (TOK-09) and the skew that the relay allows behind it (TOK-05): for so long at least is a
/// session id remembered after its session's end (REL-10).
pub const TOKEN_LIFE: Duration = Duration::from_secs(300 + 30);

/// The session id is in use or was used (REL-10): 409 `session_conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session id was used already")]
pub struct SessionConflict;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A client with it is connected; its token is good until then.
    Live(Instant),
    /// It is over; remembered until then.
    Over(Instant),
}

/// Which session ids were used, over all daemons. A live one is remembered as long as it lives, and each one until its
/// token has run out, but at least for as long as any client token lives, counted from the session's end. So memory is
/// bounded by the sessions that opened in that time.
///
/// A relay that keeps the ids beyond its process writes each down when it is [claimed](Self::claim), and crosses out those that
/// [are forgotten](Self::take_forgotten); the next process [restores](Self::restore) what stands there.
#[derive(Debug, Default)]
pub struct Registry {
    used: BTreeMap<SessionId, Use>,
    forget: BTreeSet<(Instant, SessionId)>,
    /// Those that were forgotten and not asked for yet; none if nobody wants to know.
    forgotten: Option<Vec<SessionId>>,
    quirks: RelayQuirks,
}

impl Registry {
    /// A registry that remembers nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, which also tells what it [has forgotten](Self::take_forgotten).
    pub fn telling_forgotten(mut self) -> Self {
        self.forgotten = Some(Vec::new());
        self
    }

    /// The same, wrong on purpose.
    #[doc(hidden)]
    pub fn danger_quirks(mut self, quirks: RelayQuirks) -> Self {
        self.quirks = quirks;
        self
    }

    /// Takes a session id for a client whose token is accepted until `token_dies` (`exp` and the skew behind it).
    ///
    /// # Errors
    /// The id lives, or lived and is remembered (REL-10).
    pub fn claim(&mut self, session: SessionId, token_dies: Instant, now: Instant) -> Result<(), SessionConflict> {
        self.forget_old(now);
        if self.used.contains_key(&session) && !self.quirks.has(RelayQuirk::TellsConflictsLate) {
            return Err(SessionConflict);
        }
        self.used.insert(session, Use::Live(token_dies));
        Ok(())
    }

    /// Gives an id back whose client was not let in after all: it was not used.
    pub fn unclaim(&mut self, session: SessionId) {
        if let Some(Use::Live(_)) = self.used.get(&session) {
            self.used.remove(&session);
        }
    }

    /// The session is over. Unknown ids, and a second time for the same one, do nothing.
    pub fn release(&mut self, session: SessionId, now: Instant) {
        if self.quirks.has(RelayQuirk::ForgetsUsedIds) {
            return self.unclaim(session);
        }
        if let Some(entry @ &mut Use::Live(token_dies)) = self.used.get_mut(&session) {
            let until = token_dies.max(now + TOKEN_LIFE);
            *entry = Use::Over(until);
            self.forget.insert((until, session));
        }
        self.forget_old(now);
    }

    /// Takes in an id that an earlier process let in: its session is over, and it is remembered until then. An id that is known
    /// already stays as it is.
    pub fn restore(&mut self, session: SessionId, until: Instant) {
        if let Entry::Vacant(free) = self.used.entry(session) {
            free.insert(Use::Over(until));
            self.forget.insert((until, session));
        }
    }

    /// The ids that were forgotten since this was asked last, if the registry [tells](Self::telling_forgotten). At most as many
    /// as were remembered.
    pub fn take_forgotten(&mut self) -> Vec<SessionId> {
        self.forgotten.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many ids are remembered, those of live sessions included.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether no id is remembered.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(&(until, session)) = self.forget.first()
            && until < now
        {
            self.forget.pop_first();
            self.used.remove(&session);
            if let Some(forgotten) = &mut self.forgotten {
                forgotten.push(session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    fn id(n: u64) -> SessionId {
        SessionId::new(n).unwrap()
    }

    #[test]
    fn rel_10_a_live_session_id_is_refused_however_long_it_lives() {
        let mut registry = Registry::new();
        assert_eq!(registry.claim(id(1), at(150), at(0)), Ok(()));
        assert_eq!(registry.claim(id(1), at(150), at(1)), Err(SessionConflict));
        assert_eq!(registry.claim(id(1), at(100_000), at(99_999)), Err(SessionConflict));
        assert_eq!(registry.claim(id(2), at(150), at(1)), Ok(()), "another id is free");
    }

    #[test]
    fn rel_10_an_ended_session_id_is_refused_for_a_token_life() {
        let mut registry = Registry::new();
        registry.claim(id(1), at(150), at(0)).unwrap();
        registry.release(id(1), at(10));
        assert_eq!(registry.claim(id(1), at(470), at(340)), Err(SessionConflict));
        assert_eq!(registry.claim(id(1), at(471), at(341)), Ok(()));
    }

    #[test]
    fn rel_10_an_id_is_remembered_while_its_own_token_lives() {
        let mut registry = Registry::new();
        registry.claim(id(1), at(5_000), at(0)).unwrap();
        registry.release(id(1), at(10));
        assert_eq!(registry.claim(id(1), at(5_000), at(5_000)), Err(SessionConflict));
        assert_eq!(registry.claim(id(1), at(9_000), at(5_001)), Ok(()));
    }

    #[test]
    fn rel_23_an_id_that_was_given_back_is_free_and_one_that_is_over_is_not() {
        let mut registry = Registry::new();
        registry.claim(id(1), at(150), at(0)).unwrap();
        registry.unclaim(id(1));
        assert_eq!(registry.claim(id(1), at(150), at(1)), Ok(()));
        registry.release(id(1), at(2));
        registry.unclaim(id(1));
        assert_eq!(registry.claim(id(1), at(150), at(3)), Err(SessionConflict));
    }

    #[test]
    fn rel_10_memory_is_bounded_by_time() {
        let mut registry = Registry::new();
        for n in 1..=1_000 {
            registry.claim(id(n), at(n + 150), at(n)).unwrap();
            registry.release(id(n), at(n));
            assert!(registry.len() <= 332, "{}", registry.len());
        }
        registry.release(id(1), at(5_000));
        assert!(registry.is_empty());
    }

    #[test]
    fn rel_10_an_id_of_an_earlier_process_is_refused_until_its_time_is_over() {
        let mut registry = Registry::new();
        registry.restore(id(1), at(100));
        assert_eq!(registry.claim(id(1), at(500), at(100)), Err(SessionConflict));
        assert_eq!(registry.claim(id(1), at(500), at(101)), Ok(()));
        registry.restore(id(1), at(50));
        assert_eq!(registry.claim(id(1), at(900), at(400)), Err(SessionConflict), "it lives, whatever is restored");
    }

    #[test]
    fn rel_10_what_is_forgotten_is_told_once_to_who_asked_for_it() {
        for (mut registry, tells) in [(Registry::new(), false), (Registry::new().telling_forgotten(), true)] {
            registry.restore(id(1), at(100));
            registry.claim(id(2), at(100), at(0)).unwrap();
            registry.claim(id(3), at(100), at(0)).unwrap();
            registry.claim(id(4), at(100), at(0)).unwrap();
            registry.release(id(2), at(0));
            registry.unclaim(id(4));
            assert_eq!(registry.take_forgotten(), []);
            registry.claim(id(5), at(900), at(400)).unwrap();
            let expected = if tells { vec![id(1), id(2)] } else { vec![] };
            assert_eq!(registry.take_forgotten(), expected, "3 lives, and 4 was given back");
            assert_eq!(registry.take_forgotten(), []);
        }
    }

    #[test]
    fn rel_10_a_second_release_does_not_prolong_the_memory() {
        let mut registry = Registry::new();
        registry.claim(id(1), at(150), at(0)).unwrap();
        registry.release(id(1), at(0));
        registry.release(id(1), at(300));
        assert_eq!(registry.claim(id(1), at(400), at(331)), Ok(()));
    }
}
