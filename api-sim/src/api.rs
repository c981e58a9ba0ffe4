//! The procedures. What comes before them in a request (origin, method, size, JSON) is in `http`.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{Router, http::HeaderValue};
use sha2::{Digest as _, Sha256};
use sideband_env::{Clock, Env, ShiftedClock, Timeline};
use sideband_protocol::{
    Entropy, SessionId,
    api::{
        AccessibleDaemon, ApiKey, ApiQuirk, CreateQuickConnect, CreateSession, DEFAULT_TTL, DaemonPresence, ErrorCode,
        InputError, PresenceToken, QuickConnect, QuickConnectCode, RedeemQuickConnect, Redeemed, RegisterDaemon,
        Registered, Session, random_base62, utc_text,
    },
    token::{Claims, KeySet, Limits},
};
use sideband_sim_kit::{
    admin::{AdminRoutes, Keys, RotateKeys},
    event::{EventKind, EventSink, token_name},
    fault::FaultEngine,
    limits::{ApiLimits, ApiLimitsPatch},
    presence::{Presence, PresenceError},
};
use tracing::{error, warn};

use crate::{
    Access, Added, ApiConfig, Code, Daemon, Digest, RotateError, Store, StoreError, admin, http,
    keys::{Rotation, SigningKeys, new_key},
    rate::{RateLimiter, Requester},
    regions::{Ask, Regions},
};

/// The control plane. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Api {
    pub(crate) shared: Arc<Shared>,
    pub(crate) faults: FaultEngine,
    clock: Arc<dyn Clock>,
}

pub(crate) struct Shared {
    pub(crate) config: ApiConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) events: EventSink,
    entropy: Mutex<Box<dyn Entropy>>,
    keys: Mutex<SigningKeys>,
    limiter: RateLimiter,
    regions: Regions,
    /// For what is asked of others.
    env: Env,
    /// Goes into the names that events call credentials by.
    salt: [u8; 16],
}

/// Why a procedure fails. The message is for the caller and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// Seconds after which it may go better, for `Retry-After`.
    pub(crate) retry_after: Option<u64>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::new(ErrorCode::BadRequest, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        error!(%error, "a request failed");
        Self::new(ErrorCode::InternalServerError, "the control plane failed")
    }
}

/// What a request was about, for its event.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) daemon: Option<String>,
    pub(crate) session: Option<SessionId>,
    /// The faults that had a part in the answer, as the answer's header has them.
    pub(crate) faults: Option<HeaderValue>,
    /// The name of the code that it redeems.
    pub(crate) code: Option<String>,
    /// The name of the presence token that it gets.
    pub(crate) token: Option<String>,
}

impl Api {
    /// A control plane with the signing keys of its store, which is given a new random one if it has none.
    ///
    /// # Errors
    /// The store cannot do its work.
    pub fn new(
        env: Env,
        config: ApiConfig,
        store: Arc<dyn Store>,
        presence: Arc<dyn Presence>,
        events: EventSink,
    ) -> Result<Self, StoreError> {
        let mut entropy = env.entropy.entropy();
        let first = new_key(entropy.as_mut());
        let keys = Mutex::new(SigningKeys::load(store.signing_keys(&first)?)?);
        let entropy = Mutex::new(entropy);
        let limiter = RateLimiter::new(config.rate_limit);
        let mut salt = [0; 16];
        env.entropy.entropy().fill(&mut salt);
        let regions = Regions::new(&config.region_relays, config.presence_knows_regions);
        let clock = env.clock.clone();
        let shared = Shared { config, store, presence, events, entropy, keys, limiter, regions, env, salt };
        Ok(Self { shared: Arc::new(shared), faults: FaultEngine::new(Timeline::start()), clock })
    }

    /// The same control plane, which does what this engine's rules at `api.request` and `keys` say. To be called before its
    /// routers are made. Without it there are no faults.
    pub fn with_faults(self, faults: FaultEngine) -> Self {
        Self { faults, ..self }
    }

