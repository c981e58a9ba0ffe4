//! Checking tokens: the key cache of the protocol, and the one fetch that everybody waits for (KEY-01 to KEY-03).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode};
use sideband_env::{Env, HttpRequest, Timeline};
use sideband_protocol::{
    relay::{RelayQuirk, RelayQuirks},
    token::{Grant, JWKS_PATH, KeyCache, KeySet, Lookup, Next, Policy, Refusal, danger_check},
};
use sideband_sim_kit::event::{EventKind, EventSink};
use tokio::{sync::watch, time::error::Elapsed};
use url::Url;

use crate::config::{KeySource, RelayConfig};

/// Most bytes of a key set that are read.
const MAX_KEY_SET: usize = 1 << 20;

/// Why a token does not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The token is refused (TOK-01 to TOK-11).
    Token(Refusal),
    /// There is no key set to check it with (KEY-01, KEY-03): 503.
    NoKeys,
}

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Keys {
    source: KeySource,
    issuer: String,
    region: Option<String>,
    env: Env,
    timeline: Timeline,
    deadline: Duration,
    events: EventSink,
    cache: Mutex<KeyCache>,
    /// The last set of a source that is asked each time.
    last: Mutex<Option<KeySet>>,
    /// Changes whenever a fetch has ended.
    fetched: watch::Sender<()>,
    quirks: RelayQuirks,
}

impl Keys {
    pub(crate) fn new(config: &RelayConfig, env: Env, timeline: Timeline, events: EventSink) -> Arc<Self> {
        Arc::new(Self {
            source: config.keys.clone(),
            issuer: config.issuer.clone(),
            region: config.region.clone(),
            env,
            timeline,
            deadline: config.keys_deadline,
            events,
            cache: Mutex::default(),
            last: Mutex::default(),
            fetched: watch::Sender::new(()),
            quirks: config.danger_quirks,
        })
    }

    /// Forgets the key set, as at the start. A fetch that is under way still hands in what it gets.
    pub(crate) fn forget(&self) {
        *self.cache() = KeyCache::default();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn cache(&self) -> MutexGuard<'_, KeyCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a token by a clock that is fast by so many milliseconds, with a fetch of the key set if that is needed.
    pub(crate) async fn check(self: &Arc<Self>, token: Option<&str>, clock_shift: i64) -> Result<Grant, Denied> {
        let now = || self.env.clock.unix_seconds().saturating_add_signed(clock_shift / 1_000);
        let policy = || Policy { issuer: self.issuer.clone(), region: self.region.clone(), now: now() };
        let forgiven = forgiven(self.quirks);
        let check = |token, keys: &KeySet, policy: &Policy| danger_check(token, keys, policy, forgiven);
        let base = match &self.source {
            KeySource::InProcess(keys) => return check(token, &keys(), &policy()).map_err(Denied::Token),
            KeySource::Asked(ask) => {
                let (keys, fresh) = self.asked(tokio::time::timeout(self.deadline, ask()).await);
                return match keys.map(|keys| check(token, &keys, &policy())) {
                    None => Err(Denied::NoKeys),
                    // It may be in the set that could not be had (KEY-01).
                    Some(Err(Refusal::UnknownKid)) if !fresh => Err(Denied::NoKeys),
                    Some(other) => other.map_err(Denied::Token),
                };
            }
            KeySource::Http { issuer } => issuer,
        };
        // TOK-01 and TOK-02 need no key; what fails there is refused whether there is a key set or not.
        if let Err(refusal) = check(token, &KeySet::default(), &policy())
            && refusal != Refusal::UnknownKid
        {
            return Err(Denied::Token(refusal));
        }
        if self.quirks.has(RelayQuirk::NeverCachesKeys) {
            *self.cache() = KeyCache::default();
        }
        let mut lookup = Lookup::default();
        loop {
            // Before asking, so that a fetch which ends meanwhile is not missed.
            let mut fetched = self.fetched.subscribe();
            let next = self.next(&mut lookup);
            if let Next::CheckAndFetch(_) = next {
                tokio::spawn(self.clone().fetch(base.clone()));
            }
            match next {
                Next::Check(keys) | Next::CheckAndFetch(keys) => match check(token, &keys, &policy()) {
                    // The first set stays what it is: to check by it again would never end.
                    Err(refusal @ Refusal::UnknownKid)
                        if self.quirks.has(RelayQuirk::NeverLooksAgain)
                            || self.quirks.has(RelayQuirk::KeepsFirstKeys) =>
                    {
                        return Err(Denied::Token(refusal));
                    }
                    Err(Refusal::UnknownKid) => lookup.unknown_kid(),
                    other => return other.map_err(Denied::Token),
                },
                Next::Fetch => {
                    // A task of its own: it goes on when this upgrade is given up.
                    tokio::spawn(self.clone().fetch(base.clone()));
                    if fetched.changed().await.is_err() {
                        return Err(Denied::NoKeys);
                    }
                }
                Next::Wait => {
                    if fetched.changed().await.is_err() {
                        return Err(Denied::NoKeys);
                    }
                }
                Next::Unavailable => return Err(Denied::NoKeys),
                Next::Unauthorized => return Err(Denied::Token(Refusal::UnknownKid)),
            }
        }
    }

    fn next(&self, lookup: &mut Lookup) -> Next {
        let now = self.timeline.now();
        let mut cache = self.cache();
        if self.quirks.has(RelayQuirk::KeepsFirstKeys)
            && let Some(keys) = cache.current()
        {
            return Next::Check(keys);
        }
        let next = cache.next(lookup, now);
        if next != Next::Unavailable {
            return next;
        }
        if self.quirks.has(RelayQuirk::BlamesTokenForKeys) {
            return Next::Unauthorized;
        }
        if self.quirks.has(RelayQuirk::LooksWithoutEnd) && cache.current().is_some() {
            (*cache, *lookup) = (KeyCache::default(), Lookup::default());
            return cache.next(lookup, now);
        }
        next
    }

    /// The set that was asked for, or else the last one (KEY-03); and whether it is what was asked for.
    fn asked(&self, answer: Result<Result<KeySet, String>, Elapsed>) -> (Option<KeySet>, bool) {
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.deadline)));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(keys) => {
                *last = Some(keys.clone());
                (Some(keys), true)
            }
            Err(reason) => {
                tracing::warn!(%reason, "the key set cannot be had");
                self.events.emit(None, None, EventKind::KeySet { result: reason });
                (last.clone(), false)
            }
        }
    }

    async fn fetch(self: Arc<Self>, base: String) {
        let debt = Debt { keys: &self, paid: false };
        let got = tokio::time::timeout(self.deadline, self.get(&base))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.deadline)));
        debt.pay(got);
    }

    async fn get(&self, base: &str) -> Result<KeySet, String> {
        let url = format!("{}{JWKS_PATH}", base.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| format!("the key set's URL is none: {error}"))?;
        let request = HttpRequest {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            max_answer: MAX_KEY_SET,
        };
        let answer = self.env.http.send(request).await.map_err(|error| error.to_string())?;
        if answer.status != StatusCode::OK {
            return Err(format!("status {}", answer.status.as_u16()));
        }
        let keys = KeySet::parse(&answer.body).map_err(|error| error.to_string())?;
        let text = || serde_json::to_value(&keys).is_ok_and(|ours| ours.to_string().len() < answer.body.len());
        if self.quirks.has(RelayQuirk::StumblesOnForeignKeys) && text() {
            return Err("an entry of another kind".to_owned());
        }
        if self.quirks.has(RelayQuirk::KnowsOneKey) {
            return Ok(KeySet::from_keys(keys.keys().iter().take(1).cloned()));
        }
        Ok(keys)
    }

    fn hand_back(&self, got: Result<KeySet, String>) {
        let now = self.timeline.now();
        let result = match got {
            Ok(keys) => {
                self.cache().fetched(keys, now);
                "ok".to_owned()
            }
            Err(reason) => {
                tracing::warn!(%reason, "the key set cannot be had");
                if self.quirks.has(RelayQuirk::ForgetsKeysInOutage) {
                    *self.cache() = KeyCache::default();
                }
                self.cache().fetch_failed(now);
                reason
            }
        };
        self.events.emit(None, None, EventKind::KeySet { result });
        self.fetched.send_replace(());
    }
}

