//! Whatever comes in whatever order: nothing panics, time goes on, and nothing is left after the end.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use sideband_protocol::{
    SessionId,
    daemon::{Done, Job, Report, SessionHandle},
    endpoint::{Endpoint as _, Forbidden},
    failure::Cause,
    peer::{Answer, CallId, Delivery},
    sbp::FrameId,
    wire::{ControlCode, Frame, Reason, UnknownControlCode},
};

use super::world::{World, api, close, config, upgrade};
use crate::common::{bench::Did, id, presence_token};

/// One input of the machine. Sessions are few, so that their paths cross.
#[derive(Debug, Clone)]
enum Input {
    /// The job under way succeeds.
    Succeed {
        resumable: bool,
    },
    /// The job under way fails, as the number says.
    Fail(u8),
    Lose(Option<u16>),
    Forbidden(bool),
    Life,
    Advance(u64),
    /// Whatever it takes until the socket stands.
    GoOnline {
        resumable: bool,
    },
    Init(u8),
    /// A key exchange and introductions, if there is no such session.
    Meet(u8),
    /// A client that has keys introduces itself, if it has not.
    Introduce(u8),
    /// A client does something under its keys.
    Say(u8, u8),
    Forged(u8, Vec<u8>),
    Accept(u8),
    Signal(u8),
    Ping,
    Control(Option<u8>, u16),
    Bytes(Vec<u8>),
    Call(u8),
    Cancel(u8),
    Emit(u8, u16),
    App(u8),
    Respond(u8, bool),
    Release(u8),
    CloseSession(u8),
    EndSession(u8),
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let session = 0..4u8;
    let code = prop_oneof![
        3 => proptest::sample::select(ControlCode::ALL).prop_map(ControlCode::code),
        1 => any::<u16>(),
    ];
    let one = prop_oneof![
        3 => any::<bool>().prop_map(|resumable| Input::Succeed { resumable }),
        12 => Just(Input::GoOnline { resumable: true }),
        1 => Just(Input::GoOnline { resumable: false }),
        1 => (0..6u8).prop_map(Input::Fail),
        4 => proptest::sample::select(vec![None, Some(1000), Some(1002), Some(1012), Some(1005)]).prop_map(Input::Lose),
        1 => any::<bool>().prop_map(Input::Forbidden),
        5 => Just(Input::Life),
        4 => (0..5_000u64).prop_map(Input::Advance),
        1 => (0..200_000u64).prop_map(Input::Advance),
        2 => session.clone().prop_map(Input::Init),
        2 => session.clone().prop_map(Input::Introduce),
        20 => session.clone().prop_map(Input::Meet),
        20 => (session.clone(), 0..6u8).prop_map(|(session, what)| Input::Say(session, what)),
        1 => (session.clone(), vec(any::<u8>(), 28..60)).prop_map(|(session, bytes)| Input::Forged(session, bytes)),
        1 => session.clone().prop_map(Input::Accept),
        1 => session.clone().prop_map(Input::Signal),
        1 => Just(Input::Ping),
        2 => (proptest::option::weighted(0.8, session.clone()), code).prop_map(|(session, code)| Input::Control(session, code)),
        2 => vec(any::<u8>(), 0..30).prop_map(Input::Bytes),
        10 => session.clone().prop_map(Input::Call),
        2 => session.clone().prop_map(Input::Cancel),
        8 => (session.clone(), 0..300u16).prop_map(|(session, size)| Input::Emit(session, size)),
        2 => (session.clone(), any::<u16>()).prop_map(|(session, size)| Input::Emit(session, size)),
        2 => session.clone().prop_map(Input::App),
        5 => (session.clone(), any::<bool>()).prop_map(|(session, good)| Input::Respond(session, good)),
        3 => session.clone().prop_map(Input::Release),
        1 => session.clone().prop_map(Input::CloseSession),
        1 => session.prop_map(Input::EndSession),
    ];
    vec(one, 1..200)
}

/// What the test knows of the run, to be compared with what the machine tells.
#[derive(Default)]
struct Books {
    /// Introductions of clients that have not sent them.
    introductions: BTreeMap<SessionId, Frame>,
    /// Requests that wait for their answers, with their sessions.
    requests: Vec<(SessionId, FrameId)>,
    /// Deliveries to release.
    sizes: Vec<(SessionId, usize)>,
    /// Calls under way.
    calls: BTreeMap<CallId, SessionId>,
    /// Sessions that stand, as told.
    open: BTreeMap<SessionId, bool>,
    ended: u32,
}

