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
//! | [`DaemonHub::handle_backpressure`] | the receiver is too slow (REL-21) |
//! | [`DaemonHub::handle_shutdown`] | the relay stops (REL-24) |
//! | [`DaemonHub::handle_timeout`] | the instant of [`DaemonHub::poll_timeout`] has come; too early or too often does no harm |
//!
//! After each call it drains [`DaemonHub::poll_output`] until `None`, in order, and asks
//! [`DaemonHub::poll_timeout`] again. Nothing else mutates. A hub never sends to a connection after its
//! [`Output::Close`] or its `handle_closed`; what is reported of a connection afterwards is ignored. So a close by the
//! relay counts at once (REL-01), however long the socket lingers. Late timers change nothing: every input first expires
//! what is due.
//!
//! # Where the rest belongs
//!
//! * Limits on sessions (REL-23) are decided in `handle_client_open`, as a further [`Refused`].
//! * Rate and sweep (REL-20, REL-22) watch one connection and need no pairing: they belong into a machine per connection
//!   beside this one, which speaks to the hub through `handle_closed`. So do the time bounds of REL-21.
//! * Faults act in the driver, on messages before `handle_message` and on outputs before they are carried out.

mod config;
mod ended;
mod hub;
mod output;
mod pairing;
mod registry;
#[cfg(test)]
mod tests;

pub use config::{HubConfig, Refused, Takeover};
pub use hub::DaemonHub;
pub use output::{ConnId, Counters, DropReason, Output, Report, SessionView};
pub use pairing::SessionState;
pub use registry::{Registry, SessionConflict};
