//! Lines that break, and a relay that is away, slow or strict.

use std::time::Duration;

use sideband::{Cause, Lifecycle, ServerEvent, State, protocol::wire::ControlCode};
use tokio::time::sleep;

use crate::stage::*;

fn states(life: &[Lifecycle]) -> Vec<State> {
    life.iter().filter_map(|event| if let Lifecycle::State(state) = event { Some(*state) } else { None }).collect()
}

#[test]
fn ghost_socket_is_noticed_by_the_client_and_does_not_stand_in_its_way() {
    play("ghost-socket", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        daemon.connects().await;
        let (client, mut life) = stage.client("client");
        life.connects().await;
        let first = daemon.opened().await;
        sleep(Duration::from_secs(4)).await;
        // The relay hears this and the client hears nothing after it: so the ghost outlives the client's patience.
        client.emit("last.sign", ()).await.unwrap();
        let all = life.until(|event| matches!(event, Lifecycle::Disconnected(_))).await;
        assert!(matches!(all.last(), Some(Lifecycle::Disconnected(Cause::Silent))), "CLI-13: {all:?}");
        let silence = turmoil::elapsed();
        assert!((Duration::from_secs(90)..Duration::from_secs(93)).contains(&silence), "{silence:?}");
        assert!(life.connects().await.len() == 1, "its own retry, and no refusal");
        echoes(&client).await;
        let sessions: Vec<_> = server.connections().iter().map(|connection| connection.session()).collect();
        assert!(sessions.len() == 2 && sessions.contains(&first), "REL-11: beside the ghost: {sessions:?}");
        let swept = daemon.until(|event| matches!(event, ServerEvent::Closed { .. })).await;
        let ended = Cause::Control(Ok(ControlCode::SessionEnded));
        assert!(
            matches!(swept.last(), Some(ServerEvent::Closed { session, cause }) if (*session, cause) == (first, &ended)),
            "{swept:?}"
        );
        echoes(&client).await;
        goodbye(server, [client]).await;
    });
}

#[test]
fn relay_restart_costs_the_session_and_nothing_else() {
    play("relay-restart", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        daemon.connects().await;
        let (client, mut life) = stage.client("client");
        life.connects().await;
        let first = daemon.opened().await;
        let lost = life.until(|event| matches!(event, Lifecycle::Disconnected(_))).await;
        assert!(matches!(lost.last(), Some(Lifecycle::Disconnected(Cause::SocketLost { .. }))), "{lost:?}");
        let failed = life.connects().await;
        assert!(failed.len() > 1, "it tries in vain while the relay is away: {failed:?}");
        client_backs_off(&failed);
        let offline = daemon.until(|event| matches!(event, ServerEvent::Offline(_))).await;
        assert!(matches!(offline.last(), Some(ServerEvent::Offline(Cause::SocketLost { .. }))), "{offline:?}");
        let failed = daemon.connects().await;
        assert!(failed.len() > 1 && failed[0].delay <= Duration::from_secs(2), "DMN-04: a clean close: {failed:?}");
        client.when_ready().await.unwrap();
        echoes(&client).await;
        let sessions: Vec<_> = server.connections().iter().map(|connection| connection.session()).collect();
        assert!(sessions.len() == 1 && sessions[0] != first, "{sessions:?}");
        goodbye(server, [client]).await;
    });
}

#[test]
fn daemon_blip_pauses_sessions_and_resumes_them() {
    play("daemon-blip", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        daemon.connects().await;
        let (client, mut life) = stage.client("client");
        life.connects().await;
        let first = daemon.opened().await;
        for blip in 1..=3 {
            life.until(|event| matches!(event, Lifecycle::State(State::Paused))).await;
            // It waits for the daemon, and goes on where it was (CLI-09, CLI-11).
            echoes(&client).await;
            let back = life.until(|event| matches!(event, Lifecycle::Resumed)).await;
            assert!(back.iter().any(|event| matches!(event, Lifecycle::Pending)), "{back:?}");
            assert!(states(&back).iter().all(|state| *state == State::Active), "{back:?}");
            assert_eq!(stage.fires("cut"), blip);
            // The connection before had lasted (DMN-04), so each blip begins with the first delay.
            let failed = daemon.connects().await;
            assert!(failed.len() == 1, "{failed:?}");
            daemon_backs_off(&failed);
        }
        sleep(Duration::from_secs(30)).await;
        echoes(&client).await;
        let sessions: Vec<_> = server.connections().iter().map(|connection| connection.session()).collect();
        assert_eq!((sessions, stage.fires("cut")), (vec![first], 3));
        goodbye(server, [client]).await;
    });
}

