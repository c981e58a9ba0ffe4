//! What came of a search as a scenario file that can be committed as it is.

use std::fmt::Write;

use super::Shrunk;

impl Shrunk {
    /// The file's name, without an extension: the scenario's name and the seed.
    pub fn file_name(&self) -> String {
        format!("{}-seed-{}", self.scenario.name, self.seed)
    }

    /// The file: on top what fails in it, where it comes from and how to see it.
    pub fn to_regression(&self) -> String {
        let mut scenario = self.scenario.clone();
        scenario.name = self.file_name();
        scenario.about = format!("Once failed as {}.", self.failure.kind);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# {} at {} ms: {}",
            self.failure.kind,
            self.failure.at,
            self.failure.what.replace('\n', "\n#   ")
        );
        let _ = writeln!(
            text,
            "# Shrunk from {} under seed {} in {} runs: {} faults, {} steps and {} hosts were {}, {} and {}.",
            self.scenario.name,
            self.seed,
            self.runs,
            self.after.faults,
            self.after.steps,
            self.after.hosts,
            self.before.faults,
            self.before.steps,
            self.before.hosts,
        );
        let _ = writeln!(text, "# sideband-sim scenario replay {}.toml\n", self.file_name());
        text + &scenario.to_toml()
    }
}
