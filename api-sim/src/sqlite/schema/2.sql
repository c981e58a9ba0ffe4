-- Version 2: the session ids with which clients came to the relay. remembered_until is NULL while the process that let the client
-- in remembers the id itself; the next one sets it. All in seconds since 1970.
CREATE TABLE used_session (id INTEGER PRIMARY KEY, token_dies INTEGER NOT NULL, remembered_until INTEGER) STRICT;
