//! `scenario merge`: the reports of all shards as one.

use std::{fs, path::PathBuf};

use anyhow::anyhow;
use clap::Args;
use sideband_scenarios::{merge::merge, sweep::Report};

use super::sweep::told;
use crate::{
    failure::{Details, Failure},
    output::Output,
};

/// Most bytes of a report.
const MAX_REPORT: u64 = 64 << 20;

/// Flags of `scenario merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  sideband-sim scenario merge shard-*.json --report all.json

Exit code 1: a seed failed in some shard, or all together did not reach what the scenario lists.
Exit code 2: the reports are not those of all shards of one sweep.")]
pub(super) struct MergeArgs {
    /// The reports of all shards, as `scenario sweep --report` writes them
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    /// Write the report to this file as JSON
    #[arg(long, env = "SIDEBAND_SIM_REPORT", value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) async fn run(args: MergeArgs, out: &Output) -> Result<(), Failure> {
    let mut reports = Vec::new();
    for path in &args.reports {
        reports.push((path.display().to_string(), read(path)?));
    }
    let wrong = |error| {
        let details = Details { code: Some("reports_do_not_fit".to_owned()), ..Details::default() };
        Failure::misuse(anyhow::Error::from(error)).details(details)
    };
    let merged = merge(&reports).map_err(wrong)?;
    told(&merged, args.report.as_deref(), out).await
}

fn read(path: &std::path::Path) -> Result<Report, Failure> {
    let called = path.display();
    let cannot = |error: std::io::Error| Failure::misuse(anyhow!("cannot read {called}: {error}"));
    if fs::metadata(path).map_err(cannot)?.len() > MAX_REPORT {
        return Err(Failure::misuse(anyhow!("{called} is longer than {MAX_REPORT} bytes: that is no report")));
    }
    let text = fs::read_to_string(path).map_err(cannot)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::misuse(anyhow!("{called} is no report of a sweep: {error}"))
            .hint("`sideband-sim scenario sweep NAME --report FILE` writes one")
    })
}
