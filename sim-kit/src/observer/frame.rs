//! A frame as the observer sees it: its header, its size, what is meant for the relay itself, and a Data's nonce.

use sideband_protocol::{
    SessionId,
    wire::{FrameType, HEADER_LEN, Header, HeaderError, NONCE_LEN, Reason, SIGNAL_LEN, Signal},
};

use crate::event::FrameDetail;

/// What is wrong with a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongHeader {
    /// Fewer than 13 bytes, or a length that is not that of what follows (WIRE-11).
    Malformed,
    /// A payload of more than 65,536 bytes is declared (WIRE-01).
    TooLarge,
    /// A Ping or Pong of more than 8 bytes (WIRE-12).
    LongPing,
    /// No such type (WIRE-13).
    UnknownType,
    /// Session id zero where one is needed, or the reverse (WIRE-14).
    SessionId,
}

impl WrongHeader {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Malformed, Self::TooLarge, Self::LongPing, Self::UnknownType, Self::SessionId];

    /// The name in snake case, as events write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::LongPing => "long_ping",
            Self::UnknownType => "unknown_type",
            Self::SessionId => "session_id",
        }
    }
}

/// The bytes of a Ping or Pong, at most 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Echo {
    bytes: [u8; 8],
    length: u8,
}

impl Echo {
    /// The bytes of a payload; what is over 8 is left out.
    pub fn new(payload: &[u8]) -> Self {
        let mut echo = Self::default();
        for (to, from) in echo.bytes.iter_mut().zip(payload) {
            *to = *from;
            echo.length += 1;
        }
        echo
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What is looked at behind the header. ◇ Of what is forwarded this is a Data's nonce alone, which is in clear: forwarding does
/// not depend on it (WIRE-18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// Nothing.
    Nothing,
    /// A Signal's two bytes.
    Signal {
        /// What.
        signal: u8,
        /// Why.
        reason: u8,
    },
    /// A Ping's or Pong's bytes.
    Echo(Echo),
    /// A Data's nonce.
    Nonce {
        /// Whom the message is for: 1 the daemon, 2 the client.
        direction: u32,
        /// Its number.
        sequence: u64,
    },
    /// A Control's code.
    Control(u16),
}

/// One frame, seen from outside. Made without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSeen {
    /// The type; none for an unknown one or an empty message.
    pub frame_type: Option<FrameType>,
    /// The session id that the header names; none for zero or a header cut short.
    pub session: Option<SessionId>,
    /// Bytes of the whole message.
    pub bytes: usize,
    /// What is wrong with the header.
    pub wrong: Option<WrongHeader>,
    /// What is looked at behind it.
    pub inside: Inside,
}

impl FrameSeen {
    /// Looks at one binary message.
    pub fn read(message: &[u8]) -> Self {
        let frame_type = message.first().and_then(|&byte| FrameType::from_byte(byte));
        let id = message.get(5..HEADER_LEN).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
        let wrong = Header::parse(message).err().map(|error| match error {
            HeaderError::Short(_) | HeaderError::LengthMismatch { .. } => WrongHeader::Malformed,
            HeaderError::TooLarge(_) if matches!(frame_type, Some(FrameType::Ping | FrameType::Pong)) => {
                WrongHeader::LongPing
            }
            HeaderError::TooLarge(_) => WrongHeader::TooLarge,
            HeaderError::UnknownType(_) => WrongHeader::UnknownType,
            HeaderError::SessionId { .. } => WrongHeader::SessionId,
        });
        let inside = match (wrong, frame_type) {
            (None, Some(frame_type)) => look(frame_type, &message[HEADER_LEN..]),
            (Some(_), _) | (None, None) => Inside::Nothing,
        };
        Self { frame_type, session: id.and_then(SessionId::new), bytes: message.len(), wrong, inside }
    }

    /// Bytes behind the header.
    pub const fn payload(&self) -> usize {
        self.bytes.saturating_sub(HEADER_LEN)
    }

    /// The type's name in snake case, `unknown` for others.
    pub fn name(&self) -> &'static str {
        self.frame_type.map_or("unknown", FrameType::name)
    }

    /// What an event tells besides type and size.
    pub fn detail(&self) -> FrameDetail {
        let mut detail = FrameDetail { wrong: self.wrong.map(|wrong| wrong.name().to_owned()), ..Default::default() };
        match self.inside {
            Inside::Nothing => {}
            Inside::Signal { signal, reason } => {
                detail.signal = Some(match Signal::from_byte(signal) {
                    Some(signal) => signal.name().to_owned(),
                    None => format!("0x{signal:02x}"),
                });
                detail.reason = Some(Reason::from_byte(reason).name().to_owned());
            }
            Inside::Echo(echo) => {
                detail.echo = Some(echo.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect());
            }
            Inside::Nonce { direction, sequence } => {
                (detail.direction_of_nonce, detail.sequence) = (Some(direction), Some(sequence));
            }
            Inside::Control(code) => detail.code = Some(code),
        }
        detail
    }

    /// The frame that an event tells of.
    pub fn from_event(name: &str, session: Option<SessionId>, bytes: usize, detail: &FrameDetail) -> Self {
        let wrong = detail.wrong.as_deref().and_then(|name| WrongHeader::ALL.into_iter().find(|w| w.name() == name));
        let frame_type = FrameType::ALL.into_iter().find(|frame_type| frame_type.name() == name);
        let inside = if let Some(signal) = &detail.signal {
            Inside::Signal { signal: signal_byte(signal), reason: reason_byte(detail.reason.as_deref()) }
        } else if let Some(echo) = &detail.echo {
            Inside::Echo(Echo::new(&hex(echo)))
        } else if let (Some(direction), Some(sequence)) = (detail.direction_of_nonce, detail.sequence) {
            Inside::Nonce { direction, sequence }
        } else if let Some(code) = detail.code {
            Inside::Control(code)
        } else {
            Inside::Nothing
        };
        Self { frame_type, session, bytes, wrong, inside }
    }
}

