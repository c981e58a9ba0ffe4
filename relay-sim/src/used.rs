//! Session ids that were used, beyond the relay's process: so that no token is good twice over lives (REL-10).
//!
//! What decides is the [`Registry`] of the protocol crate, in memory. Driven by the upgrade: an id is written down after the
//! registry gave it out and before the upgrade is answered, together with those that the registry has forgotten since, which are
//! crossed out. So what is kept mirrors the registry, and is bounded as it is: only who has a good token can add to it.

use std::{fmt, sync::Arc, time::Duration};

use sideband_protocol::{Instant, SessionId, relay::Registry};

/// What is kept cannot be changed; the upgrade is refused with 503. The words are for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the used session ids cannot be kept: {0}")]
pub struct KeepSessionsError(pub String);

/// What keeps used session ids. Its functions are called in the tasks of upgrades, one at a time for each id: they take microseconds,
/// or hold the relay up.
pub trait KeepSessions: fmt::Debug + Send + Sync {
    /// Keeps an id whose token is accepted until `token_dies`, and lets go of others. Of those, one that was used again meanwhile,
    /// with a token that lives at `now`, stays. In seconds since 1970. Once it has returned, the id survives the process.
    ///
    /// # Errors
    /// Nothing is kept.
    fn used(
        &self,
        session: SessionId,
        token_dies: u64,
        forgotten: &[SessionId],
        now: u64,
    ) -> Result<(), KeepSessionsError>;

    /// Takes an id back whose client was not let in after all.
    ///
    /// # Errors
    /// It is still kept.
    fn not_used(&self, session: SessionId) -> Result<(), KeepSessionsError>;
}

/// Where a relay keeps used session ids, and those that earlier processes left there. The default keeps none.
#[derive(Debug, Clone, Default)]
pub struct UsedSessions {
    keeper: Option<Arc<dyn KeepSessions>>,
    before: Vec<(SessionId, u64)>,
}

impl UsedSessions {
    /// Kept here. `before` are the ids of earlier processes, and until when they are remembered, in seconds since 1970: at least
    /// until their token has run out, and for [`TOKEN_LIFE`](sideband_protocol::relay::TOKEN_LIFE) after the process's end.
    pub fn new(keeper: Arc<dyn KeepSessions>, before: Vec<(SessionId, u64)>) -> Self {
        Self { keeper: Some(keeper), before }
    }

    /// Brings those of earlier processes into a registry, at `now`, which is `unix` in seconds since 1970.
    pub(crate) fn restore(&self, mut registry: Registry, now: Instant, unix: u64) -> Registry {
        if self.keeper.is_some() {
            registry = registry.telling_forgotten();
        }
        for &(session, until) in &self.before {
            registry.restore(session, now + Duration::from_secs(until.saturating_sub(unix)));
        }
        registry
    }

    /// [`KeepSessions::used`].
    pub(crate) fn used(
        &self,
        session: SessionId,
        token_dies: u64,
        forgotten: &[SessionId],
        now: u64,
    ) -> Result<(), KeepSessionsError> {
        self.keeper.as_ref().map_or(Ok(()), |keeper| keeper.used(session, token_dies, forgotten, now))
    }

    /// [`KeepSessions::not_used`]. If it fails, the id is refused by the next process, which is on the safe side.
    pub(crate) fn not_used(&self, session: SessionId) {
        if let Some(Err(error)) = self.keeper.as_ref().map(|keeper| keeper.not_used(session)) {
            tracing::error!(%error, "a session id stays used");
        }
    }
}
