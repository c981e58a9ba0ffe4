//! What the control plane checks first, and how each status is told.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use crate::{
    api_bench::{Answer, ApiBench, request},
    witness::witnesses,
};

const EVIL: &str = "https://evil.test";

/// What is wrong with a request, in the order in which it is found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    Origin,
    Procedure,
    Method,
    Size,
    Json,
    Credential,
    Input,
    Daemon,
    Grant,
}

const ORDER: [(Wrong, u16); 9] = [
    (Wrong::Origin, 403),
    (Wrong::Procedure, 404),
    (Wrong::Method, 405),
    (Wrong::Size, 413),
    (Wrong::Json, 400),
    (Wrong::Credential, 401),
    (Wrong::Input, 400),
    (Wrong::Daemon, 404),
    (Wrong::Grant, 403),
];

/// The status and code of a request that is wrong in these ways.
async fn ask(api: &ApiBench, wrong: &[Wrong]) -> (u16, String) {
    let is = |one: Wrong| wrong.contains(&one);
    let daemon = if is(Wrong::Daemon) {
        "d_nobody"
    } else if is(Wrong::Grant) {
        "d_other"
    } else {
        &api.boot.daemon_id
    };
    let input = if is(Wrong::Input) { json!({}) } else { json!({"daemonId": daemon}) };
    let mut body = input.to_string();
    if is(Wrong::Json) {
        body.push('}');
    }
    if is(Wrong::Size) {
        body.push_str(&" ".repeat(65_537));
    }
    let credential = if is(Wrong::Credential) { "wrong" } else { api.user() };
    let procedure = if is(Wrong::Procedure) { "relay.createSessions" } else { "relay.createSession" };
    let length = body.len();
    let mut request: Request<Body> = request(procedure, credential, body);
    request.headers_mut().insert("content-length", length.into());
    if is(Wrong::Method) {
        *request.method_mut() = "PUT".parse().unwrap();
    }
    if is(Wrong::Origin) {
        request.headers_mut().insert("origin", EVIL.parse().unwrap());
    }
    let answer = api.send(request).await;
    (answer.status, answer.failure().1.to_owned())
}

/// A request that is wrong in this and in all that is checked later is answered for this.
async fn row(api: &ApiBench, first: Wrong) {
    api.add_daemon("d_other", "sbnd_dak_other");
    let (_, status) = ORDER.into_iter().find(|(wrong, _)| *wrong == first).unwrap();
    let alone = ask(api, &[first]).await;
    assert_eq!(alone.0, status);
    let later: Vec<_> = ORDER.iter().map(|(wrong, _)| *wrong).filter(|wrong| *wrong > first).collect();
    for other in &later {
        assert_eq!(ask(api, &[first, *other]).await, alone, "beside the check of place {}", *other as u8);
    }
    let all: Vec<_> = later.into_iter().chain([first]).collect();
    assert_eq!(ask(api, &all).await, alone);
}

/// An answer by fault to a good request.
async fn faulty(api: &ApiBench, action: &str) -> Answer {
    api.faults(&format!("[[fault]]\non = \"api.request\"\ndo = {action}"));
    let answer = api.create_session().await;
    api.faults("");
    answer
}

