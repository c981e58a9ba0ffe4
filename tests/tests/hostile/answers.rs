//! Before the socket: upgrades and API calls that are answered with anything but an answer.

use std::time::Duration;

use sideband::{CloseReason, Lifecycle, QuickConnect};
use sideband_env::Timeline;
use sideband_protocol::{client::State, failure::Cause};
use sideband_tests::script::{
    API_URL, DAEMON, Dial, World, grant,
    hostile::{
        ClientFate, DaemonFate,
        answers::{RELAY_URLS, Upgrade, grants, renewals, upgrades},
        cause_name,
    },
    presence_token, session, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{each, fate, is_over},
    daemon::retrying,
    victims::{ClientVictim, DaemonVictim, daemon, moment},
};

/// CLI-07, with a little for the timer.
const DIAL: Duration = Duration::from_millis(15_050);

/// Answers a dial, and reads on until the endpoint has gone.
async fn answer(dial: Dial, with: &Upgrade) {
    let mut stream = dial.connect();
    let mut request = vec![0; 4_096];
    assert!(stream.read(&mut request).await.unwrap() > 0, "a request was due");
    for byte in with.bytes.chunks(if with.each_byte.is_some() { 1 } else { with.bytes.len().max(1) }) {
        tokio::time::sleep(with.each_byte.unwrap_or_default()).await;
        // The endpoint may have had enough.
        if stream.write_all(byte).await.is_err() {
            return;
        }
    }
    if with.ends {
        let _ = stream.shutdown().await;
    }
    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
}

#[test]
fn client_whose_upgrade_is_answered_with_anything() {
    each(upgrades(), |with| {
        Some((with.name.to_owned(), async move {
            let mut victim = ClientVictim::new(6, false);
            victim.world.grant().await;
            let since = Timeline::start();
            let dial = victim.world.dial().await;
            tokio::spawn(answer(dial, with));
            let due = match with.client {
                ClientFate::Retried(cause) => Ok(cause.to_owned()),
                ClientFate::Closed(cause) => Err(cause.to_owned()),
                ClientFate::GoesOn => panic!("no such fate"),
            };
            assert_eq!(fate(&mut victim).await, due);
            assert!(since.elapsed() <= DIAL, "it took {:?}", since.elapsed());
            assert!(!victim.pinned());
            match with.client {
                ClientFate::Closed(_) => is_over(&mut victim).await,
                ClientFate::Retried(_) | ClientFate::GoesOn => victim.recovers().await,
            }
        }))
    });
}

#[test]
fn daemon_whose_upgrade_is_answered_with_anything() {
    each(upgrades(), |with| {
        Some((with.name.to_owned(), async move {
            let (mut victim, mut scene) = DaemonVictim::new(7).await;
            // Its sessions wait meanwhile.
            scene.socket.take();
            retrying(&mut victim, "socket_lost").await;
            victim.world.renew(true).await;
            let since = Timeline::start();
            let dial = victim.world.dial().await;
            tokio::spawn(answer(dial, with));
            match with.daemon {
                DaemonFate::Reconnects(cause) => {
                    retrying(&mut victim, cause).await;
                    assert!(since.elapsed() <= DIAL, "it took {:?}", since.elapsed());
                    victim.resumes(&mut scene, sideband_tests::script::hostile::DaemonStage::Online).await;
                }
                DaemonFate::Ends(cause) => assert_eq!(cause_name(&soon("the end", victim.server.ended()).await), cause),
                other => panic!("no such fate: {other:?}"),
            }
            victim.closes().await;
        }))
    });
}

#[test]
fn client_whose_grant_is_junk() {
    each(grants(&grant(DAEMON, session(1))), |with| {
        Some((with.name.clone(), async move {
            let mut victim = ClientVictim::new(8, false);
            let call = victim.world.api().await;
            call.answer(with.status, &[("content-type", with.content_type)], with.body.clone());
            assert_eq!(fate(&mut victim).await, Ok("api_unreadable".to_owned()));
            assert!(victim.world.dial_within(Duration::ZERO).await.is_none(), "nothing is dialled");
            victim.recovers().await;
        }))
    });
}

/// CLI-02: a redeem that was not readable may be tried again, and a 404 then says why.
#[test]
fn quick_connect_whose_redeem_is_junk() {
    each(grants(&grant(DAEMON, session(1))), |with| {
        Some((with.name.clone(), async move {
            let (mut world, env) = World::new(9);
            let client = QuickConnect::new(API_URL, "abcd-efgh-ijkl").unwrap().env(env).connect().unwrap();
            let call = world.api().await;
            call.answer(with.status, &[("content-type", with.content_type)], with.body.clone());
            world.api().await.refuse(404);
            let CloseReason::Fatal(Cause::Api { status: 404, message, .. }) = client.closed().await else {
                panic!("closed for another reason");
            };
            assert!(message.contains("may have used the code up"), "{message}");
            assert!(world.dial_within(Duration::ZERO).await.is_none(), "nothing is dialled");
        }))
    });
}

