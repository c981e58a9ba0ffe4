//! `daemon`: an echo daemon on any cloud.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use owo_colors::OwoColorize;
use serde::Serialize;
use sideband::env::{Env, Timeline};
use sideband::{Daemon, Error, QuickConnectCode, Server, ServerEvent, ServerEvents, env::real::OsEntropy, identity};
use sideband_scenarios::cloud::relay_url;

use crate::{
    echo,
    explain::{self, Who},
    failure::Failure,
    journal,
    output::Output,
    quick_connect::{self, CodeEvent},
    signals::Signals,
    values::{self, API_KEY, API_URL, DAEMON_ID, DEFAULT_API, Found, RELAY_URL},
    world,
};

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  SIDEBAND_API_KEY=sbnd_dak_… sideband-sim daemon
  sideband-sim daemon --api-url https://api.example.com --relay-url wss://relay.example.com \\
      --identity ~/.sideband/identity          # with SIDEBAND_API_KEY_FILE=/run/secrets/key

Methods: ping, echo, add {a,b}, boom, sleep {ms}, tick {on}, $sideband/echo, $sideband/info, $sideband/rpc.list

Environment, each also as …_FILE:
  SIDEBAND_API_URL, SIDEBAND_RELAY_URL, SIDEBAND_API_KEY, SIDEBAND_DAEMON_ID";

/// Flags of `daemon`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DaemonArgs {
    /// The control plane, or SIDEBAND_API_URL [default: http://127.0.0.1:7600]
    #[arg(long, env = "SIDEBAND_SIM_API_URL", value_name = "URL")]
    api_url: Option<String>,
    /// The relay, or SIDEBAND_RELAY_URL [default: /relay below the control plane, as `up` has it]
    #[arg(long, env = "SIDEBAND_SIM_RELAY_URL", value_name = "URL")]
    relay_url: Option<String>,
    /// The daemon's API key, or SIDEBAND_API_KEY, or SIDEBAND_API_KEY_FILE, so that it does not stand in the process list
    #[arg(long, env = "SIDEBAND_SIM_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Require that the key belongs to this daemon, or SIDEBAND_DAEMON_ID
    #[arg(long, env = "SIDEBAND_SIM_DAEMON_ID", value_name = "ID")]
    daemon_id: Option<String>,
    /// Keep the identity key in this file, made with mode 0600 if it is not there [default: a new identity each time]
    #[arg(long, env = "SIDEBAND_SIM_IDENTITY", value_name = "FILE")]
    identity: Option<PathBuf>,
    /// How long the Quick Connect code lives, 30s to 1h [default: 5m]
    #[arg(long, env = "SIDEBAND_SIM_CODE_TTL", value_name = "TIME", value_parser = values::code_ttl)]
    code_ttl: Option<Duration>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadyLine<'a> {
    event: &'static str,
    daemon_id: String,
    api_url: &'a str,
    relay_url: &'a str,
    fingerprint: String,
    quick_connect: Option<CodeEvent<'a>>,
}

fn wrong(error: &Error) -> Failure {
    explain::sdk(error, Who::Daemon)
}

/// Runs until SIGINT or SIGTERM; reconnects for ever.
pub(crate) async fn run(args: DaemonArgs, out: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new(out)?;
    let api = API_URL.find_url(args.api_url.as_deref(), values::http_url)?;
    let api = api.map_or_else(|| DEFAULT_API.to_owned(), |url| values::text_of(&url));
    let relay = RELAY_URL.find_url(args.relay_url.as_deref(), values::ws_url)?;
    let relay = relay.map_or_else(|| relay_url(&api), |url| url.as_str().to_owned());
    let api_key = API_KEY.need(args.api_key.as_deref(), "`sideband-sim up` shows one when it starts")?;
    let api_key = api_key.credential()?;
    let required = DAEMON_ID.find(args.daemon_id.as_deref())?;
    let env = world::real()?;
    let mut daemon = Daemon::new(&api, &relay, api_key).map_err(|error| wrong(&error))?.env(env.clone());
    if let Some(id) = &required {
        daemon = daemon.daemon_id(&id.text);
    }
    if let Some(path) = &args.identity {
        daemon = daemon.identity(identity::load_or_create(path, &OsEntropy).map_err(|error| wrong(&error))?);
    }
    let server = echo::start(daemon).map_err(|error| wrong(&error))?;
    let ended = tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        ended = serve(&server, &args, required.as_ref(), &relay, (&api, &env), out) => match ended {
            Ok(()) => Ok(()),
            Err(failure) => Err(explain::with_faults(failure, &env, &api, None).await),
        },
    };
    // A relay that does not answer must not hold us.
    let _ = tokio::time::timeout(GOODBYE, server.close()).await;
    ended
}

