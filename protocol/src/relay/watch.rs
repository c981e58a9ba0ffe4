//! One connection watched: its rate, its silence, and whether it gets on (REL-20 to REL-22).
//!
//! [`Watch`] owns no socket and no clock. The driver tells it what it sees ([`handle_frame`](Watch::handle_frame) for each
//! frame, the others once a turn), asks what is due ([`poll_due`](Watch::poll_due)) when [`poll_timeout`](Watch::poll_timeout)
//! has come and after each turn, and carries that out. Nothing here allocates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RelayQuirk, RelayQuirks};
use crate::{Instant, time::earliest};

/// The longest time between two bytes for which a socket still counts as one that takes bytes.
const TAKING: Duration = Duration::from_secs(1);

/// What happens to frames over the rate (REL-20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateMode {
    /// They are dropped, and the sender is told once a second.
    #[default]
    Drop,
    /// They wait: reading slows down, and nothing is lost.
    Throttle,
}

/// What is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// Frames a second, at least 1; default 10,000 (REL-20).
    pub frames_per_second: u32,
    /// Frames at once, at least 1; default 20,000 (REL-20).
    pub burst: u32,
    /// What happens to frames over the rate; default drop (REL-20).
    pub rate_mode: RateMode,
    /// Silence after which the relay pings, again and again; default 30 s (REL-22).
    pub ping: Duration,
    /// Silence after which the connection is closed; default 90 s (REL-22).
    pub sweep: Duration,
    /// How long a receiver or a held sender may stand still; default 30 s (REL-21).
    pub stall: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            frames_per_second: 10_000,
            burst: 20_000,
            rate_mode: RateMode::Drop,
            ping: Duration::from_secs(30),
            sweep: Duration::from_secs(90),
            stall: Duration::from_secs(30),
        }
    }
}

impl WatchLimits {
    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.frames_per_second.max(1)
    }

    /// At least so much that pinging ends.
    fn ping_after(&self) -> Duration {
        self.ping.max(Duration::from_millis(1))
    }

    /// How far the bucket's filling may lie ahead of a frame that passes.
    fn tolerance(&self) -> Duration {
        self.interval() * (self.burst.max(1) - 1)
    }
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// It goes on.
    Pass,
    /// It is over the rate.
    Drop {
        /// Whether the sender is told now.
        tell: bool,
    },
}

/// What a driver has to do about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send a Ping.
    Ping,
    /// Close it: it was silent for too long.
    Sweep,
    /// Close it with `backpressure`: it does not get on.
    Stalled,
}

/// Whose connection is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// A client's: how much it leaves untaken is bounded in bytes.
    Client,
    /// A daemon's: how long it takes nothing is bounded in time.
    Daemon,
}

/// A client that is not read because its daemon has not taken its bytes.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Bytes of it that daemons had taken when it last got on.
    taken: u64,
    /// [`Taking::total`] of its daemon then.
    daemon: Duration,
}

/// For how long a daemon's socket has been taking bytes, altogether.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taking {
    last: Option<Instant>,
    total: Duration,
}

impl Taking {
    /// The socket took bytes. Returns by how much the time has grown.
    pub fn handle_taken(&mut self, now: Instant) -> Duration {
        let more = self.last.map_or(Duration::ZERO, |last| now.saturating_since(last).min(TAKING));
        self.last = Some(now);
        self.total += more;
        more
    }

    /// The time.
    pub fn total(&self) -> Duration {
        self.total
    }
}

/// One connection watched.
#[derive(Debug)]
pub struct Watch {
    limits: WatchLimits,
    quirks: RelayQuirks,
    whose: Watched,
    /// When the bucket is full again; in the past if it is.
    full: Instant,
    told: Option<Instant>,
    heard: Instant,
    next_ping: Instant,
    held: Option<Held>,
    /// Since when its socket takes nothing although there is something to send.
    stuck: Option<Instant>,
}

impl Watch {
    /// A connection that opens now.
    pub fn new(limits: WatchLimits, quirks: RelayQuirks, whose: Watched, now: Instant) -> Self {
        let next_ping = now + limits.ping_after();
        Self { limits, quirks, whose, full: now, told: None, heard: now, next_ping, held: None, stuck: None }
    }

    /// Other limits hold from now on. A bucket that owes more than the new burst is forgiven the rest.
    pub fn set_limits(&mut self, limits: WatchLimits, now: Instant) {
        self.limits = limits;
        self.full = self.full.min(now + limits.tolerance() + limits.interval());
        self.next_ping = self.heard + limits.ping_after();
    }

