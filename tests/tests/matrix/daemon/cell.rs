//! A daemon under test in its world: the way to a row's state, what happens there, and what follows.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sideband::{
    Daemon, DaemonRetryPolicy, Peer, Server, ServerEvent,
    env::{Env, Timeline},
};
use sideband_protocol::{SessionId, wire::Frame};
use sideband_tests::script::{API_URL, ApiCall, DAEMON, Line, Link, RELAY_URL, World, presence_token, session, soon};

use super::{
    At, Before, Row, initial,
    life::{check_story, record},
};
use crate::{
    LATE, MOMENT, PROMPT,
    columns::{Column, Of, Unanswered},
    ending::{Closing, Ending, tried_afterwards, waiting},
    record::{Call, Log, Source, Wire, subscribe},
};

/// A daemon under test in its world.
pub(super) struct Cell {
    row: Row,
    world: World,
    log: Log,
    server: Option<Server>,
    /// Everything that the daemon told its user, from the start.
    told: Arc<Mutex<Vec<ServerEvent>>>,
    calls: Vec<Call>,
    /// Sessions that clients have introduced themselves on.
    introduced: usize,
    session: Option<SessionId>,
    /// The client of a session that stands or stood.
    peer: Option<Peer>,
    /// That client's end of the session, while the socket is away.
    lines: Vec<Line>,
    wire: Option<Wire>,
    api: Option<ApiCall>,
    dial: Option<Unanswered>,
}

fn listen(row: Row, env: &Env) -> Server {
    let daemon = Daemon::new(API_URL, RELAY_URL, "sbnd_dak_far").unwrap().env(env.clone()).resumable(row.resumable);
    let daemon = daemon.danger_quirks(row.quirks);
    daemon.retry(DaemonRetryPolicy { initial: initial(row), ..DaemonRetryPolicy::default() }).start().unwrap()
}

impl Cell {
    /// A daemon in the row's state; with a call, and a subscription, to the client of a session that stands.
    pub(super) async fn reach(row: Row) -> Self {
        let (world, env) = World::new(16);
        let server = listen(row, &env);
        let (log, told) = (Log::new(), Arc::new(Mutex::new(Vec::new())));
        record(row, &server, &log, &told);
        let mut cell = Self {
            row,
            world,
            log,
            server: Some(server),
            told,
            calls: Vec::new(),
            introduced: 0,
            session: None,
            peer: None,
            lines: Vec::new(),
            wire: None,
            api: None,
            dial: None,
        };
        match row.before {
            Before::First => {}
            Before::Failed => cell.world.api().await.refuse(500),
            Before::Session => cell.lose_a_session().await,
        }
        cell.go().await;
        tokio::time::sleep(MOMENT).await;
        cell.log.clear();
        match &cell.peer {
            Some(peer) if row.at == At::Offline => {
                cell.calls.push(Call::make("call made here", peer, &cell.log).await);
                let emitted = peer.emit("news", ()).await;
                let fate = emitted.map_or_else(|error| error.code().unwrap_or("no peer error"), |()| "taken");
                cell.log.add(Source::User, format!("event made here: {fate}"));
            }
            Some(_) | None => {}
        }
        if row.answers && row.before != Before::Session {
            cell.await_online();
        }
        cell
    }

    /// DMN-01: what `listen` comes to. Holds a handle.
    fn await_online(&self) {
        let (server, log) = (self.server.clone().unwrap(), self.log.clone());
        tokio::spawn(async move {
            let fate = if server.when_online().await.is_ok() { "resolves" } else { "rejects" };
            log.add(Source::User, format!("listen: {fate}"));
        });
    }

    async fn online(&mut self) -> Link {
        let link = self.world.go_online(self.row.resumable).await;
        soon("the socket", self.server.as_ref().unwrap().when_online()).await.unwrap();
        link
    }

    /// Online, with an active session and a call in it.
    async fn active(&mut self) -> Link {
        let mut link = self.online().await;
        self.session = Some(self.world.meet(&mut link).await);
        self.introduced += 1;
        tokio::time::sleep(MOMENT).await;
        let peer = Peer::clone(&self.server.as_ref().unwrap().connections()[0]);
        subscribe(&peer, &self.log);
        self.calls.push(Call::make("call in flight", &peer, &self.log).await);
        link.called().await;
        self.peer = Some(peer);
        link
    }

    /// Online, with a session whose introduction is awaited.
    async fn negotiating(&mut self) -> Link {
        let mut link = self.online().await;
        let id = self.world.new_session();
        self.world.exchange(&mut link, id).await;
        link.heard_on(id).await;
        self.session = Some(id);
        link
    }

    async fn lose_a_session(&mut self) {
        let (socket, lines) = self.active().await.into_parts();
        socket.cut();
        self.lines = lines;
        tokio::time::sleep(MOMENT).await;
    }

