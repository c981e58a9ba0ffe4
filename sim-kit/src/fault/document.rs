//! A TOML or JSON text as values that know where they stand, so that every error can name the line.

use std::{borrow::Cow, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Most bytes of a fault plan's text.
pub const MAX_PLAN: usize = 1 << 20;

/// How deep values may stand in each other; the plan itself needs 4.
const MAX_DEPTH: usize = 16;

/// The two languages of a fault plan. They differ in how members are written, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// TOML, with members in snake case.
    Toml,
    /// JSON, with members in camel case.
    Json,
}

impl Format {
    /// How a member, given in camel case, is written in this language.
    pub fn member(self, camel: &str) -> String {
        match self {
            Self::Json => camel.to_owned(),
            Self::Toml => camel.chars().fold(String::new(), |mut snake, letter| {
                if letter.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
                snake
            }),
        }
    }
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Self { line: before.matches('\n').count() + 1, column: before[start..].chars().count() + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A fault plan, or a rule, that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PlanError {
    /// Where it is wrong; none for a value that was not read from a text.
    pub position: Option<Position>,
    /// What is wrong, for people.
    pub message: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A value and the bytes of the text where it stands.
#[derive(Debug)]
pub(super) struct Node<'t> {
    pub(super) span: Range<usize>,
    pub(super) value: Value<'t>,
}

#[derive(Debug)]
pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Cow<'t, str>),
    /// TOML's dates, which no plan has.
    Date,
    List(Vec<Node<'t>>),
    Table(Vec<(Key<'t>, Node<'t>)>),
}

/// A member's name in camel case, whatever the language, and where it stands.
#[derive(Debug)]
pub(super) struct Key<'t> {
    pub(super) span: Range<usize>,
    /// As it stands in the text.
    pub(super) written: Cow<'t, str>,
    pub(super) name: String,
}

/// A whole text, with its root: what [`FaultPlan`](super::FaultPlan) and files that hold more than a plan are read from.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    pub(super) format: Format,
    pub(super) root: Node<'t>,
}

/// One step towards a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// The member of this name, in camel case.
    Member(&'static str),
    /// The item of this number, from 0.
    Item(usize),
}

impl<'t> Document<'t> {
    /// Reads a text.
    ///
    /// # Errors
    /// It is not in that language, or longer than [`MAX_PLAN`].
    pub fn parse(text: &'t str, format: Format) -> Result<Self, PlanError> {
        if text.len() > MAX_PLAN {
            return Err(PlanError {
                position: None,
                message: format!("the text is longer than {MAX_PLAN} bytes; split the plan"),
            });
        }
        let root = match format {
            Format::Toml => from_toml(text)?,
            Format::Json => from_json(text)?,
        };
        Ok(Self { text, format, root })
    }

    /// An error at this byte.
    pub fn error_at(&self, offset: usize, message: impl Into<String>) -> PlanError {
        error_at(self.text, offset, message)
    }

    /// Where the value at the end of a path begins, or as much of the path as there is. A member is named by its key.
    pub fn offset_of(&self, path: &[PathStep]) -> usize {
        let (mut node, mut offset) = (&self.root, self.root.span.start);
        for step in path {
            let next = match (step, &node.value) {
                (PathStep::Member(name), Value::Table(members)) => {
                    members.iter().find(|(key, _)| key.name == *name).map(|(key, node)| (node, key.span.start))
                }
                (PathStep::Item(at), Value::List(items)) => items.get(*at).map(|item| (item, item.span.start)),
                (PathStep::Member(_) | PathStep::Item(_), _) => None,
            };
            let Some(next) = next else { break };
            (node, offset) = next;
        }
        offset
    }
}

fn error_at(text: &str, offset: usize, message: impl Into<String>) -> PlanError {
    PlanError { position: Some(Position::of(text, offset)), message: message.into() }
}

fn from_toml(text: &str) -> Result<Node<'_>, PlanError> {
    let table = DeTable::parse(text)
        .map_err(|error| error_at(text, error.span().map_or(0, |span| span.start), error.message()))?;
    let span = table.span();
    Ok(Node { span, value: toml_table(text, table.into_inner())? })
}

