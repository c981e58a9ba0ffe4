//! Calls: each ends exactly once, with its own answer, and they arrive in the order made.

use std::collections::BTreeMap;

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Event, EventKind};

use super::Invariant;

/// A call ends exactly once.
#[derive(Default)]
pub(super) struct EndsOnce {
    /// Calls under way, with who made them and what they are called.
    open: BTreeMap<u64, (String, String)>,
}

impl Invariant for EndsOnce {
    fn name(&self) -> &'static str {
        "call-ends-once"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        match &event.kind {
            EventKind::Call { call, name, .. } => {
                self.open.insert(*call, (event.host.clone(), name.clone()));
            }
            EventKind::CallEnded { call, name, outcome, .. } => {
                let known = self.open.remove(call).is_some();
                broken.extend((!known).then(|| format!("{}: the call {name} ended again, with {outcome}", event.host)));
            }
            _ => {}
        }
    }

    fn gone(&mut self, host: &str) {
        self.open.retain(|_, (who, _)| who != host);
    }

    fn finish(&mut self, broken: &mut Vec<String>) {
        broken.extend(self.open.values().map(|(host, name)| format!("{host}: the call {name} never ended")));
    }
}

/// A call ends with the answer of its own request.
pub(super) struct OwnAnswer;

impl Invariant for OwnAnswer {
    fn name(&self) -> &'static str {
        "call-own-answer"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        if let EventKind::CallEnded { name, own: Some(false), .. } = &event.kind {
            broken.push(format!("{}: the call {name} got the answer of another", event.host));
        }
    }
}

/// Calls of one client arrive in the order in which they were made, those that waited for a session too (CLI-09).
#[derive(Default)]
pub(super) struct InOrder {
    last: BTreeMap<(String, Option<SessionId>), u64>,
}

impl Invariant for InOrder {
    fn name(&self) -> &'static str {
        "calls-in-order"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        let EventKind::Served { call, method } = &event.kind else { return };
        let last = self.last.entry((event.host.clone(), event.session)).or_default();
        if call <= last {
            broken.push(format!("{}: call {call} ({method}) arrived after call {last}", event.host));
        }
        *last = (*last).max(*call);
    }
}
