//! Events: each arrives at most once, in the order sent.

use std::collections::BTreeMap;

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Event, EventKind};

use super::Invariant;

/// Numbers of one event only rise at who hears it.
#[derive(Default)]
pub(super) struct InOrder {
    last: BTreeMap<(String, Option<SessionId>, String), u64>,
}

impl Invariant for InOrder {
    fn name(&self) -> &'static str {
        "events-in-order"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        let EventKind::Delivered { event: name, number: Some(number) } = &event.kind else { return };
        let last = self.last.entry((event.host.clone(), event.session, name.clone())).or_default();
        if number <= last {
            broken.push(format!("{}: {name} {number} arrived after {name} {last}", event.host));
        }
        *last = (*last).max(*number);
    }
}
