//! Thousands of sessions on one daemon, again and again: memory in proportion, nothing more, and all of it given back.
//!
//! A binary of its own: the allocator that counts is the whole process's.

use std::{alloc::System, io::Write as _};

use cap::Cap;
use serde_json::json;
use sideband::{Context, Daemon, HandlerError, Server};
use sideband_protocol::{
    SessionId,
    rpc::Envelope,
    wire::{ControlCode, Frame, Signal},
};
use sideband_tests::script::{API_URL, Link, RELAY_URL, World, soon};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const SESSIONS: usize = 2_000;
const ROUNDS: usize = 3;

/// What one session may cost, the test's own far end (keys, window, counters) included.
const MOST_PER_SESSION: usize = 8 << 10;
/// What the first round may leave for the next ones to use again: room in tables and queues.
const MOST_ROOM: usize = 1 << 20;
/// By how much a later stage may differ from the same of the first round. Two bytes left behind by each session would come to twice that by the
/// last round.
const SLACK: usize = 4 << 10;

/// What is held at the stages of one round, in bytes.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Half of the sessions are open.
    half: usize,
    open: usize,
    /// Each session has answered a call.
    used: usize,
    /// Each session has answered another one.
    used_again: usize,
    /// Only the session is left that stays.
    closed: usize,
}

impl Held {
    fn stages(&self) -> [usize; 5] {
        [self.half, self.open, self.used, self.used_again, self.closed]
    }
}

/// A daemon with one session that stays, and its relay.
struct Bench {
    world: World,
    server: Server,
    link: Link,
    stays: SessionId,
}

impl Bench {
    async fn new() -> Self {
        let (mut world, env) = World::new(1);
        let server = Daemon::new(API_URL, RELAY_URL, "sbnd_dak_far")
            .unwrap()
            .env(env)
            .handle("add", |(a, b): (i64, i64), _: Context| async move { Ok::<_, HandlerError>(a + b) })
            .unwrap()
            .start()
            .unwrap();
        let mut link = world.go_online(true).await;
        let stays = world.meet(&mut link).await;
        Self { world, server, link, stays }
    }

    /// Opens sessions, uses them, loses the socket, resumes and ends them.
    async fn round(mut self) -> (Self, Held) {
        let mut ids = Vec::with_capacity(SESSIONS);
        self.open(&mut ids, SESSIONS / 2).await;
        let half = ALLOCATOR.allocated();
        self.open(&mut ids, SESSIONS / 2).await;
        let open = ALLOCATOR.allocated();
        assert_eq!(self.server.connections().len(), SESSIONS + 1);
        self.call(&ids).await;
        let used = ALLOCATOR.allocated();
        self.call(&ids).await;
        let used_again = ALLOCATOR.allocated();
        let bench = self.resume(&ids).await.end(ids).await;
        let closed = ALLOCATOR.allocated();
        (bench, Held { half, open, used, used_again, closed })
    }

    async fn open(&mut self, ids: &mut Vec<SessionId>, number: usize) {
        for _ in 0..number {
            ids.push(self.world.meet(&mut self.link).await);
        }
        self.link.is_alive_on(self.stays).await;
    }

    /// Each of them works.
    async fn call(&mut self, ids: &[SessionId]) {
        for id in ids {
            let cid = self.link.request_on(*id, "add", json!([19, 23])).await;
            let answer = self.link.envelope_on(*id).await;
            assert_eq!(answer, Envelope::Result { cid, result: Some("42".into()) });
        }
        self.link.is_alive_on(self.stays).await;
    }

    /// The relay socket drops and comes back: all go on.
    async fn resume(mut self, ids: &[SessionId]) -> Self {
        let (socket, lines) = self.link.into_parts();
        socket.cut();
        self.world.renew(true).await;
        self.link = Link::alone(self.world.dial().await.open().await);
        lines.into_iter().for_each(|line| self.link.add(line));
        for _ in 0..=ids.len() {
            let frame = self.link.socket.frame().await;
            assert!(matches!(frame, Frame::Signal { signal: Signal::Ready, .. }), "{frame:?}");
        }
        for id in ids.iter().step_by(97) {
            self.link.is_alive_on(*id).await;
        }
        self
    }

    /// All clients but one go.
    async fn end(mut self, ids: Vec<SessionId>) -> Self {
        for id in &ids {
            self.link.socket.control(ControlCode::SessionEnded, Some(*id)).await;
        }
        self.link.is_alive_on(self.stays).await;
        assert_eq!(self.server.connections().len(), 1);
        let (socket, lines) = self.link.into_parts();
        self.link = Link::alone(socket);
        lines.into_iter().filter(|line| line.session() == self.stays).for_each(|line| self.link.add(line));
        self
    }
}

/// DMN-06, DMN-10: each thousand costs the same, every session works, and the end of all gives all back, however often.
#[tokio::test(start_paused = true)]
async fn dmn_06_two_thousand_sessions_cost_memory_in_proportion_and_leave_none() {
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut bench = Bench::new().await;
    let empty = ALLOCATOR.allocated();
    for _ in 0..ROUNDS {
        let (next, held) = Box::pin(bench.round()).await;
        bench = next;
        rounds.push(held);
    }
    soon("the end", bench.server.close()).await;

    let [first, second, .., last] = &rounds[..] else { panic!("three rounds were meant") };
    let room = first.closed.saturating_sub(empty);
    assert!(room < MOST_ROOM, "{room} bytes are left of {SESSIONS} sessions");
    let (one, other) = ((first.half - empty) / (SESSIONS / 2), (first.open - first.half) / (SESSIONS / 2));
    let used = (first.used - empty) / SESSIONS;
    assert!(one < MOST_PER_SESSION && other < MOST_PER_SESSION && used < MOST_PER_SESSION, "{one}, {other}, {used}");
    assert!(other < one * 3 / 2, "{one} bytes a session at first, {other} later");
    for held in &rounds {
        assert!(held.used_again.abs_diff(held.used) < SLACK, "a call leaves memory behind: {held:?}");
        assert!(held.closed.abs_diff(first.closed) < SLACK, "a round leaves memory behind: {rounds:?}");
    }
    // The second round has the room that the first one left.
    for (stage, again) in second.stages().into_iter().zip(last.stages()) {
        assert!(stage.abs_diff(again) < SLACK, "a round takes more than the one before: {rounds:?}");
    }
    let text = format!(
        "one of {SESSIONS} sessions: {one} bytes at first, {other} later, {used} with a call answered; \
         {room} bytes of room after the first round, {} more after round {ROUNDS}\n",
        last.closed.saturating_sub(first.closed)
    );
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}
