//! What users are told of failures: who is at fault, the code, and the chain of causes.

use std::{error::Error as _, time::Duration};

use serde_json::json;
use sideband::{
    Account, CallOptions, Cause, CloseReason, ConnectionPolicy, Context, Daemon, DaemonRetryPolicy, Error, ErrorKind,
    HandlerError, KeepalivePolicy, QuickConnect, RetryPolicy, RpcPolicy, ServerEvent, SessionLimits,
    protocol::{peer::CallError, wire::ControlCode},
};
use sideband_protocol::rpc::Envelope;
use sideband_tests::script::{API_URL, DAEMON, RELAY_URL, World, grant, session, soon};

use crate::support::{account, connect, daemon};

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

/// CLI-08, CLI-14: a call that fails because its client has closed says which call and why, waited for or made later.
#[tokio::test(start_paused = true)]
async fn cli_08_calls_of_a_closed_client_name_themselves_and_the_reason() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.call::<_, ()>("add", ()).await });
    world.api().await.refuse(404);
    client.closed().await;
    for error in [soon("the call", waiting).await.unwrap(), client.call::<_, ()>("add", ()).await] {
        let error = error.unwrap_err();
        let said = "the call of `add` failed: the client is closed: the API answered 404 NOT_FOUND: refused with 404";
        assert_eq!(error.to_string(), said);
        assert_eq!((error.code(), error.status(), error.kind()), (Some("peer_closed"), Some(404), ErrorKind::Refused));
        assert!(!error.is_retryable() && error.call_error() == Some(&CallError::PeerClosed));
        let closed = error.source().unwrap().downcast_ref::<Error>().unwrap();
        let reason = closed.source().unwrap().downcast_ref::<CloseReason>().unwrap();
        assert_eq!(Some(reason.source().unwrap().downcast_ref::<Cause>().unwrap()), error.cause());
    }
    for (error, said) in [
        (client.emit("chat.said", 1).await, "the event `chat.said` failed: the client is closed: the API"),
        (client.send("app/x", "x").await, "the message on `app/x` failed: the client is closed: the API"),
        (client.send_confirmed("app/x", "x").await, "the message on `app/x` failed: the client is closed: the API"),
    ] {
        let error = error.unwrap_err();
        assert!(error.to_string().starts_with(said), "{error}");
        assert_eq!((error.code(), error.status()), (Some("peer_closed"), Some(404)));
    }
}

/// What is made of a daemon's session that is over says why it is.
#[tokio::test(start_paused = true)]
async fn sbp_07_calls_to_a_client_that_left_say_so() {
    let (mut world, env) = World::new(1);
    let server = daemon(&env).start().unwrap();
    let mut link = world.go_online(true).await;
    let id = world.meet(&mut link).await;
    link.is_alive_on(id).await;
    let connection = server.connections().remove(0);
    let calling = connection.clone();
    let waiting = tokio::spawn(async move { calling.call::<_, ()>("ask", ()).await });
    assert_eq!(link.called().await.0, "ask");
    link.say(sideband_protocol::sbp::FrameBody::Close { reason: "bye".to_owned() }).await;
    soon("the end", connection.closed()).await;
    for error in [soon("the call", waiting).await.unwrap(), connection.call::<_, ()>("ask", ()).await] {
        let error = error.unwrap_err();
        let said = "the call of `ask` failed: there is no connection: the other side closed the session: bye";
        assert_eq!((error.to_string(), error.code()), (said.to_owned(), Some("not_connected")));
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(matches!(error.cause(), Some(Cause::PeerClosed { reason }) if reason == "bye"), "{error:?}");
    }
}

