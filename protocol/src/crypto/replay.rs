//! The sliding window of sequences: CRY-06 to CRY-08.

/// A sequence was seen before, or lies below the window (`sequence_error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sequence {0} was seen before or is too old")]
pub struct Replayed(pub u64);

/// Remembers which of the newest `size` sequences arrived.
///
/// Ask [`check`](Self::check) first, open the message, and only then [`mark`](Self::mark) it (CRY-08). Both cost O(1) in
/// the size of a jump (CRY-07): at most every word of the ring is cleared once.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    size: u64,
    highest: Option<u64>,
    /// A ring of 64-bit blocks, one more than the window spans, so that the block being filled holds nothing old.
    ring: Box<[u64]>,
}

impl ReplayWindow {
    /// A window over the newest `size` sequences, at least 1.
    pub fn new(size: u32) -> Self {
        let size = u64::from(size.max(1));
        let words = size.div_ceil(64) as usize + 1;
        Self { size, highest: None, ring: vec![0; words].into_boxed_slice() }
    }

    /// Whether a message with this sequence may be opened.
    ///
    /// # Errors
    /// The sequence was marked before, or lies `size` or more below the highest one.
    pub fn check(&self, sequence: u64) -> Result<(), Replayed> {
        let Some(highest) = self.highest else { return Ok(()) };
        if sequence > highest {
            return Ok(());
        }
        let (word, bit) = self.place(sequence);
        if highest - sequence >= self.size || self.ring[word] & bit != 0 { Err(Replayed(sequence)) } else { Ok(()) }
    }

    /// Marks a sequence that [`check`](Self::check) let through and whose message opened.
    pub fn mark(&mut self, sequence: u64) {
        let words = self.ring.len() as u64;
        match self.highest {
            Some(highest) if sequence <= highest => {}
            Some(highest) => {
                let (from, to) = (highest / 64, sequence / 64);
                let first = from + 1;
                let last = to.min(from.saturating_add(words));
                for block in first..=last {
                    self.ring[(block % words) as usize] = 0;
                }
                self.highest = Some(sequence);
            }
            None => self.highest = Some(sequence),
        }
        let (word, bit) = self.place(sequence);
        self.ring[word] |= bit;
    }

    /// Whether a newer sequence was marked.
    pub(super) fn is_below_highest(&self, sequence: u64) -> bool {
        self.highest.is_some_and(|highest| sequence < highest)
    }

    fn place(&self, sequence: u64) -> (usize, u64) {
        (((sequence / 64) % self.ring.len() as u64) as usize, 1 << (sequence % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The rule said plainly: above the highest, or less than `size` below it and not seen.
    struct Model {
        size: u64,
        seen: BTreeSet<u64>,
    }

    impl Model {
        fn accept(&mut self, sequence: u64) -> bool {
            let fresh = match self.seen.last() {
                None => true,
                Some(&highest) if sequence > highest => true,
                Some(&highest) => highest - sequence < self.size && !self.seen.contains(&sequence),
            };
            if fresh {
                self.seen.insert(sequence);
            }
            fresh
        }
    }

    fn sequences() -> impl Strategy<Value = Vec<u64>> {
        let near = prop_oneof![0u64..300, 1_000u64..1_300, Just(u64::MAX), u64::MAX - 200..u64::MAX, any::<u64>()];
        prop::collection::vec(near, 0..400)
    }

    proptest! {
        #[test]
        fn cry_06_window_agrees_with_a_set(size in 1u32..200, sequences in sequences()) {
            let mut window = ReplayWindow::new(size);
            let mut model = Model { size: u64::from(size), seen: BTreeSet::new() };
            for sequence in sequences {
                let accepted = window.check(sequence).is_ok();
                if accepted {
                    window.mark(sequence);
                }
                prop_assert_eq!(accepted, model.accept(sequence), "sequence {}", sequence);
            }
        }
    }

    #[test]
    fn cry_08_checking_does_not_move_the_window() {
        let mut window = ReplayWindow::new(64);
        window.mark(5);
        assert!(window.check(u64::MAX).is_ok());
        assert!(window.check(4).is_ok(), "a huge sequence that was only asked about pushes nothing out");
    }
}
