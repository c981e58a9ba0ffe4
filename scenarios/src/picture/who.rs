//! Which host a connection belongs to.
//!
//! The relay speaks of connections by number, endpoints speak under the name of their host, and no event says which is which. It is
//! derived: a daemon's host by the sessions that it names; a client's by its report that it negotiates, which stands between the
//! opening of its WebSocket and the arrival of its HandshakeInit. Of several connections that fit, the one whose HandshakeInit comes
//! first is taken. Who knows better says so with [`Who::tell`] before anything is derived.

use std::collections::{BTreeMap, BTreeSet};

use sideband_protocol::SessionId;
use sideband_sim_kit::event::{Direction, Event, EventKind, Role};

/// A connection: the host of its relay, and that relay's number for it.
pub type Key = (String, u64);

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Who it is.
    pub role: Role,
    /// The daemon that it is, or speaks to.
    pub daemon: Option<String>,
    /// A client's session.
    pub session: Option<SessionId>,
    /// When it opened, in milliseconds.
    pub opened: u64,
    /// The host that it belongs to, as far as it is known.
    pub host: Option<String>,
    /// When its HandshakeInit came; until then its host may say that it negotiates.
    init: Option<u64>,
}

/// Hosts, connections, and who is who.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    told: BTreeMap<Key, String>,
    connections: BTreeMap<Key, Connection>,
    /// Sessions that the API made, by the host that asked.
    asked: BTreeMap<SessionId, String>,
    daemons: BTreeMap<String, String>,
    endpoints: BTreeMap<String, Role>,
    relays: BTreeSet<String>,
    apis: BTreeSet<String>,
}

impl Who {
    /// Says that a connection belongs to a host, whatever would be derived.
    pub fn tell(&mut self, connection: Key, host: &str) {
        self.told.insert(connection, host.to_owned());
    }

    /// Derives the rest from a trace.
    pub fn learn(&mut self, events: &[Event]) {
        self.collect(events);
        self.match_daemons(events);
        self.match_clients(events);
        for (key, host) in self.told.clone() {
            if let Some(connection) = self.connections.get_mut(&key) {
                if let (Role::Daemon, Some(daemon)) = (connection.role, &connection.daemon) {
                    self.daemons.insert(daemon.clone(), host.clone());
                }
                connection.host = Some(host);
            }
        }
        self.match_requests(events);
    }

    /// The connection of this number at this relay.
    pub fn connection(&self, relay: &str, number: u64) -> Option<&Connection> {
        self.connections.get(&(relay.to_owned(), number))
    }

    /// Every connection, by relay and number.
    pub fn connections(&self) -> &BTreeMap<Key, Connection> {
        &self.connections
    }

    /// The host of a daemon.
    pub fn daemon_host(&self, daemon: &str) -> Option<&str> {
        self.daemons.get(daemon).map(String::as_str)
    }

    /// The daemon that a host runs.
    pub fn daemon_of(&self, host: &str) -> Option<&str> {
        self.daemons.iter().find(|(_, of)| *of == host).map(|(daemon, _)| daemon.as_str())
    }

    /// The host of a session's client.
    pub fn client_host(&self, session: SessionId) -> Option<&str> {
        let of = self.connections.values().find(|connection| connection.session == Some(session));
        of.and_then(|connection| connection.host.as_deref()).or_else(|| self.asked.get(&session).map(String::as_str))
    }

    /// The connection of a session's client.
    pub fn client_of(&self, session: SessionId) -> Option<&Key> {
        self.connections.iter().find(|(_, connection)| connection.session == Some(session)).map(|(key, _)| key)
    }

    /// Hosts that speak for themselves, and what they are.
    pub fn endpoints(&self) -> &BTreeMap<String, Role> {
        &self.endpoints
    }

    /// Hosts that are relays.
    pub fn relays(&self) -> &BTreeSet<String> {
        &self.relays
    }

    /// Hosts that are APIs.
    pub fn apis(&self) -> &BTreeSet<String> {
        &self.apis
    }

    fn collect(&mut self, events: &[Event]) {
        for event in events {
            match &event.kind {
                EventKind::Opened { connection, role, .. } => {
                    self.relays.insert(event.host.clone());
                    let session = event.session.filter(|_| *role == Role::Client);
                    let opened = Connection {
                        role: *role,
                        daemon: event.daemon.clone(),
                        session,
                        opened: event.at,
                        host: None,
                        init: None,
                    };
                    self.connections.insert((event.host.clone(), *connection), opened);
                }
                EventKind::Frame { connection, direction: Direction::In, frame, .. } if frame == "handshake_init" => {
                    let of = self.connections.get_mut(&(event.host.clone(), *connection));
                    if let Some(connection) = of {
                        connection.init.get_or_insert(event.at);
                    }
                }
                EventKind::UpgradeRefused { .. }
                | EventKind::Frame { .. }
                | EventKind::Session { .. }
                | EventKind::KeySet { .. }
                | EventKind::LimitsChanged
                | EventKind::Restarted => {
                    self.relays.insert(event.host.clone());
                }
                EventKind::Request { .. } | EventKind::KeysRotated { .. } => {
                    self.apis.insert(event.host.clone());
                }
                EventKind::Endpoint { report, .. } => {
                    let role = match report.as_str() {
                        "online" | "offline" | "opened" | "paused" | "refused" | "ended" => Some(Role::Daemon),
                        "state" | "connected" | "disconnected" => Some(Role::Client),
                        _ if event.session.is_some() => Some(Role::Daemon),
                        _ if event.host.starts_with("daemon") => Some(Role::Daemon),
                        _ => None,
                    };
                    match role {
                        Some(role) => _ = self.endpoints.insert(event.host.clone(), role),
                        None => _ = self.endpoints.entry(event.host.clone()).or_insert(Role::Client),
                    }
                }
                _ => {}
            }
        }
    }

