//! `up --preset`: faults by name.

use http::Method;

use crate::support::{Sim, ask, command, finish, run};

#[tokio::test]
async fn a_preset_is_in_force_from_the_start() {
    let up = Sim::up(&["--preset", "storm-429-retry-after"]).await;
    let url = format!("{}/api/trpc/daemon.renewToken", up.get("apiUrl"));
    let authorization = format!("Bearer {}", up.get("apiKey"));
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    for n in 1..=2 {
        let (status, answer) = ask(Method::POST, &url, &headers).await;
        let fault = format!("a fault of the plan: storm-429-retry-after.tokens#{n}");
        assert_eq!((status, answer["error"]["message"].as_str()), (429, Some(&*fault)));
    }
    let (status, answer) = ask(Method::POST, &url, &headers).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(up.stop().await.code, Some(0));
}

#[tokio::test]
async fn presets_go_together_on_the_line_and_in_the_environment() {
    async fn rules(up: &Sim) -> Vec<String> {
        let (status, answer) = ask(Method::GET, &format!("{}/faults", up.get("adminUrl")), &[]).await;
        assert_eq!(status, 200, "{answer}");
        answer["faults"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| fault["rule"]["id"].as_str().unwrap().to_owned())
            .collect()
    }
    let wanted = ["daemon-blip.cut", "ghost-socket.client"];
    let up = Sim::up(&["--preset", "daemon-blip", "--preset", "ghost-socket"]).await;
    assert_eq!(rules(&up).await, wanted);
    let mut command = command(&["up", "--addr", "127.0.0.1:0", "--json"]);
    command.env("SIDEBAND_SIM_PRESET", "daemon-blip,ghost-socket");
    assert_eq!(rules(&Sim::spawn(command).await).await, wanted);
}

#[tokio::test]
async fn an_unknown_preset_is_exit_2_with_the_list_and_the_nearest() {
    let ended = run(&["up", "--preset", "strom-429"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for preset in sideband_sim_kit::fault::preset::ALL {
        assert!(ended.stderr.contains(preset.name()), "{} is not in {}", preset.name(), ended.stderr);
    }
    assert!(ended.stderr.contains("a similar value exists: 'storm-429'"), "{}", ended.stderr);
    let twice = run(&["up", "--addr", "127.0.0.1:0", "--preset", "hang,hang"]).await;
    assert_eq!(twice.code, Some(2), "{twice:?}");
    assert!(twice.stderr.contains("hang.sessions"), "{}", twice.stderr);
}

#[tokio::test]
async fn help_lists_every_preset_with_what_it_shows() {
    let mut command = command(&["up", "--help"]);
    // So that nothing is wrapped.
    command.env("COLUMNS", "400");
    let help = finish(command).await.stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for preset in sideband_sim_kit::fault::preset::ALL {
        assert!(help.contains(&format!("- {}: {}", preset.name(), preset.summary())), "{}: {help}", preset.name());
    }
}
