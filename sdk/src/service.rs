//! Typed services: described once, called and handled with types.
//!
//! [`service!`](macro@crate::service) turns a description into a trait that a daemon implements and a client that calls it:
//!
//! ```
//! use sideband::{Context, HandlerError};
//!
//! sideband::service! {
//!     /// Arithmetic.
//!     pub trait Calculator, client CalculatorClient {
//!         /// The sum of two numbers.
//!         "add" => fn add(a: i64, b: i64) -> i64;
//!         /// The text in capitals.
//!         "upper" => fn upper(text: String) -> String;
//!     }
//! }
//!
//! struct Mine;
//!
//! impl Calculator for Mine {
//!     async fn add(&self, a: i64, b: i64, _: Context) -> Result<i64, HandlerError> {
//!         Ok(a + b)
//!     }
//!     async fn upper(&self, text: String, _: Context) -> Result<String, HandlerError> {
//!         Ok(text.to_uppercase())
//!     }
//! }
//!
//! # async fn example(client: sideband::Client) -> Result<(), sideband::Error> {
//! # let daemon = sideband::Daemon::new("http://127.0.0.1:1", "ws://127.0.0.1:1", "sbnd_dak_x")?;
//! // On the daemon:
//! let daemon = daemon.serve(CalculatorClient::handlers(Mine))?;
//! // On the client:
//! let calculator = CalculatorClient::new(&client);
//! let sum = calculator.add(1, 2).await?;
//! // With a time limit of its own, and told whether it waited for a connection:
//! let (sum, info) = calculator.add(1, 2).timeout(Duration::from_secs(60)).with_info().await?;
//! # Ok(()) }
//! # use std::time::Duration;
//! ```
//!
//! A service is nothing but methods by name: `client.call("add", …)` reaches the same handler. Params travel as one object,
//! `{"a":1,"b":2}`. A method that needs none takes `null`, absent params and `{}` alike.
//!
//! A method that is being answered ends with the session in which it was called: it is stopped at the `await` at which it waits, as
//! [`Peer::handle`] says. What must be finished all the same, it spawns.

use std::{fmt, future::IntoFuture, iter, marker::PhantomData, time::Duration};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use sideband_env::BoxFuture;

use crate::{
    Error, hub,
    peer::{CallInfo, CallOptions, Peer, to_json},
};

/// A handler whose types are checked and gone.
pub struct Handler(pub(crate) hub::Handler);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

impl Handler {
    /// A handler from a typed function.
    pub fn new<P, R, E, F, Fut>(handler: F) -> Self
    where
        P: serde::de::DeserializeOwned + Send + 'static,
        R: serde::Serialize,
        E: Into<crate::HandlerError>,
        F: Fn(P, crate::Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        Self(crate::peer::erase(handler))
    }
}

/// Methods with their handlers, as [`Daemon::serve`](crate::Daemon::serve) and [`Peer::serve`](crate::Peer::serve) take them.
pub trait Service {
    /// Every method by its name.
    fn into_handlers(self) -> Vec<(&'static str, Handler)>;
}

impl Service for Vec<(&'static str, Handler)> {
    fn into_handlers(self) -> Vec<(&'static str, Handler)> {
        self
    }
}

/// A call of a typed client, made when it is awaited. Dropping the future cancels the call.
#[must_use = "a call is made when it is awaited"]
pub struct Call<R> {
    peer: Peer,
    method: &'static str,
    params: Result<Bytes, Error>,
    options: CallOptions,
    result: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("options", &self.options).finish_non_exhaustive()
    }
}

impl<R: DeserializeOwned> Call<R> {
    #[doc(hidden)]
    pub fn new(peer: &Peer, method: &'static str, params: &impl Serialize) -> Self {
        let params = to_json("params", method, params);
        Self { peer: peer.clone(), method, params, options: CallOptions::new(), result: PhantomData }
    }

    /// As [`CallOptions::timeout`].
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// As [`CallOptions::total`].
    pub const fn total(mut self, total: Duration) -> Self {
        self.options = self.options.total(total);
        self
    }

