//! The streams, at least one pair for each rule and party.

use std::collections::BTreeSet;

use sideband_protocol::{
    SessionId,
    relay::SessionState,
    wire::{ControlCode, Reason, Signal},
};

use super::{super::*, bench::*};
use crate::event::Closer;

macro_rules! witnesses {
    ($($name:ident: $rule:ident by $role:ident, breaks $breaks:expr, holds $holds:expr;)*) => {
        $(#[test]
        fn $name() {
            let run = |stream: fn(&mut Bench)| {
                let mut bench = Bench::default();
                stream(&mut bench);
                bench.rules()
            };
            let found: BTreeSet<_> = run($breaks).into_iter().collect();
            assert_eq!(found, BTreeSet::from([(Rule::$rule, Role::$role)]));
            assert_eq!(run($holds), []);
        })*

        const WITNESSED: &[(Rule, Role, fn(&mut Bench))] = &[$((Rule::$rule, Role::$role, $breaks),)*];
    };
}

const ASK: &str = "relay.createSession";
const REDEEM: &str = "quickConnect.redeem";
const RENEW: &str = "daemon.renewToken";
const MIB: u16 = 1009;
const TEXT: u16 = 1003;

fn id() -> u64 {
    session().get()
}

fn five() -> SessionId {
    SessionId::new(5).unwrap()
}

fn nonce(direction: u32, sequence: u64) -> Vec<u8> {
    [&direction.to_be_bytes()[..], &sequence.to_be_bytes()].concat()
}

/// The largest Data that there is, with the sequence 1.
fn largest(direction: u32) -> Vec<u8> {
    raw(3, 65_536, id(), 65_536).tap(13, &nonce(direction, 1))
}

/// The client's session has ended, and the daemon is told.
fn ended(bench: &mut Bench) -> &mut Bench {
    bench.active().closes(CLIENT, Some(1000), Some(Closer::Peer), false);
    bench.controls(DAEMON, Some(session()), ControlCode::SessionEnded).state(SessionState::Gone)
}

/// The daemon came back with a token that cannot resume, or can.
fn afresh(bench: &mut Bench, resumes: bool) -> &mut Bench {
    bench.paused().daemon_opens(3, resumes).state(SessionState::Gone)
}

/// As many as may wait at one time were told to wait for a minute, one each second.
fn told_to_wait<'a>(bench: &'a mut Bench, procedure: &str, who: &str) -> &'a mut Bench {
    for _ in 0..MOST_SHARING {
        bench.after(1_000).asks(procedure, 429, who, Some(60_000));
    }
    bench
}

/// The relay told as many processes of a daemon as may wait at one time to wait for a minute, each on its own HTTP connection.
fn daemons_told_by_the_relay(bench: &mut Bench) -> &mut Bench {
    for n in 100..100 + MOST_SHARING as u64 {
        bench.after(1_000).on(n).renews("k", n).upgrade_refused(Role::Daemon, &format!("t{n}"), Some(60_000));
    }
    bench
}

/// The relay told as many clients on one HTTP connection as may wait at one time to wait for a minute.
fn clients_told_by_the_relay(bench: &mut Bench) -> &mut Bench {
    for n in 100..100 + MOST_SHARING as u64 {
        let about = Some(SessionId::new(n).unwrap());
        bench.after(1_000).asks_about(about, ASK, 200, "u", None);
        bench.upgrade_of_refused(about, Role::Client, &format!("c{n}"), Some(60_000));
    }
    bench
}

/// A code is redeemed, and its session is at the relay.
fn redeemed(bench: &mut Bench) -> &mut Bench {
    bench.asks(REDEEM, 200, "q", None).active()
}

