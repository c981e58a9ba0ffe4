//! The limits of a relay, as files and the admin API write them (REL-01, REL-12, REL-20 to REL-23).
//!
//! JSON members are in camelCase, TOML keys in snake_case; either is read in both. Times are text such as `"30s"`,
//! `"250ms"` or `"1m 30s"`. What is not named keeps its default, or in a patch its value.

mod file;
mod named;
mod rate;

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sideband_protocol::relay::{RateMode, Takeover, WatchLimits};
use utoipa::ToSchema;

pub use file::LimitsFile;
pub use named::{NAMES, takes};
pub use rate::{ApiLimits, ApiLimitsPatch, RateLimit, RateLimitError};

/// Limits that cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// They cannot be read: no TOML, no JSON object.
    #[error("{0}")]
    Unreadable(String),
    /// There is no such limit.
    #[error("there is no limit `{name}`; {}", meant(*.nearest))]
    Unknown {
        /// What was named, its first 64 characters.
        name: String,
        /// The limit whose name is most like it, in camelCase; none if no name is like it.
        nearest: Option<&'static str>,
    },
    /// A member has a value that makes no sense.
    #[error("`{member}` must be {takes}")]
    Member {
        /// Which, in camelCase.
        member: &'static str,
        /// What it must be, with unit and range.
        takes: &'static str,
    },
    /// A member was given a value that makes no sense.
    #[error("`{member}` must be {takes}, not {given}")]
    Value {
        /// Which, in camelCase.
        member: &'static str,
        /// What it must be, with unit and range.
        takes: &'static str,
        /// What was given, its first 64 characters.
        given: String,
    },
    /// One of these, in a file.
    #[error("line {line}: {error}")]
    At {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        error: Box<LimitsError>,
    },
}

fn meant(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("there are {}", NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")),
    }
}

/// The limits of a relay. The default is the specification's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayLimits {
    /// Most sessions of a daemon at once, unless tokens say otherwise, from 1; default 256 (REL-23).
    pub sessions: u64,
    /// Frames a second that a connection may send, 1 to 1,000,000; default 10,000 (REL-20).
    #[serde(alias = "frames_per_second")]
    pub frames_per_second: u32,
    /// Frames that it may send at once, 1 to 10,000,000; default 20,000 (REL-20).
    pub burst: u32,
    /// What happens to frames over the rate: `drop` or `throttle`; default `drop` (REL-20).
    #[serde(alias = "rate_mode")]
    #[schema(value_type = String, pattern = "^(drop|throttle)$")]
    pub rate_mode: RateMode,
    /// Most unsent bytes towards a client before it is closed with `backpressure`, 1 KiB to 1 GiB; default 1 MiB (REL-21).
    /// It should hold some of the largest frames (64 KiB), or good clients are closed. Also bounds the answers that a
    /// daemon may leave untaken before it is not read any more.
    #[serde(alias = "client_backlog")]
    pub client_backlog: u32,
    /// Most bytes of one client that its daemon has not taken before that client is not read any more, up to 1 GiB;
    /// default 256 KiB (REL-21). One turn's input comes on top.
    #[serde(alias = "session_backlog")]
    pub session_backlog: u32,
    /// How long a daemon's socket may take nothing, and a client whose reading is stopped may not get on, 10 ms to a
    /// day; default 30 s (REL-21).
    #[serde(with = "compact::required")]
    #[schema(value_type = String, example = "30s")]
    pub stall: Duration,
    /// Silence after which the relay pings, 10 ms to a day; default 30 s (REL-22). Not less than `sweep` means never.
    #[serde(with = "compact::required")]
    #[schema(value_type = String, example = "30s")]
    pub ping: Duration,
    /// Silence after which a connection is closed, 10 ms to a day; default 90 s (REL-22). With less than the endpoints'
    /// own pings need, good ones are closed.
    #[serde(with = "compact::required")]
    #[schema(value_type = String, example = "30s")]
    pub sweep: Duration,
    /// How long a session waits for its daemon, up to a day; default 30 s (REL-01). Zero ends it at once.
    #[serde(with = "compact::required")]
    #[schema(value_type = String, example = "30s")]
    pub grace: Duration,
    /// What a second socket of a daemon does: `replace` or `refuse`; default `replace` (REL-12).
    #[schema(value_type = String, pattern = "^(replace|refuse)$")]
    pub takeover: Takeover,
}

