//! The rules in force, shared by all hooks of a process.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use sideband_env::Timeline;
use sideband_protocol::{Instant, SessionId};
use tokio::sync::watch;

use super::{
    action::{ApiAction, ConnectionAction, FrameAction, KeysAction, NetAction, Place, UpgradeAction},
    fired::{Fired, RuleKey},
    keep::{KeepError, KeepPlan, SetError},
    plan::{FaultPlan, FaultRule},
    point::{ApiPoint, ConnectionPoint, Facts, FramePoint, KeysPoint, NetPoint, UpgradePoint},
    rules::{AddError, Faults, Holds, RuleReport},
    text::RuleId,
};
use crate::event::Role;

/// The rules in force. Cheap to clone; clones are the same one. Where no rule is about a place, asking costs one load.
#[derive(Clone)]
pub struct FaultEngine {
    shared: Arc<Shared>,
}

struct Shared {
    timeline: Timeline,
    /// A bit for each place that a rule is about.
    places: AtomicU8,
    faults: Mutex<Faults>,
    changed: watch::Sender<()>,
    /// The plan of the start.
    beginning: Mutex<FaultPlan>,
    keeper: OnceLock<Arc<dyn KeepPlan>>,
}

/// How a plan is kept.
type Keep = fn(&(dyn KeepPlan + 'static), &FaultPlan) -> Result<(), KeepError>;

impl std::fmt::Debug for FaultEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultEngine").field("faults", &*self.faults()).finish_non_exhaustive()
    }
}