/// RPC-05: a call without an answer names itself and the limit that it has passed.
#[tokio::test(start_paused = true)]
async fn rpc_05_a_call_without_an_answer_names_its_limit() {
    let second = Duration::from_secs(1);
    let (mut world, env) = World::new(1);
    let client = account(&env).rpc(RpcPolicy { timeout: 4 * second, total: Some(9 * second) }).connect().unwrap();
    let waits = |options: CallOptions, said: &'static str, limit: u32| {
        let client = client.clone();
        async move {
            let error = client.call_with::<_, ()>("slow", (), options).await.unwrap_err();
            assert_eq!(error.to_string(), format!("the call of `slow` failed: {said}"));
            assert_eq!((error.code(), error.kind()), (Some("rpc_timeout"), ErrorKind::Network));
            let Error::Call(failure) = &error else { panic!("{error:?}") };
            assert_eq!((failure.name(), failure.limit()), (Some("slow"), Some(limit * second)));
        }
    };
    // Before there is a connection only the total time counts.
    waits(CallOptions::new(), "no answer within 9s in all", 9).await;
    waits(CallOptions::new().total(5 * second), "no answer within 5s in all", 5).await;
    let _link = world.join().await;
    client.when_ready().await.unwrap();
    waits(CallOptions::new(), "no answer within 4s", 4).await;
    waits(CallOptions::new().timeout(3 * second), "no answer within 3s", 3).await;
    waits(CallOptions::new().timeout(3 * second).total(2 * second), "no answer within 2s in all", 2).await;
}

/// RPC-02: what a handler of the other side answered is there by name.
#[tokio::test(start_paused = true)]
async fn rpc_02_what_the_other_side_answered_can_be_read() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let mut link = world.join().await;
    for data in [None, Some(json!({ "left": 3 }))] {
        let answering = async {
            let (_, _, cid) = link.called().await;
            let raw = data.as_ref().map(|data| data.to_string().into());
            let answer = Envelope::Error { cid, code: 4_711, message: "sold out".to_owned(), data: raw };
            link.send_envelope(&answer).await;
        };
        let (called, ()) = tokio::join!(client.call::<_, ()>("buy", ()), answering);
        let error = called.unwrap_err();
        assert_eq!(error.to_string(), "the call of `buy` failed: the other side answered error 4711: sold out");
        assert_eq!((error.rpc_code(), error.rpc_message()), (Some(4_711), Some("sold out")));
        assert_eq!((error.rpc_data(), error.kind()), (data, ErrorKind::Peer));
    }
    let other = client.subscribe("a.**").unwrap_err();
    assert_eq!((other.rpc_code(), other.rpc_message(), other.rpc_data()), (None, None, None));
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
    for (api, words) in [
        ("http://us3r@api.test/", "`http://api.test/` has a user or a password"),
        ("http://us3r:s3cret@api.test/v1", "`http://api.test/v1` has a user or a password"),
        ("http://:s3cret@api.test", "has a user or a password"),
        ("http://api.test/?key=s3cret", "`http://api.test/` has a query"),
        ("http://api.test/#s3cret", "`http://api.test/` has a fragment"),
    ] {
        let daemon = Daemon::new(api, RELAY_URL, "sbnd_dak_x");
        for text in [account(api, DAEMON), wrong(QuickConnect::new(api, "abcd-efgh-ijkl")), wrong(daemon)] {
            assert!(text.contains("the API URL is not usable: ") && text.contains(words), "{api:?}: {text}");
            assert!(!text.contains("s3cr") && !text.contains("us3r"), "{text}");
        }
    }
    for (relay, words) in [
        ("ws://us3r:s3cret@relay.test/x", "`ws://relay.test/x` has a user or a password"),
        ("ws://relay.test/#s3cret", "`ws://relay.test/` has a fragment"),
    ] {
        let client = Account::with_token(API_URL, DAEMON, "t").unwrap();
        for text in [wrong(Daemon::new(API_URL, relay, "sbnd_dak_x")), wrong(client.relay_url(relay))] {
            assert!(text.contains("the relay URL is not usable: ") && text.contains(words), "{relay:?}: {text}");
            assert!(!text.contains("s3cr") && !text.contains("us3r"), "{text}");
        }
    }
    assert!(Daemon::new(API_URL, "ws://relay.test/?region=eu", "sbnd_dak_x").is_ok(), "the relay is asked with it");
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
    for (token, words) in
        [("", "it is empty"), ("a s3cret", "a space"), ("s3cret\n", "a line break"), ("s3crét", "ASCII")]
    {
        let text = wrong(Account::with_token(API_URL, DAEMON, token));
        assert!(text.contains("the access token is not usable: ") && text.contains(words), "{token:?}: {text}");
        assert!(!text.contains("s3cr"), "a token is a secret: {text}");
    }
}

