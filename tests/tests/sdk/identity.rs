//! Files of identities that several use at once.
#![expect(clippy::disallowed_methods, reason = "real files and threads, and no simulation")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Barrier, Mutex, mpsc},
    thread,
    time::Duration,
};

use sideband::{
    Error, State,
    identity::{FileStore, IdentityStore, load_or_create},
};
use sideband_env::{EntropySource, SeededEntropy, real::OsEntropy};
use sideband_protocol::crypto::Identity;
use sideband_tests::script::{DAEMON, World};

use crate::support::account;

/// Nothing here takes that long unless it hangs.
const HANG: Duration = Duration::from_secs(20);

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sideband-sdk-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs on a runtime of one thread, which is dropped at the end as well; fails if that hangs.
fn on_one_thread<T: Send + 'static>(run: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(run());
        drop(runtime);
        done.send(result)
    });
    result.recv_timeout(HANG).expect("it hangs, or has panicked")
}

/// As another process would hold it: the lock belongs to the open file, not to the process.
fn locked(folder: &Folder) -> fs::File {
    let lock = fs::File::create(folder.0.join("pins.json.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

/// TRU-06, CLI-14: while another process holds the lock, the only thread goes on with everything else, and closing is prompt.
#[test]
fn cli_14_a_lock_that_another_process_holds_keeps_nobody_from_closing() {
    let folder = Folder::new("held");
    let _held = locked(&folder);
    let path = folder.0.join("pins.json");
    let reason = on_one_thread(async move || {
        let (mut world, env) = World::new(1);
        let client = account(&env).identity_store(FileStore::open(&path).unwrap()).connect().unwrap();
        let mut link = world.client_keys().await;
        // The daemon is trusted once it is pinned, and nothing is sent before.
        let others = tokio::spawn(async {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        others.await.unwrap();
        assert_eq!(*client.state().borrow(), State::Negotiating);
        assert!(
            tokio::time::timeout(Duration::ZERO, link.socket.got()).await.is_err(),
            "sealed for a daemon not pinned"
        );
        let waiting = client.clone();
        let ready = tokio::spawn(async move { waiting.when_ready().await });
        let (closed, ended) = tokio::join!(client.close(), link.socket.end());
        let () = closed;
        assert_eq!(ended.0, [], "nothing is sealed for a daemon that is not pinned");
        ready.await.unwrap().unwrap_err()
    });
    assert!(matches!(reason, Error::Closed(_)), "{reason:?}");
    assert_eq!(folder.files(), ["pins.json.lock"], "what was given up is not pinned");
}

/// TRU-03, TRU-06: who waits for the lock pins when it is free, and only then is the session there.
#[test]
fn tru_06_who_waits_for_the_lock_pins_when_it_is_free() {
    let folder = Folder::new("freed");
    let held = locked(&folder);
    let path = folder.0.join("pins.json");
    let pinned = on_one_thread(async move || {
        let (mut world, env) = World::new(2);
        let client = account(&env).identity_store(FileStore::open(&path).unwrap()).connect().unwrap();
        let mut link = world.client_keys().await;
        assert!(tokio::time::timeout(Duration::from_millis(100), link.socket.got()).await.is_err(), "not yet trusted");
        assert_eq!(FileStore::open(&path).unwrap().load(DAEMON).await.unwrap(), None);
        drop(held);
        link.introduce().await;
        client.when_ready().await.unwrap();
        client.close().await;
        FileStore::open(&path).unwrap().load(DAEMON).await.unwrap() == Some(world.daemon.identity.public())
    });
    assert!(pinned);
}

/// TRU-07: whoever starts together has one identity, whole and private from its first moment on.
#[test]
fn tru_07_many_who_make_an_identity_at_once_get_the_same() {
    const MAKERS: usize = 24;
    for round in 0..10 {
        let folder = Folder::new(&format!("race-{round}"));
        let path = folder.0.join("made/identity.key");
        let (together, found) = (Arc::new(Barrier::new(MAKERS)), Arc::new(Mutex::new(Vec::new())));
        let makers = (0..MAKERS).map(|_| {
            let (together, found, path) = (together.clone(), found.clone(), path.clone());
            thread::spawn(move || {
                together.wait();
                let identity = load_or_create(&path, &OsEntropy).unwrap();
                found.lock().unwrap().push(identity.public());
            })
        });
        for maker in makers.collect::<Vec<_>>() {
            maker.join().unwrap();
        }
        let kept = load_or_create(&path, &OsEntropy).unwrap().public();
        assert_eq!(*found.lock().unwrap(), [kept; MAKERS]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap().len(), 65, "64 hex digits and a line break");
        assert_eq!(fs::read_dir(folder.0.join("made")).unwrap().count(), 1, "nothing is left beside it");
    }
}

/// Makes the file the moment somebody else draws the bytes of a new identity: after they saw none, before they write theirs.
struct Overtaken(PathBuf, Identity);

impl EntropySource for Overtaken {
    fn entropy(&self) -> Box<dyn sideband_protocol::Entropy> {
        let text = data_encoding::HEXLOWER.encode(&*self.1.to_seed());
        fs::write(&self.0, text).unwrap();
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o600)).unwrap();
        SeededEntropy::new(3, "overtaken").entropy()
    }
}

/// TRU-07: the process that comes second takes the first one's identity.
#[test]
fn tru_07_who_is_overtaken_loads_what_the_other_made() {
    let folder = Folder::new("overtaken");
    let path = folder.0.join("identity.key");
    let first = Identity::from_seed(&[9; 32]);
    let found = load_or_create(&path, &Overtaken(path.clone(), first.clone())).unwrap();
    assert_eq!(found.public(), first.public());
    assert_eq!(folder.files(), ["identity.key"]);
}
