//! What values on the command line and in the environment mean.

use std::{
    borrow::Cow,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::anyhow;
use sideband_sim_kit::{admin::ADMIN_PATH, guard::AdminToken};
use url::Url;

use crate::failure::Failure;

/// Where `up` listens unless told otherwise, and where other commands look for a cloud.
pub(crate) const DEFAULT_API: &str = "http://127.0.0.1:7600";

/// An address to listen on: `127.0.0.1:7600`, `[::1]:0`, `localhost:7600`.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port: &str| port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let named = text.strip_prefix("localhost:").and_then(loopback);
    named.or_else(|| text.parse().ok()).ok_or_else(|| "write an address and a port, such as 127.0.0.1:7600".to_owned())
}

/// An `http` or `https` URL that others can be appended to.
pub(crate) fn http_url(text: &str) -> Result<Url, String> {
    base_url(text, ["http", "https"])
}

/// A `ws` or `wss` URL.
pub(crate) fn ws_url(text: &str) -> Result<Url, String> {
    base_url(text, ["ws", "wss"])
}

fn base_url(text: &str, schemes: [&str; 2]) -> Result<Url, String> {
    let [plain, secure] = schemes;
    let example = format!("write it as {plain}://host:port or {secure}://host:port");
    let url = Url::parse(text).map_err(|error| format!("{error}; {example}"))?;
    if !schemes.contains(&url.scheme()) || url.host().is_none() {
        return Err(example);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must have no user name and no password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must have no `?` and no `#`".to_owned());
    }
    Ok(url)
}

/// A value as errors show it: what may be the user name and password of a URL is left out. That is everything before the
/// last `@`, since in a URL that is wrong nobody knows where a password ends.
pub(crate) fn without_user_info(text: &str) -> Cow<'_, str> {
    let Some((before, after)) = text.rsplit_once('@') else { return text.into() };
    let scheme = before.split_once("://").map_or_else(String::new, |(scheme, _)| format!("{scheme}://"));
    format!("{scheme}…@{after}").into()
}

/// A URL's text as others extend it: without a slash at its end.
pub(crate) fn text_of(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// A time such as `500ms`, `10s` or `2m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let wrong = || "write a time such as 500ms, 10s or 2m".to_owned();
    let time: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(time).map_err(|_| wrong())
}

/// A time of whole seconds.
pub(crate) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.subsec_nanos() == 0 { Ok(time) } else { Err("write whole seconds, such as 10s or 2m".to_owned()) }
}

/// How long a Quick Connect code lives, as `quickConnect.create` takes it.
pub(crate) fn code_ttl(text: &str) -> Result<Duration, String> {
    let time = whole_seconds(text)?;
    let range = Duration::from_secs(30)..=Duration::from_secs(3_600);
    if range.contains(&time) { Ok(time) } else { Err("write a time from 30s to 1h".to_owned()) }
}

/// What credentials follow from.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("write a whole number from 0 to {}, such as 7", u64::MAX))
}

/// The admin API below a server's URL; a URL that ends in `/__sim` is one already.
pub(crate) fn admin_url(text: &str) -> Result<Url, String> {
    let url = http_url(text)?;
    let text = text_of(&url);
    let whole = if text.ends_with(ADMIN_PATH) { text } else { format!("{text}{ADMIN_PATH}") };
    Url::parse(&whole).map_err(|error| error.to_string())
}

/// A value that may stand in a flag, in an environment variable, or in a file that an environment variable names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    /// The flag, such as `--api-key`; its own `SIDEBAND_SIM_…` variable is clap's.
    pub(crate) flag: &'static str,
    /// Environment variables, the first one that is there counts; each also as `…_FILE`.
    pub(crate) env: &'static [&'static str],
}

/// The daemon's API key.
pub(crate) const API_KEY: Named = Named { flag: "--api-key", env: &["SIDEBAND_SIM_API_KEY", "SIDEBAND_API_KEY"] };
/// The user's access token.
pub(crate) const ACCESS_TOKEN: Named =
    Named { flag: "--access-token", env: &["SIDEBAND_SIM_ACCESS_TOKEN", "SIDEBAND_ACCESS_TOKEN"] };
/// A Quick Connect code.
pub(crate) const QUICK_CONNECT: Named =
    Named { flag: "--code", env: &["SIDEBAND_SIM_QUICK_CONNECT", "SIDEBAND_QUICK_CONNECT"] };
