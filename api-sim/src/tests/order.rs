//! What is checked first (API-09), the shape of every answer, and CORS (API-06).

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use sideband_sim_kit::guard::OriginPolicy;

use super::*;

const EVIL: &str = "http://evil.test";

#[tokio::test]
async fn api_09_the_first_failure_decides() {
    // Everything wrong at once; each step repairs what the last answer named.
    let world = world(config());
    let other = world.add_strange_daemon();
    let ask = async |origin: &str, procedure: &str, method: &str, body: String, credential: &str| {
        let mut request = request(procedure, credential, body);
        *request.method_mut() = method.parse().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let (status, code) = send(&world.router, request).await.failure();
        format!("{status} {code}")
    };
    let (page, create, big) = ("http://localhost:3000", "relay.createSession", "{".repeat(65_537));
    let input = |daemon: &str| json!({"daemonId": daemon}).to_string();
    let user = world.user();
    let answers = [
        ask(EVIL, "no.such", "GET", big.clone(), "wrong").await,
        ask(page, "no.such", "GET", big.clone(), "wrong").await,
        ask(page, create, "GET", big.clone(), "wrong").await,
        ask(page, create, "POST", big, "wrong").await,
        ask(page, create, "POST", "{".repeat(65_536), "wrong").await,
        ask(page, create, "POST", input(""), "wrong").await,
        ask(page, create, "POST", input(""), user).await,
        ask(page, create, "POST", input("d_nobody"), user).await,
        ask(page, create, "POST", input(other), user).await,
    ];
    let order = [
        "403 FORBIDDEN",
        "404 NOT_FOUND",
        "405 METHOD_NOT_SUPPORTED",
        "413 PAYLOAD_TOO_LARGE",
        "400 PARSE_ERROR",
        "401 UNAUTHORIZED",
        "400 BAD_REQUEST",
        "404 NOT_FOUND",
        "403 FORBIDDEN",
    ];
    assert_eq!(answers, order);
}

#[tokio::test]
async fn api_09_both_forms_of_input_are_taken() {
    let world = world(config());
    let id = &world.boot.daemon_id;
    for input in [
        json!({"daemonId": id, "x": 1}),
        json!({"json": {"daemonId": id}}),
        json!({"json": {"daemonId": id}, "meta": 1}),
    ] {
        world.call("relay.createSession", world.user(), input).await.data();
    }
}

#[tokio::test]
async fn api_09_methods() {
    let world = world(config());
    for method in ["GET", "PUT", "PATCH", "DELETE", "BREW"] {
        let mut request = request("quickConnect.redeem", "", "{}");
        *request.method_mut() = method.parse().unwrap();
        let answer = send(&world.router, request).await;
        assert_eq!(answer.failure(), (405, "METHOD_NOT_SUPPORTED".into()), "{method}");
        assert_eq!(answer.headers["allow"], "POST, OPTIONS");
    }
    // The answer to HEAD has no body.
    let mut head = request("quickConnect.redeem", "", "");
    *head.method_mut() = "HEAD".parse().unwrap();
    assert_eq!(send(&world.router, head).await.status, 405);
}

#[tokio::test]
async fn api_09_unknown_procedures_and_paths_are_404_as_json() {
    let world = world(config());
    for uri in [
        "/",
        "/api",
        "/api/trpc",
        "/api/trpc/",
        "/api/trpc/relay",
        "/api/trpc/relay.createsession",
        "/api/trpc/relay.createSession/",
        "/api/trpc/relay.createSession,daemon.renewToken",
        "/relay",
    ] {
        for method in ["POST", "GET", "OPTIONS"] {
            let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
            assert_eq!(send(&world.router, request).await.failure(), (404, "NOT_FOUND".into()), "{method} {uri}");
        }
    }
    let long = Request::builder().uri(format!("/{}", "x".repeat(5_000))).body(Body::empty()).unwrap();
    let answer = send(&world.router, long).await;
    assert_eq!(answer.body["error"]["data"]["path"].as_str().unwrap().len(), 200);
}

/// A body that goes on for ever, in pieces of 1 KiB.
struct Endless(Arc<AtomicUsize>);

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1_024])))))
    }
}

