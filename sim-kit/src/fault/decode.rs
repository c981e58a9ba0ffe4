//! From a [`Document`] to any type that serde can read, with errors that say where.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::document::{Document, Format, Key, Node, PlanError, Value};

impl<'t> Document<'t> {
    /// Reads the whole document. Members are those of the type in camel case, whatever the language; below a [`Written`] they are as they
    /// stand in the text. An enum is a text, or a table with one
    /// member; its names are as they stand in the text.
    ///
    /// # Errors
    /// It does not fit; the error names the innermost value to blame.
    pub fn decode<T: Deserialize<'t>>(&'t self) -> Result<T, PlanError> {
        let format = self.format;
        T::deserialize(Reader { node: &self.root, verbatim: false }).map_err(|problem| {
            let offset = problem.offset.unwrap_or(self.root.span.start);
            self.error_at(offset, problem.what.text(format))
        })
    }
}

/// What does not fit, and where, as soon as somebody knows where.
#[derive(Debug)]
struct Problem {
    offset: Option<usize>,
    what: What,
}

#[derive(Debug)]
enum What {
    Unknown { written: String, known: &'static [&'static str] },
    Missing(&'static str),
    Other(String),
}

impl What {
    fn text(&self, format: Format) -> String {
        match self {
            Self::Unknown { written, known } => {
                let known: Vec<_> = known.iter().map(|name| format!("`{}`", format.member(name))).collect();
                format!("there is no `{written}`; there are {}", known.join(", "))
            }
            Self::Missing(name) => format!("`{}` is missing", format.member(name)),
            Self::Other(text) => text.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what.text(Format::Json))
    }
}

impl std::error::Error for Problem {}

impl Problem {
    fn new(what: What) -> Self {
        Self { offset: None, what }
    }

    /// The innermost place stands.
    fn at(mut self, offset: usize) -> Self {
        self.offset.get_or_insert(offset);
        self
    }
}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Other(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("{} stands where {} belongs", shown(unexpected), plain(expected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("{} stands where {} belongs", shown(unexpected), plain(expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let known: Vec<_> = expected.iter().map(|name| format!("`{name}`")).collect();
        Self::custom(format_args!("there is no `{variant}`; there are {}", known.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::Unknown { written: field.to_owned(), known: expected })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field))
    }
}

/// What belongs there, without the names of Rust.
fn plain(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "u64" => "a whole number".to_owned(),
        "u32" => format!("a whole number up to {}", u32::MAX),
        "u16" => format!("a whole number up to {}", u16::MAX),
        "f64" => "a number".to_owned(),
        "a boolean" => "`true`".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// What stands there; long texts are cut short.
fn shown(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Str(text) => {
            let short: String = text.chars().take(40).collect();
            if short.len() < text.len() { format!("the text `{short}…`") } else { format!("the text `{text}`") }
        }
        Unexpected::Bool(truth) => format!("`{truth}`"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Unit => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::Option
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => unexpected.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'t> {
    node: &'t Node<'t>,
    /// Whether members are as they stand in the text.
    verbatim: bool,
}

impl<'t> de::Deserializer<'t> for Reader<'t> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Problem> {
        let outcome = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Unsigned(number) => visitor.visit_u64(*number),
            Value::Signed(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_str(text),
            Value::Date => Err(de::Error::custom("a date stands here; no member takes one")),
            Value::List(items) => visitor.visit_seq(Items(items.iter(), self.verbatim)),
            Value::Table(members) => {
                visitor.visit_map(Members { rest: members.iter(), value: None, verbatim: self.verbatim })
            }
        };
        outcome.map_err(|problem| problem.at(self.node.span.start))
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            Value::Bool(_)
            | Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Date
            | Value::List(_)
            | Value::Table(_) => visitor.visit_some(self),
        }
    }

    /// Serde would take a list in place of a struct, too.
    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        if let Value::List(_) = self.node.value {
            let problem: Problem = de::Error::invalid_type(Unexpected::Seq, &visitor);
            return Err(problem.at(self.node.span.start));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, name: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(Reader { verbatim: self.verbatim || name == WRITTEN, ..self })
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let outcome = match &self.node.value {
            Value::Text(text) => visitor.visit_enum(Variant {
                name: text,
                node: None,
                at: self.node.span.start,
                verbatim: self.verbatim,
            }),
            Value::Table(members) => match members.as_slice() {
                [(key, node)] => visitor.visit_enum(Variant {
                    name: &key.written,
                    node: Some(node),
                    at: key.span.start,
                    verbatim: self.verbatim,
                }),
                [] => Err(de::Error::custom("the table is empty; one member belongs in it")),
                [_, (second, _), ..] => {
                    let problem: Problem = de::Error::custom(format_args!(
                        "`{}` is one member too many; one belongs here",
                        second.written
                    ));
                    Err(problem.at(second.span.start))
                }
            },
            Value::Null
            | Value::Bool(_)
            | Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Float(_)
            | Value::Date
            | Value::List(_) => Err(de::Error::custom("a text belongs here")),
        };
        outcome.map_err(|problem: Problem| problem.at(self.node.span.start))
    }

    forward_to_deserialize_any! {
        <V: Visitor<'t>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'t>(std::slice::Iter<'t, Node<'t>>, bool);

impl<'t> SeqAccess<'t> for Items<'t> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some(item) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader { node: item, verbatim: self.1 })
            .map(Some)
            .map_err(|problem| problem.at(item.span.start))
    }
}

struct Members<'t> {
    rest: std::slice::Iter<'t, (Key<'t>, Node<'t>)>,
    value: Option<&'t Node<'t>>,
    verbatim: bool,
}

