//! One test a row of the pairing table, and what stands around it.

use super::*;
use crate::wire::close;

#[test]
fn rel_01_client_opens_with_daemon_online_pairs() {
    let mut bench = Bench::online();
    bench.hub.handle_client_open(CLIENT, session(), None, at(1)).unwrap();
    assert_eq!(bench.take(), []);
    assert_eq!(bench.session_reports(), [(session(), SessionState::Paired)]);
    assert_eq!(
        bench.hub.sessions().collect::<Vec<_>>(),
        [SessionView { session: session(), client: CLIENT, state: SessionState::Paired }]
    );
}

#[test]
fn rel_01_client_opens_with_daemon_offline_is_told_and_closed() {
    let mut bench = Bench::new(HubConfig::default());
    bench.hub.handle_client_open(CLIENT, session(), None, at(0)).unwrap();
    assert_eq!(bench.take(), [control(CLIENT, ControlCode::DaemonOffline, 0xA), Done::Close(CLIENT, close::NORMAL)]);
    assert_eq!(bench.session_reports(), [], "no session began, none ended");
    assert!(bench.hub.is_idle());
}

#[test]
fn rel_01_paired_daemon_closes_pauses() {
    let mut bench = Bench::paired();
    assert_eq!(bench.closed(DAEMON, at(10)), [control(CLIENT, ControlCode::SessionPaused, 0xA)]);
    assert_eq!(bench.session_reports(), [(session(), SessionState::Paused)]);
    assert_eq!(bench.hub.daemon(), None);
    assert_eq!(bench.hub.poll_timeout(), Some(at(40)));
}

#[test]
fn rel_01_paired_signal_close_expires_and_closes_the_client() {
    let mut bench = Bench::paired();
    assert_eq!(
        bench.message(DAEMON, signal(session(), Signal::Close), at(1)),
        [control(CLIENT, ControlCode::SessionExpired, 0xA), Done::Close(CLIENT, close::NORMAL)]
    );
    assert_eq!(bench.session_reports(), [(session(), SessionState::Gone)]);
    assert_eq!(bench.closed(CLIENT, at(1)), [], "the daemon closed it and needs no word of it");
}

#[test]
fn rel_01_paired_client_closes_tells_the_daemon() {
    let mut bench = Bench::paired();
    assert_eq!(bench.closed(CLIENT, at(1)), [control(DAEMON, ControlCode::SessionEnded, 0xA)]);
    assert_eq!(bench.state(session()), SessionState::Gone);
}

#[test]
fn rel_01_pending_client_closes_tells_the_daemon() {
    let mut bench = Bench::pending();
    assert_eq!(bench.closed(CLIENT, at(21)), [control(DAEMON_AGAIN, ControlCode::SessionEnded, 0xA)]);
    assert_eq!(bench.state(session()), SessionState::Gone);
    assert_eq!(bench.hub.poll_timeout(), None);
}

#[test]
fn rel_01_paused_client_closes_quietly() {
    let mut bench = Bench::paused();
    assert_eq!(bench.closed(CLIENT, at(11)), []);
    assert_eq!(bench.session_reports(), [(session(), SessionState::Gone)]);
    assert_eq!(bench.hub.poll_timeout(), None);
}

#[test]
fn rel_01_paused_resumable_daemon_returns_makes_pending() {
    let mut bench = Bench::paused();
    bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(39)).unwrap();
    assert_eq!(bench.take(), [control(CLIENT, ControlCode::SessionPending, 0xA)]);
    assert_eq!(bench.session_reports(), [(session(), SessionState::Pending)]);
    assert_eq!(bench.hub.poll_timeout(), Some(at(40)), "the grace goes on");
}

#[test]
fn rel_01_paused_daemon_returns_without_resume_expires() {
    let mut bench = Bench::paused();
    bench.hub.handle_daemon_open(DAEMON_AGAIN, false, None, at(20)).unwrap();
    assert_eq!(bench.take(), [control(CLIENT, ControlCode::SessionExpired, 0xA), Done::Close(CLIENT, close::NORMAL)]);
    assert_eq!(bench.state(session()), SessionState::Gone);
}

#[test]
fn rel_01_paused_grace_over_expires() {
    let mut bench = Bench::paused();
    bench.hub.handle_timeout(at(39));
    assert_eq!(bench.take(), []);
    bench.hub.handle_timeout(at(40));
    assert_eq!(bench.take(), [control(CLIENT, ControlCode::SessionExpired, 0xA), Done::Close(CLIENT, close::NORMAL)]);
    assert_eq!(bench.hub.poll_timeout(), None);
}