    fn match_daemons(&mut self, events: &[Event]) {
        let daemons: Vec<&str> =
            self.endpoints.iter().filter(|(_, role)| **role == Role::Daemon).map(|(host, _)| host.as_str()).collect();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut of_session: BTreeMap<SessionId, &str> = BTreeMap::new();
        for event in events {
            if let (Some(session), Some(daemon)) = (event.session, &event.daemon) {
                of_session.insert(session, daemon);
            }
        }
        for event in events.iter().filter(|event| self.endpoints.get(&event.host) == Some(&Role::Daemon)) {
            let daemon = event.daemon.as_deref().or_else(|| of_session.get(&event.session?).copied());
            if let Some(daemon) = daemon {
                known.entry(daemon.to_owned()).or_insert_with(|| event.host.clone());
            }
        }
        // One host and one daemon left belong together.
        let ids: BTreeSet<&str> = self
            .connections
            .values()
            .filter_map(|connection| connection.daemon.as_deref())
            .filter(|id| !known.contains_key(*id))
            .collect();
        let free: Vec<&&str> = daemons.iter().filter(|host| !known.values().any(|of| of == **host)).collect();
        if let (Some(id), [host], 1) = (ids.first(), free.as_slice(), ids.len()) {
            known.insert((*id).to_owned(), (**host).to_owned());
        }
        for connection in self.connections.values_mut().filter(|connection| connection.role == Role::Daemon) {
            connection.host = connection.daemon.as_ref().and_then(|daemon| known.get(daemon).cloned());
        }
        self.daemons = known;
    }

    fn match_clients(&mut self, events: &[Event]) {
        let negotiates = |event: &&Event| matches!(&event.kind, EventKind::Endpoint { report, detail } if report == "state" && detail == "negotiating");
        for event in events.iter().filter(negotiates) {
            let fits = |connection: &Connection| {
                connection.role == Role::Client
                    && connection.host.is_none()
                    && connection.opened <= event.at
                    && connection.init.is_none_or(|init| event.at <= init)
            };
            let best = self
                .connections
                .iter_mut()
                .filter(|(key, connection)| !self.told.contains_key(*key) && fits(connection))
                .min_by_key(|(key, connection)| (connection.init.unwrap_or(u64::MAX), connection.opened, key.1));
            if let Some((_, connection)) = best {
                connection.host = Some(event.host.clone());
            }
        }
    }

    /// Sessions that were made and never used belong to the client that has been connecting for the longest, and has none yet.
    fn match_requests(&mut self, events: &[Event]) {
        let mut connecting: BTreeMap<String, u64> = BTreeMap::new();
        for event in events {
            match &event.kind {
                EventKind::Endpoint { report, detail } if report == "state" => {
                    if detail == "connecting" {
                        connecting.insert(event.host.clone(), event.at);
                    } else {
                        connecting.remove(&event.host);
                    }
                }
                EventKind::Request { status: 200, .. } => {
                    let Some(session) = event.session else { continue };
                    let known = self.client_host(session).map(str::to_owned);
                    let oldest = || connecting.iter().min_by_key(|(_, since)| **since).map(|(host, _)| host.clone());
                    if let Some(host) = known.or_else(oldest) {
                        connecting.remove(&host);
                        self.asked.insert(session, host);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world;

    fn of(events: &[Event]) -> Who {
        let mut who = Who::default();
        who.learn(events);
        who
    }

    #[test]
    fn every_connection_of_the_world_finds_its_host() {
        for seed in 0..8 {
            let trace = world::run(seed).unwrap();
            let who = of(trace.events());
            let mut clients: BTreeMap<&str, usize> = BTreeMap::new();
            for (key, connection) in who.connections() {
                let host = connection.host.as_deref().unwrap_or_else(|| panic!("seed {seed}: {key:?}"));
                match connection.role {
                    Role::Daemon => assert_eq!(host, "daemon", "seed {seed}"),
                    Role::Client => *clients.entry(host).or_default() += 1,
                }
            }
            // A client that is too early for the daemon tries again, and client-b comes back at the end.
            let mut negotiations: BTreeMap<&str, usize> = BTreeMap::new();
            for event in trace.events() {
                if matches!(&event.kind, EventKind::Endpoint { detail, .. } if detail == "negotiating") {
                    *negotiations.entry(&event.host).or_default() += 1;
                }
            }
            assert_eq!(clients, negotiations, "seed {seed}");
            assert_eq!(who.relays().iter().collect::<Vec<_>>(), ["relay"]);
            assert_eq!(who.apis().iter().collect::<Vec<_>>(), ["api"]);
        }
    }

    #[test]
    fn what_is_told_goes_before_what_is_derived() {
        let trace = world::run(0).unwrap();
        let mut who = Who::default();
        who.tell(("relay".to_owned(), 2), "client-b");
        who.tell(("relay".to_owned(), 3), "client-a");
        who.learn(trace.events());
        assert_eq!(who.connection("relay", 2).unwrap().host.as_deref(), Some("client-b"));
        assert_eq!(who.connection("relay", 3).unwrap().host.as_deref(), Some("client-a"));
    }

    #[test]
    fn a_trace_of_relay_and_api_alone_has_connections_without_hosts() {
        let trace = world::run(0).unwrap();
        let wire: Vec<Event> =
            trace.events().iter().filter(|event| !matches!(event.kind, EventKind::Endpoint { .. })).cloned().collect();
        let who = of(&wire);
        assert!(who.connections().values().all(|connection| connection.host.is_none()));
        assert_eq!(who.connections().len(), 5);
        assert!(who.endpoints().is_empty());
    }
}
