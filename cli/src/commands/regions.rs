//! `regions`: which relay serves which region, at a running control plane (TOK-08).

use clap::{Args, Subcommand};
use sideband_sim_kit::admin::regions::{RegionSettings, Regions};
use url::Url;

use super::accounts::{Desk, On, table};
use crate::{failure::Failure, options, output::Output, values};

/// Flags of `regions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim relay --issuer http://127.0.0.1:7600 --addr 127.0.0.1:7602 --region us
  sideband-sim regions set us ws://127.0.0.1:7602/relay --relay-admin-url http://127.0.0.1:7602
  sideband-sim accounts user add anna --region us        her daemons are there
  sideband-sim regions list
  sideband-sim regions remove us                         clients are sent to the cloud's own relay again: 403

They hold for every token that is given from then on, until the server ends or `sideband-sim reset`, which comes back to those of
--relay-url.")]
pub(crate) struct RegionsArgs {
    /// What to do with them.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the regions with relays of their own
    List(On),
    /// Name the relay of a region
    Set {
        /// The region
        #[arg(value_parser = options::region)]
        region: String,
        /// Where clients of its daemons are sent
        #[arg(value_parser = values::ws_url)]
        url: Url,
        /// The relay's admin API, which knows who is online there [default: nobody knows]
        #[arg(long, env = "SIDEBAND_SIM_RELAY_ADMIN_URL", value_name = "URL", value_parser = values::admin_url)]
        relay_admin_url: Option<Url>,
        /// What the relay's admin API asks for, if it does; also SIDEBAND_SIM_RELAY_ADMIN_TOKEN_FILE
        #[arg(long, env = "SIDEBAND_SIM_RELAY_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
        relay_admin_token: Option<String>,
        /// Where to ask.
        #[command(flatten)]
        on: On,
    },
    /// Take a region's relay away
    Remove {
        /// The region
        region: String,
        /// Where to ask.
        #[command(flatten)]
        on: On,
    },
}

/// Shows or changes the regions.
pub(crate) async fn regions(args: RegionsArgs, out: &Output) -> Result<(), Failure> {
    const HINT: &str = "`sideband-sim regions list` shows what is there";
    let (desk, answer) = match args.what {
        What::List(on) => {
            let desk = Desk::at(on, out).await?;
            let answer = desk.asked().regions().await;
            (desk, answer)
        }
        What::Set { region, url, relay_admin_url, relay_admin_token, on } => {
            let desk = Desk::at(on, out).await?;
            let token = match relay_admin_url {
                Some(_) => values::relay_admin_token(relay_admin_token.as_deref())?,
                None => None,
            };
            let settings = RegionSettings {
                relay_url: url.into(),
                relay_admin_url: relay_admin_url.map(Into::into),
                relay_admin_token: token.map(|token| token.expose().to_owned()),
            };
            let answer = desk.asked().set_region(&region, &settings).await;
            (desk, answer)
        }
        What::Remove { region, on } => {
            let desk = Desk::at(on, out).await?;
            let answer = desk.asked().remove_region(&region).await;
            (desk, answer)
        }
    };
    let regions = desk.got_with(answer, HINT)?;
    desk.say("regions", &regions, || describe(&regions)).await;
    desk.tell_unserved().await
}

fn describe(regions: &Regions) -> String {
    let row = |region: &sideband_sim_kit::admin::regions::RegionRelay| {
        let admin = region.relay_admin_url.clone().unwrap_or_else(|| "-".to_owned());
        vec![region.region.clone(), region.relay_url.clone(), admin]
    };
    let of_all = regions.default_region.as_deref().unwrap_or("none");
    let rows = table(&["region", "relay", "its admin API"], regions.regions.iter().map(row).collect());
    format!("{rows}daemons without a region are in: {of_all}\n")
}
