//! What the SDK's and the admin client's errors mean for a command: exit code, code, and what to do next.

use std::time::Duration;

use anyhow::anyhow;
use serde_json::value::RawValue;
use sideband::{
    Cause, Error,
    protocol::{peer::CallError, wire::ControlCode},
};
use sideband_env::Env;
use sideband_sim_kit::{
    admin::{AdminClient, AdminError},
    fault::admin::FaultReport,
};
use url::{Host, Url};

use crate::{
    failure::{Details, Exit, Failure},
    values,
};

/// How long a simulated cloud may take to say which faults it has.
const FAULTS_WITHIN: Duration = Duration::from_secs(1);
/// Where `fault` looks unless it is told.
const USUAL_ADMIN: &str = "http://127.0.0.1:7600/__sim";

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

const NO_API: &str = "check --api-url: what answers there is no Sideband API";

/// An error of the SDK.
pub(crate) fn sdk(error: &Error, who: Who) -> Failure {
    if let Some(reason) = error.cause() {
        return cause(reason, who);
    }
    let details = Details { code: error.code().map(str::to_owned), ..Details::default() };
    match error {
        Error::Argument { .. } => Failure::misuse(anyhow!("{error}")),
        Error::Setup(_) => Failure::cannot_run(anyhow!("{error}")),
        Error::Call(call) => match call.error() {
            CallError::Rpc { code, message, data } => {
                let data =
                    data.as_deref().and_then(|data| RawValue::from_string(String::from_utf8(data.to_vec()).ok()?).ok());
                let failure = Failure::failed(anyhow!("rpc_error {code}: {message}"));
                failure.details(Details { rpc_code: Some(*code), data, ..details })
            }
            error => Failure::failed(anyhow!("{}: {call}", error.code())).details(details),
        },
        _ => Failure::failed(anyhow!("{error}")).details(details),
    }
}

/// What helps against a certificate that is not trusted; the library's words are all there is to tell it by.
const UNTRUSTED: &str =
    "if its certificate is by a local authority, name that with --ca FILE; `up --tls` shows where it is";

fn untrusted(reason: &str) -> bool {
    reason.contains("peer certificate")
}

/// Why a connection or an attempt ended.
pub(crate) fn cause(cause: &Cause, who: Who) -> Failure {
    let say = || anyhow!("{cause}");
    match cause {
        Cause::ApiUnreachable(reason) | Cause::RelayUnreachable(reason) if untrusted(&reason.to_string()) => {
            Failure::cannot_run(say()).details(code_of("certificate_untrusted")).hint(UNTRUSTED)
        }
        Cause::ApiUnreachable(_) | Cause::ApiTimeout => Failure::cannot_run(say())
            .details(code_of("api_unreachable"))
            .hint("start a cloud with `sideband-sim up`, or say where one is with --api-url"),
        Cause::RelayUnreachable(_) | Cause::DialTimeout => Failure::cannot_run(say())
            .details(code_of("relay_unreachable"))
            .hint("check that the relay runs, or say where it is with --relay-url"),
        Cause::ApiUnreadable(_) => Failure::failed(say()).details(code_of("api_unreadable")).hint(NO_API),
        Cause::RelayUrl(_) => Failure::misuse(say()).hint("correct --relay-url"),
        Cause::IdentityStore(_) | Cause::TokenSource(_) | Cause::UnusableToken(_) => Failure::misuse(say()),
        // Each error of an API has a code (API-06): something else answers there.
        Cause::Api { status, code, .. } if code.is_empty() => {
            Failure::failed(say()).details(Details { status: Some(*status), ..code_of("api_unreadable") }).hint(NO_API)
        }
        Cause::Api { status, code, .. } => {
            let details = Details { status: Some(*status), ..code_of(code) };
            refused(Failure::failed(say()).details(details), *status, who)
        }
        Cause::Upgrade { status, .. } => {
            let details = Details { status: Some(*status), ..code_of("upgrade_refused") };
            Failure::failed(say()).details(details).hint(upgrade_hint(*status))
        }
        Cause::Control(Ok(control)) => {
            let failure = Failure::failed(say()).details(code_of(&control.to_string()));
            match control {
                ControlCode::DaemonOffline => failure.hint("start the daemon: `sideband-sim daemon`"),
                _ => failure,
            }
        }
        Cause::HandshakeTimeout => Failure::failed(say()).details(code_of("handshake_timeout")),
        Cause::HandshakeFailed(_) => Failure::failed(say()).details(code_of("handshake_failed")),
        Cause::IdentityChanged { .. } => Failure::failed(say()).details(code_of("identity_key_changed")),
        Cause::SocketLost { code: Some(4001) } if who == Who::Daemon => Failure::failed(say())
            .details(code_of("replaced"))
            .hint("another process runs as this daemon: stop it, or give this one an API key of its own"),
        _ => Failure::failed(say()),
    }
}

