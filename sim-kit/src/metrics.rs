//! `/metrics`: OpenMetrics text, which Prometheus reads.
//!
//! What happens is counted from the events, so that the sims count nothing twice; what is there now, and the books over grades, are read
//! when they are asked for, so that they say the same as `status` and `grades`.
//!
//! | metric | type | labels |
//! |---|---|---|
//! | `sideband_sim_requests_total` | counter | `procedure`, `status` |
//! | `sideband_sim_connections_opened_total` | counter | `role` |
//! | `sideband_sim_connections_closed_total` | counter | `code`, `none` for a cut |
//! | `sideband_sim_upgrades_refused_total` | counter | `status`, `code`, `reason` |
//! | `sideband_sim_controls_total` | counter | `code` |
//! | `sideband_sim_session_changes_total` | counter | `state` |
//! | `sideband_sim_key_sets_total` | counter | `result` |
//! | `sideband_sim_key_rotations_total` | counter | `hard` |
//! | `sideband_sim_grades_total` | counter | `rule`, `party`; from zero on when the books are begun anew |
//! | `sideband_sim_faults_total` | counter | `rule`, `other` for rules that fired longest ago, beyond 2,000 of them |
//! | `sideband_sim_events_total` | counter | `kind`, of kinds that are not counted above |
//! | `sideband_sim_forwarded_frames_total`, `sideband_sim_forwarded_bytes_total` | counter | |
//! | `sideband_sim_dropped_frames_total` | counter | `reason` |
//! | `sideband_sim_daemons_online` | gauge | |
//! | `sideband_sim_sessions` | gauge | `state` |

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::Registry,
};
use sideband_protocol::{api::Procedure, token::JWKS_PATH};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    admin::{AdminRoutes, RelayStatus, error_response},
    event::{Event, EventKind, EventSink, Role},
    fault::MAX_RULES,
    observer::GradeCount,
};

/// The content type of the answer.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most rules with a series of their own: those that there can be at once, and as many that are gone.
const MAX_FAULT_SERIES: usize = 2 * MAX_RULES;

type Labels = Vec<(&'static str, String)>;

/// What a process counts. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Registry>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Counts events from now on. `relay` tells what a relay sees; a process without one has none.
    pub fn new(events: &EventSink, relay: Option<Arc<dyn Fn() -> RelayStatus + Send + Sync>>) -> Self {
        let mut registry = Registry::with_prefix("sideband_sim");
        let counters = Counters::register(&mut registry);
        events.tap(move |event| counters.count(event));
        registry.register_collector(Box::new(GradesCollector(events.clone())));
        if let Some(status) = relay {
            registry.register_collector(Box::new(RelayCollector(status)));
        }
        Self(Arc::new(registry))
    }

    /// The route `metrics` of `/__sim`.
    pub fn routes(&self) -> AdminRoutes {
        OpenApiRouter::default().routes(routes!(answer)).with_state(self.clone())
    }

    /// Answers at the root, to be nested at `/metrics`, and guarded as `/__sim` is.
    pub fn router(&self) -> Router {
        Router::new().route("/", get(answer)).with_state(self.clone())
    }
}

/// Tell what is counted, as OpenMetrics text. The same is at `/metrics` beside the admin API.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    responses((status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text"))
)]
async fn answer(State(metrics): State<Metrics>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &metrics.0) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(fmt::Error) => {
            error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the metrics cannot be written")
        }
    }
}

/// Counters of events.
struct Counters {
    requests: Family<Labels, Counter>,
    opened: Family<Labels, Counter>,
    closed: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    controls: Family<Labels, Counter>,
    sessions: Family<Labels, Counter>,
    key_sets: Family<Labels, Counter>,
    rotations: Family<Labels, Counter>,
    faults: FaultCounts,
    others: Family<Labels, Counter>,
}

impl Counters {
    fn register(registry: &mut Registry) -> Self {
        let mut family = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        Self {
            requests: family("requests", "Requests that the control plane answered"),
            opened: family("connections_opened", "WebSockets that opened at the relay"),
            closed: family("connections_closed", "WebSockets that ended at the relay"),
            refused: family("upgrades_refused", "Upgrades that the relay refused"),
            controls: family("controls", "Control frames that the relay sent"),
            sessions: family("session_changes", "Changes of sessions' states at the relay"),
            key_sets: family("key_sets", "Requests of the relay for the key set"),
            rotations: family("key_rotations", "Rotations of the control plane's signing keys"),
            others: family("events", "Other events"),
            faults: FaultCounts::register(registry),
        }
    }

