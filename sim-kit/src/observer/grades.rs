//! Grades: marks as events, the admin API and logs show them, and the books of a process over them.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use sideband_protocol::SessionId;
use utoipa::ToSchema;

use super::{MarkFor, Rule};
use crate::event::Role;

/// How many of the newest grades are kept; all are counted.
pub const KEPT_GRADES: usize = 1_024;

/// A breach of a rule by an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grade {
    /// Milliseconds since the start of the time line.
    pub at: u64,
    /// Which host saw it.
    pub host: String,
    /// The rule's id in `docs/spec`.
    pub rule: String,
    /// Who broke it.
    pub party: Role,
    /// The relay's number for the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
    /// The daemon: the one that broke it, or that of the client's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<String>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// What shows it, for people.
    pub evidence: String,
    /// How many times this endpoint broke this rule so far; told at powers of two.
    pub times: u32,
}

/// How often a rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GradeCount {
    /// The rule's id.
    pub rule: String,
    /// By whom.
    pub party: Role,
    /// How often, each time counted.
    pub count: u64,
}

/// Answer of `grades`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grades {
    /// The newest [`KEPT_GRADES`], oldest first.
    pub grades: Vec<Grade>,
    /// All since the start or the last reset, in the order of the rules.
    pub counts: Vec<GradeCount>,
}

/// The books over the grades of a process.
#[derive(Debug, Default)]
pub struct GradeLog {
    newest: VecDeque<Grade>,
    counts: BTreeMap<(Rule, Role), u64>,
}

impl GradeLog {
    /// Counts a mark, as seen by a host; returns it as a grade if it is one that is told ([`Mark::is_told`](super::Mark::is_told)).
    pub fn add(&mut self, host: &str, marked: MarkFor) -> Option<Grade> {
        let MarkFor { daemon, mark } = marked;
        let count = self.counts.entry((mark.rule, mark.party)).or_default();
        *count = count.saturating_add(1);
        if !mark.is_told() {
            return None;
        }
        let grade = Grade {
            at: mark.at,
            host: host.to_owned(),
            rule: mark.rule.id().to_owned(),
            party: mark.party,
            connection: mark.connection,
            daemon,
            session: mark.session,
            evidence: mark.evidence,
            times: mark.times,
        };
        if self.newest.len() == KEPT_GRADES {
            self.newest.pop_front();
        }
        self.newest.push_back(grade.clone());
        Some(grade)
    }

    /// What is in them.
    pub fn grades(&self) -> Grades {
        let count =
            |(&(rule, party), &count): (&(Rule, Role), &u64)| GradeCount { rule: rule.id().to_owned(), party, count };
        Grades { grades: self.newest.iter().cloned().collect(), counts: self.counts.iter().map(count).collect() }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
