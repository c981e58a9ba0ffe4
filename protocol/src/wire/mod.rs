//! SBRP on the wire: one WebSocket binary message carries one frame (`docs/spec/1-wire.md`).
//!
//! [`Header::parse`] reads the 13 header bytes without touching the payload; [`Frame::decode`] reads the
//! whole message and keeps the payload as a slice of it, without a copy.

mod control;
mod frame;
mod header;

pub use control::{ControlCode, Scope, UnknownControlCode};
pub use frame::{DecodeError, Frame, Reason, Signal, control_message, decode_signal};
pub use header::{FrameType, Header, HeaderError};

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 13;
/// Most bytes that a payload may have (WIRE-01).
pub const MAX_PAYLOAD: usize = 65_536;
/// Most bytes that a plaintext may have: a payload less nonce and tag (WIRE-01).
pub const MAX_PLAINTEXT: usize = MAX_PAYLOAD - NONCE_LEN - TAG_LEN;
/// Bytes of the largest legal message.
pub const MAX_FRAME: usize = HEADER_LEN + MAX_PAYLOAD;
/// Most bytes of a WebSocket message that are looked at; a larger one closes with 1009 (WIRE-04).
pub const MAX_MESSAGE: usize = 1 << 20;
/// Bytes of the nonce in front of a Data payload.
pub const NONCE_LEN: usize = 12;
/// Bytes of the authentication tag behind a Data payload.
pub const TAG_LEN: usize = 16;
/// Bytes of a HandshakeInit payload (WIRE-02).
pub const INIT_LEN: usize = 32;
/// Bytes of a HandshakeAccept payload (WIRE-02).
pub const ACCEPT_LEN: usize = 128;
/// Bytes of a Signal payload (WIRE-02).
pub const SIGNAL_LEN: usize = 2;
/// Most bytes that a Ping or Pong may carry.
pub const MAX_PING: usize = 8;

/// WebSocket close codes that the protocol gives a meaning.
pub mod close {
    /// Done, or a terminal Control code that has no other close code (WIRE-09).
    pub const NORMAL: u16 = 1000;
    /// Nothing was heard for too long (REL-22).
    pub const AWAY: u16 = 1001;
    /// A malformed frame, 0x04xx (WIRE-09).
    pub const PROTOCOL: u16 = 1002;
    /// A text message (WIRE-03).
    pub const UNSUPPORTED: u16 = 1003;
    /// Not allowed, 0x01xx (WIRE-09).
    pub const POLICY: u16 = 1008;
    /// A message over 1 MiB (WIRE-04).
    pub const TOO_LARGE: u16 = 1009;
    /// A fault of the relay (WIRE-09).
    pub const INTERNAL: u16 = 1011;
    /// The relay shuts down (REL-24).
    pub const RESTART: u16 = 1012;
    /// The receiver is too slow (WIRE-09).
    pub const TRY_AGAIN: u16 = 1013;
    /// Another socket of the same daemon has taken this one's place (REL-12).
    pub const REPLACED: u16 = 4001;
}
