//! Known bugs, planted by quirks: swarm sweeps find each within a stated number of seeds, and shrinking leaves at most three faults. Without the
//! bug the smallest scenario is good, so it is the bug that it shows.

use std::{num::NonZeroUsize, thread};

use sideband_protocol::quirks::{Quirk, Quirks};
use sideband_scenarios::{
    scenario::Scenario,
    shrink::{ShrinkOptions, shrink},
    sim::RunOptions,
    sweep::{Real, Runner, Shard, SweepOptions, sweep},
};

/// Most faults of a smallest scenario.
const MOST_FAULTS: usize = 3;
/// Most runs that shrinking takes.
const RUNS: u64 = 400;

/// A daemon, a client that never gives up, calls and events.
const TALK: &str = r#"
name = "talk"
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
at = "500ms"
host = "client"
do = { subscribe = "news" }

[[step]]
at = "1s"
host = "client"
times = 12
every = "1s"
do = { call = { method = "add", params = { a = "{n}", b = 1 } } }

[[step]]
at = "1500ms"
host = "daemon"
do = { tick = { event = "news", every = "700ms", times = 15 } }
"#;

/// A relay that changes a bit of a handshake; the client begins anew, with what it has pinned.
const FORGED_ACCEPT: &str = r#"
name = "forged-accept"
duration = "60s"
linger = "10s"
# What is forged is fatal.
finish = { without = ["recovers"] }

[[host]]
name = "cloud"
kind = "cloud"

[[host]]
name = "daemon"
kind = "daemon"

[[host]]
name = "client"
kind = "client"
count = 4
# Who takes the first identity and no other.
trust = "prompt_first"
retry = { max_retries = 0 }

[[fault]]
id = "forge"
on = "relay.frame"
frame = "handshake_accept"
direction = "out"
times = 4
do = "corrupt"

[[step]]
at = "8s"
host = "client"
do = { crash = {} }

# The daemon has had one identity all along.
[[always]]
never = { host = "client", detail = "identity changed" }
"#;

/// A relay that changes a bit of a sealed message: whoever is to open it ends the session.
const FORGED_DATA: &str = r#"
name = "forged-data"
duration = "60s"
# What is forged is fatal.
finish = { without = ["recovers"] }

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

[[fault]]
id = "forge"
on = "relay.frame"
frame = "data"
role = "client"
direction = "out"
skip = 4
times = 1
do = "corrupt"

[[step]]
at = "1s"
host = "client"
times = 12
every = "1s"
do = { call = { method = "add", params = { a = "{n}", b = 1 } } }

[[always]]
follows = { when = { name = "forge" }, then = { state = "closed" }, within = "5s" }
"#;

fn endpoint(quirk: Quirk) -> RunOptions {
    RunOptions { danger_quirks: Quirks::only(quirk), ..RunOptions::default() }
}

/// A planted bug is found within so many seeds, as this kind of failure, and shrunk.
fn is_found(scenario: &str, options: RunOptions, seeds: u64, kind: &str) {
    let scenario = Scenario::parse("planted.toml", scenario).unwrap();
    let runner = Real { options };
    let sweep_options = SweepOptions {
        called: "planted.toml".to_owned(),
        seeds: 0..seeds,
        shard: Shard::ALL,
        jobs: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        swarm: true,
        keep_going: false,
        plateau: None,
    };
    let report = sweep(&scenario, &runner, &sweep_options, &mut |_| {});
    let found = report.failures.first().unwrap_or_else(|| panic!("{seeds} seeds do not find it"));
    assert!(found.failures.iter().any(|failure| failure.kind == kind), "{found:#?}");
    assert!(found.reproduce.ends_with(&format!("--seed {} --swarm", found.seed)), "{}", found.reproduce);

    let drawn = sideband_scenarios::swarm::swarm(&scenario, found.seed);
    let shrink_options = ShrinkOptions { kind: Some(kind.to_owned()), runs: RUNS };
    let shrunk = shrink(&drawn, found.seed, &runner, &shrink_options, &mut |_| {}).unwrap();
    let text = shrunk.to_regression();
    assert!(shrunk.after.faults <= MOST_FAULTS, "{text}");
    assert_eq!(shrunk.failure.kind, kind);

    // As anybody would run it who has the file, with the bug and without.
    let written = Scenario::parse("regression.toml", &text).unwrap();
    let kinds = |runner: &Real| -> Vec<String> {
        runner.run(&written, shrunk.seed).failures.into_iter().map(|failure| failure.kind).collect()
    };
    assert!(kinds(&runner).iter().any(|found| found == kind), "{text}");
    assert_eq!(kinds(&Real::default()), Vec::<String>::new(), "{text}");
}

macro_rules! planted {
    ($($name:ident: $options:expr, in $scenario:ident, within $seeds:literal seeds, as $kind:literal;)*) => {
        $(#[test]
        fn $name() {
            is_found($scenario, $options, $seeds, $kind);
        })*
    };
}

planted! {
    tru_03_pin_before_verify: endpoint(Quirk::PinsUnverified), in FORGED_ACCEPT, within 30 seeds, as "always/1";
    cry_08_window_moved_before_opening: endpoint(Quirk::MovesWindowForForgery), in FORGED_DATA, within 5 seeds, as "always/1";
    cli_01_session_reused: endpoint(Quirk::ReusesSession), in TALK, within 20 seeds, as "invariant/no-grade";
    cli_09_waiting_call_lost: endpoint(Quirk::LosesWaitingCall), in TALK, within 20 seeds, as "invariant/recovers";
    cli_11_resumed_from_zero: endpoint(Quirk::ResumesFromZero), in TALK, within 40 seeds, as "invariant/nonce-once";
    rpc_01_answers_matched_by_order: endpoint(Quirk::MatchesAnswersByOrder), in TALK, within 20 seeds, as "invariant/call-own-answer";
    cli_09_waiting_calls_sent_backwards: endpoint(Quirk::SendsWaitingBackwards), in TALK, within 20 seeds, as "invariant/calls-in-order";
    cli_04_retries_at_once: endpoint(Quirk::RetriesAtOnce), in TALK, within 20 seeds, as "invariant/delays";
    cli_06_retry_after_ignored: endpoint(Quirk::IgnoresRetryAfter), in TALK, within 40 seeds, as "invariant/delays";
    dmn_11_held_frames_sent_newest_first: endpoint(Quirk::SendsHeldNewestFirst), in TALK, within 40 seeds, as "invariant/events-in-order";
}
