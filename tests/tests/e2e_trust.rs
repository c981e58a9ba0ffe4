//! Trust over the whole way: policies, pins and what a refusal looks like to the user.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sideband::{
    Account, Cause, CloseReason, Daemon, Error, ErrorKind, Identity, Server,
    identity::{FileStore, IdentityStore, MemoryStore, load_or_create},
};
use sideband_env::{Env, SeededEntropy, real::Roots};
use sideband_scenarios::cloud::{Cloud, CloudOptions};

async fn cloud() -> Cloud {
    let env = Env::real(&Roots::System).unwrap();
    Cloud::start(env, SocketAddr::from(([127, 0, 0, 1], 0)), CloudOptions::default()).await.unwrap()
}

async fn daemon(cloud: &Cloud, identity: &Identity) -> Server {
    Daemon::new(cloud.api_url(), &cloud.relay_url(), cloud.bootstrap().api_key.expose())
        .unwrap()
        .identity(identity.clone())
        .listen()
        .await
        .unwrap()
}

fn account(cloud: &Cloud) -> Account {
    let credentials = cloud.bootstrap();
    Account::with_token(cloud.api_url(), &credentials.daemon_id, credentials.access_token.expose()).unwrap()
}

/// A store that a test can look into while a client uses it.
#[derive(Clone, Default)]
struct Shared(Arc<MemoryStore>);

impl IdentityStore for Shared {
    fn load<'a>(
        &'a self,
        daemon_id: &'a str,
    ) -> sideband_env::BoxFuture<'a, Result<Option<sideband::IdentityKey>, sideband::identity::StoreError>> {
        self.0.load(daemon_id)
    }
    fn store<'a>(
        &'a self,
        daemon_id: &'a str,
        key: sideband::IdentityKey,
    ) -> sideband_env::BoxFuture<'a, Result<(), sideband::identity::StoreError>> {
        self.0.store(daemon_id, key)
    }
}

fn identities() -> (Identity, Identity) {
    (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]))
}

#[tokio::test]
async fn auto_pins_the_first_identity_and_every_later_one() {
    let (cloud, store, (one, two)) = (cloud().await, Shared::default(), identities());
    for identity in [&one, &two] {
        let server = daemon(&cloud, identity).await;
        let client = account(&cloud).identity_store(store.clone()).connect().unwrap();
        client.when_ready().await.unwrap();
        assert_eq!(store.load(&server.daemon_id()).await.unwrap(), Some(identity.public()));
        client.close().await;
        server.close().await;
    }
}

#[tokio::test]
async fn tru_05_pinned_only_reports_both_fingerprints() {
    let (cloud, store, (one, two)) = (cloud().await, Shared::default(), identities());
    let server = daemon(&cloud, &two).await;
    let unknown = account(&cloud).identity_store(store.clone()).pinned_only().connect().unwrap();
    let error = unknown.when_ready().await.unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::HandshakeFailed(_))), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Trust);
    assert_eq!(store.load(&server.daemon_id()).await.unwrap(), None, "nothing is pinned");

    store.store(&server.daemon_id(), one.public()).await.unwrap();
    let changed = account(&cloud).identity_store(store.clone()).pinned_only().connect().unwrap();
    let error = changed.when_ready().await.unwrap_err();
    let (expected, received) = (one.public().fingerprint(), two.public().fingerprint());
    let Error::Closed(CloseReason::Fatal(Cause::IdentityChanged { expected: e, received: r })) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*e, *r), (expected, received));
    assert_eq!(store.load(&server.daemon_id()).await.unwrap(), Some(one.public()), "the pin is as it was");
}

