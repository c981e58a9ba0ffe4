//! Sessions that outlive the socket: DMN-11, DMN-12.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use sideband::{Context, HandlerError, ServerEvent, ServerEvents};
use sideband_protocol::{daemon::SessionState, failure::Cause, rpc::Envelope, wire::Reason};
use sideband_tests::script::{Line, Link, World, soon};
use tokio::sync::Notify;

use super::{close_signal, closed, connection, offline, online, ready, until};
use crate::{
    endpoints::{code, daemon, listen},
    witness::{due, witnesses},
};

/// More than anything takes that is sent at once.
const A_MOMENT: Duration = Duration::from_secs(10);

/// The socket is cut, and the daemon has seen it; the sessions' far ends.
async fn cut(link: Link, events: &mut ServerEvents) -> Vec<Line> {
    let (socket, lines) = link.into_parts();
    socket.cut();
    offline(events).await;
    lines
}

/// The next socket, for the same sessions.
async fn back(world: &mut World, lines: Vec<Line>, resumable: bool) -> Link {
    let mut link = world.go_online(resumable).await;
    lines.into_iter().for_each(|line| link.add(line));
    link
}

/// The name of the event that comes next in the one session.
async fn next_event(link: &mut Link) -> String {
    match link.envelope().await {
        Envelope::Event { name, .. } => name,
        other => panic!("an event was due, not {other:?}"),
    }
}

