//! Close: after it nothing is delivered any more.

use std::collections::BTreeSet;

use sideband_sim_kit::event::{Event, EventKind};

use super::Invariant;

/// Clients that are closed hear nothing, and none of their calls ends well.
#[derive(Default)]
pub(super) struct NothingAfter {
    closed: BTreeSet<String>,
}

impl Invariant for NothingAfter {
    fn name(&self) -> &'static str {
        "nothing-after-close"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        let host = &event.host;
        match &event.kind {
            EventKind::Endpoint { report, .. }
                if event.session.is_none() && (report == "closed" || report == "ended") =>
            {
                self.closed.insert(host.clone());
            }
            EventKind::Endpoint { report, detail }
                if report == "state" && detail != "closed" && self.closed.contains(host) =>
            {
                broken.push(format!("{host}: {detail} after it was closed"));
            }
            EventKind::Delivered { event: name, .. } if self.closed.contains(host) => {
                broken.push(format!("{host}: {name} was delivered after close"));
            }
            EventKind::CallEnded { name, outcome, .. } if outcome == "result" && self.closed.contains(host) => {
                broken.push(format!("{host}: the call {name} ended well after close"));
            }
            _ => {}
        }
    }

    fn gone(&mut self, host: &str) {
        self.closed.remove(host);
    }
}
