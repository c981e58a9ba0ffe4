//! A client under test in its world: the way to a row's state, what happens there, and what follows.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sideband::{
    Account, Client, Lifecycle, OnDisconnect, Peer, QuickConnect, RetryMode, RetryPolicy, State,
    env::{Env, Timeline},
};
use sideband_protocol::{
    SessionId,
    wire::{ControlCode, Frame, Scope},
};
use sideband_tests::script::{API_URL, ApiCall, DAEMON, Link, World, grant, session, soon};
use tokio::sync::{mpsc, oneshot};

use super::{
    At, Before, Mode, Row,
    life::{check_story, record},
};
use crate::{
    LATE, MOMENT, PROMPT,
    columns::{Column, Of, Unanswered},
    ending::{Closing, Ending, tried_afterwards, waiting},
    record::{Call, Log, Source, Wire, subscribe},
};

/// A client under test in its world.
pub(super) struct Cell {
    row: Row,
    world: World,
    log: Log,
    client: Option<Client>,
    peer: Peer,
    /// Everything that the client told its user, from the start.
    told: Arc<Mutex<Vec<Lifecycle>>>,
    calls: Vec<Call>,
    /// Sessions that the world has brought up.
    sessions: usize,
    session: Option<SessionId>,
    wire: Option<Wire>,
    user: User,
    api: Option<ApiCall>,
    dial: Option<Unanswered>,
    token: Option<oneshot::Sender<Result<String, String>>>,
    question: Option<oneshot::Sender<bool>>,
}

/// The program that uses the client: it is asked for tokens, and for its trust.
struct User {
    tokens: mpsc::UnboundedReceiver<oneshot::Sender<Result<String, String>>>,
    questions: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
    /// Whether tokens are to be waited for.
    thinks: Arc<AtomicBool>,
}

/// A client, not yet polled.
fn connect(row: Row, env: &Env) -> (Client, User) {
    let (ask_token, tokens) = mpsc::unbounded_channel();
    let (ask_trust, questions) = mpsc::unbounded_channel();
    let thinks = Arc::new(AtomicBool::new(row.at == At::Token));
    let waits = thinks.clone();
    let source = move || {
        let (reply, answer) = oneshot::channel::<Result<String, String>>();
        let waits = waits.load(Ordering::SeqCst);
        let asked = ask_token.send(reply);
        async move {
            if !waits || asked.is_err() {
                return Ok("at_1".to_owned());
            }
            match answer.await {
                Ok(Ok(token)) => Ok(token),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => std::future::pending().await,
            }
        }
    };
    let ask = move || -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> {
        let (reply, answer) = oneshot::channel();
        let asked = ask_trust.send(reply);
        Box::pin(async move { asked.is_ok() && answer.await.unwrap_or(false) })
    };
    let again = ask.clone();
    let calls = if row.fails { OnDisconnect::Fail } else { OnDisconnect::Pause };
    let mode = if row.never_retries { RetryMode::Never } else { RetryMode::OnError };
    let retry = RetryPolicy { mode, ..RetryPolicy::default() };
    let client = match row.mode {
        Mode::Account => {
            let builder = Account::new(API_URL, DAEMON, source).unwrap().env(env.clone()).danger_quirks(row.quirks);
            let builder = builder.on_disconnect(calls).retry(retry);
            let asks = row.at == At::Trust;
            if asks { builder.prompt(move |_| ask(), move |_, _| again()).connect() } else { builder.connect() }
        }
        Mode::QuickConnect => {
            let builder = QuickConnect::new(API_URL, "abcd-efgh-ijkl").unwrap().env(env.clone());
            let builder = builder.danger_quirks(row.quirks).on_disconnect(calls).retry(retry);
            let asks = row.at == At::Trust;
            if asks { builder.prompt(move |_| ask(), move |_, _| again()).connect() } else { builder.connect() }
        }
    };
    (client.unwrap(), User { tokens, questions, thinks })
}

impl Cell {
    /// A client in the row's state, with calls and a subscription.
    pub(super) async fn reach(row: Row) -> Self {
        let (world, env) = World::new(14);
        let (client, user) = connect(row, &env);
        let (log, told) = (Log::new(), Arc::new(Mutex::new(Vec::new())));
        record(&client, &log, &told);
        let peer = Peer::clone(&client);
        let mut cell = Self {
            row,
            world,
            log,
            client: Some(client),
            peer,
            told,
            calls: Vec::new(),
            sessions: 0,
            session: None,
            wire: None,
            user,
            api: None,
            dial: None,
            token: None,
            question: None,
        };
        cell.go_before().await;
        cell.go().await;
        tokio::time::sleep(MOMENT).await;
        cell.log.clear();
        // In a session the call in flight was made on the way.
        subscribe(&cell.peer, &cell.log);
        if row.at != At::Active {
            cell.calls.push(Call::make("call made here", &cell.peer, &cell.log).await);
        }
        cell
    }

