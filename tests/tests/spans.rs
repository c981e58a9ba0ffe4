//! Spans and events of the SDK, under names that do not change, and without a secret at any level.
//!
//! A binary of its own with one test: which callsites are listened to is decided for the whole process when they are first passed, and
//! other tests' threads would pass them without a subscriber.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::json;
use sideband::{Account, Connection, Context, Daemon, HandlerError};
use sideband_tests::script::{API_URL, DAEMON, RELAY_URL, World};
use tracing_subscriber::fmt::MakeWriter;

/// Lines of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Spans have their names and fields, and nothing at any level holds a credential, a key, a payload or a code.
#[tokio::test(start_paused = true)]
async fn spans_are_named_and_no_secret_is_logged() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone());
    let _here = tracing::subscriber::set_default(subscriber.finish());

    let (mut world, env) = World::new(1);
    let server = Daemon::new(API_URL, RELAY_URL, "sbnd_dak_far")
        .unwrap()
        .env(env)
        .handle("loud", |secret: String, _: Context| async move {
            tracing::info!("in the handler");
            assert!(secret.is_empty(), "PAYLOAD {secret}");
            Ok::<_, HandlerError>(())
        })
        .unwrap()
        .on_connection(|_: Connection| async {
            tracing::info!("in the connection's handler");
            Ok::<_, sideband::Error>(())
        })
        .start()
        .unwrap();
    let mut link = world.go_online(true).await;
    let presence = link.socket.token.clone().unwrap();
    let id = world.meet(&mut link).await;
    let keys = [link.line().keys().client_to_daemon, link.line().keys().daemon_to_client];
    link.request("loud", json!("PRIVATE WORDS")).await;
    let answer = link.envelope().await;
    let sideband::protocol::rpc::Envelope::Error { code, message, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((code, &message[..]), (2000, "the handler panicked"), "the panic's words stay here");
    server.close().await;

    let (mut world, env) = World::new(2);
    let client = Account::with_token(API_URL, DAEMON, "at_1").unwrap().env(env).connect().unwrap();
    world.api().await.refuse(401);
    client.when_ready().await.unwrap_err();

    let text = log.text();
    for expected in [
        "daemon: sideband::daemon: online daemon_id=d_far first=true",
        &format!("session{{session={id}}}"),
        "request{method=\"loud\"}",
        "sideband::rpc: a handler panicked panic=",
        "client{daemon_id=\"d_far\"}: sideband::client: closed reason=",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert!(
        text.lines().any(|line| line.contains("session{") && line.contains("in the connection's handler")),
        "{text}"
    );
    assert!(text.lines().any(|line| line.contains("request{") && line.contains("in the handler")), "{text}");
    let text = text.replace("PAYLOAD PRIVATE WORDS", "");
    for secret in ["sbnd_dak_far", "at_1", &presence, "PRIVATE WORDS"] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
    for key in keys {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!text.to_lowercase().contains(&hex[..16]) && !text.contains(&format!("{key:?}")), "a key in\n{text}");
    }
}
