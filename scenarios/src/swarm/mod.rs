//! Swarm mode: from a scenario and a seed to a scenario with more trouble and more load, other for each seed.
//!
//! Each seed draws which kinds of faults are on, how many there are, how large, when and for how long; how the network is; how many more
//! clients there are and how they call. What the scenario says itself stays: its hosts, steps, faults and `always`. What it expects at the
//! end of the undisturbed story (`expect`, the ends of its calls, the step `check`) is dropped, since more trouble may change it; the
//! invariants of every run stay, and decide.
//!
//! Every fault of the [pool](mod@pool) is one that everybody survives by the specification (CLI-05, DMN-01), so that who does not come back
//! once faults stop has a bug. Draws follow from seed and name, and from nothing else ([`Dice`]): taking one kind of trouble away changes no
//! other, so that shrinking keeps what matters.

mod dice;
mod load;
mod network;
pub mod pool;
mod span;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sideband_sim_kit::fault::Time;

pub use self::dice::Dice;
use crate::scenario::{Action, DEFAULT_RECOVERY, Kind, Scenario, Step, host::Start};

/// How long trouble and load go on at least.
pub const LEAST_SPAN: Duration = Duration::from_secs(20);
/// How much longer the run may take than trouble and load go on: calls end, and what is silent is noticed (CLI-13).
const ROOM: Duration = Duration::from_secs(240);

/// Of a call's `errors`: it may end as it likes.
const ANY_END: &str = "any";

/// What the drawing of trouble and load goes by.
struct Stage<'a> {
    dice: Dice,
    /// From the beginning to the last trouble.
    span: Duration,
    /// Hosts with an API or a relay, by name.
    servers: Vec<&'a str>,
    /// Daemons, by name; of hosts with copies the common name.
    daemons: Vec<&'a str>,
    /// Clients by account, likewise.
    clients: Vec<&'a str>,
}

/// The scenario with the trouble and the load of a seed. The same for the same two, everywhere.
pub fn swarm(base: &Scenario, seed: u64) -> Scenario {
    let span = span::span(base).max(LEAST_SPAN);
    let named = |fits: fn(Kind) -> bool| {
        let hosts = base.hosts.iter().filter(move |host| fits(host.kind) && host.start != Some(Start::Manual));
        hosts.map(|host| host.name.as_str()).collect::<Vec<_>>()
    };
    let stage = Stage {
        dice: Dice::new(seed),
        span,
        servers: named(|kind| kind.has_relay() || kind.has_api()),
        daemons: named(|kind| kind == Kind::Daemon),
        clients: named(|kind| kind == Kind::Client),
    };

    let mut drawn = base.clone();
    drawn.expectations.clear();
    drawn.steps.retain(|step| !matches!(step.action, Action::Check(_)));
    drawn.steps.iter_mut().for_each(bear);
    drawn.faults.extend(pool::faults(&stage.dice, span));
    drawn.network = Some(network::network(&stage, base.network.clone().unwrap_or_default()));
    drawn.steps.extend(network::steps(&stage));
    load::add(&stage, &mut drawn);
    drawn.duration = Some(Time(base.duration().max(span + ROOM)));
    let mut finish = base.finish.clone().unwrap_or_default();
    finish.recovery = Some(Time(base.recovery().max(DEFAULT_RECOVERY)));
    // What a step waits for may never come.
    finish.without.push("steps-come".to_owned());
    drawn.finish = Some(finish);
    drawn
}

/// A call may end as it likes: whether its answer is its own is an invariant.
fn bear(step: &mut Step) {
    if let Action::Call(call) = &mut step.action {
        call.result = None;
        call.errors = vec![ANY_END.to_owned()];
    }
}
