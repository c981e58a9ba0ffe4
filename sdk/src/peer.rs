//! The other end of a session: calls, events, messages and handlers, the same on both sides.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use sideband_env::{BoxFuture, Timeline};
use sideband_protocol::{
    client::{CallLimits, RpcPolicy},
    event::{EventName, EventPattern},
    peer::{Answer, CallError, CallId},
    quirks::{Quirk, Quirks},
    rpc,
    sbp::{FrameId, MAX_SUBJECT, Subject},
};

use crate::{
    Context, Error,
    error::{CallFailure, Limit, argument, check_runtime},
    hub::{AppReceiver, Ended, EventReceiver, Handler, Hub, MethodInfo, next_call},
    service::Service,
    telemetry::CallCount,
};

/// What a peer asks of the machine behind it.
pub(crate) trait PeerCore: Send + Sync {
    fn call(&self, call: CallId, method: &str, params: Option<Bytes>, limits: CallLimits) -> Result<(), CallError>;
    fn cancel(&self, call: CallId);
    fn emit(&self, name: &EventName, data: Option<Bytes>) -> Result<(), CallError>;
    fn send_app(&self, subject: &str, data: Bytes) -> Result<FrameId, CallError>;
    /// Raw messages that are not sent yet: they outlive the session that is lost.
    fn unsent(&self) -> BTreeSet<FrameId>;
    fn respond(&self, cid: FrameId, answer: Answer);
    fn release(&self, size: usize);
    /// The time limits of calls that give none of their own (RPC-05).
    fn policy(&self) -> RpcPolicy;
    /// Why there is no session any more and never will be, if the machine can say.
    fn why_over(&self) -> Option<Error> {
        None
    }
    fn writable(&self) -> BoxFuture<'_, ()>;
}

/// The program at the other end. Cheap to clone; holding one keeps nothing open. Two are equal if they are the other end of
/// the same client or of the same session of a daemon.
#[derive(Clone)]
pub struct Peer {
    core: Arc<dyn PeerCore>,
    hub: Arc<Hub>,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.hub, &other.hub)
    }
}

impl Eq for Peer {}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peer")
    }
}

/// What a call told besides its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallInfo {
    /// Whether the call waited for a connection before it was sent.
    pub waited: bool,
}

/// Choices for one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    limits: CallLimits,
}

impl CallOptions {
    /// The policy's time limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the call with `rpc_timeout` this long after it was sent (RPC-05). Default: the policy's, 10 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = Some(timeout);
        self
    }

    /// Ends the call with `rpc_timeout` this long after it was made, waiting for a connection included. Default: never.
    #[must_use]
    pub const fn total(mut self, total: Duration) -> Self {
        self.limits.total = Some(total);
        self
    }
}

/// Forgets a call whose future is dropped.
struct CancelOnDrop<'a> {
    peer: &'a Peer,
    call: CallId,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.peer.hub.forget(self.call);
            self.peer.core.cancel(self.call);
        }
    }
}

/// JSON of the params or data of a method or event with this name.
pub(crate) fn to_json(what: &str, name: &str, value: &impl Serialize) -> Result<Bytes, Error> {
    let failed = |e: serde_json::Error| Error::Encode { what: whose(what, name), reason: e.to_string() };
    Ok(serde_json::to_vec(value).map_err(failed)?.into())
}

fn from_json<T: DeserializeOwned>(what: &str, name: &str, json: Option<&Bytes>) -> Result<T, Error> {
    decode(json.map(|json| &json[..])).map_err(|reason| Error::Decode { what: whose(what, name), reason })
}

fn whose(what: &str, name: &str) -> String {
    let name: String = name.chars().take(200).collect();
    format!("the {what} of `{name}`")
}

/// Reads JSON and names the member that does not fit. An absent value reads as null, so that `()` and `Option` fit it.
fn decode<T: DeserializeOwned>(json: Option<&[u8]>) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(json.unwrap_or(b"null"));
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if path == "." { inner.to_string() } else { format!("`{path}`: {inner}") }
    })
}

impl Peer {
    pub(crate) fn new(core: Arc<dyn PeerCore>, hub: Arc<Hub>) -> Self {
        Self { core, hub }
    }

