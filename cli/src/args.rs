//! The command line. Every flag has an environment variable `SIDEBAND_SIM_…`; the command line wins.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::anyhow;
use clap::{
    ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, StyledStr, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use crate::{
    commands::{
        accounts::AccountsArgs,
        admin::{DropArgs, KeysArgs, ReadyArgs, ResetArgs},
        api::ApiArgs,
        call::CallArgs,
        daemon::DaemonArgs,
        fault::FaultArgs,
        limits::LimitsArgs,
        regions::RegionsArgs,
        relay::RelayArgs,
        scenario::ScenarioArgs,
        status::StatusArgs,
        up::UpArgs,
    },
    failure::Failure,
    output, values,
};

const EXAMPLES: &str = "\
Examples:
  sideband-sim up                         a whole cloud on 127.0.0.1:7600
  sideband-sim up --daemon                the same, with an echo daemon to talk to
  sideband-sim demo                       see it all work, in two seconds
  sideband-sim call --code abcd-efgh-ijkl ping

Exit codes:
  0  good
  1  the thing under test failed
  2  wrong use or configuration
  3  could not run (port taken, target not there)

Environment:
  SIDEBAND_LOG   what is logged to stderr, as a tracing filter [default: warn]
  NO_COLOR       no colours, unless --color always";

/// A Sideband cloud on your laptop: relay, control plane, daemon and client.
#[derive(Debug, Parser)]
#[command(name = "sideband-sim", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Print NDJSON on stdout, one event a line, and nothing else there
    #[arg(long, global = true, env = "SIDEBAND_SIM_JSON", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue, hide_env_values = true)]
    pub(crate) json: bool,
    /// Log more to stderr: -v info, -vv debug, -vvv trace
    #[arg(short, long, global = true, env = "SIDEBAND_SIM_VERBOSE", action = ArgAction::Count, hide_env_values = true)]
    pub(crate) verbose: u8,
    /// Print results only, and log errors only
    #[arg(short, long, global = true, env = "SIDEBAND_SIM_QUIET", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue, hide_env_values = true)]
    pub(crate) quiet: bool,
    /// Also trust the certificate authorities in this PEM file, such as the one that `up --tls` names
    #[arg(long, global = true, env = "SIDEBAND_SIM_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// When to use colours: auto, always or never
    #[arg(
        long,
        global = true,
        env = "SIDEBAND_SIM_COLOR",
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole cloud on one port: relay, control plane and admin API
    Up(UpArgs),
    /// Run the control plane alone
    Api(ApiArgs),
    /// Run the relay alone
    Relay(RelayArgs),
    /// Tell whether a cloud answers; for scripts and health checks
    Ready(ReadyArgs),
    /// Show a cloud, a daemon and a client at work, in one process
    #[command(after_help = "Example:\n  sideband-sim demo && echo it works")]
    Demo,
    /// Run an echo daemon on any cloud
    Daemon(DaemonArgs),
    /// Call a method of a daemon and print the result
    Call(CallArgs),
    /// Show the daemons, sessions, counters, accounts, grades and faults of a running cloud
    Status(StatusArgs),
    /// Show or change the faults of a running cloud
    Fault(FaultArgs),
    /// Show or change the limits of running servers
    Limits(LimitsArgs),
    /// Show, make and remove users, daemons, API keys, access tokens and grants
    Accounts(AccountsArgs),
    /// Show or change which relay serves which region
    Regions(RegionsArgs),
    /// Show or rotate the keys that sign tokens
    Keys(KeysArgs),
    /// Cut the socket of a daemon, or of a session's client, as if its line broke
    Drop(DropArgs),
    /// Bring a running cloud to the state after its start
    Reset(ResetArgs),
    /// Run deterministic scenarios: one seed, many seeds, pictures, and the smallest one that still fails
    Scenario(ScenarioArgs),
}

/// What came of reading the command line.
pub(crate) enum Parsed {
    /// Run this.
    Run(Box<Cli>),
    /// Help or an error was printed; exit.
    Said(ExitCode),
}

