//! `--state`: what a restart keeps, and which files are refused.

use std::{fs, os::unix::fs::PermissionsExt};

use http::Method;
use sideband_env::{Clock, real::SystemClock};
use sideband_protocol::token::{KeySet, Policy, check};

use crate::support::{Scratch, Sim, ask, run};

fn credentials(sim: &Sim) -> [String; 3] {
    ["daemonId", "apiKey", "accessToken"].map(|member| sim.get(member).to_owned())
}

/// The address of the first life, for the next.
fn addr(sim: &Sim) -> String {
    sim.get("apiUrl").trim_start_matches("http://").to_owned()
}

#[tokio::test]
async fn a_restart_keeps_credentials_and_tokens() {
    let scratch = Scratch::new();
    let file = scratch.file("state.db");
    let up = Sim::up(&["--state", &file, "--daemon"]).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (known, addr) = (credentials(&up), addr(&up));
    let bearer = format!("Bearer {}", known[1]);
    let url = format!("{}/api/trpc/daemon.renewToken", up.get("apiUrl"));
    let (status, answer) = ask(Method::POST, &url, &[("authorization", &bearer)]).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["result"]["data"]["presenceToken"].as_str().unwrap().to_owned();
    assert_eq!(up.call(&["ping"]).await.code, Some(0));
    up.signal("KILL").await;
    up.end().await;

    let up = Sim::start(&["up", "--addr", &addr, "--state", &file, "--daemon"]).await;
    assert_eq!(credentials(&up), known);
    let keys = ask(Method::GET, &format!("{}/.well-known/jwks.json", up.get("apiUrl")), &[]).await.1;
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    let policy = Policy { issuer: up.get("issuer").to_owned(), region: None, now: SystemClock.unix_seconds() };
    assert_eq!(check(Some(&token), &keys, &policy).unwrap().daemon_id, known[0]);
    let mut up = up;
    up.event("daemon").await;
    assert_eq!(up.call(&["ping"]).await.code, Some(0));
    assert_eq!(up.stop().await.code, Some(0));

    // The control plane alone takes the same file.
    let api = ["api", "--addr", "127.0.0.1:0", "--relay-url", "ws://127.0.0.1:9/relay", "--state", &file];
    let api = Sim::start(&api).await;
    assert_eq!(credentials(&api), known);
    assert_eq!(api.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_seed_does_not_make_a_kept_file_one_that_can_be_guessed() {
    let scratch = Scratch::new();
    let files = ["a.db", "b.db"].map(|name| scratch.file(name));
    let [one, other] = [&files[0], &files[1]].map(|file| ["--seed", "7", "--state", file]);
    let (one, other) = (Sim::up(&one).await, Sim::up(&other).await);
    let seeded = Sim::up(&["--seed", "7"]).await;
    assert_ne!(credentials(&one), credentials(&other));
    assert_ne!(credentials(&one), credentials(&seeded));
    assert!(one.ready["seed"].is_null());
    let ended = one.stop().await;
    assert!(
        ended.stderr.contains("with --state the credentials are the file's in spite of --seed"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_file_that_is_in_use_is_exit_3() {
    let scratch = Scratch::new();
    let file = scratch.file("state.db");
    let up = Sim::up(&["--state", &file]).await;
    let second = run(&["up", "--addr", "127.0.0.1:0", "--state", &file]).await;
    assert_eq!(second.code, Some(3), "{}", second.stderr);
    assert!(
        second.stderr.contains(&format!("the state file {file} is in use by another simulator")),
        "{}",
        second.stderr
    );
    assert_eq!(up.stop().await.code, Some(0));
    assert_eq!(Sim::up(&["--state", &file]).await.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_file_that_does_not_fit_is_exit_2_and_stays_as_it_is() {
    let scratch = Scratch::new();
    let file = scratch.file("notes.txt");
    fs::write(&file, "buy milk").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = run(&["up", "--addr", "127.0.0.1:0", "--state", &file]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("is not a state file of this simulator"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "buy milk");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(&["up", "--addr", "127.0.0.1:0", "--state", &file]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("chmod 600"), "{}", refused.stderr);
}