impl Default for RelayLimits {
    fn default() -> Self {
        let watch = WatchLimits::default();
        Self {
            sessions: 256,
            frames_per_second: watch.frames_per_second,
            burst: watch.burst,
            rate_mode: watch.rate_mode,
            client_backlog: 1 << 20,
            session_backlog: 256 << 10,
            stall: watch.stall,
            ping: watch.ping,
            sweep: watch.sweep,
            grace: Duration::from_secs(30),
            takeover: Takeover::default(),
        }
    }
}

impl RelayLimits {
    /// Reads a TOML document of limits.
    ///
    /// # Errors
    /// It is no TOML, or a member is unknown, of another type, or makes no sense. The line is named.
    pub fn parse_toml(text: &str) -> Result<Self, LimitsError> {
        Self::default().patched(&RelayLimitsPatch::parse_toml(text)?)
    }

    /// They as a TOML document, which [`parse_toml`](Self::parse_toml) reads.
    pub fn to_toml(&self) -> String {
        named::to_toml(self)
    }

    /// These limits, with those of the patch changed.
    ///
    /// # Errors
    /// The result makes no sense; nothing is changed then.
    pub fn patched(mut self, patch: &RelayLimitsPatch) -> Result<Self, LimitsError> {
        fn set<T: Copy>(to: &mut T, from: Option<T>) {
            *to = from.unwrap_or(*to);
        }
        set(&mut self.sessions, patch.sessions);
        set(&mut self.frames_per_second, patch.frames_per_second);
        set(&mut self.burst, patch.burst);
        set(&mut self.rate_mode, patch.rate_mode);
        set(&mut self.client_backlog, patch.client_backlog);
        set(&mut self.session_backlog, patch.session_backlog);
        set(&mut self.stall, patch.stall);
        set(&mut self.ping, patch.ping);
        set(&mut self.sweep, patch.sweep);
        set(&mut self.grace, patch.grace);
        set(&mut self.takeover, patch.takeover);
        self.check()?;
        Ok(self)
    }

    /// Whether every member makes sense.
    ///
    /// # Errors
    /// The first member that does not.
    pub fn check(&self) -> Result<(), LimitsError> {
        const SHORTEST: Duration = Duration::from_millis(10);
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        const GIB: u32 = 1 << 30;
        let time = |time: Duration| (SHORTEST..=DAY).contains(&time);
        let checks = [
            ("sessions", self.sessions >= 1),
            ("framesPerSecond", (1..=1_000_000).contains(&self.frames_per_second)),
            ("burst", (1..=10_000_000).contains(&self.burst)),
            ("clientBacklog", (1 << 10..=GIB).contains(&self.client_backlog)),
            ("sessionBacklog", self.session_backlog <= GIB),
            ("stall", time(self.stall)),
            ("ping", time(self.ping)),
            ("sweep", time(self.sweep)),
            ("grace", self.grace <= DAY),
        ];
        match checks.into_iter().find(|(_, fits)| !fits) {
            Some((member, _)) => Err(LimitsError::Member { member, takes: takes(member) }),
            None => Ok(()),
        }
    }

    /// Those that one connection is watched for.
    pub fn watch(&self) -> WatchLimits {
        WatchLimits {
            frames_per_second: self.frames_per_second,
            burst: self.burst,
            rate_mode: self.rate_mode,
            ping: self.ping,
            sweep: self.sweep,
            stall: self.stall,
        }
    }
}

