//! Which connection makes room for a new one: of those that the server does nothing for, the oldest of the most frequent kind.
//!
//! A crowd of one kind thus costs its own: whoever comes new, sends a body slowly, or keeps a connection for its next request
//! stays as long as fewer do the same. The server's own work is never broken off.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tracing::debug;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The rest of a request, its body included, or the first byte of its first one. To make room it is cut.
    Request,
    /// A further request, as all before were answered. To make room it is closed, which clients know how to live with.
    Next,
    /// That whoever holds an answer back on purpose lets go of it. To make room it is cut.
    Held,
}

/// Connections, with their numbers, by the number of their wait: the oldest first.
type ByAge = BTreeMap<u64, (u64, Arc<Signals>)>;

/// All connections, and which of them wait.
#[derive(Default)]
pub(super) struct Slots {
    lists: Mutex<Lists>,
    /// Told of each connection that begins to wait.
    changed: Notify,
}

#[derive(Default)]
struct Lists {
    /// The last number given to a connection or to a wait, in order of time.
    last: u64,
    /// What each connection waits for, if the server does not work for it, and the number of its wait.
    open: BTreeMap<u64, Option<(Wait, u64)>>,
    request: ByAge,
    next: ByAge,
    held: ByAge,
}

impl Lists {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn list(&mut self, kind: Wait) -> &mut ByAge {
        match kind {
            Wait::Request => &mut self.request,
            Wait::Next => &mut self.next,
            Wait::Held => &mut self.held,
        }
    }

    /// It waits no more.
    fn stop_waiting(&mut self, connection: u64) {
        if let Some((kind, wait)) = self.open.get_mut(&connection).and_then(Option::take) {
            self.list(kind).remove(&wait);
        }
    }
}

/// What a connection is told.
#[derive(Default)]
struct Signals {
    /// To end once what is under way has ended.
    leave: Notify,
    /// To end at once.
    cut: Notify,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, whose first request is awaited.
    pub(super) fn begin(self: &Arc<Self>) -> Slot {
        let mut lists = self.lock();
        let number = lists.number();
        lists.open.insert(number, None);
        drop(lists);
        let slot = Slot(Handle { slots: self.clone(), number, signals: Arc::default() });
        slot.0.waits(Wait::Request);
        slot
    }

    /// Whether one could make room.
    pub(super) fn any(&self) -> bool {
        let lists = self.lock();
        [&lists.request, &lists.next, &lists.held].into_iter().any(|list| !list.is_empty())
    }

    /// Waits until a further one could make room. At once if that was so since it was last asked. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Tells one to make room; whether there was one.
    pub(super) fn make_room(&self) -> bool {
        let mut lists = self.lock();
        // Where there are as many of two kinds, the last one here gives way.
        let kinds = [Wait::Held, Wait::Next, Wait::Request];
        let Some(kind) = kinds.into_iter().max_by_key(|kind| lists.list(*kind).len()) else { return false };
        let Some((_, (connection, signals))) = lists.list(kind).pop_first() else { return false };
        lists.stop_waiting(connection);
        debug!(waited_for = ?kind, "ending a connection: there are too many");
        match kind {
            Wait::Request | Wait::Held => signals.cut.notify_one(),
            Wait::Next => signals.leave.notify_one(),
        }
        true
    }
}

/// A connection's own, which ends with it.
pub(super) struct Slot(Handle);

impl Slot {
    /// Waits until it has to end once what is under way has ended. Cancel-safe.
    pub(super) async fn leave(&self) {
        self.0.signals.leave.notified().await;
    }

    /// Waits until it has to end at once. Cancel-safe.
    pub(super) async fn cut(&self) {
        self.0.signals.cut.notified().await;
    }

    /// The server works for it.
    pub(super) fn works(&self) {
        self.0.slots.lock().stop_waiting(self.0.number);
    }

    /// For what belongs to it.
    pub(super) fn handle(&self) -> Handle {
        self.0.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut lists = self.0.slots.lock();
        lists.stop_waiting(self.0.number);
        lists.open.remove(&self.0.number);
    }
}

/// Tells what a connection waits for. May outlive it, and does nothing then.
#[derive(Clone)]
pub(super) struct Handle {
    slots: Arc<Slots>,
    number: u64,
    signals: Arc<Signals>,
}

impl Handle {
    /// It waits from now on. The number of the wait, if it is still there.
    pub(super) fn waits(&self, kind: Wait) -> Option<u64> {
        let mut lists = self.slots.lock();
        if !lists.open.contains_key(&self.number) {
            return None;
        }
        lists.stop_waiting(self.number);
        let wait = lists.number();
        lists.open.insert(self.number, Some((kind, wait)));
        lists.list(kind).insert(wait, (self.number, self.signals.clone()));
        drop(lists);
        self.slots.changed.notify_one();
        Some(wait)
    }

    /// It waits until the guard is dropped; the server works for it then.
    pub(super) fn waits_while(&self, kind: Wait) -> Waiting {
        Waiting { wait: self.waits(kind).map(|number| (kind, number)), handle: self.clone() }
    }
}

/// A connection waits while this lives, unless it waits for something else since.
pub(super) struct Waiting {
    handle: Handle,
    wait: Option<(Wait, u64)>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut lists = self.handle.slots.lock();
        if lists.open.get(&self.handle.number) == Some(&self.wait) {
            lists.stop_waiting(self.handle.number);
        }
    }
}
