//! The states of hosts: what they say of themselves, and what the relay sees of those without a voice.

use sideband_sim_kit::event::{Direction, Event, EventKind, Role};

use super::{
    super::{
        model::{Bar, BarState, ColumnKind},
        who::Key,
    },
    Builder,
};

impl Builder<'_> {
    /// Follows states.
    pub(super) fn follow(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Endpoint { report, detail } => {
                let Some(column) = self.own(event) else { return };
                match (report.as_str(), self.columns[column].kind) {
                    ("state", _) => self.enter(column, BarState::named(detail)),
                    ("pending", ColumnKind::Client) => self.enter(column, Some(BarState::Pending)),
                    ("online", _) => self.enter(column, Some(BarState::Online)),
                    ("offline", _) => self.enter(column, Some(BarState::Offline)),
                    ("ended", ColumnKind::Daemon) | ("closed", ColumnKind::Client) => self.enter(column, None),
                    _ => {}
                }
            }
            // What has a voice speaks for itself.
            EventKind::Opened { connection, role, .. } => {
                let Some(column) = self.silent(event, *connection) else { return };
                match role {
                    Role::Client => {
                        let state = if self.frames { BarState::Negotiating } else { BarState::Active };
                        self.enter(column, Some(state));
                    }
                    Role::Daemon => {
                        *self.sockets.entry(column).or_default() += 1;
                        self.enter(column, Some(BarState::Online));
                    }
                }
            }
            EventKind::Closed { connection, .. } => {
                let Some(column) = self.silent(event, *connection) else { return };
                if self.columns[column].kind == ColumnKind::Client {
                    return self.enter(column, None);
                }
                let sockets = self.sockets.entry(column).or_default();
                *sockets = sockets.saturating_sub(1);
                if *sockets == 0 {
                    self.enter(column, Some(BarState::Offline));
                }
            }
            EventKind::Frame { connection, direction: Direction::In, frame, .. } if frame == "data" => {
                let Some(column) = self.silent(event, *connection) else { return };
                if self.bars.get(&column).is_some_and(|bar| bar.state == BarState::Negotiating) {
                    self.enter(column, Some(BarState::Active));
                }
            }
            EventKind::Session { state } => {
                let key = event.session.and_then(|session| self.who.client_of(session));
                let Some(column) = key.and_then(|key| self.silent_key(key)) else { return };
                let now = self.bars.get(&column).map(|bar| bar.state);
                match (state.as_str(), now) {
                    ("paused", _) => self.enter(column, Some(BarState::Paused)),
                    ("pending", _) => self.enter(column, Some(BarState::Pending)),
                    ("paired", Some(BarState::Paused | BarState::Pending)) => {
                        self.enter(column, Some(BarState::Active))
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn silent(&self, event: &Event, connection: u64) -> Option<usize> {
        self.silent_key(&(event.host.clone(), connection))
    }

    fn silent_key(&self, key: &Key) -> Option<usize> {
        let column = *self.of_connection.get(key)?;
        (!self.of_host.values().any(|of| *of == column)).then_some(column)
    }

    fn enter(&mut self, column: usize, state: Option<BarState>) {
        let here = self.here();
        if let Some(bar) = self.bars.get(&column).copied() {
            if Some(bar.state) == state {
                return;
            }
            self.bars.remove(&column);
            if bar.from != here {
                self.ended.push(Bar { to: Some(here), ..bar });
            }
        }
        if let Some(state) = state {
            self.bars.insert(column, Bar { column, state, from: here, to: None });
        }
    }
}