/// A change of [`RelayLimits`]: what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayLimitsPatch {
    /// [`RelayLimits::sessions`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
    /// [`RelayLimits::frames_per_second`]
    #[serde(alias = "frames_per_second", skip_serializing_if = "Option::is_none")]
    pub frames_per_second: Option<u32>,
    /// [`RelayLimits::burst`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// [`RelayLimits::rate_mode`]
    #[serde(alias = "rate_mode", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^(drop|throttle)$")]
    pub rate_mode: Option<RateMode>,
    /// [`RelayLimits::client_backlog`]
    #[serde(alias = "client_backlog", skip_serializing_if = "Option::is_none")]
    pub client_backlog: Option<u32>,
    /// [`RelayLimits::session_backlog`]
    #[serde(alias = "session_backlog", skip_serializing_if = "Option::is_none")]
    pub session_backlog: Option<u32>,
    /// [`RelayLimits::stall`]
    #[serde(with = "compact::optional", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30s")]
    pub stall: Option<Duration>,
    /// [`RelayLimits::ping`]
    #[serde(with = "compact::optional", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30s")]
    pub ping: Option<Duration>,
    /// [`RelayLimits::sweep`]
    #[serde(with = "compact::optional", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30s")]
    pub sweep: Option<Duration>,
    /// [`RelayLimits::grace`]
    #[serde(with = "compact::optional", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30s")]
    pub grace: Option<Duration>,
    /// [`RelayLimits::takeover`]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^(replace|refuse)$")]
    pub takeover: Option<Takeover>,
}