const NONE: Duration = Duration::ZERO;
const MS: Duration = Duration::from_millis(1);

/// Policies and limits that cannot work: one row for each, with what is said of it.
#[tokio::test(start_paused = true)]
async fn policies_of_a_client_that_cannot_work_are_refused_before_anything_is_dialled() {
    let (mut world, env) = World::new(1);
    let retry = |policy| account(&env).retry(policy);
    let connection = |policy| account(&env).connection(policy);
    let keepalive = |policy| connection(ConnectionPolicy { keepalive: policy, ..ConnectionPolicy::default() });
    let rpc = |policy| account(&env).rpc(policy);
    let limits = |limits| account(&env).session_limits(limits);
    let (r, c, k) = (RetryPolicy::default(), ConnectionPolicy::default(), KeepalivePolicy::default());
    let (p, l) = (RpcPolicy::default(), SessionLimits::default());
    for (client, words) in [
        (retry(RetryPolicy { initial: NONE, ..r.clone() }), "the retry policy is not usable: `initial` is under 1 ms"),
        (retry(RetryPolicy { initial: MS / 2, ..r.clone() }), "`initial` is under 1 ms"),
        (
            retry(RetryPolicy { max: MS, ..r.clone() }),
            "the retry policy is not usable: `max` is shorter than `initial`",
        ),
        (retry(RetryPolicy { jitter: -0.1, ..r.clone() }), "the retry policy is not usable: `jitter` is not in 0 to 1"),
        (retry(RetryPolicy { jitter: 1.1, ..r.clone() }), "`jitter` is not in 0 to 1"),
        (retry(RetryPolicy { jitter: f64::NAN, ..r }), "`jitter` is not in 0 to 1"),
        (
            connection(ConnectionPolicy { api_timeout: NONE, ..c }),
            "the connection policy is not usable: `api_timeout` is zero",
        ),
        (connection(ConnectionPolicy { dial_timeout: NONE, ..c }), "`dial_timeout` is zero"),
        (connection(ConnectionPolicy { handshake_timeout: NONE, ..c }), "`handshake_timeout` is zero"),
        (
            keepalive(KeepalivePolicy { ping_every: NONE, ..k }),
            "the connection policy is not usable: `ping_every` is under 10 ms",
        ),
        (keepalive(KeepalivePolicy { ping_every: 9 * MS, ..k }), "`ping_every` is under 10 ms"),
        (keepalive(KeepalivePolicy { silence: NONE, ..k }), "`silence` is not longer than `ping_every`"),
        (keepalive(KeepalivePolicy { silence: k.ping_every, ..k }), "`silence` is not longer than `ping_every`"),
        (rpc(RpcPolicy { timeout: NONE, ..p }), "the call policy is not usable: `timeout` is zero"),
        (rpc(RpcPolicy { total: Some(NONE), ..p }), "`total` is zero"),
        (limits(SessionLimits { waiting_frames: 0, ..l }), "a session limit is not usable: `waiting_frames` is zero"),
        (limits(SessionLimits { waiting_bytes: 0, ..l }), "`waiting_bytes` is zero"),
        (limits(SessionLimits { held_bytes: 0, ..l }), "`held_bytes` is zero"),
        (limits(SessionLimits { calls: 0, ..l }), "`calls` is zero"),
        (account(&env).handler_timeout(NONE), "the handlers' time limit is not usable: zero"),
        (account(&env).buffered_bytes(0), "the buffer for calls is not usable: zero bytes"),
    ] {
        let text = wrong(client.connect());
        assert!(text.contains(words), "{words}: {text}");
    }
    let code = QuickConnect::new(API_URL, "abcd-efgh-ijkl").unwrap().env(env.clone()).buffered_bytes(0);
    assert!(wrong(code.connect()).contains("the buffer for calls"), "the other builder looks as well");
    assert!(world.api_within(Duration::from_secs(3_600)).await.is_none(), "nothing was asked of anybody");
}

