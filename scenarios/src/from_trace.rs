//! From a trace that `up --trace` wrote to what replays it.
//!
//! [`FieldRecording::read`] takes out of the events what came from outside: who connected when and for how long, when clients sent
//! what, which faults fired and at which count, what the operator did. Answers, retries and states follow from that when it is
//! replayed, so they are left out. [`FieldRecording::to_scenario`] makes of it a scenario in which the SDK takes everybody's place.
//!
//! What a trace does not tell is guessed, and the guesses are few: which sessions belong to one client (the same credential, one after
//! the other), which Data from a client is a call (each but its introduction and its goodbye) and which one to it is the answer (the
//! next one whose size no event had before), and that a socket that broke without a fault was cut by
//! the operator or the network.

mod read;
mod replay;

#[cfg(test)]
mod tests;

use serde::Serialize;
use sideband_sim_kit::event::{Direction, Role};

pub use self::replay::{FieldError, MAX_CALLS, MAX_FAULTS, MAX_HOSTS, Replay};

/// What a trace from the field says of those outside. Times are milliseconds since its first event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldRecording {
    /// How long it is.
    pub length: u64,
    /// Whether frames were told; without them there are no calls.
    pub frames: bool,
    /// The daemons, by when they first connected.
    pub daemons: Vec<FieldDaemon>,
    /// The clients, by when they first connected.
    pub clients: Vec<FieldClient>,
    /// The faults that fired, in their order.
    pub faults: Vec<FieldFault>,
    /// What was done to the cloud, in order.
    pub steps: Vec<FieldStep>,
    /// Upgrades that were refused, and answers of the API that were no success.
    pub refusals: Vec<FieldRefusal>,
}

/// A WebSocket, from its opening to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldConnection {
    /// The relay's number for it.
    pub number: u64,
    /// When it opened.
    pub opened: u64,
    /// How it ended; none if it was open at the end of the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<FieldEnd>,
}

/// How a WebSocket ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldEnd {
    /// When.
    pub at: u64,
    /// Who ended it.
    pub by: FieldCloser,
    /// The close code; none for a cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

/// Who ended a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldCloser {
    /// The endpoint.
    Peer,
    /// The relay.
    Relay,
    /// Nobody: the line broke.
    Cut,
}

/// A daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDaemon {
    /// Its id.
    pub id: String,
    /// Whether its last token could resume.
    pub resumable: bool,
    /// Its WebSockets, in order.
    pub connections: Vec<FieldConnection>,
}

/// A client: the sessions that one user had with one daemon, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldClient {
    /// The daemon's place in `daemons`.
    pub daemon: usize,
    /// Whether it came by a Quick Connect code.
    pub quick_connect: bool,
    /// Its sessions' WebSockets, in order.
    pub connections: Vec<FieldConnection>,
    /// What it sent once it had introduced itself, as far as frames are told.
    pub calls: Vec<FieldCall>,
}

/// A Data from a client, taken for a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldCall {
    /// When it came to the relay.
    pub at: u64,
    /// Bytes of the frame.
    pub bytes: usize,
    /// Milliseconds until its answer: the next Data to the client that no earlier call has taken and that is no event by its size. None
    /// if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_after: Option<u64>,
}

/// A fault that fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldFault {
    /// When.
    pub at: u64,
    /// The rule's name.
    pub rule: String,
    /// How many times it had fired, this one included.
    pub number: u64,
    /// The place.
    pub on: String,
    /// The action's name.
    pub action: String,
    /// How many events of its sort came before this one: requests for this procedure, upgrades of this role, connections of this role
    /// that were as old as this one. What the rule's `skip` has to be to hit the same one. Not known of frames, and of what was never
    /// answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How old the connection was, of a fault at one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// Whose event it was, as far as the trace says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The frame's type, of a fault at a frame, if frames are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// Which way the frame went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The daemon's place in `daemons`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon: Option<usize>,
    /// The procedure, of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub procedure: Option<String>,
    /// The status of the answer, of a request or an upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Milliseconds that the answer took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took: Option<u64>,
    /// Milliseconds that the answer asked to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The close code, of a connection that it closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The Control that it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Whether it rotated the keys without an overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard: Option<bool>,
    /// Milliseconds until the relay served again, of a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<u64>,
}

/// Something that was done to the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldStep {
    /// When.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub what: FieldAct,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum FieldAct {
    /// A daemon's socket was cut, by the operator or the network.
    DropDaemon {
        /// Its place in `daemons`.
        daemon: usize,
    },
    /// A client's socket was cut.
    DropClient {
        /// Its place in `clients`.
        client: usize,
    },
    /// The signing keys were rotated.
    Rotate {
        /// The old ones were gone at once.
        hard: bool,
    },
    /// The relay was away from this time on, for so many milliseconds.
    Restart {
        /// Until it served again.
        down: u64,
    },
    /// The limits were changed; the trace does not say how.
    Limits,
    /// All was as after the start.
    Reset,
}

/// A request or an upgrade that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldRefusal {
    /// When.
    pub at: u64,
    /// The procedure, or `upgrade`.
    pub what: String,
    /// The status.
    pub status: u16,
    /// Whether a fault did it.
    pub by_fault: bool,
}
