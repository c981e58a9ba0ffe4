//! What a handler knows of its call.

use std::sync::Arc;

use sideband_protocol::SessionId;

use crate::{
    daemon::{Connection, Server, WeakServer},
    peer::Peer,
};

/// Where a peer stands: in this session of this daemon.
pub(crate) struct Place {
    pub(crate) session: SessionId,
    pub(crate) peer_id: Arc<str>,
    pub(crate) server: WeakServer,
}

/// What a handler is given besides its params: who calls and, at a daemon, where.
///
/// ```
/// use sideband::{Context, Daemon, HandlerError};
///
/// # fn example(daemon: Daemon) -> Result<Daemon, sideband::Error> {
/// // A word of one client for all of them.
/// let daemon = daemon.handle("say", |text: String, context: Context| async move {
///     let who = context.session().map(|session| session.to_string());
///     let server = context.server().ok_or("the daemon closes")?;
///     let heard = server.broadcast("chat.said", (who, text)).await?;
///     Ok::<_, HandlerError>(heard)
/// })?;
/// # Ok(daemon) }
/// ```
#[derive(Debug, Clone)]
pub struct Context {
    peer: Peer,
}

impl Context {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer }
    }

    /// Who calls.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The session in which the call came, at a daemon; `None` at a client, which has one at a time.
    pub fn session(&self) -> Option<SessionId> {
        Some(self.place()?.session)
    }

    /// What the client that calls calls itself, as [`Connection::peer_id`]; `None` at a client.
    pub fn peer_id(&self) -> Option<&str> {
        Some(&self.place()?.peer_id)
    }

    /// The connection on which the call came; `None` at a client, and once the session is over.
    pub fn connection(&self) -> Option<Connection> {
        let place = self.place()?;
        // The id may be another session's by now.
        place.server.upgrade()?.connection(place.session).filter(|connection| **connection == self.peer)
    }

    /// The daemon whose handler this is, to reach its other sessions; `None` at a client, and once the daemon's last handle is dropped.
    ///
    /// It is a handle as any other: while it is held the daemon does not close by itself.
    pub fn server(&self) -> Option<Server> {
        self.place()?.server.upgrade()
    }

    fn place(&self) -> Option<&Place> {
        self.peer.hub().place.get()
    }
}
