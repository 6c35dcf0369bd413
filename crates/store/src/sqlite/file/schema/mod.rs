//! The tables of a store's file, the version of the schema, and the preparation of a file.
//!
//! Times are milliseconds since the epoch. `data` is the engine's JSON of an event or of a work item.

#[cfg(test)]
pub mod tests;

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::StoreError;
use crate::sqlite::file::paths::{file_error, sync_directory};
use crate::sqlite::file::upgrade::upgrade;

/// Marks a file as a store of this package: "duro" in ASCII.
pub const APPLICATION_ID: i32 = 0x6475_726f;
/// The version of the schema that this release writes.
pub const VERSION: i32 = 1;

pub const TABLES: &str = "
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

/// Indexes for lists. The owner adds them to a file that lacks them, so the version of the schema stays: every release of
/// this package can work on a file that has them.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS instances_by_name ON instances(coalesce(orchestration, starting), number);
CREATE INDEX IF NOT EXISTS instances_running ON instances(number) WHERE completed_ms IS NULL;
CREATE INDEX IF NOT EXISTS executions_failed ON executions(instance) WHERE status = 'Failed';
";

/// The statements that lead from each version of the schema to the next. The first entry leads from 1 to 2.
const STEPS: [&str; VERSION as usize - 1] = [];

/// A database with all of these tables belongs to the engine's bundled provider.
const BUNDLED: [&str; 3] = ["instances", "history", "orchestrator_queue"];

/// The content of a file.
enum Content {
    Empty,
    /// A store of this package, with the version of its schema.
    Ours(i32),
    /// A store of the engine's bundled provider.
    Bundled,
    /// A database of another application.
    Foreign,
}

/// Creates the tables in an empty database.
pub fn create(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(INDEXES)?;
    mark(&transaction)?;
    transaction.commit()
}

/// Records the application id and the version of the schema, in the transaction that creates the tables.
pub fn mark(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"))
}

/// Turns the file at `path` into a store of this version with a write-ahead log. It accepts a new file, an older store,
/// and a store of the engine's bundled provider. It does not change any other file.
///
/// `connection` must be the only one that will ever write to the file.
pub fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| file_error(path, &error);
    let shown = path.display();
    match content(connection).map_err(failed)? {
        Content::Empty => {
            create(connection).map_err(failed)?;
            sync_directory(path).map_err(|error| {
                StoreError::Unavailable(format!("the directory of '{shown}' could not be written: {error}"))
            })?;
        }
        Content::Ours(VERSION) => {
            // An empty transaction changes nothing, and fails if the file cannot be written.
            Transaction::new(connection, TransactionBehavior::Immediate).map_err(failed)?.rollback().map_err(failed)?;
        }
        Content::Ours(version) if version > VERSION => {
            return Err(newer_version_error(path, version));
        }
        Content::Ours(version) => migrate(connection, version).map_err(failed)?,
        Content::Bundled => upgrade(connection, path)?,
        Content::Foreign => {
            return Err(foreign_file_error(path));
        }
    }
    connection.execute_batch(INDEXES).map_err(failed)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(StoreError::Configuration(format!(
            "'{shown}' is on a file system without write-ahead logs (journal mode is '{mode}'); put it on a local disk"
        )));
    }
    Ok(())
}

/// Whether the file at `path` is a store of this version. Fails for a file that [`prepare`] would refuse. It only
/// reads.
pub fn is_current(path: &Path) -> Result<bool, StoreError> {
    let failed = |error| file_error(path, &error);
    if !path.exists() {
        return Ok(false);
    }
    let connection = crate::sqlite::read::open(path).map_err(failed)?;
    match content(&connection).map_err(failed)? {
        Content::Ours(version) if version > VERSION => Err(newer_version_error(path, version)),
        Content::Foreign => Err(foreign_file_error(path)),
        Content::Ours(VERSION) => {
            check_tables(&connection).map_err(failed)?;
            Ok(true)
        }
        Content::Ours(_) | Content::Empty | Content::Bundled => Ok(false),
    }
}

/// Reads a row of each table, so that a damaged or shortened file fails now and not in the middle of the work.
fn check_tables(connection: &Connection) -> rusqlite::Result<()> {
    for query in [
        "SELECT 1 FROM instances LIMIT 1",
        "SELECT 1 FROM executions LIMIT 1",
        "SELECT 1 FROM events LIMIT 1",
        "SELECT 1 FROM messages LIMIT 1",
        "SELECT 1 FROM activities LIMIT 1",
        "SELECT 1 FROM kv LIMIT 1",
        "SELECT 1 FROM kv_changes LIMIT 1",
        "SELECT 1 FROM mismatches LIMIT 1",
        "SELECT 1 FROM totals LIMIT 1",
        "SELECT 1 FROM inboxes LIMIT 1",
    ] {
        connection.prepare(query)?.exists([])?;
    }
    Ok(())
}

fn newer_version_error(path: &Path, version: i32) -> StoreError {
    StoreError::Configuration(format!(
        "'{}' was written by a newer version of duroxide (schema {version}; this one knows schemas up to {VERSION}); \
         install that version to open it",
        path.display()
    ))
}

fn foreign_file_error(path: &Path) -> StoreError {
    StoreError::Configuration(format!(
        "'{}' is a SQLite database of another application; give the path of a new file",
        path.display()
    ))
}

/// Finds out what the file holds. It only reads.
fn content(connection: &Connection) -> rusqlite::Result<Content> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    if application == APPLICATION_ID {
        return Ok(if version > 0 { Content::Ours(version) } else { Content::Foreign });
    }
    let mut statement = connection.prepare("SELECT name FROM sqlite_schema")?;
    let names = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(if BUNDLED.iter().all(|table| names.iter().any(|name| name == table)) {
        Content::Bundled
    } else if names.is_empty() && application == 0 {
        Content::Empty
    } else {
        Content::Foreign
    })
}

/// Applies all [`STEPS`] from version `from`, in one transaction.
fn migrate(connection: &mut Connection, from: i32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (version, step) in (1..).zip(STEPS) {
        if version >= from {
            transaction.execute_batch(step)?;
        }
    }
    mark(&transaction)?;
    transaction.commit()
}
