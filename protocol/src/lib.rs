//! The Sideband relay protocol as pure code.
//!
//! Bytes in, bytes out: nothing here opens a socket, reads a clock or asks the operating system for
//! randomness. What decides lives here and is tested by calling functions; shells elsewhere move the bytes.
//!
//! | module | what | rules |
//! |---|---|---|
//! | [`wire`] | SBRP frames and control codes | WIRE-01..21 |
//! | [`crypto`] | handshake, sealing, replay window, identity, trust | CRY-, TRU- |
//! | [`sbp`] | the frames inside a sealed payload | SBP-01..07 |
//! | [`rpc`], [`event`] | JSON envelopes, event names and patterns | RPC-, EVT- |
//! | [`token`] | relay tokens, key sets, the ordered check | TOK-, KEY- |
//! | [`api`] | the control plane's requests, answers and errors | API- |
//! | [`relay`] | the relay machine | WIRE-09..19, REL- |
//! | [`peer`] | what both endpoints do once keys are agreed | SBP-, RPC-, EVT- |
//! | [`endpoint`] | how a shell drives an endpoint machine | |
//! | [`failure`] | why attempts and sessions end, and whether to retry | CLI-05, DMN-01 |
//! | [`policy`] | which policies cannot work | |
//! | [`quirks`] | endpoints that are wrong on purpose, for tests | |
//! | [`client`], [`daemon`] | the endpoint machines | CLI-, DMN- |
//!
//! The three machines (`relay`, `client`, `daemon`) do not use each other.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod api;
pub mod backoff;
pub mod client;
pub mod crypto;
pub mod daemon;
pub mod endpoint;
pub mod entropy;
pub mod event;
pub mod failure;
pub mod peer;
pub mod policy;
pub mod quirks;
pub mod relay;
pub mod rpc;
pub mod sbp;
pub mod session_id;
pub mod time;
pub mod token;
pub mod wire;

pub use entropy::Entropy;
pub use session_id::SessionId;
pub use time::Instant;