    /// The same control plane, whose clock is fast by so many milliseconds; slow, if below zero.
    pub(crate) fn shifted(&self, millis: i64) -> Self {
        Self { clock: Arc::new(ShiftedClock::new(self.clock.clone(), millis)), ..self.clone() }
    }

    /// Brings accounts, codes, keys, limits and the stored fault plan to the state after the start, as
    /// [`Store::reset`] says. Session ids and redeemed codes stay used (API-01, API-05).
    ///
    /// # Errors
    /// The store cannot do its work.
    pub fn reset(&self) -> Result<(), StoreError> {
        let mut keys = self.keys();
        self.shared.store.reset()?;
        let first = new_key(self.entropy().as_mut());
        *keys = SigningKeys::load(self.shared.store.signing_keys(&first)?)?;
        let current = keys.current_kid().to_owned();
        drop(keys);
        let config = &self.shared.config;
        self.shared.limiter.set(config.rate_limit);
        self.shared.regions.reset(&config.region_relays, config.presence_knows_regions);
        self.shared.events.emit(None, None, EventKind::KeysRotated { current, hard: true });
        Ok(())
    }

    /// What is known. Signing keys are to be rotated by [`rotate_with`](Self::rotate_with), not there.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The control plane over HTTP: `/api/trpc/{procedure}`, `/.well-known/jwks.json`, and 404 for everything else (it is the
    /// router's fallback, so that other routes can be added beside it).
    pub fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// This control plane's part of `/__sim`: `keys`, `keys/rotate`, `api-limits`, `accounts`. To be nested there, behind
    /// [`guard_admin`](sideband_sim_kit::guard::guard_admin), beside the relay's part and
    /// [`ready_router`](sideband_sim_kit::admin::ready_router).
    pub fn admin_router(&self) -> Router {
        self.admin_routes().into()
    }

    /// [`admin_router`](Self::admin_router), with its description.
    pub fn admin_routes(&self) -> AdminRoutes {
        admin::routes(self.clone())
    }

    /// The keys that are published now. A relay in the same process asks here at each upgrade, so that a hard rotation holds
    /// at once (KEY-04). No fault is in it; [`fetch_key_set`](Self::fetch_key_set) has them.
    pub fn key_set(&self) -> KeySet {
        self.keys().key_set(self.now())
    }

    /// The published keys, for people.
    pub fn keys_overview(&self) -> Keys {
        self.keys().overview(self.now())
    }

    /// Makes a new key current at once; the old one stays published for the configured overlap, or, if `hard`, not at all
    /// (KEY-04).
    ///
    /// # Errors
    /// The new key cannot be stored.
    pub fn rotate(&self, hard: bool) -> Result<(), RotateError> {
        self.rotate_with(RotateKeys { hard, overlap_seconds: None }).map(drop)
    }

    /// Makes a new key current at once, with an overlap of its own if it names one (KEY-04).
    ///
    /// # Errors
    /// A hard rotation with an overlap; or the new key cannot be stored, and the old one goes on.
    pub fn rotate_with(&self, how: RotateKeys) -> Result<Keys, RotateError> {
        let now = self.now();
        let mut keys = self.keys();
        let mut rotation = Rotation::decide(how, self.shared.config.key_overlap, now, self.entropy().as_mut())?;
        self.break_rotation(&mut rotation, now);
        self.shared.store.rotate_keys(&rotation.new, rotation.previous_until, now)?;
        if !self.has(ApiQuirk::SignsWithOldKey) {
            keys.rotate(&rotation, now);
        }
        let (current, overview) = (keys.current_kid().to_owned(), keys.overview(now));
        drop(keys);
        self.shared.events.emit(None, None, EventKind::KeysRotated { current, hard: how.hard });
        Ok(overview)
    }

    /// The limits in force.
    pub fn limits(&self) -> ApiLimits {
        ApiLimits { rate: self.shared.limiter.limit() }
    }

    /// Changes limits at once; what is absent stays. Answers all that hold then.
    pub fn set_limits(&self, patch: &ApiLimitsPatch) -> ApiLimits {
        if let Some(rate) = patch.rate {
            self.shared.limiter.set(rate);
        }
        self.limits()
    }

