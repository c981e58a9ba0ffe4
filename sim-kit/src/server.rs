//! HTTP over the network seam: an axum `Router` on hyper's http1 connections, the same on tokio and in simulation.
//!
//! [`serve`] accepts streams from any [`Listener`], serves each in a task of its own and lets requests be upgraded. An
//! upgraded connection leaves this module: it belongs to whoever upgraded it (the relay), in number and in lifetime.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
};
use futures_util::StreamExt as _;
use http_body_util::{BodyStream, StreamBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sideband_env::{BoxStream, Listener};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time,
};
use tower::ServiceExt;
use tracing::{debug, warn};

/// How long accepting rests after an error that is not about one stream, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// Most HTTP connections at once, upgraded ones not counted; 4,096 by default. Beyond it the oldest one that never asked for
    /// anything is cut for each new one, or else the oldest that was answered and is idle is closed. While requests are under way
    /// on all of them, new ones wait in the listener's backlog until one ends.
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

/// Tells whoever answers slowly that the server shuts down, as a request extension.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Waits until the server shuts down. Cancel-safe.
    pub async fn stopped(&mut self) {
        // An error would mean that the server is gone.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

/// The connection is cut because the answer says so.
#[derive(Debug, thiserror::Error)]
#[error("cut in place of an answer")]
struct Cut;

/// The connections with no request under way, by age: who does not ask must not keep out who does.
#[derive(Clone, Default)]
struct Quiet(Arc<Mutex<Lists>>);

#[derive(Default)]
struct Lists {
    /// Those that never asked.
    silent: BTreeMap<u64, AbortHandle>,
    /// Those that were answered and are kept alive.
    idle: BTreeMap<u64, Arc<Notify>>,
}

impl Quiet {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        let lists = self.lock();
        lists.silent.is_empty() && lists.idle.is_empty()
    }

    /// Starts a connection, which is silent until it asks or ends.
    fn begin(&self, number: u64, start: impl FnOnce() -> AbortHandle) {
        // Held meanwhile: it may ask at once.
        let mut lists = self.lock();
        lists.silent.insert(number, start());
    }

    /// Ends the oldest that never asked, or else the oldest that is idle; whether there was one.
    fn end_oldest(&self) -> bool {
        let mut lists = self.lock();
        if let Some((_, connection)) = lists.silent.pop_first() {
            debug!("cutting a connection without a request: there are too many");
            connection.abort();
            return true;
        }
        let Some((_, leave)) = lists.idle.pop_first() else { return false };
        debug!("closing an idle connection: there are too many");
        leave.notify_one();
        true
    }
}

/// Its connection ends with it.
struct OneOf {
    quiet: Quiet,
    number: u64,
    /// Told when it has to leave.
    leave: Arc<Notify>,
}

impl OneOf {
    /// It has asked for something, or has ended.
    fn no_more(&self) {
        let mut lists = self.quiet.lock();
        lists.silent.remove(&self.number);
        lists.idle.remove(&self.number);
    }

    /// The answer, at whose end the connection is idle. One that becomes a WebSocket never is.
    fn answered(&self, answer: Response<Body>) -> Response<Body> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return answer;
        }
        let idle = Idle { quiet: self.quiet.clone(), number: self.number, leave: Arc::downgrade(&self.leave) };
        answer.map(|body| Body::new(Answered { body, _idle: idle }))
    }
}

impl Drop for OneOf {
    fn drop(&mut self) {
        self.no_more();
    }
}

/// Its connection is idle when it is dropped, if it is there at all.
struct Idle {
    quiet: Quiet,
    number: u64,
    leave: Weak<Notify>,
}

impl Drop for Idle {
    fn drop(&mut self) {
        let mut lists = self.quiet.lock();
        // Under the lock, which the connection's end takes before the last of these is gone.
        if let Some(leave) = self.leave.upgrade() {
            lists.idle.insert(self.number, leave);
        }
    }
}

/// An answer's body.
struct Answered {
    body: Body,
    _idle: Idle,
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
    let quiet = Quiet::default();
    let most = options.max_connections.max(1);
    let mut number = 0;
    // Accepted, but those that were to make room for it have asked for something meanwhile.
    let mut waiting = None;
    let mut shutdown = pin!(shutdown);
    loop {
        let open = connections.len();
        if let Some((stream, from)) = waiting.take_if(|_| open < most || quiet.end_oldest()) {
            number += 1;
            let one = OneOf { quiet: quiet.clone(), number, leave: Arc::default() };
            let task = serve_connection(stream, from, app.clone(), options.clone(), stopped.clone(), one);
            quiet.begin(number, || connections.spawn(task));
            continue;
        }
        let room = waiting.is_none() && (open < most || (open < most + MAKING_ROOM && !quiet.is_empty()));
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
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
    one: OneOf,
) {
    let stopping = Stopping(stopped.clone());
    let this = HttpConnection::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        one.no_more();
        request.extensions_mut().insert(PeerAddr(from));
        request.extensions_mut().insert(stopping.clone());
        request.extensions_mut().insert(this.clone());
        let answer = app.clone().oneshot(request.map(|body| limited(body, options.body_timeout)));
        let one = &one;
        async move {
            let Ok(answer) = answer.await;
            // An error ends the connection without a word.
            if answer.extensions().get::<CutConnection>().is_some() { Err(Cut) } else { Ok(one.answered(answer)) }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .auto_date_header(options.date_header)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        biased;
        outcome = connection.as_mut() => outcome,
        () = async { tokio::select! { biased; _ = stopped.wait_for(|stopped| *stopped) => {} () = one.leave.notified() => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "an HTTP connection broke");
    }
}

/// A body that breaks off when its time is over. One that is empty needs no timer.
fn limited(body: Incoming, limit: Duration) -> Body {
    if body.is_end_stream() {
        return Body::empty();
    }
    let frames = futures_util::stream::unfold(
        (BodyStream::new(body), Box::pin(time::sleep(limit)), false),
        |(mut body, mut over, broke)| async move {
            if broke {
                return None;
            }
            let frame = tokio::select! {
                biased;
                () = over.as_mut() => Some(Err("the body took too long".into())),
                frame = body.next() => frame.map(|frame| frame.map_err(axum::BoxError::from)),
            }?;
            let broke = frame.is_err();
            Some((frame, (body, over, broke)))
        },
    );
    Body::new(StreamBody::new(frames))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Extension, routing::get};
    use sideband_env::BoxFuture;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        sync::{mpsc, oneshot},
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
        let read = |body: axum::body::Bytes| async move { format!("{} bytes!", body.len()) };
        let options = ServeOptions { body_timeout: Duration::from_millis(20), ..ServeOptions::default() };
        let server = start(Router::new().route("/", axum::routing::post(read)), options);
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
