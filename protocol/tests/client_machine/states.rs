//! States and the ways between them: CLI-01, CLI-11, CLI-12, CLI-14, CLI-15.

use sideband_protocol::{
    client::{Client, CloseReason, Done, Job, Report, State},
    endpoint::{Endpoint, Forbidden},
    failure::Cause,
    peer::{CallError, Delivery},
    wire::{ControlCode, Frame, close},
};

use super::world::{Outcome, Stage, World, account, ended_calls, lost, outcome, quick_connect, states};
use crate::common::{
    Seeded,
    bench::{Did, seconds},
    id,
};

/// The log as one line each, without what differs from run to run.
fn lines(log: &[Did<Job, Report>]) -> Vec<String> {
    log.iter()
        .map(|did| match did {
            Did::Start(Job::Dial(grant)) => format!("dial {}", grant.relay_url),
            Did::Start(job) => format!("start {job:?}")
                .replace(&crate::common::bench::identity(1).public().fingerprint().to_string(), "…"),
            Did::Sent(frame) => format!("send {}", frame.frame_type().name()),
            Did::Report(Report::State(state)) => format!("state {}", state.name()),
            did => format!("{did:?}"),
        })
        .collect()
}

/// CLI-01, CLI-12: an account client, from its start until it is active, step by step.
#[test]
fn cli_12_way_to_active_step_by_step() {
    let mut world = World::new(account());
    let mut steps = Vec::new();
    let mut look = |world: &mut World, what: &str| {
        steps.push(format!("{what}:"));
        steps.extend(lines(&world.bench.take()).into_iter().map(|line| format!("  {line}")));
    };
    world.go(Stage::Token);
    look(&mut world, "start");
    world.bench.done(Done::Token(Ok(())));
    look(&mut world, "a token");
    world.grant();
    look(&mut world, "a session");
    world.connect();
    look(&mut world, "a socket");
    world.accept();
    look(&mut world, "an Accept");
    world.bench.done(Done::Pin(Ok(None)));
    look(&mut world, "no pin");
    world.bench.done(Done::PinStored(Ok(())));
    look(&mut world, "the pin is written");
    let hello = world.daemon_hello.take().unwrap();
    world.bench.receive(&hello);
    look(&mut world, "an introduction");
    insta::assert_snapshot!("way_to_active", steps.join("\n"));
}

/// CLI-12: every change is told once, in order, whichever way is taken; `connected` on fresh connections only.
#[test]
fn cli_12_states_of_a_long_life_in_order() {
    use State::{Active, Closed, Connecting, Negotiating, Paused, Reconnecting};
    let mut world = World::new(account());
    let mut log = Vec::new();
    world.go(Stage::Token);
    log.extend(world.bench.take());
    world.fail_job(Cause::ApiTimeout);
    world.bench.advance(seconds(2));
    log.extend(world.bench.take());
    world.bench.done(Done::Token(Ok(())));
    world.grant();
    log.extend(world.bench.take());
    world.connect();
    log.push(Did::Report(Report::State(world.state())));
    world.accept();
    world.bench.done(Done::Pin(Ok(None)));
    world.bench.done(Done::PinStored(Ok(())));
    world.introduce();
    for code in [
        ControlCode::SessionPaused,
        ControlCode::SessionPaused,
        ControlCode::SessionPending,
        ControlCode::SessionResumed,
        ControlCode::SessionResumed,
        ControlCode::SessionExpired,
    ] {
        world.control(code);
    }
    world.bench.machine.close();
    world.bench.drain();
    log.extend(world.bench.take());
    assert_eq!(
        states(&log),
        [Connecting, Reconnecting, Connecting, Negotiating, Active, Paused, Active, Reconnecting, Closed]
    );
    let connected = log.iter().filter(|did| matches!(did, Did::Report(Report::Connected { .. }))).count();
    assert_eq!(connected, 1, "not on the resume");
    assert_eq!(log.iter().filter(|did| matches!(did, Did::Report(Report::Resumed))).count(), 1);
}

/// CLI-01: every attempt asks the token source and the API anew, and negotiates under the session it then got.
#[test]
fn cli_01_each_attempt_gets_a_new_token_and_session() {
    let mut world = World::at(Stage::Active, account());
    for attempt in 2..5 {
        world.bench.take();
        world.bench.lose(None);
        world.next_attempt();
        assert_eq!(world.bench.job, Some(Job::FetchToken), "attempt {attempt}");
        world.go(Stage::Active);
        assert_eq!((world.state(), world.grants), (State::Active, attempt));
    }
}

/// CLI-01: an answer without a readable session id is one that cannot be read.
#[test]
fn cli_01_grant_without_a_session_is_unreadable() {
    for token in ["", "x.y.z", &crate::common::presence_token("d_1", true)] {
        let mut world = World::fresh_at(Stage::Api, account());
        let grant = sideband_protocol::client::SessionGrant {
            relay_url: "wss://relay.test".to_owned(),
            token: token.to_owned(),
            daemon_id: None,
        };
        world.bench.done(Done::Session(Ok(grant)));
        assert!(matches!(outcome(&world.bench.take()), Outcome::Retry(Cause::ApiUnreadable(_))));
    }
}

