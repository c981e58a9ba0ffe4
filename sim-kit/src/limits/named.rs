//! Limits by their names, as flags and files give them: what each takes, and what is wrong with one that it does not take.

use serde_json::{Map, Value};

use super::{LimitsError, LimitsFile, RelayLimits, RelayLimitsPatch};

/// How alike two names are, from 0 to 1, where one may have been meant by the other.
const LIKE: f64 = 0.8;

/// Most characters of what was given that an error repeats.
const MAX_SHOWN: usize = 64;

const A_TIME: &str = "a time from 10ms to 24h, such as 30s";

/// The limits of a relay in camelCase, each with what it takes: unit and range.
pub const NAMES: &[(&str, &str)] = &[
    ("sessions", "a number of sessions, at least 1"),
    ("framesPerSecond", "frames a second, from 1 to 1000000"),
    ("burst", "frames at once, from 1 to 10000000"),
    ("rateMode", "`drop` or `throttle`"),
    ("clientBacklog", "bytes, from 1024 to 1073741824"),
    ("sessionBacklog", "bytes, up to 1073741824"),
    ("stall", A_TIME),
    ("ping", A_TIME),
    ("sweep", A_TIME),
    ("grace", "a time up to 24h, such as 30s"),
    ("takeover", "`replace` or `refuse`"),
];

/// What a limit takes; nothing for a name in another spelling than [`NAMES`]'s.
pub fn takes(member: &str) -> &'static str {
    NAMES.iter().find(|(name, _)| *name == member).map_or("", |(_, takes)| takes)
}

/// `frames_per_second` for `framesPerSecond`.
fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
        text
    })
}

pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

impl RelayLimitsPatch {
    /// Sets a limit by its name, in camelCase or snake_case.
    ///
    /// # Errors
    /// There is no such limit, or it does not take the value: the error says what it takes.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), LimitsError> {
        let known = NAMES.iter().find(|(known, _)| *known == name || snake(known) == name);
        let Some((member, takes)) = known.copied() else {
            let likeness = |known: &str| strsim::jaro_winkler(&snake(known), &snake(name));
            let nearest = NAMES.iter().map(|(name, _)| *name).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            let nearest = nearest.filter(|nearest| likeness(nearest) >= LIKE);
            return Err(LimitsError::Unknown { name: shown(name), nearest });
        };
        let wrong = || LimitsError::Value { member, takes, given: shown(&value.to_string()) };
        // Null would be as good as absent.
        if value.is_null() {
            return Err(wrong());
        }
        let one = Map::from_iter([(member.to_owned(), value.clone())]);
        let one: Self = serde_json::from_value(Value::Object(one)).map_err(|_| wrong())?;
        RelayLimits::default().patched(&one).map_err(|_| wrong())?;
        *self = one.over(*self);
        Ok(())
    }

    /// Sets a limit by `NAME=VALUE`, as a flag gives it: a value that is a whole number is one, everything else is text.
    ///
    /// # Errors
    /// The same, or there is no `=`.
    pub fn set_text(&mut self, text: &str) -> Result<(), LimitsError> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(LimitsError::Unreadable(format!("`{}` is no NAME=VALUE, such as burst=100", shown(text))));
        };
        let value = value.trim();
        let value = value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from);
        self.set(name.trim(), &value)
    }

    /// Reads a TOML document.
    ///
    /// # Errors
    /// It is no TOML, or a member is unknown, of another type, or makes no sense. The line of the first is named.
    pub fn parse_toml(text: &str) -> Result<Self, LimitsError> {
        let LimitsFile { relay, api_rate } = LimitsFile::parse_toml(text)?;
        match api_rate {
            None => Ok(relay),
            Some(_) => Err(LimitsError::Unknown { name: "api_rate".to_owned(), nearest: None }),
        }
    }
}

/// Limits as a TOML document, a line each.
pub(super) fn to_toml(limits: &RelayLimits) -> String {
    let members = serde_json::to_value(limits).unwrap_or_default();
    let line = |(name, _): &(&str, &str)| {
        let value = &members[*name];
        let value = value.as_str().map_or_else(|| value.to_string(), |text| toml::Value::from(text).to_string());
        format!("{} = {value}\n", snake(name))
    };
    NAMES.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`NAMES`] is every member, and says of each what it takes.
    #[test]
    fn every_limit_has_its_name() {
        let Value::Object(members) = serde_json::to_value(RelayLimits::default()).unwrap() else { panic!() };
        let mut names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let mut members: Vec<&str> = members.keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(names, members);
    }

    #[test]
    fn a_flag_sets_a_limit_and_the_last_wins() {
        let mut patch = RelayLimitsPatch::default();
        for text in ["burst=5", "grace=250ms", "rate_mode=throttle", "burst = 7"] {
            patch.set_text(text).unwrap();
        }
        let json = r#"{"burst":7,"grace":"250ms","rateMode":"throttle"}"#;
        assert_eq!(Ok(patch), RelayLimitsPatch::parse_json(json.as_bytes()));
    }

    #[test]
    fn a_wrong_flag_says_what_it_takes() {
        for (text, wanted) in [
            ("burst", "`burst` is no NAME=VALUE, such as burst=100"),
            ("burts=5", "there is no limit `burts`; did you mean `burst`?"),
            ("frames-per-second=5", "there is no limit `frames-per-second`; did you mean `framesPerSecond`?"),
            (
                "x=5",
                "there is no limit `x`; there are sessions, framesPerSecond, burst, rateMode, clientBacklog, sessionBacklog, \
                 stall, ping, sweep, grace, takeover",
            ),
            ("burst=0", "`burst` must be frames at once, from 1 to 10000000, not 0"),
            ("burst=many", "`burst` must be frames at once, from 1 to 10000000, not \"many\""),
            ("stall=1ms", "`stall` must be a time from 10ms to 24h, such as 30s, not \"1ms\""),
            ("grace=5", "`grace` must be a time up to 24h, such as 30s, not 5"),
            ("takeover=", "`takeover` must be `replace` or `refuse`, not \"\""),
        ] {
            let error = RelayLimitsPatch::default().set_text(text).unwrap_err();
            assert_eq!(error.to_string(), wanted);
        }
        let error = RelayLimitsPatch::parse_json(br#"{"grace":null}"#).unwrap_err();
        assert!(error.to_string().contains("not null"), "{error}");
    }
}
