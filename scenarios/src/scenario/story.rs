//! A scenario as a story.

use super::Scenario;

impl Scenario {
    /// The scenario as people read it: who is there, what happens when, what must come of it.
    pub fn story(&self) -> String {
        let mut out = self.name.clone();
        out.push('\n');
        out
    }
}
