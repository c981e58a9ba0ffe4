//! The daemon machine on made-up time, against clients made of the same parts: `docs/spec/5-endpoints.md`, "The daemon".

#[path = "../common/mod.rs"]
mod common;

mod attempts;
mod backoff;
mod property;
mod relay;
mod resume;
mod secrets;
mod sessions;
mod world;
