//! Accounts below `/__sim`: users, daemons, credentials and grants.

use std::collections::BTreeSet;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use sideband_protocol::api::{ApiKey, Input, RegisterDaemon};
use sideband_sim_kit::admin::{
    ErrorAnswer,
    accounts::{
        Accounts, DaemonAccount, DaemonCreated, DaemonSettings, Granted, KeyIssued, NewDaemon, NewUser, Removed,
        TokenIssued, UserAccount, UserChange, UserCreated, UserRemoved,
    },
    error_response,
};
use tracing::error;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{decode, wrong};
use crate::{
    AccessToken, Added, Api, CredentialId, Daemon, DaemonChange, Digest, Directory, RotateError, StoreError, User,
};

/// Most characters of an id or a region.
const MAX_NAME: usize = 64;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(create_user))
        .routes(routes!(change_user, remove_user))
        .routes(routes!(issue_token))
        .routes(routes!(revoke_token))
        .routes(routes!(create_daemon))
        .routes(routes!(change_daemon, remove_daemon))
        .routes(routes!(issue_key))
        .routes(routes!(revoke_key))
        .routes(routes!(grant, revoke_grant))
}

/// What is wrong with a request.
pub(super) enum Wrong {
    Body(String),
    NotThere(&'static str),
    Taken,
    Conflict(String),
    Store(StoreError),
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<RotateError> for Wrong {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::HardWithOverlap => Self::Body(error.to_string()),
            RotateError::Store(error) => Self::Store(error),
        }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        match self {
            Self::Body(message) => wrong(message),
            Self::NotThere(what) => {
                error_response(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
            }
            Self::Taken => error_response(StatusCode::CONFLICT, "conflict", "the id is taken"),
            Self::Conflict(message) => error_response(StatusCode::CONFLICT, "conflict", message),
            Self::Store(error) => {
                error!(%error, "an admin request failed");
                error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the store failed")
            }
        }
    }
}

pub(super) type Answer<T> = Result<Json<T>, Wrong>;

pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Wrong> {
    decode(bytes).map_err(|error| Wrong::Body(error.to_string()))
}

/// An id as a path and a token can carry it.
fn check_id(id: &str) -> Result<(), Wrong> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    // A path of dots alone is another path.
    let dots = id.bytes().all(|byte| byte == b'.');
    if dots || id.len() > MAX_NAME || !id.bytes().all(fits) {
        return Err(Wrong::Body(format!("an id is 1 to {MAX_NAME} letters, digits, `_`, `-` and `.`")));
    }
    Ok(())
}

pub(super) fn check_region(region: Option<&str>) -> Result<(), Wrong> {
    if region.is_some_and(|region| region.is_empty() || region.len() > MAX_NAME) {
        return Err(Wrong::Body(format!("`region` is 1 to {MAX_NAME} bytes of text")));
    }
    Ok(())
}

/// TOK-11: a relay would refuse tokens with less.
fn check_limit(limit: Option<u64>) -> Result<(), Wrong> {
    if limit.is_some_and(|limit| !(1..=i64::MAX as u64).contains(&limit)) {
        return Err(Wrong::Body("`concurrentSessions` is at least 1".to_owned()));
    }
    Ok(())
}

fn credential_id(text: &str, what: &'static str) -> Result<CredentialId, Wrong> {
    text.parse().map_err(|_| Wrong::NotThere(what))
}

fn removed(was_there: bool, what: &'static str) -> Answer<Removed> {
    if was_there { Ok(Json(Removed { removed: true })) } else { Err(Wrong::NotThere(what)) }
}

