//! Rotations of the signing keys while many daemons come and go.

mod support;

use futures_util::future::join_all;
use sideband::{Account, Daemon, Server, ServerEvent, ServerEvents};
use sideband_api_sim::{Added, Api, Digest, User};

use self::support::*;

const DAEMONS: usize = 50;
const ROUNDS: usize = 4;

fn key_of(n: usize) -> String {
    format!("sbnd_dak_load{n}")
}

/// Puts the accounts of all daemons into a control plane, one user each.
fn populate(api: &Api) {
    for n in 0..DAEMONS {
        let user = format!("u_{n}");
        assert_eq!(api.store().add_user(&User::new(&user), Digest::of(&format!("token-{n}"))).unwrap(), Added::Yes);
        let daemon = sideband_api_sim::Daemon::new(format!("d_{n}"), &user);
        assert_eq!(api.store().add_daemon(&daemon, Digest::of(&key_of(n))).unwrap(), Added::Yes);
    }
}

async fn start(world: &World, n: usize) -> (Server, ServerEvents) {
    let daemon = Daemon::new(world.cloud.api_url(), &world.cloud.relay_url(), key_of(n)).unwrap();
    let server = soon(with_echo(daemon.env(world.env.clone()).retry(quick_daemon_retry())).listen()).await.unwrap();
    let events = server.events_from_now();
    (server, events)
}

/// Cuts every daemon while the key changes, and waits until each is back.
async fn round(world: &World, servers: &mut [(Server, ServerEvents)], hard: bool) {
    let (before, behind) = (0..DAEMONS / 2, DAEMONS / 2..DAEMONS);
    let cut = |n| assert!(world.cloud.relay().drop_daemon(&format!("d_{n}")), "d_{n} was connected");
    // Some have a token of the old key in their hand as it goes, and some ask for theirs behind it.
    before.for_each(cut);
    tokio::task::yield_now().await;
    world.cloud.api().rotate(hard).unwrap();
    behind.for_each(cut);
    let back = servers.iter_mut().map(async |(_, events)| {
        server_event(events, |event| matches!(event, ServerEvent::Offline(_))).await;
        server_event(events, |event| matches!(event, ServerEvent::Online)).await;
    });
    join_all(back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_02_a_rotation_under_load_loses_none_of_50_daemons() {
    let world = World::start().await;
    populate(world.cloud.api());
    let mut servers = join_all((0..DAEMONS).map(|n| start(&world, n))).await;
    for _ in 0..ROUNDS {
        round(&world, &mut servers, false).await;
        assert!(servers.iter().all(|(server, _)| server.is_online()));
    }
    assert_eq!(world.cloud.api().key_set().keys().len(), ROUNDS + 1, "all old keys are in their overlap");
    // A hard one refuses those whose token is of the old key; they come back with another.
    round(&world, &mut servers, true).await;
    assert_eq!(world.cloud.api().key_set().keys().len(), 1);
    let calls = (0..DAEMONS).map(async |n| {
        let account = Account::with_token(world.cloud.api_url(), format!("d_{n}"), format!("token-{n}")).unwrap();
        let client = account.env(world.env.clone()).retry(quick_retry()).connect().unwrap();
        soon(client.when_ready()).await.unwrap();
        echoes(&client).await;
    });
    join_all(calls).await;
}
