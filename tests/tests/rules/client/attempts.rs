//! Attempts and retries: CLI-01 to CLI-08; the table of CLI-05 stands in [`verdicts`](super::verdicts).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use sideband::{Account, Cause, CloseReason, Context, ErrorKind, HandlerError, RetryMode, RetryPolicy, State};
use sideband_env::Timeline;
use sideband_protocol::{rpc::Envelope, token, wire::ControlCode};
use sideband_tests::script::{API_URL, DAEMON, Link, World, grant, soon};
use tokio::io::AsyncReadExt;

use super::{LONG, closed, retrying, state};
use crate::{
    endpoints::{account, connect, quick_connect},
    witness::{due, witnesses},
};

/// The shortest delay before retry `n` and the longest, as the defaults have it.
fn around(retry: u32) -> std::ops::RangeInclusive<f64> {
    let base = f64::from(1_u32 << retry).min(30.0);
    // Timers fire up to a millisecond late.
    base * 0.8..=base * 1.2 + 0.002
}

/// 15 s, as exact as timers are.
fn is_15_s(elapsed: Duration) -> bool {
    (Duration::from_secs(15)..Duration::from_millis(15_010)).contains(&elapsed)
}

/// Whether a peer that answers `greet` and one that hears `news` are still there.
async fn greets_and_hears(link: &mut Link, news: &mut sideband::Subscription) {
    let cid = link.request("greet", json!("far")).await;
    let greeting = Envelope::Result { cid, result: Some(json!("hello far").to_string().into()) };
    assert_eq!(link.envelope().await, greeting);
    link.event("news.today", json!(1)).await;
    let heard = soon("an event", news.next()).await.expect("the subscription goes on");
    assert_eq!(heard.name(), "news.today");
}

async fn greet(name: String, _: Context) -> Result<String, HandlerError> {
    Ok(format!("hello {name}"))
}

