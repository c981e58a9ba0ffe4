//! A store in a SQLite file, for a control plane that survives its process.
//!
//! Write-ahead logging: a transaction that has answered is in the operating system's hands, so that the process may be killed
//! at any moment; only a machine that loses its power may forget the last ones, whole. The file is this process's alone while
//! it is open. What is in it: the folder `schema`, with a file for each version.

mod file;
mod row;
mod start;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, Params, Transaction, TransactionBehavior, params};
use sideband_protocol::{Entropy, SessionId};

use self::row::{daemon, key, limit_to_sql, seconds_to_sql, text, user};
use crate::{
    Access, Added, Code, CredentialId, Daemon, DaemonChange, Digest, Directory, FirstAccounts, RootSecret, Store,
    StoreError, StoredKey, User,
};

/// Why a state file cannot be used. It is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or its folder cannot be read or made.
    #[error("the state file {path} cannot be opened: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process has it, or this one has it already.
    #[error("the state file {path} is in use by another simulator; each needs a file of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is a link, or no file at all.
    #[error("the state file {path} is {what}; name a plain file")]
    NotPlain {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// Others than its owner may read or write it.
    #[error("the state file {path} holds secrets, and others may open it (mode {mode:04o}); run `chmod 600` on it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is something else.
    #[error("{path} is not a state file of this simulator; name another")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer release made it.
    #[error(
        "the state file {path} has version {found}, of a newer release; this one knows versions up to {}",
        file::VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It is damaged.
    #[error("the state file {path} is damaged: {reason}; restore it, or remove it to start anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Everything in a SQLite file.
pub struct SqliteStore {
    // Before the lock: what is dropped first is closed first.
    connection: Mutex<Connection>,
    _lock: file::Locked,
    root: RootSecret,
    /// The first accounts are there, and with them all that a reset returns to.
    begun: OnceLock<()>,
    first_plan: Mutex<Option<String>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqliteStore(…)")
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

impl SqliteStore {
    /// Opens a state file, for this process alone; one that is not there is made, with mode 0600 and a root secret drawn from
    /// `entropy`. Blocks for as long as the file is checked.
    ///
    /// # Errors
    /// Every [`OpenError`].
    pub fn open(path: impl AsRef<Path>, entropy: &mut dyn Entropy) -> Result<Self, OpenError> {
        let (lock, connection, root) = file::open(path.as_ref(), entropy)?;
        Ok(Self {
            connection: Mutex::new(connection),
            _lock: lock,
            root,
            begun: OnceLock::new(),
            first_plan: Mutex::default(),
        })
    }

    /// The secret that the built-in credentials derive from.
    pub fn root(&self) -> &RootSecret {
        &self.root
    }

    fn first_plan(&self) -> MutexGuard<'_, Option<String>> {
        self.first_plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs statements as one; what fails leaves nothing behind.
    fn whole<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Two inserts that must both happen, if their holder is there.
    fn both(
        &self,
        holder: impl FnOnce(&Connection) -> rusqlite::Result<bool>,
        first: impl FnOnce(&Connection) -> rusqlite::Result<Added>,
        second: impl FnOnce(&Connection) -> rusqlite::Result<Added>,
    ) -> Result<Added, StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !holder(&transaction)? {
            return Ok(Added::NoHolder);
        }
        // Dropping a transaction rolls it back.
        if first(&transaction)? != Added::Yes || second(&transaction)? != Added::Yes {
            return Ok(Added::Taken);
        }
        transaction.commit()?;
        Ok(Added::Yes)
    }

    /// Runs one statement that changes something; how many rows it did.
    fn change(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        Ok(execute(&self.connection(), sql, params)?)
    }

    /// The holder of a secret in a table of secrets, whose whole digest is compared in constant time (API-07).
    fn holder(&self, sql: &str, secret: Digest) -> Result<Option<String>, StoreError> {
        let connection = self.connection();
        let found = connection
            .prepare_cached(sql)?
            .query_row([number(secret)], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?)))
            .optional()?;
        Ok(found.filter(|(digest, _)| Digest::from_bytes(*digest) == secret).map(|(_, holder)| holder))
    }
}

