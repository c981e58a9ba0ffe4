//! A run as people read it, and as a line of NDJSON.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use owo_colors::OwoColorize;
use serde::Serialize;
use sideband_scenarios::{
    sim::{Failure, Run},
    situation::Situations,
    trace::Trace,
};
use sideband_sim_kit::event::EventKind;

/// What is said of a run with `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunLine<'a> {
    event: &'static str,
    scenario: &'a str,
    seed: u64,
    swarm: bool,
    good: bool,
    /// Whether another process did the same; absent if none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeats: Option<bool>,
    hash: String,
    events: usize,
    simulated_ms: u64,
    states: BTreeMap<String, Vec<String>>,
    failures: &'a [Failure],
    never_fired: &'a [String],
    situations: Vec<String>,
    reproduce: String,
}

impl<'a> RunLine<'a> {
    pub(super) fn new(run: &'a Run, swarm: bool, repeats: Option<bool>, reproduce: String) -> Self {
        Self {
            event: "scenario_run",
            scenario: &run.scenario,
            seed: run.seed,
            swarm,
            good: run.is_good() && repeats != Some(false),
            repeats,
            hash: run.trace.hash(),
            events: run.trace.events().len(),
            simulated_ms: run.elapsed.as_millis() as u64,
            states: states(&run.trace),
            failures: &run.failures,
            never_fired: &run.never_fired,
            situations: Situations::of(run.trace.events()).into_iter().map(|one| one.id().to_owned()).collect(),
            reproduce,
        }
    }

    pub(super) const fn is_good(&self) -> bool {
        self.good
    }

    /// For people. `took` is time on the wall.
    pub(super) fn text(&self, took: Duration) -> String {
        let verdict = if self.good { "good".green().to_string() } else { "failed".red().bold().to_string() };
        let mut text = format!("{} under seed {}: {verdict}\n", self.scenario.bold(), self.seed);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {} simulated in {}, {} events, {}",
            seconds(Duration::from_millis(self.simulated_ms)),
            seconds(took),
            self.events,
            match self.repeats {
                Some(true) => format!("the same in another process: {}", short(&self.hash)),
                Some(false) => "other in another process".red().to_string(),
                None => short(&self.hash).to_owned(),
            },
        );
        let width = self.states.keys().map(String::len).max().unwrap_or(0);
        for (host, states) in &self.states {
            let _ = writeln!(text, "  {:width$}  {}", host.cyan(), states.join(" → "));
        }
        if !self.failures.is_empty() {
            text.push('\n');
        }
        for failure in self.failures {
            let at = seconds(Duration::from_millis(failure.at));
            let what = failure.what.replace('\n', "\n      ");
            let _ = writeln!(text, "  {} {} at {at}\n      {what}", "✗".red(), failure.kind.bold());
        }
        if !self.never_fired.is_empty() {
            let _ = writeln!(text, "\n  {} faults that never fired: {}", "!".yellow(), self.never_fired.join(", "));
        }
        if !self.good {
            let _ = writeln!(text, "\n  again: {}", self.reproduce.cyan());
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// The first digits of a hash.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// A time for people: `120 ms`, `3.4 s`, `12 min 5 s`.
pub(super) fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        1_000..100_000 => format!("{:.1} s", time.as_secs_f64()),
        _ => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

/// Most states of one host that are told.
const MOST_STATES: usize = 24;

/// The states that each endpoint went through.
fn states(trace: &Trace) -> BTreeMap<String, Vec<String>> {
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in trace.events() {
        let EventKind::Endpoint { report, detail } = &event.kind else { continue };
        let state = if report == "state" { detail } else { report };
        let known = [
            "starting",
            "connecting",
            "negotiating",
            "active",
            "paused",
            "reconnecting",
            "closed",
            "online",
            "offline",
            "ended",
        ];
        if !known.contains(&state.as_str()) {
            continue;
        }
        let all = states.entry(event.host.clone()).or_default();
        match all.len().cmp(&MOST_STATES) {
            std::cmp::Ordering::Less => all.push(state.clone()),
            std::cmp::Ordering::Equal => all.push("…".to_owned()),
            std::cmp::Ordering::Greater => {}
        }
    }
    states
}
