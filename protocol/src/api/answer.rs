//! Answers: how a server prints them and how a client sorts them.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::Request;

/// Longest wait that a `Retry-After` is taken at its word for (CLI-06).
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Most characters of the other side's message that are kept.
const MAX_MESSAGE: usize = 500;

/// The API refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the API answered {status}: {message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// `data.code`, such as `UNAUTHORIZED`; empty if the body is not a failure as tRPC writes it.
    pub code: String,
    /// The answer's message, at most 500 characters; our own words if it had none.
    pub message: String,
    /// How long the answer asks to wait, at most [`MAX_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
}

/// Why there is no result in an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Another status than 200.
    #[error(transparent)]
    Refused(ApiError),
    /// Status 200, but not with what the procedure returns: HTML, an error body, a member missing. Retried (CLI-05).
    #[error("the API's answer cannot be read: {0}")]
    Unreadable(&'static str),
}

/// Sorts an answer. `retry_after_header` is that header's value, if there is one; `now` is in seconds since 1970.
///
/// # Errors
/// Every status but 200, whatever its body, and a 200 that is not a success as tRPC writes it.
pub fn decode_answer<R: Request>(
    status: u16,
    retry_after_header: Option<&str>,
    body: &[u8],
    now: u64,
) -> Result<R::Answer, AnswerError> {
    if status != 200 {
        return Err(AnswerError::Refused(refused(status, retry_after_header, body, now)));
    }
    // Borrowed raw text: what the procedure returns is decoded once, straight into its type.
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    // A derived struct would read a list as its members in order: the raw text in between tells one from an object.
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        result: &'a RawValue,
    }
    let no_success = || AnswerError::Unreadable("it is not `{\"result\":{\"data\":…}}`");
    let outer: Outer<'_> = read(b'{', body).ok_or_else(no_success)?;
    let inner: Data<'_> = read(b'{', outer.result.get().as_bytes()).ok_or_else(no_success)?;
    let opens = if R::PROCEDURE.answers_with_list() { b'[' } else { b'{' };
    read(opens, inner.data.get().as_bytes())
        .ok_or(AnswerError::Unreadable("its data is not what the procedure returns"))
}

/// Reads JSON that must open with this byte.
fn read<'a, T: Deserialize<'a>>(opens: u8, text: &'a [u8]) -> Option<T> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&opens) { serde_json::from_slice(text).ok() } else { None }
}

fn refused(status: u16, retry_after_header: Option<&str>, body: &[u8], now: u64) -> ApiError {
    // Whatever is in the way may answer too, with HTML or with nothing: take what can be read.
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let error = &body["error"];
    let message = match error["message"].as_str() {
        Some(message) if !message.is_empty() => clean(message),
        _ => format!("HTTP status {status} without an error that can be read"),
    };
    ApiError {
        status,
        code: error["data"]["code"].as_str().map(clean).unwrap_or_default(),
        message,
        retry_after: retry_after_header.and_then(|value| retry_after(value, now)),
    }
}

fn clean(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Reads a `Retry-After`: seconds, or an HTTP date seen from `now` (seconds since 1970); a date that is past is zero.
/// More than [`MAX_RETRY_AFTER`] becomes that (CLI-06). `None` if it is neither.
pub fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number holds are a long time.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(Duration::from_secs(now))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The body of a success, `{"result":{"data":…}}`.
///
/// # Errors
/// The data cannot become JSON; with this module's types that does not happen.
pub fn success_body(data: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Success<'a, T> {
        result: Data<'a, T>,
    }
    #[derive(Serialize)]
    struct Data<'a, T> {
        data: &'a T,
    }
    serde_json::to_vec(&Success { result: Data { data } })
}
