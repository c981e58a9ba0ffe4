//! What a daemon tells its user, as text, and what holds for all of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sideband::{Server, ServerEvent};
use sideband_protocol::failure::Cause;

use super::{At, Row, initial};
use crate::record::{Log, Source, nominal};

/// What holds for every life of a daemon, however it went.
pub(super) fn check_story(told: &[ServerEvent], introduced: usize) {
    let opened = told.iter().filter(|event| matches!(event, ServerEvent::Opened(_))).count();
    assert_eq!(opened, introduced, "a session opens with a client's introduction only: {told:?}");
    let (mut online, mut ended) = (false, false);
    let mut sessions = BTreeMap::new();
    for event in told {
        assert!(!ended, "nothing is told after the end: {told:?}");
        let fits = match event {
            ServerEvent::Online => !std::mem::replace(&mut online, true),
            ServerEvent::Offline(_) => std::mem::replace(&mut online, false),
            ServerEvent::Opened(session) => online && sessions.insert(*session, true).is_none(),
            ServerEvent::Paused(session) => !online && sessions.insert(*session, false) == Some(true),
            ServerEvent::Resumed(session) => sessions.insert(*session, true) == Some(false),
            ServerEvent::Closed { session, .. } => sessions.remove(session).is_some(),
            ServerEvent::Refused { session, .. } => !sessions.contains_key(session),
            ServerEvent::Retrying { .. } => !online,
            ServerEvent::Ended(_) => {
                ended = true;
                sessions.is_empty()
            }
            ServerEvent::RateLimited => online,
            // Nothing else is told here: nobody is slow to listen.
            _ => false,
        };
        assert!(fits, "{event:?} does not fit in {told:?}");
    }
    assert!(ended, "the last thing told is the end: {told:?}");
}

pub(super) fn record(row: Row, server: &Server, log: &Log, told: &Arc<Mutex<Vec<ServerEvent>>>) {
    let (mut events, log, told) = (server.events(), log.clone(), told.clone());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            log.add(Source::Life, event_text(row, &event));
            told.lock().unwrap().push(event);
        }
    });
}

fn event_text(row: Row, event: &ServerEvent) -> String {
    match event {
        ServerEvent::Online => "online".to_owned(),
        ServerEvent::Offline(cause) => format!("offline: {cause}"),
        ServerEvent::Retrying { retry, delay, cause } => {
            let clean = row.at == At::Settled && *delay <= Duration::from_secs(2);
            let range = |base| base..=base + 0.5;
            let delay =
                if clean { "0–2 s".to_owned() } else { nominal(*retry, initial(row).as_secs_f64(), *delay, range) };
            format!("retry {retry} after {delay}: {cause}")
        }
        ServerEvent::Opened(_) => "session opened".to_owned(),
        ServerEvent::Paused(_) => "session paused".to_owned(),
        ServerEvent::Resumed(_) => "session resumed".to_owned(),
        ServerEvent::Closed { cause, .. } => format!("session closed: {cause}"),
        ServerEvent::Refused { cause, .. } => format!("session refused: {cause}"),
        ServerEvent::RateLimited => "rate limited".to_owned(),
        ServerEvent::Ended(Cause::Closed) => "ended by the user".to_owned(),
        ServerEvent::Ended(cause) => format!("ended: {cause}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn whatever_is_wrong_with_a_story_is_seen() {
    use ServerEvent::{Ended, Missed, Offline, Online, Opened, Paused, RateLimited, Resumed};
    let id = sideband_tests::script::session(7);
    let closed = || ServerEvent::Closed { session: id, cause: Cause::Closed };
    let retrying = || ServerEvent::Retrying { retry: 0, delay: Duration::from_secs(1), cause: Cause::Silent };
    let end = || Ended(Cause::Closed);
    let offline = || Offline(Cause::Silent);
    let held = || vec![Online, Opened(id), offline(), Paused(id), retrying()];
    check_story(&[held(), vec![Online, Resumed(id), RateLimited, closed(), offline(), end()]].concat(), 1);
    let refused = |words: &str, told: Vec<ServerEvent>, introduced| {
        crate::is_refused(words, || check_story(&told, introduced));
    };
    refused("with a client's introduction only", vec![Online, Opened(id), closed(), end()], 0);
    refused("nothing is told after the end", vec![end(), Online], 0);
    refused("the last thing told is the end", vec![Online], 0);
    for wrong in [
        vec![Online, Online],
        vec![offline()],
        vec![Online, retrying()],
        vec![RateLimited],
        vec![Online, Missed(1)],
        vec![Online, closed()],
        vec![Online, Resumed(id)],
    ] {
        refused("does not fit", wrong, 0);
    }
    for wrong in [
        vec![Opened(id)],
        vec![Online, Opened(id), Paused(id)],
        vec![Online, Opened(id), Resumed(id)],
        vec![Online, Opened(id), ServerEvent::Refused { session: id, cause: Cause::Silent }],
        vec![Online, Opened(id), end()],
        [held(), vec![Paused(id)]].concat(),
    ] {
        refused("does not fit", wrong, 1);
    }
    refused("does not fit", vec![Online, Opened(id), Opened(id)], 2);
}
