//! What the API and the relay's door tell: answers, codes, keys, tokens.

use sideband_sim_kit::event::{Event, EventKind};

use crate::situation::facts::{Caller, Look, Told, caller};

/// Milliseconds within which two redeems of one code met.
const RACE: u64 = 1_000;
/// How many 429 in a row are a storm, this one included.
const STORM: u32 = 3;
/// The longest `Retry-After` that is kept, in milliseconds (CLI-06).
const CAP: u64 = 120_000;
/// How long an endpoint waits for an answer, in milliseconds (CLI-07).
const PATIENCE: u64 = 15_000;
/// How long a key set is good, in milliseconds (KEY-01).
const KEY_SET: u64 = 300_000;

/// A request to a procedure: its status.
fn answered(look: &Look<'_>, wanted: &str) -> Option<u16> {
    match &look.event.kind {
        EventKind::Request { procedure, status, .. } if procedure == wanted => Some(*status),
        _ => None,
    }
}

/// What is known of whoever made the request.
fn known<'l>(look: &'l Look<'_>) -> Option<&'l Caller> {
    let EventKind::Request { procedure, caller: by, .. } = &look.event.kind else { return None };
    look.facts.callers.get(&caller(look.event, procedure, by.as_ref()))
}

/// The answers to redeems of this code so far.
fn earlier<'l>(look: &'l Look<'_>) -> &'l [(u16, u64)] {
    match &look.event.kind {
        EventKind::Request { code: Some(code), .. } => look.facts.codes.get(code).map_or(&[], Vec::as_slice),
        _ => &[],
    }
}

fn retry_after(event: &Event) -> Option<u64> {
    match &event.kind {
        EventKind::Request { retry_after_ms, .. } | EventKind::UpgradeRefused { retry_after_ms, .. } => *retry_after_ms,
        _ => None,
    }
}

fn refused(look: &Look<'_>, wanted: u16, why: &str) -> bool {
    matches!(&look.event.kind, EventKind::UpgradeRefused { status, reason, .. } if *status == wanted && reason == why)
}

pub(in crate::situation) fn conflict(look: &Look<'_>) -> bool {
    answered(look, "relay.createSession") == Some(409)
}

pub(in crate::situation) fn conflict_during_reconnect(look: &Look<'_>) -> bool {
    let EventKind::Request { caller: Some(by), .. } = &look.event.kind else { return false };
    conflict(look) && look.facts.had_session.contains_key(by)
}

pub(in crate::situation) fn code_raced(look: &Look<'_>) -> bool {
    let Some(status @ (200 | 404)) = answered(look, "quickConnect.redeem") else { return false };
    let other = if status == 200 { 404 } else { 200 };
    earlier(look).iter().any(|(status, at)| *status == other && look.at() - at <= RACE)
}

pub(in crate::situation) fn code_used_again(look: &Look<'_>) -> bool {
    answered(look, "quickConnect.redeem") == Some(404)
        && earlier(look).iter().any(|(status, at)| *status == 200 && look.at() - at > RACE)
}

pub(in crate::situation) fn code_burned_offline(look: &Look<'_>) -> bool {
    answered(look, "quickConnect.redeem") == Some(409)
}

pub(in crate::situation) fn redeem_tried_again(look: &Look<'_>) -> bool {
    answered(look, "quickConnect.redeem").is_some()
        && earlier(look).last().is_some_and(|(status, _)| *status == 429 || *status >= 500)
}

pub(in crate::situation) fn storm(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::Request { status: 429, .. })
        && known(look).is_some_and(|caller| caller.storm + 1 >= STORM)
}

pub(in crate::situation) fn retry_after_longer_than_backoff(look: &Look<'_>) -> bool {
    // The longest that CLI-04 and DMN-04 would have waited by themselves after so many failures in a row.
    let backoff = |failures: u32| (1_000_u64 << failures.min(5)).min(30_000) * 6 / 5;
    match look.told {
        // Who waits knows best how often it has failed.
        Told::Retrying { retry, retry_after: Some(after), .. } => *after > backoff(*retry),
        _ => {
            let failures = known(look).map_or(0, |caller| caller.failures);
            retry_after(look.event).is_some_and(|after| after > backoff(failures))
        }
    }
}

pub(in crate::situation) fn retry_after_over_the_cap(look: &Look<'_>) -> bool {
    retry_after(look.event).is_some_and(|after| after > CAP)
}

pub(in crate::situation) fn retry_after_at_upgrade(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::UpgradeRefused { retry_after_ms: Some(_), .. })
}

pub(in crate::situation) fn failed_and_recovered(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::Request { status: 200, .. })
        && known(look).is_some_and(|caller| caller.last >= 500)
}

pub(in crate::situation) fn daemon_token_refused_while_away(look: &Look<'_>) -> bool {
    answered(look, "daemon.renewToken").is_some_and(|status| status >= 400)
        && look.event.daemon.as_ref().is_none_or(|daemon| look.facts.was_online.contains_key(daemon))
        && !look.facts.was_online.is_empty()
}

pub(in crate::situation) fn credential_refused(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::Request { status: 401 | 403, .. })
}

pub(in crate::situation) fn answer_too_late(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::Request { took_ms, .. } if *took_ms > PATIENCE)
}

pub(in crate::situation) fn key_set_refreshed(look: &Look<'_>) -> bool {
    let EventKind::KeySet { result } = &look.event.kind else { return false };
    let (Some(read), Some(rotated)) = (look.facts.key_set_read, look.facts.rotated) else { return false };
    result == "ok" && rotated >= read && look.at() - read < KEY_SET
}

pub(in crate::situation) fn token_of_a_key_that_is_gone(look: &Look<'_>) -> bool {
    refused(look, 401, "kid") && look.facts.rotated_hard.is_some()
}

pub(in crate::situation) fn token_raced_a_rotation(look: &Look<'_>) -> bool {
    let (EventKind::Opened { role, .. }, Some(daemon)) = (&look.event.kind, &look.event.daemon) else { return false };
    look.facts.refused.get(&(*role, daemon.clone())) == Some(&401)
}

pub(in crate::situation) fn key_set_outage(look: &Look<'_>) -> bool {
    refused(look, 503, "keys")
}

pub(in crate::situation) fn cached_key_set_used(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::Opened { .. })
        && look.facts.key_set_fails
        && look.facts.key_set_read.is_some()
}

pub(in crate::situation) fn token_expired(look: &Look<'_>) -> bool {
    refused(look, 401, "expired")
}
