//! The same scenario for many times as long: what repeats goes on, what happens once does so once.

use std::time::Duration;

use sideband_sim_kit::fault::Time;

use super::{Action, Scenario};

impl Scenario {
    /// The scenario, so many times as long. Longer are `duration` and `linger`; steps `at` a time that repeat by `every`, and ticks, which
    /// go on for as many more at the same pace; and faults with a `probability`, whose `for` and `times` grow. All else is as it was:
    /// steps that happen once or after an event, faults that are certain, and expectations, so that those of a scenario that is to be
    /// played longer should not count what repeats from above.
    #[must_use]
    pub fn times_as_long(&self, times: u32) -> Self {
        let times = times.max(1);
        let longer = |time: Duration| Time(time.saturating_mul(times));
        let mut scenario = self.clone();
        scenario.duration = Some(longer(self.duration()));
        scenario.linger = self.linger.map(|time| longer(time.0));
        for step in scenario.steps.iter_mut().filter(|step| step.after.is_none()) {
            if step.every.is_some() {
                step.times = step.times.map(|number| number.saturating_mul(times));
            }
            if let Action::Tick(tick) = &mut step.action {
                tick.times = tick.times.saturating_mul(times);
            }
        }
        for fault in scenario.faults.iter_mut().filter(|fault| fault.probability.is_some()) {
            fault.lasts = fault.lasts.map(|time| longer(time.0));
            fault.times = fault.times.map(|number| number.saturating_mul(times.into()));
        }
        scenario
    }
}
