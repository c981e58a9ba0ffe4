//! A user's own code in a simulated world, as an ordinary test: what `examples/own_client.rs` shows.

use std::time::Duration;

use sideband::Account;
use sideband_scenarios::{
    scenario::{Action, Expect, Kind, Pattern, expect::Seen},
    sim::Sim,
};

fn reports(host: &str, report: &str) -> Pattern {
    Pattern { host: Some(host.to_owned()), report: Some(report.to_owned()), ..Pattern::default() }
}

#[test]
fn my_client_survives_two_blips_of_the_daemon() {
    let sim = Sim::builder()
        .name("own-client")
        .host("cloud", Kind::Cloud)
        .host("daemon", Kind::Daemon)
        .own("till", |host| async move {
            let account = Account::with_token(&host.api_url(), host.daemon_id(), host.access_token())?;
            let client = account.env(host.env()).connect()?;
            client.when_ready().await?;
            let mut sum: i64 = 0;
            for sale in 1..=10 {
                sum = client.call("add", serde_json::json!({ "a": sum, "b": sale })).await?;
                host.report("sold", sum.to_string());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            host.expect(sum == 55, "the sum of ten sales is 55");
            client.close().await;
            Ok(())
        })
        .after(reports("till", "sold"), Duration::from_millis(200), "cloud", Action::Drop("daemon".to_owned()))
        .at(Duration::from_secs(9), "cloud", Action::Drop("daemon".to_owned()))
        .expect(Expect::Seen(Seen {
            event: reports("daemon", "resumed"),
            times: Some(2),
            least: None,
            most: None,
            from: None,
            by: None,
        }))
        .expect(Expect::Seen(Seen {
            event: reports("till", "sold"),
            times: Some(10),
            least: None,
            most: None,
            from: None,
            by: None,
        }));
    for seed in 0..10 {
        let run = sim.run(seed).unwrap();
        assert_eq!(run.failures, [], "seed {seed}:\n{}", run.trace.story());
    }
}

#[test]
fn what_my_code_expects_and_fails_with_fails_the_run() {
    let sim = Sim::builder().host("cloud", Kind::Cloud).host("daemon", Kind::Daemon).own("mine", |host| async move {
        host.expect(host.name() == "yours", "it is yours");
        Err("no more".into())
    });
    let kinds: Vec<_> = sim.run(0).unwrap().failures.into_iter().map(|failure| (failure.kind, failure.what)).collect();
    assert_eq!(
        kinds,
        [("own/mine".to_owned(), "it is yours".to_owned()), ("host".to_owned(), "mine: no more".to_owned())]
    );
}
