//! The SDK's examples, run against `up` as their first comments say.

use std::{path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    sync::OnceCell,
    time::timeout,
};

use crate::support::{Ended, PATIENCE, Scratch, Sim, finish, run};

/// The folder of the examples' binaries, which are built if they are not there.
async fn examples() -> &'static PathBuf {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    FOLDER
        .get_or_init(|| async {
            let build = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "sideband", "--examples"])
                .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
                .status();
            assert!(build.await.unwrap().success(), "the examples do not compile");
            let deps = std::env::current_exe().unwrap();
            deps.parent().unwrap().parent().unwrap().join("examples")
        })
        .await
}

/// An example with what `up` prints, and nothing else.
async fn example(name: &str, cloud: &Sim, more: &[(&str, &str)]) -> Command {
    let mut command = Command::new(examples().await.join(name));
    command
        .env_clear()
        .env("SIDEBAND_API_URL", cloud.get("apiUrl"))
        .env("SIDEBAND_RELAY_URL", cloud.get("relayUrl"))
        .env("SIDEBAND_DAEMON_ID", cloud.get("daemonId"))
        .env("SIDEBAND_API_KEY", cloud.get("apiKey"))
        .env("SIDEBAND_ACCESS_TOKEN", cloud.get("accessToken"))
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn says(ended: &Ended, lines: &[&str]) {
    assert_eq!((ended.code, &ended.stderr[..]), (Some(0), ""), "{}", ended.stdout);
    for line in lines {
        assert!(ended.stdout.contains(line), "no {line:?} in {}", ended.stdout);
    }
}

#[tokio::test]
async fn examples_of_clients_run_against_up() {
    let mut cloud = Sim::up(&["--daemon"]).await;
    let daemon = cloud.event("daemon").await;
    let code = daemon["quickConnect"]["code"].as_str().unwrap();

    let account = finish(example("client_account", &cloud, &[]).await).await;
    says(&account, &["19 + 23 = 42 (waited for a connection: ", "Connected {"]);

    let by_code = example("client_quick_connect", &cloud, &[("SIDEBAND_QUICK_CONNECT", code)]).await;
    says(&finish(by_code).await, &["connected to d_", "ping: \"pong\""]);

    // Asked at first, and never again once the identity is pinned.
    let scratch = Scratch::new();
    let pins = scratch.file("pins.json");
    for (answer, trusted) in [("n\n", false), ("y\n", true), ("", true)] {
        let mut command = example("trust_prompt", &cloud, &[("SIDEBAND_PINS", &pins)]).await;
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).await.unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it does not end").unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.success(), trusted, "{answer:?}: {stdout}");
        assert_eq!(stdout.contains("trusted and connected"), trusted, "{stdout}");
        assert_eq!(stdout.contains("First connection. The daemon shows SHA256:"), !answer.is_empty(), "{stdout}");
    }
    cloud.stop().await;
}

#[tokio::test]
async fn examples_of_daemons_run_against_up() {
    let cloud = Sim::up(&[]).await;
    let hello = finish(example("hello", &cloud, &[]).await).await;
    says(&hello, &["19 + 23 = 42, tick.first says 42"]);
    let typed = finish(example("typed_service", &cloud, &[]).await).await;
    says(&typed, &["1 note", "[\"milk\"]", "a note needs a title"]);
    let events = finish(example("events", &cloud, &[]).await).await;
    says(
        &events,
        &["the client hears tick.second 0", "the client hears tick.second 2", "hears seen.tick.0 from peer_"],
    );

    let mut child = example("echo_daemon", &cloud, &[]).await.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let code = loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("no line").unwrap().expect("a code");
        if let Some(code) = line.strip_prefix("one client may connect with ") {
            break code.to_owned();
        }
    };
    let call = run(&["call", "--api-url", cloud.get("apiUrl"), "--code", &code, "add", r#"{"a":2,"b":40}"#]).await;
    assert_eq!((call.code, call.stdout.trim()), (Some(0), "42.0"), "{}", call.stderr);
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    assert!(timeout(PATIENCE, child.wait()).await.expect("Ctrl-C ends it").unwrap().success());
    cloud.stop().await;
}
