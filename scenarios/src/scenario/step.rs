//! What is done in a scenario, and when.

use serde::{Deserialize, Serialize};
use sideband_sim_kit::{
    fault::{Time, Written, wire::RuleText},
    limits::RelayLimitsPatch,
};
use utoipa::ToSchema;

use super::expect::Pattern;

/// One thing that is done, at a time or after an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// When, from the run's beginning. Either this or `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub at: Option<Time>,
    /// After which event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Which host does it; a host with copies stands for all of them. The network's steps have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How often it is done; once if absent. In `params`, `data` and names, `{n}` is the number, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// How long after one the next is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub every: Option<Time>,
    /// How much later each is done at most, drawn by the seed; not at all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub spread: Option<Time>,
    /// How probable it is that each is done at all, 0 to 1; certain if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
}

/// After an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct After {
    /// Which event.
    pub event: Pattern,
    /// Which one of those, from 1; the first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// How much later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub plus: Option<Time>,
}

/// What is done: one member, or its name alone if it needs no value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A client calls the daemon, or a daemon calls every client.
    Call(Call),
    /// An endpoint sends an event; a daemon to every client.
    Emit(Emit),
    /// A client takes the daemon's events of this pattern from now on; `*` matches a segment, `>` the rest.
    Subscribe(String),
    /// A daemon sends an event to every client.
    Broadcast(Emit),
    /// A daemon broadcasts an event with the numbers from 1 on.
    Tick(Tick),
    /// An endpoint closes for good; a relay shuts down (REL-24).
    Close,
    /// A host begins that has not begun yet, or is down.
    Start,
    /// A host ends in order and begins anew.
    Restart(Down),
    /// A host's process is gone at once, and perhaps begins anew.
    Crash(Down),
    /// An API signs with a new key from now on.
    Rotate(Rotate),
    /// A daemon begins anew with another identity.
    RotateIdentity(Down),
    /// A daemon makes a Quick Connect code.
    Code(Code),
    /// A `quick_connect` begins with a code of this name.
    Redeem(String),
    /// A relay cuts a daemon's socket, or the one of a client's session.
    Drop(String),
    /// A relay's limits change.
    Limits(RelayLimitsPatch),
    /// A rule joins the fault plan.
    AddFault(Box<RuleText>),
    /// A rule leaves the fault plan, by its id.
    RemoveFault(String),
    /// Nothing passes between the hosts of two lists, in either direction, and nobody is told.
    Partition(Between),
    /// Nothing passes from the first to the second; the other direction is whole.
    PartitionOneWay(OneWay),
    /// Nothing is lost between them any more.
    Repair(Between),
    /// What is sent between them waits.
    Hold(Between),
    /// What waited between them is delivered.
    Release(Between),
    /// Segments between them take so long from now on.
    Latency(LinkLatency),
    /// Segments between them are lost and sent again: TCP makes of it a delay.
    Loss(LinkLoss),
    /// A host is gone from the network without a FIN or RST: its sockets stay half-open at both ends.
    Vanish(Vanish),
    /// Whether this holds now.
    Check(StateIs),
    /// Says something in the trace.
    Note(String),
}

/// A call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// The method.
    pub method: String,
    /// What expectations call it; the method if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The params; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub params: Option<Written>,
    /// How long it may take once it was sent (RPC-05).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub timeout: Option<Time>,
    /// How long it may take with all waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub total: Option<Time>,
    /// The result that it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Written>,
    /// The errors that it may end with: `rpc_timeout`, `not_connected` …, `rpc_error:2000` with the wire's code; `any` for any end. With
    /// `result`, either is good; without both, any result is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// An event that an endpoint sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Emit {
    /// Its name.
    pub event: String,
    /// Its data; its number among the steps of this event if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Written>,
    /// How many bytes of filler go with the data, which must be an object then; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

/// An event again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tick {
    /// Its name; `tick` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// How long after one the next is sent.
    #[schema(value_type = String)]
    pub every: Time,
    /// How often.
    pub times: u32,
}

/// How a host goes and comes back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Down {
    /// How long it is away; at once again if absent, until the step `start` if `for_ever`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub down: Option<Time>,
    /// Whether it stays away until it is started.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stay_down: bool,
    /// Whether what it keeps on disk is lost too: a daemon's identity, an API's store, a client's pins. A relay keeps nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lose_state: bool,
}

/// A new signing key (KEY-04).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotate {
    /// Whether the old keys are gone at once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hard: bool,
    /// How long the old key stays published, whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub overlap: Option<Time>,
}

/// A Quick Connect code.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Code {
    /// What `redeem` calls it.
    pub name: String,
    /// How long it is good; the API's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ttl: Option<Time>,
}

/// The links between the hosts of two lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Between {
    /// Some hosts.
    pub hosts: Vec<String>,
    /// The others; all the rest if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub and: Vec<String>,
    /// How long; until the opposite step if absent.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub lasts: Option<Time>,
}

/// One direction of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OneWay {
    /// Whose segments are lost.
    pub from: String,
    /// On their way to whom.
    pub to: String,
    /// How long; until `repair` if absent.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub lasts: Option<Time>,
}

/// How long segments take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkLatency {
    /// Between this host …
    pub from: String,
    /// … and this one, in both directions.
    pub to: String,
    /// At least.
    #[schema(value_type = String)]
    pub least: Time,
    /// At most; each segment draws its own. As `least` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub most: Option<Time>,
}

/// How probable it is that a segment is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkLoss {
    /// Between this host …
    pub from: String,
    /// … and this one, in both directions.
    pub to: String,
    /// How probable, 0 to 1.
    pub probability: f64,
}

/// A host that is gone from the network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Vanish {
    /// How long; what was open before stays dead afterwards. For ever if absent.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub lasts: Option<Time>,
}

/// The state of a client, or of a daemon: `starting`, `online`, `offline`, `ended`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateIs {
    /// The state's name.
    pub state: String,
}
