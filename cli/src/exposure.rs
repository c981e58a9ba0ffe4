//! Who may reach a server: this machine only, unless others are let in on purpose.

use std::net::SocketAddr;

use anyhow::anyhow;
use clap::{ArgAction, Args, builder::BoolishValueParser};
use sideband::{env::Env, protocol::api::random_base62};
use sideband_api_sim::OpenError;
use sideband_scenarios::state::StateError;
use sideband_sim_kit::guard::{AdminToken, OriginPolicy};

use crate::{failure::Failure, values};

/// The failure to get a store: a file that does not fit is wrong use, the rest is the machine's.
pub(crate) fn state_failure(error: StateError) -> Failure {
    match error {
        StateError::Open(OpenError::Io { .. } | OpenError::InUse { .. }) | StateError::Store(_) => {
            Failure::cannot_run(error)
        }
        StateError::Open(
            OpenError::NotPlain { .. }
            | OpenError::Exposed { .. }
            | OpenError::Foreign { .. }
            | OpenError::Newer { .. }
            | OpenError::Damaged { .. },
        ) => Failure::misuse(error),
    }
}

/// Flags of every server.
#[derive(Debug, Args)]
pub(crate) struct Exposure {
    /// Let other machines in: needed for every address but loopback. Credentials are then always random, and the admin API asks for a token
    #[arg(long, env = "SIDEBAND_SIM_ALLOW_REMOTE", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    allow_remote: bool,
    /// Also let in web pages of this origin, such as `https://app.example.com`; may be given several times [default: pages on localhost]
    #[arg(long, env = "SIDEBAND_SIM_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    allow_origin: Vec<String>,
    /// What the admin API asks for [default: nothing on loopback, a new one with --allow-remote]; also SIDEBAND_SIM_ADMIN_TOKEN_FILE
    #[arg(long, env = "SIDEBAND_SIM_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
}

fn origin(text: &str) -> Result<String, String> {
    let wrong = |_| "write it as a browser sends it, such as https://app.example.com".to_owned();
    OriginPolicy::default().allow(text).map(|_| text.to_owned()).map_err(wrong)
}

/// What the flags come to.
pub(crate) struct Exposed {
    /// Whether others may connect, so that nothing may be guessed.
    pub(crate) remote: bool,
    /// Which web pages are let in.
    pub(crate) origins: OriginPolicy,
    /// What the admin API asks for.
    pub(crate) admin_token: Option<AdminToken>,
}

impl Exposure {
    /// Checks the address and makes an admin token if one is needed.
    pub(crate) fn check(&self, addr: SocketAddr, env: &Env) -> Result<Exposed, Failure> {
        if !self.allow_remote && !addr.ip().to_canonical().is_loopback() {
            let origin = values::ADDR.origin(|text| values::address(text) == Ok(addr));
            return Err(Failure::misuse(anyhow!(
                "{origin} {addr}: other machines could reach it, and whoever does can use this cloud"
            ))
            .hint("listen on 127.0.0.1, or add --allow-remote if that is what you want"));
        }
        let mut origins = OriginPolicy::default();
        for origin in &self.allow_origin {
            origins = origins.allow(origin).map_err(Failure::misuse)?;
        }
        let mut admin_token = values::admin_token(self.admin_token.as_deref())?;
        if admin_token.is_none() && self.allow_remote {
            let random = random_base62(&mut *env.entropy.entropy(), 40);
            admin_token = AdminToken::new(format!("sim_adm_{random}"));
        }
        Ok(Exposed { remote: self.allow_remote, origins, admin_token })
    }
}

/// An address that cannot be listened on.
pub(crate) fn cannot_listen(addr: SocketAddr, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let port = addr.port();
    let any = SocketAddr::new(addr.ip(), 0);
    match error.kind() {
        ErrorKind::AddrInUse => Failure::cannot_run(anyhow!("port {port} is taken: something else listens on {addr}"))
            .hint(format!("choose any free port with --addr {any}, or stop what listens there")),
        ErrorKind::PermissionDenied => Failure::cannot_run(anyhow!("port {port} may not be used: {error}"))
            .hint(format!("choose any free port with --addr {any}")),
        ErrorKind::AddrNotAvailable => Failure::cannot_run(anyhow!("{addr} is not an address of this machine"))
            .hint("choose one that is, such as --addr 127.0.0.1:0"),
        _ => Failure::cannot_run(anyhow!("cannot listen on {addr}: {error}"))
            .hint("choose another address, such as --addr 127.0.0.1:0"),
    }
}
