//! Calls and events without a session: CLI-09, CLI-10.

use serde_json::{Value, json};
use sideband::{Client, OnDisconnect, State};
use sideband_protocol::{rpc::Envelope, sbp::FrameBody, wire::ControlCode};
use sideband_tests::script::{Link, World};

use super::{answer_next, at_once, call, control, end_of, ended, state};
use crate::{
    endpoints::{account, code, connect},
    witness::{due, witnesses},
};

/// Text of this many bytes.
fn text(bytes: usize) -> Value {
    Value::String("x".repeat(bytes))
}

/// A client that fails calls without a session.
fn failing(env: &sideband_env::Env, quirks: sideband_protocol::quirks::Quirks) -> Client {
    account(env, quirks).on_disconnect(OnDisconnect::Fail).connect().unwrap()
}

/// The next event of the client: its name and data.
async fn event(link: &mut Link) -> (String, Value) {
    match link.envelope().await {
        Envelope::Event { name, data } => (name, serde_json::from_slice(&data.expect("data")).expect("JSON")),
        other => panic!("an event was due, not {other:?}"),
    }
}

/// Emits events `n` with their numbers as data.
async fn emit(client: &Client, numbers: std::ops::Range<u64>) {
    for number in numbers {
        at_once("an event", client.emit("n", number)).await.unwrap();
    }
}

/// The numbers of the next events must be these, and nothing else comes.
async fn hears(link: &mut Link, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(due(event(link)).await, ("n".to_owned(), json!(number)));
    }
    due(link.is_alive()).await;
}

