//! `ready`, `keys`, `drop` and `reset`: callers of the admin API.

use std::time::Duration;

use anyhow::anyhow;
use clap::{ArgAction, Args, Subcommand, builder::BoolishValueParser};
use owo_colors::OwoColorize;
use serde::Serialize;
use sideband::{SessionId, env::Env};
use sideband_sim_kit::admin::{AdminClient, KeyInfo, Keys, Ready, RotateKeys};
use url::Url;

use crate::{
    explain,
    failure::{Details, Failure},
    output::Output,
    signals::Signals,
    values, world,
};

/// Time between two questions of `ready --wait`.
const EVERY: Duration = Duration::from_millis(100);

/// Which servers to ask.
#[derive(Debug, Args)]
pub(super) struct Servers {
    /// A server's admin API, or the server; may be given several times, for `api` and `relay` apart
    #[arg(long, env = "SIDEBAND_SIM_ADMIN_URL", value_name = "URL", default_value = "http://127.0.0.1:7600/__sim", value_delimiter = ',', value_parser = values::admin_url)]
    admin_url: Vec<Url>,
    /// What the admin API asks for, if it does; also SIDEBAND_SIM_ADMIN_TOKEN_FILE
    #[arg(long, env = "SIDEBAND_SIM_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
}

/// One server and what it serves.
pub(super) struct Asked {
    pub(super) url: Url,
    pub(super) client: AdminClient,
}

impl Servers {
    pub(super) fn clients(&self, env: &Env) -> Result<Vec<Asked>, Failure> {
        let token = values::admin_token(self.admin_token.as_deref())?;
        let client = |url: &Url| AdminClient::new(env.clone(), url.clone(), token.clone());
        Ok(self.admin_url.iter().map(|url| Asked { url: url.clone(), client: client(url) }).collect())
    }

    /// The servers that serve this part.
    pub(super) async fn serving(&self, part: &str) -> Result<Vec<Asked>, Failure> {
        let mut serving = Vec::new();
        for asked in self.clients(&world::real()?)? {
            if asked.ready().await?.serves.iter().any(|served| served == part) {
                serving.push(asked);
            }
        }
        if serving.is_empty() {
            let urls: Vec<&str> = self.admin_url.iter().map(Url::as_str).collect();
            return Err(Failure::misuse(anyhow!("{} serves no {part}", urls.join(", ")))
                .hint(format!("give the {part}'s with --admin-url")));
        }
        Ok(serving)
    }
}

impl Asked {
    pub(super) async fn ready(&self) -> Result<Ready, Failure> {
        self.client.ready().await.map_err(|error| explain::admin(error, &self.url))
    }
}

// ---- ready

/// Flags of `ready`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim ready                                    exit code 0 if a cloud answers, else 3
  sideband-sim ready --wait --timeout 60s && ./tests    wait until it does
  sideband-sim ready --wait --admin-url http://127.0.0.1:7600 --admin-url http://127.0.0.1:7601")]
pub(crate) struct ReadyArgs {
    /// Wait until it answers
    #[arg(long, env = "SIDEBAND_SIM_WAIT", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    wait: bool,
    /// How long to wait
    #[arg(long, env = "SIDEBAND_SIM_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    timeout: Duration,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadyLine<'a> {
    event: &'static str,
    admin_url: &'a str,
    serves: &'a [String],
}

/// Says whether every server answers.
pub(crate) async fn ready(args: ReadyArgs, out: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new(out)?;
    for asked in args.servers.clients(&world::real()?)? {
        let ready = tokio::select! {
            biased;
            () = signals.next() => return Err(Failure::failed(anyhow!("interrupted"))),
            ready = until_ready(&args, &asked) => ready?,
        };
        let line = ReadyLine { event: "ready", admin_url: asked.url.as_str(), serves: &ready.serves };
        out.say(&line, || format!("ready: {} ({})", line.admin_url, line.serves.join(", "))).await;
    }
    Ok(())
}

