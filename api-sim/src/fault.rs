//! What the fault plan does to requests and to the signing keys.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};
use sideband_protocol::{
    api::{Auth, CreateSession, ErrorBody, ErrorCode, ErrorData, ErrorShape, Input, Procedure, RedeemQuickConnect},
    token::KeySet,
};
use sideband_sim_kit::{
    admin::RotateKeys,
    fault::{
        Answer, AnswerBody, ApiAction, ApiPoint, Fired, KeyUse, KeysAction, KeysPoint, Place, Rotation, header_value,
    },
    server::{CutConnection, Stopping},
};

use crate::{Api, Digest, api::About};

/// The key set cannot be had, because the fault plan says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetUnavailable {
    /// It was answered so.
    #[error("status {0}")]
    Status(u16),
    /// There was an answer, but no key set in it.
    #[error("the answer is no key set")]
    Unreadable,
    /// The connection was cut.
    #[error("the connection was cut")]
    Cut,
}

/// What faults leave of a request for a procedure.
#[derive(Default)]
pub(crate) struct Remains {
    /// It is answered so, and nothing else is done.
    pub(crate) answer: Option<Response>,
    /// The clock is fast by so many milliseconds.
    pub(crate) clock_shift: i64,
    /// The keys are replaced after the answer.
    rotations: Vec<Rotation>,
}

/// What faults leave of an ask for the key set.
pub(crate) enum KeysRemain {
    /// It is given, with so many entries that nobody can use.
    Given { foreign: u32 },
    /// It is answered so, by this fault.
    Answered(Answer, String),
    /// The connection ends.
    Cut,
}

impl Api {
    /// Lets the faults of a request for a procedure happen. What the request names is looked up, but not judged; a code names the
    /// daemon that made it.
    pub(crate) async fn faults_of_request(
        &self,
        procedure: Procedure,
        credential: Option<&str>,
        input: Option<&Value>,
        mut stopping: Option<Stopping>,
        about: &mut About,
    ) -> Remains {
        if !self.faults.any_at(Place::ApiRequest) {
            return Remains::default();
        }
        let (user, daemon) = self.named(procedure, credential, input, about);
        let point = ApiPoint { procedure, daemon: daemon.as_deref(), user: user.as_deref() };
        let fired = self.faults.api_request(&point);
        about.faults = header_value(&fired);
        for fault in &fired {
            fault.report(Place::ApiRequest, &self.shared.events, about.daemon.as_deref(), None);
        }
        let mut remains = Remains::default();
        for fault in &fired {
            match &fault.action {
                ApiAction::Status(answer) => remains.answer = Some(response(answer, &fault.label(), procedure.name())),
                ApiAction::Delay(time) => self.delay(fault, *time, &mut stopping).await,
                ApiAction::Hang => {
                    if self.hang(fault, &mut stopping).await == Waited::Stopped {
                        remains.answer = Some(cut());
                    }
                }
                ApiAction::Cut => remains.answer = Some(cut()),
                ApiAction::ClockShift(shift) => {
                    remains.clock_shift = remains.clock_shift.saturating_add(shift.millis);
                }
                ApiAction::Rotate(rotation) => remains.rotations.push(*rotation),
            }
        }
        remains
    }

    /// What comes after the answer.
    pub(crate) fn faults_after(&self, remains: Remains) {
        for rotation in remains.rotations {
            self.rotate_by_fault(rotation);
        }
    }

    /// Notes the daemon and the code that a request names, for its event.
    pub(crate) fn name_whom(
        &self,
        procedure: Procedure,
        credential: Option<&str>,
        input: Option<&Value>,
        about: &mut About,
    ) {
        let (_user, _daemon) = self.named(procedure, credential, input, about);
    }

