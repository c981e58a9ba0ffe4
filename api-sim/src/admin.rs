//! Keys and accounts below `/__sim`. The guard stands before it.

mod accounts;

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sideband_sim_kit::admin::{Keys, error_response};

use self::accounts::Wrong;
use crate::Api;

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/keys", get(keys))
        .route("/keys/rotate", post(rotate))
        .merge(accounts::router())
        .with_state(api)
}

async fn keys(State(api): State<Api>) -> Json<Keys> {
    Json(api.keys_overview())
}

async fn rotate(State(api): State<Api>, body: Bytes) -> Result<Json<Keys>, Wrong> {
    let how = decode(&body).map_err(|error| Wrong::Body(error.to_string()))?;
    Ok(Json(api.rotate_with(how)?))
}

fn wrong(message: String) -> Response {
    error_response(StatusCode::BAD_REQUEST, "bad_request", message)
}

/// An object, or nothing at all, which is an empty one; no list in its place, which serde would take as well.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let members = if body.iter().all(u8::is_ascii_whitespace) { Map::new() } else { serde_json::from_slice(body)? };
    serde_json::from_value(Value::Object(members))
}
