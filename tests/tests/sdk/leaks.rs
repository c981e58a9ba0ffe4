//! Nothing is left behind: tasks, keys and whatever else an endpoint holds end with its last handle.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sideband::{
    CloseReason, Connection, Context, HandlerError, OnDisconnect,
    protocol::wire::{ControlCode, close},
};
use sideband_env::Env;
use sideband_tests::script::{World, soon};

use crate::support::{account, connect, daemon};

/// Tasks of this runtime that have not ended.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until no task is left, and nothing of the endpoint holds its environment: with the driver's task go the machine, its
/// sessions and their keys, which are wiped when they are dropped.
async fn nothing_is_left(env: &Env, what: &str) {
    let gone = async {
        while tasks() > 0 || Arc::strong_count(&env.network) > 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(5), gone).await;
    assert!(ended.is_ok(), "{what}: {} tasks, {} holders", tasks(), Arc::strong_count(&env.network));
}

/// CLI-14: whatever a client is doing when its last handle goes, it ends.
#[tokio::test(start_paused = true)]
async fn cli_14_dropping_the_last_handle_ends_a_client_in_every_state() {
    for state in ["calling the API", "dialling", "negotiating", "asking", "active", "paused", "waiting for a retry"] {
        let (mut world, env) = World::new(1);
        let builder = account(&env).on_disconnect(OnDisconnect::Pause);
        let builder = if state == "asking" {
            builder.prompt(|_| std::future::pending(), |_, _| std::future::pending())
        } else {
            builder
        };
        let client = builder.connect().unwrap();
        client.on(">", |_| async {}).unwrap();
        client.handle("never", |(): (), _: Context| std::future::pending::<Result<(), HandlerError>>()).unwrap();
        let call = tokio::spawn({
            let peer: sideband::Peer = (*client).clone();
            async move { peer.call::<_, ()>("m", ()).await.unwrap_err().code() }
        });
        // What must outlive the drop, as the other side does.
        let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
        match state {
            "calling the API" => held.push(Box::new(world.api().await)),
            "dialling" => {
                world.grant().await;
                held.push(Box::new(world.dial().await));
            }
            "negotiating" => held.push(Box::new(world.client_socket().await)),
            "asking" => held.push(Box::new(world.client_keys().await)),
            "active" | "paused" => {
                let mut link = world.join().await;
                link.called().await;
                link.request("never", json!(null)).await;
                link.is_alive().await;
                if state == "paused" {
                    let id = link.session();
                    link.socket.control(sideband::protocol::wire::ControlCode::SessionPaused, Some(id)).await;
                    let mut states = client.state();
                    soon("paused", states.wait_for(|state| *state == sideband::State::Paused)).await.unwrap();
                }
                held.push(Box::new(link));
            }
            _ => world.api().await.refuse(500),
        }
        drop(client);
        assert_eq!(soon("the call's end", call).await.unwrap(), Some("peer_closed"), "{state}");
        nothing_is_left(&env, state).await;
    }
}

/// DMN-16: a daemon ends with its last handle, with sessions, handlers that run and calls under way.
#[tokio::test(start_paused = true)]
async fn dmn_16_dropping_the_last_handle_ends_a_daemon_in_every_state() {
    for state in ["getting a token", "dialling", "online", "with sessions", "offline"] {
        let (mut world, env) = World::new(1);
        let server = daemon(&env)
            .handle("never", |(): (), _: Context| std::future::pending::<Result<(), HandlerError>>())
            .unwrap()
            .on_connection(|connection: Connection| async move {
                connection.on(">", |_| async {})?;
                connection.call::<_, ()>("m", ()).await
            })
            .start()
            .unwrap();
        let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
        match state {
            "getting a token" => held.push(Box::new(world.api().await)),
            "dialling" => {
                world.renew(true).await;
                held.push(Box::new(world.dial().await));
            }
            "online" => held.push(Box::new(world.go_online(true).await)),
            _ => {
                let mut link = world.go_online(true).await;
                for _ in 0..3 {
                    let id = world.meet(&mut link).await;
                    link.called_on(id).await;
                    link.request_on(id, "never", json!(null)).await;
                    link.is_alive_on(id).await;
                }
                if state == "offline" {
                    let mut events = server.events();
                    let (socket, _) = link.into_parts();
                    socket.cut();
                    while !matches!(soon("offline", events.next()).await, Some(sideband::ServerEvent::Retrying { .. }))
                    {
                    }
                } else {
                    held.push(Box::new(link));
                }
            }
        }
        // A connection that somebody keeps holds nothing open.
        let kept = server.connections();
        drop(server);
        drop(kept);
        nothing_is_left(&env, state).await;
    }
}

/// CRY-12: keys go with the end, not with the last handle, and so does all that the driver held.
#[tokio::test(start_paused = true)]
async fn cry_12_client_that_is_over_holds_no_keys_while_handles_live() {
    for fails in [false, true] {
        let (mut world, env) = World::new(1);
        let client = connect(&env);
        let mut link = world.join().await;
        client.when_ready().await.unwrap();
        let peer: sideband::Peer = (*client).clone();
        let held = (client.clone(), peer.clone(), client.events(), peer.subscribe(">").unwrap(), peer.messages());
        assert!(client.holds_secrets());
        if fails {
            link.socket.control(ControlCode::Forbidden, None).await;
            assert!(matches!(soon("the end", client.closed()).await, CloseReason::Fatal(_)));
        } else {
            client.close().await;
        }
        assert!(!client.holds_secrets(), "fails: {fails}");
        nothing_is_left(&env, "a client that is over").await;
        drop(held);
    }
}

