//! `--tls` and `--ca`: https and wss by the local authority and by given certificates.

use std::fs;

use rcgen::{CertificateParams, KeyPair};

use crate::support::{Scratch, Sim, free_port, run};

#[tokio::test]
async fn up_with_tls_serves_whoever_trusts_its_authority() {
    let scratch = Scratch::new();
    let dir = scratch.file("authority");
    let up = Sim::up(&["--tls", "--tls-dir", &dir, "--daemon"]).await;
    for (member, scheme) in
        [("apiUrl", "https://127.0.0.1:"), ("relayUrl", "wss://127.0.0.1:"), ("adminUrl", "https://")]
    {
        assert!(up.get(member).starts_with(scheme), "{}", up.first);
    }
    let ca = up.get("ca").to_owned();
    assert_eq!(ca, format!("{dir}/ca.pem"));

    let trusting = up.call(&["--ca", &ca, "ping"]).await;
    assert_eq!((trusting.code, trusting.stdout.as_str()), (Some(0), "\"pong\"\n"), "{}", trusting.stderr);
    let by_name = up.get("apiUrl").replace("127.0.0.1", "localhost");
    let ready = run(&["ready", "--ca", &ca, "--admin-url", &by_name]).await;
    assert_eq!(ready.code, Some(0), "{}", ready.stderr);

    let other = up.call(&["ping"]).await;
    assert_eq!(other.code, Some(3));
    assert!(other.stderr.contains("certificate") && other.stderr.contains("--ca"), "{}", other.stderr);
    assert_eq!(up.stop().await.code, Some(0));
}

#[tokio::test]
async fn the_local_authority_is_kept_and_its_key_is_private() {
    let scratch = Scratch::new();
    let dir = scratch.file("new/authority");
    let first = Sim::up(&["--tls", "--tls-dir", &dir]).await;
    let ca = fs::read(first.get("ca")).unwrap();
    first.stop().await;
    let key = format!("{dir}/ca-key.pem");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
    // Several at once take the same authority, the one that is there.
    let flags = ["--tls", "--tls-dir", &dir];
    let (one, two) = tokio::join!(Sim::up(&flags), Sim::up(&flags));
    assert_eq!(fs::read(one.get("ca")).unwrap(), ca);
    for up in [&one, &two] {
        let ready = run(&["ready", "--ca", up.get("ca"), "--admin-url", up.get("adminUrl")]).await;
        assert_eq!(ready.code, Some(0), "{}", ready.stderr);
    }
    one.stop().await;
    two.stop().await;

    fs::write(&key, "no key").unwrap();
    let broken = run(&["up", "--addr", "127.0.0.1:0", "--tls", "--tls-dir", &dir]).await;
    assert_eq!(broken.code, Some(3));
    assert!(broken.stderr.contains("ca-key.pem") && broken.stderr.contains("--tls-dir"), "{}", broken.stderr);
    assert_eq!(fs::read_to_string(&key).unwrap(), "no key", "the file is untouched");
}

#[tokio::test]
async fn a_given_certificate_is_served() {
    let scratch = Scratch::new();
    let (cert, key) = (scratch.file("cert.pem"), scratch.file("key.pem"));
    let pair = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    let up = Sim::up(&["--tls-cert", &cert, "--tls-key", &key, "--daemon"]).await;
    assert_eq!(up.get("ca"), cert);
    assert_eq!(up.call(&["--ca", &cert, "ping"]).await.code, Some(0));
    assert_eq!(up.stop().await.code, Some(0));

    let other = scratch.file("other.pem");
    fs::write(&other, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let up = ["up", "--addr", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key"];
    for (key, words) in [(&other, "belong together"), (&cert, "no private key"), (&scratch.file("none"), "none")] {
        let wrong = run(&[&up[..], &[key]].concat()).await;
        assert_eq!(wrong.code, Some(2), "{key}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(words), "{}", wrong.stderr);
    }
}

#[tokio::test]
async fn api_and_relay_apart_speak_tls_to_each_other() {
    let scratch = Scratch::new();
    let tls = ["--tls", "--tls-dir", &scratch.file("authority")];
    let relay = format!("127.0.0.1:{}", free_port());
    let (relay_url, relay_admin) = (format!("wss://{relay}/relay"), format!("https://{relay}"));
    let api = ["api", "--addr", "127.0.0.1:0", "--relay-url", &relay_url, "--relay-admin-url", &relay_admin];
    let api = Sim::start(&[&api[..], &tls].concat()).await;
    let relay = ["relay", "--addr", &relay, "--issuer", api.get("issuer")];
    let relay = Sim::start(&[&relay[..], &tls].concat()).await;
    let ca = relay.get("ca");
    let daemon = Sim::daemon_of(&api, &["--relay-url", &relay_url, "--ca", ca]).await;
    let code = daemon.ready["quickConnect"]["code"].as_str().unwrap();
    let called = run(&["call", "--api-url", api.get("apiUrl"), "--ca", ca, "--code", code, "ping"]).await;
    assert_eq!((called.code, called.stdout.as_str()), (Some(0), "\"pong\"\n"), "{}", called.stderr);
}

#[tokio::test]
async fn wrong_flags_of_tls_are_named() {
    let scratch = Scratch::new();
    let dir = scratch.file("authority");
    let advertised = ["--tls", "--tls-dir", &dir, "--advertise-url", "https://sim.example.com"];
    for (flags, words) in [
        (&["--tls-dir", &dir][..], "--tls"),
        (&["--tls-cert", "x"], "--tls-key"),
        (&["--tls", "--tls-cert", "x", "--tls-key", "y"], "--tls-cert"),
        (&advertised, "may not vouch"),
    ] {
        let wrong = run(&[&["up", "--addr", "127.0.0.1:0"][..], flags].concat()).await;
        assert_eq!(wrong.code, Some(2), "{flags:?}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(words), "{flags:?}: {}", wrong.stderr);
    }
    let wrong =
        run(&["call", "--ca", &scratch.file("none.pem"), "--daemon-id", "d_1", "--access-token", "x", "ping"]).await;
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("none.pem") && wrong.stderr.contains("--ca"), "{}", wrong.stderr);
}
