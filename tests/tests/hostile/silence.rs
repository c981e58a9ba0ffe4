//! A relay that says nothing more, or nothing that helps: every phase ends in its time.

use std::time::Duration;

use sideband::ServerEvent;
use sideband_env::Timeline;
use sideband_protocol::{
    client::State,
    wire::{Frame, Reason, Signal},
};
use sideband_tests::script::{
    Socket, World,
    hostile::{ClientStage, DaemonStage, cause_name},
    soon,
};

use crate::{
    client::{each, fate, is_over},
    daemon::retrying,
    victims::{ClientVictim, DaemonVictim, daemon, moment},
};

/// What the timer may be late by, and what bringing an endpoint to a stage takes.
const SLACK: Duration = Duration::from_millis(100);

fn close_to(took: Duration, due: Duration) {
    assert!(took + SLACK >= due && took <= due + SLACK, "it took {took:?}, not {due:?}");
}

/// How long a client bears a silent relay, from the socket's opening, and what follows.
fn patience(stage: ClientStage) -> (Duration, Result<&'static str, &'static str>) {
    match stage {
        // CRY-11
        ClientStage::Opened | ClientStage::Keyed => (Duration::from_secs(30), Ok("handshake_timeout")),
        // TRU-04
        ClientStage::Trusting => (Duration::from_secs(30), Err("handshake_failed")),
        // CLI-13
        ClientStage::Active | ClientStage::Paused | ClientStage::Pending => (Duration::from_secs(90), Ok("silent")),
    }
}

/// Reads and says nothing.
async fn mute(mut socket: Socket) {
    while let Some(sideband_tests::script::Got::Message(_)) = socket.got_within(Duration::from_secs(1_000)).await {}
}

/// Answers nothing but Pings, and pings besides: the relay lives, but nothing comes of it.
async fn alive(mut socket: Socket) {
    loop {
        socket.send(&Frame::Ping(vec![1].into())).await;
        while let Some(got) = socket.got_within(Duration::from_secs(5)).await {
            if !matches!(got, sideband_tests::script::Got::Message(_)) {
                return;
            }
        }
    }
}

#[test]
fn client_at_a_silent_relay() {
    each(ClientStage::ALL, |stage| {
        Some((format!("{stage:?}"), async move {
            let mut victim = ClientVictim::new(17, *stage == ClientStage::Trusting);
            let since = Timeline::start();
            let mut scene = victim.bring(*stage).await;
            tokio::spawn(mute(scene.socket.take().unwrap()));
            let (due, cause) = patience(*stage);
            let became = fate(&mut victim).await;
            close_to(since.elapsed(), due);
            assert_eq!(became, cause.map(str::to_owned).map_err(str::to_owned));
            assert_eq!(victim.pinned(), !matches!(stage, ClientStage::Opened | ClientStage::Trusting));
            match cause {
                Ok(_) => victim.recovers().await,
                Err(_) => is_over(&mut victim).await,
            }
        }))
    });
}

/// Life alone prolongs no handshake; a session that stands, paused or not, lives on.
#[test]
fn client_at_a_relay_that_only_pings() {
    each(ClientStage::ALL, |stage| {
        Some((format!("{stage:?}"), async move {
            let mut victim = ClientVictim::new(18, *stage == ClientStage::Trusting);
            let since = Timeline::start();
            let mut scene = victim.bring(*stage).await;
            let state = victim.state();
            tokio::spawn(alive(scene.socket.take().unwrap()));
            if stage.stands() {
                assert!(victim.world.api_within(Duration::from_secs(600)).await.is_none());
                assert_eq!(victim.state(), state);
                return victim.closes().await;
            }
            let (due, cause) = patience(*stage);
            let became = fate(&mut victim).await;
            close_to(since.elapsed(), due);
            assert_eq!(became, cause.map(str::to_owned).map_err(str::to_owned));
        }))
    });
}

