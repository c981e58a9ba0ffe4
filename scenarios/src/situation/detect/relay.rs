//! What the relay tells: sessions, sockets, limits.

use sideband_sim_kit::event::{Closer, Direction, EventKind, Role};

use crate::situation::facts::Look;

/// Milliseconds without a daemon after which a resume is late: two thirds of the grace.
const LATE: u64 = 20_000;
/// Sessions that one connection resumes before it is many.
const MANY: u32 = 3;
/// Clients that come back before it is a herd.
const HERD: u32 = 10;
/// Milliseconds of silence after which a socket may be a ghost: the relay asks with a Ping then.
const SILENT: u64 = 30_000;
/// The sweep time in milliseconds.
const SWEEP: u64 = 90_000;
/// Milliseconds after which frames that pass show that a rate is kept again.
const RECOVERED: u64 = 1_000;

fn goes_on(look: &Look<'_>) -> bool {
    look.state() == "pending" && matches!(&look.event.kind, EventKind::Session { state } if state == "paired")
}

fn enters(look: &Look<'_>, wanted: &str) -> bool {
    matches!(&look.event.kind, EventKind::Session { state } if state == wanted)
}

fn control(look: &Look<'_>, wanted: &str) -> Option<Role> {
    let EventKind::Control { connection, code } = &look.event.kind else { return None };
    look.connection(*connection).filter(|_| code == wanted).map(|connection| connection.role)
}

fn dropped(look: &Look<'_>, wanted: &str) -> bool {
    matches!(&look.event.kind, EventKind::Dropped { reason, .. } if reason == wanted)
}

fn refused(look: &Look<'_>, wanted: u16, why: &str) -> bool {
    matches!(&look.event.kind, EventKind::UpgradeRefused { status, reason, .. } if *status == wanted && reason == why)
}

fn signal_close(look: &Look<'_>, why: &str) -> bool {
    let EventKind::Frame { direction: Direction::In, detail, .. } = &look.event.kind else { return false };
    detail.signal.as_deref() == Some("close") && detail.reason.as_deref() == Some(why)
}

fn swept(look: &Look<'_>, role: Role) -> bool {
    let EventKind::Swept { connection } = &look.event.kind else { return false };
    look.connection(*connection).is_some_and(|connection| connection.role == role)
}

/// Close code 4001, and whether the old socket answered (REL-12).
fn replaced(look: &Look<'_>) -> Option<bool> {
    match &look.event.kind {
        EventKind::Closed { code: Some(4_001), by, answered, .. } => Some(*answered || *by == Some(Closer::Peer)),
        _ => None,
    }
}

fn cut(look: &Look<'_>) -> Option<Role> {
    let EventKind::Closed { connection, code: None, .. } = &look.event.kind else { return None };
    look.connection(*connection).map(|connection| connection.role)
}

pub(in crate::situation) fn resumed(look: &Look<'_>) -> bool {
    goes_on(look)
}

pub(in crate::situation) fn resumed_twice(look: &Look<'_>) -> bool {
    goes_on(look) && look.session().is_some_and(|session| session.resumes > 0)
}

pub(in crate::situation) fn resumed_late(look: &Look<'_>) -> bool {
    goes_on(look) && look.session().is_some_and(|session| look.at() - session.paused >= LATE)
}

pub(in crate::situation) fn many_resumed_together(look: &Look<'_>) -> bool {
    let newest = || {
        let of = |connection: &&crate::situation::facts::Connection| {
            connection.role == Role::Daemon && connection.daemon == look.event.daemon
        };
        look.facts.connections.values().filter(of).max_by_key(|connection| connection.opened)
    };
    goes_on(look) && newest().is_some_and(|connection| connection.resumed + 1 >= MANY)
}

pub(in crate::situation) fn second_loss_while_pending(look: &Look<'_>) -> bool {
    enters(look, "paused") && look.state() == "pending"
}

pub(in crate::situation) fn loss_during_handshake(look: &Look<'_>) -> bool {
    enters(look, "paused") && look.facts.frames && look.session().is_some_and(|session| !session.introduced)
}

pub(in crate::situation) fn grace_expired_while_client_waits(look: &Look<'_>) -> bool {
    control(look, "session_expired") == Some(Role::Client)
        && look.state() == "paused"
        && look.event.daemon.as_deref().is_none_or(|daemon| !look.online(daemon))
}

pub(in crate::situation) fn grace_expired_while_pending(look: &Look<'_>) -> bool {
    // A Signal(close) looks the same but for the frame.
    control(look, "session_expired") == Some(Role::Client)
        && look.facts.frames
        && look.state() == "pending"
        && look.session().is_some_and(|session| session.closing != Some(look.at()))
}

pub(in crate::situation) fn daemon_back_without_resume(look: &Look<'_>) -> bool {
    control(look, "session_expired") == Some(Role::Client)
        && look.state() == "paused"
        && look.event.daemon.as_deref().is_some_and(|daemon| look.online(daemon))
}

pub(in crate::situation) fn daemon_lost_its_state(look: &Look<'_>) -> bool {
    signal_close(look, "state_lost")
}

pub(in crate::situation) fn daemon_shut_down(look: &Look<'_>) -> bool {
    signal_close(look, "shutdown") && look.state() == "paired"
}

fn left(look: &Look<'_>, state: &str) -> bool {
    enters(look, "ended")
        && look.session().is_some_and(|session| session.state == state && !session.expired && session.closing.is_none())
}

pub(in crate::situation) fn client_left_while_paused(look: &Look<'_>) -> bool {
    left(look, "paused")
}

