//! Which policies cannot work: a user is told before anything is dialled.
//!
//! A duration may be as long as it likes, [`Duration::MAX`] for ever; what is refused is no time at all, and what contradicts itself.

use std::time::Duration;

use crate::{
    client::{ConnectionPolicy, RetryPolicy, RpcPolicy},
    daemon::DaemonRetryPolicy,
    endpoint::{KeepalivePolicy, MIN_PING},
    peer::SessionLimits,
};

/// Shortest delay before a first retry. With less, servers in trouble are asked without a pause.
pub const MIN_RETRY: Duration = Duration::from_millis(1);

/// A policy that cannot work: which member, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{member}` {why}")]
pub struct InvalidPolicy {
    /// The member's name.
    pub member: &'static str,
    /// What is wrong with it, and what to do.
    pub why: &'static str,
}

fn ensure(holds: bool, member: &'static str, why: &'static str) -> Result<(), InvalidPolicy> {
    if holds { Ok(()) } else { Err(InvalidPolicy { member, why }) }
}

fn some_time(limit: Duration, member: &'static str) -> Result<(), InvalidPolicy> {
    ensure(!limit.is_zero(), member, "is zero: nothing is done in no time")
}

fn delays(initial: Duration, max: Duration) -> Result<(), InvalidPolicy> {
    ensure(initial >= MIN_RETRY, "initial", "is under 1 ms: servers in trouble would be asked without a pause")?;
    ensure(max >= initial, "max", "is shorter than `initial`")
}

impl RetryPolicy {
    /// Whether it can work.
    ///
    /// # Errors
    /// `initial` under 1 ms, `max` shorter than it, `jitter` outside 0 to 1.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        delays(self.initial, self.max)?;
        ensure((0.0..=1.0).contains(&self.jitter), "jitter", "is not in 0 to 1")
    }
}

impl DaemonRetryPolicy {
    /// Whether it can work.
    ///
    /// # Errors
    /// `initial` under 1 ms, `max` shorter than it, no time for `settled`.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        delays(self.initial, self.max)?;
        ensure(
            !self.settled.is_zero(),
            "settled",
            "is zero: a connection that is dropped at once would start the count anew",
        )
    }
}

impl KeepalivePolicy {
    /// Whether it can work.
    ///
    /// # Errors
    /// `ping_every` under 10 ms, `silence` not longer than it.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        ensure(self.ping_every >= MIN_PING, "ping_every", "is under 10 ms: pings would leave time for nothing else")?;
        ensure(
            self.silence > self.ping_every,
            "silence",
            "is not longer than `ping_every`: good sockets would be dropped",
        )
    }
}

impl ConnectionPolicy {
    /// Whether it can work.
    ///
    /// # Errors
    /// A time limit of zero, or a keepalive that cannot work.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        some_time(self.api_timeout, "api_timeout")?;
        some_time(self.dial_timeout, "dial_timeout")?;
        some_time(self.handshake_timeout, "handshake_timeout")?;
        self.keepalive.check()
    }
}

impl RpcPolicy {
    /// Whether it can work.
    ///
    /// # Errors
    /// A time limit of zero.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        some_time(self.timeout, "timeout")?;
        self.total.map_or(Ok(()), |total| some_time(total, "total"))
    }
}

impl SessionLimits {
    /// Whether they can work.
    ///
    /// # Errors
    /// A limit of zero.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        const ENDS: &str = "is zero: the first message would end the session";
        ensure(self.waiting_frames > 0, "waiting_frames", ENDS)?;
        ensure(self.waiting_bytes > 0, "waiting_bytes", ENDS)?;
        ensure(self.held_bytes > 0, "held_bytes", "is zero: the first message of a paused session would end it")?;
        ensure(self.calls > 0, "calls", "is zero: no call could be made")
    }
}
