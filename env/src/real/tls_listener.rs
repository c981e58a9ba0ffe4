//! TLS in front of any listener.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::TlsError;
use crate::{BoxFuture, BoxStream, Listener};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most handshakes at once; beyond it new connections wait in the backlog.
const HANDSHAKES: usize = 4_096;

/// What a server shows and signs with. Cheap to clone.
#[derive(Clone)]
pub struct ServerIdentity(Arc<ServerConfig>);

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerIdentity(…)")
    }
}

impl ServerIdentity {
    /// From PEM files: the server's certificate with those that lead to its authority, and its private key (PKCS#8, PKCS#1
    /// or SEC1).
    ///
    /// # Errors
    /// A file that cannot be read or holds no such thing, and a key that is not the certificate's. Nothing of a key is in
    /// the error.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let fail = |reason: String| TlsError::File { path: certificate.to_owned(), reason };
        let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| fail(error.to_string()))?;
        if chain.is_empty() {
            return Err(fail("the file holds no certificate".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
            // Words of its own: those of the library may repeat what stands in the file.
            let reason = if let rustls_pki_types::pem::Error::Io(error) = error {
                error.to_string()
            } else {
                "the file holds no private key as PEM".to_owned()
            };
            TlsError::Key { path: key.to_owned(), reason }
        })?;
        Self::new(chain, key)
    }

    /// From a certificate, those that lead to its authority, and its private key.
    ///
    /// # Errors
    /// A key that is not the certificate's, or a certificate that is none.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(setup)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(setup)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// Accepts streams that speak TLS. Handshakes run beside each other, each for at most 10 s: who does not speak holds nobody
/// up.
pub struct TlsListener {
    inner: Box<dyn Listener>,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<io::Result<(TlsStream<BoxStream>, SocketAddr)>>,
}

impl TlsListener {
    /// TLS on what this listener accepts.
    pub fn new(inner: Box<dyn Listener>, identity: &ServerIdentity) -> Self {
        Self { inner, acceptor: TlsAcceptor::from(identity.0.clone()), handshakes: JoinSet::new() }
    }

    async fn next(&mut self) -> io::Result<(BoxStream, SocketAddr)> {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.handshakes.join_next(), if !self.handshakes.is_empty() => {
                    let broken = |error| io::Error::new(io::ErrorKind::ConnectionAborted, error);
                    let (stream, from) = done.map_err(io::Error::other).and_then(|done| done).map_err(broken)?;
                    return Ok((Box::new(stream), from));
                }
                accepted = self.inner.accept(), if self.handshakes.len() < HANDSHAKES => {
                    let (stream, from) = accepted?;
                    let handshake = self.acceptor.accept(stream);
                    self.handshakes.spawn(async move {
                        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long");
                        Ok((tokio::time::timeout(HANDSHAKE, handshake).await.map_err(late)??, from))
                    });
                }
            }
        }
    }
}

impl Listener for TlsListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(self.next())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
