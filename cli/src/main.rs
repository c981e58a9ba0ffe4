//! `sideband-sim`: a Sideband cloud on your laptop, with a daemon and a client to try it.
//!
//! | module | what |
//! |---|---|
//! | `args`, `values` | the command line, and what its values mean |
//! | `output` | the only way to stdout and stderr |
//! | `failure`, `explain` | how a command fails, with which exit code, and what to do then |
//! | `commands` | one module a command |
//! | `echo` | the methods of the echo daemon |
//! | `exposure`, `apart` | who may reach a server; relay and control plane as processes of their own |
//! | `options`, `relays`, `faults`, `preset` | limits, regions and faults that servers begin with |
//! | `ready` | the ready line of servers, and the proof before it |
//! | `journal`, `quick_connect`, `signals`, `world` | event lines, codes as pictures, SIGINT and SIGTERM, the real world |
//!
//! Exit codes: 0 good, 1 the thing under test failed, 2 wrong use or configuration, 3 could not run.

mod apart;
mod args;
mod commands;
mod echo;
mod explain;
mod exposure;
mod failure;
mod faults;
mod journal;
mod options;
mod output;
mod preset;
mod quick_connect;
mod ready;
mod relays;
mod signals;
mod tls;
mod trace;
mod values;
mod world;

use std::{process::ExitCode, time::Duration};

use anyhow::anyhow;

use crate::{
    args::{Cli, Command, Parsed},
    commands::{accounts, admin, api, call, daemon, demo, fault, limits, regions, relay, scenario, status, up},
    failure::Failure,
    output::Output,
};

/// How long tasks may take to end after the command has ended.
const LINGER: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Parsed::Run(cli) => cli,
        Parsed::Said(code) => return code,
    };
    let out = Output::new(&cli.global);
    if let Some(file) = &cli.global.ca {
        world::trust(file.clone());
    }
    let ended = output::start_logging(&cli.global, &out).and_then(|()| {
        let started = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        started.map_err(|error| Failure::cannot_run(anyhow!("cannot start: {error}")))
    });
    match ended {
        Ok(runtime) => {
            let code = runtime.block_on(async {
                // Boxed: the commands' futures are large.
                let ended = Box::pin(run(*cli, &out)).await;
                out.ended(ended).await
            });
            // A write that nobody reads must not hold the process.
            runtime.shutdown_timeout(LINGER);
            code
        }
        Err(failure) => {
            if out.is_json() {
                output::say_early(&failure.event());
            }
            out.failed(&failure)
        }
    }
}

async fn run(cli: Cli, out: &Output) -> Result<(), Failure> {
    match cli.command {
        Command::Up(args) => up::run(args, out).await,
        Command::Api(args) => api::run(args, out).await,
        Command::Relay(args) => relay::run(args, out).await,
        Command::Ready(args) => admin::ready(args, out).await,
        Command::Demo => demo::run(out).await,
        Command::Daemon(args) => daemon::run(args, out).await,
        Command::Call(args) => call::run(args, out).await,
        Command::Status(args) => status::status(args, out).await,
        Command::Fault(args) => fault::fault(args, out).await,
        Command::Limits(args) => limits::limits(args, out).await,
        Command::Accounts(args) => accounts::accounts(args, out).await,
        Command::Regions(args) => regions::regions(args, out).await,
        Command::Keys(args) => admin::keys(args, out).await,
        Command::Drop(args) => admin::drop_socket(args, out).await,
        Command::Reset(args) => admin::reset(args, out).await,
        Command::Scenario(args) => scenario::run(args, out).await,
    }
}
