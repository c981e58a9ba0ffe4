//! Every row of the pairing table of `4-relay.md` against the running relay, with raw WebSocket peers: exact codes, exact
//! session ids, exact closes. Then what stands around the table: REL-03, REL-05, REL-10 to REL-12, WIRE-17.

mod support;

use std::time::Duration;

use bytes::Bytes;
use sideband::SessionId;
use sideband_protocol::wire::{
    ControlCode::{DaemonOffline, SessionEnded, SessionExpired, SessionPaused, SessionPending, SessionResumed},
    Frame, Reason, Signal,
};
use tokio_tungstenite::tungstenite::Message;

use self::support::*;

/// A short grace for the rows that wait for its end.
const GRACE: Duration = Duration::from_secs(1);

/// A daemon, a client, and the session that pairs them.
async fn paired(world: &World) -> (Peer, Peer, SessionId) {
    let daemon = world.raw_daemon(true).await;
    let (id, client) = world.raw_client().await;
    (daemon, client, id)
}

/// A client whose daemon is gone.
async fn paused(world: &World) -> (Peer, SessionId) {
    let (_, mut client, id) = paired(world).await;
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    assert_eq!(client.got().await, control(SessionPaused, id.get()));
    (client, id)
}

/// A client whose daemon is back and has not said anything yet.
async fn pending(world: &World) -> (Peer, Peer, SessionId) {
    let (mut client, id) = paused(world).await;
    let daemon = world.raw_daemon(true).await;
    assert_eq!(client.got().await, control(SessionPending, id.get()));
    (daemon, client, id)
}

/// The client's last words from the relay: the code, the close, the end.
async fn is_ended_with_expired(client: &mut Peer, id: SessionId) {
    assert_eq!(client.got().await, control(SessionExpired, id.get()));
    client.is_closed(1000).await;
}

#[tokio::test]
async fn rel_01_none_client_opens_with_daemon_online_pairs_quietly() {
    let world = World::start().await;
    world.has_wrong_peers();
    let (mut daemon, mut client, id) = paired(&world).await;
    client.is_undisturbed().await;
    daemon.is_undisturbed().await;
    client.reaches(&mut daemon, id).await;
    daemon.reaches(&mut client, id).await;
    let status = world.cloud.relay().daemon(world.daemon_id()).unwrap();
    assert_eq!(status.sessions.len(), 1);
    assert_eq!((status.sessions[0].session_id, status.sessions[0].state.as_str()), (id, "paired"));
}

#[tokio::test]
async fn rel_01_none_client_opens_with_daemon_offline_is_told_and_closed() {
    let world = World::start().await;
    let (id, mut client) = world.raw_client().await;
    assert_eq!(client.got().await, control(DaemonOffline, id.get()));
    client.is_closed(1000).await;
    assert_eq!(world.cloud.relay().daemon(world.daemon_id()), None, "no session began");
}

/// The ways in which a daemon's socket closes.
#[derive(Debug, Clone, Copy)]
enum Closing {
    /// A close frame.
    Frame,
    /// The stream ends without one.
    Vanishes,
    /// The relay closes it for a malformed frame.
    ByTheRelay,
    /// The relay cuts it.
    Cut,
}

#[tokio::test]
async fn rel_01_paired_daemon_socket_closes_pauses() {
    let world = World::start().await;
    world.has_wrong_peers();
    for how in [Closing::Frame, Closing::Vanishes, Closing::ByTheRelay, Closing::Cut] {
        let (mut daemon, mut client, id) = paired(&world).await;
        let mut kept = None;
        match how {
            Closing::Frame => daemon.close().await,
            Closing::Vanishes => drop(daemon),
            Closing::ByTheRelay => {
                daemon.send(Bytes::from_static(b"\x03")).await;
                // At once, while the socket is still there (REL-01).
                kept = Some(daemon);
            }
            Closing::Cut => assert!(world.cloud.relay().drop_daemon(world.daemon_id())),
        }
        assert_eq!(client.got().await, control(SessionPaused, id.get()), "{how:?}");
        client.is_undisturbed().await;
        client.close().await;
        drop(kept);
    }
}

