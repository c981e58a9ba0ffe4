//! The daemon: from a builder to a server that stays connected, and its sessions.

mod builder;
mod connection;
mod events;
mod host;
mod server;

pub use self::{
    builder::Daemon,
    connection::Connection,
    events::{QuickConnectCode, ServerEvent, ServerEvents},
    server::{Server, WeakServer},
};
