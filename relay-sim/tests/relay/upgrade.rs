//! Who is let in: one test a refusal.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use sideband_env::{BoxFuture, Env, HttpClient, HttpError, HttpRequest, HttpResponse, real::Roots};
use sideband_protocol::token::{KeySet, Signer};
use sideband_relay_sim::{KeySource, Takeover};
use sideband_sim_kit::event::EventKind;
use tokio::sync::Semaphore;

use crate::support::*;

#[tokio::test]
async fn any_path_is_the_relays() {
    let server = start().await;
    for (n, path) in ["/", "/relay", "/a/b%20c?x=1"].into_iter().enumerate() {
        let bearer = format!("Bearer {}", server.client_token(id(n as u64 + 1)));
        let answer = server.ask_upgrade(path, &[("authorization", &bearer)]).await;
        assert_eq!(answer.status, 101, "{answer:?}");
        // The example of RFC 6455, 1.3.
        assert!(answer.head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_upgrade_gets_426() {
    let server = start().await;
    for request in [
        "GET / HTTP/1.1\r\nhost: r\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: r\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
    ] {
        let answer = server.ask(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (426, "upgrade_required"));
        assert!(answer.head.contains("upgrade: websocket"));
    }
}

#[tokio::test]
async fn a_malformed_websocket_handshake_gets_400_and_another_version_426() {
    let server = start().await;
    let with = |lines: &str| format!("GET / HTTP/1.1\r\nhost: r\r\nupgrade: websocket\r\n{lines}\r\n");
    let key = "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    for (lines, status, code) in [
        (format!("sec-websocket-version: 13\r\n{key}"), 400, "bad_request"),
        (format!("connection: upgrade\r\n{key}"), 400, "bad_request"),
        ("connection: upgrade\r\nsec-websocket-version: 13\r\n".to_owned(), 400, "bad_request"),
        (
            "connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: short\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (format!("connection: upgrade\r\nsec-websocket-version: 8\r\n{key}"), 426, "upgrade_required"),
    ] {
        let answer = server.ask(&with(&lines)).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{lines}");
        assert_eq!(answer.head.contains("sec-websocket-version: 13"), status == 426);
    }
}

#[tokio::test]
async fn api_09_the_origin_is_checked_before_the_token() {
    let server = start().await;
    let answer = server.ask_upgrade("/?token=rubbish", &[("origin", "https://evil.test")]).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"));
    let bearer = format!("Bearer {}", server.client_token(id(1)));
    let local = [("origin", "http://localhost:5173"), ("authorization", &bearer)];
    assert_eq!(server.ask_upgrade("/", &local).await.status, 101);
}

#[tokio::test]
async fn tok_13_a_refused_token_gets_401_and_is_not_repeated() {
    let mut server = start().await;
    let mut expired = server.client_claims(id(1));
    (expired.iat, expired.exp) = (expired.iat - 200, expired.exp - 200);
    let expired = server.signer.sign(&expired);
    let foreign = Signer::from_seed("k-1", &[8; 32]).sign(&server.client_claims(id(1)));
    let unknown = Signer::from_seed("k-2", &[8; 32]).sign(&server.client_claims(id(1)));
    for (token, reason) in
        [("", "missing"), ("rubbish", "malformed"), (&expired, "expired"), (&foreign, "signature"), (&unknown, "kid")]
    {
        let answer = server.ask_upgrade(&format!("/?token={token}"), &[]).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{reason}");
        for secret in token.split('.').chain(["u_1", "d_1", ISSUER]) {
            assert!(secret.is_empty() || !answer.body.contains(secret), "{}", answer.body);
        }
        let event = server.event(|event| matches!(event.kind, EventKind::UpgradeRefused { .. })).await;
        let expected = EventKind::UpgradeRefused {
            status: 401,
            code: "unauthorized".to_owned(),
            reason: reason.to_owned(),
            role: None,
            token: None,
            retry_after_ms: None,
        };
        assert_eq!(event.kind, expected, "TOK-14: nothing of the token is told");
    }
    assert_eq!(server.relay.status().counters["refused_unauthorized"], 5);
}

#[tokio::test]
async fn tok_08_another_region_gets_403() {
    let server = start_with(|config| config.region = Some("eu".to_owned())).await;
    let mut claims = server.client_claims(id(1));
    claims.region = Some("us".to_owned());
    let answer = server.ask_upgrade(&format!("/?token={}", server.signer.sign(&claims)), &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"));
    claims.region = Some("eu".to_owned());
    assert_eq!(server.ask_upgrade(&format!("/?token={}", server.signer.sign(&claims)), &[]).await.status, 101);
}

#[tokio::test]
async fn tok_01_the_header_wins_over_the_query() {
    let server = start().await;
    let good = server.client_token(id(1));
    let bad_header = [("authorization", "Bearer rubbish")];
    assert_eq!(server.ask_upgrade(&format!("/?token={good}"), &bad_header).await.status, 401);
    let good_header = [("authorization", &*format!("Bearer {good}"))];
    assert_eq!(server.ask_upgrade("/?token=rubbish", &good_header).await.status, 101);
}

#[tokio::test]
async fn rel_10_a_live_session_id_gets_409_before_the_websocket_opens() {
    let mut server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    let answer = server.ask_upgrade(&format!("/?token={}", server.client_token(id(1))), &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "session_conflict"));
    client.is_undisturbed().await;
    daemon.is_undisturbed().await;

    client.close().await;
    server.session(id(1), "ended").await;
    assert_eq!(server.connect(&server.client_token(id(1))).await.err(), Some(409), "nor after it has ended");
    assert!(server.connect(&server.client_token(id(2))).await.is_ok(), "REL-11: another id is free");
}

#[tokio::test]
async fn rel_10_a_session_id_refused_as_offline_is_used_too() {
    let server = start().await;
    server.client(id(1)).await.close().await;
    assert_eq!(server.connect(&server.client_token(id(1))).await.err(), Some(409));
}

#[tokio::test]
async fn rel_12_by_configuration_a_second_daemon_gets_409_until_the_first_is_gone() {
    let mut server = start_with(|config| config.limits.takeover = Takeover::Refuse).await;
    let mut first = server.daemon().await;
    let answer = server.ask_upgrade(&format!("/?token={}", server.daemon_token(true)), &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "session_conflict"));
    first.is_undisturbed().await;
    first.close().await;
    server.closed().await;
    assert!(server.connect(&server.daemon_token(true)).await.is_ok());
}

#[tokio::test]
async fn rel_24_after_shutdown_upgrades_get_503() {
    let server = start().await;
    soon(server.relay.shutdown()).await;
    let answer = server.ask_upgrade(&format!("/?token={}", server.daemon_token(true)), &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
}

/// Answers requests for the key set when it is let.
struct Issuer {
    answer: Result<Bytes, ()>,
    asked: AtomicUsize,
    gate: Semaphore,
}

impl HttpClient for Issuer {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        assert_eq!(request.url.as_str(), "https://keys.test/.well-known/jwks.json");
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            let body = self.answer.clone().map_err(|()| HttpError::Connect("refused".to_owned()))?;
            Ok(HttpResponse { status: http::StatusCode::OK, headers: http::HeaderMap::new(), body })
        })
    }
}

