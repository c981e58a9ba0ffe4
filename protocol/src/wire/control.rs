//! The table of Control codes: one macro row a code, so that no part of it can drift from another.

use std::fmt;

use super::close;

/// Which session id the header of a Control frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The session that it is about.
    Session,
    /// Zero: it is about the connection.
    Connection,
}

macro_rules! control_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, terminal: $terminal:literal, $scope:ident;)*) => {
        /// What a relay tells an endpoint.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum ControlCode { $($(#[$doc])* $variant = $code,)* }

        impl ControlCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code for a number, or `None` for one that the table has not (WIRE-05: terminal for an endpoint).
            pub const fn from_u16(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The name in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether the relay closes the WebSocket right after it (WIRE-09).
            pub const fn is_terminal(self) -> bool {
                match self { $(Self::$variant => $terminal,)* }
            }

            /// Whether its header carries the session id.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)* }
            }
        }
    };
}

control_codes! {
    /// The token was refused after the upgrade.
    Unauthorized = 0x0101, "unauthorized", terminal: true, Connection;
    /// The token is good, the access not allowed.
    Forbidden = 0x0102, "forbidden", terminal: true, Connection;
    /// No such daemon.
    DaemonNotFound = 0x0201, "daemon_not_found", terminal: true, Session;
    /// The daemon is not connected.
    DaemonOffline = 0x0202, "daemon_offline", terminal: true, Session;
    /// A frame for a session that is not there.
    SessionNotFound = 0x0301, "session_not_found", terminal: true, Session;
    /// Grace over, Signal(close), or policy.
    SessionExpired = 0x0302, "session_expired", terminal: true, Session;
    /// The header is cut short, or its length is not the bytes that follow.
    MalformedFrame = 0x0401, "malformed_frame", terminal: true, Connection;
    /// The declared length is over 65,536 bytes.
    PayloadTooLarge = 0x0402, "payload_too_large", terminal: true, Connection;
    /// The type is not in the table.
    InvalidFrameType = 0x0403, "invalid_frame_type", terminal: true, Connection;
    /// Zero where a session is needed, or the reverse.
    InvalidSessionId = 0x0404, "invalid_session_id", terminal: true, Connection;
    /// This side may not send this type.
    DisallowedSender = 0x0405, "disallowed_sender", terminal: true, Session;
    /// A fault of the relay.
    InternalError = 0x0601, "internal_error", terminal: true, Connection;
    /// Too many frames.
    RateLimited = 0x0901, "rate_limited", terminal: false, Connection;
    /// The receiver is too slow.
    Backpressure = 0x0902, "backpressure", terminal: true, Connection;
    /// To a client: the daemon is gone.
    SessionPaused = 0x1001, "session_paused", terminal: false, Session;
    /// To a client: the daemon is ready again.
    SessionResumed = 0x1002, "session_resumed", terminal: false, Session;
    /// To a daemon: the client is gone.
    SessionEnded = 0x1003, "session_ended", terminal: false, Session;
    /// To a client: the daemon is back, not yet ready.
    SessionPending = 0x1004, "session_pending", terminal: false, Session;
}

impl ControlCode {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The close code that follows a terminal code (WIRE-09).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Unauthorized | Self::Forbidden => close::POLICY,
            Self::MalformedFrame
            | Self::PayloadTooLarge
            | Self::InvalidFrameType
            | Self::InvalidSessionId
            | Self::DisallowedSender => close::PROTOCOL,
            Self::InternalError => close::INTERNAL,
            Self::Backpressure => close::TRY_AGAIN,
            Self::DaemonNotFound
            | Self::DaemonOffline
            | Self::SessionNotFound
            | Self::SessionExpired
            | Self::RateLimited
            | Self::SessionPaused
            | Self::SessionResumed
            | Self::SessionEnded
            | Self::SessionPending => close::NORMAL,
        }
    }

    /// The message that this project's relay sends with the code: fixed words, no ids (WIRE-07).
    pub const fn message(self) -> &'static str {
        match self {
            Self::Unauthorized => "token refused",
            Self::Forbidden => "access not allowed",
            Self::DaemonNotFound => "no such daemon",
            Self::DaemonOffline => "the daemon is not connected",
            Self::SessionNotFound => "no such session",
            Self::SessionExpired => "the session is over",
            Self::MalformedFrame => "the frame is malformed",
            Self::PayloadTooLarge => "the payload is too large",
            Self::InvalidFrameType => "unknown frame type",
            Self::InvalidSessionId => "the session id does not fit the frame type",
            Self::DisallowedSender => "this side may not send this frame type",
            Self::InternalError => "the relay failed",
            Self::RateLimited => "too many frames",
            Self::Backpressure => "the receiver is too slow",
            Self::SessionPaused => "the daemon is gone",
            Self::SessionResumed => "the daemon is ready again",
            Self::SessionEnded => "the client is gone",
            Self::SessionPending => "the daemon is back, not yet ready",
        }
    }
}

impl fmt::Display for ControlCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A code that the table does not have; an endpoint treats it as terminal (WIRE-05).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnknownControlCode(pub u16);

impl fmt::Display for UnknownControlCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown control code 0x{:04x}", self.0)
    }
}