witnesses! {
    wire_01_too_large_a_payload_is_declared_by_a_client: Wire01 by Client,
        breaks |b| { b.active().says(CLIENT, raw(3, 65_537, id(), 65_537)); },
        holds |b| { b.active().says(CLIENT, largest(1)); };
    wire_01_too_large_a_payload_is_declared_by_a_daemon: Wire01 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(3, u32::MAX, id(), 0)); },
        holds |b| { b.active().says(DAEMON, largest(2)); };
    wire_02_a_wrong_size_comes_from_a_client: Wire02 by Client,
        breaks |b| { b.paired().says(CLIENT, raw(1, 31, id(), 31)); },
        holds |b| { b.paired().says(CLIENT, raw(1, 32, id(), 32)); };
    wire_02_a_wrong_size_comes_from_a_daemon: Wire02 by Daemon,
        breaks |b| { b.paired().says(CLIENT, init()).says(DAEMON, raw(2, 129, id(), 129)); },
        holds |b| { b.paired().says(CLIENT, init()).says(DAEMON, raw(2, 128, id(), 128)); };
    wire_02_a_short_data: Wire02 by Client,
        breaks |b| { b.active().says(CLIENT, raw(3, 27, id(), 27).tap(13, &nonce(1, 1))); },
        holds |b| { b.active().says(CLIENT, raw(3, 28, id(), 28).tap(13, &nonce(1, 1))); };
    wire_02_a_long_signal: Wire02 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(4, 3, id(), 3)); },
        holds |b| { b.active().says(DAEMON, raw(4, 2, id(), 2)); };
    wire_03_text_comes_from_a_client: Wire03 by Client,
        breaks |b| { b.active().refuses(CLIENT, TEXT); },
        holds |b| { b.active().refuses(CLIENT, 1002); };
    wire_03_text_comes_from_a_daemon: Wire03 by Daemon,
        breaks |b| { b.active().refuses(DAEMON, TEXT); },
        holds |b| { b.active().closes(DAEMON, Some(TEXT), Some(Closer::Peer), false); };
    wire_04_more_than_a_mebibyte_comes_from_a_client: Wire04 by Client,
        breaks |b| { b.active().refuses(CLIENT, MIB); },
        holds |b| { b.active().closes(CLIENT, Some(MIB), Some(Closer::Peer), false); };
    wire_04_more_than_a_mebibyte_comes_from_a_daemon: Wire04 by Daemon,
        breaks |b| { b.active().refuses(DAEMON, MIB); },
        holds |b| { b.active().closes(DAEMON, Some(MIB), Some(Closer::Peer), false); };
    wire_05_an_unknown_code_is_ignored_by_a_client: Wire05 by Client,
        breaks |b| { b.active().unknown_control(CLIENT, None).pings(CLIENT).says(CLIENT, data(1, 1)); },
        holds |b| { b.active().unknown_control(CLIENT, None).says(CLIENT, data(1, 1)).after(100).closes(CLIENT, None, None, false); };
    wire_05_an_unknown_code_is_ignored_by_a_daemon: Wire05 by Daemon,
        breaks |b| { b.active().unknown_control(DAEMON, None).lives(DAEMON, 135).after(45_000).says(DAEMON, ping(b"")); },
        holds |b| { b.active().unknown_control(DAEMON, None).lives(DAEMON, 135).after(44_999).says(DAEMON, ping(b"")); };
    wire_05_an_unknown_code_about_a_session_is_ignored: Wire05 by Daemon,
        breaks |b| { b.active().unknown_control(DAEMON, Some(session())).pings(DAEMON).says(DAEMON, data(2, 1)); },
        holds |b| { b.active().unknown_control(DAEMON, Some(session())).says(DAEMON, data(2, 1)).pings(DAEMON).says(DAEMON, ping(b"")); };
    wire_08_a_signal_that_is_none: Wire08 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(4, 2, id(), 2).tap(13, &[2, 0])); },
        holds |b| { b.active().says(DAEMON, raw(4, 2, id(), 2).tap(13, &[1, 77])); };
    wire_10_a_code_of_endpoints_comes_from_a_client: Wire10 by Client,
        breaks |b| { b.active().says(CLIENT, raw(0x20, 2, id(), 2).tap(13, &[0xe0, 4])); },
        holds |b| { b.active().says(CLIENT, raw(0x11, 2, 0, 2).tap(13, &[0xe0, 4])); };
    wire_10_a_code_of_endpoints_comes_from_a_daemon: Wire10 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(0x20, 2, 0, 2).tap(13, &[0xe0, 2])); },
        holds |b| { b.active().says(DAEMON, raw(0x04, 2, id(), 2).tap(13, &[0, 0])); };
    wire_11_a_header_is_cut_short: Wire11 by Client,
        breaks |b| { b.active().says(CLIENT, [3; 12]); },
        holds |b| { b.active().says(CLIENT, raw(0x10, 0, 0, 0)); };
    wire_11_another_length_follows: Wire11 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(0x10, 3, 0, 4)); },
        holds |b| { b.active().says(DAEMON, raw(0x10, 4, 0, 4)); };
    wire_12_a_long_ping_or_pong_comes_from_a_client: Wire12 by Client,
        breaks |b| { b.active().says(CLIENT, raw(0x10, 9, 0, 9)); },
        holds |b| { b.active().says(CLIENT, raw(0x10, 8, 0, 8)); };
    wire_12_a_long_ping_or_pong_comes_from_a_daemon: Wire12 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(0x11, 9, 0, 9)); },
        holds |b| { b.active().says(DAEMON, raw(0x11, 8, 0, 8)); };
    wire_13_an_unknown_type_comes_from_a_client: Wire13 by Client,
        breaks |b| { b.active().says(CLIENT, raw(0x12, 0, 0, 0)); },
        holds |b| { b.active().says(CLIENT, raw(0x11, 0, 0, 0)); };
    wire_13_an_unknown_type_comes_from_a_daemon: Wire13 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(0x05, 2, id(), 2)); },
        holds |b| { b.active().says(DAEMON, raw(0x04, 2, id(), 2)); };
    wire_14_zero_or_not_is_taken_for_the_other_by_a_client: Wire14 by Client,
        breaks |b| { b.active().says(CLIENT, raw(0x10, 0, id(), 0)); },
        holds |b| { b.active().says(CLIENT, raw(0x10, 0, 0, 0)); };
    wire_14_zero_or_not_is_taken_for_the_other_by_a_daemon: Wire14 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(0x04, 2, 0, 2)); },
        holds |b| { b.active().says(DAEMON, raw(0x04, 2, id(), 2)); };
    wire_15_a_type_of_others_comes_from_a_client: Wire15 by Client,
        breaks |b| { b.active().says(CLIENT, signal(Signal::Ready, Reason::None)); },
        holds |b| { b.active().says(CLIENT, data(1, 1)); };
    wire_15_a_type_of_others_comes_from_a_daemon: Wire15 by Daemon,
        breaks |b| { b.active().says(DAEMON, init()); },
        holds |b| { b.active().says(DAEMON, data(2, 1)); };
    wire_16_another_session: Wire16 by Client,
        breaks |b| { b.active().says(CLIENT, data_of(five(), 1, 1)); },
        holds |b| { b.active().says(CLIENT, data(1, 1)); };
    wire_17_a_session_never_had: Wire17 by Daemon,
        breaks |b| { b.active().says(DAEMON, data_of(five(), 2, 0)); },
        holds |b| { b.active().says(DAEMON, raw(4, 2, 5, 2)).controls(DAEMON, Some(five()), ControlCode::SessionEnded).says(DAEMON, data_of(five(), 2, 0)); };
    wire_17_no_signal_before: Wire17 by Daemon,
        breaks |b| { b.active().says(DAEMON, ping(b"")).says(DAEMON, data_of(five(), 2, 0)); },
        holds |b| { b.active().says(DAEMON, raw(4, 2, 5, 2)).says(DAEMON, data_of(five(), 2, 0)); };
    wire_20_a_ping_is_not_answered_by_a_client: Wire20 by Client,
        breaks |b| { b.active().relay_says(CLIENT, ping(b"one")).says(CLIENT, pong(b"two")); },
        holds |b| { b.active().relay_says(CLIENT, ping(b"one")).says(CLIENT, pong(b"one")).says(CLIENT, pong(b"two")); };
    wire_20_a_ping_is_not_answered_by_a_daemon: Wire20 by Daemon,
        breaks |b| { b.active().relay_says(DAEMON, ping(b"one")).lives(DAEMON, 180); },
        holds |b| { b.active().relay_says(DAEMON, ping(b"one")).lives(DAEMON, 135).after(44_999).says(DAEMON, pong(b"one")); };
    wire_20_a_ping_is_passed_over: Wire20 by Client,
        breaks |b| { b.active().relay_says(CLIENT, ping(b"1")).relay_says(CLIENT, ping(b"2")).says(CLIENT, pong(b"2")); },
        holds |b| { b.active().relay_says(CLIENT, ping(b"1")).relay_says(CLIENT, ping(b"1")).says(CLIENT, pong(b"1")).says(CLIENT, pong(b"1")); };
    wire_21_a_second_init: Wire21 by Client,
        breaks |b| { b.paired().says(CLIENT, init()).says(CLIENT, init()); },
        holds |b| { b.paired().says(CLIENT, init()); };
    wire_21_a_second_accept: Wire21 by Daemon,
        breaks |b| { b.active().says(DAEMON, accept()); },
        holds |b| { b.active(); };
    wire_21_an_accept_before_the_init: Wire21 by Daemon,
        breaks |b| { b.paired().says(DAEMON, accept()); },
        holds |b| { b.paired().says(CLIENT, init()).says(DAEMON, accept()); };
    cry_04_a_sequence_comes_again_from_a_client: Cry04 by Client,
        breaks |b| { b.active().says(CLIENT, data(1, 1)).says(CLIENT, data(1, 1)); },
        holds |b| { b.active().says(CLIENT, data(1, 1)).says(CLIENT, data(1, 2)); };
    cry_04_a_sequence_comes_again_from_a_daemon: Cry04 by Daemon,
        breaks |b| { b.active().says(DAEMON, data(2, 0)); },
        holds |b| { b.active().says(DAEMON, data(2, 1)); };
    cry_04_a_sequence_starts_late: Cry04 by Client,
        breaks |b| { b.paired().says(CLIENT, init()).says(DAEMON, accept()).says(CLIENT, data(1, 1)); },
        holds |b| { b.paired().says(CLIENT, init()).says(DAEMON, accept()).says(CLIENT, data(1, 0)); };
    cry_04_a_sequence_is_left_out_on_one_line: Cry04 by Daemon,
        breaks |b| { b.active().says(DAEMON, data(2, 2)); },
        holds |b| { b.resumed().says(3, data(2, 7)).says(3, data(2, 8)); };
    cry_04_a_sequence_is_left_out_though_the_relay_dropped_none: Cry04 by Client,
        breaks |b| { b.active().says(CLIENT, data(1, 4)); },
        holds |b| { b.active().drops(CLIENT).says(CLIENT, data(1, 4)); };
    cry_04_a_sequence_comes_again_after_frames_over_the_rate: Cry04 by Client,
        breaks |b| { b.active().drops(CLIENT).says(CLIENT, data(1, 4)).says(CLIENT, data(1, 4)); },
        holds |b| { b.active().drops(CLIENT).says(CLIENT, data(1, 4)).says(CLIENT, data(1, 9)); };
    cry_04_a_sequence_goes_back_after_a_resume: Cry04 by Daemon,
        breaks |b| { b.resumed().says(3, data(2, 0)); },
        holds |b| { b.resumed().says(3, data(2, 1)); };
    cry_09_the_other_direction_comes_from_a_client: Cry09 by Client,
        breaks |b| { b.active().says(CLIENT, data(2, 1)); },
        holds |b| { b.active().says(CLIENT, data(1, 1)); };
    cry_09_the_other_direction_comes_from_a_daemon: Cry09 by Daemon,
        breaks |b| { b.active().says(DAEMON, data(1, 1)); },
        holds |b| { b.active().says(DAEMON, data(2, 1)); };
    cry_10_data_before_the_accept_comes_from_a_client: Cry10 by Client,
        breaks |b| { b.paired().says(CLIENT, init()).says(CLIENT, data(1, 0)); },
        holds |b| { b.paired().says(CLIENT, init()).says(DAEMON, accept()).says(CLIENT, data(1, 0)); };
    cry_10_data_before_the_accept_comes_from_a_daemon: Cry10 by Daemon,
        breaks |b| { b.paired().says(CLIENT, init()).says(DAEMON, data(2, 0)); },
        holds |b| { b.paired().says(CLIENT, init()).says(DAEMON, accept()).says(DAEMON, data(2, 0)); };
    cry_11_a_handshake_is_kept_open_by_a_client: Cry11 by Client,
        breaks |b| { b.paired().says(CLIENT, init()).says(DAEMON, accept()).lives(CLIENT, 225); },
        holds |b| { b.paired().says(CLIENT, init()).says(DAEMON, accept()).lives(CLIENT, 180); };
    cry_11_a_handshake_is_kept_open_by_a_daemon: Cry11 by Daemon,
        breaks |b| { b.paired().says(CLIENT, init()).relay_says(DAEMON, init()).says(DAEMON, accept()).lives(DAEMON, 225); },
        holds |b| { b.paired().says(CLIENT, init()).relay_says(DAEMON, init()).says(DAEMON, accept()).says(CLIENT, data(1, 0)).lives(DAEMON, 225); };
    cry_11_a_daemon_keeps_nothing_whose_init_it_never_got: Cry11 by Daemon,
        breaks |b| { b.paired().says(CLIENT, init()).lives(DAEMON, 45).relay_says(DAEMON, init()).lives(DAEMON, 225); },
        holds |b| { b.paired().says(CLIENT, init()).lives(DAEMON, 225); };
    cli_01_a_session_comes_again: Cli01 by Client,
        breaks |b| { b.asks(ASK, 200, "u", None).active().closes(CLIENT, None, None, false).upgrade_refused(Role::Client, "c1", None); },
        holds |b| { b.asks(ASK, 200, "u", None).active().closes(CLIENT, None, None, false).opens(9, Role::Client, Some(five()), "c9", false); };
    cli_02_a_code_is_redeemed_again_and_again_after_its_line_was_lost: Cli02 by Client,
        breaks |b| { redeemed(b).closes(CLIENT, None, None, false).asks(REDEEM, 404, "q", None).asks(REDEEM, 404, "q", None); },
        holds |b| { redeemed(b).closes(CLIENT, None, None, false).asks(REDEEM, 404, "q", None); };
    cli_02_a_code_is_redeemed_again_and_again_after_a_close: Cli02 by Client,
        breaks |b| { redeemed(b).closes(CLIENT, Some(1000), Some(Closer::Peer), true).asks(REDEEM, 404, "q", None).asks(REDEEM, 404, "q", None); },
        holds |b| { redeemed(b).closes(CLIENT, Some(1000), Some(Closer::Peer), true).asks(REDEEM, 404, "q", None); };
    cli_02_a_code_is_redeemed_again_and_again_beside_its_session: Cli02 by Client,
        breaks |b| { redeemed(b).asks(REDEEM, 404, "q", None).asks(REDEEM, 404, "q", None); },
        holds |b| { redeemed(b).asks(REDEEM, 404, "q", None); };
    cli_02_a_second_client_may_try_again_what_may_be_tried_again: Cli02 by Client,
        breaks |b| { redeemed(b).asks(REDEEM, 404, "q", None).asks(REDEEM, 400, "q", None); },
        holds |b| { redeemed(b).asks(REDEEM, 500, "q", None).asks(REDEEM, 429, "q", None).asks(REDEEM, 404, "q", None); };
    cli_02_an_answer_that_nobody_read_may_be_asked_for_again: Cli02 by Client,
        breaks |b| { b.asks(REDEEM, 200, "q", None).upgrade_refused(Role::Client, "c1", None).asks(REDEEM, 404, "q", None).asks(REDEEM, 404, "q", None); },
        holds |b| { b.asks(REDEEM, 200, "q", None).asks(REDEEM, 404, "q", None).asks(REDEEM, 404, "q", None).asks(REDEEM, 404, "q", None).active(); };
    cli_02_another_who_has_the_code_redeems_once: Cli02 by Client,
        breaks |b| { redeemed(b).on(2).asks(REDEEM, 404, "q", None).on(1).asks(REDEEM, 404, "q", None).asks(REDEEM, 404, "q", None); },
        holds |b| { redeemed(b); for n in [2, 3] { b.on(n).asks(REDEEM, 404, "q", None).on(None).asks(REDEEM, 404, "q", None); } };
    cli_02_a_redeemed_session_comes_again: Cli02 by Client,
        breaks |b| { b.asks(REDEEM, 200, "q", None).active().upgrade_refused(Role::Client, "c1", None); },
        holds |b| { b.asks(REDEEM, 200, "q", None).upgrade_refused(Role::Client, "c1", None); };
    cli_06_a_retry_after_is_ignored_by_a_client: Cli06 by Client,
        breaks |b| { told_to_wait(b, ASK, "u").after(1_000).asks(ASK, 429, "u", Some(60_000)); },
        holds |b| { told_to_wait(b, ASK, "u").after(45_000); for _ in 0..200 { b.asks(ASK, 429, "u", Some(60_000)).after(60_000 / 16); } };
    cli_06_whose_wait_is_over_may_ask: Cli06 by Client,
        breaks |b| { told_to_wait(b, ASK, "u").after(44_900).asks(ASK, 200, "u", None); },
        holds |b| { told_to_wait(b, ASK, "u").after(44_960).asks(ASK, 200, "u", None); };
    cli_06_a_retry_after_is_ignored_by_a_daemon_that_keeps_no_connection: Cli06 by Daemon,
        breaks |b| { for n in 0..20 { b.on(n).after(100).asks(RENEW, 503, "k", Some(600_000)); } },
        holds |b| { for n in 0..20 { b.on(n).after(120_000).asks(RENEW, 503, "k", Some(600_000)); } };
    cli_06_a_daemon_behind_a_proxy_has_its_key: Cli06 by Daemon,
        breaks |b| { told_to_wait(b.on(None), RENEW, "k").asks(RENEW, 429, "k", None); },
        holds |b| { told_to_wait(b.on(None), RENEW, "k").asks(RENEW, 429, "other", None); };
    cli_06_another_on_another_connection_is_not_who_was_told: Cli06 by Client,
        breaks |b| { told_to_wait(b, ASK, "u").on(2).asks(ASK, 200, "u", None).on(1).asks(ASK, 200, "u", None); },
        holds |b| { told_to_wait(b, ASK, "u").on(2).asks(ASK, 200, "u", None).asks(ASK, 200, "u", None); };
    cli_06_a_page_that_is_loaded_again_was_not_told: Cli06 by Client,
        breaks |b| { told_to_wait(b, ASK, "u").asks(ASK, 429, "u", Some(2_000)); },
        holds |b| { told_to_wait(b.on(None), ASK, "u").asks(ASK, 429, "u", Some(2_000)); };
    cli_06_another_daemon_s_client_was_not_told: Cli06 by Client,
        breaks |b| { told_to_wait(b.of("d_2"), ASK, "u").asks(ASK, 200, "u", None); },
        holds |b| { told_to_wait(b.of("d_2"), ASK, "u").of("d_1").asks(ASK, 200, "u", None); };
    cli_06_a_code_is_tried_again_at_once: Cli06 by Client,
        breaks |b| { told_to_wait(b, REDEEM, "q").asks(REDEEM, 200, "q", None); },
        holds |b| { told_to_wait(b, REDEEM, "q").on(2).asks(REDEEM, 200, "q", None); };
    cli_06_a_daemon_that_was_started_again_was_not_told: Cli06 by Daemon,
        breaks |b| { told_to_wait(b, RENEW, "k").asks(RENEW, 200, "k", None); },
        holds |b| { for _ in 1..MOST_SHARING { b.asks(RENEW, 429, "k", Some(60_000)); } b.asks(RENEW, 200, "k", None); };
    cli_06_a_retry_after_of_the_relay_is_ignored_by_a_daemon: Cli06 by Daemon,
        breaks |b| { daemons_told_by_the_relay(b).renews("k", DAEMON).after(44_000).daemon_opens(DAEMON, true); },
        holds |b| { daemons_told_by_the_relay(b).renews("k", DAEMON).after(45_000).daemon_opens(DAEMON, true); };
    cli_06_another_daemon_was_not_told_by_the_relay: Cli06 by Daemon,
        breaks |b| { daemons_told_by_the_relay(b).renews("k", DAEMON).daemon_opens(DAEMON, true); },
        holds |b| { daemons_told_by_the_relay(b).renews("l", DAEMON).daemon_opens(DAEMON, true); };
    cli_06_a_retry_after_of_the_relay_is_ignored_by_a_client: Cli06 by Client,
        breaks |b| { clients_told_by_the_relay(b).comes_with(five(), 5, 1); },
        holds |b| { clients_told_by_the_relay(b).comes_with(five(), 5, 2); };
    cli_11_data_while_paused: Cli11 by Client,
        breaks |b| { b.paused().pings(CLIENT).says(CLIENT, data(1, 1)); },
        holds |b| { b.paused().says(CLIENT, data(1, 1)).pings(CLIENT).says(CLIENT, ping(b"")); };
    cli_11_data_while_pending: Cli11 by Client,
        breaks |b| { b.pending(true).pings(CLIENT).says(CLIENT, data(1, 1)); },
        holds |b| { b.resumed().pings(CLIENT).says(CLIENT, data(1, 1)); };
    cli_13_no_ping_comes: Cli13 by Client,
        breaks |b| { b.active().after(225_000).relay_says(CLIENT, data(2, 1)).says(CLIENT, data(1, 1)); },
        holds |b| { b.active().after(224_999).says(CLIENT, data(1, 1)); };
    cli_13_silence_on_a_whole_line: Cli13 by Client,
        breaks |b| { b.active().after(90_000).closes(CLIENT, Some(1000), Some(Closer::Relay), true); },
        holds |b| { b.active().after(90_000).closes(CLIENT, Some(1000), Some(Closer::Relay), false); };
    cli_13_life_goes_on_without_a_relay: Cli13 by Client,
        breaks |b| { b.active(); for _ in 0..6 { b.after(45_000).says(CLIENT, ping(b"")); } },
        holds |b| { b.active(); for _ in 0..5 { b.after(45_000).says(CLIENT, ping(b"")); } };
    dmn_03_a_presence_token_comes_again: Dmn03 by Daemon,
        breaks |b| { b.upgrade_refused(Role::Daemon, "t1", None).daemon_opens(1, true); },
        holds |b| { b.upgrade_refused(Role::Daemon, "t0", None).daemon_opens(1, true); };
    dmn_10_data_of_a_session_that_is_over: Dmn10 by Daemon,
        breaks |b| { ended(b).pings(DAEMON).says(DAEMON, data(2, 1)); },
        holds |b| { ended(b).says(DAEMON, data(2, 1)).pings(DAEMON).says(DAEMON, signal(Signal::Close, Reason::None)); };
    dmn_11_data_before_ready: Dmn11 by Daemon,
        breaks |b| { b.pending(true).says(3, data(2, 1)); },
        holds |b| { b.resumed().says(3, data(2, 1)); };
    dmn_11_data_behind_a_ready_that_is_on_its_way: Dmn11 by Daemon,
        breaks |b| { b.pending(true).says(3, signal(Signal::Close, Reason::Policy)).says(3, data(2, 1)); },
        holds |b| { b.pending(true).says(3, signal(Signal::Ready, Reason::None)).says(3, data(2, 1)); };
    dmn_11_ready_after_something_else: Dmn11 by Daemon,
        breaks |b| { b.pending(true).says(3, ping(b"")).says(3, signal(Signal::Ready, Reason::None)); },
        holds |b| { b.resumed().says(3, ping(b"")); };
    dmn_11_state_lost_after_something_else: Dmn11 by Daemon,
        breaks |b| { b.pending(true).says(3, ping(b"")).says(3, signal(Signal::Close, Reason::StateLost)); },
        holds |b| { b.pending(true).says(3, ping(b"")).says(3, signal(Signal::Close, Reason::Policy)); };
    dmn_12_an_earlier_session_is_ready: Dmn12 by Daemon,
        breaks |b| { afresh(b, false).says(3, signal(Signal::Ready, Reason::None)); },
        holds |b| { afresh(b, false).says(3, signal(Signal::Close, Reason::StateLost)); };
    dmn_12_data_of_an_earlier_session: Dmn12 by Daemon,
        breaks |b| { afresh(b, false).says(3, data(2, 1)); },
        holds |b| { afresh(b, true).says(3, data(2, 1)); };
    dmn_13_no_ping_comes: Dmn13 by Daemon,
        breaks |b| { b.active().after(225_000).relay_says(DAEMON, data(1, 1)).says(DAEMON, data(2, 1)); },
        holds |b| { b.active().after(224_999).says(DAEMON, data(2, 1)); };
    dmn_13_silence_on_a_whole_line: Dmn13 by Daemon,
        breaks |b| { b.active().after(90_000).closes(DAEMON, Some(1000), Some(Closer::Relay), true); },
        holds |b| { b.active().after(89_999).closes(DAEMON, Some(1000), Some(Closer::Relay), true); };
    dmn_16_a_session_is_left_without_a_word: Dmn16 by Daemon,
        breaks |b| { b.active().says(DAEMON, raw(4, 2, 5, 2).tap(13, &[1, 2])).closes(DAEMON, Some(1000), Some(Closer::Peer), false); },
        holds |b| { b.active().says(DAEMON, signal(Signal::Close, Reason::Shutdown)).state(SessionState::Gone).closes(DAEMON, Some(1000), Some(Closer::Peer), false); };
    dmn_16_it_leaves_with_another_code: Dmn16 by Daemon,
        breaks |b| { b.active().says(DAEMON, signal(Signal::Close, Reason::Shutdown)).state(SessionState::Gone).closes(DAEMON, Some(1001), Some(Closer::Peer), false); },
        holds |b| { b.active().says(DAEMON, signal(Signal::Close, Reason::Shutdown)).state(SessionState::Gone).closes(DAEMON, None, None, false); };
}

