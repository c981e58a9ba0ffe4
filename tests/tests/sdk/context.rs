//! What a handler knows of its call, and what it reaches.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sideband::{Context, HandlerError, SessionId, WeakServer};
use sideband_protocol::rpc::Envelope;
use sideband_tests::script::{Link, World, soon};

use crate::support::{account, daemon};

async fn result(link: &mut Link, id: SessionId) -> Value {
    match link.envelope_on(id).await {
        Envelope::Result { result, .. } => serde_json::from_slice(&result.unwrap()).unwrap(),
        other => panic!("a result was due, not {other:?}"),
    }
}

/// DMN-14: a handler of the whole daemon knows which session calls, and reaches all of them.
#[tokio::test(start_paused = true)]
async fn dmn_14_a_handler_of_the_daemon_knows_who_calls_and_reaches_all() {
    let (mut world, env) = World::new(1);
    let say = |text: String, context: Context| async move {
        let session = context.session().ok_or("no session")?;
        let server = context.server().ok_or("no server")?;
        let connection = context.connection().ok_or("no connection")?;
        assert_eq!((connection.session(), Some(connection.peer_id())), (session, context.peer_id()));
        assert!(*connection == *context.peer() && server.connection(session).is_some_and(|its| *its == *connection));
        assert!(connection.server().is_some());
        server.broadcast("chat.said", (session.get(), text)).await?;
        Ok::<_, HandlerError>((session.get(), connection.peer_id().to_owned()))
    };
    let server = daemon(&env).handle("say", say).unwrap().start().unwrap();
    let mut link = world.go_online(true).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = world.meet(&mut link).await;
        link.is_alive_on(id).await;
        ids.push(id);
    }
    for caller in ids.clone() {
        link.request_on(caller, "say", json!("hello")).await;
        let (mut heard, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (id, frame) = link.heard_any().await;
            match sideband_tests::script::envelope_of(&frame) {
                Some(Envelope::Event { name, data }) => {
                    let data: (u64, String) = serde_json::from_slice(&data.unwrap()).unwrap();
                    assert_eq!((&name[..], data), ("chat.said", (caller.get(), "hello".to_owned())));
                    heard.push(id);
                }
                Some(Envelope::Result { result, .. }) => answers.push((id, result.unwrap())),
                other => panic!("{other:?}"),
            }
        }
        heard.sort_unstable();
        assert_eq!(heard, ids, "all of them");
        let [(id, answer)] = &answers[..] else { panic!("{answers:?}") };
        let peer_id = server.connection(caller).unwrap().peer_id().to_owned();
        assert_eq!(serde_json::from_slice::<(u64, String)>(answer).unwrap(), (caller.get(), peer_id));
        assert_eq!(*id, caller);
    }
}

/// At a client there is one daemon, and nobody to tell apart.
#[tokio::test(start_paused = true)]
async fn a_handler_of_a_client_stands_in_no_session() {
    let (mut world, env) = World::new(1);
    let ask = |(): (), context: Context| async move {
        let none = context.session().is_none() && context.peer_id().is_none();
        Ok::<_, HandlerError>(none && context.connection().is_none() && context.server().is_none())
    };
    let client = account(&env).handle("ask", ask).unwrap().connect().unwrap();
    let mut link = world.join().await;
    client.when_ready().await.unwrap();
    link.request("ask", json!(null)).await;
    let id = link.session();
    assert_eq!(result(&mut link, id).await, json!(true));
}

/// A handler that keeps its daemon weakly lets it close with its last handle, and finds nothing then.
#[tokio::test(start_paused = true)]
async fn dmn_05_a_weak_server_keeps_nothing_open() {
    let (mut world, env) = World::new(1);
    let kept: Arc<Mutex<Option<WeakServer>>> = Arc::default();
    let keeps = kept.clone();
    let ask = move |(): (), context: Context| {
        let server = keeps.lock().unwrap().clone();
        async move {
            Ok::<_, HandlerError>(server.and_then(|server| server.upgrade()).is_some() && context.server().is_some())
        }
    };
    let server = daemon(&env).handle("ask", ask).unwrap().start().unwrap();
    *kept.lock().unwrap() = Some(server.downgrade());
    let mut link = world.go_online(true).await;
    let id = world.meet(&mut link).await;
    link.request_on(id, "ask", json!(null)).await;
    assert_eq!(result(&mut link, id).await, json!(true));
    let (mut life, connection) = (server.events(), server.connections().remove(0));
    drop(server);
    assert!(kept.lock().unwrap().as_ref().unwrap().upgrade().is_none() && connection.server().is_none());
    while soon("an event or the end", life.next()).await.is_some() {}
    soon("the session's end", connection.closed()).await;
}
