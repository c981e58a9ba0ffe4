//! Sideband for Rust: talk end-to-end encrypted to programs behind NAT.
//!
//! # The model, in two minutes
//!
//! ```text
//!     client ──WebSocket──► relay ◄──WebSocket── daemon      frames that the relay cannot read
//!        └───HTTP───► control plane ◄───HTTP───────┘         tokens
//! ```
//!
//! * A **daemon** is a long-lived program with an identity key. It dials out to a relay and never listens. [`Daemon`] builds one,
//!   [`Daemon::listen`] gives a [`Server`]; each client that comes is a [`Connection`].
//! * A **client** has no lasting key and starts every session: by its user's account with [`Account`], or with [`QuickConnect`] by a
//!   code that works once. Both give a [`Client`] at once, which connects by itself.
//! * A **session** is one client's sealed line to one daemon. Both ends of it are a [`Peer`], and both can do the same:
//!   [call](Peer::call) a method, [answer](Peer::handle) one, [emit](Peer::emit) events, [subscribe](Peer::subscribe) to them, and
//!   [send](Peer::send) raw messages on `app/…`. A handler's [`Context`] says who calls and reaches a daemon's other sessions.
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
//! # Connections come and go
//!
//! A client is always in one [`State`], and every change is told ([`Client::state`], [`Client::events`]):
//!
//! | state | what it means | a call that is made now |
//! |---|---|---|
//! | connecting, negotiating | an attempt is under way | waits, up to 64 KiB of calls in all (CLI-09) |
//! | active | the session stands | is sent |
//! | paused | the daemon lost the relay; the session waits for it | waits; calls already sent go on waiting (CLI-11) |
//! | reconnecting | the session or the attempt is lost, the next one follows after a delay (CLI-04) | waits; calls already sent have failed with `not_connected` |
//! | closed | over for good: by [`Client::close`], by the last handle's drop, with its runtime, or by a failure that trying again cannot help | fails with `peer_closed` |
//!
//! When a daemon comes back in time its sessions **resume** with the same keys and counters: nobody has to start again, and subscriptions go on
//! (DMN-11). A session that is lost is made anew, on both ends; handlers and subscriptions of a client survive that (CLI-03). With
//! [`OnDisconnect::Fail`] calls fail at once instead of waiting. A Quick Connect client has one session and closes when it is lost (CLI-02).
//!
//! A call ends 10 s after it was sent unless [`CallOptions`] says otherwise (RPC-05), and is cancelled by dropping its future.
//!
//! # Trust
//!
//! A daemon proves its identity key in every session. A client pins the first one it sees and, by default, takes a changed one.
//! [`Account::prompt`] asks somebody, [`Account::pinned_only`] takes nothing new; [`identity::FileStore`] keeps pins in a file, and
//! [`identity::load_or_create`] a daemon's key. [`Server::fingerprint`] is what people compare.
//!
//! # Errors
//!
//! There is one [`Error`]. [`kind`](Error::kind) says who is at fault, [`is_retryable`](Error::is_retryable) whether the same may succeed later,
//! [`code`](Error::code), [`status`](Error::status) and [`control_code`](Error::control_code) what the protocol calls it. Its text says what was
//! being done, with what, and what to do, and never holds a secret. A handler fails with a [`HandlerError`] or, by `?`, with any error,
//! boxed or not, or with a text.
//!
//! # Typed services
//!
//! [`service!`](macro@service) turns one description of methods into a trait to implement and a client to call; see [`service`](mod@service).
//!
//! # Another world
//!
//! Everything that decides lives in [`protocol`] as pure machines; this crate moves the bytes. With [`Account::env`] and [`Daemon::env`] the
//! same code runs with another clock, randomness and network, such as in a deterministic simulation. The public items cite the rules
//! (`CLI-09`) that they implement; the rules stand in `docs/spec`. What operators see is listed in [`telemetry`].
#![deny(clippy::wildcard_enum_match_arm)]

mod api;
mod client;
mod context;
mod daemon;
mod driver;
pub mod error;
mod hub;
pub mod identity;
mod options;
mod peer;
mod receivers;
pub mod service;
mod socket;
pub mod telemetry;
mod told;

pub use client::{Account, Client, Lifecycle, LifecycleEvents, QuickConnect, TokenError};
pub use context::Context;
pub use daemon::{Connection, Daemon, QuickConnectCode, Server, ServerEvent, ServerEvents, WeakServer};
pub use error::{CallFailure, Error, ErrorKind};
pub use hub::MethodInfo;
pub use peer::{CallInfo, CallOptions, Event, HandlerError, Messages, Peer, Subscription};
pub use sideband_env as env;
pub use sideband_protocol as protocol;
pub use sideband_protocol::{
    SessionId,
    client::{CloseReason, ConnectionPolicy, OnDisconnect, RetryMode, RetryPolicy, RpcPolicy, State},
    crypto::{Fingerprint, Identity, IdentityKey},
    daemon::{DaemonRetryPolicy, SessionState},
    endpoint::KeepalivePolicy,
    failure::Cause,
    peer::{CallError, SessionLimits},
    policy::InvalidPolicy,
    wire::{ControlCode, UnknownControlCode},
};
