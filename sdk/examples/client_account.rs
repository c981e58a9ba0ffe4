//! A client by its user's account: calls `add` and tells what happens to its connection.
//!
//! Needs SIDEBAND_API_URL, SIDEBAND_DAEMON_ID and SIDEBAND_ACCESS_TOKEN, and a daemon such as `sideband-sim up --daemon`.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use serde_json::json;
use sideband::{Account, CallOptions};

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("set {name}; `sideband-sim up` prints it"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let token = env("SIDEBAND_ACCESS_TOKEN")?;
    // The source is asked on every attempt: a real one would refresh the token.
    let tokens = move || {
        let token = token.clone();
        async move { Ok(token) }
    };
    let client = Account::new(&env("SIDEBAND_API_URL")?, env("SIDEBAND_DAEMON_ID")?, tokens)?.connect()?;
    let mut events = client.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            println!("  {event:?}");
        }
    });
    // Made before the connection stands: it waits, and says so.
    let options = CallOptions::new().timeout(Duration::from_secs(5)).total(Duration::from_secs(20));
    let (sum, info) = client.call_with_info::<_, f64>("add", json!({ "a": 19, "b": 23 }), options).await?;
    println!("19 + 23 = {sum} (waited for a connection: {})", info.waited);
    client.close().await;
    Ok(())
}
