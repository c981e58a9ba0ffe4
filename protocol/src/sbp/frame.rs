//! Frames: their layout, and what is wrong with one that breaks it (SBP-01, SBP-02).

use std::{fmt, str::FromStr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use data_encoding::HEXLOWER;

use super::MAX_SUBJECT;
use crate::entropy::{self, Entropy};

/// Kind, flags and frame id.
const HEAD: usize = 18;
const HAS_TIMESTAMP: u8 = 1;

/// 16 random bytes, new for every frame (SBP-01). Shown as 32 lower-case hex digits, as a `cid` is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId([u8; 16]);

impl FrameId {
    /// A new id.
    pub fn random(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self(entropy::bytes(entropy))
    }

    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        HEXLOWER.encode_mut(&self.0, &mut text);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not a frame id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame id is 32 lower-case hex digits")]
pub struct ParseFrameIdError;

impl FromStr for FrameId {
    type Err = ParseFrameIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| ParseFrameIdError)?;
        Ok(Self(bytes.try_into().map_err(|_| ParseFrameIdError)?))
    }
}

/// The codes of SBP Error frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum ErrorCode {
    /// Something came before the handshake.
    ProtocolViolation = 1000,
    /// Another protocol or version.
    UnsupportedVersion = 1001,
    /// The frame breaks the layout.
    InvalidFrame = 1002,
    /// A feature that this side does not have.
    UnsupportedFeature = 1003,
}

impl ErrorCode {
    /// The code for a number.
    pub const fn from_u16(code: u16) -> Option<Self> {
        Some(match code {
            1000 => Self::ProtocolViolation,
            1001 => Self::UnsupportedVersion,
            1002 => Self::InvalidFrame,
            1003 => Self::UnsupportedFeature,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameBody {
    /// The introduction's JSON, not yet read.
    Handshake(Bytes),
    /// Asks for a Pong.
    Ping,
    /// Answers a Ping.
    Pong,
    /// Ends the session (SBP-07).
    Close {
        /// Words for people; empty for none.
        reason: String,
    },
    /// Data on a subject; the subject is checked for layout only.
    Message {
        /// At most 256 bytes, not empty, no NUL.
        subject: String,
        /// The data.
        data: Bytes,
    },
    /// Confirms that a frame arrived.
    Ack(FrameId),
    /// Says what was wrong with the frame whose id stands in the header.
    Error {
        /// One of [`ErrorCode`], or another.
        code: u16,
        /// Words for people.
        message: String,
        /// Whatever else.
        details: Bytes,
    },
}

/// One SBP frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The frame's id; for an Error the id of the frame that it is about.
    pub id: FrameId,
    /// Milliseconds since 1970, if the sender gave them.
    pub timestamp: Option<i64>,
    /// What it says.
    pub body: FrameBody,
}

/// A frame that breaks the layout (SBP-02).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BrokenFrame {
    /// The frame's id, if it could be read.
    pub id: Option<FrameId>,
    /// Whether it is answered with Error 1002: not if its kind is Ack or Error.
    pub answered: bool,
    /// Whether the session closes: reserved flag bits were set.
    pub fatal: bool,
    /// What is wrong.
    pub reason: &'static str,
}

fn take<const N: usize>(bytes: &mut Bytes) -> Option<[u8; N]> {
    let out = *bytes.first_chunk::<N>()?;
    bytes.advance(N);
    Some(out)
}

/// A text behind its u32 length.
fn take_text(bytes: &mut Bytes, short: &'static str, not_text: &'static str) -> Result<String, &'static str> {
    let length = u32::from_le_bytes(take(bytes).ok_or(short)?) as usize;
    if length > bytes.len() {
        return Err(short);
    }
    let text = bytes.split_to(length);
    std::str::from_utf8(&text).map(str::to_owned).map_err(|_| not_text)
}

fn decode_body(kind: u8, mut rest: Bytes) -> Result<FrameBody, &'static str> {
    Ok(match kind {
        0 => {
            let [op] = take(&mut rest).ok_or("a Control frame without an operation")?;
            match op {
                0 if rest.is_empty() => return Err("a handshake without data"),
                0 => FrameBody::Handshake(rest),
                1 if rest.is_empty() => FrameBody::Ping,
                2 if rest.is_empty() => FrameBody::Pong,
                1 | 2 => return Err("a Ping or Pong with data"),
                3 => FrameBody::Close {
                    reason: std::str::from_utf8(&rest).map_err(|_| "a close reason that is not UTF-8")?.to_owned(),
                },
                _ => return Err("an unknown Control operation"),
            }
        }
        1 => {
            let subject =
                take_text(&mut rest, "a subject that is longer than the frame", "a subject that is not UTF-8")?;
            if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.contains('\0') {
                return Err("a subject is 1 to 256 bytes without NUL");
            }
            FrameBody::Message { subject, data: rest }
        }
        2 => FrameBody::Ack(FrameId(rest[..].try_into().map_err(|_| "an Ack is 16 bytes")?)),
        3 => {
            let code = u16::from_le_bytes(take(&mut rest).ok_or("an Error without a code")?);
            let message = take_text(
                &mut rest,
                "an Error message that is longer than the frame",
                "an Error message that is not UTF-8",
            )?;
            FrameBody::Error { code, message, details: rest }
        }
        _ => return Err("an unknown frame kind"),
    })
}

