//! Relays by flags: those of regions (TOK-08), and those that know who is online. Shared by `up`, `api` and `regions`.

use std::collections::BTreeMap;

use anyhow::anyhow;
use clap::Args;
use sideband_sim_kit::guard::AdminToken;
use url::Url;

use crate::{failure::Failure, options, output::Output, values};

/// The flags of a cloud that has a relay of its own.
#[derive(Debug, Args)]
pub(crate) struct FurtherRelays {
    /// The relay of another region, such as us=ws://127.0.0.1:7602/relay: clients of daemons in that region are sent there. May be given several times
    #[arg(long, env = "SIDEBAND_SIM_RELAY_URL", value_name = "REGION=URL", value_delimiter = ',', value_parser = relay)]
    relay_url: Vec<(Option<String>, Url)>,
    /// The admin API of such a relay, which knows who is online there; may be given several times [default: nobody knows]
    #[arg(long, env = "SIDEBAND_SIM_RELAY_ADMIN_URL", value_name = "URL", value_delimiter = ',', value_parser = values::admin_url)]
    relay_admin_url: Vec<Url>,
    /// What those admin APIs ask for, if they do; also SIDEBAND_SIM_RELAY_ADMIN_TOKEN_FILE
    #[arg(long, env = "SIDEBAND_SIM_RELAY_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    relay_admin_token: Option<String>,
}

impl FurtherRelays {
    /// The relays of other regions. One without a region is not used: the variable may be there for `daemon` and `call`.
    pub(crate) fn regions(&self, out: &Output) -> Result<BTreeMap<String, String>, Failure> {
        let (whole, regions) = by_region(&self.relay_url)?;
        if let Some(url) = whole {
            out.note(format!(
                "note: `up` has a relay of its own; {url} is not used, for it has no region before it (us={url})"
            ));
        }
        Ok(regions)
    }

    /// The admin APIs that know who is online there.
    pub(crate) fn admins(&self) -> Result<Vec<(Url, Option<AdminToken>)>, Failure> {
        admins(&self.relay_admin_url, self.relay_admin_token.as_deref())
    }
}

/// A relay's URL, with a region before it or none.
pub(crate) fn relay(text: &str) -> Result<(Option<String>, Url), String> {
    match text.split_once('=') {
        Some((region, url)) if !region.contains(':') => Ok((Some(options::region(region)?), values::ws_url(url)?)),
        _ => values::ws_url(text).map(|url| (None, url)),
    }
}

/// The relay without a region, if there is one, and those of regions.
pub(crate) fn by_region(
    relays: &[(Option<String>, Url)],
) -> Result<(Option<String>, BTreeMap<String, String>), Failure> {
    let twice = |what: &str| {
        Failure::misuse(anyhow!("there are two --relay-url {what}")).hint("give one for each region, and one without")
    };
    let (mut whole, mut regions) = (None, BTreeMap::new());
    for (region, url) in relays {
        match region {
            None if whole.is_some() => return Err(twice("without a region")),
            None => whole = Some(url.as_str().to_owned()),
            Some(region) => {
                if regions.insert(region.clone(), url.as_str().to_owned()).is_some() {
                    return Err(twice(&format!("for the region {region}")));
                }
            }
        }
    }
    Ok((whole, regions))
}

/// The admin APIs of relays, with what they ask for.
pub(crate) fn admins(urls: &[Url], token: Option<&str>) -> Result<Vec<(Url, Option<AdminToken>)>, Failure> {
    if urls.is_empty() {
        return Ok(Vec::new());
    }
    let token = values::relay_admin_token(token)?;
    Ok(urls.iter().map(|url| (url.clone(), token.clone())).collect())
}
