//! The control plane's own limits, as flags and the admin API write them.

use std::{fmt, str::FromStr, time::Duration};

use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// Most requests in a [`RateLimit`].
const MAX_REQUESTS: u32 = 1_000_000;

/// The shortest time of a [`RateLimit`].
const SHORTEST: Duration = Duration::from_millis(1);

/// The longest time of a [`RateLimit`].
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Text that is no [`RateLimit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write requests and a time, such as 20/10s: 1 to 1000000 requests, 1ms to 24h")]
pub struct RateLimitError;

/// A limit of requests: so many at once after a rest, and so many in each such time for ever. As text `20/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    requests: u32,
    per: Duration,
}

impl RateLimit {
    /// So many requests, 1 to 1,000,000, in such a time, 1 ms to a day.
    ///
    /// # Errors
    /// One of them is out of its range.
    pub fn new(requests: u32, per: Duration) -> Result<Self, RateLimitError> {
        if (1..=MAX_REQUESTS).contains(&requests) && (SHORTEST..=LONGEST).contains(&per) {
            Ok(Self { requests, per })
        } else {
            Err(RateLimitError)
        }
    }

    /// Requests at once after a rest.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The time in which as many are allowed anew.
    pub fn per(&self) -> Duration {
        self.per
    }

    /// The time in which one is; never zero.
    pub fn interval(&self) -> Duration {
        self.per / self.requests
    }
}

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, RateLimitError> {
        let (requests, per) = text.split_once('/').ok_or(RateLimitError)?;
        let per = per.trim();
        // `20/s` is what many would write.
        let unit = per.starts_with(|c: char| c.is_ascii_alphabetic());
        let per: jiff::SignedDuration =
            if unit { format!("1{per}").parse() } else { per.parse() }.map_err(|_| RateLimitError)?;
        let per = Duration::try_from(per).map_err(|_| RateLimitError)?;
        Self::new(requests.trim().parse().map_err(|_| RateLimitError)?, per)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PRINTER: SpanPrinter = SpanPrinter::new().designator(Designator::Compact).spacing(Spacing::None);
        write!(f, "{}/{}", self.requests, PRINTER.unsigned_duration_to_string(&self.per))
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The limits of a control plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiLimits {
    /// Most requests of one credential, or of one peer without a known one: `"20/10s"` is 20 at once, and 20 in each 10 s.
    /// More get 429 with `Retry-After` (API-09). Null is no limit, the default.
    #[schema(value_type = Option<String>, example = "20/10s")]
    pub rate: Option<RateLimit>,
}

/// A change of [`ApiLimits`]: what is absent stays, null takes away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiLimitsPatch {
    /// [`ApiLimits::rate`]
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "20/10s")]
    pub rate: Option<Option<RateLimit>>,
}

/// A member that is there, be it null.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<RateLimit>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_text_and_back() {
        for (text, requests, millis, shown) in [
            ("20/10s", 20, 10_000, "20/10s"),
            ("5 / 250ms", 5, 250, "5/250ms"),
            ("1/s", 1, 1_000, "1/1s"),
            ("100/1m 30s", 100, 90_000, "100/1m30s"),
            ("1000000/24h", 1_000_000, 86_400_000, "1000000/24h"),
        ] {
            let rate: RateLimit = text.parse().unwrap();
            assert_eq!((rate.requests(), rate.per().as_millis()), (requests, millis), "{text}");
            assert_eq!(rate.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rate));
            assert!(!rate.interval().is_zero());
        }
        for wrong in
            ["", "20", "20/", "/10s", "0/10s", "20/0s", "20/25h", "1000001/1s", "-1/1s", "1.5/1s", "20/10", "20/x"]
        {
            assert_eq!(wrong.parse::<RateLimit>(), Err(RateLimitError), "{wrong}");
        }
    }

    #[test]
    fn a_patch_tells_absent_from_null() {
        let rate: RateLimit = "20/10s".parse().unwrap();
        for (json, wanted) in
            [("{}", None), (r#"{"rate":null}"#, Some(None)), (r#"{"rate":"20/10s"}"#, Some(Some(rate)))]
        {
            let patch: ApiLimitsPatch = serde_json::from_str(json).unwrap();
            assert_eq!(patch, ApiLimitsPatch { rate: wanted });
            assert_eq!(serde_json::to_string(&patch).unwrap(), json);
        }
        for wrong in [r#"{"rate":20}"#, r#"{"rate":"x"}"#, r#"{"rat":null}"#] {
            assert!(serde_json::from_str::<ApiLimitsPatch>(wrong).is_err(), "{wrong}");
        }
    }
}
