//! What every store does: one body for each thing, run in memory and on a file. And stores that fail.

use std::sync::Barrier;

use sideband_protocol::SessionId;

use super::*;
use crate::{Access, Code, CredentialId, DaemonChange, Directory, FirstAccounts, StoreError, StoredKey};

const U: &str = "u_1";
const D: &str = "d_1";

fn d(secret: &str) -> Digest {
    Digest::of(secret)
}

fn code(expires_at: u64) -> Code {
    Code { daemon_id: D.into(), expires_at }
}

fn key(kid: &str) -> StoredKey {
    StoredKey::random(kid, SeededEntropy::new(1, kid).entropy().as_mut())
}

/// Key ids with their times.
fn kids(store: &dyn Store) -> Vec<(String, Option<u64>)> {
    store.signing_keys(&key("k-none")).unwrap().into_iter().map(|key| (key.kid, key.published_until)).collect()
}

/// One user with a daemon.
fn first() -> FirstAccounts {
    let (user, daemon) = (User::new(U), Daemon::new(D, U));
    FirstAccounts { user, access_token: d("t1"), daemon, api_key: d("k1") }
}

/// Another user, and a daemon of the first that it has a grant for.
fn populate(store: &dyn Store) {
    store.install(&first()).unwrap();
    assert_eq!(store.add_user(&User::new("u_2"), d("t2")).unwrap(), Added::Yes);
    assert_eq!(store.add_daemon(&Daemon::new("d_2", U), d("k2")).unwrap(), Added::Yes);
    assert_eq!(store.add_grant("u_2", "d_2").unwrap(), Added::Yes);
}

fn ids(daemons: &[Daemon]) -> Vec<&str> {
    daemons.iter().map(|daemon| daemon.id.as_str()).collect()
}

/// Runs each body over both stores.
macro_rules! contract {
    ($($name:ident)*) => {
        mod in_memory {
            $(#[test] fn $name() { super::$name(&crate::MemoryStore::default()); })*
        }
        mod on_file {
            $(#[test] fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(&super::super::file::open(&folder.path().join("state")).unwrap());
            })*
        }
    };
}

contract! {
    api_05_a_code_is_consumed_once
    api_05_of_100_that_consume_a_code_at_once_one_gets_it
    api_04_an_expired_code_is_unknown_and_forgotten
    api_01_a_session_id_is_new_once
    api_01_of_many_that_use_a_session_id_at_once_one_does
    api_02_ids_and_keys_of_daemons_are_unique
    api_02_a_daemon_has_several_api_keys
    api_07_credentials_are_known_until_revoked
    api_07_a_digest_with_the_same_id_is_another_secret
    users_are_unique_and_have_tokens_and_regions
    daemons_are_changed_in_part
    grants_let_others_use_a_daemon
    a_daemon_goes_with_all_that_is_its
    a_user_goes_with_all_that_is_its
    installing_again_brings_nothing_back
    reset_returns_to_the_start_but_for_what_is_used
    key_04_rotations_are_kept
    the_fault_plan_is_kept
    the_fault_plan_of_the_start_comes_back
    rel_10_used_sessions_are_kept_for_the_next_life
    rel_10_used_sessions_are_taken_back_and_forgotten
    large_numbers_stay_large
}

fn api_05_a_code_is_consumed_once(store: &dyn Store) {
    populate(store);
    assert_eq!(store.add_code(d("c"), &code(100), 0).unwrap(), Added::Yes);
    assert_eq!(store.add_code(d("c"), &code(200), 0).unwrap(), Added::Taken);
    let nobodys = Code { daemon_id: "d_nobody".into(), expires_at: 100 };
    assert_eq!(store.add_code(d("other"), &nobodys, 0).unwrap(), Added::NoHolder);
    assert_eq!(store.consume_code(d("other"), 1).unwrap(), None);
    assert_eq!(store.daemon_of_code(d("other")).unwrap(), None);
    assert_eq!(store.daemon_of_code(d("c")).unwrap(), Some(code(100).daemon_id), "who looks takes nothing");
    assert_eq!(store.consume_code(d("c"), 1).unwrap(), Some(code(100)));
    assert_eq!(store.consume_code(d("c"), 1).unwrap(), None);
    assert_eq!(store.daemon_of_code(d("c")).unwrap(), None);
}

