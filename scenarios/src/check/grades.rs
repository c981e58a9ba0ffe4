//! Grades: endpoints of the SDK keep the rules, so that none is told that it broke one.

use sideband_sim_kit::event::{Event, EventKind};

use super::Invariant;

/// No grade.
pub(super) struct NoGrade;

impl Invariant for NoGrade {
    fn name(&self) -> &'static str {
        "no-grade"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        if let EventKind::Grade { rule, party, evidence, .. } = &event.kind {
            broken.push(format!("{}: a {party:?} broke {rule}: {evidence}", event.host));
        }
    }
}
