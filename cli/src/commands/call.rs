//! `call`: connects, calls one method, prints the result.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use sideband::{
    Account, CallOptions, Client, Error, QuickConnect, RetryMode, RetryPolicy,
    env::{Env, Timeline},
    protocol::peer::CallError,
};

use crate::{
    explain::{self, Who},
    failure::{Details, Failure},
    output::Output,
    signals::Signals,
    values::{self, ACCESS_TOKEN, API_URL, DAEMON_ID, DEFAULT_API, Found, QUICK_CONNECT, RELAY_URL},
    world,
};

/// How long connecting and calling may take together, with one attempt.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The same with more: the delays of the SDK's own five retries are 31 s.
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  sideband-sim call --code abcd-efgh-ijkl ping
  sideband-sim call --daemon-id d_… add '{\"a\":1,\"b\":2}'       # with SIDEBAND_ACCESS_TOKEN
  sideband-sim call --retries 5 --code abcd-efgh-ijkl ping                 # where faults refuse the first attempts

Environment, each also as …_FILE:
  SIDEBAND_API_URL, SIDEBAND_RELAY_URL, SIDEBAND_DAEMON_ID, SIDEBAND_ACCESS_TOKEN, SIDEBAND_QUICK_CONNECT

Exit code 1 if the call or the connection was refused or failed, 3 if there was nothing to connect to.";

/// Flags of `call`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CallArgs {
    /// The method
    method: String,
    /// Its params
    #[arg(value_name = "JSON", value_parser = json)]
    params: Option<Box<RawValue>>,
    /// The control plane, or SIDEBAND_API_URL [default: http://127.0.0.1:7600]
    #[arg(long, env = "SIDEBAND_SIM_API_URL", value_name = "URL")]
    api_url: Option<String>,
    /// The relay, or SIDEBAND_RELAY_URL [default: the one that the control plane names]
    #[arg(long, env = "SIDEBAND_SIM_RELAY_URL", value_name = "URL")]
    relay_url: Option<String>,
    /// The daemon, or SIDEBAND_DAEMON_ID; with --access-token
    #[arg(long, env = "SIDEBAND_SIM_DAEMON_ID", value_name = "ID")]
    daemon_id: Option<String>,
    /// The user's access token, or SIDEBAND_ACCESS_TOKEN, or SIDEBAND_ACCESS_TOKEN_FILE, so that it does not stand in the process list
    #[arg(long, env = "SIDEBAND_SIM_ACCESS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    access_token: Option<String>,
    /// A Quick Connect code or link, or SIDEBAND_QUICK_CONNECT; instead of --daemon-id and --access-token
    #[arg(long, env = "SIDEBAND_SIM_QUICK_CONNECT", value_name = "CODE", hide_env_values = true)]
    code: Option<String>,
    /// Try to connect again so many times at most, after 1 s, 2 s, 4 s, … as the SDK does
    #[arg(long, env = "SIDEBAND_SIM_RETRIES", value_name = "N", default_value_t = 0)]
    retries: u32,
    /// How long connecting and calling may take together [default: 15s; with --retries 2m]
    #[arg(long, env = "SIDEBAND_SIM_TIMEOUT", value_name = "TIME", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// Whether the code stands on the command line, and not in the environment.
    #[arg(skip)]
    pub(crate) code_given: bool,
    /// Whether the daemon or the access token do.
    #[arg(skip)]
    pub(crate) account_given: bool,
}

impl CallArgs {
    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(if self.retries == 0 { TIMEOUT } else { RETRY_TIMEOUT })
    }

    /// One attempt unless asked otherwise: whoever calls from a shell wants to know, not to wait.
    fn retry(&self) -> RetryPolicy {
        match self.retries {
            0 => RetryPolicy { mode: RetryMode::Never, ..RetryPolicy::default() },
            retries => RetryPolicy { max_retries: retries, ..RetryPolicy::default() },
        }
    }
}

fn json(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.to_owned()).map_err(|error| format!("it is not JSON: {error}"))
}

/// The result as JSON.
#[derive(Serialize)]
struct ResultLine<'a> {
    event: &'static str,
    method: &'a str,
    result: &'a RawValue,
    ms: u64,
}

/// How to connect.
enum Way {
    Account { daemon_id: String, access_token: Found },
    Code(Found),
}

impl Way {
    fn who(&self) -> Who {
        match self {
            Self::Account { .. } => Who::Account,
            Self::Code(_) => Who::Code,
        }
    }
}

/// Connects, calls, prints.
pub(crate) async fn run(args: CallArgs, out: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new(out)?;
    let way = way(&args)?;
    let who = way.who();
    let (client, env, api) = connect(&args, way)?;
    let ended = tokio::select! {
        biased;
        () = signals.next() => Err(None),
        ended = call(&args, &client, who, out) => ended.map_err(Some),
    };
    // A relay that does not answer must not hold us.
    let _ = tokio::time::timeout(GOODBYE, client.close()).await;
    match ended {
        Ok(()) => Ok(()),
        Err(None) => Err(Failure::failed(anyhow!("interrupted"))),
        Err(Some(failure)) if args.retries == 0 => {
            let more = Some("`call` tries once; `--retries 5` tries again as clients do");
            Err(explain::with_faults(failure, &env, &api, more).await)
        }
        Err(Some(failure)) => Err(explain::with_faults(failure, &env, &api, None).await),
    }
}

