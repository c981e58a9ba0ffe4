//! Built-in scenarios of trouble with the control plane and the relay: all are good, each tells its story for seed 0, and each
//! catches what is wrong on purpose, or a number that is changed.

mod stories;

use std::collections::{BTreeMap, BTreeSet};

use Wrong::{Api, Endpoint, File, Relay};
use sideband_protocol::{
    api::{ApiQuirk, ApiQuirks},
    quirks::{Quirk, Quirks},
    relay::{RelayQuirk, RelayQuirks},
};
use sideband_scenarios::{
    builtin,
    scenario::Scenario,
    sim::{self, RunOptions},
};
use stories::{run, told};

/// The lines of a story with copies of hosts and numbers folded, and how often each is there: where many do the same.
fn folded(story: &str) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in story.lines() {
        // An event's number stands last.
        let line = if line.contains(" emits ") || line.contains(" hears ") {
            line.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ')
        } else {
            line
        };
        let words = line.split(' ').map(|word| {
            let bare = word.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '-' || c == '#');
            let numbered =
                !bare.is_empty() && bare.len() < word.len() && bare.bytes().all(|byte| byte.is_ascii_digit());
            if numbered { format!("{}*", &word[..word.len() - bare.len()]) } else { word.to_owned() }
        });
        *counts.entry(words.collect::<Vec<_>>().join(" ")).or_default() += 1;
    }
    counts.iter().map(|(line, times)| format!("{times:>3} {line}\n")).collect()
}

macro_rules! stories {
    ($($name:ident: $text:literal;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!($text, told(&run($text, 0)));
            (1..5).for_each(|seed| drop(run($text, seed)));
        })*
    };
}

stories! {
    ghost_then_sweep: "ghost-then-sweep";
    api_409_account: "api-409-account";
    api_409_quick_connect: "api-409-quick-connect";
    storm_429: "storm-429";
    storm_429_retry_after: "storm-429-retry-after";
    key_rotation_overlap: "key-rotation-overlap";
    key_rotation_hard: "key-rotation-hard";
    keyset_outage: "keyset-outage";
    api_down_at_daemon_start: "api-down-at-daemon-start";
    partition_api_only: "partition-api-only";
    clock_skew: "clock-skew";
    relay_restart: "relay-restart";
    relay_crash: "relay-crash";
    quick_connect_offline_burn: "quick-connect-offline-burn";
    quick_connect_drop_is_fatal: "quick-connect-drop-is-fatal";
}

macro_rules! folded_stories {
    ($($name:ident: $text:literal, $seeds:literal seeds;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!($text, folded(&told(&run($text, 0))));
            (1..$seeds).for_each(|seed| drop(run($text, seed)));
        })*
    };
}

folded_stories! {
    thundering_herd: "thundering-herd", 3 seeds;
    slow_consumer: "slow-consumer", 5 seeds;
    rate_limited_drop: "rate-limited-drop", 5 seeds;
    rate_limited_throttle: "rate-limited-throttle", 5 seeds;
}

/// What is wrong in a run.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Endpoint(Quirk),
    Relay(RelayQuirk),
    Api(ApiQuirk),
    /// This in the file is that.
    File(&'static str, &'static str),
}

fn failures(name: &str, wrong: Wrong) -> BTreeSet<String> {
    let mut text = builtin::find(name).unwrap().text.to_owned();
    let mut options = RunOptions::default();
    match wrong {
        Wrong::Endpoint(quirk) => options.danger_quirks = Quirks::only(quirk),
        Wrong::Relay(quirk) => options.danger_relay_quirks = RelayQuirks::only(quirk),
        Wrong::Api(quirk) => options.danger_api_quirks = ApiQuirks::only(quirk),
        Wrong::File(this, that) => {
            assert!(text.contains(this), "{name} has no {this}");
            text = text.replacen(this, that, 1);
        }
    }
    let scenario = Scenario::parse(name, &text).unwrap();
    sim::run(&scenario, 0, &options).unwrap().failures.into_iter().map(|failure| failure.kind).collect()
}

