//! What handlers do once their session is over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use sideband::{Connection, Context, Error, HandlerError};
use sideband_protocol::wire::ControlCode;
use sideband_tests::script::{World, soon};
use tokio::sync::mpsc;

use crate::support::{account, daemon};

/// Tasks of this runtime that have not ended.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// DMN-15: however its session ends, the handler learns of it and may put things in order, waiting included.
#[tokio::test(start_paused = true)]
async fn dmn_15_a_connection_handler_goes_on_after_its_session() {
    for end in ["the client leaves", "the connection is closed", "the server is closed", "the server is dropped"] {
        let (mut world, env) = World::new(1);
        let (told, mut heard) = mpsc::unbounded_channel();
        let server = daemon(&env)
            .on_connection(move |connection: Connection| {
                let told = told.clone();
                async move {
                    let mut events = connection.subscribe(">")?;
                    connection.closed().await;
                    assert!(events.next().await.is_none());
                    told.send("it is over").unwrap();
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    told.send("all is in order").unwrap();
                    Ok::<_, Error>(())
                }
            })
            .start()
            .unwrap();
        let mut link = world.go_online(true).await;
        let id = world.meet(&mut link).await;
        link.is_alive_on(id).await;
        match end {
            "the client leaves" => link.socket.control(ControlCode::SessionEnded, Some(id)).await,
            "the connection is closed" => server.connections()[0].close(),
            "the server is closed" => {
                // The relay leaves as it is told.
                let (socket, _) = link.into_parts();
                drop(socket);
                server.close().await;
            }
            _ => drop(server),
        }
        assert_eq!(soon(end, heard.recv()).await, Some("it is over"), "{end}");
        assert_eq!(soon(end, heard.recv()).await, Some("all is in order"), "{end}");
    }
}

/// One that does not come to its end is stopped, however many there are; each had its turn.
#[tokio::test(start_paused = true)]
async fn dmn_15_a_connection_handler_that_goes_on_for_ever_is_stopped() {
    const SESSIONS: usize = 1_100;
    let (mut world, env) = World::new(2);
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = turns.clone();
    let server = daemon(&env)
        .on_connection(move |connection: Connection| {
            let turns = counted.clone();
            async move {
                connection.closed().await;
                turns.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<Result<(), Error>>().await
            }
        })
        .start()
        .unwrap();
    let mut link = world.go_online(true).await;
    for _ in 0..SESSIONS {
        world.meet(&mut link).await;
    }
    let last = world.meet(&mut link).await;
    link.is_alive_on(last).await;
    drop(link);
    server.close().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(turns.load(Ordering::SeqCst), SESSIONS + 1);
    let left = tasks();
    assert!((1_000..=1_024).contains(&left), "{left} handlers go on for a while");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(tasks(), 0, "they were stopped");
}

/// RPC-06: what answers a call is stopped with the session, at either end; what it spawned comes to its end.
#[tokio::test(start_paused = true)]
async fn rpc_06_only_what_a_handler_spawned_goes_on_after_its_session() {
    for ends in ["the daemon's", "the client's"] {
        let (mut world, env) = World::new(3);
        let (told, mut heard) = mpsc::unbounded_channel();
        let answer = move |(): (), _: Context| {
            let (spawned, own) = (told.clone(), told.clone());
            async move {
                let takes = Duration::from_secs(1);
                let finished = tokio::spawn(async move {
                    tokio::time::sleep(takes).await;
                    spawned.send("spawned").unwrap();
                });
                own.send("called").unwrap();
                finished.await?;
                own.send("the handler's own").unwrap();
                Ok::<_, HandlerError>(())
            }
        };
        let (mut link, held): (_, Box<dyn std::any::Any>) = if ends == "the daemon's" {
            let server = daemon(&env).handle("m", answer).unwrap().start().unwrap();
            let mut link = world.go_online(true).await;
            world.meet(&mut link).await;
            (link, Box::new(server))
        } else {
            let client = account(&env).handle("m", answer).unwrap().connect().unwrap();
            (world.join().await, Box::new(client))
        };
        link.request("m", json!(null)).await;
        assert_eq!(soon(ends, heard.recv()).await, Some("called"), "{ends}");
        let id = link.session();
        link.socket.control(ControlCode::SessionEnded, Some(id)).await;
        assert_eq!(soon(ends, heard.recv()).await, Some("spawned"), "{ends}");
        drop((held, link, world));
        assert_eq!(soon(ends, heard.recv()).await, None, "{ends}");
    }
}
