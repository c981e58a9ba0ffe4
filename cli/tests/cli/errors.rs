//! What is wrong is named, with the right exit code and something to do.

use crate::support::{Scratch, command, finish, free_port, run};

const KEY: &str = "sbnd_dak_0123456789";

#[tokio::test]
async fn wrong_use_is_exit_2_and_names_what_is_wrong() {
    let cases: &[(&[&str], &str)] = &[
        (&["up", "--frobnicate"], "--frobnicate"),
        (&["up", "--addr", "nonsense"], "--addr"),
        (&["up", "--seed", "x"], "--seed"),
        (&["up", "--allow-origin", "https://a.test/path"], "--allow-origin"),
        (&["up", "--advertise-url", "ftp://a.test"], "--advertise-url"),
        (&["up", "--state", "x"], "--state"),
        (&["relay"], "--issuer"),
        (&["relay", "--issuer", "nonsense"], "--issuer"),
        (&["api"], "--relay-url"),
        (&["api", "--relay-url", "http://a.test"], "--relay-url"),
        (&["daemon"], "--api-key"),
        (&["daemon", "--api-key", KEY, "--api-url", "nonsense"], "--api-url"),
        (&["daemon", "--api-key", KEY, "--relay-url", "http://a.test"], "--relay-url"),
        (&["daemon", "--api-key", "with space"], "API key"),
        (&["call", "ping"], "--code"),
        (&["call", "--daemon-id", "d_1", "ping"], "--access-token"),
        (&["call", "--access-token", "t", "ping"], "--daemon-id"),
        (&["call", "--code", "abcd-efgh-ijkl", "--daemon-id", "d_1", "ping"], "--code"),
        (&["call", "--code", "nonsense", "ping"], "Quick Connect code"),
        (&["call", "--code", "abcd-efgh-ijkl", "echo", "{"], "JSON"),
        (&["call", "--code", "abcd-efgh-ijkl", "--timeout", "soon", "ping"], "--timeout"),
        (&["keys", "rotate", "--hard", "--overlap", "1s"], "--hard"),
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
