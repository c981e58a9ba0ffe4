//! The phases of a run: play, heal, leave.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    cell::{Cell, lock},
    control::Control,
    endpoint,
    judge::judge,
};
use crate::scenario::Kind;

/// How long everybody has to leave, and the relay to forget them: longer than a sweep of ghosts.
const LEAVING: Duration = Duration::from_secs(180);
/// How long a host may take to end in order.
pub(super) const ENDING: Duration = Duration::from_secs(10);
/// How often, in milliseconds, it is looked whether a phase is over, where looking costs.
const LOOK_EVERY: u64 = 250;

/// How long after everybody has left it is looked for tasks, in milliseconds: endpoints count theirs after 6 s.
const TASKS: u64 = 7_000;

impl Control<'_> {
    fn steps_are_done(&self) -> bool {
        let linger = self.scenario.linger.map_or(0, |time| time.0.as_millis() as u64);
        self.timers.is_empty()
            && self.waits.is_empty()
            && self.restarting.is_empty()
            && self.open_calls.is_empty()
            && self.now() >= self.last_step + linger
    }

    pub(super) fn play(&mut self) {
        let most = self.scenario.duration().as_millis() as u64;
        while !self.over {
            self.tick();
            let now = self.now();
            if now >= most {
                let waits: Vec<_> = self.waits.iter().map(|(place, ..)| format!("step {}", place + 1)).collect();
                if !waits.is_empty() && self.holds("steps-come") {
                    self.fail("unfinished", format!("the time is over, and {} did not come about", waits.join(", ")));
                }
                return;
            }
            if now >= self.judged + LOOK_EVERY && self.steps_are_done() {
                self.judged = now;
                if judge(self.scenario, &self.events).is_empty() {
                    return;
                }
            }
        }
    }

    /// Faults stop, and everybody gets well.
    pub(super) fn heal(&mut self) {
        let common = self.common.clone();
        common.note("run", "faults stop");
        self.timers.clear();
        self.waits.clear();
        common.wire.heal();
        for cell in common.cells.values() {
            if let Some(faults) = cell.live().faults {
                let mut fired = lock(&cell.fired);
                for report in faults.list() {
                    let entry = fired.entry(report.id.to_string()).or_default();
                    entry.0 += report.seen;
                    entry.1 += report.fired;
                }
                // Nothing keeps the faults of a simulation, so nothing can fail.
                let _ = faults.clear();
            }
            let began = cell.incarnation.load(Ordering::SeqCst) > 0;
            if !cell.is_up() && began && self.restarting.iter().all(|(host, ..)| *host != cell.name) {
                self.start(&cell.name);
            }
        }
        let until = self.now() + self.scenario.recovery().as_millis() as u64;
        loop {
            self.tick();
            let ill = self.ill();
            if self.over || ill.is_empty() {
                return;
            }
            if self.now() >= until {
                if self.holds("recovers") {
                    self.fail("invariant/recovers", format!("not well again in time: {}", ill.join(", ")));
                }
                return;
            }
        }
    }

    /// Who is not well.
    fn ill(&self) -> Vec<String> {
        let mut ill = Vec::new();
        for cell in self.common.cells.values().filter(|cell| cell.is_up() && !cell.is_closed()) {
            let state = cell.state();
            let well = match cell.spec.kind {
                // Fatal outcomes and attempts that ran out are the scenario's to expect.
                Kind::Client if endpoint::client_retry(&cell.spec).max_retries == 0 => state == "active",
                Kind::Client | Kind::QuickConnect => matches!(state.as_str(), "active" | "closed"),
                Kind::Daemon => matches!(state.as_str(), "online" | "ended"),
                Kind::Api | Kind::Relay | Kind::Cloud | Kind::Own => true,
            };
            if !well {
                ill.push(format!("{} is {state}", cell.name));
            }
        }
        ill.extend(self.restarting.iter().map(|(host, ..)| format!("{host} restarts")));
        if !self.open_calls.is_empty() {
            ill.push(format!("{} calls are open", self.open_calls.len()));
        }
        ill
    }

    pub(super) fn holds(&self, invariant: &str) -> bool {
        let without = self.scenario.finish.as_ref().map(|finish| &finish.without);
        !without.is_some_and(|without| without.iter().any(|name| name == invariant))
    }

    fn tell_to_end(&mut self, which: impl Fn(Kind) -> bool) {
        for cell in self.common.cells.values().filter(|cell| which(cell.spec.kind) && cell.is_up()) {
            cell.tell(None);
        }
        let until = self.now() + ENDING.as_millis() as u64;
        while !self.over && self.now() < until {
            let gone =
                |cell: &Arc<Cell>| !which(cell.spec.kind) || !cell.is_up() || cell.stopped.load(Ordering::SeqCst);
            if self.common.cells.values().all(gone) {
                return;
            }
            self.tick();
        }
        if !self.over {
            self.fail("host", "somebody does not end when told to");
        }
    }

    /// Everybody leaves; nothing of them is left.
    pub(super) fn leave(&mut self) {
        let common = self.common.clone();
        common.note("run", "everybody leaves");
        let endpoints: Vec<_> = common.cells.values().map(|cell| (cell.clone(), cell.live())).collect();
        self.tell_to_end(|kind| kind.is_client() || kind == Kind::Own);
        self.tell_to_end(|kind| kind == Kind::Daemon);
        let until = self.now() + LEAVING.as_millis() as u64;
        let mut look = self.now() + TASKS;
        while !self.over {
            self.tick();
            if self.now() < look {
                continue;
            }
            look = self.now() + LOOK_EVERY;
            let full = self.full();
            if full.is_empty() {
                break;
            }
            if self.now() >= until {
                if self.holds("relay-empties") {
                    self.fail("invariant/relay-empties", format!("everybody has left, and {}", full.join("; ")));
                }
                break;
            }
        }
        for (cell, live) in endpoints {
            let keys = live.client.as_ref().is_some_and(sideband::Client::holds_secrets)
                || live.server.as_ref().is_some_and(|server| server.holds_session_keys() || server.holds_secrets());
            if keys && self.holds("keys-gone") {
                self.fail("invariant/keys-gone", format!("{} still holds keys", cell.name));
            }
            let tasks = cell.tasks_left.load(Ordering::SeqCst);
            if tasks > 0 && self.holds("tasks-gone") {
                self.fail("invariant/tasks-gone", format!("{} tasks of {} are left", tasks, cell.name));
            }
        }
    }

    /// Relays that know somebody.
    fn full(&self) -> Vec<String> {
        let know = |cell: &Arc<Cell>| {
            let relay = cell.live().relay?;
            let (daemons, connections) = (relay.status().daemons.len(), relay.open_connections());
            let full = daemons > 0 || connections > 0;
            full.then(|| format!("{} knows {daemons} daemons and {connections} connections", cell.name))
        };
        self.common.cells.values().filter_map(know).collect()
    }
}
