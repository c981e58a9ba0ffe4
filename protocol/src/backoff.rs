//! Delays before a retry: CLI-04, DMN-04.

use std::time::Duration;

use crate::entropy::{self, Entropy};

/// The delay before retry `n` (counted from 0), before jitter: `min(initial · 2ⁿ, max)`, without overflow.
pub fn base_delay(initial: Duration, max: Duration, retry: u32) -> Duration {
    match 1u32.checked_shl(retry) {
        Some(factor) => initial.saturating_mul(factor).min(max),
        None if initial.is_zero() => Duration::ZERO,
        None => max,
    }
}

/// A client's delay (CLI-04): the base × random in `[1 − jitter, 1 + jitter]`.
pub fn client_delay(base: Duration, jitter: f64, entropy: &mut (impl Entropy + ?Sized)) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    base.mul_f64(1.0 - jitter + 2.0 * jitter * entropy::next_unit(entropy))
}

/// A daemon's delay (DMN-04): the base + random in 0 to `spread`.
pub fn daemon_delay(base: Duration, spread: Duration, entropy: &mut (impl Entropy + ?Sized)) -> Duration {
    base + spread.mul_f64(entropy::next_unit(entropy))
}
