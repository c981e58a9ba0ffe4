//! How relay and control plane are set up by flags: limits (REL-01, REL-12, REL-20 to REL-23, API-09, TOK-11), regions (TOK-08),
//! and how long rotated keys stay published (KEY-04). Shared by `up`, `api` and `relay`.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;
use serde_json::Value;
use sideband_api_sim::{ApiConfig, DEFAULT_OVERLAP};
use sideband_scenarios::cloud::CloudOptions;
use sideband_sim_kit::limits::{LimitsError, LimitsFile, RateLimit, RelayLimits, RelayLimitsPatch};

use crate::{failure::Failure, values};

/// Most bytes of a file of limits.
const MAX_FILE: u64 = 64 << 10;

/// Most bytes of a region's name, as the admin API takes it.
const MAX_REGION: usize = 64;

/// The flag of all.
#[derive(Debug, Args)]
pub(crate) struct LimitsOption {
    /// Begin with the limits in this file: TOML, or JSON as `limits show --json` prints it; the relay's, and api_rate, the control plane's [default: the specification's]
    #[arg(long, env = "SIDEBAND_SIM_LIMITS", value_name = "FILE")]
    limits: Option<PathBuf>,
}

/// The flags of a relay.
#[derive(Debug, Args)]
pub(crate) struct RelayOptions {
    /// Begin with this relay limit, such as burst=100 or grace=5s, whatever --limits says; may be given several times
    #[arg(long, env = "SIDEBAND_SIM_LIMIT", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = limit)]
    limit: Vec<String>,
}

/// The flags of a control plane.
#[derive(Debug, Args)]
pub(crate) struct ApiOptions {
    /// Answer 429 to more requests of one caller, such as 20/10s: 20 at once, and 20 in each 10 s [default: no limit]
    #[arg(long, env = "SIDEBAND_SIM_API_RATE", value_name = "N/TIME", value_parser = rate)]
    api_rate: Option<RateLimit>,
    /// Let tokens allow a daemon this many sessions at once [default: as many as the relay's limit allows]
    #[arg(long, env = "SIDEBAND_SIM_CONCURRENT_SESSIONS", value_name = "N", value_parser = sessions)]
    concurrent_sessions: Option<u64>,
    /// Keep the old key published so long when keys are rotated [default: as long as its tokens live]
    #[arg(long, env = "SIDEBAND_SIM_KEY_OVERLAP", value_name = "TIME", value_parser = values::whole_seconds)]
    key_overlap: Option<Duration>,
}

/// The flag of both.
#[derive(Debug, Args)]
pub(crate) struct Region {
    /// The region: a relay refuses tokens for another with 403, a control plane names it in the tokens of daemons without one of their own [default: none]
    #[arg(long, env = "SIDEBAND_SIM_REGION", value_name = "REGION", value_parser = region)]
    pub(crate) region: Option<String>,
}

/// A relay limit as the flag takes it.
fn limit(text: &str) -> Result<String, String> {
    RelayLimitsPatch::default().set_text(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// A limit of requests.
pub(crate) fn rate(text: &str) -> Result<RateLimit, String> {
    text.parse().map_err(|error: sideband_sim_kit::limits::RateLimitError| error.to_string())
}

/// The name of a region.
pub(crate) fn region(text: &str) -> Result<String, String> {
    if (1..=MAX_REGION).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("write a name of 1 to {MAX_REGION} bytes, such as eu"))
    }
}

/// A limit of sessions in a token (TOK-11); what a store can keep.
pub(crate) fn sessions(text: &str) -> Result<u64, String> {
    let wrong = || format!("write a whole number from 1 to {}, such as 4", i64::MAX);
    text.parse().ok().filter(|sessions| (1..=i64::MAX as u64).contains(sessions)).ok_or_else(wrong)
}

impl LimitsOption {
    /// What the file says; nothing without one.
    pub(crate) fn read(&self) -> Result<LimitsFile, Failure> {
        self.limits.as_deref().map_or(Ok(LimitsFile::default()), from_file)
    }
}

impl RelayOptions {
    /// The limits: the file's, under those of the flags.
    pub(crate) fn limits(&self, file: &LimitsFile) -> Result<RelayLimits, Failure> {
        let mut patch = RelayLimitsPatch::default();
        self.limit.iter().try_for_each(|limit| patch.set_text(limit)).map_err(Failure::misuse)?;
        file.relay_limits().and_then(|limits| limits.patched(&patch)).map_err(Failure::misuse)
    }
}

impl ApiOptions {
    /// The flag's, else the file's.
    fn rate(&self, file: &LimitsFile) -> Option<RateLimit> {
        self.api_rate.or(file.api_rate.flatten())
    }

    fn key_overlap(&self) -> u64 {
        self.key_overlap.map_or(DEFAULT_OVERLAP, |time| time.as_secs())
    }

    /// Sets a control plane up.
    pub(crate) fn configure(&self, file: &LimitsFile, region: &Region, config: &mut ApiConfig) {
        config.rate_limit = self.rate(file);
        config.concurrent_sessions = self.concurrent_sessions;
        config.key_overlap = self.key_overlap();
        config.region = region.region.clone();
    }

