//! Accounts over the admin API, by the typed client and by hand.

use serde_json::json;
use sideband_sim_kit::admin::{
    AdminClient, AdminError,
    accounts::{DaemonSettings, NewDaemon, NewUser, UserChange},
};

use super::*;

/// Asks a router as if it were elsewhere.
struct Direct(Router);

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

pub(super) fn client(world: &World) -> AdminClient {
    let env = Env {
        clock: world.clock.clone(),
        entropy: Arc::new(SeededEntropy::new(2, "client")),
        network: Arc::new(Nowhere),
        http: Arc::new(Direct(world.api.admin_router())),
    };
    AdminClient::new(env, "http://admin.test".parse().unwrap(), None)
}

fn refused<T: std::fmt::Debug>(answer: Result<T, AdminError>) -> (u16, String) {
    let error = answer.unwrap_err();
    let AdminError::Refused { status, code, .. } = error else { panic!("{error}") };
    (status, code)
}

async fn life_of_accounts(world: World) {
    let admin = client(&world);
    let anna = admin.create_user(&NewUser { user_id: Some("anna".into()), region: Some("eu".into()) }).await.unwrap();
    let bob = admin.create_user(&NewUser::default()).await.unwrap();
    assert!(bob.user_id.starts_with("u_") && bob.access_token.starts_with("sim_at_"));
    let new = NewDaemon { owner: "anna".into(), name: Some("shed".into()), ..NewDaemon::default() };
    let shed = admin.create_daemon(&new).await.unwrap();
    let create = async |token: &str| {
        let input = json!({"daemonId": shed.daemon_id});
        world.call("relay.createSession", token, input).await
    };
    assert_eq!(claims(&create(&anna.access_token).await.text("token"))["region"], json!("eu"));
    assert_eq!(create(&bob.access_token).await.failure(), (403, "FORBIDDEN".into()));
    assert!(admin.grant(&bob.user_id, &shed.daemon_id).await.unwrap().granted);
    assert!(!admin.grant(&bob.user_id, &shed.daemon_id).await.unwrap().granted);
    create(&bob.access_token).await.data();

    let further = admin.issue_api_key(&shed.daemon_id).await.unwrap();
    let settings = DaemonSettings { concurrent_sessions: Some(Some(4)), ..DaemonSettings::default() };
    let accounts = admin.change_daemon(&shed.daemon_id, &settings).await.unwrap();
    let account = accounts.daemons.iter().find(|daemon| daemon.daemon_id == shed.daemon_id).unwrap();
    let mut keys = vec![shed.api_key_id.clone(), further.api_key_id.clone()];
    keys.sort();
    assert_eq!((&account.api_key_ids, &account.grants), (&keys, &vec![bob.user_id.clone()]));
    assert_eq!((account.concurrent_sessions, &account.region), (Some(4), &None));
    assert_eq!(claims(&create(&bob.access_token).await.text("token"))["lim"], json!({"concurrent_sessions": 4}));
    let unchanged = admin.change_user("anna", &UserChange::default()).await.unwrap();
    assert!(unchanged.user_accounts.iter().any(|user| user.region.as_deref() == Some("eu")), "what is absent stays");
    let change = UserChange { region: Some(None) };
    assert!(admin.change_user("anna", &change).await.unwrap().user_accounts.iter().all(|user| user.region.is_none()));

    let renew = async |key: &str| world.call("daemon.renewToken", key, json!(null)).await.status;
    assert!(admin.revoke_api_key(&shed.api_key_id).await.unwrap().removed);
    assert_eq!((renew(&shed.api_key).await, renew(&further.api_key).await), (401, 200));
    let token = admin.issue_access_token(&bob.user_id).await.unwrap();
    assert!(admin.revoke_access_token(&bob.access_token_id).await.unwrap().removed);
    assert_eq!(create(&bob.access_token).await.failure(), (401, "UNAUTHORIZED".into()));
    create(&token.access_token).await.data();
    assert!(admin.revoke_grant(&bob.user_id, &shed.daemon_id).await.unwrap().removed);
    assert_eq!(create(&token.access_token).await.failure(), (403, "FORBIDDEN".into()));

    let text = serde_json::to_string(&admin.accounts().await.unwrap()).unwrap();
    for secret in [&anna.access_token, &shed.api_key, &further.api_key, &token.access_token] {
        assert!(!text.contains(secret.as_str()));
    }
    let shown = format!("{anna:?} {shed:?} {further:?} {token:?}");
    assert!(!shown.contains("sim_at_") && !shown.contains("sbnd_dak_"), "{shown}");

    assert_eq!(admin.remove_user("anna").await.unwrap().daemon_ids, [shed.daemon_id.as_str()]);
    assert_eq!(create(&token.access_token).await.failure(), (404, "NOT_FOUND".into()));
    let mine = NewDaemon { owner: bob.user_id.clone(), ..NewDaemon::default() };
    let mine = admin.create_daemon(&mine).await.unwrap();
    assert!(admin.remove_daemon(&mine.daemon_id).await.unwrap().removed);
    assert_eq!(renew(&mine.api_key).await, 401);

    world.api.reset().unwrap();
    let after = admin.accounts().await.unwrap();
    assert_eq!((after.users, after.daemons.len()), (vec![world.boot.user_id.clone()], 1));
    world.create_session(&world.boot.daemon_id).await.data();
    assert_eq!(renew(world.key()).await, 200);
}

