//! Spans and events of the SDK, under names that do not change, and without a secret at any level: not in its own, nor in what the
//! libraries below it log.
//!
//! A binary of its own: which callsites are listened to is decided for the whole process when they are first passed, and other tests'
//! threads would pass them without a subscriber.

mod support;

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};
use sideband::{Account, Connection, Context, Daemon, Error, HandlerError, Identity, QuickConnect};
use sideband_env::{BoxFuture, EntropySource, Env, HttpClient, HttpError, HttpRequest, HttpResponse};
use sideband_protocol::{
    Entropy,
    quirks::{Quirk, Quirks},
};
use sideband_tests::script::{API_URL, DAEMON, RELAY_URL, World as Script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::fmt::MakeWriter;

use self::support::*;

/// Lines of everything that the process logs.
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

/// What libraries log that know nothing of `tracing`.
impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}\n", record.level(), record.target(), record.args());
        self.0.lock().unwrap().extend_from_slice(line.as_bytes());
    }
    fn flush(&self) {}
}

impl Log {
    /// The log of this process, at every level, from its first line on.
    fn of_this_process() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let log = LOG.get_or_init(|| {
            let log = Self::default();
            let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
            tracing::subscriber::set_global_default(lines.with_writer(log.clone()).finish()).unwrap();
            log::set_boxed_logger(Box::new(log.clone())).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
            log
        });
        log.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn has(&self, words: &str) {
        let text = self.text();
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }

    /// Whatever is looked for is not there, in any spelling of its bytes.
    fn has_none_of<'a>(&self, secrets: impl IntoIterator<Item = &'a str>, keys: impl IntoIterator<Item = [u8; 32]>) {
        let text = self.text();
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in\n{text}");
        }
        let folded = text.to_lowercase();
        for key in keys {
            // A third of a key is no accident.
            let part = &key[..12];
            let listed = format!("{part:?}");
            let spellings =
                [BASE64.encode(part), BASE64URL_NOPAD.encode(part), listed.trim_matches(['[', ']']).to_owned()];
            assert!(!folded.contains(&HEXLOWER.encode(part)), "a key in hex in\n{text}");
            assert!(!spellings.iter().any(|spelling| text.contains(spelling)), "a key in\n{text}");
        }
    }
}

