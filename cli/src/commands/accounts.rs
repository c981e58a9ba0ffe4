//! `accounts`: who may use what at a running control plane. Credentials are said once, where they are made; lists have their
//! ids only.

use std::collections::BTreeMap;

use anyhow::anyhow;
use clap::{ArgAction, Args, Subcommand, builder::BoolishValueParser};
use owo_colors::OwoColorize;
use serde::Serialize;
use sideband_sim_kit::admin::{
    Accounts, AdminClient, AdminError,
    accounts::{DaemonSettings, NewDaemon, NewUser, UserChange},
};

use super::admin::{Asked, Servers};
use crate::{
    explain,
    failure::{Details, Failure},
    options,
    output::Output,
};

/// What takes a region or a limit away.
const NONE: &str = "none";

/// Flags of `accounts`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim accounts list                             users, daemons, ids of their credentials, grants
  sideband-sim accounts user add anna --region eu        prints the access token, this once
  sideband-sim accounts daemon add anna d_printer        a daemon of anna's; prints its API key, this once
  sideband-sim accounts key add d_printer                a further API key
  sideband-sim accounts key revoke 3f9a0c2b7d81e645      by its id, as `list` shows it
  sideband-sim accounts grant add ben d_printer          ben may use it as well
  sideband-sim accounts daemon set d_printer --concurrent-sessions 4 --region none
  sideband-sim accounts user remove anna                 with her daemons

What was there at the start is there again after `sideband-sim reset`, and nothing else.")]
pub(crate) struct AccountsArgs {
    /// What to do with them.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show users, daemons, the ids of their credentials, and grants
    List(On),
    /// Make, change and remove users
    #[command(subcommand)]
    User(User),
    /// Make, change and remove daemons
    #[command(subcommand)]
    Daemon(Daemon),
    /// Make and revoke API keys of daemons
    #[command(subcommand)]
    Key(Key),
    /// Make and revoke access tokens of users
    #[command(subcommand)]
    Token(Token),
    /// Let users use daemons of others, or no longer
    #[command(subcommand)]
    Grant(Grant),
}

#[derive(Debug, Args)]
pub(super) struct On {
    #[command(flatten)]
    servers: Servers,
}

#[derive(Debug, Subcommand)]
enum User {
    /// Make a user with an access token
    #[command(after_help = "Example:\n  sideband-sim accounts user add anna --region eu")]
    Add {
        /// Its id: letters, digits, `_`, `-` and `.` [default: a new one]
        #[arg(value_name = "USER")]
        user: Option<String>,
        /// The region of its daemons [default: the control plane's]
        #[arg(long, env = "SIDEBAND_SIM_REGION", value_name = "REGION", value_parser = options::region)]
        region: Option<String>,
        #[command(flatten)]
        on: On,
    },
    /// Change a user
    #[command(after_help = "Example:\n  sideband-sim accounts user set anna --region none")]
    Set {
        /// Its id
        #[arg(value_name = "USER")]
        user: String,
        /// The region of its daemons; `none` takes it away
        #[arg(long, env = "SIDEBAND_SIM_REGION", value_name = "REGION", value_parser = options::region, required = true)]
        region: String,
        #[command(flatten)]
        on: On,
    },
    /// Remove a user, its tokens, its grants and its daemons
    Remove {
        /// Its id
        #[arg(value_name = "USER")]
        user: String,
        #[command(flatten)]
        on: On,
    },
}

#[derive(Debug, Subcommand)]
enum Daemon {
    /// Make a daemon with an API key
    #[command(after_help = "Example:\n  sideband-sim accounts daemon add anna d_printer --name Printer --resumable")]
    Add {
        /// The user that it belongs to
        #[arg(value_name = "OWNER")]
        owner: String,
        /// Its id: letters, digits, `_`, `-` and `.` [default: a new one]
        #[arg(value_name = "DAEMON")]
        daemon: Option<String>,
        /// A name for people [default: none]
        #[arg(long, env = "SIDEBAND_SIM_NAME", value_name = "NAME")]
        name: Option<String>,
        /// Its sessions can be resumed, whatever it says when it renews its token
        #[arg(long, env = "SIDEBAND_SIM_RESUMABLE", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
        resumable: bool,
        /// Its region [default: its owner's]
        #[arg(long, env = "SIDEBAND_SIM_REGION", value_name = "REGION", value_parser = options::region)]
        region: Option<String>,
        /// Most sessions at once [default: the control plane's]
        #[arg(long, env = "SIDEBAND_SIM_CONCURRENT_SESSIONS", value_name = "N", value_parser = options::sessions)]
        concurrent_sessions: Option<u64>,
        #[command(flatten)]
        on: On,
    },
    /// Change a daemon's region or limit of sessions
    #[command(
        after_help = "Example:\n  sideband-sim accounts daemon set d_printer --concurrent-sessions 4 --region none"
    )]
    Set {
        /// Its id
        #[arg(value_name = "DAEMON")]
        daemon: String,
        /// Its region; `none` takes it away
        #[arg(long, env = "SIDEBAND_SIM_REGION", value_name = "REGION", value_parser = options::region, required_unless_present = "concurrent_sessions")]
        region: Option<String>,
        /// Most sessions at once; `none` takes the limit away
        #[arg(long, env = "SIDEBAND_SIM_CONCURRENT_SESSIONS", value_name = "N", value_parser = sessions_or_none)]
        concurrent_sessions: Option<SessionsOrNone>,
        #[command(flatten)]
        on: On,
    },
    /// Remove a daemon, its API keys, its codes and the grants on it
    Remove {
        /// Its id
        #[arg(value_name = "DAEMON")]
        daemon: String,
        #[command(flatten)]
        on: On,
    },
}

