//! Who knows whether a daemon is online: the relay, which the control plane asks.

use std::sync::Arc;

use sideband_env::{BoxFuture, Env};
use url::Url;

use crate::{
    admin::{AdminClient, AdminError},
    guard::AdminToken,
};

/// It cannot be told whether a daemon is online.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// Nobody was named who could tell.
    #[error("no relay is configured that could tell")]
    Unconfigured,
    /// The relay did not tell.
    #[error("the relay does not tell: {0}")]
    Relay(#[from] AdminError),
}

/// Tells whether daemons are online.
pub trait Presence: Send + Sync {
    /// Whether the daemon's socket is at the relay now.
    fn is_online<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>>;
}

impl<T: Presence + ?Sized> Presence for Arc<T> {
    fn is_online<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        self.as_ref().is_online(daemon_id)
    }
}

/// Asks a relay's admin API, `GET {admin}/daemons/{id}`; a daemon that the relay does not know is offline. An answer that
/// takes more than [`ADMIN_DEADLINE`](crate::admin::ADMIN_DEADLINE) is none.
#[derive(Debug, Clone)]
pub struct HttpPresence(AdminClient);

impl HttpPresence {
    /// Asks the relay whose admin API is at this URL, such as `http://127.0.0.1:7601/__sim`.
    pub fn new(env: Env, admin: Url, token: Option<AdminToken>) -> Self {
        Self(AdminClient::new(env, admin, token))
    }
}

impl Presence for HttpPresence {
    fn is_online<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        Box::pin(async move { Ok(self.0.daemon(daemon_id).await?.is_some_and(|daemon| daemon.online)) })
    }
}

/// Asks several relays, one after the other: a daemon is online if it is at one of them. A relay that does not tell is an
/// error only if no other says that it is there.
pub struct AnyPresence(Vec<Box<dyn Presence>>);

impl AnyPresence {
    /// Asks these, in this order.
    pub fn new(relays: Vec<Box<dyn Presence>>) -> Self {
        Self(relays)
    }
}

impl std::fmt::Debug for AnyPresence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnyPresence").field("relays", &self.0.len()).finish_non_exhaustive()
    }
}

impl Presence for AnyPresence {
    fn is_online<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        Box::pin(async move {
            let mut answer = Ok(false);
            for relay in &self.0 {
                match relay.is_online(daemon_id).await {
                    Ok(true) => return Ok(true),
                    Ok(false) => {}
                    Err(error) => answer = Err(error),
                }
            }
            answer
        })
    }
}

/// Nobody can tell: every answer is [`PresenceError::Unconfigured`].
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPresence;

