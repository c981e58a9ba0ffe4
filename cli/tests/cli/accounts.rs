//! `accounts`: users, daemons, API keys, access tokens and grants of a running cloud.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Ended, Sim, ask, run};

async fn against(cloud: &Sim, args: &[&str]) -> Ended {
    run(&[&["accounts"], args, &["--admin-url", cloud.get("adminUrl")]].concat()).await
}

/// The one line of a command, with `--json`.
async fn line(cloud: &Sim, args: &[&str]) -> Value {
    let ended = against(cloud, &[args, &["--json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
    let [line] = ended.events().try_into().unwrap();
    assert_eq!(line["adminUrl"], cloud.get("adminUrl"));
    line
}

fn text<'a>(line: &'a Value, member: &str) -> &'a str {
    line[member].as_str().unwrap_or_else(|| panic!("no {member} in {line}"))
}

/// The status that a credential gets from a procedure.
async fn status(cloud: &Sim, procedure: &str, credential: &str) -> u16 {
    let authorization = format!("Bearer {credential}");
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    ask(Method::POST, &format!("{}/api/trpc/{procedure}", cloud.get("apiUrl")), &headers).await.0
}

async fn of(cloud: &Sim, list: &str, id: &str, value: &str) -> Option<Value> {
    let accounts = line(cloud, &["list"]).await;
    accounts[list].as_array().unwrap().iter().find(|entry| entry[id] == value).cloned()
}

#[tokio::test]
async fn users_and_daemons_are_made_changed_and_removed() {
    let cloud = Sim::up(&[]).await;
    let start = line(&cloud, &["list"]).await;
    let anna = line(&cloud, &["user", "add", "anna", "--region", "eu"]).await;
    assert_eq!((text(&anna, "event"), text(&anna, "userId")), ("user_created", "anna"));
    assert_eq!(status(&cloud, "daemon.listAccessible", text(&anna, "accessToken")).await, 200);
    let given = ["--name", "Printer", "--resumable", "--concurrent-sessions", "4"];
    let printer = line(&cloud, &[&["daemon", "add", "anna", "d_printer"], &given[..]].concat()).await;
    assert_eq!((text(&printer, "event"), text(&printer, "daemonId")), ("daemon_created", "d_printer"));
    assert_eq!(status(&cloud, "daemon.renewToken", text(&printer, "apiKey")).await, 200);
    let wanted = json!({
        "daemonId": "d_printer", "owner": "anna", "name": "Printer", "resumable": true, "region": null,
        "concurrentSessions": 4, "apiKeyIds": [printer["apiKeyId"]], "grants": [],
    });
    assert_eq!(of(&cloud, "daemons", "daemonId", "d_printer").await, Some(wanted));

    line(&cloud, &["daemon", "set", "d_printer", "--region", "us", "--concurrent-sessions", "none"]).await;
    let changed = of(&cloud, "daemons", "daemonId", "d_printer").await.unwrap();
    assert_eq!((&changed["region"], &changed["concurrentSessions"]), (&json!("us"), &Value::Null));
    line(&cloud, &["user", "set", "anna", "--region", "none"]).await;
    assert!(of(&cloud, "userAccounts", "userId", "anna").await.unwrap()["region"].is_null());

    line(&cloud, &["daemon", "add", "anna", "d_other"]).await;
    assert_eq!(text(&line(&cloud, &["daemon", "remove", "d_other"]).await, "event"), "daemon_removed");
    let removed = line(&cloud, &["user", "remove", "anna"]).await;
    assert_eq!((text(&removed, "event"), &removed["daemonIds"]), ("user_removed", &json!(["d_printer"])));
    assert_eq!(line(&cloud, &["list"]).await, start);
    assert_eq!(status(&cloud, "daemon.renewToken", text(&printer, "apiKey")).await, 401);
}

#[tokio::test]
async fn keys_tokens_and_grants_are_made_and_revoked() {
    let cloud = Sim::up(&[]).await;
    let daemon = cloud.get("daemonId");
    let key = line(&cloud, &["key", "add", daemon]).await;
    assert_eq!((text(&key, "event"), text(&key, "daemonId")), ("key_created", daemon));
    assert_eq!(status(&cloud, "daemon.renewToken", text(&key, "apiKey")).await, 200);
    assert_eq!(text(&line(&cloud, &["key", "revoke", text(&key, "apiKeyId")]).await, "event"), "key_revoked");
    assert_eq!(status(&cloud, "daemon.renewToken", text(&key, "apiKey")).await, 401);
    assert_eq!(status(&cloud, "daemon.renewToken", cloud.get("apiKey")).await, 200, "the other one stays");

    let ben = line(&cloud, &["user", "add"]).await;
    let user = text(&ben, "userId");
    assert!(user.starts_with("u_"), "{ben}");
    let token = line(&cloud, &["token", "add", user]).await;
    assert_eq!((text(&token, "event"), text(&token, "userId")), ("token_created", user));
    assert_eq!(status(&cloud, "daemon.listAccessible", text(&token, "accessToken")).await, 200);
    line(&cloud, &["token", "remove", text(&token, "accessTokenId")]).await;
    assert_eq!(status(&cloud, "daemon.listAccessible", text(&token, "accessToken")).await, 401);

    let call = ["call", "--json", "--api-url", cloud.get("apiUrl"), "--access-token", text(&ben, "accessToken")];
    let call = [&call[..], &["--daemon-id", daemon, "ping"]].concat();
    assert_eq!(run(&call).await.events()[0]["status"], 403);
    let running = Sim::daemon_of(&cloud, &[]).await;
    assert_eq!(text(&line(&cloud, &["grant", "add", user, daemon]).await, "event"), "granted");
    assert_eq!(run(&call).await.code, Some(0));
    assert_eq!(of(&cloud, "daemons", "daemonId", daemon).await.unwrap()["grants"], json!([user]));
    line(&cloud, &["grant", "revoke", user, daemon]).await;
    assert_eq!(run(&call).await.events()[0]["status"], 403);
    running.stop().await;
}

#[tokio::test]
async fn people_get_tables_and_a_credential_once() {
    let cloud = Sim::up(&[]).await;
    let made = against(&cloud, &["user", "add", "anna", "--region", "eu"]).await.stdout;
    let token = made.split_whitespace().find(|word| word.starts_with("sim_at_")).unwrap_or_else(|| panic!("{made}"));
    assert!(made.contains("not shown again"), "{made}");
    let made = against(&cloud, &["daemon", "add", "anna", "d_printer", "--name", "Printer"]).await.stdout;
    let key = made.split_whitespace().find(|word| word.starts_with("sbnd_dak_")).unwrap_or_else(|| panic!("{made}"));
    against(&cloud, &["grant", "add", "anna", cloud.get("daemonId")]).await;
    for json in [&[][..], &["--json"]] {
        let list = against(&cloud, &[&["list"], json].concat()).await.stdout;
        for secret in [token, key, cloud.get("apiKey"), cloud.get("accessToken")] {
            assert!(!list.contains(secret), "{secret} in {list}");
        }
    }
    let list = against(&cloud, &["list"]).await.stdout;
    let rows: Vec<Vec<&str>> = list.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["user", "region", "access", "token", "ids"]);
    assert!(rows.iter().any(|row| row.len() == 3 && row[..2] == ["anna", "eu"]), "{list}");
    assert!(rows.iter().any(|row| row.len() == 8 && row[..3] == ["d_printer", "anna", "Printer"]), "{list}");
    assert!(
        rows.iter().any(|row| row.first() == Some(&cloud.get("daemonId")) && row.last() == Some(&"anna")),
        "{list}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_exit_1_and_wrong_use_exit_2() {
    let cloud = Sim::up(&[]).await;
    for args in [
        &["user", "remove", "nobody"][..],
        &["user", "set", "nobody", "--region", "eu"],
        &["daemon", "add", "nobody"],
        &["daemon", "remove", "d_nothing"],
        &["key", "add", "d_nothing"],
        &["key", "revoke", "0123456789abcdef"],
        &["token", "revoke", "nonsense"],
        &["grant", "add", "nobody", cloud.get("daemonId")],
        &["grant", "revoke", "nobody", cloud.get("daemonId")],
    ] {
        let ended = against(&cloud, args).await;
        assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("accounts list"), "{args:?}: {}", ended.stderr);
    }
    line(&cloud, &["user", "add", "anna"]).await;
    let taken = against(&cloud, &["user", "add", "anna", "--json"]).await;
    assert_eq!((taken.code, &taken.events()[0]["status"]), (Some(1), &json!(409)), "{taken:?}");
    for (args, word) in [
        (&["user", "add", "a/b"][..], "letters"),
        (&["user", "add", "anna", "--region", ""], "1 to 64 bytes"),
        (&["user", "set", "anna"], "--region"),
        (&["daemon", "set", "d_1"], "--region"),
        (&["daemon", "set", "d_1", "--concurrent-sessions", "0"], "or none"),
        (&["key", "add"], "DAEMON"),
    ] {
        let ended = against(&cloud, args).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(word), "{args:?}: {}", ended.stderr);
    }
    let relay = Sim::start(&["relay", "--addr", "127.0.0.1:0", "--issuer", "http://127.0.0.1:1"]).await;
    assert_eq!(against(&relay, &["list"]).await.code, Some(2), "it has no accounts");
}