fn refused(failure: Failure, status: u16, who: Who) -> Failure {
    match (status, who) {
        (401, _) => failure.hint(format!("check {}", who.credential())),
        (403, _) => failure.hint("use a daemon of this user: see --daemon-id and --access-token"),
        (404, Who::Code) => failure.hint("a code works once and for a few minutes: ask the daemon for a new one"),
        (404, Who::Account | Who::Daemon) => failure.hint("check --daemon-id and --api-url"),
        (409, Who::Code) => failure.hint("start the daemon and get a new code: this one is used up"),
        _ => failure,
    }
}

/// What to do about an upgrade that was refused with this status (TOK-13).
fn upgrade_hint(status: u16) -> &'static str {
    match status {
        401 => "the relay does not accept the API's token: check that its --issuer is the API's, letter by letter",
        403 => "check --relay-url: the relay does not let in whom this API sends",
        409 => "try again; if it stays so, the relay has a daemon or a session of the same id",
        // KEY-01, KEY-03
        429 | 503 => {
            "try again in 10 s; if it stays so, check that the relay's --issuer is up: it needs the API's keys"
        }
        500..=599 => "try again; if it stays so, look at the relay's log",
        _ => "check --relay-url: what answers there is no relay; where API and relay run apart it must be given",
    }
}

/// A call that came to nothing because its session ended, with the reason why.
pub(crate) fn session_over(error: &CallError, reason: &Cause, who: Who) -> Failure {
    let failure = Failure::failed(anyhow!("{}: {error}: {reason}", error.code())).details(code_of(error.code()));
    cause(reason, who).hints().iter().fold(failure, |failure, hint| failure.hint(hint))
}

/// The same failure, with the faults that a simulated cloud on this machine does on purpose: they are the first thing to look at.
pub(crate) async fn with_faults(failure: Failure, env: &Env, api_url: &str, more: Option<&str>) -> Failure {
    if failure.exit() == Exit::Misuse {
        return failure;
    }
    let mut hints = faults(env, api_url, &failure.message()).await;
    if hints.is_empty() {
        return failure;
    }
    hints.extend(more.map(str::to_owned));
    // The other hints are for a cloud that means what it says.
    let by_fault = matches!(failure.code(), Some("upgrade_refused" | "api_unreadable" | "timeout"))
        || failure.message().contains("a fault of the plan");
    if !by_fault {
        hints.extend_from_slice(failure.hints());
    }
    failure.instead(hints)
}