    pub(crate) fn regions(&self) -> &Regions {
        &self.shared.regions
    }

    pub(crate) fn env(&self) -> &Env {
        &self.shared.env
    }

    /// Whether a relay is known for a region: its own, or that of the configuration (TOK-08).
    pub(crate) fn serves(&self, region: &str) -> bool {
        self.shared.config.region.as_deref() == Some(region) || self.regions().relay_url(region).is_some()
    }

    /// Whether a daemon is online, by who knows; none if it is in a region of whose relay nobody does.
    async fn is_online(&self, daemon: &str, ask: &Ask) -> Result<Option<bool>, PresenceError> {
        let shared = &self.shared.presence;
        match ask {
            Ask::Shared => shared.is_online(daemon).await.map(Some),
            Ask::Own(_, presence) => presence.is_online(daemon).await.map(Some),
            Ask::Unsure => Ok(shared.is_online(daemon).await.ok().filter(|online| *online)),
        }
    }

    fn ask(&self, daemon: &Daemon) -> Result<Ask, Failure> {
        Ok(self.regions().ask(self.region(daemon)?.as_deref()))
    }

    fn keys(&self) -> MutexGuard<'_, SigningKeys> {
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn entropy(&self) -> MutexGuard<'_, Box<dyn Entropy>> {
        self.shared.entropy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What events call a credential or a code by: the same for the same one as long as this control plane lives, and nothing of it.
    pub(crate) fn name_of(&self, secret: &str) -> String {
        let digest = Sha256::new().chain_update(self.shared.salt).chain_update(secret).finalize();
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.unix_seconds()
    }

    pub(crate) fn random_text(&self, length: usize) -> String {
        random_base62(self.entropy().as_mut(), length)
    }

    /// The user of a credential.
    pub(crate) fn user(&self, credential: Option<&str>) -> Result<String, Failure> {
        let digest = credential.map(Digest::of).ok_or_else(unauthorized)?;
        self.shared.store.user_of_access_token(digest)?.ok_or_else(unauthorized)
    }

    /// The daemon of a credential (API-02).
    pub(crate) fn daemon(&self, credential: Option<&str>, about: &mut About) -> Result<Daemon, Failure> {
        let digest = credential.map(Digest::of).ok_or_else(unauthorized)?;
        let daemon = self.shared.store.daemon_of_api_key(digest)?.ok_or_else(unauthorized)?;
        about.daemon = Some(daemon.id.clone());
        Ok(daemon)
    }

    /// `relay.createSession`. Whether the daemon is online does not matter (API-08).
    pub(crate) fn create_session(
        &self,
        user: &str,
        input: &CreateSession,
        relay_url: String,
        about: &mut About,
    ) -> Result<Session, Failure> {
        let access = self.shared.store.access(user, &input.daemon_id)?;
        let missing = if self.has(ApiQuirk::HidesDaemons) { ErrorCode::Forbidden } else { ErrorCode::NotFound };
        let Access { daemon, allowed } = access.ok_or_else(|| Failure::new(missing, "no such daemon"))?;
        about.daemon = Some(daemon.id.clone());
        if !allowed {
            return Err(Failure::new(ErrorCode::Forbidden, "this user may not use this daemon"));
        }
        let (token, relay_url) = self.client_token(user, &daemon, relay_url, about)?;
        Ok(Session { relay_url, token })
    }

    /// `daemon.renewToken`.
    pub(crate) fn renew_token(
        &self,
        daemon: &Daemon,
        can_resume: bool,
        about: &mut About,
    ) -> Result<PresenceToken, Failure> {
        let first = self.first_daemon()?;
        Ok(PresenceToken { presence_token: self.presence_token(first.as_ref().unwrap_or(daemon), can_resume, about)? })
    }

