//! Built-in scenarios of daemons and clients: trust, sessions that are lost and found, half-open sockets, hostile relays, closing, and the
//! long haul. All are good, each tells its story for seed 0, and each catches what is wrong on purpose, or a number that is changed.

mod stories;

use std::collections::{BTreeMap, BTreeSet};

use Wrong::{Endpoint, File, Relay};
use sideband_protocol::{
    quirks::{Quirk, Quirks},
    relay::{RelayQuirk, RelayQuirks},
};
use sideband_scenarios::{
    builtin,
    scenario::Scenario,
    sim::{self, RunOptions},
};
use stories::{run, told};

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
    close_in_every_state: "close-in-every-state";
    daemon_blips_twice_while_pending: "daemon-blips-twice-while-pending";
    daemon_not_resumable: "daemon-not-resumable";
    daemon_restart_state_lost: "daemon-restart-state-lost";
    grace_expires: "grace-expires";
    half_open_client: "half-open-client";
    half_open_daemon_refused: "half-open-daemon-refused";
    half_open_daemon_replaced: "half-open-daemon-replaced";
    handshake_timeout: "handshake-timeout";
    hostile_relay_forge: "hostile-relay-forge";
    hostile_relay_reorder: "hostile-relay-reorder";
    hostile_relay_replay: "hostile-relay-replay";
    hostile_relay_tamper: "hostile-relay-tamper";
    identity_rotation_auto: "identity-rotation-auto";
    identity_rotation_pinned_only: "identity-rotation-pinned-only";
    identity_rotation_prompt_no: "identity-rotation-prompt-no";
    identity_rotation_prompt_yes: "identity-rotation-prompt-yes";
    malformed_storm: "malformed-storm";
    partition_daemon: "partition-daemon";
}

/// How often each host did what, without names of sessions and numbers of connections: an hour is too long to read.
fn summed(story: &str) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in story.lines() {
        let numbered = |word: &str, mark: char| {
            let digits = word.strip_prefix(mark).unwrap_or_default();
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        let plain = |word: &&str| !numbered(word, 's') && !numbered(word, '#') && word.parse::<u64>().is_err();
        let words: Vec<&str> = line.split(' ').filter(plain).collect();
        let rule = words.join(" ");
        let rule = rule.split_once('#').map_or(rule.as_str(), |(before, _)| before);
        *counts.entry(rule.to_owned()).or_default() += 1;
    }
    counts.iter().map(|(line, times)| format!("{times:>4} {line}\n")).collect()
}

#[test]
fn long_haul() {
    insta::assert_snapshot!("long-haul", summed(&told(&run("long-haul", 0))));
}

#[test]
fn long_haul_goes_on_for_as_long_as_it_is_told_to() {
    let scenario = builtin::find("long-haul").unwrap().scenario().unwrap();
    let options = RunOptions { times_as_long: 2, ..RunOptions::default() };
    let run = sim::run(&scenario, 1, &options).unwrap();
    assert_eq!(run.failures, [], "{}", run.trace.story());
    assert!(run.elapsed.as_secs() > 7_200, "{:?}", run.elapsed);
    // Faults as well: they do not end with the first hour.
    let late = run.trace.events().iter().filter(|event| event.at > 3_700_000 && event.kind.name() == "fault").count();
    assert!(late > 30, "{late}");
}

/// What is wrong in a run.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Endpoint(Quirk),
    Relay(RelayQuirk),
    /// This in the file is that.
    File(&'static str, &'static str),
}

fn failures(name: &str, wrong: Wrong) -> BTreeSet<String> {
    let mut text = builtin::find(name).unwrap().text.to_owned();
    let mut options = RunOptions::default();
    match wrong {
        Endpoint(quirk) => options.danger_quirks = Quirks::only(quirk),
        Relay(quirk) => options.danger_relay_quirks = RelayQuirks::only(quirk),
        File(this, that) => {
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
            let mut missed = Vec::new();
            $(
                let kinds = failures($name, $wrong);
                if !kinds.contains($kind) {
                    missed.push(format!("{} with {:?} fails with {kinds:?}", $name, $wrong));
                }
            )*
            assert_eq!(missed, [""; 0]);
        })*
    };
}