#[derive(Debug, Subcommand)]
enum Key {
    /// Make a further API key of a daemon
    Add {
        /// The daemon's id
        #[arg(value_name = "DAEMON")]
        daemon: String,
        #[command(flatten)]
        on: On,
    },
    /// Revoke an API key
    #[command(visible_alias = "remove")]
    Revoke {
        /// The key's id, 16 hex digits as `accounts list` shows it
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        on: On,
    },
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Make a further access token of a user
    Add {
        /// The user's id
        #[arg(value_name = "USER")]
        user: String,
        #[command(flatten)]
        on: On,
    },
    /// Revoke an access token
    #[command(visible_alias = "remove")]
    Revoke {
        /// The token's id, 16 hex digits as `accounts list` shows it
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        on: On,
    },
}

#[derive(Debug, Subcommand)]
enum Grant {
    /// Let a user use a daemon of another
    Add {
        /// The user's id
        #[arg(value_name = "USER")]
        user: String,
        /// The daemon's id
        #[arg(value_name = "DAEMON")]
        daemon: String,
        #[command(flatten)]
        on: On,
    },
    /// Take that back
    #[command(visible_alias = "remove")]
    Revoke {
        /// The user's id
        #[arg(value_name = "USER")]
        user: String,
        /// The daemon's id
        #[arg(value_name = "DAEMON")]
        daemon: String,
        #[command(flatten)]
        on: On,
    },
}

/// A limit of sessions, or that there is none.
#[derive(Debug, Clone, Copy)]
struct SessionsOrNone(Option<u64>);

fn sessions_or_none(text: &str) -> Result<SessionsOrNone, String> {
    if text == NONE {
        return Ok(SessionsOrNone(None));
    }
    options::sessions(text)
        .map(|sessions| SessionsOrNone(Some(sessions)))
        .map_err(|error| format!("{error}, or {NONE}"))
}

/// What is made of a region that is given.
fn region_or_none(region: String) -> Option<String> {
    Some(region).filter(|region| region != NONE)
}

/// A line of JSON: what was done, where, and what the control plane answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a, T> {
    event: &'static str,
    admin_url: &'a str,
    #[serde(flatten)]
    more: T,
}

/// What a line names, by member.
type Named<'a> = BTreeMap<&'static str, &'a str>;

/// The control plane that is asked, and where its answers go.
pub(super) struct Desk<'a> {
    asked: Asked,
    out: &'a Output,
}

impl<'a> Desk<'a> {
    pub(super) async fn at(on: On, out: &'a Output) -> Result<Self, Failure> {
        let mut serving = on.servers.serving("api").await?;
        match (serving.pop(), serving.is_empty()) {
            (Some(asked), true) => Ok(Self { asked, out }),
            _ => Err(Failure::misuse(anyhow!("several of these serve an API"))
                .hint("give the one whose accounts are meant with --admin-url")),
        }
    }

    /// An answer. What is not there, and what is taken, is no matter of the URL.
    fn got<T>(&self, answer: Result<T, AdminError>) -> Result<T, Failure> {
        self.got_with(answer, "`sideband-sim accounts list` shows what is there")
    }

    /// The same, with what helps.
    pub(super) fn got_with<T>(&self, answer: Result<T, AdminError>, hint: &str) -> Result<T, Failure> {
        answer.map_err(|error| match error {
            AdminError::Refused { status: status @ (404 | 409), code, message } if !code.is_empty() => {
                let details = Details { code: Some(code), status: Some(status), ..Details::default() };
                let failure = Failure::failed(anyhow!("{message}")).details(details);
                failure.hint(hint)
            }
            error => explain::admin(error, &self.asked.url),
        })
    }

