//! How long the steps of a scenario go on, as far as its text says.

use std::time::Duration;

use crate::scenario::{Action, Scenario, Step};

/// What is taken for the wait of a step that comes after an event.
const WAIT_FOR_EVENT: Duration = Duration::from_secs(5);
/// What the last step needs.
const LAST: Duration = Duration::from_secs(5);

/// From the beginning to a little after the last step.
pub(super) fn span(scenario: &Scenario) -> Duration {
    let mut last = Duration::ZERO;
    for step in &scenario.steps {
        let begins = match (&step.at, &step.after) {
            (Some(at), _) => at.0,
            (None, Some(after)) => last + WAIT_FOR_EVENT + after.plus.map_or(Duration::ZERO, |plus| plus.0),
            (None, None) => last,
        };
        last = last.max(begins + lasts(step));
    }
    (last + LAST).min(scenario.duration())
}

fn lasts(step: &Step) -> Duration {
    let again = step.every.map_or(Duration::ZERO, |every| every.0 * step.times.unwrap_or(1).saturating_sub(1));
    let itself = match &step.action {
        Action::Tick(tick) => tick.every.0 * tick.times,
        Action::Partition(between) | Action::Hold(between) => between.lasts.map_or(Duration::ZERO, |time| time.0),
        Action::PartitionOneWay(way) => way.lasts.map_or(Duration::ZERO, |time| time.0),
        Action::Vanish(vanish) => vanish.lasts.map_or(Duration::ZERO, |time| time.0),
        Action::Crash(down) | Action::Restart(down) | Action::RotateIdentity(down) => {
            down.down.map_or(Duration::ZERO, |time| time.0)
        }
        Action::Call(_)
        | Action::Emit(_)
        | Action::Subscribe(_)
        | Action::Broadcast(_)
        | Action::Close
        | Action::Start
        | Action::Rotate(_)
        | Action::Code(_)
        | Action::Redeem(_)
        | Action::Drop(_)
        | Action::Limits(_)
        | Action::AddFault(_)
        | Action::RemoveFault(_)
        | Action::Repair(_)
        | Action::Release(_)
        | Action::Latency(_)
        | Action::Loss(_)
        | Action::Check(_)
        | Action::Note(_) => Duration::ZERO,
    };
    again + itself
}