/// Spans have their names and fields, and nothing at any level holds a credential, a key, a payload or a code.
#[tokio::test(start_paused = true)]
async fn spans_are_named_and_no_secret_is_logged() {
    let log = Log::of_this_process();
    let (mut world, env) = Script::new(1);
    let server = Daemon::new(API_URL, RELAY_URL, "sbnd_dak_far")
        .unwrap()
        .env(env)
        .handle("loud", |secret: String, _: Context| async move {
            tracing::info!("in the handler");
            assert!(secret.is_empty(), "PAYLOAD {secret}");
            Ok::<_, HandlerError>(())
        })
        .unwrap()
        .on_connection(|connection: Connection| async move {
            tracing::info!("in the connection's handler");
            let event = connection.subscribe("secrets").unwrap().next().await;
            assert!(event.is_none(), "PAYLOAD {:?}", event.unwrap().data::<String>());
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
    let session = server.connections().remove(0);
    link.event("secrets", json!("PRIVATE NEWS")).await;
    session.closed().await;
    server.close().await;

    let (mut world, env) = Script::new(2);
    let client = Account::with_token(API_URL, DAEMON, "at_1").unwrap().env(env).connect().unwrap();
    world.api().await.refuse(401);
    client.when_ready().await.unwrap_err();

    for expected in [
        "daemon: sideband::daemon: online daemon_id=d_far first=true",
        &format!("session{{session={id}}}"),
        "request{method=\"loud\"}",
        "sideband::rpc: a handler panicked method=\"loud\"",
        "sideband::daemon: a connection handler failed session=",
        "error=it panicked",
        "client{daemon_id=\"d_far\"}: sideband::client: closed reason=",
    ] {
        log.has(expected);
    }
    let text = log.text();
    let in_span = |span: &str, words: &str| text.lines().any(|line| line.contains(span) && line.contains(words));
    assert!(in_span("session{", "in the connection's handler"), "{text}");
    assert!(in_span("request{", "in the handler"), "{text}");
    log.has_none_of(["sbnd_dak_far", "at_1", &presence, "PAYLOAD", "PRIVATE"], keys);
}

/// A relay and an API that quote what they were sent do not bring it into the log.
#[tokio::test(start_paused = true)]
async fn refusals_that_quote_a_secret_are_told_without_it() {
    let log = Log::of_this_process();
    let (mut world, env) = Script::new(3);
    let client = Account::with_token(API_URL, DAEMON, "at_quoted").unwrap().env(env).connect().unwrap();
    let mut events = client.events();
    world.grant().await;
    let mut stream = world.dial().await.connect();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0, "a request was due");
    }
    let request = String::from_utf8(request).unwrap();
    let token = request.lines().find_map(|line| line.strip_prefix("Authorization: Bearer ")).unwrap().to_owned();
    let body = json!({ "error": { "code": "down", "message": format!("no room for {token} now") } }).to_string();
    let head = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let told = lifecycle(&mut events, |event| matches!(event, sideband::Lifecycle::Retrying { .. })).await;
    assert!(format!("{told:?}").contains("no room for … now"), "{told:?}");

    let quoting = |words: &str| json!({ "error": { "message": words, "data": { "code": words } } }).to_string();
    world.api().await.answer(401, &[], quoting("what is at_quoted?"));
    let error = client.when_ready().await.unwrap_err().to_string();
    assert!(error.contains("what is …?"), "{error}");

    let (mut world, env) = Script::new(4);
    let client = QuickConnect::new(API_URL, "quot-edby-them").unwrap().env(env).connect().unwrap();
    world.api().await.answer(404, &[], quoting("what is quot-edby-them?"));
    let error = client.when_ready().await.unwrap_err().to_string();
    assert!(error.contains("what is …?"), "{error}");
    log.has_none_of(["at_quoted", &token, "quot-edby-them"], []);
}

/// An endpoint that breaks a rule says so, once, as an error; others do not.
#[tokio::test(start_paused = true)]
async fn endpoints_that_are_wrong_on_purpose_say_so() {
    let log = Log::of_this_process();
    let (_world, env) = Script::new(5);
    let account = || Account::with_token(API_URL, DAEMON, "at_quirky").unwrap().env(env.clone());
    let daemon = || Daemon::new(API_URL, RELAY_URL, "sbnd_dak_quirky").unwrap().env(env.clone());
    let said = |role: &str, quirk: &str| {
        let (role, text) = (format!("role=\"{role}\""), log.text());
        let lines =
            text.lines().filter(|line| line.contains("ERROR sideband::quirks: the endpoint is wrong on purpose"));
        lines.filter(|line| line.contains(&role) && line.contains(quirk)).count()
    };
    for quirks in [Quirks::NONE, Quirks::only(Quirk::IgnoresPing)] {
        account().danger_quirks(quirks).connect().unwrap().close().await;
        daemon().danger_quirks(quirks).start().unwrap().close().await;
        let expected = usize::from(quirks != Quirks::NONE);
        assert_eq!((said("client", ""), said("daemon", "")), (expected, expected), "{}", log.text());
    }
    assert_eq!((said("client", "IgnoresPing"), said("daemon", "IgnoresPing")), (1, 1));
}

/// Everything secret that an endpoint asks the world for and is given: what the log must not have.
#[derive(Clone, Default)]
struct Secrets(Arc<Mutex<(Vec<String>, Vec<[u8; 32]>)>>);

impl Secrets {
    /// The same world, overheard.
    fn overhear(&self, env: &Env) -> Env {
        let http = Overheard(env.http.clone(), self.clone());
        let entropy = Overheard(env.entropy.clone(), self.clone());
        Env { http: Arc::new(http), entropy: Arc::new(entropy), ..env.clone() }
    }

    fn add(&self, secret: &str) {
        self.0.lock().unwrap().0.push(secret.to_owned());
    }

