//! The run: turmoil's clock, the steps and their timers, the phases, and what is looked at after each tick.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::Value;
use sideband_api_sim::Bootstrap;
use sideband_env::{EntropySource, SeededEntropy};
use sideband_sim_kit::{
    event::{Event, EventKind, EventSink},
    fault::{FaultPlan, FaultRule, Place, RuleId, Written},
    guard::AdminToken,
};

use super::{
    Failure, OwnHost, Run, RunError, RunOptions,
    cell::{Cell, Common, Live, lock},
    cloud, endpoint,
    judge::{Matcher, judge},
    own::{self, Code},
    tap::Tap,
    wire::Wire,
};
use crate::{
    check::{self, Invariant},
    scenario::{
        Action, Kind, Scenario,
        host::Start,
        step::{Between, Down},
    },
    trace::Trace,
    world::EPOCH,
};

/// How long everybody has to leave, and the relay to forget them: longer than a sweep of ghosts.
const LEAVING: Duration = Duration::from_secs(180);
/// How long a host may take to end in order.
const ENDING: Duration = Duration::from_secs(10);
/// How often expectations are judged while everything else is done.
const JUDGE_EVERY: u64 = 250;
/// Most events of a run; more mean that it runs away.
const MOST_EVENTS: usize = 2_000_000;

/// What is due at a time.
#[derive(Debug, Clone)]
enum Due {
    Step(usize, u32),
    Start(String),
    Unblock(Vec<(String, String)>),
    Appear(String),
}

struct Control<'a> {
    scenario: &'a Scenario,
    common: Arc<Common>,
    sim: turmoil::Sim<'a>,
    outside: Arc<AtomicU64>,
    inbox: Arc<Mutex<Vec<Event>>>,
    events: Vec<Event>,
    timers: BTreeMap<(u64, u64), Due>,
    serial: u64,
    /// Steps that wait for an event: the step, how many they have seen.
    waits: Vec<(usize, Matcher<'a>, u64)>,
    restarting: Vec<(String, Down, u64)>,
    invariants: Vec<Box<dyn Invariant>>,
    open_calls: BTreeMap<u64, String>,
    failures: Vec<Failure>,
    last_step: u64,
    judged: u64,
    over: bool,
}

pub(super) fn run(scenario: &Scenario, seed: u64, options: &RunOptions, own: &[OwnHost]) -> Result<Run, RunError> {
    scenario.check()?;
    for (name, host) in scenario.all_hosts() {
        if host.kind == Kind::Own && !own.iter().any(|own| own.name == host.name) {
            return Err(RunError::Host { host: name, reason: "its code is given by `Sim::builder()` only".to_owned() });
        }
    }
    let mut control = Control::new(scenario, seed, options, own)?;
    control.play();
    let trace = control.events.len();
    let play: Vec<Event> = control.events[..trace].to_vec();
    if !control.over {
        control.heal();
    }
    if !control.over {
        control.leave();
    }
    Ok(control.finish(seed, &play))
}

fn plan(scenario: &Scenario, seed: u64) -> Result<FaultPlan, RunError> {
    let mut faults = Vec::new();
    for (place, text) in (1..).zip(&scenario.faults) {
        let wrong = |reason: String| RunError::Host { host: "the fault plan".to_owned(), reason };
        let mut rule = FaultRule::try_from(text.clone()).map_err(|error| wrong(error.message))?;
        if rule.id.is_none() {
            rule.id = RuleId::new(&format!("rule-{place}")).ok();
        }
        faults.push(rule);
    }
    // TOML's and JSON's numbers are signed.
    Ok(FaultPlan { seed: seed & (i64::MAX as u64), faults })
}

