//! Dialling and listening.

use std::{fmt, io, net::SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use crate::BoxFuture;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connected byte stream of any network.
pub type BoxStream = Box<dyn Stream>;

/// Where to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether to speak TLS.
    pub tls: bool,
}

/// The URL cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Another scheme than ws, wss, http or https.
    #[error("`{0}:` is not a scheme that can be dialled; use ws, wss, http or https")]
    Scheme(String),
    /// The URL names no host.
    #[error("the URL names no host")]
    NoHost,
}

impl Target {
    /// Where a `ws`, `wss`, `http` or `https` URL points.
    ///
    /// # Errors
    /// Another scheme, or no host.
    pub fn from_url(url: &Url) -> Result<Self, TargetError> {
        let tls = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            other => return Err(TargetError::Scheme(other.to_owned())),
        };
        let host = match url.host() {
            Some(url::Host::Domain(name)) => name.to_owned(),
            Some(url::Host::Ipv4(ip)) => ip.to_string(),
            Some(url::Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(TargetError::NoHost),
        };
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 }), tls })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Dials and listens. Contract, for every implementation: dropping the returned future cancels; a stream that is dropped
/// is closed; bytes arrive in order or the stream ends.
pub trait Network: Send + Sync {
    /// Connects, TLS included if the target asks for it.
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>>;

    /// Listens on an address; port 0 takes any free one.
    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
}

/// A bound socket that accepts streams.
pub trait Listener: Send {
    /// The next stream and where it comes from. An error concerns one stream only; the caller goes on.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;

    /// The address that is bound.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