fn look(frame_type: FrameType, payload: &[u8]) -> Inside {
    match frame_type {
        FrameType::HandshakeInit | FrameType::HandshakeAccept => Inside::Nothing,
        FrameType::Data => match payload.first_chunk::<NONCE_LEN>() {
            Some(&[d0, d1, d2, d3, s0, s1, s2, s3, s4, s5, s6, s7]) => Inside::Nonce {
                direction: u32::from_be_bytes([d0, d1, d2, d3]),
                sequence: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            },
            None => Inside::Nothing,
        },
        FrameType::Signal => match payload.first_chunk::<SIGNAL_LEN>() {
            Some(&[signal, reason]) => Inside::Signal { signal, reason },
            None => Inside::Nothing,
        },
        FrameType::Ping | FrameType::Pong => Inside::Echo(Echo::new(payload)),
        FrameType::Control => match payload.first_chunk::<2>() {
            Some(code) => Inside::Control(u16::from_be_bytes(*code)),
            None => Inside::Nothing,
        },
    }
}

fn signal_byte(name: &str) -> u8 {
    let known = [Signal::Ready, Signal::Close].into_iter().find(|signal| signal.name() == name);
    let number = || u8::from_str_radix(name.trim_start_matches("0x"), 16).unwrap_or(u8::MAX);
    known.map_or_else(number, |signal| signal as u8)
}

fn reason_byte(name: Option<&str>) -> u8 {
    let all = [Reason::None, Reason::StateLost, Reason::Shutdown, Reason::Policy, Reason::Error];
    all.into_iter().find(|reason| Some(reason.name()) == name).unwrap_or(Reason::None) as u8
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sideband_protocol::wire::{ControlCode, Frame, control_message};

    use super::*;

    fn through_an_event(seen: &FrameSeen) -> FrameSeen {
        let text = serde_json::to_string(&seen.detail()).unwrap();
        FrameSeen::from_event(seen.name(), seen.session, seen.bytes, &serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn what_is_seen_of_a_frame_survives_its_event() {
        let session = SessionId::new(u64::MAX - 3).unwrap();
        let mut nonce = vec![0, 0, 0, 2];
        nonce.extend((u64::MAX - 1).to_be_bytes());
        nonce.extend([9; 20]);
        let mut unknown_signal =
            Frame::Signal { session, signal: Signal::Ready, reason: Reason::None }.encode().to_vec();
        unknown_signal[HEADER_LEN] = 7;
        let messages: Vec<Bytes> = vec![
            Frame::HandshakeInit { session, client_ephemeral: [1; 32] }.encode(),
            Frame::Data { session, payload: nonce.into() }.encode(),
            Frame::Data { session, payload: Bytes::from_static(&[1; 5]) }.encode(),
            Frame::Signal { session, signal: Signal::Close, reason: Reason::StateLost }.encode(),
            unknown_signal.into(),
            Frame::Ping(Bytes::new()).encode(),
            Frame::Pong(Bytes::from_static(b"12345678")).encode(),
            control_message(ControlCode::SessionPaused, session.get()),
            Bytes::from_static(b"\x03\0"),
            Bytes::from_static(&[0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            Bytes::from_static(&[0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Bytes::new(),
        ];
        for message in messages {
            let seen = FrameSeen::read(&message);
            assert_eq!(through_an_event(&seen), seen, "{message:?}");
        }
    }

    #[test]
    fn of_a_payload_only_the_nonce_is_told() {
        let session = SessionId::new(1).unwrap();
        let mut payload = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5];
        payload.extend([0xab; 40]);
        let data = FrameSeen::read(&Frame::Data { session, payload: payload.into() }.encode());
        assert_eq!(data.inside, Inside::Nonce { direction: 1, sequence: 5 });
        let told = serde_json::to_string(&data.detail()).unwrap();
        assert_eq!(told, r#"{"directionOfNonce":1,"sequence":5}"#);
        let accept = FrameSeen::read(&Frame::HandshakeAccept { session, payload: vec![0xcd; 128].into() }.encode());
        assert_eq!(serde_json::to_string(&accept.detail()).unwrap(), "{}");
    }
}
