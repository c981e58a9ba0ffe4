//! The shell around one daemon's machine: outboxes, the grace timer, events.
//!
//! Everything that touches the machine goes through [`Hub::with`]: lock, call, carry out, unlock, wake. Hubs share no
//! lock on the frames' path.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use sideband_env::Timeline;
use sideband_protocol::{
    Instant, SessionId,
    relay::{ConnId, Counters, DaemonHub, HubConfig, Output, Refused, Registry, Report, SessionState, SessionView},
};
use sideband_sim_kit::{
    event::{Direction, EventKind, EventSink, Role},
    fault::{FaultEngine, Place},
    observer::{FrameSeen, WireObserver},
};
use tokio::sync::Notify;

use crate::{
    connection::Ended,
    faults::Inward,
    lane::Lane,
    outbox::{End, Outbox, Place as Spot},
};

/// What all hubs of a relay share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) timeline: Timeline,
    pub(crate) events: EventSink,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) trace_frames: bool,
    pub(crate) faults: FaultEngine,
}

impl Common {
    /// The session is over: its id is kept for as long as a token of it could live (REL-10).
    pub(crate) fn release(&self, session: SessionId) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).release(session, self.timeline.now());
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: DaemonHub,
    pub(crate) outboxes: BTreeMap<ConnId, Arc<Outbox>>,
    /// What the timer's task sleeps for; none if there is no such task.
    timer_at: Option<Instant>,
    pub(crate) observer: WireObserver,
    /// Frames that faults keep from the machine; those of connections only that have some.
    pub(crate) lanes: BTreeMap<ConnId, Lane<Inward>>,
}

/// One daemon's machine and its connections' outboxes.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) daemon_id: String,
    pub(crate) common: Arc<Common>,
    state: Mutex<State>,
    timer: Notify,
    /// Nanoseconds for which the daemon's socket has been taking bytes, over all its sockets.
    taking: AtomicU64,
}

impl Hub {
    pub(crate) fn new(daemon_id: &str, machine: DaemonHub, common: Arc<Common>) -> Arc<Self> {
        let (outboxes, lanes) = (BTreeMap::new(), BTreeMap::new());
        let state = State { machine, outboxes, timer_at: None, observer: WireObserver::new(), lanes };
        Arc::new(Self {
            daemon_id: daemon_id.to_owned(),
            common,
            state: Mutex::new(state),
            timer: Notify::new(),
            taking: AtomicU64::new(0),
        })
    }

    /// Calls the machine and carries out what it wants.
    pub(crate) fn with<T>(self: &Arc<Self>, call: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state_ref = &mut *state;
        let mut turn = Turn {
            hub: self,
            now: self.common.timeline.now(),
            at: self.common.events.now(),
            state: state_ref,
            source: None,
            unheard: None,
            wake: Vec::new(),
        };
        let result = call(&mut turn);
        turn.carry_out();
        turn.grade();
        let wake = turn.wake;
        match (state.machine.poll_timeout(), state.timer_at) {
            (at @ Some(_), None) => {
                state.timer_at = at;
                tokio::spawn(run_timer(self.clone()));
            }
            (Some(at), Some(sleeps_for)) if at < sleeps_for => self.timer.notify_one(),
            (Some(_) | None, _) => {}
        }
        drop(state);
        for outbox in wake {
            outbox.wake();
        }
        result
    }

    /// The daemon's upgrade is granted.
    pub(crate) fn open_daemon(
        self: &Arc<Self>,
        conn: ConnId,
        resumable: bool,
        limit: Option<u64>,
        token: Option<String>,
        outbox: &Arc<Outbox>,
    ) -> Result<(), Refused> {
        self.with(|turn| {
            turn.state.machine.handle_daemon_open(conn, resumable, limit, turn.now)?;
            turn.opened(conn, None, Some(resumable), token, outbox);
            Ok(())
        })
    }

    /// A client's upgrade is granted; its session id is claimed already.
    pub(crate) fn open_client(
        self: &Arc<Self>,
        conn: ConnId,
        session: SessionId,
        limit: Option<u64>,
        token: Option<String>,
        outbox: &Arc<Outbox>,
    ) -> Result<(), Refused> {
        self.with(|turn| {
            turn.state.machine.handle_client_open(conn, session, limit, turn.now)?;
            turn.opened(conn, Some(session), None, token, outbox);
            if turn.state.machine.session(session).is_none() {
                // Refused as offline: no session began whose end would be reported.
                turn.hub.common.release(session);
            }
            Ok(())
        })
    }

