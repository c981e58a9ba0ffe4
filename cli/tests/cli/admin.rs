//! `ready`, `status`, `keys` and `drop` on a running cloud.

use serde_json::json;
use sideband_sim_kit::observer::MOST_SHARING;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Sim, command, finish, free_port, run};

#[tokio::test]
async fn ready_waits_for_a_cloud() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let waiting = tokio::spawn({
        let url = url.clone();
        async move { run(&["ready", "--wait", "--timeout", "25s", "--json", "--admin-url", &url]).await }
    });
    let _up = Sim::start(&["up", "--addr", url.trim_start_matches("http://")]).await;
    let ended = waiting.await.unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.events()[0]["serves"], serde_json::json!(["api", "relay"]));
}

#[tokio::test]
async fn status_shows_daemons_and_sessions_and_drop_cuts_them() {
    let cloud = Sim::up(&[]).await;
    let mut daemon = Sim::daemon_of(&cloud, &[]).await;
    let (admin, id) = (cloud.get("adminUrl"), cloud.get("daemonId"));
    let mut slow = command(&["call", "--json", "--api-url", cloud.get("apiUrl"), "--daemon-id", id]);
    slow.args(["--access-token", cloud.get("accessToken"), "sleep", r#"{"ms":60000}"#, "--timeout", "60s"]);
    let slow = tokio::spawn(finish(slow));
    let session = daemon.event("session_opened").await["session"].as_str().unwrap().to_owned();

    let status = run(&["status", "--json", "--admin-url", admin]).await;
    assert_eq!(status.code, Some(0), "{status:?}");
    let seen = &status.events()[0];
    let at_relay = &seen["relay"]["daemons"][0];
    assert_eq!((&at_relay["daemonId"], &at_relay["online"]), (&id.into(), &true.into()), "{seen}");
    assert_eq!(at_relay["sessions"][0]["sessionId"], session.as_str(), "{seen}");
    assert_eq!(seen["accounts"]["daemons"][0]["daemonId"], id, "{seen}");
    let text = run(&["status", "--admin-url", admin]).await;
    assert!(text.stdout.contains(&session) && text.stdout.contains("online"), "{}", text.stdout);

    assert_eq!(run(&["drop", id, "--admin-url", admin]).await.code, Some(0));
    assert_eq!(daemon.event("session_paused").await["session"], session.as_str());
    assert_eq!(daemon.event("session_resumed").await["session"], session.as_str());
    assert_eq!(run(&["drop", &session, "--admin-url", admin]).await.code, Some(0));
    assert_eq!(daemon.event("session_closed").await["session"], session.as_str());
    let slow = slow.await.unwrap();
    assert_eq!(slow.code, Some(1));
    let [error] = slow.events().try_into().unwrap();
    assert_eq!(error["code"], "not_connected", "{error}");
    assert!(error["message"].as_str().unwrap().contains("the connection to the relay was lost"), "why: {error}");
    for nothing in [session.as_str(), "d_nothing"] {
        let ended = run(&["drop", nothing, "--admin-url", admin]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(nothing), "{ended:?}");
    }
}

#[tokio::test]
async fn nothing_is_counted_before_anybody_came() {
    for args in [&["up"][..], &["relay", "--issuer", "http://127.0.0.1:1"]] {
        let sim = Sim::start(&[args, &["--addr", "127.0.0.1:0"]].concat()).await;
        let status = run(&["status", "--json", "--admin-url", sim.get("adminUrl")]).await;
        let counters = status.events()[0]["relay"]["counters"].as_object().unwrap().clone();
        assert!(counters.values().all(|count| count == 0), "{counters:?}");
    }
}

#[tokio::test]
async fn ready_needs_no_admin_token() {
    let up = Sim::start(&["up", "--addr", "0.0.0.0:0", "--allow-remote"]).await;
    for more in [&[][..], &["--wait", "--timeout", "25s"]] {
        let ended = run(&[&["ready", "--admin-url", up.get("adminUrl")], more].concat()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[tokio::test]
async fn key_04_keys_are_listed_and_rotated() {
    let cloud = Sim::up(&["--daemon"]).await;
    let admin = ["--json", "--admin-url", cloud.get("adminUrl")];
    let keys = |ended: crate::support::Ended| {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.events()[0]["keys"].as_array().unwrap().clone()
    };
    let first = keys(run(&[&["keys", "list"], &admin[..]].concat()).await);
    assert_eq!((first.len(), &first[0]["current"]), (1, &true.into()));
    let second = keys(run(&[&["keys", "rotate"], &admin[..]].concat()).await);
    assert_eq!(second.len(), 2);
    assert_eq!(second[1]["kid"], first[0]["kid"]);
    let third = keys(run(&[&["keys", "rotate", "--hard"], &admin[..]].concat()).await);
    assert_eq!(third.len(), 1);
    assert_ne!(third[0]["kid"], second[0]["kid"]);
    assert_eq!(cloud.call(&["ping"]).await.code, Some(0), "new tokens are signed by the new key");
}

#[tokio::test]
async fn an_admin_token_is_asked_for() {
    let mut up = command(&["up", "--addr", "127.0.0.1:0", "--json"]);
    up.env("SIDEBAND_SIM_ADMIN_TOKEN", "s3cret");
    let up = Sim::spawn(up).await;
    let without = run(&["status", "--admin-url", up.get("adminUrl")]).await;
    assert_eq!(without.code, Some(2), "{without:?}");
    assert!(without.stderr.contains("SIDEBAND_SIM_ADMIN_TOKEN"), "{without:?}");
    let mut with = command(&["status", "--admin-url", up.get("adminUrl")]);
    with.env("SIDEBAND_SIM_ADMIN_TOKEN", "s3cret");
    assert_eq!(finish(with).await.code, Some(0));
}

const TOLD_TO_WAIT: &str =
    r#"{"id":"busy","on":"api.request","procedure":"relay.createSession","do":{"status":429,"retryAfter":"60s"}}"#;

/// Asks for a session on a connection that is kept alive, and reads the whole answer.
async fn ask_for_a_session(sim: &Sim, stream: &mut TcpStream) {
    let body = json!({ "daemonId": sim.get("daemonId") }).to_string();
    let request = format!(
        "POST /api/trpc/relay.createSession HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        sim.get("accessToken"),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 429"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await.unwrap();
}

#[tokio::test]
async fn status_shows_who_broke_which_rule_and_what_shows_it() {
    let sim = Sim::up(&[]).await;
    sim.has_wrong_peers();
    let admin = sim.get("adminUrl");
    assert_eq!(run(&["fault", "add", TOLD_TO_WAIT, "--admin-url", admin]).await.code, Some(0));
    let mut stream = TcpStream::connect(sim.get("apiUrl").strip_prefix("http://").unwrap()).await.unwrap();
    // As many clients may share a connection, so the next two show one that does not wait.
    for _ in 0..MOST_SHARING + 2 {
        ask_for_a_session(&sim, &mut stream).await;
    }
    let status = run(&["status", "--json", "--admin-url", admin]).await;
    let seen = &status.events()[0];
    assert_eq!(seen["grades"], json!([{"rule": "CLI-06", "party": "client", "count": 2}]));
    let newest = seen["newestGrades"].as_array().unwrap();
    assert_eq!(newest.iter().map(|grade| grade["times"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert!(newest.iter().all(|grade| grade["daemon"] == sim.get("daemonId") && grade["at"].is_u64()), "{seen}");
    let text = run(&["status", "--admin-url", admin]).await.stdout;
    // What differs from run to run: ids, ports and times.
    let shown = text.split_once("  rules that").unwrap().1.replace(sim.get("daemonId"), "d_…");
    let redacted = |word: &str| word.parse::<f64>().is_ok() && (word.contains('.') || word.len() > 3);
    let rows = shown.lines().map(|row| {
        row.split_whitespace().map(|word| if redacted(word) { "N" } else { word }).collect::<Vec<_>>().join(" ")
    });
    insta::assert_snapshot!("status_shows_who_broke_which_rule", rows.collect::<Vec<_>>().join("\n"));
    assert_eq!(sim.stop().await.code, Some(0));
}
