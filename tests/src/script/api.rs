//! The control plane: every call waits for the test's answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sideband_env::{BoxFuture, HttpClient, HttpError, HttpRequest, HttpResponse};
use tokio::sync::{mpsc, oneshot};

type Reply = oneshot::Sender<Result<HttpResponse, HttpError>>;

struct ScriptedHttp(mpsc::UnboundedSender<ApiCall>);

pub(super) fn http() -> (Arc<dyn HttpClient>, mpsc::UnboundedReceiver<ApiCall>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(ScriptedHttp(sender)), receiver)
}

impl HttpClient for ScriptedHttp {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let refused = || HttpError::Connect("the test's world is gone".to_owned());
            self.0.send(ApiCall { request, reply }).map_err(|_| refused())?;
            // A call that the test lets go of broke off.
            answer.await.unwrap_or_else(|_| Err(HttpError::Transport("connection reset".to_owned())))
        })
    }
}

/// One API call that waits for its answer. Dropping it breaks the connection.
pub struct ApiCall {
    /// What was asked.
    pub request: HttpRequest,
    reply: Reply,
}

impl ApiCall {
    /// The procedure's name, such as `relay.createSession`.
    pub fn procedure(&self) -> &str {
        self.request.url.path().rsplit('/').next().unwrap_or_default()
    }

    /// The Bearer credential.
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers.get(name)?.to_str().ok()
    }

    /// The input; null for an empty body.
    pub fn input(&self) -> Value {
        serde_json::from_slice(&self.request.body).unwrap_or_default()
    }

    /// Whether the endpoint has given the call up.
    pub fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    /// Waits until the endpoint gives the call up.
    pub async fn given_up(&mut self) {
        super::soon("a call to be given up", self.reply.closed()).await;
    }

    /// 200 with this data.
    pub fn ok(self, data: Value) {
        self.answer(200, &[], json!({ "result": { "data": data } }).to_string());
    }

    /// A failure as the control plane answers it.
    pub fn refuse(self, status: u16) {
        self.refuse_with(status, &[]);
    }

    /// A failure with headers, such as `retry-after`.
    pub fn refuse_with(self, status: u16, headers: &[(&str, &str)]) {
        let code = match status {
            400 => "BAD_REQUEST",
            401 => "UNAUTHORIZED",
            403 => "FORBIDDEN",
            404 => "NOT_FOUND",
            405 => "METHOD_NOT_SUPPORTED",
            409 => "CONFLICT",
            413 => "PAYLOAD_TOO_LARGE",
            429 => "TOO_MANY_REQUESTS",
            _ => "INTERNAL_SERVER_ERROR",
        };
        let data = json!({ "code": code, "httpStatus": status, "path": self.procedure() });
        let body = json!({ "error": { "message": format!("refused with {status}"), "code": -32_000, "data": data } });
        self.answer(status, headers, body.to_string());
    }

    /// Any answer.
    ///
    /// # Panics
    /// If the test names a status or a header that cannot be.
    pub fn answer(self, status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) {
        let mut all = HeaderMap::new();
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header's name");
            all.insert(name, value.parse().expect("a header's value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let (body, most) = (body.into(), self.request.max_answer);
        self.send(if body.len() > most {
            Err(HttpError::BodyTooLarge(most))
        } else {
            Ok(HttpResponse { status, headers: all, body })
        });
    }

    /// No connection could be had.
    pub fn unreachable(self) {
        self.send(Err(HttpError::Connect("connection refused".to_owned())));
    }

    fn send(self, answer: Result<HttpResponse, HttpError>) {
        // The endpoint may have given the call up.
        let _ = self.reply.send(answer);
    }
}
