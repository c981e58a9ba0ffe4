//! A daemon that listens.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use serde::Serialize;
use sideband_env::Env;
use sideband_protocol::{
    SessionId,
    api::{CreateQuickConnect, MAX_TTL, MIN_TTL},
    crypto::Fingerprint,
    daemon::Daemon as Machine,
    event::EventName,
    failure::Cause,
    peer::CallError,
};
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

use super::{Connection, QuickConnectCode, ServerEvent, ServerEvents};
use crate::{
    Error,
    api::{self, ApiUrl, Credential},
    driver::Shared,
    error::{CallFailure, argument},
    hub::lock,
    peer::to_json,
    told::Told,
};

/// What it takes to reach the control plane and the relay.
pub(super) struct Access {
    pub(super) env: Env,
    pub(super) api: ApiUrl,
    pub(super) relay: String,
    pub(super) api_key: Zeroizing<String>,
    pub(super) resume: bool,
    /// For each API call (CLI-07).
    pub(super) api_timeout: Duration,
}

impl Access {
    pub(super) fn credential(&self) -> Credential<'_> {
        Credential { bearer: Some(&self.api_key), resume: self.resume }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Status {
    Starting,
    /// It was online once.
    Online,
    Ended(Cause),
}

pub(super) type Connections = Arc<Mutex<BTreeMap<SessionId, Connection>>>;

pub(super) struct Owner {
    pub(super) shared: Arc<Shared<Machine>>,
    pub(super) access: Arc<Access>,
    pub(super) fingerprint: Fingerprint,
    pub(super) connections: Connections,
    pub(super) lifecycle: broadcast::Sender<ServerEvent>,
    /// What the first who asks is given: it has heard everything from the start.
    pub(super) first: Mutex<Option<broadcast::Receiver<ServerEvent>>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) finished: watch::Sender<bool>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.with(|machine, _| machine.close());
    }
}

/// A daemon that listens. Cheap to clone; when the last clone is dropped it closes.
#[derive(Clone)]
pub struct Server(pub(super) Arc<Owner>);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("daemon_id", &self.daemon_id()).finish_non_exhaustive()
    }
}

/// A [`Server`] that keeps nothing open: what a handler may hold of its own daemon.
#[derive(Clone)]
pub struct WeakServer(pub(super) Weak<Owner>);

impl fmt::Debug for WeakServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakServer")
    }
}

impl WeakServer {
    /// The server, if a handle of it is left. What is returned is one more.
    pub fn upgrade(&self) -> Option<Server> {
        self.0.upgrade().map(Server)
    }
}

impl Server {
    /// A handle that does not keep the daemon open.
    pub fn downgrade(&self) -> WeakServer {
        WeakServer(Arc::downgrade(&self.0))
    }

    /// The daemon's id (DMN-02, DMN-14).
    pub fn daemon_id(&self) -> String {
        self.0.shared.look(|machine| machine.daemon_id().to_owned())
    }

    /// The relay's URL (DMN-14).
    pub fn relay_url(&self) -> &str {
        &self.0.access.relay
    }

    /// The fingerprint that clients see.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Waits until the relay socket stands for the first time (DMN-01); returns at once later. Cancel-safe.
    ///
    /// # Errors
    /// The daemon has ended, and why.
    pub async fn when_online(&self) -> Result<(), Error> {
        let mut status = self.0.status.subscribe();
        let first = status.wait_for(|status| !matches!(status, Status::Starting)).await.map(|status| status.clone());
        match first {
            Ok(Status::Ended(cause)) => Err(Error::Failed(cause)),
            Ok(Status::Starting | Status::Online) => Ok(()),
            Err(_) => Err(Error::Failed(Cause::Closed)),
        }
    }

    /// Whether the relay socket stands now.
    pub fn is_online(&self) -> bool {
        self.0.shared.look(Machine::is_online)
    }

