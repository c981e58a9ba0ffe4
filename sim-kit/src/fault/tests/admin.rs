//! The plan below `/__sim`, by the typed client and by hand.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, body::Body};
use http::{Request, header::CONTENT_TYPE};
use serde_json::{Value, json};
use sideband_env::{
    BoxFuture, BoxStream, Env, FixedClock, HttpClient, HttpError, HttpRequest, HttpResponse, Listener, Network,
    SeededEntropy, Target, Timeline,
};
use sideband_protocol::api::Procedure;
use tower::ServiceExt;

use super::*;
use crate::{
    admin::{AdminClient, AdminError},
    fault::admin::router,
};

/// No network; HTTP goes to a router.
struct Direct(Router);

impl Network for Direct {
    fn connect<'a>(&'a self, _target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn bind(&self, _addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

impl HttpClient for Direct {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            let mut inner = Request::builder().method(request.method).uri(request.url.path());
            inner.headers_mut().unwrap().extend(request.headers);
            let response = self.0.clone().oneshot(inner.body(Body::from(request.body)).unwrap()).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = axum::body::to_bytes(body, request.max_answer).await.unwrap();
            Ok(HttpResponse { status: parts.status, headers: parts.headers, body })
        })
    }
}

struct Bench {
    engine: FaultEngine,
    router: Router,
    client: AdminClient,
}

fn bench() -> Bench {
    bench_of(&Place::ALL)
}

fn bench_of(places: &'static [Place]) -> Bench {
    let engine = FaultEngine::new(Timeline::start());
    let router = router(engine.clone(), places);
    let direct = Arc::new(Direct(router.clone()));
    let env = Env {
        clock: Arc::new(FixedClock::at_seconds(1)),
        entropy: Arc::new(SeededEntropy::new(1, "t")),
        network: direct.clone(),
        http: direct,
    };
    Bench { engine, router, client: AdminClient::new(env, "http://admin.test".parse().unwrap(), None) }
}

impl Bench {
    /// Status and body of a request by hand.
    async fn ask(&self, method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn happens(&self) -> usize {
        self.engine.api_request(&ApiPoint { procedure: Procedure::RenewToken, daemon: None, user: None }).len()
    }

    fn names(&self) -> Vec<String> {
        self.engine.list().iter().map(|report| report.id.to_string()).collect()
    }
}

const TOML: &str =
    "seed = 7\n[[fault]]\nid = \"storm\"\non = \"api.request\"\ndo = { status = 429, retry_after = \"2s\" }\n";
const JSON: &str = r#"{"seed":7,"fault":[{"id":"storm","on":"api.request","do":{"status":429,"retryAfter":"2s"}}]}"#;

#[tokio::test]
async fn a_plan_is_put_in_both_languages_and_listed_with_what_it_did() {
    for (text, format) in [(TOML, Format::Toml), (JSON, Format::Json)] {
        let bench = bench();
        let list = bench.client.set_faults_text(text, format).await.unwrap();
        assert_eq!((list.seed, list.faults.len(), list.faults[0].fired), (7, 1, 0));
        assert_eq!(list.faults[0].rule, bench.engine.plan().faults[0]);
        assert_eq!((bench.happens(), bench.happens()), (1, 1));
        let list = bench.client.faults().await.unwrap();
        assert_eq!((list.faults[0].seen, list.faults[0].fired, list.faults[0].overruled), (2, 2, 0));
        // The typed plan comes to the same, and counts anew.
        let plan = bench.engine.plan();
        assert_eq!(bench.client.set_faults(&plan).await.unwrap().faults[0].fired, 0);
        assert_eq!(bench.engine.plan(), plan);
        let (status, body) = bench.ask("GET", "/faults", "", "").await;
        assert_eq!((status, &body["faults"][0]["rule"]["do"]["retryAfter"]), (200, &json!("2s")));
    }
}

#[tokio::test]
async fn rules_are_added_behind_the_others_and_taken_away() {
    let bench = bench();
    let cut = FaultRule::parse("on = \"api.request\"\ndo = \"cut\"", Format::Toml).unwrap();
    let first = bench.client.add_fault(&cut).await.unwrap();
    assert_eq!(first.rule.id.as_ref().map(RuleId::as_str), Some("rule-1"));
    let body = "id = \"slow\"\non = \"keys\"\ndo = { delay = \"1s\" }";
    let (status, answer) = bench.ask("POST", "/faults", "application/toml; charset=utf-8", body).await;
    assert_eq!((status, &answer["rule"]["id"]), (200, &json!("slow")), "{answer}");
    assert_eq!(bench.names(), ["rule-1", "slow"]);
    assert!(bench.client.remove_fault("rule-1").await.unwrap());
    assert!(!bench.client.remove_fault("rule-1").await.unwrap());
    let (status, answer) = bench.ask("DELETE", "/faults/rule-1", "", "").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")));
    assert_eq!((bench.happens(), bench.names()), (0, vec!["slow".to_owned()]));
    assert_eq!(bench.client.clear_faults().await.unwrap(), 1);
    assert_eq!((bench.client.clear_faults().await.unwrap(), bench.client.faults().await.unwrap().faults.len()), (0, 0));
}

#[tokio::test]
async fn a_name_that_is_taken_is_409_and_changes_nothing() {
    let bench = bench();
    bench.client.set_faults_text(TOML, Format::Toml).await.unwrap();
    let rule = bench.engine.plan().faults[0].clone();
    let error = bench.client.add_fault(&rule).await.unwrap_err();
    assert!(matches!(&error, AdminError::Refused { status: 409, code, .. } if code == "conflict"), "{error:?}");
    assert_eq!(bench.names(), ["storm"]);
}

#[tokio::test]
async fn a_wrong_plan_is_400_with_the_line_and_the_one_before_goes_on() {
    let bench = bench();
    bench.client.set_faults_text(TOML, Format::Toml).await.unwrap();
    let before = bench.engine.plan();
    let toml = "seed = 1\n[[fault]]\non = \"api.request\"\ndo = \"ghost\"\n";
    let json = "{\"fault\": [\n {\"on\": \"keys\",\n  \"do\": \"ghost\"}]}";
    for (text, format, line) in [(toml, Format::Toml, "line 4"), (json, Format::Json, "line 3")] {
        let error = bench.client.set_faults_text(text, format).await.unwrap_err();
        let AdminError::Refused { status, code, message, .. } = &error else { panic!("{error}") };
        assert_eq!((*status, code.as_str()), (400, "bad_plan"));
        assert!(message.contains(line) && message.contains("`ghost`"), "{message}");
    }
    let (status, answer) =
        bench.ask("POST", "/faults", "application/toml", "on = \"keys\"\nskip = -1\ndo = \"cut\"").await;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 400 && message.contains("line 2"), "{status} {answer}");
    assert_eq!(bench.engine.plan(), before);
    assert_eq!(bench.happens(), 1);
}

