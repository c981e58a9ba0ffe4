//! Which certificate authorities are trusted, and rustls set up with its provider passed explicitly.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Which certificate authorities are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's; where the system has none (a container from scratch), Mozilla's as compiled in.
    #[default]
    System,
    /// The system's, and those of a PEM file.
    SystemAnd(PathBuf),
    /// The system's, and those of several PEM files.
    SystemAndAll(Vec<PathBuf>),
    /// Only those of a PEM file.
    Only(PathBuf),
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or holds something that is no certificate.
    #[error("cannot read certificates from {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file cannot be read, or holds no private key.
    #[error("cannot read a private key from {}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The library refused the configuration.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

fn add_file(store: &mut RootCertStore, path: &PathBuf) -> Result<(), TlsError> {
    let fail = |reason: String| TlsError::File { path: path.clone(), reason };
    let mut found = 0;
    for cert in CertificateDer::pem_file_iter(path).map_err(|e| fail(e.to_string()))? {
        store.add(cert.map_err(|e| fail(e.to_string()))?).map_err(|e| fail(e.to_string()))?;
        found += 1;
    }
    if found == 0 { Err(fail("the file holds no certificate".to_owned())) } else { Ok(()) }
}

fn add_system(store: &mut RootCertStore) {
    let found = rustls_native_certs::load_native_certs();
    if store.add_parsable_certificates(found.certs).0 == 0 {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
}

pub(super) fn client_config(roots: &Roots) -> Result<ClientConfig, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => add_system(&mut store),
        Roots::SystemAnd(path) => {
            add_system(&mut store);
            add_file(&mut store, path)?;
        }
        Roots::SystemAndAll(paths) => {
            add_system(&mut store);
            for path in paths {
                add_file(&mut store, path)?;
            }
        }
        Roots::Only(path) => add_file(&mut store, path)?,
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Setup(e.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth())
}
