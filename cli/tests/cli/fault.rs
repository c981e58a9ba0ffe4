//! `fault`, `limits`, `reset` and `status --watch` on a running cloud.

use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use crate::support::{Ended, PATIENCE, Scratch, Sim, ask, command, finish, run};

const STORM: &str =
    r#"{"id":"storm","on":"api.request","procedure":"relay.createSession","times":2,"do":{"status":503}}"#;

/// A command against a cloud, with `--json`; its lines.
async fn lines(cloud: &Sim, args: &[&str]) -> Vec<Value> {
    let ended = against(cloud, &[args, &["--json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.events()
}

async fn against(cloud: &Sim, args: &[&str]) -> Ended {
    run(&[args, &["--admin-url", cloud.get("adminUrl")]].concat()).await
}

#[tokio::test]
async fn faults_are_added_listed_counted_and_removed() {
    let mut cloud = Sim::up(&[]).await;
    let added = lines(&cloud, &["fault", "add", STORM]).await;
    assert_eq!((&added[0]["event"], &added[0]["rule"]["id"]), (&json!("fault_added"), &json!("storm")));
    // By its place, whatever name it is not given, and in TOML.
    let unnamed = "on = \"relay.connection\"\nage = \"1h\"\ndo = \"cut\"";
    let added = lines(&cloud, &["fault", "add", unnamed]).await;
    assert_eq!(added[0]["rule"]["do"], "cut");
    let name = added[0]["rule"]["id"].as_str().unwrap().to_owned();

    let url = format!("{}/api/trpc/relay.createSession", cloud.get("apiUrl"));
    let json = [("content-type", "application/json")];
    for wanted in [503, 503, 401] {
        assert_eq!(ask(Method::POST, &url, &json).await.0, wanted, "the third one is judged: it has no credential");
    }
    let listed = lines(&cloud, &["fault", "list"]).await;
    let storm = &listed[0]["faults"][0];
    assert_eq!((&storm["seen"], &storm["fired"], &storm["overruled"]), (&json!(3), &json!(2), &json!(0)), "{storm}");
    let table = against(&cloud, &["fault", "list"]).await.stdout;
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["name", "on", "seen", "fired", "overruled", "do"]);
    assert_eq!(rows[1], ["storm", "api.request", "3", "2", "0", r#"{"status":503}"#]);
    assert_eq!((rows[2][0], rows[2][5]), (&*name, "cut"));

    // What fired is told as it happens.
    let mut fired = Vec::new();
    while fired.len() < 2 {
        let event = cloud.event("cloud").await;
        if event["kind"] == "fault" {
            fired.push((event["rule"].clone(), event["number"].clone(), event["action"].clone()));
        }
    }
    assert_eq!(fired, [1, 2].map(|number| (json!("storm"), json!(number), json!("status"))));

    let removed = lines(&cloud, &["fault", "remove", "storm"]).await;
    assert_eq!((&removed[0]["event"], &removed[0]["id"]), (&json!("fault_removed"), &json!("storm")));
    let again = against(&cloud, &["fault", "remove", "storm"]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("storm") && again.stderr.contains("fault list"), "{again:?}");
    assert_eq!(lines(&cloud, &["fault", "clear"]).await[0]["removed"], 1);
    assert_eq!(lines(&cloud, &["fault", "list"]).await[0]["faults"], json!([]));
}

#[tokio::test]
async fn faults_come_from_files_and_stdin() {
    let cloud = Sim::up(&[]).await;
    let scratch = Scratch::new();
    let (rule, plan) = (scratch.file("rule.toml"), scratch.file("plan"));
    std::fs::write(&rule, "id = \"one\"\non = \"keys\"\ndo = { delay = \"1s\" }\n").unwrap();
    std::fs::write(&plan, format!("{{\"seed\":5,\"fault\":[{STORM}]}}")).unwrap();
    assert_eq!(lines(&cloud, &["fault", "add", &rule]).await[0]["rule"]["id"], "one");

    let mut add = command(&["fault", "add", "-", "--json", "--admin-url", cloud.get("adminUrl")]);
    let mut child = add.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(STORM.as_bytes()).await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it does not end").unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(lines(&cloud, &["fault", "list"]).await[0]["faults"].as_array().unwrap().len(), 2);

    let set = lines(&cloud, &["fault", "set", &plan]).await;
    assert_eq!((&set[0]["seed"], set[0]["faults"].as_array().unwrap().len()), (&json!(5), 1), "{set:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_rule_is_told_with_its_line() {
    let cloud = Sim::up(&[]).await;
    let plan = format!("{{\"fault\":[{STORM}]}}");
    for (text, exit, words) in [
        ("on = \"api.request\"\nskipp = 1\ndo = \"cut\"", 2, &["line 2", "skipp", "fault --help"][..]),
        ("{\"on\":\"api.request\",\"do\":\"explode\"}", 2, &["line 1", "explode"]),
        (&plan, 2, &["fault set"]),
        ("on = \"net\"\ndo = \"cut\"", 2, &["simulations"]),
        ("no-such-file.toml", 2, &["no-such-file.toml", "stdin"]),
    ] {
        let ended = against(&cloud, &["fault", "add", text]).await;
        assert_eq!(ended.code, Some(exit), "{text}: {ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{text}: no {word:?} in {}", ended.stderr);
        }
    }
    lines(&cloud, &["fault", "add", STORM]).await;
    let taken = against(&cloud, &["fault", "add", STORM, "--json"]).await;
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert_eq!((&taken.events()[0]["code"], &taken.events()[0]["status"]), (&json!("conflict"), &json!(409)));
    assert!(!taken.stderr.contains("check --admin-url"), "the server is the right one: {taken:?}");
}

#[tokio::test]
async fn limits_are_shown_and_set() {
    let cloud = Sim::up(&[]).await;
    let usual = lines(&cloud, &["limits", "show"]).await;
    assert_eq!(usual[0]["limits"]["burst"], 20_000);
    let set = lines(&cloud, &["limits", "set", "burst=7", "grace=5s", "rateMode=throttle"]).await;
    assert_eq!((&set[0]["limits"]["burst"], &set[0]["limits"]["grace"]), (&json!(7), &json!("5s")));
    let status = lines(&cloud, &["status"]).await;
    let changed = json!({"burst": 7, "grace": "5s", "rateMode": "throttle"});
    assert_eq!(status[0]["limitsChanged"], changed, "{status:?}");
    for (change, word) in
        [("burst=0", "burst"), ("bursts=5", "bursts"), ("burst", "NAME=VALUE"), ("grace=soon", "grace")]
    {
        let ended = against(&cloud, &["limits", "set", change]).await;
        assert_eq!(ended.code, Some(2), "{change}: {ended:?}");
        assert!(ended.stderr.contains(word), "{change}: {ended:?}");
    }
}

#[tokio::test]
async fn reset_brings_status_faults_and_limits_back() {
    let mut cloud = Sim::up(&[]).await;
    let all = async |cloud: &Sim| {
        let mut all = Vec::new();
        for what in [&["status"][..], &["fault", "list"], &["limits", "show"]] {
            all.extend(lines(cloud, what).await);
        }
        all
    };
    let start = all(&cloud).await;
    lines(&cloud, &["fault", "add", STORM]).await;
    lines(&cloud, &["limits", "set", "burst=7"]).await;
    lines(&cloud, &["keys", "rotate"]).await;
    assert_eq!(cloud.call(&["ping", "--timeout", "20s"]).await.code, Some(1), "there is no daemon");
    assert_ne!(all(&cloud).await, start);
    assert_eq!(lines(&cloud, &["reset"]).await[0]["event"], "reset");
    assert_eq!(all(&cloud).await, start);
    assert_eq!(lines(&cloud, &["keys", "list"]).await[0]["keys"].as_array().unwrap().len(), 1);
    while cloud.event("cloud").await["kind"] != "reset" {}
}

#[tokio::test]
async fn reset_comes_back_to_the_plan_of_the_start() {
    let cloud = Sim::up(&["--preset", "storm-429"]).await;
    let start = lines(&cloud, &["fault", "list"]).await;
    assert!(start[0].to_string().contains("storm-429.sessions"), "{start:?}");
    lines(&cloud, &["fault", "clear"]).await;
    assert_ne!(lines(&cloud, &["fault", "list"]).await, start);
    lines(&cloud, &["reset"]).await;
    assert_eq!(lines(&cloud, &["fault", "list"]).await, start);
}

#[tokio::test]
async fn api_and_relay_apart_are_reset_and_shown_together() {
    let api = Sim::start(&["api", "--addr", "127.0.0.1:0", "--relay-url", "ws://127.0.0.1:1/relay"]).await;
    let relay = Sim::start(&["relay", "--addr", "127.0.0.1:0", "--issuer", api.get("issuer")]).await;
    let both = ["--json", "--admin-url", api.get("adminUrl"), "--admin-url", relay.get("adminUrl")];
    let before = run(&[&["status"], &both[..]].concat()).await.events();
    assert_eq!((before.len(), &before[0]["serves"], &before[1]["serves"]), (2, &json!(["api"]), &json!(["relay"])));
    run(&[&["keys", "rotate"], &both[..]].concat()).await;
    let set = run(&[&["limits", "set", "burst=7"], &both[..]].concat()).await;
    assert_eq!(set.events()[0]["adminUrl"], relay.get("adminUrl"), "{set:?}");
    let reset = run(&[&["reset"], &both[..]].concat()).await;
    assert_eq!((reset.code, reset.events().len()), (Some(0), 2), "{reset:?}");
    assert_eq!(run(&[&["status"], &both[..]].concat()).await.events(), before);
}

#[tokio::test]
async fn status_is_watched_until_it_is_interrupted() {
    let cloud = Sim::up(&[]).await;
    let mut watch = command(&["status", "--watch", "--every", "20ms", "--json", "--admin-url", cloud.get("adminUrl")]);
    let mut child = watch.spawn().unwrap();
    let mut seen = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || -> Value {
        let line = timeout(PATIENCE, seen.next_line()).await.expect("no line came").unwrap().expect("it ended");
        serde_json::from_str(&line).unwrap()
    };
    let first = next().await;
    assert_eq!(
        (&first["event"], &first["limitsChanged"], &first["faults"]),
        (&json!("status"), &json!({}), &Value::Null)
    );
    lines(&cloud, &["fault", "add", STORM]).await;
    assert_eq!(next().await["faults"][0]["rule"]["id"], "storm", "the next line is the next change");
    lines(&cloud, &["limits", "set", "burst=7"]).await;
    assert_eq!(next().await["limitsChanged"], json!({"burst": 7}));
    let url = cloud.get("adminUrl").to_owned();
    cloud.stop().await;
    let gone = next().await;
    assert_eq!((&gone["event"], &gone["adminUrl"]), (&json!("unreachable"), &json!(url)), "{gone}");
    let pid = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let status = timeout(PATIENCE, child.wait()).await.expect("it does not end").unwrap();
    assert_eq!(status.code(), Some(0));

    let nobody = finish(command(&["status", "--watch", "--admin-url", &url])).await;
    assert_eq!(nobody.code, Some(3), "who was never there is not watched: {nobody:?}");
}

#[tokio::test]
async fn cli_05_a_call_tries_again_if_it_is_told_to_and_says_how_if_it_is_not() {
    let scratch = crate::support::Scratch::new();
    let file = scratch.file("plan.toml");
    let plan =
        "[[fault]]\non = \"api.request\"\nprocedure = \"relay.createSession\"\ntimes = 2\ndo = { status = 503 }\n";
    std::fs::write(&file, plan).unwrap();
    let up = Sim::up(&["--daemon", "--faults", &file]).await;
    let once = up.call(&["ping"]).await;
    assert!(once.code == Some(1) && once.stderr.contains("`--retries 5` tries again"), "{once:?}");
    let again = up.call(&["--retries", "1", "ping"]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[tokio::test]
async fn a_rule_without_anything_is_told_what_is_missing() {
    let ended = run(&["fault", "add", "{}"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("`on`") && ended.stderr.contains("do = "), "{ended:?}");
    assert!(!ended.stderr.contains("whole plan"), "{ended:?}");
}
