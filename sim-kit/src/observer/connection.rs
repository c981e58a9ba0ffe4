//! One WebSocket as the observer follows it: its keepalive, and what its endpoint must have heard.
//!
//! Times here are on the connection's own clock ([`Connection::clock`]), which stands still while the relay holds the connection back: a frame that
//! is read then, or right after, may have been sent long before, and what the relay says may leave long after.

use std::collections::VecDeque;

use sideband_protocol::{SessionId, wire::FrameType};

use super::{
    Mark, Rule,
    frame::{Echo, FrameSeen, Inside},
    wire::PATIENCE_MS,
};
use crate::event::Role;

/// Milliseconds between two Pings (CLI-13).
const PING_MS: u64 = 45_000;
/// Milliseconds of the relay's silence that an endpoint bears (CLI-13).
const SILENCE_MS: u64 = 90_000;
/// Most Pings whose Pongs are waited for; the oldest go first.
const MOST_PINGS: usize = 8;

/// Something that the relay told an endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) connection: u64,
    at: u64,
    /// How many messages had been sent by then.
    order: u64,
}

#[derive(Debug)]
struct Ping {
    at: u64,
    order: u64,
    echo: Echo,
}

/// What was found by one call, before it is known whether it is told.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<(Rule, Option<SessionId>, String)>);

impl Found {
    pub(super) fn add(&mut self, rule: Rule, session: Option<SessionId>, evidence: impl FnOnce() -> String) {
        self.0.push((rule, session, evidence()));
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) role: Role,
    pub(super) session: Option<SessionId>,
    pub(super) resumable: bool,
    pub(super) opened: u64,
    pub(super) last_in: u64,
    /// The relay closes it: what comes is no longer judged.
    pub(super) over: bool,
    /// A daemon has sent something else than Signals and Pongs.
    pub(super) spoke: bool,
    /// Frames of it were over its rate and nobody looked at them: what is missing is no proof.
    pub(super) lossy: bool,
    /// A daemon has sent a Signal of shutdown.
    pub(super) shutdown: bool,
    /// An unknown Control code was sent to it.
    pub(super) unknown: Option<Told>,
    /// Since when the relay holds it back, on everybody's clock.
    held_since: Option<u64>,
    /// For how many milliseconds the relay has held it back before.
    held: u64,
    /// The relay's Pings go out in another order than it says them: neither they nor their Pongs prove anything.
    unordered: bool,
    last_ping: u64,
    last_out: u64,
    sent: u64,
    /// It has received everything up to this one.
    heard: Option<u64>,
    pings: VecDeque<Ping>,
    times: Vec<(Rule, u32)>,
}

/// What a frame came on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) connection: u64,
    /// Frames before it may have gone unseen.
    pub(super) lossy: bool,
}

impl Connection {
    pub(super) const fn line(&self, connection: u64) -> Line {
        Line { connection, lossy: self.lossy }
    }

    pub(super) fn new(at: u64, role: Role, session: Option<SessionId>, resumable: bool) -> Self {
        Self {
            role,
            session,
            resumable,
            opened: at,
            last_in: at,
            over: false,
            spoke: false,
            lossy: false,
            shutdown: false,
            unknown: None,
            held_since: None,
            held: 0,
            unordered: false,
            last_ping: at,
            last_out: at,
            sent: 0,
            heard: None,
            pings: VecDeque::new(),
            times: Vec::new(),
        }
    }

    /// What this connection's clock shows at a time.
    pub(super) fn clock(&self, at: u64) -> u64 {
        at.min(self.held_since.unwrap_or(at)).saturating_sub(self.held)
    }