macro_rules! catches {
    ($($test:ident: $name:literal { $($wrong:expr => $kind:literal,)* })*) => {
        $(#[test]
        fn $test() {
            $(
                let kinds = failures($name, $wrong);
                assert!(kinds.contains($kind), "{} with {:?} fails with {kinds:?}", $name, $wrong);
            )*
        })*
    };
}

catches! {
    ghost_then_sweep_can_fail: "ghost-then-sweep" {
        Relay(RelayQuirk::NeverSweeps) => "expect/2",
        Relay(RelayQuirk::SweepsSilently) => "expect/3",
        Relay(RelayQuirk::RefusesBesideGhosts) => "expect/6",
        Relay(RelayQuirk::HasNoSessionLimit) => "expect/4",
        Endpoint(Quirk::BearsSilence) => "expect/7",
        Endpoint(Quirk::WaitsForAnswerForEver) => "expect/1",
        File("sessions = 2", "sessions = 3") => "expect/4",
    }
    api_409_account_can_fail: "api-409-account" {
        Endpoint(Quirk::GivesUpOnRetried) => "expect/1",
        Endpoint(Quirk::CountsRetriesForEver) => "expect/3",
        Endpoint(Quirk::RetriesAtOnce) => "invariant/delays",
        Endpoint(Quirk::ReusesSession) => "expect/3",
        File("times = 2", "times = 1") => "expect/5",
    }
    api_409_quick_connect_can_fail: "api-409-quick-connect" {
        Endpoint(Quirk::RetriesConflictOfCode) => "always/1",
        File("status = 409", "status = 503") => "always/1",
    }
    storm_429_can_fail: "storm-429" {
        Endpoint(Quirk::NeverGivesUp) => "expect/2",
        Endpoint(Quirk::GivesUpOnRetried) => "expect/2",
        Endpoint(Quirk::LosesLastCause) => "expect/3",
        Endpoint(Quirk::DelaysWithoutLimit) => "invariant/delays",
        Endpoint(Quirk::RetriesAtOnce) => "always/1",
        Endpoint(Quirk::DaemonRetriesAtOnce) => "expect/1",
        Endpoint(Quirk::TakesNoLimitForNone) => "expect/4",
        File("for = \"75s\"", "for = \"20s\"") => "expect/2",
    }
    storm_429_retry_after_can_fail: "storm-429-retry-after" {
        Endpoint(Quirk::IgnoresRetryAfter) => "expect/2",
        Endpoint(Quirk::CapsRetryAfterEarly) => "expect/7",
        Endpoint(Quirk::DaemonIgnoresRetryAfter) => "expect/1",
        File("retry_after = \"1h\"", "retry_after = \"100s\"") => "expect/7",
    }
    thundering_herd_can_fail: "thundering-herd" {
        Endpoint(Quirk::HasNoJitter) => "always/1",
        Relay(RelayQuirk::ShutsDownAsDone) => "expect/2",
    }
    key_rotation_overlap_can_fail: "key-rotation-overlap" {
        Api(ApiQuirk::RotatesHardAlways) => "always/1",
        Relay(RelayQuirk::KnowsOneKey) => "always/1",
        Relay(RelayQuirk::KeepsFirstKeys) => "always/1",
        Relay(RelayQuirk::NeverCachesKeys) => "expect/2",
        File("rotate = \"overlap\", overlap = \"10m\"", "rotate = \"hard\"") => "always/1",
    }
    key_rotation_hard_can_fail: "key-rotation-hard" {
        Api(ApiQuirk::RotatesSoftAlways) => "expect/2",
        Endpoint(Quirk::GivesUpOnRetried) => "expect/3",
        Endpoint(Quirk::DaemonEndsOnRefusedUpgrade) => "always/1",
        File("delay = \"13s\"", "delay = \"3s\"") => "expect/2",
    }
    keyset_outage_can_fail: "keyset-outage" {
        Relay(RelayQuirk::ForgetsKeysInOutage) => "expect/8",
        Relay(RelayQuirk::BlamesTokenForKeys) => "always/1",
        Endpoint(Quirk::DaemonEndsOnRefusedUpgrade) => "expect/2",
        File("for = \"10s\"", "for = \"1s\"") => "expect/1",
    }
    api_down_at_daemon_start_can_fail: "api-down-at-daemon-start" {
        Endpoint(Quirk::DaemonRetriesAtOnce) => "expect/1",
        Endpoint(Quirk::GivesUpOnRetried) => "expect/5",
        File("delay = \"20s\"", "delay = \"2s\"") => "expect/1",
    }
    partition_api_only_can_fail: "partition-api-only" {
        Relay(RelayQuirk::GraceNeverEnds) => "expect/2",
        Endpoint(Quirk::WaitsForApiForEver) => "expect/8",
        Endpoint(Quirk::DaemonWaitsForApi) => "expect/7",
        File("for = \"5m\"", "for = \"2m\"") => "expect/2",
    }
    clock_skew_can_fail: "clock-skew" {
        Relay(RelayQuirk::TakesExpired) => "expect/2",
        Endpoint(Quirk::RetriesUnauthorizedForEver) => "expect/5",
        Endpoint(Quirk::GivesUpOnRetried) => "expect/3",
        Api(ApiQuirk::GivesLongLives) => "expect/2",
        File("clock_shift = \"2m 25s\"", "clock_shift = \"2m 35s\"") => "expect/1",
    }
    relay_restart_can_fail: "relay-restart" {
        Relay(RelayQuirk::ShutsDownAsDone) => "expect/1",
        Endpoint(Quirk::CallsOutliveSocket) => "expect/2",
        Endpoint(Quirk::DropsEventsWhileAway) => "expect/6",
        Endpoint(Quirk::SendsWaitingBackwards) => "invariant/calls-in-order",
        Endpoint(Quirk::ForgetsReady) => "expect/4",
        Endpoint(Quirk::ReusesSession) => "expect/5",
        Relay(RelayQuirk::SilentOnLateSignals) => "expect/4",
        File("down = \"3s\"", "down = \"20s\"") => "expect/7",
    }
    relay_crash_can_fail: "relay-crash" {
        Endpoint(Quirk::CallsOutliveSocket) => "expect/1",
        Endpoint(Quirk::RetriesAtOnce) => "invariant/delays",
        Endpoint(Quirk::KeepsEndedSessions) => "expect/8",
        File("crash = { down = \"20s\" }", "restart = { down = \"20s\" }") => "always/1",
    }
    slow_consumer_can_fail: "slow-consumer" {
        Relay(RelayQuirk::ServesGaps) => "expect/1",
        Relay(RelayQuirk::EndsSessionsTogether) => "expect/3",
        Endpoint(Quirk::GivesUpOnRetried) => "expect/5",
        File("pause = \"30s\"", "pause = \"1s\"") => "expect/1",
    }
    rate_limited_drop_can_fail: "rate-limited-drop" {
        Relay(RelayQuirk::HasNoRate) => "expect/1",
        Relay(RelayQuirk::LimitsSilently) => "expect/3",
        Relay(RelayQuirk::TellsOfEveryFrame) => "always/1",
        Relay(RelayQuirk::ClosesOverRate) => "expect/8",
        Endpoint(Quirk::EndsOnRateLimit) => "expect/8",
        File("rate_mode = \"drop\"", "rate_mode = \"throttle\"") => "expect/1",
    }
    rate_limited_throttle_can_fail: "rate-limited-throttle" {
        Relay(RelayQuirk::HasNoRate) => "expect/2",
        Relay(RelayQuirk::DropsWhenThrottled) => "expect/3",
        File("rate_mode = \"throttle\"", "rate_mode = \"drop\"") => "always/2",
    }
    quick_connect_offline_burn_can_fail: "quick-connect-offline-burn" {
        Api(ApiQuirk::SparesCodes) => "expect/2",
        Endpoint(Quirk::RetriesConflictOfCode) => "expect/1",
        File("down = \"8s\"", "down = \"1ms\"") => "expect/1",
    }
    quick_connect_drop_is_fatal_can_fail: "quick-connect-drop-is-fatal" {
        Endpoint(Quirk::RedeemsAgain) => "expect/1",
        Endpoint(Quirk::NeverResumes) => "expect/1",
        Endpoint(Quirk::CallsOutliveSocket) => "expect/3",
    }
}
