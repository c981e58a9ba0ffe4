//! The relay's part of `/__sim`.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use sideband_protocol::SessionId;
use sideband_sim_kit::{
    admin::{AdminRoutes, DaemonStatus, Dropped, ErrorAnswer, RelayStatus, RestartRelay, Restarting, error_response},
    limits::{RelayLimits, RelayLimitsPatch},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::relay::Relay;

/// The longest that a restart may take by the admin API.
const LONGEST_DOWN: Duration = Duration::from_secs(60 * 60);

pub(crate) fn routes(relay: Relay) -> AdminRoutes {
    OpenApiRouter::default()
        .routes(routes!(status))
        .routes(routes!(daemons))
        .routes(routes!(daemon))
        .routes(routes!(drop_daemon))
        .routes(routes!(drop_session))
        .routes(routes!(limits, set_limits))
        .routes(routes!(restart))
        .with_state(relay)
}

/// Tell what the relay sees: daemons, sessions, counters, and which rules endpoints broke.
#[utoipa::path(get, path = "/status", operation_id = "status", responses((status = 200, description = "Now", body = RelayStatus)))]
async fn status(State(relay): State<Relay>) -> Json<RelayStatus> {
    Json(relay.status())
}

/// List the daemons that are connected or have sessions.
#[utoipa::path(get, path = "/daemons", operation_id = "daemons", responses((status = 200, description = "Now", body = Vec<DaemonStatus>)))]
async fn daemons(State(relay): State<Relay>) -> Json<Vec<DaemonStatus>> {
    Json(relay.status().daemons)
}

/// Tell what the relay sees of a daemon.
#[utoipa::path(
    get,
    path = "/daemons/{id}",
    operation_id = "daemon",
    params(("id" = String, Path, description = "The daemon")),
    responses(
        (status = 200, description = "Now", body = DaemonStatus),
        (status = 404, description = "The relay does not know it", body = ErrorAnswer),
    )
)]
async fn daemon(State(relay): State<Relay>, Path(id): Path<String>) -> Response {
    match relay.daemon(&id) {
        Some(daemon) => Json(daemon).into_response(),
        None => not_found("the relay does not know this daemon"),
    }
}

/// Cut a daemon's socket, as if its line broke.
#[utoipa::path(
    post,
    path = "/daemons/{id}/drop",
    operation_id = "dropDaemon",
    params(("id" = String, Path, description = "The daemon")),
    responses(
        (status = 200, description = "It is cut", body = Dropped),
        (status = 404, description = "It is not connected", body = ErrorAnswer),
    )
)]
async fn drop_daemon(State(relay): State<Relay>, Path(id): Path<String>) -> Response {
    dropped(relay.drop_daemon(&id), "the daemon is not connected")
}

/// Cut the socket of a session's client, as if its line broke.
#[utoipa::path(
    post,
    path = "/sessions/{id}/drop",
    operation_id = "dropSession",
    params(("id" = String, Path, description = "The session, 16 hex digits")),
    responses(
        (status = 200, description = "It is cut", body = Dropped),
        (status = 404, description = "There is no such session", body = ErrorAnswer),
    )
)]
async fn drop_session(State(relay): State<Relay>, Path(id): Path<String>) -> Response {
    let found = id.parse::<SessionId>().is_ok_and(|session| relay.drop_session(session));
    dropped(found, "there is no such session")
}

/// Tell the relay's limits.
#[utoipa::path(get, path = "/limits", operation_id = "limits", responses((status = 200, description = "Now", body = RelayLimits)))]
async fn limits(State(relay): State<Relay>) -> Json<RelayLimits> {
    Json(relay.limits())
}

/// Change limits of the relay, at once and for every connection; what is absent stays.
#[utoipa::path(
    patch,
    path = "/limits",
    operation_id = "setLimits",
    request_body = RelayLimitsPatch,
    responses(
        (status = 200, description = "All that hold then", body = RelayLimits),
        (status = 400, description = "They make no sense; the member is named", body = ErrorAnswer),
    )
)]
async fn set_limits(State(relay): State<Relay>, body: Bytes) -> Response {
    match RelayLimitsPatch::parse_json(&body).and_then(|patch| relay.set_limits(&patch)) {
        Ok(limits) => Json(limits).into_response(),
        Err(error) => bad_request(&error.to_string()),
    }
}

/// Restart the relay: it closes every WebSocket, forgets its sessions and serves again. Answers before it does.
#[utoipa::path(
    post,
    path = "/restart",
    operation_id = "restartRelay",
    request_body = Option<RestartRelay>,
    responses(
        (status = 200, description = "It will", body = Restarting),
        (status = 400, description = "The body makes no sense", body = ErrorAnswer),
        (status = 409, description = "It restarts or stops already", body = ErrorAnswer),
    )
)]
async fn restart(State(relay): State<Relay>, body: Bytes) -> Response {
    let request = if body.is_empty() { Ok(RestartRelay::default()) } else { serde_json::from_slice(&body) };
    let RestartRelay { down } = match request {
        Ok(request) => request,
        Err(error) => return bad_request(&error.to_string()),
    };
    if down > LONGEST_DOWN {
        return bad_request("`down` must be at most 1h");
    }
    if !relay.is_serving() {
        return error_response(StatusCode::CONFLICT, "conflict", "the relay restarts or stops already");
    }
    tokio::spawn(async move { relay.restart(down).await });
    Json(Restarting { restarting: true }).into_response()
}

fn bad_request(message: &str) -> Response {
    error_response(StatusCode::BAD_REQUEST, "bad_request", message)
}

fn dropped(found: bool, otherwise: &str) -> Response {
    if found { Json(Dropped { dropped: true }).into_response() } else { not_found(otherwise) }
}

fn not_found(message: &str) -> Response {
    error_response(StatusCode::NOT_FOUND, "not_found", message)
}
