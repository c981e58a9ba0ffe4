//! What a scenario expects of its run, and which events it means.

use serde::{Deserialize, Serialize};
use sideband_sim_kit::fault::{Time, Written};
use utoipa::ToSchema;

/// Which events are meant; all of it at once. What is absent asks nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Pattern {
    /// The host that saw it; a host with copies stands for any of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The event's kind, such as `session`, `request` or `fault`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What an endpoint reports, such as `resumed`; of the kind `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
    /// The state that a client, or a session at the relay, goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What stands somewhere in an endpoint's detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The name of a call, or of an event that was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Members that the event must have in the trace, such as `{ status = 429 }`, written as there.
    #[serde(rename = "with", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub members: Option<Written>,
}

/// What must be true once the run is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// An endpoint goes through these states.
    States(States),
    /// Such events are seen so often.
    Seen(Seen),
    /// Such events are seen in this order, others between them.
    Order(Vec<Pattern>),
    /// Each `when` is followed by a `then`.
    Follows(Follows),
    /// A call, by its name, ends so.
    Call(CallEnds),
    /// An endpoint's state when the steps are over.
    Final(Final),
}

/// What must be true at every event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Always {
    /// Such an event never comes.
    Never(Pattern),
    /// Each `when` is followed by a `then` in time.
    Follows(Follows),
    /// There are no more of such events than so many.
    AtMost(AtMost),
}

/// The states of an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct States {
    /// Whose.
    pub host: String,
    /// The states in their order: `connecting`, `negotiating`, `active`, `paused`, `reconnecting`, `closed`; of a daemon what it reports:
    /// `online`, `offline`, `ended`.
    pub are: Vec<String>,
    /// Whether there are no others between them; up to the end of the steps. No if absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exactly: bool,
}

/// How often something is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seen {
    /// What.
    pub event: Pattern,
    /// Just so often; at least once if neither this nor `least` nor `most` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// At least so often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<u64>,
    /// At most so often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<Time>,
    /// Not after this time: the first one, or as many as `times` or `least` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub by: Option<Time>,
}

/// One event after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Follows {
    /// After each of these …
    pub when: Pattern,
    /// … comes one of these …
    pub then: Pattern,
    /// … within so long; at some time if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub within: Option<Time>,
    /// … not sooner than so long after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub not_before: Option<Time>,
}

/// How a call ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallEnds {
    /// The call's name.
    pub name: String,
    /// Whose; anybody's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What it may end with: `result`, or errors as in a call's `errors`.
    pub ends: Vec<String>,
    /// Within so long of its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub within: Option<Time>,
    /// Not sooner than so long after its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub not_before: Option<Time>,
}

/// The state of an endpoint when the steps are over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Final {
    /// Whose.
    pub host: String,
    /// The state.
    pub state: String,
}

/// A bound on how often something comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AtMost {
    /// What.
    pub event: Pattern,
    /// How often.
    pub times: u64,
    /// In any span of this length; in the whole run if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub within: Option<Time>,
}