/// How many of `n` threads that begin together were told yes.
fn at_once(n: usize, ask: impl Fn() -> bool + Sync) -> usize {
    let barrier = Barrier::new(n);
    let ask = || {
        barrier.wait();
        ask()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    })
}

fn api_05_of_100_that_consume_a_code_at_once_one_gets_it(store: &dyn Store) {
    populate(store);
    for _ in 0..3 {
        store.add_code(d("c"), &code(100), 0).unwrap();
        assert_eq!(at_once(100, || store.consume_code(d("c"), 1).unwrap().is_some()), 1);
    }
}

fn api_04_an_expired_code_is_unknown_and_forgotten(store: &dyn Store) {
    populate(store);
    store.add_code(d("a"), &code(100), 0).unwrap();
    store.add_code(d("b"), &code(100), 0).unwrap();
    assert_eq!(store.add_code(d("a"), &code(500), 99).unwrap(), Added::Taken, "still there");
    assert_eq!(store.consume_code(d("b"), 100).unwrap(), None);
    assert_eq!(store.add_code(d("a"), &code(500), 100).unwrap(), Added::Yes, "forgotten");
}

fn api_01_a_session_id_is_new_once(store: &dyn Store) {
    for id in [1, 5, u64::MAX, 1 << 63, (1 << 63) - 1] {
        let session = SessionId::new(id).unwrap();
        assert!(store.insert_session_id_if_new(session).unwrap());
        assert!(!store.insert_session_id_if_new(session).unwrap());
    }
}

fn api_01_of_many_that_use_a_session_id_at_once_one_does(store: &dyn Store) {
    let session = SessionId::new(77).unwrap();
    assert_eq!(at_once(32, || store.insert_session_id_if_new(session).unwrap()), 1);
}

fn api_02_ids_and_keys_of_daemons_are_unique(store: &dyn Store) {
    store.install(&first()).unwrap();
    let daemon = |id: &str| Daemon::new(id, U);
    assert_eq!(store.add_daemon(&daemon(D), d("k2")).unwrap(), Added::Taken);
    assert_eq!(store.add_daemon(&daemon("d_2"), d("k1")).unwrap(), Added::Taken);
    assert_eq!(store.add_daemon(&Daemon::new("d_2", "u_nobody"), d("k2")).unwrap(), Added::NoHolder);
    assert_eq!(store.daemon_of_api_key(d("k2")).unwrap(), None);
    assert_eq!(store.daemon("d_2").unwrap(), None);
    assert_eq!(store.daemon_of_api_key(d("k1")).unwrap(), Some(daemon(D)));
}

fn api_02_a_daemon_has_several_api_keys(store: &dyn Store) {
    populate(store);
    assert_eq!(store.add_api_key(d("k1b"), D).unwrap(), Added::Yes);
    assert_eq!(store.add_api_key(d("k1b"), "d_2").unwrap(), Added::Taken);
    assert_eq!(store.add_api_key(d("kx"), "d_nobody").unwrap(), Added::NoHolder);
    for key in ["k1", "k1b"] {
        assert_eq!(store.daemon_of_api_key(d(key)).unwrap().unwrap().id, D);
    }
    assert!(store.revoke_api_key(d("k1").id()).unwrap());
    assert!(!store.revoke_api_key(d("k1").id()).unwrap());
    assert_eq!(store.daemon_of_api_key(d("k1")).unwrap(), None);
    assert_eq!(store.daemon_of_api_key(d("k1b")).unwrap().unwrap().id, D);
}

fn api_07_credentials_are_known_until_revoked(store: &dyn Store) {
    populate(store);
    assert_eq!(store.user_of_access_token(d("t1")).unwrap().as_deref(), Some(U));
    assert_eq!(store.user_of_access_token(d("k1")).unwrap(), None, "an API key is no access token");
    assert_eq!(store.daemon_of_api_key(d("t1")).unwrap(), None);
    assert!(store.revoke_access_token(d("t1").id()).unwrap());
    assert!(!store.revoke_access_token(d("t1").id()).unwrap());
    assert_eq!(store.user_of_access_token(d("t1")).unwrap(), None);
    assert_eq!(store.user_of_access_token(d("t2")).unwrap().as_deref(), Some("u_2"));
}

