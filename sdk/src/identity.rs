//! Identities: where a client keeps its pins (TRU-03, TRU-06), where a daemon keeps its key (TRU-07).

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sideband_env::EntropySource;
use sideband_protocol::{
    crypto::{Identity, IdentityKey},
    entropy,
};

use crate::{Error, error::argument, hub::lock};
use sideband_env::BoxFuture;

/// What a store failed with; its text reaches the user.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps one pinned identity per daemon id. Implement it to keep pins elsewhere.
///
/// Its futures run in the client's task and must not block it. They are dropped, at any await, when the client closes or the
/// handshake's time is over (CRY-11).
pub trait IdentityStore: Send + Sync {
    /// The pinned identity of a daemon.
    fn load<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>>;
    /// Pins an identity, in place of another if there is one. A failure fails the connection (TRU-03).
    fn store<'a>(&'a self, daemon_id: &'a str, key: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Pins that live as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, IdentityKey>>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl IdentityStore for MemoryStore {
    fn load<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        let pin = lock(&self.0).get(daemon_id).copied();
        Box::pin(async move { Ok(pin) })
    }

    fn store<'a>(&'a self, daemon_id: &'a str, key: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        lock(&self.0).insert(daemon_id.to_owned(), key);
        Box::pin(async { Ok(()) })
    }
}

/// Pins in a JSON file of mode 0600, replaced atomically (TRU-06). A damaged file is an error that names it, never an empty store.
///
/// The file is read anew each time and locked while it is replaced, so that several processes can share it: none forgets what
/// another has pinned. It is read and written on tokio's threads for blocking work, and nothing waits there for the lock: a pin waits as
/// long as another process holds it, and is given up with its attempt, which ends with the handshake's time (CRY-11). A pin that is given
/// up while it is written may be there afterwards.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    /// In turn in this process; between processes the lock file decides.
    writing: tokio::sync::Mutex<()>,
}

/// How often a lock that another holds is tried: nobody who waits in the operating system can be told to give up.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PinFile {
    version: u32,
    pins: BTreeMap<String, String>,
}

type Pins = BTreeMap<String, IdentityKey>;

/// A file that is not there holds no pins.
fn read_pins(path: &Path) -> Result<Pins, String> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pins::new()),
        Err(error) => return Err(error.to_string()),
    };
    let file: PinFile = serde_json::from_slice(&text)
        .map_err(|error| format!("damaged: {error}; restore it, or remove it to trust anew"))?;
    if file.version != 1 {
        return Err(format!("version {} is not known; it is of a newer release", file.version));
    }
    let read = |(daemon, key): (String, String)| match IdentityKey::from_base64url(&key) {
        Some(key) => Ok((daemon, key)),
        None => Err(format!("damaged: the key of {daemon} is not 32 bytes in base64url")),
    };
    file.pins.into_iter().map(read).collect()
}

impl FileStore {
    /// Opens a store; a file that is not there is an empty one, and is made when the first pin is written.
    ///
    /// # Errors
    /// The file cannot be read or is damaged. It is left as it is.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let store = Self { path: path.into(), writing: tokio::sync::Mutex::new(()) };
        read_pins(&store.path).map_err(|reason| argument("the pin file", store.named(reason)))?;
        Ok(store)
    }

    fn named(&self, reason: impl std::fmt::Display) -> String {
        format!("{}: {reason}", self.path.display())
    }

    async fn pin(&self, daemon_id: &str, key: IdentityKey) -> Result<(), String> {
        let _in_turn = self.writing.lock().await;
        loop {
            let (path, daemon_id) = (self.path.clone(), daemon_id.to_owned());
            if aside(move || try_pin(&path, daemon_id, key)).await? {
                return Ok(());
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }
}

/// Does what blocks on a thread for that.
#[expect(
    clippy::disallowed_methods,
    reason = "files alone; where several at once would matter, pins are kept in memory"
)]
async fn aside<T: Send + 'static>(act: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Pins an identity, unless another holds the lock: then nothing is done, and the answer is false.
fn try_pin(path: &Path, daemon_id: String, key: IdentityKey) -> Result<bool, String> {
    make_folder(path).map_err(|error| error.to_string())?;
    let lock_path = beside(path, "lock");
    let named = |error: io::Error| format!("{}: {error}", lock_path.display());
    let lock_file =
        private(fs::OpenOptions::new().write(true).create(true).truncate(false)).open(&lock_path).map_err(named)?;
    // Released when the file is closed, whatever happens. Held for one small write only.
    match lock_file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(false),
        Err(fs::TryLockError::Error(error)) => return Err(named(error)),
    }
    let mut pins = read_pins(path)?;
    pins.insert(daemon_id, key);
    let pins = pins.iter().map(|(daemon, key)| (daemon.clone(), key.to_base64url())).collect();
    let text = serde_json::to_vec_pretty(&PinFile { version: 1, pins }).map_err(|error| error.to_string())?;
    replace(path, &text).map_err(|error| error.to_string())?;
    Ok(true)
}

