//! The HTTP client seam: one request, one answer. Classification, time-outs, Retry-After and decoding live above it.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::BoxFuture;

/// One request.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// An absolute `http` or `https` URL.
    pub url: Url,
    /// Headers; credentials are marked sensitive.
    pub headers: HeaderMap,
    /// The body, empty for none.
    pub body: Bytes,
    /// Most bytes that the answer's body may have; a larger one is [`HttpError::BodyTooLarge`].
    pub max_answer: usize,
}

/// The answer, whatever its status. Redirects are answers like others: none is followed.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// No answer could be had.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke, or what came was not HTTP.
    #[error("no readable HTTP answer: {0}")]
    Transport(String),
    /// The body is larger than the caller takes.
    #[error("the answer's body is larger than {0} bytes")]
    BodyTooLarge(usize),
}

/// Sends requests. Dropping the future cancels; the caller sets the deadline.
pub trait HttpClient: Send + Sync {
    /// Sends one request and reads the whole answer.
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>>;
}
