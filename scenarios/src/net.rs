//! The network, HTTP and clock seams inside turmoil.

use std::{io, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sideband_env::{
    BoxFuture, BoxStream, Clock, HttpClient, HttpError, HttpRequest, HttpResponse, Listener, Network, Target,
};
use std::sync::Arc;
use turmoil::net::{TcpListener, TcpStream};

/// Turmoil's network: hosts are found by the names that they were added with. There is no TLS.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimNetwork;

impl Network for SimNetwork {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            if target.tls {
                let reason = "the simulated network has no TLS; use ws and http";
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
            Ok(Box::new(TcpStream::connect((target.host.as_str(), target.port)).await?) as BoxStream)
        })
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(SimListener(TcpListener::bind(addr).await?)) as Box<dyn Listener>) })
    }
}

struct SimListener(TcpListener);

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxStream, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// HTTP over any network seam: one connection for each request, so that none outlives a partition unseen.
#[derive(Clone)]
pub struct SeamHttp(Arc<dyn Network>);

impl SeamHttp {
    /// HTTP over this network.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self(network)
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let transport = |e: &dyn std::fmt::Display| HttpError::Transport(e.to_string());
        let target = Target::from_url(&request.url).map_err(|e| HttpError::Connect(e.to_string()))?;
        let stream = self.0.connect(&target).await.map_err(|e| HttpError::Connect(e.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| transport(&e))?;
        let mut path = request.url.path().to_owned();
        if let Some(query) = request.url.query() {
            path = format!("{path}?{query}");
        }
        let mut built = http::Request::new(Full::new(request.body));
        *built.method_mut() = request.method;
        *built.uri_mut() = path.parse().map_err(|e| transport(&e))?;
        *built.headers_mut() = request.headers;
        let host = target.to_string().parse().map_err(|e| transport(&e))?;
        built.headers_mut().insert(http::header::HOST, host);
        let max = request.max_answer;
        let answer = async {
            let answer = sender.send_request(built).await.map_err(|e| transport(&e))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, max).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { HttpError::BodyTooLarge(max) } else { transport(&error) }
            })?;
            Ok(HttpResponse { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        // The connection is driven here and dropped with the request: no task is left behind.
        tokio::pin!(connection);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(transport(&error)),
            },
        }
    }
}

impl HttpClient for SeamHttp {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(self.exchange(request))
    }
}

/// Wall-clock time in a simulation: a fixed beginning plus the virtual time that has passed.
#[derive(Debug, Clone, Copy)]
pub struct SimClock {
    /// Seconds since 1970 at the simulation's beginning.
    pub epoch: u64,
}

/// Virtual time since the simulation's beginning; zero outside of one.
pub fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Clock for SimClock {
    fn unix_millis(&self) -> u64 {
        self.epoch * 1000 + elapsed().as_millis() as u64
    }
}
