//! Runs the built binary as its users do: by flags, signals, exit codes and lines. No fixed ports; waits are for lines.

mod accounts;
mod admin;
mod apart;
mod daemon;
mod demo;
mod errors;
mod examples;
mod fault;
mod faults;
mod kill;
mod options;
mod preset;
mod scenario;
mod state;
mod support;
mod tls;
mod trace;
mod up;
