//! What ends a daemon, what it tries again, and how it is called off: DMN-01, DMN-02, DMN-03, DMN-05.

use std::time::Duration;

use serde_json::json;
use sideband::{Error, ErrorKind, Server, ServerEvent};
use sideband_env::{Env, Timeline};
use sideband_protocol::{
    failure::Cause,
    quirks::Quirks,
    token::{Claims, Signer},
    wire::close,
};
use sideband_tests::script::{API_URL, DAEMON, START, World, soon};
use tokio::task::JoinHandle;

use super::{LONG, offline, online, told_within};
use crate::{
    endpoints::{daemon, listen},
    witness::{due, witnesses},
};

/// `listen`, under way.
fn listening(env: &Env, quirks: Quirks) -> JoinHandle<Result<Server, Error>> {
    tokio::spawn(daemon(env, quirks).listen())
}

/// What `listen` came to.
async fn outcome(listening: JoinHandle<Result<Server, Error>>) -> Result<Server, Error> {
    soon("the end of listen", listening).await.unwrap()
}

/// A presence token that no other is equal to.
fn numbered_token(number: u64) -> String {
    Signer::from_seed("k-far", &[7; 32]).sign(&Claims::daemon(API_URL, DAEMON, "t-far", START + number, true))
}

witnesses! {
    async fn dmn_01_listen_resolves_with_the_first_relay_connection(quirks) breaks_with [ListenReturnsEarly] {
        let (mut world, env) = World::new(100);
        let listening = listening(&env, quirks);
        world.renew(true).await;
        let dial = world.dial().await;
        assert!(!listening.is_finished(), "no relay connection stands yet");
        let _socket = dial.open().await;
        assert!(outcome(listening).await.unwrap().is_online());
    }

    async fn dmn_01_faults_are_retried_for_ever(quirks) breaks_with [DaemonGivesUp] {
        let (mut world, env) = World::new(101);
        let listening = listening(&env, quirks);
        for _ in 0..8 {
            world.api().await.unreachable();
            drop(world.api().await);
            world.api().await.refuse(429);
            world.api().await.refuse(503);
            world.renew(true).await;
            world.dial().await.unreachable();
            world.renew(true).await;
            world.dial().await.refuse(502).await;
            due(world.api()).await.given_up().await;
        }
        assert!(!listening.is_finished());
        let _link = world.go_online(true).await;
        assert!(outcome(listening).await.is_ok());
    }

    async fn dmn_01_api_429_and_5xx_are_retried(quirks) breaks_with [DaemonEndsOnServerErrors] {
        for status in [429, 500, 502, 503, 504, 599] {
            let (mut world, env) = World::new(102);
            let _listening = listening(&env, quirks);
            world.api().await.refuse(status);
            assert!(world.api_within(LONG).await.is_some(), "{status} passes");
        }
    }

    async fn dmn_01_api_409_and_an_unreadable_200_are_retried(quirks) breaks_with [DaemonGivesUp] {
        let (mut world, env) = World::new(103);
        let _listening = listening(&env, quirks);
        for _ in 0..2 {
            world.api().await.refuse(409);
            due(world.api()).await.answer(200, &[], "<html>a proxy's page</html>");
            due(world.api()).await.ok(json!({ "token": "under another name" }));
            due(world.api()).await.ok(json!({ "presenceToken": "not.a.token" }));
        }
        assert!(world.api_within(LONG).await.is_some());
    }

    async fn dmn_01_api_answers_that_succeed_with_nothing_are_retried(quirks) breaks_with [DaemonGivesUp] {
        let (mut world, env) = World::new(103);
        let _listening = listening(&env, quirks);
        for status in [201, 202, 204, 206, 201, 202, 204] {
            due(world.api()).await.answer(status, &[], "<html>log in</html>");
        }
        assert!(world.api_within(LONG).await.is_some());
    }

    async fn dmn_01_api_400_401_403_and_404_reject_at_once(quirks) breaks_with [DaemonRetriesRefusals] {
        for status in [400, 401, 403, 404] {
            let (mut world, env) = World::new(104);
            let listening = listening(&env, quirks);
            world.api().await.refuse(status);
            let since = Timeline::start();
            let error = due(outcome(listening)).await.expect_err("a refusal");
            assert_eq!(error.status(), Some(status));
            assert!(since.elapsed() < Duration::from_secs(1), "at once");
            assert!(world.api_within(LONG).await.is_none(), "{status} is final");
        }
    }

    async fn dmn_01_the_same_refusals_later_end_the_server_and_are_told_once(quirks) breaks_with [DaemonRetriesRefusals] {
        for refusal in [400, 401, 403, 404] {
            let (mut world, env) = World::new(105);
            let (server, mut events, link) = online(&mut world, &env, quirks).await;
            link.socket.cut();
            world.api().await.refuse(refusal);
            let told = told_within(&mut events, LONG).await;
            let is_end = |event: &&ServerEvent| {
                matches!(event, ServerEvent::Ended(Cause::Api { status, .. }) if *status == refusal)
            };
            assert_eq!(told.iter().filter(is_end).count(), 1, "{told:?}");
            assert!(matches!(server.ended().await, Cause::Api { status, .. } if status == refusal));
            assert!(world.api_within(LONG).await.is_none(), "{refusal} is final");
        }
    }

    async fn dmn_01_other_3xx_and_4xx_of_the_api_end_it(quirks) breaks_with [] {
        for status in [301, 302, 307, 402, 405, 413, 418] {
            let (mut world, env) = World::new(106);
            let listening = listening(&env, quirks);
            world.api().await.refuse(status);
            assert_eq!(outcome(listening).await.expect_err("a refusal").status(), Some(status));
        }
    }

    async fn dmn_01_upgrades_refused_for_now_are_retried_with_a_fresh_token(quirks) breaks_with [DaemonEndsOnRefusedUpgrade] {
        for status in [401, 409, 429, 500, 503] {
            let (mut world, env) = World::new(107);
            let listening = listening(&env, quirks);
            for number in 0..3 {
                due(world.api()).await.ok(json!({ "presenceToken": numbered_token(number) }));
                world.dial().await.refuse(status).await;
            }
            world.api().await.ok(json!({ "presenceToken": numbered_token(3) }));
            let socket = world.dial().await.open().await;
            assert_eq!(socket.token, Some(numbered_token(3)), "a fresh one after {status}");
            assert!(outcome(listening).await.is_ok());
        }
    }

    async fn dmn_01_upgrades_refused_otherwise_end_it(quirks) breaks_with [] {
        for status in [302, 400, 402, 403, 404, 426] {
            let (mut world, env) = World::new(108);
            let listening = listening(&env, quirks);
            world.renew(true).await;
            world.dial().await.refuse(status).await;
            assert_eq!(outcome(listening).await.expect_err("a refusal").status(), Some(status));
            assert!(world.api_within(LONG).await.is_none(), "{status} is final");
        }
    }

    async fn dmn_01_who_is_replaced_says_so_and_does_not_duel(quirks) breaks_with [DuelsForItsPlace] {
        let (mut world, env) = World::new(109);
        let (server, mut events, link) = online(&mut world, &env, quirks).await;
        link.socket.close(close::REPLACED).await;
        let told = told_within(&mut events, LONG).await;
        let replaced = |cause: &Cause| *cause == Cause::SocketLost { code: Some(4001) };
        let is_end = |event: &&ServerEvent| matches!(event, ServerEvent::Ended(cause) if replaced(cause));
        assert_eq!(told.iter().filter(is_end).count(), 1, "{told:?}");
        assert!(replaced(&server.ended().await));
        assert!(world.api_within(LONG).await.is_none(), "the place is the other's");
    }

    /// The relay may find a dial's connection that its daemon has let go of, and take that for the newer one.
    async fn dmn_01_replaced_by_a_dial_of_its_own_it_reconnects(quirks) breaks_with [TakesOwnDialForRival] {
        let (mut world, env) = World::new(110);
        let server = listen(&env, quirks);
        world.renew(true).await;
        world.dial().await.given_up().await;
        let link = world.go_online(true).await;
        link.socket.close(close::REPLACED).await;
        let mut link = due(world.go_online(true)).await;
        // A minute later it cannot have been that dial any more.
        assert_eq!(link.socket.frame_within(Duration::from_secs(61)).await, None);
        link.socket.close(close::REPLACED).await;
        assert_eq!(soon("the end", server.ended()).await, Cause::SocketLost { code: Some(4001) });
    }

    async fn dmn_02_the_id_is_the_tokens(quirks) breaks_with [] {
        let (mut world, env) = World::new(111);
        let (server, _, _link) = online(&mut world, &env, quirks).await;
        assert_eq!(server.daemon_id(), DAEMON);
        let named = tokio::spawn(daemon(&env, quirks).daemon_id(DAEMON).listen());
        let _link = world.go_online(true).await;
        assert_eq!(outcome(named).await.unwrap().daemon_id(), DAEMON);
    }

    async fn dmn_02_a_key_of_another_daemon_is_a_400_at_once(quirks) breaks_with [ServesAnyDaemonId] {
        let (mut world, env) = World::new(112);
        let listening = tokio::spawn(daemon(&env, quirks).daemon_id("d_other").listen());
        world.renew(true).await;
        let since = Timeline::start();
        let error = due(outcome(listening)).await.expect_err("the key is another daemon's");
        assert!(matches!(error.cause(), Some(Cause::Api { status: 400, .. })), "{error:?}");
        assert!(since.elapsed() < Duration::from_secs(1), "at once");
        assert!(world.dial_within(LONG).await.is_none(), "nobody is served");
    }

    async fn dmn_03_every_relay_connection_has_a_fresh_token(quirks) breaks_with [ReusesPresenceToken] {
        let (mut world, env) = World::new(113);
        let _server = listen(&env, quirks);
        for number in 0..4 {
            let call = due(world.api()).await;
            assert_eq!(call.procedure(), "daemon.renewToken");
            assert_eq!(call.bearer(), Some("sbnd_dak_far"));
            call.ok(json!({ "presenceToken": numbered_token(number) }));
            let socket = world.dial().await.open().await;
            assert_eq!(socket.token, Some(numbered_token(number)));
            socket.cut();
        }
    }

    async fn dmn_05_a_cancelled_listen_lets_go_of_the_api_at_once(quirks) breaks_with [ClosesOnlyWhenOnline] {
        let (mut world, env) = World::new(114);
        let listening = listening(&env, quirks);
        let mut call = world.api().await;
        let since = Timeline::start();
        listening.abort();
        call.given_up().await;
        assert!(since.elapsed() < Duration::from_secs(1), "at once");
        assert!(world.api_within(LONG).await.is_none(), "cancelled");
    }

    async fn dmn_05_a_cancelled_listen_lets_go_of_the_dial_at_once(quirks) breaks_with [ClosesOnlyWhenOnline] {
        let (mut world, env) = World::new(115);
        let listening = listening(&env, quirks);
        world.renew(true).await;
        let mut dial = world.dial().await;
        let since = Timeline::start();
        listening.abort();
        dial.given_up().await;
        assert!(since.elapsed() < Duration::from_secs(1), "at once");
        assert!(world.api_within(LONG).await.is_none(), "cancelled");
    }

    async fn dmn_05_closing_before_the_first_connection_rejects_at_once(quirks) breaks_with [ClosesOnlyWhenOnline] {
        let (mut world, env) = World::new(116);
        let server = listen(&env, quirks);
        let _call = world.api().await;
        let since = Timeline::start();
        let (waited, ()) = due(soon("both", async { tokio::join!(server.when_online(), server.close()) })).await;
        assert_eq!(waited.expect_err("cancelled").kind(), ErrorKind::Closed);
        assert!(since.elapsed() < Duration::from_secs(1), "at once");
    }

    /// The time limit around `listen` is over long after it resolved: the server goes on.
    async fn dmn_05_cancelling_after_the_first_connection_has_no_effect(quirks) breaks_with [] {
        let (mut world, env) = World::new(117);
        let listening = tokio::spawn(tokio::time::timeout(Duration::from_secs(20), daemon(&env, quirks).listen()));
        let mut link = world.go_online(true).await;
        let server = soon("listen", listening).await.unwrap().unwrap().unwrap();
        assert_eq!(link.socket.frame_within(Duration::from_secs(60)).await, None);
        assert!(server.is_online());
    }

    async fn dmn_05_close_is_prompt_in_every_state(quirks) breaks_with [ClosesOnlyWhenOnline] {
        for stage in ["api", "dial", "delay", "online", "paused"] {
            let (mut world, env) = World::new(118);
            let server = listen(&env, quirks);
            let mut events = server.events();
            // What is held here stays under way while the server closes.
            let (mut call, mut dial, mut link) = (None, None, None);
            match stage {
                "api" => call = Some(world.api().await),
                "dial" => {
                    world.renew(true).await;
                    dial = Some(world.dial().await);
                }
                "delay" => world.api().await.refuse(503),
                "online" => link = Some(world.go_online(true).await),
                _ => {
                    let mut link = world.go_online(true).await;
                    world.meet(&mut link).await;
                    link.socket.cut();
                    offline(&mut events).await;
                }
            }
            let since = Timeline::start();
            due(soon("close", server.close())).await;
            assert!(since.elapsed() <= Duration::from_secs(2), "promptly, {stage}");
            assert_eq!(server.ended().await, Cause::Closed, "{stage}");
            assert!(server.connections().is_empty(), "{stage}");
            assert!(world.api_within(LONG).await.is_none(), "{stage}");
            drop((call, dial, link));
            server.close().await;
        }
    }
}