    /// Messages came from a connection, in this order. Returns until when faults keep some of them.
    pub(crate) fn messages(
        self: &Arc<Self>,
        conn: ConnId,
        outbox: &Arc<Outbox>,
        messages: impl Iterator<Item = Bytes>,
    ) -> Option<Instant> {
        self.with(|turn| {
            turn.source = Some(outbox.clone());
            for message in messages {
                turn.frame(conn, Direction::In, &message);
                turn.take_in(conn, outbox, message);
            }
            turn.state.lanes.get(&conn).and_then(|lane| lane.next_at(&turn.hub.common.faults))
        })
    }

    /// Lets messages go on that faults have kept for long enough. Returns until when they keep the rest.
    pub(crate) fn release(self: &Arc<Self>, conn: ConnId, outbox: &Arc<Outbox>) -> Option<Instant> {
        self.with(|turn| {
            turn.source = Some(outbox.clone());
            turn.release(conn, Some(turn.now))
        })
    }

    /// The connection is gone, or is being closed for a reason that the machine does not know.
    pub(crate) fn closed(self: &Arc<Self>, conn: ConnId) {
        self.with(|turn| {
            // What was kept of it came before.
            turn.source = turn.state.outboxes.get(&conn).cloned();
            turn.release(conn, None);
            turn.forget(conn);
            turn.state.machine.handle_closed(conn, turn.now);
        });
    }

    /// The connection is being closed because it was silent for too long (REL-22).
    pub(crate) fn swept(self: &Arc<Self>, conn: ConnId) {
        self.with(|turn| {
            turn.forget(conn);
            turn.emit(None, EventKind::Swept { connection: conn.0 });
            turn.state.machine.handle_swept(conn, turn.now);
        });
    }

    /// The connection takes nothing, or its daemon takes nothing of it (REL-21).
    pub(crate) fn stalled(self: &Arc<Self>, conn: ConnId) {
        self.with(|turn| {
            if let Some(outbox) = turn.state.outboxes.get(&conn) {
                outbox.discard();
            }
            turn.state.machine.handle_backpressure(conn, turn.now);
        });
    }

    /// Frames of the connection were over its rate (REL-20); it is told if `tell`. Before the frames of the same turn.
    pub(crate) fn over_rate(self: &Arc<Self>, conn: ConnId, frames: u64, tell: bool) {
        self.with(|turn| {
            turn.state.observer.unseen(turn.at, conn.0);
            turn.state.machine.handle_over_rate(conn, frames, tell, turn.now);
            if tell || turn.hub.common.trace_frames {
                turn.emit(None, EventKind::RateLimited { connection: conn.0, frames });
            }
        });
    }

    /// From now on, or no more, the connection is not read, or what is sent there waits by a fault.
    pub(crate) fn hold(self: &Arc<Self>, conn: ConnId, held: bool) {
        self.with(|turn| {
            turn.state.observer.hold(turn.at, conn.0, held);
            if turn.hub.common.trace_frames {
                turn.emit(None, EventKind::Held { connection: conn.0, held });
            }
        });
    }

    /// The connection has been silent for a while (REL-22).
    pub(crate) fn ping(self: &Arc<Self>, conn: ConnId) {
        self.with(|turn| turn.state.machine.handle_ping_due(conn, turn.now));
    }

    /// The limits have changed.
    pub(crate) fn set_config(self: &Arc<Self>, config: HubConfig) {
        self.with(|turn| turn.state.machine.set_config(config));
    }

    /// Whether any fault is about frames.
    pub(crate) fn has_frame_faults(&self) -> bool {
        self.common.faults.any_at(Place::RelayFrame)
    }

    pub(crate) fn faults(&self) -> &FaultEngine {
        &self.common.faults
    }

    pub(crate) fn timeline(&self) -> Timeline {
        self.common.timeline
    }

    /// For how long the daemon's socket has been taking bytes, over all its sockets.
    pub(crate) fn taking(&self) -> Duration {
        Duration::from_nanos(self.taking.load(Ordering::Relaxed))
    }

    /// The daemon's socket has been taking bytes for so much longer.
    pub(crate) fn add_taking(&self, more: Duration) {
        self.taking.fetch_add(more.as_nanos() as u64, Ordering::Relaxed);
    }

    /// A message came that no relay takes; the connection is being closed with this code.
    pub(crate) fn refused(self: &Arc<Self>, conn: ConnId, code: u16) {
        self.with(|turn| {
            turn.state.observer.refused(turn.at, conn.0, code);
            turn.emit(None, EventKind::MessageRefused { connection: conn.0, code });
        });
    }

