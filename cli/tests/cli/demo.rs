//! `demo`.

use crate::support::{command, finish, run};

/// A proxy of the environment is for the rest of the world: nothing of this machine goes through it.
#[tokio::test]
async fn no_proxy_of_the_environment_is_in_the_way() {
    let mut demo = command(&["demo", "-q"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy"] {
        demo.env(name, "http://127.0.0.1:9");
    }
    let ended = finish(demo).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn every_step_of_the_demo_is_seen() {
    let ended = run(&["demo"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    for step in
        ["19,b:23} → 42", "tick {n:1} arrived", "under way got its answer", "active → paused → active", "is the same"]
    {
        assert!(ended.stdout.contains(&format!("✓ {step}")) || ended.stdout.contains(step), "{step}: {}", ended.stdout);
    }
}

#[tokio::test]
async fn the_demo_tells_its_steps_as_json() {
    let ended = run(&["demo", "--json"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("\\u001b"), "no colours in JSON");
    let events = ended.events();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["ok"]), (&"demo".into(), &true.into()));
    assert_eq!(
        events.iter().filter(|event| event["event"] == "check").count(),
        last["steps"].as_u64().unwrap() as usize
    );
}