witnesses! {
    for api;

    async fn api_09_the_origin_is_first(quirks) breaks_with [OriginAfterProcedure] {
        row(&ApiBench::new(quirks), Wrong::Origin).await;
    }

    async fn api_09_then_the_procedure(quirks) breaks_with [MethodBeforeProcedure] {
        row(&ApiBench::new(quirks), Wrong::Procedure).await;
    }

    async fn api_09_then_the_method(quirks) breaks_with [SizeBeforeMethod] {
        row(&ApiBench::new(quirks), Wrong::Method).await;
    }

    async fn api_09_then_the_size(quirks) breaks_with [JsonBeforeSize] {
        row(&ApiBench::new(quirks), Wrong::Size).await;
    }

    async fn api_09_then_json(quirks) breaks_with [CredentialBeforeJson] {
        row(&ApiBench::new(quirks), Wrong::Json).await;
    }

    async fn api_09_then_the_credential(quirks) breaks_with [InputBeforeCredential] {
        row(&ApiBench::new(quirks), Wrong::Credential).await;
    }

    async fn api_09_then_the_input(quirks) breaks_with [DaemonBeforeInput] {
        row(&ApiBench::new(quirks), Wrong::Input).await;
    }

    async fn api_09_then_the_daemon_and_then_the_grant(quirks) breaks_with [HidesDaemons] {
        let api = ApiBench::new(quirks);
        row(&api, Wrong::Daemon).await;
        assert_eq!(ask(&api, &[Wrong::Grant]).await, (403, "FORBIDDEN".to_owned()));
        assert_eq!(ask(&api, &[]).await.0, 200);
    }

    async fn api_09_a_ttl_out_of_range_is_a_wrong_input(quirks) breaks_with [InputBeforeCredential] {
        let api = ApiBench::new(quirks);
        let create = async |key: &str| api.call("quickConnect.create", key, json!({"ttlSeconds": 29})).await.status;
        assert_eq!(create(api.key()).await, 400);
        assert_eq!(create("wrong").await, 401);
    }

    async fn api_09_both_forms_of_input_are_taken(quirks) breaks_with [TakesBareInputOnly] {
        let api = ApiBench::new(quirks);
        let input = json!({"daemonId": api.boot.daemon_id, "unknown": [1]});
        let wrapped = json!({"json": input, "meta": {}});
        for body in [input, wrapped] {
            assert_eq!(api.call("relay.createSession", api.user(), body.clone()).await.status, 200, "{body}");
        }
        for body in ["", "  ", "null", "{\"json\":null}"] {
            assert_eq!(api.send(request("daemon.renewToken", api.key(), body)).await.status, 200, "{body}");
        }
    }

    async fn api_09_the_connect_base_is_below_the_api(quirks) breaks_with [ConnectsElsewhere] {
        let api = ApiBench::new(quirks);
        let url = api.call("quickConnect.create", api.key(), json!(null)).await.text("url");
        assert_eq!(url.split('#').next(), Some("http://sim.test:7600/connect"));
    }

    async fn api_09_each_row_of_the_table_has_its_codes(quirks) breaks_with [HidesDaemons] {
        let api = ApiBench::new(quirks);
        api.add_daemon("d_other", "sbnd_dak_other");
        let create = async |credential: &str, input: Value| api.call("relay.createSession", credential, input).await;
        let (user, key) = (api.user(), api.key());
        let mut wrong_method = request("daemon.renewToken", key, "");
        *wrong_method.method_mut() = "GET".parse().unwrap();
        let code = api.call("quickConnect.create", key, json!(null)).await.text("code");
        let rows = [
            (create(user, json!({})).await, (400, "BAD_REQUEST", -32_600)),
            (api.send(request("relay.createSession", user, "{")).await, (400, "PARSE_ERROR", -32_700)),
            (create("", json!({})).await, (401, "UNAUTHORIZED", -32_001)),
            (create(user, json!({"daemonId": "d_other"})).await, (403, "FORBIDDEN", -32_003)),
            (create(user, json!({"daemonId": "d_nobody"})).await, (404, "NOT_FOUND", -32_004)),
            (api.call("no.such", user, json!({})).await, (404, "NOT_FOUND", -32_004)),
            (api.send(wrong_method).await, (405, "METHOD_NOT_SUPPORTED", -32_005)),
            (api.call("quickConnect.redeem", "", json!({"code": code})).await, (409, "CONFLICT", -32_009)),
            (faulty(&api, "{ status = 409 }").await, (409, "CONFLICT", -32_009)),
            (api.send(request("daemon.renewToken", key, "x".repeat(65_537))).await, (413, "PAYLOAD_TOO_LARGE", -32_013)),
            (faulty(&api, "{ status = 429 }").await, (429, "TOO_MANY_REQUESTS", -32_029)),
            (faulty(&api, "{ status = 429, retry_after = \"3s\" }").await, (429, "TOO_MANY_REQUESTS", -32_029)),
            (faulty(&api, "{ status = 500 }").await, (500, "INTERNAL_SERVER_ERROR", -32_603)),
        ];
        for (answer, wanted) in &rows {
            assert_eq!(answer.failure(), *wanted, "{}", answer.body);
            assert_eq!(answer.body["error"]["data"]["httpStatus"], wanted.0);
            assert!(answer.body["error"]["message"].is_string() && answer.body["error"]["data"]["path"].is_string());
        }
        let waits: Vec<_> = rows.iter().filter_map(|(answer, _)| answer.headers.get("retry-after")).collect();
        assert_eq!(waits, ["3"], "only where the plan says so");
        assert_eq!(create(user, json!({"daemonId": api.boot.daemon_id})).await.status, 200);
        let mut preflight = request("relay.createSession", "", "");
        *preflight.method_mut() = "OPTIONS".parse().unwrap();
        let preflight = api.send(preflight).await;
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.headers["access-control-allow-headers"], "authorization, content-type");
        assert_eq!(preflight.headers["access-control-allow-methods"], "POST");
    }
}
