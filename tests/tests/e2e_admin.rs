//! The whole admin API: its description, its guard, its typed client, and `reset`.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use sideband::ServerEvent;
use sideband_env::{BoxFuture, Env, HttpClient, HttpError, HttpRequest, HttpResponse};
use sideband_scenarios::cloud::CloudOptions;
use sideband_sim_kit::{
    admin::{
        Accounts, AdminClient, AdminError, RelayStatus, RestartRelay, RotateKeys,
        accounts::{DaemonSettings, NewDaemon, NewUser, UserChange},
        regions::RegionSettings,
    },
    event::EventKind,
    fault::{FaultPlan, FaultRule, Format},
    guard::AdminToken,
    limits::{ApiLimitsPatch, RelayLimitsPatch},
};
use support::*;

/// Hands on what it is asked, and keeps it.
struct Recorder {
    real: Arc<dyn HttpClient>,
    seen: Mutex<Vec<Exchange>>,
}

/// A request and its answer, as far as they are JSON.
struct Exchange {
    method: Method,
    path: String,
    sent: Value,
    status: u16,
    answer: Value,
}

impl HttpClient for Recorder {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            let (method, path) = (request.method.clone(), request.url.path().to_owned());
            let sent = serde_json::from_slice(&request.body).unwrap_or_default();
            let response = self.real.send(request).await?;
            let (status, answer) =
                (response.status.as_u16(), serde_json::from_slice(&response.body).unwrap_or_default());
            self.seen.lock().unwrap().push(Exchange { method, path, sent, status, answer });
            Ok(response)
        })
    }
}

fn recorded(env: &Env) -> (Env, Arc<Recorder>) {
    let recorder = Arc::new(Recorder { real: env.http.clone(), seen: Mutex::default() });
    (Env { http: recorder.clone(), ..env.clone() }, recorder)
}

fn client_of(world: &World) -> AdminClient {
    AdminClient::new(world.env.clone(), world.cloud.admin_url().parse().unwrap(), None)
}

/// The operations of a description: method and path, and what it says of them.
fn operations(description: &Value) -> BTreeMap<(String, String), Value> {
    let paths = description["paths"].as_object().unwrap();
    let each = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().clone();
        let path = path.clone();
        methods.into_iter().map(move |(method, operation)| ((method.to_uppercase(), path.clone()), operation))
    };
    paths.iter().flat_map(each).collect()
}

/// The operation that a request is one of.
fn operation_of<'a>(
    operations: &'a BTreeMap<(String, String), Value>,
    method: &Method,
    path: &str,
) -> Option<&'a (String, String)> {
    let asked: Vec<&str> = path.trim_start_matches("/__sim").split('/').collect();
    // Of several that fit, the one with the fewest parameters.
    let fits = |known: &&(String, String)| {
        let parts: Vec<&str> = known.1.split('/').collect();
        known.0 == method.as_str()
            && parts.len() == asked.len()
            && parts.iter().zip(&asked).all(|(part, asked)| part.starts_with('{') || part == asked)
    };
    operations.keys().filter(fits).min_by_key(|known| known.1.matches('{').count())
}

/// A path with something in place of its parameters.
fn filled(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
}

