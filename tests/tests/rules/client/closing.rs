//! The end: CLI-14, a witness a state.

use std::time::Duration;

use serde_json::json;
use sideband::{
    Account, Client, CloseReason, Error, HandlerError, Identity, IdentityKey, Lifecycle, State,
    identity::{IdentityStore, StoreError},
};
use sideband_env::{BoxFuture, Env, Timeline};
use sideband_protocol::{quirks::Quirks, wire::ControlCode};
use sideband_tests::script::{API_URL, ApiCall, DAEMON, Dial, Got, Socket, World, grant, session, soon};
use tokio::io::AsyncReadExt;

use super::{LONG, at_once, call, control, ended, state};
use crate::{
    endpoints::{account, code, connect, quick_connect},
    trust::Pins,
    witness::witnesses,
};

/// Where the client is when it is closed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    TokenSource,
    Api,
    Redeem,
    Dial,
    Upgrade,
    Accept,
    PinLoading,
    FirstQuestion,
    MismatchQuestion,
    PinWriting,
    Introduction,
    Active,
    /// In the session, with a call of the daemon that a handler is busy with.
    Handler,
    Paused,
    Delay,
}

/// The other end of what the client had when it was closed.
enum Other {
    Api(ApiCall),
    Dial(Dial),
    Stream(tokio::io::DuplexStream),
    Socket(Socket),
    Nothing,
}

impl Other {
    /// The client lets go of it at once; a socket is closed with 1000.
    async fn let_go(self) {
        match self {
            Self::Api(mut call) => at_once("the API call", call.given_up()).await,
            Self::Dial(mut dial) => at_once("the dial", dial.given_up()).await,
            Self::Stream(mut stream) => {
                at_once("the connection", stream.read_to_end(&mut Vec::new())).await.unwrap();
            }
            Self::Socket(mut socket) => {
                let (_, end) = at_once("the socket", socket.end()).await;
                assert_eq!(end, Got::Close(1000));
            }
            Self::Nothing => {}
        }
    }
}

/// A store that never answers.
#[derive(Debug, Clone, Copy)]
struct Stuck {
    loads: bool,
}

impl IdentityStore for Stuck {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        Box::pin(async move { if self.loads { Ok(None) } else { std::future::pending().await } })
    }

    fn store<'a>(&'a self, _: &'a str, _: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::pending())
    }
}

impl At {
    /// A client that is there.
    async fn reach(self, world: &mut World, env: &Env, quirks: Quirks) -> (Client, Other) {
        let client = self.client(env, quirks);
        let other = match self {
            Self::TokenSource => {
                assert!(world.api_within(Duration::from_secs(1)).await.is_none());
                Other::Nothing
            }
            Self::Api | Self::Redeem => Other::Api(world.api().await),
            Self::Dial => {
                world.grant().await;
                Other::Dial(world.dial().await)
            }
            Self::Upgrade => {
                world.grant().await;
                let mut stream = world.dial().await.connect();
                // The request has come.
                assert!(soon("a request", stream.read(&mut [0; 16])).await.unwrap() > 0);
                Other::Stream(stream)
            }
            Self::Accept => {
                let (_, mut socket) = world.client_socket().await;
                socket.frame().await;
                Other::Socket(socket)
            }
            Self::PinLoading | Self::FirstQuestion | Self::MismatchQuestion | Self::PinWriting => {
                let mut link = world.client_keys().await;
                assert!(link.socket.got_within(Duration::from_secs(1)).await.is_none(), "it has not decided yet");
                Other::Socket(link.into_parts().0)
            }
            Self::Introduction => {
                let mut link = world.client_keys().await;
                link.heard().await;
                Other::Socket(link.into_parts().0)
            }
            Self::Active | Self::Handler | Self::Paused => {
                client.handle("busy", |(), _| std::future::pending::<Result<(), HandlerError>>()).unwrap();
                let mut link = world.join().await;
                state(&client, State::Active).await;
                if self == Self::Handler {
                    link.request("busy", json!(null)).await;
                    link.is_alive().await;
                }
                if self == Self::Paused {
                    control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
                }
                Other::Socket(link.into_parts().0)
            }
            Self::Delay => {
                world.api().await.refuse(503);
                state(&client, State::Reconnecting).await;
                Other::Nothing
            }
        };
        assert_eq!(*client.state().borrow(), self.state());
        (client, other)
    }