    /// Sets a whole cloud up.
    pub(crate) fn set_up(
        &self,
        file: &LimitsFile,
        relay: &RelayOptions,
        region: &Region,
        to: CloudOptions,
    ) -> Result<CloudOptions, Failure> {
        Ok(CloudOptions {
            limits: relay.limits(file)?,
            api_rate: self.rate(file),
            concurrent_sessions: self.concurrent_sessions,
            key_overlap: self.key_overlap(),
            region: region.region.clone(),
            ..to
        })
    }
}

fn from_file(path: &Path) -> Result<LimitsFile, Failure> {
    let cannot = |what: String| {
        Failure::misuse(anyhow!("the limits in {} {what}", path.display()))
            .hint("--limits takes the path of a file; `sideband-sim limits show > FILE` writes one")
    };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    let size = read.map_err(|error| cannot(format!("cannot be read: {error}")))?;
    if size as u64 > MAX_FILE {
        return Err(cannot(format!("have more than {MAX_FILE} bytes")));
    }
    let limits = if text.trim_start().starts_with('{') { from_json(&text) } else { LimitsFile::parse_toml(&text) };
    // Whether they go together, too: here the file can be named.
    let limits = limits.and_then(|limits| limits.relay_limits().map(|_| limits));
    limits.map_err(|error| {
        let failure = match error {
            LimitsError::At { line, error } => Failure::misuse(anyhow!("{}:{line}: {error}", path.display())),
            error => Failure::misuse(anyhow!("{}: {error}", path.display())),
        };
        failure.hint("`sideband-sim limits show` shows names and values")
    })
}

/// An object of limits, or the lines of `limits show --json`: of a relay, of a control plane, or one of each.
fn from_json(text: &str) -> Result<LimitsFile, LimitsError> {
    let unreadable = |error: &str| Err(LimitsError::Unreadable(error.to_owned()));
    let lines: Vec<Value> = match serde_json::Deserializer::from_str(text).into_iter().collect() {
        Ok(lines) => lines,
        Err(error) => return unreadable(&error.to_string()),
    };
    let of = |member: &'static str| lines.iter().filter_map(|line| line.get(member)).collect::<Vec<_>>();
    let (relays, apis) = (of("limits"), of("apiLimits"));
    let mut file = match (relays.as_slice(), apis.as_slice(), lines.as_slice()) {
        ([limits], _, _) => LimitsFile::parse_json(&limits.to_string())?,
        ([], [], [limits]) => return LimitsFile::parse_json(&limits.to_string()),
        ([], [], _) => return unreadable("there are no limits in it"),
        ([], _, _) => LimitsFile::default(),
        _ => return unreadable("there are the limits of several relays in it"),
    };
    match apis.as_slice() {
        [] => {}
        [limits] => file.set("apiRate", &limits["rate"])?,
        _ => return unreadable("there are the limits of several control planes in it"),
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_an_object_or_what_limits_show_prints() {
        let wanted = RelayLimits { burst: 7, ..RelayLimits::default() };
        let whole = serde_json::to_string(&wanted).unwrap();
        let line = format!(r#"{{"event":"limits","adminUrl":"http://h","limits":{whole}}}"#);
        let api = r#"{"event":"api_limits","adminUrl":"http://h","apiLimits":{"rate":null}}"#;
        for text in [r#"{"burst":7}"#, &whole, &line, &format!("{line}\n{api}\n"), &format!("{api}\n{line}\n")] {
            assert_eq!(from_json(text).and_then(|file| file.relay_limits()), Ok(wanted), "{text}");
        }
        let rated = api.replace("null", r#""20/10s""#);
        for (text, rate) in [(&rated[..], Some("20/10s".parse().ok())), (api, Some(None)), (&line, None)] {
            assert_eq!(from_json(text).unwrap().api_rate, rate, "{text}");
        }
        assert_eq!(from_json(&format!("{line}\n{rated}")).unwrap().api_rate, Some("20/10s".parse().ok()));
        for (text, problem) in [
            (format!("{line}\n{line}"), "several relays"),
            (format!("{api}\n{api}"), "several control planes"),
            ("".to_owned(), "no limits"),
            ("{".to_owned(), "line 1"),
            (r#"{"burts":7}"#.to_owned(), "did you mean `burst`?"),
        ] {
            let error = from_json(&text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_and_names_have_their_ranges() {
        assert_eq!((sessions("1"), sessions("9223372036854775807")), (Ok(1), Ok(i64::MAX as u64)));
        for wrong in ["0", "-1", "x", "", "9223372036854775808"] {
            assert!(sessions(wrong).is_err(), "{wrong}");
        }
        assert!(region("eu").is_ok() && region("").is_err() && region(&"x".repeat(65)).is_err());
        assert!(rate("20/10s").is_ok() && rate("20").unwrap_err().contains("20/10s"));
    }
}