/// The refusals that a relay passes over which is wrong on purpose.
fn forgiven(quirks: RelayQuirks) -> &'static [Refusal] {
    const FORGIVEN: &[(RelayQuirk, &[Refusal])] = &[
        (RelayQuirk::TakesLongTokens, &[Refusal::Malformed]),
        (RelayQuirk::TakesAnyType, &[Refusal::Typ]),
        (RelayQuirk::TakesAnySignature, &[Refusal::Signature]),
        (RelayQuirk::TakesAnyAudience, &[Refusal::Aud]),
        (RelayQuirk::TakesAnyIssuer, &[Refusal::Iss]),
        (RelayQuirk::TakesExpired, &[Refusal::Expired]),
        (RelayQuirk::TakesAnyVersion, &[Refusal::Ver]),
        (RelayQuirk::TakesNobody, &[Refusal::Sub]),
        (RelayQuirk::TakesAnyRegion, &[Refusal::Region]),
        (RelayQuirk::TakesLongLives, &[Refusal::Ttl]),
        (RelayQuirk::TakesAnyScopes, &[Refusal::Scp]),
        (RelayQuirk::TakesAnyLimit, &[Refusal::Lim]),
    ];
    FORGIVEN.iter().find(|(quirk, _)| quirks.has(*quirk)).map_or(&[], |(_, refusals)| refusals)
}

/// A fetch that is under way. The cache waits for its outcome for ever, so it is handed back even if the task dies.
struct Debt<'a> {
    keys: &'a Keys,
    paid: bool,
}

impl Debt<'_> {
    fn pay(mut self, got: Result<KeySet, String>) {
        self.paid = true;
        self.keys.hand_back(got);
    }
}

impl Drop for Debt<'_> {
    fn drop(&mut self) {
        if !self.paid && std::thread::panicking() {
            self.keys.hand_back(Err("the request failed unexpectedly".to_owned()));
        }
    }
}
