//! A daemon that answers `ping`, `echo` and `add`, and prints a Quick Connect code.
//!
//! Needs SIDEBAND_API_URL, SIDEBAND_RELAY_URL and SIDEBAND_API_KEY, as `sideband-sim up` prints them. Ctrl-C ends it.
#![allow(clippy::print_stdout)]

use serde::Deserialize;
use serde_json::Value;
use sideband::{Context, Daemon, HandlerError, identity::load_or_create};

#[derive(Deserialize)]
struct Add {
    a: f64,
    b: f64,
}

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("set {name}; `sideband-sim up` prints it"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut daemon = Daemon::new(&env("SIDEBAND_API_URL")?, &env("SIDEBAND_RELAY_URL")?, env("SIDEBAND_API_KEY")?)?
        .introspection()?
        .handle("ping", |_: Value, _: Context| async { Ok::<_, HandlerError>("pong") })?
        .handle("echo", |params: Value, _| async { Ok::<_, HandlerError>(params) })?
        .handle("add", |Add { a, b }: Add, _| async move { Ok::<_, HandlerError>(a + b) })?;
    // With a file the daemon keeps its identity, and clients know it again.
    if let Ok(path) = env("SIDEBAND_IDENTITY") {
        daemon = daemon.identity(load_or_create(path, &sideband::env::real::OsEntropy)?);
    }
    let server = daemon.listen().await?;
    println!("daemon {} is online, fingerprint {}", server.daemon_id(), server.fingerprint());
    println!("one client may connect with {}", server.create_quick_connect(None).await?.code);
    tokio::select! {
        cause = server.ended() => println!("ended: {cause}"),
        _ = tokio::signal::ctrl_c() => server.close().await,
    }
    Ok(())
}
