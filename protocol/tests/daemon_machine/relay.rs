//! What the relay sends: DMN-06, DMN-08, DMN-09, DMN-10, and WIRE-02 to WIRE-05 and WIRE-21 at a daemon.

use bytes::Bytes;
use sideband_protocol::{
    daemon::Report,
    endpoint::{Endpoint as _, Forbidden},
    failure::Cause,
    wire::{ControlCode, Frame, Reason, UnknownControlCode},
};

use super::world::{World, close, frames, over};
use crate::common::{
    bench::{Did, seconds},
    id,
};

type Code = Result<ControlCode, UnknownControlCode>;

fn every_code() -> impl Iterator<Item = Code> {
    let unknown = [0, 0x0100, 0x0406, 0x0900, 0x1000, 0x1005, 0x7FFF, 0xE001, 0xFFFF];
    ControlCode::ALL.iter().copied().map(Ok).chain(unknown.map(|code| Err(UnknownControlCode(code))))
}

// ---- DMN-08 ----

fn header(kind: u8, length: u32, session: u64, payload: &[u8]) -> Bytes {
    let mut message = vec![kind];
    message.extend(length.to_be_bytes());
    message.extend(session.to_be_bytes());
    message.extend(payload);
    Bytes::from(message)
}

/// One of each way in which a message is no frame that a relay may send, none of a session that lives.
fn malformed() -> Vec<Bytes> {
    vec![
        Bytes::new(),
        Bytes::from_static(&[0x03; 12]),
        header(0x03, 28, 9, &[0; 27]),
        header(0x03, 65_537, 9, &[0; 30]),
        header(0x10, 9, 0, &[0; 9]),
        header(0x77, 0, 0, &[]),
        header(0x03, 28, 0, &[0; 28]),
        header(0x02, 127, 9, &[0; 127]),
        header(0x04, 2, 9, &[7, 0]),
        header(0x20, 1, 0, &[0]),
    ]
}

#[test]
fn dmn_08_ten_in_a_row_reconnect_whatever_is_wrong() {
    for message in malformed() {
        let mut world = World::online();
        for _ in 0..9 {
            world.bench.receive_bytes(message.clone());
        }
        assert_eq!(world.bench.take(), [], "{message:?}");
        world.bench.receive_bytes(message.clone());
        let log = world.bench.take();
        assert_eq!(log.first(), Some(&Did::Close(1002)), "{message:?}");
        assert!(
            matches!(log.last(), Some(Did::Report(Report::Retrying { cause: Cause::MalformedFrame(_), .. }))),
            "{log:?}"
        );
        world.next_attempt();
    }
    let mut world = World::online();
    malformed().into_iter().take(10).for_each(|message| world.bench.receive_bytes(message));
    assert!(!world.bench.has_socket, "mixed");
}

#[test]
fn dmn_08_any_whole_frame_ends_the_row() {
    let whole = [
        Frame::Ping(Bytes::new()),
        Frame::Pong(Bytes::new()),
        Frame::Data { session: id(99), payload: Bytes::from_static(&[0; 28]) },
        close(id(99), Reason::None),
        Frame::Control { session: Some(id(99)), code: Ok(ControlCode::SessionEnded), message: String::new() },
        Frame::Control { session: None, code: Ok(ControlCode::RateLimited), message: String::new() },
    ];
    for frame in whole {
        let mut world = World::online();
        for _ in 0..5 {
            for _ in 0..9 {
                world.bench.receive_bytes(Bytes::from_static(b"bad"));
            }
            world.bench.receive(&frame);
        }
        assert!(world.bench.machine.is_online(), "{frame:?}");
    }
}

/// ◇ The relay passes on unread what a client made too short: no client costs the others their socket.
#[test]
fn dmn_08_what_clients_send_is_not_counted() {
    for message in [header(0x01, 31, 9, &[0; 31]), header(0x03, 27, 9, &[0; 27])] {
        let mut world = World::online();
        let other = world.meet(1);
        for _ in 0..30 {
            world.bench.receive_bytes(message.clone());
        }
        assert!(world.bench.machine.is_online(), "{message:?}");
        world.bench.take();
        world.say(other, b"alive");
        assert!(matches!(&world.bench.reports()[..], [Report::Delivery { .. }]));
    }
}

#[test]
fn dmn_08_a_new_socket_is_a_new_row() {
    let mut world = World::online();
    for _ in 0..4 {
        for _ in 0..9 {
            world.bench.receive_bytes(Bytes::from_static(b"bad"));
        }
        world.bench.lose(None);
        world.next_attempt();
        world.go_online(true);
    }
    assert!(world.bench.machine.is_online());
}

// ---- DMN-09 ----

