//! Sessions over real sockets: pairing, pause and resume, takeover, and who hears of it.

use std::time::Duration;

use bytes::Bytes;
use sideband_protocol::wire::{ControlCode, Frame, Reason, Signal};
use sideband_sim_kit::{
    admin::{DaemonStatus, SessionStatus},
    presence::Presence,
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::*;

#[tokio::test]
async fn wire_18_frames_pass_both_ways_byte_for_byte() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    let init = Frame::HandshakeInit { session: id(1), client_ephemeral: [5; 32] }.encode();
    let accept = Frame::HandshakeAccept { session: id(1), payload: Bytes::from(vec![6; 128]) }.encode();
    let largest = data(id(1), vec![7; 65_536]);
    for frame in [init, largest.clone()] {
        client.send(frame.clone()).await;
        assert_eq!(daemon.got().await, Got::Frame(frame));
    }
    for frame in [accept, largest] {
        daemon.send(frame.clone()).await;
        assert_eq!(client.got().await, Got::Frame(frame));
    }
}

#[tokio::test]
async fn rel_01_with_the_daemon_offline_a_client_is_told_and_closed() {
    let mut server = start().await;
    let mut client = server.client(id(1)).await;
    assert_eq!(client.got().await, control(ControlCode::DaemonOffline, 1));
    assert_eq!(client.got().await, Got::Close(1000));
    assert_eq!(client.got().await, Got::Lost);
    assert_eq!(server.closed().await, Some(1000));
    assert_eq!(server.relay.daemon(DAEMON), None, "nothing is remembered of it");
}

#[tokio::test]
async fn rel_02_a_dropped_daemon_pauses_and_its_return_resumes() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    assert!(server.relay.drop_daemon(DAEMON));
    assert_eq!(daemon.got().await, Got::Lost, "no close frame");
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    assert!(!server.relay.is_online(DAEMON).await.unwrap());
    assert!(!server.relay.drop_daemon(DAEMON), "there is none");

    client.send(data(id(1), vec![1; 40])).await;
    client.is_undisturbed().await;

    let mut daemon = server.daemon().await;
    assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
    daemon.send(ready(id(1))).await;
    assert_eq!(client.got().await, control(ControlCode::SessionResumed, 1));
    let frame = data(id(1), vec![2; 40]);
    client.send(frame.clone()).await;
    assert_eq!(daemon.got().await, Got::Frame(frame), "the one sent while paused was dropped (REL-03)");
    assert_eq!(server.relay.status().counters["dropped_session_paused"], 1);
}

#[tokio::test]
async fn rel_01_a_daemon_that_returns_without_resume_ends_the_session() {
    let server = start().await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    server.relay.drop_daemon(DAEMON);
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    let _daemon = server.connect(&server.daemon_token(false)).await.unwrap();
    assert_eq!(client.got().await, control(ControlCode::SessionExpired, 1));
    assert_eq!(client.got().await, Got::Close(1000));
}

#[tokio::test]
async fn rel_01_the_grace_ends_a_paused_session() {
    let server = start_with(|config| config.limits.grace = Duration::from_millis(50)).await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    server.relay.drop_daemon(DAEMON);
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    assert_eq!(client.got().await, control(ControlCode::SessionExpired, 1));
    assert_eq!(client.got().await, Got::Close(1000));
}

#[tokio::test]
async fn rel_01_the_grace_ends_a_pending_session_and_the_daemon_is_told() {
    let server = start_with(|config| config.limits.grace = Duration::from_millis(300)).await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    server.relay.drop_daemon(DAEMON);
    let mut daemon = server.daemon().await;
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
    assert_eq!(client.got().await, control(ControlCode::SessionExpired, 1));
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
}

#[tokio::test]
async fn rel_01_signal_close_ends_the_session() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    daemon.send(Frame::Signal { session: id(1), signal: Signal::Close, reason: Reason::Error }.encode()).await;
    assert_eq!(client.got().await, control(ControlCode::SessionExpired, 1));
    assert_eq!(client.got().await, Got::Close(1000));
    daemon.send(data(id(1), vec![1; 40])).await;
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_01_a_client_that_closes_or_vanishes_ends_its_session() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    server.client(id(1)).await.close().await;
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    drop(server.client(id(2)).await);
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 2));
}

#[tokio::test]
async fn rel_01_a_dropped_client_ends_its_session() {
    let mut server = start().await;
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    assert!(server.relay.drop_session(id(1)));
    assert_eq!(client.got().await, Got::Lost);
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 1));
    assert_eq!(server.closed().await, None);
    assert!(!server.relay.drop_session(id(1)));
}

#[tokio::test]
async fn rel_12_a_second_daemon_socket_replaces_the_first_with_4001() {
    let server = start().await;
    let mut first = server.daemon().await;
    let mut client = server.client(id(1)).await;
    let mut second = server.daemon().await;
    assert_eq!(first.got().await, Got::Close(4001));
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    assert_eq!(client.got().await, control(ControlCode::SessionPending, 1));
    second.send(ready(id(1))).await;
    assert_eq!(client.got().await, control(ControlCode::SessionResumed, 1));
    let frame = data(id(1), vec![3; 40]);
    second.send(frame.clone()).await;
    assert_eq!(client.got().await, Got::Frame(frame));
}

#[tokio::test]
async fn rel_04_garbage_from_one_client_leaves_the_others_undisturbed() {
    let server = start().await;
    let mut daemon = server.daemon().await;
    let mut good = server.client(id(1)).await;
    let garbage: [&[u8]; 4] = [b"", b"\x03", &[0x55; 60], &data(id(1), vec![0; 30])];
    for (n, bytes) in garbage.into_iter().enumerate() {
        let bad_id = id(n as u64 + 10);
        let mut bad = server.client(bad_id).await;
        bad.send_message(Message::Binary(Bytes::copy_from_slice(bytes))).await;
        assert!(matches!(bad.got().await, Got::Frame(_)));
        assert!(matches!(bad.got().await, Got::Close(_)));
        assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, bad_id.get()));
    }
    good.is_undisturbed().await;
    let frame = data(id(1), vec![9; 40]);
    good.send(frame.clone()).await;
    assert_eq!(daemon.got().await, Got::Frame(frame));
}

#[tokio::test]
async fn presence_and_status_follow_the_daemon() {
    let mut server = start().await;
    assert!(!server.relay.is_online(DAEMON).await.unwrap());
    let daemon = server.daemon().await;
    assert!(server.relay.is_online(DAEMON).await.unwrap());
    let _client = server.client(id(1)).await;
    let status = |online, state: &str| DaemonStatus {
        daemon_id: DAEMON.to_owned(),
        online,
        sessions: vec![SessionStatus { session_id: id(1), state: state.to_owned() }],
    };
    assert_eq!(server.relay.status().daemons, [status(true, "paired")]);
    daemon.close().await;
    server.session(id(1), "paused").await;
    assert!(!server.relay.is_online(DAEMON).await.unwrap());
    assert_eq!(server.relay.daemon(DAEMON), Some(status(false, "paused")));
    assert_eq!(server.relay.daemon("d_2"), None);
}
