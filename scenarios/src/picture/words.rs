//! Events in words: what stands at an arrow, in a note, in a row of the table. Plain text: whoever writes it into a language escapes it.

use serde_json::Value;
use sideband_sim_kit::event::{Event, EventKind};

/// Most characters of a word that an event brings along.
const MAX_WORDS: usize = 200;

/// What happened, without host, connection and session.
pub(super) fn label(event: &Event) -> String {
    let text = match &event.kind {
        EventKind::Opened { connection, .. } => format!("upgrade, #{connection}"),
        EventKind::Closed { connection, code: Some(code), .. } => format!("#{connection} closed {code}"),
        EventKind::Closed { connection, code: None, .. } => format!("#{connection} cut"),
        EventKind::MessageRefused { code, .. } => format!("message refused, close {code}"),
        EventKind::UpgradeRefused { status, code, reason, retry_after_ms, .. } => {
            let after = retry_after_ms.map(|after| format!(", retry after {}", span(after))).unwrap_or_default();
            format!("upgrade: {status} {code} ({reason}){after}")
        }
        EventKind::Frame { frame, bytes, detail, .. } => {
            let said = [&detail.signal, &detail.reason, &detail.wrong].into_iter().flatten();
            let said: String = said.filter(|word| *word != "none").map(|word| format!(" {word}")).collect();
            format!("{frame}{said} {}", size(*bytes as u64))
        }
        EventKind::Control { code, .. } => code.clone(),
        EventKind::Session { state } => format!("session {state}"),
        EventKind::Dropped { reason, .. } => format!("dropped: {reason}"),
        EventKind::RateLimited { frames, .. } => format!("over the rate: {frames} dropped"),
        EventKind::Swept { connection } => format!("#{connection} swept: silent"),
        EventKind::Restarted => "relay restarted".to_owned(),
        EventKind::LimitsChanged => "limits changed".to_owned(),
        EventKind::Reset => "reset".to_owned(),
        EventKind::KeySet { result } => format!("key set: {result}"),
        EventKind::Request { procedure, status, retry_after_ms, .. } => {
            let after = retry_after_ms.map(|after| format!(", retry after {}", span(after))).unwrap_or_default();
            format!("{procedure} {status}{after}")
        }
        EventKind::KeysRotated { hard: true, .. } => "keys rotated, old ones gone".to_owned(),
        EventKind::KeysRotated { hard: false, .. } => "keys rotated".to_owned(),
        EventKind::Fault { rule, number, on, action } => format!("{rule} #{number}: {action} at {on}"),
        EventKind::Grade { rule, evidence, times, .. } if *times > 1 => format!("{rule} ({times} times): {evidence}"),
        EventKind::Grade { rule, evidence, .. } => format!("{rule}: {evidence}"),
        EventKind::Endpoint { report, detail } if report == "state" => detail.clone(),
        EventKind::Endpoint { report, detail } if detail.is_empty() => report.clone(),
        EventKind::Endpoint { report, detail } => format!("{report}: {detail}"),
        EventKind::Retrying { retry, delay_ms, retry_after_ms, cause } => {
            let after = retry_after_ms.map(|after| format!(", asked to wait {}", span(after))).unwrap_or_default();
            format!("retry {retry} in {}{after} ({cause})", span(*delay_ms))
        }
        EventKind::Call { name, method, .. } if name == method => format!("call {method}"),
        EventKind::Call { name, method, .. } => format!("call {name} ({method})"),
        EventKind::CallEnded { name, outcome, own: Some(false), .. } => {
            format!("call {name}: {outcome}, the answer of another call")
        }
        EventKind::CallEnded { name, outcome, .. } => format!("call {name}: {outcome}"),
        EventKind::Served { method, .. } => format!("serves {method}"),
        EventKind::Emitted { event, number } => format!("sends event {event} {number}"),
        EventKind::Delivered { event, number: Some(number) } => format!("hears event {event} {number}"),
        EventKind::Delivered { event, number: None } => format!("hears event {event}"),
        EventKind::Step { what } => what.clone(),
        other => generic(&serde_json::to_value(other).unwrap_or_default()),
    };
    shorten(&text, MAX_WORDS)
}

/// A kind that has no words of its own: its name and its members.
fn generic(event: &Value) -> String {
    let Value::Object(members) = event else { return String::new() };
    let mut text = members.get("kind").and_then(Value::as_str).unwrap_or_default().replace('_', " ");
    for (name, value) in members.iter().filter(|(name, _)| *name != "kind") {
        match value {
            Value::String(value) => text.push_str(&format!(" {value}")),
            Value::Null | Value::Array(_) | Value::Object(_) => {}
            value @ (Value::Bool(_) | Value::Number(_)) => text.push_str(&format!(" {name} {value}")),
        }
    }
    text
}

/// At most so many characters, the last an ellipsis if some are missing; control characters and those that turn the direction
/// of text become spaces.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == most {
            out.pop();
            out.push('…');
            break;
        }
        let harmful = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
        out.push(if harmful { ' ' } else { c });
    }
    out
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{}.{} KiB", bytes >> 10, (bytes & 1_023) * 10 / 1_024),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes >> 10) & 1_023) * 10 / 1_024),
    }
}

/// A length of time for people, from milliseconds.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}:{:02} min", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{}:{:02} h", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A moment on the time line, to the millisecond.
pub(super) fn moment(ms: u64) -> String {
    let (seconds, rest) = (ms / 1_000, ms % 1_000);
    match seconds {
        0..60 => format!("{seconds}.{rest:03}"),
        60..3_600 => format!("{}:{:02}.{rest:03}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}.{rest:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!([0, 61_005, 3_661_005].map(moment), ["0.000", "1:01.005", "1:01:01.005"]);
        assert_eq!([7, 1_250, 61_000, 7_260_000].map(span), ["7 ms", "1.2 s", "1:01 min", "2:01 h"]);
        assert_eq!([45, 1_536, 3 << 20].map(size), ["45 B", "1.5 KiB", "3.0 MiB"]);
    }

    #[test]
    fn a_kind_without_words_of_its_own_shows_its_members() {
        let event = serde_json::json!({ "kind": "key_stolen", "by": "nobody", "times": 0 });
        assert_eq!(generic(&event), "key stolen nobody times 0");
    }

    #[test]
    fn what_turns_text_around_is_taken_out() {
        assert_eq!(shorten("a\u{202e}b\u{0}c\nd", 10), "a b c d");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("abcd", 4), "abcd");
    }
}
