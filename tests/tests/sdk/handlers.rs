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
        assert!(connection.session().get() % 2 == 0, "odd");
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
