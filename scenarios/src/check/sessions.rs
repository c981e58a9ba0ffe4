//! Session ids: none is accepted twice.

use std::collections::BTreeSet;

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Event, EventKind, Role};

use super::Invariant;

/// A relay opens one WebSocket for a session id.
#[derive(Default)]
pub(super) struct Once {
    opened: BTreeSet<SessionId>,
}

impl Invariant for Once {
    fn name(&self) -> &'static str {
        "session-once"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        let EventKind::Opened { role: Role::Client, .. } = &event.kind else { return };
        if let Some(session) = event.session
            && !self.opened.insert(session)
        {
            broken.push(format!("{}: the session {session} was accepted again", event.host));
        }
    }
}
