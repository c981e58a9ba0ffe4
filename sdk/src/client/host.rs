//! What a client does for its machine: tokens, sessions, dials, pins, and what its user is told.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use sideband_env::{Env, Timeline};
use sideband_protocol::{
    Entropy,
    api::{CreateSession, QuickConnectCode, RedeemQuickConnect},
    client::{Client as Machine, CloseReason, Done, Job, Report, SessionGrant, State},
    failure::Cause,
    quirks::Quirk,
};
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

use super::{Lifecycle, Prompt, TokenError, TokenSource, fork};
use crate::{
    api::{self, ApiUrl, Credential},
    driver::{Host, JobFuture, boxed},
    error::whole,
    hub::{Hub, lock},
    identity::IdentityStore,
    peer::Peer,
    socket,
    telemetry::{self, Role},
};

pub(super) enum Source {
    Account { daemon_id: String, tokens: TokenSource },
    Code(QuickConnectCode),
}

pub(super) struct ClientHost {
    pub(super) env: Env,
    pub(super) entropy: Box<dyn Entropy>,
    pub(super) api: ApiUrl,
    pub(super) relay: Option<String>,
    pub(super) store: Arc<dyn IdentityStore>,
    pub(super) prompt: Option<Prompt>,
    pub(super) source: Source,
    /// The access token of this attempt.
    pub(super) token: Option<Arc<Mutex<Zeroizing<String>>>>,
    pub(super) hub: Arc<Hub>,
    pub(super) peer: Peer,
    pub(super) state: watch::Sender<State>,
    pub(super) lifecycle: broadcast::Sender<Lifecycle>,
    pub(super) ended: watch::Sender<Option<CloseReason>>,
    /// Since when the session is paused.
    pub(super) paused: Option<Timeline>,
    /// Paused time that is not counted yet: less than a second.
    pub(super) paused_left: Duration,
}

impl ClientHost {
    fn tell(&self, event: Lifecycle) {
        // Nobody listening is fine.
        let _ = self.lifecycle.send(event);
    }

    fn count(&mut self, state: State) {
        if state == State::Connecting {
            telemetry::attempt(Role::Client);
        }
        if let Some(since) = self.paused.take() {
            self.paused_left += since.elapsed();
            let whole = Duration::from_secs(self.paused_left.as_secs());
            telemetry::paused(Role::Client, whole.as_secs());
            self.paused_left -= whole;
        }
        if state == State::Paused {
            self.paused = Some(Timeline::start());
        }
    }
}