#[test]
fn slow_consumer_is_closed_with_backpressure_and_comes_back() {
    play("slow-consumer", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        daemon.connects().await;
        let (client, mut life) = stage.client("client");
        life.connects().await;
        let (other, mut other_life) = stage.client("other");
        other_life.connects().await;
        let (mut slow, mut fast) = (client.subscribe("load").unwrap(), other.subscribe("load").unwrap());
        sleep(Duration::from_secs(6)).await;
        let filler = "x".repeat(60_000);
        for n in 0..30 {
            server.broadcast("load", (n, &filler)).await.unwrap();
        }
        for n in 0..30 {
            let (got, _): (u32, String) = fast.next().await.unwrap().data().unwrap();
            assert_eq!(got, n, "REL-04: the other one gets all of it");
        }
        let lost = life.until(|event| matches!(event, Lifecycle::Disconnected(_))).await;
        let backpressure = Cause::Control(Ok(ControlCode::Backpressure));
        assert!(matches!(lost.last(), Some(Lifecycle::Disconnected(cause)) if *cause == backpressure), "{lost:?}");
        let failed = life.connects().await;
        assert!(failed.len() == 1 && failed[0].cause == backpressure, "{failed:?}");
        echoes(&client).await;
        server.broadcast("load", (100, "")).await.unwrap();
        let mut before = 0;
        loop {
            let (got, _): (u32, String) = slow.next().await.unwrap().data().unwrap();
            if got == 100 {
                break;
            }
            assert_eq!(got, before, "REL-21: never with gaps");
            before += 1;
        }
        assert!(before < 30, "{before}");
        echoes(&other).await;
        goodbye(server, [client, other]).await;
    });
}

#[test]
fn rate_limited_is_told_and_the_session_stays() {
    play("rate-limited", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        daemon.connects().await;
        let (client, mut life) = stage.client("client");
        life.connects().await;
        sleep(Duration::from_secs(3)).await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..40 {
            let peer = (*client).clone();
            calls.spawn(async move { peer.call::<_, u32>("echo", n).await });
        }
        let all = life.until(|event| matches!(event, Lifecycle::RateLimited)).await;
        assert_eq!(states(&all), [State::Active; 0], "{all:?}");
        let (mut answered, mut lost) = (0, 0);
        while let Some(answer) = calls.join_next().await {
            match answer.unwrap() {
                Ok(_) => answered += 1,
                Err(error) if error.code() == Some("rpc_timeout") => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!((5..=10).contains(&answered) && answered + lost == 40, "{answered} answered, {lost} lost");
        // Who keeps to the rate loses nothing.
        for _ in 0..10 {
            sleep(Duration::from_millis(300)).await;
            echoes(&client).await;
        }
        assert_eq!(*client.state().borrow(), State::Active);
        goodbye(server, [client]).await;
    });
}

#[test]
fn flaky_network_stops_nobody_for_long() {
    play("flaky-network", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        daemon.connects().await;
        let mut clients = Vec::new();
        let mut lives = Vec::new();
        for name in ["first", "second", "third", "fourth"] {
            let (client, life) = stage.stubborn_client(name);
            clients.push(client);
            lives.push(life);
        }
        let mut rounds = tokio::task::JoinSet::new();
        for client in &clients {
            let peer = (**client).clone();
            rounds.spawn(async move {
                let mut answered = 0_u32;
                for n in 0..300 {
                    sleep(Duration::from_secs(2)).await;
                    match peer.call::<_, u32>("echo", n).await {
                        Ok(got) => answered += u32::from(got == n),
                        Err(error) if matches!(error.code(), Some("rpc_timeout" | "not_connected")) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                answered
            });
        }
        while let Some(answered) = rounds.join_next().await {
            let answered = answered.unwrap();
            assert!(answered > 250, "{answered} of 300 calls were answered");
        }
        let (mut lost, mut resumed) = (0, 0);
        for (client, life) in clients.iter().zip(lives) {
            client.when_ready().await.unwrap();
            let life = std::mem::take(&mut *life.lock().unwrap());
            assert!(!life.iter().any(|event| matches!(event, Lifecycle::Closed(_) | Lifecycle::Missed(_))), "{life:?}");
            lost += life.iter().filter(|event| matches!(event, Lifecycle::Disconnected(_))).count();
            resumed += life.iter().filter(|event| matches!(event, Lifecycle::Resumed)).count();
        }
        assert!(lost > 0 && resumed > 0, "{lost} sessions lost, {resumed} resumed");
        server.when_online().await.unwrap();
        goodbye(server, clients).await;
    });
}
