//! Requests, checked in the order of API-09: origin, procedure, method, size, JSON, credential, input, then the procedure's
//! own checks. Every answer is JSON, errors too, and has its CORS headers (API-06).
//!
//! The rate comes after origin, procedure and method, and before all else that is judged ◇, and then the faults of the plan: a page
//! that may not ask learns nothing of either, and no preflight is disturbed. The body is read before both, to its limit, since it
//! tells whom a request is about. To ask for the key set is a matter of its own (`keys`).

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE,
            FORWARDED, HOST, ORIGIN, RETRY_AFTER, VARY, VIA,
        },
        request::Parts,
        uri::Authority,
    },
    response::Response,
};
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::Value;
use sideband_protocol::{
    api::{
        ApiQuirk, BodyError, CreateQuickConnect, CreateSession, ErrorBody, ErrorCode, Input, ListAccessible, MAX_BODY,
        PROCEDURE_PATH, Procedure, RESUME_HEADER, RedeemQuickConnect, RegisterDaemon, RenewToken, decode_body,
        success_body,
    },
    token::JWKS_PATH,
};
use sideband_sim_kit::{
    event::{EventKind, retry_after_ms},
    fault::FAULT_HEADER,
    guard::bearer_token,
    server::{CutConnection, HttpConnection, PeerAddr, Stopping},
};

use crate::{
    Api,
    api::{About, Failure},
    fault::{self, KeysRemain},
};

/// Most characters of a request's path that are repeated in answers and events.
const MAX_PATH: usize = 200;

pub(crate) fn router(api: Api) -> Router {
    Router::new().fallback(handle).with_state(api)
}

/// What a path asks for.
enum Route {
    Procedure(Procedure),
    Jwks,
    Nothing,
}

async fn handle(State(api): State<Api>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (route, name) = match parts.uri.path() {
        JWKS_PATH => (Route::Jwks, JWKS_PATH),
        path => match path.strip_prefix(PROCEDURE_PATH) {
            Some(name) => (Procedure::from_name(name).map_or(Route::Nothing, Route::Procedure), name),
            None => (Route::Nothing, path),
        },
    };
    let name: String = name.chars().take(MAX_PATH).collect();
    let mut about = About::default();
    let began = api.shared.events.now();
    let allowed = api.allows_origin(&parts.headers);
    let procedure = if let Route::Procedure(procedure) = &route { Some(*procedure) } else { None };
    let answer = if let Err(failure) = api.break_order(&parts, procedure) {
        Err(failure)
    } else if allowed {
        answer(&api, &parts, body, route, &mut about).await
    } else {
        Err(Failure::new(ErrorCode::Forbidden, "this web page may not ask"))
    };
    let mut response = answer.unwrap_or_else(|failure| failure_response(failure, &name));
    api.break_response(&mut response);
    if let Some(faults) = about.faults.take() {
        response.headers_mut().insert(FAULT_HEADER, faults);
    }
    add_common_headers(response.headers_mut(), parts.headers.get(ORIGIN).filter(|_| allowed));
    if response.extensions().get::<CutConnection>().is_none() {
        let kind = EventKind::Request {
            procedure: name,
            status: response.status().as_u16(),
            caller: bearer_token(&parts.headers).map(|credential| api.name_of(credential)),
            code: about.code,
            token: about.token,
            http: one_programs(&parts).map(|connection| api.shared.events.number_of(connection)),
            retry_after_ms: retry_after_ms(response.headers(), api.now()),
            took_ms: api.shared.events.now().saturating_sub(began),
        };
        api.shared.events.emit(about.daemon.as_deref(), about.session, kind);
    }
    response
}

/// The HTTP connection of a request if it is one program's: browsers share theirs among pages, which may be reloaded, and proxies
/// among all who ask through them.
fn one_programs(parts: &Parts) -> Option<&HttpConnection> {
    let shared = [ORIGIN, VIA, FORWARDED, HeaderName::from_static("x-forwarded-for")];
    let is_shared = shared.iter().any(|header| parts.headers.contains_key(header));
    parts.extensions.get().filter(|_| !is_shared)
}

/// Procedure, method, size and JSON; then the procedure.
async fn answer(api: &Api, parts: &Parts, body: Body, route: Route, about: &mut About) -> Result<Response, Failure> {
    let procedure = match route {
        Route::Procedure(procedure) => procedure,
        Route::Jwks => return jwks(api, parts, about).await,
        Route::Nothing => return Err(Failure::new(ErrorCode::NotFound, "no such procedure")),
    };
    match parts.method {
        Method::POST => {}
        Method::OPTIONS => return Ok(preflight()),
        _ => return Err(wrong_method("POST and OPTIONS")),
    }
    let peer = parts.extensions.get::<PeerAddr>().map(|peer| peer.0.ip());
    let credential = bearer_token(&parts.headers);
    let input = read_input(&parts.headers, body, api.has(ApiQuirk::TakesBareInputOnly)).await;
    let input = api.break_reading(input);
    // Not before the body was read: it says whom a request is about, and its connection is of use for the next one.
    if let Err(failure) = api.check_rate(credential, peer) {
        api.name_whom(procedure, credential, input.as_ref().ok(), about);
        return Err(failure);
    }
    api.break_credential(procedure, credential)?;
    let stopping = parts.extensions.get::<Stopping>().cloned();
    let mut remains = api.faults_of_request(procedure, credential, input.as_ref().ok(), stopping, about).await;
    if let Some(answer) = remains.answer.take() {
        api.faults_after(remains);
        return Ok(answer);
    }
    let outcome = match (input, remains.clock_shift) {
        (Err(failure), _) => Err(failure),
        (Ok(value), 0) => call(api, procedure, parts, &value, about).await,
        (Ok(value), millis) => call(&api.shifted(millis), procedure, parts, &value, about).await,
    };
    api.faults_after(remains);
    outcome
}