async fn start_with_issuer(answer: Result<Bytes, ()>, gate: usize) -> (Server, Arc<Issuer>) {
    let issuer = Arc::new(Issuer { answer, asked: AtomicUsize::new(0), gate: Semaphore::new(gate) });
    let env = Env { http: issuer.clone(), ..Env::real(&Roots::System).unwrap() };
    let source = KeySource::Http { issuer: "https://keys.test/".to_owned() };
    (start_in(env, |config| config.keys = source).await, issuer)
}

async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

fn published() -> Bytes {
    let keys = KeySet::from_keys([Signer::from_seed("k-1", &[7; 32]).public()]);
    serde_json::to_vec(&keys).unwrap().into()
}

#[tokio::test]
async fn key_03_without_a_key_set_upgrades_get_503() {
    let (mut server, issuer) = start_with_issuer(Err(()), 1).await;
    let answer = server.ask_upgrade(&format!("/?token={}", server.client_token(id(1))), &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    let event = server.event(|event| matches!(event.kind, EventKind::KeySet { .. })).await;
    assert_eq!(event.kind, EventKind::KeySet { result: "cannot connect: refused".to_owned() });
}

#[tokio::test]
async fn tok_01_a_missing_token_gets_401_also_without_a_key_set() {
    let (server, issuer) = start_with_issuer(Err(()), 0).await;
    assert_eq!(server.ask_upgrade("/", &[]).await.status, 401);
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn key_01_upgrades_that_wait_share_one_fetch() {
    let (server, issuer) = start_with_issuer(Ok(published()), 0).await;
    let tokens: Vec<String> = (1..=8).map(|n| server.client_token(id(n))).collect();
    let waiting = futures_util::future::join_all(tokens.iter().map(|token| server.connect(token)));
    let release = async {
        while issuer.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        issuer.gate.add_permits(100);
    };
    let (peers, ()) = soon(futures_util::future::join(waiting, release)).await;
    assert!(peers.iter().all(Result::is_ok));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn key_01_an_unknown_key_refreshes_once_and_then_gets_401() {
    let (server, issuer) = start_with_issuer(Ok(published()), 100).await;
    assert!(server.connect(&server.client_token(id(1))).await.is_ok());
    let unknown = Signer::from_seed("k-2", &[8; 32]).sign(&server.client_claims(id(2)));
    assert_eq!(server.connect(&unknown).await.err(), Some(401));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
    assert_eq!(server.connect(&unknown).await.err(), Some(503), "it was refreshed less than 10 s ago");
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn key_01_an_upgrade_that_is_given_up_leaves_its_fetch_to_the_others() {
    let (server, issuer) = start_with_issuer(Ok(published()), 0).await;
    let (first, second) = (server.client_token(id(1)), server.client_token(id(2)));
    {
        let mut given_up = std::pin::pin!(server.connect(&first));
        while issuer.asked.load(Ordering::SeqCst) == 0 {
            assert!(poll_once(given_up.as_mut()).await.is_pending());
            tokio::task::yield_now().await;
        }
    }
    issuer.gate.add_permits(100);
    assert!(server.connect(&second).await.is_ok());
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
}