    pub(super) async fn say(&self, event: &'static str, more: impl Serialize, text: impl FnOnce() -> String) {
        self.out.say(&Line { event, admin_url: self.asked.url.as_str(), more }, text).await;
    }

    async fn say_accounts(&self, accounts: &Accounts) {
        self.say("accounts", accounts, || describe(accounts)).await;
        self.note_unserved(accounts);
    }

    pub(super) fn asked(&self) -> &AdminClient {
        &self.asked.client
    }

    /// Notes regions of accounts that no relay is known to serve.
    pub(super) async fn tell_unserved(&self) -> Result<(), Failure> {
        let accounts = self.got(self.asked.client.accounts().await)?;
        self.note_unserved(&accounts);
        Ok(())
    }

    fn note_unserved(&self, accounts: &Accounts) {
        for region in &accounts.unserved_regions {
            self.out.note(format!(
                "note: no relay is known for the region {region}: tokens of its daemons are refused with 403, unless the relay that \
                 clients are sent to is of that region; `sideband-sim regions set {region} URL` names one"
            ));
        }
    }
}

/// Shows or changes accounts.
pub(crate) async fn accounts(args: AccountsArgs, out: &Output) -> Result<(), Failure> {
    match args.what {
        What::List(on) => {
            let desk = Desk::at(on, out).await?;
            let accounts = desk.got(desk.asked.client.accounts().await)?;
            desk.say_accounts(&accounts).await;
            Ok(())
        }
        What::User(what) => user(what, out).await,
        What::Daemon(what) => daemon(what, out).await,
        What::Key(what) => key(what, out).await,
        What::Token(what) => token(what, out).await,
        What::Grant(what) => grant(what, out).await,
    }
}