witnesses! {
    // ---- CLI-01 ----

    async fn cli_01_each_attempt_asks_for_a_token_and_a_session(quirks) breaks_with [KeepsAccessToken, ReusesSession] {
        let (mut world, env) = World::new(1);
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let tokens = move || {
            let token = format!("at_{}", counter.fetch_add(1, Ordering::SeqCst) + 1);
            async move { Ok(token) }
        };
        let _client = Account::new(API_URL, DAEMON, tokens)
            .unwrap().env(env).danger_quirks(quirks).connect().unwrap();
        let mut sessions = BTreeSet::new();
        // Lost while it stands, refused by the relay, lost again: each is followed by an attempt of its own.
        for attempt in 1..=4 {
            let call = due(world.api()).await;
            assert_eq!(call.procedure(), "relay.createSession");
            assert_eq!(call.input(), json!({ "daemonId": DAEMON }));
            assert_eq!(asked.load(Ordering::SeqCst), attempt);
            assert_eq!(call.bearer(), Some(&format!("at_{attempt}")[..]));
            let id = world.new_session();
            call.ok(grant(DAEMON, id));
            let dial = world.dial().await;
            if attempt == 2 {
                dial.refuse(503).await;
                continue;
            }
            let socket = dial.open().await;
            let dialled = token::peek(socket.token.as_deref().unwrap()).unwrap().session;
            assert_eq!(dialled, Some(id), "the relay gets the session's own token");
            let mut link = world.agree(socket).await;
            assert!(sessions.insert(link.session()));
            link.introduce().await;
            link.is_alive().await;
            link.into_parts().0.cut();
        }
    }

    // ---- CLI-02 ----

    async fn cli_02_lost_session_is_not_redeemed_again(quirks) breaks_with [RedeemsAgain] {
        let (mut world, env) = World::new(2);
        let client = quick_connect(&env, quirks).connect().unwrap();
        let link = world.join().await;
        state(&client, State::Active).await;
        link.into_parts().0.cut();
        assert!(matches!(closed(&client).await, CloseReason::CodeUsed(Cause::SocketLost { .. })));
        assert_eq!(client.when_ready().await.unwrap_err().code(), Some("invalid_state"));
        assert!(world.api_within(LONG).await.is_none());
    }

    async fn cli_02_refused_dial_is_not_redeemed_again(quirks) breaks_with [RedeemsAgain] {
        for status in [401, 409, 429, 503] {
            let (mut world, env) = World::new(2);
            let client = quick_connect(&env, quirks).connect().unwrap();
            world.grant().await;
            world.dial().await.refuse(status).await;
            assert!(matches!(closed(&client).await, CloseReason::CodeUsed(Cause::Upgrade { .. })));
            assert_eq!(client.when_ready().await.unwrap_err().code(), Some("invalid_state"));
            assert!(world.api_within(LONG).await.is_none());
        }
    }

    async fn cli_02_session_lost_before_it_stood_is_not_redeemed_again(quirks) breaks_with [RedeemsAgain] {
        let (mut world, env) = World::new(2);
        let client = quick_connect(&env, quirks).connect().unwrap();
        let link = world.client_keys().await;
        let (mut socket, _) = link.into_parts();
        socket.control(ControlCode::Backpressure, None).await;
        assert!(matches!(closed(&client).await, CloseReason::CodeUsed(Cause::Control(_))));
        assert!(world.api_within(LONG).await.is_none());
    }

    async fn cli_02_one_code_one_redeem(quirks) breaks_with [RedeemsAgain] {
        let (mut world, env) = World::new(2);
        let client = quick_connect(&env, quirks).connect().unwrap();
        let call = world.api().await;
        assert_eq!((call.procedure(), call.bearer()), ("quickConnect.redeem", None));
        assert_eq!(call.input(), json!({ "code": "abcd-efgh-ijkl" }));
        let id = world.new_session();
        call.ok(grant(DAEMON, id));
        let socket = world.dial().await.open().await;
        let mut link = world.agree(socket).await;
        link.introduce().await;
        state(&client, State::Active).await;
        let session = link.session();
        link.socket.control(ControlCode::SessionExpired, Some(session)).await;
        assert!(matches!(closed(&client).await, CloseReason::CodeUsed(_)));
        assert!(world.api_within(LONG).await.is_none());
    }

    async fn cli_02_404_after_a_redeem_without_readable_answer_says_that_the_code_may_be_burned(quirks)
        breaks_with [HidesBurnedCode]
    {
        for unclear in ["<html>", "broken", "never", "500"] {
            let (mut world, env) = World::new(2);
            let client = quick_connect(&env, quirks).connect().unwrap();
            let mut call = world.api().await;
            match unclear {
                "<html>" => call.answer(200, &[], unclear),
                "broken" => drop(call),
                "never" => call.given_up().await,
                _ => call.refuse(500),
            }
            world.api().await.refuse(404);
            let error = { closed(&client).await; client.when_ready().await.unwrap_err() };
            assert_eq!(error.status(), Some(404));
            assert!(error.to_string().contains("may have used the code up"), "{unclear}: {error}");
            assert!(world.api_within(LONG).await.is_none(), "{unclear}: 404 is fatal");
        }
    }

    /// Where the code cannot have been used, a 404 does not say so.
    async fn cli_02_404_at_once_is_only_a_404(quirks) breaks_with [] {
        for first in [None, Some(429)] {
            let (mut world, env) = World::new(2);
            let client = quick_connect(&env, quirks).connect().unwrap();
            if let Some(status) = first {
                world.api().await.refuse(status);
            }
            world.api().await.refuse(404);
            closed(&client).await;
            let error = client.when_ready().await.unwrap_err();
            assert!(!error.to_string().contains("used the code up"), "{error}");
        }
    }

    // ---- CLI-03 ----

    async fn cli_03_registered_before_the_connection_stands(quirks) breaks_with [ForgetsHandlers] {
        let (mut world, env) = World::new(3);
        let client = connect(&env, quirks);
        client.handle("greet", greet).unwrap();
        let mut news = client.subscribe("news.>").unwrap();
        let mut link = world.join().await;
        greets_and_hears(&mut link, &mut news).await;
    }

    async fn cli_03_registered_once_for_every_session(quirks) breaks_with [ForgetsHandlers] {
        let (mut world, env) = World::new(3);
        let client = connect(&env, quirks);
        let link = world.join().await;
        state(&client, State::Active).await;
        client.handle("greet", greet).unwrap();
        let mut news = client.subscribe("news.>").unwrap();
        link.into_parts().0.cut();
        for _ in 0..2 {
            let mut link = world.join().await;
            greets_and_hears(&mut link, &mut news).await;
            link.into_parts().0.cut();
        }
    }

    // ---- CLI-04 ----

    /// Each delay is twice the one before, within a fifth.
    async fn cli_04_delays_double_up_to_the_longest(quirks) breaks_with [RetriesAtOnce] {
        let (mut world, env) = World::new(4);
        let client = connect(&env, quirks);
        let mut events = client.events();
        world.api().await.refuse(500);
        for retry in 0..5 {
            let since = Timeline::start();
            let call = world.api().await;
            let waited = since.elapsed().as_secs_f64();
            assert!(around(retry).contains(&waited), "{waited} s before retry {retry}");
            assert_eq!(retrying(&mut events).await.0, retry, "retries are counted from 0");
            call.refuse(500);
        }
    }

    async fn cli_04_no_delay_is_longer_than_36_s_and_no_limit_is_none(quirks)
        breaks_with [DelaysWithoutLimit, TakesNoLimitForNone]
    {
        let (mut world, env) = World::new(4);
        let endless = RetryPolicy { max_retries: 0, ..RetryPolicy::default() };
        let _client = account(&env, quirks).retry(endless).connect().unwrap();
        world.api().await.refuse(500);
        for retry in 0..40 {
            let since = Timeline::start();
            let call = due(world.api()).await;
            let waited = since.elapsed().as_secs_f64();
            assert!(around(retry.min(5)).contains(&waited), "{waited} s before retry {retry}");
            call.refuse(500);
        }
    }

    /// Clients that lost the same relay do not come back together, and none comes before or after its time.
    async fn cli_04_delays_are_random_within_a_fifth(quirks) breaks_with [HasNoJitter] {
        let mut delays = BTreeSet::new();
        for seed in 0..20 {
            let (mut world, env) = World::new(seed);
            let client = connect(&env, quirks);
            let mut events = client.events();
            world.api().await.refuse(500);
            let (_, delay, _) = retrying(&mut events).await;
            assert!(around(0).contains(&delay.as_secs_f64()), "{delay:?}");
            delays.insert(delay);
        }
        assert!(delays.len() > 15, "20 clients wait as long as each other: {delays:?}");
    }

    async fn cli_04_five_retries_in_a_row_at_most(quirks) breaks_with [NeverGivesUp] {
        let (mut world, env) = World::new(4);
        let client = connect(&env, quirks);
        for _ in 0..6 {
            world.api().await.refuse(500);
        }
        assert!(matches!(due(closed(&client)).await, CloseReason::Exhausted { retries: 5, .. }));
        assert!(world.api_within(LONG).await.is_none());
    }

    async fn cli_04_count_restarts_once_active(quirks) breaks_with [CountsRetriesForEver] {
        let (mut world, env) = World::new(4);
        let client = connect(&env, quirks);
        let mut events = client.events();
        for retry in 0..3 {
            world.api().await.refuse(500);
            assert_eq!(retrying(&mut events).await.0, retry);
        }
        for _ in 0..3 {
            let link = world.join().await;
            state(&client, State::Active).await;
            link.into_parts().0.cut();
            let (retry, delay, _) = retrying(&mut events).await;
            assert_eq!(retry, 0);
            assert!(around(0).contains(&delay.as_secs_f64()), "{delay:?}");
            world.api().await.refuse(500);
            assert_eq!(retrying(&mut events).await.0, 1);
        }
    }

    async fn cli_04_mode_never_retries_nothing(quirks) breaks_with [RetriesInModeNever] {
        for active in [false, true] {
            let (mut world, env) = World::new(4);
            let never = RetryPolicy { mode: RetryMode::Never, ..RetryPolicy::default() };
            let client = account(&env, quirks).retry(never).connect().unwrap();
            if active {
                let link = world.join().await;
                state(&client, State::Active).await;
                link.into_parts().0.cut();
            } else {
                world.api().await.refuse(503);
            }
            assert!(matches!(closed(&client).await, CloseReason::Exhausted { retries: 0, .. }));
            assert!(world.api_within(LONG).await.is_none());
        }
    }

    async fn cli_04_all_is_adjustable(quirks) breaks_with [RetriesAtOnce, NeverGivesUp, DelaysWithoutLimit] {
        let (mut world, env) = World::new(4);
        let policy = RetryPolicy {
            initial: Duration::from_millis(100),
            max: Duration::from_millis(300),
            jitter: 0.0,
            max_retries: 3,
            ..RetryPolicy::default()
        };
        let client = account(&env, quirks).retry(policy).connect().unwrap();
        let mut events = client.events();
        for delay in [100, 200, 300] {
            world.api().await.refuse(500);
            assert_eq!(retrying(&mut events).await.1, Duration::from_millis(delay));
        }
        world.api().await.refuse(500);
        assert!(matches!(due(closed(&client)).await, CloseReason::Exhausted { retries: 3, .. }));
    }

    // ---- CLI-05, what its table does not show ----

    async fn cli_05_second_upgrade_401_is_fatal(quirks) breaks_with [RetriesUnauthorizedForEver] {
        for between in [None, Some(503)] {
            let (mut world, env) = World::new(5);
            let client = connect(&env, quirks);
            for status in [Some(401), between, Some(401)].into_iter().flatten() {
                world.grant().await;
                world.dial().await.refuse(status).await;
            }
            assert!(matches!(closed(&client).await, CloseReason::Fatal(Cause::Upgrade { status: 401, .. })));
        }
    }

    async fn cli_05_upgrade_401_is_retried_once_more_after_active(quirks) breaks_with [RemembersUnauthorized] {
        let (mut world, env) = World::new(5);
        let client = connect(&env, quirks);
        for _ in 0..3 {
            world.grant().await;
            world.dial().await.refuse(401).await;
            let link = due(world.join()).await;
            state(&client, State::Active).await;
            link.into_parts().0.cut();
        }
    }

    /// The relay's API conflicts: a ghost socket for an account, the daemon offline for a code.
    async fn cli_05_api_409_depends_on_the_mode(quirks) breaks_with [RetriesConflictOfCode] {
        let (mut world, env) = World::new(5);
        let client = quick_connect(&env, quirks).connect().unwrap();
        world.api().await.refuse(409);
        assert!(matches!(closed(&client).await, CloseReason::Fatal(Cause::Api { status: 409, .. })));
    }

    /// ◇ The relay keeps the connection (WIRE-09), so that there is nothing to retry.
    async fn cli_05_rate_limited_is_told_and_the_session_goes_on(quirks) breaks_with [EndsOnRateLimit] {
        let (mut world, env) = World::new(5);
        let client = connect(&env, quirks);
        let mut events = client.events();
        let mut link = world.join().await;
        link.socket.control(ControlCode::RateLimited, None).await;
        due(link.is_alive()).await;
        let told = async {
            while !matches!(events.next().await.expect("the client is there"), sideband::Lifecycle::RateLimited) {}
        };
        soon("a word about it", told).await;
    }

    // ---- CLI-06 ----

    async fn cli_06_retry_after_in_seconds(quirks) breaks_with [IgnoresRetryAfter, CapsRetryAfterEarly] {
        for status in [409, 429, 503] {
            let (mut world, env) = World::new(6);
            let client = connect(&env, quirks);
            let mut events = client.events();
            world.api().await.refuse_with(status, &[("retry-after", "50")]);
            let since = Timeline::start();
            assert_eq!(retrying(&mut events).await.1, Duration::from_secs(50));
            world.api().await;
            assert!(since.elapsed() >= Duration::from_secs(50), "{:?}", since.elapsed());
        }
    }

    async fn cli_06_retry_after_as_a_date(quirks) breaks_with [IgnoresRetryAfter] {
        let (mut world, env) = World::new(6);
        let client = connect(&env, quirks);
        let mut events = client.events();
        // The world starts on Fri, 15 Jan 2027 08:00:00 GMT.
        world.api().await.refuse_with(429, &[("retry-after", "Fri, 15 Jan 2027 08:00:50 GMT")]);
        assert_eq!(retrying(&mut events).await.1, Duration::from_secs(50));
    }

    async fn cli_06_retry_after_of_a_refused_upgrade(quirks) breaks_with [IgnoresRetryAfter] {
        for status in [401, 429, 503] {
            let (mut world, env) = World::new(6);
            let client = connect(&env, quirks);
            let mut events = client.events();
            world.grant().await;
            world.dial().await.refuse_with(status, &[("retry-after", "50")]).await;
            assert_eq!(retrying(&mut events).await.1, Duration::from_secs(50));
        }
    }

    async fn cli_06_retry_after_makes_no_delay_shorter(quirks) breaks_with [RetryAfterReplacesDelay] {
        let (mut world, env) = World::new(6);
        let client = connect(&env, quirks);
        let mut events = client.events();
        for retry in 0..5 {
            world.api().await.refuse_with(503, &[("retry-after", "0")]);
            let (_, delay, _) = retrying(&mut events).await;
            assert!(around(retry).contains(&delay.as_secs_f64()), "{delay:?} before retry {retry}");
        }
    }

    async fn cli_06_retry_after_counts_for_120_s_at_most(quirks) breaks_with [IgnoresRetryAfter, CapsRetryAfterEarly] {
        for wait in ["121", "86400", "99999999999999999999999", "Sat, 16 Jan 2027 08:00:00 GMT"] {
            let (mut world, env) = World::new(6);
            let client = connect(&env, quirks);
            let mut events = client.events();
            world.api().await.refuse_with(503, &[("retry-after", wait)]);
            assert_eq!(retrying(&mut events).await.1, Duration::from_secs(120), "{wait}");
        }
    }

    // ---- CLI-07 ----

    async fn cli_07_new_session_is_waited_for_15_s(quirks) breaks_with [WaitsForApiForEver] {
        let (mut world, env) = World::new(7);
        let _client = connect(&env, quirks);
        let mut call = world.api().await;
        let since = Timeline::start();
        due(call.given_up()).await;
        assert!(is_15_s(since.elapsed()), "{:?}", since.elapsed());
    }

    async fn cli_07_redeem_is_waited_for_15_s(quirks) breaks_with [WaitsForApiForEver] {
        let (mut world, env) = World::new(7);
        let _client = quick_connect(&env, quirks).connect().unwrap();
        let mut call = world.api().await;
        let since = Timeline::start();
        due(call.given_up()).await;
        assert!(is_15_s(since.elapsed()), "{:?}", since.elapsed());
    }

    async fn cli_07_connection_to_the_relay_is_waited_for_15_s(quirks) breaks_with [WaitsForRelayForEver] {
        let (mut world, env) = World::new(7);
        let _client = connect(&env, quirks);
        world.grant().await;
        let mut dial = world.dial().await;
        let since = Timeline::start();
        due(dial.given_up()).await;
        assert!(is_15_s(since.elapsed()), "{:?}", since.elapsed());
    }

    async fn cli_07_answer_to_the_upgrade_is_waited_for_15_s(quirks) breaks_with [WaitsForRelayForEver] {
        let (mut world, env) = World::new(7);
        let _client = connect(&env, quirks);
        world.grant().await;
        let dial = world.dial().await;
        let since = Timeline::start();
        // The connection stands for 10 s of the 15 only.
        assert!(world.api_within(Duration::from_secs(5)).await.is_none());
        let mut stream = dial.connect();
        let mut request = Vec::new();
        due(soon("the end", stream.read_to_end(&mut request))).await.unwrap();
        assert!(is_15_s(since.elapsed()), "{:?}", since.elapsed());
    }

    // ---- CLI-08 ----

    async fn cli_08_fatal_api_failure_is_the_api_error_itself(quirks) breaks_with [HidesApiError] {
        for status in [400, 401, 403, 404] {
            let (mut world, env) = World::new(8);
            let client = connect(&env, quirks);
            world.api().await.refuse(status);
            let error = soon("a failure", client.when_ready()).await.unwrap_err();
            assert_eq!(error.status(), Some(status));
            assert!(error.to_string().contains(&format!("refused with {status}")), "{error}");
            assert_eq!(error.code(), None, "it is no peer error");
            assert_eq!(error.kind(), ErrorKind::Refused);
        }
    }

    async fn cli_08_fatal_answer_to_a_redeem_is_the_api_error_itself(quirks) breaks_with [HidesApiError] {
        for status in [403, 404, 409] {
            let (mut world, env) = World::new(8);
            let client = quick_connect(&env, quirks).connect().unwrap();
            world.api().await.refuse(status);
            let error = soon("a failure", client.when_ready()).await.unwrap_err();
            assert_eq!((error.status(), error.code()), (Some(status), None));
            assert!(error.to_string().contains(&format!("refused with {status}")), "{error}");
        }
    }

    async fn cli_08_retries_that_ran_out_are_a_peer_error_with_the_last_cause(quirks) breaks_with [LosesLastCause] {
        let (mut world, env) = World::new(8);
        let client = connect(&env, quirks);
        for status in [500, 429, 409, 502, 500, 503] {
            world.api().await.refuse(status);
        }
        let error = soon("a failure", client.when_ready()).await.unwrap_err();
        assert_eq!(error.code(), Some("peer_closed"));
        assert_eq!(error.status(), Some(503));
        assert!(matches!(error.cause(), Some(Cause::Api { status: 503, .. })));
        assert!(error.to_string().contains("refused with 503"), "{error}");
    }
}
