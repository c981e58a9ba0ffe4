//! Many daemons and clients of the SDK on one cloud that fails again and again, for as long as one likes:
//! `cargo run --release -p sideband-tests --example soak -- --minutes 10`.
//!
//! With `--up` the cloud is the real binary, `sideband-sim up --preset flaky-network`, as a process of its own: its memory, descriptors,
//! trace and end are judged as well, and then another that is interrupted while everybody is connected.

#[path = "../tests/soak/parts.rs"]
mod parts;

use std::{alloc::System, io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use cap::Cap;
use clap::Parser;
use parts::{
    place::Where,
    process::{self, Up},
    run::{Report, Settings, interrupt, run},
};
use sideband_sim_kit::fault::{FaultPlan, Format, preset};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that a cloud inside may remember of a session that is over, and what it remembers whatever happened.
const MOST_PER_SESSION: i64 = 1_000;
const MOST_KEPT: i64 = 8 << 20;
/// What a run may leave behind: room in tables and queues of the process, and of its runtime.
const MOST_LEFT: i64 = 4 << 20;
/// Faults without another plan.
const PRESET: &str = "flaky-network";

/// Endpoints of the SDK on a cloud that fails again and again.
#[derive(Debug, Parser)]
struct Args {
    /// For how long there are faults
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    #[arg(long, default_value_t = 50)]
    daemons: usize,
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// What the cuts and restarts follow from
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// The fault plan, TOML; nothing in it may be fatal by its specification [default: the preset flaky-network]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Mean milliseconds between two cuts or restarts at the relay
    #[arg(long, default_value_t = 1_000)]
    between: u64,
    /// Of so many of them one is a restart of the relay; between two of them lines have to get old enough for the preset's last rule
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    restart_every: u64,
    /// Run this binary's `up` as the cloud [default with `--up` alone: the one of the same build; without: inside of this process]
    #[arg(long, value_name = "BINARY", num_args = 0..=1)]
    up: Option<Option<PathBuf>>,
    /// Where the trace of `up` goes [default: beside this program, and away after a good run]
    #[arg(long, value_name = "FILE", requires = "up")]
    trace: Option<PathBuf>,
}

/// `up` as the arguments want it, and whether its trace stays.
fn up(args: &Args, binary: Option<&PathBuf>) -> Up {
    let binary = binary.cloned().or_else(process::beside);
    let binary =
        binary.expect("no sideband-sim beside this program: cargo build --release -p sideband-sim, or --up PATH");
    let trace = args.trace.clone();
    let beside = || std::env::current_exe().unwrap().with_file_name(format!("soak-{}.ndjson", std::process::id()));
    let plan = match &args.plan {
        Some(file) => ["--faults".to_owned(), file.to_str().unwrap().to_owned()],
        None => ["--preset".to_owned(), PRESET.to_owned()],
    };
    Up { binary, args: plan.into(), trace: trace.unwrap_or_else(beside) }
}

fn tell(text: &str) {
    // Without stdout there is still the exit code.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What is wrong with a run besides what it says itself.
fn judge(report: &Report, wrong: &mut Vec<String>) {
    let sessions = report.counts.get("sessions").copied().unwrap_or_default() as i64;
    if report.bytes[1] > MOST_KEPT + sessions * MOST_PER_SESSION {
        wrong.push(format!("{} bytes are kept of {sessions} sessions", report.bytes[1]));
    }
    if report.bytes[2] > MOST_LEFT {
        wrong.push(format!("{} bytes are left", report.bytes[2]));
    }
    wrong.extend(report.wrong.iter().cloned());
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let up = args.up.as_ref().map(|binary| up(&args, binary.as_ref()));
    let plan = || {
        let text = args.plan.as_ref().map_or_else(
            || preset::find(PRESET).unwrap().text().to_owned(),
            |file| std::fs::read_to_string(file).unwrap(),
        );
        FaultPlan::parse(&text, Format::Toml).unwrap()
    };
    let mut settings = Settings {
        place: up.clone().map_or(Where::Inside, Where::Up),
        seed: args.seed,
        daemons: 1,
        clients: 2,
        time: Duration::from_secs(1),
        // `up` begins with it.
        plan: up.is_none().then(plan),
        between: Duration::from_millis(args.between),
        restart_every: args.restart_every as usize,
        pause: Duration::from_secs(1),
        allocated: || ALLOCATOR.allocated(),
    };
    // What is made once a process is made now.
    let mut wrong = run(&settings).await.wrong;
    settings.daemons = args.daemons;
    settings.clients = args.clients;
    settings.time = Duration::from_secs_f64(args.minutes * 60.0);
    let report = run(&settings).await;
    tell(&report.text());
    judge(&report, &mut wrong);
    // A run without the trouble that it is about shows nothing.
    let idle = report.faults.iter().filter(|(_, fired)| **fired == 0);
    wrong.extend(idle.map(|(rule, _)| format!("{rule} never fired; run for longer")));
    if let Some(up) = up {
        if wrong.is_empty() && args.trace.is_none() {
            // Nobody needs it.
            let _ = std::fs::remove_file(&up.trace);
        } else {
            tell(&format!("the trace is {}", up.trace.display()));
        }
        tell("SIGINT with everybody connected");
        // Beside the trace of the run, which may be wanted.
        let interrupted = Up { trace: up.trace.with_extension("interrupted.ndjson"), ..up };
        settings.place = Where::Up(interrupted.clone());
        let before = wrong.len();
        let report = interrupt(&settings).await;
        tell(&report.text());
        judge(&report, &mut wrong);
        if wrong.len() == before && args.trace.is_none() {
            let _ = std::fs::remove_file(&interrupted.trace);
        } else {
            tell(&format!("its trace is {}", interrupted.trace.display()));
        }
    }
    tell(&format!("wrong: {wrong:?}"));
    ExitCode::from(u8::from(!wrong.is_empty()))
}
