//! Rules that bind both endpoints: a witness is written once and runs over both arms.
//!
//! | arm | under test | the far end |
//! |---|---|---|
//! | client | an account's client | a daemon |
//! | daemon | a daemon with one session | that session's client |

use std::time::Duration;

use sideband::{Account, Client, Daemon, LifecycleEvents, Peer, Server, ServerEvent, ServerEvents};
use sideband_env::Env;
use sideband_protocol::{
    SessionId,
    client::CloseReason,
    crypto::Direction,
    failure::Cause,
    peer::Side,
    quirks::Quirks,
    rpc::Envelope,
    sbp::{self, ErrorCode, FrameBody, FrameId},
    wire::{Frame, Reason, Signal, close},
};
use sideband_tests::{
    failure::{catch_async, due, on_the_way},
    script::{DAEMON, FarClient, Got, Link, World, soon},
};

use crate::{endpoints, witness::shows};

/// The longest that one arm may take, in virtual time.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Which endpoint is under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arm {
    Client,
    Daemon,
}

impl Arm {
    /// Which end of a session is under test.
    pub(crate) const fn side(self) -> Side {
        match self {
            Self::Client => Side::Client,
            Self::Daemon => Side::Daemon,
        }
    }

    /// Which way the endpoint under test seals.
    pub(crate) const fn ours(self) -> Direction {
        match self {
            Self::Client => Direction::ClientToDaemon,
            Self::Daemon => Direction::DaemonToClient,
        }
    }

    /// Which way the far end seals.
    pub(crate) const fn theirs(self) -> Direction {
        match self {
            Self::Client => Direction::DaemonToClient,
            Self::Daemon => Direction::ClientToDaemon,
        }
    }
}

