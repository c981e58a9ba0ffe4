//! The echo daemon: the methods that `daemon`, `up --daemon` and `demo` serve.
//!
//! | method | answers |
//! |---|---|
//! | `ping` | `"pong"` |
//! | `echo`, `$sideband/echo` | its params, byte for byte |
//! | `add {a,b}` | the sum |
//! | `boom` | E 2000 |
//! | `sleep {ms}` | `ms`, after that many milliseconds |
//! | `tick {on}` | `{on}`; starts or stops the event `tick {n}` each second, to the caller |
//! | `$sideband/info` | `{daemonId, version}` |
//! | `$sideband/rpc.list` | `{methods}` |

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Number, Value, json, value::RawValue};
use sideband::{Context, Daemon, Error, HandlerError, Peer, Server};
use tokio::{sync::watch, task::AbortHandle, time::MissedTickBehavior};

/// Our version, for `$sideband/info`.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The code of errors that an application makes up itself.
const APPLICATION: i64 = 2000;

#[derive(Deserialize)]
#[serde(expecting = "an object with the numbers `a` and `b`")]
struct Add {
    a: Number,
    b: Number,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with the whole number `ms`")]
struct Sleep {
    ms: u64,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `on`, true or false")]
struct Tick {
    on: bool,
}

/// Gives a daemon the echo methods and starts it.
///
/// # Errors
/// The daemon has such methods already, or its world cannot be set up.
pub(crate) fn start(daemon: Daemon) -> Result<Server, Error> {
    let (online, id) = watch::channel(None);
    let server = methods(daemon, id)?.start()?;
    let starting = server.clone();
    tokio::spawn(async move {
        // Otherwise it has ended, and nobody asks for its id.
        if starting.when_online().await.is_ok() {
            online.send_replace(Some(starting.daemon_id()));
        }
    });
    Ok(server)
}

fn methods(daemon: Daemon, id: watch::Receiver<Option<String>>) -> Result<Daemon, Error> {
    let ticking = Ticking::default();
    daemon
        .handle("ping", |_: IgnoredAny, _| async { Ok::<_, HandlerError>("pong") })?
        .handle("echo", echo)?
        .handle("add", |Add { a, b }, _| async move { add(&a, &b) })?
        .handle("boom", |_: IgnoredAny, _| async { Err::<(), _>(HandlerError::new(APPLICATION, "boom")) })?
        .handle("sleep", |Sleep { ms }, _| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok::<_, HandlerError>(ms)
        })?
        .handle("tick", move |Tick { on }, context: Context| {
            ticking.switch(context.peer(), on);
            async move { Ok::<_, HandlerError>(json!({ "on": on })) }
        })?
        .platform("echo", echo)?
        .platform("info", move |_: IgnoredAny, _| {
            let mut id = id.clone();
            async move {
                let id = id.wait_for(Option::is_some).await.map(|id| id.clone());
                let id = id.map_err(|_| HandlerError::new(APPLICATION, "the daemon has ended"))?;
                Ok::<_, HandlerError>(json!({ "daemonId": id, "version": VERSION }))
            }
        })?
        .introspection()
}

/// Byte for byte: numbers as they are written, members twice and in their order.
async fn echo(params: Box<RawValue>, _: Context) -> Result<Box<RawValue>, HandlerError> {
    Ok(params)
}

/// Whole numbers stay whole.
fn add(a: &Number, b: &Number) -> Result<Value, HandlerError> {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64())
        && let Some(sum) = a.checked_add(b)
    {
        return Ok(sum.into());
    }
    let sum = a.as_f64().zip(b.as_f64()).and_then(|(a, b)| Number::from_f64(a + b));
    sum.map(Value::from).ok_or_else(|| HandlerError::new(APPLICATION, "the sum is no number of JSON"))
}

/// Who gets ticks.
#[derive(Clone, Default)]
struct Ticking(Arc<Mutex<Vec<(Peer, AbortHandle)>>>);

impl Ticking {
    fn lock(&self) -> MutexGuard<'_, Vec<(Peer, AbortHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts or stops a peer's ticks; those that run go on.
    fn switch(&self, peer: &Peer, on: bool) {
        let mut all = self.lock();
        let found = all.iter().position(|(other, _)| other == peer);
        match (found, on) {
            (Some(at), false) => all.swap_remove(at).1.abort(),
            (None, true) => {
                let task = tokio::spawn(tick(self.clone(), peer.clone()));
                all.push((peer.clone(), task.abort_handle()));
            }
            (Some(_), true) | (None, false) => {}
        }
    }
}

/// The event `tick {n}`, n from 1, each second until the session is over.
async fn tick(ticking: Ticking, peer: Peer) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is at once.
    seconds.tick().await;
    for n in 1_u64.. {
        seconds.tick().await;
        if peer.emit("tick", json!({ "n": n })).await.is_err() {
            break;
        }
    }
    ticking.lock().retain(|(other, _)| *other != peer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_stay_whole() {
        let sum = |a: Value, b: Value| match (a, b) {
            (Value::Number(a), Value::Number(b)) => add(&a, &b).map(|sum| sum.to_string()),
            _ => Ok("no numbers".to_owned()),
        };
        assert_eq!(sum(json!(2), json!(-5)).unwrap(), "-3");
        assert_eq!(sum(json!(2), json!(0.5)).unwrap(), "2.5");
        assert_eq!(sum(json!(i64::MAX), json!(1)).unwrap(), "9.223372036854776e+18");
        assert!(sum(json!(1e308), json!(1e308)).is_err());
    }
}
