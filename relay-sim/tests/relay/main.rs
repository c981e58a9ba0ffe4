//! The relay over real sockets: a server on a free port of loopback, clients of tokio-tungstenite, and raw HTTP where a
//! refusal is to be seen. Nothing here waits for time; everything waits for messages and events.

mod admin;
mod closing;
mod flow;
mod limits;
mod pairing;
mod support;
mod trace;
mod upgrade;
mod used;
