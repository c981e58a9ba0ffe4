//! `api` and `relay` as two processes.

use crate::support::{Sim, command, free_port, run, until};

#[tokio::test]
async fn api_and_relay_work_as_two_processes() {
    // Each must know the other before it starts, so one port is chosen beforehand.
    let relay = format!("127.0.0.1:{}", free_port());
    let (relay_url, relay_admin) = (format!("ws://{relay}/relay"), format!("http://{relay}"));
    let api = ["api", "--addr", "127.0.0.1:0", "--relay-url", &relay_url, "--relay-admin-url", &relay_admin];
    let api = Sim::start(&api).await;
    assert_eq!((api.get("relayUrl"), api.get("issuer")), (relay_url.as_str(), api.get("apiUrl")));
    let relay = Sim::start(&["relay", "--addr", &relay, "--issuer", api.get("issuer")]).await;
    assert_eq!(relay.get("relayUrl"), relay_url);

    let daemon = Sim::daemon_of(&api, &["--relay-url", &relay_url]).await;
    let by_account = api.call(&["ping"]).await;
    assert_eq!((by_account.code, by_account.stdout.as_str()), (Some(0), "\"pong\"\n"), "{by_account:?}");
    let code = daemon.ready["quickConnect"]["code"].as_str().unwrap();
    let by_code = run(&["call", "--api-url", api.get("apiUrl"), "--code", code, "ping"]).await;
    assert_eq!((by_code.code, by_code.stdout.as_str()), (Some(0), "\"pong\"\n"), "{by_code:?}");

    let both = ["--json", "--admin-url", api.get("adminUrl"), "--admin-url", relay.get("adminUrl")];
    let ready = run(&[&["ready"], &both[..]].concat()).await;
    let serves: Vec<String> = ready.events().iter().map(|event| event["serves"].to_string()).collect();
    assert_eq!(serves, [r#"["api"]"#, r#"["relay"]"#]);
    let status = run(&[&["status"], &both[..]].concat()).await;
    let events = status.events();
    assert!(events[0]["relay"].is_null() && events[0]["accounts"].is_object(), "{}", status.stdout);
    assert!(events[1]["accounts"].is_null() && events[1]["relay"].is_object(), "{}", status.stdout);
    assert_eq!(run(&[&["keys", "list"], &both[..]].concat()).await.code, Some(0));
    assert_eq!(run(&["keys", "list", "--admin-url", relay.get("adminUrl")]).await.code, Some(2));

    for sim in [daemon, relay, api] {
        let ended = sim.stop().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
}

#[tokio::test]
async fn a_daemon_that_is_not_told_the_relay_says_so() {
    let api = Sim::start(&["api", "--addr", "127.0.0.1:0", "--relay-url", "ws://127.0.0.1:1/relay"]).await;
    let ended = run(&["daemon", "--json", "--api-url", api.get("apiUrl"), "--api-key", api.get("apiKey")]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let [error] = ended.events().try_into().unwrap();
    let hints = error["hints"].to_string();
    assert!(hints.contains("--relay-url") && !hints.contains("--issuer"), "{error}");
}

#[tokio::test]
async fn the_api_shows_people_how_to_start_a_daemon() {
    let relay = "ws://127.0.0.1:1/relay";
    let mut api = command(&["api", "--addr", "127.0.0.1:0", "--relay-url", relay]).spawn().unwrap();
    let text = until(api.stdout.as_mut().unwrap(), "give --relay-admin-url").await;
    let wanted = format!("{} daemon \\\n", env!("CARGO_BIN_EXE_sideband-sim"));
    assert!(text.contains(&wanted) && text.contains(&format!("--relay-url {relay}\n")), "{text}");
}

#[tokio::test]
async fn without_a_relay_to_ask_a_code_is_redeemed_and_the_relay_decides() {
    let api = Sim::start(&["api", "--addr", "127.0.0.1:0", "--relay-url", "ws://127.0.0.1:1/relay"]).await;
    let relay = Sim::start(&["relay", "--addr", "127.0.0.1:0", "--issuer", api.get("issuer")]).await;
    let daemon = Sim::daemon_of(&api, &["--relay-url", relay.get("relayUrl")]).await;
    let to_relay = ["--relay-url", relay.get("relayUrl"), "ping"];
    assert_eq!(api.call(&to_relay).await.code, Some(0));
    let code = daemon.ready["quickConnect"]["code"].as_str().unwrap();
    let call = ["call", "--json", "--api-url", api.get("apiUrl"), "--code", code];
    let ended = run(&[&call[..], &to_relay].concat()).await;
    assert_eq!((ended.code, &ended.events()[0]["result"]), (Some(0), &"pong".into()), "{ended:?}");
}
