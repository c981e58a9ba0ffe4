-- Version 1. Numbers that identify secrets are the first eight bytes of their SHA-256 digests.
CREATE TABLE setting (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE user (id TEXT PRIMARY KEY, region TEXT) STRICT, WITHOUT ROWID;

CREATE TABLE daemon (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name TEXT,
    identity_public_key TEXT,
    resumable INTEGER NOT NULL,
    region TEXT,
    concurrent_sessions INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX daemon_of_owner ON daemon (owner);

CREATE TABLE daemon_grant (
    user TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    daemon TEXT NOT NULL REFERENCES daemon (id) ON DELETE CASCADE,
    PRIMARY KEY (user, daemon)
) STRICT, WITHOUT ROWID;
CREATE INDEX grant_of_daemon ON daemon_grant (daemon);

CREATE TABLE access_token (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    user TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX access_token_of_user ON access_token (user);

CREATE TABLE api_key (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    daemon TEXT NOT NULL REFERENCES daemon (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX api_key_of_daemon ON api_key (daemon);

CREATE TABLE code (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    daemon TEXT NOT NULL REFERENCES daemon (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX code_of_daemon ON code (daemon);
CREATE INDEX code_by_expiry ON code (expires_at);

-- Every one that was ever used.
CREATE TABLE session_id (id INTEGER PRIMARY KEY) STRICT;

-- published_until is NULL for the key that signs, and 0 for a first key that is kept only for a reset.
CREATE TABLE signing_key (
    number INTEGER PRIMARY KEY,
    kid TEXT NOT NULL UNIQUE,
    seed BLOB NOT NULL,
    published_until INTEGER,
    first INTEGER NOT NULL
) STRICT;
