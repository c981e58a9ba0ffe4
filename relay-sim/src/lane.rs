//! Things that go one after another, some of them later than they came: by a time, or behind others.

use std::{collections::VecDeque, time::Duration};

use sideband_protocol::Instant;
use sideband_sim_kit::fault::{FaultEngine, RuleKey};

/// Most things that wait for others to pass; beyond that the one that has waited longest goes.
const MOST_LATE: usize = 64;

/// Waits that follow one another, each until its time is over or its rule no longer holds.
#[derive(Debug, Clone)]
pub(crate) struct Wait {
    begins: Instant,
    each: Vec<(RuleKey, Duration)>,
}

impl Wait {
    /// None yet.
    pub(crate) fn new(begins: Instant) -> Self {
        Self { begins, each: Vec::new() }
    }

    pub(crate) fn add(&mut self, rule: RuleKey, time: Duration) {
        self.each.push((rule, time));
    }

    /// When all of them are over, as it is known now.
    pub(crate) fn until(&self, faults: &FaultEngine) -> Instant {
        self.each.iter().fold(self.begins, |begins, (rule, time)| faults.holds(*rule).end_of(*time, begins))
    }
}

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
    ready: VecDeque<(T, Option<Wait>)>,
    /// Those that let so many others pass first.
    late: VecDeque<(u32, T)>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), late: VecDeque::new() }
    }
}

impl<T> Lane<T> {
    /// Adds one, to go after this wait at the earliest. Those that wait for others to pass have seen one more.
    pub(crate) fn push(&mut self, item: T, wait: Option<Wait>) {
        self.push_beside(item, wait);
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
    pub(crate) fn push_beside(&mut self, item: T, wait: Option<Wait>) {
        self.ready.push_back((item, wait));
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

    /// Takes the next one; whatever its wait, if `now` is none.
    pub(crate) fn pop(&mut self, now: Option<Instant>, faults: &FaultEngine) -> Next<T> {
        if let (Some(at), Some(now)) = (self.next_at(faults), now)
            && now < at
        {
            return Next::Later(at);
        }
        self.ready.pop_front().map_or(Next::Nothing, |(item, _)| Next::Item(item))
    }

    /// When the next one goes, if it has to wait.
    pub(crate) fn next_at(&self, faults: &FaultEngine) -> Option<Instant> {
        self.ready.front().and_then(|(_, wait)| wait.as_ref()).map(|wait| wait.until(faults))
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
    use sideband_env::Timeline;
    use sideband_sim_kit::{
        event::{Direction, Role},
        fault::{FaultPlan, Format, FramePoint},
    };

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    /// An engine, and a rule of it that has fired.
    fn engine() -> (FaultEngine, RuleKey) {
        let engine = FaultEngine::new(Timeline::start());
        let plan = "[[fault]]\nid = \"late\"\non = \"relay.frame\"\ndo = { delay = \"5s\" }";
        engine.set(FaultPlan::parse(plan, Format::Toml).unwrap()).unwrap();
        let point = FramePoint {
            role: Role::Client,
            direction: Direction::In,
            frame: None,
            daemon: "d",
            user: None,
            session: None,
            age: Duration::ZERO,
        };
        let rule = engine.relay_frame(&point)[0].key();
        (engine, rule)
    }

    fn wait(rule: RuleKey, seconds: u64) -> Wait {
        let mut wait = Wait::new(at(0));
        wait.add(rule, Duration::from_secs(seconds));
        wait
    }

    fn drain(lane: &mut Lane<u8>, seconds: u64, faults: &FaultEngine) -> Vec<u8> {
        std::iter::from_fn(|| match lane.pop(Some(at(seconds)), faults) {
            Next::Item(item) => Some(item),
            Next::Later(_) | Next::Nothing => None,
        })
        .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_behind_one_that_waits_waits() {
        let (faults, rule) = engine();
        let mut lane = Lane::default();
        lane.push(1, None);
        lane.push(2, Some(wait(rule, 5)));
        lane.push(3, None);
        assert_eq!(drain(&mut lane, 4, &faults), [1]);
        assert_eq!((lane.pop(Some(at(4)), &faults), lane.next_at(&faults)), (Next::Later(at(5)), Some(at(5))));
        assert_eq!(drain(&mut lane, 5, &faults), [2, 3]);
        assert!(lane.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_a_rule_that_is_gone() {
        let (faults, rule) = engine();
        let mut lane = Lane::default();
        let mut twice = wait(rule, 5);
        twice.add(rule, Duration::from_secs(2));
        lane.push(1, Some(twice));
        lane.push(2, Some(wait(rule, 5)));
        assert_eq!(lane.next_at(&faults), Some(at(7)));
        assert!(faults.remove("late").unwrap());
        assert_eq!(lane.next_at(&faults), Some(at(0)));
        assert_eq!(drain(&mut lane, 0, &faults), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_lets_so_many_others_pass() {
        let (faults, _) = engine();
        let mut lane = Lane::default();
        lane.hold(2, 1);
        lane.push(2, None);
        lane.push_beside(3, None);
        assert_eq!(drain(&mut lane, 0, &faults), [2, 3]);
        lane.push(4, None);
        assert_eq!(drain(&mut lane, 0, &faults), [4, 1]);
        lane.hold(9, 5);
        lane.let_all_pass();
        assert_eq!(drain(&mut lane, 0, &faults), [5]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_few_wait_for_others() {
        let (faults, _) = engine();
        let mut lane = Lane::default();
        for n in 0..100 {
            lane.hold(64, n);
        }
        assert_eq!(drain(&mut lane, 0, &faults), (0..36).collect::<Vec<_>>());
    }
}
