//! Requests with any bytes in them, and bodies to the limit and over it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    support::{PATIENCE, Sim},
    tell,
};

/// Sends bytes, ends its side, and gives all that is answered until the server ends its own.
async fn exchange(address: &str, bytes: &[u8]) -> String {
    talk(address, bytes, true).await
}

/// Sends a request that asks to close, and gives the answer. Its side stays open: a server takes its end for a client that is gone.
async fn request(address: &str, bytes: &[u8]) -> String {
    talk(address, bytes, false).await
}

async fn talk(address: &str, bytes: &[u8], ends: bool) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.split();
    let mut answer = Vec::new();
    let write = async {
        // Who is refused early may find nobody to write to.
        let _ = to.write_all(bytes).await;
        if ends {
            let _ = to.shutdown().await;
        }
    };
    let read = async {
        let mut part = [0; 4_096];
        // A reset after an early refusal ends it as well.
        while let Ok(count @ 1..) = from.read(&mut part).await {
            answer.extend_from_slice(&part[..count]);
        }
    };
    timeout(PATIENCE, async { tokio::join!(write, read) }).await.expect("the server does not end it");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn post(path: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n{more}\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test]
async fn bodies_to_the_limit_are_read_and_over_it_refused() {
    const LIMIT: usize = 64 << 10;
    let sim = Sim::up(&[]).await;
    let address = sim.get("apiUrl").strip_prefix("http://").unwrap().to_owned();
    let key = format!("authorization: Bearer {}\r\n", sim.get("apiKey"));
    let filled = |length: usize| {
        let mut body = b"{\"ttlSeconds\":60}".to_vec();
        body.resize(length, b' ');
        body
    };
    for (length, wanted) in [(LIMIT, 200), (LIMIT + 1, 413), (8 << 20, 413)] {
        let answer = request(&address, &post("/api/trpc/quickConnect.create", &key, &filled(length))).await;
        assert_eq!(status(&answer), wanted, "{length} bytes: {answer}");
    }
    // The admin API has limits of its own: what is far beyond them is refused, too.
    for path in ["/__sim/limits", "/__sim/faults", "/__sim/restart", "/__sim/keys/rotate", "/__sim/accounts/users"] {
        let mut large = post(path, "", &vec![b' '; 8 << 20]);
        if path == "/__sim/limits" {
            large.splice(..4, *b"PATCH");
        }
        let answer = request(&address, &large).await;
        assert_eq!(status(&answer), 413, "{path}: {answer}");
    }
    assert_eq!(sim.stop().await.code, Some(0));
}

#[tokio::test]
async fn no_header_and_no_bytes_bring_it_down() {
    let sim = Sim::up(&["--daemon"]).await;
    let address = sim.get("apiUrl").strip_prefix("http://").unwrap().to_owned();
    let mut requests: Vec<Vec<u8>> = vec![
        vec![0; 64 << 10],
        vec![0xff; 64 << 10],
        b"\r\n\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(10_000)).into_bytes(),
        b"POST /api/trpc/relay.createSession HTTP/1.1\r\nhost: x\r\ncontent-length: 18446744073709551616\r\n\r\n"
            .to_vec(),
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(),
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
    ];
    for name in [
        "host",
        "origin",
        "authorization",
        "content-type",
        "content-length",
        "upgrade",
        "connection",
        "cookie",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "x-sideband-resume",
        "accept",
        "expect",
        "last-event-id",
        "retry-after",
        "transfer-encoding",
    ] {
        for value in [&b""[..], b"\xff\xfe\x80", b"Bearer ", b"Bearer \xc3\x28", b",,,;;;==", b"-1", &[b'9'; 4_096]] {
            for path in ["/", "/relay", "/api/trpc/daemon.renewToken", "/__sim/status", "/__sim/events"] {
                let upgrade = if path == "/relay" { "upgrade: websocket\r\n" } else { "" };
                let mut request =
                    format!("POST {path} HTTP/1.1\r\nconnection: close\r\n{upgrade}{name}: ").into_bytes();
                request.extend_from_slice(value);
                request.extend_from_slice(b"\r\n\r\n");
                requests.push(request);
            }
        }
    }
    let mut by_status = std::collections::BTreeMap::new();
    for request in &requests {
        let status = status(&exchange(&address, request).await);
        assert_ne!(status, 500, "{:?}", String::from_utf8_lossy(&request[..request.len().min(200)]));
        *by_status.entry(status).or_insert(0) += 1;
    }
    tell(&format!("{} requests, answers by status (0: none): {by_status:?}", requests.len()));
    let ended = sim.call(&["ping"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = sim.stop().await;
    assert_eq!((ended.code, ended.stderr.contains("panicked")), (Some(0), false), "{}", ended.stderr);
}