/// Asks for everything that the client knows.
async fn ask_everything(admin: &AdminClient, world: &mut World) {
    admin.ready().await.unwrap();
    admin.openapi().await.unwrap();
    let daemon = world.raw_daemon(true).await;
    let (session, client) = world.raw_client().await;
    world.session(session, "paired").await;
    let daemon_id = world.daemon_id().to_owned();
    assert_eq!(admin.daemons().await.unwrap().len(), 1);
    assert!(admin.daemon(&daemon_id).await.unwrap().is_some());
    assert!(admin.daemon("nobody").await.unwrap().is_none());
    admin.status().await.unwrap();
    assert!(admin.drop_session(session).await.unwrap());
    assert!(admin.drop_daemon(&daemon_id).await.unwrap());
    assert!(!admin.drop_daemon("nobody").await.unwrap());
    drop((daemon, client));
    let patch = RelayLimitsPatch { burst: Some(77), grace: Some(Duration::from_secs(3)), ..Default::default() };
    admin.set_limits(&patch).await.unwrap();
    assert_eq!(admin.limits().await.unwrap().burst, 77);
    let one = ApiLimitsPatch { rate: Some("500/1s".parse().ok()) };
    assert_eq!(admin.set_api_limits(&one).await.unwrap().rate, one.rate.unwrap());
    assert_eq!(admin.api_limits().await.unwrap().rate, one.rate.unwrap());
    let region = RegionSettings {
        relay_url: "ws://127.0.0.1:9/relay".to_owned(),
        relay_admin_url: Some("http://127.0.0.1:9".to_owned()),
        relay_admin_token: Some("s3cret".to_owned()),
    };
    let set = admin.set_region("us", &region).await.unwrap();
    assert_eq!(set.regions[0].relay_admin_url.as_deref(), Some("http://127.0.0.1:9/__sim"));
    assert_eq!(admin.regions().await.unwrap(), set);
    assert_eq!(admin.remove_region("us").await.unwrap().regions, []);
    admin.grades().await.unwrap();
    admin.clear_grades().await.unwrap();
    admin.keys().await.unwrap();
    admin.rotate_keys(RotateKeys::default()).await.unwrap();
    ask_about_accounts(admin).await;
    ask_about_faults(admin).await;
    admin.metrics().await.unwrap();
    let events = admin.recent_events(5).await.unwrap();
    assert_eq!(events.len(), 5);
    admin.restart_relay(RestartRelay::default()).await.unwrap();
    admin.reset().await.unwrap();
}

async fn ask_about_accounts(admin: &AdminClient) {
    let user = admin.create_user(&NewUser::default()).await.unwrap();
    let change = UserChange { region: Some(Some("eu".to_owned())) };
    admin.change_user(&user.user_id, &change).await.unwrap();
    let token = admin.issue_access_token(&user.user_id).await.unwrap();
    admin.revoke_access_token(&token.access_token_id).await.unwrap();
    let owner = admin.create_user(&NewUser::default()).await.unwrap().user_id;
    let daemon = NewDaemon { owner: owner.clone(), name: Some("one".to_owned()), ..NewDaemon::default() };
    let daemon = admin.create_daemon(&daemon).await.unwrap();
    let settings = DaemonSettings { concurrent_sessions: Some(Some(2)), ..DaemonSettings::default() };
    admin.change_daemon(&daemon.daemon_id, &settings).await.unwrap();
    let key = admin.issue_api_key(&daemon.daemon_id).await.unwrap();
    admin.revoke_api_key(&key.api_key_id).await.unwrap();
    admin.grant(&user.user_id, &daemon.daemon_id).await.unwrap();
    admin.accounts().await.unwrap();
    admin.revoke_grant(&user.user_id, &daemon.daemon_id).await.unwrap();
    admin.remove_daemon(&daemon.daemon_id).await.unwrap();
    admin.remove_user(&user.user_id).await.unwrap();
    let refused = admin.remove_user(&user.user_id).await;
    assert!(matches!(refused, Err(AdminError::Refused { status: 404, .. })), "{refused:?}");
}

async fn ask_about_faults(admin: &AdminClient) {
    let plan = r#"{"fault":[
        {"on":"api.request","procedure":"relay.createSession","skip":1,"do":{"status":429,"retryAfter":"2s"}},
        {"id":"gone","on":"relay.connection","role":"daemon","age":"1h","do":"ghost"},
        {"on":"relay.connection","age":"2h","do":{"control":"daemon_offline"}},
        {"on":"keys","times":1,"probability":0.5,"do":{"rotate":"overlap","overlap":"1m"}}]}"#;
    let plan = FaultPlan::parse(plan, Format::Json).unwrap();
    admin.set_faults(&plan).await.unwrap();
    let rule = FaultRule::parse("on = \"keys\"\nfrom = \"1h\"\ndo = \"hang\"", Format::Toml).unwrap();
    let added = admin.add_fault(&rule).await.unwrap();
    assert_eq!(admin.faults().await.unwrap().faults.len(), 5);
    assert!(admin.remove_fault(&added.rule.id.unwrap().to_string()).await.unwrap());
    assert!(!admin.remove_fault("nothing").await.unwrap());
    assert_eq!(admin.clear_faults().await.unwrap(), 4);
}

