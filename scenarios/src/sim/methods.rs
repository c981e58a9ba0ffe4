//! What the daemons of scenarios answer, what calls and events carry, and whether an answer is the right one.
//!
//! `ping` → `"pong"`, `echo` → its params, `add {a,b}` → the sum, `boom` → E 2000, `sleep {ms}` → `ms` after so long. Every
//! object that is sent holds a canary with the number of its call, by which plaintext is found where none belongs, and calls are
//! known again where they arrive.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sideband::{Context, Daemon, Error, HandlerError};
use sideband_sim_kit::event::{EventKind, EventSink};
use tokio::time::sleep;

use super::tap::CANARY;

/// The member that holds the canary.
const MEMBER: &str = "canary";
/// The member that holds an event's filler.
const FILLER: &str = "filler";
/// The member that holds an event's number.
const NUMBER: &str = "n";

/// Params with a canary, if they are an object or absent.
pub(super) fn params(given: Option<&Value>, call: u64) -> Value {
    match given {
        None | Some(Value::Null) => json!({ MEMBER: format!("{CANARY}-{call}") }),
        Some(Value::Object(members)) => {
            let mut members = members.clone();
            members.insert(MEMBER.to_owned(), format!("{CANARY}-{call}").into());
            Value::Object(members)
        }
        Some(other) => other.clone(),
    }
}

/// An event's data with its number, a canary and so many bytes of filler, if they are an object or absent.
pub(super) fn payload(given: Option<&Value>, number: u64, filler: usize) -> Value {
    let mut members = match given {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(members)) => members.clone(),
        Some(other) => return other.clone(),
    };
    members.insert(NUMBER.to_owned(), number.into());
    members.insert(MEMBER.to_owned(), CANARY.into());
    if filler > 0 {
        members.insert(FILLER.to_owned(), "x".repeat(filler).into());
    }
    Value::Object(members)
}

/// An event's number.
pub(super) fn number(data: &Value) -> Option<u64> {
    data.get(NUMBER)?.as_u64()
}

/// A call's number, by its params.
fn call_of(params: &Value) -> Option<u64> {
    params.get(MEMBER)?.as_str()?.strip_prefix(CANARY)?.strip_prefix('-')?.parse().ok()
}

/// A result as the scenario's author wrote it.
pub(super) fn without_canary(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.remove(MEMBER);
    }
    value
}

/// Whether an answer is the one to its own request; `None` where that cannot be told.
pub(super) fn is_own(method: &str, params: &Value, ended: &Result<Value, Error>) -> Option<bool> {
    let number = |member: &str| params.get(member).and_then(Value::as_i64);
    match (method, ended) {
        ("ping", Ok(value)) => Some(value == "pong"),
        ("echo", Ok(value)) => Some(value == params),
        ("add", Ok(value)) => Some(value.as_i64() == Some(number("a")?.wrapping_add(number("b")?))),
        ("sleep", Ok(value)) => Some(value.as_i64() == number("ms")),
        ("boom", Ok(_)) => Some(false),
        ("ping" | "echo" | "add" | "sleep", Err(error)) if error.rpc_code() == Some(2_000) => Some(false),
        _ => None,
    }
}

/// Adds the methods to a daemon.
pub(super) fn serve(daemon: Daemon, sink: &EventSink) -> Result<Daemon, Error> {
    let served = |method: &'static str| {
        let sink = sink.clone();
        move |params: &Value, context: &Context| {
            if let Some(call) = call_of(params) {
                sink.emit(None, context.session(), EventKind::Served { call, method: method.to_owned() });
            }
        }
    };
    let (ping, echo, add, boom, sleeps) =
        (served("ping"), served("echo"), served("add"), served("boom"), served("sleep"));
    daemon
        .handle("ping", move |params: Value, context: Context| {
            ping(&params, &context);
            async { Ok::<_, HandlerError>("pong") }
        })?
        .handle("echo", move |params: Value, context: Context| {
            echo(&params, &context);
            async { Ok::<_, HandlerError>(params) }
        })?
        .handle("add", move |params: Value, context: Context| {
            add(&params, &context);
            async move {
                let part = |name: &str| params.get(name).and_then(Value::as_i64);
                let (Some(a), Some(b)) = (part("a"), part("b")) else { Err("a and b must be whole numbers")? };
                Ok::<_, HandlerError>(a.wrapping_add(b))
            }
        })?
        .handle("boom", move |params: Value, context: Context| {
            boom(&params, &context);
            async { Err::<(), _>(HandlerError::new(2_000, "boom")) }
        })?
        .handle("sleep", move |params: Value, context: Context| {
            sleeps(&params, &context);
            async move {
                let ms = params.get("ms").and_then(Value::as_u64).ok_or("ms must be a whole number")?;
                sleep(Duration::from_millis(ms)).await;
                Ok::<_, HandlerError>(ms)
            }
        })
}
