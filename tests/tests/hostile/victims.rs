//! The endpoints under attack, how they are brought to a stage, and what is looked at afterwards.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sideband::{
    Account, Client, Connection, Daemon, Server,
    identity::{IdentityStore, StoreError},
};
use sideband_env::{BoxFuture, EntropySource as _, Env, SeededEntropy, Timeline};
use sideband_protocol::{
    Entropy, SessionId,
    client::State,
    crypto::IdentityKey,
    peer::Side,
    sbp::FrameBody,
    wire::{ControlCode, Frame, Reason, Signal},
};
use sideband_tests::script::{
    API_URL, DAEMON, FarClient, Got, Line, RELAY_URL, Socket, World,
    hostile::{Aim, ClientStage, DaemonStage, EVENT, Throw, event, throw},
    introduction, soon,
};
use tokio::sync::watch;

/// The longest that an endpoint may take to see that it was attacked, and to close.
pub(crate) const PROMPT: Duration = Duration::from_secs(2);

/// Pins in memory that the test can look at.
#[derive(Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<BTreeMap<String, IdentityKey>>>);

impl Pins {
    pub(crate) fn all(&self) -> BTreeMap<String, IdentityKey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, daemon_id: &str, key: IdentityKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(daemon_id.to_owned(), key);
    }
}

impl IdentityStore for Pins {
    fn load<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        Box::pin(async move { Ok(self.all().get(daemon_id).copied()) })
    }

    fn store<'a>(&'a self, daemon_id: &'a str, key: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.set(daemon_id, key);
            Ok(())
        })
    }
}

/// A count that handlers keep.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A moment in which tasks that are ready run.
pub(crate) async fn moment() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

pub(crate) fn entropy(seed: u64) -> Box<dyn Entropy> {
    SeededEntropy::new(seed, "hostile").entropy()
}

/// The next frame, Pongs left out.
pub(crate) async fn frame(socket: &mut Socket) -> Frame {
    loop {
        match socket.frame().await {
            Frame::Pong(_) => {}
            frame => return frame,
        }
    }
}

/// A socket of the endpoint and the far end of the session attacked.
pub(crate) struct Scene {
    pub(crate) socket: Option<Socket>,
    pub(crate) session: SessionId,
    /// The far end; before keys are agreed one that the endpoint does not know.
    pub(crate) line: Line,
    /// What the client waits to be answered.
    init: Option<Frame>,
    accept: Option<Frame>,
    echo: Option<Frame>,
    delivered: Vec<Frame>,
}

impl Scene {
    /// Throws everything, then waits a moment. How much time the attack itself took.
    pub(crate) async fn suffer(
        &mut self,
        throws: impl FnOnce(&mut Aim<'_>) -> Vec<Throw>,
        side: Side,
        entropy: &mut dyn Entropy,
    ) -> Duration {
        let mut stranger = Line::stranger(self.session, side, entropy);
        let throws = throws(&mut Aim {
            session: self.session,
            line: &mut self.line,
            stranger: &mut stranger,
            delivered: &self.delivered,
            echo: self.echo.as_ref(),
            accept: self.accept.as_ref(),
            entropy,
        });
        let since = Timeline::start();
        for what in throws {
            let Some(socket) = self.socket.take() else { break };
            self.socket = throw(socket, what).await;
        }
        let took = since.elapsed();
        moment().await;
        took
    }

    /// What the endpoint ended the socket with, if it did.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        match self.socket.take()?.end().await.1 {
            Got::Close(code) => Some(code),
            Got::Lost | Got::Message(_) => None,
        }
    }

    /// Turns to a session that the endpoint, a daemon, does not know yet.
    pub(crate) fn begin(&mut self, session: SessionId, entropy: &mut dyn Entropy) {
        self.session = session;
        self.line = Line::stranger(session, Side::Client, entropy);
        (self.accept, self.echo) = (None, None);
        self.delivered.clear();
    }

    fn socket(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("the socket was closed by the attack")
    }

    /// The next frame of this session; what is left of others is passed over.
    async fn frame_of_session(&mut self) -> Frame {
        loop {
            let session = self.session.get();
            let heard = frame(self.socket()).await;
            if heard.session() == session {
                return heard;
            }
        }
    }

    async fn say(&mut self, body: FrameBody) -> Frame {
        let frame = self.line.seal_body(body);
        self.socket().send(&frame).await;
        frame
    }

    async fn control(&mut self, code: ControlCode) {
        let session = self.session;
        self.socket().control(code, Some(session)).await;
    }

    /// An SBP Ping is answered; Errors and Pongs about what came before are left out.
    async fn is_alive(&mut self) {
        self.say(FrameBody::Ping).await;
        loop {
            let heard = frame(self.socket()).await;
            if self.line.open(&heard).body == FrameBody::Pong {
                return;
            }
        }
    }
}