#[tokio::test]
async fn the_client_asks_for_every_route_and_every_answer_is_as_described() {
    let mut world = World::start().await;
    let description = client_of(&world).openapi().await.unwrap();
    let operations = operations(&description);
    let (env, recorder) = recorded(&world.env);
    let admin = AdminClient::new(env, world.cloud.admin_url().parse().unwrap(), None);
    ask_everything(&admin, &mut world).await;

    let mut asked = BTreeSet::new();
    let fits = |schema: &Value, value: &Value, what: &str| {
        let whole = json!({ "allOf": [schema], "components": description["components"] });
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let wrong: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?} in {value}");
    };
    for Exchange { method, path, sent, status, answer } in recorder.seen.lock().unwrap().iter() {
        let what = format!("{method} {path}");
        let operation = operation_of(&operations, method, path).unwrap_or_else(|| panic!("{what} is not described"));
        asked.insert(operation.clone());
        let described = &operations[operation];
        match described["requestBody"]["content"].get("application/json") {
            Some(content) => fits(&content["schema"], sent, &format!("what is sent to {what}")),
            None => assert_eq!(sent, &Value::Null, "{what} takes nothing"),
        }
        let response = &described["responses"][status.to_string()];
        assert!(response.is_object(), "{what} answers {status}, which is not described");
        if let Some(content) = response["content"].get("application/json") {
            fits(&content["schema"], answer, &what);
        }
    }
    let described: BTreeSet<_> = operations.keys().cloned().collect();
    assert_eq!(asked, described, "the client asks for all that is described, and for nothing else");
}

#[tokio::test]
async fn the_description_holds_together() {
    let world = World::start().await;
    let description = client_of(&world).openapi().await.unwrap();
    assert_eq!(description["openapi"], "3.1.0");
    assert!(description["info"]["title"].is_string() && description["info"]["version"].is_string());
    assert_eq!(description["servers"][0]["url"], "/__sim");
    let mut ids = BTreeSet::new();
    let mut lines = Vec::new();
    for ((method, path), operation) in operations(&description) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{id} twice");
        assert!(operation["summary"].is_string(), "{id} says what it does");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|one| one["in"] == "path");
        let named: BTreeSet<&str> = in_path.clone().map(|one| one["name"].as_str().unwrap()).collect();
        assert!(in_path.clone().all(|one| one["required"] == true), "{id}");
        let wanted = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(named, wanted.collect(), "{id}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.contains_key("200"), "{id}");
        for (status, answer) in answers {
            assert!(answer["description"].as_str().is_some_and(|text| !text.is_empty()), "{id} {status}");
            let error = json!({ "$ref": "#/components/schemas/ErrorAnswer" });
            let is_error = answer["content"]["application/json"]["schema"] == error;
            assert_eq!(is_error, status != "200", "{id} {status}");
        }
        if method != "GET" {
            assert!(!answers["200"]["content"].is_null(), "{id} answers something");
        }
        let statuses: Vec<&str> = answers.keys().map(String::as_str).collect();
        lines.push(format!("{method:<6} {path:<40} {id:<18} {}", statuses.join(" ")));
    }
    let mut wanted = BTreeSet::new();
    references(&description, &mut wanted);
    for name in wanted {
        assert!(description["components"]["schemas"][&name].is_object(), "{name} is not there");
    }
    insta::assert_snapshot!("admin_routes", lines.join("\n"));
}