/// Reads the command line. Help goes to stdout, errors to stderr with exit code 2, and with `--json` to stdout as well.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Parsed {
    let args: Vec<OsString> = args.into_iter().collect();
    let read = with_careful_variables(Cli::command()).try_get_matches_from(&args).and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        settle(&mut cli, &matches)?;
        Ok(Box::new(cli))
    });
    match read {
        Ok(cli) => Parsed::Run(cli),
        Err(error) => {
            let error = careful(error, &args);
            if error.use_stderr() && wants_json(&args) {
                output::say_early(&as_failure(&error).event());
            }
            output::say_usage(&error.render().ansi().to_string(), error.use_stderr(), color_of(&args));
            Parsed::Said(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)))
        }
    }
}

/// What depends on whether a flag stands on the command line or in the environment.
fn settle(cli: &mut Cli, matches: &ArgMatches) -> Result<(), clap::Error> {
    match overruled(matches, [("quiet", cli.global.quiet), ("verbose", cli.global.verbose > 0)])? {
        Some("quiet") => cli.global.quiet = false,
        Some(_) => cli.global.verbose = 0,
        None => {}
    }
    let given = matches.subcommand().map(|(_, given)| given);
    match (&mut cli.command, given) {
        (Command::Call(call), Some(given)) => {
            let on_the_line = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
            call.code_given = on_the_line("code");
            call.account_given = on_the_line("daemon_id") || on_the_line("access_token");
        }
        (Command::Keys(keys), Some(given)) => {
            if let (Some(rotate), Some((_, given))) = (keys.rotate(), given.subcommand()) {
                match overruled(given, [("hard", rotate.hard), ("overlap", rotate.overlap.is_some())])? {
                    Some("hard") => rotate.hard = false,
                    Some(_) => rotate.overlap = None,
                    None => {}
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Of two flags that exclude each other, the one in the environment that gives way to the one on the command line.
fn overruled<'a>(given: &ArgMatches, flags: [(&'a str, bool); 2]) -> Result<Option<&'a str>, clap::Error> {
    let [(one, true), (other, true)] = flags else { return Ok(None) };
    let on_the_line = |id| given.value_source(id) == Some(ValueSource::CommandLine);
    match (on_the_line(one), on_the_line(other)) {
        (true, false) => Ok(Some(other)),
        (false, true) => Ok(Some(one)),
        (true, true) => {
            Err(Cli::command().error(ErrorKind::ArgumentConflict, format!("'--{one}' cannot be used with '--{other}'")))
        }
        (false, false) => {
            let [one, other] = [one, other].map(|id| format!("SIDEBAND_SIM_{}", id.to_uppercase()));
            Err(Cli::command().error(ErrorKind::ArgumentConflict, format!("{one} cannot be used with {other}")))
        }
    }
}

/// An error of clap's that also names the variable where a wrong value stands, and shows no password of a URL.
fn careful(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let texts: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, text.clone())),
            _ => None,
        })
        .collect();
    for (kind, text) in &texts {
        let shown = values::without_user_info(text);
        if shown != text.as_str() {
            error.insert(*kind, ContextValue::String(shown.into_owned()));
            // What clap suggests may repeat it.
            error.remove(ContextKind::Suggested);
        }
    }
    let wrong = texts.iter().find(|(kind, _)| *kind == ContextKind::InvalidArg);
    if matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue)
        && let Some((_, flag)) = wrong
        && let Some(variable) = variable_behind(flag, args)
    {
        let tip = StyledStr::from(format!("correct {variable} in the environment, or unset it"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// The variable that a flag's value came from, the flag written as clap does: `--addr <ADDR>`.
fn variable_behind(flag: &str, args: &[OsString]) -> Option<String> {
    fn find<'a>(command: &'a clap::Command, flag: &str) -> Option<&'a clap::Arg> {
        let here = command.get_arguments().find(|arg| arg.to_string() == flag);
        here.or_else(|| command.get_subcommands().find_map(|command| find(command, flag)))
    }
    let mut command = Cli::command();
    command.build();
    let arg = find(&command, flag)?;
    let long = format!("--{}", arg.get_long()?);
    let on_the_line = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .any(|text| text.strip_prefix(&long).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')));
    let variable = arg.get_env().filter(|_| !on_the_line)?;
    std::env::var_os(variable).filter(|value| !value.is_empty())?;
    variable.to_str().map(str::to_owned)
}

/// An error of clap's as all commands fail: its first paragraph, and its tips as hints.
fn as_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first: Vec<&str> = paragraphs.next().unwrap_or_default().lines().map(str::trim).collect();
    let message = first.join(" ");
    let failure = Failure::misuse(anyhow!("{}", message.strip_prefix("error: ").unwrap_or(&message)));
    let tips = paragraphs.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: "));
    tips.fold(failure, |failure, tip| failure.hint(tip))
}

/// A variable that is empty is as good as none: that is how compose files leave one out. One that may hold a user name and
/// a password is not shown in help.
fn with_careful_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => arg.env(None::<&str>),
        Some(value) if value.to_string_lossy().contains('@') => arg.hide_env_values(true),
        Some(_) | None => arg,
    });
    command.mut_subcommands(with_careful_variables)
}

