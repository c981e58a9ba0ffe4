//! The account path: calls both ways and how they fail, events both ways, raw messages, and the largest of each.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use sideband::{CallOptions, Client, Connection, Context, Daemon, Error, ErrorKind, HandlerError, Server};
use sideband_protocol::{peer::CallError, rpc::code, wire::MAX_PLAINTEXT};
use tokio::sync::Notify;

use self::support::*;

/// A daemon and a client whose session both sides know.
struct Pair {
    _world: World,
    server: Server,
    client: Client,
    connection: Connection,
}

impl Pair {
    async fn start() -> Self {
        Self::with(|daemon| daemon).await
    }

    async fn with(change: impl FnOnce(Daemon) -> Daemon) -> Self {
        let world = World::start().await;
        let server = soon(change(with_echo(world.daemon())).listen()).await.unwrap();
        let client = world.client().await;
        echoes(&client).await;
        let connection = server.connections().remove(0);
        Self { _world: world, server, client, connection }
    }
}

/// The code, message and data of an answer that is an error.
fn answered(error: &Error) -> (i64, &str, Option<serde_json::Value>) {
    let Some(CallError::Rpc { code, message, data }) = error.call_error() else { panic!("{error:?}") };
    assert_eq!(error.code(), Some("rpc_error"));
    assert_eq!(error.kind(), ErrorKind::Peer);
    (*code, message, data.as_ref().map(|data| serde_json::from_slice(data).unwrap()))
}

/// The size that a message which is too large would have had.
fn too_large(error: &Error) -> usize {
    let Some(CallError::MessageTooLarge { size }) = error.call_error() else { panic!("{error:?}") };
    assert_eq!(error.code(), Some("message_too_large"));
    let text = error.to_string();
    assert!(text.contains(&size.to_string()) && text.contains(&MAX_PLAINTEXT.to_string()), "{text}");
    *size
}

#[tokio::test]
async fn rpc_01_values_of_every_kind_come_back() {
    let pair = Pair::start().await;
    for value in [
        serde_json::json!(null),
        serde_json::json!(true),
        serde_json::json!(-7),
        serde_json::json!(9_007_199_254_740_993_u64),
        serde_json::json!("grüße \u{1f44b} \" \\ \u{0}"),
        serde_json::json!([1, [2, [3, {}]]]),
        serde_json::json!({ "a": { "b": [null, 1.5, ""] } }),
    ] {
        let echoed: serde_json::Value = soon(pair.client.call("echo", value.clone())).await.unwrap();
        assert_eq!(echoed, value);
    }
    soon(pair.client.call::<_, ()>("echo", ())).await.unwrap();
}

#[tokio::test]
async fn rpc_01_either_side_calls_the_other() {
    let pair = Pair::with(|daemon| {
        daemon
            .handle("ask back", |n: i64, context: Context| async move {
                let doubled: i64 = context.peer().call("double", n).await?;
                Ok::<_, HandlerError>(doubled + 1)
            })
            .unwrap()
    })
    .await;
    pair.client.handle("double", |n: i64, _| async move { Ok::<_, HandlerError>(n * 2) }).unwrap();
    assert_eq!(soon(pair.connection.call::<_, i64>("double", 21)).await.unwrap(), 42);
    assert_eq!(soon(pair.client.call::<_, i64>("ask back", 20)).await.unwrap(), 41, "a call inside a call");
}

#[tokio::test]
async fn cli_03_handlers_may_be_registered_before_the_session_stands() {
    let world = World::start().await;
    let server = world.serve().await;
    let client = world.account().connect().unwrap();
    client.handle("early", |(): (), _| async { Ok::<_, HandlerError>("bird") }).unwrap();
    let mut events = client.subscribe("tick").unwrap();
    echoes(&client).await;
    let connection = server.connections().remove(0);
    assert_eq!(soon(connection.call::<_, String>("early", ())).await.unwrap(), "bird");
    server.broadcast("tick", 1).await.unwrap();
    assert_eq!(soon(events.next()).await.unwrap().data::<i64>().unwrap(), 1);
}

#[tokio::test]
async fn rpc_02_an_unknown_method_is_1101_both_ways() {
    let pair = Pair::start().await;
    let error = soon(pair.client.call::<_, ()>("nobody", ())).await.unwrap_err();
    assert_eq!(answered(&error).0, 1101);
    let error = soon(pair.connection.call::<_, ()>("nobody", ())).await.unwrap_err();
    assert_eq!(answered(&error).0, code::UNSUPPORTED_METHOD);
    echoes(&pair.client).await;
}

