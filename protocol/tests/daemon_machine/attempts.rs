//! What ends a daemon and what it tries again, one test a row: DMN-01, DMN-02, DMN-03, DMN-05.

use std::time::Duration;

use sideband_protocol::{
    daemon::{Done, Job, Report},
    endpoint::Endpoint as _,
    failure::Cause,
};

use super::world::{World, api, config, upgrade};
use crate::common::{
    at,
    bench::{Did, seconds},
    presence_token,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Row {
    Ends,
    Retries,
}
use Row::{Ends, Retries};

/// What a log says became of a cause; every report of an end counts.
fn check(mut world: World, cause: &Cause, row: Row) {
    let reports = world.bench.reports();
    let ends = reports.iter().filter(|report| matches!(report, Report::Ended(_))).count();
    match row {
        Ends => {
            assert_eq!(ends, 1, "told once: {reports:?}");
            assert_eq!(reports.last(), Some(&Report::Ended(cause.clone())));
            assert!(world.bench.machine.is_closed() && !world.bench.has_socket);
            assert_eq!(world.bench.machine.poll_timeout(), None);
            world.bench.advance(seconds(1_000));
            assert_eq!(world.bench.take(), []);
        }
        Retries => {
            let why = reports.iter().find_map(|report| match report {
                Report::Retrying { cause, .. } => Some(cause),
                _ => None,
            });
            assert_eq!((why, ends), (Some(cause), 0), "{reports:?}");
            world.next_attempt();
        }
    }
}

/// A daemon that asks for a token: for the first time, and after a lost connection.
fn asking() -> [World; 2] {
    let mut again = World::online();
    again.bench.lose(None);
    again.next_attempt();
    again.bench.take();
    [World::started(), again]
}

fn at_the_api(cause: Cause, row: Row) {
    for mut world in asking() {
        world.fail_job(cause.clone());
        check(world, &cause, row);
    }
}

fn at_the_dial(cause: Cause, row: Row) {
    for mut world in asking() {
        world.token(true);
        world.bench.take();
        world.fail_job(cause.clone());
        check(world, &cause, row);
    }
}

fn at_the_close(code: Option<u16>, row: Row) {
    for lasted in [0, 4, 6, 40] {
        let mut world = World::online();
        world.bench.advance(seconds(lasted));
        world.bench.take();
        world.bench.lose(code);
        check(world, &Cause::SocketLost { code }, row);
    }
}

macro_rules! rows {
    ($($name:ident: $check:ident($what:expr) => $row:ident;)*) => {
        $(#[test] fn $name() { $check($what, $row); })*
    };
}

rows! {
    dmn_01_api_103_is_retried: at_the_api(api(103)) => Retries;
    dmn_01_api_201_is_retried: at_the_api(api(201)) => Retries;
    dmn_01_api_202_is_retried: at_the_api(api(202)) => Retries;
    dmn_01_api_204_is_retried: at_the_api(api(204)) => Retries;
    dmn_01_api_206_is_retried: at_the_api(api(206)) => Retries;
    dmn_01_api_300_ends: at_the_api(api(300)) => Ends;
    dmn_01_api_301_ends: at_the_api(api(301)) => Ends;
    dmn_01_api_307_ends: at_the_api(api(307)) => Ends;
    dmn_01_api_400_ends: at_the_api(api(400)) => Ends;
    dmn_01_api_401_ends: at_the_api(api(401)) => Ends;
    dmn_01_api_402_ends: at_the_api(api(402)) => Ends;
    dmn_01_api_403_ends: at_the_api(api(403)) => Ends;
    dmn_01_api_404_ends: at_the_api(api(404)) => Ends;
    dmn_01_api_405_ends: at_the_api(api(405)) => Ends;
    dmn_01_api_408_ends: at_the_api(api(408)) => Ends;
    dmn_01_api_409_is_retried: at_the_api(api(409)) => Retries;
    dmn_01_api_413_ends: at_the_api(api(413)) => Ends;
    dmn_01_api_429_is_retried: at_the_api(api(429)) => Retries;
    dmn_01_api_499_ends: at_the_api(api(499)) => Ends;
    dmn_01_api_500_is_retried: at_the_api(api(500)) => Retries;
    dmn_01_api_502_is_retried: at_the_api(api(502)) => Retries;
    dmn_01_api_503_is_retried: at_the_api(api(503)) => Retries;
    dmn_01_api_599_is_retried: at_the_api(api(599)) => Retries;
    dmn_01_unreadable_200_is_retried: at_the_api(Cause::ApiUnreadable("html".to_owned())) => Retries;
    dmn_01_api_out_of_reach_is_retried: at_the_api(Cause::ApiUnreachable("refused".to_owned())) => Retries;

    dmn_01_upgrade_103_is_retried: at_the_dial(upgrade(103)) => Retries;
    dmn_01_upgrade_204_is_retried: at_the_dial(upgrade(204)) => Retries;
    dmn_01_upgrade_301_ends: at_the_dial(upgrade(301)) => Ends;
    dmn_01_upgrade_400_ends: at_the_dial(upgrade(400)) => Ends;
    dmn_01_upgrade_401_is_retried: at_the_dial(upgrade(401)) => Retries;
    dmn_01_upgrade_403_ends: at_the_dial(upgrade(403)) => Ends;
    dmn_01_upgrade_404_ends: at_the_dial(upgrade(404)) => Ends;
    dmn_01_upgrade_409_is_retried: at_the_dial(upgrade(409)) => Retries;
    dmn_01_upgrade_426_ends: at_the_dial(upgrade(426)) => Ends;
    dmn_01_upgrade_429_is_retried: at_the_dial(upgrade(429)) => Retries;
    dmn_01_upgrade_500_is_retried: at_the_dial(upgrade(500)) => Retries;
    dmn_01_upgrade_502_is_retried: at_the_dial(upgrade(502)) => Retries;
    dmn_01_upgrade_503_is_retried: at_the_dial(upgrade(503)) => Retries;
    dmn_01_relay_out_of_reach_is_retried: at_the_dial(Cause::RelayUnreachable("refused".to_owned())) => Retries;
    dmn_01_relay_url_that_cannot_be_dialled_ends: at_the_dial(Cause::RelayUrl("bad".to_owned())) => Ends;

    dmn_01_cut_is_retried: at_the_close(None) => Retries;
    dmn_01_close_1000_is_retried: at_the_close(Some(1000)) => Retries;
    dmn_01_close_1001_is_retried: at_the_close(Some(1001)) => Retries;
    dmn_01_close_1002_is_retried: at_the_close(Some(1002)) => Retries;
    dmn_01_close_1003_is_retried: at_the_close(Some(1003)) => Retries;
    dmn_01_close_1005_is_retried: at_the_close(Some(1005)) => Retries;
    dmn_01_close_1008_is_retried: at_the_close(Some(1008)) => Retries;
    dmn_01_close_1009_is_retried: at_the_close(Some(1009)) => Retries;
    dmn_01_close_1011_is_retried: at_the_close(Some(1011)) => Retries;
    dmn_01_close_1012_is_retried: at_the_close(Some(1012)) => Retries;
    dmn_01_close_1013_is_retried: at_the_close(Some(1013)) => Retries;
    dmn_01_close_4000_is_retried: at_the_close(Some(4000)) => Retries;
    dmn_01_close_4001_ends: at_the_close(Some(4001)) => Ends;
    dmn_01_close_4002_is_retried: at_the_close(Some(4002)) => Retries;
}

#[test]
fn dmn_01_api_without_an_answer_is_retried_after_15_s() {
    for mut world in asking() {
        world.bench.advance(seconds(15) - Duration::from_nanos(1));
        assert_eq!(world.bench.take(), []);
        world.bench.advance(Duration::from_nanos(1));
        check(world, &Cause::ApiTimeout, Retries);
    }
}

#[test]
fn dmn_01_dial_without_an_answer_is_retried_after_15_s() {
    for mut world in asking() {
        world.token(true);
        world.bench.take();
        world.bench.advance(seconds(15) - Duration::from_nanos(1));
        assert_eq!(world.bench.take(), []);
        world.bench.advance(Duration::from_nanos(1));
        check(world, &Cause::DialTimeout, Retries);
    }
}

/// Within 60 s of a dial that was given up, the last moment included.
#[test]
fn dmn_01_replaced_by_its_own_dial_for_60_s() {
    for (after, row) in [
        (seconds(5), Retries),
        (seconds(60), Retries),
        (seconds(60) + Duration::from_nanos(1), Ends),
        (seconds(80), Ends),
    ] {
        let mut world = World::started();
        world.token(true);
        world.bench.advance(seconds(15));
        let gave_up = world.bench.now;
        assert_eq!(gave_up, at(15));
        world.next_attempt();
        world.go_online(true);
        world.bench.advance_alive((gave_up + after) - world.bench.now);
        world.bench.take();
        world.bench.lose(Some(4001));
        check(world, &Cause::SocketLost { code: Some(4001) }, row);
    }
}

/// A dial that was refused, or an API call that was given up, made no connection that could come late.
#[test]
fn dmn_01_only_a_dial_given_up_excuses_a_replacement() {
    let mut world = World::started();
    world.bench.advance(seconds(15));
    world.next_attempt();
    world.token(true);
    world.fail_job(upgrade(503));
    world.next_attempt();
    world.go_online(true);
    world.bench.take();
    world.bench.lose(Some(4001));
    check(world, &Cause::SocketLost { code: Some(4001) }, Ends);
}

fn wrong_daemon(id: &str) -> Cause {
    Cause::Api {
        status: 400,
        code: "BAD_REQUEST".to_owned(),
        message: format!("the API key belongs to daemon d_1, not to {id}"),
        retry_after: None,
    }
}

#[test]
fn dmn_02_another_daemons_key_is_a_400() {
    let mut config = config();
    config.daemon_id = Some("d_2".to_owned());
    let mut world = World::new(config);
    world.start();
    world.token(true);
    assert_eq!(world.bench.job, None, "nobody is dialled");
    check(world, &wrong_daemon("d_2"), Ends);
}

#[test]
fn dmn_02_given_id_that_fits_is_fine() {
    let mut config = config();
    config.daemon_id = Some("d_1".to_owned());
    let world = World::online_with(config);
    assert_eq!(world.bench.machine.daemon_id(), "d_1");
}

/// ◇ A key that has come to belong to another daemon is no key of this one, given id or not.
#[test]
fn dmn_02_id_that_changes_later_is_a_400() {
    let mut world = World::online();
    world.bench.lose(None);
    world.next_attempt();
    world.bench.take();
    world.bench.done(Done::Token(Ok(presence_token("d_9", true))));
    let reports = world.bench.reports();
    let [Report::Ended(Cause::Api { status: 400, .. })] = &reports[..] else { panic!("{reports:?}") };
}

#[test]
fn dmn_02_token_that_cannot_be_read_is_retried() {
    let mut world = World::started();
    world.bench.done(Done::Token(Ok("not.a.token".to_owned())));
    let reports = world.bench.reports();
    let [Report::Retrying { cause: Cause::ApiUnreadable(_), .. }] = &reports[..] else { panic!("{reports:?}") };
}

/// Whatever failed, the next attempt starts with a token: `next_attempt` asserts it.
#[test]
fn dmn_03_every_connection_has_a_token_of_its_own() {
    let mut world = World::started();
    for round in 0..5 {
        let token = presence_token("d_1", round % 2 == 0);
        world.bench.done(Done::Token(Ok(token.clone())));
        assert_eq!(world.bench.job, Some(Job::Dial(token)));
        if round % 2 == 0 {
            world.connect();
            world.bench.lose(None);
        } else {
            world.fail_job(upgrade(503));
        }
        world.next_attempt();
    }
}

#[test]
fn dmn_05_close_ends_every_stage_at_once() {
    let stages: [(&str, fn(&mut World)); 6] = [
        ("idle", |world| *world = World::new(config())),
        ("token", |_| {}),
        ("dial", |world| world.token(true)),
        ("online", |world| world.go_online(true)),
        ("delay", |world| world.fail_job(api(503))),
        ("ended", |world| world.fail_job(api(403))),
    ];
    for (stage, go) in stages {
        let mut world = World::started();
        go(&mut world);
        world.bench.take();
        world.bench.machine.close();
        world.bench.drain();
        let log = world.bench.take();
        let closed: &[_] = if stage == "online" { &[Did::Close(1000)] } else { &[] };
        let end = [Did::Abandon, Did::Report(Report::Ended(Cause::Closed))];
        let wanted = if stage == "ended" { vec![] } else { [closed, &end].concat() };
        assert_eq!(log, wanted, "{stage}");
        assert!(world.bench.machine.is_closed() && world.bench.job.is_none(), "{stage}");
        world.bench.machine.close();
        world.bench.machine.start(world.bench.now);
        world.bench.drain();
        world.bench.advance(seconds(1_000));
        assert_eq!(world.bench.take(), [], "{stage}");
    }
}
