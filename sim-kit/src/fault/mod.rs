//! Faults on demand: one plan for both sims, simulation and conformance runs.
//!
//! A plan is a TOML or JSON document, a seed and a list of rules *where – when – what*:
//!
//! ```toml
//! seed = 7
//! [[fault]]
//! id = "storm"
//! on = "api.request"
//! procedure = "relay.createSession"
//! skip = 1
//! times = 3
//! do = { status = 429, retry_after = "2s" }
//! ```
//!
//! JSON has the same members in camel case: `{"fault":[{"on":"api.request","do":{"status":429,"retryAfter":"2s"}}]}`. Which
//! filters and actions go with which `on` is in [`Place::filters`] and [`Place::takes`]; how rules count and go together is in
//! [`rules`].
//!
//! Hooks ask the [`FaultEngine`] with a point, such as [`ApiPoint`], and get what fired, in order, with actions typed by the
//! place. Each [`Fired`] is then [reported](Fired::report), and an HTTP answer that it had a part in carries
//! [`FAULT_HEADER`].
//!
//! | module | what |
//! |---|---|
//! | `document`, `decode` | texts with places, read by serde |
//! | `wire`, `check`, `plan` | a plan as it is written, and one that holds together |
//! | `action`, `point`, `text` | what is done, to which events, and values as text |
//! | [`rules`], `draw` | counting and deciding: pure |
//! | `engine`, `fired` | shared by the hooks of a process, and how faults show |
//! | `keep` | where the plan outlives the process |
//! | [`admin`], [`client`] | the plan below `/__sim` |
//! | [`preset`] | plans with names |

mod action;
pub mod admin;
mod check;
pub mod client;
mod decode;
mod document;
mod draw;
mod engine;
mod fired;
mod keep;
mod plan;
mod point;
pub mod preset;
pub mod rules;
#[cfg(test)]
mod tests;
mod text;
pub mod wire;

pub use action::{
    Action, Answer, AnswerBody, ApiAction, Closing, ConnectionAction, Control, Forged, Forgery, FrameAction,
    KeysAction, Limit, NetAction, Place, PlaceAction, Refusal, Rotation, UpgradeAction,
};
pub use decode::Written;
pub use document::{Document, Format, MAX_PLAN, PathStep, PlanError, Position};
pub use engine::{ConnectionWatch, FaultEngine};
pub use fired::{FAULT_HEADER, Fired, RuleKey, header_value};
pub use keep::{KeepError, KeepPlan, SetError};
pub use plan::{FaultPlan, FaultRule, MAX_RULES, Trigger, snake};
pub use point::{ApiPoint, Filter, FramePoint, KeyUse, KeysPoint, NetPoint, UpgradePoint};
pub use rules::{AddError, Faults, Holds, RuleReport};
pub use text::{MAX_TIME, RuleId, RuleIdError, Shift, Time};
