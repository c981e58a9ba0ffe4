//! Deterministic Sideband scenarios: the production SDK, relay and control plane inside turmoil, on virtual time.
//!
//! | module | what |
//! |---|---|
//! | [`net`] | the network, HTTP and clock seams inside turmoil |
//! | [`cloud`] | relay, control plane and admin API on one address, over any world |
//! | [`state`] | what a control plane starts with: in memory, or from a file |
//! | [`trace`] | what happened, as NDJSON, as an order, as a hash |
//! | [`world`] | one proven world: a daemon, two clients, a cut and a partition |
//!
//! One seed fixes everything: the same seed gives the same trace, byte for byte, in every process. What that takes:
//! every source of randomness is seeded ([`sideband_env::SeededEntropy`], turmoil's own, tokio's through
//! `--cfg tokio_unstable`), every `select!` is biased, nothing iterates a hash map, HTTP answers carry no `Date`, and
//! traces hold lengths and decoded frames, never raw bytes.

pub mod builtin;
pub mod check;
pub mod cloud;
pub mod net;
pub mod scenario;
pub mod sim;
pub mod state;
pub mod trace;
pub mod world;
