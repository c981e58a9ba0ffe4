//! Random sequences of inputs, held against a model that knows only which connections are open.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::HEADER_LEN;

/// Session ids and connections are drawn from few, so that inputs meet.
const SESSIONS: u64 = 5;

#[derive(Debug, Clone)]
enum Input {
    DaemonOpen {
        resumable: bool,
    },
    ClientOpen {
        session: u64,
    },
    /// From a connection: the n-th of those that ever were.
    Message {
        from: usize,
        message: Bytes,
    },
    Closed {
        conn: usize,
    },
    Backpressure {
        conn: usize,
    },
    Wait {
        seconds: u64,
    },
    Shutdown,
}

fn message() -> impl Strategy<Value = Bytes> {
    let session = 0..=SESSIONS;
    prop_oneof![
        8 => session.clone().prop_map(|s| SessionId::new(s).map_or_else(Bytes::new, data)),
        3 => (session.clone(), any::<bool>()).prop_map(|(s, ready)| {
            let sent = if ready { Signal::Ready } else { Signal::Close };
            SessionId::new(s).map_or_else(Bytes::new, |s| signal(s, sent))
        }),
        1 => prop::collection::vec(any::<u8>(), 0..=8).prop_map(|p| Frame::Ping(p.into()).encode()),
        // A header that fits, of any type and session.
        2 => (any::<u8>(), session, prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(kind, s, payload)| {
            [&[kind % 0x22][..], &(payload.len() as u32).to_be_bytes(), &s.to_be_bytes(), &payload].concat().into()
        }),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        3 => any::<bool>().prop_map(|resumable| Input::DaemonOpen { resumable }),
        6 => (1..=SESSIONS).prop_map(|session| Input::ClientOpen { session }),
        20 => (any::<prop::sample::Index>(), message())
            .prop_map(|(from, message)| Input::Message { from: from.index(64), message }),
        4 => (0..64usize).prop_map(|conn| Input::Closed { conn }),
        1 => (0..64usize).prop_map(|conn| Input::Backpressure { conn }),
        3 => (0..20u64).prop_map(|seconds| Input::Wait { seconds }),
        1 => Just(Input::Shutdown),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Daemon,
    Client(SessionId),
}

struct Model {
    hub: DaemonHub,
    now: u64,
    /// Every connection that was let in, and whom it belongs to.
    ever: Vec<(ConnId, Who)>,
    open: BTreeMap<ConnId, Who>,
    next: u64,
}

/// Whose doing the outputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Client(SessionId),
    /// The daemon, time, or the relay itself: may concern everybody.
    Other,
}

impl Model {
    fn pick(&self, n: usize) -> Option<(ConnId, Who)> {
        (!self.ever.is_empty()).then(|| self.ever[n % self.ever.len()])
    }

    fn cause(who: Who) -> Cause {
        match who {
            Who::Client(session) => Cause::Client(session),
            Who::Daemon => Cause::Other,
        }
    }

    fn step(&mut self, input: Input) -> Result<(), TestCaseError> {
        let now = at(self.now);
        let mut forwarded = None;
        let cause = match input {
            Input::DaemonOpen { resumable } => {
                self.next += 1;
                let conn = ConnId(self.next);
                prop_assert_eq!(self.hub.handle_daemon_open(conn, resumable, None, now), Ok(()));
                self.ever.push((conn, Who::Daemon));
                self.open.insert(conn, Who::Daemon);
                Cause::Other
            }
            Input::ClientOpen { session } => {
                self.next += 1;
                let (conn, session) = (ConnId(self.next), id(session));
                if self.hub.handle_client_open(conn, session, None, now).is_ok() {
                    self.ever.push((conn, Who::Client(session)));
                    self.open.insert(conn, Who::Client(session));
                } else {
                    prop_assert!(self.open.values().any(|&who| who == Who::Client(session)));
                }
                // Opening also expires what is due.
                Cause::Other
            }
            Input::Message { from, message } => {
                let Some((conn, who)) = self.pick(from) else { return Ok(()) };
                forwarded = Some(message.clone());
                self.hub.handle_timeout(now);
                self.drain(Cause::Other, None)?;
                self.hub.handle_message(conn, message, now);
                Self::cause(who)
            }
            Input::Closed { conn } => {
                let Some((conn, who)) = self.pick(conn) else { return Ok(()) };
                self.hub.handle_timeout(now);
                self.drain(Cause::Other, None)?;
                self.open.remove(&conn);
                self.hub.handle_closed(conn, now);
                Self::cause(who)
            }
            Input::Backpressure { conn } => {
                let Some((conn, who)) = self.pick(conn) else { return Ok(()) };
                self.hub.handle_timeout(now);
                self.drain(Cause::Other, None)?;
                self.hub.handle_backpressure(conn, now);
                Self::cause(who)
            }
            Input::Wait { seconds } => {
                self.now += seconds;
                self.hub.handle_timeout(at(self.now));
                Cause::Other
            }
            Input::Shutdown => {
                self.hub.handle_shutdown(now);
                Cause::Other
            }
        };
        self.drain(cause, forwarded.as_ref())?;
        self.check()
    }

