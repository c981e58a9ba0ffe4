//! Many daemons and clients of the SDK on one cloud that fails again and again, for as long as one likes:
//! `cargo run --release -p sideband-tests --example soak -- --minutes 10`.

#[path = "../tests/soak/run.rs"]
mod run;
#[path = "../tests/soak/trace.rs"]
mod trace;

use std::{alloc::System, io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use cap::Cap;
use clap::Parser;
use run::{Settings, run};
use sideband_sim_kit::fault::{FaultPlan, Format, preset};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that a cloud may remember of a session that is over, and what it remembers whatever happened.
const MOST_PER_SESSION: i64 = 1_000;
const MOST_KEPT: i64 = 8 << 20;
/// What a run may leave behind: room in tables and queues of the process, and of its runtime.
const MOST_LEFT: i64 = 4 << 20;

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
    #[arg(long, default_value_t = 400)]
    between: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let plan = args.plan.as_ref().map_or_else(
        || preset::find("flaky-network").unwrap().text().to_owned(),
        |file| std::fs::read_to_string(file).unwrap(),
    );
    let mut settings = Settings {
        seed: args.seed,
        daemons: 1,
        clients: 2,
        time: Duration::from_secs(1),
        plan: FaultPlan::parse(&plan, Format::Toml).unwrap(),
        between: Duration::from_millis(args.between),
        pause: Duration::from_secs(1),
        allocated: || ALLOCATOR.allocated(),
    };
    // What is made once a process is made now.
    let mut wrong = run(&settings).await.wrong;
    settings.daemons = args.daemons;
    settings.clients = args.clients;
    settings.time = Duration::from_secs_f64(args.minutes * 60.0);
    let report = run(&settings).await;
    let sessions = report.counts.get("sessions").copied().unwrap_or_default() as i64;
    if report.bytes[1] > MOST_KEPT + sessions * MOST_PER_SESSION {
        wrong.push(format!("{} bytes are kept of {sessions} sessions", report.bytes[1]));
    }
    if report.bytes[2] > MOST_LEFT {
        wrong.push(format!("{} bytes are left", report.bytes[2]));
    }
    wrong.extend(report.wrong.iter().cloned());
    // A run without the trouble that it is about shows nothing.
    let idle = report.faults.iter().filter(|(_, fired)| **fired == 0);
    wrong.extend(idle.map(|(rule, _)| format!("{rule} never fired; run for longer")));
    // Without stdout there is still the exit code.
    let _ = writeln!(std::io::stdout(), "{}{wrong:?}", report.text());
    ExitCode::from(u8::from(!wrong.is_empty()))
}
