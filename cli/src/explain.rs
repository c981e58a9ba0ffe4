//! What the SDK's and the admin client's errors mean for a command: exit code, code, and what to do next.

use anyhow::anyhow;
use serde_json::value::RawValue;
use sideband::{
    Cause, Error,
    protocol::{peer::CallError, wire::ControlCode},
};
use sideband_sim_kit::admin::AdminError;

use crate::failure::{Details, Failure};

/// Whose credentials an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// A client with the user's access token.
    Account,
    /// A client with a Quick Connect code.
    Code,
    /// A daemon with its API key.
    Daemon,
}

impl Who {
    fn credential(self) -> &'static str {
        match self {
            Self::Account => {
                "the access token (--access-token); a cloud that was started anew has another unless it has a --seed"
            }
            Self::Code => "the code; make a new one",
            Self::Daemon => "the API key (--api-key); a cloud that was started anew has another unless it has a --seed",
        }
    }
}

/// An error of the SDK.
pub(crate) fn sdk(error: &Error, who: Who) -> Failure {
    if let Some(reason) = error.cause() {
        return cause(reason, who);
    }
    let details = Details { code: error.code().map(str::to_owned), ..Details::default() };
    match error {
        Error::Argument { .. } => Failure::misuse(anyhow!("{error}")),
        Error::Setup(_) => Failure::cannot_run(anyhow!("{error}")),
        Error::Call(CallError::Rpc { code, message, data }) => {
            let data =
                data.as_deref().and_then(|data| RawValue::from_string(String::from_utf8(data.to_vec()).ok()?).ok());
            let failure = Failure::failed(anyhow!("rpc_error {code}: {message}"));
            failure.details(Details { rpc_code: Some(*code), data, ..details })
        }
        Error::Call(error) => Failure::failed(anyhow!("{}: {error}", error.code())).details(details),
        _ => Failure::failed(anyhow!("{error}")).details(details),
    }
}

/// Why a connection or an attempt ended.
pub(crate) fn cause(cause: &Cause, who: Who) -> Failure {
    let say = || anyhow!("{cause}");
    match cause {
        Cause::ApiUnreachable(_) | Cause::ApiTimeout => Failure::cannot_run(say())
            .details(code("api_unreachable"))
            .hint("start a cloud with `sideband-sim up`, or say where one is with --api-url"),
        Cause::RelayUnreachable(_) | Cause::DialTimeout => Failure::cannot_run(say())
            .details(code("relay_unreachable"))
            .hint("check that the relay runs, or say where it is with --relay-url"),
        Cause::ApiUnreadable(_) => Failure::failed(say())
            .details(code("api_unreadable"))
            .hint("check --api-url: what answers there is no Sideband API"),
        Cause::RelayUrl(_) => Failure::misuse(say()).hint("correct --relay-url"),
        Cause::IdentityStore(_) | Cause::TokenSource(_) => Failure::misuse(say()),
        Cause::Api { status, code, .. } => {
            let details = Details { code: Some(code.clone()), status: Some(*status), ..Details::default() };
            refused(Failure::failed(say()).details(details), *status, who)
        }
        Cause::Upgrade { status, .. } => {
            let details =
                Details { code: Some("upgrade_refused".to_owned()), status: Some(*status), ..Details::default() };
            Failure::failed(say())
                .details(details)
                .hint("check that the relay's --issuer is the API's, and that both are up")
        }
        Cause::Control(Ok(control)) => {
            let failure = Failure::failed(say()).details(code(&control.to_string()));
            match control {
                ControlCode::DaemonOffline => failure.hint("start the daemon: `sideband-sim daemon`"),
                _ => failure,
            }
        }
        Cause::HandshakeTimeout => Failure::failed(say()).details(code("handshake_timeout")),
        Cause::HandshakeFailed(_) => Failure::failed(say()).details(code("handshake_failed")),
        Cause::IdentityChanged { .. } => Failure::failed(say()).details(code("identity_key_changed")),
        Cause::SocketLost { code: Some(4001) } if who == Who::Daemon => Failure::failed(say())
            .details(code("replaced"))
            .hint("another process runs as this daemon: stop it, or give this one an API key of its own"),
        _ => Failure::failed(say()),
    }
}

fn refused(failure: Failure, status: u16, who: Who) -> Failure {
    match (status, who) {
        (401, _) => failure.hint(format!("check {}", who.credential())),
        (400, Who::Daemon) => failure.hint("check --daemon-id: the API key belongs to another daemon"),
        (403, _) => failure.hint("use a daemon of this user: see --daemon-id and --access-token"),
        (404, Who::Code) => failure.hint("a code works once and for a few minutes: ask the daemon for a new one"),
        (404, Who::Account | Who::Daemon) => failure.hint("check --daemon-id and --api-url"),
        (409, Who::Code) => failure.hint("start the daemon and get a new code: this one is used up"),
        _ => failure,
    }
}

fn code(code: &str) -> Details {
    Details { code: Some(code.to_owned()), ..Details::default() }
}

/// An error of the admin API at a URL.
pub(crate) fn admin(error: AdminError, url: &url::Url) -> Failure {
    let say = anyhow!("{url}: {error}");
    match error {
        AdminError::Http(_) | AdminError::Timeout => Failure::cannot_run(say)
            .details(code("unreachable"))
            .hint("start a cloud with `sideband-sim up`, or say where one is with --admin-url"),
        AdminError::Url => Failure::misuse(say),
        AdminError::Refused { status, code, .. } => {
            let details = Details { code: Some(code), status: Some(status), ..Details::default() };
            match status {
                401 => Failure::misuse(say).details(details).hint(
                    "give its token with --admin-token or SIDEBAND_SIM_ADMIN_TOKEN; `up` shows it when it starts",
                ),
                403 => Failure::misuse(say)
                    .details(details)
                    .hint("ask from the same machine by 127.0.0.1, or start it with an admin token"),
                _ => {
                    Failure::failed(say).details(details).hint("check --admin-url: it must be a server of sideband-sim")
                }
            }
        }
        AdminError::Unreadable => Failure::failed(say).hint("check --admin-url: it must be a server of sideband-sim"),
    }
}