#[test]
fn every_rule_is_witnessed_for_everybody_whom_it_binds() {
    let witnessed: BTreeSet<_> = WITNESSED.iter().map(|&(rule, role, _)| (rule, role)).collect();
    let judged: BTreeSet<_> =
        Rule::ALL.iter().flat_map(|&rule| rule.binds().iter().map(move |&role| (rule, role))).collect();
    assert_eq!(witnessed, judged);
}

/// What is judged where API and relay are apart is what [`Rule::alone`] says: all that breaks the rule, some of it, or nothing.
#[test]
fn a_process_that_sees_one_side_judges_what_the_table_says() {
    for &rule in Rule::ALL {
        let alone = rule.alone();
        for (side, judged) in [(Side::Api, alone.api), (Side::Relay, alone.relay)] {
            let found = WITNESSED.iter().filter(|(of, _, _)| *of == rule).map(|(_, _, breaks)| {
                let mut bench = Bench::alone(side);
                breaks(&mut bench);
                bench.found().any(|found| found == rule)
            });
            let found: BTreeSet<bool> = found.collect();
            let wanted = match judged {
                Judged::All => BTreeSet::from([true]),
                Judged::Only(_) => BTreeSet::from([true, false]),
                Judged::Nothing => BTreeSet::from([false]),
            };
            assert_eq!(found, wanted, "{} at {side:?}", rule.id());
        }
    }
}
