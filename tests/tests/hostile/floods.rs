//! More than anybody takes: what waits is bounded, time passes, and nobody else pays.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use sideband::Lifecycle;
use sideband_env::Timeline;
use sideband_protocol::{
    client::State,
    peer::Side,
    sbp::FrameBody,
    wire::{Frame, Reason, Signal},
};
use sideband_tests::script::{
    DAEMON, FarClient, Line, Socket, World,
    hostile::{ClientStage, DaemonStage, EVENT, Throw, cause_name, event, throw},
    soon,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    task::coop::{poll_proceed, unconstrained},
};

use crate::{
    client::{fate, is_over},
    daemon::retrying,
    victims::{ClientVictim, Count, DaemonVictim, account, daemon, entropy, frame, moment},
};

/// More Pings than an endpoint may take without getting rid of its Pongs.
const MANY: usize = 400_000;

/// Sends Pings and reads nothing, until the endpoint takes no more. How many it took.
async fn ping_without_reading(socket: &mut Socket) -> usize {
    let ping = Frame::Ping(vec![7; 8].into()).encode();
    for sent in 0..MANY {
        let send = socket.send_bytes(ping.clone());
        if tokio::time::timeout(Duration::from_secs(1), send).await.is_err() {
            return sent;
        }
    }
    panic!("it took {MANY} Pings and kept the answers");
}

#[tokio::test(start_paused = true)]
async fn client_keeps_no_answers_without_bound() {
    let mut victim = ClientVictim::new(30, false);
    let mut scene = victim.bring(ClientStage::Active).await;
    let mut socket = scene.socket.take().unwrap();
    ping_without_reading(&mut socket).await;
    // CLI-13: nothing is heard from a relay that takes nothing.
    assert_eq!(fate(&mut victim).await, Ok("silent".to_owned()));
    victim.recovers().await;
}

#[tokio::test(start_paused = true)]
async fn daemon_keeps_no_answers_without_bound() {
    let (mut victim, mut scene) = DaemonVictim::new(31).await;
    let mut socket = scene.socket.take().unwrap();
    ping_without_reading(&mut socket).await;
    retrying(&mut victim, "silent").await;
    victim.resumes(&mut scene, DaemonStage::Online).await;
    victim.closes().await;
}