/// Runs a witness over both arms. Without a quirk both must hold, with one both must fail where they look.
///
/// # Panics
/// As a witness does: it says which arm failed, and why.
pub(crate) async fn both(quirks: Quirks, body: impl AsyncFn(Setup)) {
    let (mut held, mut failed, mut otherwise) = (Vec::new(), Vec::new(), Vec::new());
    for arm in [Arm::Client, Arm::Daemon] {
        match catch_async(tokio::time::timeout(LIMIT, Box::pin(body(Setup::new(arm, quirks))))).await {
            Ok(Ok(())) => held.push(arm),
            Ok(Err(_)) => otherwise.push(format!("{arm:?} did not end")),
            Err(failure) if shows(&failure) => failed.push(format!("{arm:?}: {failure}")),
            Err(failure) => otherwise.push(format!("{arm:?}: {failure}")),
        }
    }
    if !otherwise.is_empty() || (!failed.is_empty() && !held.is_empty()) {
        // Neither is what a quirk was to bring about.
        on_the_way(async { panic!("{held:?} held; {failed:?}; {otherwise:?}") }).await;
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// An endpoint that is still to be made.
pub(crate) struct Setup {
    pub(crate) arm: Arm,
    pub(crate) quirks: Quirks,
    account: fn(Account) -> Account,
    daemon: fn(Daemon) -> Daemon,
}

impl Setup {
    fn new(arm: Arm, quirks: Quirks) -> Self {
        Self { arm, quirks, account: |account| account, daemon: |daemon| daemon }
    }

    /// Builds the endpoint with these options, the same for both arms.
    pub(crate) fn with(mut self, account: fn(Account) -> Account, daemon: fn(Daemon) -> Daemon) -> Self {
        self.account = account;
        self.daemon = daemon;
        self
    }

    /// An endpoint that begins to connect.
    pub(crate) fn start(&self) -> (World, Endpoint) {
        let (world, env) = World::new(match self.arm {
            Arm::Client => 1,
            Arm::Daemon => 2,
        });
        (world, self.start_in(&env))
    }

    fn start_in(&self, env: &Env) -> Endpoint {
        match self.arm {
            Arm::Client => {
                let client = (self.account)(endpoints::account(env, self.quirks)).connect().unwrap();
                let events = client.events();
                Endpoint::Client(client, events)
            }
            Arm::Daemon => {
                let server = (self.daemon)(endpoints::daemon(env, self.quirks)).start().unwrap();
                let events = server.events();
                Endpoint::Daemon(server, events)
            }
        }
    }

    /// Keys are agreed; nobody has introduced itself.
    pub(crate) async fn keys(&self) -> Meeting {
        on_the_way(async {
            let (mut world, endpoint) = self.start();
            let link = match self.arm {
                Arm::Client => world.client_keys().await,
                Arm::Daemon => {
                    let mut link = world.go_online(true).await;
                    let id = world.new_session();
                    world.exchange(&mut link, id).await;
                    link
                }
            };
            Meeting { world, link, endpoint }
        })
        .await
    }

    /// The session stands.
    pub(crate) async fn active(&self) -> Meeting {
        on_the_way(async {
            let mut meeting = self.keys().await;
            meeting.link.introduce().await;
            meeting.stands().await;
            meeting
        })
        .await
    }
}

/// The endpoint under test.
pub(crate) enum Endpoint {
    Client(Client, LifecycleEvents),
    Daemon(Server, ServerEvents),
}

/// How a session ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// What the endpoint said before.
    pub(crate) said: Vec<sbp::Frame>,
    /// What its user was told.
    pub(crate) cause: Cause,
}

/// An endpoint with one session, and the far end of that.
pub(crate) struct Meeting {
    pub(crate) world: World,
    pub(crate) link: Link,
    pub(crate) endpoint: Endpoint,
}

impl Meeting {
    /// Waits until the endpoint's user has the session.
    pub(crate) async fn stands(&mut self) {
        match &mut self.endpoint {
            Endpoint::Client(client, _) => soon("the session", client.when_ready()).await.unwrap(),
            Endpoint::Daemon(_, events) => loop {
                match soon("the session", events.next()).await {
                    Some(ServerEvent::Opened(_)) => break,
                    Some(ServerEvent::Online) => {}
                    other => panic!("no session, but {other:?}"),
                }
            },
        }
    }

    /// The far end, as the endpoint's user has it.
    pub(crate) fn peer(&self) -> Peer {
        match &self.endpoint {
            Endpoint::Client(client, _) => Peer::clone(client),
            Endpoint::Daemon(server, _) => Peer::clone(&server.connections()[0]),
        }
    }

    /// The user closes the session.
    pub(crate) async fn close(&self) {
        match &self.endpoint {
            Endpoint::Client(client, _) => client.close().await,
            Endpoint::Daemon(server, _) => server.connections()[0].close(),
        }
    }

    /// Waits until the endpoint ends the session: a client by leaving the socket, a daemon by Signal(close).
    pub(crate) async fn ended(&mut self) -> Ending {
        let said = match &mut self.endpoint {
            Endpoint::Client(..) => {
                let (said, end) = due(soon("the end of the socket", self.link.said_before_end())).await;
                assert!(matches!(end, Got::Close(close::NORMAL | close::PROTOCOL)), "the socket ended with {end:?}");
                said
            }
            Endpoint::Daemon(..) => {
                let mut said = Vec::new();
                loop {
                    match due(self.link.socket.frame()).await {
                        Frame::Signal { session, signal: Signal::Close, reason: Reason::None | Reason::Error } => {
                            assert_eq!(session, self.link.session());
                            break said;
                        }
                        frame => said.push(self.link.line().open(&frame)),
                    }
                }
            }
        };
        Ending { said, cause: self.endpoint.cause().await }
    }

    /// The session ended, the endpoint said nothing before, and this is why.
    pub(crate) async fn ended_silently(&mut self) -> Cause {
        let ending = self.ended().await;
        assert!(ending.said.is_empty(), "{:?} was said", ending.said);
        ending.cause
    }

    /// The session ended after one Error frame about this one.
    pub(crate) async fn ended_with_error(&mut self, code: ErrorCode, about: Option<FrameId>) -> Cause {
        let ending = self.ended().await;
        let [said] = &ending.said[..] else { panic!("one Error was due, not {:?}", ending.said) };
        is_error(said, code, about);
        ending.cause
    }

    /// The endpoint answers with an Error frame about this one.
    pub(crate) async fn hears_error(&mut self, code: ErrorCode, about: Option<FrameId>) {
        is_error(&due(self.link.heard()).await, code, about);
    }

    /// Proves that the session goes on and that nothing was said since what was heard last: the next thing is the answer to a call.
    pub(crate) async fn goes_on_silently(&mut self) {
        let cid = self.link.request("nobody answers this", serde_json::json!(null)).await;
        match due(self.link.envelope()).await {
            Envelope::Error { cid: answered, .. } => assert_eq!(answered, cid, "another call was answered"),
            other => panic!("nothing was due, not {other:?}"),
        }
    }

    /// Sends this body of a Message on a subject, under a new id.
    pub(crate) async fn message(&mut self, subject: &str, data: impl Into<bytes::Bytes>) -> FrameId {
        let id = self.link.line().new_id();
        let body = FrameBody::Message { subject: subject.to_owned(), data: data.into() };
        self.say(id, body).await;
        id
    }

    /// Says something under this id.
    pub(crate) async fn say(&mut self, id: FrameId, body: FrameBody) {
        let frame = self.link.line().seal(&sbp::Frame { id, timestamp: None, body });
        self.link.socket.send(&frame).await;
    }

    /// Says a frame of any layout: kind, flags and what follows the id.
    pub(crate) async fn say_raw(&mut self, kind: u8, flags: u8, rest: &[u8]) -> FrameId {
        let id = self.link.line().new_id();
        self.link.say_plain(&[&[kind, flags], &id.as_bytes()[..], rest].concat()).await;
        id
    }
}

impl Endpoint {
    /// Why the session ended, as the user is told.
    pub(crate) async fn cause(&mut self) -> Cause {
        use sideband::Lifecycle;
        loop {
            match self {
                Self::Client(_, events) => match soon("the end of the session", events.next()).await {
                    Some(Lifecycle::Disconnected(cause) | Lifecycle::Retrying { cause, .. }) => return cause,
                    Some(Lifecycle::Closed(CloseReason::ByUser)) => return Cause::Closed,
                    Some(Lifecycle::Closed(
                        CloseReason::Fatal(cause) | CloseReason::Exhausted { cause, .. } | CloseReason::CodeUsed(cause),
                    )) => return cause,
                    Some(_) => {}
                    None => panic!("the client has closed without a reason"),
                },
                Self::Daemon(_, events) => match soon("the end of the session", events.next()).await {
                    Some(ServerEvent::Closed { cause, .. } | ServerEvent::Refused { cause, .. }) => return cause,
                    Some(_) => {}
                    None => panic!("the daemon has ended"),
                },
            }
        }
    }
}

/// An Error frame with this code about this frame.
pub(crate) fn is_error(frame: &sbp::Frame, code: ErrorCode, about: Option<FrameId>) {
    match &frame.body {
        FrameBody::Error { code: said, .. } => assert_eq!(*said, code.code(), "the code of {frame:?}"),
        other => panic!("Error {} was due, not {other:?}", code.code()),
    }
    if let Some(about) = about {
        assert_eq!(frame.id, about, "an Error carries the id of the frame that it is about");
    }
}

/// A client that agrees on keys with the daemon under test: its HandshakeInit goes out.
pub(crate) async fn greet(world: &mut World, link: &mut Link) -> (SessionId, FarClient) {
    let id = world.new_session();
    let (far, init) = FarClient::new(id, DAEMON, world.entropy());
    link.socket.send(&init).await;
    (id, far)
}
