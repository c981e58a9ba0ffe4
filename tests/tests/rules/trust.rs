//! Trust: TRU-01 to TRU-07, and the table of `docs/spec/2-crypto.md`, a witness a cell.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sideband::{
    Cause, Client, CloseReason, Fingerprint, Identity, IdentityKey, State,
    identity::{FileStore, IdentityStore, StoreError, load_or_create},
};
use sideband_env::{BoxFuture, Env, SeededEntropy, Timeline};
use sideband_protocol::{quirks::Quirks, wire::Frame};
use sideband_tests::script::{DAEMON, World};

use crate::{
    client::{LONG, closed, state},
    endpoints::{account, quick_connect},
    witness::{due, witnesses},
};

/// A store that the test can look into, and that fails to write when told to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    pins: BTreeMap<String, IdentityKey>,
    written: Vec<IdentityKey>,
    fails: bool,
}

impl Pins {
    /// A store with a pin for the daemon.
    pub(crate) fn with(key: IdentityKey) -> Self {
        let pins = Self::default();
        pins.0.lock().unwrap().pins.insert(DAEMON.to_owned(), key);
        pins
    }

    /// A store that fails to write.
    fn failing() -> Self {
        let pins = Self::default();
        pins.0.lock().unwrap().fails = true;
        pins
    }

    /// The pin for the daemon.
    fn pinned(&self) -> Option<IdentityKey> {
        self.0.lock().unwrap().pins.get(DAEMON).copied()
    }

    /// Every pin that was to be written.
    fn written(&self) -> Vec<IdentityKey> {
        self.0.lock().unwrap().written.clone()
    }
}

impl IdentityStore for Pins {
    fn load<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().pins.get(daemon_id).copied()) })
    }

    fn store<'a>(&'a self, daemon_id: &'a str, key: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut inside = self.0.lock().unwrap();
            inside.written.push(key);
            if inside.fails {
                return Err("the disk is full".into());
            }
            inside.pins.insert(daemon_id.to_owned(), key);
            Ok(())
        })
    }
}

/// What was asked of the user.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    First(Fingerprint),
    Mismatch(Fingerprint, Fingerprint),
}