async fn until_ready(args: &ReadyArgs, asked: &Asked) -> Result<Ready, Failure> {
    if !args.wait {
        return asked.ready().await;
    }
    let mut last = None;
    let answered = async {
        loop {
            match asked.ready().await {
                Ok(ready) => return Ok(ready),
                // Whoever is refused stays refused.
                Err(failure) if failure.exit() == crate::failure::Exit::Misuse => return Err(failure),
                Err(failure) => last = Some(failure),
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    let answered = tokio::time::timeout(args.timeout, answered).await;
    answered.unwrap_or_else(|_| {
        let last = last.map_or_else(|| "no answer".to_owned(), |failure| failure.message());
        Err(Failure::cannot_run(anyhow!("{} was not ready within {:?}: {last}", asked.url, args.timeout))
            .hint("start a cloud with `sideband-sim up`, or say where one is with --admin-url"))
    })
}

// ---- keys

/// Flags of `keys`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim keys list
  sideband-sim keys rotate           tokens of the old key stay good until they expire
  sideband-sim keys rotate --hard    they are refused from now on")]
pub(crate) struct KeysArgs {
    /// What to do with them.
    #[command(subcommand)]
    what: KeysCommand,
}

impl KeysArgs {
    /// What to do is to rotate, with these flags.
    pub(crate) fn rotate(&mut self) -> Option<&mut RotateArgs> {
        match &mut self.what {
            KeysCommand::Rotate(rotate) => Some(rotate),
            KeysCommand::List(_) => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Show the published keys
    List(ListArgs),
    /// Make a new key sign
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    servers: Servers,
}

/// Flags of `keys rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Stop publishing the old keys at once: tokens that they signed are refused
    #[arg(long, env = "SIDEBAND_SIM_HARD", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) hard: bool,
    /// How long the old key stays published, instead of --hard [default: until its tokens have expired]
    #[arg(long, env = "SIDEBAND_SIM_OVERLAP", value_name = "TIME", value_parser = values::whole_seconds)]
    pub(crate) overlap: Option<Duration>,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeysLine<'a> {
    event: &'static str,
    admin_url: &'a str,
    keys: &'a [KeyInfo],
}

/// Shows or rotates the signing keys.
pub(crate) async fn keys(args: KeysArgs, out: &Output) -> Result<(), Failure> {
    let (servers, rotate) = match args.what {
        KeysCommand::List(list) => (list.servers, None),
        KeysCommand::Rotate(rotate) => {
            let overlap_seconds = rotate.overlap.map(|overlap| overlap.as_secs());
            (rotate.servers, Some(RotateKeys { hard: rotate.hard, overlap_seconds }))
        }
    };
    for asked in servers.serving("api").await? {
        let answer = match rotate {
            Some(rotate) => asked.client.rotate_keys(rotate).await,
            None => asked.client.keys().await,
        };
        let Keys { keys } = answer.map_err(|error| explain::admin(error, &asked.url))?;
        let line = KeysLine { event: "keys", admin_url: asked.url.as_str(), keys: &keys };
        out.say(&line, || keys.iter().map(describe_key).collect()).await;
    }
    Ok(())
}

fn describe_key(key: &KeyInfo) -> String {
    let state = match &key.published_until {
        _ if key.current => "signs".green().to_string(),
        Some(until) => format!("published until {until}").dimmed().to_string(),
        None => String::new(),
    };
    format!("{}  {state}\n", key.kid)
}

// ---- drop

/// Flags of `drop`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim drop d_4fTq…            the daemon's socket: its sessions pause, and resume when it is back
  sideband-sim drop 01f3a5c7e9b2d4f6   the socket of a session's client: its session ends")]
pub(crate) struct DropArgs {
    /// A daemon's id, or a session's (16 hex digits); `status` shows them
    #[arg(value_name = "DAEMON_OR_SESSION")]
    what: String,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DroppedLine<'a> {
    event: &'static str,
    admin_url: &'a str,
    dropped: &'a str,
}

/// Cuts a socket.
pub(crate) async fn drop_socket(args: DropArgs, out: &Output) -> Result<(), Failure> {
    let session = args.what.parse::<SessionId>().ok();
    for asked in args.servers.serving("relay").await? {
        let dropped = match session {
            Some(session) => asked.client.drop_session(session).await,
            None => asked.client.drop_daemon(&args.what).await,
        };
        if dropped.map_err(|error| explain::admin(error, &asked.url))? {
            let line = DroppedLine { event: "dropped", admin_url: asked.url.as_str(), dropped: &args.what };
            out.say(&line, || format!("dropped {}", args.what)).await;
            return Ok(());
        }
    }
    let what = if session.is_some() { "there is no session" } else { "no daemon is connected as" };
    let details = Details { code: Some("not_found".to_owned()), status: Some(404), ..Details::default() };
    Err(Failure::failed(anyhow!("{what} {}", args.what))
        .details(details)
        .hint("`sideband-sim status` shows what is there"))
}

// ---- reset

/// Flags of `reset`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every WebSocket is closed, and then accounts, credentials, codes, keys, limits, faults, counters, grades and events are
those of the start of this process. With --state that is what the file kept then: users of earlier runs stay, and what they
revoked stays revoked. Session ids and codes that were used stay used.

Examples:
  sideband-sim reset
  sideband-sim reset --admin-url http://127.0.0.1:7600 --admin-url http://127.0.0.1:7601   api and relay apart")]
pub(crate) struct ResetArgs {
    #[command(flatten)]
    servers: Servers,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResetLine<'a> {
    event: &'static str,
    admin_url: &'a str,
}

/// Brings every server to the state after its start.
pub(crate) async fn reset(args: ResetArgs, out: &Output) -> Result<(), Failure> {
    for asked in args.servers.clients(&world::real()?)? {
        asked.client.reset().await.map_err(|error| explain::admin(error, &asked.url))?;
        let line = ResetLine { event: "reset", admin_url: asked.url.as_str() };
        out.say(&line, || format!("reset {}: everything is as after the start", line.admin_url)).await;
    }
    Ok(())
}
