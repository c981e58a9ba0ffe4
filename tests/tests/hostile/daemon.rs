//! Every attack on an open socket against the daemon, in every stage, beside a session that must not be disturbed.

use std::time::Duration;

use sideband::{ServerEvent, SessionState};
use sideband_env::Timeline;
use sideband_protocol::{
    SessionId,
    peer::Side,
    wire::{Reason, Signal},
};
use sideband_tests::script::{
    hostile::{Attack, DaemonFate, DaemonStage, accepts, cause_name, frames, reuse},
    session, soon,
};

use crate::{
    client::each,
    victims::{DaemonVictim, PROMPT, moment},
};

/// How a session ended.
async fn session_end(victim: &mut DaemonVictim, of: SessionId) -> String {
    loop {
        match soon("an end of the session", victim.events.next()).await {
            Some(ServerEvent::Closed { session, cause } | ServerEvent::Refused { session, cause }) => {
                assert_eq!(session, of, "another session ended");
                return cause_name(&cause);
            }
            Some(ServerEvent::Offline(cause)) => panic!("offline: {cause}"),
            Some(_) => {}
            None => panic!("the events ended"),
        }
    }
}

async fn run(attack: &Attack, stage: DaemonStage, due: DaemonFate) {
    let (mut victim, mut scene) = DaemonVictim::new(4).await;
    victim.bring(&mut scene, stage).await;
    let (seen, since) = (victim.seen.get(), Timeline::start());
    let mut entropy = crate::victims::entropy(44);
    let took = scene.suffer(|aim| attack.throws(aim), Side::Client, &mut *entropy).await;
    let mut delivers = 0;
    match due {
        DaemonFate::GoesOn => {
            victim.finish(&mut scene, stage).await;
            victim.serves_others(&mut scene).await;
            delivers = if stage == DaemonStage::Active { attack.delivers } else { 0 };
        }
        DaemonFate::SessionEnds(cause) => {
            assert_eq!(session_end(&mut victim, scene.session).await, cause);
            // DMN-15
            assert_eq!(victim.signal(&mut scene).await, (Signal::Close, Reason::Error));
            victim.serves_others(&mut scene).await;
        }
        DaemonFate::SessionFreed(cause) => {
            assert_eq!(session_end(&mut victim, scene.session).await, cause);
            victim.serves_others(&mut scene).await;
        }
        DaemonFate::Reconnects(cause) => {
            let (code, delay) = (scene.close_code().await, retrying(&mut victim, cause).await);
            assert!(delay <= Duration::from_millis(1_500), "DMN-04: the first delay is {delay:?}");
            assert!(since.elapsed() <= took + PROMPT, "seen after {:?}", since.elapsed());
            if let Some(due) = attack.close_code {
                assert_eq!(code, Some(due), "close code");
            }
            victim.resumes(&mut scene, stage).await;
        }
        DaemonFate::Ends(cause) => {
            assert_eq!(cause_name(&soon("the end", victim.server.ended()).await), cause);
            assert!(victim.server.connections().is_empty());
            assert!(victim.world.api_within(Duration::from_secs(300)).await.is_none(), "tried again");
        }
    }
    moment().await;
    assert_eq!(victim.seen.get() - seen, delivers, "events delivered");
    assert_eq!(victim.strange.get(), 0, "something reached a session that it was not meant for");
    victim.closes().await;
}

/// The delay after the socket was lost for a cause; no session that stood is lost with it.
pub(crate) async fn retrying(victim: &mut DaemonVictim, due: &str) -> Duration {
    loop {
        match soon("a retry", victim.events.next()).await {
            Some(ServerEvent::Retrying { cause, delay, .. }) => {
                assert_eq!(cause_name(&cause), due);
                return delay;
            }
            Some(ServerEvent::Ended(cause)) => panic!("ended: {cause}"),
            Some(ServerEvent::Closed { session, cause }) => panic!("{session} was lost: {cause}"),
            Some(_) => {}
            None => panic!("the events ended"),
        }
    }
}

fn all_at(stage: DaemonStage) {
    each(frames::attacks(), |attack| {
        let due = attack.at_daemon(stage)?;
        Some((format!("{attack:?} at {stage:?}: {due:?}"), async move { run(attack, stage, due).await }))
    });
}

#[test]
fn daemon_without_the_session() {
    all_at(DaemonStage::Online);
}

#[test]
fn daemon_that_waits_for_the_introduction() {
    all_at(DaemonStage::Keyed);
}

#[test]
fn daemon_with_a_session() {
    all_at(DaemonStage::Active);
}

/// CRY-03, DMN-15
#[test]
fn daemon_that_is_sent_low_order_keys() {
    each(accepts::inits(session(0x10)), |init| {
        Some((format!("{init:?}"), async move {
            let (mut victim, mut scene) = DaemonVictim::new(5).await;
            scene.session = session(0x10);
            scene.suffer(|_| vec![init.clone().into()], Side::Client, &mut *crate::victims::entropy(1)).await;
            assert_eq!(session_end(&mut victim, scene.session).await, "handshake_failed");
            assert_eq!(victim.signal(&mut scene).await, (Signal::Close, Reason::Error));
            victim.serves_others(&mut scene).await;
            victim.closes().await;
        }))
    });
}

/// DMN-06: who kept the session that is over reaches nobody, though another client has its id now, and disturbs nobody.
#[test]
fn daemon_whose_relay_uses_an_id_again() {
    each(reuse::endings(), |ending| {
        Some((ending.name.to_owned(), async move {
            let (mut victim, mut scene) = DaemonVictim::new(6).await;
            victim.bring(&mut scene, DaemonStage::Active).await;
            let id = scene.session;
            let of_id = |victim: &DaemonVictim| victim.server.connections().into_iter().find(|c| c.session() == id);
            let old = of_id(&victim).unwrap();
            let mut entropy = crate::victims::entropy(66);
            scene.suffer(|aim| ending.throws(aim), Side::Client, &mut *entropy).await;
            session_end(&mut victim, id).await;
            if ending.signals {
                assert_eq!(victim.signal(&mut scene).await.0, Signal::Close);
            }
            scene.begin(id, &mut *entropy);
            victim.bring(&mut scene, DaemonStage::Active).await;
            let new = of_id(&victim).unwrap();
            assert_ne!(*old, *new);
            assert_eq!((old.state(), new.state()), (None, Some(SessionState::Active)));
            assert!(old.emit("for.the.old", 1).await.is_err());
            assert!(old.send("app/old", "raw").await.is_err());
            let call = soon("the call's end", old.call::<_, ()>("whoami", ()));
            assert_eq!(call.await.unwrap_err().code(), Some("not_connected"));
            old.close();
            moment().await;
            victim.finish(&mut scene, DaemonStage::Active).await;
            assert_eq!(new.state(), Some(SessionState::Active));
            victim.serves_others(&mut scene).await;
            victim.closes().await;
        }))
    });
}
