//! A session's states: CLI-11, CLI-12, CLI-13, CLI-15.

use std::time::Duration;

use serde_json::json;
use sideband::{Cause, Client, Lifecycle, LifecycleEvents, State};
use sideband_env::Timeline;
use sideband_protocol::{
    quirks::Quirks,
    sbp::FrameBody,
    wire::{ControlCode, Frame},
};
use sideband_tests::script::{Got, Link, World, soon};
use tokio_tungstenite::tungstenite::Message;

use super::{answer_next, at_once, call, closed, control, end_of, retrying, state};
use crate::{
    endpoints::{code, connect},
    witness::{due, witnesses},
};

const SECOND: Duration = Duration::from_secs(1);

/// The sequence in the nonce of a Data frame.
fn sequence(frame: &Frame) -> u64 {
    let Frame::Data { payload, .. } = frame else { panic!("Data was due, not {frame:?}") };
    u64::from_be_bytes(payload[4..12].try_into().unwrap())
}

/// An SBP Ping to the client: the sequence of its answer.
async fn pong(link: &mut Link) -> u64 {
    link.say(FrameBody::Ping).await;
    let frame = link.socket.frame().await;
    assert_eq!(link.line().open(&frame).body, FrameBody::Pong);
    sequence(&frame)
}

/// An attempt up to the HandshakeInit, ended by a Control code: another follows.
async fn fails_before_active(quirks: Quirks, code: ControlCode) {
    let (mut world, env) = World::new(11);
    let client = connect(&env, quirks);
    let mut events = client.events();
    let (id, mut socket) = world.client_socket().await;
    socket.frame().await;
    socket.control(code, Some(id)).await;
    let (_, _, cause) = retrying(&mut events).await;
    assert_eq!(cause, Cause::Control(Ok(code)));
    // The next one goes as far as the introductions.
    let mut link = world.client_keys().await;
    assert_ne!(link.session(), id);
    link.heard().await;
    let id = link.session();
    link.socket.control(code, Some(id)).await;
    assert_eq!(retrying(&mut events).await.2, Cause::Control(Ok(code)));
    world.join().await.is_alive().await;
}

/// A session that stood, ended by a Control code: the next one is new.
async fn ends(quirks: Quirks, code: ControlCode, paused: bool) {
    let (mut world, env) = World::new(11);
    let client = connect(&env, quirks);
    let mut events = client.events();
    let mut link = world.join().await;
    let first = link.session();
    state(&client, State::Active).await;
    if paused {
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
    }
    link.socket.control(code, Some(first)).await;
    assert_eq!(retrying(&mut events).await.2, Cause::Control(Ok(code)));
    assert_eq!(*client.state().borrow(), State::Reconnecting);
    link.socket.end().await;
    let mut next = world.join().await;
    assert_ne!(next.session(), first);
    next.is_alive().await;
}

/// What the client has reported so far, without waiting.
async fn reported(events: &mut LifecycleEvents) -> Vec<Lifecycle> {
    let mut all = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        all.push(event);
    }
    all
}

fn count_connected(events: &[Lifecycle]) -> usize {
    events.iter().filter(|event| matches!(event, Lifecycle::Connected { .. })).count()
}

/// The states among what was reported.
fn states(events: &[Lifecycle]) -> Vec<State> {
    let state = |event: &Lifecycle| if let Lifecycle::State(state) = event { Some(*state) } else { None };
    events.iter().filter_map(state).collect()
}

/// What may come from a relay that lives.
async fn shows_life(link: &mut Link, how: &str) {
    match how {
        "Pong" => link.socket.send(&Frame::Pong(bytes::Bytes::new())).await,
        "Ping" => link.socket.send(&Frame::Ping(bytes::Bytes::new())).await,
        "Data" => link.say(FrameBody::Pong).await,
        "Control" => link.socket.control(ControlCode::RateLimited, None).await,
        "WebSocket ping" => link.socket.send_message(Message::Ping(bytes::Bytes::new())).await,
        _ => link.socket.send_message(Message::Pong(bytes::Bytes::new())).await,
    }
}

/// A client that paused.
async fn paused(world: &mut World, client: &Client) -> Link {
    let mut link = world.join().await;
    control(client, &mut link, ControlCode::SessionPaused, State::Paused).await;
    link
}

