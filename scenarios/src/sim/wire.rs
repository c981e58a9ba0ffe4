//! The network of a scenario: turmoil's TCP, with what a real one does when packets are lost.
//!
//! Turmoil forgets a segment that meets a partition, and the stream has a hole for ever after. Real TCP sends it again. So
//! loss happens here, where a host reads: bytes that cannot pass wait, and pass once they can. A *partition* is that for
//! both directions of a link, *one-way* for one, *loss* a delay of a retransmission or more. A host that *vanishes* leaves
//! its sockets half-open: reads at either end wait for ever, writes are taken and go nowhere. A *cut* is a reset at both
//! ends. Rules at `net` of the fault plan are asked for each dial and each packet that arrives.
//!
//! A relay's streams can be tapped: [`Tap`] reads along.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use sideband_env::{BoxFuture, BoxStream, EntropySource, Listener, Network, SeededEntropy, Target};
use sideband_protocol::{Entropy, Instant};
use sideband_sim_kit::{
    event::EventSink,
    fault::{FaultPlan, FaultRule, Faults, Fired, NetAction, NetPoint, Place, rules::Holds},
};
use tokio::time::sleep;
use turmoil::net::{TcpListener, TcpStream};

use super::{
    stream::{Ends, WireStream},
    tap::Tap,
};
use crate::net::elapsed;

/// How long TCP waits before it sends a lost segment again; each time twice as long, up to [`LONGEST_RESEND`].
pub(super) const RESEND: Duration = Duration::from_millis(200);
/// The longest such wait.
pub(super) const LONGEST_RESEND: Duration = Duration::from_secs(30);
/// How long before a SYN is sent again.
const RESEND_SYN: Duration = Duration::from_secs(1);
/// How often a held packet looks whether its rule is over.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// The state of the network, shared by all hosts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<State>>);

pub(super) struct State {
    sink: EventSink,
    /// Directions on which nothing passes, and how many steps say so.
    blocked: BTreeMap<(String, String), u32>,
    /// How probable loss is, by direction.
    pub(super) loss: BTreeMap<(String, String), f64>,
    /// Hosts that are gone from the network now.
    vanished: BTreeSet<String>,
    /// For hosts that vanished, the number of the first stream that is not affected.
    dead_before: BTreeMap<String, u64>,
    /// For pairs of hosts whose connections were reset, the number of the first stream that is not affected.
    pub(super) cut_before: BTreeMap<(String, String), u64>,
    /// Connections that were reset, by the addresses of dialler and listener.
    pub(super) reset: BTreeSet<(SocketAddr, SocketAddr)>,
    streams: u64,
    waiting: Vec<Waker>,
    /// Who reads, by the number of the stream.
    pub(super) readers: BTreeMap<u64, Waker>,
    /// Of hosts whose process is gone: their streams by number, which are closed in this order.
    pub(super) dying: BTreeMap<String, BTreeMap<u64, TcpStream>>,
    pub(super) faults: Faults,
    random: Box<dyn Entropy>,
    tap: Option<Arc<Mutex<Tap>>>,
}

