//! Delays, and what binds the daemon as it binds the client: DMN-04, DMN-13.

use std::time::Duration;

use serde_json::json;
use sideband::ServerEvent;
use sideband_env::Timeline;
use sideband_protocol::{
    failure::Cause,
    wire::{Frame, close},
};
use sideband_tests::script::{DAEMON, Got, World, presence_token};

use super::{is_delay, next_attempt, offline, online, told_within, until};
use crate::{
    endpoints::listen,
    witness::{due, witnesses},
};

/// More than the 5 s after which a connection has lasted.
const LASTS: Duration = Duration::from_secs(6);

witnesses! {
    async fn dmn_04_delays_double_to_30_s_and_at_most_half_a_second_is_added(quirks) breaks_with [DaemonRetriesAtOnce] {
        let (mut world, env) = World::new(200);
        let _server = listen(&env, quirks);
        world.api().await.refuse(503);
        for base in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
            let (call, waited) = next_attempt(&mut world).await;
            assert!(is_delay(waited, base), "{waited} s instead of about {base} s");
            call.refuse(503);
        }
    }

    /// A relay that comes back is not met by all its daemons at the same moment.
    async fn dmn_04_daemons_do_not_retry_in_step(quirks) breaks_with [DaemonsRetryInStep] {
        let mut delays = Vec::new();
        for seed in 201..209 {
            let (mut world, env) = World::new(seed);
            let _server = listen(&env, quirks);
            world.api().await.refuse(503);
            delays.push(next_attempt(&mut world).await.1);
        }
        let (least, most) = (delays.iter().copied().fold(f64::MAX, f64::min), delays.iter().copied().fold(0.0, f64::max));
        assert!(most - least > 0.2, "eight daemons within {} s: {delays:?}", most - least);
    }

    async fn dmn_04_the_count_restarts_after_a_connection_that_lasted(quirks) breaks_with [DaemonNeverRestartsCount] {
        let (mut world, env) = World::new(210);
        let _server = listen(&env, quirks);
        for _ in 0..3 {
            world.api().await.refuse(503);
        }
        let mut link = world.go_online(true).await;
        assert_eq!(link.socket.frame_within(LASTS).await, None);
        link.socket.cut();
        let (call, waited) = next_attempt(&mut world).await;
        assert!(is_delay(waited, 1.0), "{waited} s");
        call.refuse(503);
        let (_, waited) = next_attempt(&mut world).await;
        assert!(is_delay(waited, 2.0), "{waited} s");
    }

    async fn dmn_04_a_connection_that_did_not_last_is_a_retry_like_any(quirks) breaks_with [DaemonRetriesAtOnce] {
        for code in [None, Some(close::NORMAL)] {
            let (mut world, env) = World::new(211);
            let _server = listen(&env, quirks);
            for _ in 0..3 {
                world.api().await.refuse(503);
            }
            let mut link = world.go_online(true).await;
            assert_eq!(link.socket.frame_within(Duration::from_secs(4)).await, None);
            match code {
                Some(code) => link.socket.close(code).await,
                None => link.socket.cut(),
            }
            let (_, waited) = next_attempt(&mut world).await;
            assert!(is_delay(waited, 8.0), "{waited} s after {code:?}");
        }
    }

    /// 0 to 2 s, which is neither about 1 s nor at once.
    async fn dmn_04_a_clean_close_of_one_that_lasted_takes_at_most_2_s(quirks) breaks_with [TakesCleanCloseForFault] {
        let (mut world, env) = World::new(212);
        let _server = listen(&env, quirks);
        let mut delays = Vec::new();
        let mut call = world.api().await;
        for _ in 0..10 {
            call.ok(json!({ "presenceToken": presence_token(DAEMON, true) }));
            let mut socket = world.dial().await.open().await;
            assert_eq!(socket.frame_within(LASTS).await, None);
            socket.close(close::NORMAL).await;
            let (next, waited) = next_attempt(&mut world).await;
            delays.push(waited);
            call = next;
        }
        assert!(delays.iter().all(|waited| *waited <= 2.01), "{delays:?}");
        assert!(delays.iter().any(|waited| !is_delay(*waited, 1.0)), "{delays:?}");
    }

    async fn dmn_13_pings_every_45_s(quirks) breaks_with [DaemonNeverPings] {
        let (mut world, env) = World::new(213);
        let (_server, _, mut link) = online(&mut world, &env, quirks).await;
        for _ in 0..5 {
            let since = Timeline::start();
            let Got::Message(message) = link.socket.got().await else { panic!("a Ping was due") };
            let Ok(Frame::Ping(bytes)) = Frame::decode(&message) else { panic!("a Ping was due") };
            let waited = since.elapsed().as_secs_f64();
            assert!((44.9..=45.1).contains(&waited), "{waited} s");
            link.socket.send(&Frame::Pong(bytes)).await;
        }
    }

    async fn dmn_13_a_relay_silent_for_90_s_counts_as_lost(quirks) breaks_with [DaemonBearsSilence] {
        let (mut world, env) = World::new(214);
        let (_server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let since = Timeline::start();
        assert!(matches!(link.socket.got().await, Got::Message(_)), "a Ping that nobody answers");
        let lost = due(until(&mut events, |event| matches!(event, ServerEvent::Offline(_)))).await;
        assert!(matches!(lost, ServerEvent::Offline(Cause::Silent)), "{lost:?}");
        let waited = since.elapsed().as_secs_f64();
        assert!((89.9..=90.1).contains(&waited), "{waited} s");
        let (_, waited) = next_attempt(&mut world).await;
        assert!(is_delay(waited, 1.0), "{waited} s");
    }

    async fn dmn_13_any_sign_of_life_will_do(quirks) breaks_with [] {
        let (mut world, env) = World::new(215);
        let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
        for _ in 0..10 {
            link.socket.send(&Frame::Ping("life".into())).await;
            let told = told_within(&mut events, Duration::from_secs(80)).await;
            assert!(told.is_empty(), "{told:?}");
        }
        assert!(server.is_online());
    }

    async fn dmn_13_retry_after_is_the_least_delay(quirks) breaks_with [DaemonIgnoresRetryAfter] {
        let (mut world, env) = World::new(216);
        let _server = listen(&env, quirks);
        world.api().await.refuse_with(429, &[("retry-after", "40")]);
        let (call, waited) = next_attempt(&mut world).await;
        assert!((40.0..=40.01).contains(&waited), "{waited} s");
        call.refuse_with(503, &[("retry-after", "1")]);
        let (call, waited) = next_attempt(&mut world).await;
        assert!(is_delay(waited, 2.0), "no shorter than its own delay: {waited} s");
        call.refuse_with(503, &[("retry-after", "86400")]);
        let (call, waited) = next_attempt(&mut world).await;
        assert!((120.0..=120.01).contains(&waited), "at most two minutes: {waited} s");
        // The clock of these worlds stands at 2027-01-15 08:00:00.
        call.refuse_with(503, &[("retry-after", "Fri, 15 Jan 2027 08:00:50 GMT")]);
        assert!((50.0..=50.01).contains(&next_attempt(&mut world).await.1), "a date");
    }

    async fn dmn_13_retry_after_of_the_relay_too(quirks) breaks_with [DaemonIgnoresRetryAfter] {
        let (mut world, env) = World::new(217);
        let _server = listen(&env, quirks);
        world.renew(true).await;
        world.dial().await.refuse_with(503, &[("retry-after", "33")]).await;
        let (_, waited) = next_attempt(&mut world).await;
        assert!((33.0..=33.01).contains(&waited), "{waited} s");
    }

    async fn dmn_13_an_api_call_ends_after_15_s(quirks) breaks_with [DaemonWaitsForApi] {
        let (mut world, env) = World::new(218);
        let _server = listen(&env, quirks);
        let mut call = world.api().await;
        let since = Timeline::start();
        due(call.given_up()).await;
        let waited = since.elapsed().as_secs_f64();
        assert!((14.9..=15.1).contains(&waited), "{waited} s");
        assert!(is_delay(next_attempt(&mut world).await.1, 1.0), "and is tried again");
    }

    async fn dmn_13_a_dial_ends_after_15_s(quirks) breaks_with [DaemonWaitsForDial] {
        let (mut world, env) = World::new(219);
        let _server = listen(&env, quirks);
        world.renew(true).await;
        let mut dial = world.dial().await;
        let since = Timeline::start();
        due(dial.given_up()).await;
        let waited = since.elapsed().as_secs_f64();
        assert!((14.9..=15.1).contains(&waited), "{waited} s");
        assert!(is_delay(next_attempt(&mut world).await.1, 1.0), "and is tried again");
    }

    /// A relay that takes the connection and never answers the upgrade.
    async fn dmn_13_an_upgrade_without_an_answer_ends_after_15_s(quirks) breaks_with [DaemonWaitsForDial] {
        let (mut world, env) = World::new(220);
        let _server = listen(&env, quirks);
        world.renew(true).await;
        let _stream = world.dial().await.connect();
        let (_, waited) = due(next_attempt(&mut world)).await;
        assert!(is_delay(waited - 15.0, 1.0), "{waited} s");
    }

    /// The reason reaches who listens to the daemon's life, with the delay that follows.
    async fn dmn_04_every_retry_is_told(quirks) breaks_with [] {
        let (mut world, env) = World::new(221);
        let (_server, mut events, link) = online(&mut world, &env, quirks).await;
        link.socket.cut();
        offline(&mut events).await;
        let retrying = until(&mut events, |event| matches!(event, ServerEvent::Retrying { .. })).await;
        let ServerEvent::Retrying { retry, delay, cause } = retrying else { panic!("{retrying:?}") };
        assert_eq!((retry, cause), (0, Cause::SocketLost { code: None }));
        let (_, waited) = next_attempt(&mut world).await;
        assert!((waited - delay.as_secs_f64()).abs() < 0.01, "{waited} s instead of {delay:?}");
    }
}
