//! What a daemon does for its machine: tokens, dials, sessions and what its user is told.

use std::{panic::AssertUnwindSafe, sync::Arc, task::Poll, time::Duration};

use futures_util::FutureExt;
use sideband_protocol::{
    Entropy, SessionId,
    api::RenewToken,
    daemon::{Daemon as Machine, Done, Job, Report, SessionHandle},
    failure::Cause,
    quirks::{Quirk, Quirks},
    wire::Reason,
};
use tokio::sync::{Semaphore, broadcast, watch};
use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::{
    Connection, ServerEvent, WeakServer,
    builder::OnConnection,
    connection::SessionCore,
    server::{Access, Connections, Status},
};
use crate::{
    api,
    client::fork,
    context::Place,
    driver::{Host, JobFuture, Shared, boxed},
    error::whole,
    hub::{Handlers, Hub, lock},
    peer::Peer,
    socket,
    telemetry::{self, Role},
};

/// How long a connection's handler may go on once its session is over.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// How many may go on at a time; a further one has the one turn in which it learns that its session is over.
pub(super) const MOST_AFTERWARDS: usize = 1_024;

pub(super) struct DaemonHost {
    pub(super) server: WeakServer,
    pub(super) access: Arc<Access>,
    pub(super) entropy: Box<dyn Entropy>,
    pub(super) shared: Arc<Shared<Machine>>,
    pub(super) handlers: Arc<Handlers>,
    pub(super) handler_timeout: Option<Duration>,
    pub(super) quirks: Quirks,
    pub(super) on_connection: Option<OnConnection>,
    pub(super) afterwards: Arc<Semaphore>,
    pub(super) connections: Connections,
    pub(super) lifecycle: broadcast::Sender<ServerEvent>,
    pub(super) status: watch::Sender<Status>,
}

impl DaemonHost {
    fn tell(&self, event: ServerEvent) {
        // Nobody listening is fine.
        let _ = self.lifecycle.send(event);
    }

    fn opened(&self, handle: SessionHandle, peer_id: &str) {
        let session = handle.id;
        let core = Arc::new(SessionCore { shared: self.shared.clone(), session: handle });
        let hub = Arc::new(Hub::new(Some(self.handlers.clone()), self.handler_timeout, self.quirks));
        hub.stands_at(Place { session, peer_id: peer_id.into(), server: self.server.clone() });
        let (end, over) = watch::channel(false);
        let connection = Connection {
            peer: Peer::new(core, hub.clone()),
            handle,
            peer_id: peer_id.into(),
            shared: self.shared.clone(),
            over,
            end: Arc::new(end),
        };
        lock(&self.connections).insert(session, connection.clone());
        if let Some(handler) = &self.on_connection {
            // What the client sends first waits until the handler has had the chance to register for it.
            hub.close_gate();
            let span = tracing::info_span!(target: "sideband::daemon", "session", %session);
            // Not a task of the hub's, which end with the session.
            tokio::spawn(self.handling(handler, connection, hub).instrument(span));
        }
        self.tell(ServerEvent::Opened(session));
    }

    /// The connection's handler from its first turn to its end, or until it has gone on for too long after its session.
    fn handling(
        &self,
        handler: &OnConnection,
        connection: Connection,
        hub: Arc<Hub>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (handler, shared, quirks) = (handler.clone(), self.shared.clone(), self.quirks);
        let (peer, session) = (connection.peer.clone(), connection.handle);
        let (mut over, turns) = (connection.over.clone(), self.afterwards.clone());
        async move {
            let mut handling = std::pin::pin!(AssertUnwindSafe(async { handler(connection).await }).catch_unwind());
            let first = std::future::poll_fn(|cx| Poll::Ready(handling.as_mut().poll(cx))).await;
            hub.open_gate(&peer);
            drop((peer, hub));
            let too_long = async {
                // An error would mean that it is over.
                let _ = over.wait_for(|over| *over).await;
                if let Ok(_turn) = turns.try_acquire() {
                    tokio::time::sleep(AFTERWARDS).await;
                }
            };
            let ended = match first {
                Poll::Ready(ended) => ended,
                Poll::Pending => tokio::select! {
                    biased;
                    ended = handling => ended,
                    () = too_long => return tracing::debug!(target: "sideband::daemon", "a connection handler was stopped"),
                },
            };
            let failed = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => whole(&*error),
                Err(_) if quirks.has(Quirk::MissesHandlerPanics) => return,
                Err(_) => "it panicked".to_owned(),
            };
            if shared.look(|machine| machine.session_state(session).is_none()) {
                // What it did last, it may have done because of that.
                return tracing::debug!(target: "sideband::daemon", error = %failed, "a connection handler failed after its session");
            }
            // DMN-15
            tracing::error!(target: "sideband::daemon", session = %session.id, error = %failed, "a connection handler failed");
            if !quirks.has(Quirk::KeepsSessionOfFailedHandler) {
                shared.with(|machine, _| machine.end_session(session, Cause::HandlerFailed(failed), Reason::Error));
            }
        }
    }

    fn closed(&self, session: SessionId, cause: &Cause) {
        let connection = lock(&self.connections).remove(&session);
        if let Some(connection) = connection {
            connection.peer.hub().ended_by(cause);
            connection.end.send_replace(true);
            if *cause != Cause::Closed {
                connection.peer.lose_receipts();
            }
            connection.peer.hub().end();
        }
    }
}