fn toml_table<'t>(text: &'t str, table: DeTable<'t>) -> Result<Value<'t>, PlanError> {
    let mut members = Vec::new();
    for (key, value) in table {
        let span = key.span();
        let written = key.into_inner();
        members.push((Key { name: from_snake(&written), written, span }, toml_node(text, value)?));
    }
    // As they stand in the text, so that the first wrong one is named.
    members.sort_by_key(|(key, _)| key.span.start);
    Ok(Value::Table(members))
}

/// A TOML member in camel case. One that is in camel case already is spoiled, since it is no member in TOML.
fn from_snake(written: &str) -> String {
    if written.contains(|letter: char| letter.is_ascii_uppercase()) {
        return format!("={written}");
    }
    let mut camel = String::new();
    let mut up = false;
    for letter in written.chars() {
        match letter {
            '_' if !camel.is_empty() && !up => up = true,
            _ if up => {
                camel.push(letter.to_ascii_uppercase());
                up = false;
            }
            _ => camel.push(letter),
        }
    }
    if up {
        camel.push('_');
    }
    camel
}

fn toml_node<'t>(text: &'t str, node: Spanned<DeValue<'t>>) -> Result<Node<'t>, PlanError> {
    let span = node.span();
    let value = match node.into_inner() {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            match (u64::from_str_radix(digits, radix), i64::from_str_radix(digits, radix)) {
                (Ok(number), _) => Value::Unsigned(number),
                (Err(_), Ok(number)) => Value::Signed(number),
                (Err(_), Err(_)) => return Err(error_at(text, span.start, "the number is too large")),
            }
        }
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => return Err(error_at(text, span.start, "the number cannot be read")),
        },
        DeValue::Boolean(truth) => Value::Bool(truth),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| toml_node(text, item)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => toml_table(text, table)?,
    };
    Ok(Node { span, value })
}

fn from_json(text: &str) -> Result<Node<'_>, PlanError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| PlanError {
        position: Some(Position { line: error.line().max(1), column: error.column().max(1) }),
        message: without_place(&error),
    })?;
    json_node(text, raw, 0)
}

/// What serde_json says, without where: its lines count from the part that was read.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.clone(), |at| text[..at].to_owned())
}

fn json_node<'t>(text: &'t str, raw: &'t RawValue, depth: usize) -> Result<Node<'t>, PlanError> {
    let written = raw.get();
    // A borrowed raw value is a part of the text.
    let start = (written.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let span = start..start + written.len();
    let wrong = |error: serde_json::Error| error_at(text, start, without_place(&error));
    if depth > MAX_DEPTH {
        return Err(error_at(text, start, "values stand too deep in each other"));
    }
    let value = match written.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(written).map_err(wrong)?;
            Value::Table(json_members(text, members, start, depth)?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(written).map_err(wrong)?;
            Value::List(items.into_iter().map(|item| json_node(text, item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str::<Text<'_>>(written).map_err(wrong)?.0),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        Some(_) | None => match (written.parse(), written.parse(), written.parse()) {
            (Ok(number), _, _) => Value::Unsigned(number),
            (Err(_), Ok(number), _) => Value::Signed(number),
            (Err(_), Err(_), Ok(number)) => Value::Float(number),
            (Err(_), Err(_), Err(_)) => return Err(error_at(text, start, "the number cannot be read")),
        },
    };
    Ok(Node { span, value })
}

fn json_members<'t>(
    text: &'t str,
    members: Vec<(Cow<'t, str>, &'t RawValue)>,
    start: usize,
    depth: usize,
) -> Result<Vec<(Key<'t>, Node<'t>)>, PlanError> {
    let mut known: Vec<(Key<'t>, Node<'t>)> = Vec::new();
    let mut from = start;
    for (written, raw) in members {
        let node = json_node(text, raw, depth + 1)?;
        // Between two values stand a comma, spaces and the key.
        let at = from + text[from..].find('"').unwrap_or(0);
        let key = Key { span: at..at + written.len() + 2, name: written.clone().into_owned(), written };
        if known.iter().any(|(other, _)| other.name == key.name) {
            return Err(error_at(text, at, format!("`{}` stands here twice", key.written)));
        }
        from = node.span.end;
        known.push((key, node));
    }
    Ok(known)
}

/// A text, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

/// The members of an object in their order.
struct Members<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