    fn drain(&mut self, cause: Cause, forwarded: Option<&Bytes>) -> Result<(), TestCaseError> {
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { to, message, forwards } => {
                    let who = self.open.get(&to).copied();
                    prop_assert!(who.is_some(), "sent to {to:?}, which is closed");
                    if let (Cause::Client(mine), Some(Who::Client(theirs))) = (cause, who) {
                        prop_assert_eq!(mine, theirs, "REL-04");
                    }
                    let named = u64::from_be_bytes(message[5..HEADER_LEN].try_into().unwrap());
                    if let Some(session) = forwards {
                        let came = forwarded.expect("only messages are forwarded");
                        prop_assert_eq!(message.as_ptr(), came.as_ptr(), "WIRE-18");
                        prop_assert_eq!(&message, came, "WIRE-18");
                        prop_assert_eq!(named, session.get());
                        prop_assert_eq!(self.hub.session(session).map(|s| s.state), Some(SessionState::Paired));
                    }
                    if let (Some(Who::Client(session)), Some(_)) = (who, forwards) {
                        prop_assert_eq!(named, session.get(), "REL-04");
                    }
                }
                Output::Close { conn, .. } => {
                    let who = self.open.remove(&conn);
                    prop_assert!(who.is_some(), "{conn:?} is closed twice");
                    if let (Cause::Client(mine), Some(who)) = (cause, who) {
                        prop_assert_eq!(who, Who::Client(mine), "REL-04");
                    }
                }
                Output::Report(_) => {}
            }
        }
        Ok(())
    }

    /// What holds between inputs.
    fn check(&self) -> Result<(), TestCaseError> {
        let daemon = self.open.iter().find(|(_, who)| **who == Who::Daemon).map(|(conn, _)| *conn);
        prop_assert_eq!(self.hub.daemon(), daemon);
        let mut graces = 0;
        for view in self.hub.sessions() {
            prop_assert_eq!(self.open.get(&view.client), Some(&Who::Client(view.session)));
            prop_assert_eq!(view.state == SessionState::Paused, daemon.is_none());
            graces += usize::from(view.state.grace_runs());
        }
        let clients = self.open.values().filter(|who| **who != Who::Daemon).count();
        prop_assert_eq!(self.hub.sessions().count(), clients, "an open client has a session");
        prop_assert_eq!(self.hub.poll_timeout().is_some(), graces > 0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_inputs_keep_the_rules(inputs in prop::collection::vec(input(), 1..120)) {
        let mut model = Model {
            hub: DaemonHub::new(HubConfig { ended_ids: 3, ..HubConfig::default() }),
            now: 0,
            ever: Vec::new(),
            open: BTreeMap::new(),
            next: 0,
        };
        for input in inputs {
            model.step(input)?;
        }
        // Timeouts drain: each one ends at least one session's grace.
        let mut left = model.hub.sessions().count();
        while let Some(at) = model.hub.poll_timeout() {
            prop_assert!(left > 0, "a timeout that never goes away");
            left -= 1;
            model.hub.handle_timeout(at);
            model.drain(Cause::Other, None)?;
            model.check()?;
        }
    }
}
