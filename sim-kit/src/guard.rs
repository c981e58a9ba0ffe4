//! Who is let in: origins of web pages (API-06), and who may use `/__sim`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, Method, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use sideband_protocol::api::secrets_match;
use url::{Host, Url};

use crate::{admin::error_response, server::PeerAddr};

/// The text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin; write it as a browser sends it, such as https://app.example.com")]
pub struct OriginError(String);

/// Which web pages may use the API and the relay (API-06): those on loopback, on any port, and those configured. Who
/// sends no `Origin` is no web page and is let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginPolicy {
    configured: Vec<String>,
}

impl OriginPolicy {
    /// Also lets in this origin: scheme, host and port, compared whole.
    ///
    /// # Errors
    /// Not an origin, or `null`, which every sandboxed page has.
    pub fn allow(mut self, origin: &str) -> Result<Self, OriginError> {
        let wrong = || OriginError(origin.to_owned());
        let url = Url::parse(origin).map_err(|_| wrong())?;
        if !is_bare(&url) || url.host().is_none() {
            return Err(wrong());
        }
        self.configured.push(origin.trim_end_matches('/').to_ascii_lowercase());
        Ok(self)
    }

    /// Whether a request with this `Origin` is let in.
    pub fn allows(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        is_loopback_origin(origin) || self.configured.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }

    /// Whether a request with these headers is let in; several origins, or one that is no text, are not.
    pub fn allows_request(&self, headers: &HeaderMap) -> bool {
        match single(headers, ORIGIN) {
            Ok(origin) => self.allows(origin),
            Err(Several) => false,
        }
    }
}

/// Nothing but scheme, host and port.
fn is_bare(url: &Url) -> bool {
    matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

fn is_loopback_origin(origin: &str) -> bool {
    Url::parse(origin).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && is_bare(&url) && url.host().is_some_and(is_loopback_host)
    })
}

fn is_loopback_host(host: Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => is_loopback(ip.into()),
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The header is there more than once, or is no text.
struct Several;

fn single(headers: &HeaderMap, name: axum::http::HeaderName) -> Result<Option<&str>, Several> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Several),
        (Some(_), Some(_)) => Err(Several),
    }
}

/// The secret that `/__sim` asks for when it is open to others than loopback. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// A token; `None` if it is empty, which nobody can mean.
    pub fn new(token: impl Into<String>) -> Option<Self> {
        let token = token.into();
        (!token.is_empty()).then_some(Self(token))
    }

    /// The token's text, for the `Authorization` header.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Puts `/__sim` behind its guard. Without a token only loopback peers are let in, and `Host` and `Origin` must name
/// loopback, so that a web page cannot come in through a browser on this machine (DNS rebinding). With a token it must
/// stand in `Authorization: Bearer`, and nothing else is looked at; only `GET /ready`, which tells no secret, is answered
/// to everybody then, so that it serves as a health check. Needs [`PeerAddr`], which [`serve`](crate::server::serve)
/// sets; a request without it is refused.
/// Paths and methods that are not there are answered as errors of `/__sim`, too.
pub fn guard_admin(admin: Router, token: Option<AdminToken>) -> Router {
    let no_path = || async { error_response(StatusCode::NOT_FOUND, "not_found", "there is no such path") };
    let no_method = || async {
        error_response(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes another method")
    };
    admin
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(Arc::new(token), check))
}

async fn check(State(token): State<Arc<Option<AdminToken>>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddr>().map(|peer| peer.0);
    let verdict = match token.as_ref() {
        Some(_) if asks_ready(&request) => Ok(()),
        Some(token) => check_token(token, request.headers()),
        None => check_loopback(peer, request.uri().host(), request.headers()),
    };
    match verdict {
        Ok(()) => in_json(next.run(request).await),
        Err(refused) => refused.into_response(),
    }
}

/// The framework refuses bodies that are too long and paths that are no text with plain words; here they are errors of
/// `/__sim`.
fn in_json(answer: Response) -> Response {
    let is_json =
        answer.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    match answer.status() {
        status if !status.is_client_error() || is_json => answer,
        status @ StatusCode::PAYLOAD_TOO_LARGE => error_response(status, "too_large", "the body is too long"),
        status => error_response(status, "bad_request", "the request cannot be read"),
    }
}

/// Whether this is the health check; paths are those below `/__sim` here.
fn asks_ready(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) && request.uri().path() == "/ready"
}

