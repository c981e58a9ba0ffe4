//! The client: CLI-01 to CLI-15.

pub(crate) mod attempts;
pub(crate) mod buffers;
pub(crate) mod closing;
pub(crate) mod sessions;
pub(crate) mod verdicts;

use std::{future::Future, task::Poll, time::Duration};

use serde_json::{Value, json};
use sideband::{Cause, Client, CloseReason, Error, Lifecycle, LifecycleEvents, State};
use sideband_protocol::wire::ControlCode;
use sideband_tests::script::{Link, PATIENCE, soon};
use tokio::task::JoinHandle;

/// Longer than any client waits by itself.
pub(crate) const LONG: Duration = PATIENCE;

/// What must not take any time.
pub(crate) async fn at_once<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_millis(1), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} takes time"),
    }
}

/// Waits until the client has closed: why.
pub(crate) async fn closed(client: &Client) -> CloseReason {
    soon("the client to close", client.closed()).await
}

/// Waits until the client is in this state.
pub(crate) async fn state(client: &Client, wanted: State) {
    let mut state = client.state();
    soon(wanted.name(), state.wait_for(|state| *state == wanted)).await.expect("the client is there");
}

/// The next retry that the client reports: its number, the delay and the cause.
pub(crate) async fn retrying(events: &mut LifecycleEvents) -> (u32, Duration, Cause) {
    loop {
        match soon("a retry", events.next()).await {
            Some(Lifecycle::Retrying { retry, delay, cause }) => return (retry, delay, cause),
            Some(Lifecycle::Closed(reason)) => panic!("closed instead of a retry: {reason}"),
            Some(_) => {}
            None => panic!("the client is gone"),
        }
    }
}

/// A call that has been made when this returns; its end comes later.
pub(crate) async fn call(client: &Client, method: &'static str, params: Value) -> JoinHandle<Result<Value, Error>> {
    let client = client.clone();
    let mut call = Box::pin(async move { client.call(method, params).await });
    let polled = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
    tokio::spawn(async move {
        match polled {
            Poll::Ready(end) => end,
            Poll::Pending => call.await,
        }
    })
}

/// The end of a call that must have ended already.
pub(crate) async fn ended(call: JoinHandle<Result<Value, Error>>) -> Result<Value, Error> {
    at_once("a call's end", call).await.expect("a call does not panic")
}

/// The end of a call.
pub(crate) async fn end_of(call: JoinHandle<Result<Value, Error>>) -> Result<Value, Error> {
    soon("a call's end", call).await.expect("a call does not panic")
}

/// A Control code for the one session of a link, and the state that it leads to.
pub(crate) async fn control(client: &Client, link: &mut Link, code: ControlCode, to: State) {
    let session = link.session();
    link.socket.control(code, Some(session)).await;
    state(client, to).await;
}

/// Answers the client's next call, which must be of this method.
pub(crate) async fn answer_next(link: &mut Link, method: &str) {
    let (called, _, cid) = link.called().await;
    assert_eq!(called, method);
    link.answer(cid, json!("done")).await;
}
