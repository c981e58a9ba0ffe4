//! The relay holds a connection back: what it reads then may have been sent long before, and what it says may leave long after. Each stream
//! breaks a rule unless the relay held the connection back meanwhile.

use sideband_protocol::wire::ControlCode;

use super::{super::*, bench::*};
use crate::event::Closer;

/// Plays a stream twice: `hold` is done to the connection, or nothing is.
fn breaks_unless_held(rule: Rule, role: Role, id: u64, stream: impl Fn(&mut Bench, &dyn Fn(&mut Bench, bool))) {
    let mut bench = Bench::default();
    stream(&mut bench, &|_, _| {});
    let found: std::collections::BTreeSet<_> = bench.rules().into_iter().collect();
    assert_eq!(found, [(rule, role)].into(), "the relay reads all the time");
    let mut bench = Bench::default();
    stream(&mut bench, &|bench, held| {
        bench.holds(id, held);
    });
    assert_eq!(bench.rules(), [], "the relay holds it back");
}

#[test]
fn cli_13_pings_that_are_not_read_are_not_missing() {
    breaks_unless_held(Rule::Cli13, Role::Client, CLIENT, |bench, hold| {
        hold(bench.active(), true);
        bench.after(230_000).relay_says(CLIENT, pong(b""));
        hold(bench, false);
        bench.says(CLIENT, data(1, 1)).says(CLIENT, ping(b""));
    });
}

#[test]
fn dmn_13_pings_that_are_read_one_by_one_are_not_missing() {
    breaks_unless_held(Rule::Dmn13, Role::Daemon, DAEMON, |bench, hold| {
        bench.active();
        for n in 0..250 {
            hold(bench, true);
            bench.after(1_000);
            hold(bench, false);
            bench.says(DAEMON, data(2, 1 + n)).relay_says(DAEMON, pong(b""));
        }
    });
}

#[test]
fn cli_13_silence_toward_a_relay_that_does_not_read_is_none() {
    breaks_unless_held(Rule::Cli13, Role::Client, CLIENT, |bench, hold| {
        hold(bench.active(), true);
        bench.after(100_000).closes(CLIENT, Some(1000), Some(Closer::Relay), true);
    });
}

#[test]
fn cli_13_the_relay_s_last_word_may_leave_late() {
    breaks_unless_held(Rule::Cli13, Role::Client, CLIENT, |bench, hold| {
        hold(bench.active(), true);
        for _ in 0..6 {
            bench.after(45_000).says(CLIENT, ping(b""));
        }
    });
}

#[test]
fn wire_20_a_pong_that_is_not_read_is_not_missing() {
    breaks_unless_held(Rule::Wire20, Role::Client, CLIENT, |bench, hold| {
        bench.active().relay_says(CLIENT, ping(b"one"));
        hold(bench, true);
        bench.after(190_000);
        hold(bench, false);
        bench.says(CLIENT, data(1, 1));
    });
}

#[test]
fn cli_11_data_that_was_sent_before_the_pause_is_read_after_it() {
    breaks_unless_held(Rule::Cli11, Role::Client, CLIENT, |bench, hold| {
        hold(bench.active(), true);
        bench.closes(DAEMON, None, None, false).state(SessionState::Paused);
        bench.controls(CLIENT, Some(session()), ControlCode::SessionPaused).after(190_000);
        hold(bench, false);
        bench.says(CLIENT, data(1, 1));
    });
}

#[test]
fn dmn_10_data_that_was_sent_before_the_end_is_read_after_it() {
    breaks_unless_held(Rule::Dmn10, Role::Daemon, DAEMON, |bench, hold| {
        hold(bench.active(), true);
        bench.controls(DAEMON, Some(session()), ControlCode::SessionEnded).state(SessionState::Gone).after(190_000);
        hold(bench, false);
        bench.says(DAEMON, data(2, 1));
    });
}

#[test]
fn wire_05_what_was_sent_before_an_unknown_code_is_read_after_it() {
    breaks_unless_held(Rule::Wire05, Role::Client, CLIENT, |bench, hold| {
        hold(bench.active(), true);
        bench.unknown_control(CLIENT, None).after(190_000);
        hold(bench, false);
        bench.says(CLIENT, ping(b""));
    });
}

#[test]
fn cry_11_a_handshake_that_is_not_read_is_not_late() {
    breaks_unless_held(Rule::Cry11, Role::Client, CLIENT, |bench, hold| {
        bench.paired();
        for _ in 0..5 {
            hold(bench, true);
            bench.after(45_000);
            hold(bench, false);
            bench.says(CLIENT, ping(b"")).relay_says(CLIENT, pong(b""));
        }
    });
}

#[test]
fn cry_11_a_daemon_whose_line_was_held_back_got_the_init_later() {
    breaks_unless_held(Rule::Cry11, Role::Daemon, DAEMON, |bench, hold| {
        bench.paired().says(CLIENT, init());
        hold(bench, true);
        bench.relay_says(DAEMON, init());
        for _ in 0..5 {
            bench.after(45_000).says(DAEMON, ping(b"")).relay_says(DAEMON, pong(b""));
        }
        hold(bench, false);
        bench.says(DAEMON, accept());
    });
}

#[test]
fn cli_13_what_comes_after_a_hold_is_judged_again() {
    let mut bench = Bench::default();
    bench.active().holds(CLIENT, true).after(500_000).holds(CLIENT, false);
    bench.after(224_999).says(CLIENT, data(1, 1));
    assert_eq!(bench.rules(), []);
    bench.after(1).says(CLIENT, data(1, 2));
    assert!(bench.rules().contains(&(Rule::Cli13, Role::Client)), "{:?}", bench.rules());
}

#[test]
fn wire_20_pings_that_let_others_pass_prove_nothing() {
    for (put_behind, rule) in [(true, None), (false, Some(Rule::Wire20))] {
        let mut wire = WireObserver::new();
        wire.opened(0, CLIENT, Role::Client, Some(session()), false);
        let (one, two) = (ping(b"one"), ping(b"two"));
        if put_behind {
            wire.put_behind(CLIENT, &FrameSeen::read(&one));
        } else {
            wire.sent(0, CLIENT, &FrameSeen::read(&one));
        }
        wire.sent(0, CLIENT, &FrameSeen::read(&two));
        for echo in [pong(b"two"), pong(b"one")] {
            wire.received(10, CLIENT, &FrameSeen::read(&echo));
        }
        assert_eq!(wire.poll_mark().map(|mark| mark.rule), rule);
    }
}
