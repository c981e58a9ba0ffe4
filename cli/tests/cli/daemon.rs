//! `daemon` and `call`, through `up`.

use serde_json::{Value, json};

use crate::support::{Scratch, Sim, command, finish, run};

#[tokio::test]
async fn calls_by_account_are_answered() {
    let cloud = Sim::up(&[]).await;
    let daemon = Sim::daemon_of(&cloud, &[]).await;
    assert_eq!(daemon.get("daemonId"), cloud.get("daemonId"));
    assert!(daemon.get("fingerprint").starts_with("SHA256:"), "{}", daemon.first);
    let info = json!({ "daemonId": cloud.get("daemonId"), "version": env!("CARGO_PKG_VERSION") });
    let big = json!({ "n": 12_345_678_901_234_567_890_u64, "text": "ü" });
    let cases: &[(&str, Option<Value>, Value)] = &[
        ("ping", None, json!("pong")),
        ("ping", Some(json!({ "any": 1 })), json!("pong")),
        ("echo", None, Value::Null),
        ("echo", Some(big.clone()), big.clone()),
        ("add", Some(json!({ "a": 1, "b": -3 })), json!(-2)),
        ("add", Some(json!({ "a": 1.5, "b": 1 })), json!(2.5)),
        ("sleep", Some(json!({ "ms": 5 })), json!(5)),
        ("tick", Some(json!({ "on": true })), json!({ "on": true })),
        ("$sideband/echo", Some(big.clone()), big.clone()),
        ("$sideband/info", None, info),
    ];
    for (method, params, wanted) in cases {
        let params = params.as_ref().map(Value::to_string);
        let args: Vec<&str> = [Some(*method), params.as_deref()].into_iter().flatten().collect();
        let ended = cloud.call(&args).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{method}");
        assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap(), *wanted, "{method}");
    }
    let methods = cloud.call(&["$sideband/rpc.list"]).await;
    for method in ["ping", "echo", "add", "boom", "sleep", "tick", "$sideband/info", "$sideband/rpc.list"] {
        assert!(methods.stdout.contains(&format!("\"{method}\"")), "{method}: {}", methods.stdout);
    }
}

