//! From an HTTP request to a WebSocket: who is let in, and how the others are refused.
//!
//! | order | what | answer |
//! |---|---|---|
//! | 1 | no request for a WebSocket | 426 |
//! | 2 | the relay shuts down (REL-24) | 503 `unavailable` |
//! | 3 | the origin (API-09) | 403 `forbidden` |
//! | 4 | a malformed request for a WebSocket | 400, another version than 13: 426 |
//! | | faults on demand ◇: only what would be judged by its token next meets them | as the rule says |
//! | 5 | the token (TOK-01 to TOK-11) | 401 `unauthorized`, 403 `forbidden` |
//! | 6 | no key set (KEY-03) | 503 `unavailable` |
//! | 7 | the session id was used (REL-10), a daemon's second socket by configuration (REL-12) | 409 `session_conflict` |
//! | | the session id cannot be kept beyond the process | 503 `unavailable` |
//! | 8 | the daemon has as many sessions as it may have (REL-23) | 429 `rate_limited` |
//!
//! A grant takes effect before the 101 is sent: who has seen it is connected.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use sideband_protocol::{
    SessionId,
    relay::{self, RelayQuirk, Watched},
    token::{Grant, GrantRole, Refusal, SKEW},
};
use sideband_sim_kit::{
    admin::error_response,
    event::{EventKind, Role, retry_after_ms, token_name},
    fault::{self, FAULT_HEADER},
    guard::bearer,
    server::{CutConnection, Stopping},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{faults, keys::Denied, outbox::Outbox, relay::Relay};

/// Why a request gets no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NotAnUpgrade,
    Version,
    Malformed(&'static str),
    ShutsDown,
    Origin,
    Token(Refusal),
    NoKeys,
    SessionUsed,
    NotKept,
    DaemonConnected,
    TooManySessions,
}

impl Refused {
    fn status(self) -> StatusCode {
        match self {
            Self::NotAnUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::ShutsDown | Self::NoKeys | Self::NotKept => StatusCode::SERVICE_UNAVAILABLE,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Token(refusal) => StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED),
            Self::SessionUsed | Self::DaemonConnected => StatusCode::CONFLICT,
            Self::TooManySessions => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The stable code (TOK-13).
    fn code(self) -> &'static str {
        match self {
            Self::NotAnUpgrade | Self::Version => "upgrade_required",
            Self::Malformed(_) => "bad_request",
            Self::ShutsDown | Self::NoKeys | Self::NotKept => "unavailable",
            Self::Origin => "forbidden",
            Self::Token(refusal) => refusal.code(),
            Self::SessionUsed | Self::DaemonConnected => "session_conflict",
            Self::TooManySessions => "rate_limited",
        }
    }

    /// Fixed words: nothing of the token or its claims (TOK-13).
    fn message(self) -> Cow<'static, str> {
        match self {
            Self::NotAnUpgrade => "this is a relay; ask for a WebSocket".into(),
            Self::Version => "only WebSocket version 13 is spoken here".into(),
            Self::Malformed(what) => what.into(),
            Self::ShutsDown => "the relay shuts down".into(),
            Self::Origin => "this web page may not connect".into(),
            Self::Token(refusal) => refusal.to_string().into(),
            Self::NoKeys => "the keys that verify tokens cannot be had now".into(),
            Self::SessionUsed => "the session id was used already".into(),
            Self::NotKept => "no session can be begun now".into(),
            Self::DaemonConnected => "the daemon is connected already".into(),
            Self::TooManySessions => "the daemon has as many sessions as it may have".into(),
        }
    }

    /// Which check refused, for events.
    fn reason(self) -> &'static str {
        match self {
            Self::NotAnUpgrade => "upgrade",
            Self::Version => "version",
            Self::Malformed(_) => "handshake",
            Self::ShutsDown => "shutdown",
            Self::Origin => "origin",
            Self::Token(refusal) => refusal.reason(),
            Self::NoKeys => "keys",
            Self::SessionUsed => "session",
            Self::NotKept => "store",
            Self::DaemonConnected => "daemon",
            Self::TooManySessions => "sessions",
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = error_response(self.status(), self.code(), self.message());
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// Why a request gets no WebSocket, the fault plan included.
#[derive(Debug)]
pub(crate) enum NoUpgrade {
    Refused(Refused),
    /// This rule refuses it so.
    ByFault(fault::Refusal, String),
    /// The connection ends without an answer.
    Cut,
}

impl From<Refused> for NoUpgrade {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// A refusal as it is answered and told.
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) code: String,
    /// Which check refused.
    pub(crate) reason: &'static str,
    /// What the relay counts it as.
    pub(crate) counted: &'static str,
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let (code, reason) = (refused.code(), refused.reason());
        Self { response: refused.into_response(), code: code.to_owned(), reason, counted: code }
    }
}