    /// The sessions that stand or are paused, in the order of their ids (DMN-14).
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.0.connections).values().cloned().collect()
    }

    /// The session of this id, if it stands or is paused.
    pub fn connection(&self, session: SessionId) -> Option<Connection> {
        lock(&self.0.connections).get(&session).cloned()
    }

    /// Everything that happens, in order: for the first who asks from the very start, for everybody later from now on. A reader that is
    /// more than 1,024 events behind is told how many it missed.
    pub fn events(&self) -> ServerEvents {
        let first = lock(&self.0.first).take();
        let receiver = first.unwrap_or_else(|| self.0.lifecycle.subscribe());
        // Looked at after subscribing: the last event is told before the end is.
        let over = matches!(*self.0.status.borrow(), Status::Ended(_));
        ServerEvents(Told::new(receiver, over))
    }

    /// Sends an event to every session that is open ([`ServerEvent::Opened`]); how many took it. Paused ones get it when
    /// they go on, later ones never.
    ///
    /// Waits while too much waits for the socket. Dropping the future then sends to nobody; afterwards it has sent to all.
    ///
    /// # Errors
    /// A bad name, data that do not become JSON, or too large for one frame.
    pub async fn broadcast<D: Serialize>(&self, name: &str, data: D) -> Result<usize, Error> {
        let name = EventName::new(name).map_err(CallError::InvalidPattern)?;
        let data = to_json("data", name.as_str(), &data)?;
        self.0.shared.writable().await;
        let mut taken = 0;
        for connection in self.connections() {
            match self.0.shared.with(|machine, _| machine.emit(connection.handle, &name, Some(data.clone()))) {
                Ok(()) => taken += 1,
                Err(error @ CallError::MessageTooLarge { .. }) => {
                    return Err(CallFailure::new("the event", name.as_str(), error).into());
                }
                // It ended just now.
                Err(_) => {}
            }
        }
        Ok(taken)
    }

    /// Makes a Quick Connect code; `ttl` is 30 s to an hour, in whole seconds, 5 minutes if none is given (API-03, DMN-14).
    ///
    /// Dropping the future gives the call up; a code may have been made, which nobody knows and which expires.
    ///
    /// # Errors
    /// A `ttl` that is none of these. The API refused, could not be reached, or did not answer within the connection policy's time.
    pub async fn create_quick_connect(&self, ttl: Option<Duration>) -> Result<QuickConnectCode, Error> {
        let access = &self.0.access;
        let request = CreateQuickConnect { ttl_seconds: ttl.map(whole_seconds).transpose()? };
        let call = api::call(&access.env, &access.api, &request, access.credential());
        // CLI-07
        let answer = tokio::time::timeout(access.api_timeout, call).await;
        let made = answer.map_err(|_| Error::Failed(Cause::ApiTimeout))?.map_err(Error::Failed)?;
        Ok(QuickConnectCode { code: made.code, url: made.url, expires_at: made.expires_at })
    }

    /// Waits until the daemon has ended, and says why: [`Cause::Closed`] if by [`close`](Self::close). Cancel-safe.
    pub async fn ended(&self) -> Cause {
        let mut status = self.0.status.subscribe();
        match status.wait_for(|status| matches!(status, Status::Ended(_))).await.as_deref() {
            Ok(Status::Ended(cause)) => cause.clone(),
            Ok(Status::Starting | Status::Online) | Err(_) => Cause::Closed,
        }
    }

    /// Whether keys, what keys come from, or a token are held; for tests.
    #[doc(hidden)]
    pub fn holds_secrets(&self) -> bool {
        self.0.shared.look(Machine::holds_secrets)
    }

    /// Whether keys of any session are held; for tests.
    #[doc(hidden)]
    pub fn holds_session_keys(&self) -> bool {
        self.0.shared.look(Machine::holds_session_keys)
    }

    /// Says goodbye to every session and to the relay, and ends (DMN-16). Closing twice is fine.
    ///
    /// Cancel-safe: from the first poll on the daemon closes, waited for or not.
    pub async fn close(&self) {
        self.0.shared.with(|machine, _| machine.close());
        // There is no error: the sender is ours.
        let _ = self.0.finished.subscribe().wait_for(|finished| *finished).await;
    }
}

/// API-03.
fn whole_seconds(ttl: Duration) -> Result<u64, Error> {
    let seconds = ttl.as_secs();
    if ttl.subsec_nanos() == 0 && (MIN_TTL..=MAX_TTL).contains(&seconds) {
        return Ok(seconds);
    }
    Err(argument("the code's life", format!("{ttl:?} is no whole number of seconds from {MIN_TTL} to {MAX_TTL}")))
}