#[tokio::test]
async fn rel_01_paired_signal_close_expires_and_closes_the_client() {
    let world = World::start().await;
    world.has_wrong_peers();
    for reason in [Reason::None, Reason::StateLost, Reason::Shutdown, Reason::Policy, Reason::Error] {
        let (mut daemon, mut client, id) = paired(&world).await;
        daemon.send(signal(id, Signal::Close, reason)).await;
        is_ended_with_expired(&mut client, id).await;
        daemon.is_undisturbed().await;
        daemon.close().await;
    }
}

#[tokio::test]
async fn rel_01_paired_client_closes_tells_the_daemon() {
    let world = World::start().await;
    world.has_wrong_peers();
    let mut daemon = world.raw_daemon(true).await;
    let (id, client) = world.raw_client().await;
    client.close().await;
    assert_eq!(daemon.got().await, control(SessionEnded, id.get()));
    let (id, client) = world.raw_client().await;
    drop(client);
    assert_eq!(daemon.got().await, control(SessionEnded, id.get()));
    let (id, mut client) = world.raw_client().await;
    client.send_message(Message::text("no text")).await;
    assert_eq!(daemon.got().await, control(SessionEnded, id.get()), "the relay closed it (WIRE-03)");
    client.is_closed(1003).await;
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_01_pending_client_closes_tells_the_daemon() {
    let world = World::start().await;
    let (mut daemon, client, id) = pending(&world).await;
    client.close().await;
    assert_eq!(daemon.got().await, control(SessionEnded, id.get()));
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_01_paused_client_closes_tells_nobody() {
    let mut world = World::start().await;
    let (client, id) = paused(&world).await;
    client.close().await;
    world.session(id, "ended").await;
    let mut daemon = world.raw_daemon(true).await;
    daemon.is_undisturbed().await;
    daemon.send(signal(id, Signal::Ready, Reason::None)).await;
    assert_eq!(daemon.got().await, control(SessionEnded, id.get()), "WIRE-17: it asked");
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_01_paused_resumable_daemon_returns_makes_pending() {
    let world = World::start().await;
    let (mut daemon, mut client, id) = pending(&world).await;
    client.is_undisturbed().await;
    daemon.is_undisturbed().await;
    let status = world.cloud.relay().daemon(world.daemon_id()).unwrap();
    assert_eq!((status.sessions[0].session_id, status.sessions[0].state.as_str()), (id, "pending"));
}

#[tokio::test]
async fn rel_01_paused_daemon_returns_without_resume_expires() {
    let world = World::start().await;
    let (mut client, id) = paused(&world).await;
    let mut daemon = world.raw_daemon(false).await;
    is_ended_with_expired(&mut client, id).await;
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_01_paused_grace_over_expires() {
    let mut world = World::with_grace(GRACE).await;
    let (mut client, id) = paused(&world).await;
    is_ended_with_expired(&mut client, id).await;
    world.session(id, "ended").await;
    let mut daemon = world.raw_daemon(true).await;
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_01_pending_grace_over_expires_and_tells_the_daemon() {
    let world = World::with_grace(GRACE).await;
    let (mut daemon, mut client, id) = pending(&world).await;
    is_ended_with_expired(&mut client, id).await;
    assert_eq!(daemon.got().await, control(SessionEnded, id.get()));
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_01_pending_signal_ready_resumes() {
    let world = World::start().await;
    world.has_wrong_peers();
    let (mut daemon, mut client, id) = pending(&world).await;
    daemon.send(signal(id, Signal::Ready, Reason::None)).await;
    assert_eq!(client.got().await, control(SessionResumed, id.get()));
    client.reaches(&mut daemon, id).await;
    daemon.reaches(&mut client, id).await;
}

#[tokio::test]
async fn rel_01_pending_signal_close_expires_and_closes_the_client() {
    let world = World::start().await;
    let (mut daemon, mut client, id) = pending(&world).await;
    daemon.send(signal(id, Signal::Close, Reason::StateLost)).await;
    is_ended_with_expired(&mut client, id).await;
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_01_pending_daemon_socket_closes_again_pauses() {
    let world = World::start().await;
    let (daemon, mut client, id) = pending(&world).await;
    daemon.close().await;
    assert_eq!(client.got().await, control(SessionPaused, id.get()));
    let mut daemon = world.raw_daemon(true).await;
    assert_eq!(client.got().await, control(SessionPending, id.get()));
    daemon.send(signal(id, Signal::Ready, Reason::None)).await;
    assert_eq!(client.got().await, control(SessionResumed, id.get()));
}

/// The deadline is the first loss's: else a daemon that comes and goes keeps the session for ever, and this test hangs.
#[tokio::test]
async fn rel_01_pending_daemon_socket_closes_again_keeps_the_deadline() {
    let world = World::with_grace(GRACE).await;
    let (mut client, id) = paused(&world).await;
    let mut rounds = 0;
    let expired = control(SessionExpired, id.get());
    soon(async {
        loop {
            let daemon = world.raw_daemon(true).await;
            match client.got().await {
                got if got == expired => break,
                got => assert_eq!(got, control(SessionPending, id.get())),
            }
            drop(daemon);
            match client.got().await {
                got if got == expired => break,
                got => assert_eq!(got, control(SessionPaused, id.get())),
            }
            rounds += 1;
        }
    })
    .await;
    client.is_closed(1000).await;
    assert!(rounds > 0, "the daemon never came back in time");
}

#[tokio::test]
async fn rel_02_no_resumed_without_a_signal_ready() {
    let world = World::start().await;
    world.has_wrong_peers();
    let (mut daemon, mut client, id) = pending(&world).await;
    // Whatever else the daemon does is not it.
    daemon.send(data(id, vec![1; 40])).await;
    daemon.is_undisturbed().await;
    client.is_undisturbed().await;
}

#[tokio::test]
async fn rel_03_frames_while_paused_or_pending_are_dropped_and_counted() {
    let world = World::start().await;
    world.has_wrong_peers();
    let (mut client, id) = paused(&world).await;
    client.send(data(id, vec![1; 40])).await;
    client.is_undisturbed().await;
    let mut daemon = world.raw_daemon(true).await;
    assert_eq!(client.got().await, control(SessionPending, id.get()));
    client.send(data(id, vec![2; 40])).await;
    client.is_undisturbed().await;
    daemon.send(data(id, vec![3; 40])).await;
    daemon.send(Frame::HandshakeAccept { session: id, payload: vec![4; 128].into() }.encode()).await;
    daemon.is_undisturbed().await;
    daemon.send(signal(id, Signal::Ready, Reason::None)).await;
    assert_eq!(client.got().await, control(SessionResumed, id.get()), "nothing of the daemon's came before");
    client.reaches(&mut daemon, id).await;
    let counters = world.cloud.relay().status().counters;
    let dropped: u64 = counters.iter().filter(|(name, _)| name.starts_with("dropped_")).map(|(_, count)| count).sum();
    assert_eq!(dropped, 4, "{counters:?}");
}

#[tokio::test]
async fn rel_05_signal_ready_for_a_paired_session_is_ignored() {
    let world = World::start().await;
    world.has_wrong_peers();
    let (mut daemon, mut client, id) = paired(&world).await;
    daemon.send(signal(id, Signal::Ready, Reason::None)).await;
    daemon.is_undisturbed().await;
    client.is_undisturbed().await;
    client.reaches(&mut daemon, id).await;
}

#[tokio::test]
async fn rel_10_a_session_id_is_refused_with_409_while_it_lives_and_after() {
    let mut world = World::start().await;
    world.has_wrong_peers();
    let mut daemon = world.raw_daemon(true).await;
    let grant = world.grant().await;
    let mut client = world.connect(&grant.token).await.unwrap();
    let bearer = format!("Bearer {}", grant.token);
    let again = ask_upgrade(world.cloud.addr(), "/relay", &[("authorization", &bearer)]).await;
    assert_eq!((again.status, again.code().as_str()), (409, "session_conflict"));
    client.reaches(&mut daemon, grant.id).await;
    daemon.reaches(&mut client, grant.id).await;

    client.close().await;
    world.session(grant.id, "ended").await;
    assert_eq!(daemon.got().await, control(SessionEnded, grant.id.get()));
    let after = ask_upgrade(world.cloud.addr(), &format!("/relay?token={}", grant.token), &[]).await;
    assert_eq!((after.status, after.code().as_str()), (409, "session_conflict"));
    daemon.is_undisturbed().await;
}

#[tokio::test]
async fn rel_10_an_id_that_was_refused_as_offline_is_used_up() {
    let world = World::start().await;
    world.has_wrong_peers();
    let grant = world.grant().await;
    let mut client = world.connect(&grant.token).await.unwrap();
    assert_eq!(client.got().await, control(DaemonOffline, grant.id.get()));
    client.is_closed(1000).await;
    let _daemon = world.raw_daemon(true).await;
    assert_eq!(world.connect(&grant.token).await.err(), Some(409));
}

#[tokio::test]
async fn rel_11_a_fresh_session_id_is_accepted_beside_a_ghost() {
    let world = World::start().await;
    world.has_wrong_peers();
    let (mut daemon, mut ghost, old) = paired(&world).await;
    // The ghost says nothing any more; the relay cannot know.
    let (id, mut client) = world.raw_client().await;
    assert_ne!(id, old);
    client.reaches(&mut daemon, id).await;
    daemon.reaches(&mut client, id).await;
    daemon.reaches(&mut ghost, old).await;
}

#[tokio::test]
async fn rel_12_a_second_daemon_socket_replaces_the_first() {
    let world = World::start().await;
    world.has_wrong_peers();
    let (mut first, mut client, id) = paired(&world).await;
    let mut second = world.raw_daemon(true).await;
    first.is_closed(4001).await;
    assert_eq!(client.got().await, control(SessionPaused, id.get()));
    assert_eq!(client.got().await, control(SessionPending, id.get()));
    second.send(signal(id, Signal::Ready, Reason::None)).await;
    assert_eq!(client.got().await, control(SessionResumed, id.get()));
    client.reaches(&mut second, id).await;
}

#[tokio::test]
async fn wire_17_a_daemons_frames_for_ended_and_unknown_sessions() {
    let world = World::start().await;
    world.has_wrong_peers();
    let mut daemon = world.raw_daemon(true).await;
    let (id, client) = world.raw_client().await;
    client.close().await;
    assert_eq!(daemon.got().await, control(SessionEnded, id.get()));
    daemon.send(data(id, vec![1; 40])).await;
    daemon.is_undisturbed().await;

    // A relay that was restarted does not know it; the Signal is answered, and what follows is dropped.
    let unknown = SessionId::new(0x0bad_cafe).unwrap();
    daemon.send(signal(unknown, Signal::Ready, Reason::None)).await;
    assert_eq!(daemon.got().await, control(SessionEnded, unknown.get()));
    daemon.send(data(unknown, vec![1; 40])).await;
    daemon.is_undisturbed().await;

    let never = SessionId::new(0x0dad_f00d).unwrap();
    daemon.send(data(never, vec![1; 40])).await;
    assert_eq!(daemon.got().await, control(sideband_protocol::wire::ControlCode::SessionNotFound, never.get()));
    daemon.is_closed(1000).await;
}
