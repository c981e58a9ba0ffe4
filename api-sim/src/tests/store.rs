//! The store in memory, and stores that fail.

use sideband_protocol::SessionId;

use super::*;
use crate::{Code, StoreError};

fn code(expires_at: u64) -> Code {
    Code { daemon_id: "d_1".into(), expires_at }
}

#[test]
fn api_05_a_code_is_consumed_once() {
    let store = MemoryStore::default();
    assert!(store.add_code(Digest::of("c"), code(100), 0).unwrap());
    assert_eq!(store.consume_code(Digest::of("other"), 1).unwrap(), None);
    assert_eq!(store.consume_code(Digest::of("c"), 1).unwrap(), Some(code(100)));
    assert_eq!(store.consume_code(Digest::of("c"), 1).unwrap(), None);
}

#[test]
fn api_04_an_expired_code_is_unknown_and_forgotten() {
    let store = MemoryStore::default();
    store.add_code(Digest::of("a"), code(100), 0).unwrap();
    store.add_code(Digest::of("b"), code(100), 0).unwrap();
    assert!(!store.add_code(Digest::of("a"), code(500), 99).unwrap(), "still there");
    assert_eq!(store.consume_code(Digest::of("b"), 100).unwrap(), None);
    assert!(store.add_code(Digest::of("a"), code(500), 100).unwrap(), "forgotten");
}

#[test]
fn api_01_a_session_id_is_new_once() {
    let store = MemoryStore::default();
    let session = SessionId::new(5).unwrap();
    assert!(store.insert_session_id_if_new(session).unwrap());
    assert!(!store.insert_session_id_if_new(session).unwrap());
}

#[test]
fn api_02_ids_and_keys_of_daemons_are_unique() {
    let store = MemoryStore::default();
    let daemon =
        |id: &str| Daemon { id: id.into(), owner: "u".into(), name: None, identity_public_key: None, resumable: false };
    assert!(store.add_daemon(&daemon("d_1"), Digest::of("k1")).unwrap());
    assert!(!store.add_daemon(&daemon("d_1"), Digest::of("k2")).unwrap());
    assert!(!store.add_daemon(&daemon("d_2"), Digest::of("k1")).unwrap());
    assert_eq!(store.daemon_of_api_key(Digest::of("k2")).unwrap(), None);
    assert_eq!(store.daemon("d_2").unwrap(), None);
    assert_eq!(store.daemon_of_api_key(Digest::of("k1")).unwrap(), Some(daemon("d_1")));
}

#[test]
fn api_07_nothing_stored_shows_a_secret() {
    let store = MemoryStore::default();
    let boot = Bootstrap::draw(sideband_env::EntropySource::entropy(&SeededEntropy::new(3, "x")).as_mut());
    boot.install(&store).unwrap();
    boot.install(&store).unwrap();
    assert_eq!(store.daemons(None).unwrap().len(), 1, "installing twice is installing once");
    let shown = format!("{store:?} {boot:?}");
    assert!(!shown.contains(boot.api_key.expose()) && !shown.contains(boot.access_token.expose()), "{shown}");
    assert_eq!(store.user_of_access_token(Digest::of(boot.access_token.expose())).unwrap(), Some(boot.user_id));
    assert_ne!(Digest::of("a"), Digest::of("b"));
    assert_eq!(Digest::from_bytes(*Digest::of("a").as_bytes()), Digest::of("a"));
}

/// Fails always.
struct Broken;

fn broken<T>() -> Result<T, StoreError> {
    Err(StoreError("disk full".into()))
}

impl Store for Broken {
    fn add_user(&self, _: &str) -> Result<(), StoreError> {
        broken()
    }
    fn add_access_token(&self, _: Digest, _: &str) -> Result<(), StoreError> {
        broken()
    }
    fn user_of_access_token(&self, _: Digest) -> Result<Option<String>, StoreError> {
        broken()
    }
    fn revoke_access_token(&self, _: Digest) -> Result<bool, StoreError> {
        broken()
    }
    fn add_daemon(&self, _: &Daemon, _: Digest) -> Result<bool, StoreError> {
        broken()
    }
    fn daemon(&self, _: &str) -> Result<Option<Daemon>, StoreError> {
        broken()
    }
    fn daemon_of_api_key(&self, _: Digest) -> Result<Option<Daemon>, StoreError> {
        broken()
    }
    fn revoke_api_key(&self, _: Digest) -> Result<bool, StoreError> {
        broken()
    }
    fn daemons(&self, _: Option<&str>) -> Result<Vec<Daemon>, StoreError> {
        broken()
    }
    fn users(&self) -> Result<Vec<String>, StoreError> {
        broken()
    }
    fn add_code(&self, _: Digest, _: Code, _: u64) -> Result<bool, StoreError> {
        broken()
    }
    fn consume_code(&self, _: Digest, _: u64) -> Result<Option<Code>, StoreError> {
        broken()
    }
    fn insert_session_id_if_new(&self, _: SessionId) -> Result<bool, StoreError> {
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
    let api = Api::new(env, config(), Arc::new(Broken), Arc::new(Scripted::default()), events);
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
}
