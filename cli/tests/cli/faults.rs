//! `--faults FILE`.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Scratch, Sim, ask, run};

const PLAN: &str = r#"
[[fault]]
id = "busy"
on = "relay.upgrade"
role = "client"
times = 1
do = { delay = "10ms" }

[[fault]]
id = "outage"
on = "api.request"
procedure = "daemon.register"
do = { status = 503 }
"#;

fn plan(scratch: &Scratch, name: &str, text: &str) -> String {
    let file = scratch.file(name);
    fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn a_plan_holds_from_the_start_and_what_never_fired_is_listed_at_the_end() {
    let scratch = Scratch::new();
    let mut up = Sim::up(&["--daemon", "--faults", &plan(&scratch, "plan.toml", PLAN)]).await;
    up.event("daemon").await;
    assert_eq!(up.call(&["echo", "1"]).await.code, Some(0));
    let ended = up.stop().await;
    let events = ended.events();
    let fired: Vec<&Value> = events.iter().filter(|event| event["kind"] == "fault").collect();
    assert_eq!(fired.len(), 1, "{}", ended.stdout);
    assert_eq!(
        (&fired[0]["rule"], &fired[0]["on"], &fired[0]["number"]),
        (&json!("busy"), &json!("relay.upgrade"), &json!(1))
    );
    let wanted = json!({ "event": "faults_never_fired", "rules": [{ "id": "outage", "on": "api.request" }] });
    assert_eq!(events.last(), Some(&wanted));
}

#[tokio::test]
async fn apart_each_lists_its_own_and_serves_its_plan() {
    let scratch = Scratch::new();
    let file = plan(
        &scratch,
        "plan",
        r#"{"fault": [{"id": "a", "on": "keys", "do": "cut"}, {"id": "b", "on": "relay.frame", "do": "drop"}]}"#,
    );
    let relay =
        Sim::start(&["relay", "--addr", "127.0.0.1:0", "--issuer", "http://127.0.0.1:1", "--faults", &file]).await;
    let (relay_url, relay_admin) = (relay.get("relayUrl").to_owned(), relay.get("adminUrl").to_owned());
    let api = Sim::start(&["api", "--addr", "127.0.0.1:0", "--relay-url", &relay_url, "--faults", &file]).await;
    for admin in [&relay_admin, &api.get("adminUrl").to_owned()] {
        let (status, answer) = ask(Method::GET, &format!("{admin}/faults"), &[]).await;
        assert_eq!(status, 200);
        assert!(answer.to_string().contains("relay.frame"), "{answer}");
    }
    for (sim, id) in [(relay, "b"), (api, "a")] {
        let events = sim.stop().await.events();
        let last = events.last().unwrap();
        assert_eq!((&last["event"], &last["rules"][0]["id"]), (&json!("faults_never_fired"), &json!(id)));
        assert_eq!(last["rules"].as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test]
async fn a_wrong_plan_is_exit_2_with_file_and_line() {
    let scratch = Scratch::new();
    let toml = plan(&scratch, "wrong.toml", "seed = 1\n[[fault]]\non = \"relay.frame\"\ndo = \"hang\"\n");
    let json = plan(&scratch, "wrong.json", "{\n  \"fault\": [\n    {\"on\": \"relay.frame\", \"what\": 1}\n  ]\n}");
    let issuer = ["relay", "--issuer", "http://127.0.0.1:1"];
    let api = ["api", "--relay-url", "ws://127.0.0.1:1/relay"];
    for server in [&["up"][..], &issuer, &api] {
        for (file, line) in [(&toml, 4), (&json, 3)] {
            let args = [server, &["--addr", "127.0.0.1:0", "--faults", file]].concat();
            let ended = run(&args).await;
            assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            assert!(ended.stderr.contains(&format!("{file}:{line}:")), "{}", ended.stderr);
        }
        let ended = run(&[server, &["--addr", "127.0.0.1:0", "--faults", &scratch.file("none")]].concat()).await;
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains("none"), "{}", ended.stderr);
    }
}
