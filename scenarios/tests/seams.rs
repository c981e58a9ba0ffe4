//! One contract, two worlds: what every implementation of the network and HTTP seams must do, run over the real one on loopback
//! and over the simulated one in turmoil.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use sideband_env::{Env, FixedClock, HttpError, HttpRequest, SeededEntropy, Target, real::Roots};
use sideband_scenarios::net::{SeamHttp, SimNetwork};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A world: its seams, where it listens, and by which name that is dialled.
#[derive(Clone)]
struct World {
    env: Env,
    bind: SocketAddr,
    host: &'static str,
}

fn target(world: &World, port: u16) -> Target {
    Target { host: world.host.to_owned(), port, tls: false }
}

/// Bytes arrive in order, both ways; the end of one side is seen by the other.
async fn streams_carry_bytes_in_order(world: World) {
    let mut listener = world.env.network.bind(world.bind).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).await.unwrap();
        stream.write_all(&seen).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut stream = world.env.network.connect(&target(&world, port)).await.unwrap();
    let sent: Vec<u8> = (0..20_000u32).flat_map(u32::to_be_bytes).collect();
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert!(back == sent, "{} bytes came back of {}", back.len(), sent.len());
    echo.await.unwrap();
}

/// Dialling a port where nobody listens fails, and does not hang.
async fn nobody_listening_is_an_error(world: World) {
    let listener = world.env.network.bind(world.bind).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = world.env.network.connect(&target(&world, port)).await.err().expect("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// Dropping a stream is seen by the other side: the half that accepts.
async fn accepted_stream_ends(world: &World, tell_port: impl FnOnce(u16)) {
    let mut listener = world.env.network.bind(world.bind).await.unwrap();
    tell_port(listener.local_addr().unwrap().port());
    let (mut accepted, _) = listener.accept().await.unwrap();
    let mut rest = Vec::new();
    // An end or a reset: both say that it is over.
    let _ = accepted.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

/// The half that dials.
async fn dial_and_drop(world: &World, port: u16) {
    drop(world.env.network.connect(&target(world, port)).await.unwrap());
}

mod a_dropped_stream_ends {
    use super::*;

    #[tokio::test]
    async fn real() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let world = super::real();
        let dial = async { dial_and_drop(&world, told.await.unwrap()).await };
        tokio::join!(accepted_stream_ends(&world, |port| tell.send(port).unwrap()), dial);
    }

    /// On two hosts: turmoil 0.7 does not tell the end of a dropped stream from a host to itself.
    #[test]
    fn simulated() {
        let mut sim = turmoil::Builder::new().rng_seed(1).simulation_duration(Duration::from_secs(60)).build();
        sim.client("here", async {
            accepted_stream_ends(&super::simulated(), |_| ()).await;
            Ok(())
        });
        sim.client("there", async {
            dial_and_drop(&super::simulated(), 80).await;
            Ok(())
        });
        sim.run().unwrap();
    }
}

/// Two listeners cannot have one address.
async fn an_address_is_taken_once(world: World) {
    let listener = world.env.network.bind(world.bind).await.unwrap();
    let mut taken = world.bind;
    taken.set_port(listener.local_addr().unwrap().port());
    let error = world.env.network.bind(taken).await.err().expect("the address is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

/// A request carries method, path, query, headers and body; a redirect is an answer like others; too large a body is refused.
async fn http_asks_once_and_reads_one_answer(world: World) {
    let mut listener = world.env.network.bind(world.bind).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in [
            "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\nretry-after: 3\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody",
            "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\nconnection: close\r\n\r\n",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"hello") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains("100000") {
                // The reader may give up before the end.
                let _ = stream.write_all(&[b'x'; 100_000]).await;
            }
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            heads.push(String::from_utf8(request).unwrap());
        }
        heads
    });
    let request = || {
        let mut headers = HeaderMap::new();
        headers.insert("x-test", HeaderValue::from_static("yes"));
        HttpRequest {
            method: Method::POST,
            url: format!("http://{}:{port}/a/b?c=d", world.host).parse().unwrap(),
            headers,
            body: Bytes::from_static(b"hello"),
            max_answer: 1_000,
        }
    };
    let answer = world.env.http.send(request()).await.unwrap();
    assert_eq!(answer.status, 302, "no redirect is followed");
    assert_eq!(answer.headers["retry-after"], "3");
    assert_eq!(&answer.body[..], b"body");
    let error = world.env.http.send(request()).await.unwrap_err();
    assert!(matches!(error, HttpError::BodyTooLarge(1_000)), "{error:?}");
    for head in server.await.unwrap() {
        assert!(head.starts_with("POST /a/b?c=d HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("x-test: yes\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains(&format!("host: {}:{port}\r\n", world.host)), "{head}");
    }
}

/// Asking where nobody listens is a connection error.
async fn http_without_a_server_is_a_connection_error(world: World) {
    let listener = world.env.network.bind(world.bind).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let request = HttpRequest {
        method: Method::GET,
        url: format!("http://{}:{port}/", world.host).parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        max_answer: 1_000,
    };
    let error = world.env.http.send(request).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)), "{error:?}");
}

fn real() -> World {
    let env = Env::real(&Roots::System).unwrap();
    World { env, bind: SocketAddr::from(([127, 0, 0, 1], 0)), host: "127.0.0.1" }
}

fn simulated() -> World {
    let network = Arc::new(SimNetwork);
    let env = Env {
        clock: Arc::new(FixedClock::at_seconds(0)),
        entropy: Arc::new(SeededEntropy::new(1, "seams")),
        http: Arc::new(SeamHttp::new(network.clone())),
        network,
    };
    World { env, bind: SocketAddr::from(([0, 0, 0, 0], 80)), host: "here" }
}

fn in_turmoil<F: Future<Output = ()> + 'static>(body: impl Fn(World) -> F + 'static) {
    let mut sim =
        turmoil::Builder::new().rng_seed(1).tcp_capacity(1_024).simulation_duration(Duration::from_secs(60)).build();
    sim.client("here", async move {
        body(simulated()).await;
        Ok(())
    });
    sim.run().unwrap();
}

macro_rules! in_both_worlds {
    ($($name:ident),*) => {$(
        mod $name {
            #[tokio::test]
            async fn real() {
                super::$name(super::real()).await;
            }

            #[test]
            fn simulated() {
                super::in_turmoil(super::$name);
            }
        }
    )*};
}

in_both_worlds!(
    streams_carry_bytes_in_order,
    nobody_listening_is_an_error,
    an_address_is_taken_once,
    http_asks_once_and_reads_one_answer,
    http_without_a_server_is_a_connection_error
);