/// What happens at a place, as a function from its point to what the rules do.
macro_rules! places {
    ($($(#[$doc:meta])* $method:ident: $point:ty => $place:ident($action:ty);)*) => {
        $(
            $(#[$doc])*
            pub fn $method(&self, point: &$point) -> Vec<Fired<$action>> {
                if !self.any_at(Place::$place) {
                    return Vec::new();
                }
                let now = self.now();
                self.faults().decide(&Facts::from(point), now, <$action>::of)
            }
        )*
    };
}

impl FaultEngine {
    /// No rules yet. Their times are those of this time line.
    pub fn new(timeline: Timeline) -> Self {
        let changed = watch::Sender::new(());
        Self {
            shared: Arc::new(Shared {
                timeline,
                places: AtomicU8::new(0),
                faults: Mutex::default(),
                changed,
                beginning: Mutex::default(),
                keeper: OnceLock::new(),
            }),
        }
    }

    /// The time line that its rules' times are on.
    pub fn timeline(&self) -> Timeline {
        self.shared.timeline
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.shared.timeline.now()
    }

    /// From now on, keeps every change here before it is in force. What is in force now is not kept before it changes. A second
    /// keeper is none.
    pub fn keep_in(&self, keeper: Arc<dyn KeepPlan>) {
        // An error would mean that there is one.
        let _ = self.shared.keeper.set(keeper);
    }

    /// Changes the rules, and tells everybody who waits.
    fn change<T>(&self, change: impl FnOnce(&mut Faults, Instant) -> T) -> T {
        let now = self.now();
        let mut faults = self.faults();
        let outcome = change(&mut faults, now);
        self.changed(faults);
        outcome
    }

    /// The same, for a change that is to be kept. Nothing changes if that fails.
    fn change_kept<T, E: From<KeepError>>(
        &self,
        keep: Keep,
        change: impl FnOnce(&mut Faults, Instant) -> Result<T, E>,
    ) -> Result<T, E> {
        let now = self.now();
        let mut faults = self.faults();
        let mut new = faults.clone();
        let outcome = change(&mut new, now)?;
        if let Some(keeper) = self.shared.keeper.get() {
            keep(keeper.as_ref(), &new.plan())?;
        }
        *faults = new;
        self.changed(faults);
        Ok(outcome)
    }

    fn changed(&self, faults: MutexGuard<'_, Faults>) {
        let places = Place::ALL.into_iter().filter(|place| faults.any_at(*place)).map(bit);
        self.shared.places.store(places.fold(0, |all, one| all | one), Ordering::Release);
        drop(faults);
        self.shared.changed.send_replace(());
    }

    /// Puts the plan of the start in force: [`again`](Self::again) comes back to it. Times count from now.
    ///
    /// # Errors
    /// A rule does not hold together, two have one name, or the plan cannot be kept. Nothing changes then.
    pub fn begin(&self, plan: FaultPlan) -> Result<(), SetError> {
        self.change_kept(<dyn KeepPlan>::begin, |faults, now| faults.set(plan, now).map_err(SetError::from))?;
        let begun = self.plan();
        *self.shared.beginning.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        Ok(())
    }

    /// Puts the plan of the start in force again, as if it had just been taken in; none if there was none.
    ///
    /// # Errors
    /// It cannot be kept. Nothing changes then.
    pub fn again(&self) -> Result<(), SetError> {
        let plan = self.shared.beginning.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.set(plan)
    }

    /// Puts a plan in place of what there is; times count from now.
    ///
    /// # Errors
    /// A rule does not hold together, two have one name, or the plan cannot be kept. Nothing changes then.
    pub fn set(&self, plan: FaultPlan) -> Result<(), SetError> {
        self.change_kept(<dyn KeepPlan>::keep, |faults, now| faults.set(plan, now).map_err(SetError::from))
    }

    /// Adds a rule behind the others; its times count from now. Returns its name.
    ///
    /// # Errors
    /// It does not hold together, its name is taken, there are too many, or it cannot be kept. Nothing changes then.
    pub fn add(&self, rule: FaultRule) -> Result<RuleId, AddError> {
        self.change_kept(<dyn KeepPlan>::keep, |faults, now| faults.add(rule, now))
    }

    /// Takes a rule away; whether it was there. The others keep their names and counts.
    ///
    /// # Errors
    /// That cannot be kept. Nothing changes then.
    pub fn remove(&self, id: &str) -> Result<bool, KeepError> {
        self.change_kept(<dyn KeepPlan>::keep, |faults, _| Ok(faults.remove(id)))
    }

    /// Takes all rules away; how many there were.
    ///
    /// # Errors
    /// That cannot be kept. Nothing changes then.
    pub fn clear(&self) -> Result<usize, KeepError> {
        self.change_kept(<dyn KeepPlan>::keep, |faults, _| Ok(faults.clear()))
    }

    /// Takes all rules away for the time of a reset, which puts the plan of the start [in force again](Self::again): this is not
    /// kept.
    pub fn suspend(&self) {
        self.change(|faults, _| faults.clear());
    }

    /// The plan that would put these rules there again, with all names.
    pub fn plan(&self) -> FaultPlan {
        self.faults().plan()
    }

    /// The rules with what they did, in their order.
    pub fn list(&self) -> Vec<RuleReport> {
        self.faults().list()
    }

    /// The rules that never fired, in their order, with the places that they are about: a process lists those that it has.
    pub fn never_fired(&self) -> Vec<(RuleId, Place)> {
        let list = self.list().into_iter().filter(|report| report.fired == 0);
        list.map(|report| (report.id, report.rule.place())).collect()
    }

    /// The rules about other places than these, in their order: in a process that has these only they never fire.
    pub fn misplaced(&self, places: &[Place]) -> Vec<(RuleId, Place)> {
        let list = self.list().into_iter().map(|report| (report.id, report.rule.place()));
        list.filter(|(_, place)| !places.contains(place)).collect()
    }

    /// Changes whenever rules were added or taken away.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// Whether any rule is about a place; for hooks whose points cost something to make.
    pub fn any_at(&self, place: Place) -> bool {
        self.shared.places.load(Ordering::Acquire) & bit(place) != 0
    }

    /// Until when a rule holds. [`changes`](Self::changes) tells when to ask again.
    pub fn holds(&self, key: RuleKey) -> Holds {
        self.faults().holds(key, self.now())
    }

    /// Waits until the rule that fired is gone or over.
    pub async fn over<A>(&self, fired: &Fired<A>) {
        let mut changes = self.changes();
        loop {
            let until = match self.holds(fired.key()) {
                Holds::No => return,
                Holds::Until(until) => until,
            };
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                () = self.shared.timeline.sleep_until(until) => {}
            }
        }
    }

    places! {
        /// What to do to a request for a procedure.
        api_request: ApiPoint<'_> => ApiRequest(ApiAction);
        /// What to do to a request for a WebSocket.
        relay_upgrade: UpgradePoint<'_> => RelayUpgrade(UpgradeAction);
        /// What to do to a frame.
        relay_frame: FramePoint<'_> => RelayFrame(FrameAction);
        /// What to do at a use of the signing keys.
        keys: KeysPoint => Keys(KeysAction);
        /// What to do between two hosts.
        net: NetPoint<'_> => Net(NetAction);
    }

    /// Watches a connection that opened now. For every rule it is one event, which comes when the rule holds and the
    /// connection is as old as the rule asks; rules that are added later see it, too.
    pub fn connection(
        &self,
        role: Role,
        daemon: &str,
        user: Option<&str>,
        session: Option<SessionId>,
    ) -> ConnectionWatch {
        ConnectionWatch {
            engine: self.clone(),
            role,
            daemon: daemon.into(),
            user: user.map(Into::into),
            session,
            opened: self.now(),
            shown: BTreeSet::new(),
            next: None,
        }
    }
}

const fn bit(place: Place) -> u8 {
    1 << place as u8
}

/// What happens to one connection. After [`poll`](Self::poll), ask again at [`poll_timeout`](Self::poll_timeout) and whenever
/// [`FaultEngine::changes`] tells of a change.
#[derive(Debug)]
pub struct ConnectionWatch {
    engine: FaultEngine,
    role: Role,
    daemon: Box<str>,
    user: Option<Box<str>>,
    session: Option<SessionId>,
    opened: Instant,
    /// The rules that it was shown to and that are still there.
    shown: BTreeSet<u64>,
    next: Option<Instant>,
}

impl ConnectionWatch {
    /// What to do to the connection now.
    pub fn poll(&mut self) -> Vec<Fired<ConnectionAction>> {
        if !self.engine.any_at(Place::RelayConnection) {
            self.shown.clear();
            self.next = None;
            return Vec::new();
        }
        let point = ConnectionPoint {
            role: self.role,
            daemon: &self.daemon,
            user: self.user.as_deref(),
            session: self.session,
            opened: self.opened,
        };
        let now = self.engine.now();
        let (fired, next) = self.engine.faults().connection(&point, &mut self.shown, now);
        self.next = next;
        fired
    }

    /// When to poll next, on the engine's time line; not before a change if there is none.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Waits until [`poll`](Self::poll) may have something to say. Cancel-safe.
    pub async fn changed(&self, changes: &mut watch::Receiver<()>) {
        tokio::select! {
            biased;
            // An error would mean that the engine is gone, which this watch itself prevents.
            _ = changes.changed() => {}
            () = self.engine.shared.timeline.sleep_until(self.next) => {}
        }
    }

    /// How long the connection has been open, for [`FramePoint::age`].
    pub fn age(&self) -> std::time::Duration {
        self.engine.now() - self.opened
    }
}