fn accounts(api: &Api) -> Answer<Accounts> {
    let Directory { users, daemons, access_tokens, api_keys, grants } = api.store().directory()?;
    let ids = |list: &[(CredentialId, String)], of: &str| -> Vec<String> {
        list.iter().filter(|(_, holder)| holder == of).map(|(id, _)| id.to_string()).collect()
    };
    let daemons = daemons.into_iter().map(|daemon| DaemonAccount {
        api_key_ids: ids(&api_keys, &daemon.id),
        grants: grants.iter().filter(|(_, id)| *id == daemon.id).map(|(user, _)| user.clone()).collect(),
        daemon_id: daemon.id,
        owner: daemon.owner,
        name: daemon.name,
        resumable: daemon.resumable,
        region: daemon.region,
        concurrent_sessions: daemon.concurrent_sessions,
    });
    let daemons: Vec<DaemonAccount> = daemons.collect();
    let user_accounts = users.iter().map(|user| UserAccount {
        user_id: user.id.clone(),
        region: user.region.clone(),
        access_token_ids: ids(&access_tokens, &user.id),
    });
    let user_accounts: Vec<UserAccount> = user_accounts.collect();
    let of_users = user_accounts.iter().filter_map(|user| user.region.as_deref());
    let named: BTreeSet<&str> = daemons.iter().filter_map(|daemon| daemon.region.as_deref()).chain(of_users).collect();
    let unserved_regions = named.into_iter().filter(|region| !api.serves(region)).map(str::to_owned).collect();
    let users = users.into_iter().map(|user| user.id).collect();
    Ok(Json(Accounts { users, daemons, user_accounts, unserved_regions }))
}

