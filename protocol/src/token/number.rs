//! Comparing JSON numbers without overflow: integers exactly, others as floating point.

use serde_json::{Number, Value};

use super::SKEW;

/// Whether `exp` lies no more than the skew before `now` (TOK-05).
pub(super) fn not_expired(exp: &Number, now: u64) -> bool {
    let earliest = now.saturating_sub(SKEW);
    match integer(exp) {
        Some(exp) => exp >= i128::from(earliest),
        None => exp.as_f64().is_some_and(|exp| exp >= earliest as f64),
    }
}

/// Whether `exp − iat` is at most `limit` seconds (TOK-09).
pub(super) fn lifetime_within(iat: &Number, exp: &Number, limit: u64) -> bool {
    match (integer(iat), integer(exp)) {
        (Some(iat), Some(exp)) => exp - iat <= i128::from(limit),
        _ => match (iat.as_f64(), exp.as_f64()) {
            (Some(iat), Some(exp)) => exp - iat <= limit as f64,
            _ => false,
        },
    }
}

/// The number in whole seconds; negative ones become 0 and huge ones the largest.
pub(super) fn saturating_seconds(n: &Number) -> u64 {
    n.as_u64().unwrap_or_else(|| n.as_f64().map_or(0, |n| n as u64))
}

/// A number that has no fractional part and is at least 1, however it is written; huge ones become the largest.
pub(super) fn positive_integer(value: &Value) -> Option<u64> {
    let n = value.as_number()?;
    match integer(n) {
        Some(n) if n >= 1 => Some(u64::try_from(n).unwrap_or(u64::MAX)),
        Some(_) => None,
        None => n.as_f64().filter(|n| *n >= 1.0 && n.fract() == 0.0).map(|n| n as u64),
    }
}

fn integer(n: &Number) -> Option<i128> {
    n.as_u64().map(i128::from).or_else(|| n.as_i64().map(i128::from))
}
