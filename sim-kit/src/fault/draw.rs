//! Draws that follow from the plan's seed, the rule's name and the number of the event, and from nothing else: taking one
//! rule away changes no draw of another.

use sha2::{Digest, Sha256};

/// What a draw is for, so that the draws of one event are independent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Whether the rule fires.
    Fire = 1,
    /// What an action needs, such as which bit to change.
    Action = 2,
}

/// 64 bits for the event of this number, from 1.
pub(super) fn draw(seed: u64, rule: &str, number: u64, purpose: Purpose) -> u64 {
    let digest = Sha256::new()
        .chain_update(b"sideband fault draw")
        .chain_update(seed.to_be_bytes())
        .chain_update(number.to_be_bytes())
        .chain_update([purpose as u8])
        .chain_update(rule.as_bytes())
        .finalize();
    digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// Whether something of this probability happens.
pub(super) fn happens(bits: u64, probability: f64) -> bool {
    // The upper 53 bits are a number in 0..1 that a float holds exactly.
    let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
    unit < probability
}
