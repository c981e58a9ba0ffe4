//! A plan and its rules as they are written: flat, every member optional, and then checked into
//! [`FaultRule`](super::FaultRule).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sideband_protocol::SessionId;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        OneOfBuilder, Ref, RefOr, Schema,
        schema::{ObjectBuilder, Type},
    },
};

use super::{
    action::{AnswerBody, Forged, Place},
    decode::TextOrTable,
    point::KeyUse,
    text::{RuleId, Shift, Time},
};
use crate::event::{Direction, Role};

/// A plan as it is written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanText {
    /// What draws follow from; 0 if absent.
    #[serde(default)]
    pub seed: u64,
    /// The rules, in their order; `[[fault]]` in TOML.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fault: Vec<RuleText>,
}

/// A rule as it is written. Which filters and actions go with which `on` is checked when it becomes a
/// [`FaultRule`](super::FaultRule).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleText {
    /// Its name; `rule-` and its place if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub id: Option<RuleId>,
    /// Where.
    pub on: Place,
    /// Filter: the procedure, such as `relay.createSession`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub procedure: Option<String>,
    /// Filter: the request's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Filter: the daemon's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon: Option<String>,
    /// Filter: the session's id, 16 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// Filter: the user's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Filter: whose connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Filter: which way, seen from the relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Filter: the frame type's name, such as `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// Filter: which use of the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<KeyUse>,
    /// Filter: the host that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Filter: the host that it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Filter: how long the connection has been open, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub age: Option<Time>,
    /// Trigger: how many events pass first; 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<u64>,
    /// Trigger: how often at most; without end if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Trigger: from when on, counted from when the rule was taken in; at once if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<Time>,
    /// Trigger: for how long from then on; without end if absent.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub lasts: Option<Time>,
    /// Trigger: how probable each time is, 0 to 1; certain if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// What is done.
    #[serde(rename = "do")]
    pub action: ActionText,
}

/// `do` as it is written: one of the members that name an action, with its companions. An action without a value can be
/// written as a text, `do = "cut"`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ActionText(pub ActionMembers);

/// The members of `do`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ActionMembers {
    /// Answer with this HTTP status. Companions: `body`, `code`, `retryAfter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the answer holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<AnswerBody>,
    /// The stable code in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `Retry-After`, whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub retry_after: Option<Time>,
    /// Wait so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub delay: Option<Time>,
    /// Do not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub hang: Option<Flag>,
    /// End the connection without a word: no answer, no close frame, no TLS close_notify. The operating system sends a FIN, or a
    /// reset where the peer sent what was not read; a reset is not forced, for which `net` in scenarios is the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub cut: Option<Flag>,
    /// Use a clock that is off by so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub clock_shift: Option<Shift>,
    /// Make a new key current. Companion: `overlap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate: Option<RotateText>,
    /// How long the old key stays published, whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub overlap: Option<Time>,
    /// Add so many useless entries to the key set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<u32>,
    /// Refuse the upgrade with this HTTP status. Companions: `code`, `retryAfter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<u16>,
    /// Close with this code. Companion: `reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<u16>,
    /// The reason in the close frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Send this Control code, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlText>,
    /// Lose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub drop: Option<Flag>,
    /// Pass it on twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub duplicate: Option<Flag>,
    /// Let so many others pass first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder: Option<u32>,
    /// Change one bit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub corrupt: Option<Flag>,
    /// Send others before it that nobody sent. Companion: `frames`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forge: Option<Forged>,
    /// How many of them; one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
    /// Read and write no more, and do not notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub ghost: Option<Flag>,
    /// Read and write nothing for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub pause: Option<Time>,
    /// Allow so many frames a second. Companion: `burst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Allow so many frames at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Restart the relay; it is away for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub restart: Option<Time>,
    /// Keep it until the rule is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub hold: Option<Flag>,
}

/// How signing keys are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotateText {
    /// The old key stays published for a time.
    Overlap,
    /// The old keys are gone at once.
    Hard,
}

/// `true`, for an action that has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag;

impl Serialize for Flag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if bool::deserialize(deserializer)? {
            return Ok(Self);
        }
        Err(de::Error::custom("only `true` stands here; leave the member away otherwise"))
    }
}

/// A Control code by the name of the table, or by number for those that the table has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ControlText {
    /// The name in snake case.
    Name(String),
    /// The number on the wire.
    Number(u16),
}

impl<'de> Deserialize<'de> for ControlText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = ControlText;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a Control code's name, or its number up to 65535,")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ControlText, E> {
                Ok(ControlText::Name(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ControlText, E> {
                let wrong = |_| E::invalid_value(de::Unexpected::Unsigned(number), &self);
                u16::try_from(number).map(ControlText::Number).map_err(wrong)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ControlText, E> {
                let wrong = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
                u64::try_from(number).map_err(wrong).and_then(|number| self.visit_u64(number))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl ActionText {
    /// The name, if the action is no more than that.
    fn bare(&self) -> Option<&'static str> {
        let ActionMembers { hang, cut, drop, duplicate, corrupt, ghost, hold, .. } = &self.0;
        let flags = [
            ("hang", hang),
            ("cut", cut),
            ("drop", drop),
            ("duplicate", duplicate),
            ("corrupt", corrupt),
            ("ghost", ghost),
            ("hold", hold),
        ];
        let (name, _) = flags.into_iter().find(|(_, flag)| flag.is_some())?;
        let mut alone = ActionMembers::default();
        *alone.flag(name)? = Some(Flag);
        (alone == self.0).then_some(name)
    }
}

/// The actions without a value, which may be written as a text.
const BARE: [&str; 7] = ["hang", "cut", "drop", "duplicate", "corrupt", "ghost", "hold"];

impl PartialSchema for ActionText {
    fn schema() -> RefOr<Schema> {
        let name = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(BARE));
        let members = Ref::from_schema_name(ActionMembers::name());
        OneOfBuilder::new().item(name).item(members).description(Some("What is done.")).into()
    }
}

impl ToSchema for ActionText {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ActionMembers::name().into_owned(), ActionMembers::schema()));
        ActionMembers::schemas(schemas);
    }
}

impl ActionMembers {
    fn flag(&mut self, name: &str) -> Option<&mut Option<Flag>> {
        Some(match name {
            "hang" => &mut self.hang,
            "cut" => &mut self.cut,
            "drop" => &mut self.drop,
            "duplicate" => &mut self.duplicate,
            "corrupt" => &mut self.corrupt,
            "ghost" => &mut self.ghost,
            "hold" => &mut self.hold,
            _ => return None,
        })
    }
}

impl Serialize for ActionText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.bare() {
            Some(name) => serializer.serialize_str(name),
            None => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ActionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TextOrTable::<ActionMembers>::deserialize(deserializer)? {
            TextOrTable::Table(members) => Ok(Self(members)),
            TextOrTable::Text(name) => {
                let mut members = ActionMembers::default();
                let short: String = name.chars().take(40).collect();
                let flag = members.flag(&name).ok_or_else(|| {
                    de::Error::custom(format_args!(
                        "`{short}` alone is no action; write {{ {short} = … }} or one of \
                         \"hang\", \"cut\", \"drop\", \"duplicate\", \"corrupt\", \"ghost\", \"hold\""
                    ))
                })?;
                *flag = Some(Flag);
                Ok(Self(members))
            }
        }
    }
}