    /// Calls a method and waits for its result.
    ///
    /// Dropping the future cancels the call: one that still waits for a connection is never sent; of one that was handed to a session
    /// only the answer is dropped, and the other side may have acted on it, or still will. Nothing else is lost.
    ///
    /// # Errors
    /// An empty method, params or result that do not fit their type, or a peer error: no answer in time, an error of the other side, no
    /// connection, too large for one frame.
    pub async fn call<P: Serialize, R: DeserializeOwned>(&self, method: &str, params: P) -> Result<R, Error> {
        self.call_with(method, params, CallOptions::new()).await
    }

    /// As [`call`](Self::call), with time limits of its own.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_with<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        params: P,
        options: CallOptions,
    ) -> Result<R, Error> {
        Ok(self.call_with_info(method, params, options).await?.0)
    }

    /// As [`call`](Self::call); tells besides whether the call waited for a reconnect.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_with_info<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        params: P,
        options: CallOptions,
    ) -> Result<(R, CallInfo), Error> {
        self.call_json(method, to_json("params", method, &params), options).await
    }

    /// A call whose params are JSON already, or no JSON.
    pub(crate) async fn call_json<R: DeserializeOwned>(
        &self,
        method: &str,
        params: Result<Bytes, Error>,
        options: CallOptions,
    ) -> Result<(R, CallInfo), Error> {
        let count = CallCount::begun();
        let answered = async {
            check_name(method)?;
            let (json, info) = self.ask(method, params?, options.limits).await?;
            Ok((from_json("result", method, json.as_ref())?, info))
        };
        let answered = answered.await;
        count.ended(&answered);
        answered
    }

    async fn ask(&self, method: &str, params: Bytes, limits: CallLimits) -> Result<(Option<Bytes>, CallInfo), Error> {
        let (asked, since) = (limits, Timeline::start());
        let failure = |error| self.call_failure(method, error, asked, &since);
        let limits = self.writable_within(limits).await.map_err(failure)?;
        let call = next_call();
        let end = self.hub.expect(call);
        let mut guard = CancelOnDrop { peer: self, call, armed: true };
        self.core.call(call, method, Some(params), limits).map_err(failure)?;
        let Ended { outcome, waited } = end.await.map_err(|_| failure(CallError::PeerClosed))?;
        guard.armed = false;
        Ok((outcome.map_err(failure)?, CallInfo { waited }))
    }

    /// Waits until the socket takes more, which counts for the total time (RPC-05): the limits with what is left of it.
    async fn writable_within(&self, mut limits: CallLimits) -> Result<CallLimits, CallError> {
        let total = limits.total.or(self.core.policy().total).filter(|_| !self.hub.quirks.has(Quirk::ForgetsTotal));
        let since = Timeline::start();
        match total {
            Some(total) => {
                tokio::time::timeout(total, self.core.writable()).await.map_err(|_| CallError::Timeout)?;
                limits.total = Some(total.saturating_sub(since.elapsed()));
            }
            None => self.core.writable().await,
        }
        Ok(limits)
    }

    /// What a failed call is to its caller.
    fn call_failure(&self, method: &str, error: CallError, limits: CallLimits, since: &Timeline) -> Error {
        let limit = (error == CallError::Timeout).then(|| {
            let policy = self.core.policy();
            match limits.total.or(policy.total) {
                Some(total) if since.elapsed() >= total => Limit::Made(total),
                Some(_) | None => Limit::Sent(limits.timeout.unwrap_or(policy.timeout)),
            }
        });
        self.failure("the call of", method, error, limit)
    }

    /// What failed, and why, if it is because the peer is over.
    fn failure(&self, what: &'static str, name: &str, error: CallError, limit: Option<Limit>) -> Error {
        let gone = matches!(error, CallError::PeerClosed | CallError::NotConnected);
        let (error, why) = match self.hub.stopped_by() {
            Some(cause) if gone => (CallError::PeerClosed, Some(Error::Failed(cause.clone()))),
            Some(_) | None if gone => {
                let ended = || self.hub.ended_because().cloned().map(Error::Failed);
                (error, self.core.why_over().or_else(ended))
            }
            Some(_) | None => (error, None),
        };
        CallFailure::new(what, name, error).after(limit).because(why).into()
    }

    /// Sends an event to the other side; waits while too much waits for the socket. Dropping the future then sends nothing.
    ///
    /// # Errors
    /// A bad name (`invalid_pattern`), data that do not become JSON, too large for one frame, or a closed peer.
    pub async fn emit<D: Serialize>(&self, name: &str, data: D) -> Result<(), Error> {
        let name = match EventName::new(name) {
            Err(_) if self.hub.quirks.has(Quirk::TakesAnyName) => return Ok(()),
            name => name.map_err(CallError::InvalidPattern)?,
        };
        let data = to_json("data", name.as_str(), &data)?;
        self.core.writable().await;
        let failure = |error| self.failure("the event", name.as_str(), error, None);
        self.core.emit(&name, Some(data)).map_err(failure)
    }

    /// Sends raw bytes on an `app/…` subject; waits while too much waits for the socket. Dropping the future then sends nothing.
    ///
    /// # Errors
    /// Another subject, which is refused at once, too large for one frame, or no connection.
    pub async fn send(&self, subject: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        check_subject(subject)?;
        self.core.writable().await;
        let failure = |error| self.failure("the message on", subject, error, None);
        self.core.send_app(subject, data.into()).map_err(failure)?;
        Ok(())
    }

    /// As [`send`](Self::send), and waits until the other side confirms that it arrived. It does so only if it was built with
    /// receipts; put a time limit around it. Dropping the future once the message is sent forgets the receipt, not the message.
    ///
    /// # Errors
    /// As [`send`](Self::send); `not_connected` if the session in which it was sent is lost first, so that nobody knows whether it
    /// arrived; `peer_closed` if the peer closes first.
    pub async fn send_confirmed(&self, subject: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        struct Forget<'a>(&'a Hub, FrameId);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.forget_receipt(self.1);
            }
        }
        check_subject(subject)?;
        self.core.writable().await;
        let failure = |error| self.failure("the message on", subject, error, None);
        let (id, receipt) = self.hub.confirm(|| self.core.send_app(subject, data.into())).map_err(failure)?;
        let _forget = Forget(&self.hub, id);
        receipt.await.unwrap_or(Err(CallError::PeerClosed)).map_err(failure)
    }

    /// Subscribes to the events of the other side whose names match (`*` one segment, `>` the rest). Survives reconnects.
    ///
    /// # Errors
    /// A bad pattern (`invalid_pattern`).
    pub fn subscribe(&self, pattern: &str) -> Result<Subscription, Error> {
        let pattern = match EventPattern::new(pattern) {
            Err(_) if self.hub.quirks.has(Quirk::TakesAnyName) => return Ok(Subscription(EventReceiver::ended())),
            pattern => pattern.map_err(CallError::InvalidPattern)?,
        };
        Ok(Subscription(self.hub.subscribe(pattern)))
    }

    /// Runs a handler for each matching event, one after the other, in the order sent.
    ///
    /// A handler that holds a [`Client`](crate::Client) or [`Server`](crate::Server) keeps it open, as [`handle`](Self::handle) says.
    ///
    /// # Errors
    /// A bad pattern (`invalid_pattern`), or no Tokio runtime here.
    pub fn on<F, Fut>(&self, pattern: &str, handler: F) -> Result<(), Error>
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        use futures_util::FutureExt;
        check_runtime()?;
        let quirks = self.hub.quirks;
        let mut events = self.subscribe(pattern)?;
        self.hub.spawn(async move {
            while let Some(event) = events.next().await {
                // EVT-02: a failing handler stops no other, nor itself.
                let name = event.name.clone();
                if std::panic::AssertUnwindSafe(async { handler(event).await }).catch_unwind().await.is_err() {
                    tracing::error!(target: "sideband::rpc", event = %name, "an event handler panicked");
                    if quirks.has(Quirk::StopsAfterFailure) {
                        return;
                    }
                }
            }
        });
        Ok(())
    }

    /// The raw messages that the other side sends on `app/…`, from now on.
    pub fn messages(&self) -> Messages {
        Messages(self.hub.messages())
    }

    /// Answers a method that the other side calls. Survives reconnects. Each call runs in a task of its own.
    ///
    /// That task ends with the session in which the call came, for nobody would get the answer: when the session is over, lost or
    /// closed, it is stopped at the `await` at which it waits. What must be finished all the same, the handler spawns:
    ///
    /// ```
    /// # use sideband::{Context, HandlerError, Peer};
    /// # async fn charge(order: u64) -> Result<(), HandlerError> { Ok(()) }
    /// # fn example(peer: &Peer) -> Result<(), sideband::Error> {
    /// peer.handle("order", |order: u64, _: Context| async move { tokio::spawn(charge(order)).await? })?;
    /// # Ok(()) }
    /// ```
    ///
    /// A handler that holds the [`Client`](crate::Client) or [`Server`](crate::Server) whose calls it answers keeps it open: it never
    /// closes by the drop of the other handles. Take [`Context::peer`] and [`Context::server`] instead, or keep a clone of the [`Peer`]
    /// or a [`WeakServer`](crate::WeakServer), which keep nothing open.
    ///
    /// # Errors
    /// The method has a handler already (RPC-07), or its name is reserved (RPC-08).
    pub fn handle<P, R, E, F, Fut>(&self, method: &str, handler: F) -> Result<(), Error>
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        E: Into<HandlerError>,
        F: Fn(P, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        check_method(method, self.hub.quirks)?;
        self.add(method, erase(handler))
    }

    fn add(&self, method: &str, handler: Handler) -> Result<(), Error> {
        if self.hub.add_handler(method.to_owned(), handler) { Ok(()) } else { Err(taken(method)) }
    }

    /// Answers the platform's methods: `$sideband/rpc.list` with the names of all methods that the other side can call,
    /// `$sideband/rpc.describe` with what each says of itself (RPC-08). For a whole daemon:
    /// [`Daemon::introspection`](crate::Daemon::introspection).
    ///
    /// # Errors
    /// They are answered already.
    pub fn introspection(&self) -> Result<(), Error> {
        introspection().into_iter().try_for_each(|(method, handler)| self.add(method, handler))
    }

    /// What a method says of itself to who asks `$sideband/rpc.describe`, once [`introspection`](Self::introspection) is on (RPC-08).
    pub fn describe(&self, method: &str, info: MethodInfo) {
        self.hub.handlers.describe(method.to_owned(), info);
    }

    /// Answers every method of a typed service; see [`service!`](macro@crate::service). Each call ends with its session, as
    /// [`handle`](Self::handle) says.
    ///
    /// # Errors
    /// One of its methods has a handler already (RPC-07).
    pub fn serve(&self, service: impl Service) -> Result<(), Error> {
        for (method, handler) in service.into_handlers() {
            check_method(method, self.hub.quirks)?;
            self.add(method, handler.0)?;
        }
        Ok(())
    }

    /// The session is lost: what was sent in it is confirmed no more.
    pub(crate) fn lose_receipts(&self) {
        self.hub.lose_receipts(|| self.core.unsent());
    }

    pub(crate) fn respond(&self, cid: FrameId, answer: Answer) {
        self.core.respond(cid, answer);
    }

    pub(crate) fn releaser(&self, size: usize) -> Box<dyn FnOnce() + Send + Sync> {
        let core = self.core.clone();
        Box::new(move || core.release(size))
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

pub(crate) fn taken(method: &str) -> Error {
    CallError::MethodTaken(method.to_owned()).into()
}

fn check_name(method: &str) -> Result<(), Error> {
    if method.is_empty() { Err(argument("the method", "its name is empty")) } else { Ok(()) }
}

/// SBP-04: what a raw message may be sent on.
fn check_subject(subject: &str) -> Result<(), Error> {
    if let Ok(Subject::App(_)) = Subject::parse(subject) {
        return Ok(());
    }
    let given: String = subject.chars().take(80).flat_map(char::escape_debug).collect();
    Err(argument("the subject", format!("`{given}` is not `app/…`, at most {MAX_SUBJECT} bytes, without NUL")))
}

/// RPC-08: the platform's names.
pub(crate) fn check_method(method: &str, quirks: Quirks) -> Result<(), Error> {
    check_name(method)?;
    if method.starts_with("$sideband/") && !quirks.has(Quirk::GivesAwayReservedNames) {
        return Err(argument("the method", format!("`{method}`: names under `$sideband/` are the platform's")));
    }
    Ok(())
}

/// RPC-08: the platform's methods that tell of all methods.
pub(crate) fn introspection() -> [(&'static str, Handler); 2] {
    let list = erase(|_: serde::de::IgnoredAny, context: Context| async move {
        let methods: Vec<_> = context.peer().hub.described().into_keys().collect();
        Ok::<_, HandlerError>(serde_json::json!({ "methods": methods }))
    });
    let describe = erase(|_: serde::de::IgnoredAny, context: Context| async move {
        Ok::<_, HandlerError>(context.peer().hub.described())
    });
    [("$sideband/rpc.list", list), ("$sideband/rpc.describe", describe)]
}

/// A typed handler as the hub keeps it.
pub(crate) fn erase<P, R, E, F, Fut>(handler: F) -> Handler
where
    P: DeserializeOwned + Send + 'static,
    R: Serialize,
    E: Into<HandlerError>,
    F: Fn(P, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |params, context| {
        let handler = handler.clone();
        Box::pin(async move {
            let params = match decode::<P>(params.as_deref()) {
                Ok(params) => params,
                Err(error) => {
                    return HandlerError::new(rpc::code::APPLICATION, format!("invalid params: {error}"))
                        .with_data(serde_json::json!({ "kind": "invalid_params" }))
                        .into_answer();
                }
            };
            match handler(params, context).await.map_err(Into::into) {
                Ok(result) => match serde_json::to_vec(&result) {
                    Ok(json) => Answer::Result(Some(json.into())),
                    Err(error) => HandlerError::new(rpc::code::APPLICATION, format!("the result is no JSON: {error}"))
                        .into_answer(),
                },
                Err(error) => error.into_answer(),
            }
        })
    })
}

/// How a handler fails: E with a code of the application's own, 2000 or larger; a smaller one goes out as 2000 (RPC-02).
///
/// By `?` an error becomes one, with code 2000 and its message, and so does whatever else becomes a `Box<dyn Error + Send + Sync>`: such a
/// box itself, a `String`, a `&str`, an `anyhow::Error`.
///
/// ```
/// use sideband::{Context, HandlerError};
///
/// async fn read(path: String, _: Context) -> Result<String, HandlerError> {
///     if path.is_empty() {
///         Err("the path is empty")?;
///     }
///     Ok(std::fs::read_to_string(path)?)
/// }
///
/// // A handler may fail with any such type as well.
/// async fn boxed(_: (), _: Context) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
///     Ok("17".parse()?)
/// }
///
/// # fn both(peer: &sideband::Peer) -> Result<(), sideband::Error> {
/// peer.handle("read", read)?;
/// peer.handle("boxed", boxed)?;
/// # Ok(()) }
/// # fn text() -> Result<(), HandlerError> { Err(format!("no. {}", 1))? }
/// # fn rethrown() -> Result<(), HandlerError> { let fails: Result<(), Box<dyn std::error::Error + Send + Sync>> = Err("no".into()); Ok(fails?) }
/// # assert_eq!(text().unwrap_err(), HandlerError::new(2_000, "no. 1"));
/// # assert_eq!(rethrown().unwrap_err(), HandlerError::new(2_000, "no"));
/// ```
///
/// An error that cannot be sent to another thread, or borrows, needs words of its own: `.map_err(|error| error.to_string())?`.
#[derive(Debug, Clone, PartialEq)]
pub struct HandlerError {
    code: i64,
    message: String,
    data: Option<serde_json::Value>,
}

impl HandlerError {
    /// An error with a code.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Adds data for the caller.
    #[must_use]
    pub fn with_data(mut self, data: serde_json::Value) -> Self {
        self.data = Some(data);
        self
    }

    fn into_answer(self) -> Answer {
        let data = self.data.map(|data| Bytes::from(data.to_string()));
        Answer::Error { code: self.code, message: self.message, data }
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::new(rpc::code::APPLICATION, error.into().to_string())
    }
}

/// An event of the other side.
#[derive(Debug, Clone)]
pub struct Event {
    name: EventName,
    data: Option<Bytes>,
}

impl Event {
    /// The event's name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The event's data; an event without data reads as `null`.
    ///
    /// # Errors
    /// The data do not fit the type.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Error> {
        from_json("data", self.name.as_str(), self.data.as_ref())
    }

    /// The data's JSON text.
    pub fn json(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }
}

/// The events of one subscription, in the order sent. Dropping it ends the subscription.
pub struct Subscription(EventReceiver);

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription")
    }
}

impl Subscription {
    /// The next event; `None` once the peer is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let item = self.0.next().await?;
        let (name, data) = item.item();
        Some(Event { name: name.clone(), data: data.clone() })
    }
}

/// The raw messages of a peer. Dropping it ends the subscription.
pub struct Messages(AppReceiver);

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Messages")
    }
}

impl Messages {
    /// The next message, its subject and its bytes; `None` once the peer is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<(String, Bytes)> {
        let item = self.0.next().await?;
        Some(item.item().clone())
    }
}
