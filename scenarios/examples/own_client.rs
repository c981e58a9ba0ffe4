//! Your own code in a deterministic world: a client built on the SDK meets a daemon that loses its relay socket twice.
//!
//! Run it with `cargo run -p sideband-scenarios --example own_client`; `scenarios/tests/own_client.rs` has the same as an ordinary test.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{error::Error, time::Duration};

use sideband::Account;
use sideband_scenarios::{
    scenario::{Action, Kind, Pattern},
    sim::{HostContext, Sim},
};

/// What runs on the host `till`: it adds up sales, and has to end with the right sum whatever the network does.
async fn till(host: HostContext) -> Result<(), Box<dyn Error>> {
    let client =
        Account::with_token(&host.api_url(), host.daemon_id(), host.access_token())?.env(host.env()).connect()?;
    client.when_ready().await?;
    let mut sum = 0;
    for sale in 1..=10 {
        sum = client.call("add", serde_json::json!({ "a": sum, "b": sale })).await?;
        host.report("sold", sum.to_string());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    host.expect(sum == 55, "the sum of ten sales is 55");
    client.close().await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let sold = |sum: &str| Pattern {
        host: Some("till".to_owned()),
        report: Some("sold".to_owned()),
        detail: Some(sum.to_owned()),
        ..Pattern::default()
    };
    let sim = Sim::builder()
        .name("own-client")
        .host("cloud", Kind::Cloud)
        .host("daemon", Kind::Daemon)
        .own("till", till)
        .after(sold("6"), Duration::from_millis(200), "cloud", Action::Drop("daemon".to_owned()))
        .after(sold("28"), Duration::from_millis(200), "cloud", Action::Drop("daemon".to_owned()));
    for seed in 0..20 {
        let run = sim.run(seed)?;
        println!("seed {seed}: {:?} of virtual time, {} events", run.elapsed, run.trace.events().len());
        if let Some(failure) = run.failures.first() {
            return Err(format!("seed {seed}: {}\n{}", failure.what, run.trace.story()).into());
        }
    }
    Ok(())
}
