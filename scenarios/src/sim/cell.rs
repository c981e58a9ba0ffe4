//! A host as the runner sees it: what it is told, what it keeps over restarts, and handles to look at it from outside.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sideband::{Client, Server};
use sideband_api_sim::{AccessToken, Bootstrap, Store};
use sideband_env::{Env, SeededEntropy, ShiftedClock};
use sideband_relay_sim::Relay;
use sideband_sim_kit::{
    event::{EventKind, EventSink},
    fault::{FaultEngine, FaultPlan},
    guard::AdminToken,
};
use tokio::sync::Notify;

use super::{Failure, RunOptions, wire::Wire};
use crate::{
    net::{SeamHttp, SimClock},
    scenario::{Action, Host},
    world::EPOCH,
};

/// What a host is told: a step of the scenario, or, if none, to end in order and say so.
pub(super) type Command = Option<Action>;

/// What a host can be looked at by.
#[derive(Clone, Default)]
pub(super) struct Live {
    pub(super) client: Option<Client>,
    pub(super) server: Option<Server>,
    pub(super) relay: Option<Relay>,
    pub(super) faults: Option<FaultEngine>,
}

/// What is on a host's disk.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) store: Option<Arc<dyn Store>>,
    pub(super) pins: Option<Arc<sideband::identity::MemoryStore>>,
    /// Which identity a daemon has.
    pub(super) identity: u64,
}

/// A host.
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) spec: Host,
    /// Whether its software runs, or would at its next start.
    pub(super) up: AtomicBool,
    /// Whether it ended in order.
    pub(super) stopped: AtomicBool,
    /// Whether a step has closed it for good.
    pub(super) closed: AtomicBool,
    /// Whether it was to be redeemed with this code.
    pub(super) code: Mutex<Option<String>>,
    pub(super) incarnation: AtomicU64,
    commands: Mutex<VecDeque<Command>>,
    news: Notify,
    live: Mutex<Live>,
    pub(super) disk: Mutex<Disk>,
    /// Numbers of events by name.
    numbers: Mutex<BTreeMap<String, u64>>,
    /// The state of the endpoint, as it last said.
    pub(super) state: Mutex<String>,
    /// Fault rules' counts of earlier incarnations: how many events were seen, how often each fired.
    pub(super) fired: Mutex<BTreeMap<String, (u64, u64)>>,
    /// Tasks left over after it ended.
    pub(super) tasks_left: AtomicU64,
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cell {
    pub(super) fn new(name: String, spec: Host, up: bool) -> Self {
        Self {
            name,
            spec,
            up: AtomicBool::new(up),
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            code: Mutex::default(),
            incarnation: AtomicU64::new(0),
            commands: Mutex::default(),
            news: Notify::new(),
            live: Mutex::default(),
            disk: Mutex::default(),
            numbers: Mutex::default(),
            state: Mutex::default(),
            fired: Mutex::default(),
            tasks_left: AtomicU64::new(0),
        }
    }

    pub(super) fn tell(&self, command: Command) {
        lock(&self.commands).push_back(command);
        self.news.notify_one();
    }

    pub(super) async fn command(&self) -> Command {
        loop {
            if let Some(command) = lock(&self.commands).pop_front() {
                return command;
            }
            self.news.notified().await;
        }
    }

    /// Waits until its software is to run.
    pub(super) async fn when_up(&self) {
        while !self.up.load(Ordering::SeqCst) {
            self.news.notified().await;
        }
    }

    pub(super) fn start(&self) {
        self.up.store(true, Ordering::SeqCst);
        self.stopped.store(false, Ordering::SeqCst);
        self.news.notify_one();
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    pub(super) fn live(&self) -> Live {
        lock(&self.live).clone()
    }

    pub(super) fn set_live(&self, live: Live) {
        let before = std::mem::replace(&mut *lock(&self.live), live);
        drop(before);
    }

    pub(super) fn forget_commands(&self) {
        lock(&self.commands).clear();
    }

    /// The number of the next event of this name.
    pub(super) fn number(&self, event: &str) -> u64 {
        let mut numbers = lock(&self.numbers);
        let number = numbers.entry(event.to_owned()).or_default();
        *number += 1;
        *number
    }

    pub(super) fn state(&self) -> String {
        lock(&self.state).clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

/// What all hosts of a run share.
pub(super) struct Common {
    pub(super) seed: u64,
    pub(super) options: RunOptions,
    pub(super) sink: EventSink,
    pub(super) wire: Wire,
    pub(super) cells: BTreeMap<String, Arc<Cell>>,
    /// The names of the hosts in the order of the file.
    pub(super) order: Vec<String>,
    /// By the names of daemons.
    pub(super) credentials: BTreeMap<String, Bootstrap>,
    /// An access token for each host that may be an account's client, with the user whose it is: who shares one is taken for one by those
    /// who look at requests.
    pub(super) tokens: BTreeMap<String, (AccessToken, String)>,
    pub(super) plan: FaultPlan,
    pub(super) admin: AdminToken,
    /// Quick Connect codes by their names.
    pub(super) codes: Mutex<BTreeMap<String, String>>,
    pub(super) calls: AtomicU64,
    pub(super) failures: Mutex<Vec<Failure>>,
}

impl Common {
    /// The seams of a host in its present life.
    pub(super) fn env(&self, cell: &Cell) -> Env {
        let life = cell.incarnation.load(Ordering::SeqCst);
        let label = if life == 0 { cell.name.clone() } else { format!("{} #{life}", cell.name) };
        let network = Arc::new(self.wire.of(&cell.name, cell.spec.kind.has_relay()));
        let clock = Arc::new(SimClock { epoch: EPOCH });
        Env {
            clock: match cell.spec.clock_shift {
                None => clock,
                Some(shift) => Arc::new(ShiftedClock::new(clock, shift.millis)),
            },
            entropy: Arc::new(SeededEntropy::new(self.seed, &label)),
            http: Arc::new(SeamHttp::new(network.clone())),
            network,
        }
    }

    pub(super) fn sink(&self, cell: &Cell) -> EventSink {
        self.sink.for_host(&cell.name)
    }

    pub(super) fn note(&self, host: &str, what: impl Into<String>) {
        self.sink.for_host(host).emit(None, None, EventKind::Step { what: what.into() });
    }

    pub(super) fn fail(&self, kind: impl Into<String>, what: impl Into<String>) {
        lock(&self.failures).push(Failure { kind: kind.into(), at: self.sink.now(), what: what.into() });
    }

    pub(super) fn cell(&self, name: &str) -> Option<&Arc<Cell>> {
        self.cells.get(name)
    }

    /// The first host of the file that fits, or the one that is named.
    pub(super) fn host_for(&self, named: Option<&str>, fits: impl Fn(&Host) -> bool) -> Option<String> {
        match named {
            Some(name) => Some(name.to_owned()),
            None => self.order.iter().find(|name| self.cells.get(*name).is_some_and(|cell| fits(&cell.spec))).cloned(),
        }
    }
}
