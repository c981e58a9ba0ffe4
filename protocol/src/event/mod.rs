//! Event names and patterns: EVT-01.

use std::fmt;

/// Most bytes of a name or pattern.
pub const MAX_NAME: usize = 255;

/// The text is not an event name or pattern (`invalid_pattern`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {reason}")]
pub struct InvalidPattern {
    /// The text, cut to 80 characters.
    pub text: String,
    /// `an event name` or `an event pattern`.
    pub what: &'static str,
    /// What is wrong.
    pub reason: &'static str,
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

const SEGMENTS: &str = "segments of letters, digits, `_` and `-` are joined by `.`";

fn refuse(text: &str, what: &'static str, reason: &'static str) -> InvalidPattern {
    InvalidPattern { text: text.chars().take(80).collect(), what, reason }
}

/// A checked event name: `[A-Za-z0-9_-]+` segments joined by `.`, at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(String);

impl EventName {
    /// Checks a name.
    ///
    /// # Errors
    /// A bad segment or too many bytes.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidPattern> {
        let name = name.into();
        if name.len() > MAX_NAME {
            return Err(refuse(&name, "an event name", "it has more than 255 bytes"));
        }
        if !name.split('.').all(is_segment) {
            return Err(refuse(&name, "an event name", SEGMENTS));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A checked pattern: as a name, with `*` for exactly one segment and `>` for one or more at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPattern(String);

impl EventPattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// A bad segment, `**`, `>` elsewhere than at the end, or too many bytes.
    pub fn new(pattern: impl Into<String>) -> Result<Self, InvalidPattern> {
        let pattern = pattern.into();
        let fail = |reason| Err(refuse(&pattern, "an event pattern", reason));
        if pattern.len() > MAX_NAME {
            return fail("it has more than 255 bytes");
        }
        let mut segments = pattern.split('.').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "*" => {}
                ">" if segments.peek().is_none() => {}
                ">" => return fail("`>` stands for the rest and must be last"),
                "**" => return fail("use `>` for one or more segments"),
                _ if is_segment(segment) => {}
                _ => return fail(SEGMENTS),
            }
        }
        Ok(Self(pattern))
    }

    /// Whether an event with this name is meant.
    pub fn matches(&self, name: &EventName) -> bool {
        let mut names = name.0.split('.');
        for segment in self.0.split('.') {
            match (segment, names.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (segment, Some(name)) if segment == name => {}
                (_, Some(_) | None) => return false,
            }
        }
        names.next().is_none()
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
