//! `scenario`: what it says, with which exit code, and that a run is the same in another process.

use std::fs;

use crate::support::{Ended, Scratch, run};

/// Two calls, one of them in flight when the daemon's socket is cut.
const STORY: &str = r#"
name = "story"
about = "A call survives a cut."
duration = "60s"

[[host]]
name = "cloud"
kind = "cloud"

[[host]]
name = "daemon"
kind = "daemon"

[[host]]
name = "client"
kind = "client"
retry = { max_retries = 0 }

[[step]]
at = "1s"
host = "client"
do = { call = { method = "add", params = { a = 19, b = 23 }, result = 42 } }

[[step]]
at = "3s"
host = "cloud"
do = { drop = "daemon" }

[[expect]]
call = { name = "add", ends = ["result"] }
"#;

fn story(scratch: &Scratch, name: &str, change: impl Fn(&str) -> String) -> String {
    let path = scratch.file(name);
    fs::write(&path, change(STORY)).unwrap();
    path
}

/// The sum that nobody gets.
fn wrong(text: &str) -> String {
    text.replace("result = 42", "result = 43")
}

fn the_only(ended: &Ended, event: &str) -> serde_json::Value {
    let mut all: Vec<_> = ended.events().into_iter().filter(|line| line["event"] == event).collect();
    assert_eq!(all.len(), 1, "{event}: {ended:?}");
    all.remove(0)
}

#[tokio::test]
async fn a_good_run_is_told_and_is_the_same_in_another_process() {
    let scratch = Scratch::new();
    let file = story(&scratch, "story.toml", str::to_owned);
    let trace = scratch.file("trace.ndjson");
    let ended = run(&["scenario", "run", &file, "--seed", "7", "--trace", &trace]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in ["story under seed 7: good", "the same in another process", "client", "negotiating → active"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let ended = run(&["scenario", "run", &file, "--seed", "7", "--json"]).await;
    let line = the_only(&ended, "scenario_run");
    assert_eq!((&line["good"], &line["repeats"], &line["seed"]), (&true.into(), &true.into(), &7.into()));
    assert_eq!(fs::read_to_string(&trace).unwrap().lines().count() as u64, line["events"]);
    let other = run(&["scenario", "run", &file, "--seed", "8", "--json", "--once"]).await;
    let other = the_only(&other, "scenario_run");
    assert_ne!(other["hash"], line["hash"]);
    assert!(other.get("repeats").is_none());
}

#[tokio::test]
async fn a_failed_run_is_exit_1_and_says_what_was_expected_and_how_to_see_it_again() {
    let scratch = Scratch::new();
    let file = story(&scratch, "wrong.toml", wrong);
    let ended = run(&["scenario", "run", &file, "--once"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["failed", "call/add", "ended with 42", &format!("again: sideband-sim scenario run {file} --seed 0")] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
}

#[tokio::test]
async fn what_is_no_scenario_is_exit_2_with_its_line() {
    let scratch = Scratch::new();
    let file = story(&scratch, "typo.toml", |text| text.replace("kind = \"daemon\"", "kind = \"deamon\""));
    for what in ["run", "sweep", "show", "shrink", "diagram", "replay"] {
        let ended = run(&["scenario", what, &file]).await;
        assert_eq!(ended.code, Some(2), "{what}: {ended:?}");
        assert!(ended.stderr.contains(&format!("{file}:12:")), "{what}: {}", ended.stderr);
    }
    let ended = run(&["scenario", "run", "daemon-blip-resum"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("did you mean daemon-blip-resume?"), "{}", ended.stderr);
    let cases: &[(&[&str], &str)] = &[
        (&["scenario", "run"], "NAME_OR_FILE"),
        (&["scenario", "sweep", &file, "--seeds", "9..3"], "holds no seed"),
        (&["scenario", "sweep", &file, "--seeds", "9"], "from..to"),
        (&["scenario", "sweep", &file, "--shard", "3/2"], "i/n"),
        (&["scenario", "sweep", &file, "--jobs", "0"], "--jobs"),
        (&["scenario", "diagram", "daemon-blip-resume", "-o", "x.png"], ".png"),
        (&["scenario", "merge"], "REPORT"),
    ];
    for (args, part) in cases {
        let ended = run(args).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(part), "{args:?} does not name {part}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn the_reports_of_shards_are_merged_to_that_of_the_sweep() {
    let scratch = Scratch::new();
    let file = story(&scratch, "story.toml", str::to_owned);
    let sweep = ["scenario", "sweep", &file, "--seeds", "0..6", "--json", "--report"];
    let (all, one, two) = (scratch.file("all.json"), scratch.file("one.json"), scratch.file("two.json"));
    let ended = run(&[&sweep[..], &[&all]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let whole = the_only(&ended, "scenario_sweep");
    assert_eq!((&whole["ran"], &whole["failed"]), (&6.into(), &0.into()));
    for (shard, report) in [("1/2", &one), ("2/2", &two)] {
        let ended = run(&[&sweep[..], &[report, "--shard", shard]].concat()).await;
        assert_eq!(the_only(&ended, "scenario_sweep")["ran"], 3, "{ended:?}");
    }
    let merged = run(&["scenario", "merge", &two, &one, "--json"]).await;
    assert_eq!(merged.code, Some(0), "{merged:?}");
    let mut merged = the_only(&merged, "scenario_sweep");
    let mut whole = whole;
    merged.as_object_mut().unwrap().remove("wallMs");
    whole.as_object_mut().unwrap().remove("wallMs");
    assert_eq!(merged, whole);
    let ended = run(&["scenario", "merge", &one]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("these are not there: 2"), "{}", ended.stderr);
}

/// What a sweep finds is shrunk, and the file is replayed under its own seed.
#[tokio::test]
async fn what_a_sweep_finds_is_shrunk_and_replayed() {
    let scratch = Scratch::new();
    let file = story(&scratch, "wrong.toml", wrong);
    let ended = run(&["scenario", "sweep", &file, "--seeds", "3..50", "--json"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report = the_only(&ended, "scenario_sweep");
    assert_eq!(report["failures"][0]["seed"], 3);
    assert_eq!(report["failures"][0]["reproduce"], format!("sideband-sim scenario run {file} --seed 3"));
    let smallest = scratch.file("smallest.toml");
    let ended = run(&["scenario", "shrink", &file, "--seed", "3", "--json", "--runs", "60", "-o", &smallest]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = the_only(&ended, "scenario_shrunk");
    assert_eq!((&line["kind"], &line["after"]["faults"]), (&"call/add".into(), &0.into()), "the cut does not matter");
    let ended = run(&["scenario", "replay", &smallest, "--json"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(the_only(&ended, "scenario_run")["seed"], 3);
    let ended = run(&["scenario", "replay", &file]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("has no `seed`"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_run_is_drawn_by_extension() {
    let scratch = Scratch::new();
    let file = story(&scratch, "story.toml", str::to_owned);
    for (name, begins) in [("run.svg", "<svg"), ("run.mmd", "sequenceDiagram"), ("run.html", "<!doctype html>")] {
        let path = scratch.file(name);
        let ended = run(&["scenario", "diagram", &file, "-o", &path]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let picture = fs::read_to_string(&path).unwrap();
        assert!(picture.to_lowercase().contains(&begins.to_lowercase()), "{name}: {:.80}", picture);
    }
}
