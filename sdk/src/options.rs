//! What the builders of clients and daemons have in common: handlers that are there before the first session, and what cannot work.

use std::time::Duration;

use sideband_protocol::{
    client::{ConnectionPolicy, RpcPolicy},
    peer::SessionLimits,
};

use crate::{Error, error::argument};

/// What cannot work at either end.
pub(crate) fn check_endpoint(
    connection: &ConnectionPolicy,
    rpc: &RpcPolicy,
    limits: &SessionLimits,
    handler_timeout: Option<Duration>,
) -> Result<(), Error> {
    connection.check().map_err(|invalid| argument("the connection policy", invalid))?;
    rpc.check().map_err(|invalid| argument("the call policy", invalid))?;
    limits.check().map_err(|invalid| argument("a session limit", invalid))?;
    match handler_timeout {
        Some(Duration::ZERO) => Err(argument("the handlers' time limit", "zero: no handler could answer")),
        Some(_) | None => Ok(()),
    }
}

/// Methods of a builder whose handlers stand at `self.$handlers`.
macro_rules! handler_options {
    ($($handlers:ident).+, $($quirks:ident).+) => {
        /// What a method says of itself to who asks `$sideband/rpc.describe`, once [`introspection`](Self::introspection) is on (RPC-08).
        pub fn describe(self, method: &str, info: MethodInfo) -> Self {
            self.$($handlers).+.describe(method.to_owned(), info);
            self
        }

        /// Answers every method of a typed service; see [`service!`](macro@crate::service). Each call ends with its session, as
        /// [`Peer::handle`](crate::Peer::handle) says.
        ///
        /// # Errors
        /// One of its methods has a handler already (RPC-07).
        pub fn serve(self, service: impl Service) -> Result<Self, Error> {
            service.into_handlers().into_iter().try_fold(self, |this, (method, handler)| {
                check_method(method, this.$($quirks).+)?;
                this.add(method, handler.0)
            })
        }

        /// Answers a method that the other side calls, in every session from the first on. Each call runs in a task of its own (RPC-06).
        /// It ends with its session, as [`Peer::handle`](crate::Peer::handle) says: what must be finished all the same, the handler spawns.
        ///
        /// [`Context`] says who calls and reaches the other sessions. A handler that holds the endpoint itself keeps it open, as
        /// [`Peer::handle`](crate::Peer::handle) says.
        ///
        /// # Errors
        /// The method has a handler already (RPC-07), or its name is reserved (RPC-08).
        pub fn handle<P, R, E, F, Fut>(self, method: &str, handler: F) -> Result<Self, Error>
        where
            P: DeserializeOwned + Send + 'static,
            R: Serialize,
            E: Into<HandlerError>,
            F: Fn(P, Context) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<R, E>> + Send + 'static,
        {
            check_method(method, self.$($quirks).+)?;
            self.add(method, erase(handler))
        }

        /// Answers the platform's methods: `$sideband/rpc.list` with the names of all methods, `$sideband/rpc.describe` with what
        /// each says of itself (RPC-08).
        ///
        /// # Errors
        /// They are answered already.
        pub fn introspection(self) -> Result<Self, Error> {
            introspection().into_iter().try_fold(self, |this, (method, handler)| this.add(method, handler))
        }

        /// Answers a method of the platform, `$sideband/NAME`; for those who build platforms (RPC-08).
        ///
        /// # Errors
        /// It is answered already.
        pub fn platform<P, R, E, F, Fut>(self, name: &str, handler: F) -> Result<Self, Error>
        where
            P: DeserializeOwned + Send + 'static,
            R: Serialize,
            E: Into<HandlerError>,
            F: Fn(P, Context) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<R, E>> + Send + 'static,
        {
            self.add(&format!("$sideband/{name}"), erase(handler))
        }

        fn add(self, method: &str, handler: Handler) -> Result<Self, Error> {
            if self.$($handlers).+.add(method.to_owned(), handler) { Ok(self) } else { Err(taken(method)) }
        }
    };
}
pub(crate) use handler_options;