catches! {
    identity_rotation_auto_can_fail: "identity-rotation-auto" {
        File("trust = \"auto\"", "trust = \"prompt_first\"") => "expect/2",
        Relay(RelayQuirk::GraceNeverEnds) => "expect/1",
    }
    identity_rotation_prompt_yes_can_fail: "identity-rotation-prompt-yes" {
        Endpoint(Quirk::NeverAsks) => "expect/4",
        File("prompt_yes", "prompt_no") => "expect/2",
    }
    identity_rotation_prompt_no_can_fail: "identity-rotation-prompt-no" {
        Endpoint(Quirk::NeverAsks) => "expect/1",
        Endpoint(Quirk::PinsRefused) => "expect/6",
        Endpoint(Quirk::RetriesFatal) => "expect/3",
    }
    identity_rotation_pinned_only_can_fail: "identity-rotation-pinned-only" {
        Endpoint(Quirk::PinsUnderPinnedOnly) => "expect/5",
        File("pinned = true", "pinned = false") => "expect/1",
    }
    daemon_blips_twice_while_pending_can_fail: "daemon-blips-twice-while-pending" {
        Endpoint(Quirk::ReconnectsOnPending) => "expect/1",
        Endpoint(Quirk::NeverResumes) => "expect/1",
        Endpoint(Quirk::StartsOverOnResume) => "expect/1",
        Relay(RelayQuirk::ResumesUnready) => "expect/2",
    }
    daemon_restart_state_lost_can_fail: "daemon-restart-state-lost" {
        Relay(RelayQuirk::ResumesUnready) => "always/1",
        Relay(RelayQuirk::GraceNeverEnds) => "expect/3",
        File("down = \"3s\"", "down = \"40s\"") => "expect/1",
    }
    daemon_not_resumable_can_fail: "daemon-not-resumable" {
        Relay(RelayQuirk::ResumesAnyDaemon) => "expect/2",
        Endpoint(Quirk::ResumesWithoutScope) => "expect/1",
        File("resumable = false", "resumable = true") => "always/1",
    }
    grace_expires_can_fail: "grace-expires" {
        Relay(RelayQuirk::GraceStartsAnew) => "expect/2",
        Relay(RelayQuirk::GraceNeverEnds) => "expect/3",
    }
    partition_daemon_can_fail: "partition-daemon" {
        Relay(RelayQuirk::NeverSweeps) => "expect/2",
        Endpoint(Quirk::DaemonBearsSilence) => "expect/3",
        Endpoint(Quirk::WaitsForAnswerForEver) => "expect/1",
    }
    half_open_client_can_fail: "half-open-client" {
        Relay(RelayQuirk::NeverSweeps) => "expect/2",
        Relay(RelayQuirk::SweepsSilently) => "expect/1",
        Relay(RelayQuirk::RefusesBesideGhosts) => "always/1",
    }
    half_open_daemon_replaced_can_fail: "half-open-daemon-replaced" {
        Relay(RelayQuirk::NeverReplaces) => "always/1",
        Relay(RelayQuirk::ReplacesWithoutWord) => "expect/7",
        Endpoint(Quirk::DaemonBearsSilence) => "expect/2",
        File("\"replace\"", "\"refuse\"") => "always/1",
    }
    half_open_daemon_refused_can_fail: "half-open-daemon-refused" {
        Relay(RelayQuirk::AlwaysReplaces) => "expect/6",
        Endpoint(Quirk::DaemonEndsOnRefusedUpgrade) => "always/1",
        File("silence = \"30s\"", "silence = \"80s\"") => "expect/2",
    }
    handshake_timeout_can_fail: "handshake-timeout" {
        Endpoint(Quirk::WaitsForHandshakeForEver) => "expect/1",
        File("frame = \"handshake_accept\"", "frame = \"handshake_init\"") => "expect/9",
    }
    hostile_relay_tamper_can_fail: "hostile-relay-tamper" {
        Endpoint(Quirk::GoesOnAfterForgery) => "expect/2",
        Endpoint(Quirk::EndsSessionSilently) => "expect/1",
    }
    hostile_relay_replay_can_fail: "hostile-relay-replay" {
        Endpoint(Quirk::ForgetsWindow) => "invariant/events-in-order",
        Endpoint(Quirk::EndsOnReplay) => "expect/1",
    }
    hostile_relay_forge_can_fail: "hostile-relay-forge" {
        Endpoint(Quirk::GoesOnAfterForgery) => "expect/2",
        Endpoint(Quirk::SkipsSignature) => "expect/7",
        Endpoint(Quirk::PinsUnverified) => "always/1",
    }
    hostile_relay_reorder_can_fail: "hostile-relay-reorder" {
        Endpoint(Quirk::RefusesOutOfOrder) => "expect/3",
        Endpoint(Quirk::MatchesAnswersByOrder) => "invariant/call-own-answer",
    }
    malformed_storm_can_fail: "malformed-storm" {
        Endpoint(Quirk::BearsMalformedFrames) => "expect/2",
        Endpoint(Quirk::CountsMalformedForEver) => "expect/3",
        File("frames = 9", "frames = 10") => "expect/3",
    }
    close_in_every_state_can_fail: "close-in-every-state" {
        Endpoint(Quirk::ClosesOnlyFromSession) => "expect/1",
        Endpoint(Quirk::FinishesCallsBeforeClosing) => "expect/10",
        Endpoint(Quirk::ClosesAsDisconnected) => "expect/21",
        Endpoint(Quirk::ClosesOnlyWhenOnline) => "expect/30",
        Endpoint(Quirk::LeavesWithoutSignal) => "expect/33",
    }
    long_haul_can_fail: "long-haul" {
        Endpoint(Quirk::RetriesAtOnce) => "invariant/delays",
        Endpoint(Quirk::GivesUpOnRetried) => "invariant/recovers",
        Endpoint(Quirk::SendsWaitingBackwards) => "invariant/calls-in-order",
    }
}
