//! What it costs a client to be let in by the relay, with a state file and without: `cargo run --release -p sideband-tests --example
//! upgrades`. Prints microseconds from the connect to the 101, one after the other and many at once.
#![expect(clippy::print_stdout, reason = "figures for whoever runs it")]

use std::time::Duration;

use sideband_env::{Env, HttpRequest, Timeline, real::Roots};
use sideband_scenarios::cloud::{Cloud, CloudOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// Upgrades of one measurement.
const COUNT: usize = 4_000;

/// How many are under way, when many are.
const AT_ONCE: usize = 32;

async fn token(env: &Env, cloud: &Cloud) -> String {
    let bootstrap = cloud.bootstrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {}", bootstrap.access_token.expose()).parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    let url = format!("{}/api/trpc/relay.createSession", cloud.api_url()).parse().unwrap();
    let body = format!(r#"{{"daemonId":"{}"}}"#, bootstrap.daemon_id).into();
    let request = HttpRequest { method: http::Method::POST, url, headers, body, max_answer: 1 << 16 };
    let answer = env.http.send(request).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    answer["result"]["data"]["token"].as_str().unwrap().to_owned()
}

/// How long it took to be let in.
async fn upgrade(addr: std::net::SocketAddr, token: String) -> Duration {
    let timeline = Timeline::start();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "GET /relay HTTP/1.1\r\nhost: {addr}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = [0; 12];
    stream.read_exact(&mut text).await.unwrap();
    assert!(text.ends_with(b"101"), "{text:?}");
    timeline.elapsed()
}

fn tell(what: &str, mut times: Vec<Duration>, all: Duration) {
    times.sort();
    let micros = |at: usize| times[at.min(times.len() - 1)].as_micros();
    println!(
        "  {what:<12} p50 {:>5} µs, p99 {:>5} µs, longest {:>6} µs; {:>6.0} a second",
        micros(times.len() / 2),
        micros(times.len() * 99 / 100),
        micros(times.len()),
        times.len() as f64 / all.as_secs_f64()
    );
}

async fn measure(name: &str, env: &Env, options: CloudOptions) {
    let cloud = Cloud::start(env.clone(), "127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    println!("{name}");
    let addr = cloud.addr();
    for at_once in [1, AT_ONCE] {
        let mut tokens = Vec::new();
        for _ in 0..COUNT {
            tokens.push(token(env, &cloud).await);
        }
        let (mut under_way, mut times, timeline) = (JoinSet::new(), Vec::new(), Timeline::start());
        for token in tokens {
            if under_way.len() == at_once {
                times.push(under_way.join_next().await.unwrap().unwrap());
            }
            under_way.spawn(upgrade(addr, token));
        }
        while let Some(time) = under_way.join_next().await {
            times.push(time.unwrap());
        }
        tell(&format!("{at_once} at once"), times, timeline.elapsed());
    }
    cloud.shutdown().await;
}

#[tokio::main]
async fn main() {
    let env = Env::real(&Roots::System).unwrap();
    let folder = std::env::temp_dir().join(format!("sideband-upgrades-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    for round in 0..2 {
        measure("in memory", &env, CloudOptions::default()).await;
        let state = Some(folder.join(format!("state-{round}")));
        measure("with a state file", &env, CloudOptions { state, ..CloudOptions::default() }).await;
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
