//! One report out of those of all shards of a sweep.
//!
//! Shards belong together if they are of the same scenario under the same seeds, by the same version of the program, and each is there
//! once. What they reached and what failed is joined; only then it shows whether anything is missing that the scenario lists.

use std::collections::{BTreeMap, BTreeSet};

use crate::sweep::{MOST_TOLD, Met, REPORT_VERSION, Report, Shard};

/// Reports that are not those of all shards of one sweep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There is none.
    #[error("there is no report to merge")]
    None,
    /// Another format.
    #[error("{file}: the report has version {version}; this program merges version {REPORT_VERSION}")]
    Version {
        /// Which report.
        file: String,
        /// Its version.
        version: u32,
    },
    /// They differ in what must be the same.
    #[error("{file} is of another sweep than {first}: its {what} is {theirs}, not {ours}")]
    Other {
        /// Which report.
        file: String,
        /// The one that it is compared with.
        first: String,
        /// In what.
        what: &'static str,
        /// What it has.
        theirs: String,
        /// What the first one has.
        ours: String,
    },
    /// One shard twice.
    #[error("{file} and {other} are both shard {shard}")]
    Twice {
        /// Which report.
        file: String,
        /// The other one.
        other: String,
        /// The shard.
        shard: Shard,
    },
    /// Some are not there.
    #[error("of {of} shards, these are not there: {}", list(.missing))]
    Missing {
        /// How many there are.
        of: u64,
        /// Which are missing, from 1; the first hundred.
        missing: Vec<u64>,
    },
    /// A report that does not hold together.
    #[error("{file}: {what}")]
    Broken {
        /// Which report.
        file: String,
        /// What is wrong.
        what: String,
    },
}

fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Joins the reports of all shards, each with the name that errors call it.
///
/// # Errors
/// They do not belong together, or one is missing.
pub fn merge(reports: &[(String, Report)]) -> Result<Report, MergeError> {
    let [(first_file, first), ..] = reports else { return Err(MergeError::None) };
    let mut shards: BTreeMap<u64, &str> = BTreeMap::new();
    for (file, report) in reports {
        if report.version != REPORT_VERSION {
            return Err(MergeError::Version { file: file.clone(), version: report.version });
        }
        same(first_file, first, file, report)?;
        let index = report.shard.index;
        if !(1..=report.shard.of).contains(&index) {
            return Err(MergeError::Broken { file: file.clone(), what: format!("there is no shard {}", report.shard) });
        }
        if let Some(other) = shards.insert(index, file) {
            return Err(MergeError::Twice { file: file.clone(), other: other.to_owned(), shard: report.shard });
        }
    }
    if (shards.len() as u64) < first.shard.of {
        let missing = (1..=first.shard.of).filter(|index| !shards.contains_key(index)).take(100).collect();
        return Err(MergeError::Missing { of: first.shard.of, missing });
    }
    Ok(joined(reports.iter().map(|(_, report)| report), first))
}

/// Whether two reports are of one sweep.
fn same(first_file: &str, first: &Report, file: &str, report: &Report) -> Result<(), MergeError> {
    let seeds = |report: &Report| format!("{}..{}", report.seeds.from, report.seeds.to);
    let facts = |report: &Report| {
        [
            ("scenario", report.scenario.clone()),
            ("scenario's hash", report.hash.clone()),
            ("program version", report.program.clone()),
            ("swarm mode", if report.swarm { "on" } else { "off" }.to_owned()),
            ("range of seeds", seeds(report)),
            ("number of shards", report.shard.of.to_string()),
        ]
    };
    match facts(first).into_iter().zip(facts(report)).find(|(ours, theirs)| ours != theirs) {
        None => Ok(()),
        Some(((what, ours), (_, theirs))) => {
            Err(MergeError::Other { file: file.to_owned(), first: first_file.to_owned(), what, theirs, ours })
        }
    }
}

fn joined<'a>(reports: impl Iterator<Item = &'a Report>, first: &Report) -> Report {
    let mut all = Report {
        shard: Shard::ALL,
        ran: 0,
        stopped: None,
        simulated_ms: 0,
        events: 0,
        wall_ms: None,
        situations: BTreeMap::new(),
        never_reached: BTreeSet::new(),
        last_news: None,
        missing: BTreeSet::new(),
        failed: 0,
        failures: Vec::new(),
        ..first.clone()
    };
    for report in reports {
        all.ran += report.ran;
        all.stopped = all.stopped.or(report.stopped);
        all.simulated_ms += report.simulated_ms;
        all.events += report.events;
        if let Some(wall) = report.wall_ms {
            all.wall_ms = Some(all.wall_ms.unwrap_or_default() + wall);
        }
        for (name, met) in &report.situations {
            let joined = all.situations.entry(name.clone()).or_insert(Met { seeds: 0, first: met.first });
            joined.seeds += met.seeds;
            joined.first = joined.first.min(met.first);
        }
        all.never_reached.extend(report.never_reached.iter().cloned());
        all.failed += report.failed;
        all.failures.extend(report.failures.iter().cloned());
    }
    all.never_reached.retain(|name| !all.situations.contains_key(name));
    all.last_news = all.situations.values().map(|met| met.first).max();
    all.failures.sort_by_key(|failed| failed.seed);
    all.failures.truncate(MOST_TOLD);
    all.judge();
    all
}

#[cfg(test)]
mod tests;
