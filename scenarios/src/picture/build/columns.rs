//! Which columns there are, and which of them an event is about.

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Event, EventKind, Role};

use super::{
    super::{
        model::{Column, ColumnKind, MAX_COLUMNS},
        words,
    },
    Builder,
};

impl Builder<'_> {
    fn column(&mut self, kind: ColumnKind, name: &str, about: &str) -> usize {
        self.columns.push(Column { kind, name: words::shorten(name, 60), about: words::shorten(about, 60) });
        self.columns.len() - 1
    }

    /// Clients, relays, daemons, APIs: most messages go through the relay, which stands between.
    pub(super) fn lay_columns(&mut self) {
        let who = self.who;
        let voices =
            |wanted: Role| who.endpoints().iter().filter(move |(_, role)| **role == wanted).map(|(host, _)| host);
        for host in voices(Role::Client) {
            let column = self.room(ColumnKind::Client, host, "");
            self.of_host.insert(host.clone(), column);
        }
        for (key, connection) in who.connections().iter().filter(|(_, connection)| connection.role == Role::Client) {
            let column = match connection.host.as_ref().and_then(|host| self.of_host.get(host)) {
                Some(column) => *column,
                None => {
                    let session = connection.session.and_then(|session| self.names.get(&session));
                    let about = session.map(|session| format!("client, {session}")).unwrap_or_default();
                    self.room(ColumnKind::Client, &format!("#{}", key.1), &about)
                }
            };
            self.of_connection.insert(key.clone(), column);
        }
        for host in who.relays() {
            let column = self.column(ColumnKind::Relay, host, "");
            self.of_host.insert(host.clone(), column);
        }
        for host in voices(Role::Daemon) {
            let column = self.column(ColumnKind::Daemon, host, who.daemon_of(host).unwrap_or_default());
            self.of_host.insert(host.clone(), column);
        }
        for (key, connection) in who.connections().iter().filter(|(_, connection)| connection.role == Role::Daemon) {
            let known = connection.host.as_ref().and_then(|host| self.of_host.get(host)).copied();
            let daemon = connection.daemon.clone().unwrap_or_default();
            let column = known.or_else(|| self.of_daemon.get(&daemon).copied());
            let column = column.unwrap_or_else(|| self.column(ColumnKind::Daemon, "daemon", &daemon));
            self.of_connection.insert(key.clone(), column);
            self.of_daemon.insert(daemon, column);
        }
        for host in who.apis() {
            if !self.of_host.contains_key(host) {
                let column = self.column(ColumnKind::Api, host, "");
                self.of_host.insert(host.clone(), column);
            }
        }
    }

    /// A client's column, or the last one for those who find no room.
    fn room(&mut self, kind: ColumnKind, name: &str, about: &str) -> usize {
        match self.columns.len() {
            MAX_COLUMNS => {
                let last = &mut self.columns[MAX_COLUMNS - 1];
                (last.name, last.about) = ("others".to_owned(), "clients without room".to_owned());
                MAX_COLUMNS - 1
            }
            _ => self.column(kind, name, about),
        }
    }

    fn endpoint(&self, event: &Event, connection: u64) -> Option<usize> {
        self.of_connection.get(&(event.host.clone(), connection)).copied()
    }

    pub(super) fn own(&self, event: &Event) -> Option<usize> {
        self.of_host.get(&event.host).copied()
    }

    fn daemon(&self, daemon: &str) -> Option<usize> {
        let host = self.who.daemon_host(daemon).and_then(|host| self.of_host.get(host));
        host.or_else(|| self.of_daemon.get(daemon)).copied()
    }

    fn client(&self, session: SessionId) -> Option<usize> {
        let of = self.who.client_of(session).and_then(|key| self.of_connection.get(key));
        of.or_else(|| self.of_host.get(self.who.client_host(session)?)).copied()
    }

    /// The column of the endpoint that an event is about, as far as it is known.
    pub(super) fn concerns(&self, event: &Event) -> Option<usize> {
        match &event.kind {
            EventKind::Opened { connection, .. }
            | EventKind::Closed { connection, .. }
            | EventKind::MessageRefused { connection, .. }
            | EventKind::Frame { connection, .. }
            | EventKind::Control { connection, .. }
            | EventKind::Dropped { connection, .. }
            | EventKind::RateLimited { connection, .. }
            | EventKind::Swept { connection }
            | EventKind::Grade { connection: Some(connection), .. } => self.endpoint(event, *connection),
            EventKind::UpgradeRefused { role: Some(Role::Client), .. } => event.session.and_then(|id| self.client(id)),
            EventKind::UpgradeRefused { role: Some(Role::Daemon), .. }
            | EventKind::Grade { party: Role::Daemon, .. } => event.daemon.as_deref().and_then(|id| self.daemon(id)),
            EventKind::Grade { party: Role::Client, .. } => event.session.and_then(|id| self.client(id)),
            EventKind::Request { procedure, .. } => {
                if procedure.starts_with("/.well-known/") {
                    let mut relays = self.who.relays().iter();
                    return relays
                        .next()
                        .filter(|_| relays.next().is_none())
                        .and_then(|relay| self.of_host.get(relay))
                        .copied();
                }
                if let Some(session) = event.session {
                    return self.client(session);
                }
                let by_key = procedure.starts_with("daemon.renew") || procedure == "quickConnect.create";
                event.daemon.as_deref().filter(|_| by_key).and_then(|daemon| self.daemon(daemon))
            }
            _ => self.own(event),
        }
    }
}