fn hello() -> FrameBody {
    FrameBody::Handshake(introduction("peer_far").to_string().into())
}

/// A client under attack.
pub(crate) struct ClientVictim {
    pub(crate) world: World,
    pub(crate) client: Client,
    pub(crate) events: sideband::LifecycleEvents,
    pub(crate) pins: Pins,
    /// Events named [`EVENT`] that reached the subscription.
    pub(crate) seen: Count,
    /// Whatever else reached the user.
    pub(crate) strange: Count,
    trusts: watch::Sender<bool>,
    asked: Count,
    pub(crate) entropy: Box<dyn Entropy>,
}

impl ClientVictim {
    /// A client of an account that trusts at once, or when [`trust`](Self::trust) says so.
    pub(crate) fn new(seed: u64, prompt: bool) -> Self {
        let (world, env) = World::new(seed);
        let (trusts, pins, asked) = (watch::Sender::new(!prompt), Pins::default(), Count::default());
        let mut account = account(&env).identity_store(pins.clone());
        if prompt {
            let (first, mismatch) = (trusts.clone(), trusts.clone());
            let (asked_first, asked_again) = (asked.clone(), asked.clone());
            account = account.prompt(
                move |_| {
                    asked_first.add();
                    yes(&first)
                },
                move |_, _| {
                    asked_again.add();
                    yes(&mismatch)
                },
            );
        }
        let client = account.connect().unwrap();
        let events = client.events();
        let (seen, strange) = (Count::default(), Count::default());
        let (counts, others) = (seen.clone(), strange.clone());
        client
            .on(">", move |event| {
                if event.name() == EVENT {
                    counts.add()
                } else {
                    others.add()
                }
                std::future::ready(())
            })
            .unwrap();
        Self { world, client, events, pins, seen, strange, trusts, asked, entropy: entropy(seed) }
    }

    pub(crate) fn trust(&self) {
        self.trusts.send_replace(true);
    }

    pub(crate) fn state(&self) -> State {
        *self.client.state().borrow()
    }

    pub(crate) async fn reaches(&self, state: State) {
        let mut states = self.client.state();
        soon("a state", states.wait_for(|now| *now == state)).await.unwrap();
    }

    /// The genuine identity is pinned and nothing else, or nothing at all.
    pub(crate) fn pinned(&self) -> bool {
        let pins = self.pins.all();
        let genuine = BTreeMap::from([(DAEMON.to_owned(), self.world.daemon.identity.public())]);
        assert!(pins.is_empty() || pins == genuine, "pinned what should not be: {pins:?}");
        !pins.is_empty()
    }

    /// Makes an attempt and stops at a stage.
    pub(crate) async fn bring(&mut self, stage: ClientStage) -> Scene {
        let (session, mut socket) = self.world.client_socket().await;
        let init = socket.frame().await;
        let stranger = Line::stranger(session, Side::Daemon, &mut *self.entropy);
        let mut scene = Scene {
            socket: Some(socket),
            session,
            line: stranger,
            init: Some(init),
            accept: None,
            echo: None,
            delivered: Vec::new(),
        };
        if stage == ClientStage::Opened {
            return scene;
        }
        self.accept(&mut scene).await;
        if stage == ClientStage::Trusting {
            moment().await;
            assert!(self.asked.get() > 0, "the user is asked");
            return scene;
        }
        self.echo(&mut scene).await;
        if stage == ClientStage::Keyed {
            return scene;
        }
        self.introduce(&mut scene).await;
        let before = self.seen.get();
        let frame = scene.say(event("delivered")).await;
        scene.delivered.push(frame);
        scene.is_alive().await;
        moment().await;
        assert_eq!(self.seen.get(), before + 1);
        if stage != ClientStage::Active {
            scene.control(ControlCode::SessionPaused).await;
            self.reaches(State::Paused).await;
        }
        if stage == ClientStage::Pending {
            scene.control(ControlCode::SessionPending).await;
            moment().await;
        }
        scene
    }

    async fn accept(&mut self, scene: &mut Scene) {
        let init = scene.init.take().expect("an Init");
        let (accept, line) = self.world.daemon.accept(&init, &mut *self.entropy);
        scene.line = line;
        scene.socket().send(&accept).await;
        scene.accept = Some(accept);
    }

    async fn echo(&mut self, scene: &mut Scene) {
        let echo = frame(scene.socket()).await;
        assert!(matches!(scene.line.open(&echo).body, FrameBody::Handshake(_)), "an introduction was due");
        scene.echo = Some(echo);
    }