/// The daemon's id.
pub(crate) const DAEMON_ID: Named =
    Named { flag: "--daemon-id", env: &["SIDEBAND_SIM_DAEMON_ID", "SIDEBAND_DAEMON_ID"] };
/// The control plane's URL.
pub(crate) const API_URL: Named = Named { flag: "--api-url", env: &["SIDEBAND_SIM_API_URL", "SIDEBAND_API_URL"] };
/// The relay's URL.
pub(crate) const RELAY_URL: Named =
    Named { flag: "--relay-url", env: &["SIDEBAND_SIM_RELAY_URL", "SIDEBAND_RELAY_URL"] };
/// The admin API's token.
const ADMIN_TOKEN: Named = Named { flag: "--admin-token", env: &["SIDEBAND_SIM_ADMIN_TOKEN"] };
/// The token of a relay's admin API.
const RELAY_ADMIN_TOKEN: Named = Named { flag: "--relay-admin-token", env: &["SIDEBAND_SIM_RELAY_ADMIN_TOKEN"] };

/// Where a server listens; clap reads it.
pub(crate) const ADDR: Named = Named { flag: "--addr", env: &["SIDEBAND_SIM_ADDR"] };

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The value, not empty.
    pub(crate) text: String,
    /// The flag, and the variable if it stands in one: `SIDEBAND_API_KEY (--api-key)`.
    pub(crate) origin: String,
}

impl Found {
    /// The value as a credential, which goes into an HTTP header.
    pub(crate) fn credential(self) -> Result<String, Failure> {
        if self.text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(self.text);
        }
        Err(Failure::misuse(anyhow!("{} has characters that no HTTP header takes", self.origin))
            .hint("use letters, digits and `-_.~`, without spaces and line breaks"))
    }
}

impl Named {
    /// The value, `given` on the command line or found elsewhere. What is empty is not there.
    pub(crate) fn find(&self, given: Option<&str>) -> Result<Option<Found>, Failure> {
        self.find_in(given, variable)
    }

