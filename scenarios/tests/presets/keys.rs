//! Signing keys that change, cannot be had, or sign what is over already.

use sideband::{Cause, CloseReason, Lifecycle};

use crate::stage::*;

fn refused(failed: &[Failed], wanted: u16) -> bool {
    failed.iter().all(|one| matches!(one.cause, Cause::Upgrade { status, .. } if status == wanted))
}

#[test]
fn key_rotation_disturbs_nobody() {
    play("key-rotation", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        assert!(daemon.connects().await.is_empty(), "the token of the old key is still good");
        let mut clients = Vec::new();
        for name in ["first", "second", "third", "fourth"] {
            let (client, mut life) = stage.client(name);
            let failed = life.connects().await;
            assert!(failed.is_empty(), "{name}: {failed:?}");
            clients.push(client);
        }
        for client in &clients {
            echoes(client).await;
        }
        assert_eq!(stage.fires("sessions"), 3);
        assert_eq!(stage.fires("tokens"), 1);
        goodbye(server, clients).await;
    });
}

#[test]
fn key_rotation_hard_costs_one_more_attempt() {
    play("key-rotation-hard", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        let failed = daemon.connects().await;
        assert!(failed.len() == 1 && refused(&failed, 401), "{failed:?}");
        daemon_backs_off(&failed);
        let (client, mut life) = stage.client("client");
        let failed = life.connects().await;
        assert!(failed.len() == 1 && refused(&failed, 401), "{failed:?}");
        client_backs_off(&failed);
        // The daemon's connection outlives the key of its token (TOK-12).
        echoes(&client).await;
        assert!(server.is_online());
        goodbye(server, [client]).await;
    });
}

#[test]
fn keyset_down_keeps_out_only_while_the_relay_has_no_keys() {
    play("keyset-down", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        let failed = daemon.connects().await;
        assert!(failed.len() == 3 && refused(&failed, 503), "{failed:?}");
        daemon_backs_off(&failed);
        let mut clients = Vec::new();
        for name in ["first", "second"] {
            let (client, mut life) = stage.client(name);
            let failed = life.connects().await;
            assert!(failed.is_empty(), "{name}: {failed:?}");
            echoes(&client).await;
            clients.push(client);
        }
        assert_eq!(["first", "later"].map(|rule| stage.fires(rule)), [3, 2]);
        goodbye(server, clients).await;
    });
}

#[test]
fn expired_tokens_are_retried_once_by_clients_and_for_ever_by_daemons() {
    play("expired-tokens", |stage| async move {
        let (server, mut daemon) = stage.daemon();
        let failed = daemon.connects().await;
        assert!(failed.len() == 2 && refused(&failed, 401), "{failed:?}");
        daemon_backs_off(&failed);

        let (client, mut life) = stage.client("client");
        let all = life.until(|event| matches!(event, Lifecycle::Closed(_))).await;
        let retries: Vec<_> = all.iter().filter(|event| matches!(event, Lifecycle::Retrying { .. })).collect();
        assert!(
            matches!(retries[..], [Lifecycle::Retrying { retry: 0, cause: Cause::Upgrade { status: 401, .. }, .. }]),
            "{all:?}"
        );
        let Some(Lifecycle::Closed(CloseReason::Fatal(Cause::Upgrade { status: 401, .. }))) = all.last() else {
            panic!("{all:?}")
        };
        assert_eq!(client.when_ready().await.unwrap_err().status(), Some(401));

        let (late, mut life) = stage.client("late");
        assert!(life.connects().await.is_empty());
        echoes(&late).await;
        assert_eq!(["sessions", "tokens"].map(|rule| stage.fires(rule)), [2, 2]);
        goodbye(server, [late]).await;
    });
}
