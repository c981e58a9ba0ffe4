//! HTTP over the network seam: an axum `Router` on hyper's http1 connections, the same on tokio and in simulation.
//!
//! [`serve`] accepts streams from any [`Listener`], serves each in a task of its own and lets requests be upgraded. An
//! upgraded connection leaves this module: it belongs to whoever upgraded it (the relay), in number and in lifetime.
//!
//! Connections are bounded in number, and whoever asks nothing, or not to the end, keeps nobody out (`slots`).

mod slots;

use std::{
    fmt,
    future::poll_fn,
    io, mem,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::header::{CONNECTION, EXPECT, HeaderValue},
};
use hyper::{
    Request, StatusCode,
    body::{Body as _, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sideband_env::{BoxStream, Listener};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, Sleep},
};
use tower::ServiceExt;
use tracing::{debug, warn};

use self::slots::{Handle, Slot, Slots, Wait, Waiting};

/// How long accepting rests after an error that is not about one stream, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most bytes of a body that are read though nobody wants them, so that its connection can be used further; as much as the API
/// reads of one.
const MAX_REST: u64 = 64 * 1_024;

/// Connections over the bound whose predecessors are still being cut.
const MAKING_ROOM: usize = 64;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Whether answers carry a `Date`; on by default. Off in simulation, where it would differ from run to run.
    pub date_header: bool,
    /// How long a request's header may take; 10 s by default. Long ones let idle clients hold connections.
    pub header_timeout: Duration,
    /// How long a request's body may take, from its header on; 10 s by default. Long ones let slow clients hold connections.
    pub body_timeout: Duration,
    /// Most HTTP connections at once, upgraded ones not counted; 4,096 by default. Beyond it one makes room for each new one: the
    /// oldest of those whose request is not complete, or which are idle, or whose answer a fault holds back, whichever are most.
    /// Idle ones are closed, others cut. While the server works on requests of all of them, new ones wait in the listener's
    /// backlog.
    pub max_connections: usize,
    /// How long requests under way may take to end at shutdown; 2 s by default, which leaves time for the rest of the
    /// five seconds of REL-24.
    pub shutdown_grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            date_header: true,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            max_connections: 4_096,
            shutdown_grace: Duration::from_secs(2),
        }
    }
}

/// Where a request's connection comes from, as a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The HTTP connection that a request came on, as a request extension: the same one for all requests of a connection that is kept
/// alive. Whoever tells of it numbers it.
#[derive(Debug, Clone, Default)]
pub struct HttpConnection(pub(crate) Arc<OnceLock<u64>>);

/// As a response's extension: in place of the answer the connection ends, as if the server had died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutConnection;

/// For whoever answers slowly, as a request extension: tells that the server shuts down, and is told that an answer is held back.
#[derive(Clone)]
pub struct Stopping {
    stopped: watch::Receiver<bool>,
    connection: Handle,
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").finish_non_exhaustive()
    }
}

impl Stopping {
    /// Waits until the server shuts down. Cancel-safe.
    pub async fn stopped(&mut self) {
        // An error would mean that the server is gone.
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }

    /// Says that the answer is held back until the guard is dropped. Meanwhile the connection may be cut to make room for another
    /// one ([`ServeOptions::max_connections`]), as the server does nothing for it: held requests must not keep out who would let
    /// go of them.
    #[must_use = "it is held back as long as this lives"]
    pub fn hold(&self) -> Held {
        Held { _waiting: self.connection.waits_while(Wait::Held) }
    }
}

/// An answer is held back while this lives.
pub struct Held {
    _waiting: Waiting,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// The connection is cut because the answer says so.
#[derive(Debug, thiserror::Error)]
#[error("cut in place of an answer")]
struct Cut;

/// An answer's body, at whose end its connection waits for the next request.
struct Answered {
    body: Body,
    connection: Handle,
}

impl hyper::body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.connection.waits(Wait::Next);
    }
}

/// A request's body as it is read. What nobody wanted of it is left in `rest`.
struct Reading {
    /// None once it has ended or broken off.
    body: Option<Arriving>,
    rest: Arc<Mutex<Rest>>,
}

/// What is left of a request's body once the answer is there.
#[derive(Default)]
enum Rest {
    #[default]
    Nothing,
    Unread(Arriving),
    /// It did not arrive.
    Broken,
}

