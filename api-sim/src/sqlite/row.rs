//! Rows as values. SQLite's integers are signed: what is larger is the largest.

use rusqlite::{Result, Row};
use zeroize::Zeroizing;

use crate::{Daemon, StoredKey, User};

pub(super) fn seconds_to_sql(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

pub(super) fn limit_to_sql(limit: Option<u64>) -> Option<i64> {
    limit.map(seconds_to_sql)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(super) fn text(row: &Row<'_>) -> Result<String> {
    row.get(0)
}

pub(super) fn user(row: &Row<'_>) -> Result<User> {
    Ok(User { id: row.get("id")?, region: row.get("region")? })
}

pub(super) fn daemon(row: &Row<'_>) -> Result<Daemon> {
    Ok(Daemon {
        id: row.get("id")?,
        owner: row.get("owner")?,
        name: row.get("name")?,
        identity_public_key: row.get("identity_public_key")?,
        resumable: row.get("resumable")?,
        region: row.get("region")?,
        concurrent_sessions: row.get::<_, Option<i64>>("concurrent_sessions")?.map(from_sql),
    })
}

pub(super) fn key(row: &Row<'_>) -> Result<StoredKey> {
    Ok(StoredKey {
        kid: row.get("kid")?,
        seed: Zeroizing::new(row.get("seed")?),
        published_until: row.get::<_, Option<i64>>("published_until")?.map(from_sql),
    })
}