#[test]
fn rel_01_pending_grace_over_expires_and_tells_the_daemon() {
    let mut bench = Bench::pending();
    bench.hub.handle_timeout(at(40));
    assert_eq!(
        bench.take(),
        [
            control(CLIENT, ControlCode::SessionExpired, 0xA),
            Done::Close(CLIENT, close::NORMAL),
            control(DAEMON_AGAIN, ControlCode::SessionEnded, 0xA)
        ]
    );
}

#[test]
fn rel_01_pending_signal_ready_resumes() {
    let mut bench = Bench::pending();
    assert_eq!(
        bench.message(DAEMON_AGAIN, signal(session(), Signal::Ready), at(21)),
        [control(CLIENT, ControlCode::SessionResumed, 0xA)]
    );
    assert_eq!(bench.session_reports(), [(session(), SessionState::Paired)]);
    assert_eq!(bench.hub.poll_timeout(), None, "the grace is over for good");
}

#[test]
fn rel_01_pending_signal_close_expires() {
    let mut bench = Bench::pending();
    assert_eq!(
        bench.message(DAEMON_AGAIN, signal(session(), Signal::Close), at(21)),
        [control(CLIENT, ControlCode::SessionExpired, 0xA), Done::Close(CLIENT, close::NORMAL)]
    );
}

#[test]
fn rel_01_pending_daemon_closes_again_keeps_the_deadline() {
    let mut bench = Bench::pending();
    assert_eq!(bench.closed(DAEMON_AGAIN, at(25)), [control(CLIENT, ControlCode::SessionPaused, 0xA)]);
    assert_eq!(bench.state(session()), SessionState::Paused);
    assert_eq!(bench.hub.poll_timeout(), Some(at(40)), "counted from the first loss");
}

#[test]
fn rel_01_a_loss_after_a_resume_has_a_grace_of_its_own() {
    let mut bench = Bench::pending();
    bench.message(DAEMON_AGAIN, signal(session(), Signal::Ready), at(21));
    bench.closed(DAEMON_AGAIN, at(100));
    assert_eq!(bench.hub.poll_timeout(), Some(at(130)));
}

#[test]
fn rel_01_a_daemon_that_returns_after_the_grace_is_late_even_if_the_timer_is_too() {
    let mut bench = Bench::paused();
    bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(40)).unwrap();
    assert_eq!(bench.take(), [control(CLIENT, ControlCode::SessionExpired, 0xA), Done::Close(CLIENT, close::NORMAL)]);
}

#[test]
fn rel_01_the_grace_is_configurable() {
    let mut bench = Bench::new(HubConfig { grace: Duration::from_secs(2), ..HubConfig::default() });
    bench.hub.handle_daemon_open(DAEMON, true, None, at(0)).unwrap();
    bench.hub.handle_client_open(CLIENT, session(), None, at(0)).unwrap();
    bench.hub.handle_closed(DAEMON, at(10));
    assert_eq!(bench.hub.poll_timeout(), Some(at(12)));
}

#[test]
fn rel_01_a_client_closed_by_the_relay_ends_its_session_at_once() {
    let mut bench = Bench::paired();
    assert_eq!(
        bench.message(CLIENT, Bytes::from_static(b"short"), at(1)),
        [
            control(CLIENT, ControlCode::MalformedFrame, 0),
            Done::Close(CLIENT, close::PROTOCOL),
            control(DAEMON, ControlCode::SessionEnded, 0xA)
        ]
    );
    assert_eq!(bench.message(CLIENT, data(session()), at(1)), [], "what it still sends is discarded");
    assert_eq!(bench.closed(CLIENT, at(2)), [], "and its end is known already");
}

#[test]
fn rel_01_a_daemon_closed_by_the_relay_pauses_its_sessions_at_once() {
    let mut bench = Bench::paired_twice();
    assert_eq!(
        bench.message(DAEMON, data(id(0xC)), at(1)),
        [
            control(DAEMON, ControlCode::SessionNotFound, 0xC),
            Done::Close(DAEMON, close::NORMAL),
            control(CLIENT, ControlCode::SessionPaused, 0xA),
            control(OTHER_CLIENT, ControlCode::SessionPaused, 0xB)
        ]
    );
    assert_eq!(bench.hub.daemon(), None);
}

