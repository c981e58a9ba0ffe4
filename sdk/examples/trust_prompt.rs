//! A client that asks on the terminal before it trusts a daemon, and keeps what was trusted in a file.
//!
//! Needs SIDEBAND_API_URL, SIDEBAND_DAEMON_ID and SIDEBAND_ACCESS_TOKEN; SIDEBAND_PINS names the file (default `pins.json`).
#![allow(clippy::print_stdout)]

use sideband::{Account, identity::FileStore};

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("set {name}; `sideband-sim up` prints it"))
}

/// Asks a yes-or-no question without holding up anything else.
#[allow(clippy::disallowed_methods, reason = "a terminal is read by blocking; no example runs in a simulation")]
async fn ask(question: String) -> bool {
    let answer = tokio::task::spawn_blocking(move || {
        println!("{question} [y/N]");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    matches!(answer.await, Ok(Ok(line)) if line.trim().eq_ignore_ascii_case("y"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pins = env("SIDEBAND_PINS").unwrap_or_else(|_| "pins.json".to_owned());
    let client =
        Account::with_token(&env("SIDEBAND_API_URL")?, env("SIDEBAND_DAEMON_ID")?, env("SIDEBAND_ACCESS_TOKEN")?)?
            .identity_store(FileStore::open(pins)?)
            .prompt(
                |shown| ask(format!("First connection. The daemon shows {shown}. Trust it?")),
                |pinned, shown| ask(format!("THE IDENTITY CHANGED from {pinned} to {shown}. Trust the new one?")),
            )
            .connect()?;
    client.when_ready().await?;
    println!("trusted and connected");
    client.close().await;
    Ok(())
}