    /// The user and the daemon that a request names; what of it is known is noted.
    fn named(
        &self,
        procedure: Procedure,
        credential: Option<&str>,
        input: Option<&Value>,
        about: &mut About,
    ) -> (Option<String>, Option<String>) {
        let user = match procedure.auth() {
            Auth::User => self.user(credential).ok(),
            Auth::ApiKey | Auth::None => None,
        };
        let daemon = match procedure.auth() {
            Auth::ApiKey => self.daemon(credential, about).ok().map(|daemon| daemon.id),
            Auth::User if procedure == Procedure::CreateSession => {
                input.and_then(|input| CreateSession::from_value(input).ok()).map(|input| input.daemon_id)
            }
            Auth::None if procedure == Procedure::RedeemQuickConnect => input
                .and_then(|input| RedeemQuickConnect::from_value(input).ok())
                .and_then(|RedeemQuickConnect { code }| {
                    about.code = Some(self.name_of(&code));
                    self.shared.store.daemon_of_code(Digest::of(&code)).ok().flatten()
                }),
            Auth::User | Auth::None => None,
        };
        // Of others nothing is told: who asks may name what they like.
        about.daemon = daemon.clone().filter(|id| matches!(self.shared.store.daemon(id), Ok(Some(_))));
        (user, daemon)
    }

    /// Lets the faults of a token's signing happen.
    pub(crate) fn faults_at_signing(&self) {
        for fault in self.faults.keys(&KeysPoint { usage: KeyUse::Sign }) {
            fault.report(Place::Keys, &self.shared.events, None, None);
            match fault.action {
                KeysAction::Rotate(rotation) => self.rotate_by_fault(rotation),
                // These are about asks for the key set; no plan has them here.
                KeysAction::Status(_)
                | KeysAction::Delay(_)
                | KeysAction::Hang
                | KeysAction::Cut
                | KeysAction::Foreign(_) => {}
            }
        }
    }

    /// Lets the faults of an ask for the key set happen.
    pub(crate) async fn faults_of_key_set(&self, mut stopping: Option<Stopping>, about: &mut About) -> KeysRemain {
        let fired = self.faults.keys(&KeysPoint { usage: KeyUse::Publish });
        about.faults = header_value(&fired);
        for fault in &fired {
            fault.report(Place::Keys, &self.shared.events, None, None);
        }
        let mut foreign = 0;
        for fault in &fired {
            match &fault.action {
                KeysAction::Status(answer) => return KeysRemain::Answered(answer.clone(), fault.label()),
                KeysAction::Delay(time) => self.delay(fault, *time, &mut stopping).await,
                KeysAction::Hang => {
                    if self.hang(fault, &mut stopping).await == Waited::Stopped {
                        return KeysRemain::Cut;
                    }
                }
                KeysAction::Cut => return KeysRemain::Cut,
                KeysAction::Foreign(entries) => foreign += entries,
                KeysAction::Rotate(rotation) => self.rotate_by_fault(*rotation),
            }
        }
        KeysRemain::Given { foreign }
    }

    /// The keys that are published now, with the faults of the plan: as a relay gets them over HTTP, for one in the same
    /// process. May take as long as the plan says; cancel-safe.
    ///
    /// # Errors
    /// The plan says that they cannot be had.
    pub async fn fetch_key_set(&self) -> Result<KeySet, KeySetUnavailable> {
        match self.faults_of_key_set(None, &mut About::default()).await {
            KeysRemain::Given { foreign: 0 } => Ok(self.key_set()),
            KeysRemain::Given { foreign } => {
                let text = with_foreign(&self.key_set(), foreign).map_err(|_| KeySetUnavailable::Unreadable)?;
                KeySet::parse(&text).map_err(|_| KeySetUnavailable::Unreadable)
            }
            KeysRemain::Answered(Answer { status: 200, .. }, _) => Err(KeySetUnavailable::Unreadable),
            KeysRemain::Answered(Answer { status, .. }, _) => Err(KeySetUnavailable::Status(status)),
            KeysRemain::Cut => Err(KeySetUnavailable::Cut),
        }
    }

    fn rotate_by_fault(&self, rotation: Rotation) {
        let Rotation { hard, overlap_seconds } = rotation;
        // A plan with a hard rotation and an overlap is refused.
        let _ = self.rotate_with(RotateKeys { hard, overlap_seconds });
    }

