//! An endpoint whose task goes before it has closed, with its runtime or by a panic: nobody waits for it for ever, and everybody is told.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use sideband::{
    Cause, Client, CloseReason, Context, Error, ErrorKind, HandlerError, Lifecycle, Server, ServerEvent, State,
    env::{BoxFuture, BoxStream, Env, Listener, Network, Target},
};
use sideband_tests::script::{Link, World, soon};
use tokio::runtime::{Builder, Runtime};

use crate::support::{account, connect, daemon};

const SHUT_DOWN: Cause = Cause::Stopped("the runtime was shut down");
const PANICKED: Cause = Cause::Bug("its task panicked");

/// Time is virtual, so that whoever waits in vain fails at once.
fn paused() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn threaded() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Something that waits for an endpoint, of which it keeps what it needs.
type Waiter = (&'static str, BoxFuture<'static, Result<(), Error>>);

fn waiter(what: &'static str, future: impl Future<Output = Result<(), Error>> + Send + 'static) -> Waiter {
    (what, Box::pin(future))
}

/// Whether a future that has begun has to wait.
async fn waits(mut future: Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Lets each begin to wait.
async fn wait(waiters: &mut [Waiter]) {
    for (what, waiter) in waiters {
        assert!(waits(Pin::new(waiter)).await, "{what} waits");
    }
}

fn is_told(what: &str, error: &Error, cause: &Cause) {
    assert_eq!(error.cause(), Some(cause), "{what}: {error}");
    let kind = if let Cause::Bug(_) = cause { ErrorKind::Bug } else { ErrorKind::Closed };
    assert_eq!((error.kind(), error.code()), (kind, Some("peer_closed")), "{what}");
    assert!(error.to_string().contains(&cause.to_string()) && !error.is_retryable(), "{what}: {error}");
}

async fn are_told(waiters: Vec<Waiter>, cause: &Cause) {
    for (what, waiter) in waiters {
        is_told(what, &soon(what, waiter).await.unwrap_err(), cause);
    }
}

/// What may wait for a client in any state.
fn waiting_for(client: &Client) -> Vec<Waiter> {
    let of = || client.clone();
    let (call, closed) = (of(), of());
    vec![
        waiter("a call", async move { call.call("m", ()).await }),
        waiter("the end", async move { Err(closed.closed().await.into()) }),
    ]
}

/// All that a client can be asked ends, and says why.
async fn client_is_over(client: &Client, cause: &Cause) {
    let reason = CloseReason::Fatal(cause.clone());
    soon("the close", client.close()).await;
    assert_eq!(soon("the end", client.closed()).await, reason);
    assert_eq!(*client.state().borrow(), State::Closed);
    is_told("ready", &soon("ready", client.when_ready()).await.unwrap_err(), cause);
    is_told("a late call", &soon("a call", client.call::<_, ()>("m", ())).await.unwrap_err(), cause);
    is_told("a late event", &soon("an event", client.emit("e", ())).await.unwrap_err(), cause);
    is_told("a late message", &soon("a message", client.send("app/x", "x")).await.unwrap_err(), cause);
    is_told("a late one", &soon("a receipt", client.send_confirmed("app/x", "x")).await.unwrap_err(), cause);
    assert!(soon("events", client.subscribe(">").unwrap().next()).await.is_none());
    let mut lives = client.events();
    let mut last = None;
    while let Some(event) = soon("an event or the end", lives.next()).await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Lifecycle::Closed(told)) if told == reason));
    assert!(!client.holds_secrets());
}

#[test]
fn client_ends_with_its_runtime_before_it_is_ready() {
    for runtime in [paused(), threaded()] {
        let (client, waiters, _world) = runtime.block_on(async {
            let (mut world, env) = World::new(1);
            let client = connect(&env);
            let call = world.api().await;
            let ready = client.clone();
            let mut waiters = waiting_for(&client);
            waiters.push(waiter("ready", async move { ready.when_ready().await }));
            wait(&mut waiters).await;
            (client, waiters, (world, call))
        });
        drop(runtime);
        paused().block_on(async {
            are_told(waiters, &SHUT_DOWN).await;
            client_is_over(&client, &SHUT_DOWN).await;
        });
    }
}