pub(in crate::situation) fn client_left_while_pending(look: &Look<'_>) -> bool {
    left(look, "pending")
}

pub(in crate::situation) fn frame_dropped_while_paused(look: &Look<'_>) -> bool {
    dropped(look, "session_paused")
}

pub(in crate::situation) fn frame_dropped_while_pending(look: &Look<'_>) -> bool {
    dropped(look, "session_pending")
}

pub(in crate::situation) fn frame_for_ended_session(look: &Look<'_>) -> bool {
    dropped(look, "session_ended")
}

pub(in crate::situation) fn signal_for_ended_session(look: &Look<'_>) -> bool {
    let EventKind::Control { connection, code } = &look.event.kind else { return false };
    let Some((key, session, at)) = &look.facts.signal else { return false };
    code == "session_ended"
        && *key == (look.event.host.clone(), *connection)
        && Some(*session) == look.event.session
        && *at == look.at()
        && look.session().is_none()
}

pub(in crate::situation) fn daemon_offline_at_connect(look: &Look<'_>) -> bool {
    control(look, "daemon_offline").is_some()
}

pub(in crate::situation) fn client_ghost_swept(look: &Look<'_>) -> bool {
    swept(look, Role::Client)
}

pub(in crate::situation) fn presence_socket_swept(look: &Look<'_>) -> bool {
    swept(look, Role::Daemon)
}

pub(in crate::situation) fn takeover_of_a_ghost(look: &Look<'_>) -> bool {
    replaced(look) == Some(false)
}

pub(in crate::situation) fn takeover_of_a_living_daemon(look: &Look<'_>) -> bool {
    replaced(look) == Some(true)
}

pub(in crate::situation) fn daemon_refused_by_its_ghost(look: &Look<'_>) -> bool {
    refused(look, 409, "daemon")
}

pub(in crate::situation) fn session_id_used_again(look: &Look<'_>) -> bool {
    refused(look, 409, "session")
}

pub(in crate::situation) fn new_session_beside_a_ghost(look: &Look<'_>) -> bool {
    let EventKind::Opened { role: Role::Client, .. } = &look.event.kind else { return false };
    let whose = |session| look.facts.made_for.get(&session);
    let Some(user) = look.event.session.and_then(whose) else { return false };
    // Without frames nobody knows who is silent.
    look.facts.frames
        && look.facts.connections.values().any(|other| {
            other.role == Role::Client
                && other.daemon == look.event.daemon
                && other.session.and_then(whose) == Some(user)
                && look.at() - other.heard >= SILENT
        })
}

pub(in crate::situation) fn client_cut(look: &Look<'_>) -> bool {
    cut(look) == Some(Role::Client)
}

pub(in crate::situation) fn daemon_cut_under_sessions(look: &Look<'_>) -> bool {
    cut(look) == Some(Role::Daemon)
        && look.facts.sessions.values().any(|session| {
            session.daemon == look.event.daemon && session.state == "paused" && session.paused == look.at()
        })
}

pub(in crate::situation) fn relay_stopped_under_clients(look: &Look<'_>) -> bool {
    let EventKind::Closed { connection, code: Some(1_012), .. } = &look.event.kind else { return false };
    look.connection(*connection).is_some_and(|connection| connection.role == Role::Client)
}

pub(in crate::situation) fn upgrade_while_relay_stops(look: &Look<'_>) -> bool {
    refused(look, 503, "shutdown")
}

pub(in crate::situation) fn herd_after_restart(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::Opened { role: Role::Client, .. })
        && look.facts.clients_since_restart.is_some_and(|count| count + 1 >= HERD)
}

pub(in crate::situation) fn idle_connection_kept(look: &Look<'_>) -> bool {
    let EventKind::Frame { connection, direction: Direction::In, frame, .. } = &look.event.kind else { return false };
    frame == "ping" && look.connection(*connection).is_some_and(|connection| look.at() - connection.data > SWEEP)
}

pub(in crate::situation) fn rate_limited(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::RateLimited { .. })
}

pub(in crate::situation) fn rate_limited_and_recovered(look: &Look<'_>) -> bool {
    let EventKind::Frame { connection, direction: Direction::Out, frame, .. } = &look.event.kind else { return false };
    let Some(to) = look.connection(*connection) else { return false };
    // Whoever sent it is on the other side.
    frame == "data"
        && look.facts.connections.values().any(|from| {
            let sends = match from.role {
                Role::Client => from.session == look.event.session,
                Role::Daemon => from.daemon == look.event.daemon,
            };
            from.role != to.role && sends && from.limited.is_some_and(|limited| look.at() - limited >= RECOVERED)
        })
}

pub(in crate::situation) fn backpressure_closed_a_client(look: &Look<'_>) -> bool {
    control(look, "backpressure") == Some(Role::Client)
}

pub(in crate::situation) fn backpressure_closed_a_daemon(look: &Look<'_>) -> bool {
    control(look, "backpressure") == Some(Role::Daemon)
}

pub(in crate::situation) fn session_limit_reached(look: &Look<'_>) -> bool {
    refused(look, 429, "sessions")
}

pub(in crate::situation) fn malformed_frame_refused(look: &Look<'_>) -> bool {
    let codes =
        ["malformed_frame", "payload_too_large", "invalid_frame_type", "invalid_session_id", "disallowed_sender"];
    matches!(&look.event.kind, EventKind::Control { code, .. } if codes.contains(&code.as_str()))
}

pub(in crate::situation) fn message_refused(look: &Look<'_>) -> bool {
    matches!(&look.event.kind, EventKind::MessageRefused { .. })
}