#[tokio::test]
async fn rpc_02_a_failing_handler_is_2000_or_the_applications_code_both_ways() {
    let pair = Pair::with(|daemon| {
        daemon
            .handle("fail", |(): (), _| async { Err::<(), _>(std::io::Error::other("the disk is full")) })
            .unwrap()
            .handle("own code", |(): (), _| async {
                let data = serde_json::json!({ "limit": 3 });
                Err::<(), _>(HandlerError::new(4_711, "over the limit").with_data(data))
            })
            .unwrap()
    })
    .await;
    let error = soon(pair.client.call::<_, ()>("fail", ())).await.unwrap_err();
    assert_eq!(answered(&error), (2_000, "the disk is full", None));
    let error = soon(pair.client.call::<_, ()>("own code", ())).await.unwrap_err();
    assert_eq!(answered(&error), (4_711, "over the limit", Some(serde_json::json!({ "limit": 3 }))));

    pair.client.handle("fail", |(): (), _| async { Err::<(), _>(HandlerError::new(2_000, "no")) }).unwrap();
    let error = soon(pair.connection.call::<_, ()>("fail", ())).await.unwrap_err();
    assert_eq!(answered(&error), (2_000, "no", None));
}

#[tokio::test]
async fn rpc_02_params_that_do_not_fit_are_the_handlers_failure() {
    let pair =
        Pair::with(|daemon| daemon.handle("count", |n: u8, _| async move { Ok::<_, HandlerError>(n) }).unwrap()).await;
    let error = soon(pair.client.call::<_, u8>("count", "many")).await.unwrap_err();
    let (code, message, data) = answered(&error);
    assert_eq!((code, data), (2_000, Some(serde_json::json!({ "kind": "invalid_params" }))));
    assert!(message.contains("invalid params"), "{message}");
}

#[tokio::test]
async fn rpc_02_a_handler_that_panics_answers_2000_and_the_session_goes_on() {
    let pair = Pair::with(|daemon| {
        daemon
            .handle("panic", |(): (), _| async { if true { panic!("it slipped") } else { Ok::<_, HandlerError>(()) } })
            .unwrap()
    })
    .await;
    pair.client
        .handle("panic", |(): (), _| async { if true { panic!("so did this") } else { Ok::<_, HandlerError>(()) } })
        .unwrap();
    let error = soon(pair.client.call::<_, ()>("panic", ())).await.unwrap_err();
    let (code, message, _) = answered(&error);
    assert_eq!(code, 2_000);
    assert_eq!(message, "the handler panicked", "what it said is not for the other side");
    let error = soon(pair.connection.call::<_, ()>("panic", ())).await.unwrap_err();
    assert_eq!(answered(&error).1, "the handler panicked");
    echoes(&pair.client).await;
    assert_eq!(pair.server.connections().len(), 1);
}

#[tokio::test]
async fn rpc_05_a_call_without_an_answer_ends_and_a_late_answer_is_dropped() {
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let pair = Pair::with(|daemon| {
        daemon
            .handle("held", move |(): (), _| {
                let held = held.clone();
                async move {
                    held.notified().await;
                    Ok::<_, HandlerError>("late")
                }
            })
            .unwrap()
    })
    .await;
    let short = CallOptions::new().timeout(std::time::Duration::from_millis(20));
    let error = soon(pair.client.call_with::<_, String>("held", (), short)).await.unwrap_err();
    assert_eq!(error.code(), Some("rpc_timeout"));
    gate.notify_one();
    echoes(&pair.client).await;
}

#[tokio::test]
async fn rpc_06_a_slow_handler_delays_only_its_own_answer() {
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let pair = Pair::with(|daemon| {
        daemon
            .handle("held", move |(): (), _| {
                let held = held.clone();
                async move {
                    held.notified().await;
                    Ok::<_, HandlerError>("done")
                }
            })
            .unwrap()
    })
    .await;
    let slow = pair.client.call::<_, String>("held", ());
    let others = async {
        for _ in 0..10 {
            echoes(&pair.client).await;
        }
        gate.notify_one();
    };
    let (slow, ()) = soon(futures_util::future::join(slow, others)).await;
    assert_eq!(slow.unwrap(), "done");
}

#[tokio::test]
async fn rpc_07_and_08_names_that_cannot_be_handled() {
    let pair = Pair::start().await;
    let answer = || |(): (), _: Context| async { Ok::<_, HandlerError>(()) };
    pair.client.handle("once", answer()).unwrap();
    let twice = pair.client.handle("once", answer()).unwrap_err();
    assert_eq!(twice.code(), Some("rpc_method_already_registered"), "{twice}");
    assert_eq!(pair.client.handle("$sideband/mine", answer()).unwrap_err().kind(), ErrorKind::Misuse);
}