async fn user(what: User, out: &Output) -> Result<(), Failure> {
    match what {
        User::Add { user, region, on } => {
            let named = region.is_some();
            let desk = Desk::at(on, out).await?;
            let made = desk.got(
                desk.asked
                    .client
                    .create_user(&NewUser { user_id: user, region: region.and_then(region_or_none) })
                    .await,
            )?;
            let rows =
                [("user", &made.user_id), ("access token", &made.access_token), ("its id", &made.access_token_id)];
            desk.say("user_created", &made, || once(&rows)).await;
            if named {
                desk.tell_unserved().await?;
            }
        }
        User::Set { user, region, on } => {
            let desk = Desk::at(on, out).await?;
            let change = UserChange { region: Some(region_or_none(region)) };
            let accounts = desk.got(desk.asked.client.change_user(&user, &change).await)?;
            desk.say_accounts(&accounts).await;
        }
        User::Remove { user, on } => {
            let desk = Desk::at(on, out).await?;
            let gone = desk.got(desk.asked.client.remove_user(&user).await)?;
            let line = RemovedUser { user_id: &user, daemon_ids: &gone.daemon_ids };
            desk.say("user_removed", line, || match gone.daemon_ids.as_slice() {
                [] => format!("removed {user}"),
                daemons => format!("removed {user}, and its daemons {}", daemons.join(", ")),
            })
            .await;
        }
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RemovedUser<'a> {
    user_id: &'a str,
    daemon_ids: &'a [String],
}

async fn daemon(what: Daemon, out: &Output) -> Result<(), Failure> {
    match what {
        Daemon::Add { owner, daemon, name, resumable, region, concurrent_sessions, on } => {
            let desk = Desk::at(on, out).await?;
            let (daemon_id, region) = (daemon, region.and_then(region_or_none));
            let new =
                NewDaemon { owner, daemon_id, name, identity_public_key: None, resumable, region, concurrent_sessions };
            let made = desk.got(desk.asked.client.create_daemon(&new).await)?;
            let rows = [("daemon", &made.daemon_id), ("API key", &made.api_key), ("its id", &made.api_key_id)];
            desk.say("daemon_created", &made, || once(&rows)).await;
            if new.region.is_some() {
                desk.tell_unserved().await?;
            }
        }
        Daemon::Set { daemon, region, concurrent_sessions, on } => {
            let desk = Desk::at(on, out).await?;
            let settings = DaemonSettings {
                region: region.map(region_or_none),
                concurrent_sessions: concurrent_sessions.map(|SessionsOrNone(limit)| limit),
            };
            let accounts = desk.got(desk.asked.client.change_daemon(&daemon, &settings).await)?;
            desk.say_accounts(&accounts).await;
        }
        Daemon::Remove { daemon, on } => {
            let desk = Desk::at(on, out).await?;
            desk.got(desk.asked.client.remove_daemon(&daemon).await)?;
            let line = Named::from([("daemonId", daemon.as_str())]);
            desk.say("daemon_removed", line, || format!("removed {daemon}")).await;
        }
    }
    Ok(())
}

async fn key(what: Key, out: &Output) -> Result<(), Failure> {
    match what {
        Key::Add { daemon, on } => {
            let desk = Desk::at(on, out).await?;
            let made = desk.got(desk.asked.client.issue_api_key(&daemon).await)?;
            let rows = [("daemon", &daemon), ("API key", &made.api_key), ("its id", &made.api_key_id)];
            let line = Named::from([
                ("daemonId", daemon.as_str()),
                ("apiKey", made.api_key.as_str()),
                ("apiKeyId", made.api_key_id.as_str()),
            ]);
            desk.say("key_created", line, || once(&rows)).await;
        }
        Key::Revoke { id, on } => {
            let desk = Desk::at(on, out).await?;
            desk.got(desk.asked.client.revoke_api_key(&id).await)?;
            let line = Named::from([("apiKeyId", id.as_str())]);
            desk.say("key_revoked", line, || format!("revoked {id}")).await;
        }
    }
    Ok(())
}

async fn token(what: Token, out: &Output) -> Result<(), Failure> {
    match what {
        Token::Add { user, on } => {
            let desk = Desk::at(on, out).await?;
            let made = desk.got(desk.asked.client.issue_access_token(&user).await)?;
            let rows = [("user", &user), ("access token", &made.access_token), ("its id", &made.access_token_id)];
            let line = Named::from([
                ("userId", user.as_str()),
                ("accessToken", made.access_token.as_str()),
                ("accessTokenId", made.access_token_id.as_str()),
            ]);
            desk.say("token_created", line, || once(&rows)).await;
        }
        Token::Revoke { id, on } => {
            let desk = Desk::at(on, out).await?;
            desk.got(desk.asked.client.revoke_access_token(&id).await)?;
            let line = Named::from([("accessTokenId", id.as_str())]);
            desk.say("token_revoked", line, || format!("revoked {id}")).await;
        }
    }
    Ok(())
}

async fn grant(what: Grant, out: &Output) -> Result<(), Failure> {
    let names = |user, daemon| Named::from([("userId", user), ("daemonId", daemon)]);
    match what {
        Grant::Add { user, daemon, on } => {
            let desk = Desk::at(on, out).await?;
            let new = desk.got(desk.asked.client.grant(&user, &daemon).await)?.granted;
            let text = || format!("{user} {} use {daemon}", if new { "may" } else { "could already" });
            desk.say("granted", names(&user, &daemon), text).await;
        }
        Grant::Revoke { user, daemon, on } => {
            let desk = Desk::at(on, out).await?;
            desk.got(desk.asked.client.revoke_grant(&user, &daemon).await)?;
            let text = || format!("{user} may no longer use {daemon}");
            desk.say("grant_revoked", names(&user, &daemon), text).await;
        }
    }
    Ok(())
}

/// What was made, with a credential that is not shown again.
fn once(rows: &[(&str, &String)]) -> String {
    let row = |(name, value): &(&str, &String)| format!("{} {value}\n", format!("{name:<13}").dimmed());
    rows.iter().map(row).chain([format!("{}\n", "The credential is not shown again.".dimmed())]).collect()
}

/// The accounts as two tables.
fn describe(accounts: &Accounts) -> String {
    let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let list = |ids: &[String]| or_none(Some(ids.join(" ").as_str()).filter(|ids| !ids.is_empty()));
    let users = accounts
        .user_accounts
        .iter()
        .map(|user| vec![user.user_id.clone(), or_none(user.region.as_deref()), list(&user.access_token_ids)]);
    let daemons = accounts.daemons.iter().map(|daemon| {
        let sessions = daemon.concurrent_sessions.map(|sessions| sessions.to_string());
        vec![
            daemon.daemon_id.clone(),
            daemon.owner.clone(),
            or_none(daemon.name.as_deref()),
            or_none(daemon.region.as_deref()),
            or_none(sessions.as_deref()),
            if daemon.resumable { "yes" } else { "-" }.to_owned(),
            list(&daemon.api_key_ids),
            list(&daemon.grants),
        ]
    });
    let users = table(&["user", "region", "access token ids"], users.collect());
    let titles = ["daemon", "owner", "name", "region", "sessions", "resumable", "API key ids", "also used by"];
    format!("{users}\n{}", table(&titles, daemons.collect()))
}

/// Rows under a row of titles, each column as wide as its widest cell.
pub(super) fn table(titles: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut widths: Vec<usize> = titles.iter().map(|title| title.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut text = format!("{}\n", line(&mut titles.iter().copied()).dimmed());
    for row in &rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}