impl RelayLimitsPatch {
    /// Reads a JSON body.
    ///
    /// # Errors
    /// It is no JSON object, or a member is unknown, of another type, or makes no sense; the member is named.
    pub fn parse_json(body: &[u8]) -> Result<Self, LimitsError> {
        let members: Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| LimitsError::Unreadable(error.to_string()))?;
        let mut patch = Self::default();
        members.iter().try_for_each(|(name, value)| patch.set(name, value))?;
        Ok(patch)
    }

    /// What stands in either, this one's where both say something.
    fn over(self, below: Self) -> Self {
        Self {
            sessions: self.sessions.or(below.sessions),
            frames_per_second: self.frames_per_second.or(below.frames_per_second),
            burst: self.burst.or(below.burst),
            rate_mode: self.rate_mode.or(below.rate_mode),
            client_backlog: self.client_backlog.or(below.client_backlog),
            session_backlog: self.session_backlog.or(below.session_backlog),
            stall: self.stall.or(below.stall),
            ping: self.ping.or(below.ping),
            sweep: self.sweep.or(below.sweep),
            grace: self.grace.or(below.grace),
            takeover: self.takeover.or(below.takeover),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(patch: serde_json::Value) -> String {
        let patch = RelayLimitsPatch::parse_json(patch.to_string().as_bytes());
        patch.and_then(|patch| RelayLimits::default().patched(&patch)).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_as_json() {
        let expected = json!({
            "sessions": 256, "framesPerSecond": 10_000, "burst": 20_000, "rateMode": "drop",
            "clientBacklog": 1_048_576, "sessionBacklog": 262_144, "stall": "30s", "ping": "30s", "sweep": "1m 30s",
            "grace": "30s", "takeover": "replace",
        });
        assert_eq!(serde_json::to_value(RelayLimits::default()).unwrap(), expected);
        assert_eq!(serde_json::from_value::<RelayLimits>(expected).unwrap(), RelayLimits::default());
        RelayLimits::default().check().unwrap();
    }

    #[test]
    fn a_file_changes_what_it_names() {
        let text = "sessions = 3\nframes_per_second = 5\nrate_mode = \"throttle\"\nsweep = \"1m 5s\"\n\
                    client_backlog = 2048\nsession_backlog = 7\ntakeover = \"refuse\"\ngrace = \"0s\"\nstall = \"250ms\"\n";
        let expected = RelayLimits {
            sessions: 3,
            frames_per_second: 5,
            rate_mode: RateMode::Throttle,
            sweep: Duration::from_secs(65),
            client_backlog: 2_048,
            session_backlog: 7,
            takeover: Takeover::Refuse,
            grace: Duration::ZERO,
            stall: Duration::from_millis(250),
            ..RelayLimits::default()
        };
        assert_eq!(RelayLimits::parse_toml(text), Ok(expected));
        assert_eq!(RelayLimits::parse_toml(""), Ok(RelayLimits::default()));
    }

    #[test]
    fn a_bad_file_is_refused_with_line_and_member() {
        for (text, line, member) in [
            ("burst = 3\nsweeep = \"3s\"", "line 2", "sweeep"),
            ("sweep = 90", "line 1", "sweep"),
            ("\n\nping = \"soon\"", "line 3", "ping"),
            ("sessions = 1\nrate_mode = \"shout\"", "line 2", "rateMode` must be `drop` or `throttle`, not \"shout\""),
            ("sessions = 1\n\nburst = 0", "line 3", "`burst` must be frames at once, from 1 to 10000000, not 0"),
            ("b = 1\nframes_per_secnd = 5", "line 1", "no limit `b`"),
            ("frames_per_secnd = 5", "line 1", "did you mean `framesPerSecond`?"),
            ("grace = 5", "line 1", "a time up to 24h, such as 30s, not 5"),
            ("burst = -1", "line 1", "burst"),
            ("burst = 3\nburst = 4", "line 2", "burst"),
        ] {
            let error = RelayLimits::parse_toml(text).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(member), "{text}: {error}");
        }
        assert!(RelayLimits::parse_toml("burst = 0").unwrap_err().to_string().contains("`burst`"));
    }

    #[test]
    fn what_is_written_as_toml_is_read_again() {
        let text = RelayLimits::default().to_toml();
        assert!(text.contains("frames_per_second = 10000\n") && text.contains("sweep = \"1m 30s\"\n"), "{text}");
        let other =
            RelayLimits { grace: Duration::from_millis(1_500), takeover: Takeover::Refuse, ..Default::default() };
        for limits in [RelayLimits::default(), other] {
            assert_eq!(RelayLimits::parse_toml(&limits.to_toml()), Ok(limits));
        }
        assert_eq!(text.lines().count(), NAMES.len());
    }

    #[test]
    fn a_patch_changes_what_it_names_and_writes_nothing_else() {
        let patch = RelayLimitsPatch::parse_json(br#"{"sweep":"2s","rateMode":"throttle"}"#).unwrap();
        let expected =
            RelayLimits { sweep: Duration::from_secs(2), rate_mode: RateMode::Throttle, ..RelayLimits::default() };
        assert_eq!(RelayLimits::default().patched(&patch), Ok(expected));
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"rateMode":"throttle","sweep":"2s"}"#);
        assert_eq!(RelayLimits::default().patched(&RelayLimitsPatch::default()), Ok(RelayLimits::default()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (member, value) in [
            ("sessions", json!(0)),
            ("framesPerSecond", json!(0)),
            ("framesPerSecond", json!(1_000_001)),
            ("burst", json!(0)),
            ("clientBacklog", json!(1_023)),
            ("sessionBacklog", json!(2_000_000_000)),
            ("stall", json!("1ms")),
            ("ping", json!("0s")),
            ("sweep", json!("25h")),
            ("grace", json!("25h")),
            ("grace", json!(-1)),
            ("grace", json!("-1s")),
            ("takeover", json!("both")),
            ("burst", json!("many")),
            ("nothing", json!(1)),
        ] {
            let problem = problem(json!({ member: value }));
            assert!(problem.contains(member), "{member} {value}: {problem}");
        }
        assert!(RelayLimitsPatch::parse_json(b"{} {}").is_err());
        assert!(RelayLimitsPatch::parse_json(b"").is_err());
    }
}
