//! Many frames: order, and receivers that are too slow.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sideband_protocol::wire::{ControlCode, Frame};
use tokio_tungstenite::tungstenite::Message;

use crate::support::*;

fn numbered(session: u64, n: u32, len: usize) -> Bytes {
    let mut payload = vec![0; len];
    payload[..4].copy_from_slice(&n.to_be_bytes());
    data(id(session), payload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rel_06_frames_arrive_in_order_in_both_directions() {
    const FRAMES: u32 = 5_000;
    let server = start().await;
    let daemon = server.daemon().await;
    let client = server.client(id(1)).await;
    let pump = |peer: Peer| {
        tokio::spawn(async move {
            let (mut write, mut read) = peer.0.split();
            let send = async {
                for n in 0..FRAMES {
                    write.feed(Message::Binary(numbered(1, n, 100))).await.unwrap();
                }
                write.flush().await.unwrap();
            };
            let receive = async {
                for n in 0..FRAMES {
                    let Some(Ok(Message::Binary(frame))) = read.next().await else { panic!("frame {n} is missing") };
                    assert_eq!(frame, numbered(1, n, 100));
                }
            };
            futures_util::future::join(send, receive).await;
        })
    };
    let (a, b) = soon(futures_util::future::join(pump(daemon), pump(client))).await;
    a.unwrap();
    b.unwrap();
}

#[tokio::test]
async fn rel_21_a_client_that_does_not_read_is_closed_with_backpressure() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut slow = server.client(id(1)).await;
    let mut other = server.client(id(2)).await;
    let mut sent = 0;
    // Until the relay has had enough: what its and the client's sockets hold, and its own bound.
    let ended = loop {
        daemon.send(numbered(1, sent, 60_000)).await;
        sent += 1;
        if let Ok(Some(got)) = tokio::time::timeout(std::time::Duration::from_millis(1), daemon.0.next()).await {
            break got.unwrap();
        }
        assert!(sent < 5_000, "nobody stops this");
    };
    assert_eq!(Got::Frame(ended.into_data()), control(ControlCode::SessionEnded, 1));

    let mut expected = 0;
    loop {
        match slow.got().await {
            Got::Frame(frame) if frame == numbered(1, expected, 60_000) => expected += 1,
            got => {
                assert_eq!(got, control(ControlCode::Backpressure, 0), "no gap before it");
                break;
            }
        }
    }
    assert!(expected < sent, "something was not served");
    assert_eq!(slow.got().await, Got::Close(1013));
    other.is_undisturbed().await;
    daemon.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rel_21_a_burst_of_one_client_waits_and_loses_nothing() {
    const FRAMES: u32 = 600;
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut eager = server.client(id(1)).await;
    let mut other = server.client(id(2)).await;
    // 36 MB, while the daemon does not read.
    let mut burst = tokio::spawn(async move {
        for n in 0..FRAMES {
            eager.send(numbered(1, n, 60_000)).await;
        }
        eager
    });
    // The other one is served all the while: its pongs, and after the burst its frames.
    for _ in 0..100 {
        other.is_undisturbed().await;
    }
    other.send(numbered(2, 0, 100)).await;
    let mut from_other = 0;
    let mut next = 0;
    while next < FRAMES || from_other == 0 {
        let Got::Frame(frame) = daemon.got().await else { panic!("the daemon's socket ended") };
        if frame == numbered(2, 0, 100) {
            from_other += 1;
        } else {
            assert_eq!(frame, numbered(1, next, 60_000));
            next += 1;
        }
    }
    let mut eager = soon(&mut burst).await.unwrap();
    eager.is_undisturbed().await;
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_21_a_client_whose_daemon_went_away_is_read_again() {
    let server = start_with(|config| config.limits.session_backlog = 1_000).await;
    let daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    // The daemon does not read; the client is stopped at some point.
    let mut sent = 0;
    while tokio::time::timeout(
        std::time::Duration::from_millis(100),
        client.0.send(Message::Binary(numbered(1, 0, 60_000))),
    )
    .await
    .is_ok()
    {
        sent += 1;
        assert!(sent < 5_000, "nobody stops this");
    }
    assert!(server.relay.drop_daemon(DAEMON));
    drop(daemon);
    soon(client.0.flush()).await.unwrap();
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    client.is_undisturbed().await;
}

#[tokio::test]
async fn rel_25_a_daemon_that_does_not_take_its_pongs_stops_being_read_and_recovers() {
    let server = start_with(|config| {
        config.limits.client_backlog = 5_000;
        config.limits.burst = 10_000_000;
        config.turn_bytes = 2_000;
    })
    .await;
    let mut daemon = server.daemon().await;
    let ping = Frame::Ping(Bytes::from_static(b"12345678")).encode();
    let mut sent = 0u32;
    // Until the relay stops reading and the sockets are full.
    while tokio::time::timeout(std::time::Duration::from_millis(100), async {
        for _ in 0..1_000 {
            daemon.0.feed(Message::Binary(ping.clone())).await.unwrap();
            sent += 1;
        }
        daemon.0.flush().await.unwrap();
    })
    .await
    .is_ok()
    {
        assert!(sent < 5_000_000, "nobody stops this");
    }
    let pong = Frame::Pong(Bytes::from_static(b"12345678")).encode();
    let (mut write, mut read) = daemon.0.split();
    let mut receive = async |from, to| {
        for n in from..to {
            let Some(Ok(Message::Binary(frame))) = read.next().await else { panic!("pong {n} is missing") };
            assert_eq!(frame, pong);
        }
    };
    // At first without another byte to the relay, which would wake it: the rest is in this side's write buffer.
    let before = sent - 10_000;
    soon(receive(0, before)).await;
    let (flushed, ()) = soon(futures_util::future::join(write.flush(), receive(before, sent))).await;
    flushed.unwrap();
}
