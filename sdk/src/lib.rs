//! Sideband for Rust: talk end-to-end encrypted to programs behind NAT.
//!
//! A **daemon** is a program with an identity key; it dials out to a relay and never listens. A **client** starts sessions
//! with it through the same relay, by its user's account or by a code that works once. The relay forwards what it cannot read.
//!
//! ```no_run
//! use sideband::{Account, Context, Daemon, HandlerError};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // The daemon: answers calls, for every client.
//! let server = Daemon::new("http://127.0.0.1:7600", "ws://127.0.0.1:7600/relay", "sbnd_dak_…")?
//!     .handle("add", |(a, b): (i64, i64), _: Context| async move { Ok::<_, HandlerError>(a + b) })?
//!     .listen()
//!     .await?;
//!
//! // The client: connects, reconnects, resumes.
//! let client = Account::with_token("http://127.0.0.1:7600", server.daemon_id(), "access token")?.connect()?;
//! let sum: i64 = client.call("add", (1, 2)).await?;
//! assert_eq!(sum, 3);
//! # Ok(()) }
//! ```
//!
//! Calls made while there is no session wait for one; sessions survive the daemon's reconnects with the same keys. Everything
//! that decides lives in [`protocol`] as pure machines; this crate moves the bytes. With [`Account::env`] and [`Daemon::env`]
//! the same code runs in another world, such as a deterministic simulation.

mod api;
mod client;
mod daemon;
mod driver;
pub mod error;
mod hub;
pub mod identity;
mod options;
mod peer;
pub mod service;
mod socket;
pub mod telemetry;

pub use client::{Account, Client, Lifecycle, LifecycleEvents, QuickConnect, TokenError};
pub use daemon::{Connection, Daemon, QuickConnectCode, Server, ServerEvent, ServerEvents};
pub use error::{Error, ErrorKind};
pub use hub::MethodInfo;
pub use peer::{CallInfo, CallOptions, Context, Event, HandlerError, Messages, Peer, Subscription};
pub use sideband_env as env;
pub use sideband_protocol as protocol;
pub use sideband_protocol::{
    SessionId,
    client::{CloseReason, ConnectionPolicy, OnDisconnect, RetryMode, RetryPolicy, RpcPolicy, State},
    crypto::{Fingerprint, Identity, IdentityKey},
    daemon::{DaemonRetryPolicy, SessionState},
    failure::Cause,
};
