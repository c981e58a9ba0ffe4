//! What endpoints tell of themselves: states, causes, calls.

use crate::situation::facts::{Call, Look, Told};

/// The retry whose delay is as long as delays get, counted from 0: 2⁵ s is over 30 s (CLI-04, DMN-04).
const LONGEST: u32 = 5;

/// A call that ends, and how.
fn ended<'l>(look: &'l Look<'_>) -> Option<(&'l Call, &'l str)> {
    let Told::CallEnded { call, outcome } = look.told else { return None };
    Some((look.host()?.calls.get(call)?, outcome))
}

fn well(outcome: &str) -> bool {
    outcome == "result"
}

fn failed(look: &Look<'_>, wanted: &str) -> bool {
    matches!(look.told, Told::CallEnded { outcome, .. } if outcome == wanted)
}

fn state<'l>(look: &'l Look<'_>) -> &'l str {
    look.host().map_or("", |host| host.state.as_str())
}

fn goes(look: &Look<'_>, from: &str, to: &str) -> bool {
    state(look) == from && matches!(look.told, Told::State(state) if state == to)
}

/// Some endpoint tells this cause, in the words of `protocol::failure`.
fn because(look: &Look<'_>, words: &str) -> bool {
    matches!(look.told, Told::Cause(cause) | Told::Retrying { cause, .. } if cause.contains(words))
}

pub(in crate::situation) fn resumed_with_call_in_flight(look: &Look<'_>) -> bool {
    *look.told == Told::Resumed
        && look.host().is_some_and(|host| host.calls.values().any(|call| call.made_in == "active"))
}

pub(in crate::situation) fn call_survived_a_pause(look: &Look<'_>) -> bool {
    ended(look).is_some_and(|(call, outcome)| call.made_in == "active" && call.paused && well(outcome))
}

pub(in crate::situation) fn call_timed_out_on_cut_wire(look: &Look<'_>) -> bool {
    state(look) == "active"
        && ended(look)
            .is_some_and(|(call, outcome)| call.made_in == "active" && call.paused && outcome == "rpc_timeout")
}

pub(in crate::situation) fn call_timed_out_while_paused(look: &Look<'_>) -> bool {
    state(look) == "paused" && failed(look, "rpc_timeout")
}

pub(in crate::situation) fn call_failed_with_the_socket(look: &Look<'_>) -> bool {
    ended(look).is_some_and(|(call, outcome)| call.made_in == "active" && outcome == "not_connected")
}

pub(in crate::situation) fn buffered_call_sent(look: &Look<'_>) -> bool {
    ended(look).is_some_and(|(call, outcome)| call.made_in != "active" && well(outcome))
}

pub(in crate::situation) fn buffer_overflow(look: &Look<'_>) -> bool {
    failed(look, "buffer_overflow")
}

pub(in crate::situation) fn call_ended_by_close(look: &Look<'_>) -> bool {
    failed(look, "peer_closed")
}

pub(in crate::situation) fn closed_while_connecting(look: &Look<'_>) -> bool {
    goes(look, "connecting", "closed")
}

pub(in crate::situation) fn closed_while_negotiating(look: &Look<'_>) -> bool {
    goes(look, "negotiating", "closed")
}

pub(in crate::situation) fn closed_while_paused(look: &Look<'_>) -> bool {
    goes(look, "paused", "closed")
}

pub(in crate::situation) fn closed_while_reconnecting(look: &Look<'_>) -> bool {
    goes(look, "reconnecting", "closed")
}

pub(in crate::situation) fn lost_while_negotiating(look: &Look<'_>) -> bool {
    goes(look, "negotiating", "reconnecting")
}

pub(in crate::situation) fn active_again_with_a_new_session(look: &Look<'_>) -> bool {
    goes(look, "negotiating", "active") && look.host().is_some_and(|host| host.was_active)
}

pub(in crate::situation) fn gave_up(look: &Look<'_>) -> bool {
    because(look, "gave up after")
}

pub(in crate::situation) fn quick_connect_loss_is_fatal(look: &Look<'_>) -> bool {
    because(look, "the Quick Connect session is over")
}

pub(in crate::situation) fn long_backoff(look: &Look<'_>) -> bool {
    matches!(look.told, Told::Retrying { retry, .. } if *retry >= LONGEST)
}

pub(in crate::situation) fn silent_relay_noticed(look: &Look<'_>) -> bool {
    because(look, "nothing was heard from the relay")
}

pub(in crate::situation) fn api_timed_out(look: &Look<'_>) -> bool {
    because(look, "the API did not answer in time")
}

pub(in crate::situation) fn dial_timed_out(look: &Look<'_>) -> bool {
    because(look, "the relay did not answer in time")
}

pub(in crate::situation) fn handshake_timed_out(look: &Look<'_>) -> bool {
    because(look, "the handshake took too long")
}

pub(in crate::situation) fn sealed_message_did_not_open(look: &Look<'_>) -> bool {
    because(look, "a sealed message did not open")
}

pub(in crate::situation) fn identity_changed(look: &Look<'_>) -> bool {
    because(look, "the daemon's identity changed")
}

pub(in crate::situation) fn unreadable_answer(look: &Look<'_>) -> bool {
    because(look, "the API's answer cannot be read")
}

pub(in crate::situation) fn rate_limit_reported(look: &Look<'_>) -> bool {
    *look.told == Told::RateLimited
}

pub(in crate::situation) fn client_waited_for_the_daemon(look: &Look<'_>) -> bool {
    goes(look, "negotiating", "active") && look.host().is_some_and(|host| host.found_offline)
}