    fn count(&self, event: &Event) {
        let add = |family: &Family<Labels, Counter>, labels: Labels| {
            family.get_or_create(&labels).inc();
        };
        let other = |kind: &str| add(&self.others, vec![("kind", kind.to_owned())]);
        match &event.kind {
            EventKind::Request { procedure, status, .. } => {
                let labels = vec![("procedure", known(procedure).to_owned()), ("status", status.to_string())];
                add(&self.requests, labels);
            }
            EventKind::Opened { role, .. } => add(&self.opened, vec![("role", role_name(*role).to_owned())]),
            EventKind::Closed { code, .. } => {
                // Peers may send any code: each of the 64 Ki could become a series.
                let code = match code {
                    None => "none".to_owned(),
                    Some(code @ (1000..=1015 | 4001)) => code.to_string(),
                    Some(_) => "other".to_owned(),
                };
                add(&self.closed, vec![("code", code)]);
            }
            EventKind::UpgradeRefused { status, code, reason, .. } => {
                let labels = vec![("status", status.to_string()), ("code", code.clone()), ("reason", reason.clone())];
                add(&self.refused, labels);
            }
            EventKind::Control { code, .. } => add(&self.controls, vec![("code", code.clone())]),
            EventKind::Session { state } => add(&self.sessions, vec![("state", state.clone())]),
            EventKind::KeySet { result } => add(&self.key_sets, vec![("result", result.clone())]),
            EventKind::KeysRotated { hard, .. } => add(&self.rotations, vec![("hard", hard.to_string())]),
            EventKind::Fault { rule, .. } => self.faults.add(rule),
            // The books over them are read: not each is told.
            EventKind::Grade { .. } => {}
            EventKind::Frame { .. } => other("frame"),
            EventKind::Dropped { .. } => other("dropped"),
            EventKind::MessageRefused { .. } => other("message_refused"),
            EventKind::RateLimited { .. } => other("rate_limited"),
            EventKind::Held { .. } => other("held"),
            EventKind::Swept { .. } => other("swept"),
            EventKind::Restarted => other("restarted"),
            EventKind::LimitsChanged => other("limits_changed"),
            EventKind::Reset => self.forget(),
            EventKind::Endpoint { .. }
            | EventKind::Retrying { .. }
            | EventKind::Call { .. }
            | EventKind::CallEnded { .. }
            | EventKind::Served { .. }
            | EventKind::Emitted { .. }
            | EventKind::Delivered { .. } => other("endpoint"),
            EventKind::Step { .. } => other("step"),
        }
    }
}

impl Counters {
    /// Counts from zero on, which readers of counters expect of a process that starts anew.
    fn forget(&self) {
        let Self { requests, opened, closed, refused, controls, sessions, key_sets, rotations, faults, others } = self;
        let all = [requests, opened, closed, refused, controls, sessions, key_sets, rotations, others];
        all.into_iter().for_each(|family| family.clear());
        *faults.lock() = Fired::default();
    }
}

/// A procedure's name; whatever else is asked for is one of the others, since callers may ask for anything.
fn known(procedure: &str) -> &str {
    if procedure == JWKS_PATH || Procedure::from_name(procedure).is_some() { procedure } else { "other" }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Daemon => "daemon",
    }
}

/// Reads the books over grades at each question.
#[derive(Debug)]
struct GradesCollector(EventSink);

impl Collector for GradesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Times that endpoints broke a rule";
        let mut grades = encoder.encode_descriptor("grades", help, None, MetricType::Counter)?;
        for GradeCount { rule, party, count } in self.0.grades().counts {
            let labels = [("rule", rule.as_str()), ("party", role_name(party))];
            ConstCounter::new(count).encode(grades.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// How often rules fired. Names come without end, for rules may be put and taken away for ever: the rules that fired longest ago
/// are counted together, so that the sum never goes back.
#[derive(Debug, Clone, Default)]
struct FaultCounts(Arc<Mutex<Fired>>);

#[derive(Debug, Default)]
struct Fired {
    /// Times, and the time of the last one by the count of all.
    rules: BTreeMap<String, (u64, u64)>,
    all: u64,
    other: u64,
}

/// The label of rules that have no series of their own.
const OTHER: &str = "other";

impl FaultCounts {
    fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        registry.register_collector(Box::new(counts.clone()));
        counts
    }

    fn lock(&self) -> MutexGuard<'_, Fired> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, rule: &str) {
        let fired = &mut *self.lock();
        fired.all += 1;
        if rule == OTHER {
            fired.other += 1;
            return;
        }
        if !fired.rules.contains_key(rule)
            && fired.rules.len() >= MAX_FAULT_SERIES
            && let Some(oldest) = fired.rules.iter().min_by_key(|(_, (_, last))| *last).map(|(rule, _)| rule.clone())
        {
            fired.other += fired.rules.remove(&oldest).map_or(0, |(times, _)| times);
        }
        let (times, last) = fired.rules.entry(rule.to_owned()).or_default();
        (*times, *last) = (*times + 1, fired.all);
    }
}