    /// Waits, unless the rule is gone or the server shuts down before.
    async fn delay<A>(&self, fault: &Fired<A>, time: Duration, stopping: &mut Option<Stopping>) {
        let _held = stopping.as_ref().map(Stopping::hold);
        tokio::select! {
            biased;
            () = stopped(stopping) => {}
            () = self.faults.over(fault) => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// Waits until the rule is gone or over, or the server shuts down.
    async fn hang<A>(&self, fault: &Fired<A>, stopping: &mut Option<Stopping>) -> Waited {
        let _held = stopping.as_ref().map(Stopping::hold);
        tokio::select! {
            biased;
            () = stopped(stopping) => Waited::Stopped,
            () = self.faults.over(fault) => Waited::Over,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Waited {
    Over,
    Stopped,
}

async fn stopped(stopping: &mut Option<Stopping>) {
    match stopping {
        Some(stopping) => stopping.stopped().await,
        None => std::future::pending().await,
    }
}

/// In place of an answer the connection ends.
pub(crate) fn cut() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(CutConnection);
    response
}

/// An answer by fault.
pub(crate) fn response(answer: &Answer, label: &str, path: &str) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (body, content_type) = match answer.body {
        AnswerBody::Json => (json_body(answer, status, label, path), Some("application/json")),
        AnswerBody::Html => (html_body(status), Some("text/html; charset=utf-8")),
        AnswerBody::Empty => (Vec::new(), None),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// An error as the procedures word it. On a status that is none, the body has one all the same.
fn json_body(answer: &Answer, status: StatusCode, label: &str, path: &str) -> Vec<u8> {
    let of_status = || ErrorCode::ALL.iter().copied().find(|code| code.status() == answer.status);
    let known = match &answer.code {
        Some(name) => ErrorCode::from_name(name),
        None if status.is_success() => Some(ErrorCode::InternalServerError),
        None => of_status(),
    };
    let by_reason = || status.canonical_reason().map(in_capitals);
    let code = answer.code.clone().or_else(|| known.map(|code| code.name().to_owned())).or_else(by_reason);
    let fallback = ErrorCode::InternalServerError;
    let http_status = if status.is_success() { known.unwrap_or(fallback).status() } else { answer.status };
    let error = ErrorShape {
        message: format!("a fault of the plan: {label}"),
        code: known.unwrap_or(fallback).json_rpc(),
        data: ErrorData { code: code.unwrap_or_else(|| "UNKNOWN".to_owned()), http_status, path: path.to_owned() },
    };
    // Text and numbers only: it always becomes JSON.
    serde_json::to_vec(&ErrorBody { error }).unwrap_or_default()
}

/// A reason such as `Service Unavailable` as a code.
fn in_capitals(reason: &str) -> String {
    let letters = reason.chars().filter(|letter| *letter != '\'');
    letters.map(|letter| if letter.is_ascii_alphabetic() { letter.to_ascii_uppercase() } else { '_' }).collect()
}

/// What a proxy or a captive portal in between would send.
fn html_body(status: StatusCode) -> Vec<u8> {
    let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("Unknown"));
    format!("<!doctype html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n")
        .into_bytes()
}

/// The key set as JSON, with entries of other kinds in between that a relay must pass over.
pub(crate) fn with_foreign(keys: &KeySet, foreign: u32) -> Result<Vec<u8>, serde_json::Error> {
    let mut set = serde_json::to_value(keys)?;
    if let Some(Value::Array(entries)) = set.get_mut("keys") {
        for number in 0..foreign {
            let entry = foreign_entry(number);
            // Before and behind our own.
            if number % 2 == 0 { entries.insert(0, entry) } else { entries.push(entry) }
        }
    }
    serde_json::to_vec(&set)
}

fn foreign_entry(number: u32) -> Value {
    let kid = format!("foreign-{number}");
    let x = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    match number % 5 {
        0 => json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": "AQAB", "e": "AQAB"}),
        1 => json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": x}),
        2 => json!({"kty": "OKP", "crv": "X25519", "use": "enc", "kid": kid, "x": x}),
        3 => json!({"kty": "future", "kid": kid, "data": [1, null, {"more": true}]}),
        _ => json!({"kty": "OKP", "crv": "Ed448", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x}),
    }
}
