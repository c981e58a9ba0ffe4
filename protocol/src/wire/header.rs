//! The 13 bytes in front of every frame.

use super::{HEADER_LEN, MAX_PAYLOAD, MAX_PING};

/// The type byte of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// A client's ephemeral key; starts a session's key exchange.
    HandshakeInit = 0x01,
    /// A daemon's identity key, ephemeral key and signature.
    HandshakeAccept = 0x02,
    /// A sealed payload.
    Data = 0x03,
    /// A daemon's word to the relay about one session.
    Signal = 0x04,
    /// Asks for a Pong with the same bytes.
    Ping = 0x10,
    /// Answers a Ping.
    Pong = 0x11,
    /// The relay's word to an endpoint.
    Control = 0x20,
}

impl FrameType {
    /// Every frame type, in the order of its byte.
    pub const ALL: [Self; 7] =
        [Self::HandshakeInit, Self::HandshakeAccept, Self::Data, Self::Signal, Self::Ping, Self::Pong, Self::Control];

    /// The type for a byte, or `None` if the table has none.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::HandshakeInit,
            0x02 => Self::HandshakeAccept,
            0x03 => Self::Data,
            0x04 => Self::Signal,
            0x10 => Self::Ping,
            0x11 => Self::Pong,
            0x20 => Self::Control,
            _ => return None,
        })
    }

    /// The type's byte on the wire.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The name in snake case, as traces and vectors write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HandshakeInit => "handshake_init",
            Self::HandshakeAccept => "handshake_accept",
            Self::Data => "data",
            Self::Signal => "signal",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Control => "control",
        }
    }
}

/// A frame's header: type, payload length in bytes, session id (0 = none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub frame_type: FrameType,
    /// Bytes of the payload.
    pub length: usize,
    /// The session id as it stands in the header, 0 for none.
    pub session: u64,
}

/// Why a header is refused, in the order in which it is checked (WIRE-11..14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer than 13 bytes (WIRE-11).
    #[error("the message has {0} bytes, a header has 13")]
    Short(usize),
    /// The declared length is over the limit, or over 8 bytes for a Ping or Pong (WIRE-12).
    #[error("the header declares a payload of {0} bytes, which is over the limit")]
    TooLarge(u32),
    /// The declared length is not the number of bytes that follow (WIRE-11).
    #[error("the header declares {declared} payload bytes, {actual} follow")]
    LengthMismatch {
        /// What the header says.
        declared: u32,
        /// What follows it.
        actual: usize,
    },
    /// No such frame type (WIRE-13).
    #[error("unknown frame type 0x{0:02x}")]
    UnknownType(u8),
    /// Session id zero where one is needed, or the reverse (WIRE-14).
    #[error("a {} frame with session id {session:016x}", frame_type.name())]
    SessionId {
        /// The frame's type.
        frame_type: FrameType,
        /// The id in the header.
        session: u64,
    },
}

impl Header {
    /// Reads and checks the header of `message`, which must hold one whole frame; the payload is not looked at.
    ///
    /// The checks come in the order of WIRE-11 to WIRE-14; the first that fails is the answer.
    pub fn parse(message: &[u8]) -> Result<Self, HeaderError> {
        let Some((head, payload)) = message.split_first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Short(message.len()));
        };
        let [kind, l0, l1, l2, l3, session @ ..] = *head;
        let declared = u32::from_be_bytes([l0, l1, l2, l3]);
        let session = u64::from_be_bytes(session);
        let frame_type = FrameType::from_byte(kind);
        let limit = match frame_type {
            Some(FrameType::Ping | FrameType::Pong) => MAX_PING,
            _ => MAX_PAYLOAD,
        };
        if declared as usize > limit {
            return Err(HeaderError::TooLarge(declared));
        }
        if declared as usize != payload.len() {
            return Err(HeaderError::LengthMismatch { declared, actual: payload.len() });
        }
        let Some(frame_type) = frame_type else {
            return Err(HeaderError::UnknownType(kind));
        };
        let fits = match frame_type {
            FrameType::HandshakeInit | FrameType::HandshakeAccept | FrameType::Data | FrameType::Signal => session != 0,
            FrameType::Ping | FrameType::Pong => session == 0,
            // A Control frame's scope follows from its code.
            FrameType::Control => true,
        };
        if !fits {
            return Err(HeaderError::SessionId { frame_type, session });
        }
        Ok(Self { frame_type, length: payload.len(), session })
    }

    /// The header's bytes.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = self.frame_type.byte();
        out[1..5].copy_from_slice(&(self.length as u32).to_be_bytes());
        out[5..].copy_from_slice(&self.session.to_be_bytes());
        out
    }
}