/// Who sends in a loop waits for a relay that does not read, also where there is one thread only.
#[tokio::test(start_paused = true)]
async fn sender_waits_for_a_relay_that_does_not_read() {
    let mut victim = ClientVictim::new(46, false);
    let scene = victim.bring(ClientStage::Active).await;
    let (client, sent) = (victim.client.clone(), Count::default());
    let count = sent.clone();
    let sender = tokio::spawn(async move {
        while client.emit("much", "x".repeat(60_000)).await.is_ok() {
            count.add();
            assert!(count.get() < 1_000, "nothing holds it back");
        }
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!sender.is_finished(), "it waits");
    victim.closes().await;
    soon("the sender's end", sender).await.unwrap();
    drop(scene);
}

/// A slow relay is no dead one: once it reads again everything goes on, and each answer comes.
#[tokio::test(start_paused = true)]
async fn client_goes_on_when_a_slow_relay_reads_again() {
    let mut victim = ClientVictim::new(32, false);
    let mut scene = victim.bring(ClientStage::Active).await;
    let mut socket = scene.socket.take().unwrap();
    // The last one is cut short only in the test's patience: it is on its way.
    let taken = ping_without_reading(&mut socket).await;
    let mut pongs = 0;
    while let Some(got) = socket.got_within(Duration::from_secs(1)).await {
        assert!(matches!(got, sideband_tests::script::Got::Message(_)), "{got:?}");
        pongs += 1;
    }
    assert!(pongs >= taken, "{pongs} Pongs for {taken} Pings");
    assert_eq!(victim.state(), State::Active);
    victim.closes().await;
}

/// A connection that from a moment on always has one more frame to read.
struct Endless {
    inner: DuplexStream,
    floods: Arc<AtomicBool>,
    /// A WebSocket message with one SBRP Pong in it.
    message: Vec<u8>,
    at: usize,
}

impl Endless {
    fn new(inner: DuplexStream, floods: Arc<AtomicBool>) -> Self {
        let pong = Frame::Pong(bytes::Bytes::new()).encode();
        let mut message = vec![0x82, pong.len() as u8];
        message.extend_from_slice(&pong);
        Self { inner, floods, message, at: 0 }
    }
}

impl AsyncRead for Endless {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.floods.load(Ordering::SeqCst) {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        // As a real socket does.
        ready!(poll_proceed(cx)).made_progress();
        while buf.remaining() > 0 {
            let at = self.at;
            buf.put_slice(&self.message[at..=at]);
            self.at = (at + 1) % self.message.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// CRY-11: a relay that never stops sending cannot keep the handshake's time from passing.
#[tokio::test(start_paused = true)]
async fn endless_frames_stop_no_clock() {
    let mut victim = ClientVictim::new(33, false);
    victim.world.grant().await;
    let floods = Arc::new(AtomicBool::new(false));
    let flood = floods.clone();
    let stream = victim.world.dial().await.connect_over(|inner| Box::new(Endless::new(inner, flood)));
    let mut socket = Socket::accept(stream).await;
    assert!(matches!(socket.frame().await, Frame::HandshakeInit { .. }));
    floods.store(true, Ordering::SeqCst);
    socket.send(&Frame::Pong(bytes::Bytes::new())).await;
    for _ in 0..330 {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let mut retried = String::new();
    // Without waiting: while the flood goes on, time passes by hand only.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, victim.events.next()).await {
        if let Lifecycle::Retrying { cause, .. } = event {
            retried = cause_name(&cause);
        }
    }
    assert_eq!(retried, "handshake_timeout");
    floods.store(false, Ordering::SeqCst);
    victim.recovers().await;
}

/// A relay that never stops sending cannot keep a job from its end: the answer to the question is heard.
#[tokio::test(start_paused = true)]
async fn endless_frames_stop_no_trust_decision() {
    let mut victim = ClientVictim::new(34, true);
    let id = victim.world.grant().await;
    let floods = Arc::new(AtomicBool::new(false));
    let flood = floods.clone();
    let stream = victim.world.dial().await.connect_over(|inner| Box::new(Endless::new(inner, flood)));
    let mut socket = Socket::accept(stream).await;
    let init = socket.frame().await;
    let (accept, _) = victim.world.daemon.accept(&init, &mut *entropy(1));
    assert_eq!(accept.session(), id.get());
    socket.send(&accept).await;
    moment().await;
    floods.store(true, Ordering::SeqCst);
    socket.send(&Frame::Pong(bytes::Bytes::new())).await;
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!victim.pinned(), "nobody has answered yet");
    victim.trust();
    for _ in 0..20 {
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    assert!(victim.pinned(), "the answer is heard");
    floods.store(false, Ordering::SeqCst);
    victim.closes().await;
}

/// Data while the user is being asked wait within bounds; then the attempt is over, and nothing is pinned.
#[tokio::test(start_paused = true)]
async fn early_data_wait_within_bounds() {
    for size in [10, 60_000] {
        let mut victim = ClientVictim::new(35, true);
        let mut scene = victim.bring(ClientStage::Trusting).await;
        let mut socket = scene.socket.take().unwrap();
        let mut taken = 0_usize;
        while victim.state() == State::Negotiating {
            let body = FrameBody::Message { subject: "event".to_owned(), data: vec![b'x'; size].into() };
            socket.send(&scene.line.seal_body(body)).await;
            moment().await;
            taken += 1;
            assert!(taken <= 1_025 && taken * size <= (4 << 20) + 65_536, "{taken} messages of {size} bytes wait");
        }
        assert_eq!(fate(&mut victim).await, Ok("overflow".to_owned()));
        // The question of an attempt that is over pins nothing any more.
        victim.trust();
        moment().await;
        assert!(!victim.pinned());
        victim.recovers().await;
    }
}

/// Events that nobody reads wait within one bound, over all sessions together.
#[tokio::test(start_paused = true)]
async fn unread_events_do_not_pile_up_from_session_to_session() {
    let (mut world, env) = World::new(36);
    let client = account(&env).connect().unwrap();
    let mut unread = client.subscribe(">").unwrap();
    let mut lives = client.events();
    for round in 0..4 {
        let mut link = world.join().await;
        for n in 0..1_100 {
            let frame = link.line().seal_body(event(&format!("{round} {n}")));
            link.socket.send(&frame).await;
        }
        let cause = loop {
            match soon("a retry", lives.next()).await {
                Some(Lifecycle::Retrying { cause, .. }) => break cause_name(&cause),
                Some(_) => {}
                None => panic!("the events ended"),
            }
        };
        assert_eq!(cause, "overflow", "round {round}");
    }
    let mut waited = 0;
    while tokio::time::timeout(Duration::ZERO, unread.next()).await.is_ok_and(|event| event.is_some()) {
        waited += 1;
    }
    assert!(waited <= 1_024, "{waited} events waited for their consumer");
    // Now that they are taken, there is room again.
    let mut link = world.join().await;
    for n in 0..1_000 {
        let frame = link.line().seal_body(event(&n.to_string()));
        link.socket.send(&frame).await;
    }
    for n in 0..1_000 {
        let event = soon("an event", unread.next()).await.unwrap();
        assert_eq!((event.name(), event.data::<String>().unwrap()), (EVENT, n.to_string()));
    }
    link.is_alive().await;
    client.close().await;
}

/// A burst is no overflow for who consumes what comes.
#[tokio::test(start_paused = true)]
async fn burst_reaches_a_consumer_that_keeps_up() {
    let mut victim = ClientVictim::new(37, false);
    let mut scene = victim.bring(ClientStage::Active).await;
    let burst =
        |line: &mut Line| (0..3_000).map(|n| line.seal_body(event(&n.to_string())).into()).collect::<Vec<Throw>>();
    // All of it is there before the endpoint gets its turn.
    unconstrained(scene.suffer(|aim| burst(aim.line), Side::Daemon, &mut *entropy(1))).await;
    victim.finish(&mut scene, ClientStage::Active).await;
    moment().await;
    assert_eq!(victim.seen.get(), 3_001);
    victim.closes().await;

    let (mut victim, mut scene) = DaemonVictim::new(38).await;
    victim.bring(&mut scene, DaemonStage::Active).await;
    unconstrained(scene.suffer(|aim| burst(aim.line), Side::Client, &mut *entropy(1))).await;
    victim.finish(&mut scene, DaemonStage::Active).await;
    moment().await;
    assert_eq!(victim.seen.get(), 3_001);
    victim.serves_others(&mut scene).await;
    victim.closes().await;
}

/// DMN-07: requests that no handler answers end the session that made them, and no other.
#[tokio::test(start_paused = true)]
async fn requests_that_nobody_answers_end_their_session_alone() {
    let (mut world, env) = World::new(39);
    let running = Count::default();
    let started = running.clone();
    let server = daemon(&env)
        .handle("never", move |_: (), _| {
            started.add();
            std::future::pending::<Result<(), std::io::Error>>()
        })
        .unwrap()
        .start()
        .unwrap();
    let mut link = world.go_online(true).await;
    let (greedy, other) = (world.meet(&mut link).await, world.meet(&mut link).await);
    for _ in 0..1_100 {
        link.request_on(greedy, "never", ().into()).await;
    }
    let ended = link.socket.frame().await;
    assert_eq!(ended, Frame::Signal { session: greedy, signal: Signal::Close, reason: Reason::Error });
    assert!(running.get() <= 1_024, "{} handlers run", running.get());
    link.is_alive_on(other).await;
    assert_eq!(server.connections().len(), 1);
    server.close().await;
}

/// HandshakeInits beyond the limit are refused one by one; whoever was there before stays, and a place that is free again is given again.
#[tokio::test(start_paused = true)]
async fn inits_beyond_the_limit_are_refused() {
    let (mut world, env) = World::new(40);
    let server = daemon(&env).max_sessions(4).start().unwrap();
    let mut link = world.go_online(true).await;
    let first = world.meet(&mut link).await;
    let mut far = Vec::new();
    for _ in 0..3 {
        let id = world.new_session();
        let (client, init) = FarClient::new(id, DAEMON, world.entropy());
        link.socket.send(&init).await;
        far.push((id, client));
        assert!(matches!(frame(&mut link.socket).await, Frame::HandshakeAccept { .. }));
        assert!(matches!(frame(&mut link.socket).await, Frame::Data { .. }), "its introduction");
    }
    for _ in 0..500 {
        let id = world.new_session();
        let (_, init) = FarClient::new(id, DAEMON, world.entropy());
        link.socket.send(&init).await;
        let refused = Frame::Signal { session: id, signal: Signal::Close, reason: Reason::Policy };
        assert_eq!(frame(&mut link.socket).await, refused);
    }
    link.is_alive_on(first).await;
    link.socket.control(sideband_protocol::wire::ControlCode::SessionEnded, Some(far[0].0)).await;
    let next = world.meet(&mut link).await;
    link.is_alive_on(next).await;
    assert_eq!(server.connections().len(), 2);
    server.close().await;
}

/// Sessions that begin and end in a hurry leave nothing behind.
#[tokio::test(start_paused = true)]
async fn sessions_that_come_and_go_leave_nothing() {
    let (mut world, env) = World::new(41);
    let server = daemon(&env).max_sessions(8).start().unwrap();
    let mut link = world.go_online(true).await;
    let stays = world.meet(&mut link).await;
    for _ in 0..300 {
        let id = world.meet(&mut link).await;
        link.socket.control(sideband_protocol::wire::ControlCode::SessionEnded, Some(id)).await;
        // Data on their way are ignored (DMN-06).
        link.say_on(id, FrameBody::Ping).await;
    }
    link.is_alive_on(stays).await;
    assert_eq!(server.connections().len(), 1);
    server.close().await;
}

/// DMN-04: a relay that opens and closes again is not dialled in a hurry.
#[tokio::test(start_paused = true)]
async fn relay_that_opens_and_closes_is_dialled_with_patience() {
    let (mut world, env) = World::new(42);
    let server = daemon(&env).start().unwrap();
    let since = Timeline::start();
    let mut attempts = 0;
    while since.elapsed() < Duration::from_secs(600) {
        world.renew(true).await;
        let socket = world.dial().await.open().await;
        drop(throw(socket, Throw::Close(Some([1000, 1011, 1012, 1013][attempts % 4]))).await);
        attempts += 1;
    }
    assert!(attempts <= 26, "{attempts} attempts in 10 minutes");
    let mut link = world.go_online(true).await;
    world.meet(&mut link).await;
    server.close().await;
}

/// CLI-04: nor by a client, which gives up besides.
#[tokio::test(start_paused = true)]
async fn client_gives_up_a_relay_that_opens_and_closes() {
    let mut victim = ClientVictim::new(43, false);
    for _ in 0..6 {
        let (_, socket) = victim.world.client_socket().await;
        drop(throw(socket, Throw::Close(Some(1012))).await);
    }
    let reason = soon("the end", victim.client.closed()).await;
    assert!(matches!(reason, sideband::CloseReason::Exhausted { retries: 5, .. }), "{reason:?}");
    assert!(!victim.pinned());
    is_over(&mut victim).await;
}

/// DMN-01: what the relay said before it left is heard, also by who was just writing.
#[tokio::test(start_paused = true)]
async fn close_code_is_heard_by_a_daemon_that_writes() {
    let (mut victim, mut scene) = DaemonVictim::new(44).await;
    moment().await;
    let socket = scene.socket.take().unwrap();
    assert!(throw(socket, Throw::Close(Some(4001))).await.is_none());
    assert_eq!(victim.server.broadcast("news", 1).await.unwrap(), 1);
    assert_eq!(cause_name(&soon("the end", victim.server.ended()).await), "socket_lost");
    assert!(victim.world.api_within(Duration::from_secs(300)).await.is_none(), "it duels");
}

/// CLI-05: a Control code that came before the end is heard, also by who was just writing.
#[tokio::test(start_paused = true)]
async fn control_code_is_heard_by_a_client_that_writes() {
    let mut victim = ClientVictim::new(45, false);
    let mut scene = victim.bring(ClientStage::Active).await;
    let mut socket = scene.socket.take().unwrap();
    socket.control(sideband_protocol::wire::ControlCode::Forbidden, None).await;
    drop(socket);
    victim.client.emit("news", 1).await.unwrap();
    assert_eq!(fate(&mut victim).await, Err("forbidden".to_owned()));
    is_over(&mut victim).await;
}
