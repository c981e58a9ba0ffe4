//! The command line. Every flag has an environment variable `SIDEBAND_SIM_…`; the command line wins.

use std::{ffi::OsString, process::ExitCode};

use clap::{
    ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, builder::BoolishValueParser,
    parser::ValueSource,
};

use crate::{
    commands::{
        admin::{DropArgs, KeysArgs, ReadyArgs, StatusArgs},
        api::ApiArgs,
        call::CallArgs,
        daemon::DaemonArgs,
        relay::RelayArgs,
        up::UpArgs,
    },
    output,
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
    #[arg(short, long, global = true, env = "SIDEBAND_SIM_QUIET", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue, conflicts_with = "verbose", hide_env_values = true)]
    pub(crate) quiet: bool,
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
    /// Show the daemons, sessions, counters and accounts of a running cloud
    Status(StatusArgs),
    /// Show or rotate the keys that sign tokens
    Keys(KeysArgs),
    /// Cut the socket of a daemon, or of a session's client, as if its line broke
    Drop(DropArgs),
}

/// What came of reading the command line.
pub(crate) enum Parsed {
    /// Run this.
    Run(Box<Cli>),
    /// Help or an error was printed; exit.
    Said(ExitCode),
}

/// Reads the command line. Help goes to stdout, errors to stderr with exit code 2.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Parsed {
    let args: Vec<OsString> = args.into_iter().collect();
    let color = color_of(&args);
    let read = without_empty_variables(Cli::command()).try_get_matches_from(args).and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        if let (Command::Call(call), Some(("call", given))) = (&mut cli.command, matches.subcommand()) {
            let on_the_line = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
            call.code_given = on_the_line("code");
            call.account_given = on_the_line("daemon_id") || on_the_line("access_token");
        }
        Ok(Box::new(cli))
    });
    match read {
        Ok(cli) => Parsed::Run(cli),
        Err(error) => {
            output::say_usage(&error.render().ansi().to_string(), error.use_stderr(), color);
            Parsed::Said(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)))
        }
    }
}

/// A variable that is empty is as good as none: that is how compose files leave one out.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(None::<&str>) } else { arg }
    });
    command.mut_subcommands(without_empty_variables)
}

/// `--color` before the command line is understood, for help and errors.
fn color_of(args: &[OsString]) -> Color {
    let texts: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let after = texts.iter().position(|arg| *arg == "--color").and_then(|at| texts.get(at + 1)).copied();
    let given = after.or_else(|| texts.iter().find_map(|arg| arg.strip_prefix("--color=")));
    given.and_then(|text| Color::from_str(text, true).ok()).unwrap_or(Color::Auto)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
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
                if ["token", "key", "code"].iter().any(|word| id.contains(word)) && id != "code_ttl" {
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