fn references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str().filter(|_| name == "$ref") {
                    Some(reference) => {
                        names.insert(reference.strip_prefix("#/components/schemas/").unwrap().to_owned());
                    }
                    None => references(member, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn ask_raw(world: &World, method: &str, path: &str, headers: &[(&'static str, &str)]) -> (u16, Value) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let request = HttpRequest {
        method: method.parse().unwrap(),
        url: format!("{}{path}", world.cloud.admin_url()).parse().unwrap(),
        headers: map,
        body: Default::default(),
        max_answer: 1 << 20,
    };
    let answer = soon(world.env.http.send(request)).await.unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// The `error` code of an answer that must be one of the admin API.
fn code(answer: &Value) -> &str {
    assert!(answer["error"]["message"].is_string(), "{answer}");
    answer["error"]["code"].as_str().unwrap()
}

#[tokio::test]
async fn no_route_is_open_to_other_hosts_and_pages() {
    let world = World::start().await;
    for (method, path) in operations(&client_of(&world).openapi().await.unwrap()).into_keys() {
        for headers in [
            &[("host", "evil.test")][..],
            &[("host", "localhost.evil.test:7600")],
            &[("origin", "http://evil.test")],
            &[("origin", "null")],
            &[("origin", "http://localhost"), ("origin", "http://evil.test")],
        ] {
            let (status, answer) = ask_raw(&world, &method, &filled(&path), headers).await;
            assert_eq!((status, code(&answer)), (403, "forbidden"), "{method} {path} {headers:?}");
        }
    }
    assert_eq!(world.cloud.api().keys_overview().keys.len(), 1, "nothing was done");
}

#[tokio::test]
async fn every_route_but_ready_asks_for_the_token() {
    let admin_token = AdminToken::new("s3cret");
    let world = World::with(CloudOptions { admin_token: admin_token.clone(), ..CloudOptions::default() }).await;
    let admin = AdminClient::new(world.env.clone(), world.cloud.admin_url().parse().unwrap(), admin_token);
    for (method, path) in operations(&admin.openapi().await.unwrap()).into_keys() {
        for headers in [&[][..], &[("authorization", "Bearer s3cre")], &[("authorization", "Basic s3cret")]] {
            let (status, answer) = ask_raw(&world, &method, &filled(&path), headers).await;
            match path.as_str() {
                "/ready" => assert_eq!(status, 200),
                _ => assert_eq!((status, code(&answer)), (401, "unauthorized"), "{method} {path} {headers:?}"),
            }
        }
    }
    assert_eq!(world.cloud.api().keys_overview().keys.len(), 1, "nothing was done");
}

#[tokio::test]
async fn routes_take_the_methods_that_are_described_and_no_others() {
    let world = World::start().await;
    let operations = operations(&client_of(&world).openapi().await.unwrap());
    let paths: BTreeSet<&String> = operations.keys().map(|(_, path)| path).collect();
    for path in paths {
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            let described = operations.contains_key(&(method.to_owned(), path.clone()));
            // What is described is asked for by the client; a stream without end cannot be read here.
            if !described {
                let (status, answer) = ask_raw(&world, method, &filled(path), &[]).await;
                assert_eq!((status, code(&answer)), (405, "method_not_allowed"), "{method} {path}");
            }
        }
    }
    let (status, answer) = ask_raw(&world, "GET", "/nothing", &[]).await;
    assert_eq!((status, code(&answer)), (404, "not_found"));
}

#[tokio::test]
async fn what_the_framework_refuses_is_an_error_of_the_admin_api() {
    let world = World::start().await;
    let send = async |method: Method, path: &str, body: Vec<u8>| {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let url = format!("{}{path}", world.cloud.admin_url()).parse().unwrap();
        let request = HttpRequest { method, url, headers, body: body.into(), max_answer: 1 << 20 };
        let answer = soon(world.env.http.send(request)).await.unwrap();
        (answer.status.as_u16(), serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    let (status, answer) = send(Method::PUT, "/faults", vec![b' '; (1 << 20) + 1]).await;
    assert_eq!((status, code(&answer)), (413, "too_large"));
    let (status, answer) = send(Method::DELETE, "/faults/%ff", Vec::new()).await;
    assert_eq!((status, code(&answer)), (400, "bad_request"));
}

// ---- reset

/// What anybody can see of a cloud.
#[derive(Debug, PartialEq)]
struct Seen {
    status: RelayStatus,
    accounts: Accounts,
    faults: Value,
    limits: Value,
    grades: Value,
    keys: usize,
    recent: usize,
    metrics: BTreeSet<String>,
}

async fn seen(admin: &AdminClient) -> Seen {
    let json = |value: serde_json::Result<Value>| value.unwrap();
    let metrics = admin.metrics().await.unwrap();
    Seen {
        status: admin.status().await.unwrap(),
        accounts: admin.accounts().await.unwrap(),
        faults: json(serde_json::to_value(admin.faults().await.unwrap())),
        limits: json(serde_json::to_value(admin.limits().await.unwrap())),
        grades: json(serde_json::to_value(admin.grades().await.unwrap())),
        keys: admin.keys().await.unwrap().keys.len(),
        recent: admin.recent_events(10_000).await.unwrap().len(),
        metrics: metrics.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect(),
    }
}

fn with_faults() -> CloudOptions {
    let plan = r#"
        seed = 7
        [[fault]]
        id = "storm"
        on = "api.request"
        procedure = "daemon.listAccessible"
        times = 2
        do = { status = 429, retry_after = "1s" }
        [[fault]]
        on = "relay.connection"
        age = "1h"
        do = "cut"
    "#;
    CloudOptions { faults: FaultPlan::parse(plan, Format::Toml).unwrap(), ..CloudOptions::default() }
}

/// All that can be changed is changed.
async fn mischief(admin: &AdminClient, world: &mut World) -> [Peer; 2] {
    let token = format!("Bearer {}", world.cloud.bootstrap().access_token.expose());
    let authorization = [("authorization", &*token)];
    for status in [429, 429, 200] {
        assert_eq!(world.post("daemon.listAccessible", &authorization, Value::Null).await.0, status);
    }
    let extra = admin.create_user(&NewUser::default()).await.unwrap();
    admin.grant(&extra.user_id, world.daemon_id()).await.unwrap();
    admin.issue_api_key(world.daemon_id()).await.unwrap();
    admin.rotate_keys(RotateKeys::default()).await.unwrap();
    let patch = RelayLimitsPatch { sessions: Some(2), sweep: Some(Duration::from_secs(5)), ..Default::default() };
    admin.set_limits(&patch).await.unwrap();
    admin.remove_fault("storm").await.unwrap();
    let rule = FaultRule::parse(r#"{"on":"keys","from":"1h","do":"cut"}"#, Format::Json).unwrap();
    admin.add_fault(&rule).await.unwrap();
    assert_eq!(world.connect("rubbish").await.err().unwrap(), 401);
    let daemon = world.raw_daemon(true).await;
    let (session, mut client) = world.raw_client().await;
    world.session(session, "paired").await;
    // The relay's own frames are no client's to send.
    client.send(signal(session, sideband_protocol::wire::Signal::Ready, sideband_protocol::wire::Reason::None)).await;
    world.event(|event| matches!(event.kind, EventKind::Grade { .. })).await;
    let (paused, left) = world.raw_client().await;
    world.session(paused, "paired").await;
    drop(daemon);
    world.session(paused, "paused").await;
    [client, left]
}

#[tokio::test]
async fn reset_brings_everything_to_the_state_after_the_start() {
    let mut world = World::with(with_faults()).await;
    let admin = client_of(&world);
    let start = seen(&admin).await;
    for _ in 0..2 {
        let _peers = mischief(&admin, &mut world).await;
        let spoiled = seen(&admin).await;
        assert!(spoiled.status.counters["connections"] > 0 && spoiled.status.counters["refused_unauthorized"] > 0);
        assert_ne!(spoiled.status.grades, start.status.grades);
        assert_ne!(spoiled.status.daemons, start.status.daemons);
        for (what, same) in [
            ("accounts", spoiled.accounts == start.accounts),
            ("faults", spoiled.faults == start.faults),
            ("limits", spoiled.limits == start.limits),
            ("grades", spoiled.grades == start.grades),
            ("keys", spoiled.keys == start.keys),
            ("recent", spoiled.recent == start.recent),
            ("metrics", spoiled.metrics == start.metrics),
        ] {
            assert!(!same, "{what} is as it was before any mischief");
        }
        assert!(admin.reset().await.unwrap().reset);
        assert_eq!(seen(&admin).await, start);
    }
}

#[tokio::test]
async fn who_is_connected_comes_back_after_a_reset() {
    let world = World::start().await;
    let server = world.serve().await;
    let client = world.client().await;
    echoes(&client).await;
    let mut life = server.events_from_now();
    client_of(&world).reset().await.unwrap();
    server_event(&mut life, |event| matches!(event, ServerEvent::Offline(_))).await;
    server_event(&mut life, |event| matches!(event, ServerEvent::Online)).await;
    let client = world.client().await;
    echoes(&client).await;
    assert!(world.cloud.events().grades().counts.is_empty(), "{:?}", world.cloud.events().grades());
}

#[tokio::test]
async fn a_reset_ends_a_restart_and_several_at_once_are_one_after_the_other() {
    let mut world = World::start().await;
    let admin = client_of(&world);
    let _daemon = world.raw_daemon(true).await;
    admin.restart_relay(RestartRelay { down: Duration::from_secs(3_000) }).await.unwrap();
    world.event(|event| matches!(event.kind, EventKind::Closed { code: Some(1012), .. })).await;
    let token = world.presence_token(true).await;
    assert_eq!(world.connect(&token).await.err().unwrap(), 503);
    let (one, two) = tokio::join!(admin.reset(), admin.reset());
    assert!(one.unwrap().reset && two.unwrap().reset);
    let _daemon = world.raw_daemon(true).await;
}

#[tokio::test]
async fn a_peer_that_does_not_close_does_not_hold_a_reset_up() {
    let mut world = World::start().await;
    // Reads nothing, so that it never answers the close.
    let _daemon = world.raw_daemon(true).await;
    let (session, _client) = world.raw_client().await;
    world.session(session, "paired").await;
    client_of(&world).reset().await.unwrap();
    assert_eq!(client_of(&world).status().await.unwrap().daemons, []);
    assert_eq!(world.cloud.relay().open_connections(), 0);
}

#[tokio::test]
async fn a_cloud_that_shuts_down_is_not_reset() {
    let world = World::start().await;
    world.cloud.relay().shutdown().await;
    let refused = client_of(&world).reset().await;
    assert!(matches!(refused, Err(AdminError::Refused { status: 409, .. })), "{refused:?}");
}

/// The counters of `/metrics`, by name and labels.
async fn counters(admin: &AdminClient) -> BTreeMap<String, u64> {
    let text = admin.metrics().await.unwrap();
    let counter = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        name.split('{').next()?.ends_with("_total").then(|| (name.to_owned(), value.parse().unwrap()))
    };
    text.lines().filter_map(counter).collect()
}

/// What a relay forgets with a daemon is not forgotten here.
#[tokio::test]
async fn no_counter_ever_goes_back_while_daemons_and_sessions_come_and_go() {
    let mut world = World::start().await;
    let admin = AdminClient::new(world.env.clone(), world.cloud.admin_url().parse().unwrap(), None);
    let mut before = counters(&admin).await;
    for round in 0..3 {
        let server = world.serve().await;
        let client = world.client().await;
        echoes(&client).await;
        soon(client.close()).await;
        soon(server.close()).await;
        for step in 0..3 {
            if step < 2 {
                world.event(|event| matches!(event.kind, EventKind::Closed { .. })).await;
            } else {
                // It forgets every hub.
                admin.restart_relay(RestartRelay::default()).await.unwrap();
                world.event(|event| matches!(event.kind, EventKind::Restarted)).await;
            }
            let after = counters(&admin).await;
            for (name, value) in &before {
                assert!(after.get(name) >= Some(value), "round {round}, step {step}: {name} was {value}: {after:?}");
            }
            before = after;
        }
    }
    assert!(before["sideband_sim_forwarded_frames_total"] > 20, "{before:?}");
}
