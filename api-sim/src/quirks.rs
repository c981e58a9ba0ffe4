//! What tests break on purpose, away from what is right: all of it does nothing in production.

use axum::{
    http::{
        HeaderMap, Method,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
        request::Parts,
    },
    response::Response,
};
use serde_json::Value;
use sideband_protocol::api::{
    ApiQuirk, Auth, CreateQuickConnect, CreateSession, ErrorCode, Input, MAX_BODY, Procedure, RedeemQuickConnect,
};

use crate::{
    Api, Code, Daemon, Digest, StoreError,
    api::{About, Failure},
    keys::Rotation,
};

impl Api {
    pub(crate) fn has(&self, quirk: ApiQuirk) -> bool {
        self.shared.config.danger_quirks.has(quirk)
    }

    pub(crate) fn allows_origin(&self, headers: &HeaderMap) -> bool {
        self.shared.config.origins.allows_request(headers) || self.has(ApiQuirk::TakesAnyOrigin)
    }

    /// Checks that are made before their turn: procedure, method, size.
    pub(crate) fn break_order(&self, parts: &Parts, procedure: Option<Procedure>) -> Result<(), Failure> {
        let early = |code: ErrorCode| Err(Failure::new(code, "before its turn"));
        let is_call = parts.uri.path().starts_with("/api/");
        if self.has(ApiQuirk::OriginAfterProcedure) && is_call && procedure.is_none() {
            return early(ErrorCode::NotFound);
        }
        let known = matches!(parts.method, Method::POST | Method::OPTIONS);
        if self.has(ApiQuirk::MethodBeforeProcedure) && is_call && !known {
            return early(ErrorCode::MethodNotSupported);
        }
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if self.has(ApiQuirk::SizeBeforeMethod) && length.is_some_and(|length| length > MAX_BODY) {
            return early(ErrorCode::PayloadTooLarge);
        }
        Ok(())
    }

    pub(crate) fn break_credential(&self, procedure: Procedure, credential: Option<&str>) -> Result<(), Failure> {
        if !self.has(ApiQuirk::CredentialBeforeJson) {
            return Ok(());
        }
        match procedure.auth() {
            Auth::User => self.user(credential).map(drop),
            Auth::ApiKey => self.daemon(credential, &mut About::default()).map(drop),
            Auth::None => Ok(()),
        }
    }

    /// What was read of a body.
    pub(crate) fn break_reading(&self, input: Result<Value, Failure>) -> Result<Value, Failure> {
        match input {
            Err(failure) if failure.code == ErrorCode::PayloadTooLarge && self.has(ApiQuirk::JsonBeforeSize) => {
                Err(Failure::new(ErrorCode::ParseError, "before its turn"))
            }
            other => other,
        }
    }

    /// Checks of the input that come before the credential's, and others that come before them.
    pub(crate) async fn break_input(&self, procedure: Procedure, value: &Value) -> Result<(), Failure> {
        if self.has(ApiQuirk::InputBeforeCredential) {
            match procedure {
                Procedure::CreateSession => CreateSession::from_value(value).map(|_| ())?,
                Procedure::CreateQuickConnect => CreateQuickConnect::from_value(value).map(|_| ())?,
                Procedure::RenewToken
                | Procedure::RedeemQuickConnect
                | Procedure::RegisterDaemon
                | Procedure::ListAccessible => {}
            }
        }
        if procedure != Procedure::CreateSession {
            return Ok(());
        }
        let named = value.get("daemonId").and_then(Value::as_str);
        if self.has(ApiQuirk::DaemonBeforeInput) && named.is_none() {
            return Err(Failure::new(ErrorCode::NotFound, "no such daemon"));
        }
        if let (true, Some(daemon)) = (self.has(ApiQuirk::RefusesOfflineDaemons), named)
            && !self.shared.presence.is_online(daemon).await.unwrap_or(true)
        {
            return Err(Failure::new(ErrorCode::Conflict, "the daemon is offline"));
        }
        Ok(())
    }

    pub(crate) fn break_response(&self, response: &mut Response) {
        if self.has(ApiQuirk::ErrorsWithoutType) && !response.status().is_success() {
            response.headers_mut().remove(CONTENT_TYPE);
        }
    }

    pub(crate) fn break_rotation(&self, rotation: &mut Rotation, now: u64) {
        if self.has(ApiQuirk::RotatesHardAlways) {
            rotation.previous_until = None;
        } else if self.has(ApiQuirk::RotatesSoftAlways) {
            rotation.previous_until = Some(now.saturating_add(self.shared.config.key_overlap));
        }
    }

    /// The daemon whose token is renewed whoever asks.
    pub(crate) fn first_daemon(&self) -> Result<Option<Daemon>, StoreError> {
        if !self.has(ApiQuirk::RenewsForFirst) {
            return Ok(None);
        }
        Ok(self.shared.store.directory()?.daemons.into_iter().next())
    }

    /// Consumes a code as it must be, or not (API-04, API-05).
    pub(crate) async fn consume(&self, input: &RedeemQuickConnect) -> Result<Option<Code>, StoreError> {
        let (store, digest) = (&self.shared.store, Digest::of(&input.code));
        let found = store.consume_code(digest, self.now())?;
        if let (true, Some(code)) = (self.has(ApiQuirk::RedeemsInTwoSteps), &found) {
            store.add_code(digest, code, self.now())?;
            tokio::task::yield_now().await;
            store.consume_code(digest, self.now())?;
        }
        if let (true, Some(code)) = (self.has(ApiQuirk::SparesCodes), &found)
            && !self.shared.presence.is_online(&code.daemon_id).await.unwrap_or(true)
        {
            store.add_code(digest, code, self.now())?;
        }
        Ok(found)
    }

    pub(crate) async fn break_redeem(&self, input: &RedeemQuickConnect) -> Result<(), Failure> {
        if !self.has(ApiQuirk::TellsExpiry) {
            return Ok(());
        }
        let (store, digest) = (&self.shared.store, Digest::of(&input.code));
        // By a clock that stands still, no code has expired.
        let Some(code) = store.consume_code(digest, 0)? else { return Ok(()) };
        if code.expires_at <= self.now() {
            return Err(Failure::new(ErrorCode::NotFound, "the code has expired"));
        }
        store.add_code(digest, &code, self.now())?;
        Ok(())
    }
}
