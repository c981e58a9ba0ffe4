use std::time::Duration;

use crate::{
    Instant,
    token::{KeyCache, KeySet, Lookup, Next, Signer},
};

fn at(seconds: u64) -> Instant {
    Instant::from_origin(Duration::from_secs(seconds))
}

fn set(kid: &str) -> KeySet {
    KeySet::from_keys([Signer::from_seed(kid, &[1; 32]).public()])
}

/// A cache that read `k-1` at second 0.
fn warm() -> KeyCache {
    let mut cache = KeyCache::default();
    assert_eq!(cache.next(&mut Lookup::default(), at(0)), Next::Fetch);
    cache.fetched(set("k-1"), at(0));
    cache
}

fn kid(next: Next) -> String {
    let Next::Check(keys) = &next else { panic!("{next:?}") };
    keys.keys()[0].kid().to_owned()
}

/// A lookup that was given the set of the moment and found its key unknown.
fn unknown(cache: &mut KeyCache, now: Instant) -> Lookup {
    let mut lookup = Lookup::default();
    kid(cache.next(&mut lookup, now));
    lookup.unknown_kid();
    lookup
}

#[test]
fn key_01_a_set_is_used_for_five_minutes() {
    let mut cache = warm();
    assert_eq!(kid(cache.next(&mut Lookup::default(), at(299))), "k-1");
    assert_eq!(cache.next_refresh(), Some(at(300)));
    let mut lookup = Lookup::default();
    assert_eq!(cache.next(&mut lookup, at(300)), Next::Fetch);
    cache.fetched(set("k-2"), at(300));
    assert_eq!(kid(cache.next(&mut lookup, at(300))), "k-2");
}

#[test]
fn key_01_an_unknown_kid_refreshes_at_once_and_is_found() {
    let mut cache = warm();
    let mut lookup = unknown(&mut cache, at(1));
    assert_eq!(cache.next(&mut lookup, at(1)), Next::Fetch);
    cache.fetched(set("k-2"), at(1));
    assert_eq!(kid(cache.next(&mut lookup, at(1))), "k-2");
}

#[test]
fn key_01_still_unknown_after_the_refresh_is_401() {
    let mut cache = warm();
    let mut lookup = unknown(&mut cache, at(1));
    assert_eq!(cache.next(&mut lookup, at(1)), Next::Fetch);
    cache.fetched(set("k-1"), at(1));
    kid(cache.next(&mut lookup, at(1)));
    lookup.unknown_kid();
    assert_eq!(cache.next(&mut lookup, at(1)), Next::Unauthorized);
}

#[test]
fn key_01_a_second_refresh_within_10_s_is_503_and_later_allowed() {
    let mut cache = warm();
    let mut first = unknown(&mut cache, at(20));
    assert_eq!(cache.next(&mut first, at(20)), Next::Fetch);
    cache.fetched(set("k-1"), at(20));
    let mut second = unknown(&mut cache, at(29));
    assert_eq!(cache.next(&mut second, at(29)), Next::Unavailable);
    let mut third = unknown(&mut cache, at(30));
    assert_eq!(cache.next(&mut third, at(30)), Next::Fetch);
}

#[test]
fn key_01_the_first_load_and_timed_ones_do_not_count() {
    // Cold: the first load at second 0, an unknown key in it, refreshed at once.
    let mut cache = warm();
    let mut lookup = unknown(&mut cache, at(0));
    assert_eq!(cache.next(&mut lookup, at(0)), Next::Fetch);
    cache.fetched(set("k-1"), at(0));
    // Timed: the set is old at 300.
    let mut lookup = Lookup::default();
    assert_eq!(cache.next(&mut lookup, at(300)), Next::Fetch);
    cache.fetched(set("k-1"), at(300));
    kid(cache.next(&mut lookup, at(300)));
    lookup.unknown_kid();
    assert_eq!(cache.next(&mut lookup, at(300)), Next::Fetch);
}

#[test]
fn key_01_upgrades_that_come_at_once_share_one_refresh() {
    let mut cache = warm();
    let mut first = unknown(&mut cache, at(1));
    let mut second = unknown(&mut cache, at(1));
    let mut known = Lookup::default();
    assert_eq!(cache.next(&mut first, at(1)), Next::Fetch);
    assert_eq!(cache.next(&mut second, at(1)), Next::Wait);
    assert_eq!(kid(cache.next(&mut known, at(1))), "k-1", "known keys do not wait for it");
    cache.fetched(set("k-1"), at(2));
    for lookup in [&mut first, &mut second] {
        kid(cache.next(lookup, at(2)));
        lookup.unknown_kid();
        assert_eq!(cache.next(lookup, at(2)), Next::Unauthorized, "both saw a refresh");
    }
}

