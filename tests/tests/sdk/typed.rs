//! Typed services: what goes over the wire, and what a typed call can be told. The service is of a crate that knows the SDK by another name.

use std::time::Duration;

use serde_json::{Value, json};
use sideband::{Error, ErrorKind};
use sideband_protocol::rpc::Envelope;
use sideband_renamed::{SumsClient, Usual};
use sideband_tests::script::{Link, World, soon};

use crate::support::{account, connect};

async fn answer(link: &mut Link) -> Result<Value, String> {
    match link.envelope().await {
        Envelope::Result { result, .. } => Ok(serde_json::from_slice(&result.unwrap()).unwrap()),
        Envelope::Error { message, .. } => Err(message),
        other => panic!("an answer was due, not {other:?}"),
    }
}

/// A typed client sends one object of named params, and its result comes back as its type.
#[tokio::test(start_paused = true)]
async fn a_typed_call_sends_its_params_by_name() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let sums = SumsClient::new(&client);
    let mut link = world.join().await;
    for (call, method, params) in [
        (sums.add(1, 2), "sums.add", json!({ "a": 1, "b": 2 })),
        (sums.some(None, Some(7)), "sums.some", json!({ "a": null, "b": 7 })),
        (sums.zero(), "sums.zero", json!({})),
    ] {
        let far = async {
            let (name, sent, cid) = link.called().await;
            assert_eq!((&name[..], sent), (method, params));
            link.answer(cid, json!(3)).await;
        };
        let (sum, ()) = tokio::join!(soon("a sum", call.into_future()), far);
        assert_eq!(sum.unwrap(), 3);
    }
}

/// RPC-05, CLI-09: time limits of one typed call, and whether it waited.
#[tokio::test(start_paused = true)]
async fn rpc_05_a_typed_call_has_its_own_limits_and_tells_whether_it_waited() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let sums = SumsClient::new(&client);
    let since = sideband::env::Timeline::start();
    let error = sums.zero().total(Duration::from_secs(3)).await.unwrap_err();
    assert_eq!((error.code(), since.elapsed().as_secs()), (Some("rpc_timeout"), 3));
    let waiting = tokio::spawn(sums.add(1, 2).with_info());
    tokio::task::yield_now().await;
    let mut link = world.join().await;
    let (_, _, cid) = link.called().await;
    link.answer(cid, json!(3)).await;
    let (sum, info) = soon("a sum", waiting).await.unwrap().unwrap();
    assert_eq!((sum, info.waited), (3, true));
    let since = sideband::env::Timeline::start();
    let error = sums.zero().timeout(Duration::from_secs(60)).with_info().await.unwrap_err();
    assert_eq!((error.code(), since.elapsed().as_secs()), (Some("rpc_timeout"), 60));
}

/// Params that are not needed may be an empty object, `null`, or not there; those that are needed are missed by name.
#[tokio::test(start_paused = true)]
async fn a_typed_method_without_needs_takes_null_absent_and_empty_params() {
    let (mut world, env) = World::new(1);
    let _client = account(&env).serve(SumsClient::handlers(Usual)).unwrap().connect().unwrap();
    let mut link = world.join().await;
    for (method, params, expected) in [
        ("sums.zero", Some("{}"), Ok(json!(0))),
        ("sums.zero", Some("null"), Ok(json!(0))),
        ("sums.zero", None, Ok(json!(0))),
        ("sums.zero", Some(r#"{"more":1}"#), Ok(json!(0))),
        ("sums.some", None, Ok(json!(0))),
        ("sums.some", Some(r#"{"b":5}"#), Ok(json!(5))),
        ("sums.add", Some(r#"{"b":2,"a":1}"#), Ok(json!(3))),
        ("sums.add", None, Err("invalid params: missing field `a`")),
        ("sums.add", Some("null"), Err("invalid params: missing field `a`")),
        ("sums.add", Some(r#"{"a":1}"#), Err("invalid params: missing field `b` at line 1 column 7")),
        (
            "sums.zero",
            Some("7"),
            Err("invalid params: invalid type: integer `7`, expected struct Params at line 1 column 1"),
        ),
        (
            "sums.add",
            Some(r#"{"a":1,"b":"x"}"#),
            Err("invalid params: `b`: invalid type: string \"x\", expected i64 at line 1 column 14"),
        ),
    ] {
        let cid = link.line().new_id();
        let request = Envelope::Request { method: method.to_owned(), params: params.map(Into::into), cid };
        link.send_envelope(&request).await;
        assert_eq!(answer(&mut link).await, expected.map_err(str::to_owned), "{method} {params:?}");
    }
}

/// What does not fit is told with who is at fault.
#[tokio::test(start_paused = true)]
async fn values_that_do_not_fit_say_whose_they_are() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    // A map whose keys are no text has no JSON.
    let ours = std::collections::BTreeMap::from([((1, 2), 3)]);
    for error in [client.call::<_, ()>("m", &ours).await.unwrap_err(), client.emit("e", &ours).await.unwrap_err()] {
        assert!(matches!(error, Error::Encode { .. }), "{error:?}");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Misuse, false), "{error}");
        assert!(error.to_string().ends_with("cannot become JSON: key must be a string"), "{error}");
    }
    let mut events = client.subscribe(">").unwrap();
    link.event("e", json!({ "n": "seven" })).await;
    let far = async {
        let (_, _, cid) = link.called().await;
        link.answer(cid, json!("seven")).await;
    };
    let (result, ()) = tokio::join!(client.call::<_, u8>("m", ()), far);
    let event = soon("an event", events.next()).await.unwrap();
    for error in [result.unwrap_err(), event.data::<std::collections::BTreeMap<String, u8>>().unwrap_err()] {
        assert!(matches!(error, Error::Decode { .. }), "{error:?}");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Peer, false), "{error}");
        assert!(error.to_string().contains("does not fit its type: "), "{error}");
    }
    link.is_alive().await;
}
