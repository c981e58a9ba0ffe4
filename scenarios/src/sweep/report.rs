//! The report of a sweep. `docs/sweeps.md` describes its JSON.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Shard;
use crate::{scenario::Scenario, sim::Failure};

/// The version of the format; reports of others are not merged.
pub const REPORT_VERSION: u32 = 1;

/// What came of a sweep, of a shard of one, or of all shards together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The scenario's name.
    pub scenario: String,
    /// SHA-256 of the scenario, in hex.
    pub hash: String,
    /// The version of the program.
    pub program: String,
    /// Whether each seed drew trouble and load.
    pub swarm: bool,
    /// The seeds of the whole sweep.
    pub seeds: SeedRange,
    /// The part of them that this is about.
    pub shard: Shard,
    /// How many were run and count.
    pub ran: u64,
    /// Why it ended before its last seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// Virtual milliseconds of all runs.
    pub simulated_ms: u64,
    /// Events of all runs.
    pub events: u64,
    /// Milliseconds on the wall, of all shards together; the one member that differs between two sweeps of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// The situations that were reached.
    pub situations: BTreeMap<String, Met>,
    /// Those that were not.
    pub never_reached: BTreeSet<String>,
    /// The seed that reached a situation for the first time last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_news: Option<u64>,
    /// What the scenario says that a sweep reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listed>,
    /// What of that was not reached although enough seeds were run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub missing: BTreeSet<String>,
    /// How many seeds failed.
    pub failed: u64,
    /// The first of them ([`MOST_TOLD`](super::MOST_TOLD)), by seed.
    pub failures: Vec<SeedFailed>,
}

/// Seeds from one up to, and without, another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeedRange {
    /// The first.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
}

/// A situation that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Met {
    /// By how many seeds.
    pub seeds: u64,
    /// The first of them.
    pub first: u64,
}

/// What a sweep is to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listed {
    /// Within how many seeds.
    pub within: u64,
    /// Which situations.
    pub situations: BTreeSet<String>,
}

/// A seed that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeedFailed {
    /// Which.
    pub seed: u64,
    /// How.
    pub failures: Vec<Failure>,
    /// The command that shows it again.
    pub reproduce: String,
}

/// Why a sweep ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// At the first failure.
    Failure,
    /// No new situation for a while.
    Plateau,
}

impl Report {
    /// Whether nothing failed and nothing is missing.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.missing.is_empty()
    }

    /// Finds what is missing, once enough seeds were run; a shard alone cannot tell.
    pub(crate) fn judge(&mut self) {
        self.missing = match &self.listed {
            Some(listed) if self.shard == Shard::ALL && self.ran >= listed.within => {
                listed.situations.iter().filter(|name| !self.situations.contains_key(*name)).cloned().collect()
            }
            Some(_) | None => BTreeSet::new(),
        };
    }

    /// The report as a file.
    pub fn to_json(&self) -> String {
        // Texts and numbers only: it always becomes JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// What two sweeps of the same scenario have in common.
pub fn scenario_hash(scenario: &Scenario) -> String {
    HEXLOWER.encode(&Sha256::digest(scenario.to_toml()))
}

/// The command that runs one seed again.
pub fn reproduce_line(called: &str, seed: u64, swarm: bool) -> String {
    let swarm = if swarm { " --swarm" } else { "" };
    format!("sideband-sim scenario run {} --seed {seed}{swarm}", quoted(called))
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
