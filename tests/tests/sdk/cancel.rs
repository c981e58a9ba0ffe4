//! What becomes of futures that are dropped before they are ready.

use futures_util::FutureExt;
use serde_json::json;
use sideband::{CloseReason, Lifecycle, ServerEvent, State};
use sideband_protocol::failure::Cause;
use sideband_tests::script::{World, soon};

use crate::support::{connect, daemon};

/// Whoever gives up waiting for a goodbye has closed all the same.
#[tokio::test(start_paused = true)]
async fn cli_14_dmn_16_closing_goes_on_without_who_began_it() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let mut link = world.join().await;
    assert!(client.close().now_or_never().is_none(), "there is a goodbye to say");
    soon("the goodbye", link.socket.end()).await;
    assert_eq!(soon("the end", client.closed()).await, CloseReason::ByUser);

    let server = daemon(&env).start().unwrap();
    let mut link = world.go_online(true).await;
    server.when_online().await.unwrap();
    assert!(server.close().now_or_never().is_none(), "there is a goodbye to say");
    soon("the goodbye", link.socket.end()).await;
    assert_eq!(soon("the end", server.ended()).await, Cause::Closed);

    // Not even begun.
    let client = connect(&env);
    drop(client.close());
    let _link = world.join().await;
    client.when_ready().await.unwrap();
}

/// Waiting again after each wait that was given up finds what came meanwhile, once.
#[tokio::test(start_paused = true)]
async fn waits_that_are_given_up_lose_nothing() {
    let (mut world, env) = World::new(2);
    let client = connect(&env);
    let mut events = client.events();
    let (mut ticks, mut messages) = (client.subscribe("tick").unwrap(), client.messages());
    let waits = || [client.when_ready().now_or_never().is_some(), client.closed().now_or_never().is_some()];
    assert_eq!(waits(), [false, false]);
    assert!(ticks.next().now_or_never().is_none() && messages.next().now_or_never().is_none());
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    assert_eq!(waits(), [true, false]);
    for n in 0..3 {
        assert!(ticks.next().now_or_never().is_none(), "before {n}");
        link.event("tick", json!(n)).await;
        assert_eq!(ticks.next().await.unwrap().data::<i32>().unwrap(), n);
    }
    let mut states = Vec::new();
    while let Some(event) = events.next().now_or_never() {
        if let Some(Lifecycle::State(state)) = event {
            states.push(state);
        }
    }
    assert_eq!(states, [State::Connecting, State::Negotiating, State::Active]);
    client.close().await;
    assert_eq!(waits(), [true, true]);

    let server = daemon(&env).start().unwrap();
    let mut events = server.events();
    assert!(events.next().now_or_never().is_none() && server.when_online().now_or_never().is_none());
    let _link = world.go_online(true).await;
    server.when_online().await.unwrap();
    assert!(matches!(events.next().await, Some(ServerEvent::Online)));
    assert!(server.ended().now_or_never().is_none());
    server.close().await;
    assert_eq!(server.ended().now_or_never(), Some(Cause::Closed));
}