async fn serve(
    server: &Server,
    args: &DaemonArgs,
    required: Option<&Found>,
    relay: &str,
    (api, env): (&str, &Env),
    out: &Output,
) -> Result<(), Failure> {
    let timeline = Timeline::start();
    let mut events = server.events();
    let mut told = online(server, &mut events, required, (api, env), out).await?;
    let code = match quick_connect::create(server, args.code_ttl).await {
        Ok(code) => Some(code),
        Err(error) => {
            out.note(format!("note: there is no Quick Connect code: {error}"));
            None
        }
    };
    let line = ReadyLine {
        event: "ready",
        daemon_id: server.daemon_id(),
        api_url: api,
        relay_url: relay,
        fingerprint: server.fingerprint().to_string(),
        quick_connect: code.as_ref().map(CodeEvent::from),
    };
    out.say(&line, || describe(&line, code.as_ref(), out.is_colored())).await;
    while let Some(event) = events.next().await {
        // The ready line tells the first time.
        if !std::mem::replace(&mut told, true) && matches!(event, ServerEvent::Online) {
            continue;
        }
        let (json, text) = journal::daemon(&event);
        out.json(&json).await;
        if !out.is_json() && !out.is_quiet() {
            let millis = u64::try_from(timeline.elapsed().as_millis()).unwrap_or(u64::MAX);
            out.text(&journal::row(millis, "daemon", &text)).await;
        }
        if let ServerEvent::Ended(cause) = event {
            return Err(explain::cause(&cause, Who::Daemon));
        }
    }
    Ok(())
}

/// Waits until it is online for the first time; attempts that fail until then are told on stderr. Says whether the event of
/// that has come already.
async fn online(
    server: &Server,
    events: &mut ServerEvents,
    required: Option<&Found>,
    (api, env): (&str, &Env),
    out: &Output,
) -> Result<bool, Failure> {
    let ended = |error: &Error| match required {
        // DMN-02
        Some(Found { origin, .. }) if error.status() == Some(400) => {
            wrong(error).hint(format!("check {origin}: the API key belongs to another daemon"))
        }
        _ => wrong(error),
    };
    let mut explained = false;
    loop {
        let event = tokio::select! {
            biased;
            Some(event) = events.next() => event,
            online = server.when_online() => return online.map(|()| false).map_err(|error| ended(&error)),
        };
        match event {
            ServerEvent::Online => return Ok(true),
            ServerEvent::Retrying { .. } => {
                let what = journal::daemon(&event).1;
                out.note(format!("not online yet: {what}"));
                if !std::mem::replace(&mut explained, true) {
                    for hint in explain::faults(env, api, &what).await {
                        out.note(format!("  try: {hint}"));
                    }
                }
            }
            ServerEvent::Ended(cause) => return Err(ended(&Error::Failed(cause))),
            _ => {}
        }
    }
}

fn describe(line: &ReadyLine<'_>, code: Option<&QuickConnectCode>, colored: bool) -> String {
    let mut text = format!(
        "\n{} {} {}\n\n  {} {}\n  {} {}\n  {} {}\n\n",
        "●".green(),
        "echo daemon".bold(),
        line.daemon_id.bold(),
        "relay      ".dimmed(),
        line.relay_url,
        "API        ".dimmed(),
        line.api_url,
        "fingerprint".dimmed(),
        line.fingerprint,
    );
    if let Some(code) = code {
        text.push_str(&quick_connect::describe(code, colored));
    }
    text
}
