//! `/__sim`: the JSON types that both sims share, and a typed client.
//!
//! | route | served by | answer |
//! |---|---|---|
//! | `GET ready` | the binary, see [`ready_router`]; asks for no admin token | [`Ready`] |
//! | `GET grades` | the binary, see [`grades_routes`] | [`Grades`] |
//! | `DELETE grades` | the same | forgets them: [`Grades`] |
//! | `POST reset` | the binary, see [`reset_routes`] | [`WasReset`] |
//! | `GET openapi.json` | the binary, see [`described`] | this as OpenAPI 3.1 |
//! | `GET status` | the relay | [`RelayStatus`] |
//! | `GET daemons/{id}` | the relay | [`DaemonStatus`]; 404 for one that it does not know |
//! | `POST daemons/{id}/drop` | the relay | [`Dropped`]; 404 if it is not connected |
//! | `POST sessions/{id}/drop` | the relay | [`Dropped`]; 404 if there is no such session |
//! | `GET limits` | the relay | [`RelayLimits`] |
//! | `PATCH limits` | the relay | takes a [`RelayLimitsPatch`], answers [`RelayLimits`] |
//! | `POST restart` | the relay | takes [`RestartRelay`], answers [`Restarting`] at once |
//! | `GET keys` | the API | [`Keys`] |
//! | `POST keys/rotate` | the API | takes [`RotateKeys`], answers [`Keys`] |
//! | `GET api-limits` | the API | [`ApiLimits`] |
//! | `PATCH api-limits` | the API | takes an [`ApiLimitsPatch`], answers [`ApiLimits`] |
//! | `accounts`, and what is below | the API | see [`accounts`] |
//!
//! Errors are `{"error":{"code","message"}}`. Members are in camelCase and are only ever added.

pub mod accounts;
mod describe;
pub mod regions;
mod reset;

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sideband_env::{Env, HttpError, HttpRequest, HttpResponse};
use sideband_protocol::SessionId;
use url::Url;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    event::EventSink,
    guard::AdminToken,
    limits::{ApiLimits, ApiLimitsPatch, RelayLimits, RelayLimitsPatch},
    observer::{GradeCount, Grades},
};

pub use accounts::{Accounts, DaemonAccount};
pub use describe::{AdminRoutes, described};
pub use reset::{Finish, ResetError, Resets, WasReset, reset_routes};

/// Where the admin API is, below a sim's URL.
pub const ADMIN_PATH: &str = "/__sim";

/// How long [`AdminClient`] waits for an answer.
pub const ADMIN_DEADLINE: Duration = Duration::from_secs(5);

/// Most bytes of an answer that [`AdminClient`] reads.
const MAX_ANSWER: usize = 16 << 20;

/// Answer of `ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// True; a sim that is not ready does not answer.
    pub ready: bool,
    /// What the process serves: `api`, `relay`.
    pub serves: Vec<String>,
}

/// Answer of `status`: what a relay sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayStatus {
    /// The daemons that are connected or have sessions.
    pub daemons: Vec<DaemonStatus>,
    /// Counters since the start, by name.
    pub counters: BTreeMap<String, u64>,
    /// Which rules endpoints broke, and how often; `grades` has the evidence.
    #[serde(default)]
    pub grades: Vec<GradeCount>,
}

/// A daemon at a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonStatus {
    /// The daemon.
    pub daemon_id: String,
    /// Whether its socket is there.
    pub online: bool,
    /// Its sessions.
    pub sessions: Vec<SessionStatus>,
}

/// A session at a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// The session.
    #[schema(value_type = String)]
    pub session_id: SessionId,
    /// Its state: `paired`, `paused` or `pending`.
    pub state: String,
}

/// Answer of `drop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// True; a socket that is not there is an error.
    pub dropped: bool,
}

/// Body of `restart`; empty is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RestartRelay {
    /// For how long the relay stays away, at most an hour; default not at all.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schema(value_type = String, example = "2s")]
    pub down: Duration,
}

/// Answer of `restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restarting {
    /// True; a relay that cannot restart answers with an error.
    pub restarting: bool,
}

/// Answer of `keys` and `keys/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// The published keys, the one that signs first.
    pub keys: Vec<KeyInfo>,
}

/// A published key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyInfo {
    /// Its id.
    pub kid: String,
    /// Whether it signs.
    pub current: bool,
    /// Until when it is published, ISO 8601 UTC; absent for the one that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_until: Option<String>,
}

/// Body of `keys/rotate`; empty is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateKeys {
    /// Whether the old keys are gone at once (KEY-04).
    #[serde(default)]
    pub hard: bool,
    /// How long the old key stays published, in seconds; the API's own choice if absent. Not with `hard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<u64>,
}

