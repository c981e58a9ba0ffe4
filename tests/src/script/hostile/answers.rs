//! Attacks before the socket: answers to the upgrade and to API calls.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ClientFate, DaemonFate};

use ClientFate::{Closed, Retried};
use DaemonFate::{Ends, Reconnects};

/// What is answered to an upgrade.
pub struct Upgrade {
    /// What it is, for people.
    pub name: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How long each byte takes; `None` for all at once, after which the stream ends.
    pub each_byte: Option<Duration>,
    /// Whether the stream ends behind the bytes.
    pub ends: bool,
    /// What must become of a client.
    pub client: ClientFate,
    /// What must become of a daemon: `Reconnects` or `Ends`.
    pub daemon: DaemonFate,
}

/// Answers to an upgrade that are none. Dials that hang end after 15 s (CLI-07).
pub fn upgrades() -> Vec<Upgrade> {
    let answer = |name, bytes: &[u8], client, daemon| Upgrade {
        name,
        bytes: bytes.to_vec(),
        each_byte: None,
        ends: true,
        client,
        daemon,
    };
    let lost = |name, bytes: &[u8]| answer(name, bytes, Retried("relay_unreachable"), Reconnects("relay_unreachable"));
    let hangs = |name, bytes: &[u8]| Upgrade {
        ends: false,
        ..answer(name, bytes, Retried("dial_timeout"), Reconnects("dial_timeout"))
    };
    let mut huge = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for n in 0..20_000 {
        huge.extend_from_slice(format!("x-junk-{n}: {}\r\n", "y".repeat(40)).as_bytes());
    }
    let mut long_line = b"HTTP/1.1 101 Switching Protocols\r\nx-junk: ".to_vec();
    long_line.resize(512 << 10, b'z');
    vec![
        hangs("nothing at all", b""),
        hangs("half a status line", b"HTTP/1.1 10"),
        hangs("headers that never end", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"),
        Upgrade {
            each_byte: Some(Duration::from_millis(900)),
            ..hangs("a good beginning, byte by byte", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n")
        },
        lost("the end at once", b""),
        lost("the end in the status line", b"HTTP/1.1 101 Swi"),
        lost("noise", &[0xff, 0x00, 0x16, 0x03, 0x01, 0x0d, 0x0a, 0x0d, 0x0a]),
        lost("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        lost("more headers than anybody sends", &huge),
        lost("one endless header", &long_line),
        lost("101 without the WebSocket's headers", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        lost(
            "101 with a wrong accept key",
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        ),
        // Not among what ends things: something in the way answered, as with an unreadable 200 of the API.
        answer(
            "200 with a page",
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>hi</html>",
            Retried("upgrade_200"),
            Reconnects("upgrade_200"),
        ),
        answer("204", b"HTTP/1.1 204 No Content\r\n\r\n", Retried("upgrade_204"), Reconnects("upgrade_204")),
        answer(
            "302 to another relay",
            b"HTTP/1.1 302 Found\r\nlocation: ws://evil.test/\r\ncontent-length: 0\r\n\r\n",
            Closed("upgrade_302"),
            Ends("upgrade_302"),
        ),
        answer(
            "307 to another relay",
            b"HTTP/1.1 307 Temporary Redirect\r\nlocation: ws://evil.test/\r\ncontent-length: 0\r\n\r\n",
            Closed("upgrade_307"),
            Ends("upgrade_307"),
        ),
        answer(
            "503 with a body that is not JSON",
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\n\xff\xfe{[\"",
            Retried("upgrade_503"),
            Reconnects("upgrade_503"),
        ),
        // A refusal's status says what to do, whatever becomes of its body.
        Upgrade {
            client: Retried("upgrade_503"),
            daemon: Reconnects("upgrade_503"),
            ..hangs("503 whose body never comes", b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 99\r\n\r\n{")
        },
        answer(
            "503 with more of a body than anybody reads",
            &[b"HTTP/1.1 503 Service Unavailable\r\n\r\n", &vec![b'x'; 2 << 20][..]].concat(),
            Retried("upgrade_503"),
            Reconnects("upgrade_503"),
        ),
        answer(
            "503 whose body breaks off",
            b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\nzz",
            Retried("upgrade_503"),
            Reconnects("upgrade_503"),
        ),
        answer(
            "503 after a 100",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            Retried("upgrade_503"),
            Reconnects("upgrade_503"),
        ),
        answer(
            "503 with a Retry-After that is none",
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n",
            Retried("upgrade_503"),
            Reconnects("upgrade_503"),
        ),
    ]
}

/// What is answered to an API call.
pub struct ApiAnswer {
    /// What it is, for people.
    pub name: String,
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl ApiAnswer {
    fn new(name: impl Into<String>, status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), status, content_type, body: body.into() }
    }
}

/// A 200 that is no answer, whatever was asked: unreadable, which is retried (CLI-05, DMN-01).
fn unreadable(good: &Value) -> Vec<ApiAnswer> {
    const JSON: &str = "application/json";
    let good = json!({ "result": { "data": good } }).to_string();
    let json = |name: &str, body: Value| ApiAnswer::new(name, 200, JSON, body.to_string());
    let mut deep = "[".repeat(100_000);
    deep.push_str(&"]".repeat(100_000));
    vec![
        ApiAnswer::new("a page", 200, "text/html", "<!doctype html><title>Sign in</title>"),
        ApiAnswer::new("nothing", 200, JSON, ""),
        ApiAnswer::new("half of the answer", 200, JSON, &good.as_bytes()[..good.len() / 2]),
        ApiAnswer::new("the answer but its last byte", 200, JSON, &good.as_bytes()[..good.len() - 1]),
        ApiAnswer::new("the answer twice", 200, JSON, format!("{good}{good}")),
        ApiAnswer::new("bytes that are not UTF-8", 200, JSON, vec![0xff, 0xfe, 0x00]),
        ApiAnswer::new("brackets 100,000 deep", 200, JSON, deep),
        ApiAnswer::new("300 KiB of spaces", 200, JSON, vec![b' '; 300 << 10]),
        ApiAnswer::new("2 MiB of anything", 200, JSON, vec![b'x'; 2 << 20]),
        json("null", Value::Null),
        json("a number", json!(7)),
        json("a list", json!([{ "result": { "data": null } }])),
        json("null data", json!({ "result": { "data": null } })),
        json("no data", json!({ "result": {} })),
        json("empty data", json!({ "result": { "data": {} } })),
        json(
            "an error body on 200",
            json!({ "error": { "message": "no", "code": -32_001, "data": { "code": "UNAUTHORIZED", "httpStatus": 401 } } }),
        ),
    ]
}

/// Answers to `relay.createSession` that are unreadable: a client tries again. `good` is what the procedure would return.
pub fn grants(good: &Value) -> Vec<ApiAnswer> {
    let with = |name: &str, member: &str, value: Value| {
        let mut data = good.clone();
        data[member] = value;
        ApiAnswer::new(name, 200, "application/json", json!({ "result": { "data": data } }).to_string())
    };
    let mut all = unreadable(good);
    all.extend([
        with("a number for a token", "token", json!(7)),
        with("null for a token", "token", Value::Null),
        with("an empty token", "token", json!("")),
        with("a token that is no JWT", "token", json!("abc")),
        with("a token of dots", "token", json!("..")),
        with("a token whose claims are no JSON", "token", json!("e30.e30x.AAAA")),
        with("a token without claims", "token", json!("e30.e30.AAAA")),
        with("a token with line breaks", "token", json!("a\r\nx-evil: 1")),
        with("a list for a relay URL", "relayUrl", json!(["ws://relay.test"])),
        with("null for a relay URL", "relayUrl", Value::Null),
    ]);
    all
}

/// Answers to `daemon.renewToken` that are unreadable: a daemon tries again.
pub fn renewals(good: &Value) -> Vec<ApiAnswer> {
    let with = |name: &str, value: Value| {
        let body = json!({ "result": { "data": { "presenceToken": value } } }).to_string();
        ApiAnswer::new(name, 200, "application/json", body)
    };
    let mut all = unreadable(good);
    all.extend([
        with("a number for a token", json!(7)),
        with("null for a token", Value::Null),
        with("an empty token", json!("")),
        with("a token that is no JWT", json!("abc")),
        with("a token whose claims are no JSON", json!("e30.e30x.AAAA")),
        with("a token without claims", json!("e30.e30.AAAA")),
    ]);
    all
}

/// Relay URLs that cannot be dialled.
pub const RELAY_URLS: [&str; 9] = [
    "",
    "relay.test",
    "http://relay.test/",
    "https://relay.test/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "ws:",
    "ws://",
    "wss://relay test/",
];
