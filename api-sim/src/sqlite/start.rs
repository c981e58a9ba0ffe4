//! What a reset returns to: the accounts, codes and signing keys as they were when this process began.
//!
//! They are copied into tables of the connection's own temporary database, in memory: it goes with the process, and the next one
//! copies anew, so that there is nothing of it in the file that a `kill -9` could leave behind. A reset is one transaction.

use rusqlite::{Connection, params};

use super::execute;
use crate::{Digest, StoredKey};

/// Each after those that it refers to.
const ACCOUNTS: [&str; 6] = ["user", "daemon", "daemon_grant", "access_token", "api_key", "code"];

const KEYS: &str = "signing_key";

/// Makes the copies, of what the file has now.
pub(super) fn open(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    for table in ACCOUNTS.into_iter().chain([KEYS]) {
        connection.execute_batch(&format!("CREATE TEMP TABLE start_{table} AS SELECT * FROM main.{table}"))?;
    }
    Ok(())
}

/// Accounts and codes begin as they are now.
pub(super) fn accounts_are_complete(connection: &Connection) -> rusqlite::Result<()> {
    for table in ACCOUNTS {
        let sql = format!("DELETE FROM start_{table}; INSERT INTO start_{table} SELECT * FROM main.{table}");
        connection.execute_batch(&sql)?;
    }
    Ok(())
}

/// A new store has its first key.
pub(super) fn has_key(connection: &Connection, key: &StoredKey) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO start_{KEYS} SELECT * FROM main.{KEYS} WHERE kid = ?1");
    execute(connection, &sql, [&key.kid]).map(drop)
}

/// A code that was redeemed stays so.
pub(super) fn code_is_used(connection: &Connection, code: Digest) -> rusqlite::Result<()> {
    execute(connection, "DELETE FROM start_code WHERE digest = ?1", params![code.as_bytes()]).map(drop)
}

/// Everything is as it began, but for codes that were redeemed since.
pub(super) fn restore(connection: &Connection) -> rusqlite::Result<()> {
    for table in ACCOUNTS.into_iter().rev().chain([KEYS]) {
        connection.execute_batch(&format!("DELETE FROM main.{table}"))?;
    }
    for table in ACCOUNTS.into_iter().chain([KEYS]) {
        connection.execute_batch(&format!("INSERT INTO main.{table} SELECT * FROM start_{table}"))?;
    }
    Ok(())
}
