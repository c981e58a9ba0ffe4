//! What becomes of single frames: WIRE-07 to WIRE-19, REL-03 to REL-06.

use super::*;
use crate::wire::close;

fn dropped(bench: &Bench) -> Vec<(ConnId, DropReason)> {
    let drop = |report: &Report| match *report {
        Report::Dropped { from, reason, .. } => Some((from, reason)),
        Report::Session { .. } | Report::Control { .. } => None,
    };
    bench.reports.iter().filter_map(drop).collect()
}

#[test]
fn wire_07_no_control_message_holds_an_id() {
    for code in ControlCode::ALL {
        assert!(!code.message().chars().any(|c| c.is_ascii_digit() || c == '_'), "{code}: {}", code.message());
    }
}

#[test]
fn wire_08_an_unknown_reason_counts_as_none() {
    let mut bench = Bench::paired();
    let mut message = signal(session(), Signal::Close).to_vec();
    *message.last_mut().unwrap() = 0xEE;
    assert_eq!(
        bench.message(DAEMON, message.into(), at(1)),
        [control(CLIENT, ControlCode::SessionExpired, 0xA), Done::Close(CLIENT, close::NORMAL)]
    );
}

#[test]
fn wire_08_a_broken_signal_is_malformed_also_for_an_unknown_session() {
    let mut bench = Bench::paired();
    let message = [&[0x04, 0, 0, 0, 1][..], &0xCu64.to_be_bytes(), &[0]].concat();
    assert_eq!(
        bench.message(DAEMON, message.into(), at(1))[..2],
        [control(DAEMON, ControlCode::MalformedFrame, 0), Done::Close(DAEMON, close::PROTOCOL)]
    );
}

#[test]
fn wire_09_only_terminal_codes_close() {
    let mut bench = Bench::paired();
    let mut all = bench.message(DAEMON, signal(id(0xC), Signal::Ready), at(1));
    all.extend(bench.closed(DAEMON, at(2)));
    bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(3)).unwrap();
    all.extend(bench.take());
    all.extend(bench.message(DAEMON_AGAIN, signal(session(), Signal::Ready), at(4)));
    let codes: Vec<_> = all
        .iter()
        .map(|done| match done {
            Done::Send(_, Frame::Control { code: Ok(code), .. }) => *code,
            Done::Send(..) | Done::Close(..) => panic!("{done:?}"),
        })
        .collect();
    use ControlCode::{SessionEnded, SessionPaused, SessionPending, SessionResumed};
    assert_eq!(codes, [SessionEnded, SessionPaused, SessionPending, SessionResumed]);
}

#[test]
fn wire_15_a_daemon_that_sends_control_with_session_zero_gets_zero_back() {
    let mut bench = Bench::paired();
    let message = Frame::Control { session: None, code: Ok(ControlCode::RateLimited), message: String::new() }.encode();
    assert_eq!(
        bench.message(DAEMON, message, at(1))[..2],
        [control(DAEMON, ControlCode::DisallowedSender, 0), Done::Close(DAEMON, close::PROTOCOL)]
    );
}

#[test]
fn wire_16_another_clients_session_is_not_found_and_not_touched() {
    let mut bench = Bench::paired_twice();
    assert_eq!(
        bench.message(CLIENT, data(other()), at(1)),
        [
            control(CLIENT, ControlCode::SessionNotFound, 0xB),
            Done::Close(CLIENT, close::NORMAL),
            control(DAEMON, ControlCode::SessionEnded, 0xA)
        ]
    );
    assert_eq!(bench.state(other()), SessionState::Paired);
}

#[test]
fn wire_16_is_checked_while_paused_too() {
    let mut bench = Bench::paused();
    assert_eq!(
        bench.message(CLIENT, data(other()), at(11)),
        [control(CLIENT, ControlCode::SessionNotFound, 0xB), Done::Close(CLIENT, close::NORMAL)]
    );
}

#[test]
fn wire_17_frame_for_a_session_that_never_was_closes_the_daemon() {
    for message in [
        data(session()),
        Frame::HandshakeAccept { session: session(), payload: Bytes::from_static(&[1; 128]) }.encode(),
    ] {
        let mut bench = Bench::online();
        assert_eq!(
            bench.message(DAEMON, message, at(1)),
            [control(DAEMON, ControlCode::SessionNotFound, 0xA), Done::Close(DAEMON, close::NORMAL)]
        );
    }
}

