//! The client machine on made-up time, against a daemon made of the same parts: `docs/spec/5-endpoints.md`, "The client".

#[path = "../common/mod.rs"]
mod common;

mod buffers;
mod keepalive;
mod negotiate;
mod retry;
mod secrets;
mod states;
mod world;