    fn client(self, env: &Env, quirks: Quirks) -> Client {
        let never = std::future::pending;
        match self {
            Self::TokenSource => {
                let account = Account::new(API_URL, DAEMON, std::future::pending).unwrap();
                account.env(env.clone()).danger_quirks(quirks).connect().unwrap()
            }
            Self::Redeem => quick_connect(env, quirks).connect().unwrap(),
            Self::PinLoading => account(env, quirks).identity_store(Stuck { loads: false }).connect().unwrap(),
            Self::PinWriting => account(env, quirks).identity_store(Stuck { loads: true }).connect().unwrap(),
            Self::FirstQuestion => {
                account(env, quirks).prompt(move |_| never(), move |_, _| never()).connect().unwrap()
            }
            Self::MismatchQuestion => {
                let pins = Pins::with(Identity::from_seed(&[9; 32]).public());
                let prompt = account(env, quirks).identity_store(pins).prompt(move |_| never(), move |_, _| never());
                prompt.connect().unwrap()
            }
            Self::Api
            | Self::Dial
            | Self::Upgrade
            | Self::Accept
            | Self::Introduction
            | Self::Active
            | Self::Handler
            | Self::Paused
            | Self::Delay => connect(env, quirks),
        }
    }

    const fn state(self) -> State {
        match self {
            Self::TokenSource | Self::Api | Self::Redeem | Self::Dial | Self::Upgrade => State::Connecting,
            Self::Accept
            | Self::PinLoading
            | Self::FirstQuestion
            | Self::MismatchQuestion
            | Self::PinWriting
            | Self::Introduction => State::Negotiating,
            Self::Active | Self::Handler => State::Active,
            Self::Paused => State::Paused,
            Self::Delay => State::Reconnecting,
        }
    }
}

/// It closes at once and for good, wherever it is, and tells every call.
async fn closes(quirks: Quirks, at: At) {
    let (mut world, env) = World::new(14);
    let (client, other) = at.reach(&mut world, &env, quirks).await;
    let mut events = client.events();
    // What it told on its way here.
    while tokio::time::timeout(Duration::ZERO, events.next()).await.is_ok() {}
    let waits = call(&client, "waits", json!(1)).await;
    let ready = (at.state() != State::Active).then(|| {
        tokio::spawn({
            let client = client.clone();
            async move { client.when_ready().await }
        })
    });
    let since = Timeline::start();

    tokio::join!(at_once("closing", client.close()), other.let_go());
    assert_eq!(since.elapsed(), Duration::ZERO, "{at:?}: closing is prompt");
    assert_eq!(code(ended(waits).await), "peer_closed", "{at:?}");
    if let Some(ready) = ready {
        let error = at_once("the end", ready).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::ByUser)), "{at:?}: {error}");
    }
    assert_eq!(at_once("the reason", client.closed()).await, CloseReason::ByUser);
    assert_eq!(*client.state().borrow(), State::Closed);

    // Final: nothing works any more, nothing is tried any more, and closing again is fine.
    assert_eq!(code(ended(call(&client, "late", json!(1)).await).await), "peer_closed");
    assert_eq!(code(at_once("an event", client.emit("late", 1)).await), "peer_closed");
    assert_eq!(code(at_once("a message", client.send("app/late", "x")).await), "peer_closed");
    at_once("closing again", client.close()).await;
    assert!(world.api_within(LONG).await.is_none() && world.dial_within(LONG).await.is_none(), "{at:?}");
    let mut told = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        told.push(event);
    }
    let [Lifecycle::State(State::Closed), Lifecycle::Closed(CloseReason::ByUser)] = &told[..] else {
        panic!("{at:?}: closed, and nothing else, not {told:?}")
    };
}

