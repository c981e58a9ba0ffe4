//! The JSON schema of scenario files, from the types: for editors that know TOML, and for who writes scenarios by program.

use serde_json::{Map, Value, json};
use sideband_sim_kit::fault::Format;
use utoipa::{PartialSchema, ToSchema};

use super::Scenario;

/// The schema of a scenario file, JSON Schema 2020-12, with members in snake case as TOML has them.
pub fn schema() -> Value {
    let mut schemas = Vec::new();
    Scenario::schemas(&mut schemas);
    let mut definitions = Map::new();
    for (name, schema) in schemas {
        definitions.insert(name, translated(serde_json::to_value(schema).unwrap_or_default(), false));
    }
    // What needs no value may stand alone.
    if let Some(Value::Array(ways)) = definitions.get_mut("Action").and_then(|action| action.get_mut("oneOf")) {
        ways.push(json!({ "type": "string", "enum": ["restart", "crash", "rotate", "rotate_identity", "vanish"] }));
    }
    let mut root = translated(serde_json::to_value(Scenario::schema()).unwrap_or_default(), false);
    if let Value::Object(members) = &mut root {
        members.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        members.insert("title".to_owned(), "A Sideband scenario".into());
        members.insert("$defs".to_owned(), Value::Object(definitions));
    }
    root
}

/// As the file has it: members in snake case, references to definitions here. `names` says whether the members of the value are names of
/// members themselves.
fn translated(value: Value, names: bool) -> Value {
    match value {
        Value::Object(members) => {
            let mut out = Map::new();
            for (name, value) in members {
                if names {
                    out.insert(Format::Toml.member(&name), translated(value, false));
                    continue;
                }
                let value = match (name.as_str(), value) {
                    ("properties", value) => translated(value, true),
                    ("required", Value::Array(items)) => {
                        items.iter().map(|item| json!(Format::Toml.member(item.as_str().unwrap_or_default()))).collect()
                    }
                    ("$ref", Value::String(to)) => to.replace("#/components/schemas/", "#/$defs/").into(),
                    (_, value) => translated(value, false),
                };
                out.insert(name, value);
            }
            Value::Object(out)
        }
        Value::Array(items) => items.into_iter().map(|item| translated(item, false)).collect(),
        other => other,
    }
}
