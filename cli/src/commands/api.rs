//! `api`: the control plane alone.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::anyhow;
use clap::Args;
use owo_colors::OwoColorize;
use sideband::env::Env;
use sideband_api_sim::{Advertised, ApiConfig};
use sideband_sim_kit::{
    admin::ADMIN_PATH,
    fault::Place,
    presence::{AnyPresence, HttpPresence, NoPresence, Presence},
};
use url::Url;

use crate::{
    apart::{self, ApiSetup, Bound},
    commands::relay::{issuer, stop},
    exposure::Exposure,
    failure::Failure,
    faults::{self, Faults},
    journal,
    options::{ApiOptions, LimitsOption, Region},
    output::Output,
    ready::{self, Credentials, ReadyLine},
    relays,
    signals::Signals,
    tls::Tls,
    trace::Trace,
    values, world,
};

const EXAMPLES: &str = "\
Examples:
  sideband-sim api --relay-url ws://127.0.0.1:7601/relay --relay-admin-url http://127.0.0.1:7601
  sideband-sim relay --issuer http://127.0.0.1:7600
  sideband-sim api --relay-url ws://127.0.0.1:7601/relay --api-rate 20/10s --preset storm-429

A relay for each region; `accounts user add --region us` makes a user whose daemons are there:
  sideband-sim api --region eu --relay-url eu=ws://127.0.0.1:7601/relay --relay-url us=ws://127.0.0.1:7602/relay
  sideband-sim relay --issuer http://127.0.0.1:7600 --addr 127.0.0.1:7601 --region eu
  sideband-sim relay --issuer http://127.0.0.1:7600 --addr 127.0.0.1:7602 --region us

Without --relay-admin-url nobody knows who is online: a code of an offline daemon is redeemed instead of refused with
409, and then the relay says that it is offline; daemon.listAccessible shows every daemon as offline.";

/// Flags of `api`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ApiArgs {
    /// The relay that clients are sent to; with a region before it, such as us=wss://us.test/relay, those of daemons in that region. May be given several times
    #[arg(long, env = "SIDEBAND_SIM_RELAY_URL", value_name = "URL", required = true, value_delimiter = ',', value_parser = relays::relay)]
    relay_url: Vec<(Option<String>, Url)>,
    /// The relay's admin API, which knows who is online; may be given several times, for several relays [default: nobody knows]
    #[arg(long, env = "SIDEBAND_SIM_RELAY_ADMIN_URL", value_name = "URL", value_delimiter = ',', value_parser = values::admin_url)]
    relay_admin_url: Vec<Url>,
    /// What the relays' admin API asks for, if it does; also SIDEBAND_SIM_RELAY_ADMIN_TOKEN_FILE
    #[arg(long, env = "SIDEBAND_SIM_RELAY_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    relay_admin_token: Option<String>,
    /// How tokens name this control plane; the relay is given the same [default: its own URL]
    #[arg(long, env = "SIDEBAND_SIM_ISSUER", value_name = "URL", value_parser = issuer)]
    issuer: Option<String>,
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "SIDEBAND_SIM_ADDR", value_name = "ADDR", default_value = "127.0.0.1:7600", value_parser = values::address)]
    addr: SocketAddr,
    /// Make the same credentials each time [default: new ones]
    #[arg(long, env = "SIDEBAND_SIM_SEED", value_name = "N", value_parser = values::seed)]
    seed: Option<u64>,
    /// Keep accounts, keys, codes and faults in this file, and with them the credentials [default: in memory]
    #[arg(long, env = "SIDEBAND_SIM_STATE", value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitsOption,
    #[command(flatten)]
    options: ApiOptions,
    #[command(flatten)]
    region: Region,
    #[command(flatten)]
    exposure: Exposure,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    trace: Trace,
    #[command(flatten)]
    faults: Faults,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: ApiArgs, out: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new(out)?;
    let security = args.tls.prepare(args.addr, None)?;
    let env = security.world()?;
    let exposed = args.exposure.check(args.addr, &env)?;
    if exposed.remote && args.seed.is_some() {
        out.note("note: with --allow-remote the credentials are random in spite of --seed");
    }
    if args.state.is_some() && args.seed.is_some() {
        out.note("note: with --state the credentials are the file's in spite of --seed");
    }
    let presence = presence(&args, &env)?;
    let (relay_url, region_relays) = relays(&args)?;
    let plan = args.faults.read()?;
    let bound = Bound::to(args.addr, &security, &env).await?;
    let local = bound.local.clone();
    let issuer = args.issuer.clone().unwrap_or_else(|| local.clone());
    let seed = args.seed.filter(|_| !exposed.remote && args.state.is_none());
    let mut config = ApiConfig::new(&issuer);
    config.relay_url = Advertised::Fixed(relay_url.clone());
    config.region_relays = region_relays;
    args.options.configure(&args.limits.read()?, &args.region, &mut config);
    let setup = ApiSetup { config, seed, state: args.state.clone(), presence };
    let (served, bootstrap) = apart::api(env.clone(), bound, setup, &exposed)?;
    ready::prove(&env, &local, exposed.admin_token.clone(), None, &security).await?;
    // The proof was nobody's request: what is told, counted and judged begins here.
    served.events.reset();
    let tracing = args.trace.start(&served.events)?;
    let beginning = served.begin_faults(plan);
    faults::begun(beginning, &served.faults, Place::OF_API, args.state.as_deref(), out)?;
    let events = served.events.subscribe();
    let line = ReadyLine {
        event: "ready",
        api_url: Some(&local),
        relay_url: &relay_url,
        admin_url: &format!("{local}{ADMIN_PATH}"),
        credentials: Some(Credentials::from(&bootstrap)),
        issuer: &issuer,
        seed: Some(seed),
        admin_token: exposed.admin_token.as_ref().map(|token| token.expose()),
        ca: security.authority.as_deref(),
    };
    out.say(&line, || describe(&line, !args.relay_admin_url.is_empty())).await;
    let journal = journal::follow(events, out);
    signals.next().await;
    let engine = served.faults.clone();
    stop(served, &mut signals, out).await;
    journal.abort();
    faults::tell_never_fired(&engine, Place::OF_API, out).await;
    tracing.finish(out)
}

