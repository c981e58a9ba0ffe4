//! The scenarios that come with the crate: files of `scenarios/builtin`.

use crate::scenario::{Scenario, ScenarioError};

/// A scenario that comes with the crate.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The file.
    pub text: &'static str,
}

impl Builtin {
    /// Reads the file.
    ///
    /// # Errors
    /// It is no scenario; a test shows that none is wrong.
    pub fn scenario(&self) -> Result<Scenario, ScenarioError> {
        Scenario::parse(&format!("{}.toml", self.name), self.text)
    }
}

macro_rules! builtins {
    ($($name:literal: $about:literal,)*) => {
        &[$(Builtin { name: $name, about: $about, text: include_str!(concat!("../builtin/", $name, ".toml")) },)*]
    };
}

static ALL: &[Builtin] = builtins! {
    "daemon-blip-resume": "the daemon's socket is cut with a call in flight; the session resumes and the call ends well",
    "ghost-socket-409": "a client's socket becomes a ghost; a fresh session id gets past it, and the sweep ends the ghost",
    "partition-client": "the client is cut off for two minutes, and what it called meanwhile leaves in order afterwards",
    "quick-connect-race": "two clients redeem one Quick Connect code; exactly one gets a session",
};

/// All of them, by name.
pub fn all() -> &'static [Builtin] {
    ALL
}

/// The one with this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|one| one.name == name)
}
