//! Events both ways: the daemon ticks to all, the client reports back.
//!
//! Needs SIDEBAND_API_URL, SIDEBAND_RELAY_URL, SIDEBAND_API_KEY and SIDEBAND_ACCESS_TOKEN, as `sideband-sim up` prints them.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use sideband::{Account, Daemon, Error, ServerEvent};

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("set {name}; `sideband-sim up` prints it"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let api = env("SIDEBAND_API_URL")?;
    let server = Daemon::new(&api, &env("SIDEBAND_RELAY_URL")?, env("SIDEBAND_API_KEY")?)?
        .on_connection(|connection| async move {
            // Registered for this session only, before anything of it is delivered, and stopped with it.
            let mut seen = connection.subscribe("seen.>")?;
            while let Some(event) = seen.next().await {
                println!("the daemon hears {} from {}", event.name(), connection.peer_id());
            }
            Ok::<_, Error>(())
        })
        .listen()
        .await?;
    let client = Account::with_token(&api, server.daemon_id(), env("SIDEBAND_ACCESS_TOKEN")?)?.connect()?;
    let mut ticks = client.subscribe("tick.*")?;
    // An event goes to the sessions that are open at the daemon, so its own word counts, not the client's.
    let mut life = server.events();
    while !matches!(life.next().await.ok_or("the daemon closed")?, ServerEvent::Opened(_)) {}
    let mut clock = tokio::time::interval(Duration::from_millis(200));
    for n in 0..3 {
        clock.tick().await;
        server.broadcast("tick.second", n).await?;
        let Some(tick) = ticks.next().await else { break };
        println!("the client hears {} {}", tick.name(), tick.data::<u64>()?);
        client.emit(&format!("seen.tick.{n}"), ()).await?;
    }
    client.close().await;
    server.close().await;
    Ok(())
}