impl Frame {
    /// A frame with a new id and no timestamp.
    pub fn new(body: FrameBody, entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self { id: FrameId::random(entropy), timestamp: None, body }
    }

    /// Reads a plaintext; data stay slices of it.
    ///
    /// # Errors
    /// Everything that breaks the layout.
    pub fn decode(plaintext: &Bytes) -> Result<Self, BrokenFrame> {
        let kind = plaintext.first().copied();
        // SBP-02: frames of kind 2 and 3 are never answered.
        let answered = !matches!(kind, Some(2 | 3));
        let broken = |id, fatal, reason| BrokenFrame { id, answered, fatal, reason };
        let mut rest = plaintext.clone();
        let (Some([kind, flags]), Some(id)) = (take::<2>(&mut rest), take::<16>(&mut rest)) else {
            return Err(broken(None, false, "a frame of fewer than 18 bytes"));
        };
        let id = FrameId(id);
        if flags & !HAS_TIMESTAMP != 0 {
            return Err(broken(Some(id), true, "reserved flag bits are set"));
        }
        let timestamp = if flags & HAS_TIMESTAMP == 0 {
            None
        } else {
            match take::<8>(&mut rest) {
                Some(bytes) => Some(i64::from_le_bytes(bytes)),
                None => return Err(broken(Some(id), false, "a timestamp flag without room for the timestamp")),
            }
        };
        let body = decode_body(kind, rest).map_err(|reason| broken(Some(id), false, reason))?;
        Ok(Self { id, timestamp, body })
    }

    /// Appends the frame's bytes.
    pub fn write(&self, out: &mut BytesMut) {
        let kind = match &self.body {
            FrameBody::Handshake(_) | FrameBody::Ping | FrameBody::Pong | FrameBody::Close { .. } => 0,
            FrameBody::Message { .. } => 1,
            FrameBody::Ack(_) => 2,
            FrameBody::Error { .. } => 3,
        };
        write_head(out, kind, &self.id, self.timestamp);
        match &self.body {
            FrameBody::Handshake(json) => {
                out.put_u8(0);
                out.put_slice(json);
            }
            FrameBody::Ping => out.put_u8(1),
            FrameBody::Pong => out.put_u8(2),
            FrameBody::Close { reason } => {
                out.put_u8(3);
                out.put_slice(reason.as_bytes());
            }
            FrameBody::Message { subject, data } => {
                write_text(out, subject);
                out.put_slice(data);
            }
            FrameBody::Ack(id) => out.put_slice(&id.0),
            FrameBody::Error { code, message, details } => {
                out.put_u16_le(*code);
                write_text(out, message);
                out.put_slice(details);
            }
        }
    }

    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.write(&mut out);
        out.freeze()
    }
}

fn write_text(out: &mut BytesMut, text: &str) {
    out.put_u32_le(text.len() as u32);
    out.put_slice(text.as_bytes());
}

fn write_head(out: &mut BytesMut, kind: u8, id: &FrameId, timestamp: Option<i64>) {
    out.reserve(HEAD + 8);
    out.put_u8(kind);
    out.put_u8(if timestamp.is_some() { HAS_TIMESTAMP } else { 0 });
    out.put_slice(&id.0);
    if let Some(timestamp) = timestamp {
        out.put_i64_le(timestamp);
    }
}

/// Appends a Message whose data `write` appends in place.
pub fn write_message(out: &mut BytesMut, id: &FrameId, subject: &str, write: impl FnOnce(&mut BytesMut)) {
    write_head(out, 1, id, None);
    write_text(out, subject);
    write(out);
}
