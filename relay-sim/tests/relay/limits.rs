//! Limits over real sockets, and by the admin API.

use std::time::Duration;

use futures_util::SinkExt;
use sideband_protocol::{
    relay::RateMode,
    wire::{ControlCode, Frame},
};
use sideband_sim_kit::{
    admin::{AdminClient, AdminError, RestartRelay},
    event::{Event, EventKind},
    limits::{RelayLimits, RelayLimitsPatch},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{admin::admin, support::*};

fn swept(event: &Event) -> bool {
    matches!(event.kind, EventKind::Swept { .. })
}

#[tokio::test]
async fn rel_22_a_half_open_peer_that_neither_reads_nor_writes_is_swept() {
    let mut server = start_with(|config| {
        config.limits.ping = Duration::from_millis(100);
        config.limits.sweep = Duration::from_millis(300);
        config.close_deadline = Duration::from_millis(100);
        config.linger = Duration::from_millis(100);
    })
    .await;
    let mut daemon = server.daemon().await;
    // It answers the pings of the relay.
    let alive = tokio::spawn(async move {
        while let Got::Frame(frame) = daemon.got().await {
            if frame[0] == 0x10 {
                daemon.send(Frame::Pong(frame.slice(13..)).encode()).await;
            } else {
                return (Got::Frame(frame), daemon);
            }
        }
        panic!("the daemon is swept although it answers");
    });
    let ghost = server.client(id(1)).await;
    assert_eq!(server.event(swept).await.daemon.as_deref(), Some(DAEMON));
    let (got, daemon) = soon(alive).await.unwrap();
    assert_eq!(got, control(ControlCode::SessionEnded, 1));
    // Its socket is given back although it never answers the close.
    let gone = |event: &Event| matches!(event.kind, EventKind::Closed { .. }) && event.session == Some(id(1));
    server.event(gone).await;
    drop((ghost, daemon));
}

#[tokio::test]
async fn rel_21_a_daemon_whose_socket_is_stuck_is_closed() {
    let mut server = start_with(|config| {
        config.limits.stall = Duration::from_millis(200);
        config.close_deadline = Duration::from_millis(100);
    })
    .await;
    let _daemon = server.daemon().await;
    let mut client = server.client(id(1)).await;
    // More than the sockets between relay and daemon hold.
    let frame = data(id(1), vec![0; 60_000]);
    for _ in 0..500 {
        client.0.feed(Message::Binary(frame.clone())).await.unwrap();
    }
    soon(client.0.flush()).await.unwrap();
    assert_eq!(client.got().await, control(ControlCode::SessionPaused, 1));
    let told = |event: &Event| matches!(&event.kind, EventKind::Control { code, .. } if code == "backpressure");
    server.event(told).await;
    assert!(!server.relay.daemon(DAEMON).unwrap().online);
}

#[tokio::test]
async fn limits_are_told_and_changed_while_the_relay_runs() {
    let server = start().await;
    let url = admin(&server.env, &server).await;
    let client = AdminClient::new(server.env.clone(), url.parse().unwrap(), None);
    assert_eq!(client.limits().await.unwrap(), RelayLimits::default());
    let _daemon = server.daemon().await;
    let mut first = server.client(id(1)).await;

    let patch = RelayLimitsPatch { sessions: Some(1), rate_mode: Some(RateMode::Throttle), ..Default::default() };
    let expected = RelayLimits { sessions: 1, rate_mode: RateMode::Throttle, ..RelayLimits::default() };
    assert_eq!(client.set_limits(&patch).await.unwrap(), expected);
    assert_eq!(client.limits().await.unwrap(), expected);
    assert_eq!(server.connect(&server.client_token(id(2))).await.err(), Some(429));
    first.is_undisturbed().await;

    let senseless = RelayLimitsPatch { burst: Some(0), sessions: Some(9), ..Default::default() };
    match client.set_limits(&senseless).await {
        Err(AdminError::Refused { status: 400, message, .. }) => assert!(message.contains("burst"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.limits().await.unwrap(), expected, "nothing of it");
}

#[tokio::test]
async fn rel_23_a_refusal_has_status_and_code() {
    let server = start_with(|config| config.limits.sessions = 1).await;
    let _daemon = server.daemon().await;
    let _first = server.client(id(1)).await;
    let bearer = format!("Bearer {}", server.client_token(id(2)));
    let answer = server.ask_upgrade("/relay", &[("authorization", &bearer)]).await;
    assert_eq!((answer.status, &answer.code()[..]), (429, "rate_limited"));
}

#[tokio::test]
async fn rel_24_a_restart_by_the_admin_api() {
    let mut server = start().await;
    let url = admin(&server.env, &server).await;
    let client = AdminClient::new(server.env.clone(), url.parse().unwrap(), None);
    let mut daemon = server.daemon().await;
    assert!(client.restart_relay(RestartRelay::default()).await.unwrap().restarting);
    assert_eq!(daemon.got().await, Got::Close(1012));
    assert_eq!(daemon.got().await, Got::Lost);
    server.event(|event| event.kind == EventKind::Restarted).await;
    server.daemon().await.is_undisturbed().await;
    let long = RestartRelay { down: Duration::from_secs(3_601) };
    assert!(matches!(client.restart_relay(long).await, Err(AdminError::Refused { status: 400, .. })));
    server.relay.shutdown().await;
    let refused = client.restart_relay(RestartRelay::default()).await;
    assert!(matches!(refused, Err(AdminError::Refused { status: 409, .. })), "{refused:?}");
}