#[test]
fn dmn_09_every_code_about_the_connection() {
    for code in every_code() {
        let mut world = World::online();
        let live = world.meet(1);
        world.bench.advance_alive(seconds(30));
        world.bench.take();
        world.control(code, None);
        let reports = world.bench.reports();
        if code == Ok(ControlCode::RateLimited) {
            assert_eq!(reports, [Report::RateLimited]);
            assert!(world.bench.has_socket);
            continue;
        }
        let cause = Cause::Control(code);
        let [Report::Offline(offline), Report::Paused(paused), Report::Retrying { retry: 0, delay, cause: why }] =
            &reports[..]
        else {
            panic!("{code:?}: {reports:?}");
        };
        assert_eq!((offline, why, *paused), (&cause, &cause, live));
        assert!((1_000..=1_500).contains(&delay.as_millis()), "{code:?}: backoff, not the delay of a clean close");
        assert!(!world.bench.has_socket, "{code:?}");
        world.next_attempt();
    }
}

// ---- DMN-10, WIRE-05 ----

#[test]
fn dmn_10_every_code_about_a_session() {
    for code in every_code() {
        let frees = match code {
            Ok(code) => code.is_terminal() || code == ControlCode::SessionEnded,
            Err(_) => true,
        };
        let mut world = World::online();
        let (named, other, half) = (world.meet(1), world.meet(2), id(3));
        world.exchange(half);
        world.call(named).unwrap();
        world.bench.take();
        world.control(code, Some(named));
        world.control(code, Some(half));
        let log = world.bench.take();
        assert_eq!(frames(&log), [], "{code:?}: the relay knows");
        assert!(world.bench.has_socket, "{code:?}: the socket is the relay's to close");
        let left: Vec<_> = world.sessions().into_iter().map(|(id, _)| id).collect();
        if frees {
            let cause = Cause::Control(code);
            assert_eq!((over(&log, named), over(&log, half)), (Some(cause.clone()), Some(cause)), "{code:?}");
            assert_eq!(left, [other], "{code:?}");
            // Its timers are gone with it, the call's included.
            world.bench.advance_alive(seconds(40));
            assert_eq!(world.bench.reports(), [], "{code:?}");
        } else {
            assert_eq!((log, left), (vec![], vec![named, other, half]), "{code:?}");
        }
    }
}

#[test]
fn dmn_10_codes_about_unknown_sessions_change_nothing() {
    for code in every_code() {
        let mut world = World::online();
        world.meet(1);
        world.control(code, Some(id(99)));
        assert_eq!(world.bench.take(), [], "{code:?}");
    }
}

// ---- DMN-06 ----

#[test]
fn dmn_06_frames_of_unknown_sessions_are_ignored() {
    let payload = Bytes::from_static(&[0x5A; 128]);
    for frame in [
        Frame::Data { session: id(99), payload: payload.clone() },
        Frame::HandshakeAccept { session: id(99), payload },
        close(id(99), Reason::None),
    ] {
        let mut world = World::online();
        world.meet(1);
        world.bench.receive(&frame);
        assert_eq!(world.bench.take(), [], "{frame:?}");
    }
}

/// What a session's client sent before it was over comes late.
#[test]
fn dmn_06_frames_of_a_session_that_is_over_are_ignored() {
    let mut world = World::online();
    let over = world.meet(1);
    world.control(Ok(ControlCode::SessionEnded), Some(over));
    world.bench.take();
    world.say(over, b"late");
    assert_eq!(world.bench.take(), []);
}

/// WIRE-21, WIRE-02: what a daemon never gets ends the session that it names, and no other.
#[test]
fn wire_21_wrong_frames_end_their_session_alone() {
    let mut short = Frame::Data { session: id(1), payload: Bytes::from_static(&[0; 28]) }.encode().to_vec();
    short.truncate(13 + 27);
    short[4] = 27;
    let wrong = [
        Frame::HandshakeInit { session: id(1), client_ephemeral: [9; 32] }.encode(),
        Frame::HandshakeAccept { session: id(1), payload: Bytes::from_static(&[0; 128]) }.encode(),
        close(id(1), Reason::None).encode(),
        Bytes::from(short),
    ];
    for message in wrong {
        let mut world = World::online();
        let (named, other) = (world.meet(1), world.meet(2));
        world.bench.receive_bytes(message.clone());
        let log = world.bench.take();
        assert_eq!(frames(&log), [close(named, Reason::Error)], "{message:?}");
        assert!(matches!(over(&log, named), Some(Cause::MalformedFrame(_))), "{log:?}");
        world.say(other, b"alive");
        assert!(matches!(&world.bench.reports()[..], [Report::Delivery { .. }]));
    }
}

// ---- WIRE-03, WIRE-04 ----

#[test]
fn wire_03_wire_04_forbidden_messages_close_and_reconnect() {
    for (what, code) in [(Forbidden::Text, 1003), (Forbidden::TooLarge, 1009)] {
        let mut world = World::online();
        world.bench.machine.handle_forbidden(what, world.bench.now);
        world.bench.drain();
        let log = world.bench.take();
        assert_eq!(log.first(), Some(&Did::Close(code)));
        assert!(matches!(log.last(), Some(Did::Report(Report::Retrying { retry: 0, .. }))), "{log:?}");
        world.next_attempt();
    }
}
