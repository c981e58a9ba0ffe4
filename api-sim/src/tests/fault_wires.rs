//! Faults of the plan on the bytes of a connection, and on relays that ask for keys.

use std::time::Duration;

use sideband_sim_kit::{
    fault::{self, FaultEngine, FaultPlan, Format},
    server::{ServeOptions, serve},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time,
};

use super::*;

/// A control plane on loopback with one rule.
struct Wired {
    world: World,
    engine: FaultEngine,
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

struct Tcp(TcpListener);

impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxStream, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn wired(rule: &str) -> Wired {
    wired_with(rule, ServeOptions::default()).await
}

async fn wired_with(rule: &str, options: ServeOptions) -> Wired {
    let mut world = world(config());
    let engine = FaultEngine::new(Timeline::start());
    engine.set(FaultPlan::parse(&format!("[[fault]]\nid = \"f\"\n{rule}"), Format::Toml).unwrap()).unwrap();
    world.api = world.api.with_faults(engine.clone());
    world.router = world.api.router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let admin = Router::from(fault::admin::routes(engine.clone(), fault::Place::OF_CLOUD));
    let app = Router::new().nest("/__sim", admin).merge(world.router.clone());
    let served = serve(Box::new(Tcp(listener)), app, options, async {
        drop(stopped.await);
    });
    Wired { world, engine, addr, stop: Some(stop), task: tokio::spawn(served) }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    time::timeout(Duration::from_secs(10), future).await.expect("in time")
}

impl Wired {
    /// A connection that has sent a request for a session.
    async fn asking(&self) -> TcpStream {
        let body = json!({"daemonId": self.world.boot.daemon_id}).to_string();
        let (user, length) = (self.world.user(), body.len());
        let request = format!(
            "POST /api/trpc/relay.createSession HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {user}\r\n\
             content-length: {length}\r\n\r\n{body}",
            self.addr
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    fn fired(&self) -> u64 {
        self.engine.list()[0].fired
    }
}

/// All that comes until the end, which may be a reset.
async fn all_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    while within(stream.read_buf(&mut got)).await.is_ok_and(|n| n > 0) {}
    got
}

#[tokio::test]
async fn a_cut_sends_not_one_byte() {
    let wired = wired("on = \"api.request\"\ntimes = 1\ndo = \"cut\"").await;
    assert_eq!(all_of(&mut wired.asking().await).await, b"");
    assert_eq!((wired.fired(), wired.world.requests()), (1, vec![]));
    // What comes to the same address behind it is answered whole.
    let mut stream = wired.asking().await;
    stream.shutdown().await.unwrap();
    let got = String::from_utf8(all_of(&mut stream).await).unwrap();
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\"}}}"), "{got}");
}

#[tokio::test]
async fn a_cut_of_the_second_request_leaves_the_first_answer_whole() {
    let wired = wired("on = \"api.request\"\nskip = 1\ndo = \"cut\"").await;
    let mut stream = wired.asking().await;
    let mut got = Vec::new();
    while !got.ends_with(b"\"}}}") {
        assert!(within(stream.read_buf(&mut got)).await.unwrap() > 0, "it ends: {}", String::from_utf8_lossy(&got));
    }
    let length = got.len();
    let body = json!({"daemonId": wired.world.boot.daemon_id}).to_string();
    let again = format!(
        "POST /api/trpc/relay.createSession HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(again.as_bytes()).await.unwrap();
    got.extend(all_of(&mut stream).await);
    assert_eq!(got.len(), length, "not one byte more");
    assert_eq!(wired.fired(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_during_a_hang_leaves_nothing_behind() {
    let mut wired = wired("on = \"api.request\"\ndo = \"hang\"").await;
    let mut events = wired.world.events.subscribe();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for number in 1..=10 {
        let stream = wired.asking().await;
        let fault = within(events.recv()).await.unwrap();
        assert!(matches!(fault.kind, EventKind::Fault { number: n, .. } if n == number), "{fault:?}");
        drop(stream);
    }
    assert_eq!(wired.fired(), 10);
    within(async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Others are served, and nothing waits for those that went.
    wired.engine.clear().unwrap();
    let mut stream = wired.asking().await;
    stream.shutdown().await.unwrap();
    assert!(all_of(&mut stream).await.starts_with(b"HTTP/1.1 200 OK\r\n"));
    drop(wired.stop.take());
    within(wired.task).await.unwrap();
    let sessions = wired.world.requests().iter().filter(|(_, status)| *status == 200).count();
    assert_eq!(sessions, 1, "no session was made for nobody: {:?}", wired.world.requests());
}

/// Requests that a rule holds, from more connections than there may be, do not keep out who takes the rule away.
#[tokio::test]
async fn held_requests_make_room_for_the_admin_api() {
    for (on, request, held) in [
        (
            "api.request",
            "POST /api/trpc/daemon.renewToken HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
            "\"hang\"",
        ),
        ("api.request", "POST /api/trpc/daemon.renewToken HTTP/1.1\r\nhost: x\r\n\r\n", "{ delay = \"1h\" }"),
        ("keys", "GET /.well-known/jwks.json HTTP/1.1\r\nhost: x\r\n\r\n", "\"hang\""),
    ] {
        let options = ServeOptions { max_connections: 4, ..ServeOptions::default() };
        let wired = wired_with(&format!("on = \"{on}\"\ndo = {held}"), options).await;
        let mut events = wired.world.events.subscribe();
        let mut crowd = Vec::new();
        for number in 1..=20 {
            let mut stream = TcpStream::connect(wired.addr).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let event = within(events.recv()).await.unwrap();
            assert!(matches!(event.kind, EventKind::Fault { number: n, .. } if n == number), "{event:?}");
            crowd.push(stream);
        }
        let mut owner = TcpStream::connect(wired.addr).await.unwrap();
        owner.write_all(b"DELETE /__sim/faults HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let answer = all_of(&mut owner).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{on} {held}: {}", String::from_utf8_lossy(&answer));
        // The oldest were cut for it, the newest go on.
        assert_eq!(all_of(&mut crowd[0]).await, b"");
        let newest = crowd.last_mut().unwrap();
        newest.shutdown().await.unwrap();
        assert!(all_of(newest).await.starts_with(b"HTTP/1.1 "), "{on} {held}");
    }
}

#[tokio::test(start_paused = true)]
async fn key_03_a_slow_and_a_hanging_key_set() {
    let world = |rule: &str| {
        let world = world(config());
        let engine = FaultEngine::new(Timeline::start());
        engine.set(FaultPlan::parse(&format!("[[fault]]\n{rule}"), Format::Toml).unwrap()).unwrap();
        (world.api.with_faults(engine.clone()), engine)
    };
    let (api, _) = world("on = \"keys\"\ndo = { delay = \"4s\" }");
    let begun = Timeline::start();
    assert_eq!(api.fetch_key_set().await.as_ref(), Ok(&api.key_set()));
    assert_eq!(begun.elapsed(), Duration::from_secs(4));
    let (api, engine) = world("on = \"keys\"\ndo = \"hang\"");
    let mut asked = Box::pin(api.fetch_key_set());
    assert!(time::timeout(Duration::from_secs(3_600), &mut asked).await.is_err(), "it hangs");
    engine.clear().unwrap();
    assert_eq!(within(asked).await, Ok(api.key_set()), "and goes on");
    // One that is over by itself.
    let (api, _) = world("on = \"keys\"\nfor = \"30s\"\ndo = \"hang\"");
    let begun = Timeline::start();
    assert!(api.fetch_key_set().await.is_ok());
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}
