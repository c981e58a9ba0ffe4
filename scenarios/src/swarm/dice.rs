//! Draws by name: each follows from the seed and its own name, and from nothing else.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sideband_sim_kit::fault::Time;

/// What is drawn for a seed.
#[derive(Debug, Clone, Copy)]
pub struct Dice {
    seed: u64,
}

impl Dice {
    /// The draws of this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn bits(self, name: &str) -> u64 {
        let digest = Sha256::new()
            .chain_update(b"sideband swarm draw")
            .chain_update(self.seed.to_be_bytes())
            .chain_update(name.as_bytes())
            .finalize();
        digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// A number in 0..1, the upper 53 bits of the draw.
    fn unit(self, name: &str) -> f64 {
        (self.bits(name) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability is so.
    pub fn happens(self, name: &str, probability: f64) -> bool {
        self.unit(name) < probability
    }

    /// A number from `least` to `most`, both included.
    pub fn number(self, name: &str, least: u64, most: u64) -> u64 {
        let width = most.saturating_sub(least).saturating_add(1);
        least + (self.unit(name) * width as f64) as u64
    }

    /// A probability from `least` to `most`, small ones as likely as large ones, to three places.
    pub fn probability(self, name: &str, least: f64, most: f64) -> f64 {
        let drawn = least * (most / least).powf(self.unit(name));
        ((drawn * 1_000.0).round() / 1_000.0).clamp(0.001, 1.0)
    }

    /// A time from `least` to `most`, short ones as likely as long ones, in steps of 10 ms.
    pub fn time(self, name: &str, least: Duration, most: Duration) -> Time {
        let (least, most) = (least.as_millis().max(10) as f64, most.as_millis().max(10) as f64);
        let drawn = least * (most / least).max(1.0).powf(self.unit(name));
        Time(Duration::from_millis(((drawn / 10.0).round() as u64).max(1) * 10))
    }

    /// A moment in a span, each as likely, in steps of 10 ms.
    pub fn moment(self, name: &str, span: Duration) -> Duration {
        Duration::from_millis(self.number(name, 0, span.as_millis() as u64 / 10) * 10)
    }

    /// One of several; none of none.
    pub fn one_of<'a, T>(self, name: &str, all: &'a [T]) -> Option<&'a T> {
        let last = all.len().checked_sub(1)?;
        all.get(self.number(name, 0, last as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_within_their_bounds_and_reach_them() {
        let seeds = || (0..2_000).map(Dice::new);
        let numbers: Vec<u64> = seeds().map(|dice| dice.number("n", 3, 6)).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&3), Some(&6)));
        assert!(seeds().all(|dice| (0.001..=0.3).contains(&dice.probability("p", 0.001, 0.3))));
        let (least, most) = (Duration::from_millis(50), Duration::from_secs(20));
        assert!(seeds().all(|dice| (least..=most).contains(&dice.time("t", least, most).0)));
        let often = seeds().filter(|dice| dice.happens("h", 0.25)).count();
        assert!((400..600).contains(&often), "{often}");
        assert_eq!(Dice::new(1).one_of::<u8>("none", &[]), None);
    }

    #[test]
    fn names_and_seeds_are_independent() {
        let dice = Dice::new(7);
        assert_ne!(dice.bits("a"), dice.bits("b"));
        assert_ne!(dice.bits("a"), Dice::new(8).bits("a"));
        assert_eq!(dice.bits("a"), Dice::new(7).bits("a"));
    }
}