witnesses! {
    async fn cli_14_close_while_asking_the_token_source(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::TokenSource).await;
    }

    async fn cli_14_close_during_an_api_call(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::Api).await;
    }

    async fn cli_14_close_during_a_redeem(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::Redeem).await;
    }

    async fn cli_14_close_during_a_dial(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::Dial).await;
    }

    async fn cli_14_close_during_an_upgrade(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::Upgrade).await;
    }

    async fn cli_14_close_before_the_accept(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::Accept).await;
    }

    async fn cli_14_close_while_the_pin_is_read(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::PinLoading).await;
    }

    async fn cli_14_close_while_asking_about_the_first_identity(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::FirstQuestion).await;
    }

    async fn cli_14_close_while_asking_about_a_changed_identity(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::MismatchQuestion).await;
    }

    async fn cli_14_close_while_the_pin_is_written(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::PinWriting).await;
    }

    async fn cli_14_close_before_the_introduction(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::Introduction).await;
    }

    async fn cli_14_close_during_a_delay(quirks) breaks_with [ClosesOnlyFromSession] {
        closes(quirks, At::Delay).await;
    }

    async fn cli_14_close_while_active(quirks) breaks_with [FinishesCallsBeforeClosing] {
        closes(quirks, At::Active).await;
    }

    async fn cli_14_close_while_a_handler_is_busy(quirks) breaks_with [FinishesCallsBeforeClosing] {
        closes(quirks, At::Handler).await;
    }

    async fn cli_14_close_while_paused(quirks) breaks_with [FinishesCallsBeforeClosing] {
        closes(quirks, At::Paused).await;
    }

    async fn cli_14_all_waiting_calls_end_with_peer_closed(quirks) breaks_with [ClosesAsDisconnected] {
        let (mut world, env) = World::new(14);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        state(&client, State::Active).await;
        let sent = call(&client, "sent", json!(1)).await;
        link.called().await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        let waits = call(&client, "waits", json!(2)).await;
        tokio::join!(client.close(), link.socket.end());
        for call in [sent, waits] {
            assert_eq!(code(ended(call).await), "peer_closed");
        }
    }

    /// Twice at the same time, and once more.
    async fn cli_14_close_is_idempotent(quirks) breaks_with [ClosesTwice] {
        let (mut world, env) = World::new(14);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        state(&client, State::Active).await;
        let mut events = client.events();
        tokio::join!(client.close(), client.close(), link.socket.end());
        client.close().await;
        let mut closed = 0;
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
            closed += usize::from(matches!(event, Lifecycle::Closed(_)));
        }
        assert_eq!(closed, 1, "it is told once");
    }

    /// Whatever comes for a closed client changes nothing.
    async fn cli_14_nothing_follows_a_close(quirks) breaks_with [ClosesOnlyFromSession] {
        let (mut world, env) = World::new(14);
        let client = connect(&env, quirks);
        let call = world.api().await;
        at_once("closing", client.close()).await;
        call.ok(grant(DAEMON, session(1)));
        assert!(world.dial_within(LONG).await.is_none());
        assert_eq!(*client.state().borrow(), State::Closed);
    }

    /// Who does not answer the close holds nobody up: calls end at once, and the socket is let go within a second.
    async fn cli_14_silent_relay_holds_nobody_up(quirks) breaks_with [FinishesCallsBeforeClosing] {
        let (mut world, env) = World::new(14);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        state(&client, State::Active).await;
        let call = call(&client, "m", json!(1)).await;
        link.called().await;
        let close = tokio::spawn({ let client = client.clone(); async move { client.close().await } });
        assert_eq!(at_once("the reason", client.closed()).await, CloseReason::ByUser);
        assert_eq!(code(ended(call).await), "peer_closed");
        tokio::time::timeout(Duration::from_millis(1_010), close).await.expect("within a second").unwrap();
        drop(link);
    }
}
