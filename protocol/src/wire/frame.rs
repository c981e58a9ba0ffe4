//! Whole frames: the sum type, its encoding and its decoding.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    ACCEPT_LEN, ControlCode, FrameType, HEADER_LEN, Header, HeaderError, INIT_LEN, NONCE_LEN, SIGNAL_LEN, TAG_LEN,
    UnknownControlCode,
};
use crate::SessionId;

/// What a daemon signals to the relay about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Signal {
    /// The session's state is whole; go on.
    Ready = 0,
    /// The session is over.
    Close = 1,
}

/// Why a daemon signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No reason given; also every reason that the table does not have (WIRE-08).
    None = 0,
    /// The daemon lost the session's keys or counters.
    StateLost = 1,
    /// The daemon shuts down.
    Shutdown = 2,
    /// The daemon does not allow it.
    Policy = 3,
    /// The session failed.
    Error = 4,
}

impl Signal {
    /// The signal for a byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Ready),
            1 => Some(Self::Close),
            _ => None,
        }
    }

    /// The name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Close => "close",
        }
    }
}

impl Reason {
    /// The reason for a byte; an unknown one counts as none (WIRE-08).
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::StateLost,
            2 => Self::Shutdown,
            3 => Self::Policy,
            4 => Self::Error,
            _ => Self::None,
        }
    }

    /// The name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::StateLost => "state_lost",
            Self::Shutdown => "shutdown",
            Self::Policy => "policy",
            Self::Error => "error",
        }
    }
}

/// One SBRP frame. Payloads are slices of the message that they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A client's X25519 public key.
    HandshakeInit {
        /// The session.
        session: SessionId,
        /// The ephemeral key.
        client_ephemeral: [u8; INIT_LEN],
    },
    /// A daemon's answer: identity key, ephemeral key, signature.
    HandshakeAccept {
        /// The session.
        session: SessionId,
        /// The 128 bytes; `crypto::Accept` reads them.
        payload: Bytes,
    },
    /// A sealed payload: nonce, ciphertext, tag.
    Data {
        /// The session.
        session: SessionId,
        /// At least 28 bytes.
        payload: Bytes,
    },
    /// A daemon's word about a session.
    Signal {
        /// The session.
        session: SessionId,
        /// What.
        signal: Signal,
        /// Why.
        reason: Reason,
    },
    /// Asks for a Pong.
    Ping(Bytes),
    /// Answers a Ping.
    Pong(Bytes),
    /// A relay's word to an endpoint.
    Control {
        /// The session that it is about; `None` if the header's id is zero.
        session: Option<SessionId>,
        /// What happened, or a number that the table does not have.
        code: Result<ControlCode, UnknownControlCode>,
        /// Words for people; never decides anything (WIRE-06).
        message: String,
    },
}

/// Why an endpoint refuses a message (WIRE-02, WIRE-21: `malformed_frame`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The header is refused.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The payload has not the size of its type (WIRE-02).
    #[error("a {} frame with {length} payload bytes", frame_type.name())]
    Size {
        /// The frame's type.
        frame_type: FrameType,
        /// The session that its header names; zero for none.
        session: u64,
        /// Bytes of the payload.
        length: usize,
    },
    /// No such signal (WIRE-08).
    #[error("unknown signal 0x{signal:02x}")]
    UnknownSignal {
        /// The session that its header names.
        session: u64,
        /// The signal byte.
        signal: u8,
    },
}

