//! What servers begin with: `--limits`, `--limit`, `--api-rate`, `--region`, presets and faults apart.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Ended, Scratch, Sim, ask, command, finish, free_port, get_text, run};

const NO_ISSUER: [&str; 5] = ["relay", "--addr", "127.0.0.1:0", "--issuer", "http://127.0.0.1:1"];
const NO_RELAY: [&str; 5] = ["api", "--addr", "127.0.0.1:0", "--relay-url", "ws://127.0.0.1:1/relay"];

async fn against(sim: &Sim, args: &[&str]) -> Ended {
    run(&[args, &["--admin-url", sim.get("adminUrl")]].concat()).await
}

/// The lines of a command against a server, with `--json`.
async fn lines(sim: &Sim, args: &[&str]) -> Vec<Value> {
    let ended = against(sim, &[args, &["--json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.events()
}

async fn limits(sim: &Sim) -> Value {
    lines(sim, &["limits", "show"]).await[0]["limits"].clone()
}

/// The status of a request of the cloud's daemon, with a credential.
async fn renew(sim: &Sim) -> u16 {
    let authorization = format!("Bearer {}", sim.get("apiKey"));
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    ask(Method::POST, &format!("{}/api/trpc/daemon.renewToken", sim.get("apiUrl")), &headers).await.0
}

#[tokio::test]
async fn limits_by_file_and_flag_hold_from_the_start_and_after_a_reset() {
    let scratch = Scratch::new();
    let file = scratch.file("limits.toml");
    fs::write(&file, "# what is not named keeps its default\nburst = 7\ngrace = \"5s\"\n").unwrap();
    let given = ["--limits", &file, "--limit", "grace=250ms", "--limit", "takeover=refuse"];
    let up = Sim::up(&given).await;
    let relay = Sim::start(&[&NO_ISSUER[..], &given].concat()).await;
    let mut by_variable = command(&["up", "--addr", "127.0.0.1:0", "--json"]);
    by_variable.env("SIDEBAND_SIM_LIMITS", &file).env("SIDEBAND_SIM_LIMIT", "grace=250ms,takeover=refuse");
    let by_variable = Sim::spawn(by_variable).await;
    for sim in [&up, &relay, &by_variable] {
        let start = limits(sim).await;
        let wanted = json!([7, "250ms", "refuse", "1m 30s"]);
        assert_eq!(json!([start["burst"], start["grace"], start["takeover"], start["sweep"]]), wanted);
        lines(sim, &["limits", "set", "burst=9", "takeover=replace"]).await;
        assert_ne!(limits(sim).await, start);
        lines(sim, &["reset"]).await;
        assert_eq!(limits(sim).await, start);
    }
}

#[tokio::test]
async fn what_limits_show_prints_is_a_file_for_limits() {
    let scratch = Scratch::new();
    let up = Sim::up(&["--limit", "burst=7,rateMode=throttle,sweep=1m 5s", "--api-rate", "20/10s"]).await;
    for (name, json) in [("limits.toml", &[][..]), ("limits.json", &["--json"])] {
        let shown = against(&up, &[&["limits", "show"], json].concat()).await;
        assert_eq!(shown.code, Some(0), "{shown:?}");
        let file = scratch.file(name);
        fs::write(&file, &shown.stdout).unwrap();
        let again = Sim::up(&["--limits", &file]).await;
        assert_eq!(limits(&again).await, limits(&up).await, "{}", shown.stdout);
    }
}

#[tokio::test]
async fn wrong_limits_are_exit_2_with_what_they_take() {
    let scratch = Scratch::new();
    let file = |name: &str, text: &str| {
        let file = scratch.file(name);
        fs::write(&file, text).unwrap();
        file
    };
    let unknown = file("unknown.toml", "burst = 5\nframes_per_secnd = 5\n");
    let wrong = file("wrong.toml", "burst = 5\n\ngrace = 5\n");
    let json = file("wrong.json", r#"{"stall":"1ms"}"#);
    let large = file("large.toml", &"#".repeat(70_000));
    let missing = scratch.file("none.toml");
    let cases: &[([&str; 2], &[&str])] = &[
        (["--limits", &unknown], &["unknown.toml:2:", "frames_per_secnd", "did you mean `framesPerSecond`?"]),
        (["--limits", &wrong], &["wrong.toml:3:", "`grace` must be a time up to 24h, such as 30s, not 5"]),
        (["--limits", &json], &["wrong.json:", "`stall` must be a time from 10ms to 24h"]),
        (["--limits", &large], &["large.toml", "more than 65536 bytes"]),
        (["--limits", &missing], &["none.toml", "limits show > FILE"]),
        (["--limit", "burts=5"], &["--limit", "did you mean `burst`?"]),
        (["--limit", "burst=0"], &["--limit", "frames at once, from 1 to 10000000, not 0"]),
        (["--limit", "burst"], &["--limit", "NAME=VALUE, such as burst=100"]),
        (["--region", ""], &["--region", "1 to 64 bytes"]),
    ];
    for server in [&["up", "--addr", "127.0.0.1:0"][..], &NO_ISSUER] {
        for (flags, words) in cases {
            let ended = run(&[server, &flags[..]].concat()).await;
            assert_eq!(ended.code, Some(2), "{flags:?}: {ended:?}");
            for word in *words {
                assert!(ended.stderr.contains(word), "{flags:?}: {word} is not in {}", ended.stderr);
            }
        }
    }
    for server in [&["up", "--addr", "127.0.0.1:0"][..], &NO_RELAY] {
        for (flag, value, word) in [
            ("--api-rate", "20", "20/10s"),
            ("--api-rate", "0/s", "20/10s"),
            ("--concurrent-sessions", "0", "from 1"),
            ("--key-overlap", "1500ms", "whole seconds"),
        ] {
            let ended = run(&[server, &[flag, value]].concat()).await;
            assert_eq!(ended.code, Some(2), "{flag} {value}: {ended:?}");
            assert!(ended.stderr.contains(flag) && ended.stderr.contains(word), "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn api_09_the_rate_of_the_api_is_off_unless_given_and_changes_while_it_runs() {
    let up = Sim::up(&[]).await;
    assert_eq!(lines(&up, &["limits", "show"]).await[1]["apiLimits"], json!({ "rate": null }));
    for server in [&["up", "--addr", "127.0.0.1:0"][..], &NO_RELAY] {
        let sim = Sim::start(&[server, &["--api-rate", "2/1h"]].concat()).await;
        assert_eq!([renew(&sim).await, renew(&sim).await, renew(&sim).await], [200, 200, 429]);
        let shown = lines(&sim, &["limits", "show"]).await.pop().unwrap();
        assert_eq!((&shown["event"], &shown["apiLimits"]["rate"]), (&json!("api_limits"), &json!("2/1h")));
        let text = against(&sim, &["limits", "show"]).await.stdout;
        assert!(text.contains("api_rate = \"2/1h\"\n"), "{text}");
        // What is shown is a file that says the same.
        let scratch = Scratch::new();
        let file = scratch.file("limits.toml");
        fs::write(&file, &text).unwrap();
        let again = Sim::start(&[server, &["--limits", &file]].concat()).await;
        assert_eq!(against(&again, &["limits", "show"]).await.stdout, text);
        assert_eq!([renew(&again).await, renew(&again).await, renew(&again).await], [200, 200, 429]);
        let json = against(&sim, &["limits", "show", "--json"]).await.stdout;
        fs::write(&file, json).unwrap();
        let again = Sim::start(&[server, &["--limits", &file, "--api-rate", "1/1h"]].concat()).await;
        assert_eq!([renew(&again).await, renew(&again).await], [200, 429], "the flag wins");
        lines(&sim, &["limits", "set", "apiRate=off"]).await;
        assert_eq!([renew(&sim).await, renew(&sim).await, renew(&sim).await], [200; 3]);
        lines(&sim, &["reset"]).await;
        assert_eq!([renew(&sim).await, renew(&sim).await, renew(&sim).await], [200, 200, 429]);
        let wrong = against(&sim, &["limits", "set", "apiRate=fast"]).await;
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
        assert!(wrong.stderr.contains("20/10s") && wrong.stderr.contains("apiRate=off"), "{}", wrong.stderr);
    }
}

/// The echo daemon waits as long as the 429 says, and gets its code.
#[tokio::test]
async fn api_09_the_echo_daemon_rides_out_the_rate() {
    let mut up = Sim::up(&["--daemon", "--api-rate", "1/1s"]).await;
    let daemon = up.event("daemon").await;
    assert!(daemon["quickConnect"]["code"].is_string(), "{daemon}");
}

#[tokio::test]
async fn tok_11_tokens_allow_as_many_sessions_as_the_flag_says() {
    let up = Sim::up(&["--daemon", "--concurrent-sessions", "1"]).await;
    let list = lines(&up, &["accounts", "list"]).await;
    assert!(list[0]["daemons"][0]["concurrentSessions"].is_null(), "it is not the daemon's own: {list:?}");
    let url = format!("{}/api/trpc/daemon.renewToken", up.get("apiUrl"));
    let authorization = format!("Bearer {}", up.get("apiKey"));
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    let (_, answer) = ask(Method::POST, &url, &headers).await;
    let token = answer["result"]["data"]["presenceToken"].as_str().unwrap();
    let claims = data_encoding::BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["lim"], json!({ "concurrent_sessions": 1 }));
}

#[tokio::test]
async fn key_04_the_overlap_is_what_the_flag_says() {
    let up = Sim::up(&["--key-overlap", "0s"]).await;
    let keys = lines(&up, &["keys", "rotate"]).await;
    assert_eq!(keys[0]["keys"].as_array().unwrap().len(), 1, "{keys:?}");
}

#[tokio::test]
async fn tok_08_a_token_for_another_region_is_refused_with_403() {
    let mut up = Sim::up(&["--daemon", "--region", "eu"]).await;
    up.event("daemon").await;
    assert_eq!(up.call(&["ping"]).await.code, Some(0), "tokens name the region of the cloud");
    lines(&up, &["accounts", "daemon", "set", up.get("daemonId"), "--region", "us"]).await;
    let refused = up.call(&["--json", "ping"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let error = &refused.events()[0];
    assert_eq!((&error["code"], &error["status"]), (&json!("upgrade_refused"), &json!(403)), "{error}");
    lines(&up, &["accounts", "daemon", "set", up.get("daemonId"), "--region", "none"]).await;
    assert_eq!(up.call(&["ping"]).await.code, Some(0));
    // A relay without a region refuses every region.
    let up = Sim::up(&[]).await;
    lines(&up, &["accounts", "daemon", "set", up.get("daemonId"), "--region", "us"]).await;
    let refused = up.call(&["--json", "ping"]).await;
    assert_eq!(refused.events()[0]["status"], 403, "{refused:?}");
}

#[tokio::test]
async fn tok_08_each_region_has_its_relay() {
    // The API must know the relays before they know it.
    let addrs = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let relays = ["eu", "us"].map(|region| region.to_owned());
    let urls = [0, 1].map(|n| format!("{}=ws://{}/relay", relays[n], addrs[n]));
    let admins = addrs.clone().map(|addr| format!("http://{addr}"));
    let api = ["api", "--addr", "127.0.0.1:0", "--region", "eu", "--relay-url", &urls[0], "--relay-url", &urls[1]];
    let api =
        Sim::start(&[&api[..], &["--relay-admin-url", &admins[0], "--relay-admin-url", &admins[1]]].concat()).await;
    assert_eq!(api.get("relayUrl"), format!("ws://{}/relay", addrs[0]), "that of its own region");
    let mut running = Vec::new();
    for (addr, region) in addrs.iter().zip(&relays) {
        running.push(Sim::start(&["relay", "--addr", addr, "--issuer", api.get("issuer"), "--region", region]).await);
    }
    let (eu, us) = (running[0].get("relayUrl"), running[1].get("relayUrl"));
    let daemon_of = async |relay: &str| Sim::daemon_of(&api, &["--relay-url", relay]).await;

    let daemon = daemon_of(eu).await;
    assert_eq!(api.call(&["ping"]).await.code, Some(0));
    daemon.stop().await;
    lines(&api, &["accounts", "daemon", "set", api.get("daemonId"), "--region", "us"]).await;
    let daemon = daemon_of(us).await;
    assert_eq!(api.call(&["ping"]).await.code, Some(0), "its clients are sent to the other relay");
    let code = daemon.ready["quickConnect"]["code"].as_str().unwrap();
    let by_code = run(&["call", "--api-url", api.get("apiUrl"), "--code", code, "ping"]).await;
    assert_eq!(by_code.code, Some(0), "{by_code:?}");
    let wrong = api.call(&["--json", "--relay-url", eu, "ping"]).await;
    assert_eq!(wrong.events()[0]["status"], 403, "{wrong:?}");
}

/// A cloud with a relay of its own and one for `us`, and a daemon that is moved there and back.
#[tokio::test]
async fn tok_08_a_cloud_has_further_relays_by_flag_and_while_it_runs() {
    for by_flag in [true, false] {
        let addr = format!("127.0.0.1:{}", free_port());
        let (url, admin) = (format!("ws://{addr}/relay"), format!("http://{addr}"));
        let named = format!("us={url}");
        let flags = ["--region", "eu", "--relay-url", &named, "--relay-admin-url", &admin];
        let up = Sim::up(if by_flag { &flags } else { &flags[..2] }).await;
        let relay = Sim::start(&["relay", "--addr", &addr, "--issuer", up.get("issuer"), "--region", "us"]).await;
        let regions =
            async |args: &[&str]| run(&[&["regions"], args, &["--admin-url", up.get("adminUrl")]].concat()).await;
        let set = async |region: &str| {
            let admin_url = up.get("adminUrl");
            run(&["accounts", "daemon", "set", up.get("daemonId"), "--region", region, "--admin-url", admin_url]).await
        };
        if !by_flag {
            let warned = set("us").await;
            assert_eq!(warned.code, Some(0), "{warned:?}");
            assert!(warned.stderr.contains("no relay is known for the region us"), "{warned:?}");
            assert_eq!(regions(&["set", "us", &url, "--relay-admin-url", &admin]).await.code, Some(0));
        }
        let moved = set("us").await;
        assert_eq!((moved.code, moved.stderr.as_str()), (Some(0), ""), "{moved:?}");
        let shown = regions(&["list"]).await;
        assert!(shown.stdout.contains(&url) && shown.stdout.contains("are in: eu"), "{shown:?}");
        let daemon = Sim::daemon_of(&up, &["--relay-url", &url]).await;
        assert_eq!(up.call(&["ping"]).await.code, Some(0), "by the region's relay");
        // Who is online is asked there (API-04).
        let code = daemon.ready["quickConnect"]["code"].as_str().unwrap();
        let by_code = run(&["call", "--api-url", up.get("apiUrl"), "--code", code, "ping"]).await;
        assert_eq!(by_code.code, Some(0), "{by_code:?}");

        assert_eq!(regions(&["remove", "us"]).await.code, Some(0));
        let gone = regions(&["remove", "us"]).await;
        assert!(gone.code == Some(1) && gone.stderr.contains("no such region"), "{gone:?}");
        let refused = up.call(&["--json", "ping"]).await;
        assert_eq!(refused.events()[0]["status"], 403, "{refused:?}");
        assert_eq!(run(&["reset", "--admin-url", up.get("adminUrl")]).await.code, Some(0));
        assert_eq!(regions(&["list"]).await.stdout.contains(&url), by_flag, "those of the start");
        drop((daemon, relay));
    }
}

#[tokio::test]
async fn relays_of_regions_that_do_not_fit_are_exit_2() {
    for (urls, words) in [
        (&["eu=ws://a.test"][..], "give one --relay-url without a region"),
        (&["ws://a.test", "ws://b.test"], "two --relay-url without a region"),
        (&["ws://a.test", "eu=ws://b.test", "eu=ws://c.test"], "two --relay-url for the region eu"),
        (&["=ws://a.test"], "1 to 64 bytes"),
        (&["eu=http://a.test"], "ws://host:port"),
    ] {
        let flags: Vec<&str> = urls.iter().flat_map(|url| ["--relay-url", url]).collect();
        let ended = run(&[&["api", "--addr", "127.0.0.1:0"], &flags[..]].concat()).await;
        assert_eq!(ended.code, Some(2), "{urls:?}: {ended:?}");
        assert!(ended.stderr.contains(words), "{urls:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn apart_presets_are_in_force_and_rules_for_the_other_are_told_at_the_start() {
    let scratch = Scratch::new();
    let file = scratch.file("plan.toml");
    let plan = "[[fault]]\nid = \"mine\"\non = \"keys\"\ndo = \"cut\"\n[[fault]]\nid = \"frames\"\non = \"relay.frame\"\ndo = \"drop\"\n";
    fs::write(&file, plan).unwrap();
    let given = ["--faults", &file, "--preset", "daemon-blip", "--preset", "storm-429"];
    let storm = "storm-429.sessions (api.request), storm-429.tokens (api.request), storm-429.codes (api.request)";
    for (server, warned) in [
        (&NO_RELAY[..], "frames (relay.frame), daemon-blip.cut (relay.connection)".to_owned()),
        (&NO_ISSUER, format!("mine (keys), {storm}")),
    ] {
        let sim = Sim::start(&[server, &given].concat()).await;
        let list = &lines(&sim, &["fault", "list"]).await[0];
        assert_eq!(list["faults"].as_array().unwrap().len(), 6, "{list}");
        assert_eq!(list["warnings"].as_array().unwrap().len(), warned.split(", ").count(), "{list}");
        if server == NO_RELAY {
            assert_eq!(renew(&sim).await, 429, "the preset is in force");
        }
        let again = against(&sim, &["fault", "set", &file]).await;
        assert_eq!((again.code, again.stderr.matches("warning: ").count()), (Some(0), 1), "{again:?}");
        let stderr = sim.stop().await.stderr;
        let first = stderr.lines().next().unwrap();
        assert!(first.starts_with(&format!("warning: faults that never fire here: {warned} (here are ")), "{stderr}");
        assert_eq!(stderr.matches("warning: ").count(), 1, "{stderr}");
    }
    let net = "on = \"net\"\ndo = \"cut\"";
    fs::write(&file, format!("[[fault]]\nid = \"lines\"\n{net}\n")).unwrap();
    let up = Sim::up(&["--faults", &file]).await;
    assert!(up.stop().await.stderr.contains("never fire here: lines (net)"));
}

/// What proves that a server answers is nobody's request: neither told nor counted nor traced.
#[tokio::test]
async fn apart_the_proof_is_not_told() {
    let scratch = Scratch::new();
    for (n, server) in [&["up", "--addr", "127.0.0.1:0"][..], &NO_ISSUER, &NO_RELAY].into_iter().enumerate() {
        let file = scratch.file(&format!("trace-{n}.ndjson"));
        let mut sim = Sim::start(&[server, &["--trace", &file]].concat()).await;
        let admin = sim.get("adminUrl").to_owned();
        let (_, recent) = ask(Method::GET, &format!("{admin}/events/recent"), &[]).await;
        assert!(!recent.to_string().contains("refused"), "{recent}");
        let metrics = get_text(&format!("{admin}/metrics")).await;
        for line in metrics.lines().filter(|line| line.contains("_total")) {
            assert!(line.starts_with('#') || line.ends_with(" 0"), "{line}");
        }
        // The first thing that is told is the first that anybody asked for.
        let url = admin.replace("/__sim", "/relay");
        let upgrade = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "c2lkZWJhbmQtc2ltLXRlc3Q="),
            ("authorization", "Bearer not-a-token"),
        ];
        ask(Method::GET, &url, &upgrade).await;
        let told = sim.event("cloud").await;
        sim.stop().await;
        let text = fs::read_to_string(&file).unwrap();
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        for member in ["at", "host", "kind"] {
            assert_eq!(first[member], told[member], "{text}");
        }
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[tokio::test]
async fn help_of_servers_has_examples_of_what_they_begin_with() {
    for (server, words) in [
        (
            "up",
            &["--limits limits.toml --limit grace=5s", "--api-rate 20/10s", "--region eu", "--preset storm-429"][..],
        ),
        ("relay", &["--limit takeover=refuse", "--region us", "--preset daemon-blip"]),
        ("api", &["--api-rate 20/10s", "--relay-url us=ws://", "--preset storm-429"]),
    ] {
        let mut help = command(&[server, "--help"]);
        help.env("COLUMNS", "400");
        let help = finish(help).await.stdout;
        for word in words {
            assert!(help.contains(word), "{server}: {word} is not in {help}");
        }
    }
}