#[tokio::test]
async fn echoes_are_the_same_byte_for_byte() {
    let cloud = Sim::up(&["--daemon"]).await;
    let text = r#"{"z":1.0,"a":[1e2,  -0, 123456789012345678901234567890],"a":"\u00fc\/"}"#;
    for method in ["echo", "$sideband/echo"] {
        let ended = cloud.call(&[method, text]).await;
        assert_eq!((ended.code, ended.stdout.trim_end_matches('\n')), (Some(0), text), "{method}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn params_that_do_not_fit_are_told_by_their_members() {
    let cloud = Sim::up(&["--daemon"]).await;
    for (args, named) in [
        (["add", "[]"], "`a` and `b`"),
        (["add", "7"], "`a` and `b`"),
        (["add", r#"{"a":1}"#], "`b`"),
        (["sleep", r#""x""#], "`ms`"),
        (["tick", "null"], "`on`"),
    ] {
        let ended = cloud.call(&args).await;
        assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(named) && !ended.stderr.contains("struct"), "{args:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn the_ready_line_tells_that_a_daemon_is_online_and_nothing_else_does() {
    for _ in 0..5 {
        let cloud = Sim::up(&[]).await;
        let mut daemon = Sim::daemon_of(&cloud, &[]).await;
        let dropped = run(&["drop", cloud.get("daemonId"), "--admin-url", cloud.get("adminUrl")]).await;
        assert_eq!(dropped.code, Some(0), "{dropped:?}");
        let mut events = Vec::new();
        while events.last().is_none_or(|event| event != "online") {
            let line = daemon.line().await.unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            events.push(line["event"].as_str().unwrap().to_owned());
        }
        assert_eq!(events, ["offline", "retrying", "online"]);
    }
}

#[tokio::test]
async fn a_call_that_fails_is_exit_1_with_code_and_message() {
    let cloud = Sim::up(&["--daemon"]).await;
    let boom = cloud.call(&["boom", "--json"]).await;
    assert_eq!(boom.code, Some(1), "{boom:?}");
    assert!(boom.stderr.contains("2000") && boom.stderr.contains("boom"), "{boom:?}");
    let [error] = boom.events().try_into().unwrap();
    assert_eq!((&error["code"], &error["rpcCode"], &error["exit"]), (&json!("rpc_error"), &json!(2000), &json!(1)));
    let cases: &[(&[&str], &str)] = &[
        (&["nonsense"], "1101"),
        (&["add", "[]"], "invalid params"),
        (&["sleep", r#"{"ms":60000}"#, "--timeout", "300ms"], "rpc_timeout"),
    ];
    for (args, named) in cases {
        let ended = cloud.call(args).await;
        assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(named) && ended.stdout.is_empty(), "{args:?}: {ended:?}");
    }
}

#[tokio::test]
async fn refusals_are_exit_1_with_their_status() {
    let cloud = Sim::up(&[]).await;
    let call = ["call", "--json", "--api-url", cloud.get("apiUrl")];
    let (id, token) = (cloud.get("daemonId"), cloud.get("accessToken"));
    for (more, code, status) in [
        (["--daemon-id", id, "--access-token", "wrong", "ping"], "UNAUTHORIZED", json!(401)),
        (["--daemon-id", "d_other", "--access-token", token, "ping"], "NOT_FOUND", json!(404)),
        (["--daemon-id", id, "--access-token", token, "ping"], "daemon_offline", Value::Null),
    ] {
        let ended = run(&[&call[..], &more].concat()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let [error] = ended.events().try_into().unwrap();
        assert_eq!((&error["code"], &error["status"]), (&json!(code), &status), "{ended:?}");
        assert!(!error["hints"].as_array().unwrap().is_empty(), "{ended:?}");
    }
}

#[tokio::test]
async fn cli_02_a_quick_connect_code_works_once() {
    let cloud = Sim::up(&[]).await;
    let daemon = Sim::daemon_of(&cloud, &["--code-ttl", "1m"]).await;
    let code = daemon.ready["quickConnect"]["code"].as_str().unwrap();
    let link = daemon.ready["quickConnect"]["url"].as_str().unwrap();
    assert!(link.ends_with(&format!("/connect#qc={code}")), "{link}");
    assert!(daemon.ready["quickConnect"]["expiresAt"].as_str().unwrap().ends_with('Z'));
    let call = ["call", "--api-url", cloud.get("apiUrl"), "--json", "ping", "--code"];
    let first = run(&[&call[..], &[link]].concat()).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.events()[0]["result"], "pong");
    let second = run(&[&call[..], &[code]].concat()).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert_eq!(second.events()[0]["status"], 404);
    assert!(second.stderr.contains("404") && second.stderr.contains("works once"), "{}", second.stderr);
}

#[tokio::test]
async fn credentials_come_from_the_environment_and_from_files() {
    let scratch = Scratch::new();
    let cloud = Sim::up(&[]).await;
    let key = scratch.file("key");
    std::fs::write(&key, format!("{}\n", cloud.get("apiKey"))).unwrap();
    let mut daemon = command(&["daemon", "--json"]);
    daemon.env("SIDEBAND_API_URL", cloud.get("apiUrl")).env("SIDEBAND_API_KEY_FILE", &key);
    daemon.env("SIDEBAND_RELAY_URL", cloud.get("relayUrl")).env("SIDEBAND_DAEMON_ID", cloud.get("daemonId"));
    let daemon = Sim::spawn(daemon).await;
    let token = scratch.file("token");
    std::fs::write(&token, cloud.get("accessToken")).unwrap();
    let mut call = command(&["call", "ping"]);
    call.env("SIDEBAND_SIM_API_URL", cloud.get("apiUrl")).env("SIDEBAND_ACCESS_TOKEN_FILE", &token);
    call.env("SIDEBAND_DAEMON_ID", cloud.get("daemonId"));
    // What stands whole goes before a code that may be used up.
    call.env("SIDEBAND_QUICK_CONNECT", "used-upco-deee");
    let ended = finish(call).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "\"pong\"\n"), "{ended:?}");
    assert_eq!(daemon.stop().await.code, Some(0));
}

#[tokio::test]
async fn tru_07_an_identity_file_keeps_the_fingerprint() {
    let scratch = Scratch::new();
    let path = scratch.file("identity");
    let cloud = Sim::up(&[]).await;
    let mut fingerprints = Vec::new();
    for _ in 0..2 {
        let daemon = Sim::daemon_of(&cloud, &["--identity", &path]).await;
        fingerprints.push(daemon.get("fingerprint").to_owned());
        let ended = daemon.stop().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!(fingerprints[0], fingerprints[1]);
    let other = Sim::daemon_of(&cloud, &[]).await;
    assert_ne!(other.get("fingerprint"), fingerprints[0]);
}

#[tokio::test]
async fn a_refused_key_is_exit_1_and_another_daemons_is_named() {
    let cloud = Sim::up(&[]).await;
    let api = ["daemon", "--api-url", cloud.get("apiUrl"), "--api-key"];
    let refused = run(&[&api[..], &["sbnd_dak_wrong"]].concat()).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("401") && refused.stderr.contains("API key"), "{refused:?}");
    let other = run(&[&api[..], &[cloud.get("apiKey"), "--daemon-id", "d_other"]].concat()).await;
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stderr.contains("--daemon-id"), "{other:?}");
}

#[tokio::test]
async fn dmn_01_a_daemon_that_is_replaced_ends() {
    let cloud = Sim::up(&[]).await;
    let first = Sim::daemon_of(&cloud, &[]).await;
    let second = Sim::daemon_of(&cloud, &[]).await;
    let ended = first.end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("another process"), "{}", ended.stderr);
    assert_eq!(second.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_daemon_survives_its_cloud_and_comes_back() {
    let cloud = Sim::up(&["--seed", "11"]).await;
    let addr = cloud.get("apiUrl").trim_start_matches("http://").to_owned();
    let mut daemon = Sim::daemon_of(&cloud, &[]).await;
    cloud.signal("KILL").await;
    cloud.end().await;
    daemon.event("offline").await;
    assert!(daemon.event("retrying").await["delayMs"].is_u64());
    let again = Sim::start(&["up", "--seed", "11", "--addr", &addr]).await;
    daemon.event("online").await;
    let ended = again.call(&["ping"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "\"pong\"\n"), "{ended:?}");
    let opened = daemon.event("session_opened").await;
    assert_eq!(opened["session"].as_str().unwrap().len(), 16);
}

#[tokio::test]
async fn a_daemon_may_be_started_before_its_cloud() {
    let cloud = Sim::up(&["--seed", "12"]).await;
    let (addr, key) = (cloud.get("apiUrl").trim_start_matches("http://").to_owned(), cloud.get("apiKey").to_owned());
    cloud.stop().await;
    let api = format!("http://{addr}");
    let waits = async { Sim::start(&["daemon", "--api-url", &api, "--api-key", &key]).await };
    let late = async { Sim::start(&["up", "--seed", "12", "--addr", &addr]).await };
    let (daemon, cloud) = tokio::join!(waits, late);
    assert_eq!(daemon.get("daemonId"), cloud.get("daemonId"));
}
