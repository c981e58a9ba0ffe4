//! `--state`: what a restart keeps, and which files are refused.

use std::{fs, os::unix::fs::PermissionsExt};

use http::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use sideband_env::{Clock, real::SystemClock};
use sideband_protocol::token::{KeySet, Policy, check};

use crate::{
    kill::sockets::upgrade,
    support::{Scratch, Sim, ask, run},
};

fn credentials(sim: &Sim) -> [String; 3] {
    ["daemonId", "apiKey", "accessToken"].map(|member| sim.get(member).to_owned())
}

/// Host and port below which a process answers.
fn host(sim: &Sim) -> &str {
    sim.get("adminUrl").trim_start_matches("http://").trim_end_matches("/__sim")
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

async fn kill(mut sim: Sim) -> String {
    sim.kill();
    sim.end().await.stderr
}

/// A token for a session with the cloud's own daemon.
async fn session_token(sim: &Sim) -> String {
    let url = format!("http://{}/api/trpc/relay.createSession", host(sim));
    let (status, answer) = sim.post(&url, sim.get("accessToken"), &json!({"daemonId": sim.get("daemonId")})).await;
    assert_eq!(status, 200, "{answer}");
    answer["result"]["data"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn rel_10_a_session_token_is_good_once_whatever_the_relays_end() {
    let scratch = Scratch::new();
    let file = scratch.file("state.db");
    // Tokens of one life are good in the next if it calls itself the same.
    let args = ["--state", &file, "--advertise-url", "http://cloud.test"];
    let up = Sim::up(&args).await;
    let (used, fresh) = (session_token(&up).await, session_token(&up).await);
    assert_eq!(upgrade(host(&up), &used).await, Some(101));
    kill(up).await;
    for end in ["kill", "reset", "stop"] {
        let up = Sim::up(&args).await;
        assert_eq!(upgrade(host(&up), &used).await, Some(409), "before {end}");
        match end {
            "kill" => drop(kill(up).await),
            "reset" => {
                let (status, answer) = up.post(&format!("{}/reset", up.get("adminUrl")), "", &Value::Null).await;
                assert_eq!(status, 200, "{answer}");
                assert_eq!(upgrade(host(&up), &used).await, Some(409), "after a reset");
                kill(up).await;
            }
            _ => assert_eq!(up.stop().await.code, Some(0)),
        }
    }
    let up = Sim::up(&args).await;
    assert_eq!(upgrade(host(&up), &used).await, Some(409));
    assert_eq!(upgrade(host(&up), &fresh).await, Some(101), "one that was not used is good");
    assert_eq!(up.stop().await.code, Some(0));
}

#[tokio::test]
async fn rel_10_a_relay_of_its_own_keeps_used_ids_in_a_file_of_its_own() {
    let scratch = Scratch::new();
    let (api_file, relay_file) = (scratch.file("api.db"), scratch.file("relay.db"));
    let api = ["api", "--addr", "127.0.0.1:0", "--relay-url", "ws://127.0.0.1:9/relay", "--state", &api_file];
    let api = Sim::start(&api).await;
    let relay = |file| ["relay", "--addr", "127.0.0.1:0", "--issuer", api.get("issuer"), "--state", file];
    let token = session_token(&api).await;
    let first = Sim::start(&relay(&relay_file)).await;
    assert_eq!(upgrade(host(&first), &token).await, Some(101));
    add_fault(&first, "ghosts").await;
    kill(first).await;
    let second = Sim::start(&relay(&relay_file)).await;
    assert_eq!(upgrade(host(&second), &token).await, Some(409));
    assert_eq!(faults(&second).await, ["ghosts"]);
    let stderr = kill(second).await;
    assert!(stderr.contains(&format!("note: the faults that {relay_file} keeps are in force (1)")), "{stderr}");
    let refused = run(&relay(&api_file)).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("in use by another simulator; each needs a file of its own"), "{}", refused.stderr);
    assert_eq!(api.stop().await.code, Some(0));
}

#[tokio::test]
async fn rel_10_who_has_no_good_token_does_not_make_the_file_grow() {
    let scratch = Scratch::new();
    let file = scratch.file("state.db");
    let up = Sim::up(&["--state", &file, "--advertise-url", "http://cloud.test"]).await;
    let token = session_token(&up).await;
    assert_eq!(upgrade(host(&up), &token).await, Some(101));
    let (claims, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{claims}.{}", signature.chars().rev().collect::<String>());
    for n in 0..200 {
        let wrong = if n % 2 == 0 { &forged } else { "rubbish" };
        assert_eq!(upgrade(host(&up), wrong).await, Some(401));
        assert_eq!(upgrade(host(&up), &token).await, Some(409));
    }
    kill(up).await;
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        Connection::open(&file).unwrap().query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!((count("used_session"), count("session_id")), (1, 1));
}

async fn add_fault(sim: &Sim, id: &str) {
    let rule = json!({"id": id, "on": "relay.connection", "daemon": "d_nobody", "do": "ghost"});
    let (status, answer) = sim.post(&format!("{}/faults", sim.get("adminUrl")), "", &rule).await;
    assert_eq!(status, 200, "{answer}");
}

/// The names of the rules in force.
async fn faults(sim: &Sim) -> Vec<String> {
    let (status, answer) = ask(Method::GET, &format!("{}/faults", sim.get("adminUrl")), &[]).await;
    assert_eq!(status, 200, "{answer}");
    let id = |report: &Value| report["rule"]["id"].as_str().unwrap().to_owned();
    answer["faults"].as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn faults_hold_over_a_kill_and_those_on_the_command_line_take_their_place() {
    let scratch = Scratch::new();
    let (file, plan) = (scratch.file("state.db"), scratch.file("plan.toml"));
    let state = ["--state", &file];
    let up = Sim::up(&state).await;
    add_fault(&up, "one").await;
    let stderr = kill(up).await;
    assert!(!stderr.contains("note: the faults"), "there were none: {stderr}");

    // Without flags the kept plan holds, and a reset comes back to it.
    let up = Sim::up(&state).await;
    assert_eq!(faults(&up).await, ["one"]);
    add_fault(&up, "two").await;
    up.post(&format!("{}/reset", up.get("adminUrl")), "", &Value::Null).await;
    assert_eq!(faults(&up).await, ["one"]);
    let stderr = kill(up).await;
    assert!(stderr.contains(&format!("note: the faults that {file} keeps are in force (1); --faults")), "{stderr}");

    // Flags win, and what they say is kept.
    fs::write(&plan, "[[fault]]\nid = \"three\"\non = \"relay.frame\"\ndaemon = \"d_nobody\"\ndo = \"drop\"\n")
        .unwrap();
    let up = Sim::up(&[&state[..], &["--faults", &plan]].concat()).await;
    assert_eq!(faults(&up).await, ["three"]);
    let stderr = kill(up).await;
    let wanted = format!("note: the faults that are given take the place of those that {file} kept (1)");
    assert!(stderr.contains(&wanted), "{stderr}");
    // The control plane alone keeps the plan of the same file.
    let api = ["api", "--addr", "127.0.0.1:0", "--relay-url", "ws://127.0.0.1:9/relay", "--state", &file];
    let api = Sim::start(&api).await;
    assert_eq!(faults(&api).await, ["three"]);
    add_fault(&api, "four").await;
    kill(api).await;
    let up = Sim::up(&[&state[..], &["--preset", "storm-429"]].concat()).await;
    let of_the_preset = faults(&up).await;
    assert!(!of_the_preset.is_empty() && !of_the_preset.contains(&"three".to_owned()), "{of_the_preset:?}");
    kill(up).await;
    let up = Sim::up(&state).await;
    assert_eq!(faults(&up).await, of_the_preset);
    assert_eq!(up.stop().await.code, Some(0));

    // An empty plan is one, too.
    fs::write(&plan, "").unwrap();
    kill(Sim::up(&[&state[..], &["--faults", &plan]].concat()).await).await;
    let up = Sim::up(&state).await;
    assert_eq!(faults(&up).await, [""; 0]);
    assert_eq!(up.stop().await.code, Some(0));
}

#[tokio::test]
async fn kept_faults_that_this_release_does_not_know_are_exit_2_unless_others_are_given() {
    let scratch = Scratch::new();
    let (file, plan) = (scratch.file("state.db"), scratch.file("plan.toml"));
    assert_eq!(Sim::up(&["--state", &file]).await.stop().await.code, Some(0));
    let newer = r#"{"seed": 1, "fault": [{"on": "moon", "do": "eclipse"}]}"#;
    let sql = "INSERT INTO setting (name, value) VALUES ('fault_plan', ?1)";
    Connection::open(&file).unwrap().execute(sql, [newer]).unwrap();
    let refused = run(&["up", "--addr", "127.0.0.1:0", "--state", &file]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("the fault plan that the state file keeps does not hold together here"));
    assert!(refused.stderr.contains("give --faults with another plan, which takes its place"), "{}", refused.stderr);
    fs::write(&plan, "").unwrap();
    kill(Sim::up(&["--state", &file, "--faults", &plan]).await).await;
    assert_eq!(Sim::up(&["--state", &file]).await.stop().await.code, Some(0));
}