impl<'a> Control<'a> {
    fn new(scenario: &'a Scenario, seed: u64, options: &RunOptions, own: &[OwnHost]) -> Result<Self, RunError> {
        let outside = Arc::new(AtomicU64::new(0));
        let told = outside.clone();
        let time =
            move || turmoil::sim_elapsed().map_or_else(|| told.load(Ordering::SeqCst), |at| at.as_millis() as u64);
        let sink = EventSink::with_time(time, "run", 0);
        let inbox = Arc::new(Mutex::new(Vec::new()));
        let into = inbox.clone();
        sink.tap(move |event| lock(&into).push(event.clone()));
        let wire = Wire::new(seed, sink.for_host("net"));
        let tap = Arc::new(Mutex::new(Tap::default()));
        wire.set_tap(tap);

        let mut cells = BTreeMap::new();
        let mut credentials = BTreeMap::new();
        let mut starts = Vec::new();
        for host in &scenario.hosts {
            for (place, name) in host.names().into_iter().enumerate() {
                let delay = host.delay.map_or(Duration::ZERO, |time| time.0)
                    + host.stagger.map_or(Duration::ZERO, |time| time.0) * place as u32;
                let manual = match host.start {
                    Some(start) => start == Start::Manual,
                    None => host.kind == Kind::QuickConnect,
                };
                let up = !manual && delay.is_zero();
                if !manual && !up {
                    starts.push((delay.as_millis() as u64, name.clone()));
                }
                if host.kind == Kind::Daemon {
                    let label = format!("credentials {name}");
                    credentials.insert(name.clone(), Bootstrap::draw(&mut *SeededEntropy::new(seed, &label).entropy()));
                }
                cells.insert(name.clone(), Arc::new(Cell::new(name, host.clone(), up)));
            }
        }
        if credentials.is_empty() {
            // Code of one's own may be the daemon.
            for own in own {
                let label = format!("credentials {}", own.name);
                let drawn = Bootstrap::draw(&mut *SeededEntropy::new(seed, &label).entropy());
                credentials.insert(own.name.clone(), drawn);
            }
        }
        let plan = plan(scenario, seed)?;
        let net = plan.faults.iter().filter(|rule| rule.place() == Place::Net).cloned().collect();
        wire.set_faults(FaultPlan { seed: plan.seed, faults: net })
            .map_err(|reason| RunError::Host { host: "the fault plan".to_owned(), reason })?;
        let admin = AdminToken::new("between-hosts")
            .ok_or_else(|| RunError::Host { host: "admin".to_owned(), reason: "an empty token".to_owned() })?;
        let common = Arc::new(Common {
            seed,
            options: options.clone(),
            sink,
            wire,
            cells,
            credentials,
            plan,
            admin,
            codes: Mutex::default(),
            calls: AtomicU64::new(0),
            failures: Mutex::default(),
        });

        let network = scenario.network.clone().unwrap_or_default();
        let least = network.least.map_or(Duration::from_millis(1), |time| time.0);
        let most = network.most.map_or(Duration::from_millis(40), |time| time.0).max(least);
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH))
            .tick_duration(scenario.tick())
            .min_message_latency(least)
            .max_message_latency(most)
            .simulation_duration(Duration::from_secs(60 * 60 * 24 * 30))
            .tcp_capacity(4_096)
            .build();
        for name in scenario.all_hosts().into_iter().map(|(name, _)| name) {
            let Some(cell) = common.cell(&name).cloned() else { continue };
            let code = own.iter().find(|own| own.name == cell.spec.name).map(|own| own.code.clone());
            let common = common.clone();
            sim.host(name.as_str(), move || host(common.clone(), cell.clone(), code.clone()));
        }
        for link in &network.link {
            sim.set_link_max_message_latency(link.from.as_str(), link.to.as_str(), most);
            sim.set_link_latency(link.from.as_str(), link.to.as_str(), link.least.0);
            if let Some(most) = link.most {
                sim.set_link_max_message_latency(link.from.as_str(), link.to.as_str(), most.0.max(link.least.0));
            }
        }
        let mut control = Self {
            scenario,
            common,
            sim,
            outside,
            inbox,
            events: Vec::new(),
            timers: BTreeMap::new(),
            serial: 0,
            waits: Vec::new(),
            restarting: Vec::new(),
            invariants: without(check::all(scenario), scenario),
            open_calls: BTreeMap::new(),
            failures: Vec::new(),
            last_step: 0,
            judged: 0,
            over: false,
        };
        for (at, name) in starts {
            control.due(at, Due::Start(name));
        }
        for (place, step) in scenario.steps.iter().enumerate() {
            match (&step.at, &step.after) {
                (Some(at), _) => control.due(at.0.as_millis() as u64, Due::Step(place, 1)),
                (None, Some(after)) => control.waits.push((place, Matcher::new(&after.event, scenario), 0)),
                (None, None) => control.due(0, Due::Step(place, 1)),
            }
        }
        Ok(control)
    }

    fn now(&self) -> u64 {
        self.sim.elapsed().as_millis() as u64
    }

    fn due(&mut self, at: u64, due: Due) {
        self.serial += 1;
        self.timers.insert((at, self.serial), due);
    }

    fn fail(&mut self, kind: impl Into<String>, what: impl Into<String>) {
        self.failures.push(Failure { kind: kind.into(), at: self.now(), what: what.into() });
    }

    /// One tick of the clock, and what follows from it.
    fn tick(&mut self) {
        let stepped = catch_unwind(AssertUnwindSafe(|| self.sim.step().map_err(|error| error.to_string())));
        self.outside.store(self.now(), Ordering::SeqCst);
        match stepped {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                self.fail("host", error);
                self.over = true;
            }
            Err(panic) => {
                let what = panic
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| panic.downcast_ref::<String>().cloned());
                self.fail("panic", what.unwrap_or_else(|| "a host panicked".to_owned()));
                self.over = true;
            }
        }
        self.listen();
        if self.over {
            return;
        }
        let now = self.now();
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let due = entry.remove();
            self.fire(due);
        }
        self.restart_those_that_ended(now);
    }

    /// Shows what happened to all who look.
    fn listen(&mut self) {
        let news = std::mem::take(&mut *lock(&self.inbox));
        if news.is_empty() {
            return;
        }
        let mut broken = Vec::new();
        for event in news {
            match &event.kind {
                EventKind::Call { call, .. } => {
                    self.open_calls.insert(*call, event.host.clone());
                }
                EventKind::CallEnded { call, .. } => {
                    self.open_calls.remove(call);
                }
                _ => {}
            }
            for invariant in &mut self.invariants {
                invariant.see(&event, &mut broken);
                for what in broken.drain(..) {
                    let kind = format!("invariant/{}", invariant.name());
                    self.failures.push(Failure { kind, at: event.at, what });
                }
            }
            let mut now_due = Vec::new();
            let scenario = self.scenario;
            self.waits.retain_mut(|(place, matcher, seen)| {
                if !matcher.matches(&event) {
                    return true;
                }
                *seen += 1;
                let Some(after) = &scenario.steps[*place].after else { return true };
                if *seen < after.nth.unwrap_or(1) {
                    return true;
                }
                let plus = after.plus.map_or(0, |time| time.0.as_millis() as u64);
                now_due.push((event.at + plus, *place));
                false
            });
            for (at, place) in now_due {
                self.due(at, Due::Step(place, 1));
            }
            self.events.push(event);
        }
        if self.events.len() > MOST_EVENTS {
            self.fail("unfinished", format!("there are more than {MOST_EVENTS} events"));
            self.over = true;
        }
    }

    fn fire(&mut self, due: Due) {
        match due {
            Due::Start(name) => self.start(&name),
            Due::Appear(name) => {
                self.common.note("net", format!("{name} is back"));
                self.common.wire.appear(&name);
            }
            Due::Unblock(pairs) => {
                self.common.note("net", format!("open again: {}", arrows(&pairs)));
                for (from, to) in pairs {
                    self.common.wire.unblock(&from, &to);
                }
            }
            Due::Step(place, n) => {
                let step = &self.scenario.steps[place];
                self.last_step = self.now();
                if n < step.times.unwrap_or(1) {
                    let every = step.every.map_or(0, |time| time.0.as_millis() as u64);
                    self.due(self.now() + every, Due::Step(place, n + 1));
                }
                let action = numbered(&step.action, n);
                let hosts = match &step.host {
                    Some(host) => self.scenario.hosts_called(host),
                    None => vec![String::new()],
                };
                for host in hosts {
                    self.act(&host, &action);
                }
            }
        }
    }

    fn start(&mut self, name: &str) {
        if let Some(cell) = self.common.cell(name)
            && !cell.is_up()
        {
            self.common.note(name, "starts");
            cell.start();
        }
    }

    fn act(&mut self, host: &str, action: &Action) {
        let common = self.common.clone();
        let cell = common.cell(host).cloned();
        match action {
            Action::Partition(between) => self.block(between, "nothing passes"),
            Action::Hold(between) => self.block(between, "held"),
            Action::Repair(between) | Action::Release(between) => {
                let pairs = self.pairs(between);
                common.note("net", format!("open again: {}", arrows(&pairs)));
                for (from, to) in pairs {
                    common.wire.open(&from, &to);
                }
            }
            Action::PartitionOneWay(way) => {
                let mut pairs = Vec::new();
                for from in self.scenario.hosts_called(&way.from) {
                    for to in self.scenario.hosts_called(&way.to) {
                        pairs.push((from.clone(), to));
                    }
                }
                common.note("net", format!("nothing passes: {}", arrows(&pairs)));
                pairs.iter().for_each(|(from, to)| common.wire.block(from, to));
                if let Some(lasts) = way.lasts {
                    self.due(self.now() + lasts.0.as_millis() as u64, Due::Unblock(pairs));
                }
            }
            Action::Latency(link) => {
                let most = link.most.unwrap_or(link.least);
                common.note("net", format!("{} – {}: {} to {most}", link.from, link.to, link.least));
                for from in self.scenario.hosts_called(&link.from) {
                    for to in self.scenario.hosts_called(&link.to) {
                        self.sim.set_link_latency(from.as_str(), to.as_str(), link.least.0);
                        let most = most.0.max(link.least.0);
                        self.sim.set_link_max_message_latency(from.as_str(), to.as_str(), most);
                    }
                }
            }
            Action::Loss(link) => {
                common.note("net", format!("{} – {}: loss {}", link.from, link.to, link.probability));
                for from in self.scenario.hosts_called(&link.from) {
                    for to in self.scenario.hosts_called(&link.to) {
                        common.wire.lose(&from, &to, link.probability);
                        common.wire.lose(&to, &from, link.probability);
                    }
                }
            }
            Action::Note(what) => common.note(if host.is_empty() { "run" } else { host }, what.clone()),
            Action::AddFault(rule) if rule.on == Place::Net => {
                let outcome = FaultRule::try_from((**rule).clone()).map_err(|error| error.message);
                if let Err(problem) = outcome.and_then(|rule| common.wire.add_fault(rule)) {
                    self.fail("step", problem);
                }
            }
            Action::AddFault(_) | Action::RemoveFault(_) if host.is_empty() => {
                if let Action::RemoveFault(id) = action {
                    common.wire.remove_fault(id);
                }
                for cell in common.cells.values().filter(|cell| cell.spec.kind.has_api() || cell.spec.kind.has_relay())
                {
                    let here = match action {
                        Action::AddFault(rule) => match rule.on {
                            Place::ApiRequest | Place::Keys => cell.spec.kind.has_api(),
                            Place::RelayUpgrade | Place::RelayFrame | Place::RelayConnection => {
                                cell.spec.kind.has_relay()
                            }
                            Place::Net => false,
                        },
                        _ => true,
                    };
                    if here {
                        cell.tell(Some(action.clone()));
                    }
                }
            }
            Action::Vanish(vanish) => {
                common.note("net", format!("{host} vanishes"));
                common.wire.vanish(host);
                if let Some(lasts) = vanish.lasts {
                    self.due(self.now() + lasts.0.as_millis() as u64, Due::Appear(host.to_owned()));
                }
            }
            Action::Start => self.start(host),
            Action::Redeem(code) => {
                if let Some(cell) = cell {
                    *lock(&cell.code) = Some(code.clone());
                    self.start(host);
                }
            }
            Action::Crash(down) => self.crash(host, down, "crashes"),
            Action::Restart(down) => {
                if let Some(cell) = cell {
                    common.note(host, "restarts");
                    cell.tell(None);
                    let deadline = self.now() + ENDING.as_millis() as u64;
                    self.restarting.push((host.to_owned(), down.clone(), deadline));
                }
            }
            Action::RotateIdentity(down) => {
                if let Some(cell) = cell {
                    lock(&cell.disk).identity += 1;
                    self.crash(host, down, "restarts with another identity");
                }
            }
            Action::Check(is) => {
                let state = cell.map(|cell| cell.state()).unwrap_or_default();
                if state != is.state {
                    self.fail(format!("check/{host}"), format!("{host} is {state} and not {}", is.state));
                }
            }
            Action::Close
            | Action::Rotate(_)
            | Action::Limits(_)
            | Action::Drop(_)
            | Action::AddFault(_)
            | Action::RemoveFault(_)
            | Action::Code(_) => {
                common.note(host, said(action));
                if let Some(cell) = cell {
                    cell.tell(Some(action.clone()));
                }
            }
            Action::Call(_) | Action::Emit(_) | Action::Subscribe(_) | Action::Broadcast(_) | Action::Tick(_) => {
                if let Some(cell) = cell {
                    cell.tell(Some(action.clone()));
                }
            }
        }
    }

    fn pairs(&self, between: &Between) -> Vec<(String, String)> {
        let some: BTreeSet<String> = between.hosts.iter().flat_map(|host| self.scenario.hosts_called(host)).collect();
        let others: BTreeSet<String> = if between.and.is_empty() {
            self.common.cells.keys().filter(|name| !some.contains(*name)).cloned().collect()
        } else {
            between.and.iter().flat_map(|host| self.scenario.hosts_called(host)).collect()
        };
        let mut pairs = Vec::new();
        for from in &some {
            for to in others.iter().filter(|to| *to != from) {
                pairs.push((from.clone(), to.clone()));
                pairs.push((to.clone(), from.clone()));
            }
        }
        pairs
    }

    fn block(&mut self, between: &Between, what: &str) {
        let pairs = self.pairs(between);
        self.common.note("net", format!("{what}: {}", arrows(&pairs)));
        pairs.iter().for_each(|(from, to)| self.common.wire.block(from, to));
        if let Some(lasts) = between.lasts {
            self.due(self.now() + lasts.0.as_millis() as u64, Due::Unblock(pairs));
        }
    }

    /// A host's process is gone at once.
    fn crash(&mut self, host: &str, down: &Down, what: &str) {
        let Some(cell) = self.common.cell(host).cloned() else { return };
        self.common
            .note(host, if down.lose_state { format!("{what}, and has lost its state") } else { what.to_owned() });
        self.take_down(&cell, down.lose_state);
        if !down.stay_down {
            let pause = down.down.map_or(0, |time| time.0.as_millis() as u64);
            self.due(self.now() + pause.max(1), Due::Start(host.to_owned()));
        }
    }

    fn take_down(&mut self, cell: &Arc<Cell>, lose_state: bool) {
        let live = cell.live();
        if let Some(faults) = &live.faults {
            let mut fired = lock(&cell.fired);
            for report in faults.list() {
                let entry = fired.entry(report.id.to_string()).or_default();
                entry.0 += report.seen;
                entry.1 += report.fired;
            }
        }
        drop(live);
        cell.up.store(false, Ordering::SeqCst);
        cell.set_live(Live::default());
        cell.forget_commands();
        cell.incarnation.fetch_add(1, Ordering::SeqCst);
        String::from("down").clone_into(&mut lock(&cell.state));
        if lose_state {
            let mut disk = lock(&cell.disk);
            (disk.store, disk.pins) = (None, None);
            disk.identity += 1;
        }
        self.sim.bounce(cell.name.as_str());
        self.open_calls.retain(|_, host| *host != cell.name);
        self.listen();
        for invariant in &mut self.invariants {
            invariant.gone(&cell.name);
        }
    }

    fn restart_those_that_ended(&mut self, now: u64) {
        if self.restarting.is_empty() {
            return;
        }
        let common = self.common.clone();
        let ended = |(host, _, deadline): &(String, Down, u64)| {
            *deadline <= now || common.cell(host).is_some_and(|cell| cell.stopped.load(Ordering::SeqCst))
        };
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.restarting).into_iter().partition(ended);
        self.restarting = rest;
        for (host, down, _) in done {
            self.crash(&host, &down, "has ended");
        }
    }

    fn steps_are_done(&self) -> bool {
        let linger = self.scenario.linger.map_or(0, |time| time.0.as_millis() as u64);
        self.timers.is_empty()
            && self.waits.is_empty()
            && self.restarting.is_empty()
            && self.open_calls.is_empty()
            && self.now() >= self.last_step + linger
    }

    fn play(&mut self) {
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
            if now >= self.judged + JUDGE_EVERY && self.steps_are_done() {
                self.judged = now;
                if judge(self.scenario, &self.events).is_empty() {
                    return;
                }
            }
        }
    }

    /// Faults stop, and everybody gets well.
    fn heal(&mut self) {
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
                faults.clear();
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

    fn holds(&self, invariant: &str) -> bool {
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
    fn leave(&mut self) {
        let common = self.common.clone();
        common.note("run", "everybody leaves");
        let endpoints: Vec<_> = common.cells.values().map(|cell| (cell.clone(), cell.live())).collect();
        self.tell_to_end(|kind| kind.is_client() || kind == Kind::Own);
        self.tell_to_end(|kind| kind == Kind::Daemon);
        let until = self.now() + LEAVING.as_millis() as u64;
        let left_over = self.now() + 7_000;
        while !self.over {
            let full: Vec<String> = common
                .cells
                .values()
                .filter_map(|cell| {
                    let relay = cell.live().relay?;
                    let status = relay.status();
                    let empty = status.daemons.is_empty() && relay.open_connections() == 0;
                    (!empty).then(|| {
                        format!(
                            "{}: {} daemons, {} connections",
                            cell.name,
                            status.daemons.len(),
                            relay.open_connections()
                        )
                    })
                })
                .collect();
            if full.is_empty() && self.now() >= left_over {
                break;
            }
            if self.now() >= until {
                if self.holds("relay-empties") {
                    self.fail("invariant/relay-empties", format!("everybody has left, and {}", full.join("; ")));
                }
                break;
            }
            self.tick();
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

    fn finish(mut self, seed: u64, play: &[Event]) -> Run {
        let mut broken = Vec::new();
        let at = self.now();
        if !self.over {
            for invariant in &mut self.invariants {
                invariant.finish(&mut broken);
                for what in broken.drain(..) {
                    self.failures.push(Failure { kind: format!("invariant/{}", invariant.name()), at, what });
                }
            }
        }
        let found = self.common.wire.plaintext();
        if found > 0 && self.holds("no-plaintext") {
            self.fail("invariant/no-plaintext", format!("{found} streams of a relay carried plaintext"));
        }
        for (kind, at, what) in judge(self.scenario, play) {
            self.failures.push(Failure { kind, at, what });
        }
        self.failures.append(&mut lock(&self.common.failures));
        self.failures.sort_by_key(|failure| failure.at);
        let mut fired: BTreeMap<String, u64> = BTreeMap::new();
        for rule in self.common.plan.faults.iter().filter_map(|rule| rule.id.as_ref()) {
            fired.insert(rule.to_string(), 0);
        }
        for event in &self.events {
            if let EventKind::Fault { rule, .. } = &event.kind
                && let Some(times) = fired.get_mut(rule)
            {
                *times += 1;
            }
        }
        let never_fired = fired.into_iter().filter(|(_, times)| *times == 0).map(|(rule, _)| rule).collect();
        let elapsed = self.sim.elapsed();
        for cell in self.common.cells.values() {
            cell.set_live(Live::default());
        }
        Run {
            scenario: self.scenario.name.clone(),
            seed,
            trace: Trace::new(self.events),
            failures: self.failures,
            never_fired,
            elapsed,
        }
    }
}

fn without(invariants: Vec<Box<dyn Invariant>>, scenario: &Scenario) -> Vec<Box<dyn Invariant>> {
    let without = scenario.finish.as_ref().map(|finish| finish.without.clone()).unwrap_or_default();
    invariants.into_iter().filter(|invariant| !without.iter().any(|name| name == invariant.name())).collect()
}

/// What runs on a host, once it is to run. It never returns: what it fails with is a failure of the run.
async fn host(common: Arc<Common>, cell: Arc<Cell>, code: Option<Code>) -> turmoil::Result {
    cell.when_up().await;
    let outcome = match cell.spec.kind {
        Kind::Api | Kind::Relay | Kind::Cloud => cloud::host(common.clone(), cell.clone()).await,
        Kind::Daemon => endpoint::daemon(common.clone(), cell.clone()).await,
        Kind::Client | Kind::QuickConnect => endpoint::client(common.clone(), cell.clone()).await,
        Kind::Own => match code {
            Some(code) => own::host(common.clone(), cell.clone(), code).await,
            None => Err("it has no code".into()),
        },
    };
    if let Err(error) = outcome {
        cell.stopped.store(true, Ordering::SeqCst);
        cell.closed.store(true, Ordering::SeqCst);
        common.fail("host", format!("{}: {error}", cell.name));
    }
    std::future::pending().await
}

fn arrows(pairs: &[(String, String)]) -> String {
    const MOST: usize = 6;
    let both = |pair: &&(String, String)| !pairs.contains(&(pair.1.clone(), pair.0.clone())) || pair.0 < pair.1;
    let mut told: Vec<String> = Vec::new();
    for pair in pairs.iter().filter(both) {
        let arrow = if pairs.contains(&(pair.1.clone(), pair.0.clone())) { "–" } else { "→" };
        told.push(format!("{} {arrow} {}", pair.0, pair.1));
    }
    let more = told.len().saturating_sub(MOST);
    told.truncate(MOST);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told.join(", ")
}

fn said(action: &Action) -> String {
    match action {
        Action::Close => "closes".to_owned(),
        Action::Rotate(rotate) => if rotate.hard { "rotates its keys, hard" } else { "rotates its keys" }.to_owned(),
        Action::Limits(_) => "has other limits".to_owned(),
        Action::Drop(host) => format!("drops the socket of {host}"),
        Action::AddFault(rule) => {
            format!("gets the fault {}", rule.id.as_ref().map_or_else(|| rule.on.to_string(), ToString::to_string))
        }
        Action::RemoveFault(id) => format!("loses the fault {id}"),
        Action::Code(code) => format!("makes the code {}", code.name),
        other => format!("{other:?}"),
    }
}

/// The action with `{n}` filled in.
fn numbered(action: &Action, n: u32) -> Action {
    let text = |text: &str| text.replace("{n}", &n.to_string());
    fn fill(value: &Value, n: u32) -> Value {
        match value {
            Value::String(text) if text == "{n}" => n.into(),
            Value::String(text) => text.replace("{n}", &n.to_string()).into(),
            Value::Array(items) => items.iter().map(|item| fill(item, n)).collect(),
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), fill(value, n))).collect(),
            other => other.clone(),
        }
    }
    let written = |value: &Option<Written>| value.as_ref().map(|value| Written(fill(&value.0, n)));
    match action {
        Action::Call(call) => {
            let mut call = call.clone();
            call.name = call.name.as_deref().map(text);
            call.params = written(&call.params);
            call.result = written(&call.result);
            Action::Call(call)
        }
        Action::Emit(emit) | Action::Broadcast(emit) => {
            let mut filled = emit.clone();
            filled.event = text(&emit.event);
            filled.data = written(&emit.data);
            if matches!(action, Action::Emit(_)) { Action::Emit(filled) } else { Action::Broadcast(filled) }
        }
        other => other.clone(),
    }
}
