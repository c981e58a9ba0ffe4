//! The relay machine: which frame goes where, which sessions live, and what everybody is told (WIRE-08..19, REL-).
//!
//! [`DaemonHub`] is one daemon's socket and its sessions, so that daemons never wait for each other.
//! [`Registry`] stands above the hubs and holds what spans daemons: session ids that were used (REL-10).
//! Neither owns a socket, a clock, a task or randomness.
//!
//! # Driving a hub
//!
//! The driver numbers connections ([`ConnId`], never reused) and calls, one at a time:
//!
//! | call | when |
//! |---|---|
//! | [`DaemonHub::handle_daemon_open`], [`DaemonHub::handle_client_open`] | an upgrade was granted, after [`Registry::claim`] for a client; an error refuses it |
//! | [`DaemonHub::handle_message`] | a whole binary message came |
//! | [`DaemonHub::handle_closed`] | the socket is gone, or the driver closes it for a reason of its own (WIRE-03, WIRE-04) |
//! | [`DaemonHub::handle_swept`] | the driver closes the socket because it was silent for too long (REL-22) |
//! | [`DaemonHub::handle_backpressure`] | the receiver is too slow, or a sender does not get on (REL-21) |
//! | [`DaemonHub::handle_over_rate`] | frames over the rate were not handed over (REL-20) |
//! | [`DaemonHub::handle_ping_due`] | the connection has been silent for a while (REL-22) |
//! | [`DaemonHub::set_config`] | grace, takeover or the session limit change |
//! | [`DaemonHub::handle_shutdown`] | the relay stops (REL-24) |
//! | [`DaemonHub::handle_timeout`] | the instant of [`DaemonHub::poll_timeout`] has come; too early or too often does no harm |
//!
//! After each call it drains [`DaemonHub::poll_output`] until `None`, in order, and asks
//! [`DaemonHub::poll_timeout`] again. Nothing else mutates. A hub never sends to a connection after its
//! [`Output::Close`] or its `handle_closed`; what is reported of a connection afterwards is ignored. So a close by the
//! relay counts at once (REL-01), however long the socket lingers. Late timers change nothing: every input first expires
//! what is due.
//!
//! # Driving a watch
//!
//! [`Watch`] has the same manners, for one connection: its rate, its silence and whether it gets on (REL-20 to REL-22). It needs no
//! pairing; what it finds due reaches the hub as `handle_swept`, `handle_backpressure`, `handle_ping_due` or
//! `handle_over_rate`.
//!
//! Faults act in the driver, on messages before `handle_message` and on outputs before they are carried out.

mod config;
mod ended;
mod hub;
mod output;
mod pairing;
mod quirks;
mod registry;
#[cfg(test)]
mod tests;
mod watch;

pub use config::{HubConfig, Refused, Takeover};
pub use hub::DaemonHub;
pub use output::{ConnId, Counters, DropReason, Output, Report, SessionView};
pub use pairing::SessionState;
pub use quirks::{RelayQuirk, RelayQuirks};
pub use registry::{Registry, SessionConflict, TOKEN_LIFE};
pub use watch::{Admit, Due, RateMode, Taking, Watch, WatchLimits, Watched};
