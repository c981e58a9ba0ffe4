//! Things that go one after another, some of them later than they came: by a time, or behind others.

use std::collections::VecDeque;

use sideband_protocol::Instant;

/// Most things that wait for others to pass; beyond that the one that has waited longest goes.
const MOST_LATE: usize = 64;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next<T> {
    Item(T),
    /// Nothing before this time.
    Later(Instant),
    Nothing,
}

/// A queue. What stands behind something that has to wait waits as well.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    ready: VecDeque<(T, Option<Instant>)>,
    /// Those that let so many others pass first.
    late: VecDeque<(u32, T)>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), late: VecDeque::new() }
    }
}

impl<T> Lane<T> {
    /// Adds one, to go at this time at the earliest. Those that wait for others to pass have seen one more.
    pub(crate) fn push(&mut self, item: T, at: Option<Instant>) {
        self.push_beside(item, at);
        if self.late.is_empty() {
            return;
        }
        for (frames, _) in &mut self.late {
            *frames = frames.saturating_sub(1);
        }
        while let Some(place) = self.late.iter().position(|(frames, _)| *frames == 0) {
            if let Some((_, item)) = self.late.remove(place) {
                self.ready.push_back((item, None));
            }
        }
    }

    /// The same for what nobody waits for.
    pub(crate) fn push_beside(&mut self, item: T, at: Option<Instant>) {
        self.ready.push_back((item, at));
    }

    /// Adds one that lets so many later ones pass first.
    pub(crate) fn hold(&mut self, frames: u32, item: T) {
        self.late.push_back((frames, item));
        if self.late.len() > MOST_LATE
            && let Some((_, item)) = self.late.pop_front()
        {
            self.ready.push_back((item, None));
        }
    }

    /// Lets nobody wait for others any more.
    pub(crate) fn let_all_pass(&mut self) {
        self.ready.extend(self.late.drain(..).map(|(_, item)| (item, None)));
    }

    /// Takes the next one; whatever its time, if `now` is none.
    pub(crate) fn pop(&mut self, now: Option<Instant>) -> Next<T> {
        if let (Some((_, Some(at))), Some(now)) = (self.ready.front(), now)
            && now < *at
        {
            return Next::Later(*at);
        }
        self.ready.pop_front().map_or(Next::Nothing, |(item, _)| Next::Item(item))
    }

    /// When the next one goes, if it has to wait.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.ready.front().and_then(|(_, at)| *at)
    }

    /// How many go without others having to pass.
    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.late.is_empty()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.ready.iter_mut().map(|(item, _)| item).chain(self.late.iter_mut().map(|(_, item)| item))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    fn drain(lane: &mut Lane<u8>, seconds: u64) -> Vec<u8> {
        std::iter::from_fn(|| match lane.pop(Some(at(seconds))) {
            Next::Item(item) => Some(item),
            Next::Later(_) | Next::Nothing => None,
        })
        .collect()
    }

    #[test]
    fn what_stands_behind_one_that_waits_waits() {
        let mut lane = Lane::default();
        lane.push(1, None);
        lane.push(2, Some(at(5)));
        lane.push(3, None);
        assert_eq!(drain(&mut lane, 4), [1]);
        assert_eq!((lane.pop(Some(at(4))), lane.next_at()), (Next::Later(at(5)), Some(at(5))));
        assert_eq!(drain(&mut lane, 5), [2, 3]);
        assert!(lane.is_empty());
    }

    #[test]
    fn one_lets_so_many_others_pass() {
        let mut lane = Lane::default();
        lane.hold(2, 1);
        lane.push(2, None);
        lane.push_beside(3, None);
        assert_eq!(drain(&mut lane, 0), [2, 3]);
        lane.push(4, None);
        assert_eq!(drain(&mut lane, 0), [4, 1]);
        lane.hold(9, 5);
        lane.let_all_pass();
        assert_eq!(drain(&mut lane, 0), [5]);
    }

    #[test]
    fn no_more_than_a_few_wait_for_others() {
        let mut lane = Lane::default();
        for n in 0..100 {
            lane.hold(64, n);
        }
        assert_eq!(drain(&mut lane, 0), (0..36).collect::<Vec<_>>());
    }
}
