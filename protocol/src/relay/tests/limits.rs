//! What a hub does about sessions over the limit, connections over their rate, ghosts, and receivers that are too slow.

use super::*;

/// A hub with its daemon that takes two sessions by default, and one client.
fn for_two(daemon_limit: Option<u64>) -> Bench {
    let mut bench = Bench::new(HubConfig { sessions: 2, ..HubConfig::default() });
    bench.hub.handle_daemon_open(DAEMON, true, daemon_limit, at(0)).unwrap();
    bench.hub.handle_client_open(CLIENT, session(), None, at(0)).unwrap();
    bench.take();
    bench
}

fn opens(bench: &mut Bench, n: u64, limit: Option<u64>) -> Result<(), Refused> {
    bench.hub.handle_client_open(ConnId(100 + n), id(100 + n), limit, at(1))
}

#[test]
fn rel_23_sessions_up_to_the_default_are_let_in() {
    let mut bench = for_two(None);
    assert_eq!(opens(&mut bench, 1, None), Ok(()));
    assert_eq!(opens(&mut bench, 2, None), Err(Refused::TooManySessions));
    bench.closed(CLIENT, at(2));
    assert_eq!(opens(&mut bench, 2, None), Ok(()), "one has ended");
    assert_eq!(HubConfig::default().sessions, 256);
}

#[test]
fn rel_23_the_tokens_limit_goes_before_the_default_both_ways() {
    for (client, daemon, more) in [
        (Some(1), None, 0),
        (None, Some(1), 0),
        (Some(4), None, 3),
        (None, Some(4), 3),
        (Some(4), Some(3), 2),
        (Some(3), Some(4), 2),
    ] {
        let mut bench = for_two(daemon);
        for n in 0..more {
            assert_eq!(opens(&mut bench, n, client), Ok(()), "{client:?} {daemon:?} {n}");
        }
        assert_eq!(opens(&mut bench, more, client), Err(Refused::TooManySessions), "{client:?} {daemon:?}");
    }
}

#[test]
fn rel_23_the_limit_of_the_daemon_that_is_here_counts() {
    let mut bench = for_two(Some(1));
    bench.hub.handle_daemon_open(DAEMON_AGAIN, true, Some(3), at(1)).unwrap();
    assert_eq!(opens(&mut bench, 1, None), Ok(()));
}

#[test]
fn rel_23_a_client_that_finds_no_daemon_is_told_that_rather_than_the_limit() {
    let mut bench = for_two(Some(1));
    bench.closed(DAEMON, at(1));
    assert_eq!(bench.state(session()), SessionState::Paused);
    assert_eq!(opens(&mut bench, 1, None), Ok(()));
    assert_eq!(bench.take()[0], control(ConnId(101), ControlCode::DaemonOffline, 101));
}

#[test]
fn rel_23_a_lower_limit_keeps_the_sessions_that_are_there() {
    let mut bench = for_two(None);
    opens(&mut bench, 1, None).unwrap();
    bench.hub.set_config(HubConfig { sessions: 1, ..HubConfig::default() });
    assert_eq!(bench.hub.sessions().count(), 2);
    assert_eq!(opens(&mut bench, 2, None), Err(Refused::TooManySessions));
}

#[test]
fn rel_01_a_new_grace_holds_for_sessions_paused_from_then_on() {
    let mut bench = Bench::paired_twice();
    bench.closed(DAEMON, at(10));
    bench.hub.set_config(HubConfig { grace: Duration::from_secs(5), ..HubConfig::default() });
    assert_eq!(bench.hub.poll_timeout(), Some(at(40)));
    bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(12)).unwrap();
    bench.message(DAEMON_AGAIN, signal(session(), Signal::Ready), at(12));
    bench.closed(DAEMON_AGAIN, at(13));
    assert_eq!(bench.hub.poll_timeout(), Some(at(18)), "it was paired again, and paused anew");
}

#[test]
fn rel_20_a_connection_over_its_rate_is_told_and_stays() {
    let mut bench = Bench::paired();
    bench.hub.handle_over_rate(CLIENT, 3, true, at(1));
    assert_eq!(bench.take(), [control(CLIENT, ControlCode::RateLimited, 0)]);
    bench.hub.handle_over_rate(CLIENT, 4, false, at(1));
    assert_eq!(bench.take(), []);
    assert_eq!(bench.hub.counters().dropped(DropReason::RateLimited), 7);
    assert_eq!(bench.state(session()), SessionState::Paired);
    bench.hub.handle_over_rate(ConnId(99), 4, true, at(1));
    assert_eq!(bench.take(), [], "nobody");
}

#[test]
fn rel_22_a_ping_goes_to_open_connections_only() {
    let mut bench = Bench::paired();
    for conn in [DAEMON, CLIENT] {
        bench.hub.handle_ping_due(conn, at(30));
        assert_eq!(bench.take(), [Done::Send(conn, Frame::Ping(Bytes::new()))]);
    }
    bench.closed(CLIENT, at(31));
    bench.hub.handle_ping_due(CLIENT, at(60));
    assert_eq!(bench.take(), []);
}

#[test]
fn rel_11_a_fresh_session_lives_beside_a_ghost_whose_sweep_the_daemon_learns_of() {
    let mut bench = Bench::paired();
    assert_eq!(bench.hub.handle_client_open(OTHER_CLIENT, other(), None, at(1)), Ok(()));
    assert_eq!(bench.take(), []);
    bench.hub.handle_swept(CLIENT, at(90));
    assert_eq!(bench.take(), [control(DAEMON, ControlCode::SessionEnded, 0xA)]);
    assert_eq!((bench.state(session()), bench.state(other())), (SessionState::Gone, SessionState::Paired));
}

#[test]
fn rel_22_a_swept_daemon_pauses_its_sessions() {
    let mut bench = Bench::paired();
    bench.hub.handle_swept(DAEMON, at(90));
    assert_eq!(bench.take(), [control(CLIENT, ControlCode::SessionPaused, 0xA)]);
}

#[test]
fn rel_21_counters_of_hubs_add_up() {
    let mut bench = Bench::paired();
    bench.message(CLIENT, data(session()), at(1));
    bench.hub.handle_over_rate(CLIENT, 4, false, at(1));
    let twice = bench.hub.counters().plus(bench.hub.counters());
    assert_eq!((twice.forwarded_frames, twice.forwarded_bytes), (2, 2 * 53));
    assert_eq!(twice.dropped(DropReason::RateLimited), 8);
}
