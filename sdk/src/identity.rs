//! Identities: where a client keeps its pins (TRU-03, TRU-06), where a daemon keeps its key (TRU-07).

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Mutex,
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
/// another has pinned.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    /// One at a time in this process; between processes the lock file decides.
    writing: Mutex<()>,
}

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
        let store = Self { path: path.into(), writing: Mutex::new(()) };
        read_pins(&store.path).map_err(|reason| argument("the pin file", store.named(reason)))?;
        Ok(store)
    }

    fn named(&self, reason: impl std::fmt::Display) -> String {
        format!("{}: {reason}", self.path.display())
    }

    fn pin(&self, daemon_id: &str, key: IdentityKey) -> Result<(), String> {
        let _one_at_a_time = lock(&self.writing);
        make_folder(&self.path).map_err(|error| error.to_string())?;
        let lock_path = beside(&self.path, "lock");
        let lock_file = private(fs::OpenOptions::new().write(true).create(true).truncate(false))
            .open(&lock_path)
            .map_err(|error| format!("{}: {error}", lock_path.display()))?;
        // Released when the file is closed, whatever happens. Held for one small write only.
        lock_file.lock().map_err(|error| format!("{}: {error}", lock_path.display()))?;
        let mut pins = read_pins(&self.path)?;
        pins.insert(daemon_id.to_owned(), key);
        let pins = pins.iter().map(|(daemon, key)| (daemon.clone(), key.to_base64url())).collect();
        let text = serde_json::to_vec_pretty(&PinFile { version: 1, pins }).map_err(|error| error.to_string())?;
        replace(&self.path, &text).map_err(|error| error.to_string())
    }
}

impl IdentityStore for FileStore {
    // Small local files, read and written in place: this also works where no thread pool may be used.
    fn load<'a>(&'a self, daemon_id: &'a str) -> BoxFuture<'a, Result<Option<IdentityKey>, StoreError>> {
        let pins = read_pins(&self.path).map_err(|reason| self.named(reason));
        Box::pin(async move { Ok(pins?.get(daemon_id).copied()) })
    }

    fn store<'a>(&'a self, daemon_id: &'a str, key: IdentityKey) -> BoxFuture<'a, Result<(), StoreError>> {
        let pinned = self.pin(daemon_id, key).map_err(|reason| self.named(reason));
        Box::pin(async move { Ok(pinned?) })
    }
}

/// Loads a daemon's identity key, or makes one and keeps it (TRU-07). The file has mode 0600 and holds the 32-byte seed in hex.
///
/// # Errors
/// The file cannot be read or written, others may read it, or it is damaged or short: it is named and left as it is.
pub fn load_or_create(path: impl AsRef<Path>, source: &dyn EntropySource) -> Result<Identity, Error> {
    let path = path.as_ref();
    let wrong = |reason: String| argument("the identity file", format!("{}: {reason}", path.display()));
    match fs::read(path) {
        Ok(text) => {
            check_private(path).map_err(wrong)?;
            let text = zeroize::Zeroizing::new(text);
            let hex = text.trim_ascii();
            let seed = zeroize::Zeroizing::new(data_encoding::HEXLOWER_PERMISSIVE.decode(hex).map_err(|_| {
                wrong("it is not 64 hex digits; restore it or remove it to get a new identity".to_owned())
            })?);
            let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| {
                wrong(format!(
                    "it holds {} bytes instead of 32; restore it or remove it to get a new identity",
                    seed.len()
                ))
            })?;
            Ok(Identity::from_seed(seed))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed = zeroize::Zeroizing::new(entropy::bytes::<32>(&mut *source.entropy()));
            let text = zeroize::Zeroizing::new(format!("{}\n", data_encoding::HEXLOWER.encode(&*seed)));
            make_folder(path).and_then(|()| create(path, text.as_bytes())).map_err(|e| wrong(e.to_string()))?;
            Ok(Identity::from_seed(&seed))
        }
        Err(error) => Err(wrong(error.to_string())),
    }
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

fn write_beside(path: &Path, text: &[u8]) -> io::Result<PathBuf> {
    let beside = beside(path, &format!("{}.tmp", std::process::id()));
    // A leftover of a process that died with our number.
    let _ = fs::remove_file(&beside);
    let mut file = private(fs::OpenOptions::new().write(true).create_new(true)).open(&beside)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(&beside)))?;
    Ok(beside)
}

/// Replaces a file atomically, with mode 0600, and leaves nothing behind when it fails.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = write_beside(path, text)?;
    fs::rename(&beside, path).inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Makes a file atomically, with mode 0600; fails if another process made it first.
fn create(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = write_beside(path, text)?;
    let linked = fs::hard_link(&beside, path);
    let _ = fs::remove_file(&beside);
    linked
}