fn api_07_a_digest_with_the_same_id_is_another_secret(store: &dyn Store) {
    populate(store);
    let like = |secret: &str| {
        let mut bytes = *d(secret).as_bytes();
        bytes[31] ^= 1;
        Digest::from_bytes(bytes)
    };
    store.add_code(d("c"), &code(100), 0).unwrap();
    assert_eq!(like("t1").id(), d("t1").id());
    assert_eq!(store.user_of_access_token(like("t1")).unwrap(), None);
    assert_eq!(store.daemon_of_api_key(like("k1")).unwrap(), None);
    assert_eq!(store.consume_code(like("c"), 1).unwrap(), None);
    assert_eq!(store.add_access_token(like("t1"), U).unwrap(), Added::Taken);
    assert_eq!(store.consume_code(d("c"), 1).unwrap(), Some(code(100)), "it burns nothing");
}

fn users_are_unique_and_have_tokens_and_regions(store: &dyn Store) {
    populate(store);
    assert_eq!(store.add_user(&User::new(U), d("t3")).unwrap(), Added::Taken);
    assert_eq!(store.add_user(&User::new("u_3"), d("t1")).unwrap(), Added::Taken);
    assert_eq!((store.user("u_3").unwrap(), store.user_of_access_token(d("t3")).unwrap()), (None, None));
    assert_eq!(store.add_access_token(d("t1b"), U).unwrap(), Added::Yes);
    assert_eq!(store.add_access_token(d("tx"), "u_nobody").unwrap(), Added::NoHolder);
    assert_eq!(store.user_of_access_token(d("t1b")).unwrap().as_deref(), Some(U));
    assert!(store.set_user_region(U, Some("eu-1")).unwrap());
    assert!(!store.set_user_region("u_nobody", Some("eu-1")).unwrap());
    assert_eq!(store.user(U).unwrap(), Some(User { id: U.into(), region: Some("eu-1".into()) }));
    assert!(store.set_user_region(U, None).unwrap());
    assert_eq!(store.user(U).unwrap(), Some(User::new(U)));
}

fn daemons_are_changed_in_part(store: &dyn Store) {
    let full = Daemon {
        name: Some("küche".into()),
        identity_public_key: Some("A".repeat(43)),
        resumable: true,
        region: Some("us".into()),
        concurrent_sessions: Some(3),
        ..Daemon::new("d_3", U)
    };
    populate(store);
    store.add_daemon(&full, d("k3")).unwrap();
    assert_eq!(store.daemon("d_3").unwrap(), Some(full.clone()));
    let change = DaemonChange { region: Some(None), concurrent_sessions: None };
    let changed = Daemon { region: None, ..full };
    assert_eq!(store.change_daemon("d_3", change).unwrap(), Some(changed.clone()));
    let change = DaemonChange { region: None, concurrent_sessions: Some(Some(9)) };
    let changed = Daemon { concurrent_sessions: Some(9), ..changed };
    assert_eq!(store.change_daemon("d_3", change.clone()).unwrap(), Some(changed.clone()));
    assert_eq!(store.daemon("d_3").unwrap(), Some(changed));
    assert_eq!(store.change_daemon("d_nobody", change).unwrap(), None);
}

fn grants_let_others_use_a_daemon(store: &dyn Store) {
    populate(store);
    let allowed = |user, daemon| store.access(user, daemon).unwrap().map(|access| access.allowed);
    assert_eq!((allowed(U, D), allowed("u_2", D), allowed("u_2", "d_2")), (Some(true), Some(false), Some(true)));
    assert_eq!((allowed("u_nobody", D), allowed(U, "d_nobody")), (Some(false), None));
    assert_eq!(ids(&store.accessible(U).unwrap()), [D, "d_2"]);
    assert_eq!(ids(&store.accessible("u_2").unwrap()), ["d_2"]);
    assert_eq!(store.add_grant("u_2", "d_2").unwrap(), Added::Taken);
    assert_eq!(store.add_grant(U, D).unwrap(), Added::Taken, "its owner may anyway");
    assert_eq!(store.add_grant("u_nobody", D).unwrap(), Added::NoHolder);
    assert_eq!(store.add_grant("u_2", "d_nobody").unwrap(), Added::NoHolder);
    assert!(store.remove_grant("u_2", "d_2").unwrap());
    assert!(!store.remove_grant("u_2", "d_2").unwrap());
    assert_eq!((allowed("u_2", "d_2"), store.accessible("u_2").unwrap()), (Some(false), vec![]));
}

