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
//! // On the client; params travel as one object, `{"a":1,"b":2}`:
//! let sum = CalculatorClient::new(&client).add(1, 2).await?;
//! # Ok(()) }
//! ```
//!
//! A service is nothing but methods by name: `client.call("add", …)` reaches the same handler.

use crate::hub;

/// A handler whose types are checked and gone.
pub struct Handler(pub(crate) hub::Handler);

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// What [`service!`](macro@crate::service) needs and users of it need not depend on.
#[doc(hidden)]
pub mod private {
    pub use serde;
}

/// Describes a typed service: a trait for who answers, a client for who calls. See the [module](mod@crate::service).
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
                    #[derive($crate::service::private::serde::Deserialize)]
                    #[serde(crate = "sideband::service::private::serde")]
                    struct Params { $($param: $type,)* }
                    ($name, $crate::service::Handler::new(move |Params { $($param),* }: Params, context| {
                        let service = service.clone();
                        async move { $service::$method(&*service, $($param,)* context).await }
                    }))
                }),*]
            }

            $(
                $(#[$method_meta])*
                ///
                /// # Errors
                /// As [`Peer::call`](sideband::Peer::call).
                $vis async fn $method(&self, $($param: $type),*) -> ::std::result::Result<$result, $crate::Error> {
                    #[derive($crate::service::private::serde::Serialize)]
                    #[serde(crate = "sideband::service::private::serde")]
                    struct Params { $($param: $type,)* }
                    self.0.call($name, Params { $($param),* }).await
                }
            )*
        }
    };
}
