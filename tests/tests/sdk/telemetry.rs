//! What operators see: counters and spans, under names that do not change.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::json;
use sideband::{Connection, Context, HandlerError, State, protocol::wire::ControlCode};
use sideband_tests::script::{World, soon};
use tracing_subscriber::fmt::MakeWriter;

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

/// Lines of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Spans have their names and fields, and nothing at any level holds a credential, a key, a payload or a code.
#[tokio::test(start_paused = true)]
async fn spans_are_named_and_no_secret_is_logged() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone());
    let _here = tracing::subscriber::set_default(subscriber.finish());

    let (mut world, env) = World::new(1);
    let server = daemon(&env)
        .handle("loud", |secret: String, _: Context| async move {
            tracing::info!("in the handler");
            assert!(secret.is_empty(), "PAYLOAD {secret}");
            Ok::<_, HandlerError>(())
        })
        .unwrap()
        .on_connection(|_: Connection| async {
            tracing::info!("in the connection's handler");
            Ok::<_, sideband::Error>(())
        })
        .start()
        .unwrap();
    let mut link = world.go_online(true).await;
    let presence = link.socket.token.clone().unwrap();
    let id = world.meet(&mut link).await;
    let keys = [link.line().keys().client_to_daemon, link.line().keys().daemon_to_client];
    link.request("loud", json!("PRIVATE WORDS")).await;
    let answer = link.envelope().await;
    let sideband::protocol::rpc::Envelope::Error { code, message, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((code, &message[..]), (2000, "the handler panicked"), "the panic's words stay here");
    server.close().await;

    let (mut world, env) = World::new(2);
    let client = account(&env).connect().unwrap();
    world.api().await.refuse(401);
    client.when_ready().await.unwrap_err();

    let text = log.text();
    for expected in [
        "daemon: sideband::daemon: online daemon_id=d_far first=true",
        &format!("session{{session={id}}}"),
        "request{method=\"loud\"}",
        "sideband::rpc: a handler panicked panic=",
        "client{daemon_id=\"d_far\"}: sideband::client: closed reason=",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert!(
        text.lines().any(|line| line.contains("session{") && line.contains("in the connection's handler")),
        "{text}"
    );
    assert!(text.lines().any(|line| line.contains("request{") && line.contains("in the handler")), "{text}");
    let text = text.replace("PAYLOAD PRIVATE WORDS", "");
    for secret in ["sbnd_dak_far", "at_1", &presence, "PRIVATE WORDS"] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
    for key in keys {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!text.to_lowercase().contains(&hex[..16]) && !text.contains(&format!("{key:?}")), "a key in\n{text}");
    }
}