fn a_daemon_goes_with_all_that_is_its(store: &dyn Store) {
    populate(store);
    store.add_code(d("c2"), &Code { daemon_id: "d_2".into(), expires_at: 100 }, 0).unwrap();
    store.add_code(d("c1"), &code(100), 0).unwrap();
    assert!(store.remove_daemon("d_2").unwrap());
    assert!(!store.remove_daemon("d_2").unwrap());
    assert_eq!((store.daemon_of_api_key(d("k2")).unwrap(), store.consume_code(d("c2"), 1).unwrap()), (None, None));
    // The same id again is another daemon: nothing of the old one is its.
    store.add_daemon(&Daemon::new("d_2", U), d("k2b")).unwrap();
    assert!(!store.access("u_2", "d_2").unwrap().unwrap().allowed);
    assert_eq!((store.daemon_of_api_key(d("k2")).unwrap(), store.consume_code(d("c2"), 1).unwrap()), (None, None));
    assert_eq!(store.consume_code(d("c1"), 1).unwrap(), Some(code(100)), "others are untouched");
}

fn a_user_goes_with_all_that_is_its(store: &dyn Store) {
    populate(store);
    store.add_code(d("c"), &code(100), 0).unwrap();
    store.add_daemon(&Daemon::new("d_3", "u_2"), d("k3")).unwrap();
    store.add_grant(U, "d_3").unwrap();
    assert_eq!(store.remove_user(U).unwrap(), Some(vec![D.to_owned(), "d_2".to_owned()]));
    assert_eq!(store.remove_user(U).unwrap(), None);
    assert_eq!((store.user_of_access_token(d("t1")).unwrap(), store.consume_code(d("c"), 1).unwrap()), (None, None));
    assert_eq!((store.daemon_of_api_key(d("k1")).unwrap(), store.daemon_of_api_key(d("k2")).unwrap()), (None, None));
    let left = store.directory().unwrap();
    assert_eq!((left.users, ids(&left.daemons), left.grants), (vec![User::new("u_2")], vec!["d_3"], vec![]));
    assert_eq!(store.add_user(&User::new(U), d("t1")).unwrap(), Added::Yes);
    assert!(!store.access(U, "d_3").unwrap().unwrap().allowed, "the grant was the old one's");
}

fn installing_again_brings_nothing_back(store: &dyn Store) {
    populate(store);
    assert!(store.revoke_api_key(d("k1").id()).unwrap());
    store.install(&first()).unwrap();
    assert_eq!(store.daemon_of_api_key(d("k1")).unwrap(), None, "what was revoked stays so");
    assert_eq!(store.directory().unwrap().daemons.len(), 2);
}

