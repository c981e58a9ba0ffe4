//! Many daemons and clients of the SDK on one cloud whose API, sockets and relay fail again and again; afterwards all of them have to
//! be active, and then nothing may be left of them.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use sideband_env::Timeline;
use sideband_sim_kit::{fault::FaultPlan, observer::GradeCount};

use super::{
    crowd::Crowd,
    place::{Place, Where},
    process::Seen,
};

/// How long anything may take that has to come: reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a session waits for its daemon at a cloud inside.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) place: Where,
    pub(crate) seed: u64,
    pub(crate) daemons: usize,
    pub(crate) clients: usize,
    /// How long faults go on.
    pub(crate) time: Duration,
    /// What is put in force once all are active; none if the cloud has begun with one.
    pub(crate) plan: Option<FaultPlan>,
    /// Mean time between two cuts or restarts at the relay.
    pub(crate) between: Duration,
    /// Of so many of them one is a restart of the relay.
    pub(crate) restart_every: usize,
    /// The longest pause of a client between two calls.
    pub(crate) pause: Duration,
    /// Bytes that are allocated now.
    pub(crate) allocated: fn() -> usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) took: Duration,
    pub(crate) calls: u64,
    /// Calls that failed while there were faults, by code.
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) cut_daemons: u64,
    pub(crate) cut_clients: u64,
    pub(crate) restarts: u64,
    /// How often each rule of the plan fired.
    pub(crate) faults: BTreeMap<String, u64>,
    /// What the relay told, counted.
    pub(crate) counts: BTreeMap<String, u64>,
    /// How long after the last fault all were active again.
    pub(crate) recovered: Duration,
    /// Tasks of the runtime: with all active, after they have closed beyond the idle cloud's, and after the cloud beyond the start's.
    pub(crate) tasks: [usize; 3],
    /// Bytes allocated beyond the start: with all active, after they have closed, after the cloud.
    pub(crate) bytes: [i64; 3],
    /// A process of its own: at its start, at most, and after all had left.
    pub(crate) process: Option<[Seen; 3]>,
    /// How long it took to stop.
    pub(crate) stopped: Duration,
    /// Lines of its trace.
    pub(crate) lines: u64,
    /// Rules that the relay says were broken.
    pub(crate) grades: Vec<GradeCount>,
    /// Everything that must not be.
    pub(crate) wrong: Vec<String>,
}

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let secs = |time: Duration| time.as_secs_f64();
        let _ = writeln!(text, "{:.1} s, {} calls, failed {:?}", secs(self.took), self.calls, self.failed);
        let Self { cut_daemons, cut_clients, restarts, .. } = self;
        let _ =
            writeln!(text, "cut {cut_daemons} daemons and {cut_clients} clients, restarted the relay {restarts} times");
        let _ = writeln!(text, "faults {:?}", self.faults);
        let _ = writeln!(text, "told {:?}", self.counts);
        let _ = writeln!(text, "all active {:.2} s after the last fault", secs(self.recovered));
        let _ = writeln!(text, "tasks {:?}, KiB {:?}", self.tasks, self.bytes.map(|bytes| bytes / 1_024));
        let _ = writeln!(text, "(with all active, after they have closed, after the cloud; beyond the start)");
        if let Some(process) = self.process {
            let (kib, descriptors) = (process.map(|seen| seen.kib), process.map(|seen| seen.descriptors));
            let _ = writeln!(text, "the server: KiB {kib:?}, descriptors {descriptors:?}");
            let _ = writeln!(text, "(at its start, at most, after all have left)");
            if process[0].kib == 0 {
                let _ = writeln!(text, "SKIPPED (its memory and descriptors): no /proc/PID here");
            }
        }
        if self.lines > 0 {
            let _ = writeln!(text, "it stopped in {:.2} s with {} lines of trace", secs(self.stopped), self.lines);
        }
        for wrong in &self.wrong {
            let _ = writeln!(text, "wrong: {wrong}");
        }
        text
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn beyond(allocated: usize, start: usize) -> i64 {
    allocated as i64 - start as i64
}

/// Asks again and again until it is so; false if it never is.
async fn becomes(mut is_so: impl FnMut() -> bool) -> bool {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.is_ok()
}

/// Runs it all.
pub(crate) async fn run(settings: &Settings) -> Report {
    let timeline = Timeline::start();
    let (tasks_at_start, bytes_at_start) = (tasks(), (settings.allocated)());
    let mut report = Report::default();
    let mut place = Place::start(&settings.place).await;
    let tasks_of_cloud = tasks();

    let crowd = Crowd::start(settings, &place).await;
    crowd.all_active(&mut report.wrong).await;
    let calls = crowd.disturb(settings, &place, &mut report).await;
    let calm = timeline.elapsed();
    crowd.all_active(&mut report.wrong).await;
    report.recovered = timeline.elapsed() - calm;
    crowd.end_calls(calls, &mut report).await;
    report.tasks[0] = tasks() - tasks_at_start;
    report.bytes[0] = beyond((settings.allocated)(), bytes_at_start);
    place.look();

    crowd.close(&mut report).await;
    place.is_left(&mut report).await;
    let no_task = becomes(|| tasks() <= tasks_of_cloud).await;
    report.tasks[1] = tasks().saturating_sub(tasks_of_cloud);
    if !no_task {
        report.wrong.push(format!("{} tasks are left of the endpoints", report.tasks[1]));
    }
    report.bytes[1] = beyond((settings.allocated)(), bytes_at_start);

    place.end(&mut report).await;
    nothing_is_left(settings, tasks_at_start, bytes_at_start, &mut report).await;
    report.took = timeline.elapsed();
    report
}

/// Ends the cloud by SIGINT while everybody is connected and calls.
pub(crate) async fn interrupt(settings: &Settings) -> Report {
    let timeline = Timeline::start();
    let (tasks_at_start, bytes_at_start) = (tasks(), (settings.allocated)());
    let mut report = Report::default();
    let place = Place::start(&settings.place).await;
    let crowd = Crowd::start(settings, &place).await;
    crowd.all_active(&mut report.wrong).await;
    report.tasks[0] = tasks() - tasks_at_start;
    report.bytes[0] = beyond((settings.allocated)(), bytes_at_start);
    crowd.call_during(settings, place.interrupt(&mut report)).await;
    crowd.close(&mut report).await;
    nothing_is_left(settings, tasks_at_start, bytes_at_start, &mut report).await;
    report.took = timeline.elapsed();
    report
}

async fn nothing_is_left(settings: &Settings, tasks_at_start: usize, bytes_at_start: usize, report: &mut Report) {
    if !becomes(|| tasks() <= tasks_at_start).await {
        report.wrong.push("tasks are left of the cloud and its endpoints".to_owned());
    }
    report.tasks[2] = tasks().saturating_sub(tasks_at_start);
    report.bytes[2] = beyond((settings.allocated)(), bytes_at_start);
}
