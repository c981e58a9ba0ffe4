//! Endpoints under test in a scripted world.

use sideband::{Account, Client, Daemon, Error, QuickConnect, Server};
use sideband_env::Env;
use sideband_protocol::quirks::Quirks;
use sideband_tests::script::{API_URL, DAEMON, RELAY_URL};

/// An account's client, not yet connecting.
pub(crate) fn account(env: &Env, quirks: Quirks) -> Account {
    Account::with_token(API_URL, DAEMON, "at_1").unwrap().env(env.clone()).danger_quirks(quirks)
}

/// An account's client.
pub(crate) fn connect(env: &Env, quirks: Quirks) -> Client {
    account(env, quirks).connect().unwrap()
}

/// A Quick Connect client, not yet connecting.
pub(crate) fn quick_connect(env: &Env, quirks: Quirks) -> QuickConnect {
    QuickConnect::new(API_URL, "abcd-efgh-ijkl").unwrap().env(env.clone()).danger_quirks(quirks)
}

/// A daemon, not yet connecting.
pub(crate) fn daemon(env: &Env, quirks: Quirks) -> Daemon {
    Daemon::new(API_URL, RELAY_URL, "sbnd_dak_far").unwrap().env(env.clone()).danger_quirks(quirks)
}

/// A daemon that connects.
pub(crate) fn listen(env: &Env, quirks: Quirks) -> Server {
    daemon(env, quirks).start().unwrap()
}

/// The peer error code of a failure.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    result.expect_err("a failure").code().expect("a peer error code")
}
