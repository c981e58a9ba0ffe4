//! The pairing table of `docs/spec/4-relay.md` as one match (REL-01, REL-02).

use crate::wire::ControlCode;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionState {
    /// There is none: not yet, or not any more (`none` and `–` in the table).
    Gone,
    /// Client and daemon are connected; frames flow.
    Paired,
    /// The daemon is away; the grace runs.
    Paused,
    /// The daemon is back and has not said that it is ready; the grace still runs.
    Pending,
}

impl SessionState {
    /// The name in snake case, as events write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gone => "ended",
            Self::Paired => "paired",
            Self::Paused => "paused",
            Self::Pending => "pending",
        }
    }

    /// Whether the grace runs in this state.
    pub const fn grace_runs(self) -> bool {
        match self {
            Self::Paused | Self::Pending => true,
            Self::Gone | Self::Paired => false,
        }
    }
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A client opens while the daemon is connected.
    ClientOpensOnline,
    /// A client opens while the daemon is not connected.
    ClientOpensOffline,
    /// The client's socket closes, by whomever.
    ClientCloses,
    /// The daemon's socket closes, by whomever.
    DaemonCloses,
    /// The daemon connects again with `session:resume`.
    DaemonReturnsResumable,
    /// The daemon connects again without it.
    DaemonReturnsAfresh,
    /// Signal(ready).
    SignalReady,
    /// Signal(close).
    SignalClose,
    /// The grace is over.
    GraceOver,
}

/// What the relay does, and the next state. A terminal code to the client closes it (WIRE-09).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) to_client: Option<ControlCode>,
    pub(super) to_daemon: Option<ControlCode>,
    pub(super) next: SessionState,
}

const fn quietly(next: SessionState) -> Step {
    Step { to_client: None, to_daemon: None, next }
}

const fn tell_client(code: ControlCode, next: SessionState) -> Step {
    Step { to_client: Some(code), to_daemon: None, next }
}

const fn tell_daemon(code: ControlCode, next: SessionState) -> Step {
    Step { to_client: None, to_daemon: Some(code), next }
}

const fn tell_both(client: ControlCode, daemon: ControlCode, next: SessionState) -> Step {
    Step { to_client: Some(client), to_daemon: Some(daemon), next }
}

/// The table.
#[rustfmt::skip]
pub(super) const fn step(state: SessionState, event: Event) -> Step {
    use ControlCode::{DaemonOffline, SessionEnded, SessionExpired, SessionPaused, SessionPending, SessionResumed};
    use Event::{
        ClientCloses, ClientOpensOffline, ClientOpensOnline, DaemonCloses, DaemonReturnsAfresh,
        DaemonReturnsResumable, GraceOver, SignalClose, SignalReady,
    };
    use SessionState::{Gone, Paired, Paused, Pending};

    match (state, event) {
        (Gone,             ClientOpensOnline)      => quietly(Paired),
        (Gone,             ClientOpensOffline)     => tell_client(DaemonOffline, Gone),
        (Paired,           DaemonCloses)           => tell_client(SessionPaused, Paused),
        (Paired,           SignalClose)            => tell_client(SessionExpired, Gone),
        (Paired | Pending, ClientCloses)           => tell_daemon(SessionEnded, Gone),
        (Paused,           ClientCloses)           => quietly(Gone),
        (Paused,           DaemonReturnsResumable) => tell_client(SessionPending, Pending),
        (Paused,           DaemonReturnsAfresh)    => tell_client(SessionExpired, Gone),
        (Paused,           GraceOver)              => tell_client(SessionExpired, Gone),
        (Pending,          GraceOver)              => tell_both(SessionExpired, SessionEnded, Gone),
        (Pending,          SignalReady)            => tell_client(SessionResumed, Paired),
        (Pending,          SignalClose)            => tell_client(SessionExpired, Gone),
        (Pending,          DaemonCloses)           => tell_client(SessionPaused, Paused),

        // REL-05: a ready that nobody waits for.
        (Paired,           SignalReady)            => quietly(Paired),

        // What cannot happen changes nothing: a session opens once; a paused one has no daemon that could close or
        // signal, the others have one that cannot return; the grace runs in Paused and Pending only.
        (Gone, ClientCloses | DaemonCloses | DaemonReturnsResumable | DaemonReturnsAfresh
             | SignalReady | SignalClose | GraceOver)                                                => quietly(Gone),
        (Paired, ClientOpensOnline | ClientOpensOffline | DaemonReturnsResumable | DaemonReturnsAfresh
               | GraceOver)                                                                          => quietly(Paired),
        (Paused, ClientOpensOnline | ClientOpensOffline | DaemonCloses | SignalReady | SignalClose)  => quietly(Paused),
        (Pending, ClientOpensOnline | ClientOpensOffline | DaemonReturnsResumable | DaemonReturnsAfresh)
                                                                                                     => quietly(Pending),
    }
}
