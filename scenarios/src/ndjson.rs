//! Reads traces: NDJSON as `up --trace` and [`Trace::to_ndjson`] write it, one event a line.
//!
//! The file is somebody else's. It is read as a stream, a line and a trace have bounds, and every error names the line. Nothing of
//! a line is repeated in an error but the name of a kind that is not known, shortened.

use std::io::{self, BufRead, Read};

use serde::Deserialize;
use sideband_sim_kit::event::{Event, EventKind};

use crate::trace::Trace;

/// Most bytes of one line. The longest event that this project writes has a few hundred.
pub const MAX_LINE: usize = 64 << 10;
/// Most events that [`Trace::parse_ndjson`] keeps: some hundred MiB.
pub const MAX_EVENTS: usize = 2_000_000;
/// Most characters of an unknown kind's name that an error repeats.
const MAX_NAME: usize = 40;

/// A line of a trace that is none.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: TraceProblem,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceProblem {
    /// The file cannot be read.
    #[error("the trace cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The line is longer than [`MAX_LINE`].
    #[error("the line is longer than {MAX_LINE} bytes; this is no trace")]
    TooLong,
    /// There are more than [`MAX_EVENTS`].
    #[error("the trace has more than {MAX_EVENTS} events; cut out the part that matters")]
    TooMany,
    /// The file ends within the line: whoever wrote it was stopped.
    #[error("the last line is cut short; its writer was stopped, and the lines before it are whole")]
    CutShort,
    /// The line is no JSON object.
    #[error("no JSON object stands here: {0}")]
    NoJson(serde_json::Error),
    /// The kind is none of this version's.
    #[error("the event kind `{0}` is not known here; a newer version has written this trace")]
    UnknownKind(String),
    /// The line is JSON, but no event.
    #[error("this is no event: {0}")]
    NoEvent(serde_json::Error),
}

/// The events of a trace, one after the other. After an error there are no more.
#[derive(Debug)]
pub struct TraceReader<R> {
    source: R,
    line: usize,
    bytes: Vec<u8>,
    over: bool,
}

impl<R: BufRead> TraceReader<R> {
    /// Reads from here.
    pub fn new(source: R) -> Self {
        Self { source, line: 0, bytes: Vec::new(), over: false }
    }

    /// The number of the line that was read last, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    fn read(&mut self) -> Result<Option<Event>, TraceProblem> {
        loop {
            self.bytes.clear();
            self.line += 1;
            let most = MAX_LINE as u64 + 1;
            let read = self.source.by_ref().take(most).read_until(b'\n', &mut self.bytes)?;
            let ended = self.bytes.last() == Some(&b'\n');
            let line = self.bytes.trim_ascii();
            if read == 0 {
                return Ok(None);
            }
            if !ended && read as u64 == most {
                return Err(TraceProblem::TooLong);
            }
            if line.is_empty() {
                continue;
            }
            return match serde_json::from_slice(line) {
                Ok(event) => Ok(Some(event)),
                Err(error) if error.is_eof() && !ended => Err(TraceProblem::CutShort),
                Err(error) => Err(problem(line, error)),
            };
        }
    }
}

/// Why a line is no event.
fn problem(line: &[u8], error: serde_json::Error) -> TraceProblem {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    if !error.is_data() {
        return TraceProblem::NoJson(error);
    }
    match serde_json::from_slice::<Kind>(line) {
        Ok(Kind { kind }) if !EventKind::NAMES.contains(&kind.as_str()) => {
            TraceProblem::UnknownKind(kind.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect())
        }
        Ok(_) | Err(_) => TraceProblem::NoEvent(error),
    }
}

impl<R: BufRead> Iterator for TraceReader<R> {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let read = self.read().map_err(|problem| TraceError { line: self.line, problem });
        self.over = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

impl Trace {
    /// Reads a whole trace. Empty lines are passed over.
    ///
    /// # Errors
    /// The first line that is no event; the error names it.
    pub fn parse_ndjson(source: impl BufRead) -> Result<Self, TraceError> {
        let mut reader = TraceReader::new(source);
        let mut events = Vec::new();
        while let Some(event) = reader.next().transpose()? {
            if events.len() == MAX_EVENTS {
                return Err(TraceError { line: reader.line(), problem: TraceProblem::TooMany });
            }
            events.push(event);
        }
        Ok(Self::new(events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world;

    const GOOD: &str = r#"{"at":5,"host":"net","kind":"step","what":"a cut"}"#;

    fn error(text: &str) -> String {
        Trace::parse_ndjson(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_trace_that_was_written_is_read_as_it_was() {
        let trace = world::run(0).unwrap();
        let read = Trace::parse_ndjson(trace.to_ndjson().as_bytes()).unwrap();
        assert_eq!(read, trace);
        assert_eq!(read.hash(), trace.hash());
    }

    #[test]
    fn empty_lines_and_a_missing_last_newline_are_fine() {
        let trace = Trace::parse_ndjson(format!("\n{GOOD}\r\n \n{GOOD}").as_bytes()).unwrap();
        assert_eq!(trace.events().len(), 2);
    }

    #[test]
    fn every_error_names_its_line() {
        let cut = &GOOD[..20];
        for (text, expected) in [
            (format!("{GOOD}\nnonsense\n"), "line 2: no JSON object stands here"),
            (format!("{GOOD}\n\n[1]\n"), "line 3: this is no event"),
            (format!("{GOOD}\n{cut}"), "line 2: the last line is cut short"),
            (format!("{GOOD}\n{cut}\n{GOOD}"), "line 2: no JSON object stands here"),
            (
                r#"{"at":5,"host":"x","kind":"teleported"}"#.to_owned(),
                "line 1: the event kind `teleported` is not known here; a newer version has written this trace",
            ),
            (r#"{"at":5,"host":"x","kind":"closed"}"#.to_owned(), "line 1: this is no event: missing field"),
            (r#"{"at":-5,"host":"x","kind":"restarted"}"#.to_owned(), "line 1: this is no event: invalid value"),
        ] {
            let error = error(&text);
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_and_not_kept() {
        let mut endless = TraceReader::new(io::BufReader::new(io::repeat(b'a')));
        assert!(matches!(endless.next(), Some(Err(TraceError { line: 1, problem: TraceProblem::TooLong }))));
        assert!(endless.bytes.capacity() <= 4 * MAX_LINE, "{} bytes are kept", endless.bytes.capacity());
        assert!(endless.next().is_none(), "nothing comes after an error");
    }

    #[test]
    fn an_unknown_kind_cannot_fill_the_terminal() {
        let error = error(&format!(r#"{{"at":5,"host":"x","kind":"\u001b{}"}}"#, "k".repeat(10_000)));
        assert!(error.len() < 200 && !error.contains('\u{1b}'), "{error:?}");
    }
}
