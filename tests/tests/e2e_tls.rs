//! `https` and `wss` by the SDK: with a given authority it connects, without it it does not.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use sideband::{Account, Cause, Context, Daemon, HandlerError, RetryMode, RetryPolicy};
use sideband_env::{Env, real::Roots};
use sideband_scenarios::cloud::{Cloud, CloudOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority's certificate as a file, removed at the end, and a server's configuration signed by it.
struct Authority {
    file: PathBuf,
    server: Arc<ServerConfig>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let file = std::env::temp_dir().join(format!("sideband-{name}-{}.pem", std::process::id()));
        std::fs::write(&file, authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate().unwrap();
        let server =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&server_key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
        Self { file, server: Arc::new(server) }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Takes the TLS off and passes the rest on to a cloud.
async fn terminate(listener: TcpListener, server: Arc<ServerConfig>, cloud: SocketAddr) {
    let acceptor = TlsAcceptor::from(server);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not trust us says so here.
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            let mut inside = TcpStream::connect(cloud).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
        });
    }
}

#[tokio::test]
async fn wss_and_https_work_with_a_given_authority_and_not_without_it() {
    let authority = Authority::new("authority");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = CloudOptions {
        advertise: Some(format!("https://localhost:{port}").parse().unwrap()),
        ..CloudOptions::default()
    };
    let plain = Env::real(&Roots::System).unwrap();
    let cloud = Cloud::start(plain, SocketAddr::from(([127, 0, 0, 1], 0)), options).await.unwrap();
    let proxy = tokio::spawn(terminate(listener, authority.server.clone(), cloud.addr()));
    let credentials = cloud.bootstrap();
    assert!(cloud.relay_url().starts_with("wss://localhost:"), "{}", cloud.relay_url());

    let trusting = Env::real(&Roots::Only(authority.file.clone())).unwrap();
    let server = Daemon::new(cloud.api_url(), &cloud.relay_url(), credentials.api_key.expose())
        .unwrap()
        .env(trusting.clone())
        .handle("add", |(a, b): (i64, i64), _: Context| async move { Ok::<_, HandlerError>(a + b) })
        .unwrap()
        .listen()
        .await
        .unwrap();
    let account = |env: &Env| {
        Account::with_token(cloud.api_url(), server.daemon_id(), credentials.access_token.expose())
            .unwrap()
            .retry(RetryPolicy { mode: RetryMode::Never, ..RetryPolicy::default() })
            .env(env.clone())
            .connect()
            .unwrap()
    };
    let client = account(&trusting);
    assert_eq!(client.call::<_, i64>("add", (1, 2)).await.unwrap(), 3);

    let system_only = Env::real(&Roots::System).unwrap();
    let error = account(&system_only).when_ready().await.unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::ApiUnreachable(_))), "{error:?}");
    assert!(error.to_string().contains("certificate"), "it says what is wrong: {error}");
    let with_system = Env::real(&Roots::SystemAnd(authority.file.clone())).unwrap();
    account(&with_system).when_ready().await.unwrap();
    proxy.abort();
}

#[test]
fn an_authority_file_that_is_not_there_or_empty_is_named() {
    let missing = PathBuf::from("no-such-authority.pem");
    let error = Env::real(&Roots::Only(missing)).unwrap_err().to_string();
    assert!(error.contains("no-such-authority.pem"), "{error}");
    let empty = std::env::temp_dir().join(format!("sideband-empty-{}.pem", std::process::id()));
    std::fs::write(&empty, "").unwrap();
    let error = Env::real(&Roots::Only(empty.clone())).unwrap_err().to_string();
    let _ = std::fs::remove_file(&empty);
    assert!(error.contains("sideband-empty"), "{error}");
}
