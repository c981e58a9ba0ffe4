//! A file of limits: the relay's, and with `api_rate` the control plane's, so that one file does for a whole cloud.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use toml::Spanned;

use super::{LimitsError, RateLimit, RelayLimits, RelayLimitsPatch, named};

/// The names of the control plane's rate, in JSON and in TOML.
const API_RATE: [&str; 2] = ["apiRate", "api_rate"];

/// What stands in place of a rate where there is no limit.
const OFF: &str = "off";

const A_RATE: &str = "requests and a time, such as \"20/10s\", or \"off\"";

/// What a file of limits says: what is absent is not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitsFile {
    /// The relay's.
    pub relay: RelayLimitsPatch,
    /// The control plane's rate; `Some(None)` is no limit.
    pub api_rate: Option<Option<RateLimit>>,
}

impl LimitsFile {
    /// Sets a limit by its name, in camelCase or snake_case.
    ///
    /// # Errors
    /// There is no such limit, or it does not take the value: the error says what it takes.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), LimitsError> {
        if !API_RATE.contains(&name) {
            return self.relay.set(name, value);
        }
        let wrong =
            || LimitsError::Value { member: API_RATE[0], takes: A_RATE, given: named::shown(&value.to_string()) };
        let rate = match value {
            Value::Null => None,
            Value::String(text) if text == OFF => None,
            Value::String(text) => Some(text.parse().map_err(|_| wrong())?),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => return Err(wrong()),
        };
        self.api_rate = Some(rate);
        Ok(())
    }

    /// Reads a TOML document.
    ///
    /// # Errors
    /// It is no TOML, or a member is unknown, of another type, or makes no sense. The line of the first is named.
    pub fn parse_toml(text: &str) -> Result<Self, LimitsError> {
        let members: BTreeMap<Spanned<String>, toml::Value> =
            toml::from_str(text).map_err(|error| LimitsError::Unreadable(error.to_string()))?;
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_by_key(|(name, _)| name.span().start);
        let mut file = Self::default();
        for (name, value) in members {
            let line = 1 + text.bytes().take(name.span().start).filter(|byte| *byte == b'\n').count();
            let value = serde_json::to_value(value).unwrap_or_default();
            file.set(name.get_ref(), &value).map_err(|error| LimitsError::At { line, error: Box::new(error) })?;
        }
        Ok(file)
    }

    /// Reads a JSON object.
    ///
    /// # Errors
    /// It is none, or a member is unknown, of another type, or makes no sense; the member is named.
    pub fn parse_json(text: &str) -> Result<Self, LimitsError> {
        let members: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| LimitsError::Unreadable(error.to_string()))?;
        let mut file = Self::default();
        members.iter().try_for_each(|(name, value)| file.set(name, value))?;
        Ok(file)
    }

    /// The relay's limits: the default, with what the file says.
    ///
    /// # Errors
    /// They make no sense together.
    pub fn relay_limits(&self) -> Result<RelayLimits, LimitsError> {
        RelayLimits::default().patched(&self.relay)
    }

    /// The line of a control plane's rate, which [`parse_toml`](Self::parse_toml) reads.
    pub fn rate_to_toml(rate: Option<RateLimit>) -> String {
        let text = rate.map_or_else(|| OFF.to_owned(), |rate| rate.to_string());
        format!("{} = \"{text}\"\n", API_RATE[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_09_a_file_has_the_rate_beside_the_relays_limits() {
        let rate: RateLimit = "20/10s".parse().unwrap();
        for rate in [Some(rate), None] {
            let text = format!("{}burst = 7\n", LimitsFile::rate_to_toml(rate));
            let file = LimitsFile::parse_toml(&text).unwrap();
            assert_eq!((file.api_rate, file.relay_limits().unwrap().burst), (Some(rate), 7), "{text}");
        }
        let file = LimitsFile::parse_json(r#"{"burst":7,"apiRate":"20/10s"}"#).unwrap();
        assert_eq!((file.api_rate, file.relay.burst), (Some(Some(rate)), Some(7)));
        assert_eq!(LimitsFile::parse_json(r#"{"apiRate":null}"#).unwrap().api_rate, Some(None));
        assert_eq!(LimitsFile::parse_toml("").unwrap(), LimitsFile::default());
        for (text, wanted) in [
            ("burst = 1\napi_rate = \"fast\"", "line 2: `apiRate` must be requests and a time"),
            ("api_rate = 20", "not 20"),
            ("api_rate = \"20/10s\"\nbursts = 1", "line 2: there is no limit `bursts`; did you mean `burst`?"),
        ] {
            let error = LimitsFile::parse_toml(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