impl Books {
    /// Reads what the machine did.
    fn read(&mut self, world: &mut World) {
        for did in world.bench.take() {
            match did {
                Did::Report(Report::Opened { session: SessionHandle { id: session, .. }, .. }) => {
                    assert_eq!(self.open.insert(session, true), None, "{session} opened twice");
                }
                Did::Report(Report::Closed { session, .. }) => {
                    assert!(self.open.remove(&session).is_some(), "{session} closed without having been open");
                    assert!(self.calls.values().all(|of| *of != session), "{session} closed with calls under way");
                }
                Did::Report(Report::Paused(session)) => assert_eq!(self.open.insert(session, false), Some(true)),
                Did::Report(Report::Resumed(session)) => assert_eq!(self.open.insert(session, true), Some(false)),
                Did::Report(Report::Delivery { session, delivery }) => match delivery {
                    Delivery::CallEnded { call, .. } => {
                        assert_eq!(self.calls.remove(&call), Some(session), "{call:?} ended twice, or was never made");
                    }
                    Delivery::Request { cid, .. } => self.requests.push((session, cid)),
                    Delivery::Event { size, .. } | Delivery::App { size, .. } => self.sizes.push((session, size)),
                    Delivery::Ack(_) => {}
                },
                Did::Report(Report::Ended(_)) => self.ended += 1,
                Did::Sent(frame @ Frame::Data { .. }) => {
                    if let Some(client) = SessionId::new(frame.session()).and_then(|id| world.clients.get_mut(&id)) {
                        // What it answers is lost on the way.
                        client.receive([&frame]);
                    }
                }
                Did::Sent(_) | Did::Start(_) | Did::Abandon | Did::Close(_) | Did::Report(_) => {}
            }
        }
    }

    fn act(&mut self, world: &mut World, input: Input) {
        let of = |n: u8| id(u64::from(n) + 1);
        let has_socket = world.bench.has_socket;
        match input {
            Input::Succeed { resumable } => match world.bench.job {
                Some(Job::RenewToken) => world.bench.done(Done::Token(Ok(presence_token("d_1", resumable)))),
                Some(Job::Dial(_)) => world.bench.connected(Done::Dialled(Ok(()))),
                None => {}
            },
            Input::Fail(how) if world.bench.job.is_some() => world.fail_job(match how {
                0 => Cause::ApiUnreachable("reset".to_owned()),
                1 => upgrade(401),
                2 => upgrade(503),
                3 => api(429),
                4 => api(500),
                _ => Cause::RelayUnreachable("refused".to_owned()),
            }),
            Input::Lose(code) if has_socket => world.bench.lose(code),
            Input::Forbidden(text) => {
                let what = if text { Forbidden::Text } else { Forbidden::TooLarge };
                world.bench.machine.handle_forbidden(what, world.bench.now);
            }
            Input::Life => world.bench.machine.handle_life(world.bench.now),
            Input::Advance(millis) => advance(world, Duration::from_millis(millis)),
            Input::GoOnline { resumable } => {
                while !world.bench.has_socket && !world.bench.machine.is_closed() {
                    match world.bench.job {
                        Some(Job::RenewToken) => world.token(resumable),
                        Some(Job::Dial(_)) => world.connect(),
                        // A delay, or a timer before it.
                        None => {
                            let next = world.bench.machine.poll_timeout().expect("a delay");
                            advance(world, next - world.bench.now);
                        }
                    }
                }
            }
            Input::Meet(n) => {
                if has_socket && !world.sessions().iter().any(|(id, _)| *id == of(n)) {
                    self.read(world);
                    let introduction = world.exchange(of(n));
                    world.bench.receive(&introduction);
                }
            }
            Input::Init(n) if has_socket => {
                let known = world.sessions().iter().any(|(id, _)| *id == of(n));
                if known {
                    world.bench.receive(&Frame::HandshakeInit { session: of(n), client_ephemeral: [9; 32] });
                } else {
                    self.read(world);
                    let introduction = world.exchange(of(n));
                    self.introductions.insert(of(n), introduction);
                }
            }
            Input::Introduce(n) if has_socket => {
                if let Some(introduction) = self.introductions.remove(&of(n)) {
                    world.bench.receive(&introduction);
                }
            }
            Input::Say(n, what) if has_socket && world.clients.contains_key(&of(n)) => {
                world.client(of(n), |client| {
                    let (session, entropy) = (&mut client.session, &mut client.entropy);
                    let id = FrameId::random(entropy);
                    match what {
                        0 => drop(session.call(CallId(1), "m".to_owned(), None, None, false, entropy)),
                        1 => drop(session.send_app(id, "app/x", b"data")),
                        2 => drop(session.emit(&sideband_protocol::event::EventName::new("e").unwrap(), None, entropy)),
                        3 => {
                            let asked = client.delivered.iter().find_map(|delivery| match delivery {
                                Delivery::Request { cid, .. } => Some(*cid),
                                _ => None,
                            });
                            if let Some(cid) = asked {
                                session.respond(cid, Answer::Result(None), entropy);
                            }
                        }
                        4 => session.close("", entropy),
                        _ => drop(session.send_app(id, "app/large", &[0; 65_000])),
                    }
                });
            }
            Input::Forged(n, bytes) if has_socket => {
                world.bench.receive(&Frame::Data { session: of(n), payload: bytes.into() });
            }
            Input::Accept(n) if has_socket => {
                world.bench.receive(&Frame::HandshakeAccept { session: of(n), payload: vec![0; 128].into() });
            }
            Input::Signal(n) if has_socket => world.bench.receive(&close(of(n), Reason::None)),
            Input::Ping if has_socket => world.bench.receive(&Frame::Ping(Bytes::new())),
            Input::Control(session, code) if has_socket => {
                world.control(ControlCode::from_u16(code).ok_or(UnknownControlCode(code)), session.map(of));
            }
            Input::Bytes(bytes) if has_socket => world.bench.receive_bytes(bytes.into()),
            Input::Call(n) => {
                if let Ok(call) = world.call(of(n)) {
                    self.calls.insert(call, of(n));
                }
            }
            Input::Cancel(n) => {
                let call = self.calls.iter().find(|(_, session)| **session == of(n)).map(|(call, _)| *call);
                if let Some(call) = call {
                    self.calls.remove(&call);
                    world.bench.machine.cancel(world.of(of(n)), call);
                }
            }
            // Whether there is such a session does not matter here.
            Input::Emit(n, size) => drop(world.emit(of(n), "e", usize::from(size))),
            Input::App(n) => drop(world.bench.machine.send_app(world.of(of(n)), "app/x", b"data")),
            Input::Respond(n, good) => {
                let answer = if good { Answer::Result(None) } else { Answer::Result(Some(vec![b'1'; 70_000].into())) };
                match self.requests.iter().position(|(session, _)| *session == of(n)) {
                    Some(at) => {
                        let (session, cid) = self.requests.remove(at);
                        world.bench.machine.respond(world.of(session), cid, answer);
                    }
                    None => world.bench.machine.respond(world.of(of(n)), FrameId::from_bytes([n; 16]), answer),
                }
            }
            Input::Release(n) => {
                let (session, size) = self.sizes.pop().unwrap_or((of(n), 5));
                world.bench.machine.release(world.of(session), size);
            }
            Input::CloseSession(n) => world.bench.machine.close_session(world.of(of(n))),
            Input::EndSession(n) => {
                world.bench.machine.end_session(world.of(of(n)), Cause::HandlerFailed("x".to_owned()), Reason::Error);
            }
            // There is no job, or no socket.
            Input::Fail(_)
            | Input::Lose(_)
            | Input::Init(_)
            | Input::Introduce(_)
            | Input::Say(..)
            | Input::Forged(..)
            | Input::Accept(_)
            | Input::Signal(_)
            | Input::Ping
            | Input::Control(..)
            | Input::Bytes(_) => {}
        }
        world.bench.drain();
        self.read(world);
        let told: Vec<_> = self.open.keys().copied().collect();
        let machine: Vec<_> = world.sessions().into_iter().map(|(id, _)| id).collect();
        assert!(told.iter().all(|id| machine.contains(id)), "told {told:?}, there are {machine:?}");
    }
}