#[test]
fn client_ends_with_its_runtime_while_it_is_active() {
    for runtime in [paused(), threaded()] {
        let (client, waiters, mut events, mut messages, _world) = runtime.block_on(async {
            let (mut world, env) = World::new(2);
            let client = connect(&env);
            let mut link = world.join().await;
            client.when_ready().await.unwrap();
            let (receipt, events, messages) = (client.clone(), client.subscribe(">").unwrap(), client.messages());
            let mut waiters = waiting_for(&client);
            waiters.push(waiter("a receipt", async move { receipt.send_confirmed("app/x", "x").await }));
            wait(&mut waiters).await;
            assert_eq!(link.called().await.0, "m");
            assert!(client.holds_secrets());
            (client, waiters, events, messages, (world, link))
        });
        drop(runtime);
        paused().block_on(async {
            are_told(waiters, &SHUT_DOWN).await;
            assert!(soon("events", events.next()).await.is_none());
            assert!(soon("messages", messages.next()).await.is_none());
            client_is_over(&client, &SHUT_DOWN).await;
        });
    }
}

/// Who waits for room to send is let go too.
#[test]
fn sender_that_waits_for_room_ends_with_the_runtime() {
    let runtime = paused();
    let (mut sender, _held) = runtime.block_on(async {
        let (mut world, env) = World::new(3);
        let client = connect(&env);
        let link = world.join().await;
        client.when_ready().await.unwrap();
        let mut sender: Pin<Box<dyn Future<Output = Error> + Send>> = Box::pin({
            let client = client.clone();
            async move {
                loop {
                    if let Err(error) = client.emit("much", "x".repeat(60_000)).await {
                        break error;
                    }
                }
            }
        });
        // The relay reads nothing: in the end the sender waits.
        let patience = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(patience, sender.as_mut()).await.is_err());
        (sender, (world, link, client))
    });
    drop(runtime);
    let error = paused().block_on(async { soon("the sender's end", sender.as_mut()).await });
    is_told("an event", &error, &SHUT_DOWN);
}

/// A user who has closed it sees that it closed, also if nobody was left to say goodbye.
#[test]
fn client_that_was_closed_first_is_closed() {
    for begun in [false, true] {
        let runtime = paused();
        let (client, _held) = runtime.block_on(async {
            let (mut world, env) = World::new(4);
            let client = connect(&env);
            let link = world.join().await;
            client.when_ready().await.unwrap();
            assert!(waits(pin!(client.close())).await);
            if begun {
                // The goodbye is being said; the relay does not leave.
                client.closed().await;
            }
            (client, (world, link))
        });
        drop(runtime);
        paused().block_on(async {
            soon("the close", client.close()).await;
            assert_eq!(soon("the end", client.closed()).await, CloseReason::ByUser);
            let late = client.call::<_, ()>("m", ()).await.unwrap_err().to_string();
            assert_eq!(late, "the call of `m` failed: the client is closed: closed by this side");
        });
    }
}

/// All that a server can be asked ends, and says why.
async fn server_is_over(server: &Server, cause: &Cause, was_online: bool) {
    soon("the close", server.close()).await;
    assert_eq!(soon("the end", server.ended()).await, *cause);
    assert!(!server.is_online() && server.connections().is_empty());
    is_told("online", &soon("online", server.when_online()).await.unwrap_err(), cause);
    let mut lives = server.events();
    let mut told = Vec::new();
    while let Some(event) = soon("an event or the end", lives.next()).await {
        told.push(event);
    }
    assert_eq!(matches!(told.first(), Some(ServerEvent::Online)), was_online);
    assert!(matches!(told.last(), Some(ServerEvent::Ended(ended)) if ended == cause));
    assert!(!server.holds_secrets());
}

