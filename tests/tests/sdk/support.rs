//! Endpoints in a scripted world.

use sideband::{Account, Client, Daemon};
use sideband_env::Env;
use sideband_tests::script::{API_URL, DAEMON, RELAY_URL};

/// An account's client, not yet connecting.
pub(crate) fn account(env: &Env) -> Account {
    Account::with_token(API_URL, DAEMON, "at_1").unwrap().env(env.clone())
}

/// An account's client.
pub(crate) fn connect(env: &Env) -> Client {
    account(env).connect().unwrap()
}

/// A daemon, not yet connecting.
pub(crate) fn daemon(env: &Env) -> Daemon {
    Daemon::new(API_URL, RELAY_URL, "sbnd_dak_far").unwrap().env(env.clone())
}
