//! The same run in another process: what must be the same byte for byte.

use std::{
    io::{BufReader, Write},
    process::{Command, Stdio},
};

use anyhow::anyhow;
use sideband_scenarios::{
    diff::{Comparison, compare},
    trace::Trace,
};

use crate::failure::Failure;

/// How the variables of flags begin.
const VARIABLES: &str = "SIDEBAND_SIM_";

/// Runs a scenario, handed over as its file, in another process of this binary and compares the traces.
pub(super) fn compared(scenario: &str, seed: u64, trace: &Trace) -> Result<Comparison, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::cannot_run(anyhow!("cannot run the scenario in another process: {error}"))
            .hint("--once runs it in this one only")
    };
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = Command::new(program);
    command.args(["scenario", "run", "-", "--once", "--print-trace", "--seed", &seed.to_string()]);
    // What this process was told by variables is in the file and the flags already.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(VARIABLES) {
            command.env_remove(name);
        }
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().map_err(cannot)?;
    // It reads all before it writes. Dropped afterwards, so that it sees the end.
    let given = child.stdin.take().map(|mut stdin| stdin.write_all(scenario.as_bytes()));
    let read = child.stdout.take().map(|stdout| Trace::parse_ndjson(BufReader::new(stdout)));
    let status = child.wait().map_err(cannot)?;
    given.transpose().map_err(cannot)?;
    match read {
        Some(Ok(other)) if status.success() => Ok(compare(trace, &other)),
        Some(Err(error)) if status.success() => {
            Err(Failure::cannot_run(anyhow!("the other process wrote no trace: {error}")))
        }
        Some(_) | None => Err(Failure::cannot_run(anyhow!("the other process did not run the scenario: {status}"))),
    }
}