    async fn go(&mut self) {
        match self.row.at {
            At::Token => self.api = Some(self.world.api().await),
            At::Dial => {
                self.world.renew(self.row.resumable).await;
                self.dial = Some(Unanswered::Dial(self.world.dial().await));
            }
            At::Alone => {
                let link = self.online().await;
                self.wire = Some(Wire::of_link(link, &self.log));
            }
            At::Negotiating => {
                let link = self.negotiating().await;
                self.wire = Some(Wire::of_link(link, &self.log));
            }
            At::Active | At::Settled => {
                let link = self.active().await;
                self.wire = Some(Wire::of_link(link, &self.log));
                if self.row.at == At::Settled {
                    tokio::time::sleep(Duration::from_secs(6)).await;
                }
            }
            At::Offline => self.lose_a_session().await,
            At::OfflineEarly => {
                let (socket, lines) = self.negotiating().await.into_parts();
                socket.cut();
                self.lines = lines;
            }
            At::Ended => {
                self.api = Some(self.world.api().await);
                self.server.as_ref().unwrap().close().await;
                self.api = None;
            }
        }
    }

    /// Makes the column happen and watches for a moment.
    pub(super) async fn apply(&mut self, column: &Column) {
        match column {
            Column::Close => {
                if self.close().await > PROMPT {
                    self.log.add(Source::User, LATE);
                }
            }
            Column::Drop => self.server = None,
            Column::Cut => self.wire.as_ref().unwrap().cut(),
            Column::CloseCode(code) => self.wire.as_ref().unwrap().close(*code),
            Column::Control(code, of) => {
                let session = match of {
                    Of::Own => self.session,
                    Of::Unknown => Some(session(0xdead)),
                    Of::Zero => None,
                    Of::Scope => panic!("a daemon's matrix names the session"),
                };
                let message = "words".to_owned();
                self.wire.as_ref().unwrap().send(&Frame::Control { session, code: *code, message });
            }
            Column::Api(answer) => self.api = answer.give(self.api.take().unwrap()).await,
            Column::Upgrade(answer) => {
                let Some(Unanswered::Dial(dial)) = self.dial.take() else { panic!("no dial") };
                self.dial = answer.give(dial).await;
            }
            Column::Back { resumable } => {
                let call = self.world.api().await;
                self.back(call, *resumable).await;
            }
            Column::Nothing(time) => tokio::time::sleep(*time).await,
            Column::Token | Column::NoToken | Column::Trust(_) => panic!("a daemon asks no user"),
        }
        tokio::time::sleep(MOMENT).await;
        self.calls.iter().for_each(|call| call.note(&self.log));
        self.note_world().await;
    }

    /// The socket comes back: the relay knows the sessions' lines.
    async fn back(&mut self, call: ApiCall, resumable: bool) {
        call.ok(serde_json::json!({ "presenceToken": presence_token(DAEMON, resumable) }));
        let socket = self.world.dial().await.open().await;
        let lines = std::mem::take(&mut self.lines);
        self.wire = Some(Wire::new(socket, lines, &self.log));
    }

    /// What the daemon gave up, and what it asks for.
    async fn note_world(&mut self) {
        if self.api.as_ref().is_some_and(ApiCall::is_given_up) {
            self.log.add(Source::World, "gave up the API call");
        }
        if self.dial.as_mut().is_some_and(Unanswered::is_given_up) {
            self.log.add(Source::World, "gave up the dial");
        }
        self.api = None;
        if let Some(call) = self.world.api_within(Duration::ZERO).await {
            self.log.add(Source::World, format!("calls {}", call.procedure()));
            self.api = Some(call);
        }
    }

    /// How long `close()` takes, twice at once; it is not waited for much longer than it may take.
    async fn close(&self) -> Duration {
        let since = Timeline::start();
        let server = self.server.as_ref().unwrap();
        let both = async { tokio::join!(server.close(), server.close()) };
        let _ = tokio::time::timeout(10 * PROMPT, both).await;
        since.elapsed()
    }

    /// What was recorded since the state was reached.
    pub(super) fn events(&self) -> Vec<String> {
        self.log.events()
    }

    fn told(&self) -> Vec<ServerEvent> {
        self.told.lock().unwrap().clone()
    }

    /// Whatever follows by itself: the socket comes back.
    pub(super) async fn recover(&mut self) {
        let told = self.told();
        if self.server.is_none() || matches!(told.last(), Some(ServerEvent::Ended(_))) {
            return;
        }
        if let Some(ServerEvent::Retrying { delay, .. }) = told.last() {
            let call = match self.api.take() {
                Some(call) => Some(call),
                None => self.world.api_within(*delay + MOMENT).await,
            };
            self.back(call.expect("an attempt follows after the delay that was told"), self.row.resumable).await;
            tokio::time::sleep(MOMENT).await;
        }
        assert!(self.server.as_ref().unwrap().is_online(), "the socket comes back: {:?}", self.told());
    }

    /// Closes from wherever it is, and looks back.
    pub(super) async fn end(&mut self) {
        if let Some(server) = self.server.clone() {
            let took = [self.close().await, self.close().await];
            Closing { rule: "DMN-05", took, closed: !server.is_online() }.check();
        }
        tokio::time::sleep(MOMENT).await;
        let told = self.told();
        check_story(&told, self.introduced);
        assert_eq!(self.calls.is_empty(), self.peer.is_none(), "whoever has a client calls it");
        let waiting = waiting(&self.calls);
        let tried = tried_afterwards(&mut self.world).await;
        let told = [told.len(), self.told().len()];
        Ending { waiting, told, tried, events: self.log.events() }.check();
    }
}
