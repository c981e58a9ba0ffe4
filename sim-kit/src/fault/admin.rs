//! The fault plan below `/__sim`, the same at both sims.
//!
//! | route | takes | answer |
//! |---|---|---|
//! | `GET faults` | | [`FaultList`] |
//! | `PUT faults` | a plan, in place of the one there is | [`FaultList`] |
//! | `POST faults` | one rule, behind the others | [`FaultReport`]; 409 if its name is taken |
//! | `DELETE faults/{id}` | | [`FaultsRemoved`]; 404 if there is no such rule |
//! | `DELETE faults` | | [`FaultsRemoved`] |
//!
//! Plans and rules are TOML (`application/toml`) or JSON (`application/json`). One that is wrong is answered with 400 and
//! `bad_plan`, and the message names the line. Where plans outlive the process, a change is kept before it is answered; one that
//! cannot be is answered with 500, and nothing has changed.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    AddError, FaultEngine, FaultPlan, FaultRule, Format, KeepError, MAX_PLAN, Place, PlanError, RuleReport, SetError,
    wire::{PlanText, RuleText},
};
use crate::admin::{AdminRoutes, ErrorAnswer, error_response};

/// The rules in force, and what they did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultList {
    /// What draws follow from.
    pub seed: u64,
    /// The rules, in their order.
    pub faults: Vec<FaultReport>,
    /// What can never fire here: rules about places that the process does not have. Absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A rule, and what it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultReport {
    /// The rule, with its name.
    #[schema(value_type = RuleText)]
    pub rule: FaultRule,
    /// How many events were its business.
    pub seen: u64,
    /// How many times it fired.
    pub fired: u64,
    /// How many times it wanted to and a rule before it had ended the event.
    pub overruled: u64,
    /// Why it can never fire here, in the answer to `POST`: the process does not have its place. Else absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Answer of both `DELETE`s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultsRemoved {
    /// How many rules are gone.
    pub removed: usize,
}

impl From<RuleReport> for FaultReport {
    fn from(report: RuleReport) -> Self {
        let RuleReport { id: _, rule, seen, fired, overruled } = report;
        Self { rule, seen, fired, overruled, warnings: Vec::new() }
    }
}

impl FaultList {
    /// What the engine of a process that has these places holds.
    pub fn of(engine: &FaultEngine, places: &[Place]) -> Self {
        let list = engine.list();
        let warnings = list.iter().filter_map(|report| warning(report.id.as_str(), &report.rule, places)).collect();
        let faults = list.into_iter().map(FaultReport::from).collect();
        Self { seed: engine.plan().seed, faults, warnings }
    }
}

/// What is said of a rule about a place that the process does not have.
fn warning(id: &str, rule: &FaultRule, places: &[Place]) -> Option<String> {
    let place = rule.place();
    (!places.contains(&place)).then(|| format!("{id} never fires here: this process has no {place}"))
}

/// An engine, and the places whose hooks ask it.
#[derive(Clone)]
struct Hooked {
    engine: FaultEngine,
    places: &'static [Place],
}

/// The routes of a process with these places, to be nested below `/__sim` behind the guard, once a process. Rules about other
/// places are taken, with a warning: api and relay apart may be given the same plan.
pub fn router(engine: FaultEngine, places: &'static [Place]) -> Router {
    routes(engine, places).into()
}

/// [`router`], with its description.
pub fn routes(engine: FaultEngine, places: &'static [Place]) -> AdminRoutes {
    OpenApiRouter::default()
        .routes(routes!(list, set, add, clear))
        .routes(routes!(remove))
        .layer(DefaultBodyLimit::max(MAX_PLAN))
        .with_state(Hooked { engine, places })
}

/// List the rules in force, and what they did.
#[utoipa::path(get, path = "/faults", operation_id = "faults", responses((status = 200, description = "In their order", body = FaultList)))]
async fn list(State(Hooked { engine, places }): State<Hooked>) -> Json<FaultList> {
    Json(FaultList::of(&engine, places))
}

/// Put a plan in place of the one there is.
#[utoipa::path(
    put,
    path = "/faults",
    operation_id = "setFaults",
    request_body(
        description = "A plan; in TOML the members are in snake case",
        content((PlanText = "application/json"), (String = "application/toml"))
    ),
    responses(
        (status = 200, description = "The new rules", body = FaultList),
        (status = 400, description = "It is no plan: `bad_plan`, and the message names the line", body = ErrorAnswer),
        (status = 415, description = "Neither TOML nor JSON", body = ErrorAnswer),
        (status = 500, description = "It cannot be kept, and nothing has changed", body = ErrorAnswer),
    )
)]
async fn set(State(Hooked { engine, places }): State<Hooked>, headers: HeaderMap, body: Bytes) -> Response {
    let plan = match read(&headers, &body, FaultPlan::parse) {
        Ok(plan) => plan,
        Err(unread) => return unread.into_response(),
    };
    match engine.set(plan) {
        Ok(()) => Json(FaultList::of(&engine, places)).into_response(),
        Err(SetError::Plan(error)) => bad_plan(&error),
        Err(SetError::Keep(error)) => not_kept(&error),
    }
}

