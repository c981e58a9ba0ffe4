//! The daemon: DMN-01 to DMN-16.

pub(crate) mod attempts;
pub(crate) mod relay;
pub(crate) mod resume;
pub(crate) mod retries;
pub(crate) mod sessions;

use std::time::Duration;

use sideband::{Connection, Server, ServerEvent, ServerEvents};
use sideband_env::{Env, Timeline};
use sideband_protocol::{
    SessionId,
    failure::Cause,
    quirks::Quirks,
    wire::{Frame, Reason, Signal},
};
use sideband_tests::{
    failure::on_the_way,
    script::{ApiCall, Link, World, soon},
};

use crate::endpoints::listen;

/// Longer than any delay before a retry.
const LONG: Duration = Duration::from_secs(300);

/// A daemon that has been told of everything since its start, online with a token that promises resumption.
async fn online(world: &mut World, env: &Env, quirks: Quirks) -> (Server, ServerEvents, Link) {
    on_the_way(async {
        let server = listen(env, quirks);
        let mut events = server.events();
        let link = world.go_online(true).await;
        until(&mut events, |event| matches!(event, ServerEvent::Online)).await;
        (server, events, link)
    })
    .await
}

/// Waits for an event of this kind, whatever is told before.
async fn until(events: &mut ServerEvents, wanted: impl Fn(&ServerEvent) -> bool) -> ServerEvent {
    let found = async {
        loop {
            let event = events.next().await.expect("the daemon lives");
            if wanted(&event) {
                return event;
            }
        }
    };
    soon("an event", found).await
}

/// Waits until the daemon knows that its socket is lost.
async fn offline(events: &mut ServerEvents) {
    until(events, |event| matches!(event, ServerEvent::Offline(_))).await;
}

/// Waits until a session is over; why.
async fn closed(events: &mut ServerEvents, id: SessionId) -> Cause {
    let over = |event: &ServerEvent| matches!(event, ServerEvent::Closed { session, .. } if *session == id);
    match until(events, over).await {
        ServerEvent::Closed { cause, .. } => cause,
        other => panic!("{other:?}"),
    }
}

/// Everything that is told within this time.
async fn told_within(events: &mut ServerEvents, limit: Duration) -> Vec<ServerEvent> {
    let mut told = Vec::new();
    let all = async {
        while let Some(event) = events.next().await {
            told.push(event);
        }
    };
    let _ = tokio::time::timeout(limit, all).await;
    told
}

/// The daemon's next API call, and the seconds until it came.
async fn next_attempt(world: &mut World) -> (ApiCall, f64) {
    let since = Timeline::start();
    let call = world.api().await;
    (call, since.elapsed().as_secs_f64())
}

/// Whether these seconds are a delay of DMN-04 on this base: at most half a second more; timers may be a moment late.
fn is_delay(waited: f64, base: f64) -> bool {
    (base..=base + 0.51).contains(&waited)
}

/// The server's side of a session, once it stands there.
async fn connection(server: &Server, id: SessionId) -> Connection {
    let mut events = server.events();
    loop {
        let found = server.connections().into_iter().find(|connection| connection.session() == id);
        match found {
            Some(connection) => return connection,
            None => until(&mut events, |event| matches!(event, ServerEvent::Opened(_))).await,
        };
    }
}

fn close_signal(session: SessionId, reason: Reason) -> Frame {
    Frame::Signal { session, signal: Signal::Close, reason }
}

fn ready(session: SessionId) -> Frame {
    Frame::Signal { session, signal: Signal::Ready, reason: Reason::None }
}
