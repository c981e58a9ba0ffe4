//! What operators see, under names that do not change: counters through the `metrics` facade, spans and events through `tracing`.
//! A program that installs a recorder or a subscriber sees them, others pay nothing.
//!
//! | counter | labels | what |
//! |---|---|---|
//! | `sideband_attempts_total` | `role` | attempts to connect |
//! | `sideband_sessions_total` | `role` | sessions that stood |
//! | `sideband_reconnects_total` | `role` | attempts that followed a lost connection or a failed attempt |
//! | `sideband_resumes_total` | `role` | sessions that went on after a pause |
//! | `sideband_paused_seconds_total` | `role` | seconds that a client's session was paused |
//! | `sideband_calls_total` | `outcome` | calls of this side, each once: `ok`, the peer error code, `rpc_cancelled` if dropped, `encode` or `decode` if params or result do not fit |
//! | `sideband_requests_total` | | calls of the other side |
//! | `sideband_sent_bytes_total`, `sideband_received_bytes_total` | | bytes of binary messages |
//! | `sideband_refused_frames_total` | | messages that no peer may send: malformed, replayed, forged |
//!
//! | span | target | fields | around |
//! |---|---|---|---|
//! | `client` | `sideband::client` | `daemon_id` | everything that a client's task does |
//! | `daemon` | `sideband::daemon` | | everything that a daemon's task does |
//! | `session` | `sideband::daemon` | `session` | a connection's handler |
//! | `request` | `sideband::rpc` | `method` | a handler of a method |
//!
//! | event | target | level | fields |
//! |---|---|---|---|
//! | `state` | `sideband::client` | debug | `state` |
//! | `connected` | `sideband::client` | info | `daemon_id` |
//! | `disconnected`, `closed` | `sideband::client` | info | `cause`, `reason` |
//! | `retrying` | `sideband::client`, `sideband::daemon` | info | `retry`, `delay`, `cause` |
//! | `online`, `offline`, `ended` | `sideband::daemon` | info | `daemon_id`, `first`, `cause` |
//! | `session opened`, `session closed`, `session refused` | `sideband::daemon` | info | `session`, `cause` |
//! | `a connection handler failed` | `sideband::daemon` | error | `session`, `error` |
//! | `a handler panicked`, `an event handler panicked` | `sideband::rpc` | error | `method`, `event` |
//! | `the driver panicked` | `sideband::driver` | error | |
//! | `the endpoint is wrong on purpose` | `sideband::quirks` | error | `role`, `quirks` |
//!
//! No token, key, code or payload is in any of them, nor in what the libraries below log at any level, whatever a relay or an API
//! quotes of what it was sent. What a panic said is not told: the program's panic hook sees it. `cause`, `reason` and `error` hold
//! others' words: what a relay, an API or the other side gives as its reason, and what errors of the program's own token sources,
//! stores and connection handlers say.

use metrics::counter;
use sideband_protocol::{peer::Delivery, quirks::Quirks};

use crate::Error;

/// Which endpoint counts.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Client,
    Daemon,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Daemon => "daemon",
        }
    }
}

/// Tests break rules to show that they see it; in production that must not go unseen.
pub(crate) fn started(role: Role, quirks: Quirks) {
    if quirks != Quirks::NONE {
        tracing::error!(target: "sideband::quirks", role = role.name(), ?quirks, "the endpoint is wrong on purpose");
    }
}

pub(crate) fn attempt(role: Role) {
    counter!("sideband_attempts_total", "role" => role.name()).increment(1);
}

pub(crate) fn session(role: Role) {
    counter!("sideband_sessions_total", "role" => role.name()).increment(1);
}

pub(crate) fn reconnect(role: Role) {
    counter!("sideband_reconnects_total", "role" => role.name()).increment(1);
}

pub(crate) fn resumed(role: Role) {
    counter!("sideband_resumes_total", "role" => role.name()).increment(1);
}

/// Whole seconds; what is left over stays with the caller.
pub(crate) fn paused(role: Role, seconds: u64) {
    counter!("sideband_paused_seconds_total", "role" => role.name()).increment(seconds);
}

pub(crate) fn delivery(delivery: &Delivery) {
    match delivery {
        Delivery::Request { .. } => counter!("sideband_requests_total").increment(1),
        // Calls are counted where they are made: not all of them come as far as a delivery.
        Delivery::CallEnded { .. } | Delivery::Event { .. } | Delivery::App { .. } | Delivery::Ack(_) => {}
    }
}

/// Counts one call when it ends, whichever way.
pub(crate) struct CallCount(&'static str);

impl CallCount {
    /// A call that is dropped unless it comes to [an end](Self::ended).
    pub(crate) const fn begun() -> Self {
        Self("rpc_cancelled")
    }

    pub(crate) fn ended<T>(mut self, result: &Result<T, Error>) {
        self.0 = result.as_ref().map_or_else(Error::outcome, |_| "ok");
    }
}

impl Drop for CallCount {
    fn drop(&mut self) {
        counter!("sideband_calls_total", "outcome" => self.0).increment(1);
    }
}

pub(crate) fn sent(bytes: usize) {
    counter!("sideband_sent_bytes_total").increment(bytes as u64);
}

pub(crate) fn received(bytes: usize) {
    counter!("sideband_received_bytes_total").increment(bytes as u64);
}

pub(crate) fn refused(frames: u64) {
    if frames > 0 {
        counter!("sideband_refused_frames_total").increment(frames);
    }
}
