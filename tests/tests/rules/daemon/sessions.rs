//! The sessions on one socket: DMN-06, DMN-07, DMN-14, DMN-15, DMN-16.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use sideband::{Connection, Messages, ServerEvent, ServerEvents};
use sideband_env::Env;
use sideband_protocol::{
    SessionId,
    failure::Cause,
    quirks::Quirks,
    sbp::FrameBody,
    wire::{ControlCode, Frame, Reason},
};
use sideband_tests::script::{DAEMON, FarClient, Got, Link, RELAY_URL, World, session, soon};
use tokio::sync::{mpsc, oneshot};

use super::{close_signal, closed, connection, online, until};
use crate::{
    endpoints::{daemon, listen},
    witness::{due, witnesses},
};

type Opened = mpsc::UnboundedReceiver<(Messages, Connection)>;

/// A daemon that takes messages and reads none of them: `opened` gives what would.
async fn unread(world: &mut World, env: &Env, quirks: Quirks) -> (sideband::Server, ServerEvents, Link, Opened) {
    let (sender, opened) = mpsc::unbounded_channel();
    let handler = move |connection: Connection| {
        let kept = sender.send((connection.messages(), connection));
        async move { kept.map_err(|_| "the test is over") }
    };
    let server = daemon(env, quirks).on_connection(handler).start().unwrap();
    let events = server.events();
    (server, events, world.go_online(true).await, opened)
}

fn app(data: &'static [u8]) -> FrameBody {
    FrameBody::Message { subject: "app/bulk".to_owned(), data: Bytes::from_static(data) }
}