fn reset_returns_to_the_start_but_for_what_is_used(store: &dyn Store) {
    // Of an earlier process, in a file.
    store.add_user(&User::new("u_0"), d("t0")).unwrap();
    store.add_daemon(&Daemon::new("d_0", "u_0"), d("k0")).unwrap();
    for name in ["c0", "c1"] {
        store.add_code(d(name), &Code { daemon_id: "d_0".into(), expires_at: 100 }, 0).unwrap();
    }
    store.install(&first()).unwrap();
    let start = key("k-1");
    assert_eq!(store.signing_keys(&start).unwrap(), std::slice::from_ref(&start));
    let accounts = store.directory().unwrap();
    assert_eq!((accounts.users.len(), accounts.daemons.len(), accounts.grants.len()), (2, 2, 0));
    let session = SessionId::new(9).unwrap();
    for round in 0..2 {
        populate(store);
        store.add_grant(U, "d_0").unwrap();
        let number = |plus| format!("k-{}", 2 + 2 * round + plus);
        store.rotate_keys(&key(&number(0)), Some(500), 0).unwrap();
        store.rotate_keys(&key(&number(1)), None, 0).unwrap();
        store.add_code(d("c"), &code(100), 0).unwrap();
        store.revoke_api_key(d("k1").id()).unwrap();
        store.set_user_region(U, Some("eu")).unwrap();
        store.set_fault_plan(Some("seed = 1")).unwrap();
        assert_eq!(store.insert_session_id_if_new(session).unwrap(), round == 0);
        store.use_session(session, 150, &[], 0).unwrap();
        assert_eq!(store.consume_code(d("c1"), 1).unwrap().is_some(), round == 0, "API-05");
        assert!(store.remove_user("u_0").unwrap().is_some());
        store.reset().unwrap();
        assert_eq!(store.directory().unwrap(), accounts);
        assert_eq!(store.signing_keys(&key("k-none")).unwrap(), std::slice::from_ref(&start));
        assert_eq!((store.consume_code(d("c"), 1).unwrap(), store.fault_plan().unwrap()), (None, None));
        assert!(!store.insert_session_id_if_new(session).unwrap());
        assert_eq!(store.used_sessions(0, 0).unwrap(), [(session, 150)]);
        for (secret, user) in [("t0", "u_0"), ("t1", U)] {
            assert_eq!(store.user_of_access_token(d(secret)).unwrap().as_deref(), Some(user));
        }
        for (secret, daemon) in [("k0", "d_0"), ("k1", D)] {
            assert_eq!(store.daemon_of_api_key(d(secret)).unwrap().map(|daemon| daemon.id).as_deref(), Some(daemon));
        }
    }
    assert!(store.consume_code(d("c0"), 1).unwrap().is_some(), "nobody has redeemed it");
    assert_eq!(store.consume_code(d("c1"), 1).unwrap(), None);
}

fn key_04_rotations_are_kept(store: &dyn Store) {
    let named = |list: &[(&str, Option<u64>)]| -> Vec<_> {
        list.iter().map(|(kid, until)| (String::from(*kid), *until)).collect()
    };
    assert_eq!(store.signing_keys(&key("k-1")).unwrap(), [key("k-1")]);
    store.rotate_keys(&key("k-2"), Some(100), 0).unwrap();
    assert_eq!(kids(store), named(&[("k-2", None), ("k-1", Some(100))]));
    store.rotate_keys(&key("k-3"), Some(200), 50).unwrap();
    assert_eq!(kids(store), named(&[("k-3", None), ("k-2", Some(200)), ("k-1", Some(100))]));
    store.rotate_keys(&key("k-4"), Some(300), 100).unwrap();
    assert_eq!(kids(store), named(&[("k-4", None), ("k-3", Some(300)), ("k-2", Some(200))]), "k-1 is over");
    store.rotate_keys(&key("k-5"), None, 100).unwrap();
    assert_eq!(kids(store), named(&[("k-5", None)]));
    assert_eq!(store.signing_keys(&key("k-1")).unwrap(), [key("k-5")], "with its secret");
}

fn the_fault_plan_is_kept(store: &dyn Store) {
    assert_eq!(store.fault_plan().unwrap(), None);
    for plan in [Some("seed = 7\n[[fault]]\n"), Some(""), None] {
        store.set_fault_plan(plan).unwrap();
        assert_eq!(store.fault_plan().unwrap().as_deref(), plan);
    }
}

fn the_fault_plan_of_the_start_comes_back(store: &dyn Store) {
    for begun in [Some("of the start"), None] {
        store.begin_fault_plan(begun).unwrap();
        assert_eq!(store.fault_plan().unwrap().as_deref(), begun);
        store.set_fault_plan(Some("of later")).unwrap();
        store.reset().unwrap();
        assert_eq!(store.fault_plan().unwrap().as_deref(), begun);
    }
}

fn s(id: u64) -> SessionId {
    SessionId::new(id).unwrap()
}