    async fn introduce(&mut self, scene: &mut Scene) {
        let frame = scene.say(hello()).await;
        scene.delivered.push(frame);
        self.reaches(State::Active).await;
    }

    /// Goes from a stage to the active session as a well-behaved relay does.
    pub(crate) async fn finish(&mut self, scene: &mut Scene, stage: ClientStage) {
        if stage == ClientStage::Opened {
            self.accept(scene).await;
        }
        if matches!(stage, ClientStage::Opened | ClientStage::Trusting) {
            self.trust();
            self.echo(scene).await;
        }
        if stage.stands() {
            scene.control(ControlCode::SessionResumed).await;
            self.reaches(State::Active).await;
        } else {
            self.introduce(scene).await;
        }
        scene.is_alive().await;
    }

    /// A well-behaved relay serves the next attempt.
    pub(crate) async fn recovers(&mut self) {
        self.trust();
        let mut link = self.world.join().await;
        self.reaches(State::Active).await;
        link.is_alive().await;
        assert!(self.pinned());
        self.closes().await;
    }

    /// `close` ends promptly.
    pub(crate) async fn closes(&self) {
        let since = Timeline::start();
        self.client.close().await;
        assert!(since.elapsed() <= PROMPT, "close took {:?}", since.elapsed());
        assert_eq!(self.state(), State::Closed);
    }
}

fn yes(trusts: &watch::Sender<bool>) -> impl Future<Output = bool> + Send + use<> {
    let mut trusts = trusts.subscribe();
    async move { trusts.wait_for(|trusts| *trusts).await.is_ok() }
}

/// An account's client, not yet connecting.
pub(crate) fn account(env: &Env) -> Account {
    Account::with_token(API_URL, DAEMON, "at_1").unwrap().env(env.clone())
}

/// A daemon under attack, with a session beside the one attacked.
pub(crate) struct DaemonVictim {
    pub(crate) world: World,
    pub(crate) server: Server,
    pub(crate) events: sideband::ServerEvents,
    /// Events named [`EVENT`] that reached the session attacked.
    pub(crate) seen: Count,
    /// Whatever reached a user of another session.
    pub(crate) strange: Count,
    target: watch::Sender<Option<SessionId>>,
    pub(crate) bystander: Line,
    pub(crate) entropy: Box<dyn Entropy>,
}

/// A daemon, not yet connecting.
pub(crate) fn daemon(env: &Env) -> Daemon {
    Daemon::new(API_URL, RELAY_URL, "sbnd_dak_far").unwrap().env(env.clone())
}

impl DaemonVictim {
    /// A daemon that is online, with one session that is not to be disturbed.
    pub(crate) async fn new(seed: u64) -> (Self, Scene) {
        let (mut world, env) = World::new(seed);
        let (seen, strange, target) = (Count::default(), Count::default(), watch::Sender::new(None));
        let (counts, others, attacked) = (seen.clone(), strange.clone(), target.clone());
        let server = daemon(&env)
            .on_connection(move |connection: Connection| {
                let (counts, others, attacked) = (counts.clone(), others.clone(), attacked.subscribe());
                async move {
                    let session = connection.session();
                    connection
                        .on(">", move |event| {
                            let expected = *attacked.borrow() == Some(session) && event.name() == EVENT;
                            if expected {
                                counts.add()
                            } else {
                                others.add()
                            }
                            std::future::ready(())
                        })
                        .unwrap();
                    connection.closed().await;
                    Ok::<_, StoreError>(())
                }
            })
            .start()
            .unwrap();
        let events = server.events();
        let mut link = world.go_online(true).await;
        world.meet(&mut link).await;
        let (socket, mut lines) = link.into_parts();
        let session = world.new_session();
        let mut entropy = entropy(seed);
        let line = Line::stranger(session, Side::Client, &mut *entropy);
        let bystander = lines.remove(0);
        let scene =
            Scene { socket: Some(socket), session, line, init: None, accept: None, echo: None, delivered: Vec::new() };
        (Self { world, server, events, seen, strange, target, bystander, entropy }, scene)
    }

    /// Brings the session attacked to a stage.
    pub(crate) async fn bring(&mut self, scene: &mut Scene, stage: DaemonStage) {
        if stage == DaemonStage::Online {
            return;
        }
        let (far, init) = FarClient::new(scene.session, DAEMON, &mut *self.entropy);
        scene.socket().send(&init).await;
        let accept = scene.frame_of_session().await;
        scene.line = far.finish(&accept);
        scene.accept = Some(accept);
        let echo = scene.frame_of_session().await;
        assert!(matches!(scene.line.open(&echo).body, FrameBody::Handshake(_)), "an introduction was due");
        scene.echo = Some(echo);
        if stage == DaemonStage::Active {
            let before = self.seen.get();
            self.introduce(scene).await;
            let frame = scene.say(event("delivered")).await;
            scene.delivered.push(frame);
            moment().await;
            assert_eq!(self.seen.get(), before + 1);
        }
    }

