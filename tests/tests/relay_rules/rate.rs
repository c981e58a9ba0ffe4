//! Connections over their rate.

use std::time::Duration;

use sideband_protocol::{relay::RelayQuirks, wire::ControlCode};
use sideband_relay_sim::RateMode;

use crate::{bench::*, witness::witnesses};

/// A relay that lets 100 frames a second pass, and 100 at once.
fn slow(quirks: RelayQuirks, rate_mode: RateMode) -> Bench {
    Bench::with(quirks, |config| {
        config.limits.frames_per_second = 100;
        config.limits.burst = 100;
        config.limits.rate_mode = rate_mode;
    })
}

/// What comes until a tenth of a second is silent.
async fn all(peer: &mut Peer) -> Vec<Got> {
    let mut got = Vec::new();
    while let Some(one) = peer.within(Duration::from_millis(100)).await {
        got.push(one);
    }
    got
}

witnesses! {
    async fn rel_20_frames_over_the_rate_are_dropped(quirks) breaks_with [HasNoRate] {
        let bench = slow(quirks, RateMode::Drop);
        let mut daemon = bench.daemon().await;
        let client = bench.client(1).await;
        for n in 0..200 {
            client.send(data(1, vec![n; 40]));
        }
        let expected: Vec<_> = (0..100).map(|n| Got::Frame(data(1, vec![n; 40]))).collect();
        assert_eq!(all(&mut daemon).await, expected);
        assert_eq!(bench.relay.status().counters["dropped_rate_limited"], 100);
    }

    async fn rel_20_the_sender_is_told_once_a_second_and_stays(quirks)
        breaks_with [LimitsSilently, TellsOfEveryFrame, ClosesOverRate]
    {
        let bench = slow(quirks, RateMode::Drop);
        let mut daemon = bench.daemon().await;
        let (mut client, mut other) = (bench.client(1).await, bench.client(2).await);
        // Five seconds of excess.
        for _ in 0..50 {
            for _ in 0..3_000 {
                client.send(data(1, vec![1; 40]));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(all(&mut client).await, vec![control(ControlCode::RateLimited, 0); 5]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        client.is_undisturbed().await;
        other.is_undisturbed().await;
        let arrived = all(&mut daemon).await.len();
        assert!((550..=610).contains(&arrived), "{arrived}");
        daemon.is_undisturbed().await;
    }

    async fn rel_20_throttled_frames_wait_and_all_arrive(quirks) breaks_with [DropsWhenThrottled] {
        let bench = slow(quirks, RateMode::Throttle);
        let mut daemon = bench.daemon().await;
        let mut client = bench.client(1).await;
        for n in 0..=250 {
            client.send(data(1, vec![n; 40]));
        }
        for n in 0..=250 {
            assert_eq!(daemon.got().await, Got::Frame(data(1, vec![n; 40])));
        }
        assert_eq!(bench.seconds(), 1, "100 at once, 151 in the next one and a half seconds");
        client.is_undisturbed().await;
    }
}
