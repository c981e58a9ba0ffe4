//! The procedures. What comes before them in a request (origin, method, size, JSON) is in `http`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use sha2::{Digest as _, Sha256};
use sideband_env::Env;
use sideband_protocol::{
    Entropy, SessionId,
    api::{
        AccessibleDaemon, ApiKey, CreateQuickConnect, CreateSession, DaemonPresence, ErrorCode, InputError,
        PresenceToken, QuickConnect, QuickConnectCode, RedeemQuickConnect, Redeemed, RegisterDaemon, Registered,
        Session, random_base62, utc_text,
    },
    token::{Claims, KeySet, Limits},
};
use sideband_sim_kit::{
    admin::{Accounts, DaemonAccount, Keys, RotateKeys},
    event::{EventKind, EventSink},
    presence::Presence,
};
use tracing::{error, warn};

use crate::{ApiConfig, Code, Daemon, Digest, RotateError, Store, StoreError, admin, http, keys::SigningKeys};

/// The control plane. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Api {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    env: Env,
    pub(crate) config: ApiConfig,
    store: Arc<dyn Store>,
    presence: Arc<dyn Presence>,
    pub(crate) events: EventSink,
    entropy: Mutex<Box<dyn Entropy>>,
    keys: Mutex<SigningKeys>,
    /// Goes into the names that events call credentials by.
    salt: [u8; 16],
}

/// Why a procedure fails. The message is for the caller and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
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
    /// The name of the code that it redeems.
    pub(crate) code: Option<String>,
}

impl Api {
    /// A control plane with a new random signing key.
    pub fn new(
        env: Env,
        config: ApiConfig,
        store: Arc<dyn Store>,
        presence: Arc<dyn Presence>,
        events: EventSink,
    ) -> Self {
        let mut entropy = env.entropy.entropy();
        let keys = Mutex::new(SigningKeys::new(entropy.as_mut()));
        let entropy = Mutex::new(entropy);
        let mut salt = [0; 16];
        env.entropy.entropy().fill(&mut salt);
        Self { shared: Arc::new(Shared { env, config, store, presence, events, entropy, keys, salt }) }
    }

    /// The control plane over HTTP: `/api/trpc/{procedure}`, `/.well-known/jwks.json`, and 404 for everything else (it is the
    /// router's fallback, so that other routes can be added beside it).
    pub fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// This control plane's part of `/__sim`: `keys`, `keys/rotate`, `accounts`. To be nested there, behind
    /// [`guard_admin`](sideband_sim_kit::guard::guard_admin), beside the relay's part and
    /// [`ready_router`](sideband_sim_kit::admin::ready_router).
    pub fn admin_router(&self) -> Router {
        admin::router(self.clone())
    }

    /// The keys that are published now. A relay in the same process asks here at each upgrade, so that a hard rotation holds
    /// at once (KEY-04).
    pub fn key_set(&self) -> KeySet {
        self.keys().key_set(self.now())
    }

    /// The published keys, for people.
    pub fn keys_overview(&self) -> Keys {
        self.keys().overview(self.now())
    }

    /// Makes a new key current at once; the old one stays published for the configured overlap, or, if `hard`, not at all
    /// (KEY-04).
    pub fn rotate(&self, hard: bool) {
        // Without an overlap of its own a rotation is never refused.
        let _ = self.rotate_with(RotateKeys { hard, overlap_seconds: None });
    }

    /// Makes a new key current at once, with an overlap of its own if it names one (KEY-04).
    ///
    /// # Errors
    /// A hard rotation with an overlap.
    pub fn rotate_with(&self, how: RotateKeys) -> Result<Keys, RotateError> {
        let now = self.now();
        let mut keys = self.keys();
        keys.rotate(how, self.shared.config.key_overlap, now, self.entropy().as_mut())?;
        let (current, overview) = (keys.current_kid().to_owned(), keys.overview(now));
        drop(keys);
        self.shared.events.emit(None, None, EventKind::KeysRotated { current, hard: how.hard });
        Ok(overview)
    }

    pub(crate) fn accounts(&self) -> Result<Accounts, StoreError> {
        let daemons = self.shared.store.daemons(None)?.into_iter();
        let daemons = daemons.map(|daemon| DaemonAccount {
            daemon_id: daemon.id,
            owner: daemon.owner,
            name: daemon.name,
            resumable: daemon.resumable,
        });
        Ok(Accounts { users: self.shared.store.users()?, daemons: daemons.collect() })
    }

