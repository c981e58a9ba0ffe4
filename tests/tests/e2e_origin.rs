//! Web pages: those of another origin are refused by API, relay and admin API, those of loopback are let in (API-06, API-09).

mod support;

use std::net::SocketAddr;

use sideband_scenarios::cloud::CloudOptions;
use sideband_sim_kit::guard::{AdminToken, OriginPolicy};

use self::support::*;

const FOREIGN: [&str; 7] = [
    "https://evil.test",
    "http://evil.test:7600",
    "http://localhost.evil.test",
    "http://127.0.0.1.evil.test",
    "http://localhost@evil.test",
    "file://",
    "null",
];

const LOOPBACK: [&str; 5] = [
    "http://localhost",
    "http://localhost:5173",
    "https://localhost:8443",
    "http://127.0.0.1:3000",
    "http://[::1]:3000",
];

fn headers(headers: &[(&str, &str)]) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// A procedure by hand, with these headers.
async fn call(addr: SocketAddr, procedure: &str, more: &[(&str, &str)], body: &str) -> Answer {
    let (more, length) = (headers(more), body.len());
    let request = format!(
        "POST /api/trpc/{procedure} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{more}\r\n{body}"
    );
    ask(addr, &request).await
}

async fn admin(addr: SocketAddr, method: &str, path: &str, more: &[(&str, &str)]) -> Answer {
    let more = headers(more);
    ask(addr, &format!("{method} /__sim/{path} HTTP/1.1\r\ncontent-length: 0\r\n{more}\r\n")).await
}

fn redeem() -> (&'static str, &'static str) {
    ("quickConnect.redeem", r#"{"code":"aaaa-bbbb-cccc"}"#)
}

#[tokio::test]
async fn api_06_the_api_refuses_pages_of_other_origins() {
    let world = World::start().await;
    let addr = world.cloud.addr();
    let (procedure, body) = redeem();
    for origin in FOREIGN {
        let answer = call(addr, procedure, &[("origin", origin)], body).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.json()["error"]["data"]["code"], "FORBIDDEN", "{origin}");
        assert!(!answer.head.contains("access-control-allow-origin"), "{answer:?}");
    }
    // API-09: before everything else, known credentials or not.
    let key = format!("Bearer {}", world.cloud.bootstrap().api_key.expose());
    let known = [("origin", FOREIGN[0]), ("authorization", &*key)];
    assert_eq!(call(addr, "daemon.renewToken", &known, "null").await.status, 403);
    assert_eq!(call(addr, "no.such.procedure", &known, "null").await.status, 403);
}

#[tokio::test]
async fn api_06_the_api_lets_loopback_pages_in() {
    let world = World::start().await;
    let addr = world.cloud.addr();
    let (procedure, body) = redeem();
    assert_eq!(call(addr, procedure, &[], body).await.status, 404, "no origin: no page");
    for origin in LOOPBACK {
        let answer = call(addr, procedure, &[("origin", origin)], body).await;
        // CORS headers stand on errors too.
        assert_eq!(answer.status, 404, "{origin}: the code is unknown, the page is not");
        assert!(answer.head.contains(&format!("access-control-allow-origin: {origin}")), "{answer:?}");
        let preflight = format!(
            "OPTIONS /api/trpc/{procedure} HTTP/1.1\r\nhost: {addr}\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\n\r\n"
        );
        let answer = ask(addr, &preflight).await;
        assert_eq!(answer.status, 204, "{origin}");
        assert!(answer.head.contains("access-control-allow-methods: post"), "{answer:?}");
    }
}

#[tokio::test]
async fn api_06_the_relay_refuses_pages_of_other_origins_before_it_looks_at_the_token() {
    let world = World::start().await;
    let addr = world.cloud.addr();
    let grant = world.grant().await;
    let bearer = format!("Bearer {}", grant.token);
    for origin in FOREIGN {
        for authorization in [&*bearer, "Bearer rubbish"] {
            let answer = ask_upgrade(addr, "/relay", &[("origin", origin), ("authorization", authorization)]).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{origin}");
        }
    }
    for origin in LOOPBACK {
        let token = world.grant().await.token;
        let answer = ask_upgrade(addr, &format!("/relay?token={token}"), &[("origin", origin)]).await;
        assert_eq!(answer.status, 101, "{origin}");
    }
    // The token was not used up by the refusals.
    assert_eq!(ask_upgrade(addr, "/relay", &[("authorization", &bearer)]).await.status, 101);
}

#[tokio::test]
async fn api_06_a_configured_origin_is_let_in_by_api_and_relay() {
    let origins = OriginPolicy::default().allow("https://app.example.com").unwrap();
    let world = World::with(CloudOptions { origins, ..CloudOptions::default() }).await;
    let addr = world.cloud.addr();
    let (procedure, body) = redeem();
    for (origin, api, relay) in [
        ("https://app.example.com", 404, 101),
        ("http://app.example.com", 403, 403),
        ("https://app.example.com:8443", 403, 403),
        ("https://sub.app.example.com", 403, 403),
    ] {
        assert_eq!(call(addr, procedure, &[("origin", origin)], body).await.status, api, "{origin}");
        let token = world.grant().await.token;
        let answer = ask_upgrade(addr, &format!("/?token={token}"), &[("origin", origin)]).await;
        assert_eq!(answer.status, relay, "{origin}");
    }
}

#[tokio::test]
async fn admin_refuses_pages_of_other_origins_and_other_hosts() {
    let world = World::start().await;
    let addr = world.cloud.addr();
    let own = addr.to_string();
    let before = world.cloud.api().keys_overview();
    for origin in FOREIGN {
        for (method, path) in [("GET", "status"), ("POST", "keys/rotate")] {
            let answer = admin(addr, method, path, &[("host", &own), ("origin", origin)]).await;
            assert_eq!(answer.status, 403, "{origin} {path}");
        }
    }
    // DNS rebinding: a name of another that resolves to loopback.
    for host in ["evil.test", "evil.test:7600", "localhost.evil.test", "192.168.1.2:7600"] {
        for (method, path) in [("GET", "ready"), ("GET", "status"), ("POST", "keys/rotate")] {
            assert_eq!(admin(addr, method, path, &[("host", host)]).await.status, 403, "{host} {path}");
        }
    }
    assert_eq!(world.cloud.api().keys_overview(), before, "no refused request did anything");

    for host in [own.as_str(), "localhost:1", "[::1]:7600"] {
        let answer = admin(addr, "GET", "ready", &[("host", host)]).await;
        assert_eq!((answer.status, answer.json()["ready"].as_bool()), (200, Some(true)), "{host}");
    }
    for origin in LOOPBACK {
        assert_eq!(admin(addr, "GET", "status", &[("host", &own), ("origin", origin)]).await.status, 200, "{origin}");
    }
}

#[tokio::test]
async fn admin_with_a_token_asks_everybody_for_it() {
    let world = World::with(CloudOptions { admin_token: AdminToken::new("s3cret"), ..CloudOptions::default() }).await;
    let addr = world.cloud.addr();
    let own = addr.to_string();
    for (authorization, status) in [("Bearer s3cret", 200), ("Bearer wrong", 401), ("", 401)] {
        let answer = admin(addr, "GET", "status", &[("host", &own), ("authorization", authorization)]).await;
        assert_eq!(answer.status, status, "{authorization}");
    }
    assert_eq!(admin(addr, "GET", "status", &[("host", &own)]).await.status, 401);
}
