//! Keys and accounts below `/__sim`. The guard stands before it.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Map, Value};
use sideband_sim_kit::admin::{Keys, RotateKeys, error_response};
use tracing::error;

use crate::Api;

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/keys", get(keys))
        .route("/keys/rotate", post(rotate))
        .route("/accounts", get(accounts))
        .with_state(api)
}

async fn keys(State(api): State<Api>) -> Json<Keys> {
    Json(api.keys_overview())
}

async fn rotate(State(api): State<Api>, body: Bytes) -> Response {
    let wrong = |message: String| error_response(StatusCode::BAD_REQUEST, "bad_request", message);
    let how = match decode(&body) {
        Ok(how) => how,
        Err(error) => return wrong(error.to_string()),
    };
    match api.rotate_with(how) {
        Ok(keys) => Json(keys).into_response(),
        Err(error) => wrong(error.to_string()),
    }
}

/// An object, or nothing at all; no list in its place, which serde would take as well.
fn decode(body: &[u8]) -> Result<RotateKeys, serde_json::Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(RotateKeys::default());
    }
    let members: Map<String, Value> = serde_json::from_slice(body)?;
    serde_json::from_value(Value::Object(members))
}

async fn accounts(State(api): State<Api>) -> Response {
    match api.accounts() {
        Ok(accounts) => Json(accounts).into_response(),
        Err(error) => {
            error!(%error, "cannot list the accounts");
            error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the store failed")
        }
    }
}