/// Answers any request on any path.
pub(crate) async fn handle(State(relay): State<Relay>, request: Request) -> Response {
    let mut about = About::default();
    let quirks = relay.config().danger_quirks;
    let shown = quirks.has(RelayQuirk::RepeatsToken).then(|| token(&request).unwrap_or_default().into_owned());
    let mut response = match upgrade(&relay, request, &mut about).await {
        Ok(response) => response,
        Err(NoUpgrade::Refused(refused)) => {
            let mut answer = Answer::from(refused);
            match shown {
                Some(token) => answer.response = error_response(refused.status(), refused.code(), token),
                None if quirks.has(RelayQuirk::RefusesWithoutCode) => {
                    answer.response = refused.status().into_response()
                }
                None => {}
            }
            refuse(&relay, answer, &about)
        }
        Err(NoUpgrade::ByFault(refusal, label)) => refuse(&relay, faults::answer(&refusal, &label), &about),
        Err(NoUpgrade::Cut) => {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(CutConnection);
            response
        }
    };
    if let Some(label) = about.faults {
        response.headers_mut().insert(FAULT_HEADER, label);
    }
    response
}

/// Tells that a request is refused.
fn refuse(relay: &Relay, answer: Answer, about: &About) -> Response {
    let Answer { response, code, reason, counted } = answer;
    let status = response.status().as_u16();
    // TOK-14: of the request only the verdict is told.
    tracing::debug!(status, code, reason, "upgrade refused");
    relay.count_refused(counted);
    let retry_after_ms = retry_after_ms(response.headers(), relay.unix_seconds());
    let (role, token, reason) = (about.role, about.token.clone(), reason.to_owned());
    let kind = EventKind::UpgradeRefused { status, code, reason, role, token, retry_after_ms };
    relay.events().emit(about.daemon.as_deref(), about.session, kind);
    response
}

/// Whom a good token names, for events; and the faults that happened, for the answer.
#[derive(Debug, Default)]
struct About {
    faults: Option<HeaderValue>,
    daemon: Option<String>,
    session: Option<SessionId>,
    role: Option<Role>,
    token: Option<String>,
}

impl About {
    fn of(grant: &Grant) -> Self {
        let (role, session) = match &grant.role {
            GrantRole::Client { sub: _, session } => (Role::Client, Some(*session)),
            GrantRole::Daemon { resumable: _ } => (Role::Daemon, None),
        };
        let token = grant.jti.as_deref().map(token_name);
        Self { faults: None, daemon: Some(grant.daemon_id.clone()), session, role: Some(role), token }
    }
}

async fn upgrade(relay: &Relay, mut request: Request, about: &mut About) -> Result<Response, NoUpgrade> {
    if !is_upgrade(&request) {
        return Err(Refused::NotAnUpgrade.into());
    }
    if relay.shuts_down() {
        return Err(Refused::ShutsDown.into());
    }
    if !relay.config().origins.allows_request(request.headers()) {
        return Err(Refused::Origin.into());
    }
    let accept = accept_key(&request)?;
    let on_upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or(Refused::Malformed("this connection cannot become a WebSocket"))?;

    let stopping = request.extensions().get::<Stopping>().cloned();
    let by_header = request.headers().contains_key(header::AUTHORIZATION);
    let by_query = !relay.config().danger_quirks.has(RelayQuirk::HeedsHeaderOnly);
    let (path, token) = (request.uri().path(), token(&request).filter(|_| by_header || by_query));
    let spared = faults::faults_of_upgrade(relay, path, token.as_deref(), stopping.clone(), &mut about.faults).await?;
    // The keys may be long in coming, for all who ask.
    let held = stopping.as_ref().map(Stopping::hold);
    let grant = relay.keys().check(token.as_deref(), spared.clock_shift).await.map_err(|denied| match denied {
        Denied::Token(refusal) => Refused::Token(refusal),
        Denied::NoKeys => Refused::NoKeys,
    })?;
    drop(held);
    *about = About { faults: about.faults.take(), ..About::of(&grant) };
    grant_access(relay, grant, about.token.clone(), spared.clock_shift, on_upgrade)?;
    Ok(switching_protocols(accept))
}

