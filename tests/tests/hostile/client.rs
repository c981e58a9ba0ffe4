//! Every attack on an open socket against the client, in every stage.

use sideband::{CloseReason, Error, Lifecycle};
use sideband_env::Timeline;
use sideband_protocol::{client::State, peer::Side};
use sideband_tests::script::{
    hostile::{Attack, ClientFate, ClientStage, cause_name, frames},
    soon,
};

use crate::victims::{ClientVictim, PROMPT};

/// What became of the attempt or session.
pub(crate) async fn fate(victim: &mut ClientVictim) -> Result<String, String> {
    loop {
        match soon("an end of the attempt", victim.events.next()).await {
            Some(Lifecycle::Retrying { cause, delay, .. }) => {
                assert!((0.8..=1.2).contains(&delay.as_secs_f64()), "CLI-04: the first delay is {delay:?}");
                return Ok(cause_name(&cause));
            }
            Some(Lifecycle::Closed(CloseReason::Fatal(cause))) => return Err(cause_name(&cause)),
            Some(Lifecycle::Closed(reason)) => panic!("closed for another reason: {reason}"),
            Some(_) => {}
            None => panic!("the events ended"),
        }
    }
}

/// Closed for good: nothing is tried again, nothing waits.
pub(crate) async fn is_over(victim: &mut ClientVictim) {
    assert_eq!(victim.state(), State::Closed);
    let call = victim.client.call::<_, ()>("anything", ()).await;
    assert_eq!(call.unwrap_err().code(), Some("peer_closed"));
    assert!(matches!(victim.client.when_ready().await, Err(Error::Closed(_))));
    assert!(victim.world.api_within(std::time::Duration::from_secs(300)).await.is_none(), "tried again");
    victim.closes().await;
}

async fn run(attack: &Attack, stage: ClientStage, due: ClientFate) {
    let mut victim = ClientVictim::new(3, stage == ClientStage::Trusting);
    let mut scene = victim.bring(stage).await;
    let (seen, waits) = (victim.seen.get(), Timeline::start());
    let mut entropy = crate::victims::entropy(33);
    let took = scene.suffer(|aim| attack.throws(aim), Side::Daemon, &mut *entropy).await;
    // What came while the user was asked is looked at after the answer.
    victim.trust();
    match due {
        ClientFate::GoesOn => {
            victim.finish(&mut scene, stage).await;
            crate::victims::moment().await;
            let delivered = if stage.stands() { attack.delivers } else { 0 };
            assert_eq!(victim.seen.get() - seen, delivered, "events delivered");
            assert!(victim.world.api_within(std::time::Duration::ZERO).await.is_none(), "the attempt goes on");
            assert!(victim.pinned());
            victim.closes().await;
        }
        ClientFate::Retried(cause) => {
            assert_eq!(fate(&mut victim).await, Ok(cause.to_owned()));
            assert!(waits.elapsed() <= took + PROMPT, "seen after {:?}", waits.elapsed());
            assert_eq!(victim.seen.get(), seen, "events delivered");
            victim.pinned();
            victim.recovers().await;
        }
        ClientFate::Closed(cause) => {
            assert_eq!(fate(&mut victim).await, Err(cause.to_owned()));
            assert!(waits.elapsed() <= took + PROMPT, "seen after {:?}", waits.elapsed());
            assert_eq!(victim.seen.get(), seen, "events delivered");
            let pinned = victim.pinned();
            assert!(stage != ClientStage::Opened || !pinned, "pinned before an Accept");
            let code = scene.close_code().await;
            if let Some(due) = attack.close_code {
                assert_eq!(code, Some(due), "close code");
            }
            is_over(&mut victim).await;
        }
    }
    assert_eq!(victim.strange.get(), 0, "something strange was delivered");
}

/// Runs every attack that makes sense at a stage, and says which one failed.
fn all_at(stage: ClientStage) {
    each(frames::attacks(), |attack| {
        let due = attack.at_client(stage)?;
        Some((format!("{attack:?} at {stage:?}: {due:?}"), async move { run(attack, stage, due).await }))
    });
}

/// Runs a case for each value on a runtime of its own; says which failed, all of them together.
pub(crate) fn each<T: 'static, F: Future<Output = ()>>(
    values: impl IntoIterator<Item = T>,
    case: impl Fn(&'static T) -> Option<(String, F)>,
) {
    let mut failed = Vec::new();
    let mut cases = 0;
    for value in values {
        // Leaked: a test's few values, so that futures can borrow them.
        let Some((name, run)) = case(Box::leak(Box::new(value))) else { continue };
        cases += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let limit = std::time::Duration::from_secs(3_600);
                assert!(tokio::time::timeout(limit, run).await.is_ok(), "it did not end");
            });
        }));
        if let Err(panic) = ran {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            failed.push(format!("{name}\n    {}", text.unwrap_or_default()));
        }
    }
    assert!(cases > 0, "no case");
    assert!(failed.is_empty(), "{} of {cases} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn client_that_waits_for_the_accept() {
    all_at(ClientStage::Opened);
}

#[test]
fn client_that_asks_whom_to_trust() {
    all_at(ClientStage::Trusting);
}

#[test]
fn client_that_waits_for_the_introduction() {
    all_at(ClientStage::Keyed);
}

#[test]
fn client_with_a_session() {
    all_at(ClientStage::Active);
}

#[test]
fn client_with_a_paused_session() {
    all_at(ClientStage::Paused);
}

#[test]
fn client_with_a_pending_session() {
    all_at(ClientStage::Pending);
}
