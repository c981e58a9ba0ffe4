//! What one peer's handles share: calls that wait, subscriptions, handlers and their tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use sideband_env::BoxFuture;
use sideband_protocol::{
    event::{EventName, EventPattern},
    failure::Cause,
    peer::{Answer, CallError, CallId, Delivery},
    quirks::{Quirk, Quirks},
    rpc,
    sbp::FrameId,
};
use tokio::{sync::oneshot, task::JoinSet};

use tracing::Instrument as _;

use crate::{
    context::{Context, Place},
    peer::Peer,
    receivers::{Receiver, Receivers},
};

/// The numbers of calls are unique in one process, so that no answer can reach another peer's call.
static NEXT_CALL: AtomicU64 = AtomicU64::new(0);

pub(crate) fn next_call() -> CallId {
    CallId(NEXT_CALL.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a call came to.
pub(crate) struct Ended {
    pub(crate) outcome: Result<Option<Bytes>, CallError>,
    pub(crate) waited: bool,
}

/// What came of a message that asked to be confirmed.
pub(crate) type Receipt = Result<(), CallError>;

pub(crate) type Handler = Arc<dyn Fn(Option<Bytes>, Context) -> BoxFuture<'static, Answer> + Send + Sync>;

/// What a method says of itself to who asks `$sideband/rpc.describe` (RPC-08).
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MethodInfo {
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The shape of its params, such as a JSON schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
    /// Params that it would take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_example: Option<serde_json::Value>,
}

/// Handlers by method; a daemon's are shared by all its connections.
#[derive(Default)]
pub(crate) struct Handlers(Mutex<BTreeMap<String, Handler>>, Mutex<BTreeMap<String, MethodInfo>>);

impl Handlers {
    /// RPC-07: false if the method is taken.
    pub(crate) fn add(&self, method: String, handler: Handler) -> bool {
        let mut handlers = lock(&self.0);
        if handlers.contains_key(&method) {
            return false;
        }
        handlers.insert(method, handler);
        true
    }

    /// RPC-07, wrong on purpose.
    fn replace(&self, method: String, handler: Handler) {
        lock(&self.0).insert(method, handler);
    }

    pub(crate) fn get(&self, method: &str) -> Option<Handler> {
        lock(&self.0).get(method).cloned()
    }

    pub(crate) fn describe(&self, method: String, info: MethodInfo) {
        lock(&self.1).insert(method, info);
    }

    /// Every method with what it says of itself.
    fn described(&self) -> BTreeMap<String, MethodInfo> {
        let mut info = lock(&self.1).clone();
        self.names().into_iter().map(|name| (name.clone(), info.remove(&name).unwrap_or_default())).collect()
    }

    fn clear(&self) {
        let gone = std::mem::take(&mut *lock(&self.0));
        // Outside the lock: what a handler holds may be anything.
        drop(gone);
    }

    fn names(&self) -> Vec<String> {
        lock(&self.0).keys().cloned().collect()
    }
}

/// One event or message as its receivers see it; the session counts it as consumed when the last one has taken it.
pub(crate) struct Shelf<T> {
    item: T,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl<T> Shelf<T> {
    pub(crate) fn item(&self) -> &T {
        &self.item
    }
}

impl<T> Drop for Shelf<T> {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

pub(crate) type EventItem = Arc<Shelf<(EventName, Option<Bytes>)>>;
pub(crate) type AppItem = Arc<Shelf<(String, Bytes)>>;

pub(crate) type EventReceiver = Receiver<EventPattern, EventItem>;
pub(crate) type AppReceiver = Receiver<(), AppItem>;

/// What one peer's handles share.
#[derive(Default)]
pub(crate) struct Hub {
    calls: Mutex<BTreeMap<CallId, oneshot::Sender<Ended>>>,
    acks: Mutex<BTreeMap<FrameId, oneshot::Sender<Receipt>>>,
    // The session bounds what waits here (DMN-07): items are released when they are taken.
    subscriptions: Receivers<EventPattern, EventItem>,
    messages: Receivers<(), AppItem>,
    pub(crate) handlers: Handlers,
    /// A daemon's own handlers, asked second.
    pub(crate) shared_handlers: Option<Arc<Handlers>>,
    /// How long a handler may take before its call is answered E 1103; off by default (RPC-02).
    pub(crate) handler_timeout: Option<Duration>,
    /// What is wrong on purpose; set by tests only.
    pub(crate) quirks: Quirks,
    /// Whose turn it is, with the quirk that handles one call after the other.
    turn: Arc<tokio::sync::Mutex<()>>,
    tasks: Mutex<JoinSet<()>>,
    /// Handlers of methods that run: they end with the session whose calls they answer.
    requests: Mutex<JoinSet<()>>,
    /// What came before the connection's handler was there to take it; `None` once it is. The session bounds it (DMN-07).
    gate: Mutex<Option<Vec<Delivery>>>,
    gated: AtomicBool,
    /// The peer is over: nothing is registered or run any more.
    over: AtomicBool,
    /// Why nobody drives the peer any more, if that is how it ended.
    stopped: OnceLock<Cause>,
    /// The session whose peer this is, at a daemon.
    pub(crate) place: OnceLock<Place>,
    /// Why a daemon's session is over, once it is.
    ended: OnceLock<Cause>,
}

impl Hub {
    pub(crate) fn new(
        shared_handlers: Option<Arc<Handlers>>,
        handler_timeout: Option<Duration>,
        quirks: Quirks,
    ) -> Self {
        Self { shared_handlers, handler_timeout, quirks, ..Self::default() }
    }

    /// RPC-07: false if the method is taken, by a handler of this peer or of its whole daemon.
    pub(crate) fn add_handler(&self, method: String, handler: Handler) -> bool {
        if self.quirks.has(Quirk::TakesSecondHandler) {
            self.handlers.replace(method, handler);
            return true;
        }
        let shared = self.shared_handlers.as_ref().is_some_and(|handlers| handlers.get(&method).is_some());
        if self.is_over() {
            // Nobody calls it any more, and it may hold this very peer.
            return !shared;
        }
        !shared && self.handlers.add(method, handler)
    }

    /// Every method that this peer can call, with what it says of itself, sorted (RPC-08).
    pub(crate) fn described(&self) -> BTreeMap<String, MethodInfo> {
        let mut all = self.shared_handlers.as_ref().map(|handlers| handlers.described()).unwrap_or_default();
        all.extend(self.handlers.described());
        all
    }

    /// Waits for a call's end.
    pub(crate) fn expect(&self, call: CallId) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.calls).insert(call, sender);
        receiver
    }

    /// Sends a message and waits for its receipt; the lock is held so that the receipt cannot come first.
    pub(crate) fn confirm(
        &self,
        send: impl FnOnce() -> Result<FrameId, CallError>,
    ) -> Result<(FrameId, oneshot::Receiver<Receipt>), CallError> {
        let mut acks = lock(&self.acks);
        let id = send()?;
        let (sender, receiver) = oneshot::channel();
        acks.insert(id, sender);
        Ok((id, receiver))
    }

    /// The session is lost: nothing confirms what was sent in it any more. The lock is held so that what is sent just now is told
    /// from what was.
    pub(crate) fn lose_receipts(&self, unsent: impl FnOnce() -> BTreeSet<FrameId>) {
        let mut acks = lock(&self.acks);
        if acks.is_empty() {
            return;
        }
        let unsent = unsent();
        for (_, lost) in acks.extract_if(.., |id, _| !unsent.contains(id)) {
            // Whoever waited may have given up just now.
            let _ = lost.send(Err(CallError::NotConnected));
        }
    }

    pub(crate) fn forget_receipt(&self, id: FrameId) {
        lock(&self.acks).remove(&id);
    }

    pub(crate) fn forget(&self, call: CallId) {
        lock(&self.calls).remove(&call);
    }

    pub(crate) fn subscribe(&self, pattern: EventPattern) -> EventReceiver {
        self.subscriptions.open(pattern)
    }

    pub(crate) fn messages(&self) -> AppReceiver {
        self.messages.open(())
    }

    /// What only a quirk does: start a session without handlers and subscriptions.
    pub(crate) fn forget_handlers(&self) {
        self.handlers.clear();
        self.subscriptions.clear();
    }

    /// Runs a task that ends with the peer.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        if !self.is_over() {
            tasks.spawn(task);
        }
    }

    /// The session is over: what its calls started is stopped, for nobody would get the answers.
    pub(crate) fn end_requests(&self) {
        lock(&self.requests).abort_all();
    }

    #[cfg(test)]
    fn receivers(&self) -> usize {
        self.subscriptions.len() + self.messages.len()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// From now on what comes is kept until [`open_gate`](Self::open_gate).
    pub(crate) fn close_gate(&self) {
        lock(&self.gate).get_or_insert_default();
        self.gated.store(true, Ordering::SeqCst);
    }

    /// Delivers what was kept, in order, and whatever comes from now on.
    pub(crate) fn open_gate(&self, peer: &Peer) {
        let mut gate = lock(&self.gate);
        for delivery in gate.take().into_iter().flatten() {
            self.deliver_now(delivery, peer);
        }
        self.gated.store(false, Ordering::SeqCst);
    }

    /// The peer is over: subscriptions end, handlers are stopped.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        *lock(&self.gate) = None;
        self.subscriptions.end();
        self.messages.end();
        lock(&self.calls).clear();
        lock(&self.acks).clear();
        lock(&self.tasks).abort_all();
        self.end_requests();
        // A handler may hold its own peer: without this they would hold each other for ever.
        self.handlers.clear();
    }

    /// The peer is over because nobody drives it any more.
    pub(crate) fn stop(&self, cause: &Cause) {
        self.stopped.get_or_init(|| cause.clone());
        self.end();
    }

    /// A new session of a daemon has this peer.
    pub(crate) fn stands_at(&self, place: Place) {
        self.place.get_or_init(|| place);
    }

    /// A daemon's session is over, for this reason.
    pub(crate) fn ended_by(&self, cause: &Cause) {
        self.ended.get_or_init(|| cause.clone());
    }

    /// Why nobody drives the peer any more, if that is how it ended.
    pub(crate) fn stopped_by(&self) -> Option<&Cause> {
        self.stopped.get()
    }

    /// Why this session of a daemon is over, once it is.
    pub(crate) fn ended_because(&self) -> Option<&Cause> {
        self.ended.get()
    }

    /// Something came for this peer.
    pub(crate) fn deliver(&self, delivery: Delivery, peer: &Peer) {
        if self.gated.load(Ordering::SeqCst)
            && let Some(kept) = &mut *lock(&self.gate)
            && !matches!(delivery, Delivery::CallEnded { .. })
        {
            return kept.push(delivery);
        }
        self.deliver_now(delivery, peer);
    }

    fn deliver_now(&self, delivery: Delivery, peer: &Peer) {
        match delivery {
            Delivery::CallEnded { call, outcome, waited } => {
                let waiting = lock(&self.calls).remove(&call);
                if let Some(waiting) = waiting {
                    // Whoever called may have given up just now.
                    let _ = waiting.send(Ended { outcome, waited });
                }
            }
            Delivery::Event { name, data, size } => {
                let item = Arc::new(Shelf { item: (name, data), release: Some(peer.releaser(size)) });
                // EVT-02: every matching subscription once, in the order sent.
                let mut delivered = false;
                self.subscriptions.send(&item, |pattern| {
                    let wanted =
                        self.is_meant(pattern, &item.item.0) && !(delivered && self.quirks.has(Quirk::DeliversOnce));
                    delivered |= wanted;
                    wanted
                });
            }
            Delivery::App { subject, data, size } => {
                let item = Arc::new(Shelf { item: (subject, data), release: Some(peer.releaser(size)) });
                self.messages.send(&item, |()| true);
            }
            Delivery::Request { cid, method, params } => self.request(cid, &method, params, peer),
            Delivery::Ack(id) => {
                let waiting = lock(&self.acks).remove(&id);
                if let Some(waiting) = waiting {
                    // Whoever waited may have given up just now.
                    let _ = waiting.send(Ok(()));
                }
            }
        }
    }

    /// EVT-01.
    fn is_meant(&self, pattern: &EventPattern, name: &EventName) -> bool {
        let stars = self.quirks.has(Quirk::StarMatchesMany);
        pattern.matches(name)
            || stars && EventPattern::new(pattern.as_str().replace('*', ">")).is_ok_and(|all| all.matches(name))
    }

    fn request(&self, cid: FrameId, method: &str, params: Option<Bytes>, peer: &Peer) {
        let shared = || self.shared_handlers.as_ref().and_then(|handlers| handlers.get(method));
        let Some(handler) = self.handlers.get(method).or_else(shared) else {
            // The name is the other side's: as much of it as tells which one was meant.
            let name: String = method.chars().take(200).collect();
            let message = format!("Method not found: {name}");
            let unknown = self.quirks.has(Quirk::FailsUnknownMethods);
            let code = if unknown { rpc::code::APPLICATION } else { rpc::code::UNSUPPORTED_METHOD };
            return peer.respond(cid, Answer::Error { code, message, data: None });
        };
        let (peer, quirks, turn, name) = (peer.clone(), self.quirks, self.turn.clone(), method.to_owned());
        let limit = self.handler_timeout.filter(|_| !quirks.has(Quirk::ForgetsHandlerLimit));
        let span = tracing::info_span!(target: "sideband::rpc", "request", method);
        // RPC-06: each in a task of its own.
        let run = async move {
            let _turn = if quirks.has(Quirk::HandlesInTurn) { Some(turn.lock().await) } else { None };
            let run = AssertUnwindSafe(async { handler(params, Context::new(peer.clone())).await }).catch_unwind();
            let ended = match limit {
                Some(limit) => tokio::time::timeout(limit, run).await.map_err(|_| limit),
                None => Ok(run.await),
            };
            let failed = |code, message| Answer::Error { code, message, data: None };
            let answer = match ended {
                Ok(Ok(answer)) => checked(answer, quirks),
                Ok(Err(_)) => {
                    // What it said is the panic hook's to tell: it may hold params, and the other side must not see it either.
                    tracing::error!(target: "sideband::rpc", method = name, "a handler panicked");
                    failed(rpc::code::APPLICATION, "the handler panicked".to_owned())
                }
                Err(limit) => failed(rpc::code::TIMEOUT, format!("the handler took longer than {limit:?}")),
            };
            peer.respond(cid, answer);
        };
        let mut requests = lock(&self.requests);
        while requests.try_join_next().is_some() {}
        if !self.is_over() {
            requests.spawn(run.instrument(span));
        }
    }
}

/// RPC-02: a handler fails with 2000, or with a larger code of the application's own; the smaller ones are the protocol's.
fn checked(answer: Answer, quirks: Quirks) -> Answer {
    match answer {
        Answer::Error { code, message, data } => Answer::Error {
            code: if quirks.has(Quirk::PassesAnyCode) { code } else { code.max(rpc::code::APPLICATION) },
            message: if quirks.has(Quirk::HidesFailure) { "internal error".to_owned() } else { message },
            data,
        },
        result @ Answer::Result(_) => result,
    }
}

#[cfg(test)]
mod tests;