impl IdentityStore for FileStore {
    fn load<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        Box::pin(async move {
            let path = self.path.clone();
            let pins = aside(move || read_pins(&path)).await.map_err(|reason| self.named(reason))?;
            Ok(pins.get(daemon_id).copied())
        })
    }

    fn store<'a>(&'a self, daemon_id: &'a str, key: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.pin(daemon_id, key).await.map_err(|reason| self.named(reason))?) })
    }
}

/// Loads a daemon's identity key, or makes one and keeps it (TRU-07). The file has mode 0600 and holds the 32-byte seed in hex. If
/// another process makes the file at the same time, its key is loaded: all who start together have one identity.
///
/// Blocks while the file is read or written; for the start of a program.
///
/// # Errors
/// The file cannot be read or written, others may read it, or it is damaged or short: it is named and left as it is.
pub fn load_or_create(path: impl AsRef<Path>, source: &dyn EntropySource) -> Result<Identity, Error> {
    let path = path.as_ref();
    let wrong = |reason: String| argument("the identity file", format!("{}: {reason}", path.display()));
    if let Some(identity) = load_identity(path).map_err(wrong)? {
        return Ok(identity);
    }
    let mut entropy = source.entropy();
    let seed = zeroize::Zeroizing::new(entropy::bytes::<32>(&mut *entropy));
    let text = zeroize::Zeroizing::new(format!("{}\n", data_encoding::HEXLOWER.encode(&*seed)));
    let unique = data_encoding::HEXLOWER.encode(&entropy::bytes::<8>(&mut *entropy));
    match make_folder(path).and_then(|()| create(path, &unique, text.as_bytes())) {
        Ok(()) => Ok(Identity::from_seed(&seed)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let theirs = load_identity(path).map_err(wrong)?;
            theirs.ok_or_else(|| wrong("another process makes and removes it".to_owned()))
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// `None` if there is no file.
fn load_identity(path: &Path) -> Result<Option<Identity>, String> {
    let text = match fs::read(path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    check_private(path)?;
    let seed = data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.trim_ascii())
        .map_err(|_| "it is not 64 hex digits; restore it or remove it to get a new identity")?;
    let seed = zeroize::Zeroizing::new(seed);
    let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| {
        format!("it holds {} bytes instead of 32; restore it or remove it to get a new identity", seed.len())
    })?;
    Ok(Some(Identity::from_seed(seed)))
}

#[cfg(unix)]
fn check_private(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).map_err(|e| e.to_string())?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("others may read it (mode {mode:04o}); run `chmod 600` on it"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &Path) -> Result<(), String> {
    Ok(())
}

fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// Makes the folder of a file, for this user alone, if it is not there.
fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn write_beside(beside: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = private(fs::OpenOptions::new().write(true).create_new(true)).open(beside)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(beside)))
}

/// Replaces a file atomically, with mode 0600, and leaves nothing behind when it fails. The caller holds the file's lock.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = beside(path, "tmp");
    // A leftover of a process that died.
    let _ = fs::remove_file(&beside);
    write_beside(&beside, text)?;
    fs::rename(&beside, path).inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Makes a file atomically, with mode 0600; fails if another made it first. Many may try at once, in this process, in others, and in
/// containers whose processes have the same numbers: each writes a file of its own first.
fn create(path: &Path, unique: &str, text: &[u8]) -> io::Result<()> {
    static CREATED: AtomicU64 = AtomicU64::new(0);
    let number = CREATED.fetch_add(1, Ordering::Relaxed);
    let beside = beside(path, &format!("{}-{number}-{unique}.tmp", std::process::id()));
    write_beside(&beside, text)?;
    let linked = fs::hard_link(&beside, path);
    let _ = fs::remove_file(&beside);
    linked
}
