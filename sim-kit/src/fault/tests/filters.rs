//! Which events a rule is about.

use std::time::Duration;

use sideband_env::Timeline;
use sideband_protocol::{SessionId, api::Procedure, wire::FrameType};

use super::*;
use crate::event::{Direction, Role};

fn engine(on: &str, rest: &str, action: &str) -> FaultEngine {
    let engine = FaultEngine::new(Timeline::start());
    let text = format!("[[fault]]\non = \"{on}\"\n{rest}\ndo = {action}\n");
    engine.set(FaultPlan::parse(&text, Format::Toml).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    engine
}

/// How many times each of the filters fires for the event, of each with its own plan.
fn fires<const N: usize>(
    on: &str,
    action: &str,
    filters: [&str; N],
    event: impl Fn(&FaultEngine) -> usize,
) -> [usize; N] {
    filters.map(|rest| event(&engine(on, rest, action)))
}

fn session(n: u64) -> SessionId {
    SessionId::new(n).unwrap()
}

#[tokio::test(start_paused = true)]
async fn of_api_requests() {
    let point = ApiPoint { procedure: Procedure::CreateSession, daemon: Some("d_1"), user: Some("u_1") };
    let hits = [
        "",
        "procedure = \"relay.createSession\"",
        "daemon = \"d_1\"",
        "user = \"u_1\"",
        "daemon = \"d_1\"\nuser = \"u_1\"",
    ];
    let misses =
        ["procedure = \"daemon.renewToken\"", "daemon = \"d_2\"", "user = \"u\"", "daemon = \"d_1\"\nuser = \"u_2\""];
    let ask = |engine: &FaultEngine| engine.api_request(&point).len();
    assert_eq!(fires("api.request", "\"cut\"", hits, ask), [1; 5]);
    assert_eq!(fires("api.request", "\"cut\"", misses, ask), [0; 4]);
    // What the event does not say, no filter can ask for.
    let nothing = ApiPoint { procedure: Procedure::RedeemQuickConnect, daemon: None, user: None };
    let ask = |engine: &FaultEngine| engine.api_request(&nothing).len();
    assert_eq!(fires("api.request", "\"cut\"", ["", "daemon = \"d_1\"", "user = \"u_1\""], ask), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn of_upgrades() {
    let point = UpgradePoint {
        path: "/relay",
        role: Some(Role::Client),
        daemon: Some("d_1"),
        user: Some("u_1"),
        session: Some(session(0xab)),
    };
    let hits = [
        "path = \"/relay\"",
        "role = \"client\"",
        "daemon = \"d_1\"",
        "user = \"u_1\"",
        "session = \"00000000000000ab\"",
    ];
    let misses = [
        "path = \"/relay/\"",
        "role = \"daemon\"",
        "daemon = \"D_1\"",
        "user = \"u_2\"",
        "session = \"00000000000000ac\"",
    ];
    let ask = |engine: &FaultEngine| engine.relay_upgrade(&point).len();
    assert_eq!(fires("relay.upgrade", "\"cut\"", hits, ask), [1; 5]);
    assert_eq!(fires("relay.upgrade", "\"cut\"", misses, ask), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn of_frames() {
    let point = FramePoint {
        role: Role::Daemon,
        direction: Direction::In,
        frame: Some(FrameType::Data),
        daemon: "d_1",
        user: None,
        session: Some(session(1)),
        age: Duration::from_secs(5),
    };
    let hits = [
        "role = \"daemon\"",
        "direction = \"in\"",
        "frame = \"data\"",
        "session = \"0000000000000001\"",
        "age = \"5s\"",
    ];
    let misses = ["role = \"client\"", "direction = \"out\"", "frame = \"ping\"", "user = \"u_1\"", "age = \"5001ms\""];
    let ask = |engine: &FaultEngine| engine.relay_frame(&point).len();
    assert_eq!(fires("relay.frame", "\"drop\"", hits, ask), [1; 5]);
    assert_eq!(fires("relay.frame", "\"drop\"", misses, ask), [0; 5]);
    let noise = FramePoint { frame: None, session: None, ..point };
    let ask = |engine: &FaultEngine| engine.relay_frame(&noise).len();
    assert_eq!(
        fires("relay.frame", "\"drop\"", ["", "frame = \"data\"", "session = \"0000000000000001\""], ask),
        [1, 0, 0]
    );
}

#[tokio::test(start_paused = true)]
async fn of_connections() {
    let ask = |engine: &FaultEngine| engine.connection(Role::Client, "d_1", Some("u_1"), Some(session(1))).poll().len();
    let hits = ["", "role = \"client\"", "daemon = \"d_1\"", "user = \"u_1\"", "session = \"0000000000000001\""];
    let misses =
        ["role = \"daemon\"", "daemon = \"d_2\"", "user = \"u_2\"", "session = \"0000000000000002\"", "age = \"1s\""];
    assert_eq!(fires("relay.connection", "\"cut\"", hits, ask), [1; 5]);
    assert_eq!(fires("relay.connection", "\"cut\"", misses, ask), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn of_keys_and_of_the_net() {
    let by_use = |usage: KeyUse| move |engine: &FaultEngine| engine.keys(&KeysPoint { usage }).len();
    let filters = ["", "usage = \"sign\"", "usage = \"publish\""];
    assert_eq!(fires("keys", "{ rotate = \"overlap\" }", filters, by_use(KeyUse::Sign)), [1, 1, 0]);
    assert_eq!(fires("keys", "{ rotate = \"overlap\" }", filters, by_use(KeyUse::Publish)), [1, 0, 1]);
    // All but a rotation is about the key set only.
    assert_eq!(fires("keys", "\"cut\"", [""], by_use(KeyUse::Sign)), [0]);
    let net = |engine: &FaultEngine| engine.net(&NetPoint { source: "client", target: "relay" }).len();
    let filters = [
        "",
        "source = \"client\"",
        "target = \"relay\"",
        "source = \"relay\"",
        "source = \"client\"\ntarget = \"api\"",
    ];
    assert_eq!(fires("net", "\"drop\"", filters, net), [1, 1, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn only_events_of_its_place_and_filter_count() {
    let engine = engine("api.request", "daemon = \"d_1\"\nskip = 1\ntimes = 1", "\"cut\"");
    let ask = |daemon: &'static str| {
        engine.api_request(&ApiPoint { procedure: Procedure::RenewToken, daemon: Some(daemon), user: None }).len()
    };
    assert_eq!(["d_2", "d_1", "d_2", "d_1", "d_1"].map(ask), [0, 0, 0, 1, 0]);
    assert_eq!(engine.keys(&KeysPoint { usage: KeyUse::Publish }), []);
    assert_eq!((engine.list()[0].seen, engine.list()[0].fired), (3, 1));
}