impl Frame {
    /// Reads one whole message. Payloads stay slices of it.
    ///
    /// # Errors
    /// Everything that an endpoint counts as `malformed_frame`.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        let header = Header::parse(message)?;
        let payload = message.slice(HEADER_LEN..);
        let Header { frame_type, length, session } = header;
        let size = DecodeError::Size { frame_type, session, length };
        // WIRE-14 was checked by the header: these types carry a session.
        let id = || SessionId::new(session).ok_or(HeaderError::SessionId { frame_type, session });
        Ok(match frame_type {
            FrameType::HandshakeInit => {
                Self::HandshakeInit { session: id()?, client_ephemeral: payload[..].try_into().map_err(|_| size)? }
            }
            FrameType::HandshakeAccept if length == ACCEPT_LEN => Self::HandshakeAccept { session: id()?, payload },
            FrameType::Data if length >= NONCE_LEN + TAG_LEN => Self::Data { session: id()?, payload },
            FrameType::HandshakeAccept | FrameType::Data => return Err(size),
            FrameType::Signal => {
                let (signal, reason) = decode_signal(session, &payload)?;
                Self::Signal { session: id()?, signal, reason }
            }
            FrameType::Ping => Self::Ping(payload),
            FrameType::Pong => Self::Pong(payload),
            FrameType::Control => {
                let Some((code, text)) = payload.split_first_chunk::<2>() else { return Err(size) };
                let code = u16::from_be_bytes(*code);
                let code = ControlCode::from_u16(code).ok_or(UnknownControlCode(code));
                // WIRE-06: invalid UTF-8 is replaced.
                Self::Control {
                    session: SessionId::new(session),
                    code,
                    message: String::from_utf8_lossy(text).into_owned(),
                }
            }
        })
    }

    /// The frame's type.
    pub const fn frame_type(&self) -> FrameType {
        match self {
            Self::HandshakeInit { .. } => FrameType::HandshakeInit,
            Self::HandshakeAccept { .. } => FrameType::HandshakeAccept,
            Self::Data { .. } => FrameType::Data,
            Self::Signal { .. } => FrameType::Signal,
            Self::Ping(_) => FrameType::Ping,
            Self::Pong(_) => FrameType::Pong,
            Self::Control { .. } => FrameType::Control,
        }
    }

    /// The session id as it stands in the header, 0 for none.
    pub fn session(&self) -> u64 {
        match self {
            Self::HandshakeInit { session, .. }
            | Self::HandshakeAccept { session, .. }
            | Self::Data { session, .. }
            | Self::Signal { session, .. } => session.get(),
            Self::Ping(_) | Self::Pong(_) => 0,
            Self::Control { session, .. } => session.map_or(0, SessionId::get),
        }
    }

    fn payload_len(&self) -> usize {
        match self {
            Self::HandshakeInit { .. } => INIT_LEN,
            Self::Signal { .. } => SIGNAL_LEN,
            Self::HandshakeAccept { payload, .. } | Self::Data { payload, .. } => payload.len(),
            Self::Ping(payload) | Self::Pong(payload) => payload.len(),
            Self::Control { message, .. } => 2 + message.len(),
        }
    }

    /// The frame's bytes, in one new buffer.
    pub fn encode(&self) -> Bytes {
        let length = self.payload_len();
        let mut out = BytesMut::with_capacity(HEADER_LEN + length);
        out.put_slice(&Header { frame_type: self.frame_type(), length, session: self.session() }.encode());
        match self {
            Self::HandshakeInit { client_ephemeral, .. } => out.put_slice(client_ephemeral),
            Self::HandshakeAccept { payload, .. } | Self::Data { payload, .. } => out.put_slice(payload),
            Self::Ping(payload) | Self::Pong(payload) => out.put_slice(payload),
            Self::Signal { signal, reason, .. } => out.put_slice(&[*signal as u8, *reason as u8]),
            Self::Control { code, message, .. } => {
                out.put_u16(match code {
                    Ok(code) => code.code(),
                    Err(UnknownControlCode(code)) => *code,
                });
                out.put_slice(message.as_bytes());
            }
        }
        out.freeze()
    }
}

/// Reads a Signal's payload (WIRE-08): two bytes, a known signal, any reason.
///
/// # Errors
/// Another size or an unknown signal, which is `malformed_frame`.
pub fn decode_signal(session: u64, payload: &[u8]) -> Result<(Signal, Reason), DecodeError> {
    let &[signal, reason] = payload else {
        return Err(DecodeError::Size { frame_type: FrameType::Signal, session, length: payload.len() });
    };
    let signal = Signal::from_byte(signal).ok_or(DecodeError::UnknownSignal { session, signal })?;
    Ok((signal, Reason::from_byte(reason)))
}

/// A Control frame with this project's fixed message for the code (WIRE-07). `session` is the id that the
/// header carries: pass the session's for a code of session scope and 0 otherwise.
pub fn control_message(code: ControlCode, session: u64) -> Bytes {
    Frame::Control { session: SessionId::new(session), code: Ok(code), message: code.message().to_owned() }.encode()
}