/// List users, daemons, the ids of their credentials, and grants.
#[utoipa::path(
    get,
    path = "/accounts",
    operation_id = "accounts",
    responses(
        (status = 200, description = "Now", body = Accounts),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn list(State(api): State<Api>) -> Answer<Accounts> {
    accounts(&api)
}

/// Draws until an id or a secret is free; one that was wished for is not drawn again.
fn until_free<T: Serialize>(
    wished: bool,
    mut draw: impl FnMut() -> Result<(Added, T), StoreError>,
    holder: &'static str,
) -> Answer<T> {
    loop {
        match draw()? {
            (Added::Yes, made) => return Ok(Json(made)),
            (Added::NoHolder, _) => return Err(Wrong::NotThere(holder)),
            (Added::Taken, _) if wished => return Err(Wrong::Taken),
            (Added::Taken, _) => {}
        }
    }
}

/// Make a user with an access token.
#[utoipa::path(
    post,
    path = "/accounts/users",
    operation_id = "createUser",
    request_body = Option<NewUser>,
    responses(
        (status = 200, description = "Done", body = UserCreated),
        (status = 400, description = "The body makes no sense", body = ErrorAnswer),
        (status = 409, description = "The id is taken", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn create_user(State(api): State<Api>, bytes: Bytes) -> Answer<UserCreated> {
    let NewUser { user_id, region } = body(&bytes)?;
    user_id.as_deref().map_or(Ok(()), check_id)?;
    check_region(region.as_deref())?;
    let draw = || {
        let user_id = user_id.clone().unwrap_or_else(|| format!("u_{}", api.random_text(10)));
        let token = AccessToken::random(api.entropy().as_mut());
        let digest = Digest::of(token.expose());
        let added = api.store().add_user(&User { id: user_id.clone(), region: region.clone() }, digest)?;
        let access_token = token.expose().to_owned();
        Ok((added, UserCreated { user_id, access_token, access_token_id: digest.id().to_string() }))
    };
    until_free(user_id.is_some(), draw, "user")
}

/// Change a user: what is absent stays, null takes away. A region that no relay is known to serve is taken, and named in the answer.
#[utoipa::path(
    patch,
    path = "/accounts/users/{id}",
    operation_id = "changeUser",
    params(("id" = String, Path, description = "The user")),
    request_body = UserChange,
    responses(
        (status = 200, description = "Done", body = Accounts),
        (status = 400, description = "The body makes no sense", body = ErrorAnswer),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn change_user(State(api): State<Api>, Path(id): Path<String>, bytes: Bytes) -> Answer<Accounts> {
    let UserChange { region } = body(&bytes)?;
    let region = region.as_ref().map(Option::as_deref);
    check_region(region.flatten())?;
    let there = match region {
        Some(region) => api.store().set_user_region(&id, region)?,
        None => api.store().user(&id)?.is_some(),
    };
    if !there {
        return Err(Wrong::NotThere("user"));
    }
    accounts(&api)
}

/// Remove a user, its tokens, grants and daemons.
#[utoipa::path(
    delete,
    path = "/accounts/users/{id}",
    operation_id = "removeUser",
    params(("id" = String, Path, description = "The user")),
    responses(
        (status = 200, description = "Done", body = UserRemoved),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn remove_user(State(api): State<Api>, Path(id): Path<String>) -> Answer<UserRemoved> {
    let daemon_ids = api.store().remove_user(&id)?.ok_or(Wrong::NotThere("user"))?;
    Ok(Json(UserRemoved { removed: true, daemon_ids }))
}

/// Issue a further access token of a user.
#[utoipa::path(
    post,
    path = "/accounts/users/{id}/tokens",
    operation_id = "issueAccessToken",
    params(("id" = String, Path, description = "The user")),
    responses(
        (status = 200, description = "Done", body = TokenIssued),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn issue_token(State(api): State<Api>, Path(id): Path<String>) -> Answer<TokenIssued> {
    let draw = || {
        let token = AccessToken::random(api.entropy().as_mut());
        let digest = Digest::of(token.expose());
        let added = api.store().add_access_token(digest, &id)?;
        let access_token = token.expose().to_owned();
        Ok((added, TokenIssued { access_token, access_token_id: digest.id().to_string() }))
    };
    until_free(false, draw, "user")
}

/// Revoke an access token.
#[utoipa::path(
    delete,
    path = "/accounts/tokens/{id}",
    operation_id = "revokeAccessToken",
    params(("id" = String, Path, description = "The token's id, 16 hex digits")),
    responses(
        (status = 200, description = "Done", body = Removed),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn revoke_token(State(api): State<Api>, Path(id): Path<String>) -> Answer<Removed> {
    const WHAT: &str = "access token";
    removed(api.store().revoke_access_token(credential_id(&id, WHAT)?)?, WHAT)
}

/// Make a daemon with an API key.
#[utoipa::path(
    post,
    path = "/accounts/daemons",
    operation_id = "createDaemon",
    request_body = NewDaemon,
    responses(
        (status = 200, description = "Done", body = DaemonCreated),
        (status = 400, description = "The body makes no sense", body = ErrorAnswer),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 409, description = "The id is taken", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn create_daemon(State(api): State<Api>, bytes: Bytes) -> Answer<DaemonCreated> {
    let new: NewDaemon = body(&bytes)?;
    new.daemon_id.as_deref().map_or(Ok(()), check_id)?;
    check_region(new.region.as_deref())?;
    check_limit(new.concurrent_sessions)?;
    // What `daemon.register` asks of the key holds here too.
    let key = serde_json::json!({"identityPublicKey": new.identity_public_key});
    RegisterDaemon::from_value(&key).map_err(|error| Wrong::Body(error.to_string()))?;
    let draw = || {
        let daemon_id = new.daemon_id.clone().unwrap_or_else(|| format!("d_{}", api.random_text(10)));
        let key = ApiKey::random(api.entropy().as_mut());
        let digest = Digest::of(key.expose());
        let daemon = Daemon {
            id: daemon_id.clone(),
            owner: new.owner.clone(),
            name: new.name.clone(),
            identity_public_key: new.identity_public_key.clone(),
            resumable: new.resumable,
            region: new.region.clone(),
            concurrent_sessions: new.concurrent_sessions,
        };
        let added = api.store().add_daemon(&daemon, digest)?;
        let api_key = key.expose().to_owned();
        Ok((added, DaemonCreated { daemon_id, api_key, api_key_id: digest.id().to_string() }))
    };
    until_free(new.daemon_id.is_some(), draw, "user")
}

/// Change a daemon's region and limits: what is absent stays, null takes away. A region that no relay is known to serve is taken, and
/// named in the answer.
#[utoipa::path(
    patch,
    path = "/accounts/daemons/{id}",
    operation_id = "changeDaemon",
    params(("id" = String, Path, description = "The daemon")),
    request_body = DaemonSettings,
    responses(
        (status = 200, description = "Done", body = Accounts),
        (status = 400, description = "The body makes no sense", body = ErrorAnswer),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn change_daemon(State(api): State<Api>, Path(id): Path<String>, bytes: Bytes) -> Answer<Accounts> {
    let DaemonSettings { region, concurrent_sessions } = body(&bytes)?;
    check_region(region.as_ref().and_then(Option::as_deref))?;
    check_limit(concurrent_sessions.flatten())?;
    let change = DaemonChange { region, concurrent_sessions };
    api.store().change_daemon(&id, change)?.ok_or(Wrong::NotThere("daemon"))?;
    accounts(&api)
}

/// Remove a daemon, its API keys, codes and grants.
#[utoipa::path(
    delete,
    path = "/accounts/daemons/{id}",
    operation_id = "removeDaemon",
    params(("id" = String, Path, description = "The daemon")),
    responses(
        (status = 200, description = "Done", body = Removed),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn remove_daemon(State(api): State<Api>, Path(id): Path<String>) -> Answer<Removed> {
    removed(api.store().remove_daemon(&id)?, "daemon")
}

/// Issue a further API key of a daemon.
#[utoipa::path(
    post,
    path = "/accounts/daemons/{id}/keys",
    operation_id = "issueApiKey",
    params(("id" = String, Path, description = "The daemon")),
    responses(
        (status = 200, description = "Done", body = KeyIssued),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn issue_key(State(api): State<Api>, Path(id): Path<String>) -> Answer<KeyIssued> {
    let draw = || {
        let key = ApiKey::random(api.entropy().as_mut());
        let digest = Digest::of(key.expose());
        let added = api.store().add_api_key(digest, &id)?;
        let api_key = key.expose().to_owned();
        Ok((added, KeyIssued { api_key, api_key_id: digest.id().to_string() }))
    };
    until_free(false, draw, "daemon")
}

/// Revoke an API key.
#[utoipa::path(
    delete,
    path = "/accounts/keys/{id}",
    operation_id = "revokeApiKey",
    params(("id" = String, Path, description = "The key's id, 16 hex digits")),
    responses(
        (status = 200, description = "Done", body = Removed),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn revoke_key(State(api): State<Api>, Path(id): Path<String>) -> Answer<Removed> {
    const WHAT: &str = "API key";
    removed(api.store().revoke_api_key(credential_id(&id, WHAT)?)?, WHAT)
}

/// Let a user other than the owner use a daemon.
#[utoipa::path(
    put,
    path = "/accounts/daemons/{id}/grants/{user}",
    operation_id = "grant",
    params(("id" = String, Path, description = "The daemon"), ("user" = String, Path, description = "The user")),
    responses(
        (status = 200, description = "Done", body = Granted),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn grant(State(api): State<Api>, Path((daemon, user)): Path<(String, String)>) -> Answer<Granted> {
    match api.store().add_grant(&user, &daemon)? {
        Added::Yes => Ok(Json(Granted { granted: true })),
        Added::Taken => Ok(Json(Granted { granted: false })),
        Added::NoHolder => Err(Wrong::NotThere("user or daemon")),
    }
}

/// Take a grant back.
#[utoipa::path(
    delete,
    path = "/accounts/daemons/{id}/grants/{user}",
    operation_id = "revokeGrant",
    params(("id" = String, Path, description = "The daemon"), ("user" = String, Path, description = "The user")),
    responses(
        (status = 200, description = "Done", body = Removed),
        (status = 404, description = "There is no such user, daemon, credential or grant", body = ErrorAnswer),
        (status = 500, description = "The store failed", body = ErrorAnswer),
    )
)]
async fn revoke_grant(State(api): State<Api>, Path((daemon, user)): Path<(String, String)>) -> Answer<Removed> {
    removed(api.store().remove_grant(&user, &daemon)?, "grant")
}
