//! Faults of the plan that the SDK rides out, over real sockets: a ghost, a lost line, a restart, refused upgrades.

mod support;

use sideband::{Lifecycle, State};
use sideband_scenarios::cloud::CloudOptions;
use sideband_sim_kit::{
    event::EventKind,
    fault::{FaultPlan, FaultRule, Format},
};

use self::support::*;

async fn world(plan: &str) -> World {
    let faults = FaultPlan::parse(plan, Format::Toml).unwrap_or_else(|error| panic!("{error}"));
    World::with(CloudOptions { faults, ..CloudOptions::default() }).await
}

fn rule(world: &World, rule: &str) {
    world.cloud.faults().add(FaultRule::parse(rule, Format::Toml).unwrap()).unwrap();
}

/// How often each rule fired; nobody is marked for what the plan did.
fn fired(world: &World) -> Vec<u64> {
    assert_eq!(world.cloud.events().grades().counts, []);
    world.cloud.faults().list().iter().map(|report| report.fired).collect()
}

#[tokio::test]
async fn rel_12_a_fresh_daemon_takes_the_place_of_a_ghost() {
    let mut world = world("[[fault]]\non = \"relay.connection\"\nrole = \"daemon\"\ntimes = 1\ndo = \"ghost\"").await;
    // It has connected, and nothing that it says arrives.
    let ghost = with_echo(world.daemon()).start().unwrap();
    world.event(|event| matches!(&event.kind, EventKind::Fault { .. })).await;
    // Not even that it goes is noticed.
    soon(ghost.close()).await;
    assert!(world.cloud.relay().daemon(world.daemon_id()).unwrap().online);
    let _server = world.serve().await;
    echoes(&world.client().await).await;
    assert_eq!(fired(&world), [1]);
}

#[tokio::test]
async fn a_line_that_is_cut_at_a_frame_costs_a_resume_or_a_new_session() {
    let world = world("").await;
    let _server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let mut events = client.events_from_now();
    rule(
        &world,
        "on = \"relay.frame\"\nrole = \"daemon\"\nframe = \"data\"\ndirection = \"out\"\ntimes = 1\ndo = \"cut\"",
    );
    // The call is lost with its frame or is answered after all; the session goes on.
    let call = client.call::<_, i64>("echo", 1);
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => {}
        _ = lifecycle(&mut events, |event| matches!(event, Lifecycle::Resumed)) => {}
    }
    reaches(&mut client.state(), State::Active).await;
    echoes(&client).await;
    assert_eq!(fired(&world), [1]);
}

#[tokio::test]
async fn rel_24_both_come_back_after_a_restart() {
    let mut world = world("").await;
    let _server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    rule(&world, "on = \"relay.connection\"\nrole = \"daemon\"\ntimes = 1\ndo = { restart = \"50ms\" }");
    world.event(|event| event.kind == EventKind::Restarted).await;
    let (mut state, relay) = (client.state(), world.cloud.relay().clone());
    soon(async {
        // A session of before the restart is over; the next one is of after it.
        while relay.daemon(world.daemon_id()).is_none_or(|daemon| daemon.sessions.is_empty()) {
            state.changed().await.unwrap();
        }
    })
    .await;
    reaches(&mut client.state(), State::Active).await;
    echoes(&client).await;
    assert_eq!(fired(&world), [1]);
}

#[tokio::test]
async fn upgrades_that_are_refused_for_a_while_are_tried_again() {
    let plan = "[[fault]]\non = \"relay.upgrade\"\nrole = \"daemon\"\ntimes = 2\ndo = { refuse = 503 }\n\
                [[fault]]\non = \"relay.upgrade\"\nrole = \"client\"\ntimes = 3\ndo = { refuse = 503 }\n\
                [[fault]]\non = \"relay.upgrade\"\ntimes = 9\ndo = { delay = \"1ms\" }\n";
    let world = world(plan).await;
    let _server = world.serve().await;
    echoes(&world.client().await).await;
    assert_eq!(fired(&world)[..2], [2, 3]);
}
