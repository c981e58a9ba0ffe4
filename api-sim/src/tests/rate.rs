//! The limit of requests: 429 as the table says, for the one who asks too much alone.

use std::time::Duration;

use serde_json::json;
use sideband_sim_kit::{
    event::Event,
    limits::ApiLimitsPatch,
    server::{PeerAddr, ServeOptions, serve},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

fn limited() -> World {
    limited_to("3/7500ms")
}

fn limited_to(rate: &str) -> World {
    world(ApiConfig { rate_limit: Some(rate.parse().unwrap()), ..config() })
}

async fn from(world: &World, peer: &str, credential: &str) -> Answer {
    let mut request = request("daemon.renewToken", credential, "");
    request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
    send(&world.router, request).await
}

#[tokio::test(start_paused = true)]
async fn api_09_over_the_rate_is_429_with_retry_after() {
    let world = limited();
    let renew = || world.call("daemon.renewToken", world.key(), json!(null));
    for _ in 0..3 {
        renew().await.data();
    }
    let answer = renew().await;
    assert_eq!(answer.failure(), (429, "TOO_MANY_REQUESTS".into()));
    assert_eq!(answer.body["error"]["code"], json!(-32_029));
    assert_eq!(answer.headers["retry-after"], "3", "2.5 s, rounded up");
    // Others go on: the user of the same daemon, and whoever looks for keys.
    world.create_session(&world.boot.daemon_id).await.data();
    let keys = Request::builder().uri("/.well-known/jwks.json").body(Body::empty()).unwrap();
    assert_eq!(send(&world.router, keys).await.status, 200);
    tokio::time::advance(Duration::from_millis(2_499)).await;
    assert_eq!(renew().await.headers["retry-after"], "1");
    tokio::time::advance(Duration::from_millis(1)).await;
    renew().await.data();
    tokio::time::advance(Duration::from_secs(60)).await;
    for status in [200, 200, 200, 429] {
        assert_eq!(renew().await.status, status, "a long rest gives no more than the burst");
    }
    world.api.reset().unwrap();
    renew().await.data();
}

#[tokio::test(start_paused = true)]
async fn api_09_who_has_no_credential_is_counted_by_peer() {
    let world = limited();
    for n in 0..3 {
        // New guesses, new ports: the same peer.
        let guess = format!("sbnd_dak_guess{n}");
        assert_eq!(from(&world, &format!("10.0.0.1:{n}"), &guess).await.status, 401);
    }
    assert_eq!(from(&world, "10.0.0.1:9", "sbnd_dak_guess").await.status, 429);
    assert_eq!(from(&world, "10.0.0.1:9", "").await.status, 429);
    from(&world, "10.0.0.1:9", world.key()).await.data();
    assert_eq!(from(&world, "10.0.0.2:9", "").await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn api_09_there_is_no_rate_unless_configured() {
    let world = world(config());
    for _ in 0..2_000 {
        assert_eq!(world.call("daemon.renewToken", "", json!(null)).await.status, 401);
    }
}

#[tokio::test(start_paused = true)]
async fn api_09_the_rate_is_shown_and_changed_while_it_runs_and_comes_back_at_a_reset() {
    let world = limited();
    let admin = accounts::client(&world);
    let renew = || world.call("daemon.renewToken", world.key(), json!(null));
    assert_eq!(admin.api_limits().await.unwrap().rate, Some("3/7500ms".parse().unwrap()));
    let one = ApiLimitsPatch { rate: Some(Some("1/1h".parse().unwrap())) };
    assert_eq!(admin.set_api_limits(&one).await.unwrap().rate, one.rate.unwrap());
    renew().await.data();
    assert_eq!(renew().await.headers["retry-after"], "3600");
    assert_eq!(admin.set_api_limits(&ApiLimitsPatch::default()).await.unwrap().rate, one.rate.unwrap());
    assert_eq!(renew().await.status, 429, "nothing was changed");
    admin.set_api_limits(&ApiLimitsPatch { rate: Some(None) }).await.unwrap();
    for _ in 0..100 {
        renew().await.data();
    }
    world.api.reset().unwrap();
    assert_eq!(admin.api_limits().await.unwrap().rate, Some("3/7500ms".parse().unwrap()));
}

/// The last event, which is of a request that was over the rate.
fn refused(world: &World) -> Event {
    let event = world.events.recent().pop().unwrap();
    assert!(matches!(event.kind, EventKind::Request { status: 429, retry_after_ms: Some(_), .. }), "{event:?}");
    event
}

#[tokio::test(start_paused = true)]
async fn api_09_a_refusal_by_the_rate_names_whom_it_is_about() {
    let world = limited_to("1/1h");
    let mine = Some(world.boot.daemon_id.as_str());
    let code = world.call("quickConnect.create", world.key(), json!({})).await.text("code");
    assert_eq!(world.call("quickConnect.create", world.key(), json!({})).await.status, 429);
    assert_eq!(refused(&world).daemon.as_deref(), mine);
    assert_eq!(world.call("daemon.renewToken", world.key(), json!(null)).await.status, 429);
    assert_eq!(refused(&world).daemon.as_deref(), mine);
    world.create_session(&world.boot.daemon_id).await.data();
    for (daemon, named) in [(world.boot.daemon_id.as_str(), mine), ("d_nobody", None)] {
        assert_eq!(world.create_session(daemon).await.status, 429);
        assert_eq!(refused(&world).daemon.as_deref(), named, "only what is known is told");
    }
    world.call("quickConnect.redeem", "", json!({"code": "aaaa-aaaa-aaaa"})).await;
    assert_eq!(world.call("quickConnect.redeem", "", json!({"code": code})).await.status, 429);
    let event = refused(&world);
    assert_eq!(event.daemon.as_deref(), mine);
    assert!(matches!(event.kind, EventKind::Request { code: Some(name), .. } if name == world.api.name_of(&code)));
}

#[tokio::test(start_paused = true)]
async fn api_09_over_the_rate_whatever_is_wrong_is_429() {
    let world = limited_to("1/1h");
    assert_eq!(from(&world, "10.0.0.1:9", "").await.status, 401);
    for body in [String::new(), "{".to_owned(), "{".repeat(65_537)] {
        let mut request = request("daemon.renewToken", "", body);
        request.extensions_mut().insert(PeerAddr("10.0.0.1:9".parse().unwrap()));
        assert_eq!(send(&world.router, request).await.failure(), (429, "TOO_MANY_REQUESTS".into()));
    }
}

/// Accepts one stream.
struct One(Option<DuplexStream>);

impl Listener for One {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        let Some(stream) = self.0.take() else { return Box::pin(std::future::pending()) };
        Box::pin(async { Ok((Box::new(stream) as BoxStream, SocketAddr::from(([10, 0, 0, 1], 9)))) })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([10, 0, 0, 2], 80)))
    }
}

/// Sends header and body apart, by a clock that goes on when the server has nothing left to do; the status.
async fn apart(stream: &mut DuplexStream, procedure: &str) -> String {
    let header = format!("POST /api/trpc/{procedure} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n");
    stream.write_all(header.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(b"null").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}}}") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("connection: close"), "{answer}");
    answer[9..12].to_owned()
}

#[tokio::test(start_paused = true)]
async fn api_09_a_connection_that_was_refused_by_the_rate_goes_on() {
    let world = limited_to("1/1h");
    let (mut near, far) = tokio::io::duplex(16_384);
    let listener = Box::new(One(Some(far)));
    tokio::spawn(serve(listener, world.router.clone(), ServeOptions::default(), std::future::pending()));
    for status in ["401", "429", "429"] {
        assert_eq!(apart(&mut near, "daemon.renewToken").await, status);
    }
    // Nor does it break where the body is of no interest.
    for procedure in ["no.such", "daemon.renewToken"] {
        apart(&mut near, procedure).await;
    }
    assert_eq!(world.requests().len(), 5);
}
