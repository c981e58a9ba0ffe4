//! The control plane's HTTP client in production: reqwest on rustls, no redirects.

use bytes::{Bytes, BytesMut};
use rustls::ClientConfig;
use url::{Host, Url};

use super::TlsError;
use crate::{BoxFuture, HttpClient, HttpError, HttpRequest, HttpResponse};

/// HTTP by reqwest. Follows no redirect, keeps no cookie. A proxy of the environment is used, but never for loopback.
pub struct ReqwestClient {
    /// For the rest of the world: with the environment's proxy, if it names one.
    outside: reqwest::Client,
    /// For this machine: no proxy can reach its loopback.
    loopback: reqwest::Client,
}

impl ReqwestClient {
    /// A client that speaks TLS as configured.
    ///
    /// # Errors
    /// The library refuses the configuration.
    pub fn new(tls: &ClientConfig) -> Result<Self, TlsError> {
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
        };
        let setup = |e: reqwest::Error| TlsError::Setup(e.to_string());
        Ok(Self { outside: builder().build().map_err(setup)?, loopback: builder().no_proxy().build().map_err(setup)? })
    }

    fn client(&self, url: &Url) -> &reqwest::Client {
        let loopback = match url.host() {
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
            }
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        if loopback { &self.loopback } else { &self.outside }
    }
}

/// The error and its causes, without the URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn classify(error: reqwest::Error) -> HttpError {
    if error.is_connect() { HttpError::Connect(describe(error)) } else { HttpError::Transport(describe(error)) }
}

impl HttpClient for ReqwestClient {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            let max = request.max_answer;
            let mut answer = self
                .client(&request.url)
                .request(request.method, request.url)
                .headers(request.headers)
                .body(request.body)
                .send()
                .await
                .map_err(classify)?;
            let mut body = BytesMut::new();
            while let Some(chunk) = answer.chunk().await.map_err(classify)? {
                if body.len() + chunk.len() > max {
                    return Err(HttpError::BodyTooLarge(max));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(HttpResponse {
                status: answer.status(),
                headers: std::mem::take(answer.headers_mut()),
                body: Bytes::from(body),
            })
        })
    }
}
