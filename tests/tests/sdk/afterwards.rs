//! What a connection's handler does once its session is over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sideband::{Connection, Error};
use sideband_protocol::wire::ControlCode;
use sideband_tests::script::{World, soon};
use tokio::sync::mpsc;

use crate::support::daemon;

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
