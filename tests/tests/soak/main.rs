//! Many endpoints of the SDK on a cloud that fails again and again: the short form of `cargo run --release --example soak`.
//!
//! A binary of its own: the allocator that counts is the whole process's.

#[expect(dead_code, reason = "the others use more of it")]
#[path = "parts.rs"]
mod parts;

use std::{alloc::System, io::Write as _, time::Duration};

use cap::Cap;
use parts::{
    place::Where,
    run::{Settings, run},
};
use sideband_sim_kit::fault::{FaultPlan, Format};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What a run may leave behind: room in tables and queues of the process, and of its runtime.
const MOST_LEFT: i64 = 256 << 10;

fn settings(daemons: usize, clients: usize, secs: u64) -> Settings {
    Settings {
        place: Where::Inside,
        seed: 7,
        daemons,
        clients,
        time: Duration::from_secs(secs),
        plan: Some(FaultPlan::parse(FLAKY, Format::Toml).unwrap()),
        between: Duration::from_millis(100),
        restart_every: 40,
        pause: Duration::from_millis(200),
        allocated: || ALLOCATOR.allocated(),
    }
}

const FLAKY: &str = include_str!("flaky.toml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_endpoints_outlive_a_flaky_cloud_and_nothing_is_left_of_them() {
    // What is made once a process is made now.
    let first = run(&settings(1, 2, 1)).await;
    assert_eq!(first.wrong, [""; 0]);
    let report = run(&settings(5, 20, 8)).await;
    let _ = writeln!(std::io::stdout(), "{}", report.text());
    assert_eq!(report.wrong, [""; 0]);
    // It was as rough as it should be.
    assert!(report.cut_daemons > 5 && report.cut_clients > 5 && report.restarts > 0, "{report:?}");
    assert!(report.faults.values().all(|fired| *fired > 0) && report.calls > 100, "{report:?}");
    assert_eq!(report.tasks[1..], [0, 0]);
    assert!(report.bytes[2] < MOST_LEFT, "{report:?}");
}