/// CLI-07: a token source, an API and a relay that never answer.
#[tokio::test(start_paused = true)]
async fn client_whose_calls_and_dials_hang() {
    let mut victim = ClientVictim::new(19, false);
    let since = Timeline::start();
    let mut call = victim.world.api().await;
    call.given_up().await;
    close_to(since.elapsed(), Duration::from_secs(15));
    assert_eq!(fate(&mut victim).await, Ok("api_timeout".to_owned()));
    victim.world.grant().await;
    let since = Timeline::start();
    let mut dial = victim.world.dial().await;
    dial.given_up().await;
    close_to(since.elapsed(), Duration::from_secs(15));
    // An answer that comes too late belongs to nothing.
    drop((call, dial));
    victim.trust();
    let mut link = victim.world.join().await;
    link.is_alive().await;
    victim.closes().await;
}

#[tokio::test(start_paused = true)]
async fn daemon_whose_calls_and_dials_hang() {
    let (mut world, env) = World::new(20);
    let server = daemon(&env).start().unwrap();
    let since = Timeline::start();
    let mut call = world.api().await;
    call.given_up().await;
    close_to(since.elapsed(), Duration::from_secs(15));
    world.renew(true).await;
    let since = Timeline::start();
    let mut dial = world.dial().await;
    dial.given_up().await;
    close_to(since.elapsed(), Duration::from_secs(15));
    let mut link = world.go_online(true).await;
    world.meet(&mut link).await;
    link.is_alive().await;
    server.close().await;
}

/// DMN-13: the socket counts as dropped after 90 s; sessions that stood go on over the next one.
#[test]
fn daemon_at_a_silent_relay() {
    each(DaemonStage::ALL, |stage| {
        Some((format!("{stage:?}"), async move {
            let (mut victim, mut scene) = DaemonVictim::new(21).await;
            victim.bring(&mut scene, *stage).await;
            let since = Timeline::start();
            tokio::spawn(mute(scene.socket.take().unwrap()));
            if *stage == DaemonStage::Keyed {
                // CRY-11: long before the socket.
                assert_eq!(refused(&mut victim).await, "handshake_timeout");
                close_to(since.elapsed(), Duration::from_secs(30));
            }
            retrying(&mut victim, "silent").await;
            close_to(since.elapsed(), Duration::from_secs(90));
            let stage = if *stage == DaemonStage::Keyed { DaemonStage::Online } else { *stage };
            victim.resumes(&mut scene, stage).await;
            victim.closes().await;
        }))
    });
}

/// CRY-11: a session that never gets anywhere ends by itself, whatever else the relay says; the one beside it lives on.
#[tokio::test(start_paused = true)]
async fn daemon_at_a_relay_that_only_pings() {
    let (mut victim, mut scene) = DaemonVictim::new(22).await;
    victim.bring(&mut scene, DaemonStage::Keyed).await;
    let since = Timeline::start();
    for _ in 0..29 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene
            .suffer(
                |_| vec![Frame::Ping(vec![2].into()).into()],
                sideband_protocol::peer::Side::Client,
                &mut *crate::victims::entropy(1),
            )
            .await;
    }
    assert_eq!(refused(&mut victim).await, "handshake_timeout");
    close_to(since.elapsed(), Duration::from_secs(30));
    assert_eq!(victim.signal(&mut scene).await, (Signal::Close, Reason::Error));
    victim.serves_others(&mut scene).await;
    victim.closes().await;
}

async fn refused(victim: &mut DaemonVictim) -> String {
    loop {
        match soon("a refusal", victim.events.next()).await {
            Some(ServerEvent::Refused { cause, .. }) => return cause_name(&cause),
            Some(ServerEvent::Offline(cause)) => panic!("offline: {cause}"),
            Some(_) => {}
            None => panic!("the events ended"),
        }
    }
}

/// CLI-14: `close` is prompt in every phase, also at a relay that neither reads nor answers.
#[test]
fn client_closes_promptly_at_a_dead_relay() {
    each(ClientStage::ALL, |stage| {
        Some((format!("{stage:?}"), async move {
            let mut victim = ClientVictim::new(23, *stage == ClientStage::Trusting);
            let scene = victim.bring(*stage).await;
            let waiting = victim.client.clone();
            let call = tokio::spawn(async move { waiting.call::<_, ()>("never", ()).await });
            moment().await;
            victim.closes().await;
            let failed = soon("the call's end", call).await.unwrap().unwrap_err();
            assert_eq!(failed.code(), Some("peer_closed"));
            assert_eq!(victim.state(), State::Closed);
            drop(scene);
        }))
    });
}
