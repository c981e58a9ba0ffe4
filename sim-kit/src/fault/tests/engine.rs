//! The engine that hooks share: connections and waiting, on virtual time.

use std::time::Duration;

use sideband_env::Timeline;
use sideband_protocol::api::Procedure;
use tokio::time;

use super::*;
use crate::event::Role;

fn engine(text: &str) -> FaultEngine {
    let engine = FaultEngine::new(Timeline::start());
    engine.set(FaultPlan::parse(text, Format::Toml).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    engine
}

const POINT: ApiPoint<'_> = ApiPoint { procedure: Procedure::RenewToken, daemon: None, user: None };

#[tokio::test(start_paused = true)]
async fn a_connection_is_one_event_for_each_rule_when_it_is_old_enough() {
    let engine = engine(
        "[[fault]]\nid = \"pause\"\non = \"relay.connection\"\nrole = \"daemon\"\nage = \"10s\"\ndo = { pause = \"1s\" }\n\
         [[fault]]\nid = \"later\"\non = \"relay.connection\"\nfrom = \"30s\"\ndo = \"cut\"\n",
    );
    let mut changes = engine.changes();
    let mut watch = engine.connection(Role::Daemon, "d_1", None, None);
    let labels = |watch: &mut ConnectionWatch| watch.poll().iter().map(Fired::label).collect::<Vec<_>>();
    assert!(labels(&mut watch).is_empty());
    watch.changed(&mut changes).await;
    assert_eq!((watch.age(), labels(&mut watch)), (Duration::from_secs(10), vec!["pause#1".to_owned()]));
    assert!(labels(&mut watch).is_empty(), "one event a connection");
    watch.changed(&mut changes).await;
    assert_eq!((watch.age(), labels(&mut watch)), (Duration::from_secs(30), vec!["later#1".to_owned()]));
    // One that comes later sees connections that are there.
    engine.add(FaultRule::parse("on = \"relay.connection\"\ndo = \"ghost\"", Format::Toml).unwrap()).unwrap();
    time::timeout(Duration::from_secs(1), watch.changed(&mut changes)).await.expect("a change wakes it");
    assert_eq!(labels(&mut watch), ["rule-3#1"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_end_of_a_rule_is_told() {
    let engine = engine("[[fault]]\nid = \"hang\"\non = \"api.request\"\nfor = \"20s\"\ndo = \"hang\"");
    let fired = engine.api_request(&POINT);
    let begun = Timeline::start();
    assert!(time::timeout(Duration::from_secs(5), engine.over(&fired[0])).await.is_err(), "it still holds");
    engine.over(&fired[0]).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(20), "its window is over");
    engine.set(engine.plan()).unwrap();
    let fired = engine.api_request(&POINT);
    engine.remove("hang").unwrap();
    engine.over(&fired[0]).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(20), "it is gone");
}
