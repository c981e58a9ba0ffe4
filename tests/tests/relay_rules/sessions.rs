//! How many sessions a daemon has, and what a shutdown and a restart make of them.

use std::time::Duration;

use sideband_protocol::{
    token::{Claims, Limits},
    wire::{ControlCode, Signal},
};
use sideband_sim_kit::limits::RelayLimitsPatch;

use crate::{bench::*, witness::witnesses};

fn limited(mut claims: Claims, concurrent_sessions: u64) -> Claims {
    claims.lim = Some(Limits { concurrent_sessions });
    claims
}

witnesses! {
    async fn rel_23_the_tokens_limit_holds(quirks) breaks_with [IgnoresTokenLimit] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let _first = bench.connect(&limited(Bench::client_claims(1), 2)).await.unwrap().pumped();
        let second = bench.connect(&limited(Bench::client_claims(2), 2)).await.unwrap().pumped();
        assert_eq!(bench.refusal(&limited(Bench::client_claims(3), 2)).await, 429);
        drop(second);
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 2));
        // A session that was refused has not used its id.
        let third = bench.connect(&limited(Bench::client_claims(3), 2)).await;
        assert!(third.is_ok());
    }

    async fn rel_23_the_daemons_token_limits_its_clients(quirks) breaks_with [IgnoresTokenLimit] {
        let bench = Bench::new(quirks);
        let _daemon = bench.connect(&limited(Bench::daemon_claims(true), 1)).await.unwrap().pumped();
        let mut first = bench.client(1).await;
        assert_eq!(bench.refusal(&Bench::client_claims(2)).await, 429);
        assert_eq!(bench.refusal(&limited(Bench::client_claims(2), 5)).await, 429, "the least counts");
        first.is_undisturbed().await;
    }

    async fn rel_23_without_one_the_default_holds(quirks) breaks_with [HasNoSessionLimit] {
        let bench = Bench::new(quirks);
        let _daemon = bench.daemon().await;
        let mut clients = Vec::new();
        for n in 1..=256 {
            clients.push(bench.client(n).await);
        }
        assert_eq!(bench.refusal(&Bench::client_claims(257)).await, 429);
        assert_eq!(bench.relay.status().counters["refused_rate_limited"], 1);
        bench.relay.set_limits(&RelayLimitsPatch { sessions: Some(257), ..Default::default() }).unwrap();
        bench.client(257).await.is_undisturbed().await;
        clients[0].is_undisturbed().await;
    }

    async fn rel_24_a_shutdown_closes_everybody_with_1012_within_5_s(quirks) breaks_with [ShutsDownAsDone] {
        let bench = Bench::new(quirks);
        // One that never answers the close.
        let mut daemon = bench.raw_daemon().await;
        let mut client = bench.client(1).await;
        bench.relay.shutdown().await;
        assert!(bench.seconds() < 5);
        assert_eq!(bench.relay.open_connections(), 0);
        assert_eq!((daemon.got().await, client.got().await), (Got::Close(1012), Got::Close(1012)));
    }

    async fn rel_24_during_a_shutdown_upgrades_are_refused_with_503(quirks) breaks_with [OpensDuringShutdown] {
        let bench = Bench::new(quirks);
        let _stuck = bench.raw_daemon().await;
        let relay = bench.relay.clone();
        let shutdown = tokio::spawn(async move { relay.shutdown().await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!shutdown.is_finished());
        assert_eq!(bench.refusal(&Bench::client_claims(1)).await, 503);
        shutdown.await.unwrap();
        assert_eq!(bench.refusal(&Bench::client_claims(1)).await, 503);
    }

    async fn rel_24_a_restarted_relay_has_lost_its_sessions_and_serves(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let (mut daemon, mut client) = (bench.daemon().await, bench.client(1).await);
        client.send(data(1, vec![1; 40]));
        assert_eq!(daemon.got().await, Got::Frame(data(1, vec![1; 40])));
        let relay = bench.relay.clone();
        let restart = tokio::spawn(async move { relay.restart(Duration::from_secs(3)).await });
        assert_eq!((daemon.got().await, client.got().await), (Got::Close(1012), Got::Close(1012)));
        assert_eq!(bench.refusal(&Bench::daemon_claims(true)).await, 503, "it is still away");
        assert!(!bench.relay.restart(Duration::ZERO).await, "one at a time");
        assert!(restart.await.unwrap());
        assert_eq!((bench.seconds(), bench.relay.open_connections()), (3, 0));

        let mut daemon = bench.daemon().await;
        daemon.send(signal(1, Signal::Ready));
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1), "it knows no such session");
        bench.client(2).await.is_undisturbed().await;
        assert_eq!(bench.refusal(&Bench::client_claims(1)).await, 409, "but which ids were used");
        assert_eq!(bench.relay.status().counters["forwarded_frames"], 1, "and what it counted");
    }

    async fn rel_24_a_restart_forgets_paused_sessions(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let mut client = bench.client(1).await;
        bench.relay.drop_daemon(DAEMON);
        assert_eq!(daemon.got().await, Got::Lost);
        assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
        assert!(bench.relay.restart(Duration::ZERO).await);
        assert_eq!(client.got().await, Got::Close(1012));
        assert_eq!(bench.relay.daemon(DAEMON), None);
        bench.daemon().await.is_undisturbed().await;
    }

    async fn rel_24_a_shutdown_ends_a_restart_for_good(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let relay = bench.relay.clone();
        let restart = tokio::spawn(async move { relay.restart(Duration::from_secs(3)).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.relay.shutdown().await;
        restart.await.unwrap();
        assert_eq!(bench.refusal(&Bench::daemon_claims(true)).await, 503);
    }

    async fn rel_24_a_restart_that_is_given_up_leaves_the_relay_serving(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let given_up = tokio::time::timeout(Duration::from_secs(1), bench.relay.restart(Duration::from_secs(30))).await;
        assert!(given_up.is_err());
        bench.daemon().await.is_undisturbed().await;
    }
}
