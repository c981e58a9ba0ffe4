//! The WebSocket to the relay.

use http::{HeaderValue, Request, header};
use sideband_env::{BoxStream, Env, Target};
use sideband_protocol::{Entropy, api::retry_after, entropy, failure::Cause, wire::MAX_MESSAGE};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error as WsError, protocol::WebSocketConfig},
};
use url::Url;

pub(crate) type Socket = WebSocketStream<BoxStream>;

/// Bytes of the read buffer: enough for many small frames at a time, small for an idle connection.
const READ_BUFFER: usize = 16 << 10;
/// Bytes that are gathered before they are written without a flush.
const WRITE_BUFFER: usize = 64 << 10;

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

/// Dials the relay with a token, up to the open WebSocket.
pub(crate) async fn dial(env: &Env, relay: &str, token: &str, entropy: &mut dyn Entropy) -> Result<Socket, Cause> {
    let url = relay_url(relay).map_err(Cause::RelayUrl)?;
    let target = Target::from_url(&url).map_err(|e| Cause::RelayUrl(e.to_string()))?;
    let request = request(&url, &target, token, entropy)?;
    let stream = env.network.connect(&target).await.map_err(|e| Cause::RelayUnreachable(e.to_string()))?;
    match client_async_with_config(request, stream, Some(config())).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(answer)) => Err(refused(&answer, env.clock.unix_seconds())),
        Err(error) => Err(Cause::RelayUnreachable(error.to_string())),
    }
}

fn request(url: &Url, target: &Target, token: &str, entropy: &mut dyn Entropy) -> Result<Request<()>, Cause> {
    let unusable = |e: http::Error| Cause::RelayUrl(e.to_string());
    let key = data_encoding::BASE64.encode(&entropy::bytes::<16>(entropy));
    let default = if target.tls { 443 } else { 80 };
    let host = url.host_str().unwrap_or_default();
    let host = if target.port == default { host.to_owned() } else { format!("{host}:{}", target.port) };
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Cause::ApiUnreadable("the token is not plain text".to_owned()))?;
    bearer.set_sensitive(true);
    Request::builder()
        .uri(url.as_str())
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .header(header::AUTHORIZATION, bearer)
        .body(())
        .map_err(unusable)
}

/// What a refused upgrade says (TOK-13); whatever is in the way may answer with anything.
fn refused(answer: &http::Response<Option<Vec<u8>>>, now: u64) -> Cause {
    let body: serde_json::Value =
        answer.body().as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    let text = |name: &str| body["error"][name].as_str().filter(|text| !text.is_empty());
    let message: String = text("message").or(text("code")).unwrap_or("no reason given").chars().take(500).collect();
    let wait = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    Cause::Upgrade {
        status: answer.status().as_u16(),
        message,
        retry_after: wait.and_then(|value| retry_after(value, now)),
    }
}
