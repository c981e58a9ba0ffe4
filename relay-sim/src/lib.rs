//! A Sideband relay for tests and offline development: the shell around the relay machine of `sideband-protocol`.
//!
//! [`Relay`] serves WebSocket upgrades through an axum router. What decides (pairing, refusals, session ids, tokens, when
//! keys are fetched) is the protocol crate's; what moves bytes is here:
//!
//! | module | what |
//! |---|---|
//! | `upgrade` | from a request to a connection, or its refusal |
//! | `used` | session ids that were used, beyond the process |
//! | `keys` | the key set, fetched once for all who wait |
//! | `relay` | hubs by daemon, connections, shutdown, hooks |
//! | `hub` | one daemon's machine with its outboxes and its timer |
//! | `outbox` | what one connection still has to send, and its bounds |
//! | `connection` | one task that reads and writes one WebSocket |
//! | `lane` | a queue in which some wait |
//! | `counted` | a stream that counts what it took |
//! | `faults` | what the fault plan does to upgrades, frames and connections |
//! | `limits` | the limits that hold now |
//! | `admin` | the relay's part of `/__sim` |
//!
//! Locks are taken in one order: hubs by daemon, a hub, then any of an outbox or the used session ids. Frames take their
//! hub's and outboxes' only. Nothing here depends on the order of a hash map or of threads, so that a relay in a simulation with a
//! seed does the same every time.
//!
//! Faults happen in `upgrade`, in `Connection::poll_turn`, and around what `Hub::messages` takes in and `Turn::send` gives out.
#![deny(clippy::wildcard_enum_match_arm)]

mod admin;
mod config;
mod connection;
mod counted;
mod faults;
mod hub;
mod keys;
mod lane;
mod limits;
mod outbox;
mod relay;
mod upgrade;
mod used;

pub use config::{KeySource, RelayConfig};
pub use relay::Relay;
pub use sideband_protocol::relay::{RateMode, Takeover};
pub use upgrade::is_upgrade;
pub use used::{KeepSessions, KeepSessionsError, UsedSessions};
