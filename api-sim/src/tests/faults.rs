//! The fault plan at `api.request` and `keys`, over real sockets where the connection matters.

use std::time::Duration;

use axum::http::Method;
use sideband_env::real::Roots;
use sideband_protocol::token::KeySet;
use sideband_sim_kit::{
    fault::{FAULT_HEADER, FaultEngine, FaultPlan, Format},
    server::{ServeOptions, serve},
};
use tokio::{sync::oneshot, task::JoinHandle, time};

use super::*;
use crate::KeySetUnavailable;

const PAGE: &str = "http://localhost:3000";

struct Faulty {
    world: World,
    engine: FaultEngine,
}

fn faulty(text: &str) -> Faulty {
    let mut world = world(config());
    let engine = FaultEngine::new(Timeline::start());
    engine.set(FaultPlan::parse(text, Format::Toml).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    world.api = world.api.with_faults(engine.clone());
    world.router = world.api.router();
    Faulty { world, engine }
}

/// One rule.
fn at(on: &str, rest: &str) -> Faulty {
    faulty(&format!("[[fault]]\nid = \"f\"\non = \"{on}\"\n{rest}"))
}

impl Faulty {
    async fn create(&self) -> Answer {
        self.world.create_session(&self.world.boot.daemon_id).await
    }

    fn current_kid(&self) -> String {
        self.world.api.keys_overview().keys[0].kid.clone()
    }
}

fn kid(token: &str) -> String {
    let header = data_encoding::BASE64URL_NOPAD.decode(token.split('.').next().unwrap().as_bytes()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// A server on loopback.
struct Served {
    env: Env,
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn served(faulty: &Faulty) -> Served {
    let env = Env::real(&Roots::default()).unwrap();
    let listener = env.network.bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let options = ServeOptions { shutdown_grace: Duration::from_secs(60), ..ServeOptions::default() };
    let task = tokio::spawn(serve(listener, faulty.world.api.router(), options, async { drop(stopped.await) }));
    Served { env, addr, stop, task }
}

impl Served {
    fn create(&self, faulty: &Faulty) -> HttpRequest {
        let mut headers = HeaderMap::new();
        headers.insert("origin", PAGE.parse().unwrap());
        headers.insert("authorization", format!("Bearer {}", faulty.world.user()).parse().unwrap());
        let url = format!("http://{}/api/trpc/relay.createSession", self.addr).parse().unwrap();
        let body = json!({"daemonId": faulty.world.boot.daemon_id}).to_string().into();
        HttpRequest { method: Method::POST, url, headers, body, max_answer: 1 << 20 }
    }
}

/// A bound on what should happen at once.
async fn within<T>(future: impl Future<Output = T>) -> T {
    time::timeout(Duration::from_secs(10), future).await.expect("in time")
}

#[tokio::test]
async fn a_status_is_answered_with_exact_headers_and_body() {
    let mut shown = String::new();
    for case in [
        "{ status = 409, code = \"CONFLICT\" }",
        "{ status = 429, retry_after = \"2s\" }",
        "{ status = 503 }",
        "{ status = 418 }",
        "{ status = 200 }",
        "{ status = 200, body = \"html\" }",
        "{ status = 204, body = \"empty\" }",
    ] {
        let faulty = at("api.request", &format!("do = {case}"));
        let served = served(&faulty).await;
        let answer = within(served.env.http.send(served.create(&faulty))).await.unwrap();
        let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| *name != "date").collect();
        headers.sort_by_key(|(name, _)| name.as_str());
        let headers = headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        shown += &format!("== {case}\n{}\n{}\n{body}\n", answer.status, headers.collect::<String>());
    }
    insta::assert_snapshot!("a_status_is_answered_with_exact_headers_and_body", shown);
}

#[tokio::test]
async fn api_09_faults_come_after_origin_procedure_and_method_and_before_the_rest() {
    let faulty = at("api.request", "do = { status = 503 }");
    let ask = async |method: &str, procedure: &str, origin: &str, body: String| {
        let mut request = request(procedure, "wrong", body);
        *request.method_mut() = method.parse().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        send(&faulty.world.router, request).await.status
    };
    let create = "relay.createSession";
    assert_eq!(ask("POST", create, "http://evil.test", String::new()).await, 403);
    assert_eq!(ask("POST", "no.such", PAGE, String::new()).await, 404);
    assert_eq!(ask("GET", create, PAGE, String::new()).await, 405);
    assert_eq!(ask("OPTIONS", create, PAGE, String::new()).await, 204);
    assert_eq!(faulty.engine.list()[0].seen, 0);
    assert_eq!(ask("POST", create, PAGE, "{".repeat(65_537)).await, 503);
    assert_eq!(ask("POST", create, PAGE, "{".to_owned()).await, 503);
}

#[tokio::test]
async fn a_redeem_is_the_daemon_s_whose_code_it_is() {
    let faulty = at("api.request", "daemon = \"d_other\"\ndo = { status = 503 }");
    let (world, redeem) = (&faulty.world, "quickConnect.redeem");
    world.set_online(&world.boot.daemon_id);
    let code = world.call("quickConnect.create", world.key(), json!({})).await.text("code");
    let plan = format!(
        "[[fault]]\non = \"api.request\"\ndaemon = \"{}\"\nprocedure = \"{redeem}\"\ntimes = 1\n\
         do = {{ status = 429 }}",
        world.boot.daemon_id
    );
    assert_eq!(world.call(redeem, "", json!({ "code": "no-such-code" })).await.status, 404);
    faulty.engine.set(FaultPlan::parse(&plan, Format::Toml).unwrap()).unwrap();
    assert_eq!(world.call(redeem, "", json!({ "code": "no-such-code" })).await.status, 404, "nobody's");
    assert_eq!(world.call(redeem, "", json!({ "code": code })).await.status, 429);
    assert_eq!(world.call(redeem, "", json!({ "code": code })).await.status, 200, "nothing was consumed");
}

#[tokio::test(start_paused = true)]
async fn an_outage_holds_from_then_until_then() {
    let faulty = at("api.request", "from = \"10s\"\nfor = \"5s\"\ndo = { status = 503 }");
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(faulty.create().await.status);
        time::advance(Duration::from_secs(1)).await;
    }
    let expected: Vec<_> = (0..20).map(|second| if (10..15).contains(&second) { 503 } else { 200 }).collect();
    assert_eq!(statuses, expected);
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_exact_and_goes_with_other_rules() {
    let faulty = faulty(
        "[[fault]]\nid = \"slow\"\non = \"api.request\"\ndo = { delay = \"2s\" }\n\
         [[fault]]\nid = \"storm\"\non = \"api.request\"\nskip = 1\ndo = { status = 429 }",
    );
    let begun = Timeline::start();
    faulty.create().await.data();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    let answer = faulty.create().await;
    assert_eq!((answer.status, begun.elapsed()), (429, Duration::from_secs(4)));
    assert_eq!(answer.headers[&FAULT_HEADER], "slow#2, storm#1");
}

#[tokio::test]
async fn a_cut_ends_the_connection_and_nothing_is_answered() {
    let faulty = at("api.request", "times = 1\ndo = \"cut\"");
    let served = served(&faulty).await;
    let error = within(served.env.http.send(served.create(&faulty))).await.unwrap_err();
    assert!(matches!(error, HttpError::Transport(_)), "{error:?}");
    assert_eq!(faulty.world.requests(), []);
    assert_eq!(within(served.env.http.send(served.create(&faulty))).await.unwrap().status, 200);
}

#[tokio::test]
async fn rel_24_a_hang_ends_with_its_rule_or_at_shutdown() {
    for clear in [true, false] {
        let faulty = at("api.request", "do = \"hang\"");
        let mut events = faulty.world.events.subscribe();
        let served = served(&faulty).await;
        let (env, request) = (served.env.clone(), served.create(&faulty));
        let asked = tokio::spawn(async move { env.http.send(request).await });
        assert!(matches!(within(events.recv()).await.unwrap().kind, EventKind::Fault { number: 1, .. }));
        if clear {
            faulty.engine.clear();
            assert_eq!(within(asked).await.unwrap().unwrap().status, 200, "it goes on");
        } else {
            served.stop.send(()).unwrap();
            within(served.task).await.unwrap();
            assert!(asked.await.unwrap().is_err(), "it is cut, well before the server's own minute");
        }
    }
}

#[tokio::test]
async fn api_01_a_shifted_clock_issues_tokens_of_another_time() {
    let faulty = at("api.request", "times = 1\ndo = { clock_shift = \"-10m\" }");
    let token = faulty.create().await.text("token");
    assert_eq!(claims(&token)["iat"], NOW - 600);
    assert!(faulty.world.check(&token).is_err(), "it has expired");
    assert_eq!(claims(&faulty.create().await.text("token"))["iat"], NOW, "the clock of the others is right");
}

#[tokio::test]
async fn key_04_rotations_by_fault() {
    for (how, published) in [("overlap", true), ("hard", false)] {
        let faulty = at("api.request", &format!("times = 1\ndo = {{ rotate = \"{how}\" }}"));
        let before = faulty.current_kid();
        let token = faulty.create().await.text("token");
        assert_eq!((kid(&token) == before, faulty.current_kid() == before), (true, false));
        assert_eq!(faulty.world.check(&token).is_ok(), published);
    }
    let faulty = at("keys", "usage = \"sign\"\ntimes = 1\ndo = { rotate = \"overlap\" }");
    let before = faulty.current_kid();
    assert_ne!(kid(&faulty.create().await.text("token")), before, "before it signs");
}

#[tokio::test]
async fn key_02_key_03_the_key_set_unreachable_or_with_foreign_entries() {
    let fetch = async |rest: &str| at("keys", rest).world.api.fetch_key_set().await;
    assert_eq!(fetch("do = { status = 503 }").await, Err(KeySetUnavailable::Status(503)));
    assert_eq!(fetch("do = { status = 200, body = \"html\" }").await, Err(KeySetUnavailable::Unreadable));
    assert_eq!(fetch("do = \"cut\"").await, Err(KeySetUnavailable::Cut));
    let faulty = at("keys", "do = { foreign = 10 }");
    let request = Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap();
    let answer = send(&faulty.world.router, request).await;
    assert_eq!(answer.headers[&FAULT_HEADER], "f#1");
    assert_eq!(answer.body["keys"].as_array().unwrap().len(), 11);
    let set = KeySet::parse(answer.body.to_string().as_bytes()).unwrap();
    let token = faulty.create().await.text("token");
    let policy = Policy { issuer: ISSUER.into(), region: None, now: NOW };
    check(Some(&token), &set, &policy).expect("whoever reads it passes over them");
}
