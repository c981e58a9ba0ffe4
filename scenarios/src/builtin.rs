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
    "api-409-account": "the control plane answers 409; an account's client and a daemon try again",
    "api-409-quick-connect": "the control plane answers a redeem with 409; that is the end for a Quick Connect client",
    "api-down-at-daemon-start": "daemon and client start before their control plane and try on",
    "clock-skew": "every wall clock is off; what that costs, and what not",
    "close-in-every-state": "clients and daemons close in every state: at once, and all that waits ends with them",
    "daemon-blip-resume": "the daemon's socket is cut with a call in flight; the session resumes and the call ends well",
    "daemon-blips-twice-while-pending": "the daemon is lost again before its session is ready: paused under the same deadline, and resumed at last",
    "daemon-not-resumable": "a daemon without `session:resume` loses its socket, and its sessions with it",
    "daemon-restart-state-lost": "the daemon's process begins anew and knows nothing of its sessions; the client gets a new one",
    "ghost-socket-409": "a client's socket becomes a ghost; a fresh session id gets past it, and the sweep ends the ghost",
    "ghost-then-sweep": "a vanished client's ghost keeps its place at the relay until the sweep",
    "grace-expires": "the daemon is away for longer than the grace, with a visit in between that does not prolong it",
    "half-open-client": "a client loses power and is back beside its own half-open socket",
    "half-open-daemon-refused": "a daemon's socket is half-open and its next one refused until the sweep",
    "half-open-daemon-replaced": "a daemon's socket is half-open and its next one takes its place",
    "handshake-timeout": "frames of the handshake are lost; both sides give it up after 30 s",
    "hostile-relay-forge": "the relay makes sealed frames up; the session that they are for ends, and no other",
    "hostile-relay-reorder": "the relay lets later frames pass earlier ones, and all open",
    "hostile-relay-replay": "the relay forwards every sealed frame twice, and each is taken once",
    "hostile-relay-tamper": "the relay changes bits; nothing of it is taken",
    "identity-rotation-auto": "the daemon has another identity; a client that trusts by itself goes on",
    "identity-rotation-pinned-only": "the daemon has another identity; a client that takes only what is pinned closes",
    "identity-rotation-prompt-no": "the daemon has another identity; the user says no",
    "identity-rotation-prompt-yes": "the daemon has another identity; the user says yes",
    "key-rotation-hard": "the signing key changes at once; tokens of the old one are refused, fresh ones let in",
    "key-rotation-overlap": "the signing key changes with an overlap; nobody notices",
    "keyset-outage": "the relay cannot get the key set: 503 while it has none, no harm while it has one",
    "long-haul": "an hour of random faults, after which everybody is well; a day by option",
    "malformed-storm": "the relay sends malformed frames to a daemon, and one to a client",
    "partition-api-only": "nobody reaches the control plane for five minutes; sessions go on until one is lost",
    "partition-client": "the client is cut off for two minutes, and what it called meanwhile leaves in order afterwards",
    "partition-daemon": "the daemon is cut off for two and a half minutes; the session expires, and both come back",
    "quick-connect-drop-is-fatal": "a guest loses its socket and closes, since its code is used up",
    "quick-connect-offline-burn": "a code that is redeemed while the daemon is offline is burned",
    "quick-connect-race": "two clients redeem one Quick Connect code; exactly one gets a session",
    "rate-limited-drop": "a client over its rate loses frames, is told so, and stays",
    "rate-limited-throttle": "a client over its rate is read more slowly and loses nothing",
    "relay-crash": "the relay dies without a word and comes back knowing nothing",
    "relay-restart": "the relay restarts in order; everybody comes back with new sessions",
    "slow-consumer": "a client that does not read is closed with `backpressure`, and no other is touched",
    "storm-429": "the control plane answers 429 for a while; who waits and who gives up",
    "storm-429-retry-after": "the control plane says how long to stay away, and is heeded up to two minutes",
    "thundering-herd": "fifty clients come back spread out after the relay restarts",
};

/// All of them, by name.
pub fn all() -> &'static [Builtin] {
    ALL
}

/// The one with this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|one| one.name == name)
}