/// Why `/__sim` refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Token,
    Peer,
    Host,
    Origin,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Token => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "send the admin token as `Authorization: Bearer`")
            }
            Self::Peer => {
                (StatusCode::FORBIDDEN, "forbidden", "only this machine may ask unless an admin token is set")
            }
            Self::Host => (StatusCode::FORBIDDEN, "forbidden", "the Host header must name this machine, as localhost"),
            Self::Origin => (StatusCode::FORBIDDEN, "forbidden", "this web page may not ask"),
        };
        error_response(status, code, message)
    }
}

fn check_token(token: &AdminToken, headers: &HeaderMap) -> Result<(), Refused> {
    match bearer_token(headers) {
        Some(given) if secrets_match(given.as_bytes(), token.0.as_bytes()) => Ok(()),
        _ => Err(Refused::Token),
    }
}

/// The credential in a value of `Authorization`, `Bearer …` with the scheme in any case.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, credential) = authorization.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

/// The credential in the `Authorization` of a request; none if that header is there more than once.
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    bearer(single(headers, AUTHORIZATION).ok()??)
}

fn check_loopback(peer: Option<SocketAddr>, authority: Option<&str>, headers: &HeaderMap) -> Result<(), Refused> {
    if !peer.is_some_and(|peer| is_loopback(peer.ip())) {
        return Err(Refused::Peer);
    }
    // A request line may name a host as well; then it must be this machine too.
    let host = single(headers, HOST).ok().flatten();
    if !host.is_some_and(names_loopback) || !authority.is_none_or(names_loopback) {
        return Err(Refused::Host);
    }
    match single(headers, ORIGIN) {
        Ok(origin) if origin.is_none_or(is_loopback_origin) => Ok(()),
        _ => Err(Refused::Origin),
    }
}

