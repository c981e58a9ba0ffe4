//! What users are told of failures: who is at fault, the code, and the chain of causes.

use std::{error::Error as _, time::Duration};

use sideband::{
    Account, Cause, CloseReason, Daemon, Error, ErrorKind, QuickConnect,
    protocol::{peer::CallError, wire::ControlCode},
};
use sideband_tests::script::{API_URL, DAEMON, RELAY_URL, World, soon};

use crate::support::connect;

/// CLI-08: the API's own words, its status, and the same again as a value.
#[tokio::test(start_paused = true)]
async fn cli_08_a_fatal_api_failure_is_told_in_one_line_and_as_a_chain() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    world.api().await.refuse(403);
    let error = client.when_ready().await.unwrap_err();
    assert_eq!(error.to_string(), "the client is closed: the API answered 403 FORBIDDEN: refused with 403");
    assert_eq!((error.kind(), error.status(), error.is_retryable()), (ErrorKind::Refused, Some(403), false));
    let reason = error.source().unwrap().downcast_ref::<CloseReason>().unwrap();
    let cause = reason.source().unwrap().downcast_ref::<Cause>().unwrap();
    assert_eq!(Some(cause), error.cause());
    assert!(cause.source().is_none());
}

/// CLI-08: used-up retries carry the last cause.
#[tokio::test(start_paused = true)]
async fn cli_08_retries_that_are_used_up_carry_the_last_cause() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    for _ in 0..5 {
        world.api().await.refuse(500);
    }
    world.api().await.refuse_with(503, &[("retry-after", "7")]);
    let error = client.when_ready().await.unwrap_err();
    assert!(error.to_string().contains("gave up after 5 retries: the API answered 503"), "{error}");
    assert_eq!((error.code(), error.status()), (Some("peer_closed"), Some(503)));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.is_retryable(), "the same thing may succeed later");
}

/// The relay's Control code is there as a value.
#[tokio::test(start_paused = true)]
async fn cli_05_a_control_code_that_ends_the_client_is_told() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let (id, mut socket) = world.client_socket().await;
    socket.control(ControlCode::DaemonNotFound, Some(id)).await;
    let error = client.when_ready().await.unwrap_err();
    assert_eq!(error.control_code(), Some(Ok(ControlCode::DaemonNotFound)));
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Refused, false));
}

/// CLI-02: whatever ended a Quick Connect session, the same code does not help.
#[tokio::test(start_paused = true)]
async fn cli_02_a_lost_quick_connect_session_asks_for_a_new_code() {
    let (mut world, env) = World::new(1);
    let client = QuickConnect::new(API_URL, "abcd-efgh-ijkl").unwrap().env(env).connect().unwrap();
    let link = world.join().await;
    client.when_ready().await.unwrap();
    link.socket.cut();
    let closed = soon("closed", client.closed()).await;
    let error = Error::from(closed);
    assert_eq!((error.code(), error.is_retryable()), (Some("invalid_state"), false));
    assert!(error.to_string().contains("get a new code"), "{error}");
    assert_eq!(client.when_ready().await.unwrap_err().code(), Some("invalid_state"));
}

fn wrong(result: Result<impl Sized, Error>) -> String {
    let Err(error) = result else { panic!("it was taken") };
    assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    error.to_string()
}

/// Bad arguments fail at the call that gave them, and say which and why.
#[test]
fn arguments_that_cannot_be_are_refused_at_once() {
    let account = |api: &str, daemon: &str| wrong(Account::with_token(api, daemon, "t"));
    for (api, words) in [
        ("", "the API URL"),
        ("localhost:7600", "http or https"),
        ("ftp://x", "http or https"),
        ("http://", "the API URL"),
    ] {
        let text = account(api, DAEMON);
        assert!(text.contains("the API URL") && text.contains(words), "{api:?}: {text}");
    }
    assert!(account(API_URL, "").contains("the daemon id"));
    for code in ["", "abcd", "abcd-efgh-ijk1", "ABCD-EFGH-IJKL-", "https://x/#qc=", "abcd-efgh-ijkl-mnop"] {
        let text = wrong(QuickConnect::new(API_URL, code));
        assert!(text.contains("the Quick Connect code"), "{code:?}: {text}");
        assert!(code.len() < 14 || !text.contains(code), "a code is a secret: {text}");
    }
    assert!(QuickConnect::new(API_URL, " https://x.test/connect#qc=abcd-efgh-ijkl\n").is_ok(), "a link is taken too");
    for relay in ["", "http://relay.test", "ws://", "relay"] {
        let text = wrong(Daemon::new(API_URL, relay, "sbnd_dak_x"));
        assert!(text.contains("the relay URL"), "{relay:?}: {text}");
    }
    for key in ["", "two words", "sbnd_dak_\n"] {
        assert!(wrong(Daemon::new(API_URL, RELAY_URL, key)).contains("the API key"), "{key:?}");
    }
}

/// Names and patterns, and the codes that the specification gives them.
#[tokio::test(start_paused = true)]
async fn evt_01_rpc_07_names_are_refused_with_their_code() {
    let (_world, env) = World::new(1);
    let client = connect(&env);
    let code = |error: Error| error.code().unwrap();
    assert_eq!(client.subscribe("a.**").map_err(code).unwrap_err(), "invalid_pattern");
    assert_eq!(client.emit("a..b", ()).await.map_err(code).unwrap_err(), "invalid_pattern");
    let answer = |(): (), _: sideband::Context| async { Ok::<_, sideband::HandlerError>(()) };
    client.handle("m", answer).unwrap();
    let taken = client.handle("m", answer).unwrap_err();
    assert_eq!((taken.code(), taken.kind()), (Some("rpc_method_already_registered"), ErrorKind::Misuse));
    assert!(matches!(&taken, Error::Call(CallError::MethodTaken(method)) if method == "m"), "{taken:?}");
    assert!(client.handle("$sideband/x", answer).unwrap_err().to_string().contains("platform"));
    assert!(client.handle("", answer).unwrap_err().to_string().contains("empty"));
}