    /// Makes the call, and tells besides whether it waited for a connection. Dropping the future cancels it as [`Peer::call`] says.
    ///
    /// # Errors
    /// As [`Peer::call`].
    pub async fn with_info(self) -> Result<(R, CallInfo), Error> {
        self.peer.call_json(self.method, self.params, self.options).await
    }
}

impl<R: DeserializeOwned + 'static> IntoFuture for Call<R> {
    type Output = Result<R, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(self.with_info().await?.0) })
    }
}

/// Named params, where none at all are as good as an object without members.
struct Named<P>(P);

impl<'de, P: Deserialize<'de>> Deserialize<'de> for Named<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if let Some(params) = Option::<P>::deserialize(deserializer)? {
            return Ok(Self(params));
        }
        let empty = MapDeserializer::<_, D::Error>::new(iter::empty::<((), ())>());
        P::deserialize(empty).map(Self)
    }
}

/// What [`service!`](macro@crate::service) needs and users of it need not depend on.
#[doc(hidden)]
pub mod private {
    pub use serde;

    use super::{Handler, Named};

    /// A handler from a function of named params.
    pub fn handler<P, R, F, Fut>(handler: F) -> Handler
    where
        P: serde::de::DeserializeOwned + Send + 'static,
        R: serde::Serialize,
        F: Fn(P, crate::Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, crate::HandlerError>> + Send + 'static,
    {
        Handler::new(move |Named(params): Named<P>, context| handler(params, context))
    }
}

/// Describes a typed service: a trait for who answers, a client for who calls. See the [module](mod@crate::service).
///
/// What answers a call is stopped at the `await` at which it waits when the call's session is over
/// ([`Peer::handle`](crate::Peer::handle)); what must be finished all the same, it spawns.
#[macro_export]
macro_rules! service {
    (
        $(#[$meta:meta])*
        $vis:vis trait $service:ident, client $client:ident {
            $(
                $(#[$method_meta:meta])*
                $name:literal => fn $method:ident($($param:ident: $type:ty),* $(,)?) -> $result:ty;
            )*
        }
    ) => {
        $(#[$meta])*
        $vis trait $service: Send + Sync + 'static {
            $(
                $(#[$method_meta])*
                fn $method(
                    &self,
                    $($param: $type,)*
                    context: $crate::Context,
                ) -> impl ::std::future::Future<Output = ::std::result::Result<$result, $crate::HandlerError>> + Send;
            )*
        }

        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $client($crate::Peer);

        #[allow(dead_code)]
        impl $client {
            /// Calls the service at the other end of a peer.
            $vis fn new(peer: &$crate::Peer) -> Self {
                Self(peer.clone())
            }

            /// The service's methods with this implementation behind them.
            $vis fn handlers(service: impl $service) -> ::std::vec::Vec<(&'static str, $crate::service::Handler)> {
                let service = ::std::sync::Arc::new(service);
                ::std::vec![$({
                    let service = service.clone();
                    // Serde takes its own path as text, in which no `$crate` is read: a name in scope is what works in any crate.
                    use $crate::service::private::serde as sideband_serde;
                    #[derive(sideband_serde::Deserialize)]
                    #[serde(crate = "sideband_serde")]
                    struct Params { $($param: $type,)* }
                    ($name, $crate::service::private::handler(move |Params { $($param),* }: Params, context| {
                        let service = service.clone();
                        async move { $service::$method(&*service, $($param,)* context).await }
                    }))
                }),*]
            }

            $(
                $(#[$method_meta])*
                ///
                /// Made when it is awaited; fails as `Peer::call` does.
                $vis fn $method(&self, $($param: $type),*) -> $crate::service::Call<$result> {
                    use $crate::service::private::serde as sideband_serde;
                    #[derive(sideband_serde::Serialize)]
                    #[serde(crate = "sideband_serde")]
                    struct Params { $($param: $type,)* }
                    $crate::service::Call::new(&self.0, $name, &Params { $($param),* })
                }
            )*
        }
    };
}