#[tokio::test]
async fn other_media_types_other_bytes_and_large_bodies_are_refused() {
    let bench = bench();
    for content_type in ["", "text/plain", "application/x-www-form-urlencoded"] {
        let (status, answer) = bench.ask("PUT", "/faults", content_type, TOML).await;
        assert_eq!((status, &answer["error"]["code"]), (415, &json!("unsupported_media_type")), "{content_type}");
    }
    let (status, answer) = bench.ask("PUT", "/faults", "application/toml", vec![0xff, 0xfe]).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("bad_plan")));
    let fitting = format!("{TOML}#{}", "x".repeat(MAX_PLAN - TOML.len() - 1));
    assert_eq!(bench.ask("PUT", "/faults", "application/toml", fitting.clone()).await.0, 200);
    assert_eq!(bench.ask("PUT", "/faults", "application/toml", fitting + "x").await.0, 413);
    assert_eq!(bench.names(), ["storm"]);
}

/// Keeps nothing.
struct Full;

impl KeepPlan for Full {
    fn keep(&self, _: &FaultPlan) -> Result<(), KeepError> {
        Err(KeepError("disk full".to_owned()))
    }

    fn begin(&self, plan: &FaultPlan) -> Result<(), KeepError> {
        self.keep(plan)
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_kept_is_500_and_none() {
    let bench = bench();
    let rule = json!({ "id": "a", "on": "api.request", "do": "cut" });
    bench.engine.add(serde_json::from_value(rule.clone()).unwrap()).unwrap();
    let before = bench.engine.plan();
    bench.engine.keep_in(Arc::new(Full));
    let other = json!({ "id": "b", "on": "api.request", "do": "cut" });
    for (method, path, body) in [
        ("PUT", "/faults", json!({ "fault": [other] }).to_string()),
        ("POST", "/faults", other.to_string()),
        ("DELETE", "/faults/a", String::new()),
        ("DELETE", "/faults", String::new()),
    ] {
        let (status, answer) = bench.ask(method, path, "application/json", body).await;
        assert_eq!((status, &answer["error"]["code"]), (500, &json!("internal_error")), "{method} {path}");
        assert!(!answer.to_string().contains("disk full"), "{answer}");
    }
    assert_eq!(bench.engine.plan(), before);
}

/// Rules about places that a process does not have are taken, and the answers say that they never fire there.
#[tokio::test]
async fn rules_for_other_places_are_taken_with_a_warning() {
    let elsewhere = r#"{"id":"elsewhere","on":"relay.frame","do":"drop"}"#;
    let here = r#"{"id":"here","on":"keys","do":"cut"}"#;
    let words = "elsewhere never fires here: this process has no relay.frame";
    for (places, wanted) in [(Place::OF_API, vec![words.to_owned()]), (Place::OF_CLOUD, vec![])] {
        let bench = bench_of(places);
        for (rule, wanted) in [(here, &vec![]), (elsewhere, &wanted)] {
            let rule = FaultRule::parse(rule, Format::Json).unwrap();
            assert_eq!(&bench.client.add_fault(&rule).await.unwrap().warnings, wanted);
        }
        assert_eq!(bench.client.faults().await.unwrap().warnings, wanted);
        let plan = format!(r#"{{"fault":[{elsewhere},{here}]}}"#);
        assert_eq!(bench.client.set_faults_text(plan, Format::Json).await.unwrap().warnings, wanted);
        let misplaced: Vec<String> = bench.engine.misplaced(places).iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(misplaced.len(), wanted.len(), "{misplaced:?}");
    }
    let (_, answer) = bench().ask("GET", "/faults", "", "").await;
    assert!(answer.get("warnings").is_none(), "absent if there are none: {answer}");
}
