//! A map that forgets: what was not touched for a time, and the oldest when it is full.

use std::collections::{BTreeMap, VecDeque};

#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    /// When each was touched, oldest first; a key that was touched again stands here more than once.
    order: VecDeque<(u64, K)>,
    life: u64,
    most: usize,
}

impl<K: Ord + Clone, V: Default> Recent<K, V> {
    /// Keeps at most `most` entries, each for `life` milliseconds.
    pub(super) fn new(life: u64, most: usize) -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new(), life, most }
    }

    /// The entry, new if there is none; its life begins anew.
    pub(super) fn touch(&mut self, at: u64, key: &K) -> &mut V {
        self.forget(at);
        if !self.entries.contains_key(key) && self.entries.len() >= self.most {
            self.drop_oldest();
        }
        if self.entries.get(key).is_none_or(|(touched, _)| *touched != at) {
            self.order.push_back((at, key.clone()));
        }
        self.entries.entry(key.clone()).or_default().0 = at;
        if self.order.len() > 2 * self.entries.len() + 16 {
            let entries = &self.entries;
            self.order.retain(|(at, key)| entries.get(key).is_some_and(|(touched, _)| touched == at));
        }
        // It was put there just now.
        &mut self.entries.entry(key.clone()).or_default().1
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    pub(super) fn forget(&mut self, at: u64) {
        while self.order.front().is_some_and(|(touched, _)| touched.saturating_add(self.life) <= at) {
            self.pop();
        }
    }

    fn drop_oldest(&mut self) {
        let before = self.entries.len();
        while self.entries.len() == before && !self.order.is_empty() {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((at, key)) = self.order.pop_front()
            && self.entries.get(&key).is_some_and(|(touched, _)| *touched == at)
        {
            self.entries.remove(&key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_touched_goes_and_so_does_the_oldest() {
        let mut recent = Recent::<u32, u32>::new(100, 3);
        for (at, key) in [(0, 1), (10, 2), (20, 3), (30, 1)] {
            *recent.touch(at, &key) += 1;
        }
        assert_eq!(recent.get_mut(&1), Some(&mut 2));
        recent.touch(40, &4);
        assert_eq!((recent.len(), recent.get_mut(&2)), (3, None), "the one that was touched longest ago goes");
        recent.forget(129);
        assert_eq!((recent.len(), recent.get_mut(&3)), (2, None));
        recent.forget(140);
        assert_eq!(recent.len(), 0);
    }

    #[test]
    fn touching_again_and_again_takes_no_memory() {
        let mut recent = Recent::<u32, u32>::new(u64::MAX, 10);
        for at in 0..10_000 {
            recent.touch(at, &((at % 3) as u32));
        }
        assert!(recent.order.len() < 50, "{}", recent.order.len());
        assert_eq!(recent.len(), 3);
    }
}
