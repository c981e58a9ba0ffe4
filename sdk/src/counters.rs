//! What is counted, through the `metrics` facade; a program that installs a recorder sees it, others pay nothing.
//!
//! | name | labels | what |
//! |---|---|---|
//! | `sideband_attempts_total` | `role` | attempts to connect |
//! | `sideband_sessions_total` | `role` | sessions that stood |
//! | `sideband_reconnects_total` | `role` | attempts that followed a lost connection or a failed attempt |
//! | `sideband_resumes_total` | `role` | sessions that went on after a pause |
//! | `sideband_paused_seconds_total` | `role` | seconds that a client's session was paused |
//! | `sideband_calls_total` | `outcome` | calls of this side: `ok`, or the peer error code |
//! | `sideband_requests_total` | | calls of the other side |
//! | `sideband_sent_bytes_total`, `sideband_received_bytes_total` | | bytes of binary messages |
//! | `sideband_refused_frames_total` | | messages that no peer may send |

use metrics::counter;
use sideband_protocol::peer::{CallError, Delivery};

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
        Delivery::CallEnded { outcome, .. } => {
            let outcome = outcome.as_ref().map_or_else(CallError::code, |_| "ok");
            counter!("sideband_calls_total", "outcome" => outcome).increment(1);
        }
        Delivery::Request { .. } => counter!("sideband_requests_total").increment(1),
        Delivery::Event { .. } | Delivery::App { .. } | Delivery::Ack(_) => {}
    }
}

pub(crate) fn sent(bytes: usize) {
    counter!("sideband_sent_bytes_total").increment(bytes as u64);
}

pub(crate) fn received(bytes: usize) {
    counter!("sideband_received_bytes_total").increment(bytes as u64);
}

pub(crate) fn refused() {
    counter!("sideband_refused_frames_total").increment(1);
}
