//! What swarm mode does to the network and to hosts: latencies, partitions in both directions and one, segments that wait or are lost,
//! hosts that vanish, crash and restart. What a host keeps on disk stays, and everything is whole again after a time.

use std::time::Duration;

use sideband_sim_kit::fault::Time;

use super::Stage;
use crate::scenario::{
    Action, NetworkText, Step,
    step::{Between, Down, LinkLatency, LinkLoss, OneWay, Vanish},
};

/// How probable each kind of trouble is to be on.
const ON: f64 = 0.2;
/// Most of a kind.
const MOST_OF_A_KIND: u64 = 2;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The latencies of every link; what the scenario says itself stays.
pub(super) fn network(stage: &Stage<'_>, mut network: NetworkText) -> NetworkText {
    if network.least.is_none() && network.most.is_none() {
        let least = stage.dice.time("network/least", ms(10), ms(100));
        network.least = Some(least);
        network.most = Some(Time(least.0 + stage.dice.time("network/jitter", ms(10), ms(300)).0));
    }
    network
}

/// How much later than the others, by which host, and what; none if the scenario has no host for it.
type Made = Option<Vec<(Duration, Option<String>, Action)>>;

/// A kind of trouble, by the name of its draws.
type Make = fn(&Stage<'_>, &str) -> Made;

const KINDS: &[(&str, Make)] = &[
    ("partition", partition),
    ("one-way", one_way),
    ("hold", hold),
    ("latency", latency),
    ("loss", loss),
    ("vanish", vanish),
    ("server-crash", server_crash),
    ("server-restart", server_restart),
    ("daemon-crash", daemon_crash),
];

/// The steps.
pub(super) fn steps(stage: &Stage<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (kind, make) in KINDS {
        if !stage.dice.happens(&format!("net/{kind}/on"), ON) {
            continue;
        }
        for n in 1..=stage.dice.number(&format!("net/{kind}/number"), 1, MOST_OF_A_KIND) {
            let name = format!("net/{kind}-{n}");
            let at = stage.dice.moment(&format!("{name}/at"), stage.span);
            for (later, host, action) in make(stage, &name).unwrap_or_default() {
                steps.push(Step {
                    at: Some(Time(at + later)),
                    after: None,
                    host,
                    times: None,
                    every: None,
                    spread: None,
                    probability: None,
                    action,
                });
            }
        }
    }
    steps
}

/// A client or a daemon, and a server.
fn pair(stage: &Stage<'_>, name: &str) -> Option<(String, String)> {
    let ends: Vec<&str> = stage.clients.iter().chain(&stage.daemons).copied().collect();
    let end = stage.dice.one_of(&format!("{name}/end"), &ends)?;
    let server = stage.dice.one_of(&format!("{name}/server"), &stage.servers)?;
    Some(((*end).to_owned(), (*server).to_owned()))
}

fn between((end, server): (String, String), lasts: Option<Time>) -> Between {
    Between { hosts: vec![end], and: vec![server], lasts }
}

/// Longer than the grace of REL-01 and the silence of CLI-13, too.
fn lasting(stage: &Stage<'_>, name: &str) -> Time {
    stage.dice.time(&format!("{name}/for"), ms(200), ms(120_000))
}

fn partition(stage: &Stage<'_>, name: &str) -> Made {
    let lasts = lasting(stage, name);
    Some(vec![(Duration::ZERO, None, Action::Partition(between(pair(stage, name)?, Some(lasts))))])
}

fn one_way(stage: &Stage<'_>, name: &str) -> Made {
    let (mut from, mut to) = pair(stage, name)?;
    if stage.dice.happens(&format!("{name}/back"), 0.5) {
        std::mem::swap(&mut from, &mut to);
    }
    let lasts = Some(lasting(stage, name));
    Some(vec![(Duration::ZERO, None, Action::PartitionOneWay(OneWay { from, to, lasts }))])
}

fn hold(stage: &Stage<'_>, name: &str) -> Made {
    let lasts = lasting(stage, name);
    Some(vec![(Duration::ZERO, None, Action::Hold(between(pair(stage, name)?, Some(lasts))))])
}

fn latency(stage: &Stage<'_>, name: &str) -> Made {
    let (from, to) = pair(stage, name)?;
    let least = stage.dice.time(&format!("{name}/least"), ms(10), ms(1_000));
    let most = Time(least.0 + stage.dice.time(&format!("{name}/jitter"), ms(10), ms(1_000)).0);
    let slow = Action::Latency(LinkLatency { from: from.clone(), to: to.clone(), least, most: Some(most) });
    let again = Action::Latency(LinkLatency { from, to, least: Time(ms(10)), most: Some(Time(ms(50))) });
    Some(vec![(Duration::ZERO, None, slow), (lasting(stage, name).0, None, again)])
}

fn loss(stage: &Stage<'_>, name: &str) -> Made {
    let (from, to) = pair(stage, name)?;
    let probability = stage.dice.probability(&format!("{name}/probability"), 0.01, 0.3);
    let begins = Action::Loss(LinkLoss { from: from.clone(), to: to.clone(), probability });
    let ends = Action::Loss(LinkLoss { from, to, probability: 0.0 });
    Some(vec![(Duration::ZERO, None, begins), (lasting(stage, name).0, None, ends)])
}

fn vanish(stage: &Stage<'_>, name: &str) -> Made {
    let ends: Vec<&str> = stage.clients.iter().chain(&stage.daemons).copied().collect();
    let host = (*stage.dice.one_of(&format!("{name}/host"), &ends)?).to_owned();
    let lasts = Some(lasting(stage, name));
    Some(vec![(Duration::ZERO, Some(host), Action::Vanish(Vanish { lasts }))])
}

fn down(stage: &Stage<'_>, name: &str) -> Down {
    let down = stage.dice.time(&format!("{name}/down"), ms(50), ms(45_000));
    Down { down: Some(down), ..Down::default() }
}

fn server_crash(stage: &Stage<'_>, name: &str) -> Made {
    let host = (*stage.dice.one_of(&format!("{name}/host"), &stage.servers)?).to_owned();
    Some(vec![(Duration::ZERO, Some(host), Action::Crash(down(stage, name)))])
}

fn server_restart(stage: &Stage<'_>, name: &str) -> Made {
    let host = (*stage.dice.one_of(&format!("{name}/host"), &stage.servers)?).to_owned();
    Some(vec![(Duration::ZERO, Some(host), Action::Restart(down(stage, name)))])
}

fn daemon_crash(stage: &Stage<'_>, name: &str) -> Made {
    let host = (*stage.dice.one_of(&format!("{name}/host"), &stage.daemons)?).to_owned();
    Some(vec![(Duration::ZERO, Some(host), Action::Crash(down(stage, name)))])
}