witnesses! {
    // ---- CLI-11 ----

    async fn cli_11_paused_keeps_the_socket_and_sends_nothing(quirks)
        breaks_with [LeavesSocketOnPause, SendsWhilePaused]
    {
        let (mut world, env) = World::new(11);
        let client = connect(&env, quirks);
        client.handle("slow", |(), _| async { Ok::<_, sideband::HandlerError>("late") }).unwrap();
        let mut link = due(paused(&mut world, &client)).await;
        let waits = call(&client, "waits", json!(1)).await;
        client.emit("n", 1).await.unwrap();
        client.send("app/x", "raw").await.unwrap();
        // What was still under way when the daemon went asks for answers.
        link.say(FrameBody::Ping).await;
        let cid = link.request("slow", json!(null)).await;
        assert_eq!(link.socket.got_within(30 * SECOND).await, None, "nothing is sent while paused");
        assert!(world.api_within(Duration::ZERO).await.is_none());

        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        let mut said = Vec::new();
        for _ in 0..5 {
            said.push(link.heard().await);
        }
        assert!(said.iter().any(|frame| frame.body == FrameBody::Pong));
        let answered = |frame: &sideband_protocol::sbp::Frame| match sideband_tests::script::envelope_of(frame) {
            Some(sideband_protocol::rpc::Envelope::Result { cid: answered, .. }) => answered == cid,
            _ => false,
        };
        assert!(said.iter().any(answered));
        drop(waits);
    }

    async fn cli_11_calls_in_flight_go_on_waiting_while_paused(quirks) breaks_with [FailsCallsOnPause] {
        let (mut world, env) = World::new(11);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        state(&client, State::Active).await;
        let call = call(&client, "m", json!(1)).await;
        let (_, _, cid) = link.called().await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        assert!(link.socket.got_within(5 * SECOND).await.is_none());
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        link.answer(cid, json!("done")).await;
        assert_eq!(end_of(call).await.expect("the call went on"), "done");
    }

    async fn cli_11_clock_of_a_call_never_stops(quirks) breaks_with [StopsClockOnPause] {
        let (mut world, env) = World::new(11);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        state(&client, State::Active).await;
        let since = Timeline::start();
        let call = call(&client, "m", json!(1)).await;
        link.called().await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        assert_eq!(code(end_of(call).await), "rpc_timeout");
        assert!((10 * SECOND..11 * SECOND).contains(&since.elapsed()), "{:?}", since.elapsed());
        assert_eq!(*client.state().borrow(), State::Paused);
    }

    async fn cli_11_frames_lost_on_the_cut_wire_end_as_timeout(quirks) breaks_with [] {
        let (mut world, env) = World::new(11);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        state(&client, State::Active).await;
        let lost = call(&client, "lost", json!(1)).await;
        // Taken from the wire, and never answered.
        link.called().await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        let next = call(&client, "next", json!(2)).await;
        answer_next(&mut link, "next").await;
        assert_eq!(end_of(next).await.unwrap(), "done");
        assert_eq!(code(end_of(lost).await), "rpc_timeout");
        link.is_alive().await;
    }

    async fn cli_11_pending_changes_nothing(quirks) breaks_with [ReconnectsOnPending] {
        let (mut world, env) = World::new(11);
        let client = connect(&env, quirks);
        let mut link = paused(&mut world, &client).await;
        let waits = call(&client, "m", json!(1)).await;
        let session = link.session();
        link.socket.control(ControlCode::SessionPending, Some(session)).await;
        assert_eq!(link.socket.got_within(30 * SECOND).await, None);
        assert_eq!(*client.state().borrow(), State::Paused);
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        answer_next(&mut link, "m").await;
        assert_eq!(end_of(waits).await.unwrap(), "done");
    }

    async fn cli_11_resumed_keeps_keys_and_sequences(quirks) breaks_with [StartsOverOnResume, ResumesFromZero] {
        let (mut world, env) = World::new(11);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        state(&client, State::Active).await;
        let mut last = pong(&mut link).await;
        for _ in 0..3 {
            control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
            due(control(&client, &mut link, ControlCode::SessionResumed, State::Active)).await;
            // The far end goes on with its own keys, counter and window too.
            let next = due(pong(&mut link)).await;
            assert_eq!(next, last + 1);
            last = next;
        }
        assert!(world.api_within(Duration::ZERO).await.is_none(), "no new session");
    }

    async fn cli_11_expired_leads_to_a_new_session(quirks) breaks_with [KeepsExpiredSession] {
        ends(quirks, ControlCode::SessionExpired, false).await;
    }

    async fn cli_11_expired_while_paused_leads_to_a_new_session(quirks) breaks_with [KeepsExpiredSession] {
        ends(quirks, ControlCode::SessionExpired, true).await;
    }

    async fn cli_11_ended_ends_the_session(quirks) breaks_with [KeepsEndedSession] {
        ends(quirks, ControlCode::SessionEnded, false).await;
    }

    async fn cli_11_ended_while_paused_ends_the_session(quirks) breaks_with [KeepsEndedSession] {
        ends(quirks, ControlCode::SessionEnded, true).await;
    }

    async fn cli_11_paused_before_active_fails_the_attempt(quirks) breaks_with [BearsControlBeforeActive] {
        fails_before_active(quirks, ControlCode::SessionPaused).await;
    }

    async fn cli_11_pending_before_active_fails_the_attempt(quirks) breaks_with [BearsControlBeforeActive] {
        fails_before_active(quirks, ControlCode::SessionPending).await;
    }

    async fn cli_11_resumed_before_active_fails_the_attempt(quirks) breaks_with [BearsControlBeforeActive] {
        fails_before_active(quirks, ControlCode::SessionResumed).await;
    }

    async fn cli_11_expired_before_active_fails_the_attempt(quirks) breaks_with [BearsControlBeforeActive] {
        fails_before_active(quirks, ControlCode::SessionExpired).await;
    }

    async fn cli_11_ended_before_active_fails_the_attempt(quirks) breaks_with [BearsControlBeforeActive] {
        fails_before_active(quirks, ControlCode::SessionEnded).await;
    }

    // ---- CLI-12 ----

    async fn cli_12_connected_is_reported_on_a_fresh_connection_only(quirks) breaks_with [ConnectedOnResume] {
        let (mut world, env) = World::new(12);
        let client = connect(&env, quirks);
        let mut events = client.events();
        let mut link = world.join().await;
        state(&client, State::Active).await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        link.is_alive().await;
        let first = reported(&mut events).await;
        assert_eq!(count_connected(&first), 1, "{first:?}");
        assert!(first.iter().any(|event| matches!(event, Lifecycle::Resumed)), "a resume is told as one");
        link.into_parts().0.cut();
        world.join().await.is_alive().await;
        let second = reported(&mut events).await;
        assert_eq!(count_connected(&second), 1, "{second:?}");
    }

    async fn cli_12_every_state_change_is_observable_in_order(quirks) breaks_with [HidesNegotiating] {
        use State::{Active, Closed, Connecting, Negotiating, Paused, Reconnecting};
        let (mut world, env) = World::new(12);
        let client = connect(&env, quirks);
        assert_eq!(*client.state().borrow(), State::Idle);
        let mut events = client.events();
        let mut link = world.join().await;
        state(&client, Active).await;
        control(&client, &mut link, ControlCode::SessionPaused, Paused).await;
        control(&client, &mut link, ControlCode::SessionResumed, Active).await;
        link.into_parts().0.cut();
        world.api().await.refuse(503);
        let link = world.join().await;
        let (mut socket, _) = link.into_parts();
        socket.control(ControlCode::Forbidden, None).await;
        closed(&client).await;
        let seen = states(&reported(&mut events).await);
        let wanted = [
            Connecting, Negotiating, Active, Paused, Active, Reconnecting, Connecting, Reconnecting, Connecting,
            Negotiating, Active, Closed,
        ];
        assert_eq!(seen, wanted);
    }

    // ---- CLI-13 ----

    async fn cli_13_pings_every_45_s(quirks) breaks_with [NeverPings] {
        let (mut world, env) = World::new(13);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        let since = Timeline::start();
        state(&client, State::Active).await;
        for n in 1..=5 {
            let Got::Message(message) = link.socket.got().await else { panic!("the socket ended") };
            let Ok(Frame::Ping(bytes)) = Frame::decode(&message) else { panic!("a Ping was due") };
            let at = since.elapsed();
            assert!((45 * n * SECOND..(45 * n + 1) * SECOND).contains(&at), "Ping {n} after {at:?}");
            link.socket.send(&Frame::Pong(bytes)).await;
        }
    }

    async fn cli_13_silence_of_90_s_is_a_dropped_socket(quirks) breaks_with [BearsSilence] {
        let (mut world, env) = World::new(13);
        let client = connect(&env, quirks);
        let mut events = client.events();
        let _link = world.join().await;
        let since = Timeline::start();
        let (_, _, cause) = due(retrying(&mut events)).await;
        assert_eq!(cause, Cause::Silent);
        assert!((90 * SECOND..91 * SECOND).contains(&since.elapsed()), "{:?}", since.elapsed());
        world.join().await.is_alive().await;
    }

    /// Also while it is paused.
    async fn cli_13_silence_while_paused_is_a_dropped_socket(quirks) breaks_with [BearsSilence] {
        let (mut world, env) = World::new(13);
        let client = connect(&env, quirks);
        let mut events = client.events();
        let _link = paused(&mut world, &client).await;
        let since = Timeline::start();
        assert_eq!(due(retrying(&mut events)).await.2, Cause::Silent);
        assert!((90 * SECOND..91 * SECOND).contains(&since.elapsed()), "{:?}", since.elapsed());
    }

    async fn cli_13_whatever_comes_is_life(quirks) breaks_with [HearsNoLife] {
        for how in ["Pong", "Ping", "Data", "Control", "WebSocket ping", "WebSocket pong"] {
            let (mut world, env) = World::new(13);
            let client = connect(&env, quirks);
            let mut link = world.join().await;
            state(&client, State::Active).await;
            for _ in 0..3 {
                tokio::time::sleep(80 * SECOND).await;
                assert_eq!(*client.state().borrow(), State::Active, "{how}");
                shows_life(&mut link, how).await;
            }
        }
    }

    // ---- CLI-15 ----

    async fn cli_15_ready_once_active(quirks) breaks_with [] {
        let (mut world, env) = World::new(15);
        let client = connect(&env, quirks);
        let mut ready = Box::pin(client.when_ready());
        world.api().await.refuse(503);
        let (_, socket) = world.client_socket().await;
        assert!(tokio::time::timeout(SECOND, &mut ready).await.is_err(), "not while negotiating");
        let mut link = world.agree(socket).await;
        link.introduce().await;
        soon("the client to be ready", ready).await.unwrap();
        at_once("a client that is ready", client.when_ready()).await.unwrap();
    }

    async fn cli_15_pending_while_paused(quirks) breaks_with [ReadyWhilePaused] {
        let (mut world, env) = World::new(15);
        let client = connect(&env, quirks);
        let mut link = paused(&mut world, &client).await;
        let mut ready = Box::pin(client.when_ready());
        assert!(tokio::time::timeout(60 * SECOND, &mut ready).await.is_err(), "not while paused");
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        at_once("a client that is ready", ready).await.unwrap();
    }

    async fn cli_15_fails_on_closed(quirks) breaks_with [WaitsForClosed] {
        let (mut world, env) = World::new(15);
        let client = connect(&env, quirks);
        let ready = tokio::spawn({ let client = client.clone(); async move { client.when_ready().await } });
        world.api().await.refuse(403);
        let error = due(soon("a failure", ready)).await.unwrap().unwrap_err();
        assert_eq!(error.status(), Some(403));
        let again = at_once("a client that is closed", client.when_ready()).await.unwrap_err();
        assert_eq!(again.status(), Some(403));
    }

    async fn cli_15_fails_on_a_close_while_paused(quirks) breaks_with [WaitsForClosed] {
        let (mut world, env) = World::new(15);
        let client = connect(&env, quirks);
        let mut link = paused(&mut world, &client).await;
        let ready = tokio::spawn({ let client = client.clone(); async move { client.when_ready().await } });
        tokio::join!(client.close(), link.socket.end());
        assert_eq!(code(at_once("the end", ready).await.unwrap()), "peer_closed");
    }
}