/// Time goes on; after each timer the next lies ahead.
fn advance(world: &mut World, by: Duration) {
    let until = world.bench.now + by;
    while let Some(next) = world.bench.machine.poll_timeout().filter(|next| *next <= until) {
        world.bench.now = world.bench.now.max(next);
        world.bench.machine.handle_timeout(world.bench.now);
        world.bench.drain();
        let after = world.bench.machine.poll_timeout();
        assert!(after.is_none_or(|after| after > world.bench.now), "at {:?} the next is {after:?}", world.bench.now);
    }
    world.bench.now = until;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_sequence_of_inputs_ends_without_a_trace(inputs in inputs(), silent in any::<bool>()) {
        let mut world = World::new(config());
        let mut books = Books::default();
        world.start();
        for input in inputs {
            if !silent {
                world.bench.machine.handle_life(world.bench.now);
            }
            books.act(&mut world, input);
        }
        world.bench.machine.close();
        world.bench.drain();
        books.read(&mut world);
        prop_assert!(world.bench.machine.is_closed());
        prop_assert_eq!(world.sessions(), vec![]);
        prop_assert!(books.open.is_empty(), "not told of the end of {:?}", books.open);
        prop_assert!(books.calls.is_empty(), "not told of the end of {:?}", books.calls);
        prop_assert_eq!(books.ended, 1);
        prop_assert!(!world.bench.has_socket && world.bench.job.is_none());
        prop_assert_eq!(world.bench.machine.poll_timeout(), None);
        // It stays so.
        advance(&mut world, Duration::from_secs(1_000));
        books.read(&mut world);
        prop_assert_eq!(books.ended, 1);
    }
}