#[tokio::test]
async fn rpc_08_the_platforms_list_of_methods() {
    let pair = Pair::with(|daemon| {
        let nothing = |(): (), _: Context| async { Ok::<_, HandlerError>(()) };
        daemon.handle("zeta", nothing).unwrap().handle("alpha", nothing).unwrap().introspection().unwrap()
    })
    .await;
    let list: serde_json::Value = soon(pair.client.call("$sideband/rpc.list", ())).await.unwrap();
    let methods: Vec<_> = list["methods"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(methods.is_sorted(), "{methods:?}");
    for name in ["alpha", "echo", "zeta"] {
        assert!(methods.contains(&name), "{methods:?}");
    }
}

#[tokio::test]
async fn rpc_09_params_up_to_the_frame_limit_and_not_a_byte_more() {
    let pair = Pair::with(|daemon| {
        daemon
            .handle("measure", |text: String, _| async move { Ok::<_, HandlerError>(text.len()) })
            .unwrap()
            .handle("make", |size: usize, _| async move { Ok::<_, HandlerError>("x".repeat(size)) })
            .unwrap()
    })
    .await;
    pair.client.handle("measure", |text: String, _| async move { Ok::<_, HandlerError>(text.len()) }).unwrap();

    // Client to daemon.
    let measure = |size: usize| pair.client.call::<_, usize>("measure", "x".repeat(size));
    let over = too_large(&soon(measure(70_000)).await.unwrap_err()) - 70_000;
    let most = MAX_PLAINTEXT - over;
    assert_eq!(soon(measure(most)).await.unwrap(), most);
    assert_eq!(too_large(&soon(measure(most + 1)).await.unwrap_err()), MAX_PLAINTEXT + 1);

    // Daemon to client.
    let measure = |size: usize| pair.connection.call::<_, usize>("measure", "x".repeat(size));
    assert_eq!(soon(measure(most)).await.unwrap(), most);
    assert_eq!(too_large(&soon(measure(most + 1)).await.unwrap_err()), MAX_PLAINTEXT + 1);

    // An answer that does not fit is an E 2000 that says so.
    let make = |size: usize| pair.client.call::<_, String>("make", size);
    let error = soon(make(70_000)).await.unwrap_err();
    let (code, message, _) = answered(&error);
    assert_eq!(code, 2_000);
    assert!(message.contains(&MAX_PLAINTEXT.to_string()), "{message}");
    // The largest that fits, from {"t":"R","cid":…,"result":"…"} on subject `rpc`.
    let envelope = r#"{"t":"R","cid":"00000000000000000000000000000000","result":""}"#.len();
    let most = MAX_PLAINTEXT - 18 - 4 - 3 - envelope;
    assert_eq!(soon(make(most)).await.unwrap().len(), most);
    assert_eq!(answered(&soon(make(most + 1)).await.unwrap_err()).0, 2_000);
    echoes(&pair.client).await;
}

#[tokio::test]
async fn rpc_09_events_and_raw_messages_up_to_the_frame_limit() {
    let pair = Pair::start().await;
    let mut events = pair.connection.subscribe("blob").unwrap();
    let over = too_large(&soon(pair.client.emit("blob", "x".repeat(70_000))).await.unwrap_err()) - 70_000;
    let most = MAX_PLAINTEXT - over;
    soon(pair.client.emit("blob", "x".repeat(most))).await.unwrap();
    assert_eq!(soon(events.next()).await.unwrap().data::<String>().unwrap().len(), most);
    assert_eq!(too_large(&soon(pair.client.emit("blob", "x".repeat(most + 1))).await.unwrap_err()), MAX_PLAINTEXT + 1);
    assert_eq!(too_large(&soon(pair.server.broadcast("blob", "x".repeat(70_000))).await.unwrap_err()), 70_000 + over);

    let mut messages = pair.client.messages();
    let most = MAX_PLAINTEXT - 18 - 4 - "app/blob".len();
    soon(pair.connection.send("app/blob", vec![7; most])).await.unwrap();
    assert_eq!(soon(messages.next()).await.unwrap(), ("app/blob".to_owned(), Bytes::from(vec![7; most])));
    assert_eq!(
        too_large(&soon(pair.connection.send("app/blob", vec![7; most + 1])).await.unwrap_err()),
        MAX_PLAINTEXT + 1
    );
}

#[tokio::test]
async fn evt_02_events_go_both_ways_in_order_to_every_subscription_that_matches() {
    let pair = Pair::start().await;
    let mut all = pair.client.subscribe(">").unwrap();
    let mut some = pair.client.subscribe("log.*").unwrap();
    let mut none = pair.client.subscribe("log").unwrap();
    for n in 0..100 {
        let name = if n % 2 == 0 { "log.even" } else { "log.odd.deep" };
        pair.connection.emit(name, n).await.unwrap();
    }
    pair.connection.emit("log", 100).await.unwrap();
    for n in 0..=100 {
        assert_eq!(soon(all.next()).await.unwrap().data::<i64>().unwrap(), n);
    }
    for n in 0..50 {
        assert_eq!(soon(some.next()).await.unwrap().data::<i64>().unwrap(), 2 * n);
    }
    assert_eq!(soon(none.next()).await.unwrap().data::<i64>().unwrap(), 100);

    let mut upward = pair.connection.subscribe("up.>").unwrap();
    for n in 0..20 {
        pair.client.emit("up.and.away", n).await.unwrap();
    }
    for n in 0..20 {
        let event = soon(upward.next()).await.unwrap();
        assert_eq!((event.name(), event.data::<i64>().unwrap()), ("up.and.away", n));
    }
}

#[tokio::test]
async fn evt_02_a_handler_that_panics_stops_no_other() {
    let pair = Pair::start().await;
    let mut seen = pair.client.subscribe("tick").unwrap();
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    pair.client
        .on("tick", move |event| {
            let told = told.clone();
            async move {
                let n = event.data::<i64>().unwrap();
                assert_ne!(n, 0, "this handler fails once");
                told.send(n).unwrap();
            }
        })
        .unwrap();
    for n in 0..3 {
        pair.connection.emit("tick", n).await.unwrap();
    }
    assert_eq!((soon(hears.recv()).await, soon(hears.recv()).await), (Some(1), Some(2)));
    for n in 0..3 {
        assert_eq!(soon(seen.next()).await.unwrap().data::<i64>().unwrap(), n);
    }
}

#[tokio::test]
async fn evt_01_bad_names_and_patterns_fail_at_the_call() {
    let pair = Pair::start().await;
    for name in ["", ".", "a..b", "a b", "a.*", "ü"] {
        assert_eq!(soon(pair.client.emit(name, ())).await.unwrap_err().code(), Some("invalid_pattern"), "{name}");
        assert_eq!(soon(pair.connection.emit(name, ())).await.unwrap_err().code(), Some("invalid_pattern"), "{name}");
    }
    for pattern in ["", "**", "a.>.b", "a..b"] {
        assert_eq!(pair.client.subscribe(pattern).unwrap_err().code(), Some("invalid_pattern"), "{pattern}");
    }
}

#[tokio::test]
async fn sbp_04_raw_messages_go_both_ways_on_app_subjects_only() {
    let pair = Pair::start().await;
    let mut down = pair.client.messages();
    let mut up = pair.connection.messages();
    let every_byte: Vec<u8> = (0..=255).collect();
    soon(pair.client.send("app/files/1", every_byte.clone())).await.unwrap();
    soon(pair.connection.send("app/x", Bytes::new())).await.unwrap();
    assert_eq!(soon(up.next()).await.unwrap(), ("app/files/1".to_owned(), every_byte.into()));
    assert_eq!(soon(down.next()).await.unwrap(), ("app/x".to_owned(), Bytes::new()));
    for subject in ["rpc", "event", "stream/1", "files", ""] {
        assert!(soon(pair.client.send(subject, "x")).await.is_err(), "{subject}");
        assert!(soon(pair.connection.send(subject, "x")).await.is_err(), "{subject}");
    }
    echoes(&pair.client).await;
}

#[tokio::test]
async fn dmn_15_a_connection_handler_that_fails_or_panics_ends_its_session_only() {
    use sideband::{Cause, ServerEvent};
    let world = World::start().await;
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = soon(
        with_echo(world.daemon())
            .on_connection(move |_| {
                let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                async move {
                    match n {
                        0 => Ok(()),
                        1 => Err(std::io::Error::other("no room")),
                        _ => panic!("worse"),
                    }
                }
            })
            .listen(),
    )
    .await
    .unwrap();
    let good = world.client().await;
    echoes(&good).await;
    let session = server.connections()[0].session();
    let mut events = server.events_from_now();
    for words in ["no room", "it panicked"] {
        let policy = sideband::RetryPolicy { mode: sideband::RetryMode::Never, ..quick_retry() };
        let bad = world.account().retry(policy).connect().unwrap();
        let closed = |event: &ServerEvent| matches!(event, ServerEvent::Closed { .. });
        let ServerEvent::Closed { session: ended, cause: Cause::HandlerFailed(text) } =
            server_event(&mut events, closed).await
        else {
            panic!()
        };
        assert_ne!(ended, session);
        // What a panic said may be anything, and causes are logged.
        assert_eq!(text, words);
        soon(bad.closed()).await;
    }
    echoes(&good).await;
    assert_eq!(server.connections().len(), 1);
}

#[tokio::test]
async fn many_calls_at_once_each_get_their_own_answer() {
    let pair = Pair::start().await;
    let calls = (0..500).map(|n| {
        let client = pair.client.clone();
        async move { assert_eq!(client.call::<_, i64>("echo", n).await.unwrap(), n) }
    });
    soon(futures_util::future::join_all(calls)).await;
}