/// A body that breaks off when its time is over. Until all of it is there its connection waits for it.
struct Arriving {
    body: Incoming,
    over: Pin<Box<Sleep>>,
    _waiting: Waiting,
}

impl Arriving {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err("the body took too long".into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(axum::BoxError::from)
    }

    /// Whether all of it comes, and is of a size that is read though nobody wants it.
    async fn arrives(mut self) -> bool {
        let mut room = MAX_REST;
        if self.body.size_hint().lower() > room {
            return false;
        }
        while let Some(frame) = poll_fn(|cx| self.poll_frame(cx)).await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(left) = room.checked_sub(length) else { return false };
            room = left;
        }
        true
    }
}

fn lock_rest(rest: &Mutex<Rest>) -> MutexGuard<'_, Rest> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

impl hyper::body::Body for Reading {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        let Some(arriving) = &mut this.body else { return Poll::Ready(None) };
        let frame = ready!(arriving.poll_frame(cx));
        let broke = matches!(frame, Some(Err(_)));
        if broke {
            *lock_rest(&this.rest) = Rest::Broken;
        }
        if broke || frame.is_none() || arriving.body.is_end_stream() {
            this.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), |arriving| arriving.body.size_hint())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(arriving) = self.body.take() {
            *lock_rest(&self.rest) = Rest::Unread(arriving);
        }
    }
}