/// Size and JSON.
async fn read_input(headers: &HeaderMap, body: Body, bare: bool) -> Result<Value, Failure> {
    let body = read(headers, body).await?;
    let decode = if bare { serde_json::from_slice(&body).map_err(|_| BodyError) } else { decode_body(&body) };
    decode.map_err(|error| Failure::new(ErrorCode::ParseError, error.to_string()))
}

/// Credential and input, then the procedure.
async fn call(
    api: &Api,
    procedure: Procedure,
    parts: &Parts,
    value: &Value,
    about: &mut About,
) -> Result<Response, Failure> {
    let credential = bearer_token(&parts.headers);
    api.break_input(procedure, value).await?;
    let can_resume = parts.headers.get(RESUME_HEADER).is_some_and(|value| value == "1");
    match procedure {
        Procedure::CreateSession => {
            let user = api.user(credential)?;
            let input = CreateSession::from_value(value)?;
            success(&api.create_session(&user, &input, relay_url(api, parts)?, about)?)
        }
        Procedure::RenewToken => {
            let daemon = api.daemon(credential, about)?;
            let RenewToken = RenewToken::from_value(value)?;
            success(&api.renew_token(&daemon, can_resume, about)?)
        }
        Procedure::CreateQuickConnect => {
            let daemon = api.daemon(credential, about)?;
            let input = CreateQuickConnect::from_value(value)?;
            success(&api.create_quick_connect(&daemon, &input, &connect_base(api, parts)?)?)
        }
        Procedure::RedeemQuickConnect => {
            let input = RedeemQuickConnect::from_value(value)?;
            about.code = Some(api.name_of(&input.code));
            success(&api.redeem_quick_connect(&input, relay_url(api, parts)?, about).await?)
        }
        Procedure::RegisterDaemon => {
            let user = api.user(credential)?;
            let input = RegisterDaemon::from_value(value)?;
            success(&api.register_daemon(&user, input, about)?)
        }
        Procedure::ListAccessible => {
            let user = api.user(credential)?;
            let ListAccessible = ListAccessible::from_value(value)?;
            success(&api.list_accessible(&user).await?)
        }
    }
}

/// Reads a body of at most 64 KiB, and no further (413).
async fn read(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure::new(ErrorCode::PayloadTooLarge, format!("the body is larger than {MAX_BODY} bytes"));
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if declared.is_some_and(|declared: u64| declared > MAX_BODY as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::new(ErrorCode::ParseError, "the body broke off"))?;
        // Trailers are of no interest.
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(too_large());
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

fn relay_url(api: &Api, parts: &Parts) -> Result<String, Failure> {
    api.shared.config.relay_url.url("ws", "wss", "/relay", host(parts).as_deref()).ok_or_else(no_host)
}

fn connect_base(api: &Api, parts: &Parts) -> Result<String, Failure> {
    let path = if api.has(ApiQuirk::ConnectsElsewhere) { "/" } else { "/connect" };
    api.shared.config.connect_base.url("http", "https", path, host(parts).as_deref()).ok_or_else(no_host)
}

fn no_host() -> Failure {
    Failure::new(ErrorCode::BadRequest, "the request has no Host header that could be followed")
}

/// The host and port that the request names, in its line or its `Host`.
fn host(parts: &Parts) -> Option<String> {
    let authority = |uri: &Uri| uri.authority().cloned();
    let named = || parts.headers.get(HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let authority = authority(&parts.uri).or_else(named)?;
    (!authority.as_str().contains('@')).then(|| authority.as_str().to_owned())
}

async fn jwks(api: &Api, parts: &Parts, about: &mut About) -> Result<Response, Failure> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(wrong_method("GET"));
    }
    let stopping = parts.extensions.get::<Stopping>().cloned();
    match api.faults_of_key_set(stopping, about).await {
        KeysRemain::Given { foreign } => {
            let keys = api.key_set();
            let text = if foreign == 0 { serde_json::to_vec(&keys) } else { fault::with_foreign(&keys, foreign) };
            Ok(json_response(StatusCode::OK, text.map_err(cannot_encode)?))
        }
        KeysRemain::Answered(answer, label) => Ok(fault::response(&answer, &label, JWKS_PATH)),
        KeysRemain::Cut => Ok(fault::cut()),
    }
}

fn wrong_method(right: &str) -> Failure {
    Failure::new(ErrorCode::MethodNotSupported, format!("this path takes {right}"))
}

fn cannot_encode(_: serde_json::Error) -> Failure {
    Failure::new(ErrorCode::InternalServerError, "the answer cannot be encoded")
}

fn success(data: &impl Serialize) -> Result<Response, Failure> {
    Ok(json_response(StatusCode::OK, success_body(data).map_err(cannot_encode)?))
}

fn failure_response(failure: Failure, path: &str) -> Response {
    let status = StatusCode::from_u16(failure.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after = failure.retry_after;
    let body = ErrorBody::new(failure.code, failure.message, path);
    // Text and numbers only: it always becomes JSON.
    let mut response = json_response(status, serde_json::to_vec(&body).unwrap_or_default());
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if failure.code == ErrorCode::MethodNotSupported {
        let allow = if path == JWKS_PATH { "GET, HEAD" } else { "POST, OPTIONS" };
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to a browser that asks before it sends.
fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn add_common_headers(headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
    headers.insert(VARY, HeaderValue::from_static("origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, x-sideband-fault"));
    }
}
