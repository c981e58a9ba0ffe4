//! What both endpoints do once keys are agreed: sealed SBP frames, RPC and events, over one session.
//!
//! A [`Session`] owns the keys, both counters and the window. Driving contract: the owner calls
//! [`Session::handle_payload`] with each Data payload, [`Session::handle_timeout`] when [`Session::poll_timeout`] has come, and the user's
//! methods; after each it drains [`Session::poll_output`]. Nothing else changes a session. After [`SessionOutput::Ended`] it does nothing more.

mod session;

use bytes::Bytes;

pub use self::session::{PendingCall, Session};
use crate::{event::EventName, failure::Cause, sbp::FrameId, wire::MAX_PLAINTEXT};

/// The number of a call, given by whoever calls; unique in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Which end of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Seals client → daemon.
    Client,
    /// Seals daemon → client.
    Daemon,
}

/// Bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Most messages that wait for their consumer (DMN-07). Default 1,024.
    pub waiting_frames: usize,
    /// Most bytes that wait for their consumer (DMN-07). Default 4 MiB.
    pub waiting_bytes: usize,
    /// Most bytes that are held back while the session is paused (DMN-11). Default 64 KiB.
    pub held_bytes: usize,
    /// Most calls of this side that wait for their answers. Default 65,536.
    pub calls: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { waiting_frames: 1_024, waiting_bytes: 4 << 20, held_bytes: 64 << 10, calls: 65_536 }
    }
}

/// Events and messages that were delivered and that their consumer has not taken yet. A client's consumer stays while its sessions change, so
/// that what waits is counted on from session to session: else a daemon that ends each session in time could fill the memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Untaken {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

impl Untaken {
    /// One of this size was consumed.
    pub(crate) const fn release(&mut self, size: usize) {
        self.frames = self.frames.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
    }
}

/// Why a call failed at the caller: the peer error codes of `docs/spec/5-endpoints.md`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer was closed.
    #[error("the peer is closed")]
    PeerClosed,
    /// There is no connection, or it was lost after the call was sent.
    #[error("there is no connection")]
    NotConnected,
    /// The session is paused.
    #[error("the session is paused")]
    SessionPaused,
    /// The peer is in a state that takes no calls.
    #[error("the peer cannot do this now: {0}")]
    InvalidState(&'static str),
    /// The caller gave up before it was done. A call that is cancelled by dropping it tells nobody (`rpc_cancelled`).
    #[error("cancelled before it was done")]
    Cancelled,
    /// More waits than may wait.
    #[error("{waiting} bytes wait already and {size} more would be over the limit of {limit}")]
    BufferOverflow {
        /// Bytes that wait.
        waiting: usize,
        /// Bytes of this call.
        size: usize,
        /// Most bytes that may wait.
        limit: usize,
    },
    /// The name or pattern is bad.
    #[error(transparent)]
    InvalidPattern(#[from] crate::event::InvalidPattern),
    /// The message does not fit into one frame (RPC-09).
    #[error("the message has {size} bytes; one frame takes {MAX_PLAINTEXT}")]
    MessageTooLarge {
        /// Bytes of the plaintext.
        size: usize,
    },
    /// The method has a handler already (RPC-07).
    #[error("the method `{0}` has a handler already")]
    MethodTaken(String),
    /// No answer in time (RPC-05).
    #[error("no answer in time")]
    Timeout,
    /// The other side answered with an error.
    #[error("the other side answered error {code}: {message}")]
    Rpc {
        /// See [`crate::rpc::code`].
        code: i64,
        /// The other side's words.
        message: String,
        /// JSON text.
        data: Option<Bytes>,
    },
}

impl CallError {
    /// The peer error code's name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::NotConnected => "not_connected",
            Self::SessionPaused => "session_paused",
            Self::InvalidState(_) => "invalid_state",
            Self::Cancelled => "cancelled",
            Self::MethodTaken(_) => "rpc_method_already_registered",
            Self::BufferOverflow { .. } => "buffer_overflow",
            Self::InvalidPattern(_) => "invalid_pattern",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::Timeout => "rpc_timeout",
            Self::Rpc { .. } => "rpc_error",
        }
    }
}

/// What a handler answers to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The result's JSON text; `None` leaves the member out.
    Result(Option<Bytes>),
    /// A failure.
    Error {
        /// See [`crate::rpc::code`].
        code: i64,
        /// Words for people.
        message: String,
        /// JSON text.
        data: Option<Bytes>,
    },
}

/// Something for the user of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The other side calls; answer with [`Session::respond`].
    Request {
        /// To be given back with the answer.
        cid: FrameId,
        /// The method.
        method: String,
        /// JSON text.
        params: Option<Bytes>,
    },
    /// A call of this side has ended.
    CallEnded {
        /// Which.
        call: CallId,
        /// JSON text of the result, or why there is none.
        outcome: Result<Option<Bytes>, CallError>,
        /// Whether it waited for a connection before it was sent.
        waited: bool,
    },
    /// An event; give its size back with [`Session::release`] when it is consumed.
    Event {
        /// Its name.
        name: EventName,
        /// JSON text.
        data: Option<Bytes>,
        /// Bytes to release.
        size: usize,
    },
    /// An application's own message; give its size back with [`Session::release`] when it is consumed.
    App {
        /// `app/…`.
        subject: String,
        /// The data.
        data: Bytes,
        /// Bytes to release.
        size: usize,
    },
    /// A receipt for a frame of ours.
    Ack(FrameId),
}

/// What the owner of a session must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutput {
    /// Send this whole SBRP Data frame.
    Frame(Bytes),
    /// The other side has introduced itself; the session is ready.
    Introduced(crate::sbp::Introduction),
    /// Give this to the user.
    Deliver(Delivery),
    /// The session is over.
    Ended(Cause),
}
