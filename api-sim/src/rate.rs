//! The control plane's own limit of requests: one bucket of tokens for each known credential, and one for each peer that shows
//! none. Off unless configured.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sideband_env::Timeline;

use crate::CredentialId;

/// Most requesters that are remembered. Beyond it those who have been quiet longest are forgotten, which gives them a full
/// bucket again.
const MAX_REQUESTERS: usize = 10_000;

/// A limit of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Requests a second that may go on for ever; what is not above zero, or under one a day, is one a second.
    pub per_second: f64,
    /// Requests at once after a rest, at least one.
    pub burst: u32,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Requester {
    Credential(CredentialId),
    /// None where the transport knows no address: all of those together.
    Peer(Option<IpAddr>),
}

pub(crate) struct RateLimiter {
    limit: RateLimit,
    timeline: Timeline,
    /// When each bucket is full again, since the start of the time line.
    full_at: Mutex<BTreeMap<Requester, Duration>>,
}

impl RateLimiter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, timeline: Timeline::start(), full_at: Mutex::default() }
    }

    /// How long one request takes from the bucket.
    fn interval(&self) -> Duration {
        let seconds = 1.0 / self.limit.per_second;
        let whole = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= Duration::from_secs(86_400));
        whole.unwrap_or(Duration::from_secs(1)).max(Duration::from_nanos(1))
    }

    /// Takes one request from the bucket, or says in how many seconds there is one.
    pub(crate) fn take(&self, requester: Requester) -> Result<(), u64> {
        let (now, interval) = (self.timeline.elapsed(), self.interval());
        let depth = interval.saturating_mul(self.limit.burst.max(1));
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.get(&requester).copied().unwrap_or(now).max(now) + interval;
        let wait = full_at.saturating_sub(now + depth);
        if !wait.is_zero() {
            return Err(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        }
        buckets.insert(requester, full_at);
        if buckets.len() > MAX_REQUESTERS {
            buckets.retain(|_, full_at| *full_at > now);
        }
        if buckets.len() > MAX_REQUESTERS
            && let Some(quietest) = buckets.iter().min_by_key(|(_, full_at)| **full_at).map(|(requester, _)| *requester)
        {
            buckets.remove(&quietest);
        }
        Ok(())
    }

    /// Fills every bucket.
    pub(crate) fn forget(&self) {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requesters_are_bounded_and_the_busiest_are_remembered() {
        let limiter = RateLimiter::new(RateLimit { per_second: 0.5, burst: 2 });
        let busy = Requester::Credential(CredentialId::from_number(1));
        assert_eq!((limiter.take(busy), limiter.take(busy), limiter.take(busy)), (Ok(()), Ok(()), Err(2)));
        for n in 0..MAX_REQUESTERS as u32 + 500 {
            assert_eq!(limiter.take(Requester::Peer(Some(IpAddr::from(n.to_be_bytes())))), Ok(()));
        }
        assert_eq!(limiter.full_at.lock().unwrap().len(), MAX_REQUESTERS);
        assert_eq!(limiter.take(busy), Err(2));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!((limiter.take(busy), limiter.take(busy), limiter.take(busy)), (Ok(()), Ok(()), Err(2)));
        assert_eq!(limiter.take(Requester::Peer(None)), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_makes_no_sense_is_one_a_second() {
        for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
            let limiter = RateLimiter::new(RateLimit { per_second, burst: 0 });
            assert_eq!(limiter.take(Requester::Peer(None)), Ok(()));
            let again = limiter.take(Requester::Peer(None));
            assert!(again == Err(1), "{per_second}: {again:?}");
        }
    }
}
