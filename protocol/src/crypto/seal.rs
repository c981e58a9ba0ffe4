//! Sealing and opening Data payloads: CRY-04 to CRY-09.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    SessionKeys,
    cipher::Cipher,
    replay::{ReplayWindow, Replayed},
};
use crate::{
    SessionId,
    quirks::{Quirk, Quirks},
    wire::{FrameType, HEADER_LEN, Header, MAX_PLAINTEXT, NONCE_LEN, TAG_LEN},
};

/// Sequences that an [`Opener`] remembers unless told otherwise (CRY-06).
pub const DEFAULT_WINDOW: u32 = 1_024;

/// Which way a message goes; part of its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// Sealed by the client.
    ClientToDaemon = 1,
    /// Sealed by the daemon.
    DaemonToClient = 2,
}

impl Direction {
    fn key(self, keys: &SessionKeys) -> &[u8; 32] {
        match self {
            Self::ClientToDaemon => &keys.client_to_daemon,
            Self::DaemonToClient => &keys.daemon_to_client,
        }
    }
}

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The plaintext is over 65,508 bytes (WIRE-01).
    #[error("{0} bytes do not fit into one frame, which takes {MAX_PLAINTEXT}")]
    TooLarge(usize),
    /// Sequence 2^64 − 1 is reached; the session must end (CRY-05).
    #[error("the session's sequences are used up")]
    Exhausted,
}

/// Why a payload was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Fewer than 28 bytes (WIRE-02): `malformed_frame`.
    #[error("a Data payload of {0} bytes; the least is 28")]
    Short(usize),
    /// The nonce names the other direction, or the tag does not fit (CRY-09): `decrypt_failed`, the session ends.
    #[error("the message does not open")]
    Forged,
    /// The sequence was seen or is too old (CRY-06): `sequence_error`, the session goes on.
    #[error(transparent)]
    Replayed(#[from] Replayed),
}

/// Seals what one side sends.
pub struct Sealer {
    cipher: Cipher,
    direction: Direction,
    next: u64,
    quirks: Quirks,
}

impl Sealer {
    /// A sealer whose first sequence is 0 (CRY-04).
    pub fn new(keys: &SessionKeys, direction: Direction) -> Self {
        Self::starting_at(direction.key(keys), direction, 0)
    }

    /// A sealer whose first sequence is given; for known answers and tests at the edge.
    pub fn starting_at(key: &[u8; 32], direction: Direction, next: u64) -> Self {
        Self { cipher: Cipher::new(key), direction, next, quirks: Quirks::NONE }
    }

    /// From now on is wrong on purpose; for tests.
    pub fn set_quirks(&mut self, quirks: Quirks) {
        self.quirks = quirks;
    }

    /// From here on counts on from this sequence; for tests at the edge.
    #[doc(hidden)]
    pub fn continue_at(&mut self, next: u64) {
        self.next = next;
    }