/// What to try about the faults that fired so far in a simulated cloud on this machine; nothing if there are none, or it is none. The
/// message of an answer by fault names its rule.
pub(crate) async fn faults(env: &Env, api_url: &str, message: &str) -> Vec<String> {
    let Ok(url) = Url::parse(api_url) else { return Vec::new() };
    let near = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let (true, Ok(admin), Ok(token)) = (near, url.join("/__sim"), values::admin_token(None)) else { return Vec::new() };
    let client = AdminClient::new(env.clone(), admin.clone(), token);
    match tokio::time::timeout(FAULTS_WITHIN, client.faults()).await {
        Ok(Ok(list)) => of_faults(list.faults, &admin, message),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// The rules that fired, those that the message names before all others.
fn of_faults(mut faults: Vec<FaultReport>, admin: &Url, message: &str) -> Vec<String> {
    let name = |fault: &FaultReport| fault.rule.id.as_ref().map_or_else(String::new, ToString::to_string);
    faults.retain(|fault| fault.fired > 0);
    faults.sort_by_key(|fault| !message.contains(&format!("{}#", name(fault))));
    let at = if admin.as_str() == USUAL_ADMIN { String::new() } else { format!(" --admin-url {admin}") };
    let words: Vec<_> = faults
        .iter()
        .map(|fault| {
            let times = fault.rule.trigger.times.map_or_else(String::new, |times| format!(" of {times}"));
            format!("{} (at {}, fired {}{times})", name(fault), fault.rule.place().name(), fault.fired)
        })
        .collect();
    let Some(named) = faults.iter().find(|fault| fault.rule.trigger.times.is_none_or(|times| fault.fired < times))
    else {
        return match words.as_slice() {
            [] => Vec::new(),
            words => vec![format!("again: it is by faults of this cloud that are spent now: {}", words.join(", "))],
        };
    };
    vec![
        format!("to look at the faults of this cloud that fired: {}", words.join(", ")),
        format!(
            "`sideband-sim fault remove {}{at}` to end that one, `sideband-sim fault list{at}` to see all",
            name(named)
        ),
    ]
}

fn code_of(code: &str) -> Details {
    Details { code: Some(code.to_owned()), ..Details::default() }
}

/// An error of the admin API at a URL.
pub(crate) fn admin(error: AdminError, url: &url::Url) -> Failure {
    let say = anyhow!("{url}: {error}");
    match error {
        AdminError::Http(ref reason) if untrusted(&reason.to_string()) => {
            Failure::cannot_run(say).details(code_of("certificate_untrusted")).hint(UNTRUSTED)
        }
        AdminError::Http(_) | AdminError::Timeout => Failure::cannot_run(say)
            .details(code_of("unreachable"))
            .hint("start a cloud with `sideband-sim up`, or say where one is with --admin-url"),
        AdminError::Url => Failure::misuse(say),
        AdminError::Refused { status, code, .. } => {
            let details = Details { status: Some(status), ..code_of(&code) };
            match status {
                401 => Failure::misuse(say).details(details).hint(
                    "give its token with --admin-token or SIDEBAND_SIM_ADMIN_TOKEN; `up` shows it when it starts",
                ),
                403 => Failure::misuse(say)
                    .details(details)
                    .hint("ask from the same machine by 127.0.0.1, or start it with an admin token"),
                // The message says what is wrong with the request.
                400 => Failure::misuse(say).details(details),
                409 => Failure::failed(say).details(details),
                _ => {
                    Failure::failed(say).details(details).hint("check --admin-url: it must be a server of sideband-sim")
                }
            }
        }
        AdminError::Unreadable => Failure::failed(say).hint("check --admin-url: it must be a server of sideband-sim"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_upgrade_says_what_to_do_by_its_status() {
        for (status, hint) in [
            (200, "no relay"),
            (401, "--issuer"),
            (403, "--relay-url"),
            (404, "--relay-url"),
            (409, "try again"),
            (426, "no relay"),
            (429, "10 s"),
            (500, "try again"),
            (503, "try again in 10 s"),
        ] {
            let refused = Cause::Upgrade { status, message: "no".to_owned(), retry_after: None };
            let failure = cause(&refused, Who::Account);
            assert!(failure.hints()[0].contains(hint), "{status}: {:?}", failure.hints());
        }
    }

    fn report(id: &str, times: Option<u64>, fired: u64) -> FaultReport {
        let mut rule = serde_json::json!({"id": id, "on": "api.request", "do": {"status": 429}});
        if let Some(times) = times {
            rule["times"] = times.into();
        }
        let report = serde_json::json!({"rule": rule, "seen": fired, "fired": fired, "overruled": 0});
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn faults_that_fired_are_named_and_how_to_end_them() {
        let usual: Url = USUAL_ADMIN.parse().unwrap();
        let elsewhere: Url = "http://127.0.0.1:9/__sim".parse().unwrap();
        let all = || {
            vec![report("never", Some(2), 0), report("a", Some(2), 2), report("b", None, 3), report("c", Some(2), 1)]
        };
        assert_eq!(of_faults(vec![report("never", None, 0)], &usual, ""), [""; 0]);
        let hints = of_faults(all(), &usual, "no: a fault of the plan: c#1");
        let fired = "c (at api.request, fired 1 of 2), a (at api.request, fired 2 of 2), b (at api.request, fired 3)";
        assert_eq!(hints[0], format!("to look at the faults of this cloud that fired: {fired}"));
        assert_eq!(hints[1], "`sideband-sim fault remove c` to end that one, `sideband-sim fault list` to see all");
        let hints = of_faults(all(), &elsewhere, "no: a fault of the plan: a#1");
        assert!(
            hints[1].contains("remove b --admin-url http://127.0.0.1:9/__sim"),
            "what is spent need not go: {hints:?}"
        );
        let hints = of_faults(vec![report("a", Some(2), 2)], &usual, "");
        assert_eq!(
            hints,
            ["again: it is by faults of this cloud that are spent now: a (at api.request, fired 2 of 2)"]
        );
    }

    #[test]
    fn a_daemon_s_400_is_not_blamed_on_its_id() {
        let refused = Cause::Api { status: 400, code: "BAD_REQUEST".into(), message: "no".into(), retry_after: None };
        assert_eq!(cause(&refused, Who::Daemon).hints(), &[] as &[String]);
    }

    #[test]
    fn an_error_without_a_code_is_no_api_s() {
        let refused = Cause::Api { status: 501, code: String::new(), message: "no".into(), retry_after: None };
        let failure = cause(&refused, Who::Code);
        assert_eq!(failure.message(), "the API answered 501: no");
        assert_eq!(failure.hints(), [NO_API]);
    }
}
