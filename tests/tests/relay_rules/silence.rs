//! Connections that are silent.

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use sideband_protocol::wire::{ControlCode, Frame};
use sideband_sim_kit::limits::RelayLimitsPatch;
use tokio_tungstenite::tungstenite::Message;

use crate::{bench::*, witness::witnesses};

fn ping() -> Got {
    Got::Frame(Frame::Ping(Bytes::new()).encode())
}

witnesses! {
    async fn rel_22_silence_is_pinged_after_30_s_and_swept_after_90(quirks) breaks_with [NeverSweeps] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.raw_daemon().await;
        let mut client = bench.client(1).await;
        for second in [30, 60] {
            assert_eq!((daemon.got().await, bench.seconds()), (ping(), second));
        }
        assert_eq!((daemon.got().await, bench.seconds()), (Got::Close(1001), 90));
        assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
        client.is_undisturbed().await;
    }

    async fn rel_22_pings_and_pongs_of_websocket_are_life(quirks) breaks_with [HearsMessagesOnly] {
        for sign in [Message::Ping(Bytes::new()), Message::Pong(Bytes::new())] {
            let bench = Bench::new(quirks);
            let mut daemon = bench.daemon().await;
            let mut client = bench.raw_client(1).await;
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(80)).await;
                let sent = client.0.send(sign.clone()).await;
                assert!(sent.is_ok(), "it is still connected: {sent:?}");
            }
            daemon.is_undisturbed().await;
        }
    }

    async fn rel_22_a_missing_pong_alone_closes_nothing(quirks) breaks_with [WantsPongs] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let mut client = bench.raw_client(1).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(85)).await;
            let sent = client.0.send(Message::Binary(data(1, vec![1; 40]))).await;
            assert!(sent.is_ok(), "it is still connected: {sent:?}");
            assert_eq!(daemon.got().await, Got::Frame(data(1, vec![1; 40])));
        }
    }

    async fn rel_22_an_answered_ping_is_enough_for_ever(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let mut client = bench.client(1).await;
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        daemon.is_undisturbed().await;
        client.is_undisturbed().await;
    }

    async fn rel_22_other_times_hold_at_once(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.raw_daemon().await;
        let (ping_after, sweep) = (Some(Duration::from_secs(5)), Some(Duration::from_secs(12)));
        bench.relay.set_limits(&RelayLimitsPatch { ping: ping_after, sweep, ..Default::default() }).unwrap();
        for second in [5, 10] {
            assert_eq!((daemon.got().await, bench.seconds()), (ping(), second));
        }
        assert_eq!((daemon.got().await, bench.seconds()), (Got::Close(1001), 12));
    }
}
