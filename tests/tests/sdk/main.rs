//! The SDK's shells in the scripted world: what users' code may do to them, what they leave behind, and what they tell.

mod afterwards;
mod cancel;
mod context;
mod errors;
mod handlers;
mod identity;
mod leaks;
mod receipts;
mod stopped;
mod support;
mod telemetry;
mod typed;
mod user_code;