// ---- CLI-11 ----

#[test]
fn cli_11_paused_keeps_the_socket_and_sends_nothing() {
    let mut world = World::fresh_at(Stage::Active, account());
    world.control(ControlCode::SessionPaused);
    world.call("later").unwrap();
    let log = world.bench.take();
    assert_eq!(log, [Did::Report(Report::State(State::Paused))]);
    assert!(world.bench.has_socket);
    world.bench.advance(seconds(44));
    assert_eq!(world.bench.take(), []);
}

#[test]
fn cli_11_pending_changes_no_state() {
    let mut world = World::fresh_at(Stage::Paused, account());
    world.control(ControlCode::SessionPending);
    assert_eq!(world.bench.take(), [Did::Report(Report::Pending)]);
    assert_eq!(world.state(), State::Paused);
}

/// CLI-11: the same keys and sequences: what the daemon seals before and after opens, and so does the client's.
#[test]
fn cli_11_resumed_goes_on_with_the_same_keys() {
    let mut world = World::fresh_at(Stage::Active, account());
    world.call("before").unwrap();
    assert_eq!(world.daemon_got(), ["request before"]);
    world.control(ControlCode::SessionPaused);
    world.call("while").unwrap();
    world.control(ControlCode::SessionPending);
    assert_eq!(world.daemon_got(), Vec::<String>::new());
    world.control(ControlCode::SessionResumed);
    assert_eq!(world.state(), State::Active);
    world.call("after").unwrap();
    assert_eq!(world.daemon_got(), ["request while", "request after"]);
    assert_eq!(world.grants, 1);
}

/// CLI-11: calls in flight go on waiting, and their clock never stops.
#[test]
fn cli_11_calls_in_flight_wait_and_time_out_while_paused() {
    let mut world = World::fresh_at(Stage::Active, account());
    let call = world.call("m").unwrap();
    world.control(ControlCode::SessionPaused);
    world.bench.advance(seconds(9));
    assert_eq!(ended_calls(&world.bench.take()), []);
    world.bench.advance(seconds(1));
    assert_eq!(ended_calls(&world.bench.take()), [(call, Err(CallError::Timeout))]);
    assert_eq!(world.state(), State::Paused);
}

/// CLI-11: an answer that was on its way when the daemon went is still one.
#[test]
fn cli_11_answer_after_the_resume_ends_the_call() {
    let mut world = World::fresh_at(Stage::Active, account());
    let call = world.call("m").unwrap();
    world.carry();
    let daemon = world.daemon.as_mut().unwrap();
    let Some(Delivery::Request { cid, .. }) = daemon.delivered.pop() else { panic!("a request") };
    daemon.session.respond(cid, sideband_protocol::peer::Answer::Result(None), &mut daemon.entropy);
    let answers = daemon.drain();
    world.control(ControlCode::SessionPaused);
    world.control(ControlCode::SessionResumed);
    world.bench.take();
    world.bench.receive(&answers[0]);
    assert_eq!(ended_calls(&world.bench.take()), [(call, Ok(()))]);
}

#[test]
fn cli_11_resumed_without_a_pause_changes_nothing() {
    let mut world = World::fresh_at(Stage::Active, account());
    world.control(ControlCode::SessionResumed);
    assert_eq!(world.bench.take(), []);
}

/// CLI-11: expired and ended, paused or not: a new session.
#[test]
fn cli_11_expired_and_ended_lead_to_a_new_session() {
    for stage in [Stage::Active, Stage::Paused] {
        for code in [ControlCode::SessionExpired, ControlCode::SessionEnded] {
            let mut world = World::fresh_at(stage, account());
            world.control(code);
            let log = world.bench.take();
            assert_eq!(outcome(&log), Outcome::Retry(Cause::Control(Ok(code))), "{stage:?}, {code}");
            assert_eq!(log[0], Did::Close(close::NORMAL));
            world.next_attempt();
            world.go(Stage::Active);
            assert_eq!(world.grants, 2);
        }
    }
}

/// CLI-11: any of them before active: the attempt failed, retry.
#[test]
fn cli_11_session_codes_before_active_fail_the_attempt() {
    for stage in Stage::NEGOTIATING {
        for code in [
            ControlCode::SessionPaused,
            ControlCode::SessionPending,
            ControlCode::SessionResumed,
            ControlCode::SessionExpired,
            ControlCode::SessionEnded,
        ] {
            let mut world = World::fresh_at(stage, account());
            world.control(code);
            let expected = Outcome::Retry(Cause::Control(Ok(code)));
            assert_eq!(outcome(&world.bench.take()), expected, "{stage:?}, {code}");
        }
    }
}

// ---- CLI-14 ----