#[test]
fn wire_17_a_session_refused_as_offline_never_was() {
    let mut bench = Bench::new(HubConfig::default());
    bench.hub.handle_client_open(CLIENT, session(), None, at(0)).unwrap();
    bench.hub.handle_daemon_open(DAEMON, true, None, at(1)).unwrap();
    bench.take();
    assert_eq!(bench.message(DAEMON, data(session()), at(2))[1], Done::Close(DAEMON, close::NORMAL));
}

#[test]
fn wire_17_frame_for_ended_session_is_dropped() {
    let mut bench = Bench::paired();
    bench.closed(CLIENT, at(1));
    assert_eq!(bench.message(DAEMON, data(session()), at(1)), []);
    assert_eq!(dropped(&bench), [(DAEMON, DropReason::Ended)]);
    assert_eq!(bench.hub.counters().dropped(DropReason::Ended), 1);
    assert_eq!(bench.hub.daemon(), Some(DAEMON));
}

#[test]
fn wire_17_ended_sessions_are_remembered_over_the_daemons_reconnect() {
    let mut bench = Bench::paused();
    bench.closed(CLIENT, at(11));
    bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(20)).unwrap();
    assert_eq!(bench.message(DAEMON_AGAIN, data(session()), at(21)), []);
}

#[test]
fn wire_17_signal_for_an_ended_session_is_answered_with_ended() {
    for sent in [Signal::Ready, Signal::Close] {
        let mut bench = Bench::paired();
        bench.closed(CLIENT, at(1));
        assert_eq!(
            bench.message(DAEMON, signal(session(), sent), at(1)),
            [control(DAEMON, ControlCode::SessionEnded, 0xA)]
        );
    }
}

#[test]
fn wire_17_signal_for_an_unknown_session_makes_it_ended() {
    let mut bench = Bench::online();
    assert_eq!(
        bench.message(DAEMON, signal(session(), Signal::Ready), at(1)),
        [control(DAEMON, ControlCode::SessionEnded, 0xA)]
    );
    assert_eq!(bench.message(DAEMON, data(session()), at(1)), [], "frames behind it are dropped");
    assert_eq!(bench.hub.daemon(), Some(DAEMON), "the connection stays");
}

#[test]
fn wire_17_the_memory_of_ended_ids_is_bounded_and_the_oldest_go_first() {
    let mut bench = Bench::new(HubConfig { ended_ids: 2, ..HubConfig::default() });
    bench.hub.handle_daemon_open(DAEMON, true, None, at(0)).unwrap();
    for n in 1..=3 {
        bench.message(DAEMON, signal(id(n), Signal::Close), at(1));
    }
    assert_eq!(bench.message(DAEMON, data(id(2)), at(2)), []);
    assert_eq!(bench.message(DAEMON, data(id(3)), at(2)), []);
    assert_eq!(bench.message(DAEMON, data(id(1)), at(2))[0], control(DAEMON, ControlCode::SessionNotFound, 1));
    assert_eq!(HubConfig::default().ended_ids, 65_536);
}

#[test]
fn wire_18_frames_are_forwarded_byte_for_byte_without_a_copy() {
    let init = Frame::HandshakeInit { session: session(), client_ephemeral: [9; 32] }.encode();
    let accept = Frame::HandshakeAccept { session: session(), payload: Bytes::from_static(&[1; 128]) }.encode();
    // The relay never looks inside: sizes that an endpoint refuses pass.
    let odd = Bytes::from([&[0x03, 0, 0, 0, 1][..], &0xAu64.to_be_bytes(), &[0xFF]].concat());
    let mut bench = Bench::paired();
    for (from, to, message) in [
        (CLIENT, DAEMON, init),
        (DAEMON, CLIENT, accept),
        (CLIENT, DAEMON, data(session())),
        (DAEMON, CLIENT, data(session())),
        (CLIENT, DAEMON, odd),
    ] {
        bench.hub.handle_message(from, message.clone(), at(1));
        let Some(Output::Send { to: whom, message: sent, forwards }) = bench.hub.poll_output() else { panic!() };
        assert_eq!((whom, &sent, forwards), (to, &message, Some(session())));
        assert_eq!(sent.as_ptr(), message.as_ptr(), "the same memory");
        assert_eq!(bench.hub.poll_output(), None);
    }
    assert_eq!(
        (bench.hub.counters().forwarded_frames, bench.hub.counters().forwarded_bytes),
        (5, 45 + 141 + 53 + 53 + 14)
    );
}