/// The same at a daemon.
#[tokio::test(start_paused = true)]
async fn policies_of_a_daemon_that_cannot_work_are_refused_before_anything_is_dialled() {
    let (mut world, env) = World::new(1);
    let retry = |policy| daemon(&env).retry(policy);
    let r = DaemonRetryPolicy::default();
    let no_dial = ConnectionPolicy { dial_timeout: NONE, ..ConnectionPolicy::default() };
    let no_answer = RpcPolicy { timeout: NONE, ..RpcPolicy::default() };
    let no_calls = SessionLimits { calls: 0, ..SessionLimits::default() };
    for (daemon, words) in [
        (
            retry(DaemonRetryPolicy { initial: NONE, ..r.clone() }),
            "the retry policy is not usable: `initial` is under 1 ms",
        ),
        (retry(DaemonRetryPolicy { max: MS, ..r.clone() }), "`max` is shorter than `initial`"),
        (retry(DaemonRetryPolicy { settled: NONE, ..r }), "`settled` is zero"),
        (daemon(&env).connection(no_dial), "the connection policy is not usable: `dial_timeout` is zero"),
        (daemon(&env).rpc(no_answer), "the call policy is not usable: `timeout` is zero"),
        (daemon(&env).session_limits(no_calls), "a session limit is not usable: `calls` is zero"),
        (daemon(&env).daemon_id(""), "the daemon id is not usable: it is empty"),
        (daemon(&env).max_sessions(0), "the bound of sessions is not usable: zero"),
        (daemon(&env).handler_timeout(NONE), "the handlers' time limit is not usable: zero"),
    ] {
        let text = wrong(daemon.listen().await);
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(world.api_within(Duration::from_secs(3_600)).await.is_none(), "nothing was asked of anybody");
}

/// A limit that never comes is no mistake: everything works with the longest durations.
#[tokio::test(start_paused = true)]
async fn durations_without_end_overflow_nowhere() {
    const EVER: Duration = Duration::MAX;
    let connection = ConnectionPolicy {
        api_timeout: EVER,
        dial_timeout: EVER,
        handshake_timeout: EVER,
        keepalive: KeepalivePolicy { ping_every: EVER - MS, silence: EVER },
    };
    let rpc = RpcPolicy { timeout: EVER, total: Some(EVER) };
    let (mut world, env) = World::new(1);
    let retry = RetryPolicy { initial: MS, max: EVER, jitter: 1.0, max_retries: u32::MAX, ..RetryPolicy::default() };
    let client = account(&env).connection(connection).rpc(rpc).retry(retry).handler_timeout(EVER);
    let double = |n: u32, _: Context| async move { Ok::<_, HandlerError>(n * 2) };
    let client = client.handle("m", double).unwrap().connect().unwrap();
    for _ in 0..37 {
        // 1 ms · 2³⁶ is two years.
        world.api_within(EVER).await.unwrap().refuse(500);
    }
    world.api_within(EVER).await.unwrap().ok(grant(DAEMON, session(7)));
    let link = world.dial_within(EVER).await.unwrap().open().await;
    let mut link = world.agree(link).await;
    link.introduce().await;
    client.when_ready().await.unwrap();
    let options = CallOptions::new().timeout(EVER).total(EVER);
    let far = async {
        let (_, _, cid) = link.called().await;
        tokio::time::sleep(Duration::from_secs(365 * 86_400)).await;
        link.answer(cid, json!(1)).await;
    };
    let (called, ()) = tokio::join!(client.call_with::<_, u8>("n", (), options), far);
    assert_eq!(called.unwrap(), 1);
    link.request("m", json!(21)).await;
    assert!(matches!(link.envelope().await, Envelope::Result { .. }));
    client.close().await;

    let (mut world, env) = World::new(2);
    let retry = DaemonRetryPolicy { initial: EVER, max: EVER, spread: EVER, settled: EVER, clean: EVER };
    let server = daemon(&env).connection(connection).rpc(rpc).retry(retry).handler_timeout(EVER).start().unwrap();
    let mut link = world.go_online(true).await;
    let id = world.meet(&mut link).await;
    link.is_alive_on(id).await;
    link.into_parts().0.cut();
    let mut events = server.events();
    while !matches!(soon("a retry", events.next()).await.unwrap(), ServerEvent::Retrying { delay: EVER, .. }) {}
    server.close().await;
}

/// API-03: a code's life is checked where it is given; CLI-07: the answer may take as long as the policy says.
#[tokio::test(start_paused = true)]
async fn api_03_cli_07_a_code_s_life_is_checked_and_its_answer_has_the_policy_s_time() {
    let (mut world, env) = World::new(1);
    let patient = ConnectionPolicy { api_timeout: Duration::from_secs(20), ..ConnectionPolicy::default() };
    let server = daemon(&env).connection(patient).start().unwrap();
    let _link = world.go_online(true).await;
    for life in
        [NONE, Duration::from_secs(29), Duration::from_secs(3_601), Duration::from_millis(30_500), Duration::MAX]
    {
        let text = wrong(server.create_quick_connect(Some(life)).await);
        assert!(
            text.contains("the code's life is not usable: ") && text.contains("from 30 to 3600"),
            "{life:?}: {text}"
        );
    }
    assert!(world.api_within(NONE).await.is_none(), "nothing was asked");
    for life in [None, Some(30), Some(3_600)] {
        let asking = server.clone();
        let made = tokio::spawn(async move { asking.create_quick_connect(life.map(Duration::from_secs)).await });
        let call = world.api().await;
        assert_eq!(call.input().get("ttlSeconds").and_then(serde_json::Value::as_u64), life);
        let since = sideband::env::Timeline::start();
        let error = made.await.unwrap().unwrap_err();
        assert_eq!((error.cause(), since.elapsed().as_secs()), (Some(&Cause::ApiTimeout), 20));
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
    assert!(matches!(taken.call_error(), Some(CallError::MethodTaken(method)) if method == "m"), "{taken:?}");
    assert!(client.handle("$sideband/x", answer).unwrap_err().to_string().contains("platform"));
    assert!(client.handle("", answer).unwrap_err().to_string().contains("empty"));
    assert_eq!(wrong(client.call::<_, ()>("", ()).await), "the method is not usable: its name is empty");
}

/// SBP-04: a subject is refused where it is given, whatever state the client is in, and is named.
#[tokio::test(start_paused = true)]
async fn sbp_04_subjects_are_refused_at_the_call() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let mut held = None;
    for active in [false, true] {
        let long = format!("app/{}", "x".repeat(253));
        for subject in ["", "rpc", "event", "app", "stream/x", "app/\0", &long] {
            let given: String = subject.chars().take(80).flat_map(char::escape_debug).collect();
            for text in [wrong(client.send(subject, "x").await), wrong(client.send_confirmed(subject, "x").await)] {
                assert!(
                    text.starts_with("the subject is not usable: ") && text.contains(&format!("`{given}`")),
                    "{text}"
                );
            }
        }
        if !active {
            let mut link = world.join().await;
            client.when_ready().await.unwrap();
            link.is_alive().await;
            held = Some(link);
        }
    }
    held.unwrap().is_alive().await;
}
