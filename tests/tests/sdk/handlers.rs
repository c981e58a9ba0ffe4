//! Handlers that are there before anything can come.

use std::sync::{Arc, Mutex};

use serde_json::json;
use sideband::{Connection, Context, HandlerError};
use sideband_protocol::rpc::Envelope;
use sideband_tests::script::{Link, World, soon};

use crate::support::{account, daemon};

async fn result(link: &mut Link) -> serde_json::Value {
    match link.envelope().await {
        Envelope::Result { result, .. } => serde_json::from_slice(&result.unwrap()).unwrap(),
        other => panic!("a result was due, not {other:?}"),
    }
}

/// CLI-03: what is registered on the builder is there before the connection stands.
#[tokio::test(start_paused = true)]
async fn cli_03_handlers_of_the_builder_miss_nothing() {
    let (mut world, env) = World::new(1);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = heard.clone();
    let client = account(&env)
        .handle("twice", |n: u32, _: Context| async move { Ok::<_, HandlerError>(n * 2) })
        .unwrap()
        .on("news.>", move |event| {
            list.lock().unwrap().push(event.name().to_owned());
            async {}
        })
        .unwrap()
        .introspection()
        .unwrap()
        .connect()
        .unwrap();
    for _ in 0..2 {
        let mut link = world.join().await;
        link.event("news.first", json!(1)).await;
        link.request("twice", json!(21)).await;
        assert_eq!(result(&mut link).await, json!(42));
        link.request("$sideband/rpc.list", json!(null)).await;
        assert_eq!(
            result(&mut link).await,
            json!({ "methods": ["$sideband/rpc.describe", "$sideband/rpc.list", "twice"] })
        );
        link.socket.cut();
    }
    assert_eq!(*heard.lock().unwrap(), ["news.first", "news.first"]);
    drop(client);
}

/// What a client sends right behind its introduction waits for the connection's handler to register for it.
#[tokio::test(start_paused = true)]
async fn dmn_15_a_connection_handler_misses_nothing_that_comes_first() {
    let (mut world, env) = World::new(1);
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let serve = move |connection: Connection| {
        let told = told.clone();
        async move {
            connection.handle("late", |n: u32, _: Context| async move { Ok::<_, HandlerError>(n + 1) })?;
            let mut events = connection.subscribe(">")?;
            let mut messages = connection.messages();
            while let Some(event) = events.next().await {
                told.send(event.name().to_owned()).unwrap();
                if event.name() == "last" {
                    told.send(messages.next().await.unwrap().0).unwrap();
                }
            }
            Ok::<_, sideband::Error>(())
        }
    };
    let server = daemon(&env).on_connection(serve).start().unwrap();
    let mut link = world.go_online(true).await;
    let id = world.new_session();
    world.exchange(&mut link, id).await;
    // All of it is on the wire before the daemon can run anything.
    let hello = link.line().seal_body(sideband_tests::script::hello());
    let first = link.line().seal_body(sideband_tests::script::event("first", &json!(1)));
    let app = link.line().seal_body(sideband_tests::script::message("app/x", b"raw"));
    let last = link.line().seal_body(sideband_tests::script::event("last", &json!(2)));
    for frame in [&hello, &first, &app, &last] {
        link.socket.send(frame).await;
    }
    link.request("late", json!(41)).await;
    assert!(matches!(link.heard().await.body, sideband_protocol::sbp::FrameBody::Handshake(_)));
    assert_eq!(result(&mut link).await, json!(42));
    for expected in ["first", "last", "app/x"] {
        assert_eq!(soon(expected, heard.recv()).await.as_deref(), Some(expected));
    }
    server.close().await;
}

/// A connection handler that panics before it waits for anything ends its session, and what was kept for it goes nowhere.
#[tokio::test(start_paused = true)]
async fn dmn_15_a_connection_handler_that_panics_at_once_ends_its_session_only() {
    let (mut world, env) = World::new(1);
    let serve = |connection: Connection| async move {
        assert!(connection.session().get().is_multiple_of(2), "odd");
        connection.closed().await;
        Ok::<_, sideband::Error>(())
    };
    let server = daemon(&env).on_connection(serve).start().unwrap();
    let mut link = world.go_online(true).await;
    let odd = world.meet(&mut link).await;
    let frame = link.socket.frame().await;
    assert_eq!(frame.session(), odd.get());
    let frame = if let sideband_protocol::wire::Frame::Data { .. } = frame { link.socket.frame().await } else { frame };
    assert!(matches!(frame, sideband_protocol::wire::Frame::Signal { .. }), "{frame:?}");
    let even = world.meet(&mut link).await;
    link.is_alive_on(even).await;
    assert_eq!(server.connections().len(), 1);
}

/// CLI-12: the first who asks misses nothing, however late; who asks next hears what is new.
#[tokio::test(start_paused = true)]
async fn cli_12_the_first_who_asks_for_events_is_told_everything() {
    let (mut world, env) = World::new(1);
    let client = account(&env).connect().unwrap();
    let link = world.join().await;
    client.when_ready().await.unwrap();
    let (mut all, mut new) = (client.events(), client.events());
    link.socket.cut();
    let mut told = Vec::new();
    loop {
        let event = soon("an event", all.next()).await.unwrap();
        told.push(format!("{event:?}").split(['(', ' ']).next().unwrap().to_owned());
        if told.last().unwrap() == "Retrying" {
            break;
        }
    }
    assert_eq!(told, ["State", "State", "State", "Connected", "Disconnected", "State", "Retrying"]);
    assert!(matches!(soon("an event", new.next()).await, Some(sideband::Lifecycle::Disconnected(_))));

    let (mut world, env) = World::new(2);
    let server = daemon(&env).start().unwrap();
    let _link = world.go_online(true).await;
    server.when_online().await.unwrap();
    assert!(matches!(soon("an event", server.events().next()).await, Some(sideband::ServerEvent::Online)));
}

/// DMN-05: cancelling before the first connection fails at once and leaves nothing; later it has no effect.
#[tokio::test(start_paused = true)]
async fn dmn_05_listen_unless_cancels_before_the_first_connection_only() {
    let (mut world, env) = World::new(1);
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let listening = tokio::spawn(daemon(&env).listen_unless(async { drop(cancelled.await) }));
    let mut call = world.api().await;
    cancel.send(()).unwrap();
    let error = soon("the end", listening).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.kind()), (Some("cancelled"), sideband::ErrorKind::Closed));
    call.given_up().await;

    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let listening = tokio::spawn(daemon(&env).listen_unless(async { drop(cancelled.await) }));
    let mut link = world.go_online(true).await;
    let server = soon("online", listening).await.unwrap().unwrap();
    drop(cancel);
    let id = world.meet(&mut link).await;
    link.is_alive_on(id).await;
    assert!(server.is_online());
}

/// CLI-09, CLI-10, DMN-07: the bounds are the user's to set.
#[tokio::test(start_paused = true)]
async fn cli_09_cli_10_buffers_are_adjustable() {
    let (mut world, env) = World::new(1);
    let client = account(&env).buffered_bytes(100).buffered_events(1).connect().unwrap();
    let error = client.call::<_, ()>("m", "x".repeat(100)).await.unwrap_err();
    assert_eq!(error.code(), Some("buffer_overflow"));
    client.emit("old", 1).await.unwrap();
    client.emit("new", 2).await.unwrap();
    let mut link = world.join().await;
    let sideband_protocol::rpc::Envelope::Event { name, .. } = link.envelope().await else { panic!("no event") };
    assert_eq!(name, "new");
    link.is_alive().await;
}
