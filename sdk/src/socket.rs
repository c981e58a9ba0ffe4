//! The WebSocket to the relay.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Version, header, response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use sideband_env::{BoxStream, Env, Target};
use sideband_protocol::{Entropy, api::retry_after, entropy, failure::Cause, wire::MAX_MESSAGE};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use url::Url;

use crate::{
    Error,
    api::{check_plain, without},
    error::{argument, whole},
};

pub(crate) type Socket = WebSocketStream<BoxStream>;

/// Bytes of the read buffer: enough for many small frames at a time, small for an idle connection.
const READ_BUFFER: usize = 16 << 10;
/// Bytes that are gathered before they are written without a flush.
const WRITE_BUFFER: usize = 64 << 10;
/// Most bytes of an answer's status line and headers.
const MAX_HEAD: usize = 64 << 10;
/// Most bytes of a refusal that are read.
const MAX_REFUSAL: usize = 16 << 10;
/// How long a refusal's body is waited for: its status alone says what to do.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + (2 << 20))
        // WIRE-04
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Checks a relay URL: `ws` or `wss`, with a host.
pub(crate) fn relay_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    match url.scheme() {
        "ws" | "wss" => {}
        other => return Err(format!("its scheme is `{other}`; use ws or wss")),
    }
    Target::from_url(&url).map_err(|e| e.to_string())?;
    Ok(url)
}

/// Checks a relay URL that the user gives.
pub(crate) fn check_relay_url(text: &str) -> Result<(), Error> {
    let url = relay_url(text).and_then(|url| check_plain(&url));
    url.map_err(|reason| argument("the relay URL", reason))
}

/// Dials the relay with a token, up to the open WebSocket.
pub(crate) async fn dial(env: &Env, relay: &str, token: &str, entropy: &mut dyn Entropy) -> Result<Socket, Cause> {
    let url = relay_url(relay).map_err(Cause::RelayUrl)?;
    let target = Target::from_url(&url).map_err(|e| Cause::RelayUrl(e.to_string()))?;
    let key = data_encoding::BASE64.encode(&entropy::bytes::<16>(entropy));
    let request = request(&url, &target, token, &key)?;
    let stream = env.network.connect(&target).await.map_err(|e| Cause::RelayUnreachable(e.to_string()))?;
    let (stream, read) = match upgrade(stream, request).await? {
        Answer::Upgraded(head, stream) => {
            check(&head, &key).map_err(unreachable)?;
            let whole = stream.downcast::<TokioIo<BoxStream>>();
            let parts = whole.map_err(|_| unreachable("the connection came back as another one"))?;
            (parts.io.into_inner(), parts.read_buf)
        }
        Answer::Refused(head, body) => return Err(refused(&head, &body, token, env.clock.unix_seconds())),
    };
    Ok(WebSocketStream::from_partially_read(stream, read.into(), Role::Client, Some(config())).await)
}

fn unreachable(reason: &str) -> Cause {
    Cause::RelayUnreachable(reason.to_owned())
}

/// What a relay answers to an upgrade.
enum Answer {
    Upgraded(response::Parts, Upgraded),
    Refused(response::Parts, Vec<u8>),
}

/// Asks for the upgrade. tungstenite's own client would log the request, and the token with it.
async fn upgrade(stream: BoxStream, request: Request<Empty<Bytes>>) -> Result<Answer, Cause> {
    let broken = |error: hyper::Error| Cause::RelayUnreachable(whole(&error));
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD).title_case_headers(true);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let mut answer = sender.send_request(request).await.map_err(broken)?;
        let upgraded = hyper::upgrade::on(&mut answer);
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Answer::Upgraded(head, upgraded.await.map_err(broken)?));
        }
        let body = refusal(body).await;
        Ok(Answer::Refused(head, body))
    };
    // Driven here: whoever drops the dial drops the connection.
    let connection = connection.with_upgrades();
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}

/// As much of a refusal's body as comes in time.
async fn refusal(mut body: Incoming) -> Vec<u8> {
    let mut text = Vec::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let data = frame.into_data().unwrap_or_default();
            text.extend_from_slice(&data[..data.len().min(MAX_REFUSAL - text.len())]);
            if text.len() == MAX_REFUSAL {
                return;
            }
        }
    };
    // Too late, and what has come so far is all there is.
    let _ = tokio::time::timeout(REFUSAL_TIME, read).await;
    text
}

fn request(url: &Url, target: &Target, token: &str, key: &str) -> Result<Request<Empty<Bytes>>, Cause> {
    let unusable = |e: http::Error| Cause::RelayUrl(e.to_string());
    let default = if target.tls { 443 } else { 80 };
    let host = url.host_str().unwrap_or_default();
    let host = if target.port == default { host.to_owned() } else { format!("{host}:{}", target.port) };
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Cause::ApiUnreadable("the token is not plain text".to_owned()))?;
    bearer.set_sensitive(true);
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Request::builder()
        .uri(format!("{}{query}", url.path()))
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .header(header::AUTHORIZATION, bearer)
        .body(Empty::new())
        .map_err(unusable)
}

/// What RFC 6455 (section 4.1) requires of a 101.
fn check(answer: &response::Parts, key: &str) -> Result<(), &'static str> {
    let is = |name, expected: &str| {
        answer.headers.get(name).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(expected.as_bytes()))
    };
    let connection = answer.headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let upgrades =
        connection.flat_map(|list| list.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let accept = derive_accept_key(key.as_bytes());
    if answer.version != Version::HTTP_11 || !upgrades || !is(header::UPGRADE, "websocket") {
        return Err("the answer does not upgrade to a WebSocket");
    }
    if answer.headers.get(header::SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value.as_bytes() != accept.as_bytes()) {
        return Err("the answer is to another request: its accept key is wrong");
    }
    if [header::SEC_WEBSOCKET_EXTENSIONS, header::SEC_WEBSOCKET_PROTOCOL]
        .iter()
        .any(|name| answer.headers.contains_key(name))
    {
        return Err("the answer chooses an extension or protocol that was not offered");
    }
    Ok(())
}

/// What a refused upgrade says (TOK-13); whatever is in the way may answer with anything, and with what it was sent.
fn refused(answer: &response::Parts, body: &[u8], token: &str, now: u64) -> Cause {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| body["error"][name].as_str().filter(|text| !text.is_empty());
    let message = text("message").or(text("code")).unwrap_or("no reason given");
    let wait = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    Cause::Upgrade {
        status: answer.status.as_u16(),
        message: without(message, token).chars().take(500).collect(),
        retry_after: wait.and_then(|value| retry_after(value, now)),
    }
}