/// CRY-12, DMN-10: of a session with its end, of the daemon with its own, whoever holds connections and the server.
#[tokio::test(start_paused = true)]
async fn cry_12_daemon_that_is_over_holds_no_keys_while_handles_live() {
    for fails in [false, true] {
        let (mut world, env) = World::new(1);
        let server = daemon(&env).start().unwrap();
        let mut link = world.go_online(true).await;
        for _ in 0..2 {
            world.meet(&mut link).await;
        }
        let connections = server.connections();
        let peers: Vec<sideband::Peer> = connections.iter().map(|connection| (**connection).clone()).collect();
        let held = (server.clone(), server.events(), connections[0].subscribe(">").unwrap(), peers);
        assert!(server.holds_secrets());
        let (socket, _) = link.into_parts();
        if fails {
            socket.close(close::REPLACED).await;
            let lost = sideband::Cause::SocketLost { code: Some(close::REPLACED) };
            assert_eq!(soon("the end", server.ended()).await, lost);
        } else {
            server.close().await;
        }
        assert!(!server.holds_secrets(), "fails: {fails}");
        assert!(connections.iter().all(|connection| connection.state().is_none()));
        // The server's own one makes Quick Connect codes; the rest is gone.
        soon("the tasks' end", async {
            while tasks() > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        assert_eq!(Arc::strong_count(&env.network), 2, "fails: {fails}");
        drop(held);
    }
}

/// RPC-05: a call whose future is dropped frees its place, waiting or sent; a late answer is dropped.
#[tokio::test(start_paused = true)]
async fn rpc_05_a_dropped_call_frees_its_place() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    // More than the buffer takes, one after the other: each gives its room back.
    let large = "x".repeat(40_000);
    for _ in 0..10 {
        let call = client.call::<_, ()>("waits", &large);
        assert!(tokio::time::timeout(Duration::from_millis(1), call).await.is_err(), "it waits for a session");
    }
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    let call = client.call::<_, u32>("sent", ());
    assert!(tokio::time::timeout(Duration::from_millis(1), call).await.is_err());
    let (method, _, cid) = link.called().await;
    assert_eq!(method, "sent", "none of the dropped calls was sent");
    link.answer(cid, json!(1)).await;
    link.is_alive().await;
    let call = client.call::<_, u32>("next", ());
    let answer = async {
        let (_, _, cid) = link.called().await;
        link.answer(cid, json!(2)).await;
    };
    assert_eq!(tokio::join!(call, answer).0.unwrap(), 2);
}

/// A handler that holds its own connection does not keep it alive once the session is over, nor does one that is registered later.
#[tokio::test(start_paused = true)]
async fn dmn_10_handlers_that_hold_their_connection_end_with_it() {
    let (mut world, env) = World::new(1);
    let probe = Arc::new(());
    let held = probe.clone();
    let server = daemon(&env)
        .on_connection(move |connection: Connection| {
            let held = held.clone();
            async move {
                let (own, kept) = (connection.clone(), held.clone());
                connection.handle("m", move |(): (), _: Context| {
                    let _holds = (own.clone(), kept.clone());
                    async { Ok::<_, HandlerError>(()) }
                })?;
                Ok::<_, sideband::Error>(())
            }
        })
        .start()
        .unwrap();
    let mut link = world.go_online(true).await;
    let gone = world.meet(&mut link).await;
    link.is_alive_on(gone).await;
    let late = server.connections().remove(0);
    assert_eq!(Arc::strong_count(&probe), 3);
    link.socket.control(sideband::protocol::wire::ControlCode::SessionEnded, Some(gone)).await;
    soon("the session's end", late.closed()).await;
    let (own, kept) = (late.clone(), probe.clone());
    late.handle("late", move |(): (), _: Context| {
        let _holds = (own.clone(), kept.clone());
        async { Ok::<_, HandlerError>(()) }
    })
    .unwrap();
    assert_eq!(Arc::strong_count(&probe), 2, "only the builder's and the test's are left");
    server.close().await;
}

/// What a session's calls started ends with it: a daemon that calls and leaves, again and again, piles nothing up.
#[tokio::test(start_paused = true)]
async fn rpc_06_handlers_of_a_lost_session_are_stopped() {
    let (mut world, env) = World::new(1);
    let client = account(&env)
        .handle("never", |(): (), _: Context| std::future::pending::<Result<(), HandlerError>>())
        .unwrap()
        .connect()
        .unwrap();
    let mut idle = 0;
    for round in 0..5 {
        let mut link = world.join().await;
        for _ in 0..100 {
            link.request("never", json!(null)).await;
        }
        link.is_alive().await;
        link.socket.cut();
        // The next attempt: whatever is left now is left for good.
        let call = world.api().await;
        if round == 0 {
            idle = tasks();
        }
        assert!(tasks() <= idle, "{} tasks, {idle} after the first round", tasks());
        assert!(idle < 20, "{idle} tasks are left of one session");
        call.refuse(503);
    }
    client.close().await;
}

/// The streams of events end with what they tell of, while handles live, and for who asks afterwards.
#[tokio::test(start_paused = true)]
async fn cli_14_streams_of_events_end() {
    let (mut world, env) = World::new(1);
    let client = connect(&env);
    let (mut first, mut second) = (client.events(), client.events());
    drop(world.api().await);
    client.close().await;
    for events in [&mut first, &mut second, &mut client.events()] {
        while soon("an event or the end", events.next()).await.is_some() {}
        assert!(events.next().await.is_none());
    }
    let (mut world, env) = World::new(2);
    let server = daemon(&env).start().unwrap();
    let _link = world.go_online(true).await;
    let mut first = server.events();
    server.close().await;
    for events in [&mut first, &mut server.events()] {
        while soon("an event or the end", events.next()).await.is_some() {}
        assert!(events.next().await.is_none());
    }
}
