//! Tests of the relay machine: calls in, outputs out, time made up.

mod frames;
mod limits;
mod property;
mod table;
mod vectors;
mod watch;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    Instant, SessionId,
    wire::{ControlCode, Frame, Reason, Signal},
};

/// What a hub wants done, without reports and with frames decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Done {
    Send(ConnId, Frame),
    Close(ConnId, u16),
}

const DAEMON: ConnId = ConnId(1);
const DAEMON_AGAIN: ConnId = ConnId(2);
const CLIENT: ConnId = ConnId(11);
const OTHER_CLIENT: ConnId = ConnId(12);

fn at(seconds: u64) -> Instant {
    Instant::from_origin(Duration::from_secs(seconds))
}

fn id(n: u64) -> SessionId {
    SessionId::new(n).unwrap()
}

/// The session of [`CLIENT`].
fn session() -> SessionId {
    id(0xA)
}

/// The session of [`OTHER_CLIENT`].
fn other() -> SessionId {
    id(0xB)
}

fn control(to: ConnId, code: ControlCode, session: u64) -> Done {
    let message = code.message().to_owned();
    Done::Send(to, Frame::Control { session: SessionId::new(session), code: Ok(code), message })
}

fn data(session: SessionId) -> Bytes {
    Frame::Data { session, payload: Bytes::from_static(&[7; 40]) }.encode()
}

fn signal(session: SessionId, signal: Signal) -> Bytes {
    Frame::Signal { session, signal, reason: Reason::None }.encode()
}

/// A hub and everything that came out of it since the last look.
struct Bench {
    hub: DaemonHub,
    reports: Vec<Report>,
}

impl Bench {
    fn new(config: HubConfig) -> Self {
        Self { hub: DaemonHub::new(config), reports: Vec::new() }
    }

    /// The daemon at second 0, no client.
    fn online() -> Self {
        let mut bench = Self::new(HubConfig::default());
        bench.hub.handle_daemon_open(DAEMON, true, None, at(0)).unwrap();
        bench.take();
        bench
    }

    /// The daemon and one client, paired at second 0.
    fn paired() -> Self {
        let mut bench = Self::online();
        bench.hub.handle_client_open(CLIENT, session(), None, at(0)).unwrap();
        bench.take();
        bench
    }

    /// The daemon and two clients, paired at second 0.
    fn paired_twice() -> Self {
        let mut bench = Self::paired();
        bench.hub.handle_client_open(OTHER_CLIENT, other(), None, at(0)).unwrap();
        bench.take();
        bench
    }

    /// Paired, and the daemon lost at second 10.
    fn paused() -> Self {
        let mut bench = Self::paired();
        bench.hub.handle_closed(DAEMON, at(10));
        bench.take();
        bench
    }

    /// Paused, and the daemon back as [`DAEMON_AGAIN`] at second 20.
    fn pending() -> Self {
        let mut bench = Self::paused();
        bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(20)).unwrap();
        bench.take();
        bench
    }

    /// Everything to do since the last look, in order; `reports` then holds what was reported with it.
    fn take(&mut self) -> Vec<Done> {
        self.reports.clear();
        let mut done = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { to, message, .. } => done.push(Done::Send(to, Frame::decode(&message).unwrap())),
                Output::Close { conn, code } => done.push(Done::Close(conn, code)),
                Output::Report(report) => self.reports.push(report),
            }
        }
        done
    }

    fn message(&mut self, from: ConnId, message: Bytes, now: Instant) -> Vec<Done> {
        self.hub.handle_message(from, message, now);
        self.take()
    }

    fn closed(&mut self, conn: ConnId, now: Instant) -> Vec<Done> {
        self.hub.handle_closed(conn, now);
        self.take()
    }

    fn state(&self, session: SessionId) -> SessionState {
        self.hub.session(session).map_or(SessionState::Gone, |view| view.state)
    }

    fn session_reports(&self) -> Vec<(SessionId, SessionState)> {
        let state = |report: &Report| match *report {
            Report::Session { session, state } => Some((session, state)),
            Report::Control { .. } | Report::Dropped { .. } => None,
        };
        self.reports.iter().filter_map(state).collect()
    }
}
