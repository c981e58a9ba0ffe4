//! How a command fails: an exit code, what is wrong, and what to do next.

use std::process::ExitCode;

use serde::Serialize;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "u8")]
pub(crate) enum Exit {
    /// Good.
    Good,
    /// The thing under test failed.
    Failed,
    /// Wrong use or configuration.
    Misuse,
    /// Could not run.
    CannotRun,
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Good => 0,
            Exit::Failed => 1,
            Exit::Misuse => 2,
            Exit::CannotRun => 3,
        }
    }
}

impl Exit {
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(u8::from(self))
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
    details: Details,
    hints: Vec<String>,
}

/// What a program may want to know of a failure.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Details {
    /// A stable code: a peer error's (`rpc_error`), an API's (`NOT_FOUND`), a relay's (`daemon_offline`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// The HTTP status, where an API or a relay refused with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// The other side's own error code, with `rpc_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rpc_code: Option<i64>,
    /// The other side's data, with `rpc_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Box<serde_json::value::RawValue>>,
}

#[derive(Serialize)]
struct ErrorEvent<'a> {
    event: &'static str,
    exit: Exit,
    #[serde(flatten)]
    details: &'a Details,
    message: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    hints: &'a [String],
}

impl Failure {
    fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), details: Details::default(), hints: Vec::new() }
    }

    /// The thing under test failed: exit 1.
    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Failed, error)
    }

    /// Wrong use or configuration: exit 2.
    pub(crate) fn misuse(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Misuse, error)
    }

    /// Could not run: exit 3.
    pub(crate) fn cannot_run(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::CannotRun, error)
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says what a program may want to know.
    #[must_use]
    pub(crate) fn details(mut self, details: Details) -> Self {
        self.details = details;
        self
    }

    /// What to do next, in place of what was said so far.
    #[must_use]
    pub(crate) fn instead(self, hints: Vec<String>) -> Self {
        Self { hints, ..self }
    }

    /// Its stable code, if it has one.
    pub(crate) fn code(&self) -> Option<&str> {
        self.details.code.as_deref()
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What is wrong, with its causes.
    pub(crate) fn message(&self) -> String {
        format!("{:#}", self.error)
    }

    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The failure as a line of NDJSON.
    pub(crate) fn event(&self) -> impl Serialize {
        ErrorEvent {
            event: "error",
            exit: self.exit,
            details: &self.details,
            message: self.message(),
            hints: &self.hints,
        }
    }
}
