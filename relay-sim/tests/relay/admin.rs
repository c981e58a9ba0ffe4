//! The relay's part of `/__sim`, by the client that the commands use.

use sideband_env::Env;
use sideband_protocol::wire::ControlCode;
use sideband_relay_sim::is_upgrade;
use sideband_sim_kit::{
    admin::{AdminClient, DaemonStatus, SessionStatus},
    guard::guard_admin,
    server::{ServeOptions, serve},
};

use crate::support::*;

/// Serves the admin API of a relay, and gives its URL.
pub(crate) async fn admin(env: &Env, server: &Server) -> String {
    let listener = env.network.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = axum::Router::new().nest("/__sim", guard_admin(server.relay.admin_router(), None));
    tokio::spawn(serve(listener, app, ServeOptions::default(), std::future::pending()));
    format!("http://{addr}/__sim")
}

async fn post(env: &Env, url: &str) -> (u16, serde_json::Value) {
    ask(env, http::Method::POST, url).await
}

async fn ask(env: &Env, method: http::Method, url: &str) -> (u16, serde_json::Value) {
    let request = sideband_env::HttpRequest {
        method,
        url: url.parse().unwrap(),
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::new(),
        max_answer: 1_000,
    };
    let answer = soon(env.http.send(request)).await.unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test]
async fn status_and_daemons_are_told() {
    let server = start().await;
    let url = admin(&server.env, &server).await;
    let client = AdminClient::new(server.env.clone(), url.parse().unwrap(), None);
    assert_eq!(client.daemon(DAEMON).await.unwrap(), None);
    let _daemon = server.daemon().await;
    let _client = server.client(id(10)).await;
    let expected = DaemonStatus {
        daemon_id: DAEMON.to_owned(),
        online: true,
        sessions: vec![SessionStatus { session_id: id(10), state: "paired".to_owned() }],
    };
    assert_eq!(client.daemon(DAEMON).await.unwrap(), Some(expected.clone()));
    let status = client.status().await.unwrap();
    assert_eq!(status.daemons, [expected]);
    assert_eq!(status.counters["connections"], 2);
}

#[tokio::test]
async fn sockets_can_be_dropped() {
    let server = start().await;
    let url = admin(&server.env, &server).await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(10)).await;
    let dropped = serde_json::json!({ "dropped": true });
    assert_eq!(post(&server.env, &format!("{url}/daemons/{DAEMON}/drop")).await, (200, dropped.clone()));
    assert_eq!(daemon.got().await, Got::Lost);
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 10));
    assert_eq!(post(&server.env, &format!("{url}/sessions/000000000000000a/drop")).await, (200, dropped));
    assert_eq!(client.got().await, Got::Lost);
    for nothing in ["daemons/d_2/drop", "sessions/000000000000000a/drop", "sessions/rubbish/drop"] {
        let (status, body) = post(&server.env, &format!("{url}/{nothing}")).await;
        assert_eq!((status, &body["error"]["code"]), (404, &"not_found".into()), "{nothing}");
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_errors_of_the_admin_api() {
    let server = start().await;
    let url = admin(&server.env, &server).await;
    let drop = format!("{url}/daemons/{DAEMON}/drop");
    let nothing = format!("{url}/nothing");
    for (path, status, code) in [(drop, 405, "method_not_allowed"), (nothing, 404, "not_found")] {
        let answer = ask(&server.env, http::Method::GET, &path).await;
        assert_eq!((answer.0, &answer.1["error"]["code"]), (status, &code.into()), "{path}");
    }
}

#[test]
fn only_a_get_that_names_websocket_is_an_upgrade() {
    let request = |method: &str, upgrade: &str| {
        http::Request::builder().method(method).uri("/").header("upgrade", upgrade).body(()).unwrap()
    };
    assert!(is_upgrade(&request("GET", "WebSocket")));
    assert!(is_upgrade(&request("GET", "h2c, websocket")));
    assert!(!is_upgrade(&request("GET", "h2c")));
    assert!(!is_upgrade(&request("POST", "websocket")));
}
