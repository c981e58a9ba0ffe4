//! Nonces: none is used twice under one key.

use std::collections::BTreeSet;

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Direction, Event, EventKind};

use super::Invariant;

/// A session has one key for each direction, so what an endpoint sends there has a new sequence each time.
#[derive(Default)]
pub(super) struct Once {
    used: BTreeSet<(SessionId, u32, u64)>,
}

impl Invariant for Once {
    fn name(&self) -> &'static str {
        "nonce-once"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        let EventKind::Frame { direction: Direction::In, detail, .. } = &event.kind else { return };
        let (Some(session), Some(way), Some(sequence)) = (event.session, detail.direction_of_nonce, detail.sequence)
        else {
            return;
        };
        if !self.used.insert((session, way, sequence)) {
            broken.push(format!("session {session}: the nonce {way}/{sequence} came twice"));
        }
    }
}