fn execute(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
    connection.prepare_cached(sql)?.execute(params)
}

fn exists(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<bool> {
    connection.prepare_cached(sql)?.exists(params)
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, read)?.collect()
}

fn number(secret: Digest) -> i64 {
    secret.id().get().cast_signed()
}

fn has_user(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    exists(connection, "SELECT 1 FROM user WHERE id = ?1", [id])
}

fn find_daemon(connection: &Connection, id: &str) -> rusqlite::Result<Option<Daemon>> {
    connection.prepare_cached("SELECT * FROM daemon WHERE id = ?1")?.query_row([id], daemon).optional()
}

fn may_use(connection: &Connection, user: &str, daemon: &Daemon) -> rusqlite::Result<bool> {
    let granted = "SELECT 1 FROM daemon_grant WHERE user = ?1 AND daemon = ?2";
    Ok(daemon.owner == user || exists(connection, granted, [user, &daemon.id])?)
}

fn added(rows: usize) -> Added {
    if rows == 0 { Added::Taken } else { Added::Yes }
}

fn insert_user(connection: &Connection, user: &User) -> rusqlite::Result<Added> {
    let User { id, region } = user;
    execute(connection, "INSERT OR IGNORE INTO user (id, region) VALUES (?1, ?2)", params![id, region]).map(added)
}

fn insert_daemon(connection: &Connection, daemon: &Daemon) -> rusqlite::Result<Added> {
    let Daemon { id, owner, name, identity_public_key, resumable, region, concurrent_sessions } = daemon;
    let limit = limit_to_sql(*concurrent_sessions);
    let sql = "INSERT OR IGNORE INTO daemon
        (id, owner, name, identity_public_key, resumable, region, concurrent_sessions) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    execute(connection, sql, params![id, owner, name, identity_public_key, resumable, region, limit]).map(added)
}

fn insert_access_token(connection: &Connection, token: Digest, user: &str) -> rusqlite::Result<Added> {
    let sql = "INSERT OR IGNORE INTO access_token (id, digest, user) VALUES (?1, ?2, ?3)";
    execute(connection, sql, params![number(token), token.as_bytes(), user]).map(added)
}

fn insert_api_key(connection: &Connection, key: Digest, daemon: &str) -> rusqlite::Result<Added> {
    let sql = "INSERT OR IGNORE INTO api_key (id, digest, daemon) VALUES (?1, ?2, ?3)";
    execute(connection, sql, params![number(key), key.as_bytes(), daemon]).map(added)
}

fn install(connection: &Connection, first: &FirstAccounts) -> rusqlite::Result<()> {
    let FirstAccounts { user, access_token, daemon, api_key } = first;
    insert_user(connection, user)?;
    insert_access_token(connection, *access_token, &user.id)?;
    insert_daemon(connection, daemon)?;
    insert_api_key(connection, *api_key, &daemon.id).map(drop)
}

fn put_fault_plan(connection: &Connection, plan: Option<&str>) -> rusqlite::Result<()> {
    match plan {
        Some(plan) => {
            execute(connection, "INSERT OR REPLACE INTO setting (name, value) VALUES ('fault_plan', ?1)", [plan])
        }
        None => execute(connection, "DELETE FROM setting WHERE name = 'fault_plan'", []),
    }
    .map(drop)
}

impl Store for SqliteStore {
    fn install(&self, first: &FirstAccounts) -> Result<(), StoreError> {
        self.whole(|connection| {
            if execute(connection, "INSERT OR IGNORE INTO setting (name, value) VALUES ('installed', 1)", [])? == 1 {
                install(connection, first)?;
            }
            if self.begun.get().is_none() { start::accounts_are_complete(connection) } else { Ok(()) }
        })?;
        // Whoever installs again in one process does not begin anew.
        let _ = self.begun.set(());
        Ok(())
    }

