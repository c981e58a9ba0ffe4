//! What the simulated relay and the simulated control plane share.
//!
//! | module | what |
//! |---|---|
//! | [`event`] | one vocabulary for everything that happens, and the sink that takes it |
//! | [`observer`] | judges endpoints by what happens |
//! | [`server`] | HTTP serving over the network seam |
//! | [`guard`] | which origins and hosts are let in |
//! | [`admin`] | the types and routes of `/__sim` |
//! | [`presence`] | who knows whether a daemon is online |
#![deny(clippy::wildcard_enum_match_arm)]

pub mod admin;
pub mod event;
pub mod guard;
pub mod observer;
pub mod presence;
pub mod server;
