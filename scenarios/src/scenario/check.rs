//! What holds together in a scenario: names that are known, members that go together.

use super::{Scenario, parse::Misfit};

pub(super) fn check(_scenario: &Scenario) -> Result<(), Misfit> {
    Ok(())
}
