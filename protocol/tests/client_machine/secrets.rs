//! Keys go with what needs them, however long the machine itself is kept: CRY-12, and the end of a shell.

use sideband_protocol::{
    client::{CloseReason, Done, Report, State},
    endpoint::Endpoint as _,
    failure::Cause,
    peer::CallError,
    wire::ControlCode,
};

use super::world::{Stage, World, account, ended_calls, quick_connect, states};
use crate::common::bench::Did;

const GONE: Cause = Cause::Stopped("the test is over");

/// Whether a client has keys here, or a secret of its own from which they come.
fn has_keys(stage: Stage) -> bool {
    Stage::NEGOTIATING.contains(&stage) || matches!(stage, Stage::Active | Stage::Paused)
}

fn every_stage() -> impl Iterator<Item = (Stage, World)> {
    let configs = [account(), quick_connect()];
    let all = configs.into_iter().flat_map(|config| Stage::ALL.map(|stage| (stage, config.clone())));
    let all = all.filter(|(stage, config)| *stage != Stage::Token || *config == account());
    all.map(|(stage, config)| {
        let world = World::fresh_at(stage, config);
        assert_eq!(world.bench.machine.holds_secrets(), has_keys(stage), "{stage:?}");
        (stage, world)
    })
}

#[test]
fn cry_12_closed_client_holds_no_keys() {
    for (stage, mut world) in every_stage() {
        world.bench.machine.close();
        // Also while nobody has taken what is to be sent and told.
        assert!(!world.bench.machine.holds_secrets(), "{stage:?}");
    }
}

#[test]
fn cry_12_client_that_failed_for_good_holds_no_keys() {
    for (stage, mut world) in every_stage().filter(|(stage, _)| has_keys(*stage)) {
        world.control(ControlCode::Forbidden);
        assert_eq!(world.state(), State::Closed);
        assert!(!world.bench.machine.holds_secrets(), "{stage:?}");
    }
}

/// Between two attempts nothing of the last one is left.
#[test]
fn cry_12_client_between_attempts_holds_no_keys() {
    for stage in Stage::ALL.into_iter().filter(|stage| has_keys(*stage)) {
        let mut world = World::at(stage, account());
        world.bench.lose(None);
        assert_eq!(world.state(), State::Reconnecting);
        assert!(!world.bench.machine.holds_secrets(), "{stage:?}");
    }
}

/// A dial that nobody has begun yet holds the session's token; the close takes it back.
#[test]
fn cli_14_close_takes_back_a_dial_that_has_not_begun() {
    let mut world = World::fresh_at(Stage::Api, account());
    let grant = sideband_protocol::client::SessionGrant {
        relay_url: "wss://relay.test".to_owned(),
        token: crate::common::client_token("d_1", crate::common::id(1)),
        daemon_id: None,
    };
    world.bench.machine.handle_done(Done::Session(Ok(grant)), world.bench.now);
    assert!(world.bench.machine.holds_secrets());
    world.bench.machine.close();
    assert!(!world.bench.machine.holds_secrets());
    world.bench.drain();
    assert!(!world.bench.take().iter().any(|did| matches!(did, Did::Start(_))));
}

/// A shell that goes away ends everything: calls, the session, the client, and each is told why.
#[test]
fn client_without_a_shell_is_over() {
    for (stage, mut world) in every_stage().filter(|(stage, _)| *stage != Stage::Closed) {
        let call = world.call("m").unwrap();
        world.bench.take();
        world.bench.machine.abort(GONE);
        world.bench.drain();
        let log = world.bench.take();
        assert!(!world.bench.machine.holds_secrets() && world.bench.machine.is_closed(), "{stage:?}");
        assert_eq!(ended_calls(&log), [(call, Err(CallError::PeerClosed))], "{stage:?}");
        let lost = log.contains(&Did::Report(Report::Disconnected(GONE)));
        assert_eq!(lost, matches!(stage, Stage::Active | Stage::Paused), "{stage:?}");
        assert_eq!(states(&log), [State::Closed], "{stage:?}");
        assert_eq!(log.last(), Some(&Did::Report(Report::Closed(CloseReason::Fatal(GONE)))), "{stage:?}");
        world.bench.machine.abort(GONE);
        world.bench.drain();
        assert_eq!(world.bench.take(), [], "{stage:?}: once");
    }
}
