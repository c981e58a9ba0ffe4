//! How connections end, and what must still arrive.

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use sideband_protocol::wire::{ControlCode, Frame};
use sideband_sim_kit::event::EventKind;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use crate::support::*;

#[tokio::test]
async fn wire_03_a_text_message_closes_with_1003() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    client.send_message(Message::text("hello")).await;
    assert_eq!(client.got().await, Got::Close(1003));
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
}

#[tokio::test]
async fn wire_03_what_came_before_the_text_still_counts() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    let frame = data(id(1), vec![1; 40]);
    client.0.feed(Message::Binary(frame.clone())).await.unwrap();
    client.send_message(Message::text("hello")).await;
    assert_eq!(daemon.got().await, Got::Frame(frame));
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
}

#[tokio::test]
async fn wire_04_a_message_over_1_mib_closes_with_1009() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    client.send_message(Message::Binary(vec![3; (1 << 20) + 1].into())).await;
    assert_eq!(client.got().await, Got::Close(1009));
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
}

#[tokio::test]
async fn wire_04_a_message_in_fragments_is_counted_whole() {
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame as Fragment,
        coding::{Data, OpCode},
    };
    let server = start().await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    let half = Bytes::from(vec![3; (1 << 19) + 1]);
    client.send_message(Message::Frame(Fragment::message(half.clone(), OpCode::Data(Data::Binary), false))).await;
    client.send_message(Message::Frame(Fragment::message(half, OpCode::Data(Data::Continue), true))).await;
    assert_eq!(client.got().await, Got::Close(1009));
}

#[tokio::test]
async fn wire_04_up_to_1_mib_the_frame_rules_apply() {
    let server = start().await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    client.send(data(id(1), vec![3; (1 << 20) - 13])).await;
    assert_eq!(client.got().await, control(ControlCode::PayloadTooLarge, 0));
    assert_eq!(client.got().await, Got::Close(1002));
}

#[tokio::test]
async fn wire_09_a_terminal_control_is_followed_by_its_close_code() {
    let mut server = start().await;
    let mut daemon = server.daemon().await;
    for (n, message, code, close) in [
        (1, Bytes::from_static(b"\x10"), control(ControlCode::MalformedFrame, 0), 1002),
        (2, data(id(99), vec![1; 40]), control(ControlCode::SessionNotFound, 99), 1000),
        (3, ready(id(3)), control(ControlCode::DisallowedSender, 3), 1002),
    ] {
        let mut client = server.client(id(n)).await;
        client.send(message).await;
        assert_eq!(client.got().await, code);
        assert_eq!(client.got().await, Got::Close(close));
        assert_eq!(client.got().await, Got::Lost);
        assert_eq!(server.closed().await, Some(close));
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, n));
    }
}

#[tokio::test]
async fn wire_09_the_control_arrives_although_the_peer_goes_on_writing() {
    let server = start().await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    client.0.feed(Message::Binary(Bytes::from_static(b"\x10"))).await.unwrap();
    // Far more than the sockets' buffers hold: it gets through only if the relay reads on, and a reset would eat the
    // Control.
    for _ in 0..500 {
        client.0.feed(Message::Binary(data(id(1), vec![0; 60_000]))).await.unwrap();
    }
    soon(client.0.flush()).await.unwrap();
    assert_eq!(client.got().await, control(ControlCode::MalformedFrame, 0));
    assert_eq!(client.got().await, Got::Close(1002));
}

#[tokio::test]
async fn wire_09_the_control_arrives_although_the_peer_writes_before_it_reads() {
    let server = start_with(|config| config.limits.client_backlog = 64 << 20).await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    let frame = data(id(1), vec![0; 60_000]);
    // More than the sockets hold in one direction, so that the Control is stuck; then as much in the other.
    for _ in 0..500 {
        daemon.0.feed(Message::Binary(frame.clone())).await.unwrap();
    }
    daemon.is_undisturbed().await;
    client.0.feed(Message::Binary(Bytes::from_static(b"\x10"))).await.unwrap();
    for _ in 0..500 {
        soon(client.0.feed(Message::Binary(frame.clone()))).await.unwrap();
    }
    soon(client.0.flush()).await.unwrap();
    for _ in 0..500 {
        assert_eq!(client.got().await, Got::Frame(frame.clone()));
    }
    assert_eq!(client.got().await, control(ControlCode::MalformedFrame, 0));
    assert_eq!(client.got().await, Got::Close(1002));
}

