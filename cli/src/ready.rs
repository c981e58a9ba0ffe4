//! The line that servers print once they answer, and the proof before it.

use std::time::Duration;

use anyhow::{Context, anyhow};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Serialize;
use sideband::env::{Env, HttpRequest};
use sideband_relay_sim::Relay;
use sideband_sim_kit::{
    admin::{ADMIN_PATH, AdminClient},
    guard::AdminToken,
};
use url::Url;

use crate::{failure::Failure, tls::Security};

/// How long a server that listens may take to answer its own first request.
const DEADLINE: Duration = Duration::from_secs(5);

/// The ready line. It is an interface: members are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadyLine<'a> {
    pub(crate) event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_url: Option<&'a str>,
    pub(crate) relay_url: &'a str,
    pub(crate) admin_url: &'a str,
    #[serde(flatten)]
    pub(crate) credentials: Option<Credentials<'a>>,
    pub(crate) issuer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin_token: Option<&'a str>,
    /// The certificates to trust, as a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<&'a std::path::Path>,
}

/// The credentials of the first user and daemon.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Credentials<'a> {
    pub(crate) daemon_id: &'a str,
    pub(crate) api_key: &'a str,
    pub(crate) access_token: &'a str,
}

impl<'a> From<&'a sideband_api_sim::Bootstrap> for Credentials<'a> {
    fn from(bootstrap: &'a sideband_api_sim::Bootstrap) -> Self {
        Self {
            daemon_id: &bootstrap.daemon_id,
            api_key: bootstrap.api_key.expose(),
            access_token: bootstrap.access_token.expose(),
        }
    }
}

/// Asks a server that listens at `local`: its admin API must answer and, if it has a relay, an upgrade as well. The relay
/// forgets that it was asked.
pub(crate) async fn prove(
    env: &Env,
    local: &str,
    token: Option<AdminToken>,
    relay: Option<&Relay>,
    security: &Security,
) -> Result<(), Failure> {
    let proof = async {
        let admin = Url::parse(&format!("{local}{ADMIN_PATH}"))?;
        AdminClient::new(env.clone(), admin, token).ready().await?;
        if let Some(relay) = relay {
            upgrade(env, local).await?;
            relay.forget_refusals();
        }
        anyhow::Ok(())
    };
    let proven = tokio::time::timeout(DEADLINE, proof).await;
    let proven = proven.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", DEADLINE.as_secs())));
    match proven {
        // A certificate of one's own need not be one for this machine's loopback.
        Err(error) if security.is_tls() && !security.ours => {
            tracing::warn!(error = format!("{error:#}"), "{local} could not be asked with the certificate given");
            Ok(())
        }
        proven => proven
            .with_context(|| format!("{local} listens but does not answer as it should"))
            .map_err(Failure::cannot_run),
    }
}

/// An upgrade without a token is answered: with 401 (TOK-01).
async fn upgrade(env: &Env, local: &str) -> anyhow::Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("c2lkZWJhbmQtc2ltLXBybw=="));
    let request = HttpRequest {
        method: Method::GET,
        url: Url::parse(&format!("{local}/relay"))?,
        headers,
        body: Default::default(),
        max_answer: 64 << 10,
    };
    let answer = env.http.send(request).await?;
    anyhow::ensure!(answer.status == 401, "an upgrade without a token got {} instead of 401", answer.status.as_u16());
    Ok(())
}
