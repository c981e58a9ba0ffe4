//! Where a run's cloud is: inside of this process, where its tasks and bytes are counted with the endpoints', or `sideband-sim up` as a
//! process of its own, which is seen from outside only: by its admin API, `/proc`, its trace and its end.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sideband_env::{Env, real::Roots};
use sideband_scenarios::cloud::{Cloud, CloudOptions};
use sideband_sim_kit::{admin::AdminClient, limits::RelayLimits};

use super::{
    audit::{Audit, read},
    process::{Process, Seen, Up},
    run::{GRACE, PATIENCE, Report},
    trace::Trace,
};

/// Descriptors that a server may have more than at its start: of connections that are just being closed, and the question's own.
const MOST_DESCRIPTORS: usize = 4;
/// KiB that a server's memory may have grown for good, whatever happened. What lives then is small, as a run inside counts; the rest is
/// pages that the allocator keeps, which come to the same after five minutes and after ten.
const MOST_KEPT: u64 = 48 << 10;
/// KiB for a thousand sessions: ids that may not come again, and what the observer remembers of them for as long as their tokens live.
const MOST_KEPT_PER_THOUSAND: u64 = 1_000;
/// How long a stop may take (REL-24).
const MOST_STOP: Duration = Duration::from_secs(5);
/// Times that a rule may fire between the answer that lists it and its end: what passes a busy relay meanwhile.
const MOST_MEANWHILE: u64 = 50;

/// Where to run the cloud.
#[derive(Debug, Clone)]
pub(crate) enum Where {
    /// In this process.
    Inside,
    /// As a process of its own.
    Up(Up),
}

/// A running cloud.
pub(crate) struct Place {
    pub(crate) api_url: String,
    pub(crate) relay_url: String,
    admin_url: String,
    cloud: Running,
}

enum Running {
    Inside { cloud: Box<Cloud>, trace: Arc<Mutex<Trace>> },
    Up(Box<Process>),
}

/// A client of the admin API with connections of its own, which end with it.
fn admin_at(url: &str) -> AdminClient {
    AdminClient::new(Env::real(&Roots::System).unwrap(), url.parse().unwrap(), None)
}

impl Place {
    pub(crate) async fn start(place: &Where) -> Self {
        let up = match place {
            Where::Inside => return Self::start_inside().await,
            Where::Up(up) => up,
        };
        let process = Process::start(up).await;
        Self {
            api_url: process.ready("apiUrl"),
            relay_url: process.ready("relayUrl"),
            admin_url: process.ready("adminUrl"),
            cloud: Running::Up(Box::new(process)),
        }
    }

    async fn start_inside() -> Self {
        let limits = RelayLimits { grace: GRACE, ..RelayLimits::default() };
        let options = CloudOptions { limits, trace_frames: true, ..CloudOptions::default() };
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let cloud = Cloud::start(Env::real(&Roots::System).unwrap(), anywhere, options).await.unwrap();
        let trace = Arc::new(Mutex::new(Trace::default()));
        let heard = trace.clone();
        cloud.events().tap(move |event| heard.lock().unwrap_or_else(PoisonError::into_inner).observe(event));
        Self {
            api_url: cloud.api_url().to_owned(),
            relay_url: cloud.relay_url(),
            admin_url: cloud.admin_url(),
            cloud: Running::Inside { cloud: Box::new(cloud), trace },
        }
    }

    pub(crate) fn admin(&self) -> AdminClient {
        admin_at(&self.admin_url)
    }

    /// Looks at a process once more; its most is reported.
    pub(crate) fn look(&self) {
        if let Running::Up(process) = &self.cloud {
            process.look();
        }
    }

