//! Faults of a WebSocket that is open.

use std::sync::Arc;

use sideband_protocol::{
    Instant, SessionId,
    relay::{ConnId, Watched},
};
use sideband_sim_kit::{
    event::Role,
    fault::{ConnectionAction, ConnectionWatch, Limit, Place, RuleKey},
};
use tokio::sync::watch;

use super::FaultEnd;
use crate::{hub::Hub, lane::Wait, outbox::Outbox, relay::Relay};

/// What a connection's task has to do about itself.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Pause(Wait),
    /// Until the rule is gone or over.
    Limit(Limit, RuleKey),
}

/// The faults of one connection. To look costs one load while nothing changes.
pub(crate) struct Watching {
    relay: Relay,
    watch: ConnectionWatch,
    changes: watch::Receiver<()>,
    session: Option<SessionId>,
    /// Nobody has looked yet.
    new: bool,
}

impl Watching {
    /// Of a connection that opens now.
    pub(crate) fn new(relay: &Relay, hub: &Hub, outbox: &Outbox, session: Option<SessionId>) -> Self {
        let role = match outbox.whose() {
            Watched::Client => Role::Client,
            Watched::Daemon => Role::Daemon,
        };
        let faults = relay.faults();
        let changes = faults.changes();
        let watch = faults.connection(role, &hub.daemon_id, outbox.user(), session);
        Self { relay: relay.clone(), watch, changes, session, new: true }
    }

    /// When to look again, unless the rules change before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.watch.poll_timeout()
    }

    /// Lets the faults happen whose time has come; what is left to the connection's task.
    pub(crate) fn poll(&mut self, conn: ConnId, hub: &Arc<Hub>, now: Instant) -> Vec<Command> {
        // An error would mean that the engine is gone, which this watch itself prevents.
        let changed = self.changes.has_changed().unwrap_or(false);
        if !self.new && !changed && self.watch.poll_timeout().is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.new = false;
        self.changes.mark_unchanged();
        let mut commands = Vec::new();
        for fault in self.watch.poll() {
            fault.report(Place::RelayConnection, self.relay.events(), Some(&hub.daemon_id), self.session);
            let rule = fault.key();
            let end = match fault.action {
                ConnectionAction::Cut => FaultEnd::Cut,
                ConnectionAction::Close(closing) => FaultEnd::Close(closing),
                ConnectionAction::Control(control) if control.is_terminal() => FaultEnd::Control(control, self.session),
                ConnectionAction::Control(control) => {
                    hub.with(|turn| turn.tell_by_fault(conn, control, self.session));
                    continue;
                }
                ConnectionAction::Ghost => FaultEnd::Ghost,
                ConnectionAction::Pause(time) => {
                    let mut pause = Wait::new(now);
                    pause.add(rule, time);
                    commands.push(Command::Pause(pause));
                    continue;
                }
                ConnectionAction::Limit(limit) => {
                    commands.push(Command::Limit(limit, rule));
                    continue;
                }
                ConnectionAction::Restart(down) => {
                    let relay = self.relay.clone();
                    // A task of its own: it outlives this connection. A restart under way makes this one nothing.
                    tokio::spawn(async move { relay.restart(down).await });
                    continue;
                }
            };
            hub.with(|turn| turn.end_by_fault(conn, end));
        }
        commands
    }
}