impl Collector for FaultCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let fired = self.lock();
        let mut family = encoder.encode_descriptor("faults", "Faults that fired", None, MetricType::Counter)?;
        let other = (fired.other > 0).then_some((OTHER, fired.other));
        for (rule, times) in fired.rules.iter().map(|(rule, (times, _))| (rule.as_str(), *times)).chain(other) {
            ConstCounter::new(times).encode(family.encode_family(&[("rule", rule)])?)?;
        }
        Ok(())
    }
}

/// Reads what a relay sees at each question.
struct RelayCollector(Arc<dyn Fn() -> RelayStatus + Send + Sync>);

impl fmt::Debug for RelayCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayCollector")
    }
}

impl Collector for RelayCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = (self.0)();
        let counter = |name: &str| status.counters.get(name).copied().unwrap_or_default();
        for (name, help, of) in [
            ("forwarded_frames", "Frames that the relay passed on", "forwarded_frames"),
            ("forwarded_bytes", "Bytes of the frames that the relay passed on", "forwarded_bytes"),
        ] {
            let metric = ConstCounter::new(counter(of));
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }

        let mut dropped =
            encoder.encode_descriptor("dropped_frames", "Frames that the relay dropped", None, MetricType::Counter)?;
        for (name, &count) in &status.counters {
            if let Some(reason) = name.strip_prefix("dropped_") {
                ConstCounter::new(count).encode(dropped.encode_family(&[("reason", reason)])?)?;
            }
        }

        let online = status.daemons.iter().filter(|daemon| daemon.online).count();
        let help = "Daemons whose sockets are at the relay";
        ConstGauge::new(online as u64).encode(encoder.encode_descriptor(
            "daemons_online",
            help,
            None,
            MetricType::Gauge,
        )?)?;

        let mut by_state: BTreeMap<&str, u64> = [("paired", 0), ("paused", 0), ("pending", 0)].into();
        for session in status.daemons.iter().flat_map(|daemon| &daemon.sessions) {
            *by_state.entry(&session.state).or_default() += 1;
        }
        let help = "Sessions at the relay";
        let mut sessions = encoder.encode_descriptor("sessions", help, None, MetricType::Gauge)?;
        for (state, count) in by_state {
            ConstGauge::new(count).encode(sessions.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use sideband_protocol::SessionId;
    use tower::ServiceExt;

    use super::*;
    use crate::{
        admin::{DaemonStatus, SessionStatus},
        observer::{Mark, Rule},
    };

    async fn text(metrics: &Metrics) -> String {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = metrics.router().oneshot(request).await.unwrap();
        assert_eq!(answer.headers()["content-type"], OPEN_METRICS);
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn request(procedure: &str) -> EventKind {
        let procedure = procedure.to_owned();
        let (caller, code, token, http, retry_after_ms) = (None, None, None, None, None);
        EventKind::Request { procedure, status: 404, caller, code, token, http, retry_after_ms, took_ms: 0 }
    }

    fn closed(code: Option<u16>) -> EventKind {
        EventKind::Closed { connection: 1, code, by: None, answered: false }
    }

    #[tokio::test]
    async fn events_are_counted_by_what_they_are() {
        let events = EventSink::with_time(|| 0, "test", 0);
        let metrics = Metrics::new(&events, None);
        for kind in [
            request("relay.createSession"),
            request("relay.createSession"),
            EventKind::Opened { connection: 1, role: Role::Daemon, token: None, resumable: None },
            closed(None),
            EventKind::Control { connection: 1, code: "session_paused".to_owned() },
        ] {
            events.emit(None, None, kind);
        }
        let text = text(&metrics).await;
        for line in [
            "# TYPE sideband_sim_requests counter",
            r#"sideband_sim_requests_total{procedure="relay.createSession",status="404"} 2"#,
            r#"sideband_sim_connections_opened_total{role="daemon"} 1"#,
            r#"sideband_sim_connections_closed_total{code="none"} 1"#,
            r#"sideband_sim_controls_total{code="session_paused"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[tokio::test]
    async fn each_breach_of_a_rule_is_counted_though_few_are_told() {
        let events = EventSink::with_time(|| 0, "test", 2_000);
        let metrics = Metrics::new(&events, None);
        for times in 1..=999 {
            let (rule, party, evidence) = (Rule::Cry04, Role::Client, String::new());
            events.grade(None, Mark { at: 0, rule, party, connection: None, session: None, evidence, times });
        }
        let line = r#"sideband_sim_grades_total{rule="CRY-04",party="client"} 999"#;
        assert!(text(&metrics).await.lines().any(|found| found == line));
        assert_eq!(
            (events.grades().counts[0].count, events.grades().grades.len(), events.recent().len()),
            (999, 10, 10)
        );
        events.clear_grades();
        assert!(!text(&metrics).await.contains("sideband_sim_grades_total"), "as the books, which are empty");
    }

    #[tokio::test]
    async fn what_callers_choose_makes_no_series_without_end() {
        let events = EventSink::with_time(|| 0, "test", 0);
        let metrics = Metrics::new(&events, None);
        for n in 0..2_000 {
            events.emit(None, None, request(&format!("no.such{n}")));
            events.emit(None, None, closed(Some(3_000 + n)));
        }
        let text = text(&metrics).await;
        assert!(text.contains(r#"sideband_sim_requests_total{procedure="other",status="404"} 2000"#), "{text}");
        assert!(text.lines().count() < 50, "{text}");
    }

    #[tokio::test]
    async fn rules_without_end_make_no_series_without_end_and_their_sum_never_goes_back() {
        let events = EventSink::with_time(|| 0, "test", 0);
        let metrics = Metrics::new(&events, None);
        let fire = |rule: String| {
            let (on, action) = ("keys".to_owned(), "hang".to_owned());
            events.emit(None, None, EventKind::Fault { rule, number: 1, on, action });
        };
        let sum = |text: &str| -> u64 {
            let lines = text.lines().filter(|line| line.starts_with("sideband_sim_faults_total{"));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
        };
        for n in 0..MAX_FAULT_SERIES + 10 {
            fire(format!("r{n}"));
            fire("always".to_owned());
            if n % 500 == 0 {
                assert_eq!(sum(&text(&metrics).await), 2 * (n as u64 + 1));
            }
        }
        let text = text(&metrics).await;
        assert_eq!(sum(&text), 2 * (MAX_FAULT_SERIES as u64 + 10));
        assert_eq!(text.lines().filter(|line| line.contains("faults_total{")).count(), MAX_FAULT_SERIES + 1);
        for line in [r#"rule="other"} 11"#.to_owned(), format!(r#"rule="always"}} {}"#, MAX_FAULT_SERIES + 10)] {
            assert!(text.contains(&line), "{line}");
        }
    }

    #[tokio::test]
    async fn what_the_relay_sees_is_read_when_asked_for() {
        let session =
            |id, state: &str| SessionStatus { session_id: SessionId::new(id).unwrap(), state: state.to_owned() };
        let daemon = DaemonStatus {
            daemon_id: "d_1".to_owned(),
            online: true,
            sessions: vec![session(1, "paired"), session(2, "paired"), session(3, "paused")],
        };
        let counters = [("forwarded_frames", 7), ("forwarded_bytes", 900), ("dropped_paused", 2)];
        let counters = counters.map(|(name, count)| (name.to_owned(), count)).into();
        let status = RelayStatus { daemons: vec![daemon], counters, ..RelayStatus::default() };
        let events = EventSink::with_time(|| 0, "test", 0);
        let metrics = Metrics::new(&events, Some(Arc::new(move || status.clone())));
        let text = text(&metrics).await;
        for line in [
            "sideband_sim_forwarded_frames_total 7",
            "sideband_sim_forwarded_bytes_total 900",
            r#"sideband_sim_dropped_frames_total{reason="paused"} 2"#,
            "sideband_sim_daemons_online 1",
            r#"sideband_sim_sessions{state="paired"} 2"#,
            r#"sideband_sim_sessions{state="paused"} 1"#,
            r#"sideband_sim_sessions{state="pending"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }
}