/// A daemon whose connection handlers end as the test says, by a word for each session, and two sessions of it.
async fn handled(
    world: &mut World,
    env: &Env,
    quirks: Quirks,
) -> (sideband::Server, ServerEvents, Link, [(SessionId, oneshot::Sender<&'static str>); 2]) {
    let (sender, mut opened) = mpsc::unbounded_channel();
    let handler = move |_: Connection| {
        let (end, ends) = oneshot::channel();
        let sent = sender.send(end);
        async move {
            sent.map_err(|_| "the test is over")?;
            match ends.await {
                Ok("panics") => panic!("on purpose"),
                Ok("is done") => Ok(()),
                Ok(error) => Err(error),
                Err(_) => std::future::pending().await,
            }
        }
    };
    let server = daemon(env, quirks).on_connection(handler).start().unwrap();
    let events = server.events();
    let mut link = world.go_online(true).await;
    let first = world.meet(&mut link).await;
    let end_first = soon("a handler", opened.recv()).await.unwrap();
    let second = world.meet(&mut link).await;
    let end_second = soon("a handler", opened.recv()).await.unwrap();
    (server, events, link, [(first, end_first), (second, end_second)])
}

/// A fault in the handler of the first of two sessions.
async fn handler_fails(how: &'static str, quirks: Quirks) {
    let (mut world, env) = World::new(430);
    let (server, mut events, mut link, [(failing, end), (other, _end)]) = handled(&mut world, &env, quirks).await;
    let handle = connection(&server, failing).await;
    end.send(how).unwrap();
    // Signal(close, error), and no SBP Close before it.
    assert_eq!(due(link.socket.frame()).await, close_signal(failing, Reason::Error));
    let why = closed(&mut events, failing).await;
    assert!(matches!(&why, Cause::HandlerFailed(_)), "{why:?}");
    soon("the connection's end", handle.closed()).await;
    link.is_alive_on(other).await;
    assert_eq!(server.connections().len(), 1);
}

/// What a client does wrong in the first of two sessions, which ends it with an error.
async fn session_fails(quirks: Quirks, spoil: impl AsyncFnOnce(&mut Link, SessionId)) {
    let (mut world, env) = World::new(431);
    let (_server, mut events, mut link) = online(&mut world, &env, quirks).await;
    let (failing, other) = (world.meet(&mut link).await, world.meet(&mut link).await);
    spoil(&mut link, failing).await;
    loop {
        match due(link.socket.frame()).await {
            // An SBP Error may say what is wrong; an SBP Close would make it another reason.
            frame @ Frame::Data { .. } => {
                let said = link.line_of(failing).open(&frame).body;
                assert!(matches!(said, FrameBody::Error { .. }), "{said:?}");
            }
            frame => break assert_eq!(frame, close_signal(failing, Reason::Error)),
        }
    }
    closed(&mut events, failing).await;
    link.is_alive_on(other).await;
}

witnesses! {
    async fn dmn_06_an_init_for_a_new_id_starts_a_session(quirks) breaks_with [] {
        let (mut world, env) = World::new(400);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        for count in 1..=20 {
            let id = world.meet(&mut link).await;
            until(&mut events, |event| matches!(event, ServerEvent::Opened(opened) if *opened == id)).await;
            assert_eq!(server.connections().len(), count);
        }
        for id in server.connections().iter().map(Connection::session) {
            link.is_alive_on(id).await;
        }
    }

    async fn dmn_06_frames_of_unknown_sessions_are_ignored(quirks) breaks_with [ReconnectsOnUnknownSession] {
        let (mut world, env) = World::new(401);
        let (_server, _, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        let unknown = session(0xBAD);
        let payload = Bytes::from_static(&[0x5A; 128]);
        for frame in [
            Frame::Data { session: unknown, payload: payload.clone() },
            Frame::HandshakeAccept { session: unknown, payload },
            close_signal(unknown, Reason::None),
            Frame::Control { session: Some(unknown), code: Ok(ControlCode::SessionEnded), message: String::new() },
        ] {
            link.socket.send(&frame).await;
            due(link.is_alive_on(id)).await;
        }
    }

    async fn dmn_06_sessions_share_nothing_but_the_socket(quirks) breaks_with [EndsSessionsTogether] {
        let (mut world, env) = World::new(402);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let (forged, stays) = (world.meet(&mut link).await, world.meet(&mut link).await);
        link.socket.send(&Frame::Data { session: forged, payload: Bytes::from_static(&[0; 64]) }).await;
        assert_eq!(link.socket.frame().await, close_signal(forged, Reason::Error));
        assert_eq!(closed(&mut events, forged).await, Cause::DecryptFailed);
        due(link.is_alive_on(stays)).await;
        assert_eq!(server.connections().len(), 1);
    }

    async fn dmn_06_a_session_that_is_over_reaches_no_later_one_under_its_id(quirks)
        breaks_with [TakesOldSessionForNew]
    {
        let (mut world, env) = World::new(407);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        let old = connection(&server, id).await;
        link.socket.control(ControlCode::SessionEnded, Some(id)).await;
        closed(&mut events, id).await;
        world.exchange(&mut link, id).await;
        link.introduce_on(id).await;
        until(&mut events, |event| matches!(event, ServerEvent::Opened(opened) if *opened == id)).await;
        old.close();
        assert_eq!(link.socket.frame_within(Duration::from_secs(5)).await, None, "it closed the other one");
        assert!(old.emit("late", 1).await.is_err());
        assert!(old.call::<_, ()>("late", ()).await.is_err());
        assert_eq!(old.state(), None);
        link.is_alive_on(id).await;
    }

    async fn dmn_07_more_than_1024_waiting_frames_end_that_session_alone(quirks)
        breaks_with [WaitsForConsumerWithoutBound, SlowConsumerEndsAll]
    {
        let (mut world, env) = World::new(403);
        let (_server, mut events, mut link, _opened) = unread(&mut world, &env, quirks).await;
        let (slow, other) = (world.meet(&mut link).await, world.meet(&mut link).await);
        for _ in 0..1_024 {
            link.say_on(slow, app(b"x")).await;
        }
        link.is_alive_on(slow).await;
        link.is_alive_on(other).await;
        link.say_on(slow, app(b"x")).await;
        assert_eq!(due(link.socket.frame()).await, close_signal(slow, Reason::Error));
        let why = closed(&mut events, slow).await;
        assert!(matches!(why, Cause::Overflow(_)), "{why:?}");
        due(link.is_alive_on(other)).await;
    }

    async fn dmn_07_more_than_4_mib_waiting_end_that_session_alone(quirks)
        breaks_with [WaitsForConsumerWithoutBound, CountsNoWaitingBytes, SlowConsumerEndsAll]
    {
        let (mut world, env) = World::new(404);
        let (_server, _, mut link, _opened) = unread(&mut world, &env, quirks).await;
        let (slow, other) = (world.meet(&mut link).await, world.meet(&mut link).await);
        for _ in 0..64 {
            link.say_on(slow, app(&[b'x'; 65_000])).await;
        }
        link.is_alive_on(slow).await;
        link.say_on(slow, app(&[b'x'; 65_000])).await;
        assert_eq!(due(link.socket.frame()).await, close_signal(slow, Reason::Error));
        due(link.is_alive_on(other)).await;
    }

    async fn dmn_07_what_was_consumed_waits_no_longer(quirks) breaks_with [] {
        let (mut world, env) = World::new(405);
        let (_server, _, mut link, mut opened) = unread(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        let (mut messages, _) = soon("a connection", opened.recv()).await.unwrap();
        for _ in 0..5 {
            for _ in 0..1_000 {
                link.say_on(id, app(b"x")).await;
            }
            for _ in 0..1_000 {
                assert!(soon("a message", messages.next()).await.is_some());
            }
        }
        link.is_alive_on(id).await;
    }

    async fn dmn_14_the_server_shows_itself_and_makes_codes(quirks) breaks_with [] {
        let (mut world, env) = World::new(406);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        until(&mut events, |event| matches!(event, ServerEvent::Opened(_))).await;
        assert_eq!((&server.daemon_id()[..], server.relay_url()), (DAEMON, RELAY_URL));
        let connections = server.connections();
        assert_eq!(connections.iter().map(Connection::session).collect::<Vec<_>>(), [id]);
        assert_eq!(connections[0].peer_id(), "peer_far");
        let asking = server.clone();
        let code = tokio::spawn(async move { asking.create_quick_connect(Some(Duration::from_secs(600))).await });
        let call = world.api().await;
        assert_eq!((call.procedure(), call.bearer()), ("quickConnect.create", Some("sbnd_dak_far")));
        assert_eq!(call.input(), json!({ "ttlSeconds": 600 }));
        let url = "http://api.test/connect#qc=abcd-efgh-ijkl";
        call.ok(json!({ "code": "abcd-efgh-ijkl", "url": url, "expiresAt": "2027-01-15T08:10:00Z" }));
        let code = soon("a code", code).await.unwrap().unwrap();
        assert_eq!((&code.code[..], &code.url[..], &code.expires_at[..]), ("abcd-efgh-ijkl", url, "2027-01-15T08:10:00Z"));
    }

    async fn dmn_15_a_handler_that_fails_ends_its_session_only(quirks)
        breaks_with [KeepsSessionOfFailedHandler, EndsSessionSilently]
    {
        handler_fails("the database is away", quirks).await;
    }

    async fn dmn_15_a_handler_that_panics_ends_its_session_only(quirks)
        breaks_with [KeepsSessionOfFailedHandler, MissesHandlerPanics]
    {
        handler_fails("panics", quirks).await;
    }

    async fn dmn_15_a_handler_that_is_done_ends_nothing(quirks) breaks_with [] {
        let (mut world, env) = World::new(407);
        let (server, _, mut link, [(first, end), _second]) = handled(&mut world, &env, quirks).await;
        end.send("is done").unwrap();
        link.is_alive_on(first).await;
        assert_eq!(server.connections().len(), 2);
    }

    async fn dmn_15_a_forged_message_ends_with_an_error(quirks) breaks_with [EndsSessionSilently] {
        session_fails(quirks, async |link, id| {
            link.socket.send(&Frame::Data { session: id, payload: Bytes::from_static(&[1; 40]) }).await;
        })
        .await;
    }

    async fn dmn_15_an_sbp_violation_ends_with_an_error(quirks) breaks_with [EndsSessionSilently] {
        session_fails(quirks, async |link, id| {
            // Reserved flag bits.
            let mut plain = vec![0; 19];
            plain[1] = 0x80;
            let frame = link.line_of(id).seal_plain(&plain);
            link.socket.send(&frame).await;
        })
        .await;
    }

    async fn dmn_15_a_second_init_ends_with_an_error(quirks) breaks_with [EndsSessionSilently] {
        session_fails(quirks, async |link, id| {
            link.socket.send(&Frame::HandshakeInit { session: id, client_ephemeral: [9; 32] }).await;
        })
        .await;
    }

    async fn dmn_15_an_exchange_that_comes_to_nothing_ends_with_an_error(quirks) breaks_with [EndsSessionSilently] {
        let (mut world, env) = World::new(408);
        let (_server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.new_session();
        let (_, init) = FarClient::new(id, DAEMON, world.entropy());
        link.socket.send(&init).await;
        assert!(matches!(link.socket.frame().await, Frame::HandshakeAccept { .. }));
        assert!(matches!(link.socket.frame().await, Frame::Data { .. }), "the daemon's introduction");
        // The client never introduces itself.
        assert_eq!(due(link.socket.frame()).await, close_signal(id, Reason::Error));
        let refused = until(&mut events, |event| matches!(event, ServerEvent::Refused { .. })).await;
        assert!(matches!(refused, ServerEvent::Refused { cause: Cause::HandshakeTimeout, .. }), "{refused:?}");
    }

    async fn dmn_15_after_an_sbp_close_of_its_own_the_reason_is_none(quirks) breaks_with [SignalsErrorAfterClose] {
        let (mut world, env) = World::new(409);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let (left, other) = (world.meet(&mut link).await, world.meet(&mut link).await);
        connection(&server, left).await.close();
        assert!(matches!(link.heard_on(left).await.body, FrameBody::Close { .. }));
        assert_eq!(link.socket.frame().await, close_signal(left, Reason::None));
        assert_eq!(closed(&mut events, left).await, Cause::Closed);
        link.is_alive_on(other).await;
    }

    async fn dmn_15_after_an_sbp_close_of_the_clients_the_reason_is_none(quirks) breaks_with [SignalsErrorAfterClose] {
        let (mut world, env) = World::new(410);
        let (_server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let (left, other) = (world.meet(&mut link).await, world.meet(&mut link).await);
        link.say_on(left, FrameBody::Close { reason: "done".to_owned() }).await;
        assert_eq!(link.socket.frame().await, close_signal(left, Reason::None));
        assert_eq!(closed(&mut events, left).await, Cause::PeerClosed { reason: "done".to_owned() });
        link.is_alive_on(other).await;
    }

    async fn dmn_16_close_signals_every_live_session_and_closes_with_1000(quirks)
        breaks_with [LeavesWithoutSignal, LeavesAsGoingAway]
    {
        let (mut world, env) = World::new(411);
        let server = listen(&env, quirks);
        let mut link = world.go_online(true).await;
        let live = [world.meet(&mut link).await, world.meet(&mut link).await, world.meet(&mut link).await];
        let closing = tokio::spawn(async move { server.close().await });
        let (frames, end) = link.socket.end().await;
        assert_eq!(end, Got::Close(1000));
        for id in live {
            let of_it: Vec<_> = frames.iter().filter(|frame| frame.session() == id.get()).collect();
            let [goodbye, signal] = of_it[..] else { panic!("SBP Close and Signal, not {of_it:?}") };
            assert!(matches!(link.line_of(id).open(goodbye).body, FrameBody::Close { .. }));
            assert_eq!(*signal, close_signal(id, Reason::Shutdown));
        }
        soon("close", closing).await.unwrap();
    }

    async fn dmn_16_sessions_that_are_over_are_not_signalled(quirks) breaks_with [] {
        let (mut world, env) = World::new(412);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        link.socket.control(ControlCode::SessionEnded, Some(id)).await;
        closed(&mut events, id).await;
        let closing = tokio::spawn(async move { server.close().await });
        assert_eq!(link.socket.end().await, (vec![], Got::Close(1000)));
        soon("close", closing).await.unwrap();
    }
}
