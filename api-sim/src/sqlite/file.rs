//! The state file: made for its owner alone, locked, recognised, checked, brought to this version; and left as it is whenever
//! something is wrong.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig, ffi};
use sideband_protocol::Entropy;

use super::{OpenError, start};
use crate::RootSecret;

/// What each version of the schema adds to the one before, from version 1 on. A file of version `n` has the tables of the first
/// `n`, letter by letter: what stands here never changes.
const STEPS: [&str; 2] = [include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// The version of the schema.
pub(super) const VERSION: u32 = STEPS.len() as u32;

/// Stands in the file's header: `SBsm`.
const APPLICATION: u32 = 0x5342_736d;

/// How every SQLite file begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What a header says: the version of the schema and the application, at fixed places of the file format.
const VERSION_AT: usize = 60;
const APPLICATION_AT: usize = 68;

/// Statements kept prepared: some more than there are.
const STATEMENTS: usize = 64;

/// The lock on the state file. The file stays open as long as the database is: closing it earlier would, by the rules of
/// POSIX, also give up the locks that SQLite holds on the same file.
#[derive(Debug)]
pub(super) struct Locked {
    _file: File,
}

/// What stands in the file before SQLite has seen it.
enum Content {
    Nothing,
    State,
}

pub(super) fn open(path: &Path, source: &mut dyn Entropy) -> Result<(Locked, Connection, RootSecret), OpenError> {
    let io = |error: io::Error| OpenError::Io { path: path.to_owned(), reason: error.to_string() };
    let real = real_path(path).map_err(io)?;
    let mut file = open_private(&real, path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    let content = recognise(&mut file, path)?;
    let mut log = real.clone().into_os_string();
    log.push("-wal");
    let had_log = fs::symlink_metadata(&log).is_ok();
    let database = Database { path, content };
    let (connection, root) = database.open(&real, source).inspect_err(|_| {
        // Opened for a look only, SQLite leaves an empty log behind. One that cannot be removed does no harm.
        if !had_log && fs::metadata(&log).is_ok_and(|log| log.len() == 0) {
            let _ = fs::remove_file(&log);
        }
    })?;
    Ok((Locked { _file: file }, connection, root))
}

/// The path with links in its folders followed; SQLite is told to follow none.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(fs::canonicalize(folder)?.join(name))
}

/// The file, new with mode 0600, or there already, plain and private.
fn open_private(real: &Path, path: &Path) -> Result<File, OpenError> {
    let io = |error: io::Error| OpenError::Io { path: path.to_owned(), reason: error.to_string() };
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // `create_new` follows no link and opens nothing that is there.
    match private(options.clone().create_new(true)).open(real) {
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io(error)),
    }
    let named = fs::symlink_metadata(real).map_err(io)?;
    let not_plain = |what| OpenError::NotPlain { path: path.to_owned(), what };
    if named.is_symlink() {
        return Err(not_plain("a symbolic link"));
    }
    if named.is_dir() {
        return Err(not_plain("a folder"));
    }
    if !named.is_file() {
        return Err(not_plain("no file"));
    }
    check_private(&named, path)?;
    let file = options.open(real).map_err(io)?;
    if !is_same(&named, &file.metadata().map_err(io)?) {
        return Err(not_plain("being replaced"));
    }
    Ok(file)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(unix)]
fn check_private(named: &fs::Metadata, path: &Path) -> Result<(), OpenError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&named.permissions()) & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(OpenError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_private(_: &fs::Metadata, _: &Path) -> Result<(), OpenError> {
    Ok(())
}

#[cfg(unix)]
fn is_same(named: &fs::Metadata, opened: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (named.dev(), named.ino()) == (opened.dev(), opened.ino())
}

#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, opened: &fs::Metadata) -> bool {
    opened.is_file()
}

