//! A daemon and a client in one program; needs a running `sideband-sim up`. See the README.
#![allow(clippy::print_stdout)]

use sideband::{Account, Context, Daemon, HandlerError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = |name| std::env::var(name).map_err(|_| format!("set {name}; `sideband-sim up` prints it"));
    let (api, relay) = (env("SIDEBAND_API_URL")?, env("SIDEBAND_RELAY_URL")?);

    let daemon = Daemon::new(&api, &relay, env("SIDEBAND_API_KEY")?)?
        .handle("add", |(a, b): (i64, i64), _: Context| async move { Ok::<_, HandlerError>(a + b) })?
        .listen()
        .await?;

    let client = Account::with_token(&api, daemon.daemon_id(), env("SIDEBAND_ACCESS_TOKEN")?)?.connect()?;
    let mut ticks = client.subscribe("tick.*")?;
    let sum: i64 = client.call("add", (19, 23)).await?;
    daemon.broadcast("tick.first", sum).await?;
    let tick = ticks.next().await.ok_or("the client closed")?;
    println!("19 + 23 = {sum}, {} says {}", tick.name(), tick.data::<i64>()?);
    client.close().await;
    daemon.close().await;
    Ok(())
}
