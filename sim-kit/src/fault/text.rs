//! Values that a plan holds as text: durations and ids.

use std::{fmt, sync::Arc, time::Duration};

use jiff::{
    SignedDuration,
    fmt::friendly::{SpanParser, SpanPrinter},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

static PARSER: SpanParser = SpanParser::new();
static PRINTER: SpanPrinter = SpanPrinter::new();

/// Longest time in a plan: a week.
pub const MAX_TIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A span of time as text: `2s`, `150ms`, `1m 30s`. At most [`MAX_TIME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&PRINTER.unsigned_duration_to_string(&self.0))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(TextOf("a time such as \"2s\", \"150ms\" or \"1m 30s\""))?;
        let time = parse_time(&text)
            .ok_or_else(|| de::Error::custom("write a time such as \"2s\", \"150ms\", \"1m 30s\" or \"2d\""))?;
        if time > MAX_TIME {
            return Err(de::Error::custom("the time is longer than a week"));
        }
        Ok(Self(time))
    }
}

/// A time that may begin with days, of 24 hours each, which the library does not take for a span of time.
fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let unit = rest.trim_start();
    let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (unit, rest) = unit.split_at(letters);
    if !matches!(unit, "d" | "day" | "days") {
        return PARSER.parse_unsigned_duration(text).ok();
    }
    let days = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(24 * 60 * 60)?);
    let rest = rest.trim_start_matches(',').trim_start();
    if rest.is_empty() { Some(days) } else { days.checked_add(PARSER.parse_unsigned_duration(rest).ok()?) }
}

/// The same, with a sign or none.
fn parse_shift(text: &str) -> Option<SignedDuration> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match parse_time(unsigned).filter(|_| !unsigned.trim_start().starts_with(['-', '+'])) {
        Some(time) => {
            let time = SignedDuration::try_from(time).ok()?;
            Some(if text.starts_with('-') { -time } else { time })
        }
        None => PARSER.parse_duration(text).ok(),
    }
}

/// How far a clock is off, in whole milliseconds, as text: `2m` is fast, `-10m` is slow. At most [`MAX_TIME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Shift {
    /// Milliseconds; below zero for a clock that is slow.
    pub millis: i64,
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.millis < 0 { "-" } else { "" };
        write!(f, "{sign}{}", Time(Duration::from_millis(self.millis.unsigned_abs())))
    }
}

impl Serialize for Shift {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(TextOf("a time such as \"2m\" or \"-10m\""))?;
        let shift: SignedDuration =
            parse_shift(&text).ok_or_else(|| de::Error::custom("write a time such as \"2m\" or \"-10m\""))?;
        if shift.unsigned_abs() > MAX_TIME {
            return Err(de::Error::custom("the shift is longer than a week"));
        }
        let millis = i64::try_from(shift.as_millis()).unwrap_or_default();
        if millis == 0 || SignedDuration::from_millis(millis) != shift {
            return Err(de::Error::custom("a shift is of whole milliseconds, and not zero"));
        }
        Ok(Self { millis })
    }
}

/// A rule's name: 1 to 64 letters, digits, `-`, `_` and `.`, so that it fits into a header and a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(Arc<str>);

/// The text is no rule's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rule's id has 1 to 64 letters, digits, `-`, `_` and `.`")]
pub struct RuleIdError;

impl RuleId {
    /// A name.
    ///
    /// # Errors
    /// Empty, too long, or with other characters.
    pub fn new(text: &str) -> Result<Self, RuleIdError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        // `.` and `..` mean something else in a path.
        let dots = text.bytes().all(|byte| byte == b'.');
        if !(1..=64).contains(&text.len()) || !text.bytes().all(fits) || dots {
            return Err(RuleIdError);
        }
        Ok(Self(text.into()))
    }

    /// The name of the rule in this place, from 1, that was given none: `rule-3`.
    pub(super) fn derived(place: u64) -> Self {
        Self(format!("rule-{place}").into())
    }

    /// The place of a derived name.
    pub(super) fn place(&self) -> Option<u64> {
        self.0.strip_prefix("rule-")?.parse().ok()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RuleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RuleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(TextOf("a rule's id"))?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

/// Takes a text, and says what it would have been if there is none.
pub(super) struct TextOf(pub(super) &'static str);

impl de::Visitor<'_> for TextOf {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_24_hours_each() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
        for (text, wanted) in
            [("7d", hours(168)), ("1 day", hours(24)), ("2d 3h", hours(51)), ("2days, 1h", hours(49)), ("3h", hours(3))]
        {
            assert_eq!(parse_time(text), wanted, "{text}");
        }
        for wrong in ["d", "1d x", "-1d", "1.5d", "99999999999999999999d", "213503982334602d", ""] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
        let day = SignedDuration::from_hours(24);
        assert_eq!([parse_shift("1d"), parse_shift("-1d"), parse_shift("--1d")], [Some(day), Some(-day), None]);
        assert_eq!(parse_shift("-10m"), Some(SignedDuration::from_mins(-10)));
    }
}
