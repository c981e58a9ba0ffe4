//! Any sequence of attacks: whatever a hostile relay did, `close` is prompt, and a well-behaved relay is served again.

use std::time::Duration;

use proptest::prelude::*;
use sideband::CloseReason;
use sideband_protocol::{client::State, peer::Side, sbp::FrameBody, wire::Frame};
use sideband_tests::script::{
    DAEMON, FarClient, Got,
    hostile::{Attack, ClientFate, ClientStage, DaemonStage, frames},
};

use crate::victims::{ClientVictim, DaemonVictim, PROMPT, Scene, entropy, moment};

/// The stages that need no user. Numbers are taken modulo what there is.
const STAGES: [ClientStage; 5] =
    [ClientStage::Opened, ClientStage::Keyed, ClientStage::Active, ClientStage::Paused, ClientStage::Pending];

/// A visit: how far the endpoint is brought, and what is thrown then, one after the other on one socket.
type Visit = (usize, Vec<usize>);

fn visits() -> impl Strategy<Value = Vec<Visit>> {
    prop::collection::vec((any::<usize>(), prop::collection::vec(any::<usize>(), 1..4)), 1..7)
}

fn run<F: Future<Output = ()>>(case: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        assert!(tokio::time::timeout(Duration::from_secs(86_400), case).await.is_ok(), "it did not end");
    });
}

/// Throws an attack.
async fn suffer(scene: &mut Scene, attack: &Attack, side: Side) {
    scene.suffer(|aim| attack.throws(aim), side, &mut *entropy(7)).await;
}

async fn attack_client(visits: Vec<Visit>) {
    let attacks = frames::attacks();
    let mut victim = ClientVictim::new(50, false);
    for (stage, numbers) in visits {
        let stage = STAGES[stage % STAGES.len()];
        let mut scene = victim.bring(stage).await;
        let single = numbers.len() == 1;
        let mut due = None;
        for number in numbers {
            let attack = &attacks[number % attacks.len()];
            due = attack.at_client(stage);
            suffer(&mut scene, attack, Side::Daemon).await;
        }
        victim.pinned();
        let state = victim.state();
        match due.filter(|_| single) {
            Some(ClientFate::GoesOn) => assert!(!matches!(state, State::Closed | State::Reconnecting), "{state:?}"),
            // Or the retries are used up.
            Some(ClientFate::Retried(_)) => {
                assert!(matches!(state, State::Closed | State::Reconnecting), "{state:?}");
            }
            Some(ClientFate::Closed(_)) => assert_eq!(state, State::Closed),
            None => {}
        }
        // What still stands is cut, so that the next visit finds an attempt.
        scene.socket.take();
        moment().await;
        if victim.state() == State::Closed {
            break;
        }
    }
    assert_eq!(victim.strange.get(), 0);
    if victim.state() == State::Closed {
        let reason = tokio::time::timeout(PROMPT, victim.client.closed()).await.expect("a reason");
        assert!(matches!(reason, CloseReason::Fatal(_) | CloseReason::Exhausted { retries: 5, .. }), "{reason:?}");
        assert!(victim.world.api_within(Duration::from_secs(300)).await.is_none(), "tried again");
        victim.closes().await;
    } else {
        victim.recovers().await;
    }
}

/// A session with a well-behaved client on a socket on which anything may still be under way.
async fn serves(victim: &mut DaemonVictim, scene: &mut Scene) {
    let session = victim.world.new_session();
    let (far, init) = FarClient::new(session, DAEMON, &mut *victim.entropy);
    let socket = scene.socket.as_mut().expect("a socket");
    socket.send(&init).await;
    let accept = loop {
        match socket.frame().await {
            accept @ Frame::HandshakeAccept { session: of, .. } if of == session => break accept,
            _ => {}
        }
    };
    let mut line = far.finish(&accept);
    let hello = sideband_tests::script::introduction("peer_good").to_string().into();
    let said = [FrameBody::Handshake(hello), FrameBody::Ping].map(|body| line.seal_body(body));
    for frame in &said {
        socket.send(frame).await;
    }
    loop {
        let frame = socket.frame().await;
        let own = matches!(frame, Frame::Data { .. }) && frame.session() == session.get();
        if own && line.open(&frame).body == FrameBody::Pong {
            return;
        }
    }
}

async fn attack_daemon(visits: Vec<Visit>) {
    let attacks = frames::attacks();
    let (mut victim, mut scene) = DaemonVictim::new(51).await;
    for (stage, numbers) in visits {
        scene.begin(victim.world.new_session(), &mut *victim.entropy);
        victim.bring(&mut scene, DaemonStage::ALL[stage % DaemonStage::ALL.len()]).await;
        for number in numbers {
            suffer(&mut scene, &attacks[number % attacks.len()], Side::Client).await;
        }
        assert_eq!(victim.strange.get(), 0, "something reached a session that it was not meant for");
        if tokio::time::timeout(Duration::ZERO, victim.server.ended()).await.is_ok() {
            break;
        }
        if !victim.server.is_online() {
            scene.socket = Some(victim.world.go_online(true).await.into_parts().0);
        } else if scene.socket.is_none() {
            panic!("online without a socket");
        }
        serves(&mut victim, &mut scene).await;
    }
    victim.closes().await;
    assert!(victim.server.connections().is_empty());
    if let Some(mut socket) = scene.socket {
        let (_, end) = socket.end().await;
        assert!(matches!(end, Got::Close(_) | Got::Lost));
    }
    assert!(victim.world.api_within(Duration::from_secs(300)).await.is_none(), "tried again");
}

/// A sequence that was interesting once: what closes a socket, and garbage behind it.
#[test]
fn cut_between_attacks() {
    let attacks = frames::attacks();
    let at = |name: &str| attacks.iter().position(|attack| attack.name == name).expect("an attack of this name");
    let steps =
        vec![(2, vec![at("a cut")]), (4, vec![at("Control internal_error without a session"), at("an empty message")])];
    run(attack_client(steps.clone()));
    run(attack_daemon(steps));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn client_survives_any_sequence(visits in visits()) {
        run(attack_client(visits));
    }

    #[test]
    fn daemon_survives_any_sequence(visits in visits()) {
        run(attack_daemon(visits));
    }
}

/// Only closes and cuts, in every order of three: all of them are retried.
#[test]
fn client_comes_back_after_any_ends() {
    let ends: Vec<usize> = frames::attacks()
        .iter()
        .enumerate()
        .filter(|(_, attack)| attack.at_client(ClientStage::Active) == Some(ClientFate::Retried("socket_lost")))
        .map(|(at, _)| at)
        .collect();
    assert!(ends.len() > 5);
    for (turn, end) in ends.iter().enumerate() {
        let other = ends[(turn * 3 + 1) % ends.len()];
        run(attack_client(vec![(2, vec![*end]), (turn, vec![other]), (turn + 1, vec![*end])]));
    }
}
