//! Faults of a request for a WebSocket.

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use sideband_protocol::token::{self, peek};
use sideband_sim_kit::{
    admin::error_response,
    event::Role,
    fault::{FaultEngine, Fired, Place, Refusal, UpgradeAction, UpgradePoint, header_value},
    server::Stopping,
};

use crate::{
    relay::Relay,
    upgrade::{Answer, NoUpgrade},
};

/// What faults leave of a request.
#[derive(Debug, Default)]
pub(crate) struct Spared {
    /// The clock that its token is judged by is fast by so many milliseconds.
    pub(crate) clock_shift: i64,
}

/// Lets the faults of a request happen. What its token says is looked up, but not judged.
pub(crate) async fn faults_of_upgrade(
    relay: &Relay,
    path: &str,
    token: Option<&str>,
    mut stopping: Option<Stopping>,
    label: &mut Option<HeaderValue>,
) -> Result<Spared, NoUpgrade> {
    let faults = relay.faults();
    let mut spared = Spared::default();
    if !faults.any_at(Place::RelayUpgrade) {
        return Ok(spared);
    }
    let said = token.and_then(peek);
    let role = said.as_ref().and_then(|said| said.role).map(|role| match role {
        token::Role::Client => Role::Client,
        token::Role::Daemon => Role::Daemon,
    });
    let client = said.as_ref().filter(|_| role == Some(Role::Client));
    let daemon = said.as_ref().map(|said| said.daemon_id.as_str());
    let user = client.and_then(|said| said.user.as_deref());
    let session = client.and_then(|said| said.session);
    let fired = faults.relay_upgrade(&UpgradePoint { path, role, daemon, user, session });
    *label = header_value(&fired);
    for fault in &fired {
        fault.report(Place::RelayUpgrade, relay.events(), daemon, session);
    }
    for fault in &fired {
        match &fault.action {
            UpgradeAction::Refuse(refusal) => return Err(NoUpgrade::ByFault(refusal.clone(), fault.label())),
            UpgradeAction::Delay(time) => delay(faults, fault, *time, &mut stopping).await,
            UpgradeAction::Hang => hang(faults, fault, &mut stopping).await?,
            UpgradeAction::Cut => return Err(NoUpgrade::Cut),
            UpgradeAction::ClockShift(shift) => {
                spared.clock_shift = spared.clock_shift.saturating_add(shift.millis);
            }
        }
    }
    Ok(spared)
}

/// Waits, unless the rule is gone or the server shuts down before.
async fn delay<A>(faults: &FaultEngine, fault: &Fired<A>, time: Duration, stopping: &mut Option<Stopping>) {
    let _held = stopping.as_ref().map(Stopping::hold);
    tokio::select! {
        biased;
        () = stopped(stopping) => {}
        () = faults.over(fault) => {}
        () = tokio::time::sleep(time) => {}
    }
}

/// Waits until the rule is gone or over; when the server shuts down before, the connection ends.
async fn hang<A>(faults: &FaultEngine, fault: &Fired<A>, stopping: &mut Option<Stopping>) -> Result<(), NoUpgrade> {
    let _held = stopping.as_ref().map(Stopping::hold);
    tokio::select! {
        biased;
        () = stopped(stopping) => Err(NoUpgrade::Cut),
        () = faults.over(fault) => Ok(()),
    }
}

async fn stopped(stopping: &mut Option<Stopping>) {
    match stopping {
        Some(stopping) => stopping.stopped().await,
        None => std::future::pending().await,
    }
}

/// The answer that refuses. Its code is the rule's, or else the status's own (TOK-13).
pub(crate) fn answer(refusal: &Refusal, label: &str) -> Answer {
    let Refusal { status, code, retry_after } = refusal;
    let of_status = match status {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        409 => "session_conflict",
        426 => "upgrade_required",
        429 => "rate_limited",
        503 => "unavailable",
        _ => "fault",
    };
    let code = code.clone().unwrap_or_else(|| of_status.to_owned());
    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = error_response(status, &code, format!("a fault of the plan: {label}"));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
    }
    Answer { response, code, reason: "fault", counted: "fault" }
}
