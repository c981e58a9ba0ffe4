//! Inputs: from a request's body to the procedure's own type, with errors that name the member.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::{
    CreateQuickConnect, CreateSession, DEFAULT_TTL, ListAccessible, MAX_TTL, MIN_TTL, RedeemQuickConnect,
    RegisterDaemon, RenewToken,
};

/// The body is not JSON (`PARSE_ERROR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not JSON")]
pub struct BodyError;

/// What is wrong with an input (`BAD_REQUEST`). Names the member, never shows its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It is not an object.
    #[error("the input must be an object")]
    NotAnObject,
    /// The procedure takes `null`.
    #[error("the input must be null")]
    NotNull,
    /// A member is missing, of the wrong type or out of range.
    #[error("`{member}` {problem}")]
    Member {
        /// The member's name.
        member: &'static str,
        /// What it must be.
        problem: &'static str,
    },
}

/// Reads a body: the input itself, or `{"json": input}` as older SDKs send it; an empty body is `null`.
///
/// # Errors
/// Not JSON.
pub fn decode_body(body: &[u8]) -> Result<Value, BodyError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let mut value: Value = serde_json::from_slice(body).map_err(|_| BodyError)?;
    // No input has a member of this name.
    match value.get_mut("json") {
        Some(input) => Ok(input.take()),
        None => Ok(value),
    }
}

/// The input of a procedure, as a server reads it. Unknown members are ignored; an optional member may be `null`.
pub trait Input: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// A member is missing, of the wrong type or out of range.
    fn from_value(value: &Value) -> Result<Self, InputError>;
}

impl Input for CreateSession {
    fn from_value(value: &Value) -> Result<Self, InputError> {
        Ok(Self { daemon_id: Members::of(value)?.non_empty("daemonId")? })
    }
}

impl Input for RenewToken {
    fn from_value(value: &Value) -> Result<Self, InputError> {
        nothing(value).map(|()| Self)
    }
}

impl Input for ListAccessible {
    fn from_value(value: &Value) -> Result<Self, InputError> {
        nothing(value).map(|()| Self)
    }
}

impl Input for CreateQuickConnect {
    fn from_value(value: &Value) -> Result<Self, InputError> {
        // The only member is optional, so no input at all is fine.
        if value.is_null() {
            return Ok(Self::default());
        }
        let members = Members::of(value)?;
        let wrong = InputError::Member { member: "ttlSeconds", problem: "must be a whole number from 30 to 3600" };
        let Some(ttl) = members.optional("ttlSeconds") else { return Ok(Self::default()) };
        let seconds = ttl.as_f64().filter(|n| n.fract() == 0.0).ok_or(wrong.clone())?;
        if (MIN_TTL as f64..=MAX_TTL as f64).contains(&seconds) {
            Ok(Self { ttl_seconds: Some(seconds as u64) })
        } else {
            Err(wrong)
        }
    }
}

impl CreateQuickConnect {
    /// How long the code lives, in seconds.
    pub fn ttl(&self) -> u64 {
        self.ttl_seconds.unwrap_or(DEFAULT_TTL)
    }
}

impl Input for RedeemQuickConnect {
    fn from_value(value: &Value) -> Result<Self, InputError> {
        // A text that is no code is an unknown code, and looks like one (API-04).
        Ok(Self { code: Members::of(value)?.text("code")? })
    }
}

impl Input for RegisterDaemon {
    fn from_value(value: &Value) -> Result<Self, InputError> {
        if value.is_null() {
            return Ok(Self::default());
        }
        let members = Members::of(value)?;
        let identity_public_key = members.optional_text("identityPublicKey")?;
        if let Some(key) = &identity_public_key
            && BASE64URL_NOPAD.decode(key.as_bytes()).ok().is_none_or(|key| key.len() != 32)
        {
            let problem = "must be the base64url text, without padding, of 32 bytes";
            return Err(InputError::Member { member: "identityPublicKey", problem });
        }
        let resumable = match members.optional("resumable") {
            None => None,
            Some(Value::Bool(resumable)) => Some(*resumable),
            Some(_) => return Err(InputError::Member { member: "resumable", problem: "must be true or false" }),
        };
        Ok(Self { name: members.optional_text("name")?, identity_public_key, resumable })
    }
}

/// The procedure takes no input: `null`, or an object whose members are unknown all.
fn nothing(value: &Value) -> Result<(), InputError> {
    if value.is_null() || value.is_object() { Ok(()) } else { Err(InputError::NotNull) }
}

struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    fn of(value: &'a Value) -> Result<Self, InputError> {
        value.as_object().map(Self).ok_or(InputError::NotAnObject)
    }

    fn optional(&self, member: &'static str) -> Option<&'a Value> {
        self.0.get(member).filter(|value| !value.is_null())
    }

    fn text(&self, member: &'static str) -> Result<String, InputError> {
        let value = self.0.get(member).ok_or(InputError::Member { member, problem: "is missing" })?;
        value.as_str().map(str::to_owned).ok_or(InputError::Member { member, problem: "must be text" })
    }

    fn non_empty(&self, member: &'static str) -> Result<String, InputError> {
        let text = self.text(member)?;
        if text.is_empty() { Err(InputError::Member { member, problem: "must not be empty" }) } else { Ok(text) }
    }

    fn optional_text(&self, member: &'static str) -> Result<Option<String>, InputError> {
        let Some(value) = self.optional(member) else { return Ok(None) };
        value.as_str().map(|text| Some(text.to_owned())).ok_or(InputError::Member { member, problem: "must be text" })
    }
}
