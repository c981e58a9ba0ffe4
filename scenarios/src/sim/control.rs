//! The run: turmoil's clock, the steps and their timers, the phases, and what is looked at after each tick.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use sideband_api_sim::{AccessToken, Bootstrap};
use sideband_env::{EntropySource, SeededEntropy};
use sideband_sim_kit::{
    event::{Event, EventKind, EventSink},
    fault::{FaultPlan, FaultRule, Place, RuleId},
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
    scenario::{Kind, Scenario, host::Start, step::Down},
    trace::Trace,
    world::EPOCH,
};

/// Most events of a run; more mean that it runs away.
const MOST_EVENTS: usize = 2_000_000;

/// What is due at a time.
#[derive(Debug, Clone)]
pub(super) enum Due {
    Step(usize, u32),
    /// A step whose time was drawn.
    Act(usize, u32),
    Start(String),
    Unblock(Vec<(String, String)>),
    Appear(String),
}

pub(super) struct Control<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) common: Arc<Common>,
    pub(super) sim: turmoil::Sim<'a>,
    pub(super) outside: Arc<AtomicU64>,
    pub(super) inbox: Arc<Mutex<Vec<Event>>>,
    pub(super) events: Vec<Event>,
    pub(super) timers: BTreeMap<(u64, u64), Due>,
    pub(super) serial: u64,
    /// Steps that wait for an event: the step, how many they have seen.
    pub(super) waits: Vec<(usize, Matcher<'a>, u64)>,
    pub(super) restarting: Vec<(String, Down, u64)>,
    pub(super) invariants: Vec<Box<dyn Invariant>>,
    pub(super) open_calls: BTreeMap<u64, String>,
    pub(super) failures: Vec<Failure>,
    pub(super) last_step: u64,
    pub(super) judged: u64,
    pub(super) over: bool,
}

pub(super) fn run(scenario: &Scenario, seed: u64, options: &RunOptions, own: &[OwnHost]) -> Result<Run, RunError> {
    let longer;
    let scenario = match options.times_as_long {
        0 | 1 => scenario,
        times => {
            longer = scenario.times_as_long(times);
            &longer
        }
    };
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
        let mut tokens = BTreeMap::new();
        for (name, host) in scenario.all_hosts() {
            if !matches!(host.kind, Kind::Client | Kind::Own) {
                continue;
            }
            // The daemon that is named, or the first one of the file.
            let daemons = || scenario.all_hosts().into_iter().filter(|(_, host)| host.kind == Kind::Daemon);
            let daemon = host.daemon.clone().or_else(|| daemons().next().map(|(name, _)| name));
            let credentials = daemon.and_then(|daemon| credentials.get(&daemon)).or_else(|| credentials.get(&name));
            if let Some(credentials) = credentials {
                let mut entropy = SeededEntropy::new(seed, &format!("token {name}")).entropy();
                let token = AccessToken::random(&mut *entropy);
                tokens.insert(name, (token, credentials.user_id.clone()));
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
            order: scenario.all_hosts().into_iter().map(|(name, _)| name).collect(),
            credentials,
            tokens,
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

    pub(super) fn now(&self) -> u64 {
        self.sim.elapsed().as_millis() as u64
    }

    pub(super) fn due(&mut self, at: u64, due: Due) {
        self.serial += 1;
        self.timers.insert((at, self.serial), due);
    }

    pub(super) fn fail(&mut self, kind: impl Into<String>, what: impl Into<String>) {
        self.failures.push(Failure { kind: kind.into(), at: self.now(), what: what.into() });
    }

    /// One tick of the clock, and what follows from it.
    pub(super) fn tick(&mut self) {
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
    pub(super) fn listen(&mut self) {
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
    common.wire.bury(&cell.name);
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
