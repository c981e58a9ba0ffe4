//! What is wrong is named, with the right exit code and something to do.

use crate::support::{Scratch, Sim, command, finish, free_port, run};

const KEY: &str = "sbnd_dak_0123456789";

#[tokio::test]
async fn wrong_use_is_exit_2_and_names_what_is_wrong() {
    let cases: &[(&[&str], &str)] = &[
        (&["up", "--frobnicate"], "--frobnicate"),
        (&["up", "--addr", "nonsense"], "--addr"),
        (&["up", "--addr", "0.0.0.0:1"], "--addr 0.0.0.0:1"),
        (&["up", "--seed", "x"], "--seed"),
        (&["up", "--seed", "x"], "whole number"),
        (&["up", "--allow-origin", "https://a.test/path"], "--allow-origin"),
        (&["up", "--advertise-url", "ftp://a.test"], "--advertise-url"),
        (&["relay"], "--issuer"),
        (&["relay", "--issuer", "nonsense"], "--issuer"),
        (&["api"], "--relay-url"),
        (&["api", "--relay-url", "http://a.test"], "--relay-url"),
        (&["daemon"], "--api-key"),
        (&["daemon", "--api-key", KEY, "--api-url", "nonsense"], "--api-url"),
        (&["daemon", "--api-key", KEY, "--relay-url", "http://a.test"], "--relay-url"),
        (&["daemon", "--api-key", "with space"], "--api-key"),
        (&["daemon", "--api-key", KEY, "--code-ttl", "5s"], "--code-ttl"),
        (&["daemon", "--api-key", KEY, "--code-ttl", "2h"], "30s to 1h"),
        (&["daemon", "--api-key", KEY, "--code-ttl", "30500ms"], "--code-ttl"),
        (&["call", "ping"], "--code"),
        (&["call", "--daemon-id", "d_1", "ping"], "--access-token"),
        (&["call", "--access-token", "t", "ping"], "--daemon-id"),
        (&["call", "--code", "abcd-efgh-ijkl", "--daemon-id", "d_1", "ping"], "--code"),
        (&["call", "--code", "nonsense", "ping"], "--code: the Quick Connect code"),
        (&["call", "--daemon-id", "d_1", "--access-token", "bad\nx", "ping"], "--access-token"),
        (&["status", "--admin-token", "bad x"], "--admin-token"),
        (&["call", "--code", "abcd-efgh-ijkl", "echo", "{"], "JSON"),
        (&["call", "--code", "abcd-efgh-ijkl", "--timeout", "soon", "ping"], "--timeout"),
        (&["keys", "rotate", "--hard", "--overlap", "1s"], "--hard"),
        (&["keys", "rotate", "--overlap", "500ms"], "--overlap"),
        (&["nonsense"], "nonsense"),
        (&["-q", "-v", "demo"], "--quiet"),
    ];
    for (args, named) in cases {
        let ended = run(args).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(named), "{args:?} does not name {named}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}

/// A wrong value in a variable is blamed on the variable: nobody typed the flag.
#[tokio::test]
async fn a_variable_with_a_wrong_value_is_named() {
    let account = ["call", "ping", "--daemon-id", "d_1"];
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (&["up"], "SIDEBAND_SIM_ADDR", "foo", "--addr"),
        (&["up"], "SIDEBAND_SIM_ADDR", "0.0.0.0:1", "--addr"),
        (&["up"], "SIDEBAND_SIM_SEED", "x", "--seed"),
        (&["demo"], "SIDEBAND_SIM_VERBOSE", "x", "--verbose"),
        (&["demo"], "SIDEBAND_SIM_COLOR", "x", "--color"),
        (&["up"], "SIDEBAND_SIM_ADMIN_TOKEN", "bad x", "--admin-token"),
        (&["daemon"], "SIDEBAND_API_KEY", "x y", "--api-key"),
        (&["daemon"], "SIDEBAND_SIM_API_KEY", "x y", "--api-key"),
        (&["daemon", "--api-key", KEY], "SIDEBAND_RELAY_URL", "http://a.test", "--relay-url"),
        (&["daemon", "--api-key", KEY], "SIDEBAND_SIM_API_URL", "nonsense", "--api-url"),
        (&account, "SIDEBAND_ACCESS_TOKEN", "bad\nx", "--access-token"),
        (&["call", "ping"], "SIDEBAND_QUICK_CONNECT", "foo", "--code"),
    ];
    for (args, variable, value, flag) in cases {
        let mut command = command(args);
        command.env(variable, value);
        let ended = finish(command).await;
        assert_eq!(ended.code, Some(2), "{variable}={value}: {ended:?}");
        for named in [variable, flag] {
            assert!(ended.stderr.contains(named), "{variable}={value} does not name {named}: {}", ended.stderr);
        }
    }
    let mut typed = command(&["up", "--addr", "bar"]);
    typed.env("SIDEBAND_SIM_ADDR", "127.0.0.1:0");
    let typed = finish(typed).await;
    assert!(!typed.stderr.contains("SIDEBAND_SIM_ADDR"), "the flag is to blame: {}", typed.stderr);
}

#[tokio::test]
async fn passwords_in_urls_are_not_shown() {
    let urls =
        ["http://user:secretpw@h.test", "ws://user:secretpw@h.test", "http://user:x/secretpw@h.test", "u:secretpw@h"];
    for url in urls {
        let cases: &[&[&str]] = &[
            &["call", "ping", "--code", "abcd-efgh-ijkl", "--api-url", url],
            &["call", "ping", "--code", "abcd-efgh-ijkl", "--relay-url", url],
            &["daemon", "--api-key", KEY, "--relay-url", url],
            &["up", "--advertise-url", url],
            &["up", "--allow-origin", url],
            &["up", url],
            &["status", "--admin-url", url],
            &["relay", "--issuer", url],
            &["api", "--relay-url", url],
            &["api", "--relay-url", "ws://a.test", "--relay-admin-url", url],
            &[url],
        ];
        for args in cases {
            let ended = run(&[args, &["--json"][..]].concat()).await;
            assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
            assert!(!ended.stderr.contains("secretpw") && !ended.stdout.contains("secretpw"), "{args:?}: {ended:?}");
            assert!(ended.stderr.contains("h.test") || ended.stderr.contains("@h"), "{args:?}: {}", ended.stderr);
        }
    }
    let mut help = command(&["up", "--help"]);
    help.env("SIDEBAND_SIM_ADVERTISE_URL", urls[0]);
    assert!(!finish(help).await.stdout.contains("secretpw"));
    let ended = run(&["call", "ping", "--code", "abcd-efgh-ijkl", "--api-url", urls[0]]).await;
    assert!(ended.stderr.contains("--api-url") && ended.stderr.contains("no password"), "{}", ended.stderr);
}

#[tokio::test]
async fn wrong_use_is_an_error_event_with_json() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&["up", "--seed", "x"], "--seed", ""),
        (&["up", "--sed", "1"], "--sed", "--seed"),
        (&["relay"], "--issuer", ""),
        (&["demo", "-q", "-v"], "--quiet", ""),
        (&[], "requires a subcommand", ""),
        (&["daemon"], "--api-key", "--api-key"),
    ];
    for (args, message, hint) in cases {
        let ended = run(&[args, &["--json"][..]].concat()).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        let [error] = ended.events().try_into().unwrap();
        assert_eq!((&error["event"], &error["exit"]), (&"error".into(), &2.into()), "{args:?}");
        assert!(error["message"].as_str().unwrap().contains(message), "{args:?}: {error}");
        assert!(error["hints"].to_string().contains(hint), "{args:?}: {error}");
        assert!(!ended.stdout.contains("\\u001b"), "{error}");
        assert_ne!(ended.stderr, "", "people are told as well");
    }
    for (args, message) in [(&["up", "--seed", "x"][..], "--seed"), (&[], "requires a subcommand")] {
        let mut by_variable = command(args);
        by_variable.env("SIDEBAND_SIM_JSON", "yes");
        let [error] = finish(by_variable).await.events().try_into().unwrap();
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
    }
    let mut filter = command(&["demo", "--json"]);
    filter.env("SIDEBAND_LOG", "sideband=loud");
    assert_eq!(finish(filter).await.events()[0]["exit"], 2);
}