    /// The connection's task is done.
    pub(crate) fn ended(self: &Arc<Self>, conn: ConnId, session: Option<SessionId>, ended: Ended) {
        let Ended { code, by, answered } = ended;
        self.with(|turn| {
            turn.state.observer.closed(turn.at, conn.0, code, by, answered);
            turn.emit(session, EventKind::Closed { connection: conn.0, code, by, answered });
        });
    }

    /// Closes every connection with 1012.
    pub(crate) fn shutdown(self: &Arc<Self>) {
        self.with(|turn| turn.state.machine.handle_shutdown(turn.now));
        self.timer.notify_one();
    }

    /// Cuts the daemon's socket; whether there was one.
    pub(crate) fn cut_daemon(self: &Arc<Self>) -> bool {
        self.with(|turn| turn.state.machine.daemon().is_some_and(|conn| turn.cut(conn)))
    }

    /// Cuts the socket of a session's client; whether there was one.
    pub(crate) fn cut_client(self: &Arc<Self>, session: SessionId) -> bool {
        self.with(|turn| turn.state.machine.session(session).is_some_and(|view| turn.cut(view.client)))
    }

    pub(crate) fn is_online(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).machine.daemon().is_some()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).machine.is_idle()
    }

    pub(crate) fn view(&self) -> HubView {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        HubView {
            online: state.machine.daemon().is_some(),
            sessions: state.machine.sessions().collect(),
            counters: state.machine.counters(),
        }
    }
}

/// A hub as seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct HubView {
    pub(crate) online: bool,
    pub(crate) sessions: Vec<SessionView>,
    pub(crate) counters: Counters,
}

/// One visit to the machine, with its lock held.
pub(crate) struct Turn<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) now: Instant,
    /// The same on the events' time line.
    pub(crate) at: u64,
    pub(crate) state: &'a mut State,
    /// The connection whose messages are handled.
    source: Option<Arc<Outbox>>,
    /// Whom a fault keeps from hearing the Control that is reported next.
    pub(crate) unheard: Option<ConnId>,
    /// Whose task has something new to do; woken when the lock is free.
    pub(crate) wake: Vec<Arc<Outbox>>,
}

