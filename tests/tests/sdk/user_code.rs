//! Users' code that fails or panics: it ends what it was asked for, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sideband::{
    Account, Cause, Context, Error, ErrorKind, HandlerError, IdentityKey, RetryMode, RetryPolicy,
    env::BoxFuture,
    identity::{IdentityStore, StoreError},
};
use sideband_tests::script::{API_URL, DAEMON, World, soon};

use crate::support::{account, connect, daemon};

fn once() -> RetryPolicy {
    RetryPolicy { mode: RetryMode::Never, ..RetryPolicy::default() }
}

/// CLI-01: a token source that panics fails its attempt; the next one asks again.
#[tokio::test(start_paused = true)]
async fn cli_01_a_token_source_that_panics_fails_its_attempt_only() {
    let (mut world, env) = World::new(1);
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let tokens = move || {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        assert!(turn > 0, "no token the first time");
        async move { Ok(format!("at_{turn}")) }
    };
    let client = Account::new(API_URL, DAEMON, tokens).unwrap().env(env).connect().unwrap();
    let _link = world.join().await;
    client.when_ready().await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// The causes of a token source's error reach the user.
#[tokio::test(start_paused = true)]
async fn cli_08_a_token_source_s_error_is_told_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot refresh")]
    struct Outer(#[source] std::io::Error);
    let (_world, env) = World::new(1);
    let tokens = || async { Err(Outer(std::io::Error::other("the disk is full")).into()) };
    let client = Account::new(API_URL, DAEMON, tokens).unwrap().env(env).retry(once()).connect().unwrap();
    let error = client.when_ready().await.unwrap_err();
    assert_eq!(error.cause(), Some(&Cause::TokenSource("cannot refresh: the disk is full".to_owned())));
    assert_eq!(error.kind(), ErrorKind::Misuse);
}

/// A token that cannot be one is a mistake: it is told at once, without the token, and nothing is asked of anybody.
#[tokio::test(start_paused = true)]
async fn cli_05_an_unusable_token_of_a_source_closes_the_client() {
    for token in ["", "two words", "s3cret\n", "s3crét"] {
        let (mut world, env) = World::new(1);
        let tokens = move || async move { Ok(token.to_owned()) };
        let client = Account::new(API_URL, DAEMON, tokens).unwrap().env(env).connect().unwrap();
        let error = soon("the end", client.when_ready()).await.unwrap_err();
        assert!(matches!(error.cause(), Some(Cause::UnusableToken(_))), "{token:?}: {error:?}");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Misuse, false), "{token:?}");
        assert!(!format!("{error} {error:?}").contains("s3cr"), "{error:?}");
        assert!(world.api_within(Duration::from_secs(3_600)).await.is_none(), "{token:?}");
    }
}

/// Outside a runtime nothing panics: it is said that there is none.
#[test]
fn without_a_runtime_there_is_an_error() {
    let is_told = |error: Error| {
        assert!(matches!(error, Error::NoRuntime), "{error:?}");
        assert_eq!((error.kind(), error.code(), error.is_retryable()), (ErrorKind::Misuse, None, false));
        assert!(error.to_string().contains("no Tokio runtime"), "{error}");
    };
    let (_world, env) = World::new(1);
    is_told(account(&env).connect().unwrap_err());
    is_told(account(&env).on("a", |_| async {}).unwrap().connect().unwrap_err());
    is_told(daemon(&env).start().unwrap_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async { connect(&env) });
    is_told(client.on("a", |_| async {}).unwrap_err());
    client.handle("m", |(): (), _: Context| async { Ok::<_, HandlerError>(()) }).unwrap();
    client.subscribe("a").unwrap();
}

struct Panics;

impl IdentityStore for Panics {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        panic!("no shelf")
    }
    fn store<'a>(&'a self, _: &'a str, _: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// TRU-03: a store that panics fails the connection.
#[tokio::test(start_paused = true)]
async fn tru_03_a_store_that_panics_fails_the_connection() {
    let (mut world, env) = World::new(1);
    let client = account(&env).identity_store(Panics).connect().unwrap();
    let mut link = world.client_keys().await;
    let error = client.when_ready().await.unwrap_err();
    assert_eq!(error.cause(), Some(&Cause::IdentityStore("it panicked".to_owned())));
    let (frames, _) = link.socket.end().await;
    assert_eq!(frames, [], "nothing is sealed for a daemon that is not trusted");
}

/// TRU-02: a callback that panics has not said yes.
#[tokio::test(start_paused = true)]
async fn tru_02_a_callback_that_panics_is_a_no() {
    let (mut world, env) = World::new(1);
    let client = account(&env).prompt(|_| async { panic!("no terminal") }, |_, _| async { true }).connect().unwrap();
    let _link = world.client_keys().await;
    let error = client.when_ready().await.unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::HandshakeFailed(_))), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Trust);
}