#[tokio::test]
async fn tru_02_prompt_asks_once_at_first_and_once_on_a_change() {
    let (cloud, store, (one, two)) = (cloud().await, Shared::default(), identities());
    let (first, changed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let connect = |yes: bool| {
        let (first, changed) = (first.clone(), changed.clone());
        account(&cloud)
            .identity_store(store.clone())
            .prompt(
                move |_| {
                    first.fetch_add(1, Ordering::SeqCst);
                    async move { yes }
                },
                move |_, _| {
                    changed.fetch_add(1, Ordering::SeqCst);
                    async move { yes }
                },
            )
            .connect()
            .unwrap()
    };
    let asked = || (first.load(Ordering::SeqCst), changed.load(Ordering::SeqCst));
    let server = daemon(&cloud, &one).await;
    let refused = connect(false).when_ready().await.unwrap_err();
    assert!(matches!(refused.cause(), Some(Cause::HandshakeFailed(_))), "{refused:?}");
    assert_eq!((asked(), store.load(&server.daemon_id()).await.unwrap()), ((1, 0), None));
    connect(true).when_ready().await.unwrap();
    connect(false).when_ready().await.unwrap();
    assert_eq!(asked(), (2, 0), "a pinned identity asks nobody");
    server.close().await;

    let server = daemon(&cloud, &two).await;
    let refused = connect(false).when_ready().await.unwrap_err();
    assert!(matches!(refused.cause(), Some(Cause::IdentityChanged { .. })), "{refused:?}");
    assert_eq!(store.load(&server.daemon_id()).await.unwrap(), Some(one.public()));
    connect(true).when_ready().await.unwrap();
    assert_eq!((asked(), store.load(&server.daemon_id()).await.unwrap()), ((2, 2), Some(two.public())));
}

/// A folder of this test's own, removed at its end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sideband-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
#[tokio::test]
async fn tru_06_file_store_survives_and_refuses_a_damaged_file() {
    let folder = Folder::new("pins");
    let path = folder.0.join("pins.json");
    let (one, two) = identities();
    FileStore::open(&path).unwrap().store("d_1", one.public()).await.unwrap();
    FileStore::open(&path).unwrap().store("d_2", two.public()).await.unwrap();
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.load("d_1").await.unwrap(), Some(one.public()));
    assert_eq!(store.load("d_2").await.unwrap(), Some(two.public()));
    assert_eq!(store.load("d_3").await.unwrap(), None);
    assert_eq!(mode(&path), 0o600);
    let mut files: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["pins.json", "pins.json.lock"], "no half-written file is left beside it");

    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in [&text[..text.len() / 2], "", "{}", "[]", &text.replace("\"version\": 1", "\"version\": 9")] {
        std::fs::write(&path, damaged).unwrap();
        let error = FileStore::open(&path).unwrap_err().to_string();
        assert!(error.contains("pins.json"), "it names the file: {error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged, "the file is untouched");
    }
}

#[cfg(unix)]
/// Programs that share a file: each sees what another has pinned, and none forgets it.
#[tokio::test(flavor = "multi_thread")]
async fn tru_06_stores_of_one_file_keep_each_others_pins() {
    let folder = Folder::new("shared");
    let path = folder.0.join("pins.json");
    let (one, two) = identities();
    let stores: Vec<_> = (0..8).map(|_| FileStore::open(&path).unwrap()).collect();
    let writers = stores.into_iter().enumerate().map(|(n, store)| {
        let (one, two) = (one.public(), two.public());
        tokio::spawn(async move {
            for round in 0..20 {
                store.store(&format!("d_{n}_{round}"), one).await.unwrap();
                store.store("d_all", two).await.unwrap();
            }
            store
        })
    });
    let mut stores = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        stores.push(writer.await.unwrap());
    }
    for (n, round) in (0..8).flat_map(|n| (0..20).map(move |round| (n, round))) {
        assert_eq!(stores[0].load(&format!("d_{n}_{round}")).await.unwrap(), Some(one.public()), "{n} {round}");
    }
    assert_eq!(stores[7].load("d_all").await.unwrap(), Some(two.public()));
    std::fs::write(&path, "{").unwrap();
    let error = stores[0].load("d_all").await.unwrap_err().to_string();
    assert!(error.contains("pins.json") && error.contains("damaged"), "{error}");
    assert!(stores[0].store("d_all", one.public()).await.is_err(), "a damaged file is not written over");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{");
}

#[test]
fn tru_07_identity_file_is_made_once_and_refused_when_damaged_or_open_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("identity");
    let path = folder.0.join("new/identity.key");
    let (one, two) = (SeededEntropy::new(1, "identity"), SeededEntropy::new(2, "identity"));
    let made = load_or_create(&path, &one).unwrap();
    assert_eq!(mode(&path), 0o600);
    let loaded = load_or_create(&path, &two).unwrap();
    assert_eq!(made.public(), loaded.public(), "the second time it is loaded, not made");
    assert_eq!(std::fs::read_dir(folder.0.join("new")).unwrap().count(), 1);
    assert_eq!(mode(&folder.0.join("new")), 0o700, "the folder is made for this user alone");

    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in [&text[..20], "", "not a key at all", &text.repeat(2)] {
        std::fs::write(&path, damaged).unwrap();
        let error = load_or_create(&path, &one).unwrap_err().to_string();
        assert!(error.contains("identity.key"), "it names the file: {error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged, "the file is untouched");
    }
    std::fs::write(&path, &text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = load_or_create(&path, &one).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "it says what to do: {error}");
}
