//! One session of a daemon.

use std::{collections::BTreeSet, fmt, ops::Deref, sync::Arc};

use bytes::Bytes;
use sideband_env::BoxFuture;
use sideband_protocol::{
    SessionId,
    client::{CallLimits, RpcPolicy},
    daemon::{Daemon as Machine, SessionHandle, SessionState},
    event::EventName,
    peer::{Answer, CallError, CallId},
    sbp::FrameId,
};
use tokio::sync::watch;

use super::Server;
use crate::{
    driver::Shared,
    peer::{Peer, PeerCore},
};

/// One session of a daemon. It is a [`Peer`]: calls, events and handlers stand there. Cheap to clone; holding one keeps nothing open.
/// Once the session is over it reaches nobody, whoever is given the session's id next (DMN-06).
#[derive(Clone)]
pub struct Connection {
    pub(super) peer: Peer,
    pub(super) handle: SessionHandle,
    pub(super) peer_id: Arc<str>,
    pub(super) shared: Arc<Shared<Machine>>,
    pub(super) over: watch::Receiver<bool>,
    pub(super) end: Arc<watch::Sender<bool>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("session", &self.handle.id).finish_non_exhaustive()
    }
}

impl Deref for Connection {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Connection {
    /// The session's id.
    pub fn session(&self) -> SessionId {
        self.handle.id
    }

    /// What the client calls itself; new for each of its attempts, and not proven.
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Where the session is; `None` once it is over.
    pub fn state(&self) -> Option<SessionState> {
        self.shared.look(|machine| machine.session_state(self.handle))
    }

    /// Waits until the session is over. Cancel-safe.
    pub async fn closed(&self) {
        // An error would mean that it is over.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }

    /// The daemon whose session this is, to reach the other ones; `None` once the daemon's last handle is dropped. What is returned is
    /// one more, which keeps the daemon open.
    pub fn server(&self) -> Option<Server> {
        self.peer.hub().place.get()?.server.upgrade()
    }

    /// Ends the session: SBP Close, then Signal(close) (SBP-07, DMN-15). Others go on.
    pub fn close(&self) {
        self.shared.with(|machine, _| machine.close_session(self.handle));
    }
}

/// One session's way to the machine.
pub(super) struct SessionCore {
    pub(super) shared: Arc<Shared<Machine>>,
    pub(super) session: SessionHandle,
}

impl PeerCore for SessionCore {
    fn call(&self, call: CallId, method: &str, params: Option<Bytes>, limits: CallLimits) -> Result<(), CallError> {
        self.shared.with(|machine, now| machine.call(self.session, call, method, params, limits, now))
    }
    fn cancel(&self, call: CallId) {
        self.shared.with(|machine, _| machine.cancel(self.session, call));
    }
    fn emit(&self, name: &EventName, data: Option<Bytes>) -> Result<(), CallError> {
        self.shared.with(|machine, _| machine.emit(self.session, name, data))
    }
    fn send_app(&self, subject: &str, data: Bytes) -> Result<FrameId, CallError> {
        self.shared.with(|machine, _| machine.send_app(self.session, subject, &data))
    }
    fn unsent(&self) -> BTreeSet<FrameId> {
        // A daemon's messages do not wait for a session (CLI-09).
        BTreeSet::new()
    }
    fn respond(&self, cid: FrameId, answer: Answer) {
        self.shared.with(|machine, _| machine.respond(self.session, cid, answer));
    }
    fn release(&self, size: usize) {
        self.shared.with(|machine, _| machine.release(self.session, size));
    }
    fn policy(&self) -> RpcPolicy {
        self.shared.look(Machine::rpc_policy)
    }
    fn writable(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.writable())
    }
}