    /// Tokens and codes of a body, under the names that the API has for them.
    fn read(&self, body: &[u8]) {
        fn walk(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    for (name, value) in members {
                        if let ("token" | "presenceToken" | "code", Some(text)) = (&name[..], value.as_str()) {
                            found.push(text.to_owned());
                        }
                        walk(value, found);
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        walk(&serde_json::from_slice(body).unwrap_or_default(), &mut self.0.lock().unwrap().0);
    }
}

struct Overheard<T: ?Sized>(Arc<T>, Secrets);

impl HttpClient for Overheard<dyn HttpClient> {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            if let Some(bearer) = request.headers.get("authorization") {
                self.1.add(bearer.to_str().unwrap().strip_prefix("Bearer ").unwrap());
            }
            self.1.read(&request.body);
            let answer = self.0.send(request).await?;
            if answer.status.is_success() {
                self.1.read(&answer.body);
            }
            Ok(answer)
        })
    }
}

impl EntropySource for Overheard<dyn EntropySource> {
    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(OverheardEntropy(self.0.entropy(), self.1.clone()))
    }
}

struct OverheardEntropy(Box<dyn Entropy>, Secrets);

impl Entropy for OverheardEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
        // Private keys and seeds are 32 bytes; nothing else is.
        if let Ok(key) = <[u8; 32]>::try_from(&*out) {
            self.1.0.lock().unwrap().1.push(key);
        }
    }
}

/// Over real sockets: an account's client, a client by a code and a daemon that live, are cut, resume and are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_below_the_sdk_logs_a_secret() {
    let log = Log::of_this_process();
    let (mut world, secrets) = (World::start().await, Secrets::default());
    world.env = secrets.overhear(&world.env);
    let seed: [u8; 32] = std::array::from_fn(|n| (n * 37 + 11) as u8);
    let server = soon(with_echo(world.daemon()).identity(Identity::from_seed(&seed)).listen()).await.unwrap();
    let client = world.client().await;
    let made = soon(server.create_quick_connect(None)).await.unwrap();
    let guest = world.quick_connect(&made.code).connect().unwrap();
    soon(guest.when_ready()).await.unwrap();
    for (client, words) in [(&client, "WHISPERED BY AN ACCOUNT"), (&guest, "WHISPERED BY A GUEST")] {
        assert_eq!(soon(client.call::<_, String>("echo", words)).await.unwrap(), words);
    }
    let mut events = client.events_from_now();
    assert!(world.cloud.relay().drop_daemon(world.daemon_id()));
    lifecycle(&mut events, |event| matches!(event, sideband::Lifecycle::Resumed)).await;
    echoes(&client).await;
    let stranger = Account::with_token(world.cloud.api_url(), world.daemon_id(), "at_of_a_stranger").unwrap();
    let stranger = stranger.env(world.env.clone()).connect().unwrap();
    assert!(matches!(soon(stranger.when_ready()).await, Err(Error::Closed(_))));
    let used = world.quick_connect(&made.code).connect().unwrap();
    assert!(matches!(soon(used.when_ready()).await, Err(Error::Closed(_))));
    for client in [&client, &guest] {
        soon(client.close()).await;
    }
    soon(server.close()).await;

    let (texts, mut keys) = secrets.0.lock().unwrap().clone();
    keys.push(seed);
    let bootstrap = world.cloud.bootstrap();
    let bare = made.code.replace('-', "");
    for known in [bootstrap.api_key.expose(), bootstrap.access_token.expose(), &made.code, "at_of_a_stranger"] {
        assert!(texts.iter().any(|text| text == known), "{known} was not overheard");
    }
    let tokens = texts.iter().filter(|text| text.starts_with("ey")).count();
    assert!(tokens >= 4, "two tokens of sessions and two of presence, not {tokens}");
    assert!(keys.len() >= 5, "an identity, and two keys for each of two sessions, not {}", keys.len());
    // What libraries log is seen: frames, and with the client that the SDK does not use even this.
    log.has("TRACE tungstenite::protocol::frame");
    assert_eq!(world.connect("a-token-for-all-to-see").await.err(), Some(401));
    log.has("a-token-for-all-to-see");
    log.has_none_of(texts.iter().map(String::as_str).chain([&bare[..], "WHISPERED"]), keys);
}
