//! Subjects: SBP-04.

use std::fmt;

use super::ErrorCode;

/// Most bytes of a subject (SBP-04).
pub const MAX_SUBJECT: usize = 256;

/// What a Message is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Requests and answers.
    Rpc,
    /// Events.
    Event,
    /// An application's own: `app/…`, with the prefix.
    App(String),
}

/// Why a subject is refused, with the SBP error code that answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// `stream` and `stream/…`: Error 1003.
    #[error("streams are not supported")]
    Unsupported,
    /// Every other one: Error 1002.
    #[error("a subject is `rpc`, `event` or `app/…`, at most 256 bytes, without NUL")]
    Invalid,
}

impl SubjectError {
    /// The SBP error code that answers the frame.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Unsupported => ErrorCode::UnsupportedFeature,
            Self::Invalid => ErrorCode::InvalidFrame,
        }
    }
}

impl Subject {
    /// Reads a subject.
    ///
    /// # Errors
    /// See [`SubjectError`].
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        if text.len() > MAX_SUBJECT || text.contains('\0') {
            return Err(SubjectError::Invalid);
        }
        match text {
            "rpc" => Ok(Self::Rpc),
            "event" => Ok(Self::Event),
            "stream" => Err(SubjectError::Unsupported),
            _ if text.starts_with("stream/") => Err(SubjectError::Unsupported),
            _ if text.starts_with("app/") => Ok(Self::App(text.to_owned())),
            _ => Err(SubjectError::Invalid),
        }
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rpc => "rpc",
            Self::Event => "event",
            Self::App(text) => text,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
