//! When a relay reads the key set (KEY-01 to KEY-03), as a pure machine.
//!
//! One [`KeyCache`] a relay, one [`Lookup`] an upgrade. The driver calls [`KeyCache::next`] until it has its answer;
//! nothing else changes a lookup but [`Lookup::unknown_kid`], nothing else the cache but [`KeyCache::fetched`] and
//! [`KeyCache::fetch_failed`]. After [`Next::Fetch`] the driver owes exactly one of these two, also when the upgrade that
//! started the fetch is gone: run it in a task of its own.
//!
//! | the cache has | what happens |
//! |---|---|
//! | nothing | the set is fetched; no answer → 503 |
//! | a set of less than 5 minutes | it is used |
//! | an older one | it is fetched anew; no answer → the old one goes on being used, and the next try is 10 s later; nobody waits for that one |
//! | a set without the token's `kid` | it is fetched at once, if none was for this reason in the last 10 s, else 503; still without: 401; no answer: 503 |
//!
//! Upgrades that come while a fetch is under way wait for it if they need what it brings, so there is never more than one.

use std::{sync::Arc, time::Duration};

use super::KeySet;
use crate::Instant;

/// How long a fetched set is used without asking again (KEY-01).
pub const MAX_AGE: Duration = Duration::from_secs(300);
/// Shortest time between two refreshes that unknown key ids cause (KEY-01).
pub const FORCED_INTERVAL: Duration = Duration::from_secs(10);
/// How long an old set is used without asking again after a refresh failed (KEY-03).
pub const STALE_RETRY: Duration = Duration::from_secs(10);

/// What the driver does next for one upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Check the token with this set. If it says `UnknownKid`: [`Lookup::unknown_kid`], and ask again.
    Check(Arc<KeySet>),
    /// As [`Check`](Self::Check), and fetch the set meanwhile: the last fetch failed, so nobody waits for this one (KEY-03).
    CheckAndFetch(Arc<KeySet>),
    /// Fetch the set, hand the outcome to the cache, then ask again.
    Fetch,
    /// A fetch is under way: wait until its outcome is handed to the cache, then ask again.
    Wait,
    /// Answer 503 `unavailable` (KEY-01, KEY-03).
    Unavailable,
    /// Answer 401 `unauthorized`: the key id is unknown also after a refresh (KEY-01).
    Unauthorized,
}

/// One upgrade's way to a key set.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    /// Failures that the cache had seen when this lookup first asked.
    failures_before: Option<u64>,
    /// The generation of the set that was handed out last.
    checked: u64,
    unknown: bool,
    /// The number of the refresh for an unknown key that this lookup started or waited for.
    forced: Option<u64>,
    /// The set was checked after such a refresh: nothing more is tried.
    last_chance: bool,
}

impl Lookup {
    /// The set that was handed out has no such key.
    pub fn unknown_kid(&mut self) {
        self.unknown = true;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    /// The first load, or a timed one.
    Plain,
    /// For an unknown key; with its number.
    Forced(u64),
}

/// The key set that a relay has, and when it asks for another.
#[derive(Debug, Default)]
pub struct KeyCache {
    keys: Option<Arc<KeySet>>,
    fetched_at: Instant,
    /// Sets fetched so far.
    generation: u64,
    /// Fetches that failed so far.
    failures: u64,
    retry_at: Option<Instant>,
    under_way: Option<Fetch>,
    /// Refreshes for unknown keys so far, and when the last one began.
    forced: u64,
    forced_at: Option<Instant>,
}

impl KeyCache {
    /// What to do next for this upgrade.
    pub fn next(&mut self, lookup: &mut Lookup, now: Instant) -> Next {
        let failures_before = *lookup.failures_before.get_or_insert(self.failures);
        if lookup.unknown { self.next_unknown(lookup, now) } else { self.next_known(lookup, failures_before, now) }
    }

    fn next_known(&mut self, lookup: &mut Lookup, failures_before: u64, now: Instant) -> Next {
        let Some(keys) = self.keys.clone() else {
            return if self.under_way.is_some() {
                Next::Wait
            } else if self.failures > failures_before {
                // KEY-03: it was tried since this upgrade came.
                Next::Unavailable
            } else {
                self.start(Fetch::Plain)
            };
        };
        let due = self.next_refresh().is_some_and(|at| now >= at);
        let failed_before = self.retry_at.is_some();
        if due && !failed_before {
            return if self.under_way.is_some() { Next::Wait } else { self.start(Fetch::Plain) };
        }
        lookup.checked = self.generation;
        if due && self.under_way.is_none() {
            self.under_way = Some(Fetch::Plain);
            return Next::CheckAndFetch(keys);
        }
        Next::Check(keys)
    }

    fn next_unknown(&mut self, lookup: &mut Lookup, now: Instant) -> Next {
        if lookup.last_chance {
            return Next::Unauthorized;
        }
        match self.under_way {
            Some(Fetch::Forced(number)) => {
                lookup.forced = Some(number);
                return Next::Wait;
            }
            Some(Fetch::Plain) => return Next::Wait,
            None => {}
        }
        if let (true, Some(keys)) = (self.generation > lookup.checked, &self.keys) {
            // There is a newer set. If it came of a refresh for this key id, it is the last word.
            lookup.checked = self.generation;
            lookup.last_chance = lookup.forced.is_some();
            lookup.unknown = false;
            return Next::Check(keys.clone());
        }
        if lookup.forced.is_some() || self.forced_at.is_some_and(|at| now < at + FORCED_INTERVAL) {
            // The refresh failed, or there was one just now: it cannot be told whether the key is good.
            return Next::Unavailable;
        }
        self.forced += 1;
        self.forced_at = Some(now);
        lookup.forced = Some(self.forced);
        self.start(Fetch::Forced(self.forced))
    }

    fn start(&mut self, fetch: Fetch) -> Next {
        self.under_way = Some(fetch);
        Next::Fetch
    }

    /// The fetch brought a set.
    pub fn fetched(&mut self, keys: KeySet, now: Instant) {
        self.keys = Some(Arc::new(keys));
        self.generation += 1;
        self.fetched_at = now;
        self.retry_at = None;
        self.under_way = None;
    }

    /// The fetch brought none: no answer in time, a status other than 200, or a body that is no key set.
    pub fn fetch_failed(&mut self, now: Instant) {
        self.failures += 1;
        self.retry_at = Some(now + STALE_RETRY);
        self.under_way = None;
    }

    /// When a set that is there is due to be fetched anew; the next upgrade after it causes that, so a driver need not
    /// set a timer.
    pub fn next_refresh(&self) -> Option<Instant> {
        self.keys.as_ref()?;
        let due = self.fetched_at + MAX_AGE;
        Some(self.retry_at.map_or(due, |retry| due.max(retry)))
    }

    /// The set that is there, however old.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.keys.clone()
    }
}