fn rel_10_used_sessions_are_kept_for_the_next_life(store: &dyn Store) {
    // Ids are 64 bits, and come in their order.
    for (id, token_dies) in [(u64::MAX, 150), (5, 900), (1 << 63, 150)] {
        store.use_session(s(id), token_dies, &[], 0).unwrap();
    }
    let first = [(s(5), 900), (s(1 << 63), 430), (s(u64::MAX), 430)];
    assert_eq!(store.used_sessions(100, 430).unwrap(), first, "at least until then, or as long as the token lives");
    store.use_session(s(7), 550, &[], 400).unwrap();
    let again = [(s(5), 900), (s(7), 760), (s(1 << 63), 430), (s(u64::MAX), 430)];
    assert_eq!(store.used_sessions(430, 760).unwrap(), again, "a life more does not prolong those before it");
    assert_eq!(store.used_sessions(431, 761).unwrap(), [(s(5), 900), (s(7), 760)]);
    assert_eq!(store.used_sessions(901, 1_231).unwrap(), []);
}

fn rel_10_used_sessions_are_taken_back_and_forgotten(store: &dyn Store) {
    store.use_session(s(1), 150, &[], 0).unwrap();
    store.unuse_session(s(1)).unwrap();
    store.unuse_session(s(1)).unwrap();
    assert_eq!(store.used_sessions(0, 0).unwrap(), []);
    for id in [1, 2, 3] {
        store.use_session(s(id), 150, &[], 0).unwrap();
    }
    store.use_session(s(3), 900, &[], 400).unwrap();
    store.use_session(s(4), 650, &[s(1), s(3), s(99)], 500).unwrap();
    let left = [(s(2), 500), (s(3), 900), (s(4), 650)];
    assert_eq!(store.used_sessions(500, 500).unwrap(), left, "3 was used again in the meantime");
}

fn large_numbers_stay_large(store: &dyn Store) {
    populate(store);
    store.add_code(d("c"), &code(u64::MAX), 0).unwrap();
    let got = store.consume_code(d("c"), 1 << 62).unwrap().unwrap();
    assert!(got.expires_at >= i64::MAX as u64);
    store.rotate_keys(&key("k-2"), Some(u64::MAX), 0).unwrap();
    let change = DaemonChange { region: None, concurrent_sessions: Some(Some(u64::MAX)) };
    assert!(store.change_daemon(D, change).unwrap().is_some());
    assert!(store.daemon(D).unwrap().unwrap().concurrent_sessions >= Some(i64::MAX as u64));
}

#[test]
fn api_07_nothing_stored_shows_a_secret() {
    let store = MemoryStore::default();
    let boot = Bootstrap::draw(SeededEntropy::new(3, "x").entropy().as_mut());
    boot.install(&store).unwrap();
    let shown = format!("{store:?} {boot:?}");
    assert!(!shown.contains(boot.api_key.expose()) && !shown.contains(boot.access_token.expose()), "{shown}");
    assert_eq!(store.user_of_access_token(d(boot.access_token.expose())).unwrap(), Some(boot.user_id));
    assert_ne!(d("a"), d("b"));
    assert_eq!(Digest::from_bytes(*d("a").as_bytes()), d("a"));
    let id = d("a").id();
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!(["", "xyz", "0123456789ABCDEF", "0123"].iter().all(|text| text.parse::<CredentialId>().is_err()));
}

/// Fails always, but for giving a key.
struct Broken;

fn broken<T>() -> Result<T, StoreError> {
    Err(StoreError("disk full".into()))
}