/// CLI-14: final, idempotent, prompt; the job is given up, the socket closed, waiting and flying calls end with `peer_closed`.
#[test]
fn cli_14_close_from_every_stage() {
    for config in [account(), quick_connect()] {
        for stage in Stage::ALL {
            if stage == Stage::Token && config == quick_connect() {
                continue;
            }
            let mut world = World::at(stage, config.clone());
            let call = world.call("m").ok();
            world.bench.take();
            world.bench.machine.close();
            world.bench.drain();
            let log = world.bench.take();
            assert_eq!(world.state(), State::Closed, "{stage:?}");
            assert!(world.bench.job.is_none() && !world.bench.has_socket && world.bench.machine.is_closed());
            assert_eq!(world.bench.machine.poll_timeout(), None, "{stage:?}: nothing is waited for");
            if stage == Stage::Closed {
                assert_eq!(log, []);
            } else {
                let expected = [(call.expect("a call"), Err(CallError::PeerClosed))];
                assert_eq!(ended_calls(&log), expected, "{stage:?}");
                let last =
                    [Did::Report(Report::State(State::Closed)), Did::Report(Report::Closed(CloseReason::ByUser))];
                assert_eq!(log[log.len() - 2..], last, "{stage:?}");
            }
            // Whatever comes now changes nothing.
            world.bench.machine.close();
            world.bench.machine.start(world.bench.now);
            world.bench.machine.handle_socket_lost(None, world.bench.now);
            world.bench.machine.handle_message(Frame::Ping(Default::default()).encode(), world.bench.now);
            world.bench.machine.handle_forbidden(Forbidden::Text, world.bench.now);
            world.bench.machine.handle_done(Done::Token(Ok(())), world.bench.now);
            world.bench.drain();
            world.bench.advance(seconds(1_000));
            assert_eq!(world.bench.take(), [], "{stage:?}");
            assert_eq!(world.call("late").err(), Some(CallError::PeerClosed));
        }
    }
}

/// SBP-07: a client that is active says goodbye before the socket closes.
#[test]
fn sbp_07_close_of_an_active_client_sends_close_first() {
    let mut world = World::fresh_at(Stage::Active, account());
    world.bench.machine.close();
    world.bench.drain();
    let log = world.bench.take();
    let [Did::Sent(Frame::Data { payload, .. }), .., Did::Close(close::NORMAL), Did::Abandon, _, _] = &log[..] else {
        panic!("{log:?}")
    };
    let daemon = world.daemon.as_mut().unwrap();
    daemon.session.handle_payload(payload.clone(), &mut daemon.entropy);
    let ended = sideband_protocol::peer::SessionOutput::Ended(Cause::PeerClosed { reason: String::new() });
    assert_eq!(daemon.session.poll_output(), Some(ended));
}

/// CLI-14: a socket that a dial brings after the close is closed at once.
#[test]
fn cli_14_late_socket_is_closed() {
    let mut world = World::fresh_at(Stage::Dial, account());
    world.bench.machine.close();
    world.bench.drain();
    world.bench.take();
    world.bench.has_socket = true;
    world.bench.machine.handle_done(Done::Dialled(Ok(())), world.bench.now);
    world.bench.drain();
    assert_eq!(world.bench.take(), [Did::Close(close::NORMAL)]);
}

#[test]
fn second_start_does_nothing() {
    for stage in Stage::ALL.into_iter().filter(|stage| *stage != Stage::Idle) {
        let mut world = World::fresh_at(stage, account());
        world.bench.machine.start(world.bench.now);
        world.bench.drain();
        assert_eq!(world.bench.take(), [], "{stage:?}");
    }
}

/// CLI-09: a lost socket ends the calls in flight before anything else is told.
#[test]
fn cli_09_lost_socket_fails_calls_in_flight_at_once() {
    for stage in [Stage::Active, Stage::Paused] {
        let mut world = World::fresh_at(Stage::Active, account());
        let call = world.call("m").unwrap();
        if stage == Stage::Paused {
            world.control(ControlCode::SessionPaused);
        }
        world.bench.take();
        world.bench.lose(Some(1006));
        let log = world.bench.take();
        assert_eq!(ended_calls(&log), [(call, Err(CallError::NotConnected))]);
        assert!(log.contains(&Did::Report(Report::Disconnected(Cause::SocketLost { code: Some(1006) }))));
        assert_eq!(states(&log), [State::Reconnecting]);
    }
}

#[test]
fn dropped_socket_before_active_is_retried_and_no_disconnect() {
    for stage in Stage::NEGOTIATING {
        let mut world = World::fresh_at(stage, account());
        world.bench.lose(None);
        let log = world.bench.take();
        assert_eq!(outcome(&log), Outcome::Retry(lost()), "{stage:?}");
        assert!(!log.iter().any(|did| matches!(did, Did::Report(Report::Disconnected(_)))), "{stage:?}");
    }
}

/// The daemon's id is the one asked for, or the one that the redeemed code leads to.
#[test]
fn daemon_id_of_both_modes() {
    assert_eq!(Client::new(account(), Box::new(Seeded(1))).daemon_id(), "d_1");
    assert_eq!(Client::new(quick_connect(), Box::new(Seeded(1))).daemon_id(), "");
    let mut world = World::at(Stage::Active, quick_connect());
    assert_eq!(world.bench.machine.daemon_id(), "d_1");
    assert!(world.bench.take().contains(&Did::Report(Report::Connected { daemon_id: "d_1".to_owned() })));
    assert_eq!(world.session(), id(0x5101));
}