impl Host<Machine> for ClientHost {
    fn start(&mut self, job: Job) -> JobFuture<Machine> {
        let (env, api) = (self.env.clone(), self.api.clone());
        match job {
            Job::FetchToken => {
                let slot = Arc::new(Mutex::new(Zeroizing::new(String::new())));
                self.token = Some(slot.clone());
                let Source::Account { tokens, .. } = &self.source else { return never() };
                let tokens = tokens.clone();
                boxed(async move {
                    let result = guarded(async { tokens().await }).await.map_err(Cause::TokenSource);
                    let result = result.map(Zeroizing::new).and_then(|token| {
                        api::check_credential(&token).map_err(Cause::UnusableToken)?;
                        *lock(&slot) = token;
                        Ok(())
                    });
                    (Done::Token(result), None)
                })
            }
            Job::CreateSession => {
                let Source::Account { daemon_id, .. } = &self.source else { return never() };
                let request = CreateSession { daemon_id: daemon_id.clone() };
                let token = self.token.take();
                boxed(async move {
                    let token = token.map(|slot| lock(&slot).clone()).unwrap_or_default();
                    let credential = Credential { bearer: Some(&token), resume: false };
                    let result = api::call(&env, &api, &request, credential).await;
                    let grant = |session: sideband_protocol::api::Session| SessionGrant {
                        relay_url: session.relay_url,
                        token: session.token,
                        daemon_id: None,
                    };
                    (Done::Session(result.map(grant)), None)
                })
            }
            Job::Redeem => {
                let Source::Code(code) = &self.source else { return never() };
                let request = RedeemQuickConnect { code: code.to_string() };
                boxed(async move {
                    let result = api::call(&env, &api, &request, Credential::default()).await;
                    let result = result.map_err(|cause| api::hide(cause, &request.code));
                    let grant = |redeemed: sideband_protocol::api::Redeemed| SessionGrant {
                        relay_url: redeemed.relay_url,
                        token: redeemed.token,
                        daemon_id: Some(redeemed.daemon_id),
                    };
                    (Done::Session(result.map(grant)), None)
                })
            }
            Job::Dial(grant) => {
                let relay = self.relay.clone().unwrap_or(grant.relay_url);
                let token = Zeroizing::new(grant.token);
                let mut entropy = fork(&mut *self.entropy);
                boxed(async move {
                    match socket::dial(&env, &relay, &token, &mut *entropy).await {
                        Ok(socket) => (Done::Dialled(Ok(())), Some(Box::new(socket))),
                        Err(cause) => (Done::Dialled(Err(cause)), None),
                    }
                })
            }
            Job::LoadPin { daemon_id } => {
                let store = self.store.clone();
                boxed(async move {
                    let pin = guarded(async { store.load(&daemon_id).await }).await.map_err(Cause::IdentityStore);
                    (Done::Pin(pin), None)
                })
            }
            Job::StorePin { daemon_id, key } => {
                let store = self.store.clone();
                boxed(async move {
                    let stored = guarded(async { store.store(&daemon_id, key).await }).await;
                    let stored = stored.map_err(Cause::IdentityStore);
                    (Done::PinStored(stored), None)
                })
            }
            Job::AskTrust(question) => {
                // No builder offers `prompt` without somebody to ask (TRU-01); nobody to ask would be a no.
                let prompt = self.prompt.clone();
                boxed(async move {
                    let Some(prompt) = prompt else { return (Done::Answered(false), None) };
                    // A callback that panics has not said yes.
                    let yes = guarded(async { Ok(prompt(question).await) }).await.unwrap_or(false);
                    (Done::Answered(yes), None)
                })
            }
        }
    }

    fn stopped(&mut self, cause: &Cause) {
        self.hub.stop(cause);
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::State(state) => {
                tracing::debug!(target: "sideband::client", state = state.name(), "state");
                self.count(state);
                self.tell(Lifecycle::State(state));
                self.state.send_replace(state);
            }
            Report::Connected { daemon_id } => {
                telemetry::session(Role::Client);
                tracing::info!(target: "sideband::client", %daemon_id, "connected");
                if self.hub.quirks.has(Quirk::ForgetsHandlers) {
                    self.hub.forget_handlers();
                }
                self.tell(Lifecycle::Connected { daemon_id });
            }
            Report::Disconnected(cause) => {
                tracing::info!(target: "sideband::client", %cause, "disconnected");
                self.hub.end_requests();
                self.peer.lose_receipts();
                self.tell(Lifecycle::Disconnected(cause));
            }
            Report::Retrying { retry, delay, cause } => {
                telemetry::reconnect(Role::Client);
                tracing::info!(target: "sideband::client", retry, ?delay, %cause, "retrying");
                self.tell(Lifecycle::Retrying { retry, delay, cause });
            }
            Report::Pending => self.tell(Lifecycle::Pending),
            Report::Resumed => {
                telemetry::resumed(Role::Client);
                self.tell(Lifecycle::Resumed);
            }
            Report::RateLimited => self.tell(Lifecycle::RateLimited),
            Report::Delivery(delivery) => {
                telemetry::delivery(&delivery);
                self.hub.deliver(delivery, &self.peer);
            }
            Report::Closed(reason) => {
                tracing::info!(target: "sideband::client", %reason, "closed");
                self.tell(Lifecycle::Closed(reason.clone()));
                self.ended.send_replace(Some(reason));
                self.hub.end();
            }
        }
    }
}

/// What the user's own code comes to: an error with its causes in one line, and a panic as an error, so that it ends an attempt and
/// not the client's task.
async fn guarded<T>(user: impl Future<Output = Result<T, TokenError>>) -> Result<T, String> {
    match AssertUnwindSafe(user).catch_unwind().await {
        Ok(result) => result.map_err(|error| whole(&*error)),
        // What it said is the panic hook's to tell: it may hold anything, and causes are logged.
        Err(_) => Err("it panicked".to_owned()),
    }
}

/// A job that this client's access never asks for.
fn never() -> JobFuture<Machine> {
    boxed(std::future::pending())
}
