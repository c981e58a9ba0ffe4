//! A client by a code that works once: `SIDEBAND_QUICK_CONNECT=abcd-efgh-ijkl cargo run --example client_quick_connect`.
//!
//! Needs SIDEBAND_API_URL as well; `sideband-sim up --daemon` prints both.
#![allow(clippy::print_stdout)]

use serde_json::Value;
use sideband::QuickConnect;

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("set {name}; `sideband-sim up --daemon` prints it"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = QuickConnect::new(&env("SIDEBAND_API_URL")?, &env("SIDEBAND_QUICK_CONNECT")?)?.connect()?;
    client.when_ready().await?;
    println!("connected to {}", client.daemon_id());
    println!("ping: {}", client.call::<_, Value>("ping", ()).await?);
    client.close().await;
    Ok(())
}
