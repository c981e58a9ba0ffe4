//! SBP: the frames inside a sealed payload (`docs/spec/5-endpoints.md`). Integers are little-endian.

mod frame;
mod introduction;
mod subject;

pub use frame::{BrokenFrame, ErrorCode, Frame, FrameBody, FrameId, ParseFrameIdError, write_message};
pub use introduction::{Introduction, IntroductionError};
pub use subject::{MAX_SUBJECT, Subject, SubjectError};