#[tokio::test]
async fn accounts_are_made_changed_and_removed() {
    life_of_accounts(world(config())).await;
    let (world, _folder) = on_file(config());
    life_of_accounts(world).await;
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_is_taken_409() {
    let world = world(config());
    let admin = client(&world);
    let before = admin.accounts().await.unwrap();
    let (user, daemon) = (world.boot.user_id.as_str(), world.boot.daemon_id.as_str());
    let not_found = (404, "not_found".to_owned());
    assert_eq!(refused(admin.change_user("nobody", &UserChange::default()).await), not_found);
    assert_eq!(refused(admin.remove_user("nobody").await), not_found);
    assert_eq!(refused(admin.issue_access_token("nobody").await), not_found);
    assert_eq!(refused(admin.revoke_access_token("0123456789abcdef").await), not_found);
    assert_eq!(refused(admin.change_daemon("nothing", &DaemonSettings::default()).await), not_found);
    assert_eq!(refused(admin.remove_daemon("nothing").await), not_found);
    assert_eq!(refused(admin.issue_api_key("nothing").await), not_found);
    assert_eq!(refused(admin.revoke_api_key(world.key()).await), not_found, "a secret is no id");
    assert_eq!(refused(admin.grant("nobody", daemon).await), not_found);
    assert_eq!(refused(admin.revoke_grant(user, daemon).await), not_found);
    let orphan = NewDaemon { owner: "nobody".into(), ..NewDaemon::default() };
    assert_eq!(refused(admin.create_daemon(&orphan).await), not_found);
    let taken = (409, "conflict".to_owned());
    let again = NewUser { user_id: Some(user.into()), region: None };
    assert_eq!(refused(admin.create_user(&again).await), taken);
    let again = NewDaemon { owner: user.into(), daemon_id: Some(daemon.into()), ..NewDaemon::default() };
    assert_eq!(refused(admin.create_daemon(&again).await), taken);
    assert_eq!(admin.accounts().await.unwrap(), before);
}

#[tokio::test]
async fn bodies_that_are_wrong_change_nothing() {
    let world = world(config());
    let admin = client(&world);
    let before = admin.accounts().await.unwrap();
    let daemon = format!("/accounts/daemons/{}", world.boot.daemon_id);
    let long = format!(r#"{{"userId":"{}"}}"#, "a".repeat(65));
    let key = format!(r#"{{"owner":"{}","identityPublicKey":"short"}}"#, world.boot.user_id);
    let cases = [
        ("POST", "/accounts/users", "{"),
        ("POST", "/accounts/users", "[]"),
        ("POST", "/accounts/users", r#"{"id":"x"}"#),
        ("POST", "/accounts/users", r#"{"userId":""}"#),
        ("POST", "/accounts/users", r#"{"userId":".."}"#),
        ("POST", "/accounts/users", r#"{"userId":"a/b"}"#),
        ("POST", "/accounts/users", &long),
        ("POST", "/accounts/users", r#"{"region":""}"#),
        ("POST", "/accounts/daemons", "{}"),
        ("POST", "/accounts/daemons", &key),
        ("PATCH", &daemon, r#"{"concurrentSessions":0}"#),
        ("PATCH", &daemon, r#"{"concurrentSessions":18446744073709551615}"#),
        ("PATCH", &daemon, r#"{"concurrentSessions":1.5}"#),
        ("PATCH", &daemon, r#"{"resumable":true}"#),
    ];
    for (method, path, body) in cases {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        let answer = send(&world.api.admin_router(), request).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!("bad_request")), "{path} {body}");
    }
    assert_eq!(admin.accounts().await.unwrap(), before);
}
