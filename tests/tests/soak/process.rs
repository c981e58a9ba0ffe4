//! `sideband-sim up` as a process of its own, and what is seen of it from outside.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use sideband_env::Timeline;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
};

use super::run::PATIENCE;

/// Lines of stdout that are kept besides the cloud's events.
const MOST_LINES: usize = 20;

/// The binary, and how it is started.
#[derive(Debug, Clone)]
pub(crate) struct Up {
    pub(crate) binary: PathBuf,
    /// What it is told besides its address, `--json` and its trace.
    pub(crate) args: Vec<String>,
    /// The file of its trace.
    pub(crate) trace: PathBuf,
}

/// What a process has; zeros where there is no `/proc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// KiB of resident memory.
    pub(crate) kib: u64,
    pub(crate) descriptors: usize,
}

impl Seen {
    fn of(pid: u32) -> Self {
        Self { kib: kib(pid, "VmRSS:").unwrap_or_default(), descriptors: descriptors(pid) }
    }
}

fn kib(pid: u32, member: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(member))?;
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// From the signal to the end.
    pub(crate) took: Duration,
    /// What it said and should not have.
    pub(crate) wrong: Vec<String>,
}

/// A running process.
pub(crate) struct Process {
    child: Child,
    pid: u32,
    ready: Value,
    stdout: JoinHandle<Vec<String>>,
    pub(crate) trace: PathBuf,
    /// What it had when it was ready.
    pub(crate) start: Seen,
    most: Mutex<usize>,
    /// What it had counted once all had left; empty before.
    pub(crate) metrics: String,
}

impl Process {
    /// Starts it and waits for its ready line.
    pub(crate) async fn start(up: &Up) -> Self {
        let mut command = Command::new(&up.binary);
        command.args(["up", "--addr", "127.0.0.1:0", "--json", "--trace"]).arg(&up.trace).args(&up.args);
        // Without what the environment would tell it.
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", up.binary.display()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("no ready line").unwrap();
        let ready: Value = serde_json::from_str(&first.expect("it ended")).unwrap();
        assert_eq!(ready["event"], "ready");
        let pid = child.id().expect("it has ended");
        let start = Seen::of(pid);
        let most = Mutex::new(start.descriptors);
        let stdout = tokio::spawn(hear(lines));
        Self { child, pid, ready, stdout, trace: up.trace.clone(), start, most, metrics: String::new() }
    }

    /// A text of the ready line.
    pub(crate) fn ready(&self, member: &str) -> String {
        self.ready[member].as_str().unwrap_or_else(|| panic!("no {member}")).to_owned()
    }

    /// Looks at its descriptors, of which nobody keeps the most.
    pub(crate) fn look(&self) {
        let mut most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        *most = (*most).max(descriptors(self.pid));
    }

    /// The most that it had so far.
    pub(crate) fn most(&self) -> Seen {
        let descriptors = *self.most.lock().unwrap_or_else(PoisonError::into_inner);
        Seen { kib: kib(self.pid, "VmHWM:").unwrap_or_default(), descriptors }
    }

    /// Looks again and again until it is so; what it has then, or in the end.
    pub(crate) async fn becomes(&self, is_so: impl Fn(Seen) -> bool) -> Seen {
        let waiting = async {
            while !is_so(Seen::of(self.pid)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // What it has tells whether it came to that.
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
        Seen::of(self.pid)
    }

    /// Sends a signal and waits for the end.
    pub(crate) async fn end(mut self, signal: &str) -> Ended {
        let timeline = Timeline::start();
        let killed = Command::new("kill").args([&format!("-{signal}"), &self.pid.to_string()]).status().await.unwrap();
        assert!(killed.success(), "it has ended before");
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        let took = timeline.elapsed();
        Ended { code: status.code(), took, wrong: self.stdout.await.unwrap() }
    }
}

/// Reads stdout to its end, and keeps what is neither an event of the cloud nor how many were missed.
async fn hear(mut lines: Lines<BufReader<ChildStdout>>) -> Vec<String> {
    let mut others = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let expected = ["{\"event\":\"cloud\",", "{\"event\":\"missed\","].iter().any(|head| line.starts_with(head));
        if !(expected && line.ends_with('}')) && others.len() < MOST_LINES {
            others.push(format!("it said {line}"));
        }
    }
    others
}

/// The binary of the same build, two folders up at most: beside an example or a test.
pub(crate) fn beside() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let name = format!("sideband-sim{}", std::env::consts::EXE_SUFFIX);
    here.ancestors().skip(1).take(2).map(|folder: &Path| folder.join(&name)).find(|file| file.is_file())
}
