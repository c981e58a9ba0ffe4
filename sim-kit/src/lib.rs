//! What the simulated relay and the simulated control plane share.
//!
//! | module | what |
//! |---|---|
//! | [`event`] | one vocabulary for everything that happens, and the sink that takes it |
//! | [`fault`] | the fault plan: faults on demand |
//! | [`observer`] | judges endpoints by what happens |
//! | [`server`] | HTTP serving over the network seam |
//! | [`guard`] | which origins and hosts are let in |
//! | [`stream`], [`trace`], [`metrics`] | the events as server-sent events, as NDJSON in a file, and counted |
//! | [`admin`] | the types and routes of `/__sim` |
//! | [`limits`] | the limits of a relay, as files and the admin API write them |
//! | [`presence`] | who knows whether a daemon is online |
#![deny(clippy::wildcard_enum_match_arm)]

pub mod admin;
pub mod event;
pub mod fault;
pub mod guard;
pub mod limits;
pub mod metrics;
pub mod observer;
pub mod presence;
pub mod server;
pub mod stream;
pub mod trace;