/// The relay of daemons in no region that has its own, and the relays of regions.
fn relays(args: &ApiArgs) -> Result<(String, BTreeMap<String, String>), Failure> {
    let (whole, regions) = relays::by_region(&args.relay_url)?;
    let own = || args.region.region.as_ref().and_then(|region| regions.get(region)).cloned();
    let whole = whole.or_else(own).ok_or_else(|| {
        Failure::misuse(anyhow!("no --relay-url is for daemons without a region"))
            .hint("give one --relay-url without a region, or with --region one that has a relay")
    })?;
    Ok((whole, regions))
}

/// Who knows which daemons are online.
fn presence(args: &ApiArgs, env: &Env) -> Result<Arc<dyn Presence>, Failure> {
    if args.relay_admin_url.is_empty() {
        return Ok(Arc::new(NoPresence));
    }
    let admins = relays::admins(&args.relay_admin_url, args.relay_admin_token.as_deref())?;
    let ask = |(url, token)| -> Box<dyn Presence> { Box::new(HttpPresence::new(env.clone(), url, token)) };
    Ok(Arc::new(AnyPresence::new(admins.into_iter().map(ask).collect())))
}

fn describe(line: &ReadyLine<'_>, presence: bool) -> String {
    let mut text = format!("\n{} {}\n\n", "●".green(), "Sideband control plane is up".bold());
    let mut put = |name: &str, value: &str| text.push_str(&format!("  {:<14}{value}\n", name.dimmed()));
    put("API", line.api_url.unwrap_or_default());
    put("relay", line.relay_url);
    put("admin", line.admin_url);
    put("issuer", line.issuer);
    if let Some(credentials) = line.credentials {
        put("daemon id", credentials.daemon_id);
        put("API key", credentials.api_key);
        put("access token", credentials.access_token);
    }
    if let Some(token) = line.admin_token {
        put("admin token", token);
    }
    if let Some(ca) = line.ca {
        put("trust", &ca.display().to_string());
    }
    if let (Some(api), Some(Credentials { daemon_id, api_key, access_token })) = (line.api_url, line.credentials) {
        let trust = world::trust_flag(line.ca);
        let (here, program, relay) = ("This tool, once the relay runs".bold(), world::program(), line.relay_url);
        text.push_str(&format!(
            r#"
  {here}
    SIDEBAND_API_KEY={api_key} {program} daemon \
      --api-url {api} --relay-url {relay}{trust}
    SIDEBAND_ACCESS_TOKEN={access_token} {program} call \
      --api-url {api}{trust} --daemon-id {daemon_id} ping
"#
        ));
    }
    if !presence {
        text.push_str("\n  Nobody knows who is online: give --relay-admin-url for 409 and status\n");
    }
    text
}
