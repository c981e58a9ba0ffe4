//! A Sideband control plane for tests and offline development.
//!
//! It knows users and daemons, issues signed relay tokens, publishes the keys that verify them, and makes Quick Connect
//! codes (`docs/spec/3-control-plane.md`: API-01..09, KEY-04). [`Api`] is the whole of it; [`Api::router`] serves it over
//! HTTP, [`Api::admin_router`] is its part of `/__sim`, and [`Api::key_set`] lets a relay in the same process verify tokens
//! without asking over HTTP. What it knows is in a [`Store`], in memory or in a file; [`Bootstrap`] puts a user and a
//! daemon into it.
//!
//! | module | what |
//! |---|---|
//! | `api` | the procedures |
//! | `http` | requests in the order of API-09, answers, CORS |
//! | `fault` | what the fault plan does to requests and keys |
//! | `admin` | keys and accounts below `/__sim` |
//! | `keys` | signing keys and their rotation |
//! | `store` | what is known, behind a trait |
//! | `memory`, `sqlite` | its two stores |
//! | `rate` | the limit of requests |
//! | `quirks` | what tests break on purpose |
//! | `bootstrap` | the first user and daemon |
//!
//! No access token, API key, code or relay token is stored, logged or part of an event; what must be recognised again is
//! stored as a SHA-256 digest and compared in constant time (API-07).
#![deny(clippy::wildcard_enum_match_arm)]

mod admin;
mod api;
mod bootstrap;
mod config;
mod fault;
mod http;
mod keys;
mod memory;
mod quirks;
mod rate;
mod regions;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;

pub use api::Api;
pub use bootstrap::{AccessToken, Bootstrap, RootSecret};
pub use config::{Advertised, ApiConfig};
pub use fault::KeySetUnavailable;
pub use keys::{DEFAULT_OVERLAP, RotateError};
pub use memory::MemoryStore;
pub use sqlite::{OpenError, SqliteStore};
pub use store::{
    Access, Added, Code, CredentialId, Daemon, DaemonChange, Digest, Directory, FirstAccounts, ParseCredentialIdError,
    Store, StoreError, StoredKey, User,
};