impl Turn<'_> {
    /// A connection is let in. Its outputs, if any, are still in the machine.
    /// A client's connection has a session.
    fn opened(
        &mut self,
        conn: ConnId,
        session: Option<SessionId>,
        resumable: Option<bool>,
        token: Option<String>,
        outbox: &Arc<Outbox>,
    ) {
        outbox.open(self.now);
        self.state.outboxes.insert(conn, outbox.clone());
        let role = if session.is_some() { Role::Client } else { Role::Daemon };
        self.state.observer.opened(self.at, conn.0, role, session, resumable == Some(true));
        self.emit(session, EventKind::Opened { connection: conn.0, role, token, resumable });
    }

    /// Tells what the observer found.
    fn grade(&mut self) {
        while let Some(mark) = self.state.observer.poll_mark() {
            self.hub.common.events.grade(Some(&self.hub.daemon_id), mark);
        }
    }

    pub(crate) fn carry_out(&mut self) {
        while let Some(output) = self.state.machine.poll_output() {
            match output {
                Output::Send { to, message, forwards } => self.send(to, message, forwards),
                Output::Close { conn, code } => self.end(conn, End::Close(code)),
                Output::Report(report) => self.report(report),
            }
        }
    }

    fn send(&mut self, to: ConnId, message: Bytes, forwards: Option<SessionId>) {
        self.unheard = None;
        let Some(outbox) = self.state.outboxes.get(&to).cloned() else { return };
        // Toward the daemon, a client's bytes are counted at the client.
        let to_daemon = self.state.machine.daemon() == Some(to);
        let of = if to_daemon && forwards.is_some() { self.source.clone() } else { None };
        let own = forwards.is_none();
        if self.hub.common.faults.any_at(Place::RelayFrame) {
            self.send_faulty(to, &outbox, message, of.as_ref(), own);
        } else {
            self.queue(to, &outbox, message, of.as_ref(), own, Spot::Next(None));
        }
    }

    /// Queues a message; whether there was room.
    pub(crate) fn queue(
        &mut self,
        to: ConnId,
        outbox: &Arc<Outbox>,
        message: Bytes,
        of: Option<&Arc<Outbox>>,
        own: bool,
        spot: Spot,
    ) -> bool {
        let behind = matches!(spot, Spot::Behind(_));
        match outbox.push_at(message.clone(), of, own, spot) {
            Ok(wake) => {
                if wake {
                    self.wake.push(outbox.clone());
                }
                if behind {
                    self.state.observer.put_behind(to.0, &FrameSeen::read(&message));
                    self.trace(to, Direction::Out, &FrameSeen::read(&message));
                } else {
                    self.frame(to, Direction::Out, &message);
                }
                true
            }
            Err(_full) => {
                // REL-21: never served with gaps.
                outbox.discard();
                self.state.machine.handle_backpressure(to, self.now);
                false
            }
        }
    }

    /// The machine never speaks of it again.
    fn forget(&mut self, conn: ConnId) -> Option<Arc<Outbox>> {
        self.state.lanes.remove(&conn);
        self.state.outboxes.remove(&conn)
    }

    pub(crate) fn end(&mut self, conn: ConnId, end: End) {
        if let Some(outbox) = self.forget(conn) {
            outbox.end(end);
            self.wake.push(outbox);
        }
    }

    pub(crate) fn cut(&mut self, conn: ConnId) -> bool {
        let there = self.state.outboxes.contains_key(&conn);
        self.end(conn, End::Cut);
        self.state.machine.handle_closed(conn, self.now);
        there
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Session { session, state } => {
                self.state.observer.session(session, state);
                self.emit(Some(session), EventKind::Session { state: state.name().to_owned() });
                if state == SessionState::Gone {
                    self.hub.common.release(session);
                }
            }
            Report::Control { to, session, code } => {
                if self.unheard != Some(to) {
                    self.state.observer.control(self.at, to.0, session, Some(code));
                }
                self.emit(session, EventKind::Control { connection: to.0, code: code.name().to_owned() });
            }
            Report::Dropped { from, session, frame_type: _, reason } => {
                if self.hub.common.trace_frames {
                    let reason = reason.name().to_owned();
                    self.emit(Some(session), EventKind::Dropped { connection: from.0, reason });
                }
            }
        }
    }

    /// A frame passes the door. Nothing is allocated for one that is in order, unless frames are traced.
    pub(crate) fn frame(&mut self, conn: ConnId, direction: Direction, message: &[u8]) {
        let seen = FrameSeen::read(message);
        match direction {
            Direction::In => self.state.observer.received(self.at, conn.0, &seen),
            Direction::Out => self.state.observer.sent(self.at, conn.0, &seen),
        }
        self.trace(conn, direction, &seen);
    }

    fn trace(&self, conn: ConnId, direction: Direction, seen: &FrameSeen) {
        if self.hub.common.trace_frames {
            let (frame, detail) = (seen.name().to_owned(), seen.detail());
            let kind = EventKind::Frame { connection: conn.0, direction, frame, bytes: seen.bytes, detail };
            self.emit(seen.session, kind);
        }
    }

    pub(crate) fn emit(&self, session: Option<SessionId>, kind: EventKind) {
        self.hub.common.events.emit(Some(&self.hub.daemon_id), session, kind);
    }
}