#[test]
fn key_01_an_unknown_kid_waits_for_a_timed_refresh_and_then_has_its_own() {
    let mut cache = warm();
    let mut lookup = unknown(&mut cache, at(299));
    assert_eq!(cache.next(&mut Lookup::default(), at(300)), Next::Fetch);
    assert_eq!(cache.next(&mut lookup, at(300)), Next::Wait);
    cache.fetched(set("k-1"), at(300));
    kid(cache.next(&mut lookup, at(300)));
    lookup.unknown_kid();
    assert_eq!(cache.next(&mut lookup, at(300)), Next::Fetch);
}

#[test]
fn key_01_a_refresh_that_fails_tells_nothing_of_the_key() {
    let mut cache = warm();
    let mut first = unknown(&mut cache, at(1));
    let mut second = unknown(&mut cache, at(1));
    assert_eq!(cache.next(&mut first, at(1)), Next::Fetch);
    assert_eq!(cache.next(&mut second, at(1)), Next::Wait);
    cache.fetch_failed(at(2));
    assert_eq!(cache.next(&mut first, at(2)), Next::Unavailable);
    assert_eq!(cache.next(&mut second, at(2)), Next::Unavailable);
    assert_eq!(kid(cache.next(&mut Lookup::default(), at(2))), "k-1", "known keys go on");
}

#[test]
fn key_03_nothing_cached_and_none_to_be_had_is_503() {
    let mut cache = KeyCache::default();
    let (mut first, mut second) = (Lookup::default(), Lookup::default());
    assert_eq!(cache.next(&mut first, at(0)), Next::Fetch);
    assert_eq!(cache.next(&mut second, at(0)), Next::Wait);
    cache.fetch_failed(at(1));
    assert_eq!(cache.next(&mut first, at(1)), Next::Unavailable);
    assert_eq!(cache.next(&mut second, at(1)), Next::Unavailable);
    // The next upgrade tries anew, at once.
    let mut third = Lookup::default();
    assert_eq!(cache.next(&mut third, at(1)), Next::Fetch);
    cache.fetched(set("k-1"), at(1));
    assert_eq!(kid(cache.next(&mut third, at(1))), "k-1");
}

#[test]
fn key_03_an_old_set_goes_on_being_used_and_is_asked_for_every_10_s() {
    let mut cache = warm();
    let mut lookup = Lookup::default();
    assert_eq!(cache.next(&mut lookup, at(1_000)), Next::Fetch);
    let mut waiting = Lookup::default();
    assert_eq!(cache.next(&mut waiting, at(1_000)), Next::Wait);
    cache.fetch_failed(at(1_002));
    assert_eq!(kid(cache.next(&mut lookup, at(1_002))), "k-1");
    assert_eq!(kid(cache.next(&mut waiting, at(1_002))), "k-1");
    assert_eq!(kid(cache.next(&mut Lookup::default(), at(1_011))), "k-1");
    assert_eq!(cache.next_refresh(), Some(at(1_012)));
    let next = cache.next(&mut Lookup::default(), at(1_012));
    assert!(matches!(next, Next::CheckAndFetch(_)), "{next:?}");
    assert_eq!(kid(cache.next(&mut Lookup::default(), at(1_013))), "k-1", "nobody waits for a second failure");
    cache.fetched(set("k-2"), at(1_014));
    assert_eq!(kid(cache.next(&mut Lookup::default(), at(1_014))), "k-2");
    assert_eq!(
        cache.next(&mut Lookup::default(), at(1_314)),
        Next::Fetch,
        "the issuer answers again: its word is awaited"
    );
}

#[test]
fn key_03_an_unknown_key_waits_for_the_fetch_that_nobody_else_waits_for() {
    let mut cache = warm();
    assert_eq!(cache.next(&mut Lookup::default(), at(400)), Next::Fetch);
    cache.fetch_failed(at(400));
    let mut lookup = Lookup::default();
    assert!(matches!(cache.next(&mut lookup, at(410)), Next::CheckAndFetch(_)));
    lookup.unknown_kid();
    assert_eq!(cache.next(&mut lookup, at(410)), Next::Wait);
    cache.fetched(set("k-2"), at(411));
    assert_eq!(kid(cache.next(&mut lookup, at(411))), "k-2");
}

#[test]
fn key_04_after_a_hard_rotation_the_newly_read_set_decides() {
    let mut cache = warm();
    assert_eq!(cache.next(&mut Lookup::default(), at(400)), Next::Fetch);
    cache.fetched(set("k-2"), at(400));
    assert_eq!(kid(cache.next(&mut Lookup::default(), at(401))), "k-2");
    assert_eq!(cache.current().map(|keys| keys.keys()[0].kid().to_owned()), Some("k-2".to_owned()));
}
