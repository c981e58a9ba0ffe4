//! What is fatal, what is retried, and when: CLI-02, CLI-04, CLI-05, CLI-06, CLI-08.

use std::time::Duration;

use sideband_protocol::{
    client::{ClientConfig, CloseReason, Done, Job, Report, RetryMode, State},
    failure::Cause,
    sbp::{FrameBody, FrameId},
    wire::{ControlCode, Frame, UnknownControlCode},
};

use super::world::{Outcome, Stage, World, account, api, delay, outcome, quick_connect, upgrade};
use crate::common::{
    Fixed,
    bench::{Did, seconds},
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Row {
    Fatal,
    Retry,
}
use Row::{Fatal, Retry};

/// The outcome of a row when no code was redeemed yet.
fn expected(row: Row, cause: &Cause) -> Outcome {
    match row {
        Fatal => Outcome::Closed(CloseReason::Fatal(cause.clone())),
        Retry => Outcome::Retry(cause.clone()),
    }
}

/// The outcome of a row once a code was redeemed: nothing is retried (CLI-02).
fn expected_after_redeem(row: Row, cause: &Cause) -> Outcome {
    Outcome::Closed(match row {
        Fatal => CloseReason::Fatal(cause.clone()),
        Retry => CloseReason::CodeUsed(cause.clone()),
    })
}

// ---- CLI-05, one table a source ----

#[test]
fn cli_05_api_status_by_mode() {
    // status, account, Quick Connect
    let table = [
        (103, Retry, Retry),
        (201, Retry, Retry),
        (202, Retry, Retry),
        (204, Retry, Retry),
        (206, Retry, Retry),
        (299, Retry, Retry),
        (300, Fatal, Fatal),
        (400, Fatal, Fatal),
        (401, Fatal, Fatal),
        (403, Fatal, Fatal),
        (404, Fatal, Fatal),
        (409, Retry, Fatal),
        (429, Retry, Retry),
        (500, Retry, Retry),
        (502, Retry, Retry),
        (503, Retry, Retry),
        (599, Retry, Retry),
        (301, Fatal, Fatal),
        (307, Fatal, Fatal),
        (402, Fatal, Fatal),
        (405, Fatal, Fatal),
        (413, Fatal, Fatal),
        (418, Fatal, Fatal),
        (499, Fatal, Fatal),
    ];
    for (status, in_account, in_quick_connect) in table {
        for (config, row) in [(account(), in_account), (quick_connect(), in_quick_connect)] {
            let mut world = World::fresh_at(Stage::Api, config);
            world.fail_job(api(status));
            assert_eq!(outcome(&world.bench.take()), expected(row, &api(status)), "{status}");
        }
    }
}

#[test]
fn cli_05_token_source_and_api_faults_are_retried() {
    let causes = [
        Cause::ApiUnreadable("not JSON".to_owned()),
        Cause::ApiUnreachable("refused".to_owned()),
        Cause::ApiTimeout,
        Cause::TokenSource("offline".to_owned()),
    ];
    for cause in causes {
        for stage in [Stage::Token, Stage::Api] {
            let mut world = World::fresh_at(stage, account());
            world.fail_job(cause.clone());
            assert_eq!(outcome(&world.bench.take()), expected(Retry, &cause), "{stage:?}");
        }
    }
}

/// A token that cannot be one does not become one by waiting.
#[test]
fn cli_05_unusable_token_is_fatal() {
    let cause = Cause::UnusableToken("it is empty");
    let mut world = World::fresh_at(Stage::Token, account());
    world.fail_job(cause.clone());
    assert_eq!(outcome(&world.bench.take()), expected(Fatal, &cause));
}

#[test]
fn cli_05_upgrade_status() {
    let table = [
        (103, Retry),
        (200, Retry),
        (204, Retry),
        (401, Retry),
        (409, Retry),
        (429, Retry),
        (500, Retry),
        (502, Retry),
        (503, Retry),
        (301, Fatal),
        (302, Fatal),
        (400, Fatal),
        (403, Fatal),
        (404, Fatal),
        (410, Fatal),
        (426, Fatal),
    ];
    for (status, row) in table {
        let mut world = World::fresh_at(Stage::Dial, account());
        world.fail_job(upgrade(status));
        assert_eq!(outcome(&world.bench.take()), expected(row, &upgrade(status)), "{status}");
        let mut world = World::fresh_at(Stage::Dial, quick_connect());
        world.fail_job(upgrade(status));
        assert_eq!(outcome(&world.bench.take()), expected_after_redeem(row, &upgrade(status)), "{status}, redeemed");
    }
    for (cause, row) in [
        (Cause::RelayUnreachable("refused".to_owned()), Retry),
        (Cause::DialTimeout, Retry),
        (Cause::RelayUrl("no scheme".to_owned()), Fatal),
    ] {
        let mut world = World::fresh_at(Stage::Dial, account());
        world.fail_job(cause.clone());
        assert_eq!(outcome(&world.bench.take()), expected(row, &cause));
    }
}

/// CLI-05: an upgrade's 401 is retried once until active again, whatever lies between; then it is fatal.
#[test]
fn cli_05_upgrade_401_is_retried_once_until_active_again() {
    let mut world = World::fresh_at(Stage::Dial, account());
    world.fail_job(upgrade(401));
    assert_eq!(outcome(&world.bench.take()), Outcome::Retry(upgrade(401)));
    world.next_attempt();
    world.go(Stage::Dial);
    world.fail_job(upgrade(503));
    assert_eq!(outcome(&world.bench.take()), Outcome::Retry(upgrade(503)));
    world.next_attempt();
    world.go(Stage::Active);
    for round in 0..2 {
        world.bench.lose(None);
        world.bench.take();
        world.next_attempt();
        world.go(Stage::Dial);
        world.bench.take();
        world.fail_job(upgrade(401));
        assert_eq!(outcome(&world.bench.take()), Outcome::Retry(upgrade(401)), "round {round}");
        world.next_attempt();
        if round == 0 {
            world.go(Stage::Active);
        }
    }
    world.go(Stage::Dial);
    world.bench.take();
    world.fail_job(upgrade(401));
    assert_eq!(outcome(&world.bench.take()), Outcome::Closed(CloseReason::Fatal(upgrade(401))));
}

/// Every Control code: before active, and in an active session. `None`: it goes on (CLI-11; CLI-05 on `rate_limited`).
#[test]
fn cli_05_every_control_code() {
    use ControlCode as C;
    let table = [
        (C::Unauthorized, Some(Fatal), Some(Fatal)),
        (C::Forbidden, Some(Fatal), Some(Fatal)),
        (C::DaemonNotFound, Some(Fatal), Some(Fatal)),
        (C::DaemonOffline, Some(Retry), Some(Retry)),
        (C::SessionNotFound, Some(Fatal), Some(Fatal)),
        (C::SessionExpired, Some(Retry), Some(Retry)),
        (C::MalformedFrame, Some(Fatal), Some(Fatal)),
        (C::PayloadTooLarge, Some(Fatal), Some(Fatal)),
        (C::InvalidFrameType, Some(Fatal), Some(Fatal)),
        (C::InvalidSessionId, Some(Fatal), Some(Fatal)),
        (C::DisallowedSender, Some(Fatal), Some(Fatal)),
        (C::InternalError, Some(Retry), Some(Retry)),
        (C::RateLimited, None, None),
        (C::Backpressure, Some(Retry), Some(Retry)),
        (C::SessionPaused, Some(Retry), None),
        (C::SessionResumed, Some(Retry), None),
        (C::SessionEnded, Some(Retry), Some(Retry)),
        (C::SessionPending, Some(Retry), None),
    ];
    assert_eq!(table.map(|(code, ..)| code), C::ALL);
    for (code, negotiating, active) in table {
        let cause = Cause::Control(Ok(code));
        let stages = Stage::NEGOTIATING.map(|stage| (stage, negotiating)).into_iter().chain([(Stage::Active, active)]);
        for (stage, row) in stages {
            let mut world = World::fresh_at(stage, account());
            world.control(code);
            let wanted = row.map_or(Outcome::Nothing, |row| expected(row, &cause));
            assert_eq!(outcome(&world.bench.take()), wanted, "{code} at {stage:?}");
            assert_eq!(world.bench.has_socket, row.is_none(), "{code} at {stage:?}");

            let mut world = World::fresh_at(stage, quick_connect());
            world.control(code);
            let wanted = row.map_or(Outcome::Nothing, |row| expected_after_redeem(row, &cause));
            assert_eq!(outcome(&world.bench.take()), wanted, "{code} at {stage:?}, redeemed");
        }
    }
}

/// WIRE-05: unknown codes are terminal, whatever their number and whatever id they carry; CLI-05: and retried.
#[test]
fn wire_05_unknown_control_code_ends_the_attempt_and_is_retried() {
    for number in [0, 0x0100, 0x0406, 0x0900, 0x1000, 0x1005, 0x7FFF, 0xE001, 0xFFFF] {
        for stage in [Stage::Init, Stage::Active, Stage::Paused] {
            for scoped in [false, true] {
                let mut world = World::fresh_at(stage, account());
                let session = scoped.then(|| world.session());
                let code = Err(UnknownControlCode(number));
                world.bench.receive(&Frame::Control { session, code, message: "session_paused".to_owned() });
                let wanted = Outcome::Retry(Cause::Control(code));
                assert_eq!(outcome(&world.bench.take()), wanted, "{number:#06x} at {stage:?}");
            }
        }
    }
}

/// WIRE-06: the words of a Control message decide nothing.
#[test]
fn wire_06_control_text_decides_nothing() {
    for text in ["", "unauthorized", "\u{FFFD}", "{\"fatal\":true}"] {
        let mut world = World::fresh_at(Stage::Active, account());
        let code = Ok(ControlCode::SessionPaused);
        let session = Some(world.session());
        world.bench.receive(&Frame::Control { session, code, message: text.to_owned() });
        assert_eq!(world.state(), State::Paused, "{text}");
    }
}

/// What the other side says of the session, once it stands.
#[test]
fn cli_05_sbp_errors_and_close_from_the_daemon() {
    let table = [
        (FrameBody::Error { code: 1000, message: "x".to_owned(), details: Default::default() }, Some(Retry)),
        (FrameBody::Error { code: 1001, message: "x".to_owned(), details: Default::default() }, Some(Fatal)),
        (FrameBody::Error { code: 1002, message: "x".to_owned(), details: Default::default() }, None),
        (FrameBody::Error { code: 1003, message: "x".to_owned(), details: Default::default() }, None),
        (FrameBody::Error { code: 9999, message: "x".to_owned(), details: Default::default() }, None),
        (FrameBody::Close { reason: "bye".to_owned() }, Some(Retry)),
        (FrameBody::Ping, None),
        (FrameBody::Pong, None),
        (FrameBody::Ack(FrameId::from_bytes([1; 16])), None),
    ];
    for (body, row) in table {
        let mut world = World::fresh_at(Stage::Active, account());
        world.say(body.clone());
        let cause = match &body {
            FrameBody::Error { code, message, .. } => Cause::PeerError { code: *code, message: message.clone() },
            FrameBody::Close { reason } => Cause::PeerClosed { reason: reason.clone() },
            _ => Cause::Closed,
        };
        let wanted = row.map_or(Outcome::Nothing, |row| expected(row, &cause));
        assert_eq!(outcome(&world.bench.take()), wanted, "{body:?}");
    }
}

/// CLI-04, mode `never`: the first failure closes, and says why.
#[test]
fn cli_04_mode_never_closes_at_the_first_failure() {
    for (stage, fatal) in [(Stage::Api, false), (Stage::Api, true), (Stage::Active, false)] {
        let mut config = account();
        config.retry.mode = RetryMode::Never;
        let mut world = World::fresh_at(stage, config);
        let cause = match (stage, fatal) {
            (Stage::Active, _) => {
                world.bench.lose(None);
                Cause::SocketLost { code: None }
            }
            (_, fatal) => {
                let cause = api(if fatal { 403 } else { 503 });
                world.fail_job(cause.clone());
                cause
            }
        };
        let reason = if fatal { CloseReason::Fatal(cause) } else { CloseReason::Exhausted { retries: 0, cause } };
        assert_eq!(outcome(&world.bench.take()), Outcome::Closed(reason));
    }
}

// ---- CLI-02 ----

#[test]
fn cli_02_redeem_is_the_first_job_and_needs_no_token() {
    let mut world = World::at(Stage::Token, quick_connect());
    assert_eq!(world.bench.job, Some(Job::Redeem));
    assert!(!world.bench.take().contains(&Did::Start(Job::FetchToken)));
}

/// CLI-02: after a redeem every loss closes, at whatever stage.
#[test]
fn cli_02_nothing_is_retried_after_a_redeem() {
    for stage in [Stage::Init, Stage::Pin, Stage::Store, Stage::Hello, Stage::Active, Stage::Paused] {
        let mut world = World::fresh_at(stage, quick_connect());
        world.bench.lose(None);
        let reason = CloseReason::CodeUsed(Cause::SocketLost { code: None });
        assert_eq!(outcome(&world.bench.take()), Outcome::Closed(reason), "{stage:?}");
        world.bench.advance(seconds(1_000));
        assert_eq!(world.bench.take(), []);
    }
}

/// CLI-02: a redeem without a session may be tried again; a 404 behind one whose answer was not read says so.
#[test]
fn cli_02_404_after_an_unclear_redeem_says_that_the_code_may_be_burned() {
    let unclear = [
        (None, false),
        (Some(api(429)), false),
        (Some(api(204)), true),
        (Some(api(500)), true),
        (Some(Cause::ApiTimeout), true),
        (Some(Cause::ApiUnreachable("reset".to_owned())), true),
        (Some(Cause::ApiUnreadable("html".to_owned())), true),
    ];
    for (first, says_so) in unclear {
        let mut world = World::fresh_at(Stage::Token, quick_connect());
        if let Some(cause) = first.clone() {
            world.fail_job(cause.clone());
            assert_eq!(outcome(&world.bench.take()), Outcome::Retry(cause));
            world.bench.advance(seconds(2));
            assert_eq!(world.bench.job, Some(Job::Redeem));
            world.bench.take();
        }
        world.fail_job(api(404));
        let Outcome::Closed(CloseReason::Fatal(Cause::Api { status: 404, message, .. })) = outcome(&world.bench.take())
        else {
            panic!("{first:?}: a 404 is fatal");
        };
        assert_eq!(message.contains("used the code up"), says_so, "{first:?}: {message}");
    }
}

// ---- CLI-04, CLI-06 ----

/// Fails attempts at the API until it closes or `limit` is reached; the delays.
fn delays(config: ClientConfig, byte: u8, limit: usize) -> Vec<Duration> {
    let mut world = World::with_entropy(config, Box::new(Fixed(byte)));
    world.go(Stage::Token);
    let mut delays = Vec::new();
    while delays.len() < limit {
        world.bench.take();
        let before = world.bench.now;
        world.fail_job(Cause::ApiTimeout);
        let log = world.bench.take();
        if world.state() == State::Closed {
            let cause = Cause::ApiTimeout;
            let retries = delays.len() as u32;
            assert_eq!(outcome(&log), Outcome::Closed(CloseReason::Exhausted { retries, cause }));
            break;
        }
        let (retry, wait) = delay(&log);
        assert_eq!(retry as usize, delays.len(), "counted from 0");
        // Not a moment before, and then at once.
        world.bench.advance(wait - Duration::from_nanos(1));
        assert_eq!(world.bench.take(), []);
        world.bench.advance(Duration::from_nanos(1));
        assert_eq!(world.bench.job, Some(Job::FetchToken));
        assert_eq!(world.bench.now, before + wait);
        delays.push(wait);
    }
    delays
}

#[test]
fn cli_04_delays_double_to_30_s_within_a_fifth() {
    let mut endless = account();
    endless.retry.max_retries = 0;
    let base = [1, 2, 4, 8, 16, 30, 30, 30];
    let low = delays(endless.clone(), 0x00, base.len());
    assert_eq!(low, base.map(|n| seconds(n).mul_f64(0.8)));
    for (high, base) in delays(endless.clone(), 0xFF, base.len()).into_iter().zip(base.map(seconds)) {
        assert!(high <= base.mul_f64(1.2) && high > base.mul_f64(1.1999), "{high:?} of {base:?}");
    }
    let mut exact = endless;
    exact.retry.jitter = 0.0;
    assert_eq!(delays(exact, 0x55, base.len()), base.map(seconds));
}

#[test]
fn cli_04_five_retries_in_a_row_then_the_last_cause() {
    assert_eq!(delays(account(), 0x00, 100).len(), 5);
    let mut config = account();
    config.retry.max_retries = 2;
    assert_eq!(delays(config, 0x00, 100).len(), 2);
}

#[test]
fn cli_04_zero_retries_is_no_limit() {
    let mut config = account();
    config.retry.max_retries = 0;
    assert_eq!(delays(config, 0x00, 300).len(), 300);
}

#[test]
fn cli_04_policy_is_adjustable() {
    let mut config = account();
    config.retry.initial = Duration::from_millis(10);
    config.retry.max = Duration::from_millis(35);
    config.retry.jitter = 0.0;
    config.retry.max_retries = 4;
    assert_eq!(delays(config, 0x00, 100), [10, 20, 35, 35].map(Duration::from_millis));
}

#[test]
fn cli_04_count_restarts_once_active() {
    let mut world = World::with_entropy(account(), Box::new(Fixed(0)));
    for round in 0..3 {
        for retry in 0..5 {
            world.go(Stage::Api);
            world.bench.take();
            world.fail_job(api(503));
            let (counted, wait) = delay(&world.bench.take());
            // The first of a later round is the second in a row: the lost socket was the first.
            assert_eq!(counted, retry + u32::from(round > 0), "round {round}");
            world.bench.advance(wait);
            if round > 0 && retry == 3 {
                break;
            }
        }
        // Fixed randomness makes one key pair and one frame id only, which is fine for one session.
        world.go(Stage::Active);
        world.bench.take();
        world.bench.lose(None);
        let (counted, wait) = delay(&world.bench.take());
        assert_eq!(counted, 0, "round {round}");
        world.bench.advance(wait);
    }
}

/// CLI-06: at least as long as was asked for; never shorter than the delay itself.
#[test]
fn cli_06_retry_after_lengthens_the_delay() {
    for (asked, waits) in
        [(None, 800), (Some(0), 800), (Some(500), 800), (Some(7_000), 7_000), (Some(120_000), 120_000)]
    {
        let retry_after = asked.map(Duration::from_millis);
        let refusals = [
            (Stage::Api, Cause::Api { status: 429, code: "X".to_owned(), message: "storm".to_owned(), retry_after }),
            (Stage::Dial, Cause::Upgrade { status: 503, message: "down".to_owned(), retry_after }),
        ];
        for (stage, cause) in refusals {
            let mut world = World::with_entropy(account(), Box::new(Fixed(0)));
            world.go(stage);
            world.fail_job(cause);
            assert_eq!(delay(&world.bench.take()), (0, Duration::from_millis(waits)), "{asked:?} at {stage:?}");
        }
    }
}

/// CLI-08: a fatal API failure is told as the API's own; one that ran out of attempts with its last cause.
#[test]
fn cli_08_api_failure_reaches_the_user() {
    let mut world = World::fresh_at(Stage::Api, account());
    world.fail_job(api(403));
    let closed = Report::Closed(CloseReason::Fatal(api(403)));
    assert_eq!(world.bench.reports().last(), Some(&closed));
    let mut config = account();
    config.retry.max_retries = 1;
    let mut world = World::fresh_at(Stage::Api, config);
    world.fail_job(api(500));
    world.bench.advance(seconds(2));
    world.bench.done(Done::Token(Ok(())));
    world.bench.take();
    world.fail_job(api(502));
    let closed = Report::Closed(CloseReason::Exhausted { retries: 1, cause: api(502) });
    assert_eq!(world.bench.reports().last(), Some(&closed));
}