/// The body of an error of `/__sim`, and of an upgrade that is refused (TOK-13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorAnswer {
    /// The error.
    pub error: ErrorDetail,
}

/// `error` of an [`ErrorAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// A stable code in snake case.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
}

/// An answer `{"error":{"code","message"}}`.
pub fn error_response(status: StatusCode, code: &str, message: impl Into<String>) -> Response {
    let error = ErrorDetail { code: code.to_owned(), message: message.into() };
    (status, Json(ErrorAnswer { error })).into_response()
}

/// The route `ready` of a process that serves these. Made once a process: `api` and `relay` share it.
pub fn ready_router(serves: &[&str]) -> Router {
    ready_routes(serves).into()
}

/// [`ready_router`], with its description.
pub fn ready_routes(serves: &[&str]) -> AdminRoutes {
    let ready = Ready { ready: true, serves: serves.iter().map(|&part| part.to_owned()).collect() };
    OpenApiRouter::default().routes(routes!(ready_now)).with_state(ready)
}

/// Tell that it is ready, and what the process serves. Asks for no admin token.
#[utoipa::path(get, path = "/ready", operation_id = "ready", responses((status = 200, description = "It is", body = Ready)))]
async fn ready_now(State(ready): State<Ready>) -> Json<Ready> {
    Json(ready)
}

/// The route `grades` of a process whose parts tell these events. Made once a process: `api` and `relay` share it.
pub fn grades_routes(events: EventSink) -> AdminRoutes {
    OpenApiRouter::default().routes(routes!(grades, clear_grades)).with_state(events)
}

/// List which rules endpoints broke, with the evidence.
#[utoipa::path(get, path = "/grades", operation_id = "grades", responses((status = 200, description = "The books", body = Grades)))]
async fn grades(State(events): State<EventSink>) -> Json<Grades> {
    Json(events.grades())
}

/// Begin the books over grades anew.
#[utoipa::path(
    delete,
    path = "/grades",
    operation_id = "clearGrades",
    responses((status = 200, description = "The books, empty", body = Grades))
)]
async fn clear_grades(State(events): State<EventSink>) -> Json<Grades> {
    events.clear_grades();
    Json(events.grades())
}

/// Why an admin request failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The URL cannot be extended.
    #[error("the admin URL is not usable; it begins with http: or https:")]
    Url,
    /// No answer.
    #[error("no answer from the admin API: {0}")]
    Http(#[from] HttpError),
    /// No answer within [`ADMIN_DEADLINE`].
    #[error("the admin API did not answer within {} s", ADMIN_DEADLINE.as_secs())]
    Timeout,
    /// An answer with another status than 200.
    #[error("the admin API answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code; empty if there was none.
        code: String,
        /// The message.
        message: String,
    },
    /// An answer that is not what the route returns.
    #[error("the admin API's answer cannot be read")]
    Unreadable,
}

/// Asks a sim's admin API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AdminClient {
    env: Env,
    base: Url,
    token: Option<AdminToken>,
}

impl AdminClient {
    /// A client of the admin API at `base`, such as `http://127.0.0.1:7600/__sim`.
    pub fn new(env: Env, base: Url, token: Option<AdminToken>) -> Self {
        Self { env, base, token }
    }

    /// Whether the sim is ready, and what it serves.
    ///
    /// # Errors
    /// Every [`AdminError`], as for all requests here.
    pub async fn ready(&self) -> Result<Ready, AdminError> {
        self.get(&["ready"]).await
    }

