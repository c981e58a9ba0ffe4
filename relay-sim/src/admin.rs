//! The relay's part of `/__sim`.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use sideband_protocol::SessionId;
use sideband_sim_kit::admin::{DaemonStatus, RelayStatus, error_response};

use crate::relay::Relay;

pub(crate) fn router(relay: Relay) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/daemons", get(daemons))
        .route("/daemons/{id}", get(daemon))
        .route("/daemons/{id}/drop", post(drop_daemon))
        .route("/sessions/{id}/drop", post(drop_session))
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

fn dropped(found: bool, otherwise: &str) -> Response {
    if found { Json(json!({ "dropped": true })).into_response() } else { not_found(otherwise) }
}

fn not_found(message: &str) -> Response {
    error_response(StatusCode::NOT_FOUND, "not_found", message)
}
