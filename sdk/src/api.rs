//! Calls of the control plane, above the HTTP seam: the same code in production and in simulation.

use http::{HeaderMap, HeaderValue, Method, header};
use sideband_env::{Env, HttpError, HttpRequest};
use sideband_protocol::{
    api::{AnswerError, ApiError, MAX_ANSWER, RESUME_HEADER, Request, decode_answer},
    failure::Cause,
};
use url::{Position, Url};

use crate::{Error, error::argument};

/// Where the control plane is.
#[derive(Debug, Clone)]
pub(crate) struct ApiUrl(Url);

impl ApiUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut url = Url::parse(text).map_err(|e| argument("the API URL", e))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(argument("the API URL", format!("`{}:` is not http or https with a host", url.scheme())));
        }
        check_plain(&url).map_err(|reason| argument("the API URL", reason))?;
        if url.query().is_some() {
            return Err(argument("the API URL", format!("{} has a query, which no call would carry", shown(&url))));
        }
        // Paths are appended to it.
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self(url))
    }

    fn procedure(&self, path: &str) -> Result<Url, Cause> {
        self.0.join(path.trim_start_matches('/')).map_err(|e| Cause::ApiUnreachable(e.to_string()))
    }
}

const STRANGE: &str = "it has characters that no credential has: a space, a line break or what is not ASCII";

/// What no API can take as a bearer's credential.
pub(crate) fn check_credential(credential: &str) -> Result<(), &'static str> {
    if credential.is_empty() {
        return Err("it is empty");
    }
    if credential.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err(STRANGE) }
}

/// What of a URL can be shown: a user, password, query or fragment may be a secret.
fn shown(url: &Url) -> String {
    format!("`{}{}`", &url[..Position::BeforeUsername], &url[Position::BeforeHost..Position::AfterPath])
}

/// Parts that a URL may have and that nothing would be done with.
pub(crate) fn check_plain(url: &Url) -> Result<(), String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{} has a user or a password before its host, which nothing asks for", shown(url)));
    }
    if url.fragment().is_some() {
        return Err(format!("{} has a fragment (`#…`), which no server sees", shown(url)));
    }
    Ok(())
}

/// How to call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Credential<'a> {
    pub(crate) bearer: Option<&'a str>,
    pub(crate) resume: bool,
}

/// One call; the caller sets the deadline.
pub(crate) async fn call<R: Request>(
    env: &Env,
    api: &ApiUrl,
    request: &R,
    credential: Credential<'_>,
) -> Result<R::Answer, Cause> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(bearer) = credential.bearer {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {bearer}")).map_err(|_| Cause::UnusableToken(STRANGE))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    if credential.resume {
        headers.insert(RESUME_HEADER, HeaderValue::from_static("1"));
    }
    let answer = env
        .http
        .send(HttpRequest {
            method: Method::POST,
            url: api.procedure(&R::PROCEDURE.path())?,
            headers,
            body: request.body().into(),
            max_answer: MAX_ANSWER,
        })
        .await
        .map_err(|error| match error {
            HttpError::Connect(_) | HttpError::Transport(_) => Cause::ApiUnreachable(error.to_string()),
            HttpError::BodyTooLarge(_) => Cause::ApiUnreadable(error.to_string()),
        })?;
    let wait = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    decode_answer::<R>(answer.status.as_u16(), wait, &answer.body, env.clock.unix_seconds()).map_err(
        |error| match error {
            AnswerError::Refused(ApiError { status, code, message, retry_after }) => {
                hide(Cause::Api { status, code, message, retry_after }, credential.bearer.unwrap_or_default())
            }
            AnswerError::Unreadable(reason) => Cause::ApiUnreadable(reason.to_owned()),
        },
    )
}

/// What the API says of a refusal, without a secret that it was sent: it may quote what it does not like, and causes are logged.
pub(crate) fn hide(mut cause: Cause, secret: &str) -> Cause {
    if let Cause::Api { code, message, .. } = &mut cause {
        (*code, *message) = (without(code, secret), without(message, secret));
    }
    cause
}

/// Another side's words, without a secret.
pub(crate) fn without(words: &str, secret: &str) -> String {
    if secret.is_empty() { words.to_owned() } else { words.replace(secret, "…") }
}