/// Reads the header before SQLite does, which would touch the files of a foreign database merely by opening it.
fn recognise(file: &mut File, path: &Path) -> Result<Content, OpenError> {
    let io = |error: io::Error| OpenError::Io { path: path.to_owned(), reason: error.to_string() };
    let mut header = Vec::new();
    file.take(100).read_to_end(&mut header).map_err(io)?;
    if header.is_empty() {
        return Ok(Content::Nothing);
    }
    let number = |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    if !header.starts_with(MAGIC) || number(APPLICATION_AT) != Some(APPLICATION) {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    match number(VERSION_AT) {
        Some(1..=VERSION) => Ok(Content::State),
        Some(found) if found > VERSION => Err(OpenError::Newer { path: path.to_owned(), found }),
        Some(_) | None => {
            Err(OpenError::Damaged { path: path.to_owned(), reason: "its version is none that there was".to_owned() })
        }
    }
}

struct Database<'a> {
    /// As the user named it.
    path: &'a Path,
    content: Content,
}

impl Database<'_> {
    fn open(&self, real: &Path, source: &mut dyn Entropy) -> Result<(Connection, RootSecret), OpenError> {
        match self.opened(real, source) {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(found)) => Err(OpenError::Newer { path: self.path.to_owned(), found }),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// The inner error is the version of a newer file.
    fn opened(&self, real: &Path, source: &mut dyn Entropy) -> rusqlite::Result<Result<(Connection, RootSecret), u32>> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(real, flags)?;
        // Until all is known to be well, closing must not write either.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Nobody else may have it, so nobody is waited for; the index of the log needs no file of its own then.
        connection.busy_timeout(std::time::Duration::ZERO)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        match self.content {
            Content::Nothing => create(&mut connection, source)?,
            Content::State => {
                // The header may be older than the log beside it.
                let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
                if version > VERSION {
                    return Ok(Err(version));
                }
                check(&connection, version)?;
                root(&connection)?;
                upgrade(&mut connection, version)?;
            }
        }
        let root = root(&connection)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        start::open(&connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(Ok((connection, root)))
    }

    fn explain(&self, error: &rusqlite::Error) -> OpenError {
        let path = self.path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull,
            ) => OpenError::Io { path, reason: error.to_string() },
            _ => OpenError::Damaged { path, reason: error.to_string() },
        }
    }
}

/// The schema and a root secret, at once. A process that is killed before leaves nothing but an empty file.
fn create(connection: &mut Connection, source: &mut dyn Entropy) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    for step in STEPS {
        transaction.execute_batch(step)?;
    }
    let root = RootSecret::draw(source);
    transaction.execute("INSERT INTO setting (name, value) VALUES ('root', ?1)", [root.as_bytes()])?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Brings a sound file of an older version to this one, at once. A process that is killed before leaves the older one.
fn upgrade(connection: &mut Connection, from: u32) -> rusqlite::Result<()> {
    let steps = &STEPS[from as usize..];
    if steps.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// The whole file is sound, and its tables are those of its version.
fn check(connection: &Connection, version: u32) -> rusqlite::Result<()> {
    let damaged = |what: String| {
        let error = ffi::Error { code: ErrorCode::DatabaseCorrupt, extended_code: ffi::SQLITE_CORRUPT };
        rusqlite::Error::SqliteFailure(error, Some(what))
    };
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(damaged(said));
    }
    let tables = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let there: Vec<String> = super::rows(connection, tables, [], super::text)?;
    let wanted = Connection::open_in_memory()?;
    let steps = STEPS.get(..version as usize).filter(|steps| !steps.is_empty());
    for step in steps.ok_or_else(|| damaged("its version is none that there was".to_owned()))? {
        wanted.execute_batch(step)?;
    }
    if there != super::rows(&wanted, tables, [], super::text)? {
        return Err(damaged("its tables are not those of its version".to_owned()));
    }
    Ok(())
}

fn root(connection: &Connection) -> rusqlite::Result<RootSecret> {
    let secret = connection.query_row("SELECT value FROM setting WHERE name = 'root'", [], |row| row.get(0))?;
    Ok(RootSecret::from_bytes(secret))
}