#[test]
fn daemon_whose_token_is_junk() {
    let good = serde_json::json!({ "presenceToken": presence_token(DAEMON, true) });
    each(renewals(&good), |with| {
        Some((with.name.clone(), async move {
            let (mut world, env) = World::new(10);
            let server = daemon(&env).start().unwrap();
            let mut events = server.events();
            let call = world.api().await;
            call.answer(with.status, &[("content-type", with.content_type)], with.body.clone());
            let event = soon("a retry", events.next()).await;
            let Some(sideband::ServerEvent::Retrying { cause, .. }) = event else { panic!("{event:?}") };
            assert_eq!(cause_name(&cause), "api_unreadable");
            let mut link = world.go_online(true).await;
            world.meet(&mut link).await;
            link.is_alive().await;
            server.close().await;
        }))
    });
}

/// A URL that is none of a relay is never dialled, whatever scheme it has; the user is told which.
#[test]
fn client_whose_relay_url_cannot_be_dialled() {
    each(RELAY_URLS, |url| {
        Some(((*url).to_owned(), async move {
            let mut victim = ClientVictim::new(11, false);
            let mut data = grant(DAEMON, session(1));
            data["relayUrl"] = (*url).into();
            victim.world.api().await.ok(data);
            assert_eq!(fate(&mut victim).await, Err("relay_url".to_owned()));
            assert!(victim.world.dial_within(Duration::ZERO).await.is_none(), "nothing is dialled");
            is_over(&mut victim).await;
        }))
    });
}

/// Valid answers may come with anything around them.
#[tokio::test(start_paused = true)]
async fn answers_with_300_kib_more_than_was_asked_are_read() {
    let mut victim = ClientVictim::new(12, false);
    let id = victim.world.new_session();
    let mut data = grant(DAEMON, id);
    data["padding"] = "x".repeat(300 << 10).into();
    victim.world.api().await.ok(data);
    let mut socket = victim.world.dial().await.open().await;
    let init = socket.frame().await;
    assert_eq!(init.session(), id.get());
    victim.closes().await;
}

/// The API's words are kept short, and its wish to wait is bounded (CLI-06).
#[tokio::test(start_paused = true)]
async fn refusals_cannot_make_a_client_wait_or_remember_for_ever() {
    let mut victim = ClientVictim::new(13, false);
    let body =
        serde_json::json!({ "error": { "message": "m".repeat(300 << 10), "data": { "code": "c".repeat(300 << 10) } } });
    let headers = [("retry-after", "99999999999999999999")];
    victim.world.api().await.answer(503, &headers, body.to_string());
    let (mut longest, mut text) = (Duration::ZERO, 0);
    while let Some(event) = victim.events.next().await {
        if let Lifecycle::Retrying { delay, cause, .. } = event {
            (longest, text) = (delay, cause.to_string().len());
            break;
        }
    }
    assert!((Duration::from_secs(120)..=Duration::from_secs(121)).contains(&longest), "{longest:?}");
    assert!(text < 2_000, "{text} bytes are remembered");
    victim.recovers().await;
}

/// CLI-04: junk for ever ends after five retries, with the last cause.
#[tokio::test(start_paused = true)]
async fn junk_for_ever_ends_a_client_and_never_a_daemon() {
    let mut victim = ClientVictim::new(14, false);
    for _ in 0..6 {
        victim.world.api().await.answer(200, &[], "<html>");
    }
    let reason = soon("the end", victim.client.closed()).await;
    assert!(matches!(reason, CloseReason::Exhausted { retries: 5, cause: Cause::ApiUnreadable(_) }), "{reason:?}");
    assert_eq!(victim.state(), State::Closed);

    let (mut world, env) = World::new(15);
    let server = daemon(&env).start().unwrap();
    for _ in 0..50 {
        let call = world.api_within(Duration::from_secs(31)).await.expect("a daemon tries for ever");
        call.answer(200, &[], "<html>");
    }
    let mut link = world.go_online(true).await;
    world.meet(&mut link).await;
    moment().await;
    assert_eq!(server.connections().len(), 1);
    server.close().await;
}

/// DMN-01, DMN-02: an API that suddenly names another daemon ends the server.
#[tokio::test(start_paused = true)]
async fn token_of_another_daemon_ends_a_daemon() {
    let (mut victim, mut scene) = DaemonVictim::new(16).await;
    scene.socket.take();
    let token = presence_token("d_other", true);
    victim.world.api().await.ok(serde_json::json!({ "presenceToken": token }));
    assert_eq!(cause_name(&soon("the end", victim.server.ended()).await), "api_400");
    assert!(victim.server.connections().is_empty());
    victim.closes().await;
}