/// Add a rule behind the others.
#[utoipa::path(
    post,
    path = "/faults",
    operation_id = "addFault",
    request_body(
        description = "A rule; in TOML the members are in snake case",
        content((RuleText = "application/json"), (String = "application/toml"))
    ),
    responses(
        (status = 200, description = "The rule, with its name", body = FaultReport),
        (status = 400, description = "It is no rule: `bad_plan`, and the message names the line", body = ErrorAnswer),
        (status = 409, description = "Its name is taken, or there are too many", body = ErrorAnswer),
        (status = 415, description = "Neither TOML nor JSON", body = ErrorAnswer),
        (status = 500, description = "It cannot be kept, and nothing has changed", body = ErrorAnswer),
    )
)]
async fn add(State(Hooked { engine, places }): State<Hooked>, headers: HeaderMap, body: Bytes) -> Response {
    let rule = match read(&headers, &body, FaultRule::parse) {
        Ok(rule) => rule,
        Err(unread) => return unread.into_response(),
    };
    match engine.add(rule.clone()) {
        Ok(id) => {
            let warnings = warning(id.as_str(), &rule, places).into_iter().collect();
            let rule = FaultRule { id: Some(id), ..rule };
            Json(FaultReport { rule, seen: 0, fired: 0, overruled: 0, warnings }).into_response()
        }
        Err(AddError::Rule(error)) => bad_plan(&error),
        Err(AddError::Keep(error)) => not_kept(&error),
        Err(error @ (AddError::Taken(_) | AddError::Full)) => {
            error_response(StatusCode::CONFLICT, "conflict", error.to_string())
        }
    }
}

/// Take a rule away.
#[utoipa::path(
    delete,
    path = "/faults/{id}",
    operation_id = "removeFault",
    params(("id" = String, Path, description = "The rule's name")),
    responses(
        (status = 200, description = "It is gone", body = FaultsRemoved),
        (status = 404, description = "There is no such rule", body = ErrorAnswer),
        (status = 500, description = "It cannot be kept, and nothing has changed", body = ErrorAnswer),
    )
)]
async fn remove(State(Hooked { engine, .. }): State<Hooked>, Path(id): Path<String>) -> Response {
    match engine.remove(&id) {
        Ok(true) => Json(FaultsRemoved { removed: 1 }).into_response(),
        Ok(false) => error_response(StatusCode::NOT_FOUND, "not_found", "there is no such rule"),
        Err(error) => not_kept(&error),
    }
}

/// Take all rules away.
#[utoipa::path(
    delete,
    path = "/faults",
    operation_id = "clearFaults",
    responses(
        (status = 200, description = "They are gone", body = FaultsRemoved),
        (status = 500, description = "It cannot be kept, and nothing has changed", body = ErrorAnswer),
    )
)]
async fn clear(State(Hooked { engine, .. }): State<Hooked>) -> Response {
    match engine.clear() {
        Ok(removed) => Json(FaultsRemoved { removed }).into_response(),
        Err(error) => not_kept(&error),
    }
}

fn not_kept(error: &KeepError) -> Response {
    tracing::error!(%error, "the faults stay as they are");
    error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the change cannot be kept; the log says why")
}

fn bad_plan(error: &PlanError) -> Response {
    error_response(StatusCode::BAD_REQUEST, "bad_plan", error.to_string())
}

/// Why a body is no plan.
enum Unread {
    MediaType,
    Text,
    Plan(PlanError),
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        match self {
            Self::MediaType => {
                let words = "the content type is application/toml or application/json";
                error_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", words)
            }
            Self::Text => error_response(StatusCode::BAD_REQUEST, "bad_plan", "the body is not UTF-8"),
            Self::Plan(error) => bad_plan(&error),
        }
    }
}

/// Reads a body in the language that its content type names.
fn read<T>(headers: &HeaderMap, body: &[u8], parse: fn(&str, Format) -> Result<T, PlanError>) -> Result<T, Unread> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let named = |format: &Format| essence.eq_ignore_ascii_case(format.content_type());
    let format = [Format::Toml, Format::Json].into_iter().find(named).ok_or(Unread::MediaType)?;
    let text = std::str::from_utf8(body).map_err(|_| Unread::Text)?;
    parse(text, format).map_err(Unread::Plan)
}
