//! A call, event or message that failed.

use std::{fmt, time::Duration};

use sideband_protocol::peer::CallError;

use super::Error;

/// Most characters of a name that are kept.
const MAX_NAME: usize = 200;

/// A call, event or message that failed: which one, how, and why.
///
/// [`source`](std::error::Error::source) is why its peer is over, where that is what it failed of.
#[derive(Debug, Clone)]
pub struct CallFailure {
    subject: Option<(&'static str, String)>,
    error: CallError,
    limit: Option<Limit>,
    why: Option<Error>,
}

/// The time limit that a call has passed (RPC-05).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Since it was sent.
    Sent(Duration),
    /// Since it was made.
    Made(Duration),
}

impl CallFailure {
    /// Of `what`, such as `the call of`, with this name.
    pub(crate) fn new(what: &'static str, name: &str, error: CallError) -> Self {
        let name = name.chars().take(MAX_NAME).collect();
        Self { subject: Some((what, name)), error, limit: None, why: None }
    }

    pub(crate) fn after(mut self, limit: Option<Limit>) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn because(mut self, why: Option<Error>) -> Self {
        self.why = why;
        self
    }

    /// The method, the event's name or the message's subject, at most 200 characters of it; `None` if it failed of none in particular.
    pub fn name(&self) -> Option<&str> {
        self.subject.as_ref().map(|(_, name)| &name[..])
    }

    /// How it failed.
    pub fn error(&self) -> &CallError {
        &self.error
    }

    /// The time limit that was passed, if it failed with [`CallError::Timeout`] (RPC-05).
    pub fn limit(&self) -> Option<Duration> {
        self.limit.map(|(Limit::Sent(time) | Limit::Made(time))| time)
    }

    /// Why its peer is over, where it failed of that and as far as that is known by then.
    pub fn why(&self) -> Option<&Error> {
        self.why.as_ref()
    }
}

impl From<CallError> for CallFailure {
    fn from(error: CallError) -> Self {
        Self { subject: None, error, limit: None, why: None }
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((what, name)) = &self.subject {
            write!(f, "{what} `{name}` failed: ")?;
        }
        match (&self.why, self.limit) {
            // It says itself that the peer is closed.
            (Some(why @ Error::Closed(_)), _) => write!(f, "{why}"),
            (Some(why), _) => write!(f, "{}: {why}", self.error),
            (None, Some(Limit::Sent(time))) => write!(f, "no answer within {time:?}"),
            (None, Some(Limit::Made(time))) => write!(f, "no answer within {time:?} in all"),
            (None, None) => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for CallFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.why.as_ref().map(|why| why as _)
    }
}