    fn find_in(&self, given: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<Option<Found>, Failure> {
        let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        if let Some(text) = given.and_then(some) {
            let origin = self.origin_in(|text| Some(text) == given, env);
            return Ok(Some(Found { text, origin }));
        }
        for name in self.env {
            if let Some(text) = env(name).as_deref().and_then(some) {
                return Ok(Some(Found { text, origin: self.at(name) }));
            }
            let file = format!("{name}_FILE");
            if let Some(path) = env(&file).as_deref().and_then(some) {
                let text = read_file(&file, Path::new(&path))?;
                return Ok(Some(Found { text, origin: self.at(&file) }));
            }
        }
        Ok(None)
    }

    /// Where a value stands that clap has read: in its variable if that says the same, else on the command line.
    pub(crate) fn origin(&self, is_it: impl Fn(&str) -> bool) -> String {
        self.origin_in(is_it, variable)
    }

    fn origin_in(&self, is_it: impl Fn(&str) -> bool, env: impl Fn(&str) -> Option<String>) -> String {
        let said = self.env.first().filter(|name| env(name).as_deref().is_some_and(is_it));
        said.map_or_else(|| self.flag.to_owned(), |name| self.at(name))
    }

    fn at(&self, variable: &str) -> String {
        format!("{variable} ({})", self.flag)
    }

    /// The value, which must be there.
    pub(crate) fn need(&self, given: Option<&str>, from: &str) -> Result<Found, Failure> {
        self.find(given)?.ok_or_else(|| {
            let name = self.env.last().copied().unwrap_or_default();
            Failure::misuse(anyhow!("{} is missing", self.flag))
                .hint(format!("give it with {}, {name} or {name}_FILE; {from}", self.flag))
        })
    }

    /// The value as a URL; one in the environment is checked only here.
    pub(crate) fn find_url(
        &self,
        given: Option<&str>,
        parse: impl Fn(&str) -> Result<Url, String>,
    ) -> Result<Option<Url>, Failure> {
        let Some(Found { text, origin }) = self.find(given)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|reason| {
            Failure::misuse(anyhow!("{origin} `{}` is not usable: {reason}", without_user_info(&text)))
        })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The text of a file that a variable names. One without text is a mistake, such as a secret that was not filled in.
fn read_file(name: &str, path: &Path) -> Result<String, Failure> {
    let wrong = |what: String| {
        Failure::misuse(anyhow!("{name} names {}, which {what}", path.display()))
            .hint("correct the file or the path, or unset the variable")
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    match text.trim() {
        "" => Err(wrong("is empty".to_owned())),
        text => Ok(text.to_owned()),
    }
}

/// The admin token of this command, if it was given one.
pub(crate) fn admin_token(given: Option<&str>) -> Result<Option<AdminToken>, Failure> {
    token(ADMIN_TOKEN, given)
}

/// The admin token of a relay elsewhere, if one was given.
pub(crate) fn relay_admin_token(given: Option<&str>) -> Result<Option<AdminToken>, Failure> {
    token(RELAY_ADMIN_TOKEN, given)
}

fn token(named: Named, given: Option<&str>) -> Result<Option<AdminToken>, Failure> {
    let Some(found) = named.find(given)? else { return Ok(None) };
    Ok(AdminToken::new(found.credential()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address("127.0.0.1:0").unwrap().port(), 0);
        assert_eq!(address("localhost:7600").unwrap(), address("127.0.0.1:7600").unwrap());
        assert!(address("[::1]:7600").unwrap().ip().is_loopback());
        for wrong in ["", "7600", "localhost", "localhost:x", "127.0.0.1", "127.0.0.1:99999", "example.com:1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls() {
        assert_eq!(text_of(&http_url("http://h:1/").unwrap()), "http://h:1");
        for wrong in ["", "h:1", "ws://h", "http://", "http://h?x", "http://h#x", "http://u:p@h"] {
            assert!(http_url(wrong).is_err(), "{wrong}");
        }
        assert!(ws_url("wss://h/relay").is_ok() && ws_url("https://h").is_err());
        for text in ["http://h:1", "http://h:1/", "http://h:1/__sim", "http://h:1/__sim/"] {
            assert_eq!(admin_url(text).unwrap().as_str(), "http://h:1/__sim", "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1m 30s", 90_000), ("3", 3_000)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for wrong in ["", "x", "-1s", "1 fortnight"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_of_the_api_are_whole_seconds_in_its_range() {
        assert_eq!(whole_seconds("2m").unwrap(), Duration::from_secs(120));
        for wrong in ["500ms", "1500ms", "x"] {
            assert!(whole_seconds(wrong).is_err(), "{wrong}");
        }
        for right in ["30s", "30", "1h", "60m"] {
            assert!(code_ttl(right).is_ok(), "{right}");
        }
        for wrong in ["29s", "5s", "3601s", "2h", "30500ms", "0"] {
            assert!(code_ttl(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_show_no_user_info() {
        for (text, shown) in [
            ("http://h:1/path", "http://h:1/path"),
            ("http://user:secretpw@h:1", "http://…@h:1"),
            ("http://user:secret/p@w@h", "http://…@h"),
            ("user:secretpw@h", "…@h"),
            ("http:user:secretpw@h", "…@h"),
        ] {
            assert_eq!(without_user_info(text), shown);
        }
    }

    #[test]
    fn the_line_comes_before_the_environment_and_ours_before_the_common_name() {
        let env = |name: &str| match name {
            "SIDEBAND_SIM_API_KEY" => Some("ours".to_owned()),
            "SIDEBAND_API_KEY" | "SIDEBAND_DAEMON_ID" => Some("common".to_owned()),
            "SIDEBAND_ACCESS_TOKEN" => Some(" ".to_owned()),
            "SIDEBAND_ACCESS_TOKEN_FILE" => Some("/nonexistent/token".to_owned()),
            _ => None,
        };
        let found = |named: Named, given| named.find_in(given, env).unwrap().map(|found| (found.text, found.origin));
        let wanted = |text: &str, origin: &str| Some((text.to_owned(), origin.to_owned()));
        assert_eq!(found(API_KEY, Some("given")), wanted("given", "--api-key"));
        // As clap gives what it found in the variable.
        assert_eq!(found(API_KEY, Some("ours")), wanted("ours", "SIDEBAND_SIM_API_KEY (--api-key)"));
        assert_eq!(found(API_KEY, None), wanted("ours", "SIDEBAND_SIM_API_KEY (--api-key)"));
        assert_eq!(found(DAEMON_ID, None), wanted("common", "SIDEBAND_DAEMON_ID (--daemon-id)"));
        assert_eq!(found(QUICK_CONNECT, None), None);
        let wrong = ACCESS_TOKEN.find_in(None, env).unwrap_err();
        assert!(wrong.message().contains("SIDEBAND_ACCESS_TOKEN_FILE names /nonexistent/token"), "{}", wrong.message());
    }
}