/// Wakes the machine when a grace is over; ends when none runs. It is notified when one ends earlier than those before.
async fn run_timer(hub: Arc<Hub>) {
    loop {
        let at = {
            let mut state = hub.state.lock().unwrap_or_else(PoisonError::into_inner);
            let at = state.machine.poll_timeout();
            state.timer_at = at;
            at
        };
        let Some(at) = at else { return };
        tokio::select! {
            biased;
            () = hub.timer.notified() => {}
            () = hub.common.timeline.sleep_until(Some(at)) => {
                hub.with(|turn| turn.state.machine.handle_timeout(turn.now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sideband_protocol::{
        relay::{HubConfig, Watched},
        wire::{ControlCode, Frame, HEADER_LEN, close, control_message},
    };

    use super::*;
    use crate::limits::LiveLimits;

    const DAEMON: ConnId = ConnId(1);
    const CLIENT: ConnId = ConnId(2);

    fn session() -> SessionId {
        SessionId::new(10).unwrap()
    }

    fn hub() -> Arc<Hub> {
        let timeline = Timeline::start();
        let events = EventSink::new(timeline, "relay");
        let faults = FaultEngine::new(timeline);
        let common = Common { timeline, events, registry: Mutex::default(), trace_frames: false, faults };
        Hub::new("d_1", DaemonHub::new(HubConfig::default()), Arc::new(common))
    }

    fn daemon() -> Arc<Outbox> {
        Outbox::new(Watched::Daemon, LiveLimits::bytes(1_000, 1_000))
    }

    fn client() -> Arc<Outbox> {
        Outbox::new(Watched::Client, LiveLimits::bytes(1_000, 1_000))
    }

    /// A hub with its daemon and one client, who takes at most 1,000 bytes.
    fn paired() -> (Arc<Hub>, Arc<Outbox>, Arc<Outbox>) {
        let (hub, daemon, client) = (hub(), daemon(), client());
        hub.open_daemon(DAEMON, true, None, None, &daemon).unwrap();
        hub.open_client(CLIENT, session(), None, None, &client).unwrap();
        (hub, daemon, client)
    }

    fn data(bytes: usize) -> Bytes {
        Frame::Data { session: session(), payload: vec![0; bytes - HEADER_LEN].into() }.encode()
    }

    #[tokio::test]
    async fn rel_21_backpressure_takes_the_place_of_what_was_queued() {
        let (hub, daemon, client) = paired();
        // It leaves no room for the Control.
        hub.messages(DAEMON, &daemon, [data(990)].into_iter());
        hub.messages(DAEMON, &daemon, [data(100), data(50), data(50)].into_iter());
        assert_eq!(client.pop(), Some(control_message(ControlCode::Backpressure, 0)));
        assert_eq!((client.pop(), client.ending()), (None, Some(End::Close(close::TRY_AGAIN))));
        assert_eq!(daemon.pop(), Some(control_message(ControlCode::SessionEnded, 10)));
    }

    #[tokio::test]
    async fn rel_21_only_forwarded_frames_count_against_the_client_that_sent_them() {
        let (hub, daemon, client) = paired();
        hub.messages(CLIENT, &client, [data(900), data(200)].into_iter());
        assert!(!client.may_read());
        daemon.pop().unwrap();
        assert!(client.may_read());
        hub.messages(CLIENT, &client, std::iter::repeat_n(Frame::Ping(Bytes::new()).encode(), 10));
        assert!(client.may_read());
    }

    #[tokio::test(start_paused = true)]
    async fn rel_10_used_ids_are_forgotten_in_the_end_also_of_sessions_that_never_began() {
        let hub = hub();
        let claim = |n, life| {
            let now = hub.common.timeline.now();
            let mut registry = hub.common.registry.lock().unwrap();
            registry.claim(SessionId::new(n).unwrap(), now + Duration::from_secs(life), now).unwrap();
            registry.len()
        };
        claim(10, 150);
        hub.open_client(CLIENT, session(), None, None, &client()).unwrap();
        assert_eq!(claim(11, 150), 2);
        tokio::time::advance(Duration::from_secs(331)).await;
        assert_eq!(claim(12, 150), 2, "10 is forgotten, 11 was never over");
    }

    #[tokio::test(start_paused = true)]
    async fn rel_01_the_timer_ends_the_grace() {
        let (hub, _daemon, client) = paired();
        hub.closed(DAEMON);
        assert_eq!(client.pop(), Some(control_message(ControlCode::SessionPaused, 10)));
        tokio::time::sleep(Duration::from_millis(29_990)).await;
        assert_eq!(client.pop(), None);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(client.pop(), Some(control_message(ControlCode::SessionExpired, 10)));
        assert_eq!(client.ending(), Some(End::Close(close::NORMAL)));
    }

    #[tokio::test(start_paused = true)]
    async fn rel_01_a_shorter_grace_is_not_slept_over() {
        let hub = hub();
        hub.open_daemon(DAEMON, true, None, None, &daemon()).unwrap();
        let (first, second) = (client(), client());
        hub.open_client(CLIENT, session(), None, None, &first).unwrap();
        hub.closed(DAEMON);
        hub.set_config(HubConfig { grace: Duration::from_secs(2), ..HubConfig::default() });
        hub.open_daemon(DAEMON, true, None, None, &daemon()).unwrap();
        hub.open_client(ConnId(3), SessionId::new(11).unwrap(), None, None, &second).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        hub.closed(DAEMON);
        tokio::time::sleep(Duration::from_millis(2_010)).await;
        assert_eq!((first.ending(), second.ending()), (None, Some(End::Close(close::NORMAL))));
    }

    #[tokio::test(start_paused = true)]
    async fn rel_01_each_grace_has_its_timer() {
        let (hub, _daemon, _client) = paired();
        for _ in 0..3 {
            hub.closed(DAEMON);
            tokio::time::sleep(Duration::from_secs(31)).await;
            assert_eq!(hub.view().sessions, []);
            hub.open_daemon(DAEMON, true, None, None, &daemon()).unwrap();
            hub.open_client(CLIENT, session(), None, None, &client()).unwrap();
        }
    }
}