witnesses! {
    // ---- CLI-09, pause ----

    async fn cli_09_calls_made_before_active_are_sent_in_order(quirks) breaks_with [SendsWaitingBackwards] {
        let (mut world, env) = World::new(9);
        let client = connect(&env, quirks);
        let one = call(&client, "one", json!(1)).await;
        let (id, socket) = world.client_socket().await;
        let two = call(&client, "two", json!(2)).await;
        let mut link = world.agree(socket).await;
        assert_eq!(link.session(), id);
        link.introduce().await;
        state(&client, State::Active).await;
        let three = call(&client, "three", json!(3)).await;
        for method in ["one", "two", "three"] {
            answer_next(&mut link, method).await;
        }
        for call in [one, two, three] {
            assert_eq!(end_of(call).await.unwrap(), "done");
        }
    }

    async fn cli_09_calls_made_while_paused_are_sent_in_order(quirks)
        breaks_with [SendsWaitingBackwards, LosesWaitingCall]
    {
        let (mut world, env) = World::new(9);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        let one = call(&client, "one", json!(1)).await;
        control(&client, &mut link, ControlCode::SessionPending, State::Paused).await;
        let two = call(&client, "two", json!(2)).await;
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        for method in ["one", "two"] {
            answer_next(&mut link, method).await;
        }
        for call in [one, two] {
            assert_eq!(end_of(call).await.unwrap(), "done");
        }
    }

    async fn cli_09_calls_made_during_a_delay_are_sent_in_the_next_session(quirks) breaks_with [SendsWaitingBackwards] {
        let (mut world, env) = World::new(9);
        let client = connect(&env, quirks);
        world.join().await.into_parts().0.cut();
        state(&client, State::Reconnecting).await;
        let one = call(&client, "one", json!(1)).await;
        let two = call(&client, "two", json!(2)).await;
        let mut link = world.join().await;
        for method in ["one", "two"] {
            answer_next(&mut link, method).await;
        }
        for call in [one, two] {
            assert_eq!(end_of(call).await.unwrap(), "done");
        }
    }

    /// Calls that wait survive as many attempts as it takes.
    async fn cli_09_calls_wait_over_failed_attempts(quirks) breaks_with [SendsWaitingBackwards] {
        let (mut world, env) = World::new(9);
        let client = connect(&env, quirks);
        let one = call(&client, "one", json!(1)).await;
        world.api().await.refuse(503);
        let two = call(&client, "two", json!(2)).await;
        world.client_keys().await.into_parts().0.cut();
        let mut link = world.join().await;
        for method in ["one", "two"] {
            answer_next(&mut link, method).await;
        }
        for call in [one, two] {
            assert_eq!(end_of(call).await.unwrap(), "done");
        }
    }

    async fn cli_09_65536_bytes_wait_then_buffer_overflow(quirks) breaks_with [BuffersWithoutLimit] {
        let (mut world, env) = World::new(9);
        let client = connect(&env, quirks);
        // Whatever else is counted with the params is less than 500 bytes a call.
        let one = call(&client, "one", text(32_000)).await;
        let two = call(&client, "two", text(32_000)).await;
        let large = call(&client, "large", text(2_000)).await;
        assert_eq!(code(ended(large).await), "buffer_overflow");
        let small = call(&client, "small", text(10)).await;
        // Who overflowed is not sent; the others are, in order, and what they took is free again.
        let mut link = world.join().await;
        for method in ["one", "two", "small"] {
            answer_next(&mut link, method).await;
        }
        for call in [one, two, small] {
            assert_eq!(end_of(call).await.unwrap(), "done");
        }
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        let again = call(&client, "again", text(60_000)).await;
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        answer_next(&mut link, "again").await;
        assert_eq!(end_of(again).await.unwrap(), "done");
    }

    /// Raw messages wait in the same buffer, between the calls.
    async fn cli_09_messages_wait_in_order_with_the_calls(quirks)
        breaks_with [SendsWaitingBackwards, BuffersWithoutLimit]
    {
        let (mut world, env) = World::new(9);
        let client = connect(&env, quirks);
        let one = call(&client, "one", text(30_000)).await;
        at_once("a message", client.send("app/two", vec![b'x'; 30_000])).await.unwrap();
        assert_eq!(code(at_once("a message", client.send("app/large", vec![b'x'; 6_000])).await), "buffer_overflow");
        let three = call(&client, "three", json!(3)).await;
        let mut link = world.join().await;
        let (method, _, cid) = link.called().await;
        assert_eq!(method, "one");
        let body = link.heard().await.body;
        let FrameBody::Message { subject, data } = &body else { panic!("a message was due, not {body:?}") };
        assert_eq!((&subject[..], data.len()), ("app/two", 30_000));
        link.answer(cid, json!("done")).await;
        answer_next(&mut link, "three").await;
        for call in [one, three] {
            assert_eq!(end_of(call).await.unwrap(), "done");
        }
    }

    /// A call that is given up no longer takes room.
    async fn cli_09_cancelled_call_makes_room(quirks) breaks_with [] {
        let (mut world, env) = World::new(9);
        let client = connect(&env, quirks);
        let one = call(&client, "one", text(60_000)).await;
        assert_eq!(code(ended(call(&client, "two", text(60_000)).await).await), "buffer_overflow");
        one.abort();
        assert!(one.await.unwrap_err().is_cancelled());
        let three = call(&client, "three", text(60_000)).await;
        let mut link = world.join().await;
        answer_next(&mut link, "three").await;
        assert_eq!(end_of(three).await.unwrap(), "done");
    }

    // ---- CLI-09, fail ----

    async fn cli_09_fail_while_paused_is_session_paused(quirks) breaks_with [ConfusesPausedWithLost, BuffersUnderFail] {
        let (mut world, env) = World::new(9);
        let client = failing(&env, quirks);
        let mut link = world.join().await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        assert_eq!(code(ended(call(&client, "m", json!(1)).await).await), "session_paused");
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        link.is_alive().await;
    }

    async fn cli_09_fail_without_a_session_is_not_connected(quirks) breaks_with [BuffersUnderFail] {
        let (mut world, env) = World::new(9);
        let client = failing(&env, quirks);
        // At the API, at the relay, negotiating, and between attempts.
        let api = world.api().await;
        assert_eq!(code(ended(call(&client, "m", json!(1)).await).await), "not_connected");
        api.refuse(503);
        state(&client, State::Reconnecting).await;
        assert_eq!(code(ended(call(&client, "m", json!(2)).await).await), "not_connected");
        world.grant().await;
        let dial = world.dial().await;
        assert_eq!(code(ended(call(&client, "m", json!(3)).await).await), "not_connected");
        let socket = dial.open().await;
        state(&client, State::Negotiating).await;
        assert_eq!(code(ended(call(&client, "m", json!(4)).await).await), "not_connected");
        let mut link = world.agree(socket).await;
        link.introduce().await;
        state(&client, State::Active).await;
        let call = call(&client, "m", json!(5)).await;
        let (_, params, cid) = link.called().await;
        assert_eq!(params, 5, "only the call in the session was sent");
        link.answer(cid, json!("done")).await;
        assert_eq!(end_of(call).await.unwrap(), "done");
    }

    // ---- CLI-09, calls in flight ----

    async fn cli_09_calls_in_flight_fail_when_the_socket_drops(quirks) breaks_with [CallsOutliveSocket] {
        for choice in [OnDisconnect::Pause, OnDisconnect::Fail] {
            let (mut world, env) = World::new(9);
            let client = account(&env, quirks).on_disconnect(choice).connect().unwrap();
            let mut link = world.join().await;
            state(&client, State::Active).await;
            let call = call(&client, "m", json!(1)).await;
            link.called().await;
            link.into_parts().0.cut();
            state(&client, State::Reconnecting).await;
            assert_eq!(code(ended(call).await), "not_connected", "{choice:?}");
            // It is not sent again.
            world.join().await.is_alive().await;
        }
    }

    async fn cli_09_calls_in_flight_fail_when_the_socket_drops_while_paused(quirks) breaks_with [CallsOutliveSocket] {
        let (mut world, env) = World::new(9);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        state(&client, State::Active).await;
        let sent = call(&client, "sent", json!(1)).await;
        link.called().await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        let waits = call(&client, "waits", json!(2)).await;
        link.into_parts().0.close(1012).await;
        state(&client, State::Reconnecting).await;
        assert_eq!(code(ended(sent).await), "not_connected");
        let mut link = world.join().await;
        answer_next(&mut link, "waits").await;
        assert_eq!(end_of(waits).await.unwrap(), "done");
    }

    // ---- CLI-10 ----

    async fn cli_10_newest_128_events_are_kept_and_sent_in_order(quirks)
        breaks_with [DropsEventsWhileAway, KeepsOldestEvents, SendsKeptEventsBackwards]
    {
        let (mut world, env) = World::new(10);
        let client = connect(&env, quirks);
        emit(&client, 0..130).await;
        let mut link = world.join().await;
        hears(&mut link, 2..130).await;
        emit(&client, 130..132).await;
        hears(&mut link, 130..132).await;
    }

    async fn cli_10_events_while_paused_are_kept(quirks)
        breaks_with [DropsEventsWhileAway, KeepsOldestEvents, SendsKeptEventsBackwards]
    {
        let (mut world, env) = World::new(10);
        let client = connect(&env, quirks);
        let mut link = world.join().await;
        control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
        emit(&client, 0..200).await;
        control(&client, &mut link, ControlCode::SessionResumed, State::Active).await;
        hears(&mut link, 72..200).await;
    }

    async fn cli_10_events_between_sessions_are_kept(quirks) breaks_with [DropsEventsWhileAway] {
        let (mut world, env) = World::new(10);
        let client = connect(&env, quirks);
        world.join().await.into_parts().0.cut();
        state(&client, State::Reconnecting).await;
        emit(&client, 0..3).await;
        world.api().await.refuse(503);
        let (_, socket) = world.client_socket().await;
        emit(&client, 3..5).await;
        let mut link = world.agree(socket).await;
        link.introduce().await;
        hears(&mut link, 0..5).await;
    }

    /// Also where calls fail: events are kept in both modes.
    async fn cli_10_events_are_kept_where_calls_fail(quirks) breaks_with [DropsEventsWhileAway] {
        let (mut world, env) = World::new(10);
        let client = failing(&env, quirks);
        emit(&client, 0..3).await;
        let mut link = world.join().await;
        hears(&mut link, 0..3).await;
    }
}