#[tokio::test]
async fn the_command_line_wins_over_a_variable_that_excludes_it() {
    // Nothing listens there: whatever is read well comes to exit 3.
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let status: &[&str] = &["status", "--admin-url", &nowhere];
    let rotate: &[&str] = &["keys", "rotate", "--admin-url", &nowhere];
    let cases: &[(&[&str], &[&str], &[(&str, &str)], i32)] = &[
        (status, &["-q"], &[("SIDEBAND_SIM_VERBOSE", "1")], 3),
        (status, &["-v"], &[("SIDEBAND_SIM_QUIET", "1")], 3),
        (status, &["-v"], &[("SIDEBAND_SIM_QUIET", "0")], 3),
        (status, &[], &[("SIDEBAND_SIM_QUIET", "1"), ("SIDEBAND_SIM_VERBOSE", "1")], 2),
        (status, &["-qv"], &[], 2),
        (rotate, &["--hard"], &[("SIDEBAND_SIM_OVERLAP", "1m")], 3),
        (rotate, &["--overlap", "1m"], &[("SIDEBAND_SIM_HARD", "1")], 3),
        (rotate, &[], &[("SIDEBAND_SIM_HARD", "1"), ("SIDEBAND_SIM_OVERLAP", "1m")], 2),
    ];
    for (args, more, env, code) in cases {
        let mut command = command(&[*args, *more].concat());
        command.envs(env.iter().copied());
        let ended = finish(command).await;
        assert_eq!(ended.code, Some(*code), "{more:?} {env:?}: {}", ended.stderr);
        if let (2, Some((variable, _))) = (*code, env.first()) {
            assert!(ended.stderr.contains(variable), "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn what_is_no_api_is_named_so() {
    let relay = Sim::start(&["relay", "--addr", "127.0.0.1:0", "--issuer", "http://127.0.0.1:1"]).await;
    let url = relay.get("adminUrl").trim_end_matches("/__sim");
    let ended = run(&["call", "--json", "--api-url", url, "--code", "abcd-efgh-ijkl", "ping"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let [error] = ended.events().try_into().unwrap();
    assert_eq!((&error["code"], &error["status"]), (&"api_unreadable".into(), &426.into()), "{error}");
    assert!(error["hints"].to_string().contains("no Sideband API"), "{error}");
    assert!(error["message"].as_str().unwrap().starts_with("the API answered 426: "), "{error}");
}

#[tokio::test]
async fn a_bad_identity_file_is_exit_2_and_stays_as_it_is() {
    let scratch = Scratch::new();
    for (name, text, wrong) in [("short", "abcd\n", "2 bytes"), ("words", "not a key", "64 hex digits")] {
        let path = scratch.file(name);
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let ended = run(&["daemon", "--api-key", KEY, "--identity", &path]).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(&path) && ended.stderr.contains(wrong), "{}", ended.stderr);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "it was changed");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_identity_file_that_others_may_read_is_exit_2() {
    let scratch = Scratch::new();
    let path = scratch.file("open");
    std::fs::write(&path, "00".repeat(32)).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ended = run(&["daemon", "--api-key", KEY, "--identity", &path]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains(&path) && ended.stderr.contains("chmod 600"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_target_that_is_not_there_is_exit_3() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let cases: &[&[&str]] = &[
        &["call", "--api-url", &nowhere, "--code", "abcd-efgh-ijkl", "ping"],
        &["call", "--api-url", &nowhere, "--daemon-id", "d_1", "--access-token", "t", "ping"],
        &["ready", "--admin-url", &nowhere],
        &["ready", "--wait", "--timeout", "200ms", "--admin-url", &nowhere],
        &["status", "--admin-url", &nowhere],
        &["keys", "list", "--admin-url", &nowhere],
        &["drop", "d_1", "--admin-url", &nowhere],
    ];
    for args in cases {
        let ended = run(args).await;
        assert_eq!(ended.code, Some(3), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("sideband-sim up"), "{args:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn secrets_are_neither_in_help_nor_in_errors_nor_in_logs() {
    let secrets = ["sbnd_dak_hidden0123", "hidden-token-0123", "hide-deep-down", "hidden-admin-0123"];
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    for args in [
        &["daemon", "--help"][..],
        &["call", "--help"],
        &["up", "--help"],
        &["status", "--help"],
        &["call", "-vvv", "--daemon-id", "d_1", "--api-url", &nowhere, "ping"],
        &["status", "-vvv", "--admin-url", &nowhere],
    ] {
        let mut command = command(args);
        command.env("SIDEBAND_SIM_API_KEY", secrets[0]).env("SIDEBAND_SIM_ACCESS_TOKEN", secrets[1]);
        command.env("SIDEBAND_SIM_QUICK_CONNECT", secrets[2]).env("SIDEBAND_SIM_ADMIN_TOKEN", secrets[3]);
        let ended = finish(command).await;
        for secret in secrets {
            assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "{args:?}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_a_variable_names_must_be_there() {
    let mut daemon = command(&["daemon"]);
    daemon.env("SIDEBAND_API_KEY_FILE", "/nonexistent/key");
    let ended = finish(daemon).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("SIDEBAND_API_KEY_FILE") && ended.stderr.contains("/nonexistent/key"), "{ended:?}");
}

#[tokio::test]
async fn a_file_that_a_variable_names_must_say_something() {
    let scratch = Scratch::new();
    let path = scratch.file("empty");
    for text in ["", " \n"] {
        std::fs::write(&path, text).unwrap();
        for (args, variable) in [
            (&["daemon"][..], "SIDEBAND_API_KEY_FILE"),
            (&["up", "--addr", "127.0.0.1:0"], "SIDEBAND_SIM_ADMIN_TOKEN_FILE"),
            (&["call", "ping"], "SIDEBAND_QUICK_CONNECT_FILE"),
        ] {
            let mut command = command(args);
            command.env(variable, &path);
            let ended = finish(command).await;
            assert_eq!(ended.code, Some(2), "{ended:?}");
            for named in [variable, &path, "empty"] {
                assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
            }
        }
    }
}

#[tokio::test]
async fn a_bad_log_filter_is_exit_2() {
    let mut demo = command(&["demo"]);
    demo.env("SIDEBAND_LOG", "sideband=loud");
    let ended = finish(demo).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("SIDEBAND_LOG"), "{ended:?}");
}

#[tokio::test]
async fn help_and_version_are_exit_0_on_stdout() {
    for args in [&["--help"][..], &["--version"], &["call", "-h"], &["help", "up"]] {
        let ended = run(args).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(ended.stdout.contains("sideband-sim"), "{args:?}");
    }
}