impl Store for Broken {
    fn signing_keys(&self, first: &StoredKey) -> Result<Vec<StoredKey>, StoreError> {
        Ok(vec![first.clone()])
    }
    fn install(&self, _: &FirstAccounts) -> Result<(), StoreError> {
        broken()
    }
    fn reset(&self) -> Result<(), StoreError> {
        broken()
    }
    fn add_user(&self, _: &User, _: Digest) -> Result<Added, StoreError> {
        broken()
    }
    fn user(&self, _: &str) -> Result<Option<User>, StoreError> {
        broken()
    }
    fn set_user_region(&self, _: &str, _: Option<&str>) -> Result<bool, StoreError> {
        broken()
    }
    fn remove_user(&self, _: &str) -> Result<Option<Vec<String>>, StoreError> {
        broken()
    }
    fn add_access_token(&self, _: Digest, _: &str) -> Result<Added, StoreError> {
        broken()
    }
    fn user_of_access_token(&self, _: Digest) -> Result<Option<String>, StoreError> {
        broken()
    }
    fn revoke_access_token(&self, _: CredentialId) -> Result<bool, StoreError> {
        broken()
    }
    fn add_daemon(&self, _: &Daemon, _: Digest) -> Result<Added, StoreError> {
        broken()
    }
    fn daemon(&self, _: &str) -> Result<Option<Daemon>, StoreError> {
        broken()
    }
    fn change_daemon(&self, _: &str, _: DaemonChange) -> Result<Option<Daemon>, StoreError> {
        broken()
    }
    fn remove_daemon(&self, _: &str) -> Result<bool, StoreError> {
        broken()
    }
    fn add_api_key(&self, _: Digest, _: &str) -> Result<Added, StoreError> {
        broken()
    }
    fn daemon_of_api_key(&self, _: Digest) -> Result<Option<Daemon>, StoreError> {
        broken()
    }
    fn revoke_api_key(&self, _: CredentialId) -> Result<bool, StoreError> {
        broken()
    }
    fn add_grant(&self, _: &str, _: &str) -> Result<Added, StoreError> {
        broken()
    }
    fn remove_grant(&self, _: &str, _: &str) -> Result<bool, StoreError> {
        broken()
    }
    fn access(&self, _: &str, _: &str) -> Result<Option<Access>, StoreError> {
        broken()
    }
    fn accessible(&self, _: &str) -> Result<Vec<Daemon>, StoreError> {
        broken()
    }
    fn directory(&self) -> Result<Directory, StoreError> {
        broken()
    }
    fn add_code(&self, _: Digest, _: &Code, _: u64) -> Result<Added, StoreError> {
        broken()
    }
    fn consume_code(&self, _: Digest, _: u64) -> Result<Option<Code>, StoreError> {
        broken()
    }
    fn daemon_of_code(&self, _: Digest) -> Result<Option<String>, StoreError> {
        broken()
    }
    fn insert_session_id_if_new(&self, _: SessionId) -> Result<bool, StoreError> {
        broken()
    }
    fn rotate_keys(&self, _: &StoredKey, _: Option<u64>, _: u64) -> Result<(), StoreError> {
        broken()
    }
    fn fault_plan(&self) -> Result<Option<String>, StoreError> {
        broken()
    }
    fn set_fault_plan(&self, _: Option<&str>) -> Result<(), StoreError> {
        broken()
    }
    fn begin_fault_plan(&self, _: Option<&str>) -> Result<(), StoreError> {
        broken()
    }
    fn use_session(&self, _: SessionId, _: u64, _: &[SessionId], _: u64) -> Result<(), StoreError> {
        broken()
    }
    fn unuse_session(&self, _: SessionId) -> Result<(), StoreError> {
        broken()
    }
    fn used_sessions(&self, _: u64, _: u64) -> Result<Vec<(SessionId, u64)>, StoreError> {
        broken()
    }
}

#[tokio::test]
async fn api_09_a_store_that_fails_is_500_and_says_no_more() {
    let env = Env {
        clock: Arc::new(FixedClock::at_seconds(NOW)),
        entropy: Arc::new(SeededEntropy::new(1, "api")),
        network: Arc::new(Nowhere),
        http: Arc::new(Nowhere),
    };
    let events = EventSink::new(Timeline::start(), "api");
    let api = Api::new(env, config(), Arc::new(Broken), Arc::new(Scripted::default()), events).unwrap();
    let requests = [
        request("relay.createSession", "t", r#"{"daemonId":"d"}"#),
        request("daemon.renewToken", "k", ""),
        request("quickConnect.redeem", "", r#"{"code":"aaaa-aaaa-aaaa"}"#),
    ];
    for request in requests {
        let answer = send(&api.router(), request).await;
        assert_eq!(answer.failure(), (500, "INTERNAL_SERVER_ERROR".into()));
        assert!(!answer.body.to_string().contains("disk full"));
    }
    let accounts = Request::builder().uri("/accounts").body(Body::empty()).unwrap();
    assert_eq!(send(&api.admin_router(), accounts).await.status, 500);
    let before = api.key_set();
    assert!(api.rotate(true).is_err() && api.reset().is_err());
    assert_eq!(api.key_set(), before, "the old key goes on");
    let rotate = Request::builder().method("POST").uri("/keys/rotate").body(Body::empty()).unwrap();
    assert_eq!(send(&api.admin_router(), rotate).await.status, 500);
}
