//! Whether a trace file is what happened: every line is an event and is written as it is read, nobody broke a rule, it hangs together, and
//! whoever counts its events comes to what the process that wrote it has counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use sideband_sim_kit::{
    event::{Event, EventKind, EventSink},
    metrics::Metrics,
    observer::Observer,
};
use tower::ServiceExt as _;

use super::trace::Trace;

/// Most lines that are told; the others are counted.
const MOST_WRONG: usize = 20;
/// What a process counts of its relay and not of its events.
const NOT_OF_EVENTS: [&str; 4] = ["forwarded_frames", "forwarded_bytes", "daemons_online", "sessions{"];
/// The series of dropped frames, which the relay counts, too, but tells one by one.
const DROPPED: &str = "sideband_sim_dropped_frames_total{reason=\"";

/// A trace, read line by line.
pub(crate) struct Audit {
    pub(crate) lines: u64,
    trace: Trace,
    observer: Observer,
    again: EventSink,
    /// The time of the event that is told again.
    at: Arc<AtomicU64>,
    counted: Metrics,
    /// Of each rule of the fault plan: how many lines it has, and the last of their numbers.
    faults: BTreeMap<String, (u64, u64)>,
    dropped: BTreeMap<String, u64>,
    wrong: Vec<String>,
    more_wrong: u64,
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> io::Result<Audit> {
    let mut audit = Audit::new();
    let mut file = BufReader::new(File::open(path)?);
    let mut line = String::new();
    while file.read_line(&mut line)? > 0 {
        match line.strip_suffix('\n') {
            Some(whole) => audit.line(whole),
            None => audit.wrong(format!("the last line is cut short: {line}")),
        }
        line.clear();
    }
    Ok(audit)
}

impl Audit {
    pub(crate) fn new() -> Self {
        let at = Arc::new(AtomicU64::new(0));
        let now = at.clone();
        let again = EventSink::with_time(move || now.load(Ordering::Relaxed), "audit", 0);
        let counted = Metrics::new(&again, None);
        Self {
            lines: 0,
            trace: Trace::default(),
            observer: Observer::new(),
            again,
            at,
            counted,
            faults: BTreeMap::new(),
            dropped: BTreeMap::new(),
            wrong: Vec::new(),
            more_wrong: 0,
        }
    }

    pub(crate) fn line(&mut self, line: &str) {
        self.lines += 1;
        let event: Event = match serde_json::from_str(line) {
            Ok(event) => event,
            Err(error) => return self.wrong(format!("{error} in {line}")),
        };
        if serde_json::to_string(&event).ok().as_deref() != Some(line) {
            self.wrong(format!("read otherwise than written: {line}"));
        }
        for mark in self.observer.observe(&event) {
            self.wrong(format!("the trace shows {mark:?}"));
        }
        self.trace.observe(&event);
        match &event.kind {
            EventKind::Fault { rule, number, .. } => {
                let (lines, last) = self.faults.entry(rule.clone()).or_default();
                *lines += 1;
                *last = (*last).max(*number);
            }
            EventKind::Dropped { reason, .. } => *self.dropped.entry(reason.clone()).or_default() += 1,
            EventKind::RateLimited { frames, .. } => {
                *self.dropped.entry("rate_limited".to_owned()).or_default() += frames;
            }
            // Counted with the others.
            _ => {}
        }
        self.at.store(event.at, Ordering::Relaxed);
        self.again.emit(event.daemon.as_deref(), event.session, event.kind);
    }

    fn wrong(&mut self, what: String) {
        if self.wrong.len() < MOST_WRONG {
            self.wrong.push(what);
        } else {
            self.more_wrong += 1;
        }
    }

    /// How many events there were of each kind that is counted.
    pub(crate) fn counts(&self) -> &BTreeMap<String, u64> {
        &self.trace.counts
    }

    /// How many lines each rule of the fault plan has.
    pub(crate) fn faults(&self) -> BTreeMap<String, u64> {
        self.faults.iter().map(|(rule, (lines, _))| (rule.clone(), *lines)).collect()
    }