/// `--color` before the command line is understood, for help and errors.
fn color_of(args: &[OsString]) -> Color {
    let texts: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let after = texts.iter().position(|arg| *arg == "--color").and_then(|at| texts.get(at + 1)).copied();
    let given = after.or_else(|| texts.iter().find_map(|arg| arg.strip_prefix("--color=")));
    given.and_then(|text| Color::from_str(text, true).ok()).unwrap_or(Color::Auto)
}

/// `--json` before the command line is understood, for errors.
fn wants_json(args: &[OsString]) -> bool {
    let says_yes =
        |value: OsString| BoolishValueParser::new().parse_ref(&Cli::command(), None, &value).unwrap_or(false);
    args.iter().any(|arg| arg == "--json") || std::env::var_os("SIDEBAND_SIM_JSON").is_some_and(says_yes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// [`variable_behind`] knows a flag by how clap writes it.
    #[test]
    fn flags_of_the_same_name_have_the_same_environment_variable() {
        fn walk(command: &clap::Command, seen: &mut BTreeMap<String, OsString>) {
            for flag in command.get_arguments() {
                let Some(env) = flag.get_env() else { continue };
                assert_eq!(seen.entry(flag.to_string()).or_insert_with(|| env.to_owned()), env, "{flag}");
            }
            command.get_subcommands().for_each(|command| walk(command, seen));
        }
        let mut command = Cli::command();
        command.build();
        walk(&command, &mut BTreeMap::new());
    }

    /// Every flag of a server stands in the README's table, with the servers that have it, and its variable has its name.
    #[test]
    fn the_readme_lists_every_flag_of_the_servers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let table = readme.split_once("| flag | of | what |\n").unwrap().1.split("\n\n").next().unwrap();
        let mut listed = BTreeMap::<String, Vec<&str>>::new();
        for row in table.lines().skip(1) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let flags = cells[1].split(", ").map(|flag| flag.trim_matches('`').split(' ').next().unwrap_or_default());
            let servers: Vec<&str> = cells[2].split(' ').map(|server| server.trim_matches('`')).collect();
            flags.for_each(|flag| drop(listed.insert(flag.to_owned(), servers.clone())));
        }
        let mut command = Cli::command();
        command.build();
        let mut there = BTreeMap::<String, Vec<&str>>::new();
        for server in ["up", "api", "relay"] {
            let flags = command.find_subcommand(server).unwrap().get_arguments();
            for flag in flags.filter(|flag| !flag.is_global_set() && flag.get_id() != "help") {
                let long = flag.get_long().unwrap();
                there.entry(format!("--{long}")).or_default().push(server);
                let wanted = format!("SIDEBAND_SIM_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(&*wanted));
            }
        }
        assert_eq!(listed, there);
    }

    /// Every flag has an environment variable, and those of secrets are not shown in help.
    #[test]
    fn every_flag_has_an_environment_variable() {
        fn walk(command: &clap::Command) {
            for flag in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let id = flag.get_id().as_str();
                if matches!(id, "help" | "version") {
                    continue;
                }
                let env = flag.get_env().and_then(|env| env.to_str()).unwrap_or_default();
                assert!(env.starts_with("SIDEBAND_SIM_"), "{} --{id}: {env:?}", command.get_name());
                if ["token", "key", "code"].iter().any(|word| id.contains(word))
                    && !["code_ttl", "tls_key", "key_overlap"].contains(&id)
                {
                    assert!(flag.is_hide_env_values_set(), "{} --{id} shows its value", command.get_name());
                }
            }
            command.get_subcommands().for_each(walk);
        }
        let mut command = Cli::command();
        command.build();
        walk(&command);
    }
}
