//! `POST reset`: everything is as after the start.

use std::{fmt, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use sideband_env::BoxFuture;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AdminClient, AdminError, AdminRoutes, ErrorAnswer, error_response};
use crate::{
    event::EventSink,
    fault::{FaultEngine, FaultPlan},
};

/// Answer of `reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WasReset {
    /// True; a process that cannot be reset answers with an error.
    pub reset: bool,
}

/// A part of a process cannot be reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// It shuts down.
    #[error("the {0} shuts down")]
    Stops(&'static str),
    /// What it keeps cannot be changed. The words are for the log.
    #[error("the store failed: {0}")]
    Store(String),
}

/// How a part of a process is brought to the state after its start.
type Part = Arc<dyn Fn() -> BoxFuture<'static, Result<(), ResetError>> + Send + Sync>;

/// The same, for a part that nobody may use until the function that it is given has been called.
type Door = Arc<dyn Fn(Finish) -> BoxFuture<'static, Result<(), ResetError>> + Send + Sync>;

/// What comes last in a reset.
pub type Finish = Box<dyn FnOnce() + Send>;

/// What a reset does: no faults, then the parts, then events, grades and counters, then the faults of the start. Cheap to clone.
#[derive(Clone)]
pub struct Resets {
    events: EventSink,
    faults: Vec<FaultEngine>,
    parts: Vec<Part>,
    door: Option<Door>,
}

impl fmt::Debug for Resets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resets").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Resets {
    /// Events, grades and what is counted by them.
    pub fn new(events: EventSink) -> Self {
        Self { events, faults: Vec::new(), parts: Vec::new(), door: None }
    }

    /// Also this engine: its rules become again those that it [began](FaultEngine::begin) with.
    pub fn faults(mut self, engine: &FaultEngine) -> Self {
        self.faults.push(engine.clone());
        self
    }

    /// Also this part.
    pub fn part<F>(mut self, reset: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), ResetError>> + Send + 'static,
    {
        self.parts.push(Arc::new(move || Box::pin(reset())));
        self
    }

    /// Also this part, after the others: it lets nobody in until it has called the function that it is given, so that what
    /// happens afterwards belongs to the time after the reset.
    pub fn door<F>(mut self, reset: impl Fn(Finish) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), ResetError>> + Send + 'static,
    {
        self.door = Some(Arc::new(move |finish| Box::pin(reset(finish))));
        self
    }

    /// Does it.
    ///
    /// # Errors
    /// A part cannot be reset; those before it are, and the faults are in force again as they were.
    pub async fn run(&self) -> Result<(), ResetError> {
        // First, so that no rule acts on the rest, and whoever was held goes on.
        let before: Vec<FaultPlan> = self.faults.iter().map(FaultEngine::plan).collect();
        for engine in &self.faults {
            engine.suspend();
        }
        for part in &self.parts {
            if let Err(error) = part().await {
                // What is in force is what is kept, reset or not.
                for (engine, plan) in self.faults.iter().zip(before) {
                    if let Err(error) = engine.set(plan) {
                        tracing::error!(%error, "the faults were in force and are not taken again");
                    }
                }
                return Err(error);
            }
        }
        let all = self.clone();
        let finish: Finish = Box::new(move || all.finish());
        match &self.door {
            Some(door) => door(finish).await,
            None => {
                finish();
                Ok(())
            }
        }
    }

    /// Last, so that the events of all this are forgotten, and the times of rules count from here.
    fn finish(&self) {
        self.events.reset();
        for engine in &self.faults {
            if let Err(error) = engine.again() {
                tracing::error!(%error, "the faults of the start were in force and are not taken again");
            }
        }
    }
}

/// The route `reset` of a process, once.
pub fn reset_routes(resets: Resets) -> AdminRoutes {
    OpenApiRouter::default().routes(routes!(reset)).with_state(resets)
}

/// Bring everything to the state after the start: accounts, keys, codes, sessions, limits, faults, counters, grades and events.
/// Every WebSocket is closed. With a state file the start is that of this process, with what was kept until then. Session ids and
/// codes that were used stay used.
#[utoipa::path(
    post,
    path = "/reset",
    operation_id = "reset",
    responses(
        (status = 200, description = "It is so", body = WasReset),
        (status = 409, description = "A part shuts down", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn reset(State(resets): State<Resets>) -> Response {
    // A task of its own: half a reset is none, even if whoever asked is gone.
    let done = tokio::spawn(async move { resets.run().await }).await;
    match done {
        Ok(Ok(())) => Json(WasReset { reset: true }).into_response(),
        Ok(Err(error @ ResetError::Stops(_))) => error_response(StatusCode::CONFLICT, "conflict", error.to_string()),
        Ok(Err(ResetError::Store(error))) => failed(&error),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(error: &str) -> Response {
    tracing::error!(error, "a reset failed");
    error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the reset failed; the log says why")
}

impl AdminClient {
    /// Brings the process to the state after its start.
    ///
    /// # Errors
    /// Every [`AdminError`]; 409 if it shuts down.
    pub async fn reset(&self) -> Result<WasReset, AdminError> {
        self.send(Method::POST, &["reset"], Bytes::new()).await
    }
}