    /// From now on, or no more, the relay holds it back.
    pub(super) fn hold(&mut self, at: u64, held: bool) {
        match (self.held_since, held) {
            (None, true) => self.held_since = Some(at),
            (Some(since), false) => {
                self.held = self.held.saturating_add(at.saturating_sub(since));
                self.held_since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Pings go out in another order than they are said.
    pub(super) fn unordered(&mut self) {
        self.unordered = true;
        self.pings.clear();
    }

    pub(super) fn keepalive_rule(&self) -> Rule {
        match self.role {
            Role::Client => Rule::Cli13,
            Role::Daemon => Rule::Dmn13,
        }
    }

    pub(super) fn told(&self, at: u64, connection: u64) -> Told {
        Told { connection, at: self.clock(at), order: self.sent }
    }

    /// Whether the endpoint must know by now, which is on its connection's clock.
    pub(super) fn knows(&self, at: u64, told: &Told) -> bool {
        self.heard.is_some_and(|heard| heard > told.order) || at.saturating_sub(told.at) >= PATIENCE_MS
    }

    pub(super) fn sent(&mut self, at: u64, frame: &FrameSeen) {
        let at = self.clock(at);
        self.sent += 1;
        self.last_out = at;
        if let (Some(FrameType::Ping), Inside::Echo(echo), false) = (frame.frame_type, frame.inside, self.unordered) {
            if self.pings.len() == MOST_PINGS {
                self.pings.pop_front();
            }
            self.pings.push_back(Ping { at, order: self.sent, echo });
        }
    }

    /// What any message shows: CLI-13, WIRE-05, WIRE-20. Its time is on this connection's clock.
    pub(super) fn heard(&mut self, at: u64, frame: &FrameSeen, found: &mut Found) {
        let rule = self.keepalive_rule();
        let without = at.saturating_sub(self.last_ping);
        let late = without >= PING_MS + PATIENCE_MS;
        if late {
            found.add(rule, None, || format!("no Ping for {} s", without / 1_000));
        }
        if late || frame.frame_type == Some(FrameType::Ping) {
            self.last_ping = at;
        }
        let alone = at.saturating_sub(self.last_out);
        if alone >= SILENCE_MS + PATIENCE_MS {
            found.add(rule, None, || format!("still there {} s after the relay's last word", alone / 1_000));
            self.last_out = at;
        }
        self.last_in = at;
        if self.unknown.is_some_and(|told| self.knows(at, &told)) {
            found.add(Rule::Wire05, None, || format!("a {} after an unknown Control code", frame.name()));
        }
        match (frame.frame_type, frame.inside) {
            (Some(FrameType::Pong), Inside::Echo(echo)) => self.pong(echo, found),
            (_, _) => {
                if self.pings.front().is_some_and(|ping| at.saturating_sub(ping.at) >= PATIENCE_MS) {
                    self.pings.pop_front();
                    found.add(Rule::Wire20, None, || {
                        format!("a {} and no Pong for {} s", frame.name(), PATIENCE_MS / 1_000)
                    });
                }
            }
        }
    }

    /// Frames came that nobody looked at; Pings and Pongs may have been among them (REL-20).
    pub(super) fn unseen(&mut self, at: u64) {
        let at = self.clock(at);
        self.lossy = true;
        self.last_in = at;
        self.last_ping = at;
        self.pings.clear();
    }

    fn pong(&mut self, echo: Echo, found: &mut Found) {
        match self.pings.iter().position(|ping| ping.echo == echo) {
            Some(0) => {}
            Some(_) => found.add(Rule::Wire20, None, || "a Ping was passed over".to_owned()),
            // One for a Ping that is forgotten here proves nothing.
            None if self.pings.is_empty() => return,
            None => return found.add(Rule::Wire20, None, || "a Pong with the bytes of no Ping".to_owned()),
        }
        while let Some(ping) = self.pings.pop_front() {
            if ping.echo == echo {
                self.heard = Some(ping.order);
                return;
            }
        }
    }

    /// Turns what was found into marks.
    pub(super) fn tell(&mut self, at: u64, id: u64, found: &mut Found, marks: &mut VecDeque<Mark>) {
        for (rule, session, evidence) in found.0.drain(..) {
            let at_rule = self.times.iter().position(|(counted, _)| *counted == rule).unwrap_or_else(|| {
                self.times.push((rule, 0));
                self.times.len() - 1
            });
            let times = &mut self.times[at_rule].1;
            *times = times.saturating_add(1);
            let (times, session) = (*times, session.or(self.session));
            marks.push_back(Mark { at, rule, party: self.role, connection: Some(id), session, evidence, times });
        }
    }
}