    /// `quickConnect.create` (API-03).
    pub(crate) fn create_quick_connect(
        &self,
        daemon: &Daemon,
        input: &CreateQuickConnect,
        connect_base: &str,
    ) -> Result<QuickConnect, Failure> {
        let now = self.now();
        let ttl = if self.has(ApiQuirk::IgnoresTtl) { DEFAULT_TTL } else { input.ttl() };
        let expires_at = now.saturating_add(ttl);
        loop {
            let code = QuickConnectCode::random(self.entropy().as_mut()).to_string();
            let code = if self.has(ApiQuirk::MakesCodesInCapitals) { code.to_uppercase() } else { code };
            let entry = Code { daemon_id: daemon.id.clone(), expires_at };
            match self.shared.store.add_code(Digest::of(&code), &entry, now)? {
                Added::Yes => {}
                Added::Taken => continue,
                // Removed since its key was looked at.
                Added::NoHolder => return Err(unauthorized()),
            }
            let mark = if self.has(ApiQuirk::PutsCodeIntoQuery) { "?" } else { "#" };
            let url = format!("{connect_base}{mark}qc={code}");
            return Ok(QuickConnect { code, url, expires_at: utc_text(expires_at) });
        }
    }

    /// `quickConnect.redeem`: the code is consumed first, whatever follows (API-04).
    pub(crate) async fn redeem_quick_connect(
        &self,
        input: &RedeemQuickConnect,
        relay_url: String,
        about: &mut About,
    ) -> Result<Redeemed, Failure> {
        let unknown = || Failure::new(ErrorCode::NotFound, "no such code; it may have been used or have expired");
        self.break_redeem(input).await?;
        let code = self.consume(input).await?.ok_or_else(unknown)?;
        let daemon = self.shared.store.daemon(&code.daemon_id)?.ok_or_else(unknown)?;
        about.daemon = Some(daemon.id.clone());
        match self.is_online(&daemon.id, &self.ask(&daemon)?).await {
            Ok(Some(true) | None) => {}
            Ok(Some(false)) => {
                return Err(Failure::new(
                    ErrorCode::Conflict,
                    "the daemon is offline; the code is used up, get a new one",
                ));
            }
            // Not knowing is not offline: the relay will say so if it is.
            Err(error) => warn!(%error, "cannot tell whether the daemon is online; going on"),
        }
        // Whoever redeems a code is nobody whom we know: a new user each time.
        let user = format!("qc_{}", self.random_text(12));
        let (token, relay_url) = self.client_token(&user, &daemon, relay_url, about)?;
        Ok(Redeemed { relay_url, token, daemon_id: daemon.id })
    }

    /// `daemon.register`.
    pub(crate) fn register_daemon(
        &self,
        user: &str,
        input: RegisterDaemon,
        about: &mut About,
    ) -> Result<Registered, Failure> {
        let mut daemon = Daemon {
            name: input.name,
            identity_public_key: input.identity_public_key,
            resumable: input.resumable.unwrap_or(false),
            ..Daemon::new("", user)
        };
        loop {
            daemon.id = format!("d_{}", self.random_text(10));
            let api_key = ApiKey::random(self.entropy().as_mut());
            match self.shared.store.add_daemon(&daemon, Digest::of(api_key.expose()))? {
                Added::Yes => {}
                Added::Taken => continue,
                // Removed since its token was looked at.
                Added::NoHolder => return Err(unauthorized()),
            }
            about.daemon = Some(daemon.id.clone());
            let presence_token = self.presence_token(&daemon, false, about)?;
            return Ok(Registered { daemon_id: daemon.id, api_key: api_key.expose().to_owned(), presence_token });
        }
    }

    /// `daemon.listAccessible`. A relay that does not tell is asked once; its daemons are offline then.
    pub(crate) async fn list_accessible(&self, user: &str) -> Result<Vec<AccessibleDaemon>, Failure> {
        let mut list = Vec::new();
        let mut silent = BTreeSet::new();
        for daemon in self.shared.store.accessible(user)? {
            let mut status = DaemonPresence::Offline;
            let ask = self.ask(&daemon)?;
            if !silent.contains(ask.whom()) {
                match self.is_online(&daemon.id, &ask).await {
                    Ok(Some(true)) => status = DaemonPresence::Online,
                    Ok(Some(false) | None) => {}
                    Err(error) => {
                        warn!(%error, "cannot tell which daemons are online");
                        silent.insert(ask.whom().to_owned());
                    }
                }
            }
            let Daemon { id, name, identity_public_key, .. } = daemon;
            list.push(AccessibleDaemon { id, name, identity_public_key, status });
        }
        Ok(list)
    }

