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
            _ => true,
        };
        assert!(fits, "{event:?} in {told:?}");
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