    /// The sequence of the next message.
    pub const fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Makes one whole Data frame: `write` appends the plaintext to `buffer` behind room for header and nonce, it is sealed where
    /// it stands, and the frame is split off. Give the same buffer every time and its memory is used again.
    ///
    /// # Errors
    /// A plaintext over 65,508 bytes, or sequences used up. The buffer is then empty and nothing was counted.
    pub fn seal_frame(
        &mut self,
        session: SessionId,
        buffer: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<Bytes, SealError> {
        const TEXT: usize = HEADER_LEN + NONCE_LEN;
        buffer.clear();
        buffer.put_bytes(0, TEXT);
        write(buffer);
        let length = buffer.len() - TEXT;
        let sealed =
            if length > MAX_PLAINTEXT { Err(SealError::TooLarge(length)) } else { self.seal_text(&mut buffer[TEXT..]) };
        let (nonce, tag) = match sealed {
            Ok(sealed) => sealed,
            Err(error) => {
                buffer.clear();
                return Err(error);
            }
        };
        let length = NONCE_LEN + length + TAG_LEN;
        buffer[..HEADER_LEN]
            .copy_from_slice(&Header { frame_type: FrameType::Data, length, session: session.get() }.encode());
        buffer[HEADER_LEN..TEXT].copy_from_slice(&nonce);
        buffer.put_slice(&tag);
        Ok(buffer.split().freeze())
    }

    /// Seals a plaintext into a payload of its own; for known answers.
    ///
    /// # Errors
    /// As [`seal_frame`](Self::seal_frame).
    pub fn seal_payload(&mut self, plaintext: &[u8]) -> Result<Bytes, SealError> {
        let Some(session) = SessionId::new(1) else { return Err(SealError::Exhausted) };
        Ok(self.seal_frame(session, &mut BytesMut::new(), |out| out.put_slice(plaintext))?.slice(HEADER_LEN..))
    }

    fn seal_text(&mut self, text: &mut [u8]) -> Result<([u8; NONCE_LEN], [u8; TAG_LEN]), SealError> {
        // CRY-05: the last number is never used, so that the count can never wrap.
        if self.next == u64::MAX && !self.quirks.has(Quirk::WrapsSequences) {
            return Err(SealError::Exhausted);
        }
        let nonce = nonce(self.direction, self.next);
        let tag = self.cipher.seal(nonce, text).ok_or(SealError::TooLarge(text.len()))?;
        self.next = self.next.wrapping_add(if self.quirks.has(Quirk::SkipsSequences) { 2 } else { 1 });
        Ok((nonce, tag))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("direction", &self.direction).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Opens what the other side sent.
pub struct Opener {
    cipher: Cipher,
    direction: Direction,
    window: ReplayWindow,
    quirks: Quirks,
}

impl Opener {
    /// An opener for messages that go `direction`, with a window of [`DEFAULT_WINDOW`] sequences.
    pub fn new(keys: &SessionKeys, direction: Direction) -> Self {
        Self::with_key(direction.key(keys), direction)
    }

    /// As [`new`](Self::new), from the one key that it needs.
    pub fn with_key(key: &[u8; 32], direction: Direction) -> Self {
        Self { cipher: Cipher::new(key), direction, window: ReplayWindow::new(DEFAULT_WINDOW), quirks: Quirks::NONE }
    }

    /// From now on is wrong on purpose; for tests.
    pub fn set_quirks(&mut self, quirks: Quirks) {
        self.quirks = quirks;
    }

    /// Opens a payload in place where it owns its memory alone, else in a copy.
    ///
    /// The order is CRY-06's: direction, window, opening, and only then the window moves (CRY-08).
    ///
    /// # Errors
    /// See [`OpenError`]; the window is as before.
    pub fn open(&mut self, payload: Bytes) -> Result<Bytes, OpenError> {
        let length = payload.len();
        if length < NONCE_LEN + TAG_LEN {
            return Err(OpenError::Short(length));
        }
        let mut head = [0; NONCE_LEN];
        head.copy_from_slice(&payload[..NONCE_LEN]);
        let [d0, d1, d2, d3, sequence @ ..] = head;
        if u32::from_be_bytes([d0, d1, d2, d3]) != self.direction as u32 && !self.quirks.has(Quirk::TakesOtherDirection)
        {
            return Err(OpenError::Forged);
        }
        let sequence = u64::from_be_bytes(sequence);
        let known = match self.window.check(sequence) {
            Err(_) if self.quirks.has(Quirk::ForgetsWindow) => Ok(()),
            Ok(()) if self.quirks.has(Quirk::RefusesOutOfOrder) && self.window.is_below_highest(sequence) => {
                Err(Replayed(sequence))
            }
            known => known,
        };
        if !self.quirks.has(Quirk::OpensBeforeWindow) {
            known?;
        }
        if self.quirks.has(Quirk::MovesWindowFirst) || self.quirks.has(Quirk::MovesWindowForForgery) {
            self.window.mark(sequence);
        }
        let mut payload = payload.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&payload[length - TAG_LEN..]);
        if !self.cipher.open(head, &mut payload[NONCE_LEN..length - TAG_LEN], tag) {
            if self.quirks.has(Quirk::MovesWindowForForgery) {
                return Err(Replayed(sequence).into());
            }
            return Err(OpenError::Forged);
        }
        known?;
        self.window.mark(sequence);
        payload.truncate(length - TAG_LEN);
        Ok(payload.freeze().slice(NONCE_LEN..))
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("direction", &self.direction).finish_non_exhaustive()
    }
}

fn nonce(direction: Direction, sequence: u64) -> [u8; NONCE_LEN] {
    let mut out = [0; NONCE_LEN];
    out[..4].copy_from_slice(&(direction as u32).to_be_bytes());
    out[4..].copy_from_slice(&sequence.to_be_bytes());
    out
}
