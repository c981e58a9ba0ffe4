//! Keys go with what needs them, however long the machine itself is kept: CRY-12, DMN-10, and the end of a shell.

use sideband_protocol::{
    daemon::{Done, Report},
    endpoint::Endpoint as _,
    failure::Cause,
    peer::CallError,
    wire::{Frame, close},
};

use super::world::{World, api, config, ended_calls, frames, over};
use crate::common::{bench::Did, id, presence_token};

const GONE: Cause = Cause::Stopped("the test is over");

/// Daemons wherever a daemon can be; each holds its identity.
fn everywhere() -> Vec<(&'static str, World)> {
    let idle = World::new(config());
    let asking = World::started();
    let mut dialling = World::started();
    dialling.token(true);
    let mut waiting = World::started();
    waiting.fail_job(api(503));
    let mut serving = World::online();
    serving.meet(1);
    serving.exchange(id(2));
    let mut away = World::online();
    away.meet(1);
    away.bench.lose(None);
    let mut all = vec![
        ("idle", idle),
        ("getting a token", asking),
        ("dialling", dialling),
        ("waiting for a retry", waiting),
        ("online", World::online()),
        ("with sessions", serving),
        ("offline with sessions", away),
    ];
    for (state, world) in &mut all {
        assert!(world.bench.machine.holds_secrets(), "{state}");
        world.bench.take();
    }
    all
}

#[test]
fn cry_12_closed_daemon_holds_no_keys() {
    for (state, mut world) in everywhere() {
        world.bench.machine.close();
        // Also while nobody has taken what is to be sent and told.
        assert!(!world.bench.machine.holds_secrets(), "{state}");
    }
}

#[test]
fn cry_12_daemon_that_failed_for_good_holds_no_keys() {
    for (state, mut world) in everywhere() {
        if world.bench.has_socket {
            world.bench.lose(Some(close::REPLACED));
        } else if world.bench.job.is_some() {
            world.fail_job(api(403));
        } else {
            continue;
        }
        assert!(world.bench.machine.is_closed(), "{state}");
        assert!(!world.bench.machine.holds_secrets(), "{state}");
    }
}

/// Its user's handle may come late: no session begins any more, and none is answered.
#[test]
fn dmn_16_daemon_that_has_ended_takes_no_session() {
    let mut world = World::online();
    let (_, init) = world.init(id(1));
    world.bench.machine.close();
    world.bench.machine.handle_message(init.encode(), world.bench.now);
    world.bench.drain();
    assert_eq!(frames(&world.bench.take()), []);
    assert!(!world.bench.machine.holds_secrets());
}

/// A dial that nobody has begun yet holds the presence token; the close takes it back.
#[test]
fn dmn_16_close_takes_back_a_dial_that_has_not_begun() {
    let mut world = World::started();
    world.bench.machine.handle_done(Done::Token(Ok(presence_token("d_1", true))), world.bench.now);
    world.bench.machine.close();
    assert!(!world.bench.machine.holds_secrets());
    world.bench.drain();
    assert!(!world.bench.take().iter().any(|did| matches!(did, Did::Start(_))));
}

/// A shell that goes away ends everything: calls, sessions, the daemon, and each is told why. Nobody is left to say goodbye.
#[test]
fn daemon_without_a_shell_is_over() {
    for (state, mut world) in everywhere() {
        let opened = world.sessions().iter().any(|(session, _)| *session == id(1));
        let call = world.call(id(1)).ok();
        world.bench.take();
        world.bench.machine.abort(GONE);
        world.bench.drain();
        let log = world.bench.take();
        assert!(!world.bench.machine.holds_secrets() && world.bench.machine.is_closed(), "{state}");
        let ended: Vec<_> = call.into_iter().map(|call| (call, Err(CallError::NotConnected))).collect();
        assert_eq!(ended_calls(&log), ended, "{state}");
        assert_eq!(over(&log, id(1)), opened.then_some(GONE), "{state}");
        assert!(!frames(&log).iter().any(|frame| matches!(frame, Frame::Data { .. })), "{state}");
        assert_eq!(log.last(), Some(&Did::Report(Report::Ended(GONE))), "{state}");
        world.bench.machine.abort(GONE);
        world.bench.drain();
        assert_eq!(world.bench.take(), [], "{state}: once");
    }
}
