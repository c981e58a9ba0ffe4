//! Delays: as the policies say, and kept.

use std::{collections::BTreeMap, time::Duration};

use sideband::{DaemonRetryPolicy, RetryPolicy};
use sideband_sim_kit::event::{Event, EventKind};

use super::Invariant;
use crate::{
    scenario::{Kind, Scenario},
    sim::{client_retry, daemon_retry},
};

/// What rounding to milliseconds may hide.
const ROUNDING: u64 = 2;
/// How much later than its delay an attempt may begin.
const LATE: u64 = 50;

enum Policy {
    Client(RetryPolicy),
    Daemon(DaemonRetryPolicy),
}

/// Delays of every endpoint.
pub(super) struct Delays {
    policies: BTreeMap<String, Policy>,
    /// Clients that wait: since when, how long, and which retry it was.
    waiting: BTreeMap<String, (u64, u64)>,
    /// The retry that was last, since active.
    last: BTreeMap<String, u32>,
}

impl Delays {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut policies = BTreeMap::new();
        for (name, host) in scenario.all_hosts() {
            let policy = match host.kind {
                Kind::Client | Kind::QuickConnect => Policy::Client(client_retry(host)),
                Kind::Daemon => Policy::Daemon(daemon_retry(host)),
                Kind::Api | Kind::Relay | Kind::Cloud | Kind::Own => continue,
            };
            policies.insert(name, policy);
        }
        Self { policies, waiting: BTreeMap::new(), last: BTreeMap::new() }
    }
}

fn backoff(initial: Duration, max: Duration, retry: u32) -> Duration {
    initial.saturating_mul(1_u32.checked_shl(retry.min(31)).unwrap_or(u32::MAX)).min(max)
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

impl Invariant for Delays {
    fn name(&self) -> &'static str {
        "delays"
    }

    fn see(&mut self, event: &Event, broken: &mut Vec<String>) {
        let host = &event.host;
        match (&event.kind, self.policies.get(host)) {
            (EventKind::Retrying { retry, delay_ms, retry_after_ms, .. }, Some(policy)) => {
                let told = retry_after_ms.unwrap_or(0);
                let (least, most) = match policy {
                    // CLI-04, CLI-06
                    Policy::Client(policy) => {
                        let plain = backoff(policy.initial, policy.max, *retry);
                        let least = millis(plain.mul_f64(1.0 - policy.jitter)).max(told);
                        let most = millis(plain.mul_f64(1.0 + policy.jitter)).max(told + told / 5);
                        (least, most)
                    }
                    // DMN-04
                    Policy::Daemon(policy) => {
                        let plain = millis(backoff(policy.initial, policy.max, *retry)).max(told);
                        let clean = *retry == 0 && told == 0;
                        let most = plain + millis(policy.spread);
                        (if clean { 0 } else { plain }, if clean { most.max(millis(policy.clean)) } else { most })
                    }
                };
                if delay_ms + ROUNDING < least || *delay_ms > most + ROUNDING {
                    broken.push(format!("{host}: retry {retry} after {delay_ms} ms is not in {least}..{most} ms"));
                }
                if let Policy::Client(_) = policy {
                    let expected = self.last.get(host).map_or(0, |last| last + 1);
                    if *retry != expected {
                        broken.push(format!("{host}: retry {retry} where {expected} was due"));
                    }
                    self.last.insert(host.clone(), *retry);
                    self.waiting.insert(host.clone(), (event.at, *delay_ms));
                }
            }
            (EventKind::Endpoint { report, detail }, Some(Policy::Client(_))) if report == "state" => {
                match detail.as_str() {
                    "connecting" => {
                        if let Some((since, delay)) = self.waiting.remove(host) {
                            let passed = event.at.saturating_sub(since);
                            if passed + ROUNDING < delay || passed > delay + LATE {
                                broken.push(format!("{host}: it waited {passed} ms of {delay} ms"));
                            }
                        }
                    }
                    "active" => {
                        self.last.remove(host);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn gone(&mut self, host: &str) {
        self.waiting.remove(host);
        self.last.remove(host);
    }
}
