//! RPC and event envelopes: the JSON inside a Message (`docs/spec/5-endpoints.md`).
//!
//! Params, results and data stay the JSON text that was sent, as slices of the message: nothing is parsed twice.

mod envelope;
mod incoming;

pub use envelope::{Envelope, EnvelopeError};
pub use incoming::{OnEvent, OnRpc, on_event, on_rpc};

/// Codes of RPC errors (RPC-02).
pub mod code {
    /// The envelope is broken.
    pub const INVALID_ENVELOPE: i64 = 1100;
    /// Nobody handles the method.
    pub const UNSUPPORTED_METHOD: i64 = 1101;
    /// The answer does not belong to the call.
    pub const CORRELATION_MISMATCH: i64 = 1102;
    /// The handler took longer than its time limit.
    pub const TIMEOUT: i64 = 1103;
    /// An envelope on the wrong subject.
    pub const ENVELOPE_MISMATCH: i64 = 1104;
    /// The handler failed; applications use this and larger ones.
    pub const APPLICATION: i64 = 2000;
}
