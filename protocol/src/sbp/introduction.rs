//! The SBP handshake, by which the two peers introduce themselves: SBP-03.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ErrorCode;

/// What a peer says of itself in the first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Introduction {
    /// Always `sideband`.
    protocol: String,
    /// Always `1`.
    version: String,
    /// A name for this attempt, new and random for each one of a client.
    pub peer_id: String,
    /// What the peer can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<String>>,
    /// Whatever else it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// Why an introduction is refused; the session closes after the Error.
///
/// Its words are fixed: what the other side sent is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntroductionError {
    /// Another protocol or version: Error 1001.
    #[error("this side speaks sideband version 1 only")]
    Unsupported,
    /// Not JSON, a member missing or of the wrong type, an empty peerId: Error 1002.
    #[error("the handshake is malformed: {0}")]
    Malformed(&'static str),
}

impl IntroductionError {
    /// The SBP error code that answers it.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unsupported => ErrorCode::UnsupportedVersion,
            Self::Malformed(_) => ErrorCode::InvalidFrame,
        }
    }
}

impl Introduction {
    /// An introduction under a peer id.
    pub fn new(peer_id: String) -> Self {
        Self {
            protocol: "sideband".to_owned(),
            version: "1".to_owned(),
            peer_id,
            caps: Some(vec!["rpc".to_owned(), "event".to_owned()]),
            metadata: None,
        }
    }

    /// Reads an introduction; unknown members are ignored.
    ///
    /// # Errors
    /// See [`IntroductionError`]; another protocol or version goes before anything malformed.
    pub fn parse(json: &[u8]) -> Result<Self, IntroductionError> {
        use IntroductionError::Malformed;
        // A derived struct would read a list as its members in order; an introduction is an object.
        let members: Map<String, Value> = serde_json::from_slice(json).map_err(|_| Malformed("not a JSON object"))?;
        let is_other =
            |name: &str, ours: &str| members.get(name).and_then(Value::as_str).is_some_and(|theirs| theirs != ours);
        if is_other("protocol", "sideband") || is_other("version", "1") {
            return Err(IntroductionError::Unsupported);
        }
        if members.get("caps").is_some_and(Value::is_null) || members.get("metadata").is_some_and(Value::is_null) {
            return Err(Malformed("caps is a list of text and metadata an object, where they are there"));
        }
        let said: Self = serde_json::from_value(Value::Object(members))
            .map_err(|_| Malformed("a member is missing or has the wrong type"))?;
        if said.peer_id.is_empty() {
            return Err(Malformed("peerId is empty"));
        }
        Ok(said)
    }

    /// The JSON of the introduction.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, lists and maps of them always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