    /// A client token for a session id that was never used before (API-01), and the relay to take it to: that of the daemon's
    /// region, or else the given one.
    fn client_token(
        &self,
        user: &str,
        daemon: &Daemon,
        relay_url: String,
        about: &mut About,
    ) -> Result<(String, String), Failure> {
        let session = loop {
            let session = SessionId::random(self.entropy().as_mut());
            if let (true, Some(first)) = (self.has(ApiQuirk::RepeatsSessionIds), SessionId::new(1)) {
                break first;
            }
            if self.shared.store.insert_session_id_if_new(session)? {
                break session;
            }
        };
        about.session = Some(session);
        let jti = self.random_text(16);
        let mut claims = Claims::client(&self.shared.config.issuer, user, &daemon.id, session, &jti, self.now());
        if self.has(ApiQuirk::GivesLongLives) {
            claims.exp = claims.iat.saturating_add(600);
        }
        let region = self.region(daemon)?;
        let own = region.as_ref().and_then(|region| self.regions().relay_url(region));
        let relay_url = own.unwrap_or(relay_url);
        Ok((self.sign(daemon, region, claims)?, relay_url))
    }

    /// A presence token; resumable if the daemon was registered so or says now that it can resume.
    fn presence_token(&self, daemon: &Daemon, can_resume: bool, about: &mut About) -> Result<String, Failure> {
        let jti = self.random_text(16);
        about.token = Some(token_name(&jti));
        let resumable = daemon.resumable || can_resume;
        self.sign(
            daemon,
            self.region(daemon)?,
            Claims::daemon(&self.shared.config.issuer, &daemon.id, &jti, self.now(), resumable),
        )
    }

    /// Client and daemon meet at one relay: the region is the daemon's for both, else its owner's, else the configured one.
    fn region(&self, daemon: &Daemon) -> Result<Option<String>, Failure> {
        let owners = || self.shared.store.user(&daemon.owner).map(|owner| owner.and_then(|owner| owner.region));
        let region = match &daemon.region {
            Some(region) => Some(region.clone()),
            None => owners()?,
        };
        Ok(region.or_else(|| self.shared.config.region.clone()))
    }

    fn sign(&self, daemon: &Daemon, region: Option<String>, mut claims: Claims) -> Result<String, Failure> {
        self.faults_at_signing();
        let config = &self.shared.config;
        claims.region = region;
        let limit = daemon.concurrent_sessions.or(config.concurrent_sessions);
        claims.lim = limit.map(|n| Limits { concurrent_sessions: n });
        Ok(self.keys().sign(&claims))
    }

    /// Whether one more request fits the rate: of the credential if it is known, else of the peer.
    pub(crate) fn check_rate(&self, credential: Option<&str>, peer: Option<IpAddr>) -> Result<(), Failure> {
        let limiter = &self.shared.limiter;
        if limiter.limit().is_none() {
            return Ok(());
        }
        let requester = match credential.map(Digest::of) {
            Some(digest) if self.is_known(digest)? => Requester::Credential(digest.id()),
            Some(_) | None => Requester::Peer(peer),
        };
        limiter.take(requester).map_err(|retry_after| Failure {
            retry_after: Some(retry_after),
            ..Failure::new(ErrorCode::TooManyRequests, "too many requests")
        })
    }

    fn is_known(&self, credential: Digest) -> Result<bool, StoreError> {
        let store = &self.shared.store;
        Ok(store.user_of_access_token(credential)?.is_some() || store.daemon_of_api_key(credential)?.is_some())
    }
}

fn unauthorized() -> Failure {
    Failure::new(ErrorCode::Unauthorized, "the credential is missing, unknown or revoked")
}