#[tokio::test]
async fn wire_09_after_a_message_that_cannot_be_read_the_close_arrives_too() {
    let server = start().await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    for _ in 0..20 {
        client.0.feed(Message::Binary(vec![3; 2 << 20].into())).await.unwrap();
    }
    soon(client.0.flush()).await.unwrap();
    assert_eq!(client.got().await, Got::Close(1009));
}

#[tokio::test]
async fn wire_09_reading_on_ends_although_the_peer_never_closes() {
    let mut server = start_with(|config| config.linger = Duration::from_millis(50)).await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    client.send(Bytes::from_static(b"\x10")).await;
    // The client does not read, so it does not answer the close.
    assert_eq!(server.closed().await, Some(1002));
    assert_eq!(client.got().await, control(ControlCode::MalformedFrame, 0));
}

#[tokio::test]
async fn broken_websocket_framing_closes_with_1002() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    // A frame that is not masked.
    client.0.get_mut().write_all(&[0x82, 0x01, 0x00]).await.unwrap();
    assert_eq!(client.got().await, Got::Close(1002));
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
}

#[tokio::test]
async fn wire_19_pings_of_both_kinds_are_answered() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    for peer in [&mut daemon, &mut client] {
        peer.send_message(Message::Ping(Bytes::from_static(b"websocket"))).await;
        assert_eq!(peer.got().await, Got::Pong(Bytes::from_static(b"websocket")));
        peer.send(Frame::Ping(Bytes::from_static(b"12345678")).encode()).await;
        assert_eq!(peer.got().await, Got::Frame(Frame::Pong(Bytes::from_static(b"12345678")).encode()));
    }
}

#[tokio::test]
async fn a_close_of_the_peer_is_answered() {
    let mut server = start().await;
    let mut daemon = server.daemon().await;
    soon(daemon.0.close(Some(tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: 1000.into(),
        reason: "done".into(),
    })))
    .await
    .unwrap();
    assert_eq!(daemon.got().await, Got::Close(1000));
    assert_eq!(daemon.got().await, Got::Lost);
    assert_eq!(server.closed().await, Some(1000));
}

#[tokio::test]
async fn rel_24_shutdown_closes_everybody_with_1012() {
    let mut server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    let relay = server.relay.clone();
    let shutdown = tokio::spawn(async move { relay.shutdown().await });
    assert_eq!(client.got().await, Got::Close(1012));
    assert_eq!(daemon.got().await, Got::Close(1012));
    // Reading on answers the close.
    assert_eq!((client.got().await, daemon.got().await), (Got::Lost, Got::Lost));
    soon(shutdown).await.unwrap();
    assert_eq!(server.relay.open_connections(), 0);
    server.session(id(1), "ended").await;
    soon(server.relay.shutdown()).await;
}

#[tokio::test]
async fn rel_24_a_peer_that_never_reads_does_not_hold_the_shutdown() {
    let mut server = start_with(|config| {
        config.limits.client_backlog = 64 << 20;
        config.shutdown_deadline = Duration::from_millis(100);
    })
    .await;
    let mut daemon = server.daemon().await;
    let client = server.client(id(1)).await;
    // More than the sockets hold, so that the close is stuck behind it.
    for _ in 0..500 {
        daemon.0.feed(Message::Binary(data(id(1), vec![0; 60_000]))).await.unwrap();
    }
    daemon.is_undisturbed().await;
    soon(server.relay.shutdown()).await;
    assert_eq!(server.relay.open_connections(), 0);
    let cut = |event: &sideband_sim_kit::event::Event| matches!(event.kind, EventKind::Closed { code: None, .. });
    assert_eq!(server.event(cut).await.session, Some(id(1)));
    drop(client);
}
