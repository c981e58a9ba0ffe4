//! What operators see: counters, under names that do not change. For spans see `spans.rs` beside this folder.

use std::{collections::BTreeMap, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::json;
use sideband::{Client, Context, HandlerError, OnDisconnect, State, protocol::wire::ControlCode};
use sideband_tests::script::{World, soon};

use crate::support::{account, connect, daemon};

/// Counters by name and labels, but for bytes.
fn counters(snapshotter: &Snapshotter) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let DebugValue::Counter(count) = value else { panic!("{key:?} is no counter") };
        found.insert(format!("{}{{{}}}", key.name(), labels.join(",")), count);
    }
    found
}

/// A client that fails, connects, calls, is called, is paused for 90 s, resumes, is sent rubbish, and closes.
#[tokio::test(start_paused = true)]
async fn counters_of_a_client_s_life() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    client.handle("m", |(): (), _: Context| async { Ok::<_, HandlerError>(()) }).unwrap();
    world.api().await.refuse(500);
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    let mut call = async |result: bool| {
        let called = client.call::<_, u8>("n", ());
        let answer = async {
            let (_, _, cid) = link.called().await;
            if result {
                link.answer(cid, json!(1)).await;
            }
        };
        tokio::join!(called, answer).0
    };
    call(true).await.unwrap();
    call(false).await.unwrap_err();
    link.request("m", json!(null)).await;
    link.envelope().await;
    let id = link.session();
    let mut states = client.state();
    link.socket.control(ControlCode::SessionPaused, Some(id)).await;
    soon("paused", states.wait_for(|state| *state == State::Paused)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    link.socket.control(ControlCode::SessionResumed, Some(id)).await;
    soon("active", states.wait_for(|state| *state == State::Active)).await.unwrap();
    // The same message twice: the second one is refused.
    let frame = link.line().seal_body(sideband_tests::script::event("e", &json!(1)));
    link.socket.send(&frame).await;
    link.socket.send(&frame).await;
    link.is_alive().await;
    client.close().await;
    let mut found = counters(&snapshotter);
    for bytes in ["sideband_sent_bytes_total{}", "sideband_received_bytes_total{}"] {
        assert!(found.remove(bytes).is_some_and(|count| (300..3_000).contains(&count)), "{bytes}");
    }
    let expected = [
        ("sideband_attempts_total{role=client}", 2),
        ("sideband_calls_total{outcome=ok}", 1),
        ("sideband_calls_total{outcome=rpc_timeout}", 1),
        ("sideband_paused_seconds_total{role=client}", 60),
        ("sideband_reconnects_total{role=client}", 1),
        ("sideband_refused_frames_total{}", 1),
        ("sideband_requests_total{}", 1),
        ("sideband_resumes_total{role=client}", 1),
        ("sideband_sessions_total{role=client}", 1),
    ];
    assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

/// Every call is counted once, with how it ended: also one that fails before it is sent, and one that is dropped.
#[tokio::test(start_paused = true)]
async fn every_call_is_counted_once_with_its_outcome() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let (mut world, env) = World::new(1);
    let client = account(&env).on_disconnect(OnDisconnect::Fail).connect().unwrap();
    // The snapshotter takes what it shows: each step is counted for itself.
    let counts = |outcome: &str| {
        let mut found = counters(&snapshotter);
        found.retain(|name, count| name.contains("calls") && *count > 0);
        assert_eq!(found, BTreeMap::from([(format!("sideband_calls_total{{outcome={outcome}}}"), 1)]));
    };
    let never = async |client: &Client, outcome: &str| {
        assert_eq!(client.call::<_, ()>("n", ()).await.unwrap_err().code(), Some(outcome));
    };
    never(&client, "not_connected").await;
    counts("not_connected");
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    assert_eq!(client.call::<_, ()>("n", "x".repeat(70_000)).await.unwrap_err().code(), Some("message_too_large"));
    counts("message_too_large");
    client.call::<_, ()>("n", BTreeMap::from([((1, 2), 3)])).await.unwrap_err();
    counts("encode");
    let mut answered = async |result: serde_json::Value| {
        let answer = async {
            let (_, _, cid) = link.called().await;
            link.answer(cid, result).await;
        };
        tokio::join!(client.call::<_, u8>("n", ()), answer).0
    };
    answered(json!(1)).await.unwrap();
    counts("ok");
    answered(json!("one")).await.unwrap_err();
    counts("decode");
    assert!(tokio::time::timeout(Duration::from_secs(1), client.call::<_, ()>("n", ())).await.is_err());
    counts("rpc_cancelled");
    // Never polled, never made.
    drop(client.call::<_, ()>("n", ()));
    let id = link.session();
    let mut states = client.state();
    link.socket.control(ControlCode::SessionPaused, Some(id)).await;
    soon("paused", states.wait_for(|state| *state == State::Paused)).await.unwrap();
    never(&client, "session_paused").await;
    counts("session_paused");
    client.close().await;
    never(&client, "peer_closed").await;
    counts("peer_closed");
}

/// The same at a daemon, whose sessions resume with its socket.
#[tokio::test(start_paused = true)]
async fn counters_of_a_daemon_s_life() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let (mut world, env) = World::new(1);
    let server = daemon(&env).start().unwrap();
    let mut link = world.go_online(true).await;
    let (one, _two) = (world.meet(&mut link).await, world.meet(&mut link).await);
    link.socket.send_bytes(&b"rubbish"[..]).await;
    link.request_on(one, "m", json!(null)).await;
    link.envelope_on(one).await;
    let (socket, _) = link.into_parts();
    socket.cut();
    let mut link = world.go_online(true).await;
    for _ in 0..2 {
        link.socket.frame().await;
    }
    server.close().await;
    let mut found = counters(&snapshotter);
    found.retain(|name, _| !name.contains("bytes"));
    let expected = [
        ("sideband_attempts_total{role=daemon}", 2),
        ("sideband_reconnects_total{role=daemon}", 1),
        ("sideband_refused_frames_total{}", 1),
        ("sideband_requests_total{}", 1),
        ("sideband_resumes_total{role=daemon}", 2),
        ("sideband_sessions_total{role=daemon}", 2),
    ];
    assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)).into());
}