impl Host<Machine> for DaemonHost {
    fn start(&mut self, job: Job) -> JobFuture<Machine> {
        let access = self.access.clone();
        match job {
            Job::RenewToken => {
                telemetry::attempt(Role::Daemon);
                boxed(async move {
                    let result = api::call(&access.env, &access.api, &RenewToken, access.credential()).await;
                    (Done::Token(result.map(|answer| answer.presence_token)), None)
                })
            }
            Job::Dial(token) => {
                let token = Zeroizing::new(token);
                let mut entropy = fork(&mut *self.entropy);
                boxed(async move {
                    match socket::dial(&access.env, &access.relay, &token, &mut *entropy).await {
                        Ok(socket) => (Done::Dialled(Ok(())), Some(Box::new(socket))),
                        Err(cause) => (Done::Dialled(Err(cause)), None),
                    }
                })
            }
        }
    }

    fn stopped(&mut self, cause: &Cause) {
        for connection in lock(&self.connections).values() {
            connection.peer.hub().stop(cause);
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Online { daemon_id, first } => {
                tracing::info!(target: "sideband::daemon", %daemon_id, first, "online");
                self.status.send_replace(Status::Online);
                self.tell(ServerEvent::Online);
            }
            Report::Offline(cause) => {
                tracing::info!(target: "sideband::daemon", %cause, "offline");
                self.tell(ServerEvent::Offline(cause));
            }
            Report::Retrying { retry, delay, cause } => {
                telemetry::reconnect(Role::Daemon);
                tracing::info!(target: "sideband::daemon", retry, ?delay, %cause, "retrying");
                self.tell(ServerEvent::Retrying { retry, delay, cause });
            }
            Report::Opened { session, introduction } => {
                telemetry::session(Role::Daemon);
                tracing::info!(target: "sideband::daemon", session = %session.id, "session opened");
                self.opened(session, &introduction.peer_id);
            }
            Report::Paused(session) => self.tell(ServerEvent::Paused(session)),
            Report::Resumed(session) => {
                telemetry::resumed(Role::Daemon);
                self.tell(ServerEvent::Resumed(session));
            }
            Report::Closed { session, cause } => {
                tracing::info!(target: "sideband::daemon", %session, %cause, "session closed");
                self.closed(session, &cause);
                self.tell(ServerEvent::Closed { session, cause });
            }
            Report::Refused { session, cause } => {
                tracing::info!(target: "sideband::daemon", %session, %cause, "session refused");
                self.tell(ServerEvent::Refused { session, cause });
            }
            Report::Delivery { session, delivery } => {
                telemetry::delivery(&delivery);
                let peer = lock(&self.connections).get(&session).map(|connection| connection.peer.clone());
                if let Some(peer) = peer {
                    peer.hub().deliver(delivery, &peer);
                }
            }
            Report::RateLimited => self.tell(ServerEvent::RateLimited),
            Report::Ended(cause) => {
                tracing::info!(target: "sideband::daemon", %cause, "ended");
                for session in lock(&self.connections).keys().copied().collect::<Vec<_>>() {
                    self.closed(session, &cause);
                }
                self.tell(ServerEvent::Ended(cause.clone()));
                self.status.send_replace(Status::Ended(cause));
            }
        }
    }
}