    /// What is wrong with the lines, and what contradicts itself once everybody is gone.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        if self.more_wrong > 0 {
            wrong.push(format!("and {} lines more", self.more_wrong));
        }
        wrong.extend(self.trace.contradictions());
        let numbers = self.faults.iter().filter(|(_, (lines, last))| lines != last);
        wrong.extend(numbers.map(|(rule, (lines, last))| format!("{rule} has {lines} lines and fired {last} times")));
        wrong
    }

    /// Where what the process has counted is not what the trace tells.
    pub(crate) async fn against(&self, metrics: &str) -> Vec<String> {
        let answer = self.counted.router().oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        let text = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let (told, counted) = (series(&text), series(metrics));
        let mut wrong: Vec<String> = told
            .symmetric_difference(&counted)
            .map(|line| format!("{line} by the {} only", if told.contains(line) { "trace" } else { "metrics" }))
            .collect();
        for line in metrics.lines().filter_map(|line| line.strip_prefix(DROPPED)) {
            let Some((reason, count)) = line.split_once("\"} ") else { continue };
            let told = self.dropped.get(reason).copied().unwrap_or_default();
            if count.parse() != Ok(told) {
                wrong.push(format!("{count} frames were dropped for {reason}, and the trace has {told}"));
            }
        }
        if counted.is_empty() {
            wrong.push("nothing is counted".to_owned());
        }
        wrong
    }
}

/// What is counted of events, with its numbers.
fn series(metrics: &str) -> BTreeSet<&str> {
    let of_events = |line: &&str| {
        let Some(name) = line.strip_prefix("sideband_sim_") else { return false };
        !line.starts_with(DROPPED) && !NOT_OF_EVENTS.iter().any(|other| name.starts_with(other))
    };
    metrics.lines().filter(of_events).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: &str = r#"{"at":1,"host":"relay","kind":"opened","connection":1,"role":"client"}"#;
    const CLOSED: &str = r#"{"at":2,"host":"relay","kind":"closed","connection":1,"code":1000,"by":"peer"}"#;
    const FAULT: &str =
        r#"{"at":1,"host":"api","kind":"fault","rule":"r","number":1,"on":"api.request","action":"cut"}"#;
    const DROP: &str = r#"{"at":1,"host":"relay","kind":"dropped","connection":1,"reason":"session_paused"}"#;

    fn of(lines: &[&str]) -> Audit {
        let mut audit = Audit::new();
        lines.iter().for_each(|line| audit.line(line));
        audit
    }

    #[test]
    fn a_whole_trace_is_left_alone_and_each_fault_of_one_is_found() {
        assert_eq!(of(&[OPENED, FAULT, DROP, CLOSED]).contradictions(), [""; 0]);
        let later = FAULT.replace("\"number\":1", "\"number\":2");
        let spaced = OPENED.replace(":1,", ": 1,");
        for (lines, why) in [
            (vec![OPENED], "never closed"),
            (vec![&OPENED[..40]], "no JSON"),
            (vec![&spaced, CLOSED], "written otherwise"),
            (vec![&later], "a fault's line is lost"),
            (vec![OPENED, CLOSED, FAULT, FAULT], "a fault's line is there twice"),
        ] {
            assert_eq!(
                of(&lines).contradictions().len(),
                1 + usize::from(why == "no JSON" && lines.len() > 1),
                "{why}"
            );
        }
    }

    #[test]
    fn who_breaks_a_rule_is_found_without_the_process_that_was_there() {
        let token = OPENED.replace("\"client\"}", "\"daemon\",\"token\":\"t\"}");
        let again = token.replace("\"connection\":1", "\"connection\":2");
        let wrong = of(&[&token, CLOSED, &again]).contradictions();
        assert!(wrong.iter().any(|wrong| wrong.contains("Mark")), "{wrong:?}");
    }

    #[tokio::test]
    async fn what_is_counted_otherwise_is_found() {
        let audit = of(&[OPENED, FAULT, DROP, CLOSED]);
        let right = "\
# TYPE sideband_sim_faults counter
sideband_sim_faults_total{rule=\"r\"} 1
sideband_sim_connections_opened_total{role=\"client\"} 1
sideband_sim_connections_closed_total{code=\"1000\"} 1
sideband_sim_events_total{kind=\"dropped\"} 1
sideband_sim_dropped_frames_total{reason=\"session_paused\"} 1
sideband_sim_forwarded_frames_total 7
sideband_sim_sessions{state=\"paired\"} 0
";
        assert_eq!(audit.against(right).await, [""; 0]);
        for line in right.lines().skip(1).take(5) {
            let other = right.replace(line, &line.replace("} 1", "} 2"));
            assert!(!audit.against(&other).await.is_empty(), "{line}");
        }
        assert!(!audit.against("").await.is_empty());
    }
}