    async fn introduce(&mut self, scene: &mut Scene) {
        self.target.send_replace(Some(scene.session));
        let frame = scene.say(hello()).await;
        scene.delivered.push(frame);
        moment().await;
    }

    /// Every frame up to the answer to a Ping in a session, opened where it can be.
    async fn heard_until_pong(&mut self, scene: &mut Scene, bystander: bool) {
        let session = if bystander { self.bystander.session() } else { scene.session };
        let line = if bystander { &mut self.bystander } else { &mut scene.line };
        let ping = line.seal_body(FrameBody::Ping);
        scene.socket().send(&ping).await;
        loop {
            let heard = frame(scene.socket()).await;
            let Frame::Data { session: of, .. } = &heard else { panic!("Data was due, not {heard:?}") };
            let line = if *of == scene.session { &mut scene.line } else { &mut self.bystander };
            if *of == session && line.open(&heard).body == FrameBody::Pong {
                return;
            }
        }
    }

    /// The session beside it was not disturbed, and a new one can be made.
    pub(crate) async fn serves_others(&mut self, scene: &mut Scene) {
        self.heard_until_pong(scene, true).await;
        let session = self.world.new_session();
        let (far, init) = FarClient::new(session, DAEMON, &mut *self.entropy);
        scene.socket().send(&init).await;
        let accept = frame(scene.socket()).await;
        let mut line = far.finish(&accept);
        let hello_back = frame(scene.socket()).await;
        assert!(matches!(line.open(&hello_back).body, FrameBody::Handshake(_)));
        let said = [line.seal_body(hello()), line.seal_body(FrameBody::Ping)];
        for frame in &said {
            scene.socket().send(frame).await;
        }
        let pong = frame(scene.socket()).await;
        assert_eq!(line.open(&pong).body, FrameBody::Pong);
        assert_eq!(self.strange.get(), 0, "something reached a session that it was not meant for");
    }

    /// Goes from a stage to the active session as a well-behaved relay does.
    pub(crate) async fn finish(&mut self, scene: &mut Scene, stage: DaemonStage) {
        match stage {
            DaemonStage::Online => return,
            DaemonStage::Keyed => self.introduce(scene).await,
            DaemonStage::Active => {}
        }
        self.heard_until_pong(scene, false).await;
    }

    /// The Signal with which the daemon ends the session attacked; sealed frames before it are left out.
    pub(crate) async fn signal(&mut self, scene: &mut Scene) -> (Signal, Reason) {
        loop {
            match frame(scene.socket()).await {
                Frame::Signal { session, signal, reason } => {
                    assert_eq!(session, scene.session, "another session was ended");
                    return (signal, reason);
                }
                Frame::Data { session, .. } => assert_eq!(session, scene.session, "another session was disturbed"),
                other => panic!("a Signal was due, not {other:?}"),
            }
        }
    }

    /// A well-behaved relay serves the next socket: sessions that stood go on.
    pub(crate) async fn resumes(&mut self, scene: &mut Scene, stage: DaemonStage) {
        let (socket, _) = self.world.go_online(true).await.into_parts();
        scene.socket = Some(socket);
        let mut due = BTreeMap::from([(self.bystander.session(), (Signal::Ready, Reason::None))]);
        match stage {
            DaemonStage::Online => {}
            DaemonStage::Keyed => drop(due.insert(scene.session, (Signal::Close, Reason::StateLost))),
            DaemonStage::Active => drop(due.insert(scene.session, (Signal::Ready, Reason::None))),
        }
        let mut signals = BTreeMap::new();
        for _ in 0..due.len() {
            let heard = frame(scene.socket()).await;
            let Frame::Signal { session, signal, reason } = heard else { panic!("a Signal was due, not {heard:?}") };
            signals.insert(session, (signal, reason));
        }
        assert_eq!(signals, due);
        if stage == DaemonStage::Active {
            self.heard_until_pong(scene, false).await;
        }
        self.serves_others(scene).await;
    }

    /// `close` ends promptly.
    pub(crate) async fn closes(&self) {
        let since = Timeline::start();
        self.server.close().await;
        assert!(since.elapsed() <= PROMPT, "close took {:?}", since.elapsed());
    }
}
