//! A control plane that is overrun, down, or not there at all.

use std::time::Duration;

use sideband::{Cause, CloseReason, Lifecycle};

use crate::stage::*;

fn answered(failed: &[Failed], wanted: u16) -> bool {
    failed.iter().all(|one| matches!(one.cause, Cause::Api { status, .. } if status == wanted))
}

/// A daemon and clients of both kinds come through `tokens`, `sessions` and `codes` failed attempts, each with this cause.
async fn all_come_through(stage: Stage, [tokens, sessions, codes]: [usize; 3], cause: fn(&[Failed]) -> bool) {
    let (server, mut daemon) = stage.daemon();
    let failed = daemon.connects().await;
    assert!(failed.len() == tokens && cause(&failed), "{failed:?}");
    daemon_backs_off(&failed);

    let (client, mut life) = stage.client("client");
    let failed = life.connects().await;
    assert!(failed.len() == sessions && cause(&failed), "{failed:?}");
    client_backs_off(&failed);
    echoes(&client).await;

    let code = server.create_quick_connect(None).await.unwrap();
    let (guest, mut life) = stage.quick_connect(&code.code);
    let failed = life.connects().await;
    assert!(failed.len() == codes && cause(&failed), "{failed:?}");
    client_backs_off(&failed);
    echoes(&guest).await;

    let fired = ["tokens", "sessions", "codes"].map(|rule| stage.fires(rule) as usize);
    assert_eq!(fired, [tokens, sessions, codes]);
    // It is over: who comes now sees nothing of it.
    let (late, mut life) = stage.client("late");
    assert!(life.connects().await.is_empty());
    goodbye(server, [client, guest, late]).await;
}

#[test]
fn api_409_is_retried_by_accounts_and_daemons_and_ends_a_quick_connect() {
    play("api-409", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        let failed = daemon.connects().await;
        assert!(failed.len() == 1 && answered(&failed, 409), "{failed:?}");
        daemon_backs_off(&failed);

        let (client, mut life) = stage.client("client");
        let failed = life.connects().await;
        assert!(failed.len() == 2 && answered(&failed, 409), "{failed:?}");
        client_backs_off(&failed);
        echoes(&client).await;

        let code = server.create_quick_connect(None).await.unwrap();
        let (guest, mut life) = stage.quick_connect(&code.code);
        let all = life.until(|event| matches!(event, Lifecycle::Closed(_))).await;
        assert!(!all.iter().any(|event| matches!(event, Lifecycle::Retrying { .. })), "{all:?}");
        let is_conflict = |cause: &Cause| matches!(cause, Cause::Api { status: 409, code, .. } if code == "CONFLICT");
        assert!(
            matches!(all.last(), Some(Lifecycle::Closed(CloseReason::Fatal(cause))) if is_conflict(cause)),
            "{all:?}"
        );
        let error = guest.when_ready().await.unwrap_err();
        assert_eq!(error.status(), Some(409), "CLI-08: {error}");
        goodbye(server, [client]).await;
    });
}

#[test]
fn storm_429_is_waited_out() {
    play("storm-429", |stage| all_come_through(stage, [3, 4, 2], |failed| answered(failed, 429)));
}

#[test]
fn storm_429_retry_after_is_obeyed() {
    play("storm-429-retry-after", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        let failed = daemon.connects().await;
        assert!(failed.len() == 2 && answered(&failed, 429), "{failed:?}");
        assert!(failed.iter().all(|one| one.cause.retry_after() == Some(Duration::from_secs(7))), "{failed:?}");
        daemon_backs_off(&failed);

        let (client, mut life) = stage.client("client");
        let failed = life.connects().await;
        assert!(failed.len() == 3 && answered(&failed, 429), "{failed:?}");
        assert!(failed.iter().all(|one| one.delay >= Duration::from_secs(10)), "{failed:?}");
        client_backs_off(&failed);

        let code = server.create_quick_connect(None).await.unwrap();
        let (guest, mut life) = stage.quick_connect(&code.code);
        let failed = life.connects().await;
        assert!(failed.len() == 1 && failed[0].delay >= Duration::from_secs(5), "{failed:?}");
        assert_eq!(["tokens", "sessions", "codes"].map(|rule| stage.fires(rule)), [2, 3, 1]);
        goodbye(server, [client, guest]).await;
    });
}

/// What each is told it obeys, and none of them knows what another was told: nobody gets a mark.
async fn sharing_clients_come_through(stage: Stage) {
    let (server, mut daemon) = stage.daemon();
    daemon.connects().await;
    let mut clients = Vec::new();
    for (client, mut life) in stage.sharing_clients(5).await {
        life.connects().await;
        echoes(&client).await;
        clients.push(client);
    }
    let code = server.create_quick_connect(None).await.unwrap();
    let (guest, mut life) = stage.quick_connect(&code.code);
    life.connects().await;
    goodbye(server, clients.into_iter().chain([guest])).await;
}

#[test]
fn cli_06_clients_of_one_process_wait_each_for_themselves() {
    for preset in ["storm-429", "storm-429-retry-after"] {
        play(preset, sharing_clients_come_through);
    }
}

#[test]
fn outage_503_is_waited_out() {
    play("outage-503", |stage| all_come_through(stage, [4, 4, 2], |failed| answered(failed, 503)));
}

#[test]
fn html_200_counts_as_no_answer() {
    let unreadable = |failed: &[Failed]| failed.iter().all(|one| matches!(one.cause, Cause::ApiUnreadable(_)));
    play("html-200", move |stage| all_come_through(stage, [2, 2, 1], unreadable));
}

#[test]
fn hang_ends_after_the_time_limit_of_a_call() {
    let timed_out = |failed: &[Failed]| {
        // Each attempt took its 15 s (CLI-07), after the delay before it.
        let took = failed.windows(2).all(|pair| {
            let attempt = pair[1].at - pair[0].at - pair[0].delay;
            (Duration::from_millis(14_900)..Duration::from_millis(15_200)).contains(&attempt)
        });
        took && failed.iter().all(|one| one.cause == Cause::ApiTimeout)
    };
    play("hang", move |stage| all_come_through(stage, [1, 2, 1], timed_out));
}