#[test]
fn wire_19_ping_is_answered_with_the_same_bytes_and_not_forwarded() {
    let mut bench = Bench::paired();
    for conn in [CLIENT, DAEMON] {
        for payload in [&b""[..], b"12345678"] {
            let ping = Frame::Ping(Bytes::from_static(payload)).encode();
            assert_eq!(bench.message(conn, ping, at(1)), [Done::Send(conn, Frame::Pong(Bytes::from_static(payload)))]);
        }
    }
}

#[test]
fn wire_19_pong_is_taken_and_not_forwarded() {
    let mut bench = Bench::paired();
    for conn in [CLIENT, DAEMON] {
        assert_eq!(bench.message(conn, Frame::Pong(Bytes::from_static(b"x")).encode(), at(1)), []);
    }
}

#[test]
fn wire_19_ping_is_answered_while_paused() {
    let mut bench = Bench::paused();
    assert_eq!(
        bench.message(CLIENT, Frame::Ping(Bytes::new()).encode(), at(11)),
        [Done::Send(CLIENT, Frame::Pong(Bytes::new()))]
    );
}

#[test]
fn rel_03_client_frames_while_paused_are_dropped_and_counted() {
    let mut bench = Bench::paused();
    assert_eq!(bench.message(CLIENT, data(session()), at(11)), []);
    assert_eq!(dropped(&bench), [(CLIENT, DropReason::Paused)]);
    assert_eq!(bench.hub.counters().dropped(DropReason::Paused), 1);
    bench.hub.handle_daemon_open(DAEMON_AGAIN, true, None, at(12)).unwrap();
    bench.take();
    assert_eq!(
        bench.message(DAEMON_AGAIN, signal(session(), Signal::Ready), at(13)),
        [control(CLIENT, ControlCode::SessionResumed, 0xA)],
        "nothing was buffered"
    );
}

#[test]
fn rel_03_frames_while_pending_are_dropped_in_both_directions() {
    let mut bench = Bench::pending();
    assert_eq!(bench.message(CLIENT, data(session()), at(21)), []);
    assert_eq!(dropped(&bench), [(CLIENT, DropReason::Pending)]);
    assert_eq!(bench.message(DAEMON_AGAIN, data(session()), at(21)), []);
    assert_eq!(dropped(&bench), [(DAEMON_AGAIN, DropReason::Pending)]);
    assert_eq!(bench.hub.counters().dropped(DropReason::Pending), 2);
}

#[test]
fn rel_04_one_clients_end_leaves_the_other_alone() {
    let mut bench = Bench::paired_twice();
    bench.message(CLIENT, Bytes::new(), at(1));
    assert_eq!(bench.state(other()), SessionState::Paired);
    assert_eq!(bench.message(OTHER_CLIENT, data(other()), at(1)).len(), 1);
    assert_eq!(bench.message(DAEMON, data(other()), at(1)).len(), 1);
}

#[test]
fn rel_05_ready_for_a_paired_session_is_ignored() {
    let mut bench = Bench::paired();
    assert_eq!(bench.message(DAEMON, signal(session(), Signal::Ready), at(1)), []);
    assert_eq!(bench.session_reports(), []);
    assert_eq!(bench.state(session()), SessionState::Paired);
}

#[test]
fn rel_06_frames_of_a_session_keep_their_order() {
    let mut bench = Bench::paired();
    let frames: Vec<Bytes> =
        (0..50u8).map(|n| Frame::Data { session: session(), payload: Bytes::from(vec![n; 30]) }.encode()).collect();
    for frame in &frames {
        bench.hub.handle_message(CLIENT, frame.clone(), at(1));
    }
    let sent = bench.take().into_iter().map(|done| match done {
        Done::Send(DAEMON, frame) => frame.encode(),
        done @ (Done::Send(..) | Done::Close(..)) => panic!("{done:?}"),
    });
    assert!(sent.eq(frames));
}

#[test]
fn a_stranger_is_ignored() {
    let mut bench = Bench::paired();
    assert_eq!(bench.message(ConnId(99), data(session()), at(1)), []);
    assert_eq!(bench.closed(ConnId(99), at(1)), []);
    assert_eq!(bench.hub.counters(), Counters::default());
}
