//! What servers tell of what happens: `--trace`, `events`, `/metrics`.

use std::{collections::BTreeSet, fs};

use http::Method;
use serde_json::Value;
use sideband_env::{Env, Target, real::Roots};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::support::{PATIENCE, Scratch, Sim, ask, run};

#[tokio::test]
async fn a_trace_has_everything_but_payloads_and_secrets() {
    let scratch = Scratch::new();
    let file = scratch.file("trace.ndjson");
    let mut up = Sim::up(&["--daemon", "--trace", &file]).await;
    let code = up.event("daemon").await["quickConnect"]["code"].as_str().unwrap().to_owned();
    assert_eq!(up.call(&["echo", r#""a-word-of-the-payload""#]).await.code, Some(0));
    let secrets = [up.get("accessToken"), up.get("apiKey"), &code, "a-word-of-the-payload", "eyJ"].map(str::to_owned);
    assert_eq!(up.stop().await.code, Some(0));
    let text = fs::read_to_string(&file).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: BTreeSet<&str> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    for kind in ["request", "opened", "session", "frame", "closed"] {
        assert!(kinds.contains(kind), "no {kind} in {text}");
    }
    assert!(events.iter().all(|event| event["at"].is_u64() && event["host"].is_string()), "{text}");
    for secret in &secrets {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_trace_that_cannot_be_written_is_named() {
    let scratch = Scratch::new();
    let ended = run(&["up", "--addr", "127.0.0.1:0", "--trace", &scratch.file("none/trace")]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("none/trace"), "{}", ended.stderr);
}

#[tokio::test]
async fn events_are_streamed_and_end_with_the_server() {
    let up = Sim::up(&["--daemon"]).await;
    let env = Env::real(&Roots::System).unwrap();
    let target = Target::from_url(&up.get("apiUrl").parse().unwrap()).unwrap();
    let mut stream = env.network.connect(&target).await.unwrap();
    let request = format!("GET /__sim/events HTTP/1.1\r\nhost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut called = None;
    while !text.contains("event: session\n") {
        let mut bytes = [0; 4096];
        let count = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("nothing comes").unwrap();
        assert_ne!(count, 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if called.is_none() && text.contains("text/event-stream") {
            called = Some(up.call(&["ping"]).await);
        }
    }
    assert_eq!(called.unwrap().code, Some(0));
    assert_eq!(up.stop().await.code, Some(0), "an open stream does not hold it");
    let rest = timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("it goes on");
    // An end or a reset, as the rest of the answer was cut.
    let _ = rest;
}

#[tokio::test]
async fn metrics_are_there_for_this_machine() {
    let up = Sim::up(&["--daemon"]).await;
    assert_eq!(up.call(&["ping"]).await.code, Some(0));
    let url = up.get("apiUrl");
    for path in ["/metrics", "/__sim/metrics"] {
        let shell = crate::support::get_text(&format!("{url}{path}")).await;
        assert!(
            shell.contains(r#"sideband_sim_requests_total{procedure="relay.createSession",status="200"} 1"#),
            "{shell}"
        );
        assert!(shell.contains("sideband_sim_daemons_online 1"), "{shell}");
        assert!(
            !shell.contains("upgrades_refused_total{"),
            "its own proof that it answers is nobody's request: {shell}"
        );
        let page = [("origin", "http://evil.test")];
        assert_eq!(ask(Method::GET, &format!("{url}{path}"), &page).await.0, 403);
    }
}