#[test]
fn rel_02_a_returned_daemon_alone_resumes_nothing() {
    let mut bench = Bench::pending();
    for now in 21..40 {
        bench.hub.handle_timeout(at(now));
        assert_eq!(bench.message(DAEMON_AGAIN, data(session()), at(now)), []);
    }
    assert_eq!(bench.state(session()), SessionState::Pending);
}

#[test]
fn rel_10_a_session_that_is_open_is_not_opened_again() {
    let mut bench = Bench::paired();
    assert_eq!(bench.hub.handle_client_open(OTHER_CLIENT, session(), None, at(1)), Err(Refused::SessionOpen));
    assert_eq!(bench.take(), []);
    assert_eq!(bench.hub.session(session()).unwrap().client, CLIENT);
}

#[test]
fn rel_12_a_second_daemon_socket_replaces_the_first() {
    let mut bench = Bench::paired();
    bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(5)).unwrap();
    assert_eq!(
        bench.take(),
        [
            Done::Close(DAEMON, close::REPLACED),
            control(CLIENT, ControlCode::SessionPaused, 0xA),
            control(CLIENT, ControlCode::SessionPending, 0xA)
        ]
    );
    assert_eq!(bench.session_reports(), [(session(), SessionState::Paused), (session(), SessionState::Pending)]);
    assert_eq!(bench.hub.poll_timeout(), Some(at(35)));
    assert_eq!(bench.closed(DAEMON, at(6)), [], "the old socket's end changes nothing any more");
    assert_eq!(bench.hub.daemon(), Some(DAEMON_AGAIN));
}

#[test]
fn rel_12_a_replacement_that_cannot_resume_expires_the_sessions() {
    let mut bench = Bench::paired();
    bench.hub.handle_daemon_open(DAEMON_AGAIN, false, None, at(5)).unwrap();
    assert_eq!(
        bench.take(),
        [
            Done::Close(DAEMON, close::REPLACED),
            control(CLIENT, ControlCode::SessionPaused, 0xA),
            control(CLIENT, ControlCode::SessionExpired, 0xA),
            Done::Close(CLIENT, close::NORMAL)
        ]
    );
}

#[test]
fn rel_12_refuse_keeps_the_first_until_it_is_gone() {
    let mut bench = Bench::new(HubConfig { takeover: Takeover::Refuse, ..HubConfig::default() });
    bench.hub.handle_daemon_open(DAEMON, true, None, at(0)).unwrap();
    assert_eq!(bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(1)), Err(Refused::DaemonConnected));
    assert_eq!((bench.take(), bench.hub.daemon()), (vec![], Some(DAEMON)));
    bench.hub.handle_closed(DAEMON, at(2));
    assert_eq!(bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(3)), Ok(()));
}

#[test]
fn rel_21_a_slow_client_gets_backpressure_and_nothing_after_the_gap() {
    let mut bench = Bench::paired_twice();
    bench.hub.handle_message(DAEMON, data(session()), at(1));
    bench.hub.handle_message(DAEMON, data(other()), at(1));
    bench.hub.handle_backpressure(CLIENT, at(1));
    let done = bench.take();
    assert!(matches!(done[0], Done::Send(OTHER_CLIENT, Frame::Data { .. })), "{done:?}");
    assert_eq!(
        done[1..],
        [
            control(CLIENT, ControlCode::Backpressure, 0),
            Done::Close(CLIENT, close::TRY_AGAIN),
            control(DAEMON, ControlCode::SessionEnded, 0xA)
        ]
    );
    bench.hub.handle_backpressure(CLIENT, at(2));
    assert_eq!(bench.take(), []);
}

#[test]
fn rel_24_shutdown_closes_everything_with_1012() {
    let mut bench = Bench::paired_twice();
    bench.hub.handle_shutdown(at(1));
    assert_eq!(
        bench.take(),
        [
            Done::Close(CLIENT, close::RESTART),
            Done::Close(OTHER_CLIENT, close::RESTART),
            Done::Close(DAEMON, close::RESTART)
        ]
    );
    assert_eq!(bench.session_reports(), [(session(), SessionState::Gone), (other(), SessionState::Gone)]);
}

#[test]
fn rel_24_shutdown_leaves_no_timer() {
    let mut bench = Bench::paused();
    bench.hub.handle_shutdown(at(11));
    assert_eq!(bench.take(), [Done::Close(CLIENT, close::RESTART)]);
    assert_eq!(bench.hub.poll_timeout(), None);
}