    /// What the relay sees.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn status(&self) -> Result<RelayStatus, AdminError> {
        self.get(&["status"]).await
    }

    /// Which rules endpoints broke, as far as the process saw it.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn grades(&self) -> Result<Grades, AdminError> {
        self.get(&["grades"]).await
    }

    /// Begins the books over grades anew.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn clear_grades(&self) -> Result<Grades, AdminError> {
        self.send(Method::DELETE, &["grades"], Bytes::new()).await
    }

    /// The daemons that the relay sees.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn daemons(&self) -> Result<Vec<DaemonStatus>, AdminError> {
        self.get(&["daemons"]).await
    }

    /// The description of the admin API, OpenAPI 3.1.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn openapi(&self) -> Result<serde_json::Value, AdminError> {
        self.get(&["openapi.json"]).await
    }

    /// What the relay sees of a daemon; `None` if it does not know it.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn daemon(&self, daemon_id: &str) -> Result<Option<DaemonStatus>, AdminError> {
        match self.get(&["daemons", daemon_id]).await {
            Ok(daemon) => Ok(Some(daemon)),
            Err(AdminError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Cuts a daemon's socket at the relay, as if its line broke; false if it is not connected.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn drop_daemon(&self, daemon_id: &str) -> Result<bool, AdminError> {
        self.drop_socket(&["daemons", daemon_id, "drop"]).await
    }

    /// Cuts the socket of a session's client at the relay; false if there is no such session.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn drop_session(&self, session: SessionId) -> Result<bool, AdminError> {
        self.drop_socket(&["sessions", &session.to_string(), "drop"]).await
    }

    async fn drop_socket(&self, path: &[&str]) -> Result<bool, AdminError> {
        match self.send::<Dropped>(Method::POST, path, Bytes::new()).await {
            Ok(answer) => Ok(answer.dropped),
            Err(AdminError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The relay's limits.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn limits(&self) -> Result<RelayLimits, AdminError> {
        self.get(&["limits"]).await
    }

    /// Changes limits of the relay, at once and for every connection; answers all that hold then.
    ///
    /// # Errors
    /// Every [`AdminError`]; 400 if they make no sense.
    pub async fn set_limits(&self, patch: &RelayLimitsPatch) -> Result<RelayLimits, AdminError> {
        let body = serde_json::to_vec(patch).map_err(|_| AdminError::Unreadable)?;
        self.send(Method::PATCH, &["limits"], body.into()).await
    }

    /// The API's own limits.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn api_limits(&self) -> Result<ApiLimits, AdminError> {
        self.get(&["api-limits"]).await
    }

    /// Changes limits of the API, at once; answers all that hold then.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn set_api_limits(&self, patch: &ApiLimitsPatch) -> Result<ApiLimits, AdminError> {
        let body = serde_json::to_vec(patch).map_err(|_| AdminError::Unreadable)?;
        self.send(Method::PATCH, &["api-limits"], body.into()).await
    }

    /// Restarts the relay: closes every WebSocket, forgets its sessions and serves again.
    ///
    /// # Errors
    /// Every [`AdminError`]; 409 if it restarts or stops already.
    pub async fn restart_relay(&self, restart: RestartRelay) -> Result<Restarting, AdminError> {
        let body = serde_json::to_vec(&restart).map_err(|_| AdminError::Unreadable)?;
        self.send(Method::POST, &["restart"], body.into()).await
    }

    /// The API's published keys.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn keys(&self) -> Result<Keys, AdminError> {
        self.get(&["keys"]).await
    }

    /// Makes a new key current (KEY-04).
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn rotate_keys(&self, rotate: RotateKeys) -> Result<Keys, AdminError> {
        let body = serde_json::to_vec(&rotate).map_err(|_| AdminError::Unreadable)?;
        self.send(Method::POST, &["keys", "rotate"], body.into()).await
    }

    /// What is counted, as OpenMetrics text.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn metrics(&self) -> Result<String, AdminError> {
        self.get_text(&["metrics"], None).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, AdminError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Bytes,
    ) -> Result<T, AdminError> {
        self.send_as(method, path, body, HeaderValue::from_static("application/json")).await
    }

    /// Sends a body of another content type than JSON.
    pub(crate) async fn send_as<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Bytes,
        content_type: HeaderValue,
    ) -> Result<T, AdminError> {
        let answer = self.exchange(method, path, None, body, content_type).await?;
        serde_json::from_slice(&answer).map_err(|_| AdminError::Unreadable)
    }

    /// Reads a text.
    pub(crate) async fn get_text(&self, path: &[&str], query: Option<&str>) -> Result<String, AdminError> {
        let json = HeaderValue::from_static("application/json");
        let text = self.exchange(Method::GET, path, query, Bytes::new(), json).await?;
        String::from_utf8(text.to_vec()).map_err(|_| AdminError::Unreadable)
    }

    /// Sends a request and gives the body of a good answer.
    async fn exchange(
        &self,
        method: Method,
        path: &[&str],
        query: Option<&str>,
        body: Bytes,
        content_type: HeaderValue,
    ) -> Result<Bytes, AdminError> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| AdminError::Url)?.pop_if_empty().extend(path);
        url.set_query(query);
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| AdminError::Url)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let request = HttpRequest { method, url, headers, body, max_answer: MAX_ANSWER };
        let answer = tokio::time::timeout(ADMIN_DEADLINE, self.env.http.send(request));
        let answer = answer.await.map_err(|_| AdminError::Timeout)??;
        if answer.status == StatusCode::OK { Ok(answer.body) } else { Err(refused(&answer)) }
    }
}

fn refused(answer: &HttpResponse) -> AdminError {
    let status = answer.status.as_u16();
    match serde_json::from_slice::<ErrorAnswer>(&answer.body) {
        Ok(ErrorAnswer { error }) => AdminError::Refused { status, code: error.code, message: error.message },
        Err(_) => AdminError::Refused { status, code: String::new(), message: "no readable error".to_owned() },
    }
}