impl Presence for NoPresence {
    fn is_online<'a>(&'a self, _daemon_id: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        Box::pin(std::future::ready(Err(PresenceError::Unconfigured)))
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr, sync::Mutex};

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use sideband_env::{
        BoxStream, FixedClock, HttpClient, HttpError, HttpRequest, HttpResponse, Listener, Network, SeededEntropy,
        Target,
    };

    use super::*;
    use crate::admin::{KeyInfo, Keys, RotateKeys};

    /// Gives one answer to everything and keeps the last request.
    struct Scripted {
        answer: Option<(u16, &'static str)>,
        seen: Mutex<Option<HttpRequest>>,
    }

    impl HttpClient for Scripted {
        fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
            *self.seen.lock().unwrap() = Some(request);
            let answer = match self.answer {
                Some((status, body)) => Ok(HttpResponse {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers: HeaderMap::new(),
                    body: Bytes::from_static(body.as_bytes()),
                }),
                None => Err(HttpError::Connect("refused".into())),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    struct NoNetwork;

    impl Network for NoNetwork {
        fn connect<'a>(&'a self, _target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
            Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
        }

        fn bind(&self, _addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
            Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
        }
    }

    fn env(answer: Option<(u16, &'static str)>) -> (Env, Arc<Scripted>) {
        let http = Arc::new(Scripted { answer, seen: Mutex::default() });
        let env = Env {
            clock: Arc::new(FixedClock::at_seconds(1)),
            entropy: Arc::new(SeededEntropy::new(1, "t")),
            network: Arc::new(NoNetwork),
            http: http.clone(),
        };
        (env, http)
    }

    fn base() -> Url {
        "http://127.0.0.1:7601/__sim/".parse().unwrap()
    }

    async fn online(answer: Option<(u16, &'static str)>) -> Result<bool, PresenceError> {
        HttpPresence::new(env(answer).0, base(), None).is_online("d_1").await
    }

    #[tokio::test]
    async fn api_04_the_relay_tells_who_is_online() {
        let daemon =
            r#"{"daemonId":"d_1","online":true,"sessions":[{"sessionId":"0000000000000001","state":"paired"}]}"#;
        assert!(online(Some((200, daemon))).await.unwrap());
        assert!(!online(Some((200, r#"{"daemonId":"d_1","online":false,"sessions":[]}"#))).await.unwrap());
        assert!(!online(Some((404, r#"{"error":{"code":"not_found","message":"no such daemon"}}"#))).await.unwrap());
    }

    #[tokio::test]
    async fn api_04_a_relay_that_does_not_tell_is_an_error() {
        for answer in [Some((200, "{}")), Some((200, "<html>")), Some((500, "")), Some((401, "")), None] {
            assert!(matches!(online(answer).await, Err(PresenceError::Relay(_))), "{answer:?}");
        }
        assert!(matches!(NoPresence.is_online("d_1").await, Err(PresenceError::Unconfigured)));
    }

    #[tokio::test]
    async fn api_04_a_daemon_is_online_if_it_is_at_any_relay() {
        let there = r#"{"daemonId":"d_1","online":true,"sessions":[]}"#;
        let (yes, no, silent) = (Some((200, there)), Some((404, "{}")), None);
        for (relays, wanted) in [
            (vec![no, yes], Some(true)),
            (vec![silent, yes], Some(true)),
            (vec![no, no], Some(false)),
            (vec![no, silent], None),
            (vec![silent, no], None),
        ] {
            let ask = |answer| Box::new(HttpPresence::new(env(answer).0, base(), None)) as Box<dyn Presence>;
            let any = AnyPresence::new(relays.iter().copied().map(ask).collect());
            assert_eq!(any.is_online("d_1").await.ok(), wanted, "{relays:?}");
        }
    }

    #[tokio::test]
    async fn an_admin_request_has_a_safe_path_and_a_sensitive_token() {
        let (env, http) = env(Some((404, "")));
        let presence = HttpPresence::new(env, base(), AdminToken::new("s3cret"));
        assert!(!presence.is_online("../keys?x=1#y").await.unwrap());
        let request = http.seen.lock().unwrap().take().unwrap();
        assert_eq!(request.url.as_str(), "http://127.0.0.1:7601/__sim/daemons/..%2Fkeys%3Fx=1%23y");
        assert_eq!(request.headers["authorization"], "Bearer s3cret");
        assert!(!format!("{request:?} {presence:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn key_04_the_admin_client_rotates_keys() {
        let (env, http) = env(Some((200, r#"{"keys":[{"kid":"k-1","current":true}]}"#)));
        let client = AdminClient::new(env, base(), None);
        let keys = client.rotate_keys(RotateKeys { hard: true, overlap_seconds: None }).await.unwrap();
        assert_eq!(keys, Keys { keys: vec![KeyInfo { kid: "k-1".into(), current: true, published_until: None }] });
        let request = http.seen.lock().unwrap().take().unwrap();
        assert_eq!((request.method.as_str(), request.url.path()), ("POST", "/__sim/keys/rotate"));
        assert_eq!(&request.body[..], br#"{"hard":true}"#);
    }
}