    /// A frame came.
    pub fn handle_frame(&mut self, now: Instant) -> Admit {
        let full = self.full.max(now);
        let over = full.saturating_since(now) > self.limits.tolerance();
        if !over || self.throttles() || self.quirks.has(RelayQuirk::HasNoRate) {
            self.full = full + self.limits.interval();
            return Admit::Pass;
        }
        let second_over = self.told.is_none_or(|told| now.saturating_since(told) >= Duration::from_secs(1));
        if second_over {
            self.told = Some(now);
        }
        let tell = second_over || self.quirks.has(RelayQuirk::TellsOfEveryFrame);
        Admit::Drop { tell: tell && !self.quirks.has(RelayQuirk::LimitsSilently) }
    }

    /// Whether another frame may be read: always, unless the mode is to throttle.
    pub fn may_read(&self, now: Instant) -> bool {
        !self.throttles()
            || self.full.saturating_since(now) <= self.limits.tolerance()
            || self.quirks.has(RelayQuirk::HasNoRate)
    }

    /// It was heard: a message, or only a ping or pong of WebSocket.
    pub fn handle_heard(&mut self, message: bool, now: Instant) {
        if message || !self.quirks.has(RelayQuirk::HearsMessagesOnly) {
            self.heard = now;
            self.next_ping = now + self.limits.ping_after();
        }
    }

    /// Whether it is held, which is: not read until its daemon has taken its bytes. `taken` is then how many bytes of
    /// it daemons have taken, ever, and `daemon` its daemon's [`Taking::total`]. It cannot be heard meanwhile, so
    /// silence is counted from the end of that.
    pub fn handle_held(&mut self, taken: Option<u64>, daemon: Duration, now: Instant) {
        if self.held.is_some() {
            self.heard = now;
            self.next_ping = now + self.limits.ping_after();
        }
        let daemon = self.blame(daemon, now);
        self.held = match (self.held, taken) {
            (Some(before), Some(taken)) if before.taken == taken => Some(before),
            (_, taken) => taken.map(|taken| Held { taken, daemon }),
        };
    }

    /// Whether its socket is full, and whether it took anything since the last call.
    pub fn handle_sent(&mut self, blocked: bool, took: bool, now: Instant) {
        let may_stall = match self.whose {
            Watched::Client => true,
            Watched::Daemon => self.quirks.has(RelayQuirk::BearsStuckDaemons),
        };
        self.stuck = match (blocked && !may_stall, took) {
            (false, _) => None,
            (true, true) => Some(now),
            (true, false) => self.stuck.or(Some(now)),
        };
    }

    /// What is due, if anything; to be asked until there is nothing or the connection is closed. `daemon` is as in
    /// [`handle_held`](Self::handle_held).
    pub fn poll_due(&mut self, daemon: Duration, now: Instant) -> Option<Due> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.hold_left(daemon, now) == Some(Duration::ZERO) || passed(self.stuck_until()) {
            return Some(Due::Stalled);
        }
        if self.held.is_some() {
            return None;
        }
        if passed(self.sweep_at()) {
            return Some(Due::Sweep);
        }
        if self.next_ping <= now {
            self.next_ping = now + self.limits.ping_after();
            return Some(Due::Ping);
        }
        None
    }

    /// When to ask again what is due, and whether to read.
    pub fn poll_timeout(&self, daemon: Duration, now: Instant) -> Option<Instant> {
        // A daemon's time runs no faster than this one. Where it stands still, looking again now and then is enough.
        let hold = self.hold_left(daemon, now).map(|left| now + left.max(self.limits.stall / 30));
        let silence = if self.held.is_some() { None } else { earliest(Some(self.next_ping), self.sweep_at()) };
        let readable = if self.may_read(now) {
            None
        } else {
            Some(now + self.full.saturating_since(now).saturating_sub(self.limits.tolerance()))
        };
        [hold, self.stuck_until(), silence, readable].into_iter().fold(None, earliest)
    }

    fn throttles(&self) -> bool {
        match self.limits.rate_mode {
            RateMode::Drop => false,
            RateMode::Throttle => !self.quirks.has(RelayQuirk::DropsWhenThrottled),
        }
    }

    /// The clock that a held client's time is counted on.
    fn blame(&self, daemon: Duration, now: Instant) -> Duration {
        if self.quirks.has(RelayQuirk::BlamesClientForDaemon) { now.since_origin() } else { daemon }
    }

    fn hold_left(&self, daemon: Duration, now: Instant) -> Option<Duration> {
        if self.quirks.has(RelayQuirk::BearsStuckClients) {
            return None;
        }
        let held = self.held?;
        Some(self.limits.stall.saturating_sub(self.blame(daemon, now).saturating_sub(held.daemon)))
    }

    fn stuck_until(&self) -> Option<Instant> {
        self.stuck.map(|since| since + self.limits.stall)
    }

    fn sweep_at(&self) -> Option<Instant> {
        let silence = if self.quirks.has(RelayQuirk::NeverSweeps) {
            return None;
        } else if self.quirks.has(RelayQuirk::WantsPongs) {
            self.limits.ping * 3 / 2
        } else {
            self.limits.sweep
        };
        Some(self.heard + silence)
    }
}
