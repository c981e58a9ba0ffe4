//! The session ids of one daemon that have ended: bounded, the oldest go first (WIRE-17).

use std::collections::BTreeMap;

use crate::SessionId;

/// A bounded memory of ended session ids.
#[derive(Debug)]
pub(super) struct EndedIds {
    capacity: usize,
    next: u64,
    by_id: BTreeMap<SessionId, u64>,
    by_age: BTreeMap<u64, SessionId>,
}

impl EndedIds {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, next: 0, by_id: BTreeMap::new(), by_age: BTreeMap::new() }
    }

    /// Remembers an id as the newest; forgets the oldest if there are too many.
    pub(super) fn insert(&mut self, id: SessionId) {
        if let Some(age) = self.by_id.insert(id, self.next) {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.next, id);
        self.next += 1;
        while self.by_id.len() > self.capacity {
            if let Some((_, oldest)) = self.by_age.pop_first() {
                self.by_id.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, id: SessionId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> SessionId {
        SessionId::new(n).unwrap()
    }

    #[test]
    fn wire_17_the_oldest_ended_id_goes_first() {
        let mut ended = EndedIds::new(3);
        for n in 1..=4 {
            ended.insert(id(n));
        }
        assert_eq!([1, 2, 3, 4].map(|n| ended.contains(id(n))), [false, true, true, true]);
    }

    #[test]
    fn wire_17_an_id_that_ends_again_is_the_newest() {
        let mut ended = EndedIds::new(2);
        for n in [1, 2, 1, 3] {
            ended.insert(id(n));
        }
        assert_eq!([1, 2, 3].map(|n| ended.contains(id(n))), [true, false, true]);
        assert_eq!((ended.by_id.len(), ended.by_age.len()), (2, 2));
    }
}
