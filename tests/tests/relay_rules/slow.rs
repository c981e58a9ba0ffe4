//! Receivers that are too slow.

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use sideband_protocol::wire::{ControlCode, Frame};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Message;

use crate::{bench::*, witness::witnesses};

/// Reads so many bytes of what the relay sends, whatever they are.
async fn take(raw: &mut Raw, bytes: usize) {
    let mut buf = vec![0; bytes];
    soon("bytes", raw.0.get_mut().read_exact(&mut buf)).await.unwrap();
}

/// Keeps a connection from the sweep.
async fn is_heard(raw: &mut Raw) {
    raw.0.send(Message::Binary(Frame::Pong(Bytes::new()).encode())).await.unwrap();
}

/// Everything that still comes, the relay's Pings left out.
async fn rest(raw: &mut Raw) -> Vec<Got> {
    let mut got = Vec::new();
    loop {
        match raw.got().await {
            Got::Frame(frame) if matches!(Frame::decode(&frame), Ok(Frame::Ping(_))) => {}
            Got::Lost => return got,
            one => got.push(one),
        }
    }
}

witnesses! {
    async fn rel_21_a_slow_client_gets_backpressure_and_no_gap(quirks) breaks_with [ServesGaps] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.daemon().await;
        let mut slow = bench.raw_client(1).await;
        let mut other = bench.client(2).await;
        for n in 0..40 {
            daemon.send(data(1, vec![n; 60_000]));
        }
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
        let got = rest(&mut slow).await;
        let (frames, last) = got.split_at(got.len() - 2);
        for (n, frame) in (0..).zip(frames) {
            assert_eq!(*frame, Got::Frame(data(1, vec![n; 60_000])), "no gap");
        }
        assert_eq!(last, [control(ControlCode::Backpressure, 0), Got::Close(1013)]);
        other.is_undisturbed().await;
        daemon.is_undisturbed().await;
    }

    async fn rel_21_a_client_is_not_read_further_than_its_daemon_takes(quirks) breaks_with [ReadsOnAndOn] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.raw_daemon().await;
        let mut eager = bench.raw_client(1).await;
        let mut other = bench.client(2).await;
        let frame = data(1, vec![7; 1_000]);
        let sent = eager.fill(&frame, 3_000).await;
        // 256 KiB, one turn's input, and what buffers hold.
        assert!((256..700).contains(&sent), "{sent}");
        other.is_undisturbed().await;
        // All of it arrives as soon as the daemon takes it.
        for n in 0..sent {
            assert_eq!(daemon.got().await, Got::Frame(frame.clone()), "{n}");
        }
    }

    async fn rel_21_a_daemon_that_takes_nothing_for_30_s_is_closed(quirks) breaks_with [BearsStuckDaemons] {
        let bench = Bench::new(quirks);
        let _daemon = bench.raw_daemon().await;
        let mut client = bench.client(1).await;
        for _ in 0..100 {
            client.send(data(1, vec![7; 1_000]));
        }
        assert_eq!(client.within(Duration::from_millis(29_900)).await, None);
        assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
        assert_eq!(bench.seconds(), 30);
        client.is_undisturbed().await;
    }

    async fn rel_21_a_daemon_that_takes_a_little_stays(quirks) breaks_with [] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.raw_daemon().await;
        let mut client = bench.client(1).await;
        for _ in 0..100 {
            client.send(data(1, vec![7; 1_000]));
        }
        // What it sends keeps it from the sweep; that it takes something, from the other bound.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            take(&mut daemon, 2_000).await;
            is_heard(&mut daemon).await;
        }
        client.is_undisturbed().await;
    }

    async fn rel_21_a_client_that_does_not_get_on_while_its_daemon_takes_is_closed(quirks) breaks_with [BearsStuckClients] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.raw_daemon().await;
        let mut ahead = bench.raw_client(1).await;
        let mut behind = bench.raw_client(2).await;
        // All that one has sent waits behind the other's; the daemon takes 4 KB a second.
        ahead.fill(&data(1, vec![7; 1_000]), 3_000).await;
        behind.fill(&data(2, vec![7; 1_000]), 3_000).await;
        let begin = bench.seconds();
        let mut waited = 0;
        let got = loop {
            take(&mut daemon, 4_000).await;
            if let Ok(got) = tokio::time::timeout(Duration::from_secs(1), behind.got()).await {
                break got;
            }
            waited += 1;
            assert!(waited < 100, "nobody closes it");
        };
        assert_eq!(got, control(ControlCode::Backpressure, 0));
        assert!((30..=33).contains(&(bench.seconds() - begin)), "{}", bench.seconds() - begin);
        assert_eq!(behind.got().await, Got::Close(1013));
        assert_eq!(bench.relay.daemon(DAEMON).unwrap().sessions.len(), 1, "the other one gets on");
    }

    async fn rel_21_a_clients_time_stands_still_while_its_daemon_takes_nothing(quirks) breaks_with [BlamesClientForDaemon] {
        let bench = Bench::new(quirks);
        let mut daemon = bench.raw_daemon().await;
        let mut eager = bench.raw_client(1).await;
        eager.fill(&data(1, vec![7; 1_000]), 3_000).await;
        for _ in 0..10 {
            let quiet = tokio::time::timeout(Duration::from_secs(25), eager.got()).await;
            assert!(quiet.is_err(), "{quiet:?} after {} s", bench.seconds());
            take(&mut daemon, 100).await;
            is_heard(&mut daemon).await;
        }
    }
}
