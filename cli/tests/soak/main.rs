//! The short form of `cargo run --release -p sideband-tests --example soak -- --up`: endpoints of the SDK on the binary, whose relay and
//! API fail again and again; then its trace, its counters and what it kept are judged.
//!
//! A binary of its own: the allocator that counts is the whole process's.

#[expect(dead_code, reason = "the others use more of it")]
#[path = "../../../tests/tests/soak/parts.rs"]
mod parts;

use std::{alloc::System, io::Write as _, path::Path, time::Duration};

use cap::Cap;
use parts::{
    place::Where,
    process::Up,
    run::{Settings, interrupt, run},
};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What the endpoints' process may keep: room in tables and queues, and of its runtime.
const MOST_LEFT: i64 = 256 << 10;

/// `up` with the faults of the short soak from its start; the trace is this test's own.
fn settings(trace: &Path, daemons: usize, clients: usize, secs: u64) -> Settings {
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tests/soak/flaky.toml");
    let up = Up {
        binary: env!("CARGO_BIN_EXE_sideband-sim").into(),
        args: ["--faults", plan].map(str::to_owned).into(),
        trace: trace.to_owned(),
    };
    Settings {
        place: Where::Up(up),
        seed: 7,
        daemons,
        clients,
        time: Duration::from_secs(secs),
        plan: None,
        between: Duration::from_millis(100),
        restart_every: 40,
        pause: Duration::from_millis(200),
        allocated: || ALLOCATOR.allocated(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_endpoints_outlive_a_flaky_process_and_its_trace_is_what_happened() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let trace = folder.path().join("trace.ndjson");
    // What is made once a process is made now; and it ends while all are connected.
    let first = interrupt(&settings(&trace, 2, 4, 1)).await;
    assert_eq!(first.wrong, [""; 0]);
    let report = run(&settings(&trace, 5, 20, 8)).await;
    let _ = writeln!(std::io::stdout(), "{}", report.text());
    assert_eq!(report.wrong, [""; 0]);
    // It was as rough as it should be, and there was something to judge.
    assert!(report.cut_daemons > 5 && report.cut_clients > 5 && report.restarts > 0, "{report:?}");
    assert!(report.faults.values().all(|fired| *fired > 0) && report.calls > 100 && report.lines > 1_000, "{report:?}");
    assert_eq!(report.tasks[1..], [0, 0]);
    assert!(report.bytes[2] < MOST_LEFT, "{report:?}");
}
