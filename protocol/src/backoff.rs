//! Delays before a retry: CLI-04, DMN-04.

use std::time::Duration;

use crate::entropy::{self, Entropy};

/// The delay before retry `n` (counted from 0), before jitter: `min(initial · 2ⁿ, max)`, without overflow.
pub fn base_delay(initial: Duration, max: Duration, retry: u32) -> Duration {
    let mut delay = initial.min(max);
    for _ in 0..retry {
        if delay.is_zero() || delay == max {
            break;
        }
        delay = delay.saturating_mul(2).min(max);
    }
    delay
}

/// A client's delay (CLI-04): the base × random in `[1 − jitter, 1 + jitter]`.
pub fn client_delay(base: Duration, jitter: f64, entropy: &mut (impl Entropy + ?Sized)) -> Duration {
    // No number is no jitter.
    let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
    scaled(base, 1.0 - jitter + 2.0 * jitter * entropy::next_unit(entropy))
}

/// A daemon's delay (DMN-04): the base + random in 0 to `spread`.
pub fn daemon_delay(base: Duration, spread: Duration, entropy: &mut (impl Entropy + ?Sized)) -> Duration {
    base.saturating_add(scaled(spread, entropy::next_unit(entropy)))
}

/// Without overflow: what is longer than a duration can be is the longest one.
fn scaled(base: Duration, by: f64) -> Duration {
    Duration::try_from_secs_f64(base.as_secs_f64() * by).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Highest;

    impl Entropy for Highest {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(0xff);
        }
    }

    #[test]
    fn cli_04_dmn_04_delays_without_a_bound_do_not_overflow() {
        assert_eq!(base_delay(Duration::MAX, Duration::MAX, 40), Duration::MAX);
        assert_eq!(base_delay(Duration::from_millis(1), Duration::MAX, 40), Duration::from_millis(1 << 40));
        assert_eq!(base_delay(Duration::from_millis(1), Duration::MAX, u32::MAX), Duration::MAX);
        assert_eq!(base_delay(Duration::ZERO, Duration::MAX, u32::MAX), Duration::ZERO);
        assert_eq!(client_delay(Duration::MAX, 0.2, &mut Highest), Duration::MAX);
        assert_eq!(daemon_delay(Duration::MAX, Duration::MAX, &mut Highest), Duration::MAX);
        assert_eq!(client_delay(Duration::from_secs(10), f64::NAN, &mut Highest), Duration::from_secs(10));
    }
}
