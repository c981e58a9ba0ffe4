//! Thousands of sessions on one daemon: memory in proportion, nothing more, and all of it given back.
//!
//! A binary of its own: the allocator that counts is the whole process's.

use std::{alloc::System, io::Write as _, time::Duration};

use cap::Cap;
use serde_json::json;
use sideband::{Context, Daemon, HandlerError};
use sideband_protocol::{SessionId, rpc::Envelope, wire::ControlCode};
use sideband_tests::script::{API_URL, Link, RELAY_URL, World, soon};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const SESSIONS: usize = 2_000;

/// What one idle session may cost, the test's own far end (keys, window, counters) included.
const MOST_PER_SESSION: usize = 8 << 10;

async fn open(world: &mut World, link: &mut Link, number: usize) -> Vec<SessionId> {
    let mut ids = Vec::with_capacity(number);
    for _ in 0..number {
        ids.push(world.meet(link).await);
    }
    // The last introduction has been read as well.
    link.is_alive_on(ids[number - 1]).await;
    ids
}

/// DMN-06, DMN-10: the second thousand costs what the first did, every session works, and the end of all gives all back.
#[tokio::test(start_paused = true)]
async fn dmn_06_two_thousand_sessions_cost_memory_in_proportion() {
    let (mut world, env) = World::new(1);
    let server = Daemon::new(API_URL, RELAY_URL, "sbnd_dak_far")
        .unwrap()
        .env(env)
        .handle("add", |(a, b): (i64, i64), _: Context| async move { Ok::<_, HandlerError>(a + b) })
        .unwrap()
        .start()
        .unwrap();
    let mut link = world.go_online(true).await;
    // Whatever is made once is made by now.
    let mut ids = open(&mut world, &mut link, 1).await;
    let empty = ALLOCATOR.allocated();
    ids.extend(open(&mut world, &mut link, SESSIONS / 2).await);
    let half = ALLOCATOR.allocated();
    ids.extend(open(&mut world, &mut link, SESSIONS / 2).await);
    let whole = ALLOCATOR.allocated();
    let (first, second) = ((half - empty) / (SESSIONS / 2), (whole - half) / (SESSIONS / 2));
    assert!(first < MOST_PER_SESSION && second < MOST_PER_SESSION, "{first} and {second} bytes a session");
    assert!(second < first * 3 / 2, "{first} bytes a session at first, {second} later");
    assert_eq!(server.connections().len(), SESSIONS + 1);

    // Each of them works, and traffic leaves nothing behind.
    for round in 0..2 {
        for id in &ids {
            let cid = link.request_on(*id, "add", json!([19, 23])).await;
            let answer = link.envelope_on(*id).await;
            assert_eq!(answer, Envelope::Result { cid, result: Some("42".into()) }, "round {round}");
        }
    }
    let used = ALLOCATOR.allocated();
    assert!(used < whole + SESSIONS * 1_024, "traffic left {} bytes behind", used - whole);

    // The relay socket drops and comes back: all go on.
    let mut events = server.events();
    let (socket, lines) = link.into_parts();
    socket.cut();
    world.renew(true).await;
    let socket = world.dial().await.open().await;
    let mut link = Link::alone(socket);
    for line in lines {
        link.add(line);
    }
    for _ in &ids {
        let frame = link.socket.frame().await;
        assert!(matches!(frame, sideband_protocol::wire::Frame::Signal { .. }), "{frame:?}");
    }
    for id in ids.iter().step_by(97) {
        link.is_alive_on(*id).await;
    }
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(1), events.next()).await {}
    drop(events);

    // All clients go: their sessions' memory is given back.
    for id in &ids[1..] {
        link.socket.control(ControlCode::SessionEnded, Some(*id)).await;
    }
    link.is_alive_on(ids[0]).await;
    assert_eq!(server.connections().len(), 1);
    let (socket, lines) = link.into_parts();
    drop(lines);
    let left = ALLOCATOR.allocated().saturating_sub(empty);
    assert!(left < 1 << 20, "{left} bytes are left of {SESSIONS} sessions");
    let text =
        format!("one of {SESSIONS} sessions: {first} bytes at first, {second} later; {left} bytes left at the end\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    drop(socket);
    soon("the end", server.close()).await;
}
