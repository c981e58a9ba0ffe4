//! Keys, limits and accounts below `/__sim`. The guard stands before it.

mod accounts;
mod regions;

use axum::{Json, body::Bytes, extract::State, http::StatusCode, response::Response};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sideband_sim_kit::{
    admin::{AdminRoutes, ErrorAnswer, Keys, RotateKeys, error_response},
    limits::{ApiLimits, ApiLimitsPatch},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::accounts::Wrong;
use crate::Api;

pub(crate) fn routes(api: Api) -> AdminRoutes {
    OpenApiRouter::default()
        .routes(routes!(keys))
        .routes(routes!(rotate))
        .routes(routes!(limits, set_limits))
        .merge(accounts::routes())
        .merge(regions::routes())
        .with_state(api)
}

/// List the published keys, the one that signs first.
#[utoipa::path(get, path = "/keys", operation_id = "keys", responses((status = 200, description = "Now", body = Keys)))]
async fn keys(State(api): State<Api>) -> Json<Keys> {
    Json(api.keys_overview())
}

/// Make a new key sign.
#[utoipa::path(
    post,
    path = "/keys/rotate",
    operation_id = "rotateKeys",
    request_body = Option<RotateKeys>,
    responses(
        (status = 200, description = "The keys that are published then", body = Keys),
        (status = 400, description = "The body makes no sense", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn rotate(State(api): State<Api>, body: Bytes) -> Result<Json<Keys>, Wrong> {
    let how: RotateKeys = decode(&body).map_err(|error| Wrong::Body(error.to_string()))?;
    Ok(Json(api.rotate_with(how)?))
}

/// Tell the control plane's own limits.
#[utoipa::path(get, path = "/api-limits", operation_id = "apiLimits", responses((status = 200, description = "Now", body = ApiLimits)))]
async fn limits(State(api): State<Api>) -> Json<ApiLimits> {
    Json(api.limits())
}

/// Change limits of the control plane, at once; what is absent stays, null takes away.
#[utoipa::path(
    patch,
    path = "/api-limits",
    operation_id = "setApiLimits",
    request_body = ApiLimitsPatch,
    responses(
        (status = 200, description = "All that hold then", body = ApiLimits),
        (status = 400, description = "They make no sense", body = ErrorAnswer),
    )
)]
async fn set_limits(State(api): State<Api>, body: Bytes) -> Result<Json<ApiLimits>, Wrong> {
    let patch: ApiLimitsPatch = decode(&body).map_err(|error| Wrong::Body(error.to_string()))?;
    Ok(Json(api.set_limits(&patch)))
}

fn wrong(message: String) -> Response {
    error_response(StatusCode::BAD_REQUEST, "bad_request", message)
}

/// An object, or nothing at all, which is an empty one; no list in its place, which serde would take as well.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let members = if body.iter().all(u8::is_ascii_whitespace) { Map::new() } else { serde_json::from_slice(body)? };
    serde_json::from_value(Value::Object(members))
}
