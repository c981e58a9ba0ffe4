//! Messages that ask to be confirmed, and what becomes of them when their session is lost.

use sideband::{Connection, ErrorKind, Peer, QuickConnect, State, protocol::wire::ControlCode};
use sideband_protocol::sbp::{FrameBody, FrameId};
use sideband_tests::script::{API_URL, Link, World, soon};
use tokio::task::JoinHandle;

use crate::support::{connect, daemon};

fn send(peer: &Peer, subject: &'static str) -> JoinHandle<Result<(), sideband::Error>> {
    let peer = peer.clone();
    tokio::spawn(async move { peer.send_confirmed(subject, "data").await })
}

/// The next message and its id.
async fn message(link: &mut Link, expected: &str) -> FrameId {
    let frame = link.heard().await;
    let FrameBody::Message { subject, .. } = &frame.body else { panic!("a message was due, not {frame:?}") };
    assert_eq!(subject, expected);
    frame.id
}

async fn is_lost(receipt: JoinHandle<Result<(), sideband::Error>>) {
    let error = soon("a failure", receipt).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.kind()), (Some("not_connected"), ErrorKind::Network));
    assert!(error.is_retryable());
}

/// SBP-05, CLI-09: what was sent in a session that is lost is confirmed no more; what waited goes with the next session.
#[tokio::test(start_paused = true)]
async fn sbp_05_receipts_are_lost_with_the_session_and_messages_that_wait_are_not() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    let sent = send(&client, "app/sent");
    message(&mut link, "app/sent").await;
    // While the session is paused a message waits; the session is lost all the same.
    let id = link.session();
    let mut states = client.state();
    link.socket.control(ControlCode::SessionPaused, Some(id)).await;
    soon("paused", states.wait_for(|state| *state == State::Paused)).await.unwrap();
    let waiting = send(&client, "app/waiting");
    tokio::task::yield_now().await;
    link.socket.cut();
    is_lost(sent).await;
    let mut link = world.join().await;
    let id = message(&mut link, "app/waiting").await;
    assert!(!waiting.is_finished());
    link.say(FrameBody::Ack(id)).await;
    soon("the receipt", waiting).await.unwrap().unwrap();
}

/// CLI-14: closing is another thing than losing.
#[tokio::test(start_paused = true)]
async fn cli_14_receipts_end_with_peer_closed_when_their_own_side_closes() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    let sent = send(&client, "app/sent");
    message(&mut link, "app/sent").await;
    client.close().await;
    let error = soon("a failure", sent).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.kind()), (Some("peer_closed"), ErrorKind::Closed));
}

/// CLI-02: the loss of the one session of a code is told as a loss.
#[tokio::test(start_paused = true)]
async fn cli_02_receipts_of_a_quick_connect_session_are_lost_with_it() {
    let (mut world, env) = World::new(1);
    let client = QuickConnect::new(API_URL, "abcd-efgh-ijkl").unwrap().env(env).connect().unwrap();
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    let sent = send(&client, "app/sent");
    message(&mut link, "app/sent").await;
    link.socket.cut();
    is_lost(sent).await;
}

/// DMN-12: the same at a daemon, whose sessions end with the socket unless they resume.
#[tokio::test(start_paused = true)]
async fn dmn_12_receipts_of_a_daemon_are_lost_with_the_session() {
    for closes in [true, false] {
        let (mut world, env) = World::new(1);
        let (told, mut connections) = tokio::sync::mpsc::unbounded_channel();
        let serve = move |connection: Connection| {
            told.send(connection).unwrap();
            async { Ok::<_, sideband::Error>(()) }
        };
        let server = daemon(&env).on_connection(serve).start().unwrap();
        let mut link = world.go_online(false).await;
        world.meet(&mut link).await;
        let connection = soon("a connection", connections.recv()).await.unwrap();
        let sent = send(&connection, "app/sent");
        message(&mut link, "app/sent").await;
        if closes {
            connection.close();
            let error = soon("a failure", sent).await.unwrap().unwrap_err();
            assert_eq!((error.code(), error.kind()), (Some("peer_closed"), ErrorKind::Closed));
        } else {
            link.socket.cut();
            is_lost(sent).await;
        }
        server.close().await;
    }
}