#[tokio::test]
async fn api_09_a_body_is_read_to_its_limit_only() {
    let world = world(config());
    let pieces = Arc::new(AtomicUsize::new(0));
    let answer = send(&world.router, request("quickConnect.redeem", "", Body::new(Endless(pieces.clone())))).await;
    assert_eq!(answer.failure(), (413, "PAYLOAD_TOO_LARGE".into()));
    assert_eq!(pieces.load(Ordering::SeqCst), 65);
    // A length that is declared is believed at once.
    let mut declared = request("quickConnect.redeem", "", Body::new(Endless(pieces.clone())));
    declared.headers_mut().insert("content-length", "65537".parse().unwrap());
    assert_eq!(send(&world.router, declared).await.status, 413);
    assert_eq!(pieces.load(Ordering::SeqCst), 65);
    // Exactly 64 KiB are fine.
    let mut padded = r#"{"code":"aaaa-aaaa-aaaa"}"#.to_owned();
    padded.push_str(&" ".repeat(65_536 - padded.len()));
    assert_eq!(send(&world.router, request("quickConnect.redeem", "", padded)).await.status, 404);
}

#[tokio::test]
async fn api_06_a_preflight_of_an_allowed_origin_is_204() {
    let world = world(config());
    let mut request = request("relay.createSession", "", "");
    *request.method_mut() = "OPTIONS".parse().unwrap();
    request.headers_mut().insert("origin", "http://localhost:5173".parse().unwrap());
    let answer = send(&world.router, request).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-origin"], "http://localhost:5173");
    assert_eq!(answer.headers["access-control-allow-methods"], "POST");
    assert_eq!(answer.headers["access-control-allow-headers"], "authorization, content-type");
    assert_eq!(answer.headers["vary"], "origin");
}

#[tokio::test]
async fn api_06_a_preflight_of_another_origin_is_403_without_cors_headers() {
    let world = world(config());
    let mut request = request("relay.createSession", "", "");
    *request.method_mut() = "OPTIONS".parse().unwrap();
    request.headers_mut().insert("origin", EVIL.parse().unwrap());
    let answer = send(&world.router, request).await;
    assert_eq!(answer.failure(), (403, "FORBIDDEN".into()));
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
}

#[tokio::test]
async fn api_06_cors_headers_stand_on_errors_and_successes() {
    let origins = OriginPolicy::default().allow("https://app.test").unwrap();
    let world = world(ApiConfig { origins, ..config() });
    for (procedure, status) in [("daemon.renewToken", 200), ("quickConnect.redeem", 400), ("no.such", 404)] {
        for origin in ["https://app.test", "http://127.0.0.1:1"] {
            let mut request = request(procedure, world.key(), "");
            request.headers_mut().insert("origin", origin.parse().unwrap());
            let answer = send(&world.router, request).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.headers["access-control-allow-origin"], origin);
            assert_eq!(answer.headers["content-type"], "application/json");
        }
    }
    let answer = world.call("daemon.renewToken", world.key(), json!(null)).await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "no origin, no CORS");
}

#[tokio::test]
async fn api_06_another_origin_reaches_nothing() {
    let world = world(config());
    world.set_online(&world.boot.daemon_id);
    let code = world.call("quickConnect.create", world.key(), json!({})).await.text("code");
    let mut redeem = request("quickConnect.redeem", "", json!({"code": code}).to_string());
    redeem.headers_mut().insert("origin", EVIL.parse().unwrap());
    assert_eq!(send(&world.router, redeem).await.status, 403);
    world.call("quickConnect.redeem", "", json!({"code": code})).await.data();
    let mut jwks = Request::builder().uri("/.well-known/jwks.json").body(Body::empty()).unwrap();
    jwks.headers_mut().insert("origin", EVIL.parse().unwrap());
    assert_eq!(send(&world.router, jwks).await.status, 403);
}

#[tokio::test]
async fn every_request_is_an_event_and_no_event_has_a_secret() {
    let world = world(config());
    let session = world.create_session(&world.boot.daemon_id).await;
    let code = world.call("quickConnect.create", world.key(), json!({})).await;
    world.call("quickConnect.redeem", "", json!({"code": code.text("code")})).await;
    world.call("no.such", "", json!(null)).await;
    let expected = [
        ("relay.createSession".to_owned(), 200),
        ("quickConnect.create".to_owned(), 200),
        ("quickConnect.redeem".to_owned(), 409),
        ("no.such".to_owned(), 404),
    ];
    assert_eq!(world.requests(), expected);
    let events = serde_json::to_string(&world.events.recent()).unwrap();
    for secret in [world.user(), world.key(), &session.text("token"), &code.text("code")] {
        assert!(!events.contains(secret));
    }
    let first = &world.events.recent()[0];
    assert_eq!(first.daemon.as_deref(), Some(world.boot.daemon_id.as_str()));
    assert_eq!(first.session.unwrap().to_claim(), claims(&session.text("token"))["sid"]);
}
