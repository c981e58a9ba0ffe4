//! A rule that fired, and how it shows.

use http::{HeaderName, HeaderValue};
use sideband_protocol::SessionId;
use tracing::info;

use super::{
    action::{Action, Place},
    text::RuleId,
};
use crate::event::{EventKind, EventSink};

/// The header of an HTTP answer that faults had a part in: their labels, separated by commas.
pub const FAULT_HEADER: HeaderName = HeaderName::from_static("x-sideband-fault");

/// A rule that fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired<A> {
    /// Its name.
    pub rule: RuleId,
    /// How many times it has fired, this one included.
    pub number: u64,
    /// 64 bits for what the action leaves open. They follow from seed, rule and event.
    pub random: u64,
    /// What to do.
    pub action: A,
    pub(super) serial: u64,
}

/// Stands for one rule that is or was in force, and for no other, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleKey(pub(super) u64);

impl<A> Fired<A> {
    /// What to ask for whether the rule still holds.
    pub fn key(&self) -> RuleKey {
        RuleKey(self.serial)
    }
}

impl<A: Clone + Into<Action>> Fired<A> {
    /// `{rule}#{number}`.
    pub fn label(&self) -> String {
        format!("{}#{}", self.rule, self.number)
    }

    /// Writes it to the log and to the events.
    pub fn report(&self, on: Place, events: &EventSink, daemon: Option<&str>, session: Option<SessionId>) {
        let action = self.action.clone().into().member();
        info!(rule = %self.rule, number = self.number, on = on.name(), action, "a fault fired");
        let kind = EventKind::Fault {
            rule: self.rule.to_string(),
            number: self.number,
            on: on.name().to_owned(),
            action: action.to_owned(),
        };
        events.emit(daemon, session, kind);
    }
}

/// The labels of faults as [`FAULT_HEADER`] has them; `None` if nothing fired.
pub fn header_value<A: Clone + Into<Action>>(fired: &[Fired<A>]) -> Option<HeaderValue> {
    if fired.is_empty() {
        return None;
    }
    let labels: Vec<_> = fired.iter().map(Fired::label).collect();
    // A rule's name has no character that a header cannot hold.
    HeaderValue::from_str(&labels.join(", ")).ok()
}