/// Whether this is a request for a WebSocket, which is the relay's business wherever API and relay share a port.
pub fn is_upgrade<B>(request: &http::Request<B>) -> bool {
    request.method() == Method::GET && lists(request.headers(), &header::UPGRADE, "websocket")
}

/// Whether a header that holds a list names this token, whatever its case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Checks the rest of the WebSocket handshake (RFC 6455, 4.2.1).
fn accept_key(request: &Request) -> Result<HeaderValue, Refused> {
    let headers = request.headers();
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return Err(Refused::Malformed("the Connection header does not say `upgrade`"));
    }
    let version = headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .ok_or(Refused::Malformed("the Sec-WebSocket-Version header is missing"))?;
    if version != "13" {
        return Err(Refused::Version);
    }
    // 16 bytes in base64.
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == 24)
        .ok_or(Refused::Malformed("the Sec-WebSocket-Key header is missing or malformed"))?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| Refused::Malformed("the Sec-WebSocket-Key header is malformed"))
}

fn switching_protocols(accept: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The token of `Authorization: Bearer`, else of `?token=`.
fn token(request: &Request) -> Option<Cow<'_, str>> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    if let Some(token) = bearer {
        return Some(token.into());
    }
    let query = request.uri().query()?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, token)| token)
}

/// Lets a connection in, or finds that its place is taken; no waiting in here, so that nothing comes between.
fn grant_access(
    relay: &Relay,
    grant: Grant,
    token: Option<String>,
    clock_shift: i64,
    on_upgrade: OnUpgrade,
) -> Result<(), Refused> {
    let conn = relay.next_connection();
    let Grant { role, daemon_id, concurrent_sessions: limit, jti: _, expires_at } = grant;
    match role {
        GrantRole::Client { sub, session } => {
            // Until when the token could come again (TOK-05), by either clock.
            let now = relay.unix_seconds();
            let earlier = now.saturating_add_signed(clock_shift.min(0) / 1_000);
            let life = Duration::from_secs(expires_at.saturating_add(SKEW).saturating_sub(earlier));
            relay.claim(session, life)?;
            let outbox = Outbox::of(Watched::Client, Some(&sub), relay.live_limits().clone());
            let admitted = relay.admit(&daemon_id, conn, Some(session), outbox, on_upgrade, |hub, outbox| {
                hub.open_client(conn, session, limit, token, outbox).map_err(Refused::from)
            });
            if admitted.is_err() {
                relay.unclaim(session);
            }
            admitted
        }
        GrantRole::Daemon { resumable } => {
            if relay.config().danger_quirks.has(RelayQuirk::EndsWithToken) {
                let life = Duration::from_secs(expires_at.saturating_sub(relay.unix_seconds()));
                let (relay, daemon) = (relay.clone(), daemon_id.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(life).await;
                    relay.drop_daemon(&daemon)
                });
            }
            let outbox = Outbox::new(Watched::Daemon, relay.live_limits().clone());
            relay.admit(&daemon_id, conn, None, outbox, on_upgrade, |hub, outbox| {
                hub.open_daemon(conn, resumable, limit, token, outbox).map_err(Refused::from)
            })
        }
    }
}

impl From<relay::Refused> for Refused {
    fn from(refused: relay::Refused) -> Self {
        match refused {
            relay::Refused::SessionOpen => Self::SessionUsed,
            relay::Refused::DaemonConnected => Self::DaemonConnected,
            relay::Refused::TooManySessions => Self::TooManySessions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)], uri: &str) -> Request {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn tok_01_the_header_wins_over_the_query() {
        let both = request(&[("authorization", "bearer from-header")], "/any?x=1&token=from%2Dquery");
        assert_eq!(token(&both).as_deref(), Some("from-header"));
        let query = request(&[("authorization", "Basic eDp5")], "/any?x=1&token=from%2Dquery&token=second");
        assert_eq!(token(&query).as_deref(), Some("from-query"));
        assert_eq!(token(&request(&[], "/any?tokens=x")), None);
    }

    #[test]
    fn tok_13_every_refusal_has_a_code_and_words_without_digits_of_a_claim() {
        for refusal in Refusal::ALL {
            let refused = Refused::Token(*refusal);
            assert!(["unauthorized", "forbidden"].contains(&refused.code()));
            assert!(!refused.message().is_empty());
        }
    }

    #[test]
    fn a_list_in_a_header_is_read_whole() {
        let request = request(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")], "/");
        assert!(is_upgrade(&request));
        assert!(lists(request.headers(), &header::CONNECTION, "upgrade"));
        assert!(!lists(request.headers(), &header::CONNECTION, "up"));
    }
}