    fn reset(&self) -> Result<(), StoreError> {
        self.whole(|connection| {
            start::restore(connection)?;
            put_fault_plan(connection, self.first_plan().as_deref())
        })
    }

    fn add_user(&self, user: &User, access_token: Digest) -> Result<Added, StoreError> {
        self.both(
            |_| Ok(true),
            |connection| insert_user(connection, user),
            |connection| insert_access_token(connection, access_token, &user.id),
        )
    }

    fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        let connection = self.connection();
        Ok(connection.prepare_cached("SELECT * FROM user WHERE id = ?1")?.query_row([id], user).optional()?)
    }

    fn set_user_region(&self, id: &str, region: Option<&str>) -> Result<bool, StoreError> {
        Ok(self.change("UPDATE user SET region = ?2 WHERE id = ?1", params![id, region])? == 1)
    }

    fn remove_user(&self, id: &str) -> Result<Option<Vec<String>>, StoreError> {
        self.whole(|connection| {
            let daemons = rows(connection, "SELECT id FROM daemon WHERE owner = ?1 ORDER BY id", [id], text)?;
            let removed = execute(connection, "DELETE FROM user WHERE id = ?1", [id])? == 1;
            Ok(removed.then_some(daemons))
        })
    }

    fn add_access_token(&self, token: Digest, user: &str) -> Result<Added, StoreError> {
        self.whole(|connection| {
            if !has_user(connection, user)? {
                return Ok(Added::NoHolder);
            }
            insert_access_token(connection, token, user)
        })
    }

    fn user_of_access_token(&self, token: Digest) -> Result<Option<String>, StoreError> {
        self.holder("SELECT digest, user FROM access_token WHERE id = ?1", token)
    }

    fn revoke_access_token(&self, token: CredentialId) -> Result<bool, StoreError> {
        Ok(self.change("DELETE FROM access_token WHERE id = ?1", [token.get().cast_signed()])? == 1)
    }

    fn add_daemon(&self, daemon: &Daemon, api_key: Digest) -> Result<Added, StoreError> {
        self.both(
            |connection| has_user(connection, &daemon.owner),
            |connection| insert_daemon(connection, daemon),
            |connection| insert_api_key(connection, api_key, &daemon.id),
        )
    }

    fn daemon(&self, id: &str) -> Result<Option<Daemon>, StoreError> {
        Ok(find_daemon(&self.connection(), id)?)
    }

    fn change_daemon(&self, id: &str, change: DaemonChange) -> Result<Option<Daemon>, StoreError> {
        self.whole(|connection| {
            let Some(mut daemon) = find_daemon(connection, id)? else { return Ok(None) };
            change.apply(&mut daemon);
            let sql = "UPDATE daemon SET region = ?2, concurrent_sessions = ?3 WHERE id = ?1";
            execute(connection, sql, params![id, daemon.region, limit_to_sql(daemon.concurrent_sessions)])?;
            Ok(Some(daemon))
        })
    }

    fn remove_daemon(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.change("DELETE FROM daemon WHERE id = ?1", [id])? == 1)
    }

    fn add_api_key(&self, key: Digest, daemon: &str) -> Result<Added, StoreError> {
        self.whole(|connection| match find_daemon(connection, daemon)? {
            None => Ok(Added::NoHolder),
            Some(_) => insert_api_key(connection, key, daemon),
        })
    }

    fn daemon_of_api_key(&self, key: Digest) -> Result<Option<Daemon>, StoreError> {
        match self.holder("SELECT digest, daemon FROM api_key WHERE id = ?1", key)? {
            Some(id) => self.daemon(&id),
            None => Ok(None),
        }
    }

    fn revoke_api_key(&self, key: CredentialId) -> Result<bool, StoreError> {
        Ok(self.change("DELETE FROM api_key WHERE id = ?1", [key.get().cast_signed()])? == 1)
    }

    fn add_grant(&self, user: &str, daemon: &str) -> Result<Added, StoreError> {
        self.whole(|connection| {
            let Some(daemon) = find_daemon(connection, daemon)? else { return Ok(Added::NoHolder) };
            if !has_user(connection, user)? {
                return Ok(Added::NoHolder);
            }
            if may_use(connection, user, &daemon)? {
                return Ok(Added::Taken);
            }
            execute(connection, "INSERT INTO daemon_grant (user, daemon) VALUES (?1, ?2)", [user, &daemon.id])?;
            Ok(Added::Yes)
        })
    }

    fn remove_grant(&self, user: &str, daemon: &str) -> Result<bool, StoreError> {
        Ok(self.change("DELETE FROM daemon_grant WHERE user = ?1 AND daemon = ?2", [user, daemon])? == 1)
    }

    fn access(&self, user: &str, daemon: &str) -> Result<Option<Access>, StoreError> {
        // One lock over both, so that they see the same.
        let connection = self.connection();
        let Some(daemon) = find_daemon(&connection, daemon)? else { return Ok(None) };
        Ok(Some(Access { allowed: may_use(&connection, user, &daemon)?, daemon }))
    }

    fn accessible(&self, user: &str) -> Result<Vec<Daemon>, StoreError> {
        let sql = "SELECT * FROM daemon WHERE owner = ?1
            OR id IN (SELECT daemon FROM daemon_grant WHERE user = ?1) ORDER BY id";
        Ok(rows(&self.connection(), sql, [user], daemon)?)
    }

    fn directory(&self) -> Result<Directory, StoreError> {
        let connection = self.connection();
        let secrets = |sql| -> rusqlite::Result<Vec<(CredentialId, String)>> {
            let read = |row: &rusqlite::Row<'_>| {
                Ok((CredentialId::from_number(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?))
            };
            let mut found = rows(&connection, sql, [], read)?;
            found.sort();
            Ok(found)
        };
        let grant = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(Directory {
            users: rows(&connection, "SELECT * FROM user ORDER BY id", [], user)?,
            daemons: rows(&connection, "SELECT * FROM daemon ORDER BY id", [], daemon)?,
            access_tokens: secrets("SELECT id, user FROM access_token")?,
            api_keys: secrets("SELECT id, daemon FROM api_key")?,
            grants: rows(&connection, "SELECT user, daemon FROM daemon_grant ORDER BY user, daemon", [], grant)?,
        })
    }

    fn add_code(&self, code: Digest, entry: &Code, now: u64) -> Result<Added, StoreError> {
        self.whole(|connection| {
            execute(connection, "DELETE FROM code WHERE expires_at <= ?1", [seconds_to_sql(now)])?;
            if find_daemon(connection, &entry.daemon_id)?.is_none() {
                return Ok(Added::NoHolder);
            }
            let sql = "INSERT OR IGNORE INTO code (id, digest, daemon, expires_at) VALUES (?1, ?2, ?3, ?4)";
            let expires_at = seconds_to_sql(entry.expires_at);
            execute(connection, sql, params![number(code), code.as_bytes(), entry.daemon_id, expires_at]).map(added)
        })
    }

    fn consume_code(&self, code: Digest, now: u64) -> Result<Option<Code>, StoreError> {
        self.whole(|connection| {
            let read = |row: &rusqlite::Row<'_>| {
                let entry = Code { daemon_id: row.get(1)?, expires_at: row.get::<_, i64>(2)?.cast_unsigned() };
                Ok((Digest::from_bytes(row.get(0)?), entry))
            };
            let found = connection
                .prepare_cached("SELECT digest, daemon, expires_at FROM code WHERE id = ?1")?
                .query_row([number(code)], read)
                .optional()?;
            let Some((_, entry)) = found.filter(|(digest, _)| *digest == code) else { return Ok(None) };
            execute(connection, "DELETE FROM code WHERE id = ?1", [number(code)])?;
            start::code_is_used(connection, code)?;
            Ok(Some(entry).filter(|entry| entry.expires_at > now))
        })
    }

    fn daemon_of_code(&self, code: Digest) -> Result<Option<String>, StoreError> {
        self.holder("SELECT digest, daemon FROM code WHERE id = ?1", code)
    }

    fn insert_session_id_if_new(&self, session: SessionId) -> Result<bool, StoreError> {
        let sql = "INSERT OR IGNORE INTO session_id (id) VALUES (?1)";
        Ok(self.change(sql, [session.get().cast_signed()])? == 1)
    }

    fn signing_keys(&self, first: &StoredKey) -> Result<Vec<StoredKey>, StoreError> {
        self.whole(|connection| {
            if !exists(connection, "SELECT 1 FROM signing_key", [])? {
                let sql = "INSERT INTO signing_key (kid, seed, first) VALUES (?1, ?2, TRUE)";
                execute(connection, sql, params![first.kid, first.seed.as_slice()])?;
                start::has_key(connection, first)?;
            }
            // Files of earlier releases keep a first key that is over: its time is 0.
            let sql = "SELECT kid, seed, published_until FROM signing_key WHERE published_until IS NOT 0
                ORDER BY number DESC";
            rows(connection, sql, [], key)
        })
    }

    fn rotate_keys(&self, new: &StoredKey, previous_until: Option<u64>, now: u64) -> Result<(), StoreError> {
        self.whole(|connection| {
            let until = previous_until.map_or(0, seconds_to_sql);
            execute(connection, "UPDATE signing_key SET published_until = ?1 WHERE published_until IS NULL", [until])?;
            let over = if previous_until.is_some() { seconds_to_sql(now) } else { i64::MAX };
            execute(connection, "DELETE FROM signing_key WHERE published_until <= ?1", [over])?;
            let sql = "INSERT INTO signing_key (kid, seed, first) VALUES (?1, ?2, FALSE)";
            execute(connection, sql, params![new.kid, new.seed.as_slice()]).map(drop)
        })
    }

    fn fault_plan(&self) -> Result<Option<String>, StoreError> {
        let connection = self.connection();
        let sql = "SELECT value FROM setting WHERE name = 'fault_plan'";
        Ok(connection.prepare_cached(sql)?.query_row([], text).optional()?)
    }

    fn set_fault_plan(&self, plan: Option<&str>) -> Result<(), StoreError> {
        Ok(put_fault_plan(&self.connection(), plan)?)
    }

    fn begin_fault_plan(&self, plan: Option<&str>) -> Result<(), StoreError> {
        self.set_fault_plan(plan)?;
        *self.first_plan() = plan.map(str::to_owned);
        Ok(())
    }

    fn use_session(
        &self,
        session: SessionId,
        token_dies: u64,
        forgotten: &[SessionId],
        now: u64,
    ) -> Result<(), StoreError> {
        self.whole(|connection| {
            for old in forgotten {
                let sql = "DELETE FROM used_session WHERE id = ?1 AND token_dies <= ?2";
                execute(connection, sql, params![old.get().cast_signed(), seconds_to_sql(now)])?;
            }
            let sql = "INSERT OR REPLACE INTO used_session (id, token_dies) VALUES (?1, ?2)";
            execute(connection, sql, params![session.get().cast_signed(), seconds_to_sql(token_dies)]).map(drop)
        })
    }

    fn unuse_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.change("DELETE FROM used_session WHERE id = ?1", [session.get().cast_signed()]).map(drop)
    }

    fn used_sessions(&self, now: u64, until: u64) -> Result<Vec<(SessionId, u64)>, StoreError> {
        self.whole(|connection| {
            let sql = "UPDATE used_session SET remembered_until = max(token_dies, ?1) WHERE remembered_until IS NULL";
            execute(connection, sql, [seconds_to_sql(until)])?;
            execute(connection, "DELETE FROM used_session WHERE remembered_until < ?1", [seconds_to_sql(now)])?;
            let sql = "SELECT id, remembered_until FROM used_session";
            let found = rows(connection, sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
            let used = found.into_iter().filter_map(|(id, until)| {
                // Zero is no session id, and was never written.
                SessionId::new(id.cast_unsigned()).map(|session| (session, until.cast_unsigned()))
            });
            let mut used: Vec<_> = used.collect();
            used.sort();
            Ok(used)
        })
    }
}