#[test]
fn daemon_ends_with_its_runtime_before_it_is_online() {
    for runtime in [paused(), threaded()] {
        let (server, waiters, _world) = runtime.block_on(async {
            let (mut world, env) = World::new(5);
            let listening = daemon(&env).listen();
            let server = daemon(&env).start().unwrap();
            let (online, ended) = (server.clone(), server.clone());
            let mut waiters = vec![
                waiter("listen", async move { listening.await.map(drop) }),
                waiter("online", async move { online.when_online().await }),
                waiter("the end", async move { Err(Error::Failed(ended.ended().await)) }),
            ];
            wait(&mut waiters).await;
            let calls = (world.api().await, world.api().await);
            (server, waiters, (world, calls))
        });
        drop(runtime);
        paused().block_on(async {
            are_told(waiters, &SHUT_DOWN).await;
            server_is_over(&server, &SHUT_DOWN, false).await;
        });
    }
}

#[test]
fn daemon_ends_with_its_runtime_while_it_serves() {
    for runtime in [paused(), threaded()] {
        let (server, connections, waiters, _world) = runtime.block_on(async {
            let (mut world, env) = World::new(6);
            let never = |(): (), _: Context| std::future::pending::<Result<(), HandlerError>>();
            let server = daemon(&env).handle("never", never).unwrap().start().unwrap();
            let mut link: Link = world.go_online(true).await;
            for _ in 0..2 {
                let id = world.meet(&mut link).await;
                link.request_on(id, "never", ().into()).await;
                link.is_alive_on(id).await;
            }
            let connections = server.connections();
            let (calls, over) = (connections[0].clone(), connections[1].clone());
            let ended = server.clone();
            let mut waiters = vec![
                waiter("a call", async move { calls.call("ask", ()).await }),
                waiter("the session's end", async move {
                    over.closed().await;
                    over.call("ask", ()).await
                }),
                waiter("the end", async move { Err(Error::Failed(ended.ended().await)) }),
            ];
            wait(&mut waiters).await;
            assert!(server.holds_secrets());
            (server, connections, waiters, (world, link))
        });
        drop(runtime);
        paused().block_on(async {
            are_told(waiters, &SHUT_DOWN).await;
            for connection in &connections {
                soon("the session's end", connection.closed()).await;
                assert_eq!(connection.state(), None);
                assert!(soon("events", connection.subscribe(">").unwrap().next()).await.is_none());
                is_told("an event", &soon("an event", connection.emit("e", ())).await.unwrap_err(), &SHUT_DOWN);
            }
            server_is_over(&server, &SHUT_DOWN, true).await;
        });
    }
}

/// A runtime that is shut down before the endpoint's task had its first turn.
#[test]
fn endpoint_that_never_ran_is_over() {
    let runtime = paused();
    let (_world, env) = World::new(7);
    let (client, server) = {
        let _entered = runtime.enter();
        (connect(&env), daemon(&env).start().unwrap())
    };
    drop(runtime);
    paused().block_on(async {
        client_is_over(&client, &SHUT_DOWN).await;
        server_is_over(&server, &SHUT_DOWN, false).await;
    });
}

/// A network with a bug.
struct Broken;

impl Network for Broken {
    fn connect<'a>(&'a self, _: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async { panic!("no cable") })
    }
    fn bind(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

fn broken(env: &Env) -> Env {
    Env { network: Arc::new(Broken), ..env.clone() }
}

#[tokio::test(start_paused = true)]
async fn client_whose_task_panics_is_over() {
    let (mut world, env) = World::new(8);
    let client = account(&broken(&env)).connect().unwrap();
    let call = world.api();
    let mut waiters = waiting_for(&client);
    wait(&mut waiters).await;
    let id = sideband_tests::script::session(1);
    call.await.ok(sideband_tests::script::grant(sideband_tests::script::DAEMON, id));
    are_told(waiters, &PANICKED).await;
    client_is_over(&client, &PANICKED).await;
}

#[tokio::test(start_paused = true)]
async fn daemon_whose_task_panics_is_over() {
    let (mut world, env) = World::new(9);
    let server = daemon(&broken(&env)).start().unwrap();
    world.renew(true).await;
    is_told("online", &soon("online", server.when_online()).await.unwrap_err(), &PANICKED);
    server_is_over(&server, &PANICKED, false).await;
}
