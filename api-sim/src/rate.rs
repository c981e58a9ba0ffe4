//! The control plane's own limit of requests: one bucket of tokens for each known credential, and one for each peer that shows
//! none. Off unless configured.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sideband_env::Timeline;
use sideband_sim_kit::limits::RateLimit;

use crate::CredentialId;

/// Most requesters that are remembered. Beyond it those who have been quiet longest are forgotten, which gives them a full
/// bucket again.
const MAX_REQUESTERS: usize = 10_000;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Requester {
    Credential(CredentialId),
    /// None where the transport knows no address: all of those together.
    Peer(Option<IpAddr>),
}

/// The limit in force, and the buckets under it.
#[derive(Default)]
struct Buckets {
    limit: Option<RateLimit>,
    /// When each bucket is full again, since the start of the time line.
    full_at: BTreeMap<Requester, Duration>,
}

pub(crate) struct RateLimiter {
    timeline: Timeline,
    buckets: Mutex<Buckets>,
}

impl RateLimiter {
    pub(crate) fn new(limit: Option<RateLimit>) -> Self {
        Self { timeline: Timeline::start(), buckets: Mutex::new(Buckets { limit, ..Buckets::default() }) }
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limit in force.
    pub(crate) fn limit(&self) -> Option<RateLimit> {
        self.buckets().limit
    }

    /// Puts a limit in force, or none; every bucket is full then.
    pub(crate) fn set(&self, limit: Option<RateLimit>) {
        *self.buckets() = Buckets { limit, ..Buckets::default() };
    }

    /// Takes one request from the bucket, or says in how many seconds there is one.
    pub(crate) fn take(&self, requester: Requester) -> Result<(), u64> {
        let now = self.timeline.elapsed();
        let Buckets { limit, full_at: buckets } = &mut *self.buckets();
        let Some(limit) = limit else { return Ok(()) };
        let interval = limit.interval();
        let depth = interval.saturating_mul(limit.requests());
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requesters_are_bounded_and_the_busiest_are_remembered() {
        let limiter = RateLimiter::new(Some("2/4s".parse().unwrap()));
        let busy = Requester::Credential(CredentialId::from_number(1));
        assert_eq!((limiter.take(busy), limiter.take(busy), limiter.take(busy)), (Ok(()), Ok(()), Err(2)));
        for n in 0..MAX_REQUESTERS as u32 + 500 {
            assert_eq!(limiter.take(Requester::Peer(Some(IpAddr::from(n.to_be_bytes())))), Ok(()));
        }
        assert_eq!(limiter.buckets().full_at.len(), MAX_REQUESTERS);
        assert_eq!(limiter.take(busy), Err(2));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!((limiter.take(busy), limiter.take(busy), limiter.take(busy)), (Ok(()), Ok(()), Err(2)));
        assert_eq!(limiter.take(Requester::Peer(None)), Ok(()));
    }
}
