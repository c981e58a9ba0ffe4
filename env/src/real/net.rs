//! TCP by tokio, TLS by rustls.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::{BoxFuture, BoxStream, Listener, Network, Target};

/// The operating system's network.
pub struct TokioNetwork {
    tls: TlsConnector,
}

impl TokioNetwork {
    /// A network that speaks TLS as configured.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls: TlsConnector::from(tls) }
    }
}

impl Network for TokioNetwork {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            // Frames are written in batches already; waiting for more would only add latency.
            stream.set_nodelay(true)?;
            if !target.tls {
                return Ok(Box::new(stream) as BoxStream);
            }
            let name = ServerName::try_from(target.host.clone())
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
            Ok(Box::new(self.tls.connect(name, stream).await?) as BoxStream)
        })
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(TokioListener(TcpListener::bind(addr).await?)) as Box<dyn Listener>) })
    }
}

struct TokioListener(TcpListener);

impl Listener for TokioListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