    fn keys(&self) -> MutexGuard<'_, SigningKeys> {
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entropy(&self) -> MutexGuard<'_, Box<dyn Entropy>> {
        self.shared.entropy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What events call a credential or a code by: the same for the same one as long as this control plane lives, and nothing of it.
    pub(crate) fn name_of(&self, secret: &str) -> String {
        let digest = Sha256::new().chain_update(self.shared.salt).chain_update(secret).finalize();
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn now(&self) -> u64 {
        self.shared.env.clock.unix_seconds()
    }

    fn random_text(&self, length: usize) -> String {
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
        let daemon = self.shared.store.daemon(&input.daemon_id)?;
        let daemon = daemon.ok_or_else(|| Failure::new(ErrorCode::NotFound, "no such daemon"))?;
        about.daemon = Some(daemon.id.clone());
        if daemon.owner != user {
            return Err(Failure::new(ErrorCode::Forbidden, "this user may not use this daemon"));
        }
        let token = self.client_token(user, &daemon.id, about)?;
        Ok(Session { relay_url, token })
    }

    /// `daemon.renewToken`.
    pub(crate) fn renew_token(&self, daemon: &Daemon, can_resume: bool) -> PresenceToken {
        PresenceToken { presence_token: self.presence_token(daemon, can_resume) }
    }

    /// `quickConnect.create` (API-03).
    pub(crate) fn create_quick_connect(
        &self,
        daemon: &Daemon,
        input: &CreateQuickConnect,
        connect_base: &str,
    ) -> Result<QuickConnect, Failure> {
        let now = self.now();
        let expires_at = now.saturating_add(input.ttl());
        loop {
            let code = QuickConnectCode::random(self.entropy().as_mut()).to_string();
            let entry = Code { daemon_id: daemon.id.clone(), expires_at };
            if self.shared.store.add_code(Digest::of(&code), entry, now)? {
                let url = format!("{connect_base}#qc={code}");
                return Ok(QuickConnect { code, url, expires_at: utc_text(expires_at) });
            }
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
        let code = self.shared.store.consume_code(Digest::of(&input.code), self.now())?.ok_or_else(unknown)?;
        let daemon = self.shared.store.daemon(&code.daemon_id)?.ok_or_else(unknown)?;
        about.daemon = Some(daemon.id.clone());
        match self.shared.presence.is_online(&daemon.id).await {
            Ok(true) => {}
            Ok(false) => {
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
        let token = self.client_token(&user, &daemon.id, about)?;
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
            id: String::new(),
            owner: user.to_owned(),
            name: input.name,
            identity_public_key: input.identity_public_key,
            resumable: input.resumable.unwrap_or(false),
        };
        loop {
            daemon.id = format!("d_{}", self.random_text(10));
            let api_key = ApiKey::random(self.entropy().as_mut());
            if self.shared.store.add_daemon(&daemon, Digest::of(api_key.expose()))? {
                about.daemon = Some(daemon.id.clone());
                let presence_token = self.presence_token(&daemon, false);
                return Ok(Registered { daemon_id: daemon.id, api_key: api_key.expose().to_owned(), presence_token });
            }
        }
    }

    /// `daemon.listAccessible`. A relay that does not tell is asked once; all are offline then.
    pub(crate) async fn list_accessible(&self, user: &str) -> Result<Vec<AccessibleDaemon>, Failure> {
        let mut list = Vec::new();
        let mut relay_tells = true;
        for daemon in self.shared.store.daemons(Some(user))? {
            let mut status = DaemonPresence::Offline;
            if relay_tells {
                match self.shared.presence.is_online(&daemon.id).await {
                    Ok(true) => status = DaemonPresence::Online,
                    Ok(false) => {}
                    Err(error) => {
                        warn!(%error, "cannot tell which daemons are online");
                        relay_tells = false;
                    }
                }
            }
            let Daemon { id, owner: _, name, identity_public_key, resumable: _ } = daemon;
            list.push(AccessibleDaemon { id, name, identity_public_key, status });
        }
        Ok(list)
    }

    /// A client token for a session id that was never used before (API-01).
    fn client_token(&self, user: &str, daemon: &str, about: &mut About) -> Result<String, Failure> {
        let session = loop {
            let session = SessionId::random(self.entropy().as_mut());
            if self.shared.store.insert_session_id_if_new(session)? {
                break session;
            }
        };
        about.session = Some(session);
        let jti = self.random_text(16);
        let claims = Claims::client(&self.shared.config.issuer, user, daemon, session, &jti, self.now());
        Ok(self.sign(claims))
    }

    /// A presence token; resumable if the daemon was registered so or says now that it can resume.
    fn presence_token(&self, daemon: &Daemon, can_resume: bool) -> String {
        let jti = self.random_text(16);
        let resumable = daemon.resumable || can_resume;
        self.sign(Claims::daemon(&self.shared.config.issuer, &daemon.id, &jti, self.now(), resumable))
    }

    fn sign(&self, mut claims: Claims) -> String {
        claims.region.clone_from(&self.shared.config.region);
        claims.lim = self.shared.config.concurrent_sessions.map(|n| Limits { concurrent_sessions: n });
        self.keys().sign(&claims)
    }
}

fn unauthorized() -> Failure {
    Failure::new(ErrorCode::Unauthorized, "the credential is missing, unknown or revoked")
}