/// The command line decides; where it says nothing, the account does if it is whole.
fn way(args: &CallArgs) -> Result<Way, Failure> {
    if args.code_given && args.account_given {
        return Err(Failure::misuse(anyhow!("--code stands instead of --daemon-id and --access-token"))
            .hint("give one or the other"));
    }
    let code = QUICK_CONNECT.find(args.code.as_deref())?;
    let daemon_id = DAEMON_ID.find(args.daemon_id.as_deref())?;
    let access_token = ACCESS_TOKEN.find(args.access_token.as_deref())?;
    if args.code_given
        && let Some(code) = code
    {
        return Ok(Way::Code(code));
    }
    match (daemon_id, access_token, code) {
        (Some(daemon_id), Some(access_token), _) => Ok(Way::Account { daemon_id: daemon_id.text, access_token }),
        (_, _, Some(code)) if !args.account_given => Ok(Way::Code(code)),
        (Some(_), None, _) => Err(Failure::misuse(anyhow!("--access-token is missing"))
            .hint("give it with --access-token, SIDEBAND_ACCESS_TOKEN or SIDEBAND_ACCESS_TOKEN_FILE; `sideband-sim up` shows one")),
        (None, Some(_), _) => Err(Failure::misuse(anyhow!("--daemon-id is missing"))
            .hint("give it with --daemon-id or SIDEBAND_DAEMON_ID; `sideband-sim up` shows one")),
        (None, None, _) => Err(Failure::misuse(anyhow!("it is not said whom to call"))
            .hint("give a Quick Connect code with --code, or --daemon-id and --access-token")),
    }
}

/// The client, and where it asks.
fn connect(args: &CallArgs, way: Way) -> Result<(Client, Env, String), Failure> {
    let who = way.who();
    let wrong = |error: Error| explain::sdk(&error, who);
    let api = API_URL.find_url(args.api_url.as_deref(), values::http_url)?;
    let api = api.map_or_else(|| DEFAULT_API.to_owned(), |url| values::text_of(&url));
    let relay = RELAY_URL.find_url(args.relay_url.as_deref(), values::ws_url)?;
    let env = world::real()?;
    let retry = args.retry();
    let client = match way {
        Way::Account { daemon_id, access_token } => {
            let access_token = access_token.credential()?;
            let mut builder = Account::with_token(&api, daemon_id, access_token).map_err(wrong)?;
            if let Some(relay) = relay {
                builder = builder.relay_url(relay.as_str()).map_err(wrong)?;
            }
            builder.retry(retry).env(env.clone()).connect().map_err(wrong)?
        }
        Way::Code(code) => {
            let Found { text, origin } = code;
            let mut builder = QuickConnect::new(&api, &text).map_err(|error| match error {
                Error::Argument { .. } => Failure::misuse(anyhow!("{origin}: {error}")),
                _ => wrong(error),
            })?;
            if let Some(relay) = relay {
                builder = builder.relay_url(relay.as_str()).map_err(wrong)?;
            }
            builder.retry(retry).env(env.clone()).connect().map_err(wrong)?
        }
    };
    Ok((client, env, api))
}

async fn call(args: &CallArgs, client: &Client, who: Who, out: &Output) -> Result<(), Failure> {
    let started = Timeline::start();
    let ready = tokio::time::timeout(args.timeout(), client.when_ready()).await;
    let ready = ready.map_err(|_| {
        let details = Details { code: Some("timeout".to_owned()), ..Details::default() };
        let failure = Failure::failed(anyhow!("no session within {:?}", args.timeout())).details(details);
        failure.hint("check that API, relay and daemon run, or give --timeout more")
    })?;
    ready.map_err(|error| explain::sdk(&error, who))?;
    let options = CallOptions::new().timeout(args.timeout().saturating_sub(started.elapsed()));
    let called = client.call_with::<_, Box<RawValue>>(&args.method, &args.params, options).await;
    let result = match called {
        Ok(result) => result,
        Err(error) => return Err(failed(&error, client, who).await),
    };
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let line = ResultLine { event: "result", method: &args.method, result: &result, ms };
    out.say(&line, || result.get().to_owned()).await;
    Ok(())
}

/// Why a call came to nothing. Where its session ended, the client closes and knows why: it makes no second attempt.
async fn failed(error: &Error, client: &Client, who: Who) -> Failure {
    if let Some(call @ (CallError::NotConnected | CallError::PeerClosed)) = error.call_error()
        && let Ok(reason) = tokio::time::timeout(GOODBYE, client.closed()).await
        && let Some(cause) = Error::Closed(reason).cause()
    {
        return explain::session_over(call, cause, who);
    }
    explain::sdk(error, who)
}