    async fn go_before(&mut self) {
        match self.row.before {
            Before::First => {}
            Before::Failed => self.world.api().await.refuse(500),
            Before::Refused => {
                self.world.grant().await;
                self.world.dial().await.refuse(401).await;
            }
            Before::Session | Before::RefusedAndSession => {
                if self.row.before == Before::RefusedAndSession {
                    self.world.grant().await;
                    self.world.dial().await.refuse(401).await;
                }
                self.sessions += 1;
                self.world.join().await.socket.cut();
            }
            Before::Exhausting => {
                for _ in 0..5 {
                    self.world.api().await.refuse(500);
                }
            }
        }
    }

    async fn go(&mut self) {
        match self.row.at {
            At::Token => self.token = Some(soon("a token to be asked for", self.user.tokens.recv()).await.unwrap()),
            At::Api => self.api = Some(self.world.api().await),
            At::Dial => {
                self.world.grant().await;
                self.dial = Some(Unanswered::Dial(self.world.dial().await));
            }
            At::Accept => {
                let (id, mut socket) = self.world.client_socket().await;
                assert!(matches!(socket.frame().await, Frame::HandshakeInit { .. }));
                self.session = Some(id);
                self.wire = Some(Wire::new(socket, Vec::new(), &self.log));
            }
            At::Trust | At::Introduction => {
                let mut link = self.world.client_keys().await;
                self.session = Some(link.session());
                if self.row.at == At::Trust {
                    self.question = Some(soon("a question", self.user.questions.recv()).await.unwrap());
                } else {
                    link.heard().await;
                }
                self.wire = Some(Wire::of_link(link, &self.log));
            }
            At::Active | At::Paused | At::Pending => {
                let mut link = self.world.join().await;
                self.sessions += 1;
                self.session = Some(link.session());
                soon("the session", self.client.as_ref().unwrap().when_ready()).await.unwrap();
                self.calls.push(Call::make("call in flight", &self.peer, &self.log).await);
                link.called().await;
                let told = match self.row.at {
                    At::Paused => &[ControlCode::SessionPaused][..],
                    At::Pending => &[ControlCode::SessionPaused, ControlCode::SessionPending],
                    _ => &[],
                };
                for code in told {
                    link.socket.control(*code, self.session).await;
                }
                self.wire = Some(Wire::of_link(link, &self.log));
            }
            At::Delay => {
                self.world.api().await.refuse(500);
                let mut state = self.client.as_ref().unwrap().state();
                soon("a retry", state.wait_for(|state| *state == State::Reconnecting)).await.unwrap();
            }
            At::Closed => {
                self.api = Some(self.world.api().await);
                self.client.as_ref().unwrap().close().await;
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
            Column::Drop => self.client = None,
            Column::Cut => self.wire.as_ref().unwrap().cut(),
            Column::CloseCode(code) => self.wire.as_ref().unwrap().close(*code),
            Column::Control(code, of) => {
                let session = match (of, code) {
                    (Of::Scope, Ok(code)) if code.scope() == Scope::Session => self.session,
                    (Of::Own, _) => self.session,
                    (Of::Scope | Of::Zero, _) => None,
                    (Of::Unknown, _) => Some(session(0xdead)),
                };
                let message = "words".to_owned();
                self.wire.as_ref().unwrap().send(&Frame::Control { session, code: *code, message });
            }
            Column::Api(answer) => self.api = answer.give(self.api.take().unwrap()).await,
            Column::Upgrade(answer) => {
                let Some(Unanswered::Dial(dial)) = self.dial.take() else { panic!("no dial") };
                self.dial = answer.give(dial).await;
            }
            Column::Token => self.token.take().unwrap().send(Ok("at_2".to_owned())).unwrap(),
            Column::NoToken => self.token.take().unwrap().send(Err("signed out".to_owned())).unwrap(),
            Column::Trust(yes) => self.question.take().unwrap().send(*yes).unwrap(),
            Column::Nothing(time) => tokio::time::sleep(*time).await,
            Column::Back { .. } => panic!("a client never comes back online by itself"),
        }
        tokio::time::sleep(MOMENT).await;
        self.calls.iter().for_each(|call| call.note(&self.log));
        self.note_world().await;
    }

    /// What the client gave up, and what it asks for.
    async fn note_world(&mut self) {
        let given_up = [
            ("the token source", self.token.as_ref().is_some_and(oneshot::Sender::is_closed)),
            ("the question", self.question.as_ref().is_some_and(oneshot::Sender::is_closed)),
            ("the API call", self.api.as_ref().is_some_and(ApiCall::is_given_up)),
            ("the dial", self.dial.as_mut().is_some_and(Unanswered::is_given_up)),
        ];
        for (what, _) in given_up.iter().filter(|(_, given_up)| *given_up) {
            self.log.add(Source::World, format!("gave up {what}"));
        }
        self.api = match self.world.api_within(Duration::ZERO).await {
            Some(call) => {
                self.log.add(Source::World, format!("calls {}", call.procedure()));
                Some(call)
            }
            None => self.api.take().filter(|call| !call.is_given_up()),
        };
        if self.world.dial_within(Duration::ZERO).await.is_some() {
            self.log.add(Source::World, "dials");
        }
    }

    /// How long `close()` takes, twice at once; it is not waited for much longer than it may take.
    async fn close(&self) -> Duration {
        let since = Timeline::start();
        let client = self.client.as_ref().unwrap();
        let both = async { tokio::join!(client.close(), client.close()) };
        let _ = tokio::time::timeout(10 * PROMPT, both).await;
        since.elapsed()
    }

    /// What was recorded since the state was reached; without the identity, which is random.
    pub(super) fn events(&self) -> Vec<String> {
        let identity = self.world.daemon.identity.public().fingerprint().to_string();
        self.log.events().iter().map(|event| event.replace(&identity, "SHA256:…")).collect()
    }

    fn state(&self) -> State {
        *self.client.as_ref().unwrap().state().borrow()
    }

    /// Whatever follows by itself: the next attempt, up to an active session.
    pub(super) async fn recover(&mut self) {
        if self.client.is_none() || self.state() == State::Closed {
            return;
        }
        self.user.thinks.store(false, Ordering::SeqCst);
        if self.state() == State::Reconnecting {
            let told = self.told.lock().unwrap().clone();
            let Some(Lifecycle::Retrying { delay, .. }) = told.last() else { panic!("{told:?}") };
            let limit = *delay + MOMENT;
            self.api = self.world.api_within(limit).await;
            assert!(self.api.is_some(), "an attempt follows after the delay that was told");
        }
        if self.state() == State::Connecting
            && let Some(call) = self.api.take()
        {
            let id = self.world.new_session();
            call.ok(grant(DAEMON, id));
            let mut socket = self.world.dial().await.open().await;
            let init = socket.frame().await;
            let (accept, line) = self.world.accept(&init);
            socket.send(&accept).await;
            if self.row.at == At::Trust {
                soon("a question", self.user.questions.recv()).await.unwrap().send(true).unwrap();
            }
            let mut link = Link::new(socket, line);
            link.introduce().await;
            self.sessions += 1;
            soon("the session", self.client.as_ref().unwrap().when_ready()).await.unwrap();
            for call in self.calls.iter().filter(|call| !call.has_ended()) {
                call.note(&self.log);
                link.called().await;
            }
            link.event("news.back", serde_json::json!(1)).await;
            tokio::time::sleep(MOMENT).await;
            assert!(
                self.log.events().contains(&"subscription: news.back".to_owned()),
                "subscriptions survive (CLI-03)"
            );
            self.wire = Some(Wire::of_link(link, &self.log));
        }
        // Whoever is not there is waiting for something that the column left out.
        let unanswered = self.token.is_some() || self.question.is_some() || self.dial.is_some() && !self.row.answers;
        let held = matches!(self.state(), State::Negotiating | State::Paused) && self.row.at.has_a_socket();
        assert!(self.state() == State::Active || unanswered || held, "a session follows, not {:?}", self.state());
    }

    /// Closes from wherever it is, and looks back.
    pub(super) async fn end(&mut self) {
        if self.client.is_some() {
            let took = [self.close().await, self.close().await];
            Closing { rule: "CLI-14", took, closed: self.state() == State::Closed }.check();
            self.calls.push(Call::make("call on a closed client", &self.peer, &self.log).await);
        }
        tokio::time::sleep(MOMENT).await;
        let told = self.told.lock().unwrap().clone();
        check_story(&told, self.sessions);
        assert!(!self.calls.is_empty(), "a call was made on the way");
        let waiting = waiting(&self.calls);
        let tried = tried_afterwards(&mut self.world).await;
        let told = [told.len(), self.told.lock().unwrap().len()];
        Ending { waiting, told, tried, events: self.log.events() }.check();
    }
}
