//! The relay's part of `/__sim`.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use sideband_protocol::SessionId;
use sideband_sim_kit::{
    admin::{DaemonStatus, RelayStatus, RestartRelay, Restarting, error_response},
    limits::{RelayLimits, RelayLimitsPatch},
};

use crate::relay::Relay;

/// The longest that a restart may take by the admin API.
const LONGEST_DOWN: Duration = Duration::from_secs(60 * 60);

pub(crate) fn router(relay: Relay) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/daemons", get(daemons))
        .route("/daemons/{id}", get(daemon))
        .route("/daemons/{id}/drop", post(drop_daemon))
        .route("/sessions/{id}/drop", post(drop_session))
        .route("/limits", get(limits).patch(set_limits))
        .route("/restart", post(restart))
        .with_state(relay)
}

async fn status(State(relay): State<Relay>) -> Json<RelayStatus> {
    Json(relay.status())
}

async fn daemons(State(relay): State<Relay>) -> Json<Vec<DaemonStatus>> {
    Json(relay.status().daemons)
}

async fn daemon(State(relay): State<Relay>, Path(id): Path<String>) -> Response {
    match relay.daemon(&id) {
        Some(daemon) => Json(daemon).into_response(),
        None => not_found("the relay does not know this daemon"),
    }
}

async fn drop_daemon(State(relay): State<Relay>, Path(id): Path<String>) -> Response {
    dropped(relay.drop_daemon(&id), "the daemon is not connected")
}

async fn drop_session(State(relay): State<Relay>, Path(id): Path<String>) -> Response {
    let found = id.parse::<SessionId>().is_ok_and(|session| relay.drop_session(session));
    dropped(found, "there is no such session")
}

async fn limits(State(relay): State<Relay>) -> Json<RelayLimits> {
    Json(relay.limits())
}

async fn set_limits(State(relay): State<Relay>, body: Bytes) -> Response {
    match RelayLimitsPatch::parse_json(&body).and_then(|patch| relay.set_limits(&patch)) {
        Ok(limits) => Json(limits).into_response(),
        Err(error) => bad_request(&error.to_string()),
    }
}

/// Answers before the restart, which may close what the request came through.
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
    if found { Json(json!({ "dropped": true })).into_response() } else { not_found(otherwise) }
}

fn not_found(message: &str) -> Response {
    error_response(StatusCode::NOT_FOUND, "not_found", message)
}
