//! What the relay tells of itself: events of one session, in order, with and without frames.

use sideband_protocol::wire::ControlCode;
use sideband_sim_kit::event::{Closer, Direction, Event, EventKind, FrameDetail, Role};

use crate::support::*;

/// A daemon and a client that says one thing and goes.
async fn story(server: &mut Server) -> Vec<(Option<String>, u64, EventKind)> {
    let mut daemon = server.daemon().await;
    let mut client = server.client(id(10)).await;
    client.send(data(id(10), vec![1; 40])).await;
    assert!(matches!(daemon.got().await, Got::Frame(_)));
    client.close().await;
    assert_eq!(daemon.got().await, control(ControlCode::SessionEnded, 10));
    let mut story = Vec::new();
    loop {
        // What it says comes without a handshake, which is a story of its own.
        let Event { daemon, session, mut kind, .. } =
            server.event(|event| !matches!(event.kind, EventKind::Grade { .. })).await;
        let over = matches!(kind, EventKind::Closed { .. });
        if let EventKind::Opened { token, .. } = &mut kind {
            assert_eq!(token.take().map(|token| token.len()), Some(16));
        }
        story.push((daemon, session.map_or(0, |session| session.get()), kind));
        if over {
            return story;
        }
    }
}

fn plain() -> Vec<EventKind> {
    vec![
        EventKind::Opened { connection: 1, role: Role::Daemon, token: None, resumable: Some(true) },
        EventKind::Opened { connection: 2, role: Role::Client, token: None, resumable: None },
        EventKind::Session { state: "paired".to_owned() },
        EventKind::Control { connection: 1, code: "session_ended".to_owned() },
        EventKind::Session { state: "ended".to_owned() },
        EventKind::Closed { connection: 2, code: Some(1005), by: Some(Closer::Peer), answered: false },
    ]
}

#[tokio::test]
async fn events_tell_what_happened_and_whom_it_concerns() {
    let mut server = start().await;
    let story = story(&mut server).await;
    assert!(story.iter().all(|(daemon, _, _)| daemon.as_deref() == Some(DAEMON)));
    assert_eq!(story.iter().map(|(_, session, _)| *session).collect::<Vec<_>>(), [0, 10, 10, 10, 10, 10]);
    assert_eq!(story.into_iter().map(|(_, _, kind)| kind).collect::<Vec<_>>(), plain());
}

#[tokio::test]
async fn frames_are_events_only_if_asked_for() {
    let mut server = start_with(|config| config.trace_frames = true).await;
    let story = story(&mut server).await;
    let frame = |connection, direction, frame: &str, bytes| {
        let (frame, mut detail) = (frame.to_owned(), FrameDetail::default());
        if frame == "data" {
            detail.direction_of_nonce = Some(0x0101_0101);
            detail.sequence = Some(0x0101_0101_0101_0101);
        } else {
            detail.code = Some(ControlCode::SessionEnded as u16);
        }
        EventKind::Frame { connection, direction, frame, bytes, detail }
    };
    let (frames, rest): (Vec<_>, Vec<_>) =
        story.into_iter().map(|(_, _, kind)| kind).partition(|kind| matches!(kind, EventKind::Frame { .. }));
    assert_eq!(
        frames,
        [
            frame(2, Direction::In, "data", 53),
            frame(1, Direction::Out, "data", 53),
            frame(1, Direction::Out, "control", 13 + 2 + "the client is gone".len()),
        ]
    );
    assert_eq!(rest, plain());
}