/// A user who answers, or never does.
#[derive(Debug, Clone, Default)]
struct User {
    answer: Option<bool>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl User {
    fn who_says(yes: bool) -> Self {
        Self { answer: Some(yes), ..Self::default() }
    }

    fn who_is_away() -> Self {
        Self::default()
    }

    fn ask(&self, asked: Asked) -> impl Future<Output = bool> + Send + use<> {
        self.asked.lock().unwrap().push(asked);
        let answer = self.answer;
        async move {
            match answer {
                Some(yes) => yes,
                None => std::future::pending().await,
            }
        }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// The identity that is pinned where the daemon shows another one.
fn old() -> IdentityKey {
    Identity::from_seed(&[9; 32]).public()
}

fn auto(env: &Env, quirks: Quirks, pins: &Pins) -> Client {
    account(env, quirks).identity_store(pins.clone()).connect().unwrap()
}

fn pinned_only(env: &Env, quirks: Quirks, pins: &Pins) -> Client {
    account(env, quirks).identity_store(pins.clone()).pinned_only().connect().unwrap()
}

fn prompt(env: &Env, quirks: Quirks, pins: &Pins, user: &User) -> Client {
    let (first, mismatch) = (user.clone(), user.clone());
    account(env, quirks)
        .identity_store(pins.clone())
        .prompt(
            move |fingerprint| first.ask(Asked::First(fingerprint)),
            move |expected, received| mismatch.ask(Asked::Mismatch(expected, received)),
        )
        .connect()
        .unwrap()
}

/// The client goes on: its session stands.
async fn goes_on(world: &mut World, client: &Client) {
    let mut link = world.join().await;
    state(client, State::Active).await;
    link.is_alive().await;
}

/// The client gets an Accept and refuses the identity for good: why.
async fn refused(world: &mut World, client: &Client) -> Cause {
    let mut link = world.client_keys().await;
    let reason = closed(client).await;
    let (said, _) = link.said_before_end().await;
    assert!(said.is_empty(), "nothing is said to who is not trusted");
    assert!(world.api_within(LONG).await.is_none(), "nobody tries again");
    let CloseReason::Fatal(cause) = reason else { panic!("a refused identity is fatal, not {reason}") };
    cause
}

fn is_handshake_failed(cause: &Cause) {
    assert!(matches!(cause, Cause::HandshakeFailed(_)), "handshake_failed, not {cause}");
}

fn is_identity_changed(cause: &Cause, world: &World) {
    let (expected, received) = (old().fingerprint(), world.daemon.identity.public().fingerprint());
    assert_eq!(*cause, Cause::IdentityChanged { expected, received });
}

witnesses! {
    // ---- auto ----

    async fn tru_03_auto_pins_the_first_identity(quirks) breaks_with [GoesOnWithoutPin] {
        let (mut world, env) = World::new(1);
        let pins = Pins::default();
        let client = auto(&env, quirks, &pins);
        goes_on(&mut world, &client).await;
        assert_eq!(pins.pinned(), Some(world.daemon.identity.public()));
    }

    async fn tru_03_auto_goes_on_with_the_pinned_identity(quirks) breaks_with [] {
        let (mut world, env) = World::new(1);
        let pins = Pins::with(world.daemon.identity.public());
        let client = auto(&env, quirks, &pins);
        goes_on(&mut world, &client).await;
        assert_eq!(pins.written(), []);
    }

    async fn tru_03_auto_pins_a_changed_identity(quirks) breaks_with [GoesOnWithoutPin] {
        let (mut world, env) = World::new(1);
        let pins = Pins::with(old());
        let client = auto(&env, quirks, &pins);
        goes_on(&mut world, &client).await;
        assert_eq!(pins.pinned(), Some(world.daemon.identity.public()));
    }

    // ---- prompt ----

    /// No builder offers `prompt` without both callbacks.
    async fn tru_01_prompt_takes_both_callbacks(quirks) breaks_with [] {
        let (_world, env) = World::new(1);
        let _account = account(&env, quirks).prompt(|_| async { true }, |_, _| async { true });
        let _code = quick_connect(&env, quirks).prompt(|_| async { true }, |_, _| async { true });
    }

    async fn tru_02_prompt_asks_at_the_first_connection_and_pins_on_yes(quirks) breaks_with [NeverAsks] {
        let (mut world, env) = World::new(1);
        let (pins, user) = (Pins::default(), User::who_says(true));
        let client = prompt(&env, quirks, &pins, &user);
        goes_on(&mut world, &client).await;
        let shown = world.daemon.identity.public();
        assert_eq!(user.asked(), [Asked::First(shown.fingerprint())]);
        assert_eq!(pins.pinned(), Some(shown));
    }

    async fn tru_02_prompt_does_not_ask_about_the_pinned_identity(quirks) breaks_with [AsksAboutPinned] {
        let (mut world, env) = World::new(1);
        let (pins, user) = (Pins::with(world.daemon.identity.public()), User::who_says(true));
        let client = prompt(&env, quirks, &pins, &user);
        goes_on(&mut world, &client).await;
        assert_eq!((user.asked(), pins.written()), (vec![], vec![]));
    }

    async fn tru_02_prompt_asks_about_a_changed_identity_and_pins_on_yes(quirks) breaks_with [NeverAsks] {
        let (mut world, env) = World::new(1);
        let (pins, user) = (Pins::with(old()), User::who_says(true));
        let client = prompt(&env, quirks, &pins, &user);
        goes_on(&mut world, &client).await;
        let shown = world.daemon.identity.public();
        assert_eq!(user.asked(), [Asked::Mismatch(old().fingerprint(), shown.fingerprint())]);
        assert_eq!(pins.pinned(), Some(shown));
    }

    async fn tru_03_no_to_the_first_identity_is_handshake_failed_and_pins_nothing(quirks) breaks_with [PinsRefused] {
        let (mut world, env) = World::new(1);
        let (pins, user) = (Pins::default(), User::who_says(false));
        let client = prompt(&env, quirks, &pins, &user);
        is_handshake_failed(&refused(&mut world, &client).await);
        assert_eq!((user.asked().len(), pins.written()), (1, vec![]));
    }

    async fn tru_03_no_to_a_changed_identity_is_identity_key_changed_and_keeps_the_pin(quirks)
        breaks_with [PinsRefused]
    {
        let (mut world, env) = World::new(1);
        let (pins, user) = (Pins::with(old()), User::who_says(false));
        let client = prompt(&env, quirks, &pins, &user);
        is_identity_changed(&refused(&mut world, &client).await, &world);
        assert_eq!((user.asked().len(), pins.written(), pins.pinned()), (1, vec![], Some(old())));
    }

    // ---- pinned-only ----

    async fn tru_03_pinned_only_refuses_the_first_identity(quirks) breaks_with [PinsUnderPinnedOnly] {
        let (mut world, env) = World::new(1);
        let pins = Pins::default();
        let client = pinned_only(&env, quirks, &pins);
        is_handshake_failed(&refused(&mut world, &client).await);
        assert_eq!(pins.written(), []);
    }

    async fn tru_03_pinned_only_goes_on_with_the_pinned_identity(quirks) breaks_with [] {
        let (mut world, env) = World::new(1);
        let pins = Pins::with(world.daemon.identity.public());
        let client = pinned_only(&env, quirks, &pins);
        goes_on(&mut world, &client).await;
        assert_eq!(pins.written(), []);
    }

    async fn tru_05_pinned_only_reports_both_fingerprints(quirks) breaks_with [ForgetsExpectedIdentity] {
        let (mut world, env) = World::new(1);
        let pins = Pins::with(old());
        let client = pinned_only(&env, quirks, &pins);
        is_identity_changed(&refused(&mut world, &client).await, &world);
        assert_eq!((pins.written(), pins.pinned()), (vec![], Some(old())));
        let words = client.when_ready().await.unwrap_err().to_string();
        for key in [old(), world.daemon.identity.public()] {
            assert!(words.contains(&key.fingerprint().to_string()), "{words}");
        }
    }

    // ---- the rest ----

    async fn tru_02_auto_asks_nobody(quirks) breaks_with [AsksUnderAnyPolicy] {
        let (mut world, env) = World::new(1);
        for pins in [Pins::default(), Pins::with(old())] {
            let client = auto(&env, quirks, &pins);
            due(goes_on(&mut world, &client)).await;
        }
    }

    /// Also where callbacks were given before `pinned-only` was chosen.
    async fn tru_02_pinned_only_asks_nobody(quirks) breaks_with [AsksUnderAnyPolicy] {
        let (mut world, env) = World::new(1);
        for pins in [Pins::default(), Pins::with(old())] {
            let user = User::who_says(false);
            let (first, mismatch) = (user.clone(), user.clone());
            let client = account(&env, quirks)
                .identity_store(pins)
                .prompt(
                    move |fingerprint| first.ask(Asked::First(fingerprint)),
                    move |expected, received| mismatch.ask(Asked::Mismatch(expected, received)),
                )
                .pinned_only()
                .connect()
                .unwrap();
            refused(&mut world, &client).await;
            assert_eq!(user.asked(), []);
        }
    }

    async fn tru_03_nothing_is_pinned_before_the_signature_is_good(quirks) breaks_with [PinsUnverified] {
        for pin in [None, Some(old())] {
            let (mut world, env) = World::new(1);
            let pins = pin.map_or_else(Pins::default, Pins::with);
            let client = auto(&env, quirks, &pins);
            let (session, mut socket) = world.client_socket().await;
            let init = socket.frame().await;
            let (mut accept, _) = world.accept_parts(&init);
            accept.signature[0] ^= 1;
            socket.send(&Frame::HandshakeAccept { session, payload: (&accept).into() }).await;
            socket.end().await;
            let reason = closed(&client).await;
            assert_eq!((pins.written(), pins.pinned()), (vec![], pin));
            assert!(matches!(reason, CloseReason::Fatal(Cause::HandshakeFailed(_))), "{reason}");
        }
    }

    async fn tru_03_store_that_fails_to_write_fails_the_connection(quirks) breaks_with [IgnoresFailingStore] {
        let (mut world, env) = World::new(1);
        let pins = Pins::failing();
        let client = auto(&env, quirks, &pins);
        let cause = refused(&mut world, &client).await;
        assert_eq!(cause, Cause::IdentityStore("the disk is full".to_owned()));
        assert_eq!(pins.written().len(), 1);
    }

    async fn tru_04_no_answer_about_the_first_identity_is_handshake_failed(quirks) breaks_with [AsksAgain] {
        let (mut world, env) = World::new(1);
        let (pins, user) = (Pins::default(), User::who_is_away());
        let client = prompt(&env, quirks, &pins, &user);
        let since = Timeline::start();
        is_handshake_failed(&refused(&mut world, &client).await);
        assert!(since.elapsed() >= Duration::from_secs(30) + LONG, "not before the handshake's time is over");
        assert_eq!((user.asked().len(), pins.written()), (1, vec![]));
    }

    async fn tru_04_no_answer_about_a_changed_identity_is_identity_key_changed(quirks) breaks_with [AsksAgain] {
        let (mut world, env) = World::new(1);
        let (pins, user) = (Pins::with(old()), User::who_is_away());
        let client = prompt(&env, quirks, &pins, &user);
        is_identity_changed(&refused(&mut world, &client).await, &world);
        assert_eq!((user.asked().len(), pins.pinned()), (1, Some(old())));
    }

    async fn tru_05_prompt_reports_both_fingerprints(quirks) breaks_with [ForgetsExpectedIdentity] {
        let (mut world, env) = World::new(1);
        let (pins, user) = (Pins::with(old()), User::who_says(false));
        let client = prompt(&env, quirks, &pins, &user);
        is_identity_changed(&refused(&mut world, &client).await, &world);
        let shown = world.daemon.identity.public();
        assert_eq!(user.asked(), [Asked::Mismatch(old().fingerprint(), shown.fingerprint())]);
    }

    // ---- files ----

    async fn tru_06_file_store_outlives_the_process(_quirks) breaks_with [] {
        let folder = Folder::new("tru-06-outlives");
        FileStore::open(folder.file()).unwrap().store(DAEMON, old()).await.unwrap();
        assert_eq!(FileStore::open(folder.file()).unwrap().load(DAEMON).await.unwrap(), Some(old()));
        #[cfg(unix)]
        assert_eq!(folder.mode(), 0o600);
    }

    async fn tru_06_damaged_file_is_an_error_that_names_it(_quirks) breaks_with [] {
        let folder = Folder::new("tru-06-damaged");
        FileStore::open(folder.file()).unwrap().store(DAEMON, old()).await.unwrap();
        let whole = std::fs::read_to_string(folder.file()).unwrap();
        for damaged in ["", "{}", &whole[..whole.len() / 2]] {
            std::fs::write(folder.file(), damaged).unwrap();
            let error = FileStore::open(folder.file()).unwrap_err().to_string();
            assert!(error.contains(&folder.file().display().to_string()), "{error}");
            assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), damaged, "it is left as it is");
        }
    }

    async fn tru_07_identity_key_is_made_once(_quirks) breaks_with [] {
        let folder = Folder::new("tru-07-once");
        let entropy = SeededEntropy::new(1, "identity");
        let first = load_or_create(folder.file(), &entropy).unwrap().public();
        assert_eq!(load_or_create(folder.file(), &entropy).unwrap().public(), first);
        #[cfg(unix)]
        assert_eq!(folder.mode(), 0o600);
    }

    async fn tru_07_damaged_or_short_key_file_is_refused(_quirks) breaks_with [] {
        let folder = Folder::new("tru-07-damaged");
        let entropy = SeededEntropy::new(1, "identity");
        load_or_create(folder.file(), &entropy).unwrap();
        let whole = std::fs::read_to_string(folder.file()).unwrap();
        for damaged in ["", &whole[..62], &whole.replace(|c: char| c.is_ascii_digit(), "x")] {
            std::fs::write(folder.file(), damaged).unwrap();
            let error = load_or_create(folder.file(), &entropy).unwrap_err().to_string();
            assert!(error.contains(&folder.file().display().to_string()), "{error}");
            assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), damaged, "it is left as it is");
        }
    }
}

/// A folder of one witness's own, removed at its end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sideband-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.join("kept")
    }

    #[cfg(unix)]
    fn mode(&self) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(self.file()).unwrap().permissions().mode() & 0o777
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
