//! The tables of a store's file, and the version that says which they are.
//!
//! Times are milliseconds since the epoch. `data` is the engine's own JSON of an event or of a work item.

use rusqlite::Connection;

/// Marks a file as ours: "duro" in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x6475_726f;
/// The newest schema, which this version writes.
pub(super) const VERSION: i32 = 1;

pub(super) const TABLES: &str = "
-- `instance` in all other tables is `number` here. `orchestration` is NULL until the first turn is recorded; `starting` is
-- the orchestration of a start that waits for it.
CREATE TABLE instances (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    orchestration TEXT,
    version TEXT,
    starting TEXT,
    execution INTEGER NOT NULL DEFAULT 1,
    parent TEXT,
    created_ms INTEGER NOT NULL,
    completed_ms INTEGER,
    custom_status TEXT,
    custom_status_version INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX instances_by_parent ON instances(parent) WHERE parent IS NOT NULL;
CREATE INDEX instances_by_end ON instances(completed_ms) WHERE completed_ms IS NOT NULL;

CREATE TABLE executions (
    instance INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    status TEXT NOT NULL,
    output TEXT,
    started_ms INTEGER NOT NULL,
    completed_ms INTEGER,
    major INTEGER,
    minor INTEGER,
    patch INTEGER,
    PRIMARY KEY (instance, execution)
) WITHOUT ROWID;

CREATE TABLE events (
    instance INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    event INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (instance, execution, event)
) WITHOUT ROWID;

CREATE TABLE messages (
    sequence INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL,
    visible_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    data TEXT NOT NULL
);

CREATE TABLE activities (
    sequence INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL,
    visible_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    data TEXT NOT NULL
);

-- What earlier executions of an instance have left, and what the current one has changed (NULL: removed).
CREATE TABLE kv (
    instance INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (instance, key)
) WITHOUT ROWID;
CREATE TABLE kv_changes (
    instance INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (instance, key)
) WITHOUT ROWID;

-- Why an instance waits for code that can run it.
CREATE TABLE mismatches (instance INTEGER PRIMARY KEY, report TEXT NOT NULL);

-- How many there are: instances, executions, running, completed, failed, events. Counting a million takes too long.
CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO totals VALUES
    ('instances', 0), ('executions', 0), ('running', 0), ('completed', 0), ('failed', 0), ('events', 0);

-- Up to where each inbox has been read.
CREATE TABLE inboxes (inbox TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
";

/// Makes the tables in an empty database.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    ))
}