/// Serves until `shutdown` is ready: then nothing more is accepted, requests under way may end within
/// [`ServeOptions::shutdown_grace`], and what is left is cut. Errors of accepting and of connections end neither.
pub async fn serve(
    mut listener: Box<dyn Listener>,
    app: Router,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let slots = Arc::new(Slots::default());
    let most = options.max_connections.max(1);
    // Accepted, but the server works for all those that were to make room for it by now.
    let mut waiting = None;
    let mut shutdown = pin!(shutdown);
    loop {
        let open = connections.len();
        if let Some((stream, from)) = waiting.take_if(|_| open < most || slots.make_room()) {
            let slot = slots.begin();
            connections.spawn(serve_connection(stream, from, app.clone(), options.clone(), stopped.clone(), slot));
            continue;
        }
        let room = waiting.is_none() && (open < most || (open < most + MAKING_ROOM && slots.any()));
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = slots.changed(), if !room => {}
            accepted = listener.accept(), if room => match accepted {
                Ok(accepted) => waiting = Some(accepted),
                Err(error) if concerns_one_stream(&error) => debug!(%error, "a stream was gone before it was accepted"),
                Err(error) => {
                    warn!(%error, "cannot accept; trying again");
                    tokio::select! {
                        biased;
                        () = &mut shutdown => break,
                        () = time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if time::timeout(options.shutdown_grace, ended).await.is_err() {
        debug!("cutting HTTP connections that did not end");
    }
    connections.shutdown().await;
}

fn concerns_one_stream(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn serve_connection(
    stream: BoxStream,
    from: SocketAddr,
    app: Router,
    options: ServeOptions,
    mut stopped: watch::Receiver<bool>,
    slot: Slot,
) {
    let stopping = Stopping { stopped: stopped.clone(), connection: slot.handle() };
    let this = HttpConnection::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddr(from));
        request.extensions_mut().insert(stopping.clone());
        request.extensions_mut().insert(this.clone());
        let asks_first = request.headers().contains_key(EXPECT);
        let rest = Arc::<Mutex<Rest>>::default();
        let body = |body: Incoming| {
            // One that is empty needs no timer.
            if body.is_end_stream() {
                slot.works();
                return Body::empty();
            }
            let over = Box::pin(time::sleep(options.body_timeout));
            let arriving = Arriving { body, over, _waiting: slot.handle().waits_while(Wait::Request) };
            Body::new(Reading { body: Some(arriving), rest: rest.clone() })
        };
        let answer = app.clone().oneshot(request.map(body));
        let slot = &slot;
        async move {
            let Ok(mut answer) = answer.await;
            // An error ends the connection without a word.
            if answer.extensions().get::<CutConnection>().is_some() {
                return Err(Cut);
            }
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(answer);
            }
            let rest = mem::take(&mut *lock_rest(&rest));
            let is_read = match rest {
                Rest::Nothing => true,
                // Whoever asks first whether to send it need not.
                Rest::Unread(arriving) => !asks_first && arriving.arrives().await,
                Rest::Broken => false,
            };
            if !is_read {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer.map(|body| Body::new(Answered { body, connection: slot.handle() })))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .auto_date_header(options.date_header)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            biased;
            outcome = connection.as_mut() => return outcome,
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = slot.leave() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    tokio::select! {
        biased;
        () = slot.cut() => {}
        outcome = served => {
            if let Err(error) = outcome {
                debug!(%error, "an HTTP connection broke");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{
        Extension,
        routing::{get, post},
    };
    use http_body_util::BodyExt;
    use sideband_env::BoxFuture;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        sync::{Notify, mpsc, oneshot},
    };

    use super::*;

    /// Accepts what the test sends.
    struct Scripted(mpsc::Receiver<io::Result<DuplexStream>>);

    impl Listener for Scripted {
        fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
            Box::pin(async {
                match self.0.recv().await {
                    Some(Ok(stream)) => Ok((Box::new(stream) as BoxStream, SocketAddr::from(([10, 0, 0, 9], 4_000)))),
                    Some(Err(error)) => Err(error),
                    None => std::future::pending().await,
                }
            })
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([10, 0, 0, 1], 80)))
        }
    }

    struct Server {
        accept: mpsc::Sender<io::Result<DuplexStream>>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    fn start(app: Router, options: ServeOptions) -> Server {
        let (accept, accepted) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let task = tokio::spawn(serve(Box::new(Scripted(accepted)), app, options, shutdown));
        Server { accept, stop, task }
    }

    impl Server {
        async fn connect(&self) -> DuplexStream {
            let (near, far) = tokio::io::duplex(16_384);
            self.accept.send(Ok(far)).await.unwrap();
            near
        }
    }

    async fn ask(stream: &mut DuplexStream, path: &str) {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    }

    /// One answer with its body, which ends with an exclamation mark.
    async fn answer(stream: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"!") {
            let byte = stream.read_u8().await.unwrap();
            text.push(byte);
        }
        String::from_utf8(text).unwrap()
    }

    fn app() -> Router {
        Router::new()
            .route("/", get(|Extension(PeerAddr(from)): Extension<PeerAddr>| async move { format!("{from}!") }))
    }

    #[tokio::test]
    async fn a_request_is_answered_and_knows_its_peer() {
        let server = start(app(), ServeOptions::default());
        let mut stream = server.connect().await;
        ask(&mut stream, "/").await;
        let text = answer(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("10.0.0.9:4000!"), "{text}");
        assert!(text.contains("\r\ndate: "));
    }

    #[tokio::test]
    async fn the_date_header_can_be_off() {
        let server = start(app(), ServeOptions { date_header: false, ..ServeOptions::default() });
        let mut stream = server.connect().await;
        ask(&mut stream, "/").await;
        assert!(!answer(&mut stream).await.contains("date:"));
    }

    #[tokio::test]
    async fn errors_of_accepting_do_not_end_it() {
        let server = start(app(), ServeOptions::default());
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::Other] {
            server.accept.send(Err(kind.into())).await.unwrap();
        }
        let mut stream = server.connect().await;
        ask(&mut stream, "/").await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_header_that_takes_too_long_ends_the_connection() {
        let options = ServeOptions { header_timeout: Duration::from_millis(20), ..ServeOptions::default() };
        let server = start(app(), options);
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_body_that_takes_too_long_breaks_off() {
        let read = |body: Bytes| async move { format!("{} bytes!", body.len()) };
        let options = ServeOptions { body_timeout: Duration::from_millis(20), ..ServeOptions::default() };
        let server = start(Router::new().route("/", post(read)), options);
        let mut stream = server.connect().await;
        stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&rest));
        let mut stream = server.connect().await;
        stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nabcd").await.unwrap();
        assert!(answer(&mut stream).await.ends_with("4 bytes!"));
    }

    #[tokio::test]
    async fn connections_over_the_bound_wait_while_all_are_busy() {
        let (begun, mut has_begun) = mpsc::channel(1);
        let stuck = move || async move {
            begun.send(()).await.unwrap();
            std::future::pending::<&str>().await
        };
        let app = app().route("/stuck", get(stuck));
        let server = start(app, ServeOptions { max_connections: 1, ..ServeOptions::default() });
        let mut first = server.connect().await;
        ask(&mut first, "/stuck").await;
        has_begun.recv().await.unwrap();
        let mut second = server.connect().await;
        ask(&mut second, "/").await;
        let mut early = [0];
        assert!(time::timeout(Duration::from_millis(50), second.read(&mut early)).await.is_err(), "served too early");
        drop(first);
        assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn over_the_bound_the_oldest_that_never_asked_makes_room() {
        let server = start(app(), ServeOptions { max_connections: 3, ..ServeOptions::default() });
        let mut asked = server.connect().await;
        ask(&mut asked, "/").await;
        answer(&mut asked).await;
        let mut silent = Vec::new();
        for _ in 0..50 {
            let mut stream = server.connect().await;
            stream.write_all(b"GET / HT").await.unwrap();
            silent.push(stream);
        }
        let mut good = server.connect().await;
        ask(&mut good, "/").await;
        assert!(answer(&mut good).await.starts_with("HTTP/1.1 200"));
        // Whoever has asked before is still there, and of the others the newest alone.
        ask(&mut asked, "/").await;
        assert!(answer(&mut asked).await.starts_with("HTTP/1.1 200"));
        let mut newest = silent.pop().unwrap();
        for mut stream in silent {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"");
        }
        newest.write_all(b"TP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(answer(&mut newest).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn over_the_bound_the_oldest_idle_one_makes_room_with_its_answer_whole() {
        let server = start(app(), ServeOptions { max_connections: 2, ..ServeOptions::default() });
        let mut idle = Vec::new();
        for _ in 0..50 {
            let mut stream = server.connect().await;
            ask(&mut stream, "/").await;
            assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
            idle.push(stream);
        }
        // The newest are kept alive, the others have been closed.
        for stream in &mut idle[48..] {
            ask(stream, "/").await;
            assert!(answer(stream).await.starts_with("HTTP/1.1 200"));
        }
        for stream in &mut idle[..48] {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"");
        }
    }

    /// Says how far its requests got.
    struct Told {
        server: Server,
        begun: mpsc::Receiver<&'static str>,
        release: Arc<Notify>,
    }

    /// A server with paths that hold their answers back until they are told (`/held`), that never answer (`/stuck`), and that read
    /// a body (`/read`).
    fn telling(max_connections: usize) -> Told {
        let (tell, begun) = mpsc::channel(16);
        let release = Arc::new(Notify::new());
        let held = {
            let (tell, release) = (tell.clone(), release.clone());
            move |Extension(stopping): Extension<Stopping>| async move {
                let _held = stopping.hold();
                tell.send("held").await.unwrap();
                release.notified().await;
                "let go!"
            }
        };
        let stuck = {
            let tell = tell.clone();
            move || async move {
                tell.send("stuck").await.unwrap();
                std::future::pending::<&str>().await
            }
        };
        let read = move |body: Body| async move {
            tell.send("reads").await.unwrap();
            let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
            format!("{length} bytes!")
        };
        let app = app().route("/held", get(held)).route("/stuck", get(stuck)).route("/read", post(read));
        Told { server: start(app, ServeOptions { max_connections, ..ServeOptions::default() }), begun, release }
    }

    impl Told {
        /// A new connection whose request has got so far.
        async fn connection(&mut self, request: &str, so_far: &str) -> DuplexStream {
            let mut stream = self.server.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(self.begun.recv().await.unwrap(), so_far);
            stream
        }

        async fn reading(&mut self) -> DuplexStream {
            self.connection("POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{", "reads").await
        }

        async fn held(&mut self) -> DuplexStream {
            self.connection("GET /held HTTP/1.1\r\nhost: x\r\n\r\n", "held").await
        }

        /// A new connection is served.
        async fn serves(&self) -> DuplexStream {
            let mut stream = self.server.connect().await;
            ask(&mut stream, "/").await;
            assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
            stream
        }
    }

    async fn is_cut(stream: &mut DuplexStream) {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }

    #[tokio::test]
    async fn over_the_bound_the_oldest_half_sent_body_makes_room() {
        let mut told = telling(3);
        let mut idle = told.serves().await;
        let mut slow = Vec::new();
        for _ in 0..20 {
            slow.push(told.reading().await);
        }
        ask(&mut idle, "/").await;
        assert!(answer(&mut idle).await.starts_with("HTTP/1.1 200"), "it is of another kind");
        let mut newest = slow.pop().unwrap();
        let mut good = told.serves().await;
        newest.write_all(b"234567890").await.unwrap();
        assert!(answer(&mut newest).await.ends_with("10 bytes!"));
        for stream in &mut slow {
            is_cut(stream).await;
        }
        ask(&mut good, "/").await;
        assert!(answer(&mut good).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_body_that_is_whole_makes_no_room() {
        let (begun, mut has_begun) = mpsc::channel(1);
        let release = Arc::new(Notify::new());
        let read = {
            let release = release.clone();
            move |body: Bytes| async move {
                begun.send(()).await.unwrap();
                release.notified().await;
                format!("{} bytes!", body.len())
            }
        };
        let app = app().route("/read", post(read));
        let server = start(app, ServeOptions { max_connections: 1, ..ServeOptions::default() });
        for body in ["content-length: 3\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"] {
            let mut whole = server.connect().await;
            whole.write_all(format!("POST /read HTTP/1.1\r\nhost: x\r\n{body}").as_bytes()).await.unwrap();
            has_begun.recv().await.unwrap();
            let mut other = server.connect().await;
            ask(&mut other, "/").await;
            let mut early = [0];
            assert!(
                time::timeout(Duration::from_millis(20), other.read(&mut early)).await.is_err(),
                "served too early"
            );
            release.notify_one();
            assert!(answer(&mut whole).await.ends_with("3 bytes!"));
            // It is idle now, and leaves.
            assert!(answer(&mut other).await.starts_with("HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn over_the_bound_the_oldest_held_request_makes_room() {
        let mut told = telling(3);
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(told.held().await);
        }
        let mut good = told.serves().await;
        for stream in &mut held[..18] {
            is_cut(stream).await;
        }
        told.release.notify_waiters();
        for stream in &mut held[18..] {
            assert!(answer(stream).await.ends_with("let go!"));
        }
        ask(&mut good, "/").await;
        assert!(answer(&mut good).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_request_that_is_let_go_makes_no_room() {
        let (go, going) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begun, mut has_begun) = mpsc::channel(1);
        let held = {
            let (go, going) = (go.clone(), going.clone());
            move |Extension(stopping): Extension<Stopping>| async move {
                drop(stopping.hold());
                begun.send(()).await.unwrap();
                go.notified().await;
                going.notify_one();
                "done!"
            }
        };
        let app = app().route("/held", get(held));
        let server = start(app, ServeOptions { max_connections: 1, ..ServeOptions::default() });
        let mut first = server.connect().await;
        ask(&mut first, "/held").await;
        has_begun.recv().await.unwrap();
        let mut second = server.connect().await;
        ask(&mut second, "/").await;
        let mut early = [0];
        assert!(time::timeout(Duration::from_millis(20), second.read(&mut early)).await.is_err(), "served too early");
        go.notify_one();
        going.notified().await;
        assert!(answer(&mut first).await.ends_with("done!"));
        assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn who_waits_for_room_is_told_of_a_request_that_is_held_only_then() {
        let (hold, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let late = {
            let (hold, begun) = (hold.clone(), begun.clone());
            move |Extension(stopping): Extension<Stopping>| async move {
                begun.notify_one();
                hold.notified().await;
                let _held = stopping.hold();
                std::future::pending::<&str>().await
            }
        };
        let server =
            start(app().route("/late", get(late)), ServeOptions { max_connections: 1, ..ServeOptions::default() });
        let mut first = server.connect().await;
        ask(&mut first, "/late").await;
        begun.notified().await;
        let mut second = server.connect().await;
        ask(&mut second, "/").await;
        hold.notify_one();
        assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
        is_cut(&mut first).await;
    }

    #[tokio::test]
    async fn the_most_frequent_kind_makes_room() {
        let mut told = telling(6);
        let mut idle = told.serves().await;
        let mut reading = told.reading().await;
        let mut held = [told.held().await, told.held().await, told.held().await, told.held().await];
        // New ones take the places of held ones, until there are as many of each kind.
        let mut others = [told.serves().await, told.reading().await];
        for stream in &mut held[..2] {
            is_cut(stream).await;
        }
        for stream in [&mut idle, &mut others[0]] {
            ask(stream, "/").await;
            assert!(answer(stream).await.starts_with("HTTP/1.1 200"));
        }
        for stream in [&mut reading, &mut others[1]] {
            stream.write_all(b"234567890").await.unwrap();
            assert!(answer(stream).await.ends_with("10 bytes!"));
        }
        told.release.notify_waiters();
        for stream in &mut held[2..] {
            assert!(answer(stream).await.ends_with("let go!"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_of_a_body_leaves_the_connection_whole_or_is_told_to_end_it() {
        let server = start(Router::new().route("/", post(|| async { "unread!" })), ServeOptions::default());
        let whole = ["content-length: 3\r\n\r\n", "transfer-encoding: chunked\r\n\r\n3\r\n"];
        let mut stream = server.connect().await;
        for (header, rest) in whole.into_iter().zip(["abc", "abc\r\n0\r\n\r\n"]) {
            stream.write_all(format!("POST / HTTP/1.1\r\nhost: x\r\n{header}").as_bytes()).await.unwrap();
            // By a clock that goes on when the server has nothing left to do.
            time::sleep(Duration::from_millis(50)).await;
            stream.write_all(rest.as_bytes()).await.unwrap();
            let text = answer(&mut stream).await;
            assert!(text.starts_with("HTTP/1.1 200") && !text.contains("connection: close"), "{text}");
        }
        for header in ["content-length: 65537", "content-length: 3\r\nexpect: 100-continue", "content-length: 4"] {
            let mut stream = server.connect().await;
            stream.write_all(format!("POST / HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\nab").as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{header}: {text}");
        }
    }

    #[tokio::test]
    async fn a_connection_can_be_cut_in_place_of_an_answer() {
        let cut = || async { (axum::Extension(CutConnection), "never sent") };
        let server = start(app().route("/cut", get(cut)), ServeOptions::default());
        let mut stream = server.connect().await;
        ask(&mut stream, "/").await;
        answer(&mut stream).await;
        ask(&mut stream, "/cut").await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }

    #[tokio::test]
    async fn rel_24_who_answers_slowly_is_told_of_the_shutdown() {
        let (begun, mut has_begun) = mpsc::channel(1);
        let slow = move |Extension(mut stopping): Extension<Stopping>| async move {
            begun.send(()).await.unwrap();
            stopping.stopped().await;
            "done!"
        };
        let server = start(Router::new().route("/", get(slow)), ServeOptions::default());
        let mut stream = server.connect().await;
        ask(&mut stream, "/").await;
        has_begun.recv().await.unwrap();
        server.stop.send(()).unwrap();
        assert!(answer(&mut stream).await.ends_with("done!"));
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn rel_24_shutdown_lets_a_request_under_way_end() {
        let (begun, mut has_begun) = mpsc::channel(1);
        let release = Arc::new(tokio::sync::Notify::new());
        let slow = {
            let release = release.clone();
            move || async move {
                begun.send(()).await.unwrap();
                release.notified().await;
                "done!"
            }
        };
        let server = start(Router::new().route("/", get(slow)), ServeOptions::default());
        let mut stream = server.connect().await;
        ask(&mut stream, "/").await;
        has_begun.recv().await.unwrap();
        server.stop.send(()).unwrap();
        release.notify_one();
        assert!(answer(&mut stream).await.ends_with("done!"));
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn rel_24_shutdown_cuts_what_does_not_end() {
        struct CountDrop(Arc<AtomicUsize>);
        impl Drop for CountDrop {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let (begun, mut has_begun) = mpsc::channel(1);
        let stuck = {
            let dropped = dropped.clone();
            move || async move {
                let _guard = CountDrop(dropped);
                begun.send(()).await.unwrap();
                std::future::pending::<&str>().await
            }
        };
        let options = ServeOptions { shutdown_grace: Duration::from_millis(20), ..ServeOptions::default() };
        let server = start(Router::new().route("/", get(stuck)), options);
        let mut stream = server.connect().await;
        ask(&mut stream, "/").await;
        has_begun.recv().await.unwrap();
        server.stop.send(()).unwrap();
        server.task.await.unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }
}