    /// Waits until nothing is there of endpoints that have left, and says what is.
    pub(crate) async fn is_left(&mut self, report: &mut Report) {
        let admin = admin_at(&self.admin_url);
        let mut seen = String::new();
        let empty = async {
            loop {
                let connections = match &self.cloud {
                    Running::Inside { cloud, .. } => cloud.relay().open_connections() as u64,
                    Running::Up(_) => open_connections(&admin.metrics().await.unwrap_or_default()),
                };
                match admin.status().await {
                    Ok(status) if connections == 0 && status.daemons.is_empty() => return,
                    status => seen = format!("{connections} connections, {:?}", status.map(|status| status.daemons)),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, empty).await.is_err() {
            report.wrong.push(format!("after all have left the relay has {seen}"));
        }
        report.grades = admin.status().await.unwrap().grades;
        for grade in &report.grades {
            report.wrong.push(format!("graded: {grade:?}"));
        }
        if let Running::Up(process) = &mut self.cloud {
            process.metrics = admin.metrics().await.unwrap();
        }
    }

    /// Ends the cloud, and judges what it told and, of a process, what it kept.
    pub(crate) async fn end(self, report: &mut Report) {
        match self.cloud {
            Running::Inside { cloud, trace } => {
                cloud.shutdown().await;
                let mut trace = std::mem::take(&mut *trace.lock().unwrap_or_else(PoisonError::into_inner));
                report.wrong.extend(trace.contradictions());
                report.counts = std::mem::take(&mut trace.counts);
            }
            Running::Up(process) => end_process(*process, "TERM", report).await,
        }
    }

    /// Ends a process as Ctrl-C does, whoever is connected.
    pub(crate) async fn interrupt(self, report: &mut Report) {
        match self.cloud {
            Running::Inside { cloud, .. } => cloud.shutdown().await,
            Running::Up(process) => end_process(*process, "INT", report).await,
        }
    }
}

/// The connections that a relay has by its own counters.
fn open_connections(metrics: &str) -> u64 {
    let sum = |name: &str| -> u64 {
        let of_name = metrics.lines().filter(|line| line.starts_with(name));
        of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    // Without an answer nobody knows.
    if metrics.is_empty() {
        return u64::MAX;
    }
    sum("sideband_sim_connections_opened_total").saturating_sub(sum("sideband_sim_connections_closed_total"))
}

async fn end_process(process: Process, signal: &str, report: &mut Report) {
    // Asked once all had left.
    let have_left = !process.metrics.is_empty();
    if have_left {
        let sessions = counted(&process.metrics, "sideband_sim_session_changes_total{state=\"ended\"}");
        let most = MOST_KEPT + sessions * MOST_KEPT_PER_THOUSAND / 1_000;
        let start = process.start;
        let fits = |seen: Seen| {
            seen.descriptors <= start.descriptors + MOST_DESCRIPTORS && seen.kib.saturating_sub(start.kib) <= most
        };
        let back = process.becomes(fits).await;
        if !fits(back) {
            report.wrong.push(format!("of {sessions} sessions the server keeps {back:?}; it began with {start:?}"));
        }
        report.process = Some([start, process.most(), back]);
    }
    let (metrics, trace) = (process.metrics.clone(), process.trace.clone());
    let ended = process.end(signal).await;
    report.stopped = ended.took;
    if ended.code != Some(0) || ended.took > MOST_STOP {
        report.wrong.push(format!("SIG{signal} ended it with {:?} after {:?}", ended.code, ended.took));
    }
    // Whoever interrupts it does not wait for every fault.
    let expected = |line: &String| !have_left && line.contains("\"faults_never_fired\"");
    report.wrong.extend(ended.wrong.into_iter().filter(|line| !expected(line)));
    let audit = match read(&trace) {
        Ok(audit) => audit,
        Err(error) => return report.wrong.push(format!("the trace cannot be read: {error}")),
    };
    report.lines = audit.lines;
    report.wrong.extend(audit.contradictions());
    if have_left {
        report.wrong.extend(audit.against(&metrics).await);
        report.wrong.extend(against_list(&audit, &report.faults));
    }
    report.counts = audit.counts().clone();
}

fn counted(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

/// Each rule fired as often as was listed just before it was taken away.
fn against_list(audit: &Audit, listed: &BTreeMap<String, u64>) -> Vec<String> {
    let told = audit.faults();
    let mut wrong: Vec<String> = told
        .keys()
        .filter(|rule| !listed.contains_key(*rule))
        .map(|rule| format!("the trace tells of {rule}, which is no rule"))
        .collect();
    for (rule, &fired) in listed {
        let lines = told.get(rule).copied().unwrap_or_default();
        if !(fired..=fired + MOST_MEANWHILE).contains(&lines) {
            wrong.push(format!("{rule} fired {fired} times, and the trace has {lines}"));
        }
    }
    wrong
}