impl<'t> MapAccess<'t> for Members<'t> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'t>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        let name = if self.verbatim { key.written.as_ref() } else { key.name.as_str() };
        let taken = seed.deserialize(name.into_deserializer());
        taken.map(Some).map_err(|mut problem: Problem| {
            if let What::Unknown { written, known: _ } = &mut problem.what {
                *written = key.written.clone().into_owned();
            }
            problem.at(key.span.start)
        })
    }

    fn next_value_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<T::Value, Problem> {
        let value = self.value.take().ok_or_else(|| <Problem as de::Error>::custom("a value was read twice"))?;
        seed.deserialize(Reader { node: value, verbatim: self.verbatim })
            .map_err(|problem| problem.at(value.span.start))
    }
}

/// One of an enum: its name, and what it holds.
struct Variant<'t> {
    name: &'t str,
    node: Option<&'t Node<'t>>,
    at: usize,
    verbatim: bool,
}

impl<'t> de::EnumAccess<'t> for Variant<'t> {
    type Error = Problem;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Result<(V::Value, Self), Problem> {
        let name: de::value::StrDeserializer<'_, Problem> = self.name.into_deserializer();
        let value = seed.deserialize(name).map_err(|problem| problem.at(self.at))?;
        Ok((value, self))
    }
}

impl<'t> de::VariantAccess<'t> for Variant<'t> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        match self.node.map(|node| &node.value) {
            None | Some(Value::Bool(true)) => Ok(()),
            Some(_) => {
                let problem: Problem = de::Error::custom(format_args!("`{}` has no value; write it alone", self.name));
                Err(problem.at(self.at))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'t>>(self, seed: T) -> Result<T::Value, Problem> {
        match self.node {
            Some(node) => seed
                .deserialize(Reader { node, verbatim: self.verbatim })
                .map_err(|problem| problem.at(node.span.start)),
            // All of what it holds has defaults, or is named by the error.
            None => {
                let empty = de::value::MapDeserializer::<_, Problem>::new(std::iter::empty::<(&str, &str)>());
                seed.deserialize(de::value::MapAccessDeserializer::new(empty)).map_err(|_| {
                    let problem: Problem =
                        de::Error::custom(format_args!("`{}` needs a value; write {{ {0} = … }}", self.name));
                    problem.at(self.at)
                })
            }
        }
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, _: V) -> Result<V::Value, Problem> {
        Err(de::Error::custom("no member is of this kind"))
    }

    fn struct_variant<V: Visitor<'t>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Problem> {
        Err(de::Error::custom("no member is of this kind"))
    }
}

/// How serde calls [`Written`].
const WRITTEN: &str = "Written";

/// A value of any kind that keeps its members as they stand in the text.
#[derive(Debug, Clone, PartialEq, Deserialize, serde::Serialize)]
pub struct Written(pub serde_json::Value);

impl Written {
    /// The members of scenario files that hold one.
    pub const MEMBERS: &'static [&'static str] = &["params", "data", "result", "with"];
}

/// A text, or a table that is read as `T`.
pub(super) enum TextOrTable<T> {
    Text(String),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOrTable<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOrTable<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a table")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOrTable::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(TextOrTable::Table)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}