/// Whether a `Host` (name or address, perhaps with a port) names loopback.
fn names_loopback(host: &str) -> bool {
    // Through an origin, so that host and port are read as a browser reads them.
    is_loopback_origin(&format!("http://{host}"))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn api_06_loopback_origins_and_none_are_let_in() {
        let policy = OriginPolicy::default();
        assert!(policy.allows(None));
        for origin in [
            "http://localhost",
            "http://localhost:3000",
            "https://localhost:8443",
            "http://127.0.0.1:5173",
            "http://127.3.2.1",
            "http://[::1]:80",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(policy.allows(Some(origin)), "{origin}");
        }
    }

    #[test]
    fn api_06_other_origins_are_not() {
        let policy = OriginPolicy::default();
        for origin in [
            "",
            "null",
            "localhost",
            "http://evil.test",
            "http://localhost.evil.test",
            "http://evil.test#localhost",
            "http://localhost@evil.test",
            "http://user@localhost",
            "http://localhost/path",
            "http://localhost?x",
            "http://128.0.0.1",
            "http://0.0.0.0",
            "http://192.168.0.1",
            "http://[::2]",
            "file://localhost",
            "chrome-extension://localhost",
            "http://localhost.",
        ] {
            assert!(!policy.allows(Some(origin)), "{origin}");
        }
    }

    #[test]
    fn api_06_a_configured_origin_is_compared_whole() {
        let policy = OriginPolicy::default().allow("https://App.example.com:8443").unwrap();
        assert!(policy.allows(Some("https://app.example.com:8443")));
        assert!(policy.allows(Some("http://localhost:1")), "loopback stays allowed");
        for origin in
            ["https://app.example.com", "http://app.example.com:8443", "https://app.example.com:8443.evil.test"]
        {
            assert!(!policy.allows(Some(origin)), "{origin}");
        }
        let app = OriginPolicy::default().allow("tauri://localhost/").unwrap();
        assert!(app.allows(Some("tauri://localhost")));
    }

    #[test]
    fn api_06_what_is_no_origin_cannot_be_configured() {
        for bad in
            ["", "null", "*", "app.example.com", "https://a.test/path", "https://a.test/?q", "https://u:p@a.test"]
        {
            assert!(OriginPolicy::default().allow(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn api_06_several_origins_are_refused() {
        let mut headers = HeaderMap::new();
        assert!(OriginPolicy::default().allows_request(&headers));
        headers.append(ORIGIN, "http://localhost".parse().unwrap());
        assert!(OriginPolicy::default().allows_request(&headers));
        headers.append(ORIGIN, "http://localhost".parse().unwrap());
        assert!(!OriginPolicy::default().allows_request(&headers));
    }

    fn request(peer: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = axum::http::Request::builder().uri("/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        if !peer.is_empty() {
            request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
        }
        request
    }

    async fn status(token: Option<&str>, request: Request) -> u16 {
        let admin = Router::new()
            .route("/status", get(|| async { "ok" }))
            .route("/ready", get(|| async { "ok" }).post(|| async { "ok" }));
        let app = guard_admin(admin, token.and_then(AdminToken::new));
        let answer = app.oneshot(request).await.unwrap();
        if answer.status() != 200 {
            assert_eq!(answer.headers()["content-type"], "application/json");
        }
        answer.status().as_u16()
    }

    #[tokio::test]
    async fn admin_lets_in_loopback_peers_that_name_loopback() {
        for (peer, host) in [
            ("127.0.0.1:9", "localhost:7600"),
            ("127.0.0.1:9", "127.0.0.1"),
            ("[::1]:9", "[::1]:7600"),
            ("[::ffff:127.0.0.1]:9", "LOCALHOST"),
        ] {
            assert_eq!(status(None, request(peer, &[("host", host)])).await, 200, "{peer} {host}");
        }
        let own_page = [("host", "localhost"), ("origin", "http://localhost:3000")];
        assert_eq!(status(None, request("127.0.0.1:9", &own_page)).await, 200);
    }

    #[tokio::test]
    async fn admin_refuses_other_peers_hosts_and_origins() {
        let refused: &[(&str, &[(&str, &str)])] = &[
            ("", &[("host", "localhost")]),
            ("192.168.0.2:9", &[("host", "localhost")]),
            ("127.0.0.1:9", &[]),
            ("127.0.0.1:9", &[("host", "evil.test:7600")]),
            ("127.0.0.1:9", &[("host", "localhost.evil.test")]),
            ("127.0.0.1:9", &[("host", "localhost"), ("host", "evil.test")]),
            ("127.0.0.1:9", &[("host", "localhost"), ("origin", "http://evil.test")]),
            ("127.0.0.1:9", &[("host", "localhost"), ("origin", "null")]),
        ];
        for (peer, headers) in refused {
            assert_eq!(status(None, request(peer, headers)).await, 403, "{peer} {headers:?}");
        }
        let mut absolute = request("127.0.0.1:9", &[("host", "localhost")]);
        *absolute.uri_mut() = "http://evil.test/status".parse().unwrap();
        assert_eq!(status(None, absolute).await, 403);
    }

    #[tokio::test]
    async fn admin_with_a_token_asks_for_it_from_everybody() {
        let token = Some("s3cret");
        for authorization in ["Bearer s3cret", "bearer  s3cret "] {
            let remote = request("192.168.0.2:9", &[("host", "sim.test"), ("authorization", authorization)]);
            assert_eq!(status(token, remote).await, 200, "{authorization}");
        }
        for authorization in ["", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret"] {
            let local = request("127.0.0.1:9", &[("host", "localhost"), ("authorization", authorization)]);
            assert_eq!(status(token, local).await, 401, "{authorization}");
        }
        assert_eq!(status(token, request("127.0.0.1:9", &[("host", "localhost")])).await, 401);
    }

    #[tokio::test]
    async fn admin_with_a_token_tells_everybody_that_it_is_ready() {
        let ask = |method: Method, uri: &str| {
            let mut request = request("192.168.0.2:9", &[("host", "sim.test")]);
            *request.method_mut() = method;
            *request.uri_mut() = uri.parse().unwrap();
            request
        };
        let token = Some("s3cret");
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(status(token, ask(method, "/ready")).await, 200);
        }
        for (method, uri) in [(Method::POST, "/ready"), (Method::GET, "/ready/"), (Method::GET, "/status")] {
            assert_eq!(status(token, ask(method.clone(), uri)).await, 401, "{method} {uri}");
        }
        assert_eq!(status(None, ask(Method::GET, "/ready")).await, 403, "without a token it is for loopback");
        // As the servers have it, below a path.
        let admin = guard_admin(Router::new().route("/ready", get(|| async { "ok" })), AdminToken::new("s3cret"));
        let app = Router::new().nest("/__sim", admin);
        let answer = app.oneshot(ask(Method::GET, "/__sim/ready")).await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    #[test]
    fn an_admin_token_is_not_shown() {
        assert_eq!(format!("{:?}", AdminToken::new("s3cret").unwrap()), "AdminToken(…)");
        assert_eq!(AdminToken::new(""), None);
    }
}