impl Wire {
    pub(crate) fn new(seed: u64, sink: EventSink) -> Self {
        let random = SeededEntropy::new(seed, "wire").entropy();
        Self(Arc::new(Mutex::new(State {
            sink,
            blocked: BTreeMap::new(),
            loss: BTreeMap::new(),
            vanished: BTreeSet::new(),
            dead_before: BTreeMap::new(),
            cut_before: BTreeMap::new(),
            reset: BTreeSet::new(),
            streams: 0,
            waiting: Vec::new(),
            readers: BTreeMap::new(),
            dying: BTreeMap::new(),
            faults: Faults::default(),
            random,
            tap: None,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host's process is about to be gone. Its tasks end in an order that tokio makes of a count of all tasks of the process;
    /// so their streams are kept until [`bury`](Self::bury).
    pub(super) fn dies(&self, host: &str) {
        self.state().dying.entry(host.to_owned()).or_default();
    }

    /// Closes the streams that a host's process has left, oldest first. For the host's next process: turmoil closes streams of
    /// the host that runs.
    pub(super) fn bury(&self, host: &str) {
        let left = self.state().dying.remove(host);
        left.into_iter().flatten().for_each(drop);
    }

    /// Reads along on streams of hosts with a tap.
    pub(crate) fn set_tap(&self, tap: Arc<Mutex<Tap>>) {
        self.state().tap = Some(tap);
    }

    /// The network as one host sees it.
    pub(crate) fn of(&self, host: &str, tapped: bool) -> HostNetwork {
        HostNetwork { wire: self.clone(), host: host.into(), tapped }
    }

    /// Puts the rules at `net` in force.
    pub(crate) fn set_faults(&self, plan: FaultPlan) -> Result<(), String> {
        self.state().faults.set(plan, now()).map_err(|error| error.message)
    }

    pub(crate) fn add_fault(&self, rule: FaultRule) -> Result<(), String> {
        let outcome = self.state().faults.add(rule, now()).map(drop).map_err(|error| error.to_string());
        self.wake();
        outcome
    }

    pub(crate) fn remove_fault(&self, id: &str) -> bool {
        let there = self.state().faults.remove(id);
        self.wake();
        there
    }

    /// How many tapped streams carried plaintext.
    pub(crate) fn plaintext(&self) -> u64 {
        let tap = self.state().tap.clone();
        tap.map_or(0, |tap| tap.lock().unwrap_or_else(PoisonError::into_inner).found)
    }

    /// Nothing passes from one to the other.
    pub(crate) fn block(&self, from: &str, to: &str) {
        *self.state().blocked.entry((from.to_owned(), to.to_owned())).or_default() += 1;
    }

    /// Undoes one [`block`](Self::block).
    pub(crate) fn unblock(&self, from: &str, to: &str) {
        let key = (from.to_owned(), to.to_owned());
        let mut state = self.state();
        if let Some(count) = state.blocked.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                state.blocked.remove(&key);
            }
        }
        drop(state);
        self.wake();
    }

    /// Undoes every block of a direction.
    pub(crate) fn open(&self, from: &str, to: &str) {
        self.state().blocked.remove(&(from.to_owned(), to.to_owned()));
        self.wake();
    }

    pub(crate) fn lose(&self, from: &str, to: &str, probability: f64) {
        self.state().loss.insert((from.to_owned(), to.to_owned()), probability);
    }

    /// Resets what is open between two hosts.
    pub(crate) fn cut(&self, a: &str, b: &str) {
        let mut state = self.state();
        let before = state.streams + 1;
        state.cut_before.insert((a.to_owned(), b.to_owned()), before);
        state.cut_before.insert((b.to_owned(), a.to_owned()), before);
        drop(state);
        self.wake();
    }

    /// The host is gone, and what it has open is dead at both ends.
    pub(crate) fn vanish(&self, host: &str) {
        let mut state = self.state();
        let before = state.streams + 1;
        state.dead_before.insert(host.to_owned(), before);
        state.vanished.insert(host.to_owned());
    }

    /// The host is back.
    pub(crate) fn appear(&self, host: &str) {
        self.state().vanished.remove(host);
        self.wake();
    }

    /// The network is whole.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.blocked.clear();
        state.loss.clear();
        state.vanished.clear();
        state.faults.clear();
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        let mut state = self.state();
        let waiting = std::mem::take(&mut state.waiting);
        let readers = std::mem::take(&mut state.readers);
        drop(state);
        waiting.into_iter().chain(readers.into_values()).for_each(Waker::wake);
    }

    pub(super) fn reset(&self, key: (SocketAddr, SocketAddr)) {
        self.state().reset.insert(key);
        self.wake();
    }
}

/// Virtual time as the machines take it.
fn now() -> Instant {
    Instant::from_origin(elapsed())
}

impl State {
    pub(super) fn is_blocked(&self, from: &str, to: &str) -> bool {
        if self.vanished.is_empty() && self.blocked.is_empty() {
            return false;
        }
        self.vanished.contains(from)
            || self.vanished.contains(to)
            || self.blocked.contains_key(&(from.to_owned(), to.to_owned()))
    }

    pub(super) fn is_dead(&self, number: u64, from: &str, to: &str) -> bool {
        let dead = |host: &str| self.dead_before.get(host).is_some_and(|before| number < *before);
        !self.dead_before.is_empty() && (dead(from) || dead(to))
    }

    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|other| other.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// Whether a segment is lost by chance.
    pub(super) fn is_lost(&mut self, from: &str, to: &str) -> bool {
        if self.loss.is_empty() {
            return false;
        }
        let Some(probability) = self.loss.get(&(from.to_owned(), to.to_owned())).copied() else { return false };
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        let drawn = (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64;
        drawn < probability
    }

    /// What the rules do to a packet or dial.
    pub(super) fn rules(&mut self, from: &str, to: &str) -> Vec<Fired<NetAction>> {
        if !self.faults.any_at(Place::Net) {
            return Vec::new();
        }
        let fired = self.faults.net(&NetPoint { source: from, target: to }, now());
        for one in &fired {
            one.report(Place::Net, &self.sink, None, None);
        }
        fired
    }

    pub(super) fn holds(&self, fired: &Fired<NetAction>) -> bool {
        match self.faults.holds(fired.key(), now()) {
            Holds::No => false,
            Holds::Until(_) => true,
        }
    }
}

/// The network as one host sees it.
#[derive(Clone)]
pub(crate) struct HostNetwork {
    wire: Wire,
    host: Arc<str>,
    tapped: bool,
}

impl HostNetwork {
    /// Waits until the way to a host and back is open.
    async fn way(&self, to: &str) {
        poll_fn(|cx| {
            let mut state = self.wire.state();
            if state.is_blocked(&self.host, to) || state.is_blocked(to, &self.host) {
                state.wait(cx.waker());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    async fn dial(&self, target: &Target) -> io::Result<BoxStream> {
        if target.tls {
            let reason = "the simulated network has no TLS; use ws and http";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        let mut again = RESEND_SYN;
        loop {
            self.way(&target.host).await;
            let (fired, lost) = {
                let mut state = self.wire.state();
                (state.rules(&self.host, &target.host), state.is_lost(&self.host, &target.host))
            };
            let mut lost = lost;
            for one in &fired {
                match &one.action {
                    NetAction::Drop => lost = true,
                    NetAction::Delay(time) => sleep(*time).await,
                    NetAction::Cut => return Err(io::ErrorKind::ConnectionReset.into()),
                    NetAction::Hold => {
                        while self.wire.state().holds(one) {
                            sleep(LOOK).await;
                        }
                    }
                }
            }
            if !lost {
                break;
            }
            sleep(again).await;
            again = (again * 2).min(LONGEST_RESEND);
        }
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        self.way(&target.host).await;
        let key = (stream.local_addr()?, stream.peer_addr()?);
        Ok(self.stream(stream, target.host.as_str().into(), key))
    }

    fn stream(&self, inner: TcpStream, peer: Arc<str>, key: (SocketAddr, SocketAddr)) -> BoxStream {
        let number = {
            let mut state = self.wire.state();
            state.streams += 1;
            state.streams
        };
        let tap = if self.tapped { self.wire.state().tap.clone() } else { None };
        let tap = tap.map(|tap| {
            let id = tap.lock().unwrap_or_else(PoisonError::into_inner).open();
            (tap, id)
        });
        let ends = Ends { host: self.host.clone(), peer, key, number };
        Box::new(WireStream::new(inner, self.wire.clone(), ends, tap))
    }
}

impl Network for HostNetwork {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(self.dial(target))
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            Ok(Box::new(WireListener { listener, network: self.clone() }) as Box<dyn Listener>)
        })
    }
}

struct WireListener {
    listener: TcpListener,
    network: HostNetwork,
}

impl Listener for WireListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            let peer = turmoil::reverse_lookup(from.ip()).unwrap_or_else(|| from.ip().to_string());
            let key = (stream.peer_addr()?, stream.local_addr()?);
            Ok((self.network.stream(stream, peer.into(), key), from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