witnesses! {
    async fn dmn_11_whole_sessions_are_ready_before_anything_else(quirks) breaks_with [ForgetsReady, SendsBeforeReady] {
        let (mut world, env) = World::new(500);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let ids = [world.meet(&mut link).await, world.meet(&mut link).await];
        let lines = cut(link, &mut events).await;
        for id in ids {
            connection(&server, id).await.emit("waits", 1).await.unwrap();
        }
        let mut link = back(&mut world, lines, true).await;
        let first = [link.socket.frame().await, link.socket.frame().await];
        assert!(ids.iter().all(|id| first.contains(&ready(*id))), "{first:?}");
        for _ in ids {
            assert!(matches!(link.socket.frame().await, sideband_protocol::wire::Frame::Data { .. }));
        }
    }

    /// The far end goes on with the keys and counters that it has: what is sealed under others does not open.
    async fn dmn_11_a_resumed_session_goes_on_where_it_was(quirks) breaks_with [ForgetsReady] {
        let (mut world, env) = World::new(501);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        let connection = connection(&server, id).await;
        for _ in 0..3 {
            link.is_alive().await;
            let lines = cut(link, &mut events).await;
            assert_eq!(connection.state(), Some(SessionState::Paused));
            link = back(&mut world, lines, true).await;
            assert_eq!(due(link.socket.frame()).await, ready(id));
            until(&mut events, |event| matches!(event, ServerEvent::Resumed(resumed) if *resumed == id)).await;
            assert_eq!(connection.state(), Some(SessionState::Active));
        }
        link.is_alive().await;
    }

    async fn dmn_11_a_session_without_introductions_is_not_whole(quirks)
        breaks_with [ResumesHalfMadeSessions, ForgetsWhatEndedAway]
    {
        let (mut world, env) = World::new(502);
        let (_server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let (whole, half) = (world.meet(&mut link).await, world.new_session());
        world.exchange(&mut link, half).await;
        let lines = cut(link, &mut events).await;
        let mut link = back(&mut world, lines, true).await;
        let first = [due(link.socket.frame()).await, due(link.socket.frame()).await];
        assert!(first.contains(&ready(whole)), "{first:?}");
        assert!(first.contains(&close_signal(half, Reason::StateLost)), "{first:?}");
        link.is_alive_on(whole).await;
    }

    async fn dmn_11_what_ended_while_away_is_told_first(quirks) breaks_with [ForgetsWhatEndedAway] {
        let (mut world, env) = World::new(503);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let (left, stays) = (world.meet(&mut link).await, world.meet(&mut link).await);
        let lines = cut(link, &mut events).await;
        connection(&server, left).await.close();
        assert_eq!(closed(&mut events, left).await, Cause::Closed);
        let mut link = back(&mut world, lines, true).await;
        let first = [due(link.socket.frame()).await, due(link.socket.frame()).await];
        assert!(first.contains(&ready(stays)), "{first:?}");
        assert!(first.contains(&close_signal(left, Reason::None)), "{first:?}");
    }

    async fn dmn_11_calls_and_subscriptions_go_on(quirks) breaks_with [EndsCallsOnPause] {
        let (mut world, env) = World::new(504);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        let connection = connection(&server, id).await;
        let mut news = connection.subscribe("news.>").unwrap();
        let calling = connection.clone();
        let call = tokio::spawn(async move { calling.call::<_, Value>("ask", 1).await });
        let (method, _, cid) = link.called().await;
        assert_eq!(method, "ask");
        let lines = cut(link, &mut events).await;
        let mut link = back(&mut world, lines, true).await;
        assert_eq!(link.socket.frame().await, ready(id));
        link.answer(cid, json!(42)).await;
        assert_eq!(soon("the answer", call).await.unwrap().expect("the call went on"), json!(42));
        link.event("news.today", json!(3)).await;
        assert_eq!(soon("the event", news.next()).await.unwrap().name(), "news.today");
    }

    async fn dmn_11_answers_and_events_wait_and_leave_in_order(quirks) breaks_with [LosesHeldFrames, SendsHeldNewestFirst] {
        let (mut world, env) = World::new(505);
        let go = Arc::new(Notify::new());
        let waits = go.clone();
        let slow = move |(): (), _: Context| {
            let go = waits.clone();
            async move {
                go.notified().await;
                Ok::<_, HandlerError>("done")
            }
        };
        let server = daemon(&env, quirks).handle("slow", slow).unwrap().start().unwrap();
        let mut events = server.events();
        let mut link = world.go_online(true).await;
        let id = world.meet(&mut link).await;
        let cid = link.request("slow", Value::Null).await;
        link.is_alive().await;
        let connection = connection(&server, id).await;
        let lines = cut(link, &mut events).await;
        connection.emit("first", 1).await.unwrap();
        connection.emit("second", 2).await.unwrap();
        go.notify_one();
        let mut link = back(&mut world, lines, true).await;
        assert_eq!(link.socket.frame().await, ready(id));
        assert_eq!(due(next_event(&mut link)).await, "first");
        assert_eq!(next_event(&mut link).await, "second");
        assert_eq!(link.envelope().await, Envelope::Result { cid, result: Some("\"done\"".into()) });
        link.is_alive().await;
    }

    async fn dmn_11_new_calls_fail_while_paused(quirks) breaks_with [HoldsNewCalls] {
        let (mut world, env) = World::new(506);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        let connection = connection(&server, id).await;
        let lines = cut(link, &mut events).await;
        assert_eq!(code(connection.call::<_, Value>("ask", 1).await), "session_paused");
        let mut link = back(&mut world, lines, true).await;
        assert_eq!(link.socket.frame().await, ready(id));
        link.is_alive().await;
        let again = tokio::spawn(async move { connection.call::<_, Value>("again", 1).await });
        assert_eq!(link.called().await.0, "again");
        drop(again);
    }

    async fn dmn_11_more_than_64_kib_held_back_end_that_session_alone(quirks)
        breaks_with [HoldsWithoutBound, ForgetsWhatEndedAway]
    {
        let (mut world, env) = World::new(507);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let (talks, other) = (world.meet(&mut link).await, world.meet(&mut link).await);
        let connection = connection(&server, talks).await;
        let lines = cut(link, &mut events).await;
        let data = "x".repeat(10_000);
        for _ in 0..6 {
            connection.emit("bulk", &data).await.unwrap();
        }
        assert_eq!(connection.state(), Some(SessionState::Paused), "60 kB may wait");
        let _ = connection.emit("bulk", &data).await;
        assert_eq!(connection.state(), None, "70 kB may not");
        assert!(matches!(closed(&mut events, talks).await, Cause::Overflow(_)));
        let mut link = back(&mut world, lines, true).await;
        let first = [due(link.socket.frame()).await, due(link.socket.frame()).await];
        assert!(first.contains(&close_signal(talks, Reason::Error)), "{first:?}");
        assert!(first.contains(&ready(other)), "{first:?}");
        link.is_alive_on(other).await;
    }

    async fn dmn_12_with_the_scope_sessions_wait_for_the_next_socket(quirks) breaks_with [NeverResumes] {
        let (mut world, env) = World::new(508);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        let lines = cut(link, &mut events).await;
        assert_eq!(due(connection(&server, id)).await.state(), Some(SessionState::Paused));
        let mut link = back(&mut world, lines, true).await;
        assert_eq!(link.socket.frame().await, ready(id));
        link.is_alive().await;
    }

    async fn dmn_12_without_the_scope_a_lost_socket_ends_all_sessions(quirks) breaks_with [ResumesWithoutScope] {
        let (mut world, env) = World::new(509);
        let server = listen(&env, quirks);
        let mut events = server.events();
        let mut link = world.go_online(false).await;
        let ids = [world.meet(&mut link).await, world.meet(&mut link).await];
        let lines = cut(link, &mut events).await;
        for id in ids {
            assert_eq!(due(closed(&mut events, id)).await, Cause::SocketLost { code: None });
        }
        assert!(server.connections().is_empty());
        let mut link = back(&mut world, lines, false).await;
        assert_eq!(link.socket.frame_within(A_MOMENT).await, None, "there is nothing to say");
    }

    async fn dmn_12_the_last_token_decides(quirks) breaks_with [ResumesWithoutScope] {
        let (mut world, env) = World::new(510);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        let lines = cut(link, &mut events).await;
        let mut link = back(&mut world, lines, false).await;
        due(closed(&mut events, id)).await;
        assert!(server.connections().is_empty());
        assert_eq!(link.socket.frame_within(A_MOMENT).await, None, "there is nothing to say");
    }

    async fn dmn_12_resumption_is_asked_for_unless_told_not_to(quirks) breaks_with [] {
        for (resumable, header) in [(true, Some("1")), (false, None)] {
            let (mut world, env) = World::new(511);
            let _server = daemon(&env, quirks).resumable(resumable).start().unwrap();
            assert_eq!(world.api().await.header("x-sideband-resume"), header);
        }
    }
}
